"""What a script was really given: its declared defaults, the config files it was pointed to, its command line."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.argument_parsers import declared_by
from guardianflow.adapters.wrap.parameters.command_options import CommandOptions, declared_options, find_commands
from guardianflow.adapters.wrap.parameters.config_values import config_files, read_config_files
from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.notebook_arguments import (
    notebook_defaults,
    notebook_parameters,
    notebook_source,
    notebook_values,
)
from guardianflow.adapters.wrap.parameters.parsed_lines import ParsedLine, parse_commands, parse_parsers
from guardianflow.adapters.wrap.parameters.parser_search import FoundParsers, find_parsers
from guardianflow.adapters.wrap.parameters.script_constants import constants_in, module_values
from guardianflow.adapters.wrap.parameters.script_text import parse_script, read_script
from guardianflow.adapters.wrap.parameters.word_arguments import word_arguments
from guardianflow.exceptions import InputError

__all__ = ["Declared", "DeclaredParameter", "ResolvedParameters", "declared_in", "read_declared", "resolve_parameters"]

_OTHERS = {
    "optparse": "optparse",
    "docopt": "docopt",
    "hydra": "Hydra (its defaults are in config files)",
    "absl": "absl flags",
}


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


@dataclass(frozen=True)
class _Reading:
    """A script's text, read once: what it declares and what parses its command line."""

    declared: Declared = field(default_factory=Declared)
    parsers: FoundParsers = field(default_factory=FoundParsers)
    command: CommandOptions | None = None


def read_declared(script: Path, *, constants: bool = False) -> Declared:
    """What a script file or notebook declares, read from its text; nothing of it is run.

    Args:
        script: A Python file or a notebook; for anything else nothing is declared, with a remark.
        constants: Take the module's constants, too.
    """
    return _read_file(script, constants=constants).declared


def declared_in(source: str, *, constants: bool = False) -> Declared:
    """What a Python source text declares; a text that is no Python 3 declares nothing, with a remark.

    Args:
        source: The text.
        constants: Take the module's constants, too.
    """
    return _read_source(source, constants=constants).declared


def resolve_parameters(command: Command, *, working_dir: Path, constants: bool = False) -> ResolvedParameters:
    """The parameters of one start of a script: defaults, then config files, then the command line.

    Args:
        command: What is started.
        working_dir: Where; config files are looked for from here.
        constants: Take the script's constants, too.
    """
    reading = _Reading()
    if command.script is not None and command.kind != "shell":
        reading = _read_file(command.script, constants=constants)
    line = _parsed(command, reading)
    values = {one.name: one.default for one in reading.declared.parameters if one.source == "constant"}
    origins = dict.fromkeys(values, "constant")
    for name, value in line.values.items():
        values[name] = value
        origins[name] = "command line" if name in line.given else "default"
    for name, value in word_arguments(line.rest).items():
        own = f"extra.{name}" if name in line.given else name
        values[own] = value
        origins[own] = "command line"
    named = [*command.args, *_texts(line)]
    config = read_config_files(config_files(named, working_dir))
    values.update(config.values)
    origins.update(config.origins)
    remarks = (*reading.declared.remarks, *line.remarks, *config.remarks)
    return ResolvedParameters(values, origins, config.files, reading.declared, remarks)


def _parsed(command: Command, reading: _Reading) -> ParsedLine:
    if command.kind == "notebook":
        given = notebook_values(reading.declared, command.args)
        defaults, remarks = notebook_defaults(command.script, reading.declared, given) if command.script else ({}, [])
        return ParsedLine({**defaults, **given}, given=set(given), remarks=remarks)
    if reading.parsers.parsers:
        return parse_parsers(reading.parsers.parsers, command.args)
    if reading.command is not None:
        return parse_commands(reading.command, command.args)
    return ParsedLine(rest=list(command.args))


def _texts(line: ParsedLine) -> list[str]:
    """Texts that the command line gave, also where an option and its value are one word (``-cfile.yaml``)."""
    found: list[str] = []
    for name in sorted(line.given):
        value = line.values.get(name)
        found += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return found


def _read_file(script: Path, *, constants: bool) -> _Reading:
    try:
        if script.suffix.lower() == ".ipynb":
            declared = notebook_parameters(script)
            if constants:
                declared = _with_constants(declared, parse_script(notebook_source(script)))
            return _Reading(declared)
        source = read_script(script)
    except InputError as error:
        return _Reading(Declared(remarks=(str(error),)))
    return _read_source(source, constants=constants)


def _read_source(source: str, *, constants: bool) -> _Reading:
    try:
        tree = parse_script(source)
        reading = _read_tree(tree, source)
        if constants:
            reading = _Reading(_with_constants(reading.declared, tree), reading.parsers, reading.command)
        return reading
    except InputError as error:
        return _Reading(Declared(remarks=(str(error),)))
    except RecursionError:
        return _Reading(Declared(remarks=("the script is nested too deeply for its parameters to be read",)))


def _read_tree(tree: ast.Module, source: str) -> _Reading:
    found = find_parsers(tree, source)
    if found.parsers:
        parameters: dict[str, DeclaredParameter] = {}
        for parser in found.parsers:
            for one in declared_by(parser):
                parameters.setdefault(one.name, one)
        return _Reading(Declared(tuple(parameters.values()), "argparse", found.remarks), found)
    remarks: dict[str, None] = dict.fromkeys(found.remarks)
    command = None
    if any(word in source for word in ("click", "typer", "fire")):
        command = find_commands(tree, module_values(tree), remarks.setdefault)
    if command is not None:
        return _Reading(Declared(tuple(declared_options(command)), command.style, tuple(remarks)[:50]), command=command)
    return _Reading(Declared(remarks=(*tuple(remarks)[:50], *_unsupported(tree))))


def _unsupported(tree: ast.Module) -> Sequence[str]:
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if (package := name.partition(".")[0]) in _OTHERS:
                return [f"line {node.lineno}: the arguments are read by {_OTHERS[package]}, whose defaults aren't read"]
    return []


def _with_constants(declared: Declared, tree: ast.Module) -> Declared:
    known = {one.name for one in declared.parameters}
    more = tuple(one for one in constants_in(tree) if one.name not in known)
    return Declared((*declared.parameters, *more), declared.style, declared.remarks)
