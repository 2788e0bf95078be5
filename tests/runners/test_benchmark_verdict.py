"""What a benchmark says in words."""

from __future__ import annotations

from typing import Any

from guardianflow.runners.inference.verdict import benchmark_verdict


def cell(label: str, p50: float, *, mode: str = "single_stream", noise: float = 0.01, **more: Any) -> dict[str, Any]:
    metrics = {"latency_ms_p50": p50, "latency_ms_p95": 2 * p50, "throughput_fps": 1000 / p50}
    return {
        "label": label, "mode": mode, "batch": 1, "status": "ok", "metrics": metrics,
        "noise": {"latency_ms_p50": noise}, "detection": {}, **more,
    }  # fmt: skip


def test_it_names_the_quickest_and_by_how_much() -> None:
    text = benchmark_verdict([cell("torch fp32", 40.0), cell("openvino int8", 10.0)])
    assert "Quickest for one image: openvino int8, 10.0 ms" in text
    assert "4.0 times as fast as torch fp32" in text


def test_a_difference_within_the_noise_is_none() -> None:
    text = benchmark_verdict([cell("a fp32", 10.0, noise=0.04), cell("b fp32", 10.5, noise=0.04)])
    assert "the difference to b fp32 is within the noise" in text


def test_it_says_whether_the_runtimes_agree() -> None:
    agree = [cell("a fp32", 10.0, detection={"map50_95": 0.3580}), cell("b fp32", 11.0, detection={"map50_95": 0.3590})]
    assert "All find the same" in benchmark_verdict(agree)
    apart = [agree[0], cell("b int8", 11.0, detection={"map50_95": 0.300})]
    assert "from 0.300 (b int8) to 0.358" in benchmark_verdict(apart)


def test_cells_that_failed_are_named() -> None:
    failed = {**cell("tensorrt fp16", 1.0), "status": "crashed", "metrics": {}}
    text = benchmark_verdict([cell("torch fp32", 40.0), failed], left_out=[{"label": "x", "reason": "y"}])
    assert "1 of 2 cells did not run: tensorrt fp16 (crashed)." in text
    assert "1 combination can't be run here." in text


def test_nothing_measured_is_said_too() -> None:
    assert benchmark_verdict([]) == "Nothing was measured."


def test_a_busy_machine_is_said_before_speeds_are_believed() -> None:
    busy = benchmark_verdict([cell("torch fp32", 40.0, noise=0.5), cell("openvino fp32", 20.0, noise=0.4)])
    assert "The machine was not quiet: repetitions differ by 45%" in busy
    assert "not quiet" not in benchmark_verdict([cell("torch fp32", 40.0), cell("openvino fp32", 20.0)])


def test_several_images_at_once_are_no_latency_of_one_image() -> None:
    several = cell("torch fp32", 200.0, query_images=8)
    assert "as fast as" not in benchmark_verdict([cell("torch fp32", 40.0), several])
