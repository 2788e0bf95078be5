"""What a script declares that it takes: one record a parameter, whatever library declared it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Declared", "DeclaredParameter"]


@dataclass(frozen=True)
class DeclaredParameter:
    """One parameter, as its script's text declares it.

    Attributes:
        name: Under which the script sees it; parameters of a subcommand are named ``train.lr``.
        type: ``str``, ``int``, ``float``, ``bool``, ``path``, or the name of the script's own converter.
        default: What the script takes where nothing is given; only where ``has_default``.
        has_default: False where there is none, and where the script computes it (a remark says so).
        required: The script ends with an error where it is missing.
        flags: How it is written on the command line, such as ``("--lr", "-l")``; none for a positional.
        off_flags: How it is switched off.
        choices: The only values allowed, if it says so.
        help: The script's own words about it.
        action: What argparse calls it: ``store``, ``store_true``, ``append``, ``count``, …
        nargs: As argparse has it.
        const: What it gets where it is given without a value.
        source: ``argparse``, ``click``, ``typer``, ``fire``, ``absl``, ``notebook`` or ``constant``.
    """

    name: str
    type: str = "str"
    default: Any = None
    has_default: bool = False
    required: bool = False
    flags: tuple[str, ...] = ()
    off_flags: tuple[str, ...] = ()
    choices: tuple[Any, ...] = ()
    help: str = ""
    action: str = "store"
    nargs: int | str | None = None
    const: Any = None
    source: str = "argparse"


@dataclass(frozen=True)
class Declared:
    """All that a script declares, and what of it could not be read.

    Attributes:
        parameters: In the order of the script.
        style: ``argparse``, ``click``, ``typer``, ``fire``, ``absl``, ``notebook`` or ``none``.
        remarks: What could not be read without running the script, a sentence each.
        commands: Its subcommands.
    """

    parameters: tuple[DeclaredParameter, ...] = ()
    style: str = "none"
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
