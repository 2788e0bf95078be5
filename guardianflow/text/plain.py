"""Rows as plain JSON types: what ``--json``, result files and pages are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

__all__ = ["Row", "plain"]


class Row:
    """A dataclass that is handed on as JSON too."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    """A value as JSON holds it: paths, times as text; rows, mappings as dictionaries; sequences, arrays as lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Row):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return Row.to_dict(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # an array, without a need of numpy here
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
