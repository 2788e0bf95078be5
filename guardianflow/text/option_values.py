"""What people type after an option, turned into values; what can't be is said in one sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError

__all__ = ["absolute_if_file", "key_values", "moment_of", "percent", "plain_value"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def absolute_if_file(spec: str) -> str:
    """A model argument that is a file or folder here, as an absolute path; anything else as it is."""
    path = Path(spec).expanduser()
    return str(path.absolute()) if path.exists() else spec


def percent(text: str) -> float:
    """``"5%"`` or ``"5"`` → 5.0."""
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise InputError(f"--allow-bad takes a percentage such as 5%, not {text!r}") from error


def key_values(pairs: list[str]) -> dict[str, Any]:
    """``["mosaic=0.0", "cos_lr=true", "freeze=0,1"]`` → ``{"mosaic": 0.0, "cos_lr": True, "freeze": [0, 1]}``."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip() or not text.strip():
            raise InputError(f"--set takes KEY=VALUE, such as mosaic=0.0, not {pair!r}")
        name, value = key.strip(), plain_value(text.strip())
        if values.setdefault(name, value) != value:
            raise InputError(f"--set gives {name} twice, as {values[name]!r} and as {value!r}; leave one of them out")
    return values


def plain_value(text: str) -> Any:
    """``true``, ``none``, numbers and lists as such; everything else, and what stands in quotes, is text.

    A list is ``0,1,2``, ``[0,1,2]`` or ``(0,1,2)``; a number may be ``.01``, ``5.`` or ``1e-3``.
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text[:1] + text[-1:] in {"[]", "()"}:
        inner = text[1:-1].strip().removesuffix(",")
        return [plain_value(part.strip()) for part in inner.split(",")] if inner else []
    if _NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    if "," in text.lstrip(","):
        return [plain_value(part.strip()) for part in text.removesuffix(",").split(",")]
    return text


def moment_of(text: str) -> datetime:
    """A time in ISO 8601; without a zone it is meant in the local one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no time; write it as 2026-01-31T14:30 or 2026-01-31T14:30+09:00") from error
    return moment.astimezone() if moment.tzinfo is None else moment.astimezone(UTC)
