"""A command line, parsed as the script itself would parse it: by argparse and click, from what was read.

A parser is built anew from the arguments that the text declares. So abbreviations, glued short options,
``nargs`` and ``--`` mean what they mean to the script, and nothing of the script runs.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from guardianflow.adapters.wrap.parameters.argument_parsers import NOTHING, SUPPRESS, Argument, Parser, unique
from guardianflow.adapters.wrap.parameters.command_options import CommandOptions, Option
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN
from guardianflow.adapters.wrap.parameters.word_arguments import take_unknown, word_arguments
from guardianflow.text.printable import printable

__all__ = ["ParsedLine", "parse_commands", "parse_parsers"]


@dataclass
class ParsedLine:
    """What a command line gives.

    Attributes:
        values: Of all that is declared, defaults included; what is known only at run time is left out.
        given: Names that the command line itself sets.
        rest: Words that nothing declares.
        remarks: Why it could not be parsed as declared.
    """

    values: dict[str, Any] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    rest: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _LineError(Exception):
    """The command line doesn't fit what is declared."""


class _QuietParser(argparse.ArgumentParser):
    """Neither prints nor exits."""

    def error(self, message: str) -> NoReturn:
        raise _LineError(message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _LineError(message or f"exit {status}")


def parse_parsers(parsers: Sequence[Parser], words: Sequence[str]) -> ParsedLine:
    """Parse a command line by a script's argparse parsers, each taking what the one before it left."""
    line = ParsedLine(rest=list(words))
    for number, parser in enumerate(parsers):
        try:
            values, given, rest = _parse(parser, line.rest, lenient=False)
        except _LineError as error:
            if number == 0:
                line.remarks.append(f"the command line doesn't fit what the script declares: {printable(error)}")
            try:
                values, given, rest = _parse(parser, line.rest, lenient=True)
            except _LineError:
                values, given, rest = _parse(parser, [], lenient=True)
                rest = line.rest
        line.values = {**values, **line.values}
        line.given |= given
        line.rest = rest
    return line


def _parse(parser: Parser, words: list[str], *, lenient: bool) -> tuple[dict[str, Any], set[str], list[str]]:
    everything = list(parser.everything())
    taken: list[str] = []
    if not any(one.nargs == "..." for one in everything):  # those belong to another program
        known = {"--help", *(flag for one in everything for flag in one.flags)}
        known |= {f"--no-{flag[2:]}" for one in everything for flag in one.flags if one.action == "boolean"}
        abbreviations = parser.settings.get("allow_abbrev", True) is not False
        words, taken = take_unknown(words, known, abbreviations=abbreviations)
    try:
        full, rest = _built(parser, lenient=lenient, given_only=False).parse_known_args(words)
        given, _ = _built(parser, lenient=lenient, given_only=True).parse_known_args(words)
    except (argparse.ArgumentError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise _LineError(str(error)) from None
    unknown = {one.dest for one in everything if one.default is UNKNOWN}
    names = {name for name in vars(given) if name != SUPPRESS}
    values = {
        name: value
        for name, value in vars(full).items()
        if name != SUPPRESS and value is not UNKNOWN and (name in names or name not in unknown)
    }
    return values, names, [*taken, *rest]


def _built(parser: Parser, *, lenient: bool, given_only: bool) -> _QuietParser:
    settings = {name: value for name, value in parser.settings.items() if name in {"prefix_chars", "allow_abbrev"}}
    fallback = parser.settings.get("argument_default")
    if fallback is not None:
        settings["argument_default"] = fallback
    built = _QuietParser(prog="script", add_help=False, conflict_handler="resolve", **settings)
    _fill(built, parser, lenient=lenient, given_only=given_only)
    return built


def _fill(built: argparse.ArgumentParser, parser: Parser, *, lenient: bool, given_only: bool) -> None:
    if parser.settings.get("add_help") is not False:
        prefix = parser.settings.get("prefix_chars", "-")[:1] or "-"
        built.add_argument(prefix + "h", prefix * 2 + "help", dest=SUPPRESS, action="store_true", default=SUPPRESS)
    for argument in parser.arguments:
        if argument.action == "parsers":
            if lenient:
                continue
            _fill_commands(built, argument, given_only=given_only)
            continue
        words = _words(argument, lenient=lenient)
        try:
            action = (
                built.add_argument(*argument.flags, dest=argument.dest, **words)
                if argument.flags
                else built.add_argument(argument.dest, **words)
            )
        except (ValueError, TypeError, AttributeError, LookupError):
            continue  # the script itself would end here; the value is found among the words that are left
        if given_only:
            action.default = SUPPRESS
    if not given_only:
        own = {one.dest for one in parser.arguments}
        built.set_defaults(**{name: value for name, value in parser.defaults.items() if name not in own})


def _fill_commands(built: argparse.ArgumentParser, argument: Argument, *, given_only: bool) -> None:
    action = built.add_subparsers(dest=argument.dest, required=argument.required)
    if given_only:
        action.default = SUPPRESS
    for child in unique(argument.commands):
        names = [name for name, one in argument.commands.items() if one is child]
        settings = {name: value for name, value in child.settings.items() if name in {"prefix_chars", "allow_abbrev"}}
        inner = action.add_parser(
            names[0], aliases=names[1:], add_help=False, conflict_handler="resolve", prog="script", **settings
        )
        _fill(inner, child, lenient=False, given_only=given_only)


def _words(argument: Argument, *, lenient: bool) -> dict[str, Any]:
    """The keywords of ``add_argument``."""
    action = argument.action
    if action in {"help", "version"}:
        return {"action": "store_true", "default": SUPPRESS}
    words: dict[str, Any] = {}
    if argument.default is not NOTHING:
        gathers = argument.default is UNKNOWN and action in {"append", "extend", "append_const", "count"}
        words["default"] = None if gathers else argument.default
    if action == "own":
        action = "store_true" if argument.nargs == 0 else "store"
    if action in {"store", "append", "extend"}:
        words["type"] = _forgiving(argument.type) if lenient else _converter(argument.type)
        if argument.nargs is not None and argument.nargs != 0:
            words["nargs"] = argument.nargs
        if lenient and argument.positional and argument.nargs not in ("?", "*", "..."):
            words["nargs"] = "?" if argument.nargs is None else "*"
        if argument.choices and not lenient and _comparable(argument):
            words["choices"] = argument.choices
    if action in {"store_const", "append_const"} or (argument.nargs == "?" and argument.const is not None):
        words["const"] = argument.const
    if argument.flags:
        words["required"] = argument.required and not lenient
    words["action"] = argparse.BooleanOptionalAction if action == "boolean" else action
    return words


def _comparable(argument: Argument) -> bool:
    return argument.type in {"int", "float", "str", "bool"} or all(isinstance(one, str) for one in argument.choices)


def _converter(name: str) -> Callable[[str], Any]:
    known: dict[str, Callable[[str], Any]] = {
        "int": int, "float": float, "bool": bool, "truth": _truth, "literal": _literal
    }  # fmt: skip
    if name in known:
        return known[name]
    return _truth_or_text if "bool" in name.lower() else str


def _forgiving(name: str) -> Callable[[Any], Any]:
    """A converter that leaves what it can't convert as it is."""

    def converted(value: Any) -> Any:
        try:
            return _converter(name)(value)
        except (ValueError, TypeError, argparse.ArgumentTypeError):
            return value

    return converted


def _truth(text: str) -> bool:
    value = _truth_or_text(text)
    if isinstance(value, bool):
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _truth_or_text(text: str) -> bool | str:
    """As the many ``str2bool`` in people's scripts do."""
    plain = text.strip().lower()
    if plain in {"yes", "true", "t", "y", "1", "on"}:
        return True
    return False if plain in {"no", "false", "f", "n", "0", "off"} else text


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if len(text) <= 10_000 else text
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


# -- click and typer ----------------------------------------------------------------------------


def parse_commands(command: CommandOptions, words: Sequence[str]) -> ParsedLine:
    """Parse a command line by a click, typer or fire command: its options, then those of the subcommand it names."""
    if command.style == "fire":
        return _parse_fire(command, words)
    line = ParsedLine()
    rest = list(words)
    while True:
        known = {"--help", *(flag for one in _options_below(command) for flag in one.flags + one.off_flags)}
        rest, taken = take_unknown(rest, known, abbreviations=False)
        line.rest += taken
        rest = _parse_click(command, rest, line)
        if not (command.group or command.commands) or not rest or rest[0] not in command.commands:
            line.rest += rest
            return line
        line.values["command"] = f"{line.values['command']} {rest[0]}" if "command" in line.given else rest[0]
        line.given.add("command")
        command, rest = command.commands[rest[0]], rest[1:]


def _options_below(command: CommandOptions) -> list[Option]:
    return [*command.options, *(one for child in command.commands.values() for one in _options_below(child))]


def _parse_click(command: CommandOptions, words: list[str], line: ParsedLine) -> list[str]:
    import click

    settings = {
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": not (command.group or command.commands),
        "help_option_names": [],
    }
    for lenient in (False, True):
        parameters = [_click_parameter(one, lenient=lenient) for one in command.options]
        built = click.Command("script", params=parameters, context_settings=settings)
        try:
            context = built.make_context("script", list(words))
        except (click.ClickException, click.exceptions.Exit, click.Abort, ValueError, TypeError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            line.remarks.append(f"the command line doesn't fit what the script declares: {printable(text)}")
            continue
        _take(context, command, line)
        return list(context.args)
    for one in command.options:
        if one.default is not NOTHING and one.default is not UNKNOWN:
            line.values.setdefault(one.name, one.default)
    return list(words)


def _take(context: Any, command: CommandOptions, line: ParsedLine) -> None:
    from click.core import ParameterSource

    for one in command.options:
        value = context.params.get(one.name)
        value = list(value) if isinstance(value, tuple) else value
        if context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
            line.given.add(one.name)
            line.values[one.name] = value
        elif one.default is not UNKNOWN:
            line.values.setdefault(one.name, value)


def _click_parameter(option: Option, *, lenient: bool) -> Any:
    import click

    kinds: dict[str, Any] = {"int": click.INT, "float": click.FLOAT, "bool": click.BOOL}
    kind = _forgiving(option.type) if lenient else kinds.get(option.type, click.STRING)
    if option.choices and not lenient and all(isinstance(one, str) for one in option.choices):
        kind = click.Choice([str(one) for one in option.choices])
    words: dict[str, Any] = {"type": kind, "required": option.required and not lenient}
    if option.default is not NOTHING and option.default is not UNKNOWN:
        words["default"] = option.default
    if not option.flags and not option.off_flags:
        return click.Argument([option.name], nargs=option.nargs, **words)
    if option.count:
        words.pop("type")
        return click.Option([*option.flags, option.name], count=True, **words)
    if option.is_flag:
        words["is_flag"] = True
        if option.flag_value is not None:
            words["flag_value"] = option.flag_value
            return click.Option([*option.flags, option.name], **words)
        words["type"] = click.BOOL
    pairs = [
        "/".join(filter(None, (on, off)))
        for on, off in zip(option.flags, [*option.off_flags, *[""] * len(option.flags)], strict=False)
    ]
    return click.Option([*pairs, option.name], multiple=option.multiple, nargs=option.nargs, **words)


def _parse_fire(command: CommandOptions, words: Sequence[str]) -> ParsedLine:
    """``fire`` takes a function's parameters by name or by place."""
    line = ParsedLine(values={one.name: one.default for one in command.options if _is_known(one.default)})
    names = [one.name for one in command.options]
    found = word_arguments(words)
    open_names = [name for name in names if name not in found]
    for name, value in found.items():
        target = open_names.pop(0) if name.startswith("arg.") and open_names else name
        line.values[target] = value
        line.given.add(target)
    return line


def _is_known(value: Any) -> bool:
    return value is not UNKNOWN and value is not NOTHING
