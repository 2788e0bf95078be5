"""Train a detector with Ultralytics, and say after every epoch what happened.

Ultralytics does the training; this file gives it a run folder of ours and turns its callbacks into
:class:`~guardianflow.vision.training.epochs.EpochReport`. The figures of a training are Ultralytics' own
validation figures; benchmarks measure again, the same way for every runtime.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import GuardianFlowError, ModelFileError, RunFailedError
from guardianflow.vision._ultralytics import import_ultralytics, quiet
from guardianflow.vision.devices import best_device
from guardianflow.vision.training.epochs import (
    ClassResult,
    EpochReport,
    TrainingObserver,
    TrainingOutcome,
    catalogue_metrics,
    with_prefix,
)
from guardianflow.vision.training.results_csv import follow_results, read_results

if TYPE_CHECKING:
    from guardianflow.vision.training._trainer import IsolatedTrainer

__all__ = ["TrainingJob", "read_checkpoint_epoch", "train_detector", "validate_weights"]


@dataclass(frozen=True)
class TrainingJob:
    """What to train.

    Attributes:
        model: A weights file, a model YAML, or the name of one of either that Ultralytics knows.
        data_yaml: A data.yaml with absolute paths.
        folder: Where Ultralytics writes (weights, curves, samples).
        log_file: Where its messages go; outside ``folder``, which several GPUs begin with emptying.
        epochs: Passes over the training split.
        batch: Images per step.
        imgsz: Side of the square input, in pixels.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``, ``"0,1"`` …
        seed: Of everything random. The same seed gives the same weights on a CPU.
        workers: Processes that load images (none on a CPU).
        threads: CPU threads that compute; 0: Ultralytics' choice. Another number gives other last digits.
        patience: Epochs without improvement after which training stops; 0 never stops.
        options: Further Ultralytics arguments, see :data:`~guardianflow.vision.training.options.TRAINING_OPTIONS`.
        resume: ``last.pt`` of the interrupted training to go on with.
    """

    model: str
    data_yaml: Path
    folder: Path
    log_file: Path
    epochs: int
    batch: int = 16
    imgsz: int = 640
    device: str = ""
    seed: int = 0
    workers: int = 8
    threads: int = 0
    patience: int = 100
    options: Mapping[str, Any] = field(default_factory=dict)
    resume: Path | None = None


def train_detector(job: TrainingJob, observer: TrainingObserver) -> TrainingOutcome:
    """Train, and return where the weights are and how good they are.

    A training that was interrupted after its last epoch is not trained any further: its best weights
    are validated, which was all that was left to do. Ctrl-C and errors of the observer end the
    training and propagate.

    Raises:
        RunFailedError: Ultralytics gave up; the message holds its reason.
    """
    import_ultralytics()
    job.folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with quiet(job.log_file), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a curve with a box for a letter
        try:
            if job.resume and _was_last_epoch(job.resume, job.epochs):
                return _finish_interrupted(job, observer, began)
            return _train(job, observer, began)
        except GuardianFlowError:
            raise
        except Exception as error:
            raise _explained(error, job) from error


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(job: TrainingJob, observer: TrainingObserver, began: float) -> TrainingOutcome:
    from guardianflow.vision.training._trainer import IsolatedTrainer

    trainer = IsolatedTrainer(overrides=_arguments(job))
    known = read_results(trainer.csv, job.epochs) if job.resume else []
    if trainer.ddp:
        first = known[-1].epoch + 1 if known else 1
        observer.on_start(first, job.epochs)
        _tell(known, observer, before=first)
        with follow_results(trainer.csv, job.epochs, observer.on_epoch, after=first - 1):
            trainer.train()
        epochs_run = len(read_results(trainer.csv, job.epochs)) - len(known)
        figures = validate_weights(trainer.best, job) if trainer.best.exists() else ({}, ())
    else:
        watch = _Watch(trainer, observer, known)
        with _threads(job.threads):  # making the trainer sets them, too
            trainer.train()
        epochs_run = watch.epochs_run
        figures = catalogue_metrics(trainer.metrics or {}), _per_class(trainer.validator.metrics, trainer.data["names"])
    return _outcome(job, figures, epochs_run, began, trainer)


def _finish_interrupted(job: TrainingJob, observer: TrainingObserver, began: float) -> TrainingOutcome:
    known = read_results(job.folder / "results.csv", job.epochs)
    observer.on_start(known[-1].epoch + 1 if known else job.epochs + 1, job.epochs)
    _tell(known, observer, before=job.epochs + 1)
    return _outcome(job, validate_weights(job.folder / "weights" / "best.pt", job), 0, began, None)


def _tell(known: list[EpochReport], observer: TrainingObserver, *, before: int) -> None:
    """Tell of the epochs of an interrupted training: the process may have died before it could."""
    for report in known:
        if report.epoch < before:
            observer.on_epoch(report)


def read_checkpoint_epoch(checkpoint: Path) -> int | None:
    """The epoch (from 1) that a ``last.pt`` was written after; ``None`` once training has ended.

    Raises:
        ModelFileError: It can't be read.
    """
    from guardianflow.vision.model_files import load_checkpoint

    epoch = int(load_checkpoint(checkpoint)[1].get("epoch", -1))
    return epoch + 1 if epoch >= 0 else None


def _was_last_epoch(checkpoint: Path, epochs: int) -> bool:
    epoch = read_checkpoint_epoch(checkpoint)
    return epoch is None or epoch >= epochs


def _arguments(job: TrainingJob) -> dict[str, Any]:
    return {
        **job.options,
        "task": "detect",
        "mode": "train",
        "model": job.model,
        "data": str(job.data_yaml),
        "epochs": job.epochs,
        "batch": job.batch,
        "imgsz": job.imgsz,
        "device": job.device or best_device(),
        "seed": job.seed,
        "deterministic": True,
        "workers": job.workers,
        "patience": job.patience,
        "exist_ok": True,
        "save_dir": str(job.folder),
        "resume": str(job.resume) if job.resume else False,
    }


class _Watch:
    """Turns Ultralytics' callbacks into reports."""

    def __init__(self, trainer: IsolatedTrainer, observer: TrainingObserver, known: list[EpochReport]) -> None:
        self._observer = observer
        self._known = known
        self._epoch_began = time.perf_counter()
        self._trained_s = 0.0
        self._batches = 0
        self.epochs_run = 0
        trainer.add_callback("on_train_start", self._on_train_start)
        trainer.add_callback("on_train_epoch_start", self._on_train_epoch_start)
        trainer.add_callback("on_train_batch_end", self._on_train_batch_end)
        trainer.add_callback("on_train_epoch_end", self._on_train_epoch_end)
        trainer.add_callback("on_fit_epoch_end", self._on_fit_epoch_end)

    def _on_train_start(self, trainer: IsolatedTrainer) -> None:
        first = trainer.start_epoch + 1
        self._observer.on_start(first, trainer.epochs)
        self._observer.on_settings(_settings_of(trainer))
        _tell(self._known, self._observer, before=first)

    def _on_train_epoch_start(self, _: IsolatedTrainer) -> None:
        self._epoch_began = time.perf_counter()
        self._batches = 0

    def _on_train_batch_end(self, trainer: IsolatedTrainer) -> None:
        self._batches += 1
        self._observer.on_batch(self._batches, len(trainer.train_loader))

    def _on_train_epoch_end(self, _: IsolatedTrainer) -> None:
        self._trained_s = time.perf_counter() - self._epoch_began

    def _on_fit_epoch_end(self, trainer: IsolatedTrainer) -> None:
        if not trainer.validator.training:
            return  # the last validation, of best.pt: it is the outcome, not an epoch
        self.epochs_run += 1
        trainer.stop |= self._observer.on_epoch(
            EpochReport(
                epoch=trainer.epoch + 1,
                epochs=trainer.epochs,
                losses={**trainer.label_loss_items(trainer.tloss), **with_prefix(trainer.metrics, "val/")},
                learning_rates={key: float(value) for key, value in trainer.lr.items()},
                metrics=catalogue_metrics(trainer.metrics),
                seconds=time.perf_counter() - self._epoch_began,
                images_per_s=len(trainer.train_loader.dataset) / self._trained_s,
            )
        )


