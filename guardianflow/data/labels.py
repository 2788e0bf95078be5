"""YOLO label files: one row per box, ``class x_center y_center width height``, all but the class in 0–1.

What Ultralytics rejects is an error here too, since it drops the whole image then. Some things that
it takes in silence are named as well: boxes without an area, and duplicate rows (which it removes).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guardianflow.data.printable import printable

__all__ = ["TOLERANCE", "LabelDefect", "ParsedLabels", "parse_labels", "read_labels"]

TOLERANCE = 0.01
"""How far a coordinate may lie outside 0–1; the tolerance of Ultralytics."""

_BOX_COLUMNS = 5
_MIN_POLYGON_COLUMNS = 7
_MAX_BYTES = 16 << 20
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class LabelDefect:
    """One kind of defect in one label file, described by its first row.

    Attributes:
        kind: For example ``"class-id"``; the keys of :data:`SEVERITIES <guardianflow.data.report.SEVERITIES>`.
        detail: What is wrong where, in a clause.
    """

    kind: str
    detail: str


@dataclass(frozen=True)
class ParsedLabels:
    """What a label file holds.

    Attributes:
        boxes: Class id → good boxes of it, duplicates counted once.
        polygons: Rows that were polygons; a detector trains on the boxes around them.
        defects: At most one of each kind, in order of their first row.
    """

    boxes: Mapping[int, int] = field(default_factory=dict)
    polygons: int = 0
    defects: tuple[LabelDefect, ...] = ()


def read_labels(file: Path, *, classes: int) -> ParsedLabels | None:
    """Read and check a label file; ``None`` where there is none.

    Args:
        file: The .txt file of one image.
        classes: Number of class names; ids from 0 to ``classes - 1`` are allowed.
    """
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return _unreadable(f"the file is larger than {_MAX_BYTES >> 20} MiB")
        return parse_labels(content.decode("utf-8-sig"), classes=classes)
    except UnicodeDecodeError as error:
        return _unreadable(f"byte {error.start} is not UTF-8")
    except OSError as error:
        return _unreadable(f"the file can't be read ({error.strerror})")


def _unreadable(detail: str) -> ParsedLabels:
    return ParsedLabels(defects=(LabelDefect("label-file", detail),))


def parse_labels(text: str, *, classes: int) -> ParsedLabels:
    """Check the rows of a label file.

    Args:
        text: The file's content.
        classes: Number of class names.

    Returns:
        Boxes by class and the defects found. Never raises, whatever the text is.
    """
    found = _Findings()
    boxes: Counter[int] = Counter()
    seen: set[tuple[float, ...]] = set()
    polygons = 0
    rows = 0
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        rows += 1
        values = _parse_row(columns, number, classes, found)
        if values is None:
            continue
        polygons += len(values) > _BOX_COLUMNS
        if values in seen:
            found.add("duplicate-row", number, "the row is there already")
            continue
        seen.add(values)
        boxes[int(values[0])] += 1
    if 0 < polygons < rows and any(len(values) == _BOX_COLUMNS for values in seen):
        found.add("mixed-rows", 0, "boxes (5 columns) and polygons are mixed, which Ultralytics rejects")
    return ParsedLabels(boxes=dict(boxes), polygons=polygons, defects=found.defects())


class _Findings:
    """Defects by kind: the first one described, the others counted."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: Counter[str] = Counter()

    def add(self, kind: str, line: int, what: str) -> None:
        self._count[kind] += 1
        self._first.setdefault(kind, f"line {line}: {what}" if line else what)

    def defects(self) -> tuple[LabelDefect, ...]:
        return tuple(
            LabelDefect(kind, detail + (f" (and {self._count[kind] - 1} more rows)" if self._count[kind] > 1 else ""))
            for kind, detail in self._first.items()
        )


def _parse_row(columns: Sequence[str], number: int, classes: int, found: _Findings) -> tuple[float, ...] | None:
    if len(columns) != _BOX_COLUMNS and (len(columns) < _MIN_POLYGON_COLUMNS or len(columns) % 2 == 0):
        found.add("columns", number, f"{len(columns)} columns, a box has 5 and a polygon an odd number from 7")
        return None
    for column in columns:
        if not _NUMBER.match(column):
            kind = "not-finite" if _NOT_FINITE.match(column) else "not-a-number"
            found.add(kind, number, f"{printable(repr(column), longest=40)} is no finite number")
            return None
    values = tuple(float(column) for column in columns)
    if not all(map(math.isfinite, values)):
        found.add("not-finite", number, "a number is too large")
        return None
    return values if _is_good_row(values, number, classes, found) else None


def _is_good_row(values: tuple[float, ...], number: int, classes: int, found: _Findings) -> bool:
    class_id, coordinates = values[0], values[1:]
    if class_id < 0 or class_id != int(class_id):
        found.add("class-id", number, f"class id {class_id:g} is no whole number from 0")
        return False
    if class_id >= classes:
        found.add("class-id", number, f"class id {class_id:g} is beyond the {classes} names (0 to {classes - 1})")
        return False
    x, y, width, height = coordinates if len(values) == _BOX_COLUMNS else _box_around(coordinates)
    outside = next((value for value in (x, y, width, height) if not -TOLERANCE <= value <= 1 + TOLERANCE), None)
    if outside is not None:
        found.add("out-of-range", number, f"coordinate {outside:g} is outside 0 to 1 (pixels instead of fractions?)")
        return False
    if width <= 0 or height <= 0:
        found.add("no-area", number, f"the box is {width:g} wide and {height:g} high")
        return False
    edges = (x - width / 2, 1 - x - width / 2, y - height / 2, 1 - y - height / 2)
    if min(edges) < -TOLERANCE:
        found.add("beyond-edge", number, f"the box reaches {-min(edges):.1%} beyond the image's edge")
    return True


def _box_around(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around ``x1 y1 x2 y2 …``."""
    xs, ys = polygon[::2], polygon[1::2]
    return (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
