"""What a benchmark hands back: one row a cell of the matrix, what it comes to in words, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.plots import benchmark, detection, tracking
from guardianflow.plots.benchmark_rows import BenchmarkRow
from guardianflow.plots.detection_classes import ScoreRow, class_scores, plot_scores, size_scores
from guardianflow.plots.predictions import PredictionGallery
from guardianflow.runners._result import Result
from guardianflow.runners.inference.verdict import benchmark_verdict
from guardianflow.runners.training.result import SAMPLES_FILE
from guardianflow.text.printable import escape
from guardianflow.views.result_page import format_metric, remarks_html, run_link, table_html
from guardianflow.vision.tracking.clip import ClipView

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["CLIP_FILE", "DETECTION_FILE", "InferenceResult", "cell_columns", "cell_line", "cell_remarks"]

CLIP_FILE = "clip.webp"
DETECTION_FILE = "detection.json"

_NOT_SCORED = "No labelled images were scored."


@dataclass(frozen=True, repr=False)
class InferenceResult(Result):
    """A finished benchmark.

    Attributes:
        run_id: The MLflow run; each cell is a child run of it.
        experiment: Experiment name.
        status: ``"FINISHED"``; single cells may have failed, their rows say how.
        model: The model's facts: what was asked for, file, classes, input side, hash, size.
        dataset: File, fingerprint, split, images; empty where only a source was looked at.
        cells: One row a cell: backend, precision asked and executed, batch, mode, status, reason, metrics,
            noise, confidence interval of the median, stages, detection figures, child run.
        left_out: Combinations that a backend can't do, with the reason.
        detection: Figures of the first cell that was scored.
        mot: Tracking figures, where a source with ground truth was tracked.
        system: Speed and memory of the first cell that ran in each mode.
        tracking: Facts of the tracked source.
        remarks: What a reader should know of the data and of how it was measured, a sentence each.
        folder: The run's folder.
        seconds: Of the whole benchmark.
        tracking_uri: MLflow, with the password masked.
    """

    answers = ("model", "cells", "left_out", "detection", "mot", "system", "tracking")

    run_id: str
    experiment: str
    status: str
    model: Mapping[str, Any]
    folder: Path
    dataset: Mapping[str, Any] = field(default_factory=dict)
    cells: Sequence[BenchmarkRow] = ()
    left_out: Sequence[Mapping[str, str]] = ()
    detection: Mapping[str, float] = field(default_factory=dict)
    mot: Mapping[str, float] = field(default_factory=dict)
    system: Mapping[str, float] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    seconds: float = 0.0
    tracking_uri: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """The headline figures: detection, tracking and system in one."""
        return {**self.detection, **self.mot, **self.system}

    @property
    def verdict(self) -> str:
        """What the matrix comes to, in a few plain sentences."""
        return benchmark_verdict(self.cells, left_out=self.left_out, mot=self.mot)

    def plot_latency(self) -> Figure:
        """How long one image takes in each cell, from file to boxes."""
        return benchmark.plot_latency(benchmark.latency_spreads(self.cells))

    def plot_stages(self) -> Figure:
        """Where the time of one image goes."""
        return benchmark.plot_stages(benchmark.stage_bars(self.cells))

    def plot_throughput(self) -> Figure:
        """Images per second against batch size."""
        return benchmark.plot_throughput(benchmark.throughput_lines(self.cells))

    def plot_quality(self) -> Figure:
        """Accuracy against latency, with the Pareto front."""
        return benchmark.plot_quality(benchmark.quality_points(self.cells))

    def plot_curves(self) -> Figure | Nothing:
        """Precision against recall, class by class, of the first cell that was scored."""
        scored = self._scored()
        return (
            detection.plot_precision_recall(detection.precision_recall_lines(scored["curves"]))
            if scored
            else Nothing(_NOT_SCORED)
        )

    def plot_confidence(self) -> Figure | Nothing:
        """Precision, recall and F1 against the confidence from which a box counts."""
        scored = self._scored()
        return (
            detection.plot_confidence(detection.confidence_lines(scored["curves"])) if scored else Nothing(_NOT_SCORED)
        )

    def plot_confusion(self) -> Figure | Nothing:
        """Which class is taken for which at the operating confidence."""
        scored = self._scored()
        names = [row["name"] for row in scored.get("per_class", [])]
        return (
            detection.plot_confusion(detection.confusion_cells(names, scored["confusion"]))
            if scored
            else Nothing(_NOT_SCORED)
        )

    def plot_classes(self) -> Figure | Nothing:
        """Average precision of each class."""
        rows = self._scored().get("per_class")
        return plot_scores(class_scores(_score_rows(rows))) if rows else Nothing(_NOT_SCORED)

    def plot_sizes(self) -> Figure | Nothing:
        """Average precision of small, medium and large objects."""
        sizes = self._scored().get("by_size")
        return plot_scores(size_scores(_score_rows(sizes.values()))) if sizes else Nothing(_NOT_SCORED)

    def show_endurance(self) -> Endurance:
        """Whether it stays as fast over a longer time, and how slow the first image after a pause is."""
        return Endurance(self.cells)

    def _scored(self) -> dict[str, Any]:
        file = self.folder / DETECTION_FILE
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def show_misses(self) -> PredictionGallery:
        """The images with the most mistakes."""
        path = self.folder / SAMPLES_FILE
        return PredictionGallery(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else [])

    def plot_tracking(self) -> Figure | Nothing:
        """HOTA and its parts over the overlap that a match needs, where the source has labelled tracks."""
        if not self.mot:
            return Nothing("There are no labelled tracks to compare with.")
        return tracking.plot_hota_curves(tracking.hota_curves(self.tracking["evaluation"]["combined"]["hota"]))

    def plot_tracking_loss(self) -> Figure | Nothing:
        """How much of HOTA the detector loses, and how much the tracker."""
        if not self.tracking.get("loss"):
            return Nothing("There are no labelled tracks to compare with.")
        return tracking.plot_loss_bars(tracking.loss_bars([self.tracking["loss"]]))

    def show_tracking(self) -> TrackingView:
        """What was tracked, and its figures."""
        return TrackingView(self)

    def show_clip(self) -> ClipView | Nothing:
        """A short clip of the tracked source, where most is tracked."""
        file = self.folder / CLIP_FILE
        return ClipView(file) if file.is_file() else Nothing("No clip was made: nothing was tracked.")

    def _repr_html_(self) -> str:
        link = run_link(self.tracking_uri, self.run_id)
        data = self.dataset
        about = (
            f"{data['images']:,} images of {escape(str(data['split']))} in "
            f"<code>{escape(str(data['data_yaml']))}</code>"
            if data
            else f"<code>{escape(str(self.tracking.get('source', '')))}</code>"
        )
        model = self.model
        return (
            f"<h4>Benchmark of {escape(str(model.get('spec', '')))} · {escape(self.status.lower())}</h4>"
            f'<p style="font-size:1.15em">{escape(self.verdict)}</p>'
            f"{table_html(map(cell_line, self.cells), cell_columns())}{_left_out_html(self.left_out)}"
            f"{remarks_html(self.remarks)}"
            f"<p>On {about}, {model.get('imgsz')}×{model.get('imgsz')} px, boxes above "
            f"{model.get('confidence')}, at most {model.get('max_det')} an image. “±” is the noise: how far apart "
            "the repetitions were. Latency is one image from file to boxes.<br>"
            f"Run {link} · files in <code>{escape(str(self.folder))}</code></p>"
        )


@dataclass(frozen=True)
class Nothing:
    """A sentence where there is nothing to draw."""

    text: str

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Endurance:
    """Latency over a longer run and after a pause, a row a cell; a notebook shows it as a table."""

    cells: Sequence[BenchmarkRow]

    def rows(self) -> list[tuple[str, str, str]]:
        """Cell, its longer run, its first image after a pause."""
        found = []
        for row in self.cells:
            longer, pause = row.get("sustained"), row.get("after_idle")
            if not longer and not pause:
                continue
            over = (
                f"p50 {longer['latency']['p50']:.1f} ms over {longer['seconds']:.0f} s, "
                f"{100 * longer['drift']:+.0f}% from its first quarter to its last"
                if longer
                else ""
            )
            after = (
                f"{pause['p50']:.1f} ms after {pause['pause_s']:.1f} s of rest, {pause['ratio']:.1f}× the busy median"
                if pause
                else ""
            )
            found.append((f"{row['label']} · batch {row['batch']}", over, after))
        return found

    def _repr_html_(self) -> str:
        rows = self.rows()
        if not rows:
            return "<p>Neither a longer run nor a pause was measured.</p>"
        return table_html(rows, ("", "without a pause", "first image after a pause"))


@dataclass(frozen=True)
class TrackingView:
    """The tracked source as a page: what was tracked, and its figures."""

    result: InferenceResult

    def _repr_html_(self) -> str:
        facts = self.result.tracking
        if not facts:
            return "<p>No source was tracked (<code>source</code> and <code>tracker</code> were not given).</p>"
        rows = [(name, format_metric(name, value)) for name, value in self.result.mot.items()]
        note = f"<p>{escape(str(facts['note']))}</p>" if facts.get("note") else ""
        return f"<p>{escape(str(facts.get('verdict', '')))}</p>{note}{table_html(rows) if rows else ''}"


_COLUMNS = (("backend", "backend"), ("precision_executed", "precision run"), ("batch", "batch"), ("mode", "mode"))
_FIGURES = ("latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "throughput_fps", "rss_mb")


def cell_line(row: BenchmarkRow) -> list[str]:
    """One cell as a person reads it: what ran, its figures with the noise beside them, and what went wrong."""
    figures = row.get("metrics") or {}
    noise = row.get("noise") or {}
    texts = [str(row.get(key) or row.get("precision") or "") for key, _ in _COLUMNS]
    if int(row.get("query_images") or 1) > 1:
        texts[-1] = f"multi_stream ({row['query_images']} images at once)"
    texts += [_with_noise(name, figures.get(name), noise.get(name)) for name in _FIGURES]
    quality = (row.get("detection") or {}).get("map50_95")
    texts.append("" if quality is None else f"{quality:.4f}")
    texts.append("" if row.get("status") == "ok" else f"{row.get('status')}: {row.get('reason')}")
    return texts


def cell_columns() -> list[str]:
    """Headings of :func:`cell_line`."""
    return [text for _, text in _COLUMNS] + ["p50", "p95", "p99", "images/s", "memory", "mAP50-95", ""]


def _with_noise(name: str, value: float | None, noise: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:,.1f}" if name == "throughput_fps" else format_metric(name, value)
    return text if noise is None else f"{text} ±{100 * noise:.1f}%"


def cell_remarks(cells: Sequence[BenchmarkRow]) -> tuple[str, ...]:
    """What the cells have to say of how they were measured: each sentence once, with the cells that said it."""
    said: dict[str, list[str]] = {}
    for row in cells:
        for warning in row.get("warnings", ()):
            said.setdefault(str(warning), []).append(str(row["label"]))
    return tuple(f"{', '.join(dict.fromkeys(labels))}: {text}" for text, labels in said.items())


def _score_rows(rows: Iterable[Mapping[str, Any]]) -> list[ScoreRow]:
    return [ScoreRow(*(row[name] for name in ScoreRow._fields)) for row in rows]


def _left_out_html(left_out: Sequence[Mapping[str, str]]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{escape(row['label'])}: {escape(row['reason'])}</li>" for row in left_out)
    return f"<p>Left out:</p><ul>{items}</ul>"
