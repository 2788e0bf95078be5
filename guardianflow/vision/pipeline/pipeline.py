"""From images to detections on any backend, timed by stage."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError, ParameterError
from guardianflow.vision.backends._base import Backend, Ticket
from guardianflow.vision.pipeline.letterbox import Placement
from guardianflow.vision.pipeline.read_ahead import (
    BatchBuffer,
    Image,
    PreparedBatch,
    PreparedImage,
    ReadAhead,
    prepare_in_turn,
)  # fmt: skip
from guardianflow.vision.pipeline.stage_times import StageRow, StageTimes
from guardianflow.vision.pipeline.suppression import check_output, select_image

__all__ = ["ImageDetections", "Pipeline", "PipelineConfig"]


@dataclass(frozen=True)
class PipelineConfig:
    """How images become detections. The defaults are those of an evaluation.

    Attributes:
        imgsz: Side of the square input, in pixels.
        confidence: Scores at or below it are left out: 0.001 to evaluate, an operating value to time.
        iou: Overlap above which non-maximum suppression drops the weaker box of the same class.
        max_det: Boxes kept per image, the best.
        batch: Images per forward pass.
        multi_label: Whether a box may count for several classes (evaluation), or for its best one only.
        read_ahead: Batches decoded and pre-processed ahead of the device; 0: all in turn, in the caller's thread.
        readers: Threads that do so, each with a batch of its own.
    """

    imgsz: int = 640
    confidence: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    batch: int = 1
    multi_label: bool = True
    read_ahead: int = 2
    readers: int = 1

    def __post_init__(self) -> None:
        for name, least in (("imgsz", 32), ("max_det", 1), ("batch", 1), ("read_ahead", 0), ("readers", 1)):
            if getattr(self, name) < least:
                raise ParameterError(f"{name} must be at least {least}, not {getattr(self, name)}; choose another")
        for name in ("confidence", "iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ParameterError(f"{name} must lie in 0 to 1, not {getattr(self, name)}; choose another")


@dataclass(frozen=True, eq=False)
class ImageDetections:
    """What was found on one image, the best first.

    Attributes:
        index: Position among the images given.
        source: Its file; ``None`` for pixels.
        width: Of the original image, in pixels; 0 if it couldn't be decoded.
        height: As width.
        boxes: float32 (n, 4): x1, y1, x2, y2 in pixels of the original image, within it.
        scores: float32 (n,), 0–1.
        labels: int32 (n,), class ids.
        error: Why the image couldn't be used, or ``None``.
    """

    index: int
    source: Path | None
    width: int
    height: int
    boxes: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    error: str | None = None

    def __len__(self) -> int:
        return len(self.scores)


_Results = tuple[list[StageRow], list[ImageDetections]]


@dataclass(frozen=True, slots=True)
class _Submitted:
    """A batch with the device: its ticket (``None``: nothing in it could be decoded), and since when (ns)."""

    prepared: PreparedBatch
    ticket: Ticket | None
    at: int


class Pipeline:
    """Runs a backend over images.

    Decoding and pre-processing run ahead in threads of their own, ``read_ahead`` batches at most, in buffers
    that are used again. The backend and post-processing stay in the caller's thread; with an asynchronous
    backend the next batches are at work while results are post-processed. One :meth:`detect` at a time.

    Args:
        backend: Stays the caller's to close.
        config: How images become detections.
    """

    def __init__(self, backend: Backend, config: PipelineConfig | None = None) -> None:
        self.backend = backend
        self.config = config or PipelineConfig()
        self.not_finite = 0
        """Anchors with NaN or infinite values that the last :meth:`detect` left out."""
        self._asynchronous = type(backend).submit is not Backend.submit
        self._buffers: list[BatchBuffer] = []
        self._rows: list[StageRow] = []
        self._wall_s = 0.0
        self._free_at = 0  # when the device gave its last result, in nanoseconds
        self._running = False

    @property
    def stages(self) -> StageTimes:
        """Times of the last :meth:`detect`, also while it runs."""
        return StageTimes.from_rows(self._rows, wall_s=self._wall_s)

    def detect(self, images: Iterable[Image]) -> Iterator[ImageDetections]:
        """Detections of each image, in the order given.

        An image that can't be decoded yields its ``error``, and the rest goes on. Closing the generator
        early, or Ctrl-C, ends the threads after the image and the batch at hand.

        Args:
            images: Files, or BGR pixels (uint8, (H, W, 3)). With ``read_ahead`` they are drawn in another thread.

        Yields:
            One for every image.

        Raises:
            InputError: Another ``detect`` of this pipeline is still running.
        """
        if self._running:
            raise InputError("a pipeline detects one thing at a time; end or close the detect() that is running first")
        self._running = True
        self._rows, self.not_finite, self._wall_s = [], 0, 0.0
        began = time.perf_counter()
        batches = self._run_in_turn(images) if self.config.read_ahead == 0 else self._run_ahead(images)
        try:
            for rows, detections in batches:
                self._rows += rows
                for found in detections:
                    self._wall_s = time.perf_counter() - began
                    yield found
                self._wall_s = time.perf_counter() - began
        finally:
            batches.close()
            self._running = False

    def detect_one(self, image: Image) -> tuple[ImageDetections, StageRow]:
        """Detections of one image and what they took, all in the caller's thread: for latency.

        Args:
            image: A file, or BGR pixels. An image that can't be decoded gives its ``error``.

        Raises:
            InputError: A :meth:`detect` of this pipeline is still running.
        """
        if self._running:
            raise InputError("a pipeline detects one thing at a time; end or close the detect() that is running first")
        for rows, detections in self._run_in_turn((image,), batch=1):
            return detections[0], rows[0]
        raise AssertionError("one image gives one result")

    def _run_in_turn(self, images: Iterable[Image], *, batch: int = 0) -> Generator[_Results]:
        buffer = self._some_buffers(1)[0]
        for prepared in prepare_in_turn(images, buffer, batch or self.config.batch):
            yield self._forward(prepared)

    def _run_ahead(self, images: Iterable[Image]) -> Generator[_Results]:
        depth = max(2, self.backend.info.requests) if self._asynchronous else 1
        buffers = self._some_buffers(self.config.read_ahead + depth)
        waiting: deque[_Submitted] = deque()
        reads = ReadAhead(images, buffers, batch=self.config.batch, readers=self.config.readers)
        try:
            with reads:
                while True:
                    # A result isn't held back for an image that isn't there yet.
                    prepared = reads.take(wait=not waiting) if len(waiting) < depth else None
                    if prepared is not None and self._asynchronous and len(prepared.squares):
                        waiting.append(self._submit(prepared))
                    elif prepared is not None and not waiting:
                        results = self._forward(prepared)
                        reads.release(prepared.buffer)
                        yield results
                    elif prepared is not None:  # nothing in it for the device, and others are before it
                        waiting.append(_Submitted(prepared, None, 0))
                    elif waiting:
                        yield self._collect(waiting.popleft(), reads)
                    else:
                        return
        finally:
            self._abandon(waiting)
            if not reads.all_ended:
                self._buffers = []  # a thread that hangs in the source may still write to one

    def _some_buffers(self, count: int) -> list[BatchBuffer]:
        while len(self._buffers) < count:
            self._buffers.append(BatchBuffer(self.config.batch, self.config.imgsz))
        return self._buffers[:count]

    def _forward(self, prepared: PreparedBatch) -> _Results:
        """A batch at once, in the caller's thread."""
        if not len(prepared.squares):
            return self._finish(prepared, None, 0.0)
        began = time.perf_counter_ns()
        output = self.backend.forward(prepared.squares)
        return self._finish(prepared, output, (time.perf_counter_ns() - began) / 1e6)

    def _submit(self, prepared: PreparedBatch) -> _Submitted:
        began = time.perf_counter_ns()
        return _Submitted(prepared, self.backend.submit(prepared.squares), began)

    def _collect(self, submitted: _Submitted, reads: ReadAhead) -> _Results:
        prepared = submitted.prepared
        output, took = None, 0.0
        if submitted.ticket is not None:
            output = self.backend.collect(submitted.ticket)
            now = time.perf_counter_ns()
            took = (now - max(submitted.at, self._free_at)) / 1e6
            self._free_at = now
        reads.release(prepared.buffer)
        return self._finish(prepared, output, took)

    def _abandon(self, waiting: deque[_Submitted]) -> None:
        """Collect what the device still works on: the buffers are used again, and tickets have their order."""
        while waiting:
            submitted = waiting.popleft()
            if submitted.ticket is not None:
                with contextlib.suppress(Exception):  # nobody waits for it any more, or an error is on its way already
                    self.backend.collect(submitted.ticket)

    def _finish(self, prepared: PreparedBatch, output: npt.NDArray[np.float32] | None, took: float) -> _Results:
        """Boxes in pixels of each image, from the device's output for those that could be decoded."""
        count = len(prepared.squares)
        if output is not None:
            check_output(output, count)
        rows, detections = [], []
        place = 0
        for entry in prepared.entries:
            if output is None or entry.placement is None:
                rows.append(StageRow(decode=entry.decode))
                detections.append(ImageDetections(entry.index, entry.source, 0, 0, error=entry.error))
                continue
            began = time.perf_counter_ns()
            detections.append(self._select(entry, entry.placement, output[place]))
            spent = (time.perf_counter_ns() - began) / 1e6
            rows.append(StageRow(entry.decode, entry.preprocess, took / count, spent))
            place += 1
        return rows, detections

    def _select(self, entry: PreparedImage, placement: Placement, output: npt.NDArray[np.float32]) -> ImageDetections:
        config = self.config
        found = select_image(
            output, confidence=config.confidence, iou=config.iou, max_det=config.max_det, multi_label=config.multi_label
        )
        self.not_finite += found.not_finite
        boxes = placement.to_image(found.boxes)
        return ImageDetections(
            entry.index, entry.source, placement.width, placement.height, boxes, found.scores, found.labels
        )
