"""What the columns of a MOTChallenge file mean, and whether a ground truth and a result count alike.

Files leave open whether column 8 is a class, where frames and classes begin, and what unit boxes have. Each of these
is decided from all lines of both files: what they say for certain is taken and said, the rest is refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from guardianflow.evaluation.boxes import are_shares
from guardianflow.evaluation.mot.preprocess import MOT_CLASSES
from guardianflow.evaluation.mot.sequences import Ints, Tracks
from guardianflow.evaluation.mot.text import MotFileError, TextTable

__all__ = ["class_column", "classes_agree", "counted_from", "frames_agree", "in_pixels", "units_agree"]

_CLASS = 7  # place of column 8
_MOST_CLASSES = 10**6
_UNKNOWN = -1


def class_column(table: TextTable) -> Ints | None:
    """The class of each line; ``None`` where the file names none.

    It names none without a column 8, with -1 throughout, with 0 in columns 8 to 10 throughout, and where they are
    the world coordinates of MOTChallenge 2015.

    Raises:
        MotFileError: Column 8 is a class on some lines only.
    """
    if len(table.numbers) <= _CLASS:
        return None
    column, beside = table.column(_CLASS), [table.column(place) for place in range(_CLASS + 1, len(table.numbers))]
    unknown = column == _UNKNOWN
    known = np.isfinite(column) & (column >= 0) & (column == np.floor(column)) & (column <= _MOST_CLASSES)
    three = len(beside) >= 2
    if unknown.all() or (three and not any(part.any() for part in (column, *beside[:2]))):
        return None
    if known.all():
        return column.astype(np.int64)
    strange = ~(known | unknown)
    if three and strange.any() and any((part != _UNKNOWN).any() for part in beside[:2]):
        return None
    table.refuse(strange, "column 8 is the class, a whole number from 0 up, or -1 on every line")
    other = known != known[0]
    line, _ = table.line(0)
    raise table.fault(
        int(np.argmax(other)),
        f"column 8 is the class on every line, or -1 on every line; line {line} has {column[0]:g}, this one "
        f"{column[np.argmax(other)]:g}. Write each line's class into it, or -1 throughout",
    )


def counted_from(table: TextTable) -> int:
    """0 where a line has the frame 0, else 1."""
    return int(not (table.rows and (table.column(0) == 0).any()))


def frames_agree(gt: TextTable, result: TextTable) -> int:
    """Where both files begin to count frames: 0 or 1.

    Raises:
        MotFileError: Only one of them has a frame 0.
    """
    first = {table.path: counted_from(table) for table in (gt, result) if table.rows}
    for table, other in ((gt, result), (result, gt)):
        if len(set(first.values())) == 2 and first[table.path] == 0:
            raise table.fault(
                int(np.argmax(table.column(0) == 0)),
                f"frames are counted from 1, or from 0 in both files; {other.path} has no frame 0. Count both alike",
            )
    return min(first.values(), default=1)


def classes_agree(
    gt: tuple[TextTable, Tracks], result: tuple[TextTable, Tracks], *, chosen: bool
) -> tuple[Tracks, Tracks]:
    """Both sides with class numbers that can be compared, and what had to be settled as remarks.

    Args:
        gt: The file and its tracks, row by row.
        result: The same.
        chosen: The user named the classes, and so the numbers.

    Raises:
        MotFileError: One file counts classes from 0 and the other from 1, or only one names classes and which of them
            the other has can't be told.
    """
    (gt_table, truth), (table, found) = gt, result
    labelled, seen = set(truth.label.tolist()), set(found.label.tolist())
    if not labelled or not seen or not (truth.named or found.named):
        return truth, found
    if not found.named:
        return truth, _classless(table, found, labelled, f"the ground truth has the classes {_listed(labelled)}")
    if not truth.named:
        return _classless(gt_table, truth, seen, f"the result has the classes {_listed(seen)}"), found
    if not chosen and 0 in seen - labelled:
        raise _shifted(result, gt_table, labelled, seen)
    if not chosen and 0 in labelled - seen and not seen <= labelled:
        raise _shifted(gt, table, seen, labelled)
    if 0 in labelled - seen:
        line, _ = gt_table.line(int(np.argmax(truth.label == 0)))
        count = int(np.count_nonzero(truth.label == 0))
        remark = f"{gt_table.path.name} has {count} boxes of class 0 (the first in line {line}), the result has none."
        truth = truth.noting(remark)
    return truth, found


def _classless(table: TextTable, tracks: Tracks, others: set[int], have: str) -> Tracks:
    """Tracks of a file that names no classes, held against the classes of the other file."""
    name = table.path.name
    if len(others) == 1:
        (only,) = others
        remark = f"{name} names no classes; its boxes count as class {only}, the only one of the other file."
        return tracks if only == 1 else replace(tracks, label=np.full(len(tracks), only)).noting(remark)
    if 1 in others and 0 not in others:
        return tracks.noting(
            f"{name} names no classes and {have}: its boxes count as class 1 ({MOT_CLASSES[1]}), as in MOTChallenge."
        )
    raise table.fault(
        0, f"this file names no classes (column 8) and {have}: which of them a box has can't be told. Write the class "
        "into column 8 of each line",
    )  # fmt: skip


def _shifted(from_0: tuple[TextTable, Tracks], other: TextTable, others: set[int], own: set[int]) -> MotFileError:
    table, tracks = from_0
    return table.fault(
        int(np.argmax(tracks.label == 0)),
        f"this file counts classes from 0 ({_listed(own)}), and {other.path} has {_listed(others)}: which of them are "
        "the same can't be told. Count both alike, or name the classes to score with --class",
    )


def _listed(labels: set[int]) -> str:
    some = ", ".join(map(str, sorted(labels)[:6]))
    return some + (" …" if len(labels) > 6 else "")


def units_agree(
    gt: tuple[TextTable, Tracks], result: tuple[TextTable, Tracks], size: tuple[int, int] | None
) -> tuple[Tracks, Tracks]:
    """Both sides in one unit.

    Args:
        gt: The file and its tracks.
        result: The same.
        size: Width and height of the images, where they are known.

    Raises:
        MotFileError: One file holds shares of the image, the other pixels, and the size isn't known.
    """
    sides = [gt, result]
    shares = [are_shares(tracks.box) for _, tracks in sides]
    if not any(shares):
        return gt[1], result[1]
    if all(shares) and size is None:
        both = "both files hold boxes as shares of the image (all within 0–1); the overlaps are the same as in pixels."
        return gt[1].noting(both), result[1]
    for (table, tracks), share in zip(sides, shares, strict=True):
        if share and size is None and all(len(each) for _, each in sides):
            raise table.fault(
                0, f"boxes are in pixels, as in the other file; the {len(tracks)} of this file are shares of the image "
                "(all within 0–1) and the image's size isn't known. Multiply them by width and height, or put a "
                "seqinfo.ini with imWidth and imHeight beside the ground truth",
            )  # fmt: skip
    scaled = (in_pixels(tracks, size, table.path.name) if size else tracks for table, tracks in sides)
    return next(scaled), next(scaled)


def in_pixels(tracks: Tracks, size: tuple[int, int], name: str) -> Tracks:
    """Boxes that are shares of the image, scaled to its size; others as they are."""
    if not are_shares(tracks.box):
        return tracks
    scaled = replace(tracks, box=tracks.box * np.array([*size, *size], np.float64))
    return scaled.noting(
        f"{name}: the {len(tracks)} boxes are shares of the image (all within 0–1); left, top, width and height were "
        f"scaled to {size[0]}×{size[1]} pixels."
    )
