"""Executing plans: each one a template notebook that runs in a kernel and is kept with its run."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricSink
from guardianflow.exceptions import GuardianFlowError, InputError, RefusedError, RunFailedError, RunInterruptedError
from guardianflow.execution.engine.notebook import execute_notebook, template_path
from guardianflow.execution.engine.outcome import (
    NotebookEvent,
    NotebookFailedError,
    NotebookInterruptedError,
    NotebookResult,
)
from guardianflow.execution.engine.parameters import check_parameters
from guardianflow.processes.interrupts import signals_raise
from guardianflow.processes.supervision.environment import outer_environment
from guardianflow.runners._base import RESULT_FILE, Runner, keep_scenario
from guardianflow.runs.run_records import RunRecord, RunStatus
from guardianflow.runs.tracking import TrackedRun, outcome_of
from guardianflow.runs.tracking_store import look_at_store
from guardianflow.scenario.experiment_design import RunPlan, Trial
from guardianflow.scenario.factory import KINDS
from guardianflow.text.command_lines import command, search_path
from guardianflow.text.redaction import secret_places

__all__ = ["LocalExecutor", "RunOutcome", "kernel_environment", "make_runner"]

log = logging.getLogger(__name__)

_SPINS = "1000"  # measured: two threads of torch on two busy cores, 9.6–15 s a step with libgomp's default, 2 s so


@dataclass(frozen=True)
class RunOutcome:
    """What became of one plan.

    Attributes:
        run_id: The MLflow run.
        kind: Kind of run.
        experiment: Experiment name.
        status: See :class:`~guardianflow.runs.run_records.RunStatus`.
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
            "verdict": self.result.get("verdict"),
            "per_class": list(self.result.get("per_class", [])),
            "dataset": dict(self.result.get("dataset", {})),
            "remarks": list(self.result.get("remarks", ())),
            **{name: _shown(self.result[name]) for name in self.result.get("answers", ())},
            "folder": str(self.folder),
            "notebook": str(self.notebook) if self.notebook else None,
            "html": str(self.html) if self.html else None,
            "seconds": round(self.seconds, 3),
        }


def _shown(answer: Any) -> Any:
    """An answer without the single latencies of its rows, which lie in the run's files."""
    if not isinstance(answer, list):
        return answer
    return [
        {key: value for key, value in row.items() if key != "latencies_ms"} if isinstance(row, dict) else row
        for row in answer
    ]


