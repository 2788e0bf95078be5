"""Tables of metrics that training scripts write: Ultralytics' results.csv, Lightning's metrics.csv, anybody's CSV.

Which columns count: every named column with numbers in it, except those that count steps or tell the time. Text is
passed over cell by cell. What the steps are:

* Ultralytics: the column ``epoch`` as it stands (older versions count from 0, newer ones from 1).
* Lightning: the column ``step``. Its rows are sparse; an empty cell is no point. ``epoch`` stays a metric, as
  Lightning's own loggers have it.
* Any other: the first of ``global_step``, ``step``, ``iteration``, ``iter``, ``epoch`` that is there, else the row's
  number from 0. A step that starts over with each epoch goes on counting.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from guardianflow.adapters.metrics.growing_file import open_regular
from guardianflow.adapters.metrics.line_names import kept_name
from guardianflow.exceptions import InputError

__all__ = ["CsvHistory", "TableReader", "TableRow", "free_name", "read_csv_metrics"]

STEP_NAMES = ("global_step", "step", "training_iteration", "iteration", "iter", "epoch")
CLOCK_NAMES = ("time", "timestamp", "wall_time", "datetime", "date", "created_at")
METRIC_FILES = frozenset({"metrics", "results", "log", "history", "progress", "training_log"})
"""Stems of CSVs that are taken without a column of steps."""

_MAX_LINE = 64 * 1024  # bytes; a longer line is no row of figures
_MAX_COLUMNS = 500
_MAX_RECORD_LINES = 20  # a quote that isn't closed after so many lines is a sign like any other
_MAX_ROWS = 2_000_000
_CHUNK = 1 << 20
_LARGEST_STEP = 2**63 - 1


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


class TableRow(NamedTuple):
    """One row: its step, its figures by legal metric name, and when it was written (ms since 1970) if it says so."""

    step: int
    values: dict[str, float]
    time_ms: int | None


def read_csv_metrics(path: str | Path) -> CsvHistory:
    """The metrics in a finished CSV file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    file = Path(path)
    reader = TableReader(file.name, named=True)
    metrics: dict[str, list[tuple[int, float, int | None]]] = {}
    try:
        with os.fdopen(open_regular(file.resolve()), "rb") as stream:
            for row in _rows_of(stream, reader):
                for name, value in row.values.items():
                    metrics.setdefault(name, []).append((row.step, value, row.time_ms))
    except OSError as error:
        what = f"a table of metrics must be a file that can be read: {file} ({error}); check the path"
        raise InputError(what) from error
    remarks = list(reader.remarks)
    if reader.refused:
        remarks.append(reader.refused)
    elif not metrics:
        remarks.append("no figures in it")
    return CsvHistory(reader.kind or "csv", metrics, reader.rows, tuple(remarks))


def _rows_of(stream: BinaryIO, reader: TableReader) -> Iterator[TableRow]:
    while not reader.refused and (data := stream.read(_CHUNK)):
        yield from reader.feed(data)
    yield from reader.close()


@dataclass(frozen=True)
class _Columns:
    """What a header says: which column is what."""

    kind: str
    header: tuple[str, ...]
    metrics: Mapping[int, str]  # column → legal name
    step: int | None
    epoch: int | None  # beside a column of steps
    clock: int | None
    remarks: tuple[str, ...] = ()


