"""What a script was really given: its declared defaults, the config files it was pointed to, its command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.command_words import ParsedLine, parse_words
from guardianflow.adapters.wrap.parameters.config_values import config_files, read_config_files
from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.notebook_arguments import (
    notebook_defaults,
    notebook_parameters,
    notebook_source,
    notebook_values,
)
from guardianflow.adapters.wrap.parameters.script_constants import constants_in
from guardianflow.adapters.wrap.parameters.script_options import read_options
from guardianflow.adapters.wrap.parameters.script_text import parse_script, read_script
from guardianflow.adapters.wrap.parameters.word_arguments import word_arguments
from guardianflow.exceptions import InputError

__all__ = ["Declared", "DeclaredParameter", "ResolvedParameters", "declared_in", "read_declared", "resolve_parameters"]


@dataclass(frozen=True)
class ResolvedParameters:
    """The values that a run of the script works with, as far as is known.

    Attributes:
        values: Name → value. Leaves of config files are named ``config.<stem>.a.b``.
        origins: Name → ``default``, ``command line``, ``config FILE``, ``constant`` or ``the script``.
        config_files: Files named on the command line that were read.
        declared: What the script declares.
        remarks: What could not be read, and why.
        known_from: ``the script itself`` where it told what its parser handed back, else ``its text``.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    config_files: tuple[Path, ...] = ()
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
            source = notebook_source(script) if constants else ""
            return _with_constants(declared, source) if constants else declared
        source = read_script(script)
    except InputError as error:
        return Declared(remarks=(str(error),))
    return declared_in(source, file=script, constants=constants)


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
    line = _parsed(command, declared)
    values = {one.name: one.default for one in declared.parameters if one.source == "constant"}
    origins = dict.fromkeys(values, "constant")
    for name, value in line.values.items():
        values[name] = value
        origins[name] = "command line" if name in line.given else "default"
    resolved = ResolvedParameters(values, origins, declared=declared, remarks=(*declared.remarks, *line.remarks))
    given = [line.values.get(name) for name in sorted(line.given)]
    return with_files(with_words(resolved, [*before, *line.rest]), [*command.args, *given], working_dir)


def launcher_words(command: Command) -> tuple[str, ...]:
    """The words before the script that a launcher is given, as in ``torchrun --nproc_per_node 2 train.py``."""
    place = next((place for place, word in enumerate(command.args) if word.endswith(".py")), 0)
    return command.args[:place] if command.kind == "binary" else ()


def with_words(resolved: ResolvedParameters, words: Iterable[str]) -> ResolvedParameters:
    """Add the words of a command line that nothing declares."""
    values, origins = dict(resolved.values), dict(resolved.origins)
    for name, value in word_arguments(list(words)).items():
        own = f"extra.{name}" if origins.get(name) == "command line" else name
        values[own], origins[own] = value, "command line"
    return replace(resolved, values=values, origins=origins)


def with_files(resolved: ResolvedParameters, given: Iterable[Any], working_dir: Path) -> ResolvedParameters:
    """Add what stands in the config files that words or given values name."""
    texts = [one for each in given for one in (each if isinstance(each, list) else [each])]
    config = read_config_files(config_files(texts, working_dir))
    return replace(
        resolved,
        values={**resolved.values, **config.values},
        origins={**resolved.origins, **config.origins},
        config_files=config.files,
        remarks=(*resolved.remarks, *config.remarks),
    )


def _parsed(command: Command, declared: Declared) -> ParsedLine:
    if command.kind == "notebook":
        given = notebook_values(declared, command.args)
        defaults, remarks = notebook_defaults(command.script, declared, given) if command.script else ({}, [])
        return ParsedLine({**defaults, **given}, given=frozenset(given), remarks=remarks)
    own = replace(declared, parameters=tuple(one for one in declared.parameters if one.source != "constant"))
    return parse_words(own, command.args) if own.parameters else ParsedLine(rest=command.args)


def _with_constants(declared: Declared, source: str) -> Declared:
    taken = {one.name for one in declared.parameters}
    more = tuple(one for one in constants_in(parse_script(source)) if one.name not in taken)
    return replace(declared, parameters=(*declared.parameters, *more))
