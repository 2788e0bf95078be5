"""The set-up behind `make demo` and `make test`, run for real on a small copy of the checkout.

The copy's locks hold the build tools alone, packed again from the environment that runs the tests: no network, no
cache of uv's, nothing of the user's configuration.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
EMPTY_LOCK = "# nothing is needed here\n"
INSTALLING = "installing the pinned packages"
BUILD_TOOLS = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "build.lock").read_text("utf-8"), re.MULTILINE)


def environment(folder: Path, **changes: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHON", "VIRTUAL_ENV", "ARGS", "WORKERS"} and not name.startswith(("UV_", "PIP_", "MAKE"))
    }
    return {
        **kept,
        # The Python of this environment may be one that only its maker knew: make setup PYTHON=/path/to/python
        "PATH": os.pathsep.join([str(Path(sys._base_executable).parent), kept["PATH"]]),
        "UV_OFFLINE": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(folder.parent / "uv-cache"),
        "UV_FIND_LINKS": str(folder.parent / "wheels"),
        **changes,
    }


def run(command: list[str], folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def set_up(folder: Path, level: str = "base", **changes: str) -> subprocess.CompletedProcess[str]:
    return run(["sh", "tools/setup.sh", level], folder, **changes)


def stamp(folder: Path) -> str:
    return (folder / ".venv" / ".setup").read_text(encoding="utf-8")


def pack_again(name: str, folder: Path) -> str:
    """Make a wheel of an installed package in plain Python; returns its line for a lock."""
    installed = distribution(name)
    wheel = folder / f"{name.replace('-', '_')}-{installed.version}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for file in installed.files:
            if not {"..", "__pycache__", "INSTALLER", "REQUESTED", "RECORD"} & {*file.parts}:
                archive.write(file.locate(), str(file))
        archive.writestr(f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info/RECORD", "")
    return f"{name}=={installed.version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space and Korean letters in its path, whose set-up works offline."""
    folder = tmp_path / "my 프로젝트"
    folder.mkdir()
    for name in ("tools", "guardianflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "docker-compose.yml", ".env.example"):
        shutil.copy(ROOT / name, folder)
    locks = folder / "requirements"
    locks.mkdir()
    shutil.copy(ROOT / "requirements" / "bootstrap.lock", locks)
    (tmp_path / "wheels").mkdir()
    pins = [pack_again(name, tmp_path / "wheels") for name in BUILD_TOOLS]
    (locks / "build.lock").write_text("".join(pins), encoding="utf-8")
    for name in ("base", "dev", "lab"):
        (locks / f"{name}.lock").write_text(EMPTY_LOCK, encoding="utf-8")
    if (ROOT / ".uv").exists():  # else there is a uv on PATH, or it is brought now
        (folder / ".uv").symlink_to(ROOT / ".uv")
    return folder


def test_a_fresh_checkout_is_set_up_and_the_next_call_has_nothing_to_do(checkout: Path) -> None:
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert "making .venv" in first.stderr
    started = time.monotonic()
    second = set_up(checkout)
    assert time.monotonic() - started < 3
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_package_comes_from_the_checkout_in_every_locale(checkout: Path, locale: str) -> None:
    set_up(checkout)
    code = "import guardianflow, os; print(ascii(os.path.realpath(guardianflow.__file__)))"
    python = str(checkout / ".venv" / "bin" / "python")
    done = run([python, "-P", "-c", code], checkout.parent, LC_ALL=locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ascii(str((checkout / "guardianflow" / "__init__.py").resolve()))


def test_the_demo_after_the_tests_takes_nothing_away(checkout: Path) -> None:
    assert INSTALLING in set_up(checkout, "base").stderr
    assert f"{INSTALLING}: base dev" in set_up(checkout, "dev").stderr
    assert set_up(checkout, "base").stderr == ""
    assert stamp(checkout).startswith("levels=dev\n")


def test_a_changed_lock_is_installed_again(checkout: Path) -> None:
    set_up(checkout, "dev")
    lock = checkout / "requirements" / "base.lock"
    lock.write_text(EMPTY_LOCK + "# changed\n", encoding="utf-8")
    assert f"{INSTALLING}: base dev" in set_up(checkout, "base").stderr
    assert set_up(checkout, "dev").stderr == ""


def test_a_changed_pyproject_renews_the_project_alone(checkout: Path) -> None:
    set_up(checkout)
    with (checkout / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    done = set_up(checkout)
    assert done.returncode == 0, done.stderr
    assert INSTALLING not in done.stderr
    assert "set-up: done" in done.stderr


def test_a_failed_install_leaves_no_stamp_and_the_next_call_mends_it(checkout: Path) -> None:
    set_up(checkout)
    lock = checkout / "requirements" / "base.lock"
    lock.write_text("no-such-package-of-ours==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n", encoding="utf-8")
    failed = set_up(checkout)
    assert failed.returncode != 0
    assert "no-such-package-of-ours" in failed.stderr
    assert not (checkout / ".venv" / ".setup").exists()
    lock.write_text(EMPTY_LOCK, encoding="utf-8")
    assert INSTALLING in set_up(checkout).stderr


def test_a_moved_checkout_is_set_up_again(checkout: Path) -> None:
    set_up(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    done = set_up(moved)
    assert done.returncode == 0, done.stderr
    assert "making .venv" in done.stderr
    assert run([str(moved / ".venv/bin/hatchling"), "version"], moved).stdout.strip() == "0.1.0"


def test_two_at_once_set_up_once(checkout: Path) -> None:
    command = ["sh", "tools/setup.sh", "base"]
    both = [
        subprocess.Popen(command, cwd=checkout, env=environment(checkout), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count("making .venv") == 1


@pytest.mark.parametrize(
    ("level", "changes", "code", "sentence"),
    [
        ("nonsense", {}, 2, "there is no requirements/nonsense.lock"),
        ("base", {"PYTHON": "no-such-python"}, 1, "Python 3.11 or newer is needed"),
    ],
)
def test_what_is_missing_is_said(checkout: Path, level: str, changes: dict[str, str], code: int, sentence: str) -> None:
    done = set_up(checkout, level, **changes)
    assert done.returncode == code
    assert sentence in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], r"AUTO_NUM_WORKERS=[02] .*pytest -n auto --dist worksteal *$"),
        (["WORKERS=0", "ARGS=-k registry -x"], "AUTO_NUM_WORKERS=0 .*pytest -n auto --dist worksteal -k registry -x$"),
        (["ARGS=-n 0"], "pytest -n auto --dist worksteal -n 0$"),  # pytest takes the last
    ],
)
def test_make_test_passes_on_what_is_asked(asked: list[str], said: str) -> None:
    done = run(["make", "-n", "test", *asked], ROOT)
    assert re.search(said, done.stdout.strip()), done.stdout
