"""Evidence for tests of the gate: real records of predictions, as good or bad as a test wants them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.registry.evaluations import EvaluationRow, Evaluations, evaluation_row

CLASSES = ("사람", "vehicle", "forklift")
FINGERPRINT = "f" * 64
MACHINE = {"host": "here", "cpu": "one", "gpu": "", "threads": 2, "timing": "benchmark"}


def truth_of(images: int, *, seed: int = 1) -> tuple[Images, GroundTruth]:
    """Images with two boxes of each class."""
    random = np.random.default_rng(seed)
    place = np.repeat(np.arange(images), 2 * len(CLASSES))
    label = np.tile(np.repeat(np.arange(len(CLASSES)), 2), images)
    corner = random.uniform(0, 300, (len(place), 2))
    box = np.hstack([corner, corner + random.uniform(30, 90, (len(place), 2))])
    names = tuple(f"images/val/사진 {number}.jpg" for number in range(images))
    size = np.full(images, 400)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return Images(names, size, size), GroundTruth(place, label, box, np.zeros(len(place), bool), area)


def record_of(
    skill: float | Mapping[str, float],
    *,
    images: int = 40,
    seed: int = 0,
    truth_seed: int = 1,
    **facts: Any,
) -> DetectionRecord:
    """What a model of this skill sees: the share of boxes it finds, by class or for all; the rest it misses.

    With the same seed a model of more skill finds all that one of less skill finds.
    """
    seen, truth = truth_of(images, seed=truth_seed)
    random = np.random.default_rng(seed)
    by_class = [skill[name] if isinstance(skill, Mapping) else skill for name in CLASSES]
    luck, shift = random.uniform(size=len(truth)), random.normal(0, 2, (len(truth), 4))
    found = luck < np.array(by_class)[truth.label]
    box = np.sort((truth.box + shift)[found].reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    predictions = Predictions(truth.image[found], truth.label[found], 1 - luck[found] * 0.5, box)
    known = {
        "dataset_fingerprint": FINGERPRINT, "split": "val", "confidence_floor": 0.001, "iou": 0.7, "max_det": 300,
        "imgsz": 320, "backend": "torch", "precision": "fp32",
    }  # fmt: skip
    return DetectionRecord(seen, CLASSES, truth, predictions, {**known, **facts})


def evaluate(
    evaluations: Evaluations,
    sha256: str,
    folder: Path,
    skill: float | Mapping[str, float],
    *,
    run_id: str = "",
    metrics: Mapping[str, float] | None = None,
    machine: Mapping[str, Any] = MACHINE,
    **options: Any,
) -> EvaluationRow:
    """Save a record and enter it in the index."""
    record = record_of(skill, model_sha256=sha256, **options)
    saved = record.save(folder)
    row = evaluation_row(record, saved, run_id=run_id, metrics=metrics or {}, machine=machine, device="CPU")
    return evaluations.record(row)
