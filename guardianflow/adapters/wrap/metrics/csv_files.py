"""Tables of metrics that training scripts write: Ultralytics' results.csv, Lightning's metrics.csv, anybody's CSV.

A line is a row. Every named column with numbers in it counts, except those that count steps or tell the time; text is
passed over cell by cell. The steps are Ultralytics' ``epoch`` as it stands, Lightning's ``step`` (``epoch`` stays a
metric, as in its own loggers), else the first of ``global_step``, ``step``, ``iteration``, ``iter``, ``epoch`` that is
there, else the row's number from 0. A step that starts over with each epoch goes on counting.

Rows with more or fewer cells than the header are left out: nobody knows which cell is which. Where the epoch starts
over, a second training was appended to the file, and the last one counts; where it goes back to a place in between, one
was resumed, and the later rows count (:mod:`guardianflow.text.table_order`).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.growing_file import PointReader, Points, read_points
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.adapters.wrap.metrics.measurement import Point, decimal_comma, figure_of
from guardianflow.text.names import free_name
from guardianflow.text.table_order import RowOrder, some_lines

__all__ = ["METRIC_FILES", "CsvHistory", "TableReader", "read_csv_metrics"]

METRIC_FILES = frozenset({"metrics", "results", "log", "history", "progress", "training_log"})
"""Stems of CSVs that are taken without a column of steps."""

_STEPS = ("global_step", "step", "training_iteration", "iteration", "iter", "epoch")
_CLOCKS = frozenset({"time", "timestamp", "wall_time", "datetime", "date", "created_at"})
_ULTRALYTICS = ("lr/pg", "x/lr", "metrics/", "train/box_loss", "train/obj_loss", "train/loss")
_MAX_LINE = 64 * 1024  # bytes; a longer line is no row of figures
_MAX_COLUMNS = 500
_LARGEST_STEP = 2**63 - 1


class CsvHistory(NamedTuple):
    """What one table of metrics says: its points, and what was left out of it, and why."""

    metrics: Points
    remarks: tuple[str, ...]


class _Columns(NamedTuple):
    """What a header says: the numbers of columns, by what they are."""

    kind: str
    header: list[str]
    metrics: dict[int, str]  # column → legal name
    step: int | None
    epoch: int | None  # beside a column of steps that starts over with it
    order: int | None  # by which rows of a second training are known
    needed: int  # cells that a row must have: up to the last column with a name


def read_csv_metrics(path: Path) -> CsvHistory:
    """The metrics of the last training in a finished CSV file.

    Raises:
        InputError: There is no such file, or it can't be read.
    """
    reader = TableReader(path.name, named=True)
    points = read_points(path, reader)
    if reader.order.resumes:
        points = _as_resumed(points, reader)
    nothing = [] if reader.refused or points else ["no figures in it"]
    return CsvHistory(points, (*reader.remarks, *filter(None, [reader.refused]), *nothing))


def _as_resumed(points: Points, reader: TableReader) -> Points:
    """Of points that stand twice the later ones; epochs beyond the last row were given up."""
    end = reader.step if reader.unit == "epoch" and reader.step is not None else math.inf
    found: Points = {}
    for name, curve in points.items():
        newest = {point[0]: place for place, point in enumerate(curve)}
        found[name] = [curve[place] for step, place in sorted(newest.items(), key=itemgetter(1)) if step <= end]
    return found


class TableReader(PointReader):
    """Reads a CSV. Delimiter (``,`` ``;`` or tab), quotes and a byte order mark are recognised.

    Invalid UTF-8 spoils only the cell that it stands in. A last line without its end waits until :meth:`close`.

    Args:
        name: The file's name: some names say that a CSV holds metrics.
        named: Somebody pointed at this file, so that it is taken even without a column of steps.
    """

    def __init__(self, name: str, *, named: bool = False) -> None:
        self.order = RowOrder()  # whether a second training, or a resumed one, stands in it
        self.step: int | None = None  # of the last row
        self.unit = "step"  # what counts on from row to row
        self._name = name.lower()
        self._named = named
        self._columns: _Columns | None = None
        self._delimiter = ","
        self._rest = b""
        self._skipping = False
        self._found: list[Point] = []
        self._lines = self._rows = 0
        self._by_row = False
        self._headed = False  # a header stands right above
        self._base, self._epoch = 0, -math.inf
        self._bases: dict[float, int] = {}  # epoch → steps before it
        self._seen: set[str] = set()  # names that the training has given figures of
        self._notes: dict[str, list[int]] = {}  # what was left out → its lines

    @property
    def remarks(self) -> Sequence[str]:
        """What was left out, and what was understood though it could have been meant otherwise."""
        noted = [
            (f"{len(lines):,} × " if len(lines) > 1 else "") + f"{what}: {some_lines(lines)}"
            for what, lines in self._notes.items()
        ]
        return [*self.order.remarks(self.unit), *noted]

    def feed(self, data: bytes) -> list[Point]:
        """The points in the rows that these bytes complete."""
        self._found, self.started_over = [], False
        *pieces, self._rest = (self._rest + data).split(b"\n")
        for piece in pieces:
            if not self._skipping and len(piece) <= _MAX_LINE:
                self._take_line(piece)
            self._lines += 1
            self._skipping = False
        if len(self._rest) > _MAX_LINE:
            self._rest, self._skipping = b"", True
        return self._found

    def close(self) -> list[Point]:
        """The points in a last line that has no end, if it has all its cells: else it may end in half a number."""
        self._found, self.started_over = [], False
        last, columns = b"" if self._skipping else self._rest, self._columns
        if last.strip() and columns:
            if len(self._cells(last.decode("utf-8", "replace"))) >= columns.needed:
                self._take_line(last)
            else:
                self._note("last row, cut off, left out")
        return self._found

    def _cells(self, line: str) -> list[str]:
        if '"' not in line:
            return [cell.strip() for cell in line.split(self._delimiter)]
        record = next(csv.reader([line.replace("\r", " ")], delimiter=self._delimiter, skipinitialspace=True))
        return [cell.strip() for cell in record]

    def _take_line(self, piece: bytes) -> None:
        line = piece.decode("utf-8", "replace").strip("\ufeff \r")
        if self.refused or not line.strip("\t,; "):
            return
        comment = self._columns is None and line.startswith("#")
        if self._columns is None:
            bare = re.sub(r'"[^"]*"', "", line)
            self._delimiter = max(",", "\t", ";", key=bare.count)
        cells = self._cells(line.lstrip("# \t") if comment else line)
        columns = self._columns
        if columns and cells != columns.header and not _is_header(cells):
            self._take_row(cells, columns)
        elif not comment or _is_header(cells):  # numpy.savetxt writes its header as a comment
            self._take_header(cells)

    def _take_header(self, cells: list[str]) -> None:
        columns = _read_header(self._name, cells)
        stem, _, suffix = self._name.rpartition(".")
        known = self._named or (stem in METRIC_FILES and suffix in {"csv", "tsv"})
        if all(figure_of(cell) is not None for cell in cells if cell):
            self.refused = "it has no header of names"
        elif not columns.metrics:
            self.refused = "it has no column of figures"
        elif columns.step is None and not known:
            self.refused = "it has no column of steps, and its name isn't one that tables of metrics have"
        else:
            self._columns, self.names, self._headed = columns, columns.metrics.values(), True
            self.unit = "step" if columns.order is None else cells[columns.order].lower()

    def _take_row(self, cells: list[str], columns: _Columns) -> None:
        few, many = len(cells) < columns.needed, any(cells[len(columns.header) :])
        if few or many:
            hint = ", perhaps for a decimal comma" if many and self._delimiter == "," else ""
            self._note(f"row with {'fewer' if few else 'more'} cells than the header's {columns.needed} left out{hint}")
            return
        figures = {name: self._figure(cells[column]) for column, name in columns.metrics.items()}
        values = {name: value for name, value in figures.items() if value is not None}
        self._place(cells, columns, values.keys() - {"epoch"})
        step = self._step_of(cells, columns)
        if step is None:
            self._note("row without a number where the step should stand left out")
            return
        self._rows += 1
        self._found += [Point(name, value, step) for name, value in values.items()]

    def _figure(self, cell: str) -> float | None:
        value = figure_of(cell)
        return decimal_comma(cell, self._delimiter) if value is None else value

    def _place(self, cells: list[str], columns: _Columns, names: set[str]) -> None:
        """Notice where another training begins, or a resumed one goes back."""
        number = figure_of(cells[columns.order]) if columns.order is not None else None
        if number is None or not math.isfinite(number):
            return
        if self.order.goes_back(number) and self._seen.isdisjoint(names) and not self._headed:
            return  # figures of another kind, such as those of a last test, which is no training
        repeats = columns.kind != "ultralytics" and not self._headed
        turn = self.order.place(number, self._lines + 1, repeats=repeats)
        self._headed = False
        if turn == "restart":
            self.started_over = True
            self._found.clear()
            self._seen, self._bases, self._rows = set(), {}, 0
        if turn:
            self._base, self.step, self._epoch = self._bases.get(number, 0), None, -math.inf
        self._seen |= names

    def _step_of(self, cells: list[str], columns: _Columns) -> int | None:
        """The row's step; ``None`` for a broken row."""
        if columns.step is None or self._by_row:
            return self._rows
        cell = cells[columns.step]
        value = self._figure(cell)
        if value is None and cell:
            return None  # text where the step should stand
        if value is None or not math.isfinite(value):
            return self._rows if self.step is None else self.step
        if value != int(value):  # a share of an epoch: many rows would have the same step
            self._by_row, self.step = True, None
            return self._rows
        if abs(value) > _LARGEST_STEP:
            return None
        epoch = figure_of(cells[columns.epoch]) if columns.epoch is not None else None
        self.step = self._counted_on(int(value), epoch, columns)
        return self.step

    def _counted_on(self, step: int, epoch: float | None, columns: _Columns) -> int:
        """Go on counting where the column of steps starts over with each epoch."""
        if epoch is not None:
            # A count of steps may stand still over the end of an epoch; one of iterations may have one row an epoch.
            least = (self.step or 0) + ("iter" in columns.header[columns.step or 0].lower())
            if epoch > self._epoch and self.step is not None and self._base + step < least:
                self._base = self.step + (step == 0)
            self._epoch = epoch
            self._bases.setdefault(epoch, self._base)
        return self._base + step

    def _note(self, what: str) -> None:
        self._notes.setdefault(what, []).append(self._lines + 1)


