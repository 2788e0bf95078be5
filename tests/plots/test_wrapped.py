"""The data behind the pictures of a wrapped script, and that each can be drawn."""

from __future__ import annotations

import math

import pytest

from guardianflow.plots.wrapped import metric_panels, plot_metrics, plot_resources, resource_curves


def test_the_best_known_metrics_come_first_and_the_rest_is_named() -> None:
    names = ["zeta", "lr", "accuracy", "box_loss", "train loss", "val_loss", "metrics/mAP50_B"]
    shown = metric_panels({name: [(1, 0.5)] for name in [*names, *(f"x{n:02}" for n in range(20))]})
    assert [panel.name for panel in shown.panels][:6] == [
        "val_loss", "box_loss", "train loss", "metrics/mAP50_B", "accuracy", "lr",
    ]  # fmt: skip
    assert len(shown.panels) == 12
    assert shown.left_out[-1] == "zeta"
    assert len(shown.left_out) == 15


def test_steps_rise_the_later_value_counts_and_what_is_no_number_is_a_gap() -> None:
    panel = metric_panels({"a": [(3, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]}).panels[0]
    assert panel.steps == (1, 2, 3)
    assert panel.values == (None, None, 2.0)
    assert panel.gaps == 2
    assert metric_panels({"empty": []}).panels == ()


@pytest.mark.parametrize(
    ("values", "log"),
    [([1e-6, 1e-1], True), ([0.0, 1.0], False), ([-1e-6, 1e3], False), ([0.01, 1.0], False), ([math.nan], False)],
)
def test_more_than_three_decades_above_zero_get_a_logarithmic_axis(values, log) -> None:
    panel = metric_panels({"lr": list(enumerate(values))}).panels[0]
    assert panel.log is log
    assert plot_metrics({"lr": list(enumerate(values))}).layout.yaxis.type == ("log" if log else None)


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    panel = metric_panels({"a": [(n, float(n)) for n in range(100_001)]}).panels[0]
    assert len(panel.steps) <= 2_001
    assert (panel.steps[0], panel.steps[-1]) == (0, 100_000)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 12, 30])
def test_any_number_of_panels_is_drawn(count) -> None:
    figure = plot_metrics({f"<b>{n}": [(1, 1.0), (2, float(n))] for n in range(count)})
    assert len(figure.data) == min(count, 12)
    assert figure.layout.annotations[0].text.startswith("&lt;b&gt;0")
    assert ("more metrics are" in figure.layout.annotations[-1].text) == (count > 12)
    assert not any(trace.connectgaps for trace in figure.data)


def test_nothing_measured_is_said() -> None:
    assert "No metric" in plot_metrics({}).layout.annotations[0].text
    assert "ended before" in plot_resources([]).layout.annotations[0].text
    assert "never a number" in plot_metrics({"a": [(1, math.nan)]}).layout.annotations[0].text


def test_resources_show_what_was_measured() -> None:
    rows = [{"seconds": 1.0, "cpu_util": 150.0, "rss_mb": 300.0}, {"seconds": 0.0, "rss_mb": 200.0}]
    curves = resource_curves(rows)
    assert curves.seconds == (0.0, 1.0)
    assert dict(curves.series.values()) == {
        "CPU": (None, 150.0),
        "memory": (200.0, 300.0),
    }
    figure = plot_resources(rows)
    assert [trace.name for trace in figure.data] == ["CPU", "memory"]
    assert "most 300" in figure.layout.annotations[1].text
    with_gpu = plot_resources([{**row, "gpu_util": 5.0, "gpu_mem_mb": 900.0} for row in rows])
    assert [trace.name for trace in with_gpu.data] == ["CPU", "memory", "GPU", "GPU memory"]
