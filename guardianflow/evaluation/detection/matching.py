"""Which prediction met which labelled box: COCO's greedy matching, for all images and classes at once.

The rule is that of ``pycocotools.cocoeval.COCOeval.evaluateImg``: within an image and a class, predictions
choose in the order of their score; each takes the free box with the highest IoU, if it reaches the threshold;
boxes that don't count (crowds, and boxes outside the size bucket) are taken only where nothing else is left,
and a crowd may be taken often. A prediction that took such a box doesn't count either.

How it is fast: only pairs with enough overlap matter, and there are few. Each (size bucket, threshold) is one
bit of an integer, so that one pass over the pairs settles all of them; images and classes don't touch each
other and go side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from guardianflow.evaluation.detection.records import DetectionRecord

__all__ = ["ALL_SIZES", "IOU_THRESHOLDS", "OUTCOMES", "SIZES", "Matches", "Met", "match_at", "match_record"]

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""COCO's: 0.50, 0.55 … 0.95."""

SIZES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10),
}  # fmt: skip
"""COCO's size buckets: lowest and highest area in square pixels of the original image, both included."""

ALL_SIZES = {"all": SIZES["all"]}
OUTCOMES = ("wrong", "right", "not counted")
"""What a prediction can be; the place is the number in :attr:`Met.outcome`."""

_PAIRS_AT_ONCE = 1_000_000
_MOST_BITS = 63

_Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each prediction, at every threshold and in every size bucket.

    Predictions stand by class, then by falling score, then by image: the order in which COCO accumulates.
    Bit ``size * len(thresholds) + threshold`` of the masks is one combination.

    Attributes:
        thresholds: IoU thresholds.
        sizes: Names of the size buckets.
        order: (p,) rows of the record's predictions; those over ``max_det`` are left out.
        start: (classes + 1,) where each class begins among them.
        image: (p,) image of each.
        score: (p,) score of each.
        right: uint64 (p,), the prediction met a box that counts.
        aside: uint64 (p,), the prediction is not counted.
        wanted: (sizes, classes) number of labelled boxes that count.
        truth_image: Image of each labelled box.
        truth_label: Class of each labelled box.
        truth_aside: uint64 (g,), the bits in which a labelled box doesn't count.
        met_truth: (p,) row of the labelled box that was met at the first threshold in the first bucket, else -1.
        met_iou: (p,) IoU with it, else 0.
    """

    thresholds: tuple[float, ...]
    sizes: tuple[str, ...]
    order: _Ints
    start: _Ints
    image: _Ints
    score: _Floats
    right: _Bits
    aside: _Bits
    wanted: _Ints
    truth_image: _Ints
    truth_label: _Ints
    truth_aside: _Bits
    met_truth: _Ints
    met_iou: _Floats

    def bit(self, size: int, threshold: int) -> np.uint64:
        """The mask of one combination."""
        return np.uint64(1) << np.uint64(size * len(self.thresholds) + threshold)


@dataclass(frozen=True, eq=False)
class Met:
    """What each prediction of a record met, in the record's order.

    Attributes:
        outcome: int8 (p,), index into :data:`OUTCOMES`.
        truth: int32 (p,), row of the labelled box, or -1.
        iou: float64 (p,), IoU with it, or 0.
    """

    outcome: npt.NDArray[np.int8]
    truth: npt.NDArray[np.int32]
    iou: _Floats


def match_record(
    record: DetectionRecord, *, thresholds: Sequence[float] = IOU_THRESHOLDS, max_det: int | None = 300,
    sizes: dict[str, tuple[float, float]] = SIZES, by_class: bool = True,
) -> Matches:  # fmt: skip
    """Match all predictions of a record.

    Args:
        record: Truth and predictions.
        thresholds: IoU thresholds, rising.
        max_det: So many predictions of an image and class count, the best scored; ``None``: all.
        sizes: Size buckets by name, from and to in square pixels.
        by_class: Whether a prediction may only meet boxes of its own class.
    """
    if len(thresholds) * len(sizes) > _MOST_BITS:
        raise ValueError(f"at most {_MOST_BITS} combinations of threshold and size fit")
    found, truth = record.predictions, record.truth
    classes = len(record.classes) if by_class else 1
    label = found.label.astype(np.int64) if by_class else np.zeros(len(found), np.int64)
    truth_label = truth.label.astype(np.int64) if by_class else np.zeros(len(truth), np.int64)
    images = max(len(record.images), 1)
    group = label * images + found.image
    truth_group = truth_label * images + truth.image

    by_group = np.lexsort((-found.score, group))
    if max_det is not None:
        by_group = by_group[_rank_in_group(group[by_group]) < max_det]
    by_truth = np.argsort(truth_group, kind="stable")
    # Every position below counts in these two orders; `order` brings the predictions into COCO's at the end.
    order = np.lexsort((-found.score[by_group], label[by_group].astype(np.int32)))  # stable: ties stay by image

    outside = _outside(truth.area[by_truth], sizes, len(thresholds))
    aside = np.where(truth.crowd[by_truth], _full(thresholds, sizes), outside)
    state = _Greedy(by_group.size, aside, truth.crowd[by_truth])
    width = found.box[by_group, 2:] - found.box[by_group, :2]
    unmatched_aside = _outside(width[:, 0] * width[:, 1], sizes, len(thresholds))
    for pairs in _overlapping(
        (group[by_group], found.box[by_group]),
        (truth_group[by_truth], truth.box[by_truth], truth.crowd[by_truth]),
        min(thresholds),
    ):
        state.settle(pairs, _reached(pairs.iou, thresholds, len(sizes)))

    counted = ~aside
    wanted = np.stack([
        np.bincount(truth_label[by_truth], weights=(counted >> np.uint64(size * len(thresholds))) & np.uint64(1),
                    minlength=classes)
        for size in range(len(sizes))
    ]).astype(np.int64)  # fmt: skip
    truth_aside = np.empty_like(aside)
    truth_aside[by_truth] = aside
    met = state.met[order]
    return Matches(
        thresholds=tuple(thresholds), sizes=tuple(sizes), order=by_group[order],
        start=np.searchsorted(label[by_group][order], np.arange(classes + 1)),
        image=found.image[by_group][order].astype(np.int64), score=found.score[by_group][order],
        right=state.right[order],
        aside=(state.aside | (unmatched_aside & ~state.right & ~state.aside))[order],
        wanted=wanted, truth_image=truth.image.astype(np.int64), truth_label=truth_label, truth_aside=truth_aside,
        met_truth=np.where(met >= 0, by_truth[met] if len(by_truth) else -1, -1), met_iou=state.met_iou[order],
    )  # fmt: skip


def match_at(record: DetectionRecord, *, iou: float = 0.5) -> Met:
    """What each prediction met at one IoU within its class; no prediction is left out."""
    matches = match_record(record, thresholds=(iou,), max_det=None, sizes=ALL_SIZES)
    count = len(record.predictions)
    met = Met(np.zeros(count, np.int8), np.full(count, -1, np.int32), np.zeros(count))
    met.outcome[matches.order] = np.where(matches.right != 0, 1, np.where(matches.aside != 0, 2, 0))
    met.truth[matches.order] = matches.met_truth
    met.iou[matches.order] = matches.met_iou
    return met


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Overlapping pairs: all of those of some predictions."""

    group: _Ints
    prediction: _Ints
    truth: _Ints
    iou: _Floats


