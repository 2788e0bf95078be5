"""The work of one cell, inside its process: open the model, time it in each mode, score it, track with it."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from guardianflow.exceptions import HashMismatchError, InputError
from guardianflow.files.content import measure
from guardianflow.machine.system import GpuMetrics, get_gpu_metrics
from guardianflow.vision.backends._base import BackendInfo, BackendOptions
from guardianflow.vision.backends.catalog import open_backend
from guardianflow.vision.benchmark.cell_results import REFERENCE, CellResult, CellSpec
from guardianflow.vision.benchmark.profile_modes import Detector
from guardianflow.vision.benchmark.profile_results import ModeResult, ProfileConfig
from guardianflow.vision.benchmark.profiler import profile
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig
from guardianflow.vision.pipeline.read_ahead import Image

if TYPE_CHECKING:
    from guardianflow.data.layout import Dataset

__all__ = ["measure_cell", "timing_images"]

EVALUATION_CONFIDENCE = 0.001
_SOURCE_FRAMES = 64
_READERS = 2


class _Report(Protocol):
    def __call__(self, step: str, done: int = 0, total: int = 0, text: str = "") -> None: ...
    def often(self, step: str, done: int, total: int) -> None: ...


def measure_cell(
    result: CellResult, *, report: _Report, model: ModelFile, opener: Callable[..., Any] | None = None
) -> None:
    """Measure everything that a cell was asked.

    Args:
        result: Holds what was asked, and is filled in: what is in it when an exception comes is what was measured
            before.
        report: Told where the cell is.
        model: What the backend loads.
        opener: Opens a backend as ``open_backend`` of the catalogue does; default: that one.

    Raises:
        GuardianFlowError: The backend, the model or the images can't be used.
        Exception: Whatever a runtime raises.
    """
    result.start_s, spec = _alive_s(), result.spec
    result.model, result.model_size_mb = model, model.size_mb
    images = timing_images(spec)
    engine = _Reference(spec, model) if spec.backend == REFERENCE else _Runtime(spec, model, opener)
    alone = tuple(mode for mode in spec.modes if mode != "offline")
    hints = [("latency", alone)] if alone else []
    if "offline" in spec.modes:
        hints.append(("throughput", ("offline",)))
    for number, (hint, modes) in enumerate(hints or [("latency", ())]):
        report("load", text=f"{spec.backend} {spec.precision}, for {hint}")
        began = time.perf_counter()
        with engine.open(hint) as opened:
            if opener is None:  # a backend of a test loads no file
                _require_unchanged(model)
            if number == 0:
                result.load_s = time.perf_counter() - began
                result.first_inference_ms = _first_inference(opened.in_turn, images)
                _keep_info(result, opened.info())
            for mode in modes:
                result.modes += (_profile(spec, opened, images, mode, report),)
            if number == max(0, len(hints) - 1) and opened.evaluation is not None:
                _look_closer(result, model, opened.evaluation, report)


def _require_unchanged(model: ModelFile) -> None:
    """What was loaded must be what was hashed: the figures are kept as those of that hash."""
    if measure(model.path).sha256 != model.sha256:
        raise HashMismatchError(
            f"{model.path} was changed while it was being measured, so its figures would be nobody's; measure it again"
        )


def timing_images(spec: CellSpec) -> list[Image]:
    """What is timed on: the same files for every cell of a matrix.

    The labelled images of the split, or so many of them as asked, drawn by the seed; without a dataset the
    first frames of the source.

    Raises:
        InputError: There are none.
    """
    if spec.data_yaml:
        from guardianflow.data.dataset import read_dataset

        files: list[Image] = list(_drawn(spec, read_dataset(spec.data_yaml)))
    else:
        files = _first_frames(spec)
    if not files:
        msg = f"there are no images in split {spec.split!r} of {spec.data_yaml or spec.source}; choose another split"
        raise InputError(msg)
    return files


def _drawn(spec: CellSpec, dataset: Dataset) -> list[Path]:
    from guardianflow.vision.evaluation_set import choose_images

    return choose_images(dataset, spec.split, count=spec.images, seed=spec.seed)


def _first_frames(spec: CellSpec) -> list[Image]:
    from guardianflow.vision.pipeline.frames import open_source

    wanted = min(spec.images or _SOURCE_FRAMES, _SOURCE_FRAMES)
    readable = (frame.image.copy() for frame in open_source(spec.source) if frame.image is not None)
    return list(itertools.islice(readable, wanted))


@dataclass(frozen=True, eq=False)
class _Opened:
    """A model that is ready: as it answers one query after another, as it reads ahead, as it is scored."""

    info: Callable[[], BackendInfo]
    in_turn: Detector
    ahead: Detector
    evaluation: Pipeline | None


class _Runtime:
    """A backend of the catalogue."""

    def __init__(self, spec: CellSpec, model: ModelFile, opener: Callable[..., Any] | None) -> None:
        self._spec = spec
        self._model = model
        self._open = opener

    @contextlib.contextmanager
    def open(self, hint: str) -> Iterator[_Opened]:
        """Open it for latency or for throughput."""
        spec, imgsz = self._spec, self._spec.side
        options = BackendOptions(
            precision=spec.precision, device=spec.device, batch=spec.batch, imgsz=imgsz, threads=spec.threads, hint=hint
        )
        opener = self._open or open_backend
        with opener(self._model, backend=spec.backend, options=options) as backend:
            yield _Opened(
                info=lambda: backend.info,
                in_turn=Pipeline(backend, _timed_config(spec, read_ahead=0)),
                ahead=Pipeline(backend, _timed_config(spec, read_ahead=2)),
                evaluation=Pipeline(
                    backend,
                    PipelineConfig(
                        imgsz=imgsz, confidence=EVALUATION_CONFIDENCE, iou=spec.iou, max_det=spec.max_det,
                        batch=spec.batch, multi_label=True,
                    ),
                ),
            )  # fmt: skip


class _Reference:
    """Ultralytics' own predict: nothing to score, it is there to be compared with."""

    def __init__(self, spec: CellSpec, model: ModelFile) -> None:
        self._spec = spec
        self._model = model

    @contextlib.contextmanager
    def open(self, _hint: str) -> Iterator[_Opened]:
        """Open it; there is one way."""
        from guardianflow.vision._ultralytics import import_ultralytics, quiet
        from guardianflow.vision.benchmark.reference_predict import UltralyticsPredict

        spec = self._spec
        import_ultralytics()
        config = _timed_config(spec, read_ahead=0)
        with (
            quiet(Path(spec.folder) / "ultralytics.log"),
            UltralyticsPredict(
                self._model.path, config=config, device=spec.device, precision=spec.precision, threads=spec.threads
            ) as peer,
        ):
            yield _Opened(lambda: peer.info, peer, peer, None)


