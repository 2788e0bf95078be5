"""The files that a run made or changed, by their content."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap import artifacts as module
from guardianflow.adapters.wrap.artifact_patterns import DEFAULT_PATTERNS, Patterns
from guardianflow.adapters.wrap.artifacts import ArtifactReport, ArtifactWatch
from guardianflow.exceptions import InputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs links and FIFOs")


def write(path: Path, content: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def watching(root: Path, *patterns: str, skip: tuple[Path, ...] = ()) -> ArtifactWatch:
    watch = ArtifactWatch(root, patterns, skip=skip)
    watch.before()
    return watch


def names(report: ArtifactReport) -> list[str]:
    return [artifact.name for artifact in report.artifacts]


def reasons(report: ArtifactReport) -> dict[str, str]:
    return {row.name: row.reason for row in report.left_out}


def test_new_files_come_with_size_and_sha256(tmp_path: Path) -> None:
    write(tmp_path / "old.pt", "old")
    watch = watching(tmp_path, "**/*.pt")
    made = write(tmp_path / "실행 1" / "best [1] {a}.pt", "weights")
    (found,) = watch.collect().artifacts
    assert (found.path, found.name, found.size, found.new) == (made, "실행 1/best [1] {a}.pt", 7, True)
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_changed_files_are_told_from_touched_ones(tmp_path: Path) -> None:
    same, touched, changed = (write(tmp_path / f"{name}.pt", "abc") for name in ("same", "touched", "changed"))
    rewritten = write(tmp_path / "rewritten.pt", "abc")
    watch = watching(tmp_path, "*.pt")
    os.utime(touched, (1, 1))
    write(changed, "xyz")
    write(rewritten, "abc")
    report = watch.collect()
    assert names(report) == ["changed.pt", "rewritten.pt"], "the same bytes written anew are this run's, too"
    assert [row.new for row in report.artifacts] == [False, False]
    assert same.exists()


def test_other_content_under_the_same_times_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", "abc")
    moment = path.stat().st_mtime_ns
    watch = watching(tmp_path, "*.pt")
    write(path, "xyz")
    os.utime(path, ns=(moment, moment))
    assert names(watch.collect()) == ["a.pt"]


def test_a_file_put_in_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.pt", "abc")
    watch = watching(tmp_path, "*.pt")
    write(tmp_path / "draft", "xyz").replace(tmp_path / "a.pt")
    assert names(watch.collect()) == ["a.pt"]


def test_a_large_file_that_was_not_hashed_counts_by_its_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HASHED_BEFORE", 2)
    write(tmp_path / "kept.pt", "abc")
    touched = write(tmp_path / "touched.pt", "abc")
    watch = watching(tmp_path, "*.pt")
    os.utime(touched, (1, 1))
    assert names(watch.collect()) == ["touched.pt"]


def test_collecting_twice_gives_the_same(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt")
    write(tmp_path / "a.pt")
    assert watch.collect() == watch.collect()


@pytest.mark.parametrize("pattern", ["", " ", "/abs/*.pt", "../x", "a/../../x", "C:\\x\\*.pt", "~/x", ".", "/", "a\0b"])
def test_patterns_that_leave_the_folder_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="pattern"):
        ArtifactWatch(tmp_path, [pattern])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.pt", {"a.pt", "모델.pt"}),
        ("./a.pt", {"a.pt"}),
        ("**/*.pt", {"a.pt", "모델.pt", "runs/1/b.pt", "runs/x y/c.pt"}),
        ("runs/*/*.pt", {"runs/1/b.pt", "runs/x y/c.pt"}),
        ("runs/**", {"runs/1/b.pt", "runs/x y/c.pt", "runs/x y/out[1].csv"}),
        ("runs/", {"runs/1/b.pt", "runs/x y/c.pt", "runs/x y/out[1].csv"}),
        ("runs", {"runs/1/b.pt", "runs/x y/c.pt", "runs/x y/out[1].csv"}),
        ("**/**/**/c.pt", {"runs/x y/c.pt"}),
        ("**/out[1].csv", {"runs/x y/out[1].csv"}),
        ("**/[ab].pt", {"a.pt", "runs/1/b.pt"}),
        ("**/[!a].pt", {"runs/1/b.pt", "runs/x y/c.pt"}),
        ("{a,b}.pt", set()),
        ("[", set()),
        ("?.pt", {"a.pt"}),
        ("모델.*", {"모델.pt"}),
        ("A.PT", set()),
        ("*", {"a.pt", "모델.pt"}),
    ],
)
def test_what_patterns_match(tmp_path: Path, pattern: str, expected: set[str]) -> None:
    watch = watching(tmp_path, pattern)
    for name in ("a.pt", "모델.pt", "runs/1/b.pt", "runs/x y/c.pt", "runs/x y/out[1].csv"):
        write(tmp_path / name)
    assert set(names(watch.collect())) == expected
    assert set(watch.matching()) == expected


PARTS = st.lists(st.sampled_from(["a", "b", "*", "?", "**", "a*", "[ab]", "ab", "*b*"]), min_size=1, max_size=4)
PLACES = st.lists(st.sampled_from(["a", "b", "ab", "ba", "c"]), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(PARTS, PLACES)
def test_patterns_match_as_pathlib_does(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], place: list[str]
) -> None:
    root = tmp_path_factory.mktemp("p")
    path = root.joinpath(*place)
    write(path)
    pattern = "/".join(parts)
    expected = path in set(root.glob(pattern))
    if parts[-1] not in {"*", "**"}:  # a folder that is named means what lies in it
        expected |= any(above in set(root.glob(pattern)) for above in path.parents if above != root)
    elif parts[-1] == "**":
        expected = any(above in set(root.glob(pattern)) for above in path.parents) or expected
        if pattern.count("/") and not expected:
            return  # `a/**`: whether a file `a` is meant differs between versions of Python
    found = bool(ArtifactWatch(root, [pattern]).matching())
    shutil.rmtree(root)
    if parts[-1] == "**" and found and not expected:
        return
    assert found == expected


def test_a_hostile_pattern_is_quick() -> None:
    patterns = Patterns(["/".join(["**", "*a" * 40 + "b"] * 5)])
    places = patterns.start
    began = time.process_time()
    for _ in range(20):
        places = patterns.enter(places, "a" * 200) or places
        patterns.order(places, "a" * 200)
    assert time.process_time() - began < 5


def test_environments_caches_and_skipped_folders_are_not_looked_into(tmp_path: Path) -> None:
    work = tmp_path / "guardianflow-work"
    watch = watching(tmp_path, "**/*.pt", skip=(work,))
    for folder in (".git", ".venv", "node_modules", "__pycache__", "lib/site-packages", "mlruns", "guardianflow-work"):
        write(tmp_path / folder / "a.pt")
    write(tmp_path / "myenv" / "pyvenv.cfg")
    write(tmp_path / "myenv" / "a.pt")
    write(tmp_path / "out" / "a.pt")
    assert names(watch.collect()) == ["out/a.pt"]


def test_a_skipped_folder_that_a_pattern_names_is_looked_into(tmp_path: Path) -> None:
    watch = watching(tmp_path, "wandb/**/*.pt")
    write(tmp_path / "wandb" / "x" / "a.pt")
    assert names(watch.collect()) == ["wandb/x/a.pt"]


@posix
def test_links_count_only_where_they_end_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", write(tmp_path / "outside" / "secret.pt").parent
    root.mkdir()
    (root / "known.pt").symlink_to(outside / "secret.pt")
    watch = watching(root, "**/*.pt")
    write(root / "best.pt", "w")
    (root / "last.pt").symlink_to("best.pt")
    (root / "out.pt").symlink_to(outside / "secret.pt")
    (root / "nowhere.pt").symlink_to("missing")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "self.pt").symlink_to("self.pt")
    report = watch.collect()
    assert names(report) == ["best.pt", "last.pt"]
    assert report.artifacts[0].sha256 == report.artifacts[1].sha256
    assert set(reasons(report)) == {"out.pt", "nowhere.pt", "self.pt"}
    assert "leads out" in reasons(report)["out.pt"]


@posix
def test_a_root_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    watch = watching(tmp_path / "link", "*.pt")
    write(tmp_path / "real" / "a.pt")
    assert names(watch.collect()) == ["a.pt"]


@posix
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watch = watching(tmp_path, "**")
    os.mkfifo("pipe.pt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.pt")
        report = watch.collect()
    assert reasons(report) == {"pipe.pt": "no regular file", "socket.pt": "no regular file"}


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_left_out(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt")
    write(tmp_path / "a.pt").chmod(0)
    assert "can't be read" in reasons(watch.collect())["a.pt"]


@posix
def test_a_name_that_is_no_utf8_is_left_out(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.pt")).write_text("x")
    report = watch.collect()
    assert names(report) == []
    assert reasons(report) == {"?.pt": "its name is no UTF-8"}


def test_caps_leave_the_least_important_out_with_a_reason(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt", "*.png")
    for name in ("a.png", "b.png", "z.pt"):
        write(tmp_path / name, "x" * 10)
    write(tmp_path / "huge.pt", "x" * 50)
    report = watch.collect(max_files=2, max_file_bytes=20)
    assert names(report) == ["z.pt", "a.png"]
    assert reasons(report) == {
        "huge.pt": "50 bytes; one file may have 20",
        "b.png": "more than 2 files",
    }
    report = watch.collect(max_bytes=25)
    assert names(report) == ["z.pt", "a.png"]
    assert "more than 25" in reasons(report)["huge.pt"]


def test_the_list_of_what_was_left_out_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LEFT_OUT", 3)
    watch = watching(tmp_path, "*.pt")
    for number in range(10):
        write(tmp_path / f"{number}.pt")
    rows = watch.collect(max_files=1).left_out
    assert len(rows) == 4
    assert rows[-1].reason == "and 6 more"


def test_a_file_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt")
    path = write(tmp_path / "a.pt", b"x" * 30_000_000)
    begun, stop = threading.Event(), threading.Event()

    def keep_writing() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"y" * 4_096)
                file.flush()
                begun.set()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    begun.wait()
    try:
        report = watch.collect()
    finally:
        stop.set()
        writer.join()
    assert reasons(report) == {"a.pt": "it was still being written"}
    assert names(watch.collect()) == ["a.pt"]


def test_files_that_vanish_are_no_obstacle(tmp_path: Path) -> None:
    watch = watching(tmp_path, "**/*.pt")
    for number in range(300):
        write(tmp_path / f"{number:03d}.pt", b"x" * 50_000)
    remover = threading.Thread(target=lambda: [(tmp_path / f"{n:03d}.pt").unlink() for n in range(299, -1, -1)])
    remover.start()
    report = watch.collect()
    remover.join()
    assert set(reasons(report).values()) <= {"it vanished while it was read"}


def test_a_folder_that_was_deleted_is_said(tmp_path: Path) -> None:
    root = tmp_path / "gone"
    write(root / "a.pt")
    watch = watching(root, "*.pt")
    shutil.rmtree(root)
    assert reasons(watch.collect()) == {".": "the folder is no longer there"}
    write(root / "b.pt")
    assert names(watch.collect()) == ["b.pt"]


def test_a_folder_with_too_many_files_goes_by_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(tmp_path / f"old{number:02d}.pt")
    time.sleep(0.05)
    monkeypatch.setattr(module, "_MAX_ENTRIES", 5)
    watch = watching(tmp_path, "*.pt")
    time.sleep(0.05)
    write(tmp_path / "new.pt")
    monkeypatch.setattr(module, "_MAX_ENTRIES", 1_000)
    assert names(watch.collect()) == ["new.pt"]
    monkeypatch.setattr(module, "_MAX_ENTRIES", 5)
    assert "more than 5 entries" in reasons(watch.collect())["."]


def test_default_patterns_take_weights_first_and_pictures_last(tmp_path: Path) -> None:
    watch = watching(tmp_path, *DEFAULT_PATTERNS)
    for name in ("a.png", "results.csv", "weights/best.pt", "data.txt", "m_openvino_model/m.bin", "photo.jpg"):
        write(tmp_path / name)
    assert names(watch.collect()) == ["weights/best.pt", "m_openvino_model/m.bin", "results.csv", "a.png"]
