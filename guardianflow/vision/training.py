"""Train a detector with Ultralytics, and say after every epoch what happened.

Ultralytics does the training; this file gives it a run folder of ours, keeps its own MLflow
callback out, keeps its label cache out of the user's data, and turns its callbacks into
:class:`EpochReport`. The figures of a training are Ultralytics' own validation figures; benchmarks
measure again, the same way for every runtime.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from guardianflow.exceptions import InputError, ModelFileError, RunFailedError
from guardianflow.vision._ultralytics import import_ultralytics, quiet, without_mlflow

if TYPE_CHECKING:
    from ultralytics.models.yolo.detect import DetectionTrainer

__all__ = [
    "TRAINING_OPTIONS",
    "ClassResult",
    "EpochReport",
    "TrainingJob",
    "TrainingObserver",
    "TrainingOutcome",
    "train_detector",
]

TRAINING_OPTIONS = frozenset({
    "amp", "bgr", "box", "cache", "close_mosaic", "cls", "cls_pw", "compile", "copy_paste", "cos_lr", "cutmix",
    "degrees", "dfl", "erasing", "fliplr", "flipud", "fraction", "freeze", "hsv_h", "hsv_s", "hsv_v", "iou", "lr0",
    "lrf", "max_det", "mixup", "momentum", "mosaic", "multi_scale", "nbs", "optimizer", "perspective", "plots", "rect",
    "save_period", "scale", "shear", "time", "translate", "val", "warmup_bias_lr", "warmup_epochs", "warmup_momentum",
    "weight_decay",
})  # fmt: skip
"""Ultralytics' training arguments that may be set; the rest would take the run out of our hands."""

_METRIC_NAMES = {
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
}


@dataclass(frozen=True)
class TrainingJob:
    """What to train.

    Attributes:
        model: A weights file, a model YAML, or the name of one of either that Ultralytics knows.
        data_yaml: A data.yaml with absolute paths; label caches are written beside it.
        folder: Where Ultralytics writes (weights, curves, samples).
        epochs: Passes over the training split.
        batch: Images per step.
        imgsz: Side of the square input, in pixels.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``, ``"0,1"`` …
        seed: Of everything random. The same seed gives the same weights on a CPU.
        workers: Processes that load images (none on a CPU).
        patience: Epochs without improvement after which training stops; 0 never stops.
        options: Further Ultralytics arguments, see :data:`TRAINING_OPTIONS`.
        resume: ``last.pt`` of the interrupted training to go on with.
    """

    model: str
    data_yaml: Path
    folder: Path
    epochs: int
    batch: int = 16
    imgsz: int = 640
    device: str = ""
    seed: int = 0
    workers: int = 8
    patience: int = 100
    options: Mapping[str, Any] = field(default_factory=dict)
    resume: Path | None = None


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
        images_per_s: Training images over ``seconds``.
    """

    epoch: int
    epochs: int
    losses: Mapping[str, float]
    learning_rates: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float
    images_per_s: float

    def to_dict(self) -> dict[str, float]:
        """One flat row."""
        return {
            "epoch": self.epoch,
            **self.metrics,
            **self.losses,
            **self.learning_rates,
            "epoch_seconds": self.seconds,
            "train_images_per_s": self.images_per_s,
        }


@dataclass(frozen=True)
class ClassResult:
    """Validation figures of one class, fractions; ``boxes`` is the number of labelled ones."""

    name: str
    images: int
    boxes: int
    precision: float
    recall: float
    map50: float
    map50_95: float


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
    pictures: tuple[Path, ...]


class TrainingObserver(Protocol):
    """Who wants to know how the training goes."""

    def on_start(self, first_epoch: int, epochs: int) -> None:
        """Training begins with ``first_epoch`` (1 unless resumed)."""
        ...

    def on_batch(self, done: int, total: int) -> None:
        """A batch of the current epoch is done."""
        ...

    def on_epoch(self, report: EpochReport) -> None:
        """An epoch and its validation are done."""
        ...


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse training arguments that Ultralytics doesn't know or that are ours to set.

    Raises:
        InputError: Names the argument and the nearest allowed one.
    """
    import difflib

    for name in options:
        if name not in TRAINING_OPTIONS:
            close = difflib.get_close_matches(name, TRAINING_OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(TRAINING_OPTIONS))}"
            msg = f"training option {name!r} can't be set; {hint}"
            raise InputError(msg)