class _Greedy:
    """The choosing itself; positions count in the orders by group."""

    def __init__(self, predictions: int, aside: _Bits, crowd: npt.NDArray[np.bool_]) -> None:
        self.right = np.zeros(predictions, np.uint64)
        self.aside = np.zeros(predictions, np.uint64)
        self.met = np.full(predictions, -1, np.int64)
        self.met_iou = np.zeros(predictions)
        self._truth_aside = aside
        self._can_be_taken = np.where(crowd, np.uint64(0), ~np.uint64(0))
        self._taken = np.zeros(len(aside), np.uint64)

    def settle(self, pairs: _Pairs, reached: _Bits) -> None:
        """Walk through all pairs, the first pair of each group, then the second …

        A prediction first tries the boxes that count, then those that don't, from the highest IoU down; of
        equal ones the later box, as pycocotools does.
        """
        aside = self._truth_aside[pairs.truth]
        pair = np.concatenate([np.arange(len(pairs.truth))] * 2)
        second = np.repeat(np.array([False, True]), len(pairs.truth))
        bits = np.concatenate([reached & ~aside, reached & aside])
        useful = bits != 0
        pair, second, bits = pair[useful], second[useful], bits[useful]
        prediction, truth, iou = pairs.prediction[pair], pairs.truth[pair], pairs.iou[pair]
        walk = np.lexsort((-truth, -iou, second, prediction))
        step = _rank_in_group(pairs.group[pair][walk])
        walk = walk[np.argsort(step, kind="stable")]
        ends = np.cumsum(np.bincount(step)) if len(step) else np.zeros(0, np.int64)
        prediction, truth, second, bits, iou = prediction[walk], truth[walk], second[walk], bits[walk], iou[walk]
        begin = 0
        for end in ends.tolist():
            part = slice(begin, end)
            self._choose(prediction[part], truth[part], second[part], bits[part], iou[part])
            begin = end

    def _choose(
        self, prediction: _Ints, truth: _Ints, second: npt.NDArray[np.bool_], bits: _Bits, iou: _Floats
    ) -> None:
        """One pair of each group: whoever is free and without a match in a bit, gets it there."""
        right, aside = self.right[prediction], self.aside[prediction]
        won = bits & ~right & ~aside & ~self._taken[truth]
        self.right[prediction] = np.where(second, right, right | won)
        self.aside[prediction] = np.where(second, aside | won, aside)
        self._taken[truth] |= won & self._can_be_taken[truth]
        first = np.flatnonzero(won & np.uint64(1))
        self.met[prediction[first]] = truth[first]
        self.met_iou[prediction[first]] = iou[first]


