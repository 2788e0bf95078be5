"""What is to be started: a script, module, notebook or program, and its arguments as a list of words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Command", "read_command"]


@dataclass(frozen=True)
class Command:
    """One start of something that people already have.

    Attributes:
        kind: ``python``, ``module``, ``notebook``, ``shell`` or ``binary``.
        argv: What is started; a list of words, never a line for a shell.
        script: The file whose text can be read; None for a program, and for a module that is no file.
        args: The user's own arguments.
        environment: Added to the child's environment.
    """

    kind: str
    argv: tuple[str, ...]
    script: Path | None = None
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The command as a person would type it; for reading, never to be executed."""
        return shlex.join(self.argv)

    @property
    def label(self) -> str:
        """A few words for the run's name: the script or module without folder and ending."""
        raise NotImplementedError


def read_command(
    script_path: str,
    args: Sequence[str] = (),
    *,
    working_dir: Path,
    module: bool = False,
    python: str = "",
    buffered: bool = False,
    executed_notebook: Path | None = None,
) -> Command:
    """Find out what a path or name is and how it is started."""
    raise NotImplementedError
