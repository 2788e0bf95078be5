"""What making a model smaller did to it: class by class, and in words that anybody understands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.matching import ALL_SIZES, match_record
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Predictions
from guardianflow.evaluation.significance import ClassComparison, PairedComparison, paired_bootstrap
from guardianflow.evaluation.tables import html_table
from guardianflow.exceptions import InputError
from guardianflow.text.plain import Row
from guardianflow.text.printable import escape
from guardianflow.text.units import figure_text, interval_text

__all__ = ["Agreement", "ClassDamage", "ConfidenceShift", "DamageReport", "damage_report"]

_MATCH_IOU = 0.5
_TOO_WEAK = 0.05  # a class that the original hardly finds can't collapse


@dataclass(frozen=True)
class Agreement:
    """Boxes of both models of at least the stated confidence; the same box: same class, IoU of at least 0.5.

    Attributes:
        both: Boxes that both models show.
        lost: Boxes that only the original shows.
        new: Boxes that only the quantized model shows.
        share: 2 · both / (boxes of the one + boxes of the other); ``None`` where neither shows one.
        mean_iou: Mean IoU of the boxes that both show; ``None`` without one.
    """

    both: int
    lost: int
    new: int
    share: float | None
    mean_iou: float | None


@dataclass(frozen=True)
class ConfidenceShift:
    """How the confidence of the same boxes moved (quantized minus original).

    The original's boxes of at least the stated confidence are looked for among all boxes of the quantized
    model, so that one whose confidence fell below is seen as well.

    Attributes:
        boxes: Boxes compared.
        mean: Mean shift; ``None`` without a box, as the others.
        low: The shift that 5% of the boxes lie below.
        high: The shift that 5% of the boxes lie above.
    """

    boxes: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ClassDamage:
    """One class of a damage report; AP is AP50-95, ``None`` without labels.

    Attributes:
        name: Of the class.
        boxes: Labelled boxes.
        original: AP of the original.
        quantized: AP of the quantized model.
        change: Quantized minus original.
        low: Lower end of the bootstrap interval of the change.
        high: Its upper end.
        collapsed: Whether the class is lost, beyond chance.
    """

    name: str
    boxes: int
    original: float | None
    quantized: float | None
    change: float | None
    low: float | None
    high: float | None
    collapsed: bool


@dataclass(frozen=True)
class DamageReport(Row):
    """Original against quantized on the same images.

    Attributes:
        comparison: Paired bootstrap of mAP50-95; candidate is the quantized model.
        per_class: One row a class.
        shift: Of the confidence.
        agreement: Of the boxes.
        confidence: The stated confidence.
        collapse: A class that loses more than this share of its AP, beyond chance, is collapsed.
        collapsed: Names of the collapsed classes.
        passed: Whether no class collapsed.
        reasons: Why it did not pass.
        verdict: One or two plain sentences.
    """

    comparison: PairedComparison
    per_class: tuple[ClassDamage, ...]
    shift: ConfidenceShift
    agreement: Agreement
    confidence: float
    collapse: float
    collapsed: tuple[str, ...]
    passed: bool
    reasons: tuple[str, ...]
    verdict: str

    def _repr_html_(self) -> str:
        whole = self.comparison
        boxes = sum(row.boxes for row in self.per_class)
        every = ClassDamage(
            "all classes", boxes, whole.champion, whole.candidate, whole.difference, whole.low, whole.high, False
        )
        head = ("class", "boxes", "original", "quantized", "change", f"{whole.level:.0%} interval", "")
        rows = [
            (
                row.name, f"{row.boxes:,}", figure_text(row.original), figure_text(row.quantized),
                figure_text(row.change, sign=True),
                interval_text(row.low, row.high),
                "lost" if row.collapsed else "",
            )
            for row in (every, *self.per_class)
        ]  # fmt: skip
        return (
            f"<p><strong>{'Passed' if self.passed else 'Not passed'}.</strong> {escape(self.verdict)}</p>"
            f"<p>AP50-95 by class on {whole.images:,} images; the interval says how far chance reaches.</p>"
            f"{html_table(head, rows)}<p>{escape(self._boxes_text())}</p>"
        )

    def _boxes_text(self) -> str:
        same, shift = self.agreement, self.shift
        text = (
            f"At confidence {self.confidence:g} both show {same.both:,} boxes; {same.lost:,} only the original, "
            f"{same.new:,} only the quantized model."
        )
        if same.mean_iou is not None:
            text += f" The shared ones overlap by {same.mean_iou:.3f} on average (IoU)."
        if shift.mean is not None:
            low, high = figure_text(shift.low, sign=True), figure_text(shift.high, sign=True)
            text += (
                f" Their confidence moved by {figure_text(shift.mean, sign=True)} on average "
                f"(nine in ten between {low} and {high})."
            )
        return text


def damage_report(
    original: DetectionRecord, quantized: DetectionRecord, *, collapse: float = 0.5, confidence: float = 0.25,
    resamples: int = 1000, level: float = 0.95, seed: int = 0, max_det: int = 300,
) -> DamageReport:  # fmt: skip
    """Say what quantization cost.

    Args:
        original: What the original saw.
        quantized: What the quantized model saw, on the same images with the same labels.
        collapse: A class that loses more than this share of its AP50-95 is lost, if chance can't explain it.
        confidence: For the agreement of boxes and the shift of confidence.
        resamples: Draws of the bootstrap.
        level: Of the intervals.
        seed: Of the draws.
        max_det: So many predictions of an image and class count.

    Raises:
        InputError: The images, classes or labels differ, nothing is labelled, or an option is out of range.
    """
    if not 0 < collapse <= 1 or not 0 <= confidence <= 1:
        raise InputError(f"collapse and confidence are shares within 0–1, not {collapse} and {confidence}.")
    comparison = paired_bootstrap(
        quantized, original, resamples=resamples, level=level, seed=seed, max_det=max_det
    )  # fmt: skip
    counted = original.truth.label[~original.truth.crowd]
    boxes = np.bincount(counted, minlength=len(original.classes))
    per_class = tuple(
        _class_damage(row, int(count), collapse) for row, count in zip(comparison.per_class, boxes, strict=True)
    )
    lost = [row for row in per_class if row.collapsed]
    agreement = _agreement(original, quantized, confidence)
    return DamageReport(
        comparison=comparison, per_class=per_class, shift=_shift(original, quantized, confidence),
        agreement=agreement, confidence=confidence, collapse=collapse,
        collapsed=tuple(row.name for row in lost), passed=not lost,
        reasons=tuple(
            f"class {row.name!r} fell from AP {row.original:.3f} to {row.quantized:.3f}: more than {collapse:.0%} lost"
            for row in lost
        ),
        verdict=_verdict(comparison, lost, agreement),
    )  # fmt: skip


def _class_damage(row: ClassComparison, boxes: int, collapse: float) -> ClassDamage:
    before, change = row.champion, row.difference
    collapsed = (
        before is not None and change is not None
        and before >= _TOO_WEAK and -change > collapse * before and row.lost_beyond_chance
    )  # fmt: skip
    return ClassDamage(row.name, boxes, before, row.candidate, change, row.low, row.high, collapsed)


def _as_truth(record: DetectionRecord, confidence: float) -> tuple[GroundTruth, npt.NDArray[np.float64]]:
    """A model's boxes in the place of labels, with their scores."""
    found, kept = record.predictions, record.predictions.score >= confidence
    count = int(kept.sum())
    truth = GroundTruth(found.image[kept], found.label[kept], found.box[kept], np.zeros(count, bool), np.ones(count))
    return truth, found.score[kept]


