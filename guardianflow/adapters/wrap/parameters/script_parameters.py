"""What a script was really given: its declared defaults, the config files it was pointed to, its command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.command_words import ParsedLine, parse_words, word_arguments
from guardianflow.adapters.wrap.parameters.config_values import config_files, read_config_files
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, constant_values
from guardianflow.adapters.wrap.parameters.notebook_arguments import (
    notebook_line,
    notebook_parameters,
    notebook_source,
)
from guardianflow.adapters.wrap.parameters.script_options import Declared, DeclaredParameter, read_options
from guardianflow.adapters.wrap.parameters.script_text import parse_script, read_script
from guardianflow.exceptions import InputError

__all__ = ["Declared", "DeclaredParameter", "ResolvedParameters", "declared_in", "read_declared", "resolve_parameters"]

_MOST_CONSTANTS = 300


@dataclass(frozen=True)
class ResolvedParameters:
    """The values that a run of the script works with, as far as is known.

    Attributes:
        values: Name → value. Leaves of config files are named ``config.<stem>.a.b``.
        origins: Name → ``default``, ``command line``, ``config FILE``, ``constant`` or ``the script``.
        declared: What the script declares.
        remarks: What could not be read, and why.
        known_from: ``the script itself`` where it told what its parser handed back, else ``its text``.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    declared: Declared = field(default_factory=Declared)
    remarks: tuple[str, ...] = ()
    known_from: str = "its text"


def read_declared(script: Path) -> Declared:
    """What a script file or notebook declares, read from its text; nothing of it is run."""
    try:
        return notebook_parameters(script) if _is_notebook(script) else declared_in(read_script(script), file=script)
    except InputError as error:
        return Declared(remarks=(str(error),))


def declared_in(source: str, *, file: Path | None = None) -> Declared:
    """What a Python source text declares; a text that is no Python 3 declares nothing, with a remark.

    Args:
        source: The text.
        file: Where it lies: files beside it that it imports are read, too.
    """
    try:
        return read_options(parse_script(source), file)
    except InputError as error:
        return Declared(remarks=(str(error),))


def resolve_parameters(command: Command, *, working_dir: Path, constants: bool = False) -> ResolvedParameters:
    """The parameters of one start of a script: defaults, then config files, then the command line.

    Args:
        command: What is started.
        working_dir: Where; config files are looked for from here.
        constants: Take the script's constants, too.
    """
    declared, before, values = Declared(), launcher_words(command), {}
    if before:
        script = working_dir / command.args[len(before)]
        command = replace(command, script=script, args=command.args[len(before) + 1 :])
    if command.script is not None and command.kind != "shell":
        declared = read_declared(command.script)
        values = _constants(command.script) if constants else {}
    line = ParsedLine(rest=command.args)
    if command.kind == "notebook" and command.script is not None:
        line = notebook_line(command.script, declared, command.args)
    elif declared.parameters:
        line = parse_words(declared, command.args)
    origins = dict.fromkeys(values, "constant") | dict.fromkeys(line.values, "default")
    origins |= dict.fromkeys(line.given, "command line")
    remarks = (*declared.remarks, *line.remarks)
    resolved = ResolvedParameters(values | line.values, origins, declared=declared, remarks=remarks)
    given = [line.values.get(name) for name in sorted(line.given)]
    return with_words(resolved, [*before, *line.rest], [*command.args, *given], working_dir)


def _constants(script: Path) -> dict[str, Any]:
    try:
        values = constant_values(parse_script(notebook_source(script) if _is_notebook(script) else read_script(script)))
    except InputError:
        return {}
    found = [(name, one) for name, one in values.items() if one is not UNKNOWN and not name.startswith("_")]
    return dict(found[:_MOST_CONSTANTS])


def _is_notebook(script: Path) -> bool:
    return script.suffix.lower() == ".ipynb"


def launcher_words(command: Command) -> tuple[str, ...]:
    """The words before the script that a launcher is given, as in ``torchrun --nproc_per_node 2 train.py``."""
    place = next((place for place, word in enumerate(command.args) if word.endswith(".py")), 0)
    return command.args[:place] if command.kind == "binary" else ()


def with_words(
    resolved: ResolvedParameters, words: Iterable[str], given: Iterable[Any], working_dir: Path
) -> ResolvedParameters:
    """Add the words of a command line that nothing declares, and the config files that given words or values name."""
    values, origins = dict(resolved.values), dict(resolved.origins)
    for name, value in word_arguments(list(words)).items():
        own = f"extra.{name}" if origins.get(name) == "command line" else name
        values[own], origins[own] = value, "command line"
    texts = [one for each in given for one in (each if isinstance(each, list) else [each])]
    config = read_config_files(config_files(texts, working_dir))
    return replace(
        resolved,
        values=values | config.values,
        origins=origins | config.origins,
        remarks=(*resolved.remarks, *config.remarks),
    )