@dataclass
class TableReader:
    """Turns the bytes of a CSV into rows of figures, however the bytes are cut.

    A last line without its end waits until :meth:`close`. Delimiter (``,`` ``;`` or tab), quotes and a byte order
    mark are recognised; invalid UTF-8 spoils only the cell that it stands in.

    Attributes:
        name: The file's name: some names say that a CSV holds metrics.
        named: Somebody pointed at this file, so that it is taken even without a column of steps.
        refused: Why this is no table of metrics; ``""`` as long as it may be one.
        rows: Rows of figures so far.
        remarks: What was left out.
    """

    name: str
    named: bool = False
    refused: str = ""
    rows: int = 0
    remarks: list[str] = field(default_factory=list)
    _columns: _Columns | None = None
    _delimiter: str = ","
    _rest: bytes = b""
    _skipping: bool = False
    _first: bool = True
    _comment: str = ""
    _open: list[str] = field(default_factory=list)  # lines of a record whose quote isn't closed yet
    _by_row: bool = False
    _step: int | None = None
    _base: int = 0
    _epoch: float = -math.inf

    @property
    def kind(self) -> str:
        """``"ultralytics"``, ``"lightning"`` or ``"csv"``; ``""`` until the header is there."""
        return self._columns.kind if self._columns else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Legal names of the columns that may hold metrics."""
        return tuple(self._columns.metrics.values()) if self._columns else ()

    def feed(self, data: bytes) -> list[TableRow]:
        """The rows that these bytes complete."""
        pieces = (self._rest + data).split(b"\n")
        self._rest = pieces.pop()
        found = [row for piece in pieces for row in self._line(piece)]
        if len(self._rest) > _MAX_LINE:
            self._rest, self._skipping = b"", True
        return found

    def close(self) -> list[TableRow]:
        """The row that the last line holds, if it is whole though its end is missing."""
        last, self._rest = self._rest, b""
        found: list[TableRow] = []
        columns = self._columns
        if last and columns is not None and not self._skipping:
            text = last.decode("utf-8", "replace")
            # A line that was cut short ends in half a number: only one with all its cells is trusted.
            if len(_cells(text, self._delimiter)) >= len(columns.header):
                found += self._line(last)
        found += self._rows(self._settled(final=True))
        return found

    def _line(self, piece: bytes) -> Iterator[TableRow]:
        if self._skipping or len(piece) > _MAX_LINE or self.refused:
            self._skipping = False
            return
        line = piece.decode("utf-8", "replace").removesuffix("\r")
        if self._first:
            self._first, line = False, line.removeprefix("\ufeff")
        if self._columns is None and not self._is_data(line):
            return
        if not self._open and '"' not in line:
            yield from self._rows(iter([line.split(self._delimiter)]))
            return
        self._open.append(line)
        yield from self._rows(self._settled(final=False))

    def _settled(self, *, final: bool) -> Iterator[list[str]]:
        """The records that the open lines hold. A quote that is never closed doesn't swallow what follows."""
        while self._open:
            record, used = _record(self._open, self._delimiter)
            if not used:
                if not final and len(self._open) <= _MAX_RECORD_LINES:
                    return
                record, used = self._open[0].split(self._delimiter), 1
            del self._open[:used]
            yield record

    def _is_data(self, line: str) -> bool:
        """Read lines until the header is there. True where the line is the first row below a commented header."""
        if not line.strip(" \t,;") or self.refused:
            return False
        if line.lstrip().startswith("#"):
            self._comment = line.lstrip().lstrip("# \t")
            return False
        cells = [cell.strip() for cell in _cells(line, _delimiter_of(line))]
        is_data = all(_number(cell) is not None for cell in cells if cell)
        if is_data:  # numpy.savetxt writes its header as a comment
            header = [cell.strip() for cell in _cells(self._comment, _delimiter_of(line))]
            if not self._comment or len(header) != len(cells):
                self.refused = "it has no header of names"
                return False
            cells = header
        self._delimiter = _delimiter_of(line)
        self._take_header(cells)
        return is_data and not self.refused

    def _take_header(self, cells: Sequence[str]) -> None:
        columns = _read_header(self.name, cells)
        stem, _, suffix = self.name.lower().rpartition(".")
        known = stem in METRIC_FILES and suffix in {"csv", "tsv"}
        if not columns.metrics:
            self.refused = "it has no column of figures"
        elif columns.step is None and not known and not self.named:
            self.refused = "it has no column of steps, and its name isn't one that tables of metrics have"
        self._columns = None if self.refused else columns
        self.remarks += [remark for remark in columns.remarks if remark not in self.remarks]

    def _rows(self, records: Iterator[list[str]]) -> Iterator[TableRow]:
        for record in records:
            cells = [cell.strip() for cell in record]
            if self._columns is None or not any(cells) or tuple(cells) == self._columns.header:
                continue
            if _is_header(cells):  # a second run went on in the same file with other columns
                self._take_header(cells)
                continue
            row = self._row(cells, self._columns)
            if row is not None:
                yield row

    def _row(self, cells: list[str], columns: _Columns) -> TableRow | None:
        comma = self._delimiter == ";"
        values: dict[str, float] = {}
        for column, name in columns.metrics.items():
            value = _number(cells[column], comma) if column < len(cells) else None
            if value is not None:
                values[name] = value
        step = self._step_of(cells, columns)
        if step is None:
            return None
        self.rows += 1
        if self.rows >= _MAX_ROWS:
            self.refused = f"it has more than {_MAX_ROWS:,} rows; those below are left out"
        return TableRow(step, values, _time_ms(cells, columns.clock))

    def _step_of(self, cells: list[str], columns: _Columns) -> int | None:
        """The row's step; ``None`` for a broken row."""
        if columns.step is None or self._by_row:
            return self.rows
        cell = cells[columns.step] if columns.step < len(cells) else ""
        value = _number(cell)
        if value is None and cell:
            return None  # text where the step should stand
        if value is None or not math.isfinite(value):
            return self.rows if self._step is None else self._step
        if value != int(value):  # a share of an epoch: many rows would have the same step
            self._by_row = True
            return self.rows
        step = int(value)
        if abs(step) > _LARGEST_STEP:
            return None
        if columns.epoch is not None:
            step = self._counted_on(step, _number(cells[columns.epoch]) if columns.epoch < len(cells) else None)
        self._step = step
        return step

    def _counted_on(self, step: int, epoch: float | None) -> int:
        """Go on counting where the column of steps starts over with each epoch."""
        if epoch is None:
            return self._base + step
        last, now = self._step, self._base + step
        columns = self._columns
        # A count of steps may stand still over the end of an epoch; one of iterations may have one row an epoch.
        repeats = columns is not None and columns.step is not None and "iter" in columns.header[columns.step].lower()
        if epoch > self._epoch and last is not None and (now < last or (repeats and now == last)):
            self._base = last + (1 if step == 0 else 0)
        self._epoch = epoch
        return self._base + step


