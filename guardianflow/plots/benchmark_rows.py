"""Rows of a benchmark, chosen by mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Row", "measured"]

Row = Mapping[str, Any]


def measured(rows: Sequence[Row], mode: str) -> list[Row]:
    """Rows of a mode that were measured; in single_stream those of one image at a time."""
    return [
        row
        for row in rows
        if row.get("status") == "ok"
        and row.get("mode") == mode
        and row.get("metrics")
        and (mode != "single_stream" or row.get("query_images", 1) == 1)
    ]