def train_detector(job: TrainingJob, observer: TrainingObserver) -> TrainingOutcome:
    """Train, and return where the weights are and how good they are.

    Ctrl-C and exceptions of the observer end the training and propagate.

    Raises:
        RunFailedError: Ultralytics gave up; the message holds its reason.
    """
    import_ultralytics()
    job.folder.mkdir(parents=True, exist_ok=True)
    with quiet(job.folder / "training.log"):
        began = time.perf_counter()
        trainer = _make_trainer(job)
        watch = _Watch(trainer, observer)
        try:
            if trainer.ddp:
                with _follow_csv(trainer, observer):
                    trainer.train()
            else:
                watch.listen()
                trainer.train()
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            raise _explained(error, trainer) from error
        seconds = time.perf_counter() - began
        return _outcome(trainer, watch, seconds)


def _make_trainer(job: TrainingJob) -> DetectionTrainer:
    from guardianflow.vision._trainer import CachedLabelsTrainer

    arguments: dict[str, Any] = {
        **job.options,
        "task": "detect",
        "mode": "train",
        "model": job.model,
        "data": str(job.data_yaml),
        "epochs": job.epochs,
        "batch": job.batch,
        "imgsz": job.imgsz,
        "device": job.device or _best_device(),
        "seed": job.seed,
        "deterministic": True,
        "workers": job.workers,
        "patience": job.patience or 10**6,
        "project": str(job.folder.parent),
        "name": job.folder.name,
        "exist_ok": True,
        "save_dir": str(job.folder),
        "resume": str(job.resume) if job.resume else False,
    }
    with without_mlflow():
        try:
            return CachedLabelsTrainer(overrides=arguments)
        except (RuntimeError, OSError, ValueError, AssertionError) as error:
            raise _explained(error, None) from error


def _best_device() -> str:
    import torch

    return "0" if torch.cuda.is_available() else "cpu"


class _Watch:
    """Turns Ultralytics' callbacks into reports."""

    def __init__(self, trainer: DetectionTrainer, observer: TrainingObserver) -> None:
        self._trainer = trainer
        self._observer = observer
        self._epoch_began = time.perf_counter()
        self._batches = 0
        self._final = False
        self.epochs_run = 0

    def listen(self) -> None:
        add = self._trainer.add_callback
        add("on_train_start", self._on_train_start)
        add("on_train_epoch_start", self._on_train_epoch_start)
        add("on_train_batch_end", self._on_train_batch_end)
        add("on_fit_epoch_end", self._on_fit_epoch_end)

    def _on_train_start(self, trainer: DetectionTrainer) -> None:
        self._observer.on_start(trainer.start_epoch + 1, trainer.epochs)

    def _on_train_epoch_start(self, _: DetectionTrainer) -> None:
        self._epoch_began = time.perf_counter()
        self._batches = 0

    def _on_train_batch_end(self, trainer: DetectionTrainer) -> None:
        self._batches += 1
        self._observer.on_batch(self._batches, len(trainer.train_loader))

    def _on_fit_epoch_end(self, trainer: DetectionTrainer) -> None:
        if not trainer.validator.training:
            return  # the last validation, of best.pt: it is the outcome, not an epoch
        seconds = time.perf_counter() - self._epoch_began
        self.epochs_run += 1
        losses = {**trainer.label_loss_items(trainer.tloss), **_with_prefix(trainer.metrics, "val/")}
        self._observer.on_epoch(
            EpochReport(
                epoch=trainer.epoch + 1,
                epochs=trainer.epochs,
                losses=losses,
                learning_rates={key: float(value) for key, value in trainer.lr.items()},
                metrics=catalogue_metrics(trainer.metrics),
                seconds=seconds,
                images_per_s=len(trainer.train_loader.dataset) / seconds,
            )
        )


