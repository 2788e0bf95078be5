"""What a wrapped script hands back: how it ended, what it printed, measured and made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.adapters.wrap.artifacts import Artifact, LeftOut
from guardianflow.exceptions import ScriptFailedError
from guardianflow.runners._result import Result
from guardianflow.text.printable import escape
from guardianflow.text.units import duration, file_size
from guardianflow.views.next_steps import NextStep, NextSteps
from guardianflow.views.result_page import Table, format_metric, run_link, table_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["OutputTail", "WrapResult"]

_SHOWN_METRICS, _SHOWN_FILES = 12, 20


@dataclass(frozen=True, repr=False)
class WrapResult(Result):
    """A wrapped script that has ended, well or badly.

    Attributes:
        run_id: The MLflow run.
        experiment: Experiment name.
        status: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        exit_code: The script's own; ``None`` where a signal ended it.
        signal: That signal's name, such as ``"SIGSEGV"``.
        stopped: Why we ended it: ``"timeout"``, ``"out_of_memory"``, ``"interrupted"``, ``"terminated"``, or empty.
        reason: One sentence where it ended badly.
        command: What was run, as a person would type it (never executed as such).
        kind: ``"python"``, ``"module"``, ``"notebook"``, ``"shell"`` or ``"binary"``.
        working_dir: The folder it ran in.
        parameters: What it was run with: defaults, configuration files and command line.
        metrics: Last value of each metric, and the run's own figures (time, memory).
        histories: Points (step, value) of each metric as logged.
        artifacts: One row a file: name, size in bytes, sha256, whether it is new.
        left_out: Files that match and were not kept, with the reason.
        adopted: Runs that the script logged to MLflow itself; they are children of this run.
        resources: Samples over the run: second, CPU in percent (100 is one core), memory in MB, GPU in percent.
        remarks: What could not be read or kept, and why.
        output: The last lines of its output and of its error output.
        folder: The run's folder.
        model: ``models:/NAME/3`` where a model was registered; else the file that could be, or empty.
        tracking_uri: MLflow, with the password masked.
    """

    answers = (
        "model", "exit_code", "signal", "stopped", "reason", "command", "parameters", "artifacts",
        "left_out", "adopted",
    )  # fmt: skip

    run_id: str
    experiment: str
    status: str
    exit_code: int | None
    signal: str = ""
    stopped: str = ""
    reason: str = ""
    command: str = ""
    kind: str = ""
    working_dir: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    histories: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    artifacts: Sequence[Artifact] = ()
    left_out: Sequence[LeftOut] = ()
    adopted: Sequence[Mapping[str, Any]] = ()
    resources: Sequence[Mapping[str, float]] = ()
    remarks: Sequence[str] = ()
    output: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    model: str = ""
    tracking_uri: str = ""

    @property
    def ok(self) -> bool:
        """Whether the script ended well."""
        return self.exit_code == 0 and not self.stopped

    @property
    def verdict(self) -> str:
        """How it ended and what it left, in one or two sentences."""
        took = duration(self.metrics.get("wall_seconds", 0.0))
        if not self.ok:
            return f"{self.reason} It ran for {took}."
        kept = {"metrics": self.histories, "files": self.artifacts, "runs of its own": self.adopted}
        said = [f"{kind}: {len(rows)}" for kind, rows in kept.items() if rows]
        return f"It ended well after {took}; {', '.join(said) or 'it left nothing'}."

    def require_success(self) -> WrapResult:
        """This result, where the script ended well.

        Raises:
            ScriptFailedError: It didn't; the message says how, with its last words.
        """
        if self.ok:
            return self
        raise ScriptFailedError(self.reason, result=self)

    def plot_metrics(self) -> Figure:
        """Each metric over its steps."""
        from guardianflow.plots.wrapped import plot_metrics

        return plot_metrics({name: [(int(s), float(v)) for s, v in rows] for name, rows in self.histories.items()})

    def plot_resources(self) -> Figure:
        """CPU, memory and GPU over the time it ran."""
        from guardianflow.plots.wrapped import plot_resources

        return plot_resources(list(self.resources))

    def show_output(self) -> OutputTail:
        """The end of what it printed."""
        return OutputTail(dict(self.output), self.folder)

    def show_artifacts(self) -> Table:
        """The files that it made or changed, and those that were left out."""
        rows = [
            (row["name"], file_size(row["size"]), row["sha256"][:12], "new" if row["new"] else "changed")
            for row in self.artifacts
        ]
        rows += [(row["name"], "", "", f"left out: {row['reason']}") for row in self.left_out]
        more = len(rows) - _SHOWN_FILES
        shown = [*rows[:_SHOWN_FILES], *([(f"and {more} more", "", "", "")] if more > 0 else [])]
        return Table(("File", "Size", "sha256", ""), shown or [("It made no file that matches.", "", "", "")])

    def next_steps(self) -> NextSteps:
        """What to do now."""
        steps = []
        if self.model.startswith("models:/"):
            name = self.model.removeprefix("models:/").rpartition("/")[0]
            steps.append(NextStep.promote("Put the model in charge", name))
        elif self.model:
            path = self.model.removeprefix(f"runs:/{self.run_id}/")
            steps.append(NextStep.register("Register the model it made", self.run_id, path))
        steps.append(NextStep.again("Run it once more in the same way", self.run_id))
        steps.append(NextStep.figures(self.run_id))
        return NextSteps(steps)

    def _repr_html_(self) -> str:
        colour = "#0a7d33" if self.ok else "#b3261e"
        sign = "ended well" if self.ok else "failed"
        remarks = "".join(f"<li>{escape(text)}</li>" for text in self.remarks)
        return (
            f'<h4>{escape(self.experiment)} · <span style="color:{colour}">{sign}</span></h4>'
            f'<p style="font-size:1.15em">{escape(self.verdict)}</p>'
            f"<p><code>{escape(self.command)}</code><br>in <code>{escape(self.working_dir)}</code></p>"
            f"{self._metric_table()}"
            f"<p>Run {run_link(self.tracking_uri, self.run_id)} · files in <code>{escape(str(self.folder))}</code></p>"
            + (f"<ul>{remarks}</ul>" if remarks else "")
        )

    def _metric_table(self) -> str:
        its = [name for name in self.metrics if name in self.histories]
        shown = [*its[:_SHOWN_METRICS], *(name for name in self.metrics if name not in self.histories)]
        rows = [
            (name, format_metric(name, self.metrics[name]), len(self.histories.get(name, ())) or "") for name in shown
        ]
        more = len(its) - _SHOWN_METRICS
        further = f"<p>{more} further metrics are in MLflow.</p>" if more > 0 else ""
        return table_html(rows, ("Metric", "Last", "Points")) + further


@dataclass(frozen=True)
class OutputTail:
    """The last lines of a script's output, for a notebook."""

    streams: Mapping[str, str]
    folder: Path

    def _repr_html_(self) -> str:
        parts = [
            f"<p><b>{escape(name)}</b> (its end; the log is <code>{escape(self.folder / f'{name}.log')}</code>)</p>"
            f'<pre style="max-height:24em;overflow:auto">{escape(text)}</pre>'
            for name, text in self.streams.items()
            if text
        ]
        return "".join(parts) or "<p>It printed nothing.</p>"
