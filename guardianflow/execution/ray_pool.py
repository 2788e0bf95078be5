"""Plans on a Ray cluster: each a job of its Jobs API, begun again elsewhere where a node dies under it.

The nodes need this package and, as ``GUARDIANFLOW_*``, ``MLFLOW_*`` and ``AWS_*`` variables of their own, the same
stores as here: no setting that may hold a password is sent. A job reserves the CPU threads that a plan asks for, one
where it doesn't say, and the GPUs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTimeError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from guardianflow._imports import require
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RunFailedError, RunInterruptedError
from guardianflow.execution.executors import RunOutcome
from guardianflow.execution.pool import OnRun, Pool
from guardianflow.execution.reaping import reap_runs
from guardianflow.execution.worker import ENTRYPOINT, ORDER, error_from, order_of, outcome_from, said_in
from guardianflow.files.run_folder import folder_name, read_result
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.experiment_design import ExperimentDesign, RunPlan
from guardianflow.scenario.factory import KINDS, plan_resume
from guardianflow.state.database import Database

__all__ = ["RayPool"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_USUAL = "http://127.0.0.1:8265"
_CONNECT_S = 8.0
_ANSWER_S = 20.0
_SILENCE_S = 120.0  # of the cluster's head, until its jobs are given up
_POLL_S = 1.0
_ATTEMPTS = 3
_STOP_S = 60  # what a job has for its end: notebook, page and MLflow take a while
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_BY_SIGNAL = 128  # exit codes from here on are a shell's for signals


@dataclass
class _Job:
    """A plan that was submitted, and what was heard of it.

    Attributes:
        id: Ray's submission id.
        plan: What it was asked for; a plan that is begun again is executed in another form.
        run_id: Its run, as soon as there is one.
        last: The worker's last word.
        heard: How many of its words were dealt with.
        status: Ray's word for its state.
        why: Ray's sentence for how it ended.
        code: Exit code of the worker, where it ended by itself.
        begun: Whether it ever had a node.
    """

    id: str
    plan: RunPlan
    run_id: str = ""
    last: Mapping[str, Any] = field(default_factory=dict)
    heard: int = 0
    status: str = "PENDING"
    why: str = ""
    code: int | None = None
    begun: bool = False

    @property
    def waited(self) -> bool:
        """Whether Ray gave it up because no node had room for a quarter of an hour; that is no fault of it."""
        return not self.begun and "failed to start within" in self.why

    @property
    def died(self) -> bool:
        """Whether something ended it from outside: its node, or a signal."""
        return self.code is None or self.code < 0 or self.code >= _BY_SIGNAL


class RayPool(Pool):
    """Plans on a Ray cluster.

    Args:
        settings: Where to; the nodes have the same stores by settings of their own.
        address: Of the cluster's dashboard; empty: ``RAY_API_SERVER_ADDRESS``, or port 8265 of this machine.
        at_once: How many jobs there are at the same time; Ray gives each a node as one has room.
        on_run: Told each plan's run; once more where a plan is begun again in another run.

    Raises:
        InputError: The cluster doesn't answer within 8 s.
        MissingDependencyError: Ray is not installed.
    """

    def __init__(self, settings: Settings, *, address: str = "", at_once: int = 1, on_run: OnRun | None = None) -> None:
        self._address = _checked(address or os.environ.get(_ADDRESS, "") or _USUAL)
        self._client = _connect(self._address)
        self._largest = self._largest_node()
        super().__init__(settings, at_once=at_once, on_run=on_run)
        self._records = RunRecords(Database.open(settings.database_url))

    def _execute(self, plan: RunPlan) -> RunOutcome:
        first, deaths = plan, 0
        while True:
            job = self._submit(plan, first)
            self._follow(job)
            if "outcome" in job.last:
                return self._within_reach(outcome_from(job.last["outcome"]))
            if "error" in job.last:
                error = error_from(job.last["error"])
                if plan.resume == first.resume or not isinstance(error, InputError) or self._taken(plan):
                    raise error
                log.warning("run %s can't go on elsewhere (%s); its plan is begun anew", plan.resume, error)
                plan = replace(first, resume=None, again_of=plan.resume)
                continue
            deaths += self._count_death(job)
            if deaths == _ATTEMPTS:
                raise RunFailedError(f"{_name(plan)} failed: its worker died {deaths} times, last: {_end_of(job.why)}")
            after = self._after_death(first, job)
            if isinstance(after, RunOutcome):
                return after
            plan = after

    # --- a job ----------------------------------------------------------------------------------

    def _submit(self, plan: RunPlan, first: RunPlan) -> _Job:
        plan, cpus, gpus = self._resources(plan)
        told = {
            ORDER: order_of(plan),
            "GUARDIANFLOW_ACTOR": self.settings.actor,
            "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
        }
        job = self._ask(
            lambda: self._client.submit_job(
                entrypoint=" ".join(("python", *ENTRYPOINT)),
                runtime_env={"env_vars": told},
                entrypoint_num_cpus=cpus,
                entrypoint_num_gpus=gpus,
                metadata={"guardianflow": _name(plan)},
            )
        )
        return _Job(job, first)

    def _follow(self, job: _Job) -> None:
        """Hear what a job says until it has ended."""
        heard_at, told_to_stop = time.monotonic(), 0.0
        while job.status not in _ENDED:
            time.sleep(_POLL_S)
            try:
                if self._cancelled.is_set() and time.monotonic() > told_to_stop:
                    told_to_stop = time.monotonic() + _ANSWER_S
                    self._ask(lambda: self._client.stop_job(job.id))
                self._look(job)
                heard_at = time.monotonic()
            except _UnheardError as error:
                if time.monotonic() - heard_at > _SILENCE_S:
                    raise RunFailedError(
                        f"{_name(job.plan)}: Ray at {self._address} has not answered for {_SILENCE_S:.0f} s ({error}); "
                        f"what became of its job {job.id} isn't known"
                    ) from error
            except BaseException:  # its run is nobody's
                with contextlib.suppress(_UnheardError):
                    self._ask(lambda: self._client.stop_job(job.id))
                raise

    def _look(self, job: _Job) -> None:
        info = self._ask(lambda: self._client.get_job_info(job.id))
        status = str(getattr(info.status, "value", info.status))
        job.why, job.code = str(info.message or ""), info.driver_exit_code
        job.begun = job.begun or bool(info.driver_node_id)
        if job.begun and (not job.run_id or status in _ENDED):
            with contextlib.suppress(_UnheardError):  # the node may be gone, and its log with it
                self._hear(job, self._ask(lambda: self._client.get_job_logs(job.id)))
        job.status = status

    def _hear(self, job: _Job, text: str) -> None:
        words = [said for line in text.splitlines() if (said := said_in(line)) is not None]
        fresh, job.heard = words[job.heard :], len(words)
        for said in fresh:
            if "log" in said:
                log.log(said["log"][0], "%s: %s", _name(job.plan), said["log"][1])
            elif "run" in said:
                job.run_id = said["run"]
                self._require_known(job.run_id)
                self._tell_run(job.plan, job.run_id)
            else:
                job.last = said

    def _require_known(self, run_id: str) -> None:
        try:
            self._records.get(run_id)
        except NotFoundError:
            raise InputError(
                f"the Ray nodes at {self._address} keep their runs in another state database than this machine; give "
                "them the same GUARDIANFLOW_DATABASE_URL and MLFLOW_TRACKING_URI, and start Ray there anew"
            ) from None

    def _end(self, signum: int) -> None:
        """Whoever follows a job sees that it is cancelled, and stops it."""

    # --- where there is room --------------------------------------------------------------------

    def _largest_node(self) -> Mapping[str, float]:
        """The most of each resource that a node has; empty where that isn't known."""
        list_nodes = require("ray.util.state", extra="ray").list_nodes
        try:
            with _without("RAY_ADDRESS", _ADDRESS):  # which would win over the address
                nodes = self._ask(lambda: list_nodes(address=self._address, filters=[("state", "=", "ALIVE")]))
        except _UnheardError as error:
            log.info("the nodes of %s can't be listed: %s", self._address, error)
            return {}
        found = [node.resources_total or {} for node in nodes]
        return {name: max(node.get(name, 0.0) for node in found) for name in ("CPU", "GPU")} if found else {}

    def _resources(self, plan: RunPlan) -> tuple[RunPlan, int, int]:
        """The plan as it runs on a node, the CPUs and the GPUs that it needs there."""
        if ExperimentDesign.of(plan.scenario) is not ExperimentDesign.SINGLE:
            return plan, 0, 0  # what it starts needs them, and it only waits
        env = getattr(plan.scenario, "env", None)
        cpus, device = max(1, getattr(env, "threads", 0)), getattr(env, "device", "")
        if device in {"cpu", "mps"} or env is None:
            gpus = 0
        else:
            gpus = len(re.findall(r"\d+", device)) or int(bool(device) or self._largest.get("GPU", 0) > 0)
        for what, needed in (("CPU", cpus), ("GPU", gpus)):
            if self._largest and needed > self._largest.get(what, 0):
                raise InputError(
                    f"{_name(plan)} needs {needed} {what}s of one node, and no node of {self._address} has more than "
                    f"{self._largest.get(what, 0):g}; ask for fewer {'threads' if what == 'CPU' else 'devices'}"
                )
        if gpus and device:  # those that Ray gives it are numbered from 0
            env = env.model_copy(update={"device": ",".join(map(str, range(gpus)))})
            plan = replace(plan, scenario=plan.scenario.model_copy(update={"env": env}))
        return plan, cpus, gpus

    # --- after a death --------------------------------------------------------------------------

    def _count_death(self, job: _Job) -> int:
        """How many deaths it is that a job ended without a last word: 1, or 0 where it found no room in time.

        Raises:
            RunInterruptedError: It was to end.
            RunFailedError: It ended by itself, and would again.
        """
        name, why = _name(job.plan), _end_of(job.why)
        if job.status == "STOPPED" or self._cancelled.is_set():
            with contextlib.suppress(GuardianFlowError):  # it stays for `guardianflow runs reap`
                reap_runs(self.settings)
            raise RunInterruptedError(f"{name} was stopped", signum=signal.SIGTERM)
        if job.waited:
            log.warning("%s still waits for a node with room", name)
            return 0
        if not job.died:
            raise RunFailedError(f"{name} failed: its worker ended with code {job.code}: {why}")
        log.warning("%s: its worker died (%s); it is begun again elsewhere", name, why)
        return 1

    def _after_death(self, first: RunPlan, job: _Job) -> RunPlan | RunOutcome:
        """What is executed next, when nobody works on the run any more: it goes on, or the plan is begun again."""
        if not job.run_id:
            return first
        record = self._records.get(job.run_id)
        while record.status == RunStatus.RUNNING and record.owner.lives(record.heartbeat, self._records.now()):
            if self._cancelled.wait(_POLL_S):
                raise RunInterruptedError(f"{_name(first)} was cancelled", signum=signal.SIGTERM)
            record = self._records.get(job.run_id)
        if record.status == RunStatus.FINISHED:
            return self._within_reach(_outcome_of(record))
        if KINDS.get(record.kind).resumable:
            return replace(plan_resume(record), trial=first.trial)
        with contextlib.suppress(GuardianFlowError):  # it stays for `guardianflow runs reap`
            reap_runs(self.settings)
        return replace(first, again_of=job.run_id)

    def _taken(self, plan: RunPlan) -> bool:
        """Whether somebody else goes on with the run that a plan was to go on with."""
        record = self._records.get(plan.resume or "")
        lives = record.owner.lives(record.heartbeat, self._records.now())
        return record.status == RunStatus.FINISHED or (record.status == RunStatus.RUNNING and lives)

    def _within_reach(self, outcome: RunOutcome) -> RunOutcome:
        """The outcome with notebook and page on this machine: where they lie, or fetched from MLflow."""
        if outcome.notebook is None or outcome.notebook.is_file():
            return outcome
        folder = self.settings.runs_dir / folder_name(outcome.experiment) / outcome.run_id
        found: dict[str, Path | None] = {}
        try:
            with MlflowRegistry(self.settings).artifact(outcome.run_id, "notebook") as kept:
                shutil.copytree(kept, folder, dirs_exist_ok=True)
        except (GuardianFlowError, OSError) as error:
            log.warning("the notebook of run %s can't be fetched from MLflow: %s", outcome.run_id, error)
        for name, path in (("notebook", outcome.notebook), ("html", outcome.html)):
            here = folder / path.name if path else None
            found[name] = here if here and here.is_file() else None
        return replace(outcome, folder=folder, **found)

    # --- the cluster ----------------------------------------------------------------------------

    def _ask(self, call: Callable[[], T]) -> T:
        return _in_time(call, _ANSWER_S)


