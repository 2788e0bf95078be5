"""What the words of a command line give: to the options that a script's text declares, or read as they stand."""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from guardianflow.adapters.wrap.parameters.script_options import Declared, DeclaredParameter

__all__ = ["ParsedLine", "parse_words", "typed", "word_arguments"]

_PAIR = re.compile(r"\+{0,2}(?P<name>[^\W\d][\w./@:\-]*)=(?P<text>.*)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d{1,3})?")
_OPTION = re.compile(r"--?(?!\.?\d)[^-].*", re.DOTALL)  # -0.5 and - are values
_GLUED = re.compile(r"-(?P<name>[A-Za-z])(?P<text>\d[\d.eE+\-]*)")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "None": None, "null": None}
_LONGEST_LIST = 10_000


@dataclass(frozen=True)
class ParsedLine:
    """A command line, read: values with the defaults, names that were given, words that nothing declares, remarks."""

    values: dict[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    rest: Sequence[str] = ()
    remarks: Sequence[str] = ()


def typed(text: str) -> Any:
    """A word as a number, truth value or list, where it is clearly one; else as it stands (``007`` is text)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    for read in (json.loads, ast.literal_eval) if text[:1] in {"[", "{", "("} and len(text) <= _LONGEST_LIST else ():
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return list(value) if isinstance(value, (tuple, set)) else value
    return text


def word_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Names and values in a command line of something that declares nothing.

    ``--key value`` and ``--key=value`` become ``key``, an option without a value is True, ``+a.b=1`` (Hydra)
    becomes ``a.b``; what is none of these becomes ``arg.1``, ``arg.2``. An option given twice becomes a list.
    """
    given: dict[str, list[Any]] = {}
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            plain += rest
            break
        if _OPTION.fullmatch(word):
            glued = _GLUED.fullmatch(word)
            name, equals, text = (glued["name"], "=", glued["text"]) if glued else word.lstrip("-").partition("=")
            if not equals and rest and not _OPTION.fullmatch(rest[0]) and not _PAIR.fullmatch(rest[0]):
                equals, text = "=", rest.pop(0)
            given.setdefault(name.replace("-", "_"), []).append(typed(text) if equals else True)
        elif pair := _PAIR.fullmatch(word):
            given[pair["name"]] = [typed(pair["text"])]
        else:
            plain.append(word)
    values = {name: found[0] if len(found) == 1 else found for name, found in given.items()}
    return values | {f"arg.{number}": typed(word) for number, word in enumerate(plain, 1)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_words(declared: Declared, words: Sequence[str]) -> ParsedLine:
    """The values that a script will work with, as far as its text tells; argparse itself reads the words."""
    command = next((word for word in words if word in declared.commands), "")
    others = tuple(f"{one}." for one in declared.commands if one != command)
    active = [replace(one, name=one.name.removeprefix(f"{command}.")) for one in declared.parameters
              if not one.name.startswith(others)]  # fmt: skip
    values: dict[str, Any] = {}
    if command:
        values["command"] = command
        words = [*words[: words.index(command)], *words[words.index(command) + 1 :]]
    try:
        parsed, rest = _parser(active, declared.style, defaults=True).parse_known_args(words)
        given = values | vars(_parser(active, declared.style, defaults=False).parse_known_args(words)[0])
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        remark = f"the command line doesn't fit what the script declares ({error}); its words are taken as they are"
        values |= {one.name: _plain(one.default) for one in active if one.has_default}
        return ParsedLine(values, frozenset(), words, [remark])
    values |= {name: _plain(value) for name, value in vars(parsed).items()}
    if declared.style == "fire":  # what has a flag may be given by its place, too
        places = [one.name for one in active if one.name not in given]
        given |= dict(zip(places, map(typed, rest), strict=False))
        values, rest = values | given, rest[len(places) :]
    return ParsedLine(values, frozenset(given), rest)


def _parser(parameters: Sequence[DeclaredParameter], style: str, *, defaults: bool) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, conflict_handler="resolve", allow_abbrev=style == "argparse")
    for one in parameters:
        named: dict[str, Any] = {"action": one.action, "default": argparse.SUPPRESS}
        named |= {"default": one.default} if defaults and one.has_default else {}
        named |= {"dest": one.name} if one.flags else {}
        nargs = one.nargs if one.flags or one.nargs is not None else "?"
        if one.action in {"store", "append", "extend"}:
            named |= {"type": _CONVERTED.get(one.type, typed)}
            named |= {} if nargs is None else {"nargs": nargs}
        elif one.action not in {"store_const", "append_const", "store_false", "count"}:
            named["action"] = "store_true"
        if nargs == "?" or one.action in {"store_const", "append_const"}:
            named["const"] = one.const
        parser.add_argument(*(one.flags or (one.name,)), **named)
        if one.off_flags:
            parser.add_argument(*one.off_flags, dest=one.name, action="store_false", default=argparse.SUPPRESS)
    return parser


def _truth(text: str) -> Any:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_CONVERTED: dict[str, Any] = {"int": int, "float": float, "str": str, "path": str, "bool": _truth}
