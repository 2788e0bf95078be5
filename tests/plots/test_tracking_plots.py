"""The data behind the pictures of tracking, and that each picture can be drawn."""

from __future__ import annotations

import pytest

from guardianflow.plots.tracking import hota_curves, loss_bars, plot_hota_curves, plot_loss_bars

HOTA = {
    "hota": 0.5, "deta": 0.4, "assa": 0.62,
    "by_alpha": {"alpha": [0.05, 0.5, 0.95], "hota": [0.7, 0.6, 0.2], "deta": [0.6, 0.5, 0.1], "assa": [0.8, 0.7, 0.3]},
}  # fmt: skip


def test_hota_curves_hold_the_parts_and_their_means() -> None:
    curves = hota_curves(HOTA)
    assert curves.alpha == (0.05, 0.5, 0.95)
    assert curves.series["HOTA (0.50)"] == (0.7, 0.6, 0.2)
    assert list(curves.series) == ["HOTA (0.50)", "DetA: found (0.40)", "AssA: kept (0.62)"]
    assert [trace.name for trace in plot_hota_curves(curves).data] == list(curves.series)


def test_loss_bars_fill_up_to_one_and_hold_no_negative_part() -> None:
    rows = [
        {"tracker": "a", "hota": 0.5, "detector_loss": 0.3, "tracker_loss": 0.2, "sentence": "<b>"},
        {"tracker": "b", "hota": 0.8, "detector_loss": -0.1, "tracker_loss": 0.3, "sentence": "s"},
    ]
    bars = loss_bars(rows)
    assert bars.trackers == ("b", "a")
    assert bars.detector == (0.0, 0.3)
    for parts in zip(bars.reached, bars.detector, bars.tracker, strict=True):
        assert sum(parts) == pytest.approx(1)
    figure = plot_loss_bars(bars)
    assert figure.layout.barmode == "stack"
    assert figure.data[0].hovertext == ("s", "&lt;b&gt;")
    assert plot_loss_bars(loss_bars([])).data[0].x == ()
