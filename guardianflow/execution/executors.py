"""Executing plans: each one a template notebook that runs in a kernel and is kept with its run."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from guardianflow.core.config import Settings
from guardianflow.core.run_records import RunRecord, RunStatus
from guardianflow.core.runner import RESULT_FILE
from guardianflow.core.tracking import TrackedRun
from guardianflow.exceptions import GuardianFlowError
from guardianflow.execution.notebook import execute_notebook, template_path
from guardianflow.execution.outcome import (
    NotebookEvent,
    NotebookFailedError,
    NotebookInterruptedError,
    NotebookResult,
)
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import KINDS, make_runner

__all__ = ["LocalExecutor", "RunOutcome"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOutcome:
    """What became of one plan.

    Attributes:
        run_id: The MLflow run.
        kind: Kind of run.
        experiment: Experiment name.
        status: See :class:`~guardianflow.core.run_records.RunStatus`.
        result: The runner's result as plain JSON types.
        folder: The run's folder.
        notebook: The executed notebook; ``None`` for a run in-process.
        html: The same as a page.
        seconds: Wall-clock time of everything.
    """

    run_id: str
    kind: str
    experiment: str
    status: str
    result: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()
    notebook: Path | None = None
    html: Path | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The outcome as plain JSON types; what ``--json`` prints."""
        return {
            "run_id": self.run_id,
            "kind": self.kind,
            "experiment": self.experiment,
            "status": self.status,
            "metrics": dict(self.result.get("metrics", {})),
            "model_uri": self.result.get("model_uri"),
            "per_class": list(self.result.get("per_class", [])),
            "dataset": dict(self.result.get("dataset", {})),
            "folder": str(self.folder),
            "notebook": str(self.notebook) if self.notebook else None,
            "html": str(self.html) if self.html else None,
            "seconds": round(self.seconds, 3),
        }


class LocalExecutor:
    """Executes plans on this machine.

    Args:
        settings: Where to.
        direct: Call the runner in this process, without a notebook (for debugging).
        on_run: Told the record of the run as soon as it exists.
        on_event: Told what the notebook does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        direct: bool = False,
        on_run: Callable[[RunRecord], None] | None = None,
        on_event: Callable[[NotebookEvent], None] | None = None,
    ) -> None:
        self.settings = settings
        self.direct = direct
        self._on_run = on_run
        self._on_event = on_event

    def execute(self, plan: RunPlan) -> RunOutcome:
        """Check the plan's input, then execute it in a run that ends truthfully.

        Raises:
            InputError: The input can't be used; no run was made.
            NotebookFailedError: The run failed; its status, notebook and page are written.
            NotebookInterruptedError: Ctrl-C or SIGTERM ended it; likewise.
            RunFailedError: A run in-process failed.
        """
        began = time.perf_counter()
        runner = make_runner(plan, settings=self.settings)
        runner.check()
        with self._open(plan) as run:
            if self._on_run:
                self._on_run(run.record)
            notebook = self._run_direct(plan, run) if self.direct else self._run_notebook(plan, run)
        result = _read_result(run.folder)
        return RunOutcome(
            run_id=run.run_id,
            kind=plan.kind,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            result=result,
            folder=run.folder,
            notebook=notebook.notebook if notebook else None,
            html=notebook.html if notebook else None,
            seconds=time.perf_counter() - began,
        )

    def _open(self, plan: RunPlan) -> TrackedRun:
        if plan.resume:
            return TrackedRun.reopen(self.settings, plan.resume)
        return TrackedRun.start(
            self.settings,
            experiment=plan.experiment_name,
            kind=plan.kind,
            parameters=plan.parameters,
            template=None if self.direct else plan.kind,
            again_of=plan.again_of,
        )

    def _run_direct(self, plan: RunPlan, run: TrackedRun) -> None:
        make_runner(plan, settings=self.settings, run_id=run.run_id).run()

    def _run_notebook(self, plan: RunPlan, run: TrackedRun) -> NotebookResult:
        output = run.folder / f"{plan.kind}.ipynb"
        try:
            result = execute_notebook(
                template_path(plan.kind),
                output,
                parameters={**plan.parameters, "run_id": run.run_id},
                schema=KINDS.get(plan.kind).schema,
                cwd=Path.cwd(),
                environment=settings_environment(self.settings),
                on_event=self._on_event,
            )
        except (NotebookFailedError, NotebookInterruptedError) as error:
            _log_notebook(run, error.result)
            run.finish(*_verdict(error))
            raise
        _log_notebook(run, result)
        return result


def settings_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, so that a kernel sees exactly the same ones."""
    found = {}
    for row in settings.describe():
        value = getattr(settings, row["name"])
        if value is not None:
            found[row["env"]] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    found.setdefault("ULTRALYTICS_SAFE_LOAD", os.environ.get("ULTRALYTICS_SAFE_LOAD", "1"))
    return found


def _verdict(error: NotebookFailedError | NotebookInterruptedError) -> tuple[str, str]:
    result = error.result
    if isinstance(error, NotebookInterruptedError):
        return RunStatus.KILLED, str(error)
    if result.error is not None and result.status == "failed":
        return RunStatus.FAILED, f"{result.error.ename}: {result.error.evalue}"
    return RunStatus.FAILED, str(error)


def _log_notebook(run: TrackedRun, result: NotebookResult) -> None:
    for path in (result.notebook, result.html):
        if path is not None and path.exists():
            run.log_artifact(path, "notebook")


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"the run ended without a readable result in {path} ({error})"
        raise GuardianFlowError(msg) from error
    return content
