"""Commands in our texts, in a form that can be typed where they stand.

Texts name our programs plainly (``guardianflow doctor``). A shell often doesn't find them by that name: the virtual
environment isn't active. So whoever shows a text to somebody at a shell hands it through :func:`typed`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardianflow.core.config import Settings

__all__ = ["VERBS", "command", "program", "search_path", "typed"]

VERBS = (
    "init", "doctor", "demo", "train", "infer", "quant", "wrap", "scan", "run", "register", "promote", "rollback",
    "compare", "reject", "delete", "download", "history", "list", "runs", "metrics", "eval", "scenario",
    "alerts", "batch", "optimize", "keys", "api", "dashboard", "lab", "stack", "sweep", "study",
)  # fmt: skip
"""Of the command line; what follows the program's name in a command, and in no sentence."""

_COMMAND = re.compile(
    rf"(?<![\w./'\"-])(?:(guardianflow)(?= (?:{'|'.join(VERBS)})\b)|(mlflow)(?= (?:db|experiments|server) ))"
)


def program(name: str, *, anywhere: bool = False) -> str:
    """How a program of this installation is called from here, quoted for a shell.

    Args:
        name: Its name.
        anywhere: From any folder, not from the current one.
    """
    ours = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not ours.exists() or (found is not None and Path(found).resolve() == ours.resolve()):
        return name
    relative = "" if anywhere else os.path.relpath(ours)
    return shlex.quote(str(ours) if anywhere or relative.startswith(os.pardir) else relative)


def search_path() -> str:
    """``PATH``, and the programs of this installation behind all others, as if its environment were active."""
    found, ours = os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)
    return found if ours in found.split(os.pathsep) else os.pathsep.join([found, ours])


def typed(text: str) -> str:
    """A text whose commands can be typed in this folder."""
    return _COMMAND.sub(lambda found: program(found[0]), text)


def command(*words: str, settings: Settings | None = None) -> str:
    """A call of ``guardianflow``, each word quoted.

    Args:
        words: The verb and what belongs to it.
        settings: Where it shall look, if that isn't where a call from here would.
    """
    text = shlex.join(("guardianflow", *words))
    return text if settings is None else _elsewhere(settings) + text


def _elsewhere(settings: Settings) -> str:
    """The variables that a shell here lacks for the same work folder."""
    if type(settings)().work_dir == settings.work_dir:
        return ""
    return f"GUARDIANFLOW_WORK_DIR={shlex.quote(str(settings.work_dir))} "
