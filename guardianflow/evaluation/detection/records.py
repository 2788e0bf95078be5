"""What a model saw on labelled images, as flat arrays: the truth, the predictions, and the facts of the run.

A :class:`DetectionRecord` is saved as Parquet, so that later comparisons need no second inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.record_files import read_record, write_record
from guardianflow.exceptions import InputError
from guardianflow.text.frozen import Frozen

__all__ = ["DetectionRecord", "GroundTruth", "Images", "Predictions"]

_Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a record, in the order that the other arrays count them.

    Attributes:
        names: By image; each name once.
        width: int32 (n,), pixels.
        height: int32 (n,), pixels.

    Raises:
        InputError: Lengths differ, a name comes twice, or a size is not positive.
    """

    names: tuple[str, ...]
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        count = len(self.names)
        for name in ("width", "height"):
            values = _column(self, name, np.int32, (count,), "images")
            if count and values.min() <= 0:
                place = int(values.argmin())
                raise InputError(
                    f"an image's {name} must be at least 1 pixel; {self.names[place]!r} has {values[place]}. "
                    "Read the size from the image file."
                )
        if len(set(self.names)) != count:
            twice = Counter(self.names).most_common(1)[0][0]
            raise InputError(f"each image may stand in a record once; {twice!r} comes twice. Drop the repetition.")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The labelled boxes of all images.

    Attributes:
        image: int32 (g,), index into the images.
        label: int32 (g,), index into the classes.
        box: float64 (g, 4), x1 y1 x2 y2 in pixels of the original image.
        crowd: bool (g,); a crowd region is no object to find, and a prediction in it is no mistake.
        area: float64 (g,), square pixels; decides the size bucket (COCO: of the mask, else of the box).

    Raises:
        InputError: Lengths differ, or a figure is not finite or negative where it can't be.
    """

    image: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    box: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]
    area: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.image)
        _column(self, "image", np.int32, (count,), "truth")
        _column(self, "label", np.int32, (count,), "truth")
        _check_boxes(_column(self, "box", np.float64, (count, 4), "truth"), "truth")
        _column(self, "crowd", np.bool_, (count,), "truth")
        area = _column(self, "area", np.float64, (count,), "truth")
        _check_each(np.isfinite(area) & (area >= 0), "the area of a labelled box must be a number of at least 0", area)

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predicted boxes of all images, in any order.

    Attributes:
        image: int32 (p,), index into the images.
        label: int32 (p,), index into the classes.
        score: float64 (p,), confidence 0–1.
        box: float64 (p, 4), x1 y1 x2 y2 in pixels of the original image.

    Raises:
        InputError: Lengths differ, or a figure is not finite or negative where it can't be.
    """

    image: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    score: npt.NDArray[np.float64]
    box: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.image)
        _column(self, "image", np.int32, (count,), "predictions")
        _column(self, "label", np.int32, (count,), "predictions")
        score = _column(self, "score", np.float64, (count,), "predictions")
        _check_each(np.isfinite(score), "the score of a prediction must be a finite number", score)
        _check_boxes(_column(self, "box", np.float64, (count, 4), "predictions"), "predictions")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class DetectionRecord:
    """All that later comparisons need of one evaluation: no second inference.

    Attributes:
        images: What was looked at, empty images included.
        classes: Class names by label.
        truth: The labelled boxes.
        predictions: The predicted boxes.
        facts: Plain JSON about the run (``dataset_fingerprint``, ``split``, ``confidence_floor``, ``iou``,
            ``max_det``, ``imgsz``, ``backend``, ``precision``, ``model_sha256`` …).

    Raises:
        InputError: A box names an image or a class that the record doesn't have.
    """

    images: Images
    classes: tuple[str, ...]
    truth: GroundTruth
    predictions: Predictions
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "facts", Frozen(self.facts))
        for table in ("truth", "predictions"):
            rows: GroundTruth | Predictions = getattr(self, table)
            _check_range(rows.image, len(self.images), f"{table}: image")
            _check_range(rows.label, len(self.classes), f"{table}: label")

    def save(self, folder: str | Path) -> Path:
        """Write the record to a new folder, whole or not at all.

        The folder holds ``images.parquet``, ``truth.parquet``, ``predictions.parquet`` (with the outcome of
        each prediction at IoU 0.5: which truth it met) and ``facts.json``.

        Raises:
            InputError: The folder exists and holds something, or the facts are no plain JSON.
        """
        return write_record(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> DetectionRecord:
        """Read a record that :meth:`save` wrote.

        Raises:
            NotFoundError: There is no such folder.
            InputError: A file is missing, damaged, or of another version.
        """
        stored = read_record(Path(folder))
        try:
            return cls(
                images=Images(**stored.images),
                classes=stored.classes,
                truth=GroundTruth(**stored.truth),
                predictions=Predictions(**stored.predictions),
                facts=stored.facts,
            )
        except InputError as error:
            raise InputError(f"the record in {folder} is damaged: {error}") from error


def _column(owner: object, name: str, dtype: Any, shape: tuple[int, ...], table: str) -> _Array:
    """One array of a frozen table, in its type and read-only; the caller's own array stays writable."""
    given = np.asarray(getattr(owner, name))
    if given.size == 0 and shape[0] == 0:
        given = given.reshape(shape)
    if given.shape != shape:
        raise InputError(
            f"{table}: {name} must have shape {shape}, one row an entry, and has {given.shape}. Hand over whole tables."
        )
    try:
        values = np.ascontiguousarray(given, dtype=dtype).view()
    except (TypeError, ValueError) as error:
        raise InputError(f"{table}: {name} must be numbers ({np.dtype(dtype)}): {error}") from error
    values.flags.writeable = False
    object.__setattr__(owner, name, values)
    return values


def _check_each(sound: npt.NDArray[np.bool_], rule: str, values: _Array) -> None:
    if not sound.all():
        place = int(np.flatnonzero(~sound)[0])
        raise InputError(f"{rule}; entry {place} has {values[place]}. Correct or drop that entry.")


def _check_boxes(boxes: npt.NDArray[np.float64], table: str) -> None:
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    _check_each(finite, f"{table}: a box must be four finite numbers", boxes)
    ordered = np.asarray((boxes[:, 2:] >= boxes[:, :2]).all(axis=1))
    _check_each(ordered, f"{table}: a box must be x1 y1 x2 y2 with x1 ≤ x2 and y1 ≤ y2", boxes)


def _check_range(values: npt.NDArray[np.int32], count: int, what: str) -> None:
    inside = (values >= 0) & (values < count)
    if not inside.all():
        place = int(np.flatnonzero(~inside)[0])
        raise InputError(f"{what} must lie in 0–{count - 1}; entry {place} has {values[place]}. Correct that entry.")
