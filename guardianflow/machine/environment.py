"""Facts about where a run took place: Python, packages, the commit of the user's own code."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from guardianflow.machine.git import Git

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
    git = Git(folder)
    commit = git.ask("rev-parse", "--verify", "--quiet", "HEAD").line
    if not commit:
        return {}
    git.disarm()
    changes = git.ask("status", "--porcelain", "--untracked-files=no")
    facts = {"mlflow.source.git.commit": commit}
    return facts if changes.code != 0 else {**facts, "guardianflow.git_dirty": str(bool(changes.out)).lower()}
