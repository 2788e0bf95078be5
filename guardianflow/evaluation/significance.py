"""Whether one model is really better than another on the same images, or whether it is chance.

The paired bootstrap over images (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993): the images are drawn
anew with replacement a thousand times, each time both models are scored on the same draw, and the spread of the
difference says how far to trust it. Each end of the interval is the farther of two: the percentile of the draws
(ch. 13), and Student's t with the draws' standard deviation as standard error (ch. 12). The percentiles alone hold the
truth too seldom on some dozens of images or where a class is rare (``benchmarks/interval_coverage.py``).

Each draw has COCO's own average precision, exactly as if the drawn images were evaluated from the start (of
predictions with one and the same score, the copies of each stand together). It is fast because nothing is
matched again: a draw only weighs the sorted predictions by how often their image came. 1,000 draws on 87 images
with 26,000 predictions take a fraction of a second; on 5,000 images with 490,000 in 80 classes, 10 to 20 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.evaluate import require_truth
from guardianflow.evaluation.detection.matching import ALL_SIZES, IOU_THRESHOLDS, Matches, match_record
from guardianflow.evaluation.detection.precision import RECALLS
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.evaluation.tables import html_table
from guardianflow.exceptions import InputError
from guardianflow.text.plain import Row
from guardianflow.text.units import figure_text, interval_text

__all__ = ["METRICS", "ClassComparison", "PairedComparison", "Resampler", "paired_bootstrap"]

METRICS: Mapping[str, tuple[float, ...]] = {"map50": (0.5,), "map50_95": IOU_THRESHOLDS}
"""What can be compared: name → the IoU thresholds it is the mean over."""

_SAME_PIXELS = 1e-6
_MOSTLY = 0.975
_CELLS_AT_ONCE = 4_000_000
_FEWEST, _MOST = 8, 256  # draws that go side by side

_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ClassComparison:
    """One class: AP of both, their difference (candidate - champion) and its interval; ``None`` without labels.

    ``probability_worse`` is the share of the draws in which the candidate is worse.
    """

    name: str
    candidate: float | None
    champion: float | None
    difference: float | None
    low: float | None
    high: float | None
    probability_worse: float | None = None

    @property
    def lost_beyond_chance(self) -> bool:
        """Whether the candidate is worse in all but one of forty draws."""
        return self.probability_worse is not None and self.probability_worse >= _MOSTLY


@dataclass(frozen=True)
class PairedComparison(Row):
    """Candidate against champion on the same images.

    Attributes:
        metric: ``"map50"`` or ``"map50_95"``.
        candidate: The candidate's figure on all images.
        champion: The champion's.
        difference: Candidate minus champion.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        level: Share of the draws that lie in the interval.
        resamples: Number of draws.
        images: Number of images.
        probability_better: Share of the draws in which the candidate is better; equal ones count half.
        per_class: One row a class.
    """

    metric: str
    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    level: float
    resamples: int
    images: int
    probability_better: float
    per_class: tuple[ClassComparison, ...]

    def _repr_html_(self) -> str:
        every = ClassComparison(
            "all classes", self.candidate, self.champion, self.difference, self.low, self.high
        )  # fmt: skip
        head = ("class", "candidate", "champion", "difference", f"{self.level:.0%} interval")
        return html_table(
            head,
            [
                (
                    row.name, figure_text(row.candidate), figure_text(row.champion),
                    figure_text(row.difference, sign=True),
                    interval_text(row.low, row.high),
                )
                for row in (every, *self.per_class)
            ],
        )  # fmt: skip


def paired_bootstrap(
    candidate: DetectionRecord, champion: DetectionRecord, *, metric: str = "map50_95", resamples: int = 1000,
    level: float = 0.95, seed: int = 0, max_det: int = 300,
) -> PairedComparison:  # fmt: skip
    """Compare two models on the same images.

    Args:
        candidate: What the new model saw.
        champion: What the present one saw, on the same images with the same labels.
        metric: A name in :data:`METRICS`.
        resamples: Draws; 1,000 settle the ends of a 95% interval well enough.
        level: Of the interval, for example 0.95.
        seed: Of the draws; the same seed draws the same images.
        max_det: So many predictions of an image and class count.

    Raises:
        InputError: The images, classes or labels differ, nothing is labelled, or an option is out of range.
    """
    if metric not in METRICS:
        raise InputError(f"no figure to compare is called {metric!r}; there are: {', '.join(METRICS)}")
    if resamples < 1 or not 0 < level < 1:
        raise InputError(f"resamples must be at least 1 and level within 0–1, not {resamples} and {level}.")
    _require_same(candidate, champion)
    require_truth(candidate)
    images = len(candidate.images)
    sides = [
        Resampler(match_record(side, thresholds=METRICS[metric], max_det=max_det, sizes=ALL_SIZES), images)
        for side in (candidate, champion)
    ]
    whole = [side.precision(np.ones((images, 1), np.int32))[:, 0] for side in sides]
    drawn = [np.empty((len(candidate.classes), resamples)) for _ in sides]
    largest = max(len(candidate.truth), images)
    at_once = max(_FEWEST, min(_MOST, _CELLS_AT_ONCE // max(largest, 1)))  # so that a table of the largest stays small
    for begin, counts in _draws(images, resamples, seed, at_once=at_once):
        for side, store in zip(sides, drawn, strict=True):
            store[:, begin : begin + counts.shape[1]] = side.precision(counts)
    difference = _mean(drawn[0]) - _mean(drawn[1])
    difference = difference[~np.isnan(difference)]  # a draw of images without any label says nothing
    if not len(difference):
        difference = np.array([float(np.nanmean(whole[0]) - np.nanmean(whole[1]))])
    one, other = float(np.nanmean(whole[0])), float(np.nanmean(whole[1]))
    labelled = len(np.unique(candidate.truth.image[~candidate.truth.crowd]))
    low, high = _interval(difference, one - other, level, images if labelled > 1 else labelled)
    return PairedComparison(
        metric=metric, candidate=one, champion=other, difference=one - other, low=low, high=high, level=level,
        resamples=resamples, images=images,
        probability_better=float((difference > 0).mean() + (difference == 0).mean() / 2),
        per_class=tuple(
            _class_row(
                name, whole[0][place], whole[1][place], drawn[0][place] - drawn[1][place], level,
                len(np.unique(candidate.truth.image[(candidate.truth.label == place) & ~candidate.truth.crowd])),
            )
            for place, name in enumerate(candidate.classes)
        ),
    )  # fmt: skip


class Resampler:
    """Average precision of each class under any number of draws, from one matching.

    Args:
        matches: Of all predictions; the mean is taken over its thresholds, in its first size bucket.
        images: Number of images.
    """

    def __init__(self, matches: Matches, images: int) -> None:
        counted = (matches.truth_aside & matches.bit(0, 0)) == 0
        boxes, labels = matches.truth_image[counted], matches.truth_label[counted]
        self._classes = len(matches.start) - 1
        self._plans = {
            label: _ClassPlan(matches, label, boxes[labels == label], images) for label in np.unique(labels).tolist()
        }

    def precision(self, counts: _Counts) -> _Floats:
        """Average precision (classes, draws); NaN where a draw has no labelled box of the class.

        Args:
            counts: int32 (images, draws), how often each image comes in each draw.
        """
        result = np.full((self._classes, counts.shape[1]), np.nan)
        for label, plan in self._plans.items():
            wanted = counts[plan.boxes].sum(axis=0)
            drawn = np.flatnonzero(wanted)
            if len(drawn):
                everywhere = len(drawn) == counts.shape[1]
                result[label, drawn] = plan.precision(counts if everywhere else counts[:, drawn], wanted[drawn])
        return result


class _ClassPlan:
    """What of a class doesn't change from draw to draw.

    Precision is read at right predictions only, so that the predictions between two of them can be summed in
    one go: a sparse matrix (right predictions, images) times the draws.
    """

    def __init__(self, matches: Matches, label: int, boxes: npt.NDArray[np.int64], images: int) -> None:
        from scipy.sparse import csr_array

        part = slice(int(matches.start[label]), int(matches.start[label + 1]))
        image, right, aside = matches.image[part], matches.right[part], matches.aside[part]
        self.boxes = boxes
        self._thresholds = len(matches.thresholds)
        every = np.flatnonzero(right)
        before = np.searchsorted(every, np.arange(every[-1] + 1 if len(every) else 0))
        ones = np.ones(len(before), np.int32)
        self._seen = csr_array((ones, (before, image[: len(before)])), shape=(len(every), images))
        self._steps = []
        for threshold in range(self._thresholds):
            bit = matches.bit(0, threshold)
            places, uncounted = np.flatnonzero(right & bit), np.flatnonzero(aside & bit)
            rows, skipped = np.searchsorted(every, places), np.searchsorted(uncounted, places)
            self._steps.append((image[places], rows, image[uncounted], skipped))

    def precision(self, counts: _Counts, wanted: npt.NDArray[Any]) -> _Floats:
        """AP in each draw (draws,); every draw has at least one labelled box."""
        draws = counts.shape[1]
        total = np.zeros(draws)
        passed, columns = _recalls_passed(wanted).ravel(), np.arange(draws)
        seen = np.cumsum(self._seen @ counts, axis=0, dtype=np.int32)
        for right, rows, uncounted, skipped in self._steps:
            if not len(right):
                continue
            found = np.cumsum(counts[right], axis=0, dtype=np.int32)
            counted = seen[rows]
            if len(uncounted):
                left_out = np.zeros((len(uncounted) + 1, draws), np.int32)
                np.cumsum(counts[uncounted], axis=0, out=left_out[1:])
                counted = counted - left_out[skipped]
            best = found / (counted + np.spacing(1))
            best = np.maximum.accumulate(best[::-1], axis=0)[::-1]
            # How many of the 101 recall values are read off at each right prediction.
            read = passed[found * draws + columns]
            read[1:] -= read[:-1].copy()
            total += np.einsum("ij,ij->j", best, read)
        return total / (len(RECALLS) * self._thresholds)


def _recalls_passed(wanted: npt.NDArray[Any]) -> _Floats:
    """(most + 1, draws): the number of recall values reached with so many right predictions."""
    reached = np.arange(int(wanted.max()) + 1)[:, None] / wanted
    return np.asarray(np.searchsorted(RECALLS, reached, side="right"), np.float64)


def _draws(images: int, resamples: int, seed: int, *, at_once: int) -> Iterator[tuple[int, _Counts]]:
    """Draw images with replacement: the first draw's number, and how often each image came (images, draws)."""
    random = np.random.default_rng(seed)
    for begin in range(0, resamples, at_once):
        draws = min(at_once, resamples - begin)
        counts = [np.bincount(random.integers(0, images, images), minlength=images) for _ in range(draws)]
        yield begin, np.ascontiguousarray(np.stack(counts, axis=1), dtype=np.int32)


