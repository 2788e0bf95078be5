"""Facts about where a run took place: Python, packages, the commit of the user's own code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["environment_facts", "git_facts"]


def environment_facts() -> dict[str, Any]:
    """Python, platform and installed packages, for the run's ``environment.json``."""
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def git_facts(folder: Path) -> dict[str, str]:
    """The commit of the user's own code and whether it has uncommitted changes; empty outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    facts = {"mlflow.source.git.commit": commit}
    return facts if changes is None else {**facts, "guardianflow.git_dirty": str(bool(changes)).lower()}


def _git(folder: Path, *args: str) -> str | None:
    # Without the optional lock, looking at the status can't get in the way of the user's own git.
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=3, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