Figures = tuple[Mapping[str, float], tuple[ClassResult, ...]]


def validate_weights(weights: Path, job: TrainingJob) -> Figures:
    """Validate weights as the end of a training does: figures over all classes, and by class.

    Args:
        weights: A ``.pt`` file.
        job: The training that made them.
    """
    ultralytics = import_ultralytics()
    from guardianflow.vision.training._isolation import isolated

    device = (job.device or best_device()).split(",")[0]
    kept = {name: job.options[name] for name in ("iou", "max_det", "plots") if name in job.options}
    with isolated():
        metrics = ultralytics.YOLO(str(weights)).val(
            data=str(job.data_yaml), imgsz=job.imgsz, batch=2 * job.batch, device=device, workers=2 * job.workers,
            exist_ok=True, save_dir=str(job.folder), verbose=False, **{"plots": True, **kept},
        )  # fmt: skip
    return catalogue_metrics(metrics.results_dict), _per_class(metrics, metrics.names)


def _per_class(metrics: Any, names: Mapping[int, str]) -> tuple[ClassResult, ...]:
    found = {int(index): place for place, index in enumerate(metrics.ap_class_index)}
    rows = []
    for index, name in names.items():
        boxes = int(metrics.nt_per_class[index]) if metrics.nt_per_class is not None else 0
        images = int(metrics.nt_per_image[index]) if metrics.nt_per_image is not None else 0
        row = ClassResult(name=name, images=images, boxes=boxes, precision=None, recall=None, map50=None, map50_95=None)
        if index in found:
            row["precision"], row["recall"], row["map50"], row["map50_95"] = map(
                float, metrics.class_result(found[index])
            )
        rows.append(row)
    return tuple(rows)


