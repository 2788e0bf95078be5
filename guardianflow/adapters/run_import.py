"""Finished runs of a scanned folder, brought into MLflow and the metrics store, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardianflow.adapters.findings import ScanReport
    from guardianflow.core.config import Settings
    from guardianflow.core.metrics import MetricSink

__all__ = ["FailedImport", "ImportReport", "ImportedRun", "import_runs"]


@dataclass(frozen=True)
class ImportedRun:
    """A run that is in MLflow now.

    Attributes:
        path: The folder (or database) that it came from.
        kind: ``"ultralytics"``, ``"lightning"``, ``"tensorboard"`` or ``"mlflow"``.
        run_id: The MLflow run; empty for a run that GuardianFlow itself keeps in its work folder.
        name: Its name in MLflow.
        experiment: Its experiment in MLflow.
        status: How it ended.
        epochs: How many epochs it has.
        metrics: Last value of each metric.
        artifact: The best weights' path among its artifacts; empty where there are none.
        updated: Whether it was there before, with fewer epochs.
        remarks: What could not be read, and why.
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


@dataclass(frozen=True)
class FailedImport:
    """A run that could not be brought in; iterating gives ``(path, reason)``."""

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

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        raise NotImplementedError


def import_runs(
    report: ScanReport,
    *,
    settings: Settings,
    sink: MetricSink,
    experiment: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Bring the finished runs that a scan found into MLflow and the metrics store; repeating it doubles nothing."""
    raise NotImplementedError
