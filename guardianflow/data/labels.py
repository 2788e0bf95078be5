"""YOLO label files: one row per box, ``class x_center y_center width height``, all but the class in 0–1.

A longer row is a polygon, ``class x1 y1 x2 y2 …``, or, where the data.yaml has ``kpt_shape``, a box with keypoints
behind it. What else may stand behind a box, a confidence or a track id, makes a row that reads as a polygon too; such
rows are refused, for a training would run on wrong boxes. The check, the training and the evaluation all read labels
here. What Ultralytics rejects is an error, since it drops the whole image then; boxes without an area and duplicate
rows, which it takes in silence, are named as well.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from guardianflow.data.report import KINDS
from guardianflow.text.printable import printable

__all__ = ["TOLERANCE", "LabelDefect", "LabelRow", "ParsedLabels", "parse_labels", "read_labels"]

TOLERANCE = 0.01
"""How far a coordinate may lie outside 0–1; the tolerance of Ultralytics."""

_BOX_COLUMNS = 5
_MIN_POLYGON_COLUMNS = 7
_MAX_BYTES = 16 << 20
_FILLED = 0.8  # of 100,000 polygons of many shapes, 2 happen to fill the box that their first two points would be
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class LabelDefect:
    """One kind of defect in one label file, described by its first row.

    Attributes:
        kind: For example ``"class-id"``; a key of :data:`KINDS <guardianflow.data.report.KINDS>`.
        detail: What is wrong where, in a clause.
    """

    kind: str
    detail: str


class LabelRow(NamedTuple):
    """A good row: class id, centre and size as fractions of the image, and the polygon (``x1 y1 …``) if it was one."""

    class_id: int
    x: float
    y: float
    width: float
    height: float
    polygon: tuple[float, ...] = ()


@dataclass(frozen=True)
class ParsedLabels:
    """What a label file holds.

    Attributes:
        rows: The good rows in the file's order, duplicates once.
        boxes: Class id → good rows of it.
        polygons: Rows that were polygons; a detector trains on the boxes around them.
        polygon_columns: How many columns these had.
        box_like: Polygons whose first four numbers would be a box inside the image.
        filled: How far, at most, the points behind such a box fill it, 0–1.
        keypoints: Rows whose keypoints were left out.
        defects: At most one of each kind, in order of their first row.
    """

    rows: tuple[LabelRow, ...] = ()
    boxes: Mapping[int, int] = field(default_factory=dict)
    polygons: int = 0
    polygon_columns: frozenset[int] = frozenset()
    box_like: int = 0
    filled: float = 0.0
    keypoints: int = 0
    defects: tuple[LabelDefect, ...] = ()

    @property
    def errors(self) -> tuple[LabelDefect, ...]:
        """The defects that make the image unusable."""
        return tuple(defect for defect in self.defects if KINDS[defect.kind][0] == "error")


def read_labels(file: Path, *, classes: int, keypoints: tuple[int, int] | None = None) -> ParsedLabels | None:
    """Read and check a label file; ``None`` where there is none.

    Args:
        file: The .txt file of one image.
        classes: Number of class names; ids from 0 to ``classes - 1`` are allowed.
        keypoints: The data.yaml's ``kpt_shape``: how many a row has, and of how many numbers each.
    """
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return _unreadable(f"the file is larger than {_MAX_BYTES >> 20} MiB")
        return parse_labels(content.decode("utf-8-sig"), classes=classes, keypoints=keypoints)
    except UnicodeDecodeError as error:
        return _unreadable(f"byte {error.start} is not UTF-8")
    except OSError as error:
        return _unreadable(f"the file can't be read ({error.strerror})")


def _unreadable(detail: str) -> ParsedLabels:
    return ParsedLabels(defects=(LabelDefect("label-file", detail),))


def parse_labels(text: str, *, classes: int, keypoints: tuple[int, int] | None = None) -> ParsedLabels:
    """Check the rows of a label file.

    Args:
        text: The file's content.
        classes: Number of class names.
        keypoints: As for :func:`read_labels`.

    Returns:
        The good rows and the defects found. Never raises, whatever the text is.
    """
    found = _Findings()
    rows: dict[LabelRow, None] = {}
    columns_seen: Counter[int] = Counter()
    box_like, filled = 0, 0.0
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        columns_seen[len(columns)] += 1
        if keypoints and len(columns) == _pose_columns(keypoints):
            columns = columns[:_BOX_COLUMNS]
        row = _parse_row(columns, number, classes, keypoints, found)
        if row is None:
            continue
        if row in rows:
            found.add("duplicate-row", number, "the row is there already")
            continue
        rows[row] = None
        if row.polygon and _is_box_like(row.polygon):
            box_like, filled = box_like + 1, max(filled, _filling(row.polygon))
    polygons = [row for row in rows if row.polygon]
    if polygons and len(polygons) < len(rows):
        found.add("mixed-rows", 0, "boxes (5 columns) and polygons are mixed, which Ultralytics rejects")
    return ParsedLabels(
        rows=tuple(rows),
        boxes=dict(Counter(row.class_id for row in rows)),
        polygons=len(polygons),
        polygon_columns=frozenset(len(row.polygon) + 1 for row in polygons),
        box_like=box_like,
        filled=filled,
        keypoints=columns_seen[_pose_columns(keypoints)] if keypoints else 0,
        defects=found.defects(),
    )


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


def _pose_columns(keypoints: tuple[int, int]) -> int:
    return _BOX_COLUMNS + keypoints[0] * keypoints[1]


def _parse_row(
    columns: Sequence[str], number: int, classes: int, keypoints: tuple[int, int] | None, found: _Findings
) -> LabelRow | None:
    wrong = _wrong_columns(columns, keypoints)
    if wrong:
        found.add("columns", number, wrong)
        return None
    for column in columns:
        if not _NUMBER.match(column):
            kind = "not-finite" if _NOT_FINITE.match(column) else "not-a-number"
            found.add(kind, number, f"{printable(repr(column), longest=40)} is no finite number")
            return None
    class_id, *values = map(float, columns)
    if not all(map(math.isfinite, (class_id, *values))):
        found.add("not-finite", number, "a number is too large")
        return None
    if not _is_class_id(class_id, number, classes, found):
        return None
    polygon = tuple(values) if len(values) > 4 else ()
    doubt = _doubt(polygon)
    if doubt:
        found.add("no-polygon", number, f"{_shown(columns)} {doubt}")
        return None
    x, y, width, height = _box_around(polygon) if polygon else values
    row = LabelRow(int(class_id), x, y, width, height, polygon)
    return row if _is_good_box(row, number, found) else None


def _shown(columns: Sequence[str]) -> str:
    return f"'{printable(' '.join(columns), longest=60)}'"


def _wrong_columns(columns: Sequence[str], keypoints: tuple[int, int] | None) -> str:
    """What is wrong with the number of columns; empty where nothing is."""
    count = len(columns)
    if count == _BOX_COLUMNS:
        return ""
    if keypoints:
        shape = f"by `kpt_shape: [{keypoints[0]}, {keypoints[1]}]` of the data.yaml"
        wanted = f"a box has 5 and {shape} a box with keypoints {_pose_columns(keypoints)}"
        return f"{count} columns, {wanted}: {_shown(columns)}"
    if count >= _MIN_POLYGON_COLUMNS and count % 2:
        return ""
    wrong = f"{count} columns, a box has 5 and a polygon an odd number from 7: {_shown(columns)}"
    if count == _BOX_COLUMNS + 1:
        return f"{wrong}; take out what is no class and no box (a confidence, an id, an angle)"
    if count > _MIN_POLYGON_COLUMNS and (count - _BOX_COLUMNS) % 3 == 0 and all(map(_NUMBER.match, columns)):
        return f"{wrong}; for keypoints, add `kpt_shape: [{(count - _BOX_COLUMNS) // 3}, 3]` to the data.yaml"
    return wrong


def _doubt(polygon: Sequence[float]) -> str:
    """Why a row that could be a polygon is taken for none; empty where it is one."""
    if not polygon or not _is_box_like(polygon):
        return ""
    behind = polygon[4:]
    if _filling(polygon) < _FILLED:
        whole = sum(value == int(value) for value in behind)
        beyond = any(not -TOLERANCE <= value <= 1 + TOLERANCE for value in behind)
        if not (beyond or whole == len(behind) or (len(behind) == 2 and (whole or behind == polygon[:2]))):
            return ""
        return (
            f"may be a polygon, or a box with {len(behind)} numbers behind it (confidence, id, flag, point); "
            "write boxes as 5 columns"
        )
    points = f"[{len(behind) // 3}, 3]" if _keypoints(behind, 3) else f"[{len(behind) // 2}, 2]"
    return (
        "begins with the centre and size of what follows, so it is a box with points and no polygon; "
        f"add `kpt_shape: {points}` to the data.yaml, or keep its first 5 columns"
    )


def _is_box_like(polygon: Sequence[float]) -> bool:
    """Whether the first four numbers would be centre and size of a box inside the image."""
    x, y, width, height = polygon[:4]
    return width > 0 and height > 0 and min(_edges(x, y, width, height)) >= -TOLERANCE


def _filling(polygon: Sequence[float]) -> float:
    """How far the points behind the first four numbers fill the box that these would be; 0 where one lies outside."""
    x, y, width, height = polygon[:4]
    best = 0.0
    for points in (_keypoints(polygon[4:], 2), _keypoints(polygon[4:], 3)):
        if not points:
            continue
        around_x, around_y, spread_x, spread_y = _box_around([value for point in points for value in point])
        room_x, room_y = 1.1 * width - spread_x, 1.1 * height - spread_y  # a point may lie a little beyond
        if 2 * abs(around_x - x) <= room_x and 2 * abs(around_y - y) <= room_y:
            best = max(best, min(spread_x / width, spread_y / height))
    return best


def _keypoints(numbers: Sequence[float], dimensions: int) -> list[tuple[float, float]] | None:
    """The visible points of 2 numbers each, or of 3 with 0, 1 or 2 as the third; ``None`` where they are no such."""
    if len(numbers) % dimensions:
        return None
    flags = numbers[2::3] if dimensions == 3 else [1.0] * (len(numbers) // 2)
    if any(flag not in {0.0, 1.0, 2.0} for flag in flags):
        return None
    points = zip(numbers[::dimensions], numbers[1::dimensions], flags, strict=True)
    return [(x, y) for x, y, flag in points if flag and (x or y)]


def _is_class_id(class_id: float, number: int, classes: int, found: _Findings) -> bool:
    if class_id < 0 or class_id != int(class_id):
        found.add("class-id", number, f"class id {class_id:g} is no whole number from 0")
        return False
    if class_id >= classes:
        found.add("class-id", number, f"class id {class_id:g} is beyond the {classes} names (0 to {classes - 1})")
        return False
    return True


def _is_good_box(row: LabelRow, number: int, found: _Findings) -> bool:
    x, y, width, height = row[1:5]
    outside = next((value for value in (x, y, width, height) if not -TOLERANCE <= value <= 1 + TOLERANCE), None)
    if outside is not None:
        found.add("out-of-range", number, f"coordinate {outside:g} is outside 0 to 1 (pixels instead of fractions?)")
        return False
    if width <= 0 or height <= 0:
        found.add("no-area", number, f"the box is {width:g} wide and {height:g} high")
        return False
    beyond = -min(_edges(x, y, width, height))
    if beyond > TOLERANCE:
        found.add("beyond-edge", number, f"the box reaches {beyond:.1%} beyond the image's edge")
    return True


def _edges(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """How far inside the image each edge of a box lies; negative: beyond it."""
    return x - width / 2, 1 - x - width / 2, y - height / 2, 1 - y - height / 2


def _box_around(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre and size of the box around ``x1 y1 x2 y2 …``."""
    xs, ys = polygon[::2], polygon[1::2]
    return (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
