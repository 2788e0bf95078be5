"""What a benchmark comes to, in a few plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from guardianflow.plots.benchmark_rows import BenchmarkRow, measured

__all__ = ["benchmark_verdict"]


_RESTLESS = 0.2  # spread of the repetitions above which speeds say little


def benchmark_verdict(
    cells: Sequence[BenchmarkRow], *, left_out: Sequence[Mapping[str, str]] = (), mot: Mapping[str, float] | None = None
) -> str:
    """Which way of running the model is the quickest, by how much, whether they agree, and what didn't run.

    A difference within the noise of both is called none.

    Args:
        cells: The rows of a benchmark.
        left_out: What the backends can't do.
        mot: Tracking figures.
    """
    sentences = _speed(cells) + _unrest(cells) + _agreement(cells)
    if mot and "hota" in mot:
        sentences.append(f"Tracking: HOTA {mot['hota']:.2f}, {mot.get('idsw', 0):.0f} identity switches.")
    failed = [row for row in cells if row.get("status") != "ok"]
    if failed:
        names = ", ".join(dict.fromkeys(f"{row['label']} ({row['status']})" for row in failed))
        sentences.append(f"{len(failed)} of {len(cells)} cells did not run: {names}.")
    if left_out:
        sentences.append(f"{len(left_out)} combination{'s' if len(left_out) > 1 else ''} can't be run here.")
    return " ".join(sentences) or "Nothing was measured."


def _speed(cells: Sequence[BenchmarkRow]) -> list[str]:
    single = sorted(measured(cells, "single_stream"), key=lambda row: row["metrics"]["latency_ms_p50"])
    sentences = []
    if single:
        best = single[0]
        figures = best["metrics"]
        sentences.append(
            f"Quickest for one image: {best['label']}, {figures['latency_ms_p50']:.1f} ms"
            f" (95 of 100 images within {figures['latency_ms_p95']:.1f} ms){_against(best, single)}."
        )
    offline = sorted(measured(cells, "offline"), key=lambda row: -row["metrics"]["throughput_fps"])
    if offline:
        best = offline[0]
        sentences.append(
            f"Most images per second: {best['metrics']['throughput_fps']:.0f} with {best['label']} "
            f"at batch {best['batch']}."
        )
    sentences.extend(str(server["sentence"]) for row in measured(cells, "server") if (server := row.get("server")))
    return sentences


def _against(best: BenchmarkRow, single: Sequence[BenchmarkRow]) -> str:
    if len(single) < 2:
        return ""
    slowest = single[-1]
    ratio = slowest["metrics"]["latency_ms_p50"] / best["metrics"]["latency_ms_p50"]
    noise = sum((row.get("noise") or {}).get("latency_ms_p50") or 0.0 for row in (best, slowest))
    if ratio - 1 <= noise:
        return f"; the difference to {slowest['label']} is within the noise"
    return f", {ratio:.1f} times as fast as {slowest['label']}"


def _unrest(cells: Sequence[BenchmarkRow]) -> list[str]:
    """A machine that does other things besides is said so, before anybody believes the speeds."""
    names = {"single_stream": "latency_ms_p50", "server": "latency_ms_p50", "offline": "throughput_fps"}
    spreads = [
        float(row["noise"][names[mode]])
        for mode in names
        for row in measured(cells, mode)
        if (row.get("noise") or {}).get(names[mode]) is not None
    ]
    if not spreads or median(spreads) <= _RESTLESS:
        return []
    apart = f"repetitions differ by {100 * median(spreads):.0f}% (median)"
    return [f"The machine was not quiet: {apart}, so measure again before comparing speeds."]


def _agreement(cells: Sequence[BenchmarkRow]) -> list[str]:
    scored = {str(row["label"]): row["detection"]["map50_95"] for row in cells if row.get("detection")}
    if not scored:
        return []
    low, high = min(scored.values()), max(scored.values())
    if len(scored) == 1:
        return [f"mAP50-95 {high:.3f}."]
    if high - low <= 0.002:
        return [
            f"All find the same: mAP50-95 {low:.3f}–{high:.3f}." if high - low > 0.0005 else f"mAP50-95 {high:.3f}."
        ]
    worst = min(scored, key=scored.__getitem__)
    return [f"mAP50-95 from {low:.3f} ({worst}) to {high:.3f}."]
