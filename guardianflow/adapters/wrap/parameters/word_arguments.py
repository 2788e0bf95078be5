"""The words of a command line that nothing declares: ``--key value``, ``key=value``, and plain words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Sequence
from typing import Any

__all__ = ["read_literal", "take_unknown", "typed", "word_arguments"]

_PAIR = re.compile(r"(?P<add>\+{0,2})(?P<name>[^\W\d][\w./@:\-]*)=(?P<text>.*)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d{1,3})?")
_NUMBER = re.compile(r"-(\d|\.\d)")
_GLUED = re.compile(r"-(?P<name>[A-Za-z])(?P<text>\d[\d.eE+\-]*)")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "None": None, "null": None}
_LONGEST_LIST = 10_000


def typed(text: str) -> Any:
    """A word as a number, truth value or list, where it is clearly one; else as it stands (``007`` is text)."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not (text.lstrip("+-").isdigit()):
        return float(text)
    if text[:1] in {"[", "{", "("} and len(text) <= _LONGEST_LIST:
        value = read_literal(text)
        return list(value) if isinstance(value, (tuple, set)) else value
    return text


def read_literal(text: str) -> Any:
    """The value that a text is, as JSON or else as Python writes it; the text itself where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def is_option(word: str) -> bool:
    """Whether a word is an option, not a value: ``-0.5`` and ``-`` are values."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def word_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Names and values in a command line of something that declares nothing.

    ``--key value`` and ``--key=value`` become ``key``, an option without a value is True, ``+a.b=1`` (Hydra)
    becomes ``a.b``; what is none of these becomes ``arg.1``, ``arg.2``. An option given twice becomes a list.
    """
    values: dict[str, Any] = {}
    plain: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            plain += words[place:]
            break
        if is_option(word) and word.strip("-"):
            name, text = _split(word)
            if (
                text is None
                and place < len(words)
                and not is_option(words[place])
                and not _PAIR.fullmatch(words[place])
            ):
                text = words[place]
                place += 1
            _put(values, name, True if text is None else typed(text))
        elif pair := _PAIR.fullmatch(word):
            values[pair["name"]] = typed(pair["text"])
        else:
            plain.append(word)
    for number, word in enumerate(plain, 1):
        values[f"arg.{number}"] = typed(word)
    return values


def _split(word: str) -> tuple[str, str | None]:
    if glued := _GLUED.fullmatch(word):
        return glued["name"], glued["text"]
    name, equals, text = word.lstrip("-").partition("=")
    return name.replace("-", "_"), text if equals else None


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    if name not in values:
        values[name] = value
    elif isinstance(values[name], list):
        values[name] = [*values[name], value]
    else:
        values[name] = [values[name], value]


def take_unknown(words: Sequence[str], known: Collection[str], *, abbreviations: bool) -> tuple[list[str], list[str]]:
    """Take the long options that nobody declared out of a command line, each with its value.

    Returns:
        The words that are left, and those taken out: left in, an unknown option's value would count as a positional.
    """
    left: list[str] = []
    taken: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word == "--":
            left += words[place - 1 :]
            break
        name = word.partition("=")[0]
        fits = name in known or (abbreviations and any(flag.startswith(name) for flag in known))
        if not name.startswith("--") or fits:
            left.append(word)
            continue
        taken.append(word)
        if "=" not in word and place < len(words) and not is_option(words[place]):
            taken.append(words[place])
            place += 1
    return left, taken
