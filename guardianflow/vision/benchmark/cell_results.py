"""One cell of the matrix as data: what it is asked, and what came of it.

Both cross a border between processes as JSON. A cell is data only: it names a backend of the catalogue and
files, never code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from guardianflow.exceptions import InputError
from guardianflow.vision.backends._base import BackendInfo
from guardianflow.vision.benchmark.profile_results import MODES, ModeResult
from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["REFERENCE", "STATUSES", "CellProgress", "CellResult", "CellSpec"]

REFERENCE = "ultralytics-predict"
"""Pseudo-backend: Ultralytics' own ``YOLO(path).predict``, so that a speed can be said as a ratio."""

STATUSES = ("ok", "failed", "unavailable", "out_of_memory", "crashed", "timeout")


@dataclass(frozen=True)
class CellSpec:
    """What one cell measures.

    Attributes:
        model: The model that was asked for; its export is the cell's own work.
        backend: A name of the catalogue, or :data:`REFERENCE`.
        folder: Where the cell writes: ``result.json``, ``latencies_*.npy``, ``cell.log``, ``evaluation/``.
        exports: Folder of cached exports, shared by the cells; empty: ``exports`` beside ``folder``.
        precision: What the backend is asked for.
        batch: Images per forward pass.
        modes: What is timed; empty: nothing.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``.
        imgsz: Side of the square input, pixels; 0: the model's own.
        confidence: Operating confidence of what is timed and of precision, recall and F1.
        iou: Overlap above which non-maximum suppression drops the weaker box.
        max_det: Boxes kept per image.
        threads: CPU threads of the runtime; 0 leaves it the choice.
        data_yaml: Labelled dataset; may be empty where ``source`` is given.
        split: Which split of it.
        images: So many images at most, drawn by the seed; 0: all.
        fingerprint: The dataset's fingerprint, kept with the evaluation; empty: the cell takes it itself.
        source: Video file, folder of images or MOT sequence folder; empty: none.
        tracker: Tracker for ``source``; empty: none.
        seconds: Least measured time of one repetition, s.
        repeats: Repetitions.
        rate: Arrivals per second in server mode; 0 chooses.
        bound_ms: Bound of the 99th percentile in server mode, ms; 0: none.
        extras: Sustained and after-idle runs beside single_stream.
        evaluate: Measure accuracy on the labelled images, too.
        seed: Of the draw of images and of the arrivals.
    """

    model: ModelFile
    backend: str
    folder: str
    exports: str = ""
    precision: str = "fp32"
    batch: int = 1
    modes: tuple[str, ...] = ("single_stream", "offline")
    device: str = ""
    imgsz: int = 0
    confidence: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    threads: int = 0
    data_yaml: str = ""
    split: str = "val"
    images: int = 0
    fingerprint: str = ""
    source: str = ""
    tracker: str = ""
    seconds: float = 3.0
    repeats: int = 3
    rate: float = 0.0
    bound_ms: float = 0.0
    extras: bool = True
    evaluate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [mode for mode in self.modes if mode not in MODES]
        if unknown:
            raise InputError(f"there is no mode {unknown[0]!r}; known: {', '.join(MODES)}")
        if self.batch < 1:
            raise InputError(f"the batch of a cell must be at least 1, not {self.batch!r}")
        if not self.data_yaml and not self.source:
            raise InputError("a cell needs images: data_yaml (labelled images) or source (a video or a sequence)")

    @property
    def name(self) -> str:
        """What people call this cell, such as ``openvino int8 · batch 8``."""
        return f"{self.backend} {self.precision} · batch {self.batch}"

    @property
    def side(self) -> int:
        """Side of the square input, pixels."""
        return self.imgsz or self.model.imgsz

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "model": self.model.to_dict(), "modes": list(self.modes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The other way.

        Raises:
            InputError: A key that a cell doesn't have, or a value that it can't.
        """
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"a cell has no {unknown[0]!r}; known: {', '.join(sorted(known))}")
        model, modes = ModelFile.from_dict(values["model"]), values.get("modes", ("single_stream", "offline"))
        return cls(**{**values, "model": model, "modes": tuple(modes)})


@dataclass(frozen=True)
class CellProgress:
    """Where a cell is.

    Attributes:
        step: ``prepare``, ``load``, ``evaluate``, ``track`` or a mode.
        done: Units finished.
        total: Units in all; 0: unknown.
        text: For people.
    """

    step: str
    done: int = 0
    total: int = 0
    text: str = ""


@dataclass(eq=False)
class CellResult:
    """What came of a cell, whatever became of its process; filled in while the cell is at work.

    Attributes:
        spec: What was asked.
        status: One of :data:`STATUSES`.
        reason: Why it isn't ``ok``, in one sentence; empty where it is.
        backend: What the backend says of itself; ``None`` where it never opened.
        precision_executed: Read back from the runtime.
        modes: One entry a mode.
        detection: Catalogue name → figure, where it was evaluated.
        detection_details: ``DetectionResult.to_dict()``: per class, sizes, curves.
        tracking: Whatever the tracking of ``source`` found: counts, figures, why a video ended early.
        model: What the backend loaded.
        model_size_mb: Its size, MB (10^6 bytes).
        prepare_s: Export, s, in a process of its own; 0 where none was needed.
        start_s: From the start of the process until our own code was ready, s.
        load_s: Import of the runtime and loading of the model, s.
        first_inference_ms: The very first image, before any warm-up, ms.
        peak_rss_mb: Most memory that the process and its children held, as seen from outside, MB.
        seconds: The whole cell, s.
        warnings: What a reader should know, in sentences.
        log: The cell's log.
        failed_in: The step in which it ended; empty where it is ``ok``.
    """

    spec: CellSpec
    status: str
    reason: str = ""
    backend: BackendInfo | None = None
    precision_executed: str = ""
    modes: tuple[ModeResult, ...] = ()
    detection: Mapping[str, float] = field(default_factory=dict)
    detection_details: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    model: ModelFile | None = None
    model_size_mb: float = 0.0
    prepare_s: float = 0.0
    start_s: float = 0.0
    load_s: float = 0.0
    first_inference_ms: float = 0.0
    peak_rss_mb: float = 0.0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    log: str = ""
    failed_in: str = ""

    @property
    def ok(self) -> bool:
        """Whether the cell reached its end."""
        return self.status == "ok"

    @property
    def device(self) -> str:
        """Where the backend computed; empty where it never opened."""
        return self.backend.device if self.backend else ""

    @property
    def evaluation_folder(self) -> Path | None:
        """Where its ``DetectionRecord`` lies, if it was evaluated."""
        folder = Path(self.spec.folder) / "evaluation"
        return folder if folder.is_dir() and self.detection else None

    def mode(self, name: str) -> ModeResult | None:
        """The result of one mode, if it was measured."""
        return next((result for result in self.modes if result.mode == name), None)

    def metrics(self) -> dict[str, float]:
        """Catalogue name → figure. Latency is single_stream's, throughput offline's, where they were measured.

        With neither, the first mode that was measured gives the figures.
        """
        found: dict[str, float] = {}
        for name in ("server", "offline", "single_stream"):
            result = self.mode(name)
            if result is not None:
                found |= result.metrics()
        offline = self.mode("offline")
        if offline is not None:
            found["throughput_fps"] = offline.throughput_fps
        found |= self.detection
        if self.model_size_mb:
            found["model_size_mb"] = self.model_size_mb
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the raw latencies."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values |= {
            "spec": self.spec.to_dict(),
            "modes": [mode.to_dict() for mode in self.modes],
            "warnings": list(self.warnings),
            "backend": self.backend.to_dict() if self.backend else {},
            "model": self.model.to_dict() if self.model else {},
        }
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The other way; raw latencies are read from the cell's folder where they still lie there."""
        spec = CellSpec.from_dict(values["spec"])
        modes = [ModeResult.from_dict(mode).with_latencies(Path(spec.folder)) for mode in values["modes"]]
        parts = {
            "spec": spec,
            "modes": tuple(modes),
            "warnings": tuple(values["warnings"]),
            "backend": BackendInfo.from_dict(values["backend"]) if values.get("backend") else None,
            "model": ModelFile.from_dict(values["model"]) if values.get("model") else None,
        }
        return cls(**{**values, **parts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``result.json`` of a cell's folder."""
        return cls.from_dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))
