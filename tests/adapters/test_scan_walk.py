"""Which files a scan looks at."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardianflow.adapters.scan.walk import Skipped, walk_folders

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def walked(root: Path, **options) -> tuple[dict[str, bool], Skipped]:
    """File → whether it is ignored, and what was skipped."""
    skipped = Skipped()
    folders = walk_folders(os.path.realpath(root), skipped, **options)
    return {folder.below(name): folder.ignores(name) for folder in folders for name in folder.files}, skipped


def test_ignored_files_are_seen_but_marked(tmp_path):
    write(tmp_path, "a.py", "runs/train/best.pt", "keep/runs/a.py", "pkg/x.pyc")
    (tmp_path / ".gitignore").write_text("/runs/\n*.pyc\n")
    files, _ = walked(tmp_path)
    assert files == {
        ".gitignore": False, "a.py": False, "runs/train/best.pt": True, "keep/runs/a.py": False, "pkg/x.pyc": True,
    }  # fmt: skip
    assert not any(walked(tmp_path, include_ignored=True)[0].values())


def test_nested_rules_and_negations_hold_as_in_git(tmp_path):
    write(tmp_path, "a.log", "b/a.log", "b/keep.log", "b/c/keep.log", "out/x.py", "out/keep.py")
    (tmp_path / ".gitignore").write_text("*.log\nout/\n!out/keep.py\n")
    (tmp_path / "b" / ".gitignore").write_text("!keep.log\n")
    (tmp_path / "b" / "c" / ".gitignore").write_text("keep.log\n")
    files, _ = walked(tmp_path)
    ignored = {name for name, is_ignored in files.items() if is_ignored}
    assert ignored == {"a.log", "b/a.log", "b/c/keep.log", "out/x.py", "out/keep.py"}


def test_rules_above_the_folder_hold_unless_they_ignore_the_folder_itself(tmp_path):
    write(tmp_path, "proj/src/a.py", "proj/src/gen/b.py", "proj/build/c.py")
    (tmp_path / "proj" / ".git").mkdir()
    (tmp_path / "proj" / ".gitignore").write_text("gen/\nbuild/\n")
    assert walked(tmp_path / "proj" / "src")[0] == {"a.py": False, "gen/b.py": True}
    assert walked(tmp_path / "proj" / "build")[0] == {"c.py": False}


NAMES = st.sampled_from(["a", "b", "c.py", "d.py", "Runs", "runs", "한글", "x y"])
PATTERNS = st.sampled_from([
    "*.py", "!c.py", "/a", "a/", "!a/", "b", "runs/", "**/d.py", "a/**", "!/a/b", "한글", "x\\ y", "# b", "", "R*",
    "[ab]",
    "/b/*", "!/b/c.py", "a/b/", "\\!x", "  ", "*/c.py",
])  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True),
    rules=st.dictionaries(st.sampled_from([".gitignore", "a/.gitignore"]), st.lists(PATTERNS, max_size=4), min_size=1),
)
def test_what_is_ignored_is_what_git_ignores(tmp_path_factory, files, rules):
    root = tmp_path_factory.mktemp("git")
    for name in files:
        above = [root / folder for folder in Path(name).parents]
        if not (root / name).exists() and not any(folder.is_file() for folder in above):
            write(root, name)
    for name, lines in rules.items():
        if (root / name).parent.is_dir():
            (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=root, env=GIT, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"], cwd=root, env=GIT, capture_output=True, check=True
    ).stdout.decode()
    found, _ = walked(root)
    assert {name for name, ignored in found.items() if not ignored} == set(filter(None, listed.split("\0")))


def test_hostile_and_broken_patterns_cost_nothing(tmp_path):
    write(tmp_path, "a" * 200 + ".py", "b.py")
    (tmp_path / ".gitignore").write_bytes(b"*a" * 40 + b"*b\n!\n[\n\xff\xfe\n\x00\n" + b"x" * 5000 + b"\nb.py\n")
    files, _ = walked(tmp_path)
    assert files["b.py"]
    assert not files["a" * 200 + ".py"]


def test_environments_and_vendored_code_are_left_out_and_counted(tmp_path):
    write(
        tmp_path, "a.py", "env/pyvenv.cfg", "env/b.py", "conda/conda-meta/history", "conda/b.py", "node_modules/b.py",
        ".git/b.py", "x/Vendor/b.py", "third_party/b.py", "pkg/_vendor/b.py", "old/lib/site-packages/b.py",
        "__pycache__/b.py", ".tox/b.py", ".hg/b.py",
    )  # fmt: skip
    files, skipped = walked(tmp_path)
    assert set(files) == {"a.py"}
    assert skipped.counts == {
        "Python environment": 4, "installed packages": 1, "version control": 2, "vendored code": 3, "cache": 1,
    }  # fmt: skip


@pytest.mark.parametrize("root", ["site-packages", "vendor", ".venv"])
def test_the_folder_that_was_asked_for_is_read_whatever_it_is(tmp_path, root):
    write(tmp_path / root, "a.py", "pyvenv.cfg")
    assert set(walked(tmp_path / root)[0]) == {"a.py", "pyvenv.cfg"}


def test_our_own_working_folder_is_left_out(tmp_path):
    write(tmp_path, "a.py", "guardianflow-work/guardianflow.db", "guardianflow-work/runs/args.yaml")
    files, skipped = walked(tmp_path)
    assert set(files) == {"a.py"}
    assert skipped.listed[0].path == "guardianflow-work"
    assert skipped.counts == {"working folder of GuardianFlow": 1}


def test_no_link_is_followed(tmp_path):
    root = tmp_path / "root"
    write(tmp_path, "outside/secret.py", "root/a/b.py")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out.py").symlink_to(tmp_path / "outside" / "secret.py")
    (root / "a" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "a")
    (root / "loop").symlink_to(root / "loop")
    (root / "nowhere").symlink_to(tmp_path / "gone")
    files, skipped = walked(root)
    assert set(files) == {"a/b.py"}
    assert skipped.counts == {"link out of the folder": 3, "link to another place in the folder": 3}


def test_a_root_that_is_a_link_is_scanned(tmp_path):
    write(tmp_path, "real/a.py")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert set(walked(tmp_path / "link")[0]) == {"a.py"}


def test_pipes_and_sockets_are_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "train.py")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.yaml")
        files, skipped = walked(tmp_path)
    assert not files
    assert skipped.counts == {"no regular file (a device, pipe or socket)": 2}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder; run as a user")
def test_a_folder_that_cant_be_read_is_counted(tmp_path):
    write(tmp_path, "a.py", "shut/b.py")
    (tmp_path / "shut").chmod(0)
    try:
        files, skipped = walked(tmp_path)
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert set(files) == {"a.py"}
    assert skipped.counts == {"folder can't be read (Permission denied)": 1}


def test_a_path_that_is_too_long_for_the_system_is_counted(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    _, skipped = walked(tmp_path)
    assert skipped.counts == {"folder can't be read (File name too long)": 1}


def test_names_in_any_bytes_are_walked_in_a_fixed_order(tmp_path):
    write(tmp_path, "학습 코드/b.py", "A.py", "a.py", "ö.py")
    write(tmp_path, os.fsdecode(b"bad\xff.py"))
    assert list(walked(tmp_path)[0]) == ["A.py", "a.py", "bad\udcff.py", "ö.py", "학습 코드/b.py"]
