"""What wrapping a script would do, shown before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.adapters.wrap.artifacts import ArtifactWatch
from guardianflow.adapters.wrap.metrics.line_hints import metric_hint
from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.metrics.series import MetricSeries
from guardianflow.exceptions import InputError
from guardianflow.processes.supervision.redaction import Redactor
from guardianflow.processes.supervision.words import end_of_log
from guardianflow.text.printable import escape
from guardianflow.text.redaction import redact

if TYPE_CHECKING:
    from guardianflow.adapters.generic_wrapper import GenericWrapper

__all__ = ["WrapPreview", "preview_wrap"]

_SAMPLE_BYTES = 64_000_000
_BLOCK = 1 << 18
_LEFT = 'style="text-align:left"'


@dataclass(frozen=True)
class WrapPreview:
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
    metrics: Sequence[Mapping[str, str | float]] = ()
    sampled: str = ""
    artifact_patterns: Sequence[str] = ()
    artifacts: Sequence[str] = ()
    logs_itself: bool = False
    already_done: str = ""
    remarks: Sequence[str] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def _repr_html_(self) -> str:
        parameters = "".join(
            f"<tr><td {_LEFT}><code>{escape(name)}</code></td><td {_LEFT}>{escape(str(value))}</td>"
            f'<td style="text-align:left;opacity:.7">{escape(self.origins.get(name, ""))}</td></tr>'
            for name, value in self.parameters.items()
        )
        notes = [
            "It logs to MLflow itself: its runs become children of this one." if self.logs_itself else "",
            f"Run {self.already_done} has done the same." if self.already_done else "",
            *self.remarks,
        ]
        listed = "".join(f"<li>{escape(text)}</li>" for text in notes if text)
        head = f"<tr><th {_LEFT}>Parameter</th><th {_LEFT}>Value</th><th {_LEFT}>From</th></tr>"
        return (
            f"<p><code>{escape(self.command)}</code><br>in <code>{escape(self.working_dir)}</code></p>"
            + (f"<table>{head}{parameters}</table>" if parameters else "<p>No parameters were found in its text.</p>")
            + (f"<ul>{listed}</ul>" if listed else "")
        )  # fmt: skip


def preview_wrap(wrapper: GenericWrapper, sample: Path | None) -> WrapPreview:
    """See :meth:`~guardianflow.adapters.generic_wrapper.GenericWrapper.preview`."""
    asked, command, resolved = wrapper.scenario, wrapper.command(), wrapper.resolve()
    watch = ArtifactWatch(wrapper.working_dir, wrapper.patterns, skip=[wrapper.settings.work_dir])
    logs_itself = wrapper.logs_itself()
    metrics, remarks = _metrics_in(sample, asked.run.metric_patterns, asked.run.automatic_metrics and not logs_itself)
    done = wrapper.already_done()
    return WrapPreview(
        command=Redactor().text(command.line),
        kind=command.kind,
        working_dir=str(wrapper.working_dir),
        parameters=redact(resolved.values),
        origins=dict(resolved.origins),
        metrics=metrics,
        sampled=str(sample) if sample else "",
        artifact_patterns=wrapper.patterns,
        artifacts=watch.matching(),
        logs_itself=logs_itself,
        already_done=done.run_id if done else "",
        remarks=[*resolved.remarks, *remarks],
    )


def _metrics_in(
    sample: Path | None, patterns: Sequence[str], automatic: bool
) -> tuple[list[Mapping[str, str | float]], tuple[str, ...]]:
    """The metrics that a log holds.

    Raises:
        InputError: It can't be read.
    """
    if sample is None:
        return [], ()
    lines, series = MetricLines(patterns, automatic=automatic), MetricSeries()
    try:
        with sample.open("rb") as file:
            read = 0
            while read < _SAMPLE_BYTES and (chunk := file.read(_BLOCK)):
                read += len(chunk)
                series.add(lines.feed(chunk), source="stdout")
                series.take()
    except OSError as error:
        raise InputError(
            f"the sample {sample} can't be read ({error.strerror}); give a log of an earlier run"
        ) from error
    series.add(lines.close(), source="stdout")
    rows: list[Mapping[str, str | float]] = [
        {"metric": name, "points": seen.count, "first": seen.first, "last": seen.last, "last_step": seen.last_step}
        for name, seen in series.summary().items()
    ]
    hint = "" if rows else metric_hint(Redactor().text(end_of_log(sample)))
    return rows, (*lines.remarks, *series.remarks, *filter(None, [hint]))
