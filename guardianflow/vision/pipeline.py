"""From images to detections on any backend, timed by stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import ParameterError
from guardianflow.vision.stage_times import StageRow, StageTimes

if TYPE_CHECKING:
    from guardianflow.vision.backends._base import Backend

__all__ = ["ImageDetections", "Pipeline", "PipelineConfig", "StageRow", "StageTimes"]

Image = Path | npt.NDArray[np.uint8]


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


class Pipeline:
    """Runs a backend over images.

    Args:
        backend: Stays the caller's to close.
        config: How images become detections.
    """

    def __init__(self, backend: Backend, config: PipelineConfig | None = None) -> None:
        self.backend = backend
        self.config = config or PipelineConfig()

    @property
    def stages(self) -> StageTimes:
        """Times of the last :meth:`detect`, also while it runs."""
        raise NotImplementedError

    def detect(self, images: Iterable[Image]) -> Iterator[ImageDetections]:
        """Detections of each image, in order; images are files or BGR pixels (uint8, (H, W, 3))."""
        raise NotImplementedError

    def detect_one(self, image: Image) -> tuple[ImageDetections, StageRow]:
        """Detections of one image, all in the caller's thread."""
        raise NotImplementedError
