"""Ultralytics' own ``predict`` with torch, as something that can be profiled: the peer that a speed is said against.

It is used as its manual says, with its own defaults: images of one call are letterboxed to the smallest rectangle
(less work than our square), and nothing of ours is in the timed path.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from guardianflow.files.scratch import ScratchFolder
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import BackendInfo
from guardianflow.vision.benchmark.cell_results import REFERENCE
from guardianflow.vision.pipeline.pipeline import ImageDetections, PipelineConfig
from guardianflow.vision.pipeline.read_ahead import Image
from guardianflow.vision.pipeline.stage_times import StageRow, StageTimes

__all__ = ["UltralyticsPredict"]

_BATCHES_PER_CALL = 16


class UltralyticsPredict:
    """``YOLO(path).predict(…)``: one call an image, or one call for a list file of images with its batching.

    Args:
        path: A ``.pt`` file.
        config: Image side, thresholds and batch; the rest is Ultralytics' default.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``.
        precision: ``fp32``, or ``fp16`` for its ``quantize=16``.
        threads: CPU threads of torch; 0 leaves it the choice.

    Raises:
        ModelFileError: The file can't be loaded safely.
    """

    def __init__(
        self, path: Path, *, config: PipelineConfig, device: str = "", precision: str = "fp32", threads: int = 0
    ) -> None:
        from guardianflow.vision.model_files import load_weights

        ultralytics = import_ultralytics()
        import torch

        if threads:
            torch.set_num_threads(threads)
        load_weights(path)  # refuses what must not be loaded, in a sentence
        self.config = config
        self._asked = precision
        self._model = ultralytics.YOLO(str(path))
        self._options: dict[str, Any] = {
            "imgsz": config.imgsz, "conf": config.confidence, "iou": config.iou, "max_det": config.max_det,
            "device": device or None, "verbose": False, "save": False,
        }  # fmt: skip
        if precision == "fp16":
            self._options["quantize"] = 16
        self._rows: list[StageRow] = []
        self._wall_s = 0.0
        self._scratch = ScratchFolder("reference")

    @property
    def info(self) -> BackendInfo:
        """What ran, read back from the loaded model; complete after the first image."""
        import torch
        import ultralytics

        predictor = self._model.predictor
        device = torch.device("cpu") if predictor is None else predictor.device
        half = predictor is not None and bool(predictor.model.fp16)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return BackendInfo(
            backend=REFERENCE,
            version=f"ultralytics {ultralytics.__version__}, torch {torch.__version__}",
            device=name,
            precision_asked=self._asked,
            precision_executed="fp16" if half else "fp32",
            input_shape=(self.config.batch, 3, self.config.imgsz, self.config.imgsz),
            threads=torch.get_num_threads(),
            requests=1,
            details={"letterbox": "smallest rectangle within imgsz, Ultralytics' default"},
        )

    @property
    def stages(self) -> StageTimes:
        """What Ultralytics says of the images of the last :meth:`detect`; decoding is in none of its stages."""
        return StageTimes.from_rows(self._rows, wall_s=self._wall_s)

    def detect_one(self, image: Image) -> tuple[ImageDetections, StageRow]:
        """One call for one image."""
        source = str(image) if isinstance(image, str | Path) else image
        try:
            results = self._model.predict(source, **self._options)
        except OSError as error:
            return ImageDetections(0, _path(image), 0, 0, error=str(error)), StageRow()
        if not results:  # it warns in its log and leaves the image out
            return ImageDetections(0, _path(image), 0, 0, error=f"{image} can't be decoded"), StageRow()
        return _detections(0, results[0]), _row(results[0])

    def detect(self, images: Iterable[Image]) -> Iterator[ImageDetections]:
        """Calls for lists of images, each with Ultralytics' own batching and streaming.

        It sorts the files of a call, so the order within sixteen batches is its own, and it leaves out files that
        it can't read. Pixels go one by one.
        """
        self._rows, started = [], time.perf_counter()
        stream, number = iter(images), itertools.count()
        size = _BATCHES_PER_CALL * self.config.batch
        while chunk := list(itertools.islice(stream, size)):
            for result in self._call(chunk):
                self._rows.append(_row(result))
                self._wall_s = time.perf_counter() - started
                yield _detections(next(number), result)

    def _call(self, chunk: list[Image]) -> Iterator[Any]:
        paths = [str(image) for image in chunk if isinstance(image, str | Path)]
        if len(paths) < len(chunk):
            for image in chunk:
                yield from self._model.predict(image, **self._options)
            return
        listing = self._scratch.path / "images.txt"
        listing.write_text("\n".join(paths), encoding="utf-8")
        yield from self._model.predict(str(listing), stream=True, batch=self.config.batch, **self._options)

    def close(self) -> None:
        """Let go of the model."""
        self._model = None
        with contextlib.suppress(OSError):
            self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _path(image: Image) -> Path | None:
    return Path(image) if isinstance(image, str | Path) else None


def _row(result: Any) -> StageRow:
    speed = result.speed
    return StageRow(preprocess=speed["preprocess"], forward=speed["inference"], postprocess=speed["postprocess"])


def _detections(index: int, result: Any) -> ImageDetections:
    height, width = result.orig_shape
    boxes = result.boxes.cpu().numpy()
    return ImageDetections(
        index,
        Path(result.path),
        int(width),
        int(height),
        boxes.xyxy.astype(np.float32),
        boxes.conf.astype(np.float32),
        boxes.cls.astype(np.int32),
    )
