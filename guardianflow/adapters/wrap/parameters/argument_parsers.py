"""What a script's ``argparse`` calls declare: parsers, their arguments and their subcommands."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from guardianflow.adapters.wrap.parameters.declared import DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, Reading, Unreadable, dotted, evaluate, shown

__all__ = ["NOTHING", "SUPPRESS", "Argument", "Parser", "argument_of", "declared_by", "parser_of"]

SUPPRESS = argparse.SUPPRESS  # argparse asks for this very object


class _Nothing:
    """Stands for a keyword that was not written."""


NOTHING = _Nothing()

_ACTIONS = {
    "store", "store_const", "store_true", "store_false", "append", "append_const", "count", "help", "version", "extend",
}  # fmt: skip
_PATH_TYPES = {"Path", "PosixPath", "PurePath", "abspath", "expanduser", "realpath"}
_LITERAL_TYPES = {"literal_eval", "eval", "loads", "safe_load"}
_SETTINGS = {"prefix_chars", "allow_abbrev", "conflict_handler", "argument_default", "add_help"}


@dataclass
class Argument:
    """One ``add_argument`` call. A value that only running the script would tell is ``UNKNOWN``."""

    flags: tuple[str, ...]
    dest: str
    action: str = "store"
    type: str = "str"
    nargs: Any = None
    const: Any = None
    default: Any = NOTHING
    choices: tuple[Any, ...] = ()
    required: bool = False
    help: str = ""
    line: int = 0
    commands: dict[str, Parser] = field(default_factory=dict)

    @property
    def positional(self) -> bool:
        """Whether it is given by its place."""
        return not self.flags


@dataclass(eq=False)
class Parser:
    """One ``ArgumentParser``: groups are left out, for they change nothing but the help text."""

    line: int = 0
    arguments: list[Argument] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    parsed: bool = False  # its parse_args() is called
    inner: bool = False  # a subcommand's, or another parser's parent
    loose: bool = False  # made somewhere that can't be seen

    def everything(self) -> Iterator[Argument]:
        """Its arguments and those of its subcommands."""
        for argument in self.arguments:
            yield argument
            for child in unique(argument.commands):
                yield from child.everything()

    def set_default(self, name: str, value: Any) -> None:
        """As ``set_defaults`` does: for arguments that are there, and for those to come."""
        self.defaults[name] = value
        for argument in self.arguments:
            if argument.dest == name:
                argument.default = value


def unique(commands: Mapping[str, Parser]) -> list[Parser]:
    """The parsers of subcommands, once each: an alias leads to the same one."""
    return list({id(child): child for child in commands.values()}.values())


def parser_of(call: ast.Call, parents: list[Parser], reading: Reading) -> Parser:
    """The parser that a call of ``ArgumentParser(…)`` makes."""
    parser = Parser(line=call.lineno)
    for word in call.keywords:
        if word.arg in _SETTINGS:
            try:
                parser.settings[word.arg] = evaluate(word.value, reading.names)
            except Unreadable as why:
                reading.remark(f"line {call.lineno}: {word.arg} of the parser is computed: {why}")
    for parent in parents:
        parent.inner = True
        parser.arguments.extend(replace(argument) for argument in parent.arguments)
        parser.defaults.update(parent.defaults)
    return parser


def argument_of(call: ast.Call, parser: Parser, reading: Reading) -> Argument | None:
    """The argument that a call of ``add_argument(…)`` adds; None where even its name is computed."""
    where = f"line {call.lineno}"
    try:
        words = [evaluate(word, reading.names) for word in call.args if not isinstance(word, ast.Starred)]
        for word in call.args:
            if isinstance(word, ast.Starred):
                words.extend(evaluate(word.value, reading.names))
    except Unreadable as why:
        reading.remark(f"{where}: the name of an argument is computed: {why}")
        return None
    keywords = _keywords(call, reading)
    if not all(isinstance(word, str) and word for word in words):
        return None
    prefixes = parser.settings.get("prefix_chars", "-")
    flags = tuple(word for word in words if word[0] in prefixes)
    named = _literal(keywords.get("dest"), reading)
    if len(words) == 1 and not flags:
        dest = words[0]
    elif isinstance(named, str):
        dest = named
    elif flags:
        dest = _dest(flags, prefixes)
    else:
        reading.remark(f"{where}: an argument without a name was left out")
        return None
    argument = Argument(flags, dest, line=call.lineno)
    _fill(argument, keywords, reading)
    if argument.default is NOTHING and argument.dest in parser.defaults:
        argument.default = parser.defaults[argument.dest]
    return argument


def _keywords(call: ast.Call, reading: Reading) -> dict[str, Any]:
    """Keyword → expression, or → value where it came in by ``**known_dict``."""
    found: dict[str, Any] = {}
    for word in call.keywords:
        if word.arg is not None:
            found[word.arg] = word.value
            continue
        try:
            found.update({str(key): value for key, value in dict(evaluate(word.value, reading.names)).items()})
        except (Unreadable, TypeError, ValueError):
            reading.remark(f"line {call.lineno}: keywords of an argument are computed: **{shown(word.value)}")
    return found


def _literal(item: Any, reading: Reading) -> Any:
    return reading.value(item) if isinstance(item, ast.expr) else item


def _dest(flags: tuple[str, ...], prefixes: str) -> str:
    long = [flag for flag in flags if len(flag) > 1 and flag[1] in prefixes]
    return (long or list(flags))[0].lstrip(prefixes).replace("-", "_")


def _fill(argument: Argument, keywords: dict[str, Any], reading: Reading) -> None:
    where = f"line {argument.line}: {argument.flags[0] if argument.flags else argument.dest}"
    _fill_action(argument, keywords, reading, where)
    argument.type = _type_name(keywords.get("type"))
    for name in ("nargs", "const", "default"):
        if name not in keywords:
            continue
        value = _literal(keywords[name], reading)
        if value is UNKNOWN:
            reading.remark(f"{where}: its {name} is computed: {shown(keywords[name])}")
            if name == "nargs":
                value = "*"
        setattr(argument, name, value)
    if "choices" in keywords:
        choices = _literal(keywords["choices"], reading)
        if isinstance(choices, (list, tuple, dict, str)):
            argument.choices = tuple(choices)
        elif choices is not None:
            reading.remark(f"{where}: its choices are computed: {shown(keywords['choices'])}")
    argument.required = _literal(keywords.get("required"), reading) is True
    text = _literal(keywords.get("help"), reading)
    argument.help = text if isinstance(text, str) and text != SUPPRESS else ""


def _fill_action(argument: Argument, keywords: dict[str, Any], reading: Reading, where: str) -> None:
    item = keywords.get("action")
    if item is None:
        return
    if isinstance(item, ast.expr) and dotted(item).rpartition(".")[2] == "BooleanOptionalAction":
        argument.action = "boolean"
        return
    action = _literal(item, reading)
    if isinstance(action, str) and action in _ACTIONS:
        argument.action = action
        return
    own = shown(item) if isinstance(item, ast.AST) else ""
    reading.remark(f"{where}: what it stores is decided by the script's own action {own}")
    argument.action = "own"


def _type_name(item: Any) -> str:
    if item is None or (isinstance(item, ast.Constant) and item.value is None):
        return "str"
    if not isinstance(item, ast.expr):
        return "own"
    if isinstance(item, ast.Call):
        return "path" if dotted(item.func).rpartition(".")[2] == "FileType" else "own"
    name = dotted(item).rpartition(".")[2]
    if name in {"int", "float", "str", "bool"}:
        return name
    if name in _PATH_TYPES:
        return "path"
    if name in _LITERAL_TYPES:
        return "literal"
    return name or "own"


def declared_by(parser: Parser, *, prefix: str = "", source: str = "argparse") -> Iterator[DeclaredParameter]:
    """A parser's parameters, those of subcommands after their parent's."""
    for argument in parser.arguments:
        if argument.action not in {"help", "version"} and argument.dest != SUPPRESS:
            yield _declared(argument, prefix, parser.settings.get("argument_default", None), source)
    for argument in parser.arguments:
        for child in unique(argument.commands):
            name = next(name for name, one in argument.commands.items() if one is child)
            yield from declared_by(child, prefix=f"{prefix}{name}.", source=source)


def _declared(argument: Argument, prefix: str, fallback: Any, source: str) -> DeclaredParameter:
    default = default_of(argument, fallback)
    known = default is not UNKNOWN and default != SUPPRESS
    flag = argument.action in {"store_true", "store_false", "store_const", "append_const", "count", "boolean"}
    boolean = argument.action in {"store_true", "store_false", "boolean"}
    optional = argument.nargs in ("?", "*", "...") or argument.default not in (NOTHING, None)
    return DeclaredParameter(
        name=prefix + argument.dest,
        type="bool" if boolean else "int" if argument.action == "count" else argument.type,
        default=default if known else None,
        has_default=known and (default is not None or argument.default is None),
        required=argument.required or (argument.positional and not optional),
        flags=argument.flags + _negations(argument),
        choices=tuple(argument.commands) or argument.choices,
        help=argument.help,
        multiple=argument.action in {"append", "extend", "append_const"} or _takes_several(argument.nargs),
        is_flag=flag,
        positional=argument.positional,
        source=source,
        line=argument.line,
    )


def default_of(argument: Argument, fallback: Any = None) -> Any:
    """The default as ``argparse`` will hand it out, a text converted by the argument's type."""
    default = argument.default
    if default is NOTHING:
        default = {"store_true": False, "store_false": True}.get(argument.action, fallback)
    if isinstance(default, str) and default != SUPPRESS and argument.type in {"int", "float", "bool"}:
        try:
            return {"int": int, "float": float, "bool": bool}[argument.type](default)
        except ValueError:
            return default
    return default


def _negations(argument: Argument) -> tuple[str, ...]:
    if argument.action != "boolean":
        return ()
    return tuple(f"--no-{flag[2:]}" for flag in argument.flags if flag.startswith("--"))


def _takes_several(nargs: Any) -> bool:
    return nargs in ("*", "+", "...") or (isinstance(nargs, int) and nargs > 0)
