"""A run as it goes on: state, progress, growing curve, figures, the log's last lines; read from the state database."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import CATALOGUE
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.page_frame import figures_html, metric_name, paragraphs, pill, shown
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.state.database import Database
from guardianflow.text.messages import counted, moment, say, span
from guardianflow.text.printable import escape, printable

__all__ = ["FollowedRun", "follow", "headline", "run_html", "running"]

_CURVES = {"map50": "var(--blue)", "map50_95": "var(--well)"}
_FIGURES = 8
_LOG_BYTES, _LOG_LINES = 6_000, 12
_STATES = {RunStatus.RUNNING: "note", RunStatus.FINISHED: "well", RunStatus.FAILED: "unwell"}


@dataclass(frozen=True)
class FollowedRun:
    """A run at a moment.

    Attributes:
        record: What the state database knows of it.
        now: The moment, by the clock that heartbeats are measured by.
        curves: Metric → (epoch, value) of each epoch so far.
        figures: Metric → its newest value.
        log: The last lines of its log, where that lies on this machine.
    """

    record: RunRecord
    now: datetime
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    log: Sequence[str] = ()

    @property
    def runs(self) -> bool:
        """Whether it has not ended, as far as is written down."""
        return self.record.status == RunStatus.RUNNING

    @property
    def lost(self) -> bool:
        """Whether its process died without ending it."""
        return self.runs and not self.record.owner.lives(self.record.heartbeat, self.now)


def running(settings: Settings) -> list[str]:
    """The ids of the runs that haven't ended, the newest first; a benchmark's cells are part of theirs."""
    records = RunRecords(Database.open(settings.database_url))
    return [record.run_id for record in records.list(status=RunStatus.RUNNING, but=("cell",))]


def follow(settings: Settings, run_id: str) -> FollowedRun:
    """How a run stands now.

    Raises:
        NotFoundError: There is no such run.
    """
    records = RunRecords(Database.open(settings.database_url))
    record = records.get(run_id)
    frame = MetricsStore(settings.database_url).query_metrics(run_id=record.run_id)
    curves: dict[str, list[tuple[int, float]]] = {}
    figures: dict[str, float] = {}
    for row in frame.sort_values("time", kind="stable").to_dict("records"):
        metric, value, tags = row["metric"], row["value"], row["tags"] or {}
        if value != value or value is None:  # noqa: PLR0124 - NaN
            continue
        figures[metric] = value
        if metric in _CURVES and str(tags.get("epoch", "")).isdigit():
            curves.setdefault(metric, []).append((int(tags["epoch"]), value))
    return FollowedRun(record, records.now(), curves, figures, _last_lines(record.folder))


def _last_lines(folder: Path) -> list[str]:
    """Of the log that was written to last."""
    try:
        log = max(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
        if log is None:
            return []
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = [line.rpartition("\r")[2] for line in text.splitlines() if line.strip()]
    return [mask_secrets(printable(line, longest=300)) for line in lines[-_LOG_LINES:]]


def headline(found: Sequence[FollowedRun], language: str) -> str:
    """How many run, or how the one stands."""
    if len(found) == 1:
        record = found[0].record
        return say("run.title", language, kind=record.kind, experiment=record.experiment)
    count = sum(each.runs for each in found)
    return counted("run.running", count, language) if count else say("run.none", language)


def run_html(found: FollowedRun, language: str) -> str:
    """One run as a card."""
    record = found.record
    state = "unknown" if found.lost else _STATES.get(record.status, "unknown")
    word = say("run.lost" if found.lost else f"run.{record.status.lower()}", language)
    until = record.ended or found.now
    facts = say(
        "run.facts", language, run=record.run_id[:12], actor=record.actor, host=record.owner.host,
        time=moment(record.started), age=span((until - record.started).total_seconds(), language),
    )  # fmt: skip
    why = [record.reason] if record.reason else []
    if found.lost:
        why.append(say("run.reap", language))
    title = escape(f"{record.kind} · {record.experiment}")
    return (
        f'<div class="gf-head"><b>{title}</b>{pill(state, language, word)}</div>'
        f"{paragraphs(why, '')}{paragraphs([facts], 'gf-soft')}{_progress(found, language)}"
        f"{_curves(found, language)}{_figures(found, language)}{_log(found, language)}"
    )


def _progress(found: FollowedRun, language: str) -> str:
    progress = found.record.progress
    done, total = progress.get("done") or 0, progress.get("total") or 0
    if not total:
        return paragraphs([progress["note"]], "gf-soft") if progress.get("note") else ""
    share = min(100.0, 100.0 * done / total)
    text = say("run.progress", language, done=done, total=total, unit=progress.get("unit", ""))
    note = f"{text} · {progress['note']}" if progress.get("note") else text
    inner = f'<i style="width:{share:.1f}%"></i>'
    bar = f'<div class="gf-progress" role="progressbar" aria-valuenow="{share:.0f}">{inner}</div>'
    return bar + paragraphs([note], "gf-soft")


def _curves(found: FollowedRun, language: str) -> str:
    """The quality over the epochs: as wide as the training is to be long."""
    if not found.curves:
        return ""
    progress = found.record.progress
    epochs = [epoch for line in found.curves.values() for epoch, _ in line]
    planned = (progress.get("total") or 0) if progress.get("unit") == "epoch" else 0
    last = max([2, planned, *epochs])
    lines, legend = "", []
    for metric, points in found.curves.items():
        placed = [(600 * (epoch - 1) / (last - 1), 120 * (1 - min(max(value, 0.0), 1.0))) for epoch, value in points]
        colour, drawn = _CURVES[metric], " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        lines += f'<polyline points="{drawn}" style="stroke:{colour}"/>'
        lines += "".join(f'<path d="M{x:.1f} {y:.1f}h0" style="stroke:{colour}"/>' for x, y in placed[-1:])
        legend.append(
            f'<span><i style="background:{colour}"></i>{escape(metric_name(metric, language))} '
            f"{escape(shown(metric, points[-1][1]))}</span>"
        )
    label = say("run.curve", language, last=last)
    return (
        f'<svg class="gf-curve" viewBox="-4 -4 608 128" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{lines}</svg><p class="gf-legend">{"".join(legend)}'
        f'<span class="gf-soft">{escape(label)}</span></p>'
    )


def _figures(found: FollowedRun, language: str) -> str:
    known = [name for name in CATALOGUE if name in found.figures and name not in found.curves]
    return figures_html({name: found.figures[name] for name in known[:_FIGURES]}, language)


def _log(found: FollowedRun, language: str) -> str:
    if not found.log:
        return ""
    lines = escape("\n".join(found.log))
    return f"<p class='gf-soft'>{escape(say('run.log', language))}</p><pre>{lines}</pre>"