class LocalExecutor:
    """Executes plans on this machine.

    Args:
        settings: Where to.
        direct: Call the runner in this process, without a notebook (for debugging).
        timeout_s: Limit in seconds for a notebook, kernel start included.
        on_run: Told the record of the run as soon as it exists.
        on_event: Told what the notebook does.
        on_remarks: Told what the check has to say of the input, before anything starts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        direct: bool = False,
        timeout_s: float | None = None,
        on_run: Callable[[RunRecord], None] | None = None,
        on_event: Callable[[NotebookEvent], None] | None = None,
        on_remarks: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        self.settings = settings
        self.direct = direct
        self._timeout_s = timeout_s
        self._on_run = on_run
        self._on_event = on_event
        self._on_remarks = on_remarks

    def execute(self, plan: RunPlan) -> RunOutcome:
        """Check the plan's input, then execute it in a run that ends truthfully.

        A signal that comes when the run's end is being written takes effect after that: the run is
        finished then, and the caller is interrupted.

        Raises:
            InputError: The input can't be used; no run was made.
            TrackingUnavailableError: MLflow doesn't answer; no run was made.
            NotebookFailedError: The run failed; its status, notebook and page are written.
            NotebookInterruptedError: Ctrl-C, SIGTERM or SIGHUP ended it; likewise.
            RunFailedError: It failed outside of the notebook, or without one.
            RunInterruptedError: A signal ended it there.
            RefusedError: The run finished: what it was to change in the registry was refused.
        """
        began = time.perf_counter()
        with signals_raise():
            template = self._check(plan)
            runner = make_runner(plan, settings=self.settings)
            runner.check()
            if self._on_remarks:
                self._on_remarks(runner.remarks)
            notebook: NotebookResult | None = None
            with self._open(plan) as run:
                try:
                    keep_scenario(run, plan.scenario)
                    if plan.trial:
                        _trial_runs().enter_trial(self.settings, plan.trial, run)
                    runner.hand_over(run.folder)
                    if self._on_run:
                        self._on_run(run.record)
                        runner.shows_progress = False  # who follows the record does
                    if template is None:
                        runner.work(run)
                    else:
                        notebook = self._run_notebook(plan, run, template)
                    result = _read_result(run.folder)
                    if plan.trial:
                        _trial_runs().keep_outcome(self.settings, plan.trial, result)
                except RunFailedError:
                    raise
                except KeyboardInterrupt as error:
                    raise RunInterruptedError("interrupted by Ctrl-C", signum=2) from error
                except Exception as error:
                    run.finish(*outcome_of(error))
                    # Whatever it was, a run exists now: this is no longer bad input, but a failed run.
                    raise _failed(run, error) from error
        if result.get("refused"):
            raise RefusedError(f"{result['refused']} Run {run.run_id} has its page in {run.folder}.")
        _say_what_is_missing(plan, run, result)
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

    def _check(self, plan: RunPlan) -> Path | None:
        """What can be checked without the runner; the template to execute, ``None`` for a direct run."""
        look_at_store(self.settings)  # before the data is read, which may take minutes
        places = secret_places(plan.parameters)
        if places:
            raise InputError(
                f"parameter {places[0]!r} holds a secret, and parameters are kept in notebooks and MLflow; "
                "hand it over in an environment variable"
            )
        kind = KINDS.get(plan.kind)
        if self.direct:
            return None
        template = kind.template or template_path(plan.kind, self.settings.templates)
        check_parameters(template, {**plan.parameters, "run_id": "checked"})
        return template

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
            tags=_trial_tags(plan.trial) if plan.trial else None,
        )

    def _run_notebook(self, plan: RunPlan, run: TrackedRun, template: Path) -> NotebookResult:
        environment = kernel_environment(self.settings)
        if plan.kind == "train":  # on a machine that does something else, too, threads that spin cost a tenfold
            environment["GOMP_SPINCOUNT"] = os.environ.get("GOMP_SPINCOUNT", _SPINS)
        try:
            result = execute_notebook(
                template,
                run.folder / f"{plan.kind}.ipynb",
                parameters={**plan.parameters, "run_id": run.run_id},
                timeout_s=self._timeout_s,
                cwd=Path.cwd(),
                environment=environment,
                on_event=self._on_event,
            )
        except (NotebookFailedError, NotebookInterruptedError) as error:
            _log_notebook(run, error.result)
            run.finish(*_verdict(error))
            raise
        _log_notebook(run, result)
        return result


def make_runner(
    plan: RunPlan, *, settings: Settings, run_id: str = "", sink: MetricSink | None = None
) -> Runner[Any, Any]:
    """The runner of a plan."""
    kind = KINDS.get(plan.kind)
    module, _, name = kind.runner.partition(":")
    runner: Any = getattr(import_module(module), name)
    made: Runner[Any, Any] = runner.of(plan.scenario, run_id=run_id, settings=settings, sink=sink)
    return made


def kernel_environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, so that a kernel sees exactly the same ones.

    Secrets go this way only: never as parameters, which are written into the notebook.
    """
    found = {**outer_environment(), **settings.as_environment(), "PATH": search_path()}
    found["ULTRALYTICS_SAFE_LOAD"] = os.environ.get("ULTRALYTICS_SAFE_LOAD", "1")
    if importlib.util.find_spec("ipywidgets") is None:
        # tqdm would complain in every notebook that it draws its bar as text.
        ignored = "ignore:IProgress not found"
        found["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), ignored]))
    return found


def _trial_runs() -> ModuleType:
    from guardianflow.execution import trial_runs  # brings Optuna

    return trial_runs


def _trial_tags(trial: Trial) -> dict[str, str]:
    below = {"mlflow.parentRunId": trial.parent} if trial.parent else {}
    return {**below, "guardianflow.study": trial.study, "guardianflow.trial": str(trial.number)}


def _failed(run: TrackedRun, error: Exception) -> RunFailedError:
    why = str(error) if isinstance(error, GuardianFlowError) else f"{type(error).__name__}: {error}"
    return RunFailedError(f"run {run.run_id} failed: {why}")


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


def _say_what_is_missing(plan: RunPlan, run: TrackedRun, result: Mapping[str, Any]) -> None:
    name = plan.parameters.get("register_as")
    said = any(f"{name!r} was not registered" in remark for remark in result.get("remarks", ()))
    if name and not said and not str(result.get("model_uri") or "").startswith("models:/"):
        # The kernel's own words about it stand in the notebook; whoever waits here must hear it, too.
        log.warning("%r was not registered; later: %s", name, command("register", str(name), "--run", run.run_id))


def _read_result(folder: Path) -> dict[str, Any]:
    path = folder / RESULT_FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFailedError(f"the run ended without a readable result in {path} ({error})") from error
    return content
