"""The images on which two models disagree most: what one of them finds, misses or imagines, and the other doesn't."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from guardianflow.data.dataset import Dataset
from guardianflow.evaluation.detection.matching import match_at
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Predictions
from guardianflow.exceptions import GuardianFlowError
from guardianflow.plots.predictions import PairBox, PairImage
from guardianflow.vision.pipeline.decoding import decode_image
from guardianflow.vision.samples import thumbnail

__all__ = ["Disagreement", "Found", "find_disagreement", "most_disputed"]


class Found(TypedDict):
    """What a model finds of the labelled objects, and how many of its boxes show nothing that is labelled."""

    labelled: int
    found: int
    imagined: int


@dataclass(frozen=True, eq=False)
class _Seen:
    """One model's boxes of at least the confidence, held against the labels.

    Attributes:
        boxes: Those boxes.
        right: bool (p,), each found a labelled object.
        wrong: bool (p,), each shows nothing that is labelled.
        truth: int32 (p,), row of the object it found, else -1.
        met: bool (g,), each labelled object was found.
    """

    boxes: Predictions
    right: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.int32]
    met: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Two models on the same images.

    Attributes:
        record: The images and labels.
        confidence: From which boxes count.
        sides: What each saw.
        alone: bool (p,) of each: the box shows nothing that is labelled, nor does the other show it.
    """

    record: DetectionRecord
    confidence: float
    sides: tuple[_Seen, _Seen]
    alone: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]

    def found(self) -> tuple[Found, Found]:
        """Each model's counts over all images."""
        counted = ~self.record.truth.crowd
        first, second = (
            Found(labelled=int(counted.sum()), found=int(side.met[counted].sum()), imagined=int(side.wrong.sum()))
            for side in self.sides
        )
        return first, second

    def by_image(self) -> npt.NDArray[np.int64]:
        """How far apart the two are on each image (images,); an object that one misses counts double."""
        count = len(self.record.images)
        one, other = self.sides
        disputed = (one.met != other.met) & ~self.record.truth.crowd
        total = 2 * np.bincount(self.record.truth.image[disputed], minlength=count)
        for side, alone in zip(self.sides, self.alone, strict=True):
            total = total + np.bincount(side.boxes.image[alone], minlength=count)
        return total


def find_disagreement(first: DetectionRecord, second: DetectionRecord, *, confidence: float = 0.25) -> Disagreement:
    """Hold two models' boxes against the labels and against each other (IoU 0.5, within a class).

    Args:
        first: What one model saw.
        second: What the other saw, on the same images with the same labels.
        confidence: Boxes below are left out.
    """
    one, other = _seen(first, confidence), _seen(second, confidence)
    return Disagreement(first, confidence, (one, other), _alone(first, one, other))


def most_disputed(found: Disagreement, dataset: Dataset | None, *, split: str, count: int = 6) -> list[PairImage]:
    """The images on which the two disagree most, the worst first; where they agree on all, none.

    Args:
        found: The two models.
        dataset: Where the photographs are; without it, or where one is gone or was changed, boxes stand alone.
        split: Which split the record is of.
        count: How many images at most.
    """
    files = {} if dataset is None else {dataset.relative_name(image): image for image in dataset.images(split)}
    apart = found.by_image()
    images = found.record.images
    worst = [int(place) for place in np.argsort(-apart, kind="stable")[:count] if apart[place]]
    return [
        PairImage(
            name=images.names[place], width=int(images.width[place]), height=int(images.height[place]),
            jpeg=_picture(files.get(images.names[place]), (int(images.height[place]), int(images.width[place]))),
            sides=[_boxes(found, side, place) for side in (0, 1)],
        )
        for place in worst
    ]  # fmt: skip


def _picture(file: Any, shape: tuple[int, int]) -> str:
    try:
        pixels = None if file is None else decode_image(file)
    except GuardianFlowError:
        return ""
    return "" if pixels is None or pixels.shape[:2] != shape else thumbnail(pixels)


def _seen(record: DetectionRecord, confidence: float) -> _Seen:
    found = record.predictions
    sure = found.score >= confidence
    boxes = Predictions(found.image[sure], found.label[sure], found.score[sure], found.box[sure])
    met = match_at(DetectionRecord(record.images, record.classes, record.truth, boxes))
    right = met.outcome == 1
    reached = np.zeros(len(record.truth), bool)
    reached[met.truth[right]] = True
    return _Seen(boxes, right, met.outcome == 0, met.truth, reached)


def _alone(record: DetectionRecord, one: _Seen, other: _Seen) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which boxes without a label have no twin among those of the other model."""
    rows, others = np.flatnonzero(one.wrong), np.flatnonzero(other.wrong)
    count = len(rows)
    as_truth = GroundTruth(
        one.boxes.image[rows], one.boxes.label[rows], one.boxes.box[rows], np.zeros(count, bool), np.ones(count)
    )
    shown = Predictions(
        other.boxes.image[others], other.boxes.label[others], other.boxes.score[others], other.boxes.box[others]
    )
    met = match_at(DetectionRecord(record.images, record.classes, as_truth, shown))
    first, second = one.wrong.copy(), other.wrong.copy()
    twins = met.truth >= 0
    first[rows[met.truth[twins]]] = False
    second[others[twins]] = False
    return first, second


def _boxes(found: Disagreement, side: int, place: int) -> list[PairBox]:
    """One model's boxes on one image, and the objects that it misses; what both do alike is marked as shared."""
    record, seen, other = found.record, found.sides[side], found.sides[1 - side]
    truth, boxes = record.truth, seen.boxes
    scale = np.array([record.images.width[place], record.images.height[place]] * 2, float)

    def box(kind: str, shared: bool, label: int, corners: Any, confidence: float | None) -> PairBox:
        x1, y1, x2, y2 = (corners / scale).tolist()
        return PairBox(kind=kind, name=record.classes[label], x1=x1, y1=y1, x2=x2, y2=y2, confidence=confidence,
                       shared=shared)  # fmt: skip

    made = []
    for row in np.flatnonzero(boxes.image == place).tolist():
        score, label = float(boxes.score[row]), int(boxes.label[row])
        if seen.right[row]:
            made.append(box("found", bool(other.met[seen.truth[row]]), label, boxes.box[row], score))
        elif seen.wrong[row]:
            made.append(box("imagined", not found.alone[side][row], label, boxes.box[row], score))
    labelled = np.flatnonzero((truth.image == place) & ~truth.crowd).tolist()
    made += [
        box("missed", not other.met[row], int(truth.label[row]), truth.box[row], None)
        for row in labelled
        if not seen.met[row]
    ]
    return [*made, *(box("labelled", True, int(truth.label[row]), truth.box[row], None) for row in labelled)]
