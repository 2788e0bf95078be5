"""Precision, recall and F1 against the confidence, and precision against recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.precision import RECALLS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardianflow.evaluation.detection.matching import Matches

__all__ = [
    "AtConfidence",
    "ConfidenceCurves",
    "PrecisionRecall",
    "at_confidence",
    "best_confidence",
    "confidence_curves",
]

_GRID = np.arange(1001) / 1000  # linspace would miss 0.7 by a bit

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AtConfidence:
    """Figures of each class when only predictions of at least some confidence are kept.

    Attributes:
        right: (..., classes) predictions that met a labelled box.
        counted: (..., classes) predictions that count, right or wrong (those in a crowd don't).
        wanted: (classes,) labelled boxes that count.
    """

    right: _Ints
    counted: _Ints
    wanted: _Ints

    @property
    def precision(self) -> _Floats:
        """Share of predictions that are right; NaN where nothing is predicted."""
        return _share(self.right, self.counted)

    @property
    def recall(self) -> _Floats:
        """Share of labelled boxes that are found; NaN where nothing is labelled."""
        return _share(self.right, np.broadcast_to(self.wanted, self.right.shape))

    @property
    def f1(self) -> _Floats:
        """2 · right / (predicted + labelled), the harmonic mean of the two; NaN where nothing is labelled."""
        total = np.where(self.wanted > 0, self.counted + self.wanted, 0)
        return _share(2 * self.right, total)

    def mean(self, figures: _Floats) -> _Floats:
        """Mean over the classes with labelled boxes; a class for which nothing is predicted counts 0."""
        labelled = np.nan_to_num(figures[..., self.wanted > 0])
        return np.asarray(labelled.mean(axis=-1))


@dataclass(frozen=True, eq=False)
class ConfidenceCurves:
    """Figures over the confidence, by class and their mean over the classes with labelled boxes.

    Attributes:
        names: Class names.
        confidence: (1001,) from 0 to 1.
        precision: (classes, 1001); NaN where nothing is predicted or labelled.
        recall: (classes, 1001); NaN where nothing is labelled.
        f1: (classes, 1001); NaN where nothing is labelled.
        mean_precision: (1001,); a class for which nothing is predicted counts 0.
        mean_recall: (1001,).
        mean_f1: (1001,).
    """

    names: tuple[str, ...]
    confidence: _Floats
    precision: _Floats
    recall: _Floats
    f1: _Floats
    mean_precision: _Floats
    mean_recall: _Floats
    mean_f1: _Floats


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision at COCO's 101 recall values, by class.

    Attributes:
        names: Class names.
        recall: (101,).
        by_iou: IoU → (classes, 101) precision; NaN where nothing is labelled.
        mean: IoU → (101,) mean over the classes with labelled boxes.
    """

    names: tuple[str, ...]
    recall: _Floats
    by_iou: Mapping[float, _Floats]
    mean: Mapping[float, _Floats]

    @classmethod
    def of(cls, names: tuple[str, ...], precision: _Floats, thresholds: Mapping[float, int]) -> PrecisionRecall:
        """The curves out of COCO's array.

        Args:
            names: Class names.
            precision: (thresholds, 101, classes, sizes), "all" sizes first.
            thresholds: IoU → place in the array.
        """
        by_iou = {}
        for iou, place in thresholds.items():
            curve = precision[place, :, :, 0].T
            by_iou[iou] = np.where(curve < 0, np.nan, curve)
        mean = {iou: curve[~np.isnan(curve[:, 0])].mean(axis=0) for iou, curve in by_iou.items()}
        return cls(names, RECALLS, by_iou, mean)


def at_confidence(matches: Matches, confidence: npt.ArrayLike) -> AtConfidence:
    """Counts at one or more confidences, at the first threshold over all sizes.

    Args:
        matches: Of all predictions.
        confidence: A number or (n,); predictions with a score of at least this are kept.
    """
    asked = np.asarray(confidence, dtype=np.float64)
    bit = matches.bit(0, 0)
    right = np.concatenate([[0], np.cumsum((matches.right & bit) != 0)])
    counted = np.concatenate([[0], np.cumsum((matches.aside & bit) == 0)])
    shape = (*asked.shape, len(matches.start) - 1)
    kept_right, kept = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for label, (begin, end) in enumerate(zip(matches.start[:-1], matches.start[1:], strict=True)):
        last = begin + np.searchsorted(-matches.score[begin:end], -asked, side="right")
        kept_right[..., label] = right[last] - right[begin]
        kept[..., label] = counted[last] - counted[begin]
    return AtConfidence(kept_right, kept, matches.wanted[0])


def confidence_curves(matches: Matches, names: tuple[str, ...]) -> ConfidenceCurves:
    """Precision, recall and F1 over the confidence, in steps of 0.001."""
    figures = at_confidence(matches, _GRID)
    labelled = figures.wanted > 0
    precision, recall, f1 = figures.precision, figures.recall, figures.f1
    return ConfidenceCurves(
        names=names,
        confidence=_GRID,
        precision=np.where(labelled, precision, np.nan).T,
        recall=recall.T,
        f1=f1.T,
        mean_precision=figures.mean(precision),
        mean_recall=figures.mean(recall),
        mean_f1=figures.mean(f1),
    )


def best_confidence(matches: Matches, label: int) -> tuple[float, float] | None:
    """Highest F1 of a class and the confidence that gives it; ``None`` where no prediction is right."""
    begin, end = int(matches.start[label]), int(matches.start[label + 1])
    score, bit = matches.score[begin:end], matches.bit(0, 0)
    right = np.cumsum((matches.right[begin:end] & bit) != 0)
    counted = np.cumsum((matches.aside[begin:end] & bit) == 0)
    if not len(right) or right[-1] == 0 or matches.wanted[0, label] == 0:
        return None
    f1 = 2 * right / (counted + matches.wanted[0, label])
    f1[:-1][score[1:] == score[:-1]] = -1.0  # no confidence parts predictions of the same score
    best = int(f1.argmax())
    return float(f1[best]), float(score[best])


def _share(part: _Ints, whole: _Ints) -> _Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