def _alive_s() -> float:
    """Seconds since this process was started; on Linux by a clock that nobody sets while it runs."""
    stat = Path("/proc/self/stat")
    if not hasattr(time, "CLOCK_BOOTTIME") or not stat.exists():
        return max(0.0, time.time() - psutil.Process().create_time())
    started = int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK"))


def _timed_config(spec: CellSpec, *, read_ahead: int) -> PipelineConfig:
    """As it would be served: the operating confidence, a box's best class."""
    return PipelineConfig(
        imgsz=spec.side, confidence=spec.confidence, iou=spec.iou, max_det=spec.max_det, batch=spec.batch,
        multi_label=False, read_ahead=read_ahead, readers=min(_READERS, os.cpu_count() or 1),
    )  # fmt: skip


def _first_inference(detector: Detector, images: Sequence[Image]) -> float:
    """The very first answer, ms: what a user waits for whose program has just started."""
    began = time.perf_counter()
    detector.detect_one(images[0])
    return (time.perf_counter() - began) * 1e3


def _keep_info(result: CellResult, info: BackendInfo) -> None:
    spec, result.backend, result.precision_executed = result.spec, info, info.precision_executed
    if info.precision_executed != spec.precision:
        result.warnings += (
            f"asked for {spec.precision}, {spec.backend} computes at {info.precision_executed} on this device",
        )


def _profile(spec: CellSpec, opened: _Opened, images: Sequence[Image], mode: str, report: _Report) -> ModeResult:
    report(mode, 0, spec.repeats)
    config = ProfileConfig(
        seconds=spec.seconds, repeats=spec.repeats, rate=spec.rate, bound_ms=spec.bound_ms,
        sustained=spec.extras, after_idle=spec.extras, seed=spec.seed,
    )  # fmt: skip
    return profile(
        opened.ahead if mode == "offline" else opened.in_turn,
        images,
        mode=mode,
        config=config,
        gpus=_gpu_reader(spec, opened.info()),
        on_progress=lambda done, total: report(mode, done, total),
    )


def _gpu_reader(spec: CellSpec, info: BackendInfo) -> Callable[[], list[GpuMetrics]]:
    """Reads the GPU that this cell uses and no other; nothing for one that runs on the CPU."""
    device = f"{spec.device} {info.device}".lower()
    if "cpu" in device and "cuda" not in device and "gpu" not in device:
        return list
    digits = "".join(char for char in spec.device.split(",")[0] if char.isdigit())
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    place = int(digits or 0)
    wanted = visible[place] if place < len(visible) else str(place)
    return lambda: [gpu for gpu in get_gpu_metrics() if wanted in {str(gpu.index), gpu.uuid}]


def _look_closer(result: CellResult, model: ModelFile, pipeline: Pipeline, report: _Report) -> None:
    spec = result.spec
    if spec.evaluate and spec.data_yaml:
        _evaluate(result, model, pipeline, report)
    if spec.source and spec.tracker:
        from guardianflow.vision.benchmark.cell_tracking import track_cell

        report("track", text=spec.tracker)
        result.tracking = track_cell(
            spec, pipeline.backend, progress=lambda done, total: report.often("track", done, total)
        )
        if result.tracking["note"]:
            result.warnings += (result.tracking["note"],)


def _evaluate(result: CellResult, model: ModelFile, pipeline: Pipeline, report: _Report) -> None:
    from guardianflow.data.dataset import read_dataset
    from guardianflow.data.fingerprint import fingerprint_dataset
    from guardianflow.evaluation.detection.evaluate import evaluate_detection
    from guardianflow.vision.evaluation_set import collect_record

    spec = result.spec
    report("evaluate")
    dataset = read_dataset(spec.data_yaml)
    record = collect_record(
        pipeline,
        dataset,
        spec.split,
        fingerprint=spec.fingerprint or fingerprint_dataset(dataset).total,
        images=_drawn(spec, dataset),
        progress=lambda done, total: report.often("evaluate", done, total),
        facts={"model_sha256": spec.model.sha256, "served_sha256": model.sha256},
    )
    left_out = {**record.facts["unreadable"], **record.facts["unusable_labels"]}
    if left_out:
        name, reason = next(iter(left_out.items()))
        result.warnings += (f"images left out of the evaluation: {len(left_out):,}; the first, {name}: {reason}",)
    scored = evaluate_detection(record, confidence=spec.confidence, max_det=spec.max_det)
    record.save(Path(spec.folder) / "evaluation")
    result.detection, result.detection_details = scored.metrics(), scored.to_dict()
