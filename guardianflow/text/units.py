"""Figures as people read them, with their sign or unit."""

from __future__ import annotations

__all__ = ["duration", "figure_text", "file_size", "interval_text"]


def figure_text(value: float | None, *, places: int = 3, sign: bool = False) -> str:
    """A figure as a person reads it; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''}.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval_text(low: float | None, high: float | None) -> str:
    """An interval of a change; a dash where there is none."""
    if low is None or high is None:
        return "–"
    return f"{figure_text(low, sign=True)} to {figure_text(high, sign=True)}"


def file_size(count: float) -> str:
    """Bytes → ``"5.4 MB"``, ``"2.2 kB"``, ``"17 bytes"``; a kB has 1000 bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds → ``"5.4 s"``, ``"2 min 5 s"``, ``"1 h 10 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