def catalogue_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Ultralytics' validation figures under the catalogue's names, with F1 of the mean P and R."""
    found = {ours: float(metrics[theirs]) for theirs, ours in _METRIC_NAMES.items() if theirs in metrics}
    precision, recall = found.get("precision", 0.0), found.get("recall", 0.0)
    found["f1"] = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return found


def _with_prefix(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if key.startswith(prefix)}


def _outcome(trainer: DetectionTrainer, watch: _Watch, seconds: float) -> TrainingOutcome:
    if not trainer.best.exists():
        msg = f"the training ended without weights in {trainer.wdir}; its log is {trainer.save_dir / 'training.log'}"
        raise RunFailedError(msg)
    return TrainingOutcome(
        best=trainer.best,
        last=trainer.last,
        metrics=catalogue_metrics(trainer.metrics or {}),
        per_class=_per_class(trainer),
        epochs_run=watch.epochs_run,
        seconds=seconds,
        peak_gpu_mem_mb=_peak_gpu_mem_mb(trainer),
        device=str(trainer.device),
        pictures=tuple(sorted([*trainer.save_dir.glob("*.png"), *trainer.save_dir.glob("*.jpg")])),
    )


def _per_class(trainer: DetectionTrainer) -> tuple[ClassResult, ...]:
    metrics = getattr(trainer.validator, "metrics", None)
    if metrics is None or trainer.ddp:
        return ()
    found = {int(index): place for place, index in enumerate(metrics.ap_class_index)}
    rows = []
    for index, name in trainer.data["names"].items():
        boxes = int(metrics.nt_per_class[index]) if metrics.nt_per_class is not None else 0
        images = int(metrics.nt_per_image[index]) if metrics.nt_per_image is not None else 0
        figures = metrics.class_result(found[index]) if index in found else (0.0, 0.0, 0.0, 0.0)
        rows.append(ClassResult(name, images, boxes, *(float(figure) for figure in figures)))
    return tuple(rows)


def _peak_gpu_mem_mb(trainer: DetectionTrainer) -> float | None:
    if trainer.device.type != "cuda":
        return None
    import torch

    return float(torch.cuda.max_memory_allocated(trainer.device)) / 1e6


@contextlib.contextmanager
def _follow_csv(trainer: DetectionTrainer, observer: TrainingObserver) -> Iterator[None]:
    """Several GPUs train in processes of their own, where callbacks of ours can't be; they write a CSV."""
    stop = threading.Event()
    seen = 0

    def report_new_rows() -> None:
        nonlocal seen
        if not trainer.csv.exists():
            return
        with trainer.csv.open(encoding="utf-8", newline="") as file:
            rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
        for row in rows[seen:]:
            observer.on_epoch(_report_of_row(row, rows[seen - 1] if seen else None, trainer.args.epochs))
            seen += 1

    def follow() -> None:
        while not stop.wait(2.0):
            report_new_rows()

    observer.on_start(1, trainer.args.epochs)
    thread = threading.Thread(target=follow, name="guardianflow-results", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report_new_rows()


def _report_of_row(row: Mapping[str, str], before: Mapping[str, str] | None, epochs: int) -> EpochReport:
    values = {key: float(value) for key, value in row.items() if value not in (None, "")}
    seconds = values.get("time", 0.0) - (float(before["time"]) if before else 0.0)
    return EpochReport(
        epoch=int(values["epoch"]),
        epochs=epochs,
        losses={**_with_prefix(values, "train/"), **_with_prefix(values, "val/")},
        learning_rates=_with_prefix(values, "lr/"),
        metrics=catalogue_metrics(values),
        seconds=seconds,
        images_per_s=0.0,
    )


def _explained(error: Exception, trainer: DetectionTrainer | None) -> Exception:
    text = " ".join(str(error).split())
    if "nothing to resume" in text:
        return ModelFileError("that training had reached its last epoch; start a new one instead of resuming it")
    if isinstance(error, OSError) and error.errno == 28:  # ENOSPC
        return RunFailedError(f"no space left on the disk during training ({text}); free some and use --resume")
    if "out of memory" in text.lower():
        return RunFailedError(f"out of memory during training ({text}); use a smaller --batch or --imgsz")
    log = f" Its log: {trainer.save_dir / 'training.log'}" if trainer is not None else ""
    return RunFailedError(f"Ultralytics could not train: {text}.{log}")


def copy_checkpoint(source: Path, folder: Path) -> Path:
    """Copy ``last.pt`` of an interrupted run to where its resumed form expects it."""
    target = folder / "weights" / "last.pt"
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.resolve() != target.resolve():
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(source, draft)
        draft.replace(target)
    return target
