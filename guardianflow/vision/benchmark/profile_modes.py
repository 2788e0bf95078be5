"""The modes of a profile, MLPerf's: one query after another, all images at once, arrivals by chance.

Each knows how to warm up and how to run one repetition; all go by one clock, so that they can be tested with a
clock that is moved by hand.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError
from guardianflow.vision.benchmark.load_generator import Clock, ServedLoad, poisson_arrivals, serve_arrivals
from guardianflow.vision.benchmark.profile_results import AfterIdle, ProfileConfig, ServerFigures, Sustained, WarmUp
from guardianflow.vision.benchmark.profile_statistics import Stability, summarize
from guardianflow.vision.pipeline.pipeline import ImageDetections, Pipeline, PipelineConfig
from guardianflow.vision.pipeline.read_ahead import Image
from guardianflow.vision.pipeline.stage_times import StageRow, StageTimes

__all__ = ["Bench", "Detector", "Mode", "Offline", "Repetition", "Server", "SingleStream"]

_LOAD_OF_SERVER = 0.7
_LEAST_ARRIVALS = 10
_PAUSES = 5
_CHUNK_BATCHES = 2
_GIVE_UP = 10


class Detector(Protocol):
    """What can be profiled; :class:`guardianflow.vision.pipeline.pipeline.Pipeline` is one."""

    @property
    def config(self) -> PipelineConfig:
        """Batch and the rest."""
        ...

    @property
    def stages(self) -> StageTimes:
        """Times of the last :meth:`detect`."""
        ...

    def detect(self, images: Iterable[Image]) -> Iterator[ImageDetections]:
        """Detections of each image, in order."""
        ...

    def detect_one(self, image: Image) -> tuple[ImageDetections, StageRow]:
        """Detections of one image, all in the caller's thread."""
        ...


@dataclass(eq=False)
class Repetition:
    """One repetition: seconds by the clock, and a latency for each query (each image in server mode)."""

    seconds: float
    images: int
    failed: int
    latencies_ms: npt.NDArray[np.float64]
    stages: list[StageTimes]
    load: ServedLoad | None = None

    @property
    def throughput(self) -> float:
        """Images per second."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def figures(self) -> dict[str, float]:
        """Catalogue name → figure."""
        found = {"throughput_fps": self.throughput}
        if self.latencies_ms.size:
            summary = summarize(self.latencies_ms)
            found |= {f"latency_ms_{name}": getattr(summary, name) for name in ("mean", "p50", "p95", "p99")}
        return found


@dataclass(eq=False)
class Bench:
    """A pipeline on the bench: images without end, and queries by the clock."""

    pipeline: Detector
    images: Sequence[Image]
    config: ProfileConfig
    clock: Clock
    rows: list[StageRow] = field(default_factory=list)
    times: list[StageTimes] = field(default_factory=list)
    failed: int = 0

    def __post_init__(self) -> None:
        self.batch = self.pipeline.config.batch
        self._supply = self._endless()

    def _endless(self) -> Iterator[Image]:
        """Every pass in another order, so that however far it comes, it has seen a fair part."""
        random = np.random.default_rng(self.config.seed)
        while True:
            for place in random.permutation(len(self.images)):
                yield self.images[place]

    def take(self, count: int) -> list[Image]:
        """The next images."""
        return [next(self._supply) for _ in range(count)]

    def query(self, images: Sequence[Image]) -> tuple[float, int]:
        """Milliseconds until a query was answered, and how many of its images could be read."""
        started = self.clock.now()
        if len(images) == 1 and self.batch == 1:
            found, row = self.pipeline.detect_one(images[0])
            took = self.clock.now() - started
            self.rows.append(row)
            good = int(found.error is None)
        else:
            good = sum(found.error is None for found in self.pipeline.detect(images))
            took = self.clock.now() - started
            self.times.append(self.pipeline.stages)
        self.failed += len(images) - good
        return took * 1e3, good

    def next_query(self) -> tuple[float, int]:
        """As :meth:`query`, with the next batch of images."""
        return self.query(self.take(self.batch))

    def forget(self) -> None:
        """Begin to count anew."""
        self.rows, self.times, self.failed = [], [], 0

    def stages(self) -> list[StageTimes]:
        """Times of all queries since :meth:`forget`."""
        rows = [StageTimes.from_rows(self.rows, wall_s=0.0)] if self.rows else []
        return rows + self.times

    def warm_up(self) -> tuple[WarmUp, float]:
        """Queries until they take the same time; that time too, ms."""
        stability = Stability() if self.batch == 1 else Stability(window=4, least=8)
        longest = self.config.warm_up_s or max(2.0, self.config.seconds)
        started = self.clock.now()
        good, stable = 0, False
        while not stable and (stability.count < 2 or self.clock.now() - started < longest):
            duration, readable = self.next_query()
            good += readable
            stable = stability.add(duration)
        if not good:
            raise InputError(f"none of the first {stability.count * self.batch} images could be read; check the images")
        return WarmUp(stability.count, self.clock.now() - started, stable, stability.rule), stability.recent


class Mode(ABC):
    """How images are asked for.

    Args:
        pipeline: What is measured.
        images: What it is measured on.
        config: How long and how often.
        clock: What it is measured by.
    """

    facts: ClassVar[dict[str, str]]

    def __init__(self, pipeline: Detector, images: Sequence[Image], config: ProfileConfig, clock: Clock) -> None:
        self.bench = Bench(pipeline, images, config, clock)

    @abstractmethod
    def warm_up(self) -> WarmUp:
        """Run until it takes the same time again and again.

        Raises:
            InputError: No image could be read.
        """

    @abstractmethod
    def once(self, number: int) -> Repetition:
        """One repetition."""

    def extras(self, repetitions: Sequence[Repetition]) -> dict[str, Any]:
        """What this mode measures besides: fields of :class:`ModeResult`."""
        del repetitions
        return {}


def _in_turn(pipeline: Detector) -> Detector:
    """The same pipeline with nothing read ahead: a query's time is then all of its work."""
    if isinstance(pipeline, Pipeline) and pipeline.config.read_ahead:
        return Pipeline(pipeline.backend, replace(pipeline.config, read_ahead=0))
    return pipeline


