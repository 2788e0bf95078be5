"""What a command line gives to the options that a script's text declares, read by argparse itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.word_arguments import take_unknown, typed

__all__ = ["ParsedLine", "parse_words"]


@dataclass(frozen=True)
class ParsedLine:
    """A command line, read.

    Attributes:
        values: Name → value, defaults included.
        given: Names that the command line gave.
        rest: Words that nothing declares.
        remarks: What didn't fit.
    """

    values: dict[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    rest: Sequence[str] = ()
    remarks: Sequence[str] = ()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_words(declared: Declared, words: Sequence[str]) -> ParsedLine:
    """The values that a script will work with, as far as its text tells.

    Args:
        declared: What it declares.
        words: Its command line.
    """
    commands = dict(declared.commands)
    place = next((place for place, word in enumerate(words) if word in commands), None)
    chosen = "" if place is None else commands[words[place]]
    prefixes = tuple(f"{name}." for name in commands.values())
    active = [one for one in declared.parameters if not one.name.startswith(prefixes)] if prefixes else [
        *declared.parameters
    ]  # fmt: skip
    mode = next((one for one in active if one.choices and set(one.choices) == set(commands.values())), None)
    active = [one for one in active if one is not mode]
    values: dict[str, Any] = {}
    if place is not None:
        active += [one for one in declared.parameters if one.name.startswith(f"{chosen}.")]
        values[mode.name if mode else "command"] = words[place]
        words = [*words[:place], *words[place + 1 :]]
    names = {one.name: one.name.removeprefix(f"{chosen}.") for one in active}
    flags = {flag for one in active for flag in (*one.flags, *one.off_flags)}
    words, rest = take_unknown(words, flags, abbreviations=declared.style == "argparse")
    try:
        parsed, left = _parser(active, names, declared.style, defaults=True).parse_known_args(words)
        given = vars(_parser(active, names, declared.style, defaults=False).parse_known_args(words)[0])
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        remark = f"the command line doesn't fit what the script declares ({error}); its words are taken as they are"
        values |= {names[one.name]: _plain(one.default) for one in active if one.has_default}
        return ParsedLine(values, frozenset(), [*words, *rest], [remark])
    values |= {name: _plain(value) for name, value in vars(parsed).items()}
    if declared.style == "fire":  # what has a flag may be given by its place, too
        places = [name for name in names.values() if name not in given]
        given |= dict(zip(places, map(typed, left), strict=False))
        values, left = values | given, left[len(places) :]
    return ParsedLine(values, frozenset(given), [*left, *rest])


def _parser(
    parameters: Sequence[DeclaredParameter], names: dict[str, str], style: str, *, defaults: bool
) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, conflict_handler="resolve", allow_abbrev=style == "argparse")
    for one in parameters:
        dest = names[one.name]
        named: dict[str, Any] = {"default": one.default if defaults and one.has_default else argparse.SUPPRESS}
        if one.action in {"store_const", "append_const"}:
            named |= {"action": one.action, "const": one.const}
        elif one.action not in {"store", "append", "extend"}:
            named["action"] = one.action if one.action in {"store_false", "count"} else "store_true"
        else:
            nargs = one.nargs if one.flags or one.nargs is not None else "?"
            named |= {"action": one.action, "type": _convert(one.type)}
            named |= {} if nargs is None else {"nargs": nargs}
            named |= {"const": one.const} if nargs == "?" else {}
        named |= {"dest": dest} if one.flags else {}
        parser.add_argument(*(one.flags or (dest,)), **named)
        if one.off_flags:
            parser.add_argument(*one.off_flags, dest=dest, action="store_false", default=argparse.SUPPRESS)
    return parser


def _convert(kind: str) -> Any:
    known: dict[str, Any] = {"int": int, "float": float, "str": str, "path": str, "bool": _truth}
    return known.get(kind, typed)


def _truth(text: str) -> Any:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