def _read_header(file_name: str, cells: list[str]) -> _Columns:
    """What the columns of these names are."""
    lowered = [cell.lower().removeprefix("trainer/") for cell in cells]
    places = {name: lowered.index(name) for name in _STEPS if name in lowered}
    step = next(iter(places.values()), None)
    kind = "csv"
    if "epoch" in places and "step" not in places and any(cell.startswith(_ULTRALYTICS) for cell in lowered):
        kind, step = "ultralytics", places["epoch"]
    elif "step" in places and file_name == "metrics.csv":
        kind = "lightning"
    metrics: dict[int, str] = {}
    for column, cell in enumerate(cells[:_MAX_COLUMNS]):
        counts = lowered[column] in _STEPS and not (kind == "lightning" and lowered[column] == "epoch")
        if cell and not counts and lowered[column] not in _CLOCKS:
            metrics[column] = free_name(kept_name(cell), set(metrics.values()))
    starts_over = kind == "csv" and step is not None and lowered[step] in {"step", "iteration", "iter"}
    epoch = places.get("epoch")
    needed = max((column + 1 for column, cell in enumerate(cells) if cell), default=0)
    return _Columns(
        kind, cells, metrics, step, epoch if starts_over else None, step if epoch is None else epoch, needed
    )


def _is_header(cells: list[str]) -> bool:
    """Whether a row is a header again."""
    named = [cell for cell in cells if cell]
    has_step = any(cell.lower() in _STEPS for cell in named)
    return has_step and len(named) > 1 and all(figure_of(cell) is None for cell in named)
