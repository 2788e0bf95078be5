"""What a sweep hands back: its trials, the best of them, and how a notebook shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guardianflow.execution.studies import Study
from guardianflow.execution.trials import TrialRow, TrialState
from guardianflow.plots.sweep import SweepTrial, plot_history, plot_importance, plot_parallel
from guardianflow.runners._base import unmet
from guardianflow.runners._result import Result
from guardianflow.scenario.experiment_design import RunPlan, SweepScenario
from guardianflow.text.command_lines import command
from guardianflow.text.printable import escape
from guardianflow.views.next_steps import NextStep, NextSteps
from guardianflow.views.result_page import Table, format_metric, remarks_html, run_link

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["METRIC_LABELS", "SweepResult", "TrialTable", "best_of", "plans_table", "study_line", "trial_lines"]

METRIC_LABELS = {"map50_95": "mAP50-95", "map50": "mAP50"}
_MOST_SHOWN = 50
_ID = 12


def best_of(rows: Sequence[TrialRow], requirements: Sequence[str]) -> TrialRow | None:
    """The finished trial with the highest value that meets all requirements; the first of several."""
    fit = [row for row in rows if row.state == TrialState.FINISHED and not unmet(requirements, row.metrics)]
    return max(fit, key=lambda row: row.value or 0.0, default=None)


def plans_table(asked: SweepScenario, plans: Sequence[RunPlan]) -> Table:
    """The values of the trials that are known before the first result, a row each."""
    points = [point for _, point in zip(plans, asked.known_points(), strict=False)]
    rows: list[Sequence[object]] = [
        (number, *(_value(point[name]) for name in asked.sweep.space))
        for number, point in enumerate(points[:_MOST_SHOWN])
    ]
    left, open_ = len(points) - len(rows), asked.trials - len(points)
    blank = [""] * (len(asked.sweep.space) - 1)
    rows += [("…", f"{left} more", *blank)] if left else []
    rows += [("…", f"{open_} more, which TPE chooses by the results", *blank)] if open_ else []
    return Table(("trial", *asked.sweep.space), rows)


def trial_lines(trials: Sequence[Mapping[str, Any]], metric: str) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Columns and rows of trials, for a terminal."""
    names = _fields(trials)
    rows: list[Sequence[object]] = [
        (
            trial["number"],
            trial["state"],
            format_metric(metric, trial["value"]),
            trial["epochs"] or "",
            *(_value(trial["point"].get(name, "")) for name in names),
            trial["run_id"][:_ID],
            trial["reason"],
        )
        for trial in trials
    ]
    return ("trial", "state", METRIC_LABELS.get(metric, metric), "epochs", *names, "run", "why"), rows


@dataclass(frozen=True)
class TrialTable:
    """The trials of a study, the best first, each with a link to its run."""

    trials: Sequence[Mapping[str, Any]]
    metric: str
    best: int | None
    tracking_uri: str

    def _repr_html_(self) -> str:
        names = _fields(self.trials)
        label = METRIC_LABELS.get(self.metric, self.metric)
        reasons = any(trial["reason"] for trial in self.trials)
        columns = ["trial", "state", label, "epochs", *names, "run", *(["why"] if reasons else [])]
        head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
        ordered = sorted(self.trials, key=lambda trial: (_RANK.get(trial["state"], 9), -(trial["value"] or 0.0)))
        rows = "".join(self._row(trial, names, reasons=reasons) for trial in ordered[:_MOST_SHOWN])
        left = len(ordered) - _MOST_SHOWN
        more = f"<p>and {left} more, all in <code>result.json</code></p>" if left > 0 else ""
        return f'<div style="overflow-x:auto"><table><tr>{head}</tr>{rows}</table></div>{more}'

    def _row(self, trial: Mapping[str, Any], names: Sequence[str], *, reasons: bool) -> str:
        values = [
            trial["number"],
            trial["state"],
            format_metric(self.metric, trial["value"]),
            trial["epochs"] or "",
            *(_value(trial["point"].get(name, "")) for name in names),
        ]
        bold = "font-weight:600;" if trial["number"] == self.best else ""
        style = f'style="{bold}text-align:left"'
        cells = [escape(str(value)) for value in values]
        cells.append(run_link(self.tracking_uri, trial["run_id"], shown=_ID) if trial["run_id"] else "")
        cells += [f'<div style="min-width:18em">{escape(trial["reason"])}</div>'] if reasons else []
        return "<tr>" + "".join(f"<td {style}>{cell}</td>" for cell in cells) + "</tr>"


_RANK = {TrialState.FINISHED: 0, TrialState.PRUNED: 1, TrialState.RUNNING: 2, TrialState.FAILED: 3}


