"""The pictures of a benchmark: their data, and that they can be drawn of whatever came of the cells."""

from __future__ import annotations

import pytest

from guardianflow.plots.benchmark import (
    latency_spreads,
    pareto_front,
    plot_latency,
    plot_quality,
    plot_stages,
    plot_throughput,
    quality_points,
    stage_bars,
    throughput_lines,
)


def row(label: str, mode: str = "single_stream", *, batch: int = 1, p50: float = 10.0, fps: float = 90.0, **more):
    metrics = {"latency_ms_p50": p50, "latency_ms_p95": 1.3 * p50, "latency_ms_p99": 1.6 * p50, "throughput_fps": fps}
    return {
        "label": label,
        "mode": mode,
        "batch": batch,
        "status": "ok",
        "metrics": {**metrics, "latency_ms_max": 3 * p50},
        "noise": {"throughput_fps": 0.02, "latency_ms_p50": 0.01},
        "median_interval": [0.98 * p50, 1.02 * p50],
        "stages": {"decode": {"p50": 2.0, "p95": 3.0}, "forward": {"p50": p50 - 2, "p95": p50}, "tracking": {}},
        "latencies_ms": [p50, 1.1 * p50, 3 * p50],
        "detection": {},
        "model_size_mb": 5.4,
        **more,
    }


ROWS = [
    row("torch fp32", p50=40.0, detection={"map50_95": 0.360}),
    row("torch fp32", "offline", batch=8, fps=30.0),
    row("torch fp32", "offline", batch=1, fps=20.0),
    row("openvino int8", p50=8.0, detection={"map50_95": 0.355}),
    row("openvino int8", "offline", fps=150.0),
    row("onnxruntime fp32", p50=45.0, detection={"map50_95": 0.359}),
    {**row("tensorrt fp16"), "status": "unavailable", "metrics": {}, "reason": "no GPU"},
]


def test_the_quickest_comes_first_and_what_did_not_run_is_left_out() -> None:
    assert [spread.label for spread in latency_spreads(ROWS)] == ["openvino int8", "torch fp32", "onnxruntime fp32"]
    assert [bar.label for bar in stage_bars(ROWS)] == ["openvino int8", "torch fp32", "onnxruntime fp32"]


def test_the_longest_latency_is_kept_and_named() -> None:
    figure = plot_latency(latency_spreads(ROWS))
    notes = {note.text for note in figure.layout.annotations}
    assert "max 120 ms" in notes
    assert "max 24 ms" in notes


def test_stages_that_took_no_time_are_left_out() -> None:
    assert all("tracking" not in bar.stages for bar in stage_bars(ROWS))
    names = {trace.name for trace in plot_stages(stage_bars(ROWS)).data}
    assert names == {"reading the image", "forward pass"}


def test_throughput_is_drawn_by_ascending_batch() -> None:
    lines = throughput_lines(ROWS)
    assert [line.label for line in lines] == ["openvino int8", "torch fp32"]
    assert lines[1].batches == (1, 8)
    assert lines[1].fps == (20.0, 30.0)
    assert plot_throughput(lines).data[1].error_y.array[0] == pytest.approx(0.4)


def test_only_what_nothing_beats_is_on_the_front() -> None:
    best = {point.label: point.best for point in quality_points(ROWS)}
    assert best == {"torch fp32": True, "openvino int8": True, "onnxruntime fp32": False}


def test_what_differs_by_rounding_alone_is_equally_good() -> None:
    rows = [
        row("a fp32", p50=8.0, detection={"map50_95": 0.3780541039}),
        row("b fp32", p50=9.0, detection={"map50_95": 0.3780541045}),
    ]
    assert {point.label: point.best for point in quality_points(rows)} == {"a fp32": True, "b fp32": False}


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], set()),
        ([(1.0, 0.5)], {0}),
        ([(1.0, 0.5), (1.0, 0.5)], {0, 1}),
        ([(1.0, 0.5), (2.0, 0.5), (0.5, 0.4), (3.0, 0.9)], {0, 2, 3}),
    ],
)
def test_the_front_of_points(points: list[tuple[float, float]], front: set[int]) -> None:
    assert pareto_front(points) == front


def test_differences_of_thousandths_do_not_look_like_mountains() -> None:
    low, high = plot_quality(quality_points(ROWS)).layout.yaxis.range
    assert high - low >= 0.02


@pytest.mark.parametrize("rows", [[], [ROWS[-1]]])
def test_a_benchmark_in_which_nothing_ran_can_still_be_drawn(rows: list[dict[str, object]]) -> None:
    for figure in (
        plot_latency(latency_spreads(rows)),
        plot_stages(stage_bars(rows)),
        plot_throughput(throughput_lines(rows)),
        plot_quality(quality_points(rows)),
    ):
        assert figure.to_json()
