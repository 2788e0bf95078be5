"""The registry: what a scan adds, what a person's hand keeps, and how an experiment is found again."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardianflow.adapters.experiment_registry import ExperimentRegistry
from guardianflow.adapters.experiments.entries import ArgumentSpec, ExperimentEntry, LastRun
from guardianflow.adapters.scan.findings import FoundScript, Reason, ScanReport
from guardianflow.adapters.wrap.parameters.script_options import Declared, DeclaredParameter
from guardianflow.exceptions import InputError, NotFoundError

SCRIPT = "print('epoch')\n"
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)


def found(path: str, role: str = "training", **changes: object) -> FoundScript:
    script = FoundScript(Path(path), role, "torch", 0.9312, (Reason("loss.backward()", 0.5, 12),))
    return replace(script, **changes)  # type: ignore[arg-type]


def folder_with(folder: Path, *paths: str) -> ScanReport:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(SCRIPT, encoding="utf-8")
    return ScanReport(folder, tuple(found(path) for path in paths))


@pytest.fixture
def registry(tmp_path: Path) -> ExperimentRegistry:
    return ExperimentRegistry(tmp_path / "experiments.yaml")


# Generating.


def test_the_first_scan_makes_a_file_that_people_can_read(registry: ExperimentRegistry, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    declared = Declared(
        (
            DeclaredParameter("epochs", "int", 30, has_default=True, help="how\nlong"),
            DeclaredParameter("data", "path", required=True),
            DeclaredParameter("api_key", "str", "sk-123", has_default=True),
        ),
        "argparse",
    )
    script = found("train.py", declared=declared, data=("data.yaml",))
    update = registry.enter(ScanReport(tmp_path, (script,)))
    text = registry.path.read_text()
    assert text.startswith("# What can be run here.")
    assert text[text.index("schema_version") :] == (
        "schema_version: 1\n"
        "experiments:\n"
        "  train:\n"
        "    script: train.py\n"
        "    working_dir: .\n"
        "    framework: torch\n"
        "    arguments:\n"
        '      epochs: {type: int, default: 30, help: "how long"}\n'
        "      data: {type: path, required: true}\n"
        "      api_key: {type: str}\n"
        "    args: []\n"
        "    data: [data.yaml]\n"
        "    tags: [training]\n"
    )
    assert registry.get("train").reasons == ("line 12: loss.backward()",)
    assert registry.get("train") == update.entries[0]


def test_names_are_short_readable_unique_and_the_same_each_time(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(
        tmp_path, "detector/train.py", "tracker/train.py", "eval.py", "eval.ipynb", "실험/학습 하기.py", "a@b/x.py",
        "..py",
    )  # fmt: skip
    names = {entry.name: entry.script for entry in registry.enter(report).entries}
    assert names == {
        "detector-train": "detector/train.py",
        "tracker-train": "tracker/train.py",
        "eval-training": "eval.py",
        "eval-notebook": "eval.ipynb",
        "학습-하기": "실험/학습 하기.py",
        "x": "a@b/x.py",
        "script": "..py",
    }
    other = ExperimentRegistry(tmp_path / "again.yaml")
    assert {entry.name: entry.script for entry in other.enter(report).entries} == names
    assert list(names) == sorted(names, key=str.casefold)


def test_two_roles_of_one_script_are_two_entries(registry: ExperimentRegistry, tmp_path: Path) -> None:
    folder_with(tmp_path, "main.py")
    report = ScanReport(tmp_path, (found("main.py"), found("main.py", "inference")))
    registry.enter(report)
    assert sorted(entry.role for entry in registry.list()) == ["inference", "training"]
    assert not registry.enter(report).added


def test_a_script_whose_role_changed_stays_one_entry(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(tmp_path, "main.py")
    registry.enter(report)
    update = registry.enter(ScanReport(tmp_path, (found("main.py", "evaluation"),)))
    assert not update.added
    assert [entry.role for entry in registry.list()] == ["evaluation"]


def test_a_module_is_started_by_its_dotted_name(registry: ExperimentRegistry, tmp_path: Path) -> None:
    folder_with(tmp_path, "src/pkg/train.py", "src/pkg/__main__.py")
    scripts = (
        found("src/pkg/train.py", module_of="pkg.train"),
        found("src/pkg/__main__.py", module_of="pkg"),
    )
    registry.enter(ScanReport(tmp_path, scripts))
    entry = registry.find("pkg.train")[0]
    assert (entry.script, entry.module, entry.working_dir) == ("pkg.train", True, "src")
    assert registry.paths(entry).working_dir == tmp_path / "src"
    assert not registry.enter(ScanReport(tmp_path, scripts)).added
    (tmp_path / "src/pkg/train.py").unlink()
    assert registry.enter(ScanReport(tmp_path, scripts[1:])).missing == (entry.name,)


def test_the_working_folder_is_where_the_data_is_found(registry: ExperimentRegistry, tmp_path: Path) -> None:
    folder_with(tmp_path, "det/train.py", "det/data.yaml", "trk/track.py", "mot.yaml")
    scripts = (found("det/train.py", data=("data.yaml",)), found("trk/track.py", data=("mot.yaml",)))
    registry.enter(ScanReport(tmp_path, scripts))
    assert registry.get("train").working_dir == "det"
    assert registry.paths(registry.get("train")).script == "train.py"
    assert registry.get("track").working_dir == "."
    assert registry.paths(registry.get("track")).script == str(Path("trk/track.py"))


def test_a_folder_below_has_relative_paths_and_one_outside_absolute_ones(
    registry: ExperimentRegistry, tmp_path: Path
) -> None:
    below = tmp_path / "team"
    registry.enter(folder_with(below, "train.py"))
    assert registry.get("train").script == "team/train.py"
    inner = ExperimentRegistry(below / "experiments.yaml")
    folder_with(tmp_path / "other", "train.py", "tools/train.py", "tools/data.yaml")
    scripts = (found("other/train.py"), found("other/tools/train.py", data=("data.yaml",)), found("team/train.py"))
    update = inner.enter(ScanReport(tmp_path, scripts))
    paths = {entry.name: (entry.script, entry.working_dir) for entry in update.entries}
    assert paths == {
        "other-train": (f"{tmp_path}/other/train.py", str(tmp_path)),
        "tools-train": (f"{tmp_path}/other/tools/train.py", f"{tmp_path}/other/tools"),
        "train-training": ("train.py", "."),
    }
    [remark] = update.remarks
    assert remark.startswith("2 of the scripts lie outside ")
    assert inner.paths(inner.get("tools-train")).script == "train.py"
    again = inner.enter(ScanReport(tmp_path, scripts))
    assert (again.added, again.missing) == ((), ())
    (tmp_path / "other" / "train.py").unlink()
    assert inner.enter(ScanReport(tmp_path, scripts[1:])).missing == ("other-train",)


def test_undecodable_names_are_left_out_with_a_reason(registry: ExperimentRegistry, tmp_path: Path) -> None:
    folder_with(tmp_path, "ok.py")
    update = registry.enter(ScanReport(tmp_path, (found("ok.py"), found("bad\udcff.py"))))
    assert list(update.added) == ["ok"]
    assert [reason for _, reason in update.left_out] == ["a name with invisible or undecodable characters"]
    json.dumps(update.to_dict()).encode()


# Scanning again.


def test_an_entry_is_known_by_its_script_not_by_its_name(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(tmp_path, "train.py")
    registry.enter(report)
    text = registry.path.read_text().replace("  train:", '  "my own: name":  # mine').replace("args: []", "args: [-x]")
    text = text.replace("working_dir: .\n", "working_dir: .\n    framework: keras\n", 1).replace(
        "    framework: torch\n", ""
    )
    registry.path.write_text(
        text.replace("my own: name", "my own name").replace("script: train.py", "script: ./train.py")
    )
    before = registry.path.read_bytes()
    update = registry.enter(report)
    assert not update.added
    assert update.unchanged == ("my own name",)
    assert registry.path.read_bytes() == before


def test_a_vanished_script_is_missing_until_it_is_back(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(tmp_path, "a.py", "b.py")
    registry.enter(report)
    before = registry.path.read_bytes()
    (tmp_path / "a.py").unlink()
    update = registry.enter(folder_with(tmp_path, "b.py"))
    assert (update.missing, update.added) == (("a",), ())
    assert [(entry.name, entry.missing) for entry in registry.list()] == [("a", True), ("b", False)]
    assert registry.enter(folder_with(tmp_path, "a.py", "b.py")).missing == ()
    assert not any(entry.missing for entry in registry.list())
    assert registry.path.read_bytes() == before


def test_a_script_that_is_there_is_not_missing_though_the_scan_did_not_see_it(
    registry: ExperimentRegistry, tmp_path: Path
) -> None:
    folder_with(tmp_path, "odd.py")
    registry.path.write_text(
        "experiments:\n  hand:\n    script: odd.py\n  yolo:\n    script: yolo\n    args: [detect, train]\n"
        "  package:\n    script: torch.distributed.run\n    module: true\n"
    )
    update = registry.enter(ScanReport(tmp_path))
    assert not update.added
    assert update.missing == ()


def test_a_changed_script_brings_what_was_seen_up_to_date_and_not_the_file(
    registry: ExperimentRegistry, tmp_path: Path
) -> None:
    report = folder_with(tmp_path, "train.py")
    registry.enter(report)
    registry.record_run("train", run_id="r", status="FINISHED", ended=NOW)
    before = registry.path.read_bytes()
    (tmp_path / "train.py").write_text("new\n")
    script = found("train.py", declared=Declared((DeclaredParameter("lr", "float"),), "argparse"), score=0.5)
    update = registry.enter(ScanReport(tmp_path, (script,)))
    assert update.added == ()
    assert registry.path.read_bytes() == before
    entry = registry.get("train")
    assert (entry.score, entry.arguments, entry.last_run) == (0.5, {}, LastRun("r", "FINISHED", "2026-11-23T10:00:00Z"))


@pytest.mark.parametrize("state", ["{", "[]", '{"train": 3}', '{"train": {"role": 1}}', ""])
def test_what_was_seen_is_made_anew_where_it_is_damaged(
    registry: ExperimentRegistry, tmp_path: Path, state: str
) -> None:
    report = folder_with(tmp_path, "train.py")
    registry.enter(report)
    before = registry.path.read_bytes()
    (tmp_path / ".experiments.yaml.seen.json").write_text(state)
    assert registry.get("train").score is None
    assert registry.enter(report).added == ()
    assert registry.get("train").score == 0.93
    assert registry.path.read_bytes() == before


def test_two_entries_of_one_script_are_told_apart_by_their_tags_where_nothing_is_known_of_them(
    registry: ExperimentRegistry, tmp_path: Path
) -> None:
    folder_with(tmp_path, "main.py")
    report = ScanReport(tmp_path, (found("main.py"), found("main.py", "inference")))
    registry.enter(report)
    (tmp_path / ".experiments.yaml.seen.json").unlink()  # a fresh checkout
    assert not registry.enter(report).added
    assert {entry.role for entry in registry.list()} == {"training", "inference"}
    assert all(entry.tags == (entry.role,) for entry in registry.list())


def test_a_deleted_entry_comes_back_unless_its_script_is_ignored(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(tmp_path, "a.py", "old/b.py")
    registry.path.write_text("experiments:\nignore: [old/, '*.sh']  # what nobody runs\n")
    update = registry.enter(report)
    assert list(update.added) == ["a"]
    assert update.ignored == ("old/b.py",)
    assert registry.path.read_text().endswith("ignore: [old/, '*.sh']  # what nobody runs\n")


def test_without_write_nothing_is_written_not_even_a_lock(registry: ExperimentRegistry, tmp_path: Path) -> None:
    update = registry.enter(folder_with(tmp_path, "a.py"), write=False)
    assert update.added
    assert list(update.added) == ["a"]
    assert [item.name for item in tmp_path.iterdir()] == ["a.py"]


def test_an_alias_and_a_copy_of_an_entry_follow_their_script(registry: ExperimentRegistry, tmp_path: Path) -> None:
    report = folder_with(tmp_path, "a.py")
    text = "experiments:\n  a: &a\n    script: a.py\n  fast:\n    <<: *a\n    args: [--fast]\n  same: *a\n"
    registry.path.write_text(text)
    assert not registry.enter(report).added
    registry.record_run("same", run_id="r", status="FINISHED", ended=NOW)
    assert [bool(entry.last_run) for entry in registry.list()] == [False, False, True]
    (tmp_path / "a.py").unlink()
    assert registry.enter(ScanReport(tmp_path)).missing == ("a", "fast", "same")
    assert all(entry.missing for entry in registry.list())
    assert registry.path.read_text() == text


def test_a_real_folder_is_scanned(registry: ExperimentRegistry, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse\nfrom ultralytics import YOLO\n\n"
        "def main():\n    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--epochs', type=int, default=30)\n    args = parser.parse_args()\n"
        "    YOLO('yolo11n.yaml').train(data='data.yaml', epochs=args.epochs)\n\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    update = registry.scan_and_generate()
    assert list(update.added) == ["train"]
    entry = registry.get("train")
    assert entry.framework == "ultralytics"
    assert entry.arguments["epochs"] == ArgumentSpec("int", 30)
    assert entry.reasons
    assert not registry.scan_and_generate(tmp_path).added


# Byte for byte.


@dataclass
class Written:
    """An entry as somebody wrote it."""

    name: str
    script: str
    text: str
    vanishes: bool


@dataclass
class File:
    head: str
    entries: list[Written] = field(default_factory=list)
    tail: str = ""
    new: list[str] = field(default_factory=list)


COMMENTS = ["", "", "  # mine", " #", "   # 한글 # twice: {a}  "]
OWN_LINES = ["", "# a comment\n", "\n", "   \n", "#: {x}\n\n", "\n\n# 그리고\n"]
VALUES = [
    "tags: [a,   b]", "tags: &KEY [x]", "args: ['--lr',  \"1e-3\"]", "args:\n@- -v  # why\n@- '# no comment'",
    "arguments:\n@  epochs: {type: int, default: 3}   # few\n@  # deep\n@  lr: 1e-3", "working_dir:   '.'",
    "framework: \"tor\\\n@  ch\"", "note: |\n@  free # text\n@  more", "note: >-\n@   folded\n@   text",
    "\"data\": [ data.yaml ]", "outputs:", "other: {deep: [1, {a: null}]}",
    "framework: torch\n@   and more",
]  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> File:
    indent = draw(st.integers(1, 4))
    file = File(
        draw(st.sampled_from(["", "# top\n", "---\n", "schema_version: 1\n\n", "x-shared: &shared\n  tags: [s]\n"]))
        + "experiments:"
        + draw(st.sampled_from(COMMENTS))
        + "\n"
        + draw(st.sampled_from(OWN_LINES)),
        tail=draw(st.sampled_from(["", "# end\n", "\nignore:\n- old/\n", "mine: {a: 1}   \n# end"])),
        new=draw(st.lists(st.sampled_from(["new.py", "새/학습.py", "d/new.py"]), unique=True, max_size=3)),
    )
    for number in range(draw(st.integers(1, 4))):
        file.entries.append(draw(entries(number, indent, shared="&shared" in file.head)))
    return file


@st.composite
def entries(draw: st.DrawFn, number: int, indent: int, *, shared: bool) -> Written:
    script = f"s{number}.py"
    name = draw(st.sampled_from([f"e{number}", f"'quoted {number}'", f"실험{number}"]))
    vanishes = draw(st.booleans())
    inner = " " * (indent + draw(st.integers(1, 5)))
    comment = draw(st.sampled_from(COMMENTS))
    if draw(st.integers(0, 4)) == 0:  # in braces
        line = f"{' ' * indent}{name}: {{script:  {script}}}{comment}\n"
        return Written(name.strip("'"), script, line, vanishes)
    values = draw(st.lists(st.sampled_from(VALUES), unique_by=lambda value: value.split(":")[0].strip('"'), max_size=4))
    lines = [f"script: {draw(st.sampled_from([script, repr(script), f'./{script}']))}"]
    lines += [value.replace("@", inner).replace("KEY", f"k{number}") for value in values]
    if shared and draw(st.booleans()):
        lines.append("<<: *shared")
    lines = draw(st.permutations(lines))
    own = [draw(st.sampled_from(["", "", f"{inner}# own\n", "\n"])) for _ in lines]
    ends = ["" if "\n" in line else draw(st.sampled_from(COMMENTS)) for line in lines]
    shown = [f"{before}{inner}{line}{end}\n" for before, line, end in zip(own, lines, ends, strict=True)]
    return Written(name.strip("'"), script, f"{' ' * indent}{name}:{comment}\n" + "".join(shown), vanishes)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=files(), crlf=st.booleans(), bom=st.booleans(), cut=st.booleans())
def test_a_rescan_adds_and_changes_not_one_byte_of_what_was_there(file: File, crlf: bool, bom: bool, cut: bool) -> None:
    def encoded(text: str) -> bytes:
        text = text.replace("\n", "\r\n") if crlf else text
        # A block scalar's last line needs its end: without one, the file says something else.
        ends_in_text = file.tail == "" and ("|" in file.entries[-1].text or ">-" in file.entries[-1].text)
        text = text[: -2 if crlf else -1] if cut and not ends_in_text and text.endswith("\n") else text
        return (b"\xef\xbb\xbf" if bom else b"") + text.encode()

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        registry = ExperimentRegistry(folder / "experiments.yaml")
        registry.path.write_bytes(encoded(file.head + "".join(entry.text for entry in file.entries) + file.tail))
        there = [entry.script for entry in file.entries if not entry.vanishes] + file.new
        report = folder_with(folder, *there)
        update = registry.enter(report)

        result = registry.path.read_bytes()
        text = result.decode("utf-8-sig").replace("\r\n", "\n")
        assert not crlf or result.count(b"\n") == result.count(b"\r\n")
        head = file.head + "".join(entry.text for entry in file.entries)
        tail = file.tail.removesuffix("\n") if cut else file.tail
        if file.new:
            assert text.startswith(head)
            assert text.endswith(tail)
            new = text[len(head) : len(text) - len(tail)].splitlines()
            assert [line.strip() for line in new if "script:" in line] == [
                f"script: {e.script}" for e in update.entries
            ]
            assert len(new) == (7 if has_gap(new) else 6) * len(file.new)
        else:
            assert result == encoded(head + file.tail)
        assert update.missing == tuple(entry.name for entry in file.entries if entry.vanishes)

        again = registry.enter(report)
        assert not again.added
        assert registry.path.read_bytes() == result


def has_gap(lines: list[str]) -> bool:
    return not lines[0].strip()


# Adding and recording.


def test_what_is_added_is_read_back_the_same(registry: ExperimentRegistry) -> None:
    entry = ExperimentEntry(
        "검사 2",
        "a b/학습.py",
        working_dir="a b",
        framework="torch",
        arguments={"lr": ArgumentSpec("float", 1e-05, help="rate: #1"), "on": ArgumentSpec("str", "yes")},
        args=("--lr", "1e-3", "yes", ""),
        tags=("x", "1"),
        outputs=("*.pt",),
    )
    registry.add(entry)
    assert registry.get("검사 2") == replace(entry, missing=True)
    assert pickle.loads(pickle.dumps(entry)) == entry
    json.dumps(entry.to_dict())
    with pytest.raises(InputError, match="has an experiment '검사 2' already, in line 5"):
        registry.add(entry)


def test_the_last_run_is_kept_and_the_file_is_not_touched(registry: ExperimentRegistry) -> None:
    text = "experiments:\n  a:\n    script: a.py  # mine\n    args: []\n# end\n"
    registry.path.write_text(text)
    registry.record_run("a", run_id="r1", status="FAILED", ended=NOW)
    registry.record_run("a", run_id="r2", status="FINISHED", ended=NOW + timedelta(days=1))
    assert registry.path.read_text() == text
    assert registry.list()[0].last_run == LastRun("r2", "FINISHED", "2026-11-24T10:00:00Z")
    with pytest.raises(NotFoundError):
        registry.record_run("b", run_id="r", status="FINISHED", ended=NOW)


# Getting and finding.


@pytest.mark.parametrize("path", ["../other.py", "link/x.py", "a/../../x.py"])
def test_paths_that_leave_the_folder_are_refused_when_it_is_to_run(
    registry: ExperimentRegistry, tmp_path: Path, path: str
) -> None:
    (tmp_path / "link").symlink_to("/tmp")
    registry.path.write_text(
        f"experiments:\n  a:\n    script: {path}\n  b:\n    script: b.py\n    working_dir: {path}\n"
    )
    assert len(registry.list()) == 2
    with pytest.raises(InputError, match=r"line 2: `script: .*` of the experiment 'a' leads out"):
        registry.get("a")
    with pytest.raises(InputError, match=r"line 4: `working_dir: .*` of the experiment 'b' leads out"):
        registry.get("b")


def test_an_unknown_name_lists_near_ones(registry: ExperimentRegistry) -> None:
    with pytest.raises(NotFoundError, match="guardianflow scan"):
        registry.get("train")
    registry.path.write_text("experiments:\n  train-detector: {script: a.py}\n  other: {script: b.py}\n")
    with pytest.raises(NotFoundError, match="there is train-detector"):
        registry.get("train-detectr")


def test_a_name_is_found_in_either_unicode_form(registry: ExperimentRegistry) -> None:
    registry.path.write_text("experiments:\n  cafe\u0301: {script: a.py}\n", encoding="utf-8")
    assert registry.get("caf\u00e9").name == "caf\u00e9"


def test_find_ranks_and_narrows(registry: ExperimentRegistry) -> None:
    registry.path.write_text(
        "experiments:\n"
        "  nightly: {script: jobs/train.py, framework: torch, tags: [slow]}\n"
        "  train: {script: a.py, framework: keras}\n"
        "  train-detector: {script: b.py, framework: Ultralytics, tags: [Night, 학습]}\n"
        "  x: {script: c.py}\n"
    )
    seen = {"x": {"role": "", "score": 0.4, "reasons": ["line 3: train loop"]}}
    (registry.folder / ".experiments.yaml.seen.json").write_text(json.dumps(seen))

    def names(*args: str, **filters: str) -> list[str]:
        return [entry.name for entry in registry.find(*args, **filters)]

    assert names("TRAIN") == ["train", "train-detector", "nightly", "x"]
    assert names("train night") == ["train-detector", "nightly"]
    assert names("학습") == ["train-detector"]
    assert names(tag="night") == ["train-detector"]
    assert names("ultralytics") == ["train-detector"]
    assert names("zebra") == []
    assert names() == ["nightly", "train", "train-detector", "x"]


def test_a_table_shows_names_as_text(registry: ExperimentRegistry) -> None:
    registry.path.write_text('experiments:\n  "<b>x": {script: "<script>.py"}\n')
    shown = registry.list()._repr_html_()
    assert "&lt;script&gt;.py (missing)" in shown
    assert "<b>" not in shown
    assert ExperimentRegistry(registry.folder / "none.yaml").list()._repr_html_() == "<p>none yet</p>"


def test_importing_the_registry_is_light() -> None:
    program = (
        "import sys, guardianflow.adapters.experiment_registry\n"
        "print([name for name in ('torch', 'mlflow', 'pandas', 'numpy', 'pathspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