def _outcome(
    job: TrainingJob, figures: Figures, epochs_run: int, began: float, trainer: IsolatedTrainer | None
) -> TrainingOutcome:
    weights = job.folder / "weights"
    if not (weights / "best.pt").exists():
        raise RunFailedError(f"the training ended without weights in {weights}; its log is {job.log_file}")
    metrics, per_class = figures
    used = _settings_used(job, trainer)
    return TrainingOutcome(
        best=weights / "best.pt",
        last=weights / "last.pt",
        metrics=metrics,
        per_class=per_class,
        epochs_run=epochs_run,
        seconds=time.perf_counter() - began,
        peak_gpu_mem_mb=_peak_gpu_mem_mb(trainer) if trainer is not None else None,
        device=str(trainer.device) if trainer is not None else job.device or best_device(),
        used=used,
        imgsz=int(used.get("imgsz", job.imgsz)),
        pictures=tuple(sorted([*job.folder.glob("*.png"), *job.folder.glob("*.jpg")])),
    )


def _settings_of(trainer: IsolatedTrainer) -> dict[str, Any]:
    """What a training in this process really uses, whatever it was asked."""
    args, group = trainer.args, trainer.optimizer.param_groups[0]
    warmed_up = "momentum" in group and min(args.warmup_epochs, trainer.epochs - 1) > 0  # and ends at what was asked
    momentum = args.momentum if warmed_up else group.get("momentum", group.get("betas", (None,))[0])
    return {
        **_kept_settings(vars(args)),
        "momentum": momentum,
        "device": str(trainer.device),
        "amp": str(args.amp) if trainer.amp and isinstance(args.amp, str) else bool(trainer.amp),
        "frozen": sum(not weight.requires_grad for weight in trainer.model.parameters()),
    }


def _settings_used(job: TrainingJob, trainer: IsolatedTrainer | None) -> dict[str, Any]:
    if trainer is not None and not trainer.ddp:
        return _settings_of(trainer)
    from guardianflow.vision.model_files import load_checkpoint

    # Several GPUs trained in processes of their own: the checkpoint knows what these made of what was asked.
    kept = load_checkpoint(job.folder / "weights" / "last.pt")[1].get("train_args") or {}
    return {**_kept_settings(kept), "device": job.device or best_device()}


def _kept_settings(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: args[name] for name in ("optimizer", "lr0", "batch", "imgsz", "workers") if name in args}


def _peak_gpu_mem_mb(trainer: IsolatedTrainer) -> float | None:
    if trainer.device.type != "cuda" or trainer.ddp:  # several GPUs: in processes of their own
        return None
    import torch

    return float(torch.cuda.max_memory_allocated(trainer.device)) / 1e6


def _explained(error: Exception, job: TrainingJob) -> Exception:
    text = " ".join(str(error).split())
    if "nothing to resume" in text:
        return ModelFileError("that training had reached its last epoch; start a new one instead of resuming it")
    if isinstance(error, OSError) and error.errno == 28:  # ENOSPC
        return RunFailedError(f"no space left on the disk during training ({text}); free some and use --resume")
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return RunFailedError(f"out of memory during training ({text}); use a smaller --batch or --imgsz")
    if "BatchNorm" in text:
        return RunFailedError(f"the last batch of an epoch holds one image ({text}); use another --batch or --imgsz 64")
    return RunFailedError(f"Ultralytics could not train: {text or type(error).__name__}. Its log: {job.log_file}")
