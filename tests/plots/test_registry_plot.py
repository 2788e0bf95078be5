"""The time line of champions says what the ledger says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from guardianflow.plots.registry import champion_spans, plot_champions

START = datetime(2026, 3, 1, 9, tzinfo=UTC)


def event(gen: int, action: str, version: str, champion: str | None, reason: str | None = None) -> dict[str, object]:
    """One line of a ledger, an hour after the one before."""
    time = (START + timedelta(hours=gen)).isoformat()
    return {"gen": gen, "time": time, "action": action, "version": version, "champion": champion, "reason": reason}


LEDGER = [
    event(1, "register", "1", None),
    event(2, "promote", "1", "1", "the first"),
    event(3, "register", "2", "1"),
    event(4, "promote", "2", "2"),
    event(5, "rollback", "1", "1", "<b>worse</b>"),
]


def hour(moment: datetime) -> float:
    return (moment - START) / timedelta(hours=1)


def test_a_version_is_in_charge_from_its_promotion_to_the_next() -> None:
    timeline = champion_spans(list(reversed(LEDGER)))
    spans = [(span.version, hour(span.start), span.end and hour(span.end)) for span in timeline.spans]
    assert spans == [("1", 2.0, 4.0), ("2", 4.0, 5.0), ("1", 5.0, None)]
    assert [move[1] for move in timeline.moves] == ["register", "promote", "register", "promote", "rollback"]


def test_an_empty_ledger_has_no_spans() -> None:
    timeline = champion_spans([])
    assert timeline.spans == ()
    assert plot_champions(timeline).data == ()


def test_the_figure_has_a_bar_for_each_span_and_a_mark_for_each_move() -> None:
    figure = plot_champions(champion_spans(LEDGER), now=START + timedelta(hours=6))
    bars = [trace for trace in figure.data if trace.mode == "lines"]
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert len(bars) == 3
    assert bars[-1].x[1] >= START + timedelta(hours=6)
    assert sum(len(trace.x) for trace in marks) == 5
    assert {trace.name for trace in marks} == {"register", "promote", "rollback"}
    assert "&lt;b&gt;worse&lt;/b&gt;" in [text for trace in marks for text in trace.text]
