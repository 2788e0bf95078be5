"""Which class was taken for which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.matching import ALL_SIZES, Matches, match_record
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Predictions

__all__ = ["confusion_matrix"]


def confusion_matrix(record: DetectionRecord, matches: Matches, *, confidence: float) -> npt.NDArray[np.int64]:
    """Counts by true and by predicted class; the last row and column stand for the background.

    Boxes of the same class are matched first, so that the diagonal holds the right predictions that precision
    and recall count; what is left is matched whatever the class. A prediction in a crowd is not counted.

    Args:
        record: Truth and predictions.
        matches: Of that record; the first threshold decides.
        confidence: Predictions with a lower score are left out.

    Returns:
        int64 (classes + 1, classes + 1): rows true, columns predicted. Last column: not found. Last row:
        predicted where nothing is labelled.
    """
    classes = len(record.classes)
    bit, kept = matches.bit(0, 0), matches.score >= confidence
    right = kept & ((matches.right & bit) != 0)
    wrong = matches.order[kept & ~right & ((matches.aside & bit) == 0)]
    missed = ~record.truth.crowd
    missed[matches.met_truth[right]] = False
    left = _subset(record, np.flatnonzero(missed), wrong)
    other = match_record(left, thresholds=matches.thresholds[:1], max_det=None, sizes=ALL_SIZES, by_class=False)
    met = other.met_truth >= 0

    counts = np.zeros((classes + 1, classes + 1), np.int64)
    found = record.predictions.label[matches.order[right]]
    np.add.at(counts, (found, found), 1)
    predicted = left.predictions.label[other.order]
    np.add.at(counts, (left.truth.label[other.met_truth[met]], predicted[met]), 1)
    np.add.at(counts[classes], predicted[~met], 1)
    unseen = np.ones(len(left.truth), bool)
    unseen[other.met_truth[met]] = False
    np.add.at(counts[:, classes], left.truth.label[unseen], 1)
    return counts


def _subset(record: DetectionRecord, truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> DetectionRecord:
    one, other = record.truth, record.predictions
    return DetectionRecord(
        images=record.images,
        classes=record.classes,
        truth=GroundTruth(one.image[truth], one.label[truth], one.box[truth], one.crowd[truth], one.area[truth]),
        predictions=Predictions(other.image[found], other.label[found], other.score[found], other.box[found]),
    )
