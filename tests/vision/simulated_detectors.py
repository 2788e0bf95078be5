"""Detectors whose time is made up: they move a clock by hand, so that a profile of them is exact and quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from guardianflow.vision.backends._base import Backend, BackendInfo
from guardianflow.vision.pipeline.pipeline import ImageDetections, PipelineConfig
from guardianflow.vision.pipeline.stage_times import StageRow, StageTimes


class HandClock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)

    def pass_ms(self, milliseconds: float) -> None:
        self.time += milliseconds / 1e3


class SimulatedDetector:
    """Takes ``delay(number of the query, time)`` milliseconds a query, whatever its images.

    Args:
        clock: What it moves.
        delay: Milliseconds of a query.
        batch: Images a query.
        broken: Names of files that can't be read.
    """

    def __init__(
        self, clock: HandClock, delay: Callable[[int, float], float], *, batch: int = 1, broken: Iterable[str] = ()
    ) -> None:
        self.config = PipelineConfig(batch=batch, read_ahead=0)
        self.clock = clock
        self.delay = delay
        self.broken = set(broken)
        self.queries = 0
        self.seen: list[str] = []
        self.sizes: list[int] = []
        self.stages = StageTimes()

    def detect_one(self, image: Path) -> tuple[ImageDetections, StageRow]:
        found = list(self.detect([image]))
        return found[0], StageRow(forward=float(self.stages.forward[0]))

    def detect(self, images: Iterable[Path]) -> Iterator[ImageDetections]:
        stream, rows = iter(images), []
        while batch := list(islice(stream, self.config.batch)):
            took = self.delay(self.queries, self.clock.now())
            self.queries += 1
            self.clock.pass_ms(took)
            self.sizes.append(len(batch))
            rows += [StageRow(forward=took / len(batch))] * len(batch)
            self.stages = StageTimes.from_rows(rows, wall_s=0.0)
            for index, image in enumerate(batch):
                self.seen.append(image.name)
                yield ImageDetections(index, image, 9, 9, error="broken" if image.name in self.broken else None)


class EmptyBackend(Backend):
    """Sees nothing, or the same box of class 0 in every image, and lets a function run before each answer.

    Args:
        before: That function.
        classes: How many the model knows.
        box: x and y of the middle, width and height, in pixels of the input.
    """

    def __init__(
        self,
        before: Callable[[], object] = lambda: None,
        *,
        classes: int = 2,
        box: tuple[float, float, float, float] | None = None,
    ) -> None:
        super().__init__()
        self.before = before
        self.classes = classes
        self.box = box
        self.closed = 0

    @property
    def info(self) -> BackendInfo:
        return BackendInfo("empty", "1.0", "cpu", "fp32", "fp32", (0, 3, 0, 0), 1, 1)

    def forward(self, images: np.ndarray) -> np.ndarray:
        self.before()
        output = np.zeros((len(images), 4 + self.classes, 10), np.float32)
        if self.box is not None:
            output[:, :4, 0], output[:, 4, 0] = self.box, 0.9
        return output

    def close(self) -> None:
        self.closed += 1