def _rank_in_group(group: npt.NDArray[Any]) -> _Ints:
    """Place of each row in its run of equal values."""
    if not len(group):
        return np.zeros(0, np.int64)
    begins = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    lengths = np.diff(np.append(begins, len(group)))
    return np.arange(len(group)) - np.repeat(begins, lengths)


def _full(thresholds: Sequence[float], sizes: dict[str, tuple[float, float]]) -> np.uint64:
    return np.uint64((1 << len(thresholds) * len(sizes)) - 1)


def _outside(area: _Floats, sizes: dict[str, tuple[float, float]], thresholds: int) -> _Bits:
    """The bits of the size buckets that an area does not lie in."""
    bits = np.zeros(len(area), np.uint64)
    ones = (1 << thresholds) - 1
    for place, (low, high) in enumerate(sizes.values()):
        bits |= np.where((area < low) | (area > high), np.uint64(ones << place * thresholds), np.uint64(0))
    return bits


def _reached(iou: _Floats, thresholds: Sequence[float], sizes: int) -> _Bits:
    """The bits of the thresholds that an IoU reaches; 1 - 1e-10 is COCO's highest threshold."""
    count = np.searchsorted(np.minimum(thresholds, 1 - 1e-10), iou, side="right").astype(np.uint64)
    ones = (np.uint64(1) << count) - np.uint64(1)
    bits = np.zeros(len(iou), np.uint64)
    for size in range(sizes):
        bits |= ones << np.uint64(size * len(thresholds))
    return bits


def _overlapping(
    found: tuple[_Ints, _Floats], truth: tuple[_Ints, _Floats, npt.NDArray[np.bool_]], least: float
) -> Iterator[_Pairs]:
    """All pairs of a group with an IoU of at least ``least``, those of some predictions at a time, in their order.

    Both sides stand by group. IoU as ``pycocotools.mask.iou`` has it: with a crowd, the share of the
    prediction that lies in it.
    """
    group, box = found
    truth_group, truth_box, crowd = truth
    first = np.searchsorted(truth_group, group, side="left")
    partners = np.searchsorted(truth_group, group, side="right") - first
    rows = np.flatnonzero(partners)
    first, partners = first[rows], partners[rows]
    until = np.cumsum(partners)
    begin = 0
    while begin < len(rows):
        done = until[begin - 1] if begin else 0
        end = max(int(np.searchsorted(until, done + _PAIRS_AT_ONCE, side="right")), begin + 1)
        counts = partners[begin:end]
        prediction = np.repeat(rows[begin:end], counts)
        inside = np.arange(len(prediction)) - np.repeat(until[begin:end] - counts - done, counts)
        other = np.repeat(first[begin:end], counts) + inside
        iou = _iou(box[prediction], truth_box[other], crowd[other])
        near = iou >= min(least, 1 - 1e-10)
        prediction = prediction[near]
        yield _Pairs(group[prediction], prediction, other[near], iou[near])
        begin = end


def _iou(one: _Floats, other: _Floats, crowd: npt.NDArray[np.bool_]) -> _Floats:
    """Intersection over union row by row, over the first box's area where the second is a crowd."""
    size = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.where((size > 0).all(axis=1), size[:, 0] * size[:, 1], 0.0)
    area = (one[:, 2] - one[:, 0]) * (one[:, 3] - one[:, 1])
    other_area = (other[:, 2] - other[:, 0]) * (other[:, 3] - other[:, 1])
    union = np.where(crowd, area, area + other_area - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
