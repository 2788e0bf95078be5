"""What multi-object tracking is scored on: the tracks of a sequence as flat arrays, one row a box.

Nothing here knows a file format or a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError

__all__ = ["MAX_FRAMES", "MAX_ID", "Sequence", "Tracks", "compact", "first_repeat"]

MAX_FRAMES = 10_000_000
"""The longest sequence: more than four days at 25 frames a second."""

MAX_ID = 2**53
"""The largest identity: text files hold numbers that a double must be able to carry exactly."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TABLE_CELLS = 1_000_000  # a look-up table up to this size is cheaper than a sort


def compact(values: Ints) -> tuple[int, Ints]:
    """Number the distinct values 0, 1, … in ascending order.

    Returns:
        How many distinct values there are, and the number of each value.
    """
    if not len(values):
        return 0, np.zeros(0, np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low < max(_TABLE_CELLS, 4 * len(values)):
        table = np.zeros(high - low + 1, np.int64)
        offsets = values - low
        table[offsets] = 1
        numbers = np.cumsum(table) - 1
        return int(numbers[-1]) + 1, numbers[offsets]
    unique, inverse = np.unique(values, return_inverse=True)
    return len(unique), inverse.astype(np.int64, copy=False)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes with identities, as they were labelled or as a tracker reported them.

    Attributes:
        frame: (n,) frame of each box, counted from 0.
        id: (n,) identity, from ``-MAX_ID`` to ``MAX_ID``; at most one box of it in each frame and class.
        box: (n, 4) x1, y1, x2, y2 in pixels.
        label: (n,) class number; 1 throughout when left out.
        confidence: (n,) score of a prediction. For MOTChallenge's ground truth: 0 = not to be scored. 1 when left out.
        visibility: (n,) visible share 0–1, where the ground truth tells it.
        truncation: (n,) KITTI's 0–2, where the ground truth tells it.
        occlusion: (n,) KITTI's 0–3, where the ground truth tells it.
        named: Whether the file tells classes; where it doesn't, each label is 1.
        remarks: What the reader had to say, in sentences.

    Raises:
        InputError: Lengths that differ, numbers that are not finite, negative sizes, an identity twice in a frame.
    """

    frame: Ints
    id: Ints
    box: Floats
    label: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    confidence: Floats = field(default_factory=lambda: np.zeros(0))
    visibility: Floats | None = None
    truncation: Ints | None = None
    occlusion: Ints | None = None
    named: bool = True
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.frame)
        store = object.__setattr__
        store(self, "frame", _whole(self.frame, "frame"))
        store(self, "id", _whole(self.id, "id"))
        store(self, "box", np.ascontiguousarray(self.box, np.float64).reshape(-1, 4))
        store(self, "label", _whole(self.label, "label") if len(self.label) else np.ones(count, np.int64))
        scores = np.asarray(self.confidence, np.float64)
        store(self, "confidence", scores if len(scores) else np.ones(count))
        for name in ("visibility", "truncation", "occlusion"):
            store(self, name, None if getattr(self, name) is None else np.asarray(getattr(self, name)))
        for name, value in self._columns().items():
            if len(value) != count:
                raise InputError(f"every column of tracks needs one value a box: {count} frames, {name} {value.shape}")
        self._check_values()

    def _check_values(self) -> None:
        if not len(self):
            return
        if not np.isfinite(self.box).all() or not np.isfinite(self.confidence).all():
            raise InputError("boxes and confidences must be finite numbers; NaN or infinity was found")
        bad = (self.box[:, 2:] < self.box[:, :2]).any(axis=1)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"a box is x1, y1, x2, y2 with x2 ≥ x1 and y2 ≥ y1; box {row} is {self.box[row].tolist()}")
        if int(self.frame.min()) < 0:
            raise InputError(f"frames are counted from 0; {int(self.frame.min())} was found")
        if max(abs(int(self.id.min())), abs(int(self.id.max()))) > MAX_ID:
            raise InputError(f"identities lie within ±2**53; {int(self.id.min())} to {int(self.id.max())} were found")
        again = first_repeat(self.frame, self.label, self.id)
        if again is not None:
            raise InputError(
                f"an identity stands once a frame and class at most; id {int(self.id[again])} is twice in frame "
                f"{int(self.frame[again])} (counted from 0)"
            )

    def __len__(self) -> int:
        return len(self.frame)

    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    @classmethod
    def empty(cls) -> Self:
        """No boxes at all."""
        return cls(frame=np.zeros(0, np.int64), id=np.zeros(0, np.int64), box=np.zeros((0, 4)))

    def take(self, rows: npt.NDArray[Any]) -> Tracks:
        """These rows, by index or by mask, in the order given."""
        taken: dict[str, Any] = {name: value[rows] for name, value in self._columns().items()}
        return replace(self, **taken)

    def noting(self, *remarks: str) -> Tracks:
        """The same boxes with more to say of them."""
        return replace(self, remarks=(*self.remarks, *remarks))

    def by_frame(self) -> Tracks:
        """The same boxes by ascending frame; boxes of a frame keep their order."""
        if not len(self) or (np.diff(self.frame) >= 0).all():
            return self
        return self.take(np.argsort(self.frame, kind="stable"))


def first_repeat(frame: Ints, label: Ints, identity: Ints) -> int | None:
    """The first row whose identity stood in its frame and class before; ``None`` where there is none."""
    (labels, label), (count, numbers), (frames, frame) = compact(label), compact(identity), compact(frame)
    if frames * labels * count < max(_TABLE_CELLS, 64 * len(frame)):
        seen = np.zeros(frames * labels * count, np.bool_)
        seen[(frame * labels + label) * count + numbers] = True
        if int(np.count_nonzero(seen)) == len(frame):
            return None
    order = np.lexsort((numbers, label, frame))
    same = (np.diff(frame[order]) == 0) & (np.diff(label[order]) == 0) & (np.diff(numbers[order]) == 0)
    return int(order[1:][same].min()) if same.any() else None


def _whole(values: npt.ArrayLike, what: str) -> Ints:
    """Whole numbers as int64; floats are taken where they are whole."""
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return array.astype(np.int64, copy=False).reshape(-1)
    whole = array.astype(np.float64).reshape(-1)
    if not np.isfinite(whole).all() or (whole != np.floor(whole)).any() or (np.abs(whole) > MAX_ID).any():
        raise InputError(f"{what} must hold whole numbers within ±2**53")
    return whole.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Sequence:
    """One sequence: what was labelled in it and what a tracker reported.

    Attributes:
        name: Of the sequence.
        frames: How many frames it has.
        gt: Labelled tracks.
        tracker: Reported tracks.
        class_names: Names of the class numbers; a number without one is called by its digits.
        ignore_frame: (r,) frame of each region in which nothing is labelled (KITTI's DontCare).
        ignore_box: (r, 4) those regions, x1, y1, x2, y2.
        remarks: What is to be said of both sides together, in sentences.

    Raises:
        InputError: A frame beyond the sequence's end, or a sequence without a sensible length.
    """

    name: str
    frames: int
    gt: Tracks
    tracker: Tracks
    class_names: Mapping[int, str] = field(default_factory=dict)
    ignore_frame: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    ignore_box: Floats = field(default_factory=lambda: np.zeros((0, 4)))
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.frames <= MAX_FRAMES:
            raise InputError(f"a sequence has 0 to {MAX_FRAMES:,} frames; {self.name!r} has {self.frames:,}")
        object.__setattr__(self, "gt", self.gt.by_frame())
        object.__setattr__(self, "tracker", self.tracker.by_frame())
        for what, tracks in (("ground truth", self.gt), ("result", self.tracker)):
            if len(tracks) and int(tracks.frame[-1]) >= self.frames:
                raise InputError(
                    f"sequence {self.name!r} has {self.frames} frames; the {what} has a box in frame "
                    f"{int(tracks.frame[-1])} (counted from 0)"
                )

    def class_name(self, label: int) -> str:
        """What a class number is called."""
        return self.class_names.get(label, str(label))

    def labels(self) -> list[int]:
        """Class numbers that occur, ascending."""
        return sorted({int(label) for label in np.unique(np.concatenate([self.gt.label, self.tracker.label]))})
