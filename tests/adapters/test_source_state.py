"""The state of the code is told truthfully, and nothing of the repository's own is run for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from guardianflow.adapters.wrap.source_state import MAX_DIFF, source_state
from guardianflow.machine import git as module


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the developer's git is configured to do plays no part."""
    (tmp_path / "gitconfig").write_text("[user]\n name = 김\n email = k@example.org\n[init]\n defaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "내 코드 1"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "train.py").write_text("lr = 1\n", encoding="utf-8")
    (folder / "모델.bin").write_bytes(bytes(range(256)) * 10)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_repository(repository: Path) -> None:
    state = source_state(repository)
    assert state.commit == git(repository, "rev-parse", "HEAD")
    assert (state.dirty, state.diff, state.remark) == (False, "", "")


def test_changes_are_shown_with_secrets_masked_and_binaries_named_only(repository: Path) -> None:
    (repository / "train.py").write_text("lr = 2\nAPI_KEY = 'geheim-123'\n", encoding="utf-8")
    (repository / "모델.bin").write_bytes(bytes(range(255)) * 10)
    (repository / "새 파일.txt").write_text("x")
    state = source_state(repository)
    assert state.dirty is True
    assert "-lr = 1\n+lr = 2\n+API_KEY = '***'\n" in state.diff
    assert "Binary files a/모델.bin and b/모델.bin differ" in state.diff


def test_staged_changes_count_too_and_a_sub_folder_sees_the_whole(repository: Path) -> None:
    (repository / "sub").mkdir()
    (repository / "new.py").write_text("x = 1\n")
    git(repository, "add", "new.py")
    state = source_state(repository / "sub")
    assert state.dirty is True
    assert "+x = 1" in state.diff


def test_a_large_diff_is_cut_at_a_line(repository: Path) -> None:
    (repository / "train.py").write_text("a line of text\n" * 200_000)
    state = source_state(repository)
    assert state.dirty is True
    assert MAX_DIFF - 100 < len(state.diff) <= MAX_DIFF
    assert state.diff.endswith("+a line of text\n")
    assert "cut" in state.remark


def test_invalid_utf8_in_a_diff_is_no_obstacle(repository: Path) -> None:
    (repository / "train.py").write_bytes(b"\xff\xfe latin \xe9\n")
    assert "latin" in source_state(repository).diff


def test_a_detached_head_has_its_commit(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert len(source_state(repository).commit) == 40


def test_before_the_first_commit_everything_staged_is_the_change(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "fresh")
    (tmp_path / "fresh" / "a.py").write_text("x = 1\n")
    git(tmp_path / "fresh", "add", "a.py")
    state = source_state(tmp_path / "fresh")
    assert (state.commit, state.dirty) == ("", True)
    assert "+x = 1" in state.diff


@pytest.mark.parametrize(("name", "said"), [("", ""), ("missing", "git can't read")])
def test_outside_of_a_repository_there_is_nothing(tmp_path: Path, name: str, said: str) -> None:
    state = source_state(tmp_path / name)
    assert (state.commit, state.dirty, state.diff) == ("", None, "")
    assert state.remark[:14] == said


def test_a_bare_repository_has_no_changes(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    state = source_state(tmp_path / "bare.git")
    assert (state.commit, state.diff) == ("", "")
    assert "work tree" in state.remark


@pytest.mark.parametrize("damage", ["config", "index", "objects"])
def test_a_corrupt_repository_gives_a_remark(repository: Path, damage: str) -> None:
    (repository / "train.py").write_text("changed\n")
    if damage == "objects":
        for path in (repository / ".git/objects").rglob("*"):
            if path.is_file():
                path.chmod(0o600)
                path.write_bytes(b"\0damaged")
    else:
        (repository / ".git" / damage).write_bytes(b"\0\xff[damaged")
    state = source_state(repository)
    assert state.remark
    assert state.diff == ""


def test_another_working_folder_is_not_read(repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.py").write_text("private\n")
    git(repository, "config", "core.worktree", str(other))
    state = source_state(repository)
    assert "private" not in state.diff
    assert state.remark


def test_git_variables_from_outside_do_not_lead_elsewhere(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "elsewhere")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert len(source_state(repository).commit) == 40


def test_without_git_there_is_a_remark(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert source_state(repository).remark == "git can't read the repository: git is not installed"


ATTACKS = {
    "fsmonitor": ("core.fsmonitor", "{program}"),
    "external": ("diff.external", "{program}"),
    "driver": ("diff.evil.command", "{program}"),
    "textconv": ("diff.evil.textconv", "{program}"),
    "clean": ("filter.evil.clean", "{program}"),
    "process": ("filter.evil.process", "{program}"),
    "smudge.dotted": ("filter.e.v.i.l.clean", "{program}"),
    "hooks": ("core.hooksPath", "{hooks}"),
    "pager": ("core.pager", "{program}"),
    "pager.diff": ("pager.diff", "{program}"),
    "alias": ("alias.diff", "!{program}"),
}


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_that_a_repository_configures_is_run(repository: Path, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "was_run"
    program = tmp_path / "hooks" / "post-index-change"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\ncat\n")
    program.chmod(0o755)
    filter_name = "e.v.i.l" if "dotted" in name else "evil"
    (repository / ".gitattributes").write_text(f"* diff=evil filter={filter_name}\n")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-q", "-m", "attributes")
    (repository / "train.py").write_text("lr = 3\n")
    key, value = ATTACKS[name]
    git(repository, "config", key, value.format(program=program, hooks=program.parent))
    if name in {"fsmonitor", "external", "driver", "clean", "hooks", "smudge.dotted"}:  # the attack is a real one
        os.utime(repository / ".gitattributes", (1, 1))  # the index is out of date, so git writes it: the hook's moment
        subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, check=False)
        subprocess.run(["git", "-C", str(repository), "diff"], capture_output=True, check=False)
        assert marker.exists()
        marker.unlink()
        os.utime(repository / ".gitattributes", (2, 2))
        (repository / "train.py").write_text("lr = 33\n")
    state = source_state(repository)
    assert not marker.exists()
    assert state.dirty is True
    assert "+lr = 3" in state.diff
    assert ("filters" in state.remark) == key.startswith("filter.")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
def test_a_filter_of_the_users_own_still_counts(repository: Path, tmp_path: Path) -> None:
    (repository / ".gitattributes").write_text("*.py filter=mine\n")
    git(repository, "config", "--global", "filter.mine.clean", "sed s/33/1/")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-q", "-m", "attributes")
    (repository / "train.py").write_text("lr = 33\n")
    assert source_state(repository).dirty is False


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script")
def test_a_git_that_hangs_is_given_up(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.3)
    assert "took" in source_state(repository).remark