def _mean(by_class: _Floats) -> _Floats:
    """Mean over the classes that each draw has labels of (draws,); NaN where it has none at all."""
    there = ~np.isnan(by_class)
    count = there.sum(axis=0)
    total = np.where(there, by_class, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))


def _interval(drawn: _Floats, found: float, level: float, images: int) -> tuple[float, float]:
    """The interval of a difference.

    Args:
        drawn: The difference in each draw.
        found: The difference on all images.
        level: Of the interval.
        images: How many images say something of it; a single one says nothing of others.
    """
    from scipy.stats import t

    if images < 2:
        return -1.0, 1.0
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    reach = float(t.ppf((1 + level) / 2, images - 1) * drawn.std() * np.sqrt(images / (images - 1)))
    return max(min(float(low), found - reach), -1.0), min(max(float(high), found + reach), 1.0)


def _class_row(
    name: str, candidate: float, champion: float, difference: _Floats, level: float, images: int
) -> ClassComparison:
    if np.isnan(candidate):
        return ClassComparison(name, None, None, None, None, None)
    found, drawn = float(candidate - champion), difference[~np.isnan(difference)]
    row = ClassComparison(name, float(candidate), float(champion), found, None, None)
    if not len(drawn):
        return row
    low, high = _interval(drawn, found, level, images)
    return replace(row, low=low, high=high, probability_worse=float((drawn < 0).mean()))


