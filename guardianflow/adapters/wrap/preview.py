"""What wrapping a script would do, shown before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.metrics.line_hints import metric_hint
from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.metrics.series import MetricSeries
from guardianflow.exceptions import InputError
from guardianflow.processes.supervision.redaction import Redactor
from guardianflow.processes.supervision.words import end_of_log
from guardianflow.text.plain import Row
from guardianflow.text.printable import escape
from guardianflow.views.result_page import table_html

__all__ = ["WrapPreview", "metrics_in"]

_SAMPLE_BLOCKS = 250
_BLOCK = 1 << 18


@dataclass(frozen=True)
class WrapPreview(Row):
    """A dry run.

    Attributes:
        command: What would be run, as a person would type it.
        kind: ``"python"``, ``"module"``, ``"notebook"``, ``"shell"`` or ``"binary"``.
        working_dir: Where.
        parameters: What it would be run with.
        origins: Where each of these comes from: a default, a configuration file or the command line.
        metrics: Metrics found in the sample: name, points, first and last value, last step.
        sampled: The sample that was searched; empty where none was given.
        artifact_patterns: Globs of what would be kept.
        artifacts: Files that match by now; kept are those that a run makes or changes.
        logs_itself: Whether the script logs to MLflow itself.
        already_done: The run that did the same and ended well, if there is one.
        remarks: What could not be read.
    """

    command: str
    kind: str
    working_dir: str
    parameters: Mapping[str, Any]
    origins: Mapping[str, str]
    metrics: Sequence[Mapping[str, str | float]]
    sampled: str
    artifact_patterns: Sequence[str]
    artifacts: Sequence[str]
    logs_itself: bool
    already_done: str
    remarks: Sequence[str]

    def _repr_html_(self) -> str:
        rows = [(name, value, self.origins.get(name, "")) for name, value in self.parameters.items()]
        notes = [
            "It logs to MLflow itself: its runs become children of this one." if self.logs_itself else "",
            f"Run {self.already_done} has done the same." if self.already_done else "",
            *self.remarks,
        ]
        listed = "".join(f"<li>{escape(text)}</li>" for text in notes if text)
        found = (
            table_html(rows, ("Parameter", "Value", "From")) if rows else "<p>No parameters were found in its text.</p>"
        )
        return f"<p><code>{escape(self.command)}</code><br>in <code>{escape(self.working_dir)}</code></p>{found}" + (
            f"<ul>{listed}</ul>" if listed else ""
        )


def metrics_in(
    sample: Path | None, patterns: Sequence[str], automatic: bool
) -> tuple[list[Mapping[str, str | float]], Sequence[str]]:
    """The metrics that the first 64 MB of a log hold, and remarks.

    Raises:
        InputError: It can't be read.
    """
    if sample is None:
        return [], ()
    lines, series = MetricLines(patterns, automatic=automatic), MetricSeries()
    try:
        with sample.open("rb") as file:
            for chunk in islice(iter(partial(file.read, _BLOCK), b""), _SAMPLE_BLOCKS):
                series.add(lines.feed(chunk), source="stdout")
                series.take()
    except OSError as error:
        raise InputError(
            f"the sample {sample} can't be read ({error.strerror}); give a log of an earlier run"
        ) from error
    series.add(lines.close(), source="stdout")
    rows: list[Mapping[str, str | float]] = [
        {"metric": name, "points": seen.count, "first": seen.first, "last": seen.last, "last_step": seen.last_step}
        for name, seen in series.curves.items()
    ]
    hint = "" if rows else metric_hint(Redactor().text(end_of_log(sample)))
    return rows, [*lines.remarks, *series.remarks, *filter(None, [hint])]
