"""What the header of a table of metrics says, and what its cells hold."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.text.names import free_name

__all__ = [
    "STEP_NAMES",
    "TableColumns",
    "cells_of",
    "decimal_comma",
    "delimiter_of",
    "figure_of",
    "is_header",
    "read_header",
    "record_of",
    "time_ms",
]  # fmt: skip

STEP_NAMES = ("global_step", "step", "training_iteration", "iteration", "iter", "epoch")
CLOCK_NAMES = ("time", "timestamp", "wall_time", "datetime", "date", "created_at")
_MAX_COLUMNS = 500
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")  # 1,234: a thousand, or somewhat more than one


@dataclass(frozen=True)
class TableColumns:
    """What a header says: which column is what."""

    kind: str
    header: tuple[str, ...]
    metrics: Mapping[int, str]  # column → legal name
    step: int | None
    epoch: int | None  # beside a column of steps that starts over with it
    order: int | None  # by which rows of a second training are known
    clock: int | None
    remarks: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """Cells that a row must have: up to the last column with a name."""
        return max((column + 1 for column, name in enumerate(self.header) if name), default=0)


def read_header(file_name: str, cells: Sequence[str]) -> TableColumns:
    """What the columns of these names are."""
    lowered = [
        cell.lower().rpartition("/")[2] if cell.lower().startswith("trainer/") else cell.lower() for cell in cells
    ]
    kind = _kind(file_name, lowered)
    order = ("epoch",) if kind == "ultralytics" else STEP_NAMES
    step = next((lowered.index(name) for name in order if name in lowered), None)
    starts_over = step is not None and lowered[step] in {"step", "iteration", "iter"}
    epoch = lowered.index("epoch") if "epoch" in lowered and kind == "csv" and starts_over else None
    metrics: dict[int, str] = {}
    for column, cell in enumerate(cells):
        counts = lowered[column] in STEP_NAMES and not (kind == "lightning" and lowered[column] == "epoch")
        if cell and not counts and lowered[column] not in CLOCK_NAMES and len(metrics) < _MAX_COLUMNS:
            metrics[column] = free_name(kept_name(cell), set(metrics.values()))
    remarks = () if len(cells) <= _MAX_COLUMNS else (f"it has {len(cells):,} columns; {_MAX_COLUMNS} are read",)
    counted = lowered.index("epoch") if "epoch" in lowered else step
    clock = next((lowered.index(name) for name in CLOCK_NAMES if name in lowered), None)
    return TableColumns(kind, tuple(cells), metrics, step, epoch, counted, clock, remarks)


def _kind(file_name: str, lowered: Sequence[str]) -> str:
    if "epoch" in lowered and "step" not in lowered:
        marks = ("lr/pg", "x/lr", "metrics/", "train/box_loss", "train/obj_loss", "train/loss")
        if any(cell.startswith(marks) for cell in lowered):
            return "ultralytics"
    if "step" in lowered and file_name.lower() == "metrics.csv":
        return "lightning"
    return "csv"


def is_header(cells: Sequence[str]) -> bool:
    """Whether a row is a header again."""
    named = [cell for cell in cells if cell]
    has_step = any(cell.lower() in STEP_NAMES for cell in named)
    return has_step and len(named) > 1 and all(figure_of(cell) is None for cell in named)


def delimiter_of(line: str) -> str:
    """The sign that cuts a header into most cells."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(",", "\t", ";", key=bare.count) if any(sign in bare for sign in ",\t;") else ","


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a line that is a record of its own."""
    record, used = record_of([line], delimiter) if '"' in line else ([], 0)
    return record if used else line.split(delimiter)


def record_of(lines: Sequence[str], delimiter: str) -> tuple[list[str], int]:
    """The first record of some lines and how many of them it takes; 0 where its quote isn't closed."""
    reader = csv.reader([*(line + "\n" for line in lines), ""], delimiter=delimiter, skipinitialspace=True)
    try:
        record = next(reader)
    except csv.Error:  # a cell over the module's limit, or a stray carriage return
        return lines[0].split(delimiter), 1
    used = reader.line_num
    return record, used if used <= len(lines) else 0


def figure_of(cell: str) -> float | None:
    """The number in a cell; ``None`` where it holds none, or one that Python alone would write (``1_000``)."""
    if not cell or "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def decimal_comma(cell: str, delimiter: str) -> float | None:
    """The number in a cell of a German or French table: ``0,5``; ``1,234`` only where a semicolon parts the cells."""
    if "," not in cell or "." in cell or (delimiter != ";" and _THOUSANDS.fullmatch(cell)):
        return None
    return figure_of(cell.replace(",", "."))


def time_ms(cells: Sequence[str], clock: int | None) -> int | None:
    """When a row was written, where its clock counts seconds or milliseconds since 1970."""
    value = figure_of(cells[clock]) if clock is not None and clock < len(cells) else None
    if value is None or not math.isfinite(value):
        return None
    if 1e9 <= value < 1e10:
        return int(value * 1000)
    return int(value) if 1e12 <= value < 1e13 else None
