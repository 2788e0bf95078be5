"""What a run hands back: figures, where its files are, and how a notebook shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.plots.detection_classes import ScoreRow, class_scores, plot_scores
from guardianflow.plots.predictions import PredictionGallery
from guardianflow.plots.training import plot_training, training_curves
from guardianflow.runners._result import Result
from guardianflow.runners.training.verdict import training_verdict
from guardianflow.text.command_lines import command
from guardianflow.text.printable import escape
from guardianflow.views.next_steps import NextStep, NextSteps
from guardianflow.views.result_page import metric_table_html, remarks_html, run_link
from guardianflow.vision.training.epochs import ClassResult

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["SAMPLES_FILE", "TrainingResult"]

SAMPLES_FILE = "samples.json"


@dataclass(frozen=True, repr=False)
class TrainingResult(Result):
    """A finished training.

    Attributes:
        run_id: The MLflow run.
        experiment: Experiment name.
        status: ``"FINISHED"``.
        metrics: Validation figures of the best weights, training speed and memory.
        model: What to load the model by: ``models:/NAME/3`` where it was registered, else
            ``runs:/RUN_ID/weights/best.pt``.
        folder: The run's folder; ``weights/best.pt`` below ``training`` is the model.
        best: The best weights.
        last: The last weights.
        epochs: How many epochs were asked for; the history tells how many there were.
        history: One flat row an epoch.
        per_class: One row a class.
        dataset: Facts of the dataset: file, fingerprint, counts.
        used: What the training really used, whatever it was asked: optimizer, ``lr0``, batch, device …
        pictures: Curves and sample predictions.
        remarks: What a reader should know of the data and of what was asked, a sentence each.
        stopped_by: ``"pruner"`` where its sweep ended it before its last epoch.
        tracking_uri: MLflow, with the password masked.
    """

    answers = ("model", "used")

    run_id: str
    experiment: str
    status: str
    metrics: Mapping[str, float]
    model: str
    folder: Path
    best: Path
    last: Path
    epochs: int = 0
    history: Sequence[Mapping[str, float]] = ()
    per_class: Sequence[ClassResult] = ()
    dataset: Mapping[str, Any] = field(default_factory=dict)
    used: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[Path] = ()
    remarks: Sequence[str] = ()
    stopped_by: str = ""
    tracking_uri: str = ""

    @property
    def verdict(self) -> str:
        """The result in one or two plain sentences."""
        return training_verdict(self.metrics, self.per_class, self.history, epochs=self.epochs)

    def plot_curves(self) -> Figure:
        """Quality and losses over the epochs."""
        return plot_training(training_curves(self.history))

    def plot_classes(self) -> Figure:
        """Average precision of each class."""
        rows = [ScoreRow(row["name"], row["boxes"], row["map50"], row["map50_95"]) for row in self.per_class]
        return plot_scores(class_scores(rows))

    def show_samples(self) -> PredictionGallery:
        """Some validation images with what was found, missed and imagined."""
        path = self.folder / SAMPLES_FILE
        return PredictionGallery(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else [])

    def next_steps(self) -> NextSteps:
        """What to do with this model now."""
        if self.model.startswith("models:/"):
            name = self.model.removeprefix("models:/").rpartition("/")[0]
            steps = [
                NextStep.promote("Put it in charge", name),
                NextStep("See who was in charge when", command("history", name), f"ModelRegistry().history({name!r})"),
            ]
        else:
            steps = [NextStep.register("Register it", self.run_id)]
        steps.append(NextStep.again("Train once more from the same parameters", self.run_id))
        steps.append(NextStep.figures(self.run_id))
        return NextSteps(steps)

    def _repr_html_(self) -> str:
        link = run_link(self.tracking_uri, self.run_id)
        return (
            f"<h4>Training of {escape(self.experiment)} · {escape(self.status.lower())}</h4>"
            f'<p style="font-size:1.15em">{escape(self.verdict)}</p>'
            f"{metric_table_html(self.metrics)}{remarks_html(self.remarks)}"
            f"<p>Run {link} · model <code>{escape(self.model)}</code><br>"
            f"Files in <code>{escape(str(self.folder))}</code></p>"
        )
