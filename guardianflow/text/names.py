"""Names that users give to models and experiments: one rule for both."""

from __future__ import annotations

import unicodedata
from collections.abc import Container

from guardianflow.exceptions import InvalidNameError

__all__ = ["MAX_NAME", "free_name", "validate_name"]

MAX_NAME = 200

# What would end a name inside `models:/NAME@alias`, a URL or a path.
_RESERVED = "/\\:@?#%"
_LINE_ENDS = ("Zl", "Zp")


def validate_name(name: str, what: str = "name") -> str:
    r"""Check a name that a user chose, and return it in Unicode normal form C.

    The same letters typed on macOS (decomposed) and on Linux (composed) give one name. Characters
    that can't be seen, or that turn the reading direction, are refused: two names that look the
    same must be the same.

    Args:
        name: The name as it was given.
        what: What it names, as the message shall say it, for example ``"model name"``.

    Raises:
        InvalidNameError: It is not text, empty, longer than 200 characters, padded with blanks,
            ``.`` or ``..``, or holds one of ``/ \ : @ ? # %``, a line end or a character of the Unicode
            categories C* (control, format, surrogate, private, unassigned).
    """
    if not isinstance(name, str):
        raise InvalidNameError(f"{what} must be text, not {type(name).__name__}")
    text = unicodedata.normalize("NFC", name)
    problem = _problem(text)
    if problem:
        shown = repr(text if len(text) <= 60 else text[:57] + "...")
        raise InvalidNameError(f"{what} {shown} {problem}. Choose another {what}, for example 'gate-camera'.")
    return text


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or where it is taken the first of ``name_2``, ``name_3`` … that isn't."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name[:240]}_{number}", number + 1
    return free


def _problem(text: str) -> str | None:
    if not text.strip():
        return "is empty"
    if len(text) > MAX_NAME:
        return f"has {len(text)} characters, and {MAX_NAME} are the most"
    for character in text:
        category = unicodedata.category(character)
        if category.startswith("C") or category in _LINE_ENDS:
            return f"holds the invisible character U+{ord(character):04X} ({unicodedata.name(character, 'control')})"
        if character in _RESERVED:
            return f"holds {character!r}, which is not allowed (nor are any of {' '.join(_RESERVED)})"
    if text != text.strip():
        return "begins or ends with a blank"
    if text in (".", ".."):
        return "means a folder"
    return None
