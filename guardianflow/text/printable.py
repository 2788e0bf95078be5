"""File names and values from outside, made fit for an error message or a report."""

from __future__ import annotations

import os
import unicodedata

__all__ = ["has_unprintable", "printable"]

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


def _is_unprintable(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in {"Zl", "Zp"}
