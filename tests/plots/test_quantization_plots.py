"""The pictures of a quantization: their data, and that they can be drawn."""

from __future__ import annotations

from typing import Any

from guardianflow.plots.class_changes import plot_class_changes
from guardianflow.plots.quantization import (
    box_changes,
    class_changes,
    cost_bars,
    plot_box_changes,
    plot_costs,
    plot_tradeoff,
    tradeoff_points,
)


def damage(*rows: tuple[str, float | None, float | None, float | None, bool]) -> dict[str, Any]:
    return {
        "confidence": 0.25,
        "agreement": {"both": 90, "lost": 6, "new": 4, "share": 0.95, "mean_iou": 0.97},
        "shift": {"boxes": 90, "mean": -0.01, "low": -0.05, "high": 0.04},
        "per_class": [
            {
                "name": name, "boxes": 7, "original": None if change is None else 0.5,
                "quantized": None if change is None else 0.5 + change, "change": change, "low": low, "high": high,
                "collapsed": collapsed,
            }
            for name, change, low, high, collapsed in rows
        ],
    }  # fmt: skip


def comparison() -> dict[str, Any]:
    shared = {"change_low": -0.01, "change_high": 0.01, "latency_ms_low": None, "latency_ms_high": None}
    return {
        "variants": [
            {**shared, "role": "original", "label": "torch fp32", "map50_95": 0.4, "change": 0.0,
             "latency_ms_p50": 20.0, "size_mb": 5.4},
            {**shared, "role": "quantized", "label": "openvino int8", "map50_95": 0.39, "change": -0.01,
             "latency_ms_p50": 5.0, "size_mb": 3.0, "latency_ms_low": 4.5, "latency_ms_high": 5.5},
            {**shared, "role": "plain", "label": "openvino fp32", "map50_95": 0.4, "change": 0.0,
             "latency_ms_p50": None, "size_mb": 10.0},
        ],
        "speeds": [
            {"role": "peer", "label": "Ultralytics predict, torch fp32", "images_per_s": 30.0, "rounds": [28, 32],
             "status": "ok"},
            {"role": "quantized", "label": "openvino int8", "images_per_s": 120.0, "rounds": [110, 130],
             "status": "ok"},
            {"role": "plain", "label": "openvino fp32", "images_per_s": 0.0, "rounds": [], "status": "crashed"},
        ],
    }  # fmt: skip


def test_classes_are_told_apart_by_whether_chance_explains_their_change() -> None:
    rows = class_changes(
        damage(
            ("same", 0.01, -0.01, 0.03, False),
            ("<b>better</b>", 0.02, 0.01, 0.03, False),
            ("unlabelled", None, None, None, False),
            ("lost", -0.4, -0.45, -0.3, True),
            ("worse", -0.02, -0.03, -0.01, False),
        )
    )
    assert [row.kind for row in rows] == ["lost", "worse", "same", "better"]
    assert rows[0].name == "lost (7 boxes)"
    assert "<b>" not in rows[3].name  # plotly would read it as markup
    figure = plot_class_changes(rows)
    assert {trace.name for trace in figure.data} >= {"lost", "better, beyond chance"}


def test_the_tradeoff_shows_what_was_timed() -> None:
    points = tradeoff_points(comparison())
    assert [(point.role, point.latency_ms, point.latency) for point in points] == [
        ("original", 20.0, None),
        ("quantized", 5.0, (4.5, 5.5)),
    ]
    assert len(plot_tradeoff(points).data) == 2


def test_bars_leave_out_who_was_not_measured() -> None:
    bars = cost_bars(comparison())
    assert [row[0] for row in bars.size_mb] == ["original", "quantized", "plain"]
    assert bars.images_per_s == (
        ("peer", "Ultralytics predict, torch fp32", 30.0, 28, 32),
        ("quantized", "openvino int8", 120.0, 110, 130),
    )
    assert len(plot_costs(bars).data) == 3


def test_box_changes_are_drawn_without_a_shift_too() -> None:
    assert len(plot_box_changes(box_changes(damage())).data) == 4
    nothing = damage()
    nothing["shift"] = {"boxes": 0, "mean": None, "low": None, "high": None}
    assert len(plot_box_changes(box_changes(nothing)).data) == 3


def test_nothing_to_show_is_drawn_empty() -> None:
    plot_class_changes([])
    plot_tradeoff([])
    plot_costs(cost_bars({}))
