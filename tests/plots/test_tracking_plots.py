"""The data behind the pictures of tracking, and that each picture can be drawn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from guardianflow.plots.tracking import (
    hota_curves,
    identity_timeline,
    loss_bars,
    plot_hota_curves,
    plot_identity_timeline,
    plot_loss_bars,
)

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


def span(label: int, thing: int, track: int, first: int, last: int) -> SimpleNamespace:
    return SimpleNamespace(label=label, object=thing, track=track, first=first, last=last)


def test_the_time_line_begins_with_whoever_changed_most() -> None:
    spans = [span(1, 4, 1, 0, 99), span(1, 7, 2, 0, 9), span(1, 7, 5, 20, 29), span(3, 7, 6, 5, 9)]
    timeline = identity_timeline(spans, fps=10, names={1: "사람"})
    assert timeline.objects == ("사람 7", "사람 4", "class 3 7")
    assert timeline.switches == ((0, 2.0),)
    assert timeline.spans[:2] == ((0, 0.0, 1.0, 2, 0), (0, 2.0, 3.0, 5, 1))
    figure = plot_identity_timeline(timeline)
    assert figure.data[-1].name == "identity changed (1)"
    assert figure.data[0].line.color != figure.data[1].line.color
    short = identity_timeline(spans, fps=10, most=1)
    assert (short.objects, short.left_out) == (("class 1 7",), 2)
    assert "2 objects" in plot_identity_timeline(short).layout.annotations[0].text
    assert plot_identity_timeline(identity_timeline([], fps=10)).data[-1].x == ()
