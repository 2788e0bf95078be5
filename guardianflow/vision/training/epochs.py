"""What is reported of a training: its epochs, its classes, its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

from guardianflow.core.metrics import legal_metric_name

__all__ = ["ClassResult", "EpochReport", "TrainingObserver", "TrainingOutcome", "catalogue_metrics", "with_prefix"]

_METRIC_NAMES = {
    "metrics/mAP50_B": "map50",
    "metrics/mAP50-95_B": "map50_95",
    "metrics/precision_B": "precision",
    "metrics/recall_B": "recall",
    "metrics/mAP_0.5": "map50",  # as YOLOv5 and its relatives have them
    "metrics/mAP_0.5_0.95": "map50_95",
    "metrics/mAP_0.5_B": "map50",
    "metrics/mAP_0.5_0.95_B": "map50_95",
    "metrics/precision": "precision",
    "metrics/recall": "recall",
}
"""Ultralytics' and YOLOv5's names, as MLflow takes them → the catalogue's."""


@dataclass(frozen=True)
class EpochReport:
    """One epoch.

    Attributes:
        epoch: From 1.
        epochs: How many there will be.
        losses: ``train/box_loss`` … and ``val/box_loss`` …
        learning_rates: ``lr/pg0`` …
        metrics: Validation figures under the catalogue's names (fractions).
        seconds: Wall-clock time, validation included.
        images_per_s: Training images over ``seconds``; ``None`` where the images were not counted.
    """

    epoch: int
    epochs: int
    losses: Mapping[str, float]
    learning_rates: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float
    images_per_s: float | None

    def to_dict(self) -> dict[str, float]:
        """One flat row."""
        row = {"epoch": self.epoch, **self.metrics, **self.losses, **self.learning_rates, "epoch_seconds": self.seconds}
        return row if self.images_per_s is None else {**row, "train_images_per_s": self.images_per_s}


class ClassResult(TypedDict):
    """Validation figures of one class, fractions; a row of plain JSON.

    Attributes:
        name: The class.
        images: Validation images that show it.
        boxes: Labelled objects of it. Where there are none, nothing is known: the figures are ``None``.
        precision: Share of its detections that are right.
        recall: Share of its objects that are found.
        map50: Average precision at IoU 0.50.
        map50_95: Average precision over IoU 0.50–0.95.
    """

    name: str
    images: int
    boxes: int
    precision: float | None
    recall: float | None
    map50: float | None
    map50_95: float | None


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training left behind.

    Attributes:
        best: Weights of the epoch with the best mAP50-95.
        last: Weights of the last epoch.
        metrics: Validation figures of ``best``.
        per_class: The same by class.
        epochs_run: Epochs this process trained.
        seconds: Wall-clock time.
        peak_gpu_mem_mb: Peak GPU memory of this process, ``None`` on a CPU.
        device: Where it ran.
        used: What it really used: optimizer, ``lr0``, momentum, batch, imgsz, workers, device, amp, and how many
            tensors of weights were frozen; of several GPUs only what the checkpoint tells.
        imgsz: Side of the input that it trained with: what was asked, or the next multiple of the model's stride.
        pictures: Curves and samples that Ultralytics drew.
    """

    best: Path
    last: Path
    metrics: Mapping[str, float]
    per_class: tuple[ClassResult, ...]
    epochs_run: int
    seconds: float
    peak_gpu_mem_mb: float | None
    device: str
    used: Mapping[str, Any]
    imgsz: int
    pictures: tuple[Path, ...]


class TrainingObserver(Protocol):
    """Who wants to know how the training goes."""

    def on_start(self, first_epoch: int, epochs: int) -> None:
        """Training begins with ``first_epoch`` (1 unless resumed)."""
        ...

    def on_settings(self, used: Mapping[str, Any]) -> None:
        """What the training really uses; not told of several GPUs before the end."""
        ...

    def on_batch(self, done: int, total: int) -> None:
        """A batch of the current epoch is done."""
        ...

    def on_epoch(self, report: EpochReport) -> bool:
        """An epoch and its validation are done. Epochs before a resume may be told again.

        Returns:
            Whether the training shall end here. One on several GPUs can't, and goes on.
        """
        ...


def catalogue_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Ultralytics' validation figures under the catalogue's names, with F1 of the mean P and R."""
    legal = {legal_metric_name(name): value for name, value in metrics.items()}
    found = {ours: float(legal[theirs]) for theirs, ours in _METRIC_NAMES.items() if theirs in legal}
    if "precision" in found and "recall" in found:
        precision, recall = found["precision"], found["recall"]
        found["f1"] = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return found


def with_prefix(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The entries whose names begin so, as numbers."""
    return {key: float(value) for key, value in values.items() if key.startswith(prefix)}