@dataclass(frozen=True, repr=False)
class SweepResult(Result):
    """A finished sweep.

    Attributes:
        run_id: The MLflow run of the sweep.
        experiment: Experiment name.
        status: ``"FINISHED"``.
        study: Name of the study.
        metric: What the best trial has most of.
        trials: One row a trial, see :class:`~guardianflow.execution.trials.TrialRow`.
        best: The best of them; empty where none finished and meets the requirements.
        epochs: How many would have been trained if no trial had ended early.
        importance: Field → share of the differences that it explains.
        requirements: What a trial must reach to be the best.
        model: What to load the best model by; empty where there is none.
        parent: The run that all trials of the study lie below.
        remarks: What a reader should know, a sentence each.
        tracking_uri: MLflow, with the password masked.
    """

    answers = ("study", "best", "trials", "importance")

    run_id: str
    experiment: str
    status: str
    study: str
    metric: str
    trials: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    importance: Mapping[str, float] = field(default_factory=dict)
    requirements: Sequence[str] = ()
    model: str = ""
    parent: str = ""
    remarks: Sequence[str] = ()
    tracking_uri: str = ""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures of the best trial."""
        return dict(self.best.get("metrics", {}))

    @property
    def verdict(self) -> str:
        """What is best, and what it took, in a few sentences."""
        count = {state: sum(trial["state"] == state for trial in self.trials) for state in _RANK}
        said = [self._on_the_best(), f"{len(self.trials)} trials: {_listed(count)}."]
        done = sum(trial["epochs"] for trial in self.trials)
        if done < self.epochs:
            said.append(f"{done} of {self.epochs} epochs were trained.")
        return " ".join(said)

    def _on_the_best(self) -> str:
        label = METRIC_LABELS.get(self.metric, self.metric)
        finished = [trial for trial in self.trials if trial["state"] == TrialState.FINISHED]
        if self.best and len(finished) > 1 and len({trial["value"] for trial in finished}) == 1:
            alike = format_metric(self.metric, self.best["value"])
            return f"No trial is better than another: {label} is {alike} in all {len(finished)} that finished."
        if self.best:
            values = ", ".join(f"{name} = {_value(value)}" for name, value in self.best["point"].items())
            reached = format_metric(self.metric, self.best["value"])
            return f"Trial {self.best['number']} is best: {label} {reached} with {values}."
        if not finished:
            return "No trial finished, so none is the best."
        most = max(finished, key=lambda trial: trial["value"])
        why = "; ".join(unmet(self.requirements, most["metrics"]))
        reached = format_metric(self.metric, most["value"])
        return f"No trial meets all requirements: trial {most['number']} has the highest {label}, {reached}, but {why}."

    def plot_history(self) -> Figure:
        """The trials in their order, and the best value so far."""
        return plot_history(self._drawn(), metric=METRIC_LABELS.get(self.metric, self.metric))

    def plot_importance(self) -> Figure:
        """Which field makes the difference."""
        return plot_importance(self.importance)

    def plot_parallel(self) -> Figure:
        """Which values go with which result: a line a trial."""
        return plot_parallel(self._drawn(), metric=METRIC_LABELS.get(self.metric, self.metric))

    def show_trials(self) -> TrialTable:
        """All trials, the best first."""
        return TrialTable(self.trials, self.metric, self.best.get("number"), self.tracking_uri)

    def next_steps(self) -> NextSteps:
        """What to do now."""
        steps = [NextStep("See all trials again", command("study", "show", self.study))]
        if self.model.startswith("models:/"):
            name = self.model.removeprefix("models:/").rpartition("/")[0]
            steps.append(NextStep.promote("Put the best one in charge", name))
        elif self.best:
            steps.append(NextStep.register("Register the best one", self.best["run_id"]))
        if self.best:
            steps.append(NextStep.again("Train with its values once more", self.best["run_id"]))
        return NextSteps(steps)

    def _drawn(self) -> list[SweepTrial]:
        best = self.best.get("number")
        return [
            SweepTrial(trial["number"], trial["state"], trial["value"], trial["point"], trial["number"] == best)
            for trial in self.trials
        ]

    def _repr_html_(self) -> str:
        link = run_link(self.tracking_uri, self.run_id)
        model = f" · model <code>{escape(self.model)}</code>" if self.model else ""
        return (
            f"<h4>Sweep {escape(self.study)} · {escape(self.status.lower())}</h4>"
            f'<p style="font-size:1.15em">{escape(self.verdict)}</p>{remarks_html(self.remarks)}'
            f"<p>Run {link}{model}</p>"
        )


def _fields(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial["point"]))


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(count: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in count.items() if number)


def study_line(study: Study) -> dict[str, Any]:
    """A study in one row."""
    rows, scenario = study.rows(), study.scenario
    best = best_of(rows, scenario.task.requirements)
    states = (TrialState.FINISHED, TrialState.PRUNED, TrialState.FAILED)
    return {
        "study": study.name,
        "trials": len(rows),
        **{state: sum(row.state == state for row in rows) for state in states},
        "metric": scenario.sweep.metric,
        "best": round(best.value, 4) if best and best.value is not None else None,
        "best_trial": best.number if best else None,
    }
