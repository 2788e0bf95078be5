"""File names and values from outside, made fit for an error message or a report."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["has_unprintable", "plain_values", "printable", "storable"]

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
    if not has_unprintable(text):
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii") if _is_unprintable(character) else character
        for character in text
    )


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


def _is_unprintable(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}