def _agreement(original: DetectionRecord, quantized: DetectionRecord, confidence: float) -> Agreement:
    truth, _ = _as_truth(original, confidence)
    found, kept = quantized.predictions, quantized.predictions.score >= confidence
    shown = Predictions(found.image[kept], found.label[kept], found.score[kept], found.box[kept])
    pair = DetectionRecord(original.images, original.classes, truth, shown)
    matches = match_record(pair, thresholds=(_MATCH_IOU,), max_det=None, sizes=ALL_SIZES)
    met = matches.met_truth >= 0
    both, total = int(met.sum()), len(truth) + len(shown)
    return Agreement(
        both=both, lost=len(truth) - both, new=len(shown) - both,
        share=2 * both / total if total else None,
        mean_iou=float(matches.met_iou[met].mean()) if both else None,
    )  # fmt: skip


def _shift(original: DetectionRecord, quantized: DetectionRecord, confidence: float) -> ConfidenceShift:
    truth, before = _as_truth(original, confidence)
    pair = DetectionRecord(original.images, original.classes, truth, quantized.predictions)
    matches = match_record(pair, thresholds=(_MATCH_IOU,), max_det=None, sizes=ALL_SIZES)
    met = matches.met_truth >= 0
    if not met.any():
        return ConfidenceShift(0, None, None, None)
    moved = matches.score[met] - before[matches.met_truth[met]]
    low, high = np.quantile(moved, [0.05, 0.95])
    return ConfidenceShift(int(met.sum()), float(moved.mean()), float(low), float(high))


def _verdict(comparison: PairedComparison, lost: list[ClassDamage], agreement: Agreement) -> str:
    before, after = comparison.champion, comparison.candidate
    figures = f"mAP50-95 {after:.3f}, the original {before:.3f}, on {comparison.images:,} images"
    if lost:
        names = ", ".join(f"{row.name!r}" for row in lost)
        return f"Don't use the smaller model: it has lost most of its ability to find {names} ({figures})."
    if comparison.high < 0:
        first = f"The smaller model is worse than the original, and not by chance ({figures}), but no class is lost."
    elif comparison.low > 0:
        first = f"The smaller model is even better than the original on these images ({figures})."
    else:
        first = f"The smaller model is as good as the original as far as these images can tell ({figures})."
    if agreement.share is None:
        return first
    return f"{first} The two agree on {agreement.share:.0%} of the boxes that they show."
