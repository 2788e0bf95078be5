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

from guardianflow.adapters.wrap import artifacts as module
from guardianflow.adapters.wrap.artifacts import DEFAULT_PATTERNS, ArtifactReport, ArtifactWatch
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
    return [artifact["name"] for artifact in report.artifacts]


def reasons(report: ArtifactReport) -> dict[str, str]:
    return {row["name"]: row["reason"] for row in report.left_out}


def test_new_files_come_with_size_and_sha256(tmp_path: Path) -> None:
    write(tmp_path / "old.pt", "old")
    watch = watching(tmp_path, "**/*.pt")
    write(tmp_path / "실행 1" / "best [1] {a}.pt", "weights")
    (found,) = watch.collect().artifacts
    digest = hashlib.sha256(b"weights").hexdigest()
    assert found == {"name": "실행 1/best [1] {a}.pt", "size": 7, "sha256": digest, "new": True}


def test_a_file_that_was_written_anew_is_of_this_run_even_with_the_same_bytes(tmp_path: Path) -> None:
    same, changed, rewritten = (write(tmp_path / f"{name}.pt", "abc") for name in ("same", "changed", "rewritten"))
    watch = watching(tmp_path, "*.pt")
    same.chmod(0o600)
    write(changed, "xyz")
    write(rewritten, "abc")
    report = watch.collect()
    assert names(report) == ["changed.pt", "rewritten.pt"]
    assert [row["new"] for row in report.artifacts] == [False, False]


def test_a_file_put_in_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "a.pt", "abc")
    watch = watching(tmp_path, "*.pt")
    write(tmp_path / "draft", "xyz").replace(tmp_path / "a.pt")
    assert names(watch.collect()) == ["a.pt"]


def test_collecting_twice_gives_the_same(tmp_path: Path) -> None:
    watch = watching(tmp_path, "*.pt")
    write(tmp_path / "a.pt")
    assert watch.collect() == watch.collect()


@pytest.mark.parametrize(
    "pattern", ["", " ", "/abs/*.pt", "../x", "a/../../x", "C:\\x\\*.pt", "~/x", ".", "/", "a\0b", "[z-a].pt", "a\\"]
)
def test_patterns_that_leave_the_folder_or_name_nothing_are_refused(tmp_path: Path, pattern: str) -> None:
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
        ("**/out\\[1].csv", {"runs/x y/out[1].csv"}),
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


def test_a_pattern_that_would_take_hours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shorten it"):
        ArtifactWatch(tmp_path, ["*a" * 40 + "b"])


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


def test_folders_that_no_pattern_leads_to_are_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ENTRIES", 10)
    for number in range(20):
        write(tmp_path / "data" / f"{number}.jpg")
    watch = watching(tmp_path, "./out/weights/*.pt")
    write(tmp_path / "out" / "weights" / "a.pt")
    assert (names(watch.collect()), reasons(watch.collect())) == (["out/weights/a.pt"], {})


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
    assert report.artifacts[0]["sha256"] == report.artifacts[1]["sha256"]
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


def test_caps_leave_the_least_important_out_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watching(tmp_path, "*.pt", "*.png")
    for name in ("a.png", "b.png", "z.pt"):
        write(tmp_path / name, "x" * 10)
    write(tmp_path / "huge.pt", "x" * 50)
    monkeypatch.setattr(module, "_MOST_BYTES", 45)
    monkeypatch.setattr(module, "_MOST_FILES", 2)
    report = watch.collect()
    assert names(report) == ["z.pt", "a.png"]
    assert reasons(report) == {
        "huge.pt": "with its 50 bytes, all files would have more than 45 bytes",
        "b.png": "more than 2 files",
    }


def test_the_list_of_what_was_left_out_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LEFT_OUT", 3)
    monkeypatch.setattr(module, "_MOST_FILES", 1)
    watch = watching(tmp_path, "*.pt")
    for number in range(10):
        write(tmp_path / f"{number}.pt")
    rows = watch.collect().left_out
    assert len(rows) == 4
    assert rows[-1]["reason"] == "and 6 more"


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
    assert set(reasons(report).values()) <= {"it can't be read: No such file or directory"}


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
    monkeypatch.setattr(module, "_MOST_ENTRIES", 5)
    watch = watching(tmp_path, "*.pt")
    time.sleep(0.05)
    write(tmp_path / "new.pt")
    monkeypatch.setattr(module, "_MOST_ENTRIES", 1_000)
    assert names(watch.collect()) == ["new.pt"]
    monkeypatch.setattr(module, "_MOST_ENTRIES", 5)
    assert "more than 5 entries" in reasons(watch.collect())["."]


def test_default_patterns_take_weights_first_and_pictures_last(tmp_path: Path) -> None:
    watch = watching(tmp_path, *DEFAULT_PATTERNS)
    for name in ("a.png", "results.csv", "weights/best.pt", "data.txt", "m_openvino_model/m.bin", "photo.jpg"):
        write(tmp_path / name)
    assert names(watch.collect()) == ["weights/best.pt", "m_openvino_model/m.bin", "results.csv", "a.png"]
