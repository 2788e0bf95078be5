"""Measures a pipeline as MLPerf names it: single_stream, offline, server.

What is timed is the whole way from the image file to boxes, by one clock around it; stages are timed inside.
Nothing is cut off: a slow query is a query. What the machine does meanwhile is read in another thread.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from guardianflow.exceptions import InputError
from guardianflow.machine.system import GpuMetrics, SystemSampler, get_gpu_metrics
from guardianflow.vision.benchmark.load_generator import Clock, WallClock
from guardianflow.vision.benchmark.profile_modes import Detector, Mode, Offline, Repetition, Server, SingleStream
from guardianflow.vision.benchmark.profile_results import MODES, ModeResult, ProfileConfig, StageSummary, WarmUp
from guardianflow.vision.benchmark.profile_statistics import PERCENTILES, noise_floor, summarize, tail_warning
from guardianflow.vision.pipeline.read_ahead import Image
from guardianflow.vision.pipeline.stage_times import STAGES

__all__ = ["profile"]

_SAMPLE_S = 0.2
_DRIFT, _DRIFT_COUNT = 0.1, 40
_MODES: MappingProxyType[str, type[Mode]] = MappingProxyType(
    {"single_stream": SingleStream, "offline": Offline, "server": Server}
)


def profile(
    pipeline: Detector,
    images: Sequence[Image],
    *,
    mode: str,
    config: ProfileConfig | None = None,
    clock: Clock | None = None,
    gpus: Callable[[], list[GpuMetrics]] = get_gpu_metrics,
    on_progress: Callable[[int, int], None] | None = None,
) -> ModeResult:
    """Measure a pipeline in one mode.

    In single_stream a query is one image (or one batch, where the pipeline's batch is larger), asked for when
    the one before is answered, all in this thread. Offline, all images are there at once and the pipeline reads
    ahead. In server mode images arrive by a seeded Poisson process and each latency counts from the arrival.

    Args:
        pipeline: Stays the caller's; offline it should read ahead.
        images: Files or BGR pixels (uint8, (H, W, 3)); shuffled by the seed and taken again and again.
        mode: One of :data:`~guardianflow.vision.benchmark.profile_results.MODES`.
        config: How long and how often.
        clock: Default: real time.
        gpus: Reads the GPUs that are at work; give ``list`` where none is.
        on_progress: Told (repetitions done, repetitions in all).

    Raises:
        InputError: An unknown mode, no images, or none that can be read.
    """
    if mode not in _MODES:
        raise InputError(f"there is no mode {mode!r}; known: {', '.join(MODES)}")
    if not images:
        raise InputError("there are no images to measure on; give at least one")
    asked = config or ProfileConfig()
    measure = _MODES[mode](pipeline, images, asked, clock or WallClock())
    warm_up = measure.warm_up()
    repetitions: list[Repetition] = []
    with _tidy_memory() as collections, SystemSampler(_SAMPLE_S, gpu=gpus) as sampler:
        for number in range(asked.repeats):
            repetitions.append(measure.once(number))
            if on_progress is not None:
                on_progress(number + 1, asked.repeats)
    return _result(mode, measure, warm_up, repetitions, _system(sampler, repetitions), collections)


@contextlib.contextmanager
def _tidy_memory() -> Iterator[dict[str, int]]:
    """Garbage of before is collected and what is left set apart; collection stays on, as in real use."""
    counts: dict[str, int] = {}
    gc.collect()
    gc.freeze()
    before = sum(generation["collections"] for generation in gc.get_stats())
    try:
        yield counts
    finally:
        counts["gc_collections"] = sum(generation["collections"] for generation in gc.get_stats()) - before
        gc.unfreeze()


def _system(sampler: SystemSampler, repetitions: Sequence[Repetition]) -> dict[str, float]:
    """Means over the measured part; of memory the peak."""
    peaks = {"rss_mb", "gpu_mem_mb"}
    found = {name: item.max if name in peaks else item.mean for name, item in sampler.summary().items()}
    images, energy = sum(item.images for item in repetitions), sampler.gpu_energy_j
    if energy and images:
        found["energy_j_per_image"] = energy / images
    return found


def _result(
    mode: str,
    measure: Mode,
    warm_up: WarmUp,
    repetitions: Sequence[Repetition],
    system: dict[str, float],
    collections: dict[str, int],
) -> ModeResult:
    config, batch = measure.bench.config, measure.bench.batch
    latencies = np.concatenate([item.latencies_ms for item in repetitions])
    latency = summarize(latencies, level=config.level) if latencies.size else None
    result = ModeResult(
        mode=mode,
        batch=batch,
        query_images=batch if mode == "single_stream" else 1,
        images=sum(item.images for item in repetitions),
        failed_images=sum(item.failed for item in repetitions),
        seconds=sum(item.seconds for item in repetitions),
        throughput_fps=float(np.median([item.throughput for item in repetitions])),
        latency=latency,
        repeats=len(repetitions),
        noise=noise_floor([item.figures() for item in repetitions]),
        stages=_stages(repetitions),
        system=system,
        warm_up=warm_up,
        facts={
            **measure.facts,
            **collections,
            "gc": "collected before, on while measuring",
            "percentiles": PERCENTILES,
        },
        latencies_ms=latencies,
        repetition=np.repeat(np.arange(len(repetitions), dtype=np.int32), [len(i.latencies_ms) for i in repetitions]),
        **measure.extras(repetitions),
    )
    return replace(result, warnings=tuple(_warnings(result)))


def _stages(repetitions: Sequence[Repetition]) -> tuple[StageSummary, ...]:
    wall_ms = sum(item.seconds for item in repetitions) * 1e3
    found = []
    for name in STAGES:
        parts = [getattr(times, name) for item in repetitions for times in item.stages]
        column = np.concatenate(parts) if parts else np.empty(0)
        if column.any():
            p50, p95 = (float(value) for value in np.percentile(column, (50, 95)))
            found.append(StageSummary(name, p50, p95, float(column.mean()), float(column.sum()) / wall_ms))
    return tuple(found)


def _warnings(result: ModeResult) -> Iterator[str]:
    if not result.warm_up.stable:
        yield (
            f"{result.mode}: still not stable after a warm-up of {result.warm_up.seconds:.1f} s "
            f"({result.warm_up.queries} queries); the machine may be busy with something else"
        )
    if result.failed_images:
        yield f"{result.mode}: {result.failed_images} images could not be read and are in no figure"
    tail = tail_warning(result.latency.count) if result.latency else None
    if tail:
        yield f"{result.mode}: {tail}"
    if result.sustained and result.sustained.latency.count >= _DRIFT_COUNT and result.sustained.drift > _DRIFT:
        yield f"{result.mode}: {result.sustained.drift:.0%} slower at the end of the sustained run than at its start"
    if result.server and not result.server.sustained:
        yield (
            f"server: {result.server.target_rate:.4g} arrivals/s are not sustained, the queue grows "
            f"(utilisation {result.server.utilisation:.2f}, {result.server.waiting_at_end} waiting at the end)"
        )
