"""What a comparison hands back: who is better and by how much, as a sentence, a table and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.plots import comparison as plots
from guardianflow.plots.class_changes import plot_class_changes
from guardianflow.plots.predictions import PairGallery
from guardianflow.runners._result import Result
from guardianflow.text.printable import escape
from guardianflow.text.units import figure_text, interval_text
from guardianflow.views.comparison_page import METRIC_NAMES, headline_html, interval_name, sentence
from guardianflow.views.next_steps import NextStep, NextSteps
from guardianflow.views.result_page import Table, format_metric, remarks_html, run_link, table_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["CURVES_FILE", "DISPUTED_FILE", "ComparisonResult"]

CURVES_FILE = "curves.json"
DISPUTED_FILE = "disputed.json"

Row = Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class ComparisonResult(Result):
    """A finished comparison.

    Attributes:
        run_id: The MLflow run.
        experiment: Experiment name.
        status: ``"FINISHED"``.
        metric: The figure that decides.
        subjects: A row a model: name (A, B …), label, what was evaluated and how, its figures, what it finds and
            imagines at the stated confidence, what its training was asked otherwise than A's, its speed where that can
            be compared.
        comparisons: A row for each model but the first, held against that: both figures, difference, interval,
            ``outcome`` (``"better"``, ``"worse"`` or ``"none"``: no difference is shown), and the same by class.
        dataset: Fingerprint, split, images, protocol of the evaluations, and the data.yaml where it is known.
        folder: The run's folder.
        confidence: From which boxes count in what is found and imagined.
        remarks: What a reader should know, a sentence each.
        tracking_uri: MLflow, with the password masked.
    """

    answers = ("metric", "subjects", "comparisons")

    run_id: str
    experiment: str
    status: str
    metric: str
    subjects: Sequence[Row]
    comparisons: Sequence[Row]
    dataset: Row
    folder: Path
    confidence: float = 0.25
    remarks: Sequence[str] = ()
    tracking_uri: str = ""

    @property
    def verdict(self) -> str:
        """Who is better and by how much, or that no difference is shown: one sentence."""
        return "; ".join(sentence(row, self.subjects[0]) for row in self.comparisons)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of each model, and each difference with its interval: ``A/map50_95``, ``B/change_low`` …"""
        found = {f"{row['name']}/{name}": value for row in self.subjects for name, value in row["figures"].items()}
        for row in self.comparisons:
            ends = {"change": row["difference"], "change_low": row["low"], "change_high": row["high"]}
            found |= {f"{row['name']}/{name}": value for name, value in ends.items()}
        return found

    @property
    def table(self) -> Table:
        """A row a model; columns in which nobody has anything are left out."""
        against = {row["name"]: row for row in self.comparisons}
        columns = (
            "", "model", METRIC_NAMES[self.metric], f"against {self.subjects[0]['name']}",
            interval_name(self.comparisons[0]["level"]), "", "finds", "imagines", "one image", "file",
        )  # fmt: skip
        rows = [_line(row, against.get(row["name"]), self.metric) for row in self.subjects]
        kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
        return Table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the table as people read it."""
        return {**super().to_dict(), "table": {"columns": self.table.columns, "rows": self.table.rows}}

    def plot_classes(self) -> Figure:
        """What each class won or lost, with the interval that chance explains."""
        what = {"map50_95": "AP50-95", "map50": "AP50"}[self.metric]
        return plot_class_changes(plots.change_rows(self.comparisons), what=what)

    def plot_curves(self) -> Figure:
        """Precision against recall of all models, over each other."""
        curves = self._read(CURVES_FILE)
        named = [(f"{row['name']} · {row['label']}", each) for row, each in zip(self.subjects, curves, strict=False)]
        return plots.plot_overlaid_curves(*plots.overlaid_curves(named))

    def show_disputed(self) -> PairGallery:
        """The images on which two models disagree most, side by side."""
        disputed = self._read(DISPUTED_FILE)
        return PairGallery(tuple(disputed["names"]), disputed["images"], self.confidence)

    def _read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def next_steps(self) -> NextSteps:
        """What to do now."""
        best = max(self.comparisons, key=lambda row: float(row["difference"]))
        steps = []
        label, made_by = str(best["label"]), str(best["made_by"])
        if best["outcome"] == "better" and label.startswith("models:/"):
            name, _, version = label.removeprefix("models:/").rpartition("/")
            steps.append(NextStep.promote(f"Ask the gate to put {best['name']} in charge", name, version))
        elif best["outcome"] == "better" and made_by:
            steps.append(NextStep.register(f"Register {best['name']}", made_by))
        steps.append(NextStep.again("Compare once more", self.run_id))
        return NextSteps(steps)

    def _repr_html_(self) -> str:
        link = run_link(self.tracking_uri, self.run_id)
        data, first = self.dataset, self.comparisons[0]
        return (
            f"{headline_html(self.subjects, self.comparisons, confidence=self.confidence)}"
            f"{table_html(self.table.rows, self.table.columns)}{remarks_html(self.remarks)}"
            f"<p>On the same {data['images']:,} images of {escape(str(data['split']))}, dataset "
            f"<code>{escape(str(data['fingerprint'])[:12])}</code>, from the predictions that were kept: nothing was "
            f"inferred anew. The interval says how far chance in the choice of images reaches (paired bootstrap, "
            f"{first['resamples']:,} draws); what another seed of a training would change is not in it.<br>"
            f"Run {link} · files in <code>{escape(str(self.folder))}</code></p>"
        )


def _line(subject: Row, compared: Row | None, metric: str) -> tuple[str, ...]:
    """One model as a person reads it; what isn't known is empty."""
    found, speed, size = subject["found"], subject["latency_ms_p50"], subject["model_size_mb"]
    how = " ".join([subject["backend"], subject["precision"], f"{subject['imgsz']} px"])
    told = "; ".join([how, *subject["differs"]])
    change = ("", "", "")
    if compared is not None:
        said = {"better": "better", "worse": "worse", "none": "no difference shown"}[compared["outcome"]]
        ends = interval_text(compared["low"], compared["high"])
        change = (figure_text(compared["difference"], sign=True), ends, said)
    return (
        subject["name"], f"{subject['label']} · {told}", figure_text(subject["figures"][metric]), *change,
        f"{found['found']:,} of {found['labelled']:,}", f"{found['imagined']:,}",
        "" if speed is None else format_metric("latency_ms_p50", speed),
        "" if size is None else format_metric("model_size_mb", size),
    )  # fmt: skip
