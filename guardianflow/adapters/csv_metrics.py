"""Tables of metrics that training scripts write: Ultralytics' results.csv, Lightning's metrics.csv, anybody's CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CsvHistory", "read_csv_metrics"]


@dataclass(frozen=True)
class CsvHistory:
    """What one table of metrics says.

    Attributes:
        kind: ``"ultralytics"``, ``"lightning"`` or ``"csv"``.
        metrics: Legal metric name → its points in the file's order: step, value, time in ms since 1970 (or ``None``).
        rows: Rows of figures read.
        remarks: What was left out, and why.
    """

    kind: str
    metrics: Mapping[str, list[tuple[int, float, int | None]]]
    rows: int
    remarks: tuple[str, ...] = ()


def read_csv_metrics(path: str | Path) -> CsvHistory:
    """The metrics in a finished CSV file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    raise NotImplementedError(path)