def _read_header(file_name: str, cells: Sequence[str]) -> _Columns:
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
    clock = next((lowered.index(name) for name in CLOCK_NAMES if name in lowered), None)
    return _Columns(kind, tuple(cells), metrics, step, epoch, clock, remarks)


def free_name(name: str, taken: set[str]) -> str:
    """Two columns or tags never share a name: the second is ``name_2``."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _kind(file_name: str, lowered: Sequence[str]) -> str:
    if "epoch" in lowered and "step" not in lowered:
        marks = ("lr/pg", "x/lr", "metrics/", "train/box_loss", "train/obj_loss", "train/loss")
        if any(cell.startswith(marks) for cell in lowered):
            return "ultralytics"
    if "step" in lowered and file_name.lower() == "metrics.csv":
        return "lightning"
    return "csv"


def _is_header(cells: Sequence[str]) -> bool:
    named = [cell for cell in cells if cell]
    has_step = any(cell.lower() in STEP_NAMES for cell in named)
    return has_step and len(named) > 1 and all(_number(cell) is None for cell in named)


def _delimiter_of(line: str) -> str:
    """The sign that cuts a header into most cells."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(",", "\t", ";", key=bare.count) if any(sign in bare for sign in ",\t;") else ","


def _cells(line: str, delimiter: str) -> list[str]:
    record, used = _record([line], delimiter) if '"' in line else ([], 0)
    return record if used else line.split(delimiter)


def _record(lines: Sequence[str], delimiter: str) -> tuple[list[str], int]:
    """The first record of some lines and how many of them it takes; 0 where its quote isn't closed."""
    reader = csv.reader([*(line + "\n" for line in lines), ""], delimiter=delimiter, skipinitialspace=True)
    try:
        record = next(reader)
    except csv.Error:  # a cell over the module's limit, or a stray carriage return
        return lines[0].split(delimiter), 1
    used = reader.line_num
    return record, used if used <= len(lines) else 0


def _number(cell: str, comma: bool = False) -> float | None:
    if not cell or "_" in cell:  # Python takes 1_000 for a number; no table writes that
        return None
    if comma and "," in cell and "." not in cell:
        cell = cell.replace(",", ".")  # German and French tables: 0,5
    try:
        return float(cell)
    except ValueError:
        return None


def _time_ms(cells: Sequence[str], clock: int | None) -> int | None:
    """When a row was written, where its clock counts seconds or milliseconds since 1970."""
    value = _number(cells[clock]) if clock is not None and clock < len(cells) else None
    if value is None or not math.isfinite(value):
        return None
    if 1e9 <= value < 1e10:
        return int(value * 1000)
    return int(value) if 1e12 <= value < 1e13 else None
