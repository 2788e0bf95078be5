"""What an import of finished runs did."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.finished_runs.folders import UnreadableRun
from guardianflow.text.printable import escape, plain_values, printable
from guardianflow.views.result_page import Rows, format_metric, remarks_html, table_html

__all__ = ["ImportReport", "ImportedRun"]

_SHOWN = 100
_HEADLINE = ("map50_95", "map50", "val_loss", "loss")
_COLUMNS = ("kind", "run", "experiment", "epochs", "last", "run id")


@dataclass(frozen=True)
class ImportedRun:
    """A run that is in MLflow now.

    Attributes:
        path: The folder (or database) that it came from.
        kind: What it was found as, such as ``"ultralytics"``.
        run_id: The MLflow run.
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
        if not self.artifact:
            return ""
        further = "" if self.artifact == "weights/best.pt" else f" --artifact {shlex.quote(self.artifact)}"
        return f"guardianflow register NAME --run {self.run_id}{further}"

    def shown(self) -> dict[str, str]:
        """A row of a table."""
        name = next((name for name in (*_HEADLINE, *sorted(self.metrics)) if name in self.metrics), "")
        last = f"{name} {format_metric(name, self.metrics[name])}" if name else ""
        facts = (self.kind, self.name, self.experiment, self.epochs, last, self.run_id[:12])
        return dict(zip(_COLUMNS, map(printable, facts), strict=True))


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
    failed: tuple[UnreadableRun, ...] = ()

    def summary(self) -> str:
        """The report in one sentence."""
        updated = sum(run.updated for run in self.imported)
        parts = [f"{len(self.imported) - updated} imported"]
        parts += [f"{updated} brought up to date"] if updated else []
        parts += [f"{len(self.already)} there already", f"{len(self.failed)} failed"]
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types; a figure that is no number is text."""
        rows: dict[str, Any] = plain_values(
            {"imported": [*map(vars, self.imported)], "already": [*map(vars, self.already)]}
        )
        failed = [{"path": printable(path, longest=4096), "reason": reason} for path, reason in self.failed]
        return {"summary": self.summary(), **rows, "failed": failed}

    def _repr_html_(self) -> str:
        parts = [f"<h4>Finished runs</h4><p>{escape(self.summary())}</p>"]
        for title, runs in (("Imported", self.imported), ("There already", self.already)):
            if runs:
                more = f", the first {_SHOWN} of {len(runs)}" if len(runs) > _SHOWN else ""
                parts.append(f"<p>{title}{more}:</p>{Rows(runs[:_SHOWN])._repr_html_()}")
        parts.append(remarks_html([f"{run.name}: {text}" for run in self.imported[:_SHOWN] for text in run.remarks]))
        if self.failed:
            failed = [(printable(path), reason) for path, reason in self.failed[:_SHOWN]]
            parts.append(f"<p>Not imported:</p>{table_html(failed)}")
        return "".join(parts)