class _UnheardError(Exception):
    """The cluster gave no answer, or an error for one."""


def _in_time(call: Callable[[], T], seconds: float) -> T:
    """The answer of a call that knows no time limit of its own; it goes on in a thread that nobody waits for."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, name="guardianflow-ray", daemon=True).start()
    try:
        return answer.result(seconds)
    except OutOfTimeError:
        raise _UnheardError(f"no answer within {seconds:.0f} s") from None
    except Exception as error:
        raise _UnheardError(mask_secrets(_end_of(str(error)) or type(error).__name__)) from error


def _checked(address: str) -> str:
    given = address if "://" in address else f"http://{address}"
    with contextlib.suppress(ValueError):
        parts = urlsplit(given)
        if parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0):
            return given.rstrip("/")
    raise InputError(
        f"{mask_secrets(address)!r} is no address of a Ray dashboard; write it as http://HEAD:8265 (ray:// isn't used)"
    )


def _connect(address: str) -> Any:
    client = require("ray.job_submission", extra="ray").JobSubmissionClient
    try:
        with _without("RAY_ADDRESS", _ADDRESS):
            return _in_time(lambda: client(address), _CONNECT_S)
    except _UnheardError as error:
        raise InputError(
            f"no Ray cluster answers at {mask_secrets(address)} ({error}); give the address of its dashboard, such as "
            "http://HEAD:8265, and look there with `ray status`"
        ) from error


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    before = {name: value for name in names if (value := os.environ.pop(name, None)) is not None}
    try:
        yield
    finally:
        os.environ.update(before)


def _outcome_of(record: RunRecord) -> RunOutcome:
    """The outcome of a run that finished, and whose worker could not say so any more."""
    result = read_result(record.folder)
    notebook, html = record.notebook, record.folder / f"{record.kind}.html"
    return RunOutcome(
        run_id=record.run_id,
        kind=record.kind,
        experiment=record.experiment,
        status=record.status,
        result=result,
        folder=record.folder,
        notebook=notebook,
        html=html if html.is_file() else None,
        seconds=((record.ended or record.heartbeat) - record.started).total_seconds(),
    )


def _name(plan: RunPlan) -> str:
    trial = f" trial {plan.trial.number}" if plan.trial else ""
    return f"{plan.kind} {plan.experiment_name}{trial}"


def _end_of(text: str) -> str:
    """The last line of what a program said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
