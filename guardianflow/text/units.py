"""Figures with their unit, as people read them."""

from __future__ import annotations

__all__ = ["duration", "file_size"]


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
