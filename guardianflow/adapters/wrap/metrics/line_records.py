"""Lines that tell several figures by name: JSON, Python's dicts as ``print`` writes them, rows of a table.

Tables are those of Ultralytics, YOLOv5, fastai, scikit-learn … Nothing is evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from guardianflow.adapters.wrap.metrics.line_names import is_figure_word, metric_word
from guardianflow.adapters.wrap.metrics.measurement import ToldFigures, figure_of

__all__ = ["LineTable", "read_record"]

_DEEPEST = 6
_MOST_FIGURES = 500
_STEPS = ("global_step", "step", "_step", "iteration", "iter")
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "AR100s", "AR100m", "AR100l")
_OF_ONE = re.compile(r"[\w.]+\(\s*([-+.\w]+)\s*(?:,[^()]*)?\)")  # tensor(0.25, device='cuda:0'), np.float64(0.6)
_WORD = re.compile(r"\b(?:True|False|None|nan|inf)\b")
_WORDS = {"True": "true", "False": "false", "None": "null", "nan": "NaN", "inf": "Infinity"}
_COUNTERS = frozenset(["epoch", "iter", "iteration", "step", "round", "class"])
_COLUMN = re.compile(r"[A-Za-z(][\w@.:()/\- ]{0,40}")
_COUNTER = re.compile(r"(\d{1,15})(?:/\d{1,15})?")
_BAR = re.compile(r":?\s+(?P<percent>\d{1,3})%[\s|━╸╺]|:\s+\d+%$")
_UNDER_BAR = re.compile(r":[ \t]+\d{1,3}%.*")
_NO_COLUMNS = frozenset(["images", "labels", "instances", "targets", "size", "img_size", "gpu_mem"])
_TOTALS = frozenset(["all", "OVERALL", "COMBINED"])
_LONGEST = 500
_PATIENCE = 20
_SINGLE = ""  # the name of a first column that a table of one row has not


def read_record(line: str) -> ToldFigures | None:
    """The record on a line that begins with ``{`` and ends with ``}``; ``None`` where it is none."""
    try:
        content = json.loads(line if '"' in line else _as_json(line))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    found = dict(list(_leaves(content, "", 0))[:_MOST_FIGURES])
    lower = {name.lower(): number for name, number in reversed(found.items())}
    step = next((lower[name] for name in _STEPS if name in lower), None)
    figures = [(name, value) for name, value in found.items() if metric_word(name.rsplit(".", 1)[-1])]
    return ToldFigures(figures, _count(lower.get("epoch")), _count(step))


def _as_json(line: str) -> str:
    """The text of a Python dict as JSON: tuples and calls become lists, a call of one number that number."""
    text = _OF_ONE.sub(r"\1", line).replace("'", '"')
    text = _WORD.sub(lambda word: _WORDS[word[0]], text)
    return re.sub(r"[A-Za-z_.]*\(", "[", text).replace(")", "]")


def _count(number: float | None) -> str:
    """With its point: a later epoch of the same name may be a fraction."""
    return repr(number) if number is not None and math.isfinite(number) else ""


def _leaves(content: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if depth < _DEEPEST:
                yield from _leaves(value, f"{name}.", depth + 1)
        elif isinstance(value, list) and len(value) == len(_COCO) and "coco_eval" in name:  # as DETR logs them
            said = dict(zip(_COCO, value, strict=True))
            yield from ((f"{name}/{part}", x) for part, x in said.items() if isinstance(x, float) and x != -1.0)
        elif (figure := _figure(value)) is not None:
            yield name, figure


def _figure(value: Any) -> float | None:
    """A number, also one in quotes as fairseq has it."""
    if isinstance(value, str):
        return figure_of(value)
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


class LineTable:
    """The table that a stream is in, if any."""

    def __init__(self) -> None:
        self.active = False
        self._columns: list[list[str]] = []  # names as wide blanks part them, and as any blanks do
        self._bars = False
        self._strange = 0

    def begin(self, line: str) -> bool:
        """Read a line of column names; false where it is none."""
        text = _UNDER_BAR.sub("", line) if len(line) <= _LONGEST else ""
        bars = "|" in text
        text = text.strip(" \t|")
        wide, plain = [cell.strip() for cell in re.split(r"\|" if bars else r"\t|[ ]{2,}", text)], text.split()
        if not all(_COLUMN.fullmatch(cell) for cell in wide):
            return False
        if wide[0].lower() not in _COUNTERS:  # a column of names stands without a head; between bars is a single row
            first = [_SINGLE if bars else "class"]
            wide, plain = first + wide, first + plain
        if not (any(map(is_figure_word, wide)) if wide[0] == _SINGLE else len(wide) > 2):
            return False
        self._columns, self._bars, self.active, self._strange = [_named(wide), _named(plain)], bars, True, 0
        return True

    def row(self, line: str) -> ToldFigures | None:
        """Read a row; ``None`` for a line that isn't one. After 20 of those the table is over."""
        if not line.strip():
            return None
        row = self._read(line) if len(line) <= _LONGEST * 2 else None
        self._strange = 0 if row else self._strange + 1
        self.active = self._strange < _PATIENCE and not (row and self._columns[0][0] == _SINGLE)
        return row

    def _read(self, line: str) -> ToldFigures | None:
        bar = _BAR.search(line)
        text = line[: bar.start()] if bar else line
        cells = [cell.strip() for cell in text.strip(" \t|").split("|")] if self._bars else text.split()
        first = self._columns[0][0].lower()
        cells = ["", *cells] if first == _SINGLE else cells
        columns = next((names for names in self._columns if len(names) == len(cells)), None)
        figures = _figures(columns, cells) if columns else []
        if first == _SINGLE:
            return ToldFigures(figures) if len(figures) == len(cells) - 1 else None
        if first == "class":
            return ToldFigures(figures) if cells[:1] and cells[0] in _TOTALS and columns else None
        counter = _COUNTER.fullmatch(cells[0]) if columns else None
        if counter is None:
            return None
        # A row under a bar is printed anew with each batch; only the whole epoch's counts.
        figures = [] if bar and bar["percent"] != "100" else figures
        return ToldFigures(figures, **{"epoch" if first == "epoch" else "step": counter[1]})


def _figures(columns: list[str], cells: list[str]) -> list[tuple[str, float]]:
    """What is a figure; 0G, 00:12 and 3.4s are none."""
    told = zip(columns[1:], cells[1:], strict=True)
    found = [(name, figure_of(cell.rstrip("%"))) for name, cell in told if name.lower() not in _NO_COLUMNS]
    return [(name, value) for name, value in found if value is not None and metric_word(name)]


def _named(cells: list[str]) -> list[str]:
    """Column names; of ``Box(P  R)  Mask(P  R)`` the first group plainly, the others as ``Mask/P``."""
    names: list[str] = []
    group, groups = "", 0
    for cell in cells:
        name = cell
        if "(" in name and ")" not in name:
            group, name = name.split("(", 1)
            groups += 1
        plain = name.rstrip(")") if group else name
        names.append(f"{group}/{plain}" if group and groups > 1 else plain)
        group = "" if name.endswith(")") else group
    return names
