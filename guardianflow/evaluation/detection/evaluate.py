"""How good detections are: COCO's average precision, and precision, recall and F1 at a confidence.

The figures are COCO's (``pycocotools``). Ultralytics' own AP differs by some thousandths: it interpolates in
another way and takes predictions in a crowd for mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.confusion import confusion_matrix
from guardianflow.evaluation.detection.curves import (
    AtConfidence,
    ConfidenceCurves,
    PrecisionRecall,
    at_confidence,
    best_confidence,
    confidence_curves,
)
from guardianflow.evaluation.detection.matching import ALL_SIZES, IOU_THRESHOLDS, SIZES, Matches, match_record
from guardianflow.evaluation.detection.precision import average, library_precision, precision_at_recalls
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.evaluation.tables import html_table
from guardianflow.exceptions import InputError
from guardianflow.text.plain import plain
from guardianflow.text.units import figure_text

__all__ = ["EVALUATORS", "ClassDetection", "DetectionResult", "SizeDetection", "evaluate_detection", "require_truth"]

_Floats = npt.NDArray[np.float64]

_CURVES = frozenset({"pr_curves", "confidence_curves"})

EVALUATORS: Mapping[str, str] = {
    "guardianflow": "COCO's rules over flat arrays, equal to the other two",
    "faster-coco-eval": "the C++ core of faster-coco-eval",
}
"""Who works out the average precision: name → what it is."""


@dataclass(frozen=True)
class ClassDetection:
    """Figures of one class; ``None`` where nothing is labelled (or, for precision, nothing predicted).

    Attributes:
        name: Of the class.
        images: Images with a labelled box of it.
        boxes: Labelled boxes (crowds are none).
        predictions: Predictions of at least the stated confidence that count.
        ap50: Average precision at IoU 0.50.
        ap50_95: Average precision over IoU 0.50–0.95.
        precision: At the stated confidence.
        recall: At the stated confidence.
        f1: At the stated confidence.
        best_f1: Highest F1 over all confidences.
        best_confidence: The confidence of that; ``None`` where no prediction is right.
    """

    name: str
    images: int
    boxes: int
    predictions: int
    ap50: float | None
    ap50_95: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    best_f1: float | None
    best_confidence: float | None


@dataclass(frozen=True)
class SizeDetection:
    """Figures of one size bucket (small up to 32², medium up to 96² square pixels of the original image)."""

    name: str
    boxes: int
    ap50: float | None
    ap50_95: float | None


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """The figures of an evaluation; means are over the classes with labelled boxes.

    Attributes:
        images: Number of images.
        boxes: Number of labelled boxes (crowds are none).
        confidence: The stated confidence.
        match_iou: From this IoU on a prediction is right, for precision, recall, F1 and the confusion matrix.
        max_det: So many predictions of an image and class count.
        evaluator: Who worked out the average precision.
        map50: Mean average precision at IoU 0.50.
        map50_95: Mean average precision over IoU 0.50–0.95.
        precision: At the stated confidence; a class for which nothing is predicted counts 0.
        recall: At the stated confidence.
        f1: At the stated confidence: the mean of the classes' F1.
        best_f1: Highest mean F1 over all confidences, in steps of 0.001.
        best_f1_confidence: The lowest confidence that gives it.
        per_class: One row a class.
        by_size: ``"small"``, ``"medium"``, ``"large"``.
        confusion: int64 (classes + 1, classes + 1), rows true, columns predicted, background last.
        pr_curves: Precision against recall at IoU 0.5 and 0.75.
        confidence_curves: Precision, recall and F1 against confidence.
        remarks: What of the files was read otherwise than it stands, in sentences.
    """

    images: int
    boxes: int
    confidence: float
    match_iou: float
    max_det: int
    evaluator: str
    map50: float
    map50_95: float
    precision: float
    recall: float
    f1: float
    best_f1: float
    best_f1_confidence: float
    per_class: tuple[ClassDetection, ...]
    by_size: Mapping[str, SizeDetection]
    confusion: npt.NDArray[np.int64]
    pr_curves: PrecisionRecall
    confidence_curves: ConfidenceCurves
    remarks: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """The figures by the names of the catalogue."""
        return {name: getattr(self, name) for name in ("map50", "map50_95", "precision", "recall", "f1")}

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON types, without the curves."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self) if each.name not in _CURVES}

    def curves(self) -> dict[str, Any]:
        """The curves as plain JSON types, in 201 steps of confidence: what ``guardianflow.plots.detection`` draws."""
        over, against = self.confidence_curves, self.pr_curves
        step = slice(None, None, 5)
        return {
            "names": list(over.names),
            "confidence": over.confidence[step].tolist(),
            "over_confidence": {
                name: {
                    "mean": _plain(getattr(over, f"mean_{name}")[step]),
                    "classes": _plain(getattr(over, name)[:, step]),
                }
                for name in ("precision", "recall", "f1")
            },
            "recall": against.recall.tolist(),
            "precision_at_iou": {
                f"{iou:g}": {"mean": _plain(against.mean[iou]), "classes": _plain(curve)}
                for iou, curve in against.by_iou.items()
            },
            "stated_confidence": self.confidence,
            "best_f1_confidence": self.best_f1_confidence,
        }

    def _repr_html_(self) -> str:
        every = ClassDetection(
            "all classes", self.images, self.boxes, int(self.confusion[:, :-1].sum()), self.map50, self.map50_95,
            self.precision, self.recall, self.f1, self.best_f1, self.best_f1_confidence,
        )  # fmt: skip
        head = (
            "class", "images", "boxes", "AP50", "AP50-95", f"precision at {self.confidence:g}", "recall", "F1",
            "best F1", "at confidence",
        )  # fmt: skip
        rows = [
            (
                row.name, f"{row.images:,}", f"{row.boxes:,}",
                *map(figure_text, (row.ap50, row.ap50_95, row.precision, row.recall, row.f1, row.best_f1)),
                figure_text(row.best_confidence),
            )
            for row in (every, *self.per_class)
        ]  # fmt: skip
        return html_table(head, rows)


def evaluate_detection(
    record: DetectionRecord, *, confidence: float = 0.25, max_det: int = 300, match_iou: float = 0.5,
    evaluator: str = "guardianflow",
) -> DetectionResult:  # fmt: skip
    """All figures of a record.

    Args:
        record: Truth and predictions (down to a low confidence, 0.001 say, or AP comes out too low).
        confidence: Predictions with at least this score are kept for precision, recall and F1.
        max_det: So many predictions of an image and class count, the best scored (COCO's own default is 100).
        match_iou: From this IoU on a prediction is right, for precision, recall and F1.
        evaluator: Who works out the average precision, see :data:`EVALUATORS`.

    Raises:
        InputError: Nothing is labelled, or an option lies outside its range.
    """
    _check_options(confidence, max_det, match_iou, evaluator)
    require_truth(record)
    matches = match_record(record, max_det=max_det)
    way: Callable[[], _Floats] = {
        "guardianflow": lambda: precision_at_recalls(matches),
        "faster-coco-eval": lambda: library_precision(record, max_det=max_det),
    }[evaluator]
    precision = way()
    at_iou = matches
    if match_iou != IOU_THRESHOLDS[0]:
        at_iou = match_record(record, thresholds=(match_iou,), max_det=max_det, sizes=ALL_SIZES)
    kept = at_confidence(at_iou, confidence)
    curves = confidence_curves(at_iou, record.classes)
    best = int(curves.mean_f1.argmax())
    return DetectionResult(
        images=len(record.images), boxes=int(matches.wanted[0].sum()), confidence=confidence, match_iou=match_iou,
        max_det=max_det, evaluator=evaluator,
        map50=average(precision[0, :, :, 0]) or 0.0, map50_95=average(precision[..., 0]) or 0.0,
        precision=float(kept.mean(kept.precision)), recall=float(kept.mean(kept.recall)),
        f1=float(kept.mean(kept.f1)),
        best_f1=float(curves.mean_f1[best]), best_f1_confidence=float(curves.confidence[best]),
        per_class=_per_class(record, at_iou, precision, kept),
        by_size={
            name: SizeDetection(
                name, int(matches.wanted[place].sum()),
                average(precision[0, :, :, place]), average(precision[..., place]),
            )
            for place, name in enumerate(SIZES) if name != "all"
        },
        confusion=confusion_matrix(record, at_iou, confidence=confidence),
        pr_curves=PrecisionRecall.of(record.classes, precision, {0.5: 0, 0.75: 5}),
        confidence_curves=curves,
        remarks=tuple(record.facts.get("remarks", ())),
    )  # fmt: skip


def require_truth(record: DetectionRecord) -> None:
    """Refuse a record on which no figure can be worked out.

    Raises:
        InputError: No box is labelled, or only crowds are.
    """
    if record.truth.crowd.all():
        raise InputError(
            f"an evaluation needs at least one labelled box that is no crowd; the {len(record.images)} image(s) have "
            "none. Label them, or choose another split."
        )


def _check_options(confidence: float, max_det: int, match_iou: float, evaluator: str) -> None:
    if not 0 <= confidence <= 1:
        raise InputError(f"confidence must lie in 0–1, not {confidence}. 0.25 is usual.")
    if not 0 < match_iou <= 1:
        raise InputError(f"match_iou must lie above 0 and at most at 1, not {match_iou}. 0.5 is usual.")
    if max_det < 1:
        raise InputError(f"max_det must be at least 1, not {max_det}. 300 is usual; COCO's own figures use 100.")
    if evaluator not in EVALUATORS:
        raise InputError(f"no evaluator is called {evaluator!r}; there are: {', '.join(EVALUATORS)}")


def _per_class(
    record: DetectionRecord, matches: Matches, precision: _Floats, kept: AtConfidence
) -> tuple[ClassDetection, ...]:
    counted = ~record.truth.crowd
    rows = []
    for label, name in enumerate(record.classes):
        mine = counted & (record.truth.label == label)
        best = best_confidence(matches, label)
        labelled = bool(mine.any())
        rows.append(
            ClassDetection(
                name=name,
                images=len(np.unique(record.truth.image[mine])),
                boxes=int(mine.sum()),
                predictions=int(kept.counted[label]),
                ap50=average(precision[0, :, label, 0]),
                ap50_95=average(precision[:, :, label, 0]),
                precision=_figure(kept.precision[label]) if labelled else None,
                recall=_figure(kept.recall[label]),
                f1=_figure(kept.f1[label]),
                best_f1=best[0] if best else (0.0 if labelled else None),
                best_confidence=best[1] if best else None,
            )
        )
    return tuple(rows)


def _plain(figures: _Floats) -> list[Any]:
    """Figures to four places; ``None`` where there is none."""
    rounded = np.round(figures, 4).astype(object)
    rounded[np.isnan(figures)] = None
    plain: list[Any] = rounded.tolist()
    return plain


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