def _require_same(candidate: DetectionRecord, champion: DetectionRecord) -> None:
    """Two records can be compared only on the same images with the same labels."""
    pairs = (
        ("classes", candidate.classes, champion.classes),
        ("images", candidate.images.names, champion.images.names),
    )
    rule = "two models are compared on the same labelled images"
    remedy = "Evaluate both on the same split of the same data."
    for what, one, other in pairs:
        if len(one) != len(other):
            raise InputError(f"{rule}; the candidate has {len(one)} {what}, the champion {len(other)}. {remedy}")
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                raise InputError(f"{rule}; number {place} of the {what} is {left!r} here and {right!r} there. {remedy}")
    truth, present = candidate.truth, champion.truth
    if len(truth) != len(present):
        raise InputError(
            f"{rule}; the candidate has {len(truth)} labelled boxes, the champion {len(present)}. {remedy}"
        )
    for what in ("image", "label", "box", "crowd", "area"):
        one_column, other_column = getattr(truth, what), getattr(present, what)
        differs = np.abs(one_column.astype(float) - other_column.astype(float)) > _SAME_PIXELS
        rows = np.flatnonzero(differs.reshape(len(truth), -1).any(axis=1))
        if len(rows):
            image = candidate.images.names[truth.image[rows[0]]]
            raise InputError(
                f"{rule}; the {what} of {len(rows)} labelled box(es) differs, first in {image!r} "
                f"(box {rows[0]}). {remedy}"
            )
