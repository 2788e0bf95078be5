"""A checkout of one's own: the package and its notebooks under git, as somebody who cloned the project has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *words: str) -> str:
    """What git says there."""
    who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def copy_checkout(folder: Path) -> Path:
    """Make it, with everything committed."""
    folder.mkdir(parents=True)
    for name in ("guardianflow", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    shutil.copy(ROOT / ".gitignore", folder)
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "as cloned")):
        git(folder, *words)
    return folder


def its_environment(checkout: Path, **changes: str) -> dict[str, str]:
    """The environment in which its package is used."""
    return {**os.environ, "PYTHONPATH": str(checkout), **changes}
