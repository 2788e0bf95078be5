"""MOTChallenge's and KITTI's text files: tracks in, and out for MOTChallenge.

A MOTChallenge line is ``frame, id, left, top, width, height, confidence, class, visibility`` with frames from 1; a
result has ``-1, -1, -1`` after the confidence. A KITTI line is ``frame id type truncation occlusion alpha x1 y1 x2 y2
…`` with frames from 0, and the score as its 18th field in a result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guardianflow.evaluation.mot.agreement import class_column
from guardianflow.evaluation.mot.preprocess import KITTI_CLASSES
from guardianflow.evaluation.mot.sequences import MAX_FRAMES, MAX_ID, Floats, Ints, Tracks, first_repeat
from guardianflow.evaluation.mot.text import MotFileError, TextTable, read_table
from guardianflow.files.run_folder import write_text

__all__ = [
    "KittiTracks",
    "MotFileError",
    "mot_tracks",
    "read_kitti_tracks",
    "read_mot_table",
    "read_mot_tracks",
    "write_mot_tracks",
]

_DONT_CARE = 0  # no class of KITTI's; such a line is a region
_KITTI_NUMBERS = {**{name: number for number, name in KITTI_CLASSES.items()}, "person_sitting": 5, "dontcare": 0}
_KITTI_NAMES = {**{number: name.capitalize() for number, name in KITTI_CLASSES.items()}, _DONT_CARE: "DontCare"}
_KITTI_SCORE = 17
_UNSEEN = "marks detections that no tracker has seen yet: run one first, or take those lines out"


def read_mot_tracks(path: str | Path, *, ground_truth: bool = False, frames: int | None = None) -> Tracks:
    """Tracks from a file of MOTChallenge (2015 to 2020).

    Column 8 is the class where it holds whole numbers from 0 up; where the file names no classes (-1 throughout, or
    the world coordinates of MOTChallenge 2015) every box has class 1. A box of negative width or height has no area.

    Args:
        path: ``gt.txt`` or a result; separated by commas or spaces.
        ground_truth: Column 7 must be there, and column 9 is the visibility.
        frames: Length of the sequence, where it is known.

    Raises:
        NotFoundError: No such file.
        MotFileError: A line that breaks a rule, named by its number.
    """
    return mot_tracks(read_mot_table(path, ground_truth=ground_truth), ground_truth=ground_truth, frames=frames)


def read_mot_table(path: str | Path, *, ground_truth: bool = False) -> TextTable:
    """The columns of a MOTChallenge file, before they mean anything; errors as in :func:`read_mot_tracks`."""
    return read_table(Path(path), columns=7 if ground_truth else 6)


def mot_tracks(table: TextTable, *, ground_truth: bool = False, frames: int | None = None, first: int = 1) -> Tracks:
    """As :func:`read_mot_tracks`, from columns that were read; ``first`` is the number of the first frame."""
    if not table.rows:
        return Tracks.empty()
    frame = _frames(table, first=first, frames=frames)
    identity = _identities(table)
    left, top, width, height = (table.column(index) for index in range(2, 6))
    box = np.stack([left, top, left + width, top + height], axis=1)
    confidence = table.column(6) if len(table.numbers) > 6 else np.ones(table.rows)
    table.refuse(~np.isfinite(box).all(axis=1) | ~np.isfinite(confidence), "box and confidence must be finite numbers")
    classes = class_column(table)
    label = np.ones(table.rows, np.int64) if classes is None else classes
    visible = classes is not None and ground_truth and len(table.numbers) == 9
    _refuse_repeats(table, frame, label, identity)
    table.refuse(identity == -1, f"an id of -1 {_UNSEEN}")
    remarks = _flatten(table, box)
    if first == 0:
        remarks = (f"{table.path.name} counts frames from 0, and is read so.", *remarks)
    return Tracks(
        frame=frame, id=identity, box=box, label=label, confidence=confidence, named=classes is not None,
        visibility=table.column(8) if visible else None, remarks=remarks,
    )  # fmt: skip


def _flatten(table: TextTable, box: Floats) -> tuple[str, ...]:
    """Make boxes whose right or bottom edge comes first ones without area, in place, and say how many there were."""
    flat = np.asarray((box[:, 2:] < box[:, :2]).any(axis=1))
    box[:, 2:] = np.maximum(box[:, 2:], box[:, :2])
    if not flat.any():
        return ()
    count, (line, _) = int(np.count_nonzero(flat)), table.line(int(np.argmax(flat)))
    remark = (
        f"{table.path.name}: {count} of {table.rows} boxes end before they begin (the first in line {line}), as some "
        "trackers write objects beyond the edge of the image; they count as boxes without area, which match nothing."
    )
    return (remark,)


def _frames(table: TextTable, *, first: int, frames: int | None) -> Ints:
    """The frame column, counted from 0."""
    column = table.column(0)
    table.refuse(~np.isfinite(column) | (column != np.floor(column)), "the frame must be a whole number")
    table.refuse(column < first, f"frames are counted from {first}")
    last = MAX_FRAMES if frames is None else frames
    what = f"a sequence has at most {MAX_FRAMES:,} frames" if frames is None else f"the sequence has {frames:,} frames"
    table.refuse(column >= last + first, f"{what}, this line is beyond its end")
    return column.astype(np.int64) - first


def _identities(table: TextTable) -> Ints:
    column = table.column(1)
    table.refuse(~np.isfinite(column) | (column != np.floor(column)), "the id must be a whole number")
    table.refuse(np.abs(column) > MAX_ID, "ids go up to 2**53")
    return column.astype(np.int64)


def _refuse_repeats(table: TextTable, frame: Ints, label: Ints, identity: Ints, rows: Ints | None = None) -> None:
    """No id twice in a frame and class, among these rows or all."""
    rows = np.arange(table.rows) if rows is None else rows
    frame, label, identity = frame[rows], label[rows], identity[rows]
    row = first_repeat(frame, label, identity)
    if row is None:
        return
    same = (frame == frame[row]) & (label == label[row]) & (identity == identity[row])
    before, _ = table.line(int(rows[np.argmax(same)]))
    rule = f"an id stands once a frame, id {int(identity[row])} stood in line {before} already"
    if identity[row] == -1:
        rule += f" (-1 {_UNSEEN})"
    raise table.fault(int(rows[row]), rule)


@dataclass(frozen=True, eq=False)
class KittiTracks:
    """What a KITTI tracking file holds.

    Attributes:
        tracks: Its boxes; class numbers as in :data:`~guardianflow.evaluation.mot.preprocess.KITTI_CLASSES`.
        ignore_frame: (r,) frame of each DontCare region.
        ignore_box: (r, 4) those regions.
        last_frame: The highest frame, counted from 0; -1 in an empty file.
        first_frame: The lowest frame; 0 in an empty file.
    """

    tracks: Tracks
    ignore_frame: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    ignore_box: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    last_frame: int = -1
    first_frame: int = 0


def read_kitti_tracks(path: str | Path, *, frames: int | None = None) -> KittiTracks:
    """Tracks and DontCare regions from a KITTI tracking file; lines with a negative id are no tracks.

    A box with x2 < x1 or y2 < y1 has no area, as in trackeval; published results hold such boxes.

    Args:
        path: A file of ``label_02`` or a result.
        frames: Length of the sequence, where it is known.

    Raises:
        NotFoundError: No such file.
        MotFileError: A line that breaks a rule, named by its number.
    """
    table = read_table(Path(path), columns=10, word_column=2)
    if not table.rows:
        return KittiTracks(Tracks.empty())
    names, place = np.unique(table.words, return_inverse=True)
    strange = np.array([str(name) not in _KITTI_NUMBERS for name in names], np.bool_)
    table.refuse(
        np.asarray(strange[place], np.bool_).reshape(-1),
        f"the type must be one of KITTI's ({', '.join(_KITTI_NAMES.values())})",
    )
    label = np.array([_KITTI_NUMBERS.get(str(name), 0) for name in names], np.int64)[place]
    frame, identity = _frames(table, first=0, frames=frames), _identities(table)
    box = np.stack([table.column(index) for index in range(6, 10)], axis=1)
    marks = np.stack([table.column(3), table.column(4)], axis=1)
    score = table.column(_KITTI_SCORE) if len(table.numbers) > _KITTI_SCORE else np.ones(table.rows)
    finite = np.isfinite(np.concatenate([box, marks, score[:, None]], axis=1)).all(axis=1)
    table.refuse(~finite, "truncation, occlusion, box and score must be finite numbers")
    remarks = _flatten(table, box)
    nobody = int(np.count_nonzero((label != _DONT_CARE) & (identity < 0)))
    if nobody:
        remarks += (f"{table.path.name}: {nobody} lines with a negative id are no tracks and are left out.",)
    region, kept = label == _DONT_CARE, np.flatnonzero((label != _DONT_CARE) & (identity >= 0))
    _refuse_repeats(table, frame, label, identity, kept)
    truncation, occlusion = (marks[kept, index].astype(np.int64) for index in (0, 1))
    tracks = Tracks(
        frame=frame[kept], id=identity[kept], box=box[kept], label=label[kept], confidence=score[kept],
        truncation=truncation, occlusion=occlusion, remarks=remarks,
    )  # fmt: skip
    return KittiTracks(tracks, frame[region], box[region], int(frame.max()), int(frame.min()))


def write_mot_tracks(path: str | Path, tracks: Tracks, *, ground_truth: bool = False) -> Path:
    """Write tracks as MOTChallenge does: 10 columns for a result, 9 for ground truth.

    A box read back differs from the one written by rounding of its last digit at most, as width and height stand in
    the file and not its second corner.
    """
    size = tracks.box[:, 2:] - tracks.box[:, :2]
    columns = [(tracks.frame + 1).tolist(), tracks.id.tolist(), *_texts(tracks.box[:, :2]), *_texts(size)]
    columns += _texts(tracks.confidence[:, None])
    if ground_truth:
        visible = np.ones(len(tracks)) if tracks.visibility is None else tracks.visibility
        columns += [tracks.label.tolist(), *_texts(visible[:, None])]
        return _write(path, [",".join(map(str, row)) for row in zip(*columns, strict=True)])
    classes = tracks.label.tolist() if (tracks.label != 1).any() else [-1] * len(tracks)
    return _write(path, [",".join(map(str, row)) + ",-1,-1" for row in zip(*columns, classes, strict=True)])


def _texts(columns: Floats) -> list[list[str]]:
    """Each column as the shortest text that reads back as the same number; whole ones without a point."""
    return [[repr(value).removesuffix(".0") for value in column] for column in columns.T.tolist()]


def _write(path: str | Path, lines: list[str]) -> Path:
    return write_text(Path(path), "".join(f"{line}\n" for line in lines))
