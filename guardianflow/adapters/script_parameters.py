"""What a script was really given: its declared defaults, the config files it was pointed to, its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.commands import Command
from guardianflow.adapters.declared_parameters import Declared, DeclaredParameter

__all__ = ["Declared", "DeclaredParameter", "ResolvedParameters", "declared_in", "read_declared", "resolve_parameters"]


@dataclass(frozen=True)
class ResolvedParameters:
    """The values that a run of the script works with, as far as its text and its command line tell.

    Attributes:
        values: Name → value. Leaves of config files are named ``config.<stem>.a.b``.
        origins: Name → ``default``, ``command line``, ``config FILE`` or ``constant``.
        config_files: Files named on the command line that were read.
        declared: What the script declares.
        remarks: What could not be read, and why.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    config_files: tuple[Path, ...] = ()
    declared: Declared = field(default_factory=Declared)
    remarks: tuple[str, ...] = ()


def read_declared(script: Path, *, constants: bool = False) -> Declared:
    """What a script file or notebook declares, read from its text; nothing of it is run."""
    raise NotImplementedError


def declared_in(source: str, *, constants: bool = False) -> Declared:
    """What a Python source text declares; a text that is no Python 3 declares nothing, with a remark."""
    raise NotImplementedError


def resolve_parameters(command: Command, *, working_dir: Path, constants: bool = False) -> ResolvedParameters:
    """The parameters of one start of a script: defaults, then config files, then the command line."""
    raise NotImplementedError
