"""Tables that a training prints: a line of column names, then rows. Ultralytics, YOLOv5, fastai, scikit-learn."""

from __future__ import annotations

import re

from guardianflow.adapters.wrap.metrics.line_names import is_figure_word, metric_word
from guardianflow.adapters.wrap.metrics.measurement import ToldFigures

__all__ = ["LineTable"]

_COUNTERS = frozenset(["epoch", "iter", "iteration", "step", "round", "class"])
_COLUMN = re.compile(r"[A-Za-z(][\w@.:()/\- ]{0,40}")
_COUNTER = re.compile(r"(\d{1,15})(?:/\d{1,15})?")
_BAR = re.compile(r":?\s+(?P<percent>\d{1,3})%[\s|━╸╺]|:\s+\d+%$")
_UNDER_BAR = re.compile(r":[ \t]+\d{1,3}%.*")
_NO_COLUMNS = frozenset(["images", "labels", "instances", "targets", "size", "img_size", "gpu_mem"])
_TOTALS = frozenset(["all", "OVERALL", "COMBINED"])
_LONGEST = 500
_PATIENCE = 20


class LineTable:
    """The table that a stream is in, if any."""

    def __init__(self) -> None:
        self.active = False
        self._columns: tuple[list[str], list[str]] = ([], [])
        self._bars = False
        self._single = False
        self._strange = 0

    def begin(self, line: str) -> bool:
        """Read a line of column names; false where it is none."""
        text = _UNDER_BAR.sub("", line) if len(line) <= _LONGEST else ""
        bars = "|" in text
        text = text.strip(" \t|")
        wide = [cell.strip() for cell in re.split(r"\|" if bars else r"\t|[ ]{2,}", text)]
        if not all(_COLUMN.fullmatch(cell) for cell in wide):
            return False
        plain = text.split()
        if not bars and wide[0].lower() not in _COUNTERS:  # a column of names stands without a head
            wide, plain = ["class", *wide], ["class", *plain]
        single = wide[0].lower() not in _COUNTERS
        if single and not any(is_figure_word(cell) for cell in wide):
            return False
        if not single and len(wide) < 3:
            return False
        self._columns, self._bars, self._single = (_named(wide), _named(plain)), bars, single
        self.active, self._strange = True, 0
        return True

    def row(self, line: str) -> ToldFigures | None:
        """Read a row; ``None`` for a line that isn't one. After 20 of those the table is over."""
        if not line.strip():
            return None
        row = self._read(line) if len(line) <= _LONGEST * 2 else None
        self._strange = 0 if row else self._strange + 1
        self.active = self._strange < _PATIENCE and not (row and self._single)
        return row

    def _read(self, line: str) -> ToldFigures | None:
        bar = _BAR.search(line)
        text = line[: bar.start()] if bar else line
        cells = [cell.strip() for cell in text.strip(" \t|").split("|")] if self._bars else text.split()
        columns = next((names for names in self._columns if len(names) == len(cells)), None)
        if columns is None:
            return None
        if self._single:
            figures = _figures(["", *columns], ["", *cells])
            return ToldFigures(figures) if len(figures) == len(cells) else None
        first = columns[0].lower()
        counter = _COUNTER.fullmatch(cells[0])
        if first == "class":
            return ToldFigures(_figures(columns, cells)) if cells[0] in _TOTALS else None
        if counter is None:
            return None
        # A row under a bar is printed anew with each batch; only the whole epoch's counts.
        figures = [] if bar and bar["percent"] != "100" else _figures(columns, cells)
        return ToldFigures(figures, epoch=counter[1]) if first == "epoch" else ToldFigures(figures, step=counter[1])


def _figures(columns: list[str], cells: list[str]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, cell in zip(columns[1:], cells[1:], strict=True):
        if metric_word(name) and name.lower() not in _NO_COLUMNS and "_" not in cell:
            try:
                found.append((name, float(cell.rstrip("%"))))
            except ValueError:
                continue  # 0G, 00:12, 3.4s: no figures
    return found


def _named(cells: list[str]) -> list[str]:
    """Column names; of ``Box(P  R)  Mask(P  R)`` the first group plainly, the others as ``Mask/P``."""
    names: list[str] = []
    group = ""
    groups = 0
    for cell in cells:
        name = cell
        if "(" in name and ")" not in name:
            group, name = name.split("(", 1)
            groups += 1
        plain = name.rstrip(")") if group else name
        names.append(f"{group}/{plain}" if group and groups > 1 else plain)
        if name.endswith(")"):
            group = ""
    return names
