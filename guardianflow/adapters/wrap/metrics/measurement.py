"""What is read out of a training's output and files: single figures."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Measurement", "Point", "ToldFigures", "decimal_comma", "figure_of"]

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")  # 1,234: a thousand, or somewhat more than one


class Measurement(NamedTuple):
    """One figure that a training gave."""

    name: str  # as MLflow accepts it
    value: float  # nan and infinite ones stay what they are
    step: int | None = None  # step or epoch; none where nothing told one
    asked: bool = False  # a pattern of the user's found it: its name always has room


class Point(NamedTuple):
    """One point of a curve; ``time_ms`` says when it was written, since 1970, where that is known."""

    name: str
    value: float
    step: int
    time_ms: int | None = None


class ToldFigures(NamedTuple):
    """What a line tells, by name: its figures, and the text of its epoch and its step, empty where it names none."""

    figures: list[tuple[str, float]]
    epoch: str = ""
    step: str = ""


def figure_of(text: str) -> float | None:
    """The number that a text is; ``None`` where it is none, or one that Python alone would write (``1_000``)."""
    if not text or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def decimal_comma(text: str, delimiter: str = ",") -> float | None:
    """The number in a German or French text: ``0,5``; ``1,234`` only where a semicolon parts the cells."""
    if "," not in text or "." in text or (delimiter != ";" and _THOUSANDS.fullmatch(text)):
        return None
    return figure_of(text.replace(",", "."))
