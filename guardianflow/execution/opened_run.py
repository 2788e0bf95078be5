"""A run of earlier, opened by its id: what was asked, what came of it, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError
from guardianflow.execution.comparison import ComparisonRunner
from guardianflow.execution.comparison_result import ComparisonResult
from guardianflow.runners._result import Result
from guardianflow.runs.run_records import RunRecord, RunRecords
from guardianflow.scenario.factory import KINDS
from guardianflow.state.database import Database
from guardianflow.text.frozen import Frozen
from guardianflow.views.result_page import Table

__all__ = ["OpenedRun", "compare", "open_run"]


@dataclass(frozen=True, repr=False)
class OpenedRun:
    """A run; as the value of a cell, its facts and its result.

    Attributes:
        record: What our database knows of it.
        result: What it handed back, with its figures and pictures; ``None`` where it left none.
    """

    record: RunRecord
    result: Result | None

    @property
    def run_id(self) -> str:
        """Its whole id."""
        return self.record.run_id

    @property
    def kind(self) -> str:
        """``"train"``, ``"infer"`` …"""
        return self.record.kind

    @property
    def experiment(self) -> str:
        """Its experiment."""
        return self.record.experiment

    @property
    def status(self) -> str:
        """``"FINISHED"``, ``"FAILED"``, ``"KILLED"`` or ``"RUNNING"``."""
        return self.record.status

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was asked."""
        return Frozen(self.record.parameters)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures of its result."""
        return Frozen({} if self.result is None else self.result.metrics)

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.record.folder

    @property
    def notebook(self) -> Path | None:
        """The executed notebook, where there is one."""
        return self.record.notebook

    @property
    def page(self) -> Path | None:
        """The same as a page, where there is one."""
        page = self.folder / f"{self.kind}.html"
        return page if page.is_file() else None

    @property
    def artifacts(self) -> list[str]:
        """The files in its folder, as paths within it."""
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())

    def _facts(self) -> dict[str, str]:
        record = self.record
        ended = f" – {record.ended:%Y-%m-%d %H:%M:%S}" if record.ended else ""
        progress = record.progress
        facts = {
            "run": record.run_id,
            "experiment": record.experiment,
            "kind": record.kind,
            "status": f"{record.status}: {record.reason}" if record.reason else record.status,
            "progress": f"{progress.get('done')}/{progress['total']}" if progress.get("total") else "",
            "when": f"{record.started:%Y-%m-%d %H:%M:%S}{ended} UTC by {record.actor}",
            "asked": ", ".join(f"{name}={value}" for name, value in record.parameters.items() if value not in ("", [])),
            "notebook": str(self.notebook or ""),
            "page": str(self.page or ""),
            "folder": str(self.folder),
        }
        return {name: text for name, text in facts.items() if text}

    def __repr__(self) -> str:
        lines = [f"{name:<11} {text}" for name, text in self._facts().items()]
        return "\n".join([*lines, *([str(self.result.verdict)] if self.result else [])])

    def _repr_html_(self) -> str:
        shown = getattr(self.result, "_repr_html_", str)() if self.result else ""
        facts = Table((), list(self._facts().items()))._repr_html_()
        return f"{shown}<details open><summary>The run</summary>{facts}</details>"


def open_run(run_id: str, *, settings: Settings | None = None) -> OpenedRun:
    """A run of earlier.

    Args:
        run_id: Its id, or an unambiguous beginning of it (at least 6 characters).
        settings: Where runs are.

    Raises:
        NotFoundError: No such run, or several.
    """
    known = settings or Settings()
    record = RunRecords(Database.open(known.database_url)).get(run_id)
    return OpenedRun(record, _result(record))


def compare(
    *models: str, metric: str = "map50_95", experiment_name: str = "comparisons", settings: Settings | None = None
) -> ComparisonResult:
    """Say which of two or more models is better on the same images, and whether chance explains it.

    Args:
        models: ``models:/NAME@champion``, ``models:/NAME/3``, run ids or files; each is held against the first.
        metric: ``"map50_95"`` or ``"map50"``.
        experiment_name: Where the comparison is kept.
        settings: Where runs and models are.

    Raises:
        ParameterError: Fewer than two models.
        RefusedError: They were not evaluated alike.
    """
    runner = ComparisonRunner(list(models), experiment_name=experiment_name, metric=metric, settings=settings)
    return runner.run()


def _result(record: RunRecord) -> Result | None:
    try:
        module, _, name = KINDS.get(record.kind).runner.partition(":")
        found: Result = getattr(import_module(module), name).gives.load(record.folder)
    except (GuardianFlowError, TypeError, ValueError, OSError):
        return None  # it was killed or failed, it was imported, or its folder is on another machine
    return found
