"""Folders for a while, and what becomes of them when nobody had the time to remove them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardianflow.files.scratch import ScratchFolder, sweep_scratch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders can't be locked there")

HOLD = """
import sys
from guardianflow.files.scratch import ScratchFolder
folder = ScratchFolder("kernel")
(folder.path / "key").write_text("secret")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def other(temporary) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process, and its folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_this_users_alone_and_gone_with_the_block(temporary):
    with ScratchFolder("live") as folder:
        assert folder.parent.parent == temporary
        assert [path.stat().st_mode & 0o777 for path in (folder.parent, folder)] == [0o700, 0o700]
        sweep_scratch()
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(other):
    process, folder = other
    with ScratchFolder("live"):
        assert (folder / "key").is_file()
    process.kill()
    process.wait()
    assert folder.is_dir()
    with ScratchFolder("live"):
        assert not folder.exists()


def test_a_name_that_somebody_else_took_is_neither_used_nor_swept(temporary):
    with ScratchFolder("live") as folder:
        root = folder.parent
    root.rmdir()
    theirs = temporary / "theirs"
    (theirs / "live-1-x").mkdir(parents=True)
    root.symlink_to(theirs)
    with ScratchFolder("live") as folder:
        assert folder.parent == temporary
        assert [path.name for path in theirs.iterdir()] == ["live-1-x"]


def test_names_that_are_none_of_ours_are_left_alone(temporary):
    with ScratchFolder("live") as folder:
        strange = [folder.parent / name for name in ("x", "-", "notes.txt")]
        strange[0].mkdir()
        strange[1].mkdir()
        strange[2].write_text("")
    sweep_scratch()
    assert all(path.exists() for path in strange)
