"""Text from outside, made fit to be shown, drawn or logged.

A terminal obeys control sequences, a page turns lines around, a log takes one line for two. So each place where text
leaves us (:mod:`guardianflow.console`, the log, the text of an error, a page, a plot) hands it through here, whoever
wrote it.
"""

from __future__ import annotations

import html
import json
import math
import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["escape", "has_unprintable", "in_json", "plain_values", "printable", "storable", "visible"]

_LONGEST = 160


def has_unprintable(text: str) -> bool:
    """Whether a text holds control, direction-changing or undecodable characters (Unicode class C) or line ends."""
    return not text.isprintable() and any(_is_unprintable(character) for character in text)


def printable(value: object, *, longest: int = _LONGEST) -> str:
    r"""A value as text in which nothing is invisible: such characters become ``\x07`` or ``\u202e``.

    Args:
        value: Text, a path, or anything with a ``str``.
        longest: Characters kept; the middle of a longer text is left out, for its ends say most.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}…{text[-half:]}"
    return _replaced(text, _escaped)


def visible(text: object, *, kept: str = "\n\t") -> str:
    r"""A text of any length and many lines in which nothing else is invisible; see :func:`printable`.

    Args:
        text: Anything with a ``str``.
        kept: Of what is invisible, what stays; Windows' line ends become ours.
    """
    return _replaced(str(text).replace("\r\n", "\n"), _escaped, kept)


def escape(text: object, *, quote: bool = True) -> str:
    """A text as HTML: markup is text, and nothing is invisible."""
    return html.escape(visible(text), quote=quote)


def in_json(document: str) -> str:
    r"""A JSON document in which what is invisible stands as JSON's own ``\u202e``: it reads as exactly the same."""
    return _replaced(document, lambda character: json.dumps(character)[1:-1], "\n")


def storable(text: object) -> str:
    """Text that every database takes: names of files may be no Unicode, and hold NUL in a store's own words."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")


def plain_values(value: Any) -> Any:
    """A value as JSON and every database hold it: paths with ``/``, tuples as lists, everything else as text."""
    if isinstance(value, Mapping):
        return {storable(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_values(item) for item in value]
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return storable(value.as_posix() if isinstance(value, PurePath) else value)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _replaced(text: str, escaped: Callable[[str], str], kept: str = "") -> str:
    rest = text
    for character in kept:
        rest = rest.replace(character, "")
    if not has_unprintable(rest):
        return text
    return "".join(
        escaped(character) if character not in kept and _is_unprintable(character) else character for character in text
    )


def _is_unprintable(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}
