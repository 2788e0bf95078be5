"""The matrix of a benchmark: which cells there are, and each cell's answer as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardianflow.exceptions import InputError
from guardianflow.plots.benchmark_rows import BenchmarkRow
from guardianflow.runners.model_source import FoundModel
from guardianflow.scenario.schema import InferenceScenario
from guardianflow.vision.backends.catalog import BACKENDS
from guardianflow.vision.benchmark.cell_results import CellResult, CellSpec
from guardianflow.vision.benchmark.profile_results import ModeResult
from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["Matrix", "cell_rows", "plan_matrix"]

_SERVED_BY = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
_MOST_LATENCIES = 1000  # of each cell on the page; the run's artifacts hold them all


@dataclass(frozen=True)
class Matrix:
    """The cells of a benchmark.

    Attributes:
        cells: In the order in which they run.
        left_out: Combinations that a backend can't do: ``label`` and ``reason``.
    """

    cells: tuple[CellSpec, ...]
    left_out: tuple[Mapping[str, str], ...]


def plan_matrix(
    asked: InferenceScenario,
    found: FoundModel,
    model: ModelFile,
    *,
    folder: Path,
    exports: Path,
    fingerprint: str,
    labelled: bool,
) -> Matrix:
    """Every combination of backend, precision and batch size; accuracy is measured once for each of the first two.

    Args:
        asked: The lists.
        found: Where the model comes from: a registered version says how it is served.
        model: The model's file.
        folder: Where the cells write, one folder each.
        exports: Cached exports.
        fingerprint: Of the dataset.
        labelled: Whether there are labelled images to score.

    Raises:
        NotFoundError: A backend that the catalogue doesn't know.
        InputError: No combination is left.
    """
    backends = asked.run.backends or [found.backend or _SERVED_BY.get(model.format, "ultralytics")]
    precisions = asked.env.precision or [found.precision or _own_precision(model)]
    cells: list[CellSpec] = []
    left_out: list[Mapping[str, str]] = []
    for backend in dict.fromkeys(backends):
        able = BACKENDS.get(backend).precisions
        for precision in dict.fromkeys(precisions):
            if precision not in able:
                reason = f"{backend} runs {', '.join(able)}"
                left_out.append({"label": f"{backend} {precision}", "reason": reason})
                continue
            for number, batch in enumerate(sorted(set(asked.run.batch_sizes))):
                first = number == 0
                cells.append(
                    CellSpec(
                        model=model,
                        backend=backend,
                        folder=str(folder / f"{len(cells) + 1:02d}-{backend}-{precision}-{batch}"),
                        exports=str(exports),
                        precision=precision,
                        batch=batch,
                        modes=tuple(dict.fromkeys(asked.run.modes)),
                        device=asked.env.device,
                        imgsz=asked.model.imgsz or model.imgsz,
                        confidence=asked.model.confidence,
                        iou=asked.model.iou,
                        max_det=asked.model.max_det,
                        threads=asked.env.threads,
                        data_yaml=asked.dataset.data_yaml,
                        split=asked.dataset.split,
                        images=asked.dataset.images,
                        fingerprint=fingerprint,
                        source=asked.dataset.source if first else "",
                        tracker=asked.run.tracker if first else "",
                        seconds=asked.run.seconds,
                        repeats=asked.run.repeats,
                        rate=asked.run.target_rate,
                        bound_ms=asked.run.latency_bound_ms,
                        extras=first,
                        evaluate=first and labelled,
                        seed=asked.env.seed,
                    )
                )
    if not cells:
        reasons = "; ".join(f"{row['label']}: {row['reason']}" for row in left_out)
        raise InputError(f"no backend can run what was asked ({reasons}); change --backends or --precision")
    return Matrix(tuple(cells), tuple(left_out))


def _own_precision(model: ModelFile) -> str:
    """Ultralytics stores weights as halves to save space; they are meant to be computed at fp32."""
    return "fp32" if model.format == "torch" else model.precision


def cell_rows(result: CellResult, *, run_id: str = "") -> list[BenchmarkRow]:
    """A cell as rows of plain JSON, one a mode; a cell that failed is one row for each mode it was asked for.

    Args:
        result: What came of the cell.
        run_id: Its child run.
    """
    return list(_rows(result, run_id))


def _rows(result: CellResult, run_id: str) -> Iterator[BenchmarkRow]:
    spec = result.spec
    executed = result.precision_executed or spec.precision
    shared: BenchmarkRow = {
        "label": f"{spec.backend} {executed}",
        "backend": spec.backend,
        "precision": spec.precision,
        "precision_executed": result.precision_executed,
        "device": result.device,
        "batch": spec.batch,
        "status": result.status,
        "reason": result.reason,
        "run_id": run_id,
        "model_size_mb": result.model_size_mb or None,
        "load_s": result.load_s,
        "first_inference_ms": result.first_inference_ms,
        "peak_rss_mb": result.peak_rss_mb,
        "warnings": list(result.warnings),
    }
    measured = {mode.mode: mode for mode in result.modes}
    for number, name in enumerate(spec.modes):
        row: BenchmarkRow = {**shared, "mode": name, "detection": {}, "per_class": []}
        mode = measured.get(name)
        if mode is not None:
            row |= _figures(mode)
            row["warnings"] = list(dict.fromkeys((*result.warnings, *mode.warnings)))
        elif result.ok:
            row |= {"status": "failed", "reason": f"{name} was not measured; the cell's log says why"}
        if number == 0 and result.detection:
            row["detection"] = dict(result.detection)
            row["per_class"] = list(result.detection_details.get("per_class", []))
        yield row


def _figures(mode: ModeResult) -> BenchmarkRow:
    latency, long = mode.latency, mode.sustained
    low, high = (latency.p50_low, latency.p50_high) if latency else (None, None)
    metrics = mode.metrics()
    if latency is not None:
        metrics["latency_ms_max"] = latency.max
    return {
        "metrics": metrics,
        "noise": dict(mode.noise),
        "median_interval": None if low is None or high is None else [low, high],
        "stages": {stage.name: {"p50": stage.p50_ms, "p95": stage.p95_ms} for stage in mode.stages},
        "latencies_ms": _even_sample(mode.latencies_ms),
        "images": mode.images,
        "query_images": mode.query_images,
        "warm": mode.warm_up.stable,
        "sustained": {"seconds": long.seconds, "latency": asdict(long.latency), "drift": long.drift} if long else None,
        "after_idle": None if mode.after_idle is None else asdict(mode.after_idle),
        "server": None if mode.server is None else {**asdict(mode.server), "sentence": _server_sentence(mode)},
    }


def _even_sample(latencies: Any) -> list[float]:
    """At most a thousand order statistics, the smallest and the largest among them."""
    ordered = np.sort(np.asarray(latencies, dtype=float))
    if len(ordered) <= _MOST_LATENCIES:
        return [round(float(value), 4) for value in ordered]
    places = np.linspace(0, len(ordered) - 1, _MOST_LATENCIES).round().astype(int)
    return [round(float(ordered[place]), 4) for place in places]


def _server_sentence(mode: ModeResult) -> str:
    server = mode.server
    if server is None or mode.latency is None:
        return ""
    rate = f"{server.target_rate:.0f} images a second arriving at random"
    if not server.sustained:
        return f"It can't keep up with {rate}: the queue grows."
    text = f"With {rate}, 99 of 100 are done within {mode.latency.p99:.0f} ms"
    if server.met is None:
        return f"{text}."
    return f"{text}; the bound of {server.bound_ms:.0f} ms {'holds' if server.met else 'does not hold'}."
