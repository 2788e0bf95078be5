"""Tables of metrics that training scripts write: Ultralytics' results.csv, Lightning's metrics.csv, anybody's CSV.

Which columns count: every named column with numbers in it, except those that count steps or tell the time. Text is
passed over cell by cell. What the steps are:

* Ultralytics: the column ``epoch`` as it stands (older versions count from 0, newer ones from 1).
* Lightning: the column ``step``. Its rows are sparse; an empty cell is no point. ``epoch`` stays a metric, as
  Lightning's own loggers have it.
* Any other: the first of ``global_step``, ``step``, ``iteration``, ``iter``, ``epoch`` that is there, else the row's
  number from 0. A step that starts over with each epoch goes on counting.

Rows with more or fewer cells than the header are left out: nobody knows which cell is which. Where the epoch starts
over, a second training was appended to the file, and the last one counts; where it goes back to a place in between,
one was resumed, and the later rows count (:mod:`guardianflow.text.table_order`).
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from guardianflow.adapters.wrap.metrics.csv_columns import (
    TableColumns,
    cells_of,
    decimal_comma,
    delimiter_of,
    figure_of,
    is_header,
    read_header,
    record_of,
    time_ms,
)
from guardianflow.adapters.wrap.metrics.growing_file import open_regular
from guardianflow.exceptions import InputError
from guardianflow.text.table_order import RowOrder, last_training, some_lines

__all__ = ["CsvHistory", "TableReader", "TableRow", "read_csv_metrics"]

METRIC_FILES = frozenset({"metrics", "results", "log", "history", "progress", "training_log"})
"""Stems of CSVs that are taken without a column of steps."""

_MAX_LINE = 64 * 1024  # bytes; a longer line is no row of figures
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
    """One row: its step, its figures by legal metric name, and when it was written (ms since 1970) if it says so.

    Which training of the file it belongs to, and which stretch without a step back, is counted from 0.
    """

    step: int
    values: dict[str, float]
    time_ms: int | None
    training: int = 0
    stretch: int = 0


def read_csv_metrics(path: str | Path) -> CsvHistory:
    """The metrics in a finished CSV file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    file = Path(path)
    reader = TableReader(file.name, named=True)
    training = _LastTraining()
    try:
        with os.fdopen(open_regular(file.resolve()), "rb") as stream:
            for row in _rows_of(stream, reader):
                training.take(row)
    except OSError as error:
        what = f"a table of metrics must be a file that can be read: {file} ({error}); check the path"
        raise InputError(what) from error
    metrics = training.metrics(ends=reader.unit == "epoch")
    remarks = [*reader.order.remarks(reader.unit, training.before), *reader.remarks]
    if reader.refused:
        remarks.append(reader.refused)
    elif not metrics:
        remarks.append("no figures in it")
    return CsvHistory(reader.kind or "csv", metrics, reader.rows, tuple(remarks))


class _LastTraining:
    """Keeps the points of the last training that a table holds."""

    def __init__(self) -> None:
        self._points: dict[str, list[tuple[int, float, int | None]]] = {}
        self._rows: tuple[array[int], array[int]] = (array("q"), array("L"))  # steps and stretches
        self._places: dict[str, array[int]] = {}
        self._training = 0
        self.before = 0

    def take(self, row: TableRow) -> None:
        if row.training > self._training:
            self.before += len(self._rows[0])
            self._training = row.training
            self._points, self._places, self._rows = {}, {}, (array("q"), array("L"))
        for name, value in row.values.items():
            self._points.setdefault(name, []).append((row.step, value, row.time_ms))
            self._places.setdefault(name, array("L")).append(len(self._rows[0]))
        self._rows[0].append(row.step)
        self._rows[1].append(row.stretch)

    def metrics(self, *, ends: bool) -> dict[str, list[tuple[int, float, int | None]]]:
        steps, stretches = self._rows
        if len(set(stretches)) < 2:
            return self._points
        kept = set(last_training(steps, stretches, ends=ends))
        found = {
            name: [point for place, point in zip(self._places[name], points, strict=True) if place in kept]
            for name, points in self._points.items()
        }
        return {name: points for name, points in found.items() if points}


