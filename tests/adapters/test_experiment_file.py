"""experiments.yaml as a file: what is refused, what is kept byte for byte, and that nothing is lost."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guardianflow.adapters.experiment_registry import ExperimentRegistry
from guardianflow.adapters.experiments.appending import appended, flow
from guardianflow.adapters.experiments.entries import ExperimentEntry
from guardianflow.adapters.experiments.file import MAX_BYTES, ExperimentFile
from guardianflow.adapters.experiments.reading import Content, read_content
from guardianflow.exceptions import ConflictError, InputError, SchemaTooNewError

ONE = "experiments:\n  train:\n    script: train.py\n"


PATH = Path("experiments.yaml")


def content_of(text: str) -> Content:
    return read_content(text, PATH)


# What is read.


def test_words_are_typed_by_yaml_1_2_and_kept_as_written() -> None:
    text = (
        "experiments:\n  a:\n    script: a.py\n    args: [--lr, 1e-3, yes, 010]\n"
        "    arguments:\n      lr: 1e-3\n      on: {type: str, default: yes}\n      n: {type: int, default: 3}\n"
    )
    entry = content_of(text).entries["a"]
    assert entry.args == ("--lr", "1e-3", "yes", "010")
    assert entry.arguments["lr"].type == "float"
    assert entry.arguments["lr"].default == 0.001
    assert entry.arguments["on"].default == "yes"
    assert entry.arguments["n"].default == 3


def test_merge_keys_hand_on_what_a_person_wrote() -> None:
    text = "experiments:\n  a: &a\n    script: a.py\n    tags: [x]\n  b:\n    <<: *a\n    args: [--fast]\n"
    entry = content_of(text).entries["b"]
    assert (entry.script, entry.tags, entry.args) == ("a.py", ("x",), ("--fast",))


@pytest.mark.parametrize("text", ["", "# only comments\n", "---\n", "\ufeff", "experiments:\n", "experiments: {}\n"])
def test_a_file_without_entries_has_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    assert ExperimentRegistry(path).list() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("experiments:\n  a: {script: x.py}\n  a: {script: y.py}\n",
         "line 3: the key 'a' is given twice, first in line 2"),
        ("experiments:\n  a:\n    script: x.py\n    script: y.py\n", "line 4: the key 'script' is given twice"),
        ("experiments:\n  a: 3\n", "line 2: `experiments.a` must be a mapping"),
        ("experiments: [a]\n", "line 1: `experiments` must be a mapping"),
        ("- a\n", "line 1"),
        ("experiments:\n  a: {script: [x]}\n", "`experiments.a.script` must be text, it is a list"),
        ("experiments:\n  a: {tags: [x]}\n", "`experiments.a.script` is missing"),
        ("experiments:\n  a: {script: x, module: perhaps}\n", "must be `true` or `false`, it is 'perhaps'"),
        ("experiments:\n  a:\n    script: x\n    args: {a: 1}\n",
         "line 4: `experiments.a.args` must be a list of words"),
        ("experiments:\n  a/b: {script: x}\n", "line 2: experiment name 'a/b' holds '/'"),
        ("experiments:\n  \u00e9: {script: x}\n  e\u0301: {script: y}\n", "is there twice"),
        ("experiments:\n  a: {script: !!python/object/apply:os.system [id]}\n", "must be text, it is a list"),
        ("experiments:\n  a: {script: !include other.yaml}\n", "must be text, it is !include"),
        ("experiments:\n  a: &a {<<: *a}\n", "leads back to itself"),
        ("a: [1, 2\nb: 3\n", "not valid YAML"),
        ("a: 1\n\tb: 2\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "found another document in line 2"),
        ("a: *nothing\n", "found undefined alias 'nothing' in line 1"),
        ("schema_version: two\n", "`schema_version` must be 1, it is 'two'"),
        ("[a]: 1\n", "must be a plain word, it is a list"),
        ("services: {}\nmine: 1\n", "line 1: `services` stands there and no `experiments:`"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        ExperimentRegistry(path).list()
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_newer_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("schema_version: 2\n")
    with pytest.raises(SchemaTooNewError, match="schema_version 2 was written by a newer GuardianFlow"):
        ExperimentRegistry(path).list()


def test_an_unknown_key_is_kept_and_remarked_on(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("experiments:\n  a:\n    script: a.py\n    argz: [x]\nnote: mine\n")
    registry = ExperimentRegistry(path)
    assert registry.get("a").args == ()
    assert any(
        "line 4: `argz` in `experiments.a`" in text and "did you mean 'args'?" in text for text in registry.remarks
    )
    assert any("`note`" in text for text in registry.remarks)


BOMB = "experiments:\n  a: &a {script: x}\n" + "".join(
    f"  {new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 200,000 keys"),
        ("a: " + "[" * 200_000, "nested deeper than 32 levels"),
        ("a: " + "{a: " * 30_000, "nested deeper than 32 levels"),
        ("".join(f"{'  ' * depth}k:\n" for depth in range(40)), "nested deeper than 32 levels"),
        ("a: &a 1\nb: [" + "*a, " * 1_100 + "]\n", "more than 1000 aliases"),
        ("experiments:\n  a: {script: x, arguments: {n: " + "9" * 100_000 + "}}\n", "a number of 100000 characters"),
    ],
    ids=["merge bomb", "lists", "mappings", "blocks", "aliases", "number"],
)
def test_a_bomb_is_stopped_before_anything_is_built(text: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match=said):
        content_of(text)
    assert time.process_time() - began < 20


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than 5,000,000 bytes"):
        ExperimentRegistry(path).list()


def test_a_folder_a_pipe_and_other_encodings_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml"):
        with pytest.raises(InputError, match=r"it is no file.*name the experiments\.yaml itself"):
            ExperimentRegistry(path).list()
    (tmp_path / "utf16.yaml").write_text(ONE, encoding="utf-16")
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        ExperimentRegistry(tmp_path / "utf16.yaml").list()


# What is written.


@pytest.mark.parametrize(
    "value",
    ["", "a", "yes", "1e-3", "0x1", "null", "~", ".", "./a", "../a", "a b", " a", "a: b", "#a", "-", "- a", "*a", "&a",
     "!a", "%a", "@a", "`", "'", '"', "\\", "a\nb", "\t", "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "모델/학습.py",
     "[a]", "{a}", "a,b", "2026-01-01", "12:30:00", "=", "<<", "---", "...", "?", ":", "😀", "\u202e",
     1, -1, 0.5, 1e-05, 1e300, float("inf"), float("-inf"), True, None, [], {}, ["a", ["b"]], {"a b": {"c": [1]}}],
    ids=repr,
)  # fmt: skip
def test_every_value_reads_back_as_itself(value: object) -> None:
    import yaml

    text = flow(value)
    assert "\n" not in text
    assert yaml.safe_load(f"k: {text}")["k"] == value
    if isinstance(value, str):
        entry = content_of(f"experiments: {{a: {{script: x, args: [{text}], arguments: {{k: {text}}}}}}}").entries["a"]
        assert entry.args == (value,)
        assert entry.arguments["k"].default == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ONE, ONE + "  new:\n    script: n.py\n"),
        (ONE + "ignore: [x]\n", ONE + "  new:\n    script: n.py\nignore: [x]\n"),
        (ONE + "    # args: []\n\n  # off:\n# end\n",
         ONE + "    # args: []\n\n  # off:\n  new:\n    script: n.py\n# end\n"),
        (ONE + "\n  other:\n    script: o.py\n", ONE + "\n  other:\n    script: o.py\n\n  new:\n    script: n.py\n"),
        ("experiments:\n   a:\n         script: x",
         "experiments:\n   a:\n         script: x\n   new:\n         script: n.py"),
        ("experiments:\n# c\nx: 1\n", "experiments:\n  new:\n    script: n.py\n# c\nx: 1\n"),
        ("experiments:\n  a:\n    script: x\n    framework: |+\n      t\n\nx: 1\n",
         "experiments:\n  a:\n    script: x\n    framework: |+\n      t\n\n  new:\n    script: n.py\nx: 1\n"),
        ("ignore: [x] # c", "ignore: [x] # c\nexperiments:\n  new:\n    script: n.py"),
        ("# c\r\n", "# c\r\nschema_version: 1\r\nexperiments:\r\n  new:\r\n    script: n.py\r\n"),
    ],
)  # fmt: skip
def test_a_new_entry_goes_behind_the_last(text: str, expected: str) -> None:
    made = appended(text, PATH, [ExperimentEntry("new", "n.py")])
    assert re.sub(r"(\r?\n +working_dir: \.)?(\r?\n +args: \[\])?", "", made) == expected
    assert content_of(made).entries["new"] == ExperimentEntry("new", "n.py")


@pytest.mark.parametrize(
    "text",
    [
        "experiments: {}\n",
        "{experiments: {a: {script: x}}}\n",
        "experiments:\n  a:\n    script: x\n    framework: |+\n      cut",
        "---\nschema_version: 1\n...\n",
    ],
)
def test_a_form_that_nothing_can_be_added_to_is_refused_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"write `experiments:` as plain indented lines.*the file is as it was"):
        ExperimentRegistry(path).add(ExperimentEntry("b", "b.py"))
    assert path.read_text() == text


# The file itself.


def test_mark_rights_and_link_of_the_file_are_kept(tmp_path: Path) -> None:
    real = tmp_path / "설정" / "real.yaml"
    real.parent.mkdir()
    real.write_bytes(b"\xef\xbb\xbf" + ONE.encode())
    real.chmod(0o640)
    link = tmp_path / "experiments.yaml"
    link.symlink_to(real)
    ExperimentRegistry(link).add(ExperimentEntry("둘째", "둘.py"))
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_bytes().startswith(b"\xef\xbb\xbf" + ONE.encode())
    assert ExperimentRegistry(link).get("둘째").script == "둘.py"
    assert sorted(item.name for item in real.parent.iterdir()) == [".real.yaml.lock", "real.yaml"]


def test_a_write_protected_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(ONE)
    path.chmod(0o444)
    with pytest.raises(InputError, match="write-protected"):
        ExperimentRegistry(path).add(ExperimentEntry("b", "b.py"))
    assert path.read_text() == ONE


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        ExperimentRegistry(tmp_path / "not" / "experiments.yaml").add(ExperimentEntry("b", "b.py"))


def test_what_an_editor_saved_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("a\n")
    seen = []

    def edit(text: str | None) -> str:
        seen.append(text)
        if len(seen) == 1:
            path.write_text("b\n")
        return f"{text}mine\n"

    ExperimentFile(path).change(edit)
    assert path.read_text() == "b\nmine\n"


def test_an_editor_that_never_stops_is_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("0\n")

    def edit(text: str | None) -> str:
        path.write_text(f"{int(text or 0) + 1}\n")
        return "mine"

    with pytest.raises(ConflictError, match="being changed by another program"):
        ExperimentFile(path).change(edit)


ADDER = """
import sys
from guardianflow.adapters.experiments.entries import ExperimentEntry
from guardianflow.adapters.experiment_registry import ExperimentRegistry
registry = ExperimentRegistry(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    registry.add(ExperimentEntry(f"{sys.argv[2]}-{number}", f"{sys.argv[2]}.py"))
    print(number, flush=True)
"""


def adder(path: Path, who: str, times: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ADDER, str(path), who, str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_adding_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    processes = [adder(path, who, 12) for who in ("a", "b", "c")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    names = {entry.name for entry in ExperimentRegistry(path).list()}
    assert names == {f"{who}-{number}" for who in "abc" for number in range(12)}
    for process in processes:
        process.communicate()


@pytest.mark.parametrize("delay", [0.01, 0.03, 0.05, 0.08])
def test_a_kill_in_the_middle_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "experiments.yaml"
    process = adder(path, "a", 10_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "0\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    told = 1 + len(process.communicate()[0].splitlines())
    entries = ExperimentRegistry(path).list()
    assert len(entries) in {told, told + 1}  # the last one may be in the file before anybody heard of it
    ExperimentRegistry(path).add(ExperimentEntry("next", "next.py"))
    assert sorted(item.name for item in tmp_path.iterdir()) == [".experiments.yaml.lock", "experiments.yaml"]


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(ONE + "# " + "x" * 5_000 + "\n")
    before = path.read_bytes()
    program = (
        "import resource, sys\n"
        "from guardianflow.adapters.experiments.entries import ExperimentEntry\n"
        "from guardianflow.adapters.experiment_registry import ExperimentRegistry\n"
        "from guardianflow.exceptions import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    ExperimentRegistry(sys.argv[1]).add(ExperimentEntry('b', 'b.py'))\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "can't be written (File too large" in done.stdout
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    "text", ["services:\n  web: {image: x}\n", "train: images/train\nval: images/val\nnames: [person]\n"]
)
def test_a_file_that_is_something_else_gets_no_entries(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    key = text.partition(":")[0]
    with pytest.raises(InputError, match=rf"line 1: `{key}` stands there and no `experiments:`.*name another file"):
        ExperimentRegistry(path).add(ExperimentEntry(name="train", script="train.py"))
    assert path.read_text() == text


def test_a_draft_that_somebody_was_killed_over_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(ONE)
    (tmp_path / ".experiments.yaml.part").write_text("cut off")
    ExperimentRegistry(path).add(ExperimentEntry(name="other", script="other.py"))
    assert list(tmp_path.glob(".*.part")) == []
    assert "cut off" not in path.read_text()
