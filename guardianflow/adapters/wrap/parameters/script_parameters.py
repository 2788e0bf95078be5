"""What a script was really given: its declared defaults, the config files it was pointed to, its command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.command_words import ParsedLine, parse_words, word_arguments
from guardianflow.adapters.wrap.parameters.config_values import config_files, read_config_files
from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, constant_values
from guardianflow.adapters.wrap.parameters.notebook_arguments import (
    notebook_line,
    notebook_parameters,
    notebook_source,
)
from guardianflow.adapters.wrap.parameters.script_options import read_options
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


def read_declared(script: Path, *, constants: bool = False) -> Declared:
    """What a script file or notebook declares, read from its text; nothing of it is run.

    Args:
        script: A Python file or a notebook; for anything else nothing is declared, with a remark.
        constants: Take the module's constants, too.
    """
    try:
        if script.suffix.lower() == ".ipynb":
            declared = notebook_parameters(script)
            return _with_constants(declared, notebook_source(script)) if constants else declared
        return declared_in(read_script(script), file=script, constants=constants)
    except InputError as error:
        return Declared(remarks=(str(error),))


def declared_in(source: str, *, file: Path | None = None, constants: bool = False) -> Declared:
    """What a Python source text declares; a text that is no Python 3 declares nothing, with a remark.

    Args:
        source: The text.
        file: Where it lies: files beside it that it imports are read, too.
        constants: Take the module's constants, too.
    """
    try:
        declared = read_options(parse_script(source), file)
        return _with_constants(declared, source) if constants else declared
    except InputError as error:
        return Declared(remarks=(str(error),))
    except RecursionError:
        return Declared(remarks=("the script is nested too deeply for its parameters to be read",))


def resolve_parameters(command: Command, *, working_dir: Path, constants: bool = False) -> ResolvedParameters:
    """The parameters of one start of a script: defaults, then config files, then the command line.

    Args:
        command: What is started.
        working_dir: Where; config files are looked for from here.
        constants: Take the script's constants, too.
    """
    declared, before = Declared(), launcher_words(command)
    if before:
        script = working_dir / command.args[len(before)]
        command = replace(command, script=script, args=command.args[len(before) + 1 :])
    if command.script is not None and command.kind != "shell":
        declared = read_declared(command.script, constants=constants)
    own = replace(declared, parameters=tuple(one for one in declared.parameters if one.source != "constant"))
    line = ParsedLine(rest=command.args)
    if command.kind == "notebook" and command.script is not None:
        line = notebook_line(command.script, declared, command.args)
    elif own.parameters:
        line = parse_words(own, command.args)
    values = {one.name: one.default for one in declared.parameters if one.source == "constant"} | line.values
    origins = dict.fromkeys(values, "default") | dict.fromkeys(line.given, "command line")
    origins |= dict.fromkeys(values.keys() - line.values.keys(), "constant")
    resolved = ResolvedParameters(values, origins, declared=declared, remarks=(*declared.remarks, *line.remarks))
    given = [line.values.get(name) for name in sorted(line.given)]
    return with_words(resolved, [*before, *line.rest], [*command.args, *given], working_dir)


def launcher_words(command: Command) -> tuple[str, ...]:
    """The words before the script that a launcher is given, as in ``torchrun --nproc_per_node 2 train.py``."""
    place = next((place for place, word in enumerate(command.args) if word.endswith(".py")), 0)
    return command.args[:place] if command.kind == "binary" else ()


def with_words(
    resolved: ResolvedParameters, words: Iterable[str], given: Iterable[Any], working_dir: Path
) -> ResolvedParameters:
    """Add what nothing declares: words of the command line, and the config files that are named.

    Args:
        resolved: What is known by now.
        words: Words that nothing declares.
        given: Words and values that may name config files.
        working_dir: Where such files are looked for.
    """
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


def _with_constants(declared: Declared, source: str) -> Declared:
    values = constant_values(parse_script(source))
    taken = {one.name for one in declared.parameters}
    more = [
        DeclaredParameter(name, "str" if value is None else type(value).__name__, value, True, source="constant")
        for name, value in values.items()
        if value is not UNKNOWN and not name.startswith("_") and name not in taken
    ]
    return replace(declared, parameters=(*declared.parameters, *more[:_MOST_CONSTANTS]))
