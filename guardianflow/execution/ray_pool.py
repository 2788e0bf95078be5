"""Plans on a Ray cluster: each a job of its Jobs API, begun again elsewhere where a node dies under it.

The nodes need this package and, as ``GUARDIANFLOW_*``, ``MLFLOW_*`` and ``AWS_*`` variables of their own, the same
stores as here: no setting that may hold a password is sent. A job reserves the CPU threads and the GPUs that its plan
asks for; a training that doesn't say takes its share of the cluster, and what measures speeds as many CPUs as the
smallest node has.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RunFailedError, RunInterruptedError
from guardianflow.execution.executors import RunOutcome
from guardianflow.execution.pool import OnRun, Pool, was_cancelled
from guardianflow.execution.ray_jobs import RayJobs, UnheardError, last_line
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

_PATIENCE_S = 20.0
_SILENCE_S = 120.0  # of the cluster's head, until its jobs are given up
_POLL_S = 1.0
_ATTEMPTS = 3
_STOP_S = 60  # what a job has for its end: notebook, page and MLflow take a while
_ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_TERM = int(signal.SIGTERM)
_BY_SIGNAL = 128  # exit codes from here on are a shell's for signals


@dataclass
class _Job:
    """A plan as a job of Ray's, and what was heard of it.

    Attributes:
        id: Its submission id.
        plan: What it was asked for.
        form: The same as it is executed: begun again, gone on with, on the node's own devices.
        cpus: CPUs that it needs on a node.
        gpus: GPUs that it needs there.
        sent: Whether it was submitted.
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
    form: RunPlan
    cpus: int
    gpus: int
    sent: bool = False
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
        self._jobs = RayJobs(address)
        self._nodes = self._jobs.nodes()
        super().__init__(settings, at_once=at_once, on_run=on_run)
        self._records = RunRecords(Database.open(settings.database_url))

    def _execute(self, plan: RunPlan) -> RunOutcome:
        first, deaths = plan, 0
        while True:
            job = self._follow(_Job(f"guardianflow-{uuid4().hex}", first, *self._on_a_node(plan)))
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
                raise RunFailedError(
                    f"{_name(plan)} failed: its worker died {deaths} times, last: {last_line(job.why)}"
                )
            after = self._after_death(first, job)
            if isinstance(after, RunOutcome):
                return after
            plan = after

    # --- a job ----------------------------------------------------------------------------------

    def _follow(self, job: _Job) -> _Job:
        """Submit a job, and hear what it says until it has ended."""
        heard_at, stop_by, stopped = time.monotonic(), float("inf"), False
        while job.status not in _ENDED:
            if self._cancelled.is_set() and not job.sent:
                raise was_cancelled()
            try:
                if not job.sent:
                    self._send(job)
                if self._cancelled.is_set() and not stopped:
                    # One that has no node yet is stopped as soon as it has one: that isn't waited for.
                    stop_by = min(stop_by, time.monotonic() + _PATIENCE_S + _STOP_S * job.begun)
                    self._jobs.stop(job.id)
                    stopped = True
                self._look(job)
                heard_at = time.monotonic()
            except UnheardError as error:
                if time.monotonic() - heard_at > _SILENCE_S:
                    raise RunFailedError(
                        f"{_name(job.plan)}: Ray at {self._jobs.address} has not answered for {_SILENCE_S:.0f} s "
                        f"({error}); what became of its job {job.id} isn't known"
                    ) from error
            except BaseException:  # its run is nobody's
                with contextlib.suppress(UnheardError):
                    self._jobs.stop(job.id)
                raise
            if time.monotonic() > stop_by:
                raise RunInterruptedError(f"Ray was told to stop its job {job.id}, and has not yet", signum=_TERM)
            time.sleep(_POLL_S)
        return job

    def _send(self, job: _Job) -> None:
        told = {
            ORDER: order_of(job.form),
            "GUARDIANFLOW_ACTOR": self.settings.actor,
            "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
        }
        self._jobs.submit(
            job.id,
            entrypoint=" ".join(("python", *ENTRYPOINT)),
            runtime_env={"env_vars": told},
            entrypoint_num_cpus=job.cpus,
            entrypoint_num_gpus=job.gpus,
            metadata={"guardianflow": _name(job.plan)},
        )
        job.sent = True

    def _look(self, job: _Job) -> None:
        info = self._jobs.info(job.id)
        status = str(getattr(info.status, "value", info.status))
        job.why, job.code = str(info.message or ""), info.driver_exit_code
        job.begun = job.begun or bool(info.driver_node_id)
        if job.begun and (not job.run_id or status in _ENDED):
            with contextlib.suppress(UnheardError):  # the node may be gone, and its log with it
                self._hear(job, self._jobs.logs(job.id))
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
                f"the Ray nodes at {self._jobs.address} keep their runs in another state database than this machine; "
                "give them the same GUARDIANFLOW_DATABASE_URL and MLFLOW_TRACKING_URI, and start Ray there anew"
            ) from None

    def _end(self, signum: int) -> None:
        """Whoever follows a job sees that it is cancelled, and stops it."""

    # --- where there is room --------------------------------------------------------------------

    def _on_a_node(self, plan: RunPlan) -> tuple[RunPlan, int, int]:
        """The form in which a plan runs on a node, the CPUs and the GPUs that it needs there."""
        if ExperimentDesign.of(plan.scenario) is not ExperimentDesign.SINGLE:
            return plan, 0, 0  # what it starts needs them, and it only waits
        smallest = int(self._least("CPU"))
        plan = self._with_threads(plan, max(1, min(smallest, int(self._sum("CPU")) // self.slots)))
        env: Any = getattr(plan.scenario, "env", None)
        device = getattr(env, "device", "" if env else "cpu")
        cpus = max(1, getattr(env, "threads", 0), smallest if KINDS.get(plan.kind).measures else 1)
        gpus = 0
        if device not in {"cpu", "mps"}:  # one, or as many as are named
            gpus = device.count(",") + 1 if device else int(self._sum("GPU") > 0)
        for what, needed in (("CPU", cpus), ("GPU", gpus)):
            most = max((node.get(what, 0.0) for node in self._nodes), default=needed)
            if needed > most:
                raise InputError(
                    f"{_name(plan)} needs {needed} {what}s of one node, and no node of {self._jobs.address} has more "
                    f"than {most:g}; ask for fewer in env.{'threads' if what == 'CPU' else 'device'}"
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
        name, why = _name(job.plan), last_line(job.why)
        if job.status == "STOPPED" or self._cancelled.is_set():
            with contextlib.suppress(GuardianFlowError):  # it stays for `guardianflow runs reap`
                reap_runs(self.settings)
            raise RunInterruptedError(f"{name} was stopped", signum=_TERM)
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
                raise RunInterruptedError(f"{_name(first)} was cancelled", signum=_TERM)
            record = self._records.get(job.run_id)
        if record.status == RunStatus.FINISHED:
            return self._within_reach(_outcome_of(record))
        reap_runs(self.settings)
        if KINDS.get(record.kind).resumable:
            return replace(plan_resume(record), trial=first.trial)
        return replace(first, again_of=job.run_id)

    def _taken(self, plan: RunPlan) -> bool:
        """Whether somebody else goes on with the run that a plan was to go on with."""
        return self._records.get(plan.resume or "").status in {RunStatus.RUNNING, RunStatus.FINISHED}

    def _within_reach(self, outcome: RunOutcome) -> RunOutcome:
        """The outcome with notebook and page on this machine: where they lie, or fetched from MLflow."""
        if outcome.notebook is None or outcome.notebook.is_file():
            return outcome
        folder = self.settings.runs_dir / folder_name(outcome.experiment) / outcome.run_id
        try:
            with MlflowRegistry(self.settings).artifact(outcome.run_id, "notebook") as kept:
                shutil.copytree(kept, folder, dirs_exist_ok=True)
        except (GuardianFlowError, OSError) as error:
            log.warning("the notebook of run %s can't be fetched from MLflow: %s", outcome.run_id, error)
        here = [folder / path.name if path else None for path in (outcome.notebook, outcome.html)]
        notebook, html = (path if path and path.is_file() else None for path in here)
        return replace(outcome, folder=folder, notebook=notebook, html=html)

    def _least(self, what: str) -> float:
        return min((node.get(what, 0.0) for node in self._nodes if node.get(what)), default=1.0)

    def _sum(self, what: str) -> float:
        return sum(node.get(what, 0.0) for node in self._nodes)


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
