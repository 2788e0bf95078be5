"""What an import of finished runs did."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from guardianflow.text.printable import escape, plain_values, printable
from guardianflow.views.result_page import format_metric

__all__ = ["FailedImport", "ImportReport", "ImportedRun"]

_LEFT = 'style="text-align:left"'
_SHOWN = 100
_HEADLINE = ("map50_95", "map50", "val_loss", "loss")


@dataclass(frozen=True)
class ImportedRun:
    """A run that is in MLflow now.

    Attributes:
        path: The folder (or database) that it came from.
        kind: ``"ultralytics"``, ``"yolov5"``, ``"lightning"``, ``"tensorboard"`` or ``"mlflow"``.
        run_id: The MLflow run; empty for one that lies in GuardianFlow's own work folder, which is left alone.
        name: Its name in MLflow.
        experiment: Its experiment in MLflow.
        status: How it ended.
        epochs: How many epochs it has.
        metrics: Last value of each metric.
        artifact: The best weights' path among its artifacts; empty where there are none.
        updated: Whether it was there before, with less in it.
        remarks: What could not be known or kept, and why.
    """

    path: Path
    kind: str
    run_id: str
    name: str
    experiment: str = ""
    status: str = ""
    epochs: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifact: str = ""
    updated: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def register_command(self) -> str:
        """What registers its weights; empty where it has none."""
        if not self.run_id or not self.artifact:
            return ""
        further = "" if self.artifact == "weights/best.pt" else f" --artifact {shlex.quote(self.artifact)}"
        return f"guardianflow register NAME --run {self.run_id}{further}"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types; a figure that is no number is text."""
        return {**plain_values(vars(self)), "path": printable(self.path, longest=4096)}


class FailedImport(NamedTuple):
    """A run that could not be brought in."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        imported: Runs that are new in MLflow, or have grown.
        already: Runs that were there before and have not changed.
        failed: Those that could not be brought in, with the reason.
    """

    imported: tuple[ImportedRun, ...] = ()
    already: tuple[ImportedRun, ...] = ()
    failed: tuple[FailedImport, ...] = ()

    def summary(self) -> str:
        """The report in one sentence."""
        updated = sum(run.updated for run in self.imported)
        parts = [f"{len(self.imported) - updated} imported"]
        parts += [f"{updated} brought up to date"] if updated else []
        parts += [f"{len(self.already)} there already", f"{len(self.failed)} failed"]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "summary": self.summary(),
            "imported": [run.to_dict() for run in self.imported],
            "already": [run.to_dict() for run in self.already],
            "failed": [{"path": printable(path, longest=4096), "reason": reason} for path, reason in self.failed],
        }

    def _repr_html_(self) -> str:
        rows = [*((run, "up to date now" if run.updated else "new") for run in self.imported)]
        rows += [(run, "there already") for run in self.already]
        body = "".join(_row(run, sign) for run, sign in rows[:_SHOWN])
        head = "".join(
            f"<th {_LEFT}>{title}</th>" for title in ("Kind", "Run", "Experiment", "Epochs", "Last", "", "Run id")
        )
        table = f"<table><tr>{head}</tr>{body}</table>" if body else ""
        more = f"<p>and {len(rows) - _SHOWN} more</p>" if len(rows) > _SHOWN else ""
        failed = "".join(
            f"<li><code>{escape(printable(path))}</code>: {escape(reason)}</li>"
            for path, reason in self.failed[:_SHOWN]
        )
        return (
            f"<h4>Finished runs</h4><p>{escape(self.summary())}</p>{table}{more}"
            + (f"<p>Not imported:</p><ul>{failed}</ul>" if failed else "")
        )  # fmt: skip


def _row(run: ImportedRun, sign: str) -> str:
    name = next((name for name in _HEADLINE if name in run.metrics), next(iter(sorted(run.metrics)), ""))
    figure = f"{name} {format_metric(name, run.metrics[name])}" if name else "–"
    remarks = escape(" · ".join(run.remarks), quote=True)
    cells = (run.kind, run.name, run.experiment, str(run.epochs), figure, sign, run.run_id[:12])
    return (
        f'<tr title="{remarks}">' + "".join(f"<td {_LEFT}>{escape(printable(cell))}</td>" for cell in cells) + "</tr>"
    )