class SingleStream(Mode):
    """One query after another."""

    facts: ClassVar = {"load": "closed: a query is asked for when the one before is answered"}

    def __init__(self, pipeline: Detector, images: Sequence[Image], config: ProfileConfig, clock: Clock) -> None:
        super().__init__(_in_turn(pipeline), images, config, clock)

    def warm_up(self) -> WarmUp:
        """Queries until they take the same time."""
        return self.bench.warm_up()[0]

    def once(self, number: int) -> Repetition:
        """Queries for the asked time."""
        del number
        return self.run(self.bench.config.seconds)

    def extras(self, repetitions: Sequence[Repetition]) -> dict[str, Any]:
        """Sustained and after idle."""
        latencies, config = np.concatenate([item.latencies_ms for item in repetitions]), self.bench.config
        if not latencies.size:
            return {}
        sustained = self.sustained() if config.sustained else None
        idle = self.after_idle(float(np.median(latencies))) if config.after_idle else None
        return {"sustained": sustained, "after_idle": idle}

    def run(self, seconds: float) -> Repetition:
        """Queries for so long; a query that could not be read has no latency."""
        bench, images = self.bench, 0
        latencies: list[float] = []
        bench.forget()
        started = now = bench.clock.now()
        while now - started < seconds or not latencies:
            duration, good = bench.next_query()
            if good:
                latencies.append(duration)
                images += good
            now = bench.clock.now()
            if now - started > _GIVE_UP * seconds and not latencies:
                break
        return Repetition(now - started, images, bench.failed, np.array(latencies), bench.stages())

    def sustained(self) -> Sustained:
        """Twice a repetition's time without a pause; has it become slower?"""
        long = self.run(2 * self.bench.config.seconds)
        values = long.latencies_ms
        quarter = max(1, len(values) // 4)
        drift = float(np.median(values[-quarter:]) / np.median(values[:quarter])) - 1.0
        return Sustained(long.seconds, summarize(values, level=self.bench.config.level), drift)

    def after_idle(self, busy_ms: float) -> AfterIdle:
        """The first query after a pause of a third of a repetition's time, at most 2 s."""
        clock, pause = self.bench.clock, min(2.0, self.bench.config.seconds / 3)
        firsts = []
        for _ in range(_PAUSES):
            clock.wait_until(clock.now() + pause)
            firsts.append(self.bench.next_query()[0])
        middle = float(np.median(firsts))
        return AfterIdle(pause, _PAUSES, middle, max(firsts), middle / busy_ms)


class Offline(Mode):
    """All images at once."""

    facts: ClassVar = {"load": "all images are there at once; the pipeline reads ahead"}

    def warm_up(self) -> WarmUp:
        """The same stream, until neighbouring chunks of it take the same time."""
        bench, stability = self.bench, Stability(window=4, least=8)
        longest = bench.config.warm_up_s or max(2.0, bench.config.seconds)
        started = mark = bench.clock.now()
        chunk, good, stable = _CHUNK_BATCHES * bench.batch, 0, False
        stream = bench.pipeline.detect(self._until(lambda: stable or bench.clock.now() - started >= longest))
        for count, found in enumerate(stream, start=1):
            good += found.error is None
            if count % chunk == 0 and not stable:
                now = bench.clock.now()
                stable, mark = stability.add(now - mark), now
        if not good:
            raise InputError("none of the first images could be read; check the images")
        rule = f"in chunks of {chunk} images: {stability.rule}"
        return WarmUp(stability.count * chunk, bench.clock.now() - started, stable, rule)

    def _until(self, over: Callable[[], bool]) -> Iterator[Image]:
        """Whole batches until it is over; at least one."""
        while True:
            yield from self.bench.take(self.bench.batch)
            if over():
                return

    def once(self, number: int) -> Repetition:
        """A stream of whole batches, from the first request to the last answer."""
        del number
        bench, good, count = self.bench, 0, 0
        started = bench.clock.now()
        for found in bench.pipeline.detect(self._until(lambda: bench.clock.now() - started >= bench.config.seconds)):
            count += 1
            good += found.error is None
        ended = bench.clock.now()
        return Repetition(ended - started, good, count - good, np.empty(0), [bench.pipeline.stages])


class Server(Mode):
    """Poisson arrivals."""

    facts: ClassVar = {
        "load": "open: Poisson arrivals, drawn before; latency counts from the arrival, queueing included",
        "serving": "one batch at a time, made of who waits when the server is free",
    }

    def __init__(self, pipeline: Detector, images: Sequence[Image], config: ProfileConfig, clock: Clock) -> None:
        super().__init__(_in_turn(pipeline), images, config, clock)
        self.rate = config.rate
        self.rate_from = "asked for"

    def warm_up(self) -> WarmUp:
        """Batches back to back until they take the same time; that is the server's capacity."""
        warm_up, query_ms = self.bench.warm_up()
        if not self.rate:
            capacity = self.bench.batch / query_ms * 1e3
            self.rate = _LOAD_OF_SERVER * capacity
            self.rate_from = f"{_LOAD_OF_SERVER:.0%} of the {capacity:.4g} images/s that it does back to back"
        return warm_up

    def once(self, number: int) -> Repetition:
        """One schedule of arrivals, of its own seed."""
        bench = self.bench
        bench.forget()
        count = max(_LEAST_ARRIVALS, math.ceil(self.rate * bench.config.seconds))
        arrivals = poisson_arrivals(self.rate, count, seed=(bench.config.seed, number))
        images = bench.take(count)
        readable = np.ones(count, dtype=bool)

        def serve(places: range) -> None:
            _, good = bench.query(images[places.start : places.stop])
            if good < len(places):  # which of a batch it was doesn't matter for the time: the first are left out
                readable[places.start : places.stop - good] = False

        load = serve_arrivals(arrivals, serve, batch=bench.batch, clock=bench.clock)
        latencies = load.latency_ms[readable]
        return Repetition(float(load.answered[-1]), int(readable.sum()), bench.failed, latencies, bench.stages(), load)

    def extras(self, repetitions: Sequence[Repetition]) -> dict[str, Any]:
        """The figures of the queue over all repetitions: medians of rates, the worst of what should not be."""
        loads = [item.load for item in repetitions if item.load is not None]
        latencies = np.concatenate([item.latencies_ms for item in repetitions])
        waits = np.concatenate([load.queueing_ms for load in loads])
        bound, sustained = self.bench.config.bound_ms, all(load.sustained for load in loads)
        stated = bound > 0 and latencies.size > 0
        figures = ServerFigures(
            target_rate=self.rate,
            target_from=self.rate_from,
            offered_rate=float(np.median([load.offered_rate for load in loads])),
            achieved_rate=float(np.median([load.achieved_rate for load in loads])),
            utilisation=float(np.median([load.utilisation for load in loads])),
            waiting_at_end=max(load.waiting_at_end for load in loads),
            sustained=sustained,
            queueing_ms_p50=float(np.percentile(waits, 50)),
            queueing_ms_p99=float(np.percentile(waits, 99)),
            bound_ms=bound,
            within_bound=float((latencies <= bound).mean()) if stated else None,
            met=bool(sustained and np.percentile(latencies, 99) <= bound) if stated else None,
        )
        return {"server": figures}