def _rows_of(stream: BinaryIO, reader: TableReader) -> Iterator[TableRow]:
    while not reader.refused and (data := stream.read(_CHUNK)):
        yield from reader.feed(data)
    yield from reader.close()


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
        order: Whether a second training, or a resumed one, stands in it.
    """

    name: str
    named: bool = False
    refused: str = ""
    rows: int = 0
    order: RowOrder = field(default_factory=RowOrder)
    _columns: TableColumns | None = None
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
    _bases: dict[float, int] = field(default_factory=dict)  # epoch → steps before it
    _seen: set[str] = field(default_factory=set)  # names that the training has given figures of
    _headed: bool = False  # a header stands right above
    _row_before: int = 0  # rows before this training
    _lines: int = 0
    _notes: dict[str, list[int]] = field(default_factory=dict)  # what was left out → its lines
    _commas: int = 0

    @property
    def remarks(self) -> list[str]:
        """What was left out, and what was understood though it could have been meant otherwise."""
        found = list(self._columns.remarks) if self._columns else []
        found += [_counted(what, lines) for what, lines in self._notes.items()]
        if self._commas:
            found.append(f"{self._commas:,} figures have a decimal comma, and were read so (0,5 is a half)")
        return found

    @property
    def unit(self) -> str:
        """What counts on from row to row."""
        columns = self._columns
        return columns.header[columns.order].lower() if columns and columns.order is not None else "step"

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
            if len(cells_of(text, self._delimiter)) >= columns.needed:
                found += self._line(last)
            elif text.strip():
                self._lines += 1
                self._note("last row, cut off, left out")
        found += self._rows(self._settled(final=True))
        return found

    def _line(self, piece: bytes) -> Iterator[TableRow]:
        self._lines += 1
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
            record, used = record_of(self._open, self._delimiter)
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
        cells = [cell.strip() for cell in cells_of(line, delimiter_of(line))]
        is_data = all(figure_of(cell) is not None for cell in cells if cell)
        if is_data:  # numpy.savetxt writes its header as a comment
            header = [cell.strip() for cell in cells_of(self._comment, delimiter_of(line))]
            if not self._comment or len(header) != len(cells):
                self.refused = "it has no header of names"
                return False
            cells = header
        self._delimiter = delimiter_of(line)
        self._take_header(cells)
        return is_data and not self.refused

    def _take_header(self, cells: Sequence[str]) -> None:
        columns = read_header(self.name, cells)
        stem, _, suffix = self.name.lower().rpartition(".")
        known = stem in METRIC_FILES and suffix in {"csv", "tsv"}
        if not columns.metrics:
            self.refused = "it has no column of figures"
        elif columns.step is None and not known and not self.named:
            self.refused = "it has no column of steps, and its name isn't one that tables of metrics have"
        self._columns = None if self.refused else columns

    def _rows(self, records: Iterator[list[str]]) -> Iterator[TableRow]:
        for record in records:
            cells = [cell.strip() for cell in record]
            if self._columns is None or not any(cells):
                continue
            if tuple(cells) == self._columns.header or is_header(cells):  # a second run went on in the same file
                self._header_again(cells, self._columns)
                continue
            row = self._row(cells, self._columns)
            if row is not None:
                yield row

    def _header_again(self, cells: list[str], columns: TableColumns) -> None:
        if tuple(cells) != columns.header:
            self._take_header(cells)
        elif columns.order is None and self.rows:
            self._note("header again, and no column of steps: what stands above and below is taken for one training")
            return
        self._headed = True

    def _row(self, cells: list[str], columns: TableColumns) -> TableRow | None:
        if fault := self._fault(cells, columns):
            self._note(fault)
            return None
        values: dict[str, float] = {}
        for column, name in columns.metrics.items():
            value = self._figure(cells[column])
            if value is not None:
                values[name] = value
        self._place(cells, columns, values)
        step = self._step_of(cells, columns)
        if step is None:
            self._note("row without a number where the step should stand left out")
            return None
        self.rows += 1
        if self.rows >= _MAX_ROWS:
            self.refused = f"it has more than {_MAX_ROWS:,} rows; those below are left out"
        return TableRow(step, values, time_ms(cells, columns.clock), self.order.training, self.order.stretch)

    def _fault(self, cells: list[str], columns: TableColumns) -> str:
        """Why nobody knows which of a row's cells is which."""
        if len(cells) < columns.needed:
            return f"row with fewer cells than the header's {columns.needed} left out"
        if any(cells[len(columns.header) :]):
            hint = ", perhaps for a decimal comma" if self._delimiter == "," else ""
            return f"row with more cells than the header's {len(columns.header)} left out{hint}"
        return ""

    def _note(self, what: str) -> None:
        self._notes.setdefault(what, []).append(self._lines)

    def _figure(self, cell: str) -> float | None:
        value = figure_of(cell)
        if value is None and "," in cell:
            value = decimal_comma(cell, self._delimiter)
            self._commas += value is not None
        return value

    def _place(self, cells: list[str], columns: TableColumns, values: dict[str, float]) -> None:
        """Notice where another training begins, or a resumed one goes back."""
        number = figure_of(cells[columns.order]) if columns.order is not None else None
        if number is None or not math.isfinite(number):
            return
        names = values.keys() - {"epoch"}
        if self.order.goes_back(number) and self._seen.isdisjoint(names) and not self._headed:
            return  # figures of another kind, such as those of a last test, which is no training
        turn = self.order.place(number, self._lines, repeats=columns.kind != "ultralytics" and not self._headed)
        self._headed = False
        if turn == "restart":
            self._seen, self._bases, self._row_before = set(), {}, self.rows
        if turn:
            self._base, self._step, self._epoch = self._bases.get(number, 0), None, -math.inf
        self._seen.update(names)

    def _step_of(self, cells: list[str], columns: TableColumns) -> int | None:
        """The row's step; ``None`` for a broken row."""
        count = self.rows - self._row_before
        if columns.step is None or self._by_row:
            return count
        cell = cells[columns.step]
        value = self._figure(cell)
        if value is None and cell:
            return None  # text where the step should stand
        if value is None or not math.isfinite(value):
            return count if self._step is None else self._step
        if value != int(value):  # a share of an epoch: many rows would have the same step
            self._by_row = True
            return count
        step = int(value)
        if abs(step) > _LARGEST_STEP:
            return None
        if columns.epoch is not None:
            step = self._counted_on(step, figure_of(cells[columns.epoch]))
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
        self._bases.setdefault(epoch, self._base)
        return self._base + step


def _counted(what: str, lines: Sequence[int]) -> str:
    return f"{what}: {some_lines(lines)}" if len(lines) == 1 else f"{len(lines):,} × {what}: {some_lines(lines)}"
