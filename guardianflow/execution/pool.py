"""Several plans at the same time: on this machine, each in a process of its own, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from guardianflow._plugins import Registry
from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, RunFailedError, RunInterruptedError
from guardianflow.execution.executors import RunOutcome, kernel_environment
from guardianflow.execution.reaping import reap_runs
from guardianflow.execution.worker import ENTRYPOINT, GO, error_from, order_of, outcome_from, said_in
from guardianflow.machine.system import get_gpu_metrics, usable_cores
from guardianflow.processes.control_group import ControlGroup
from guardianflow.processes.interrupts import send_to_group, signals_wait
from guardianflow.processes.keeper import kept
from guardianflow.processes.process_watch import ProcessWatch, memory_limit
from guardianflow.runs.tracking_store import open_store
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import KINDS
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.state.database import Database
from guardianflow.text.remarks import remark

__all__ = ["EXECUTORS", "LocalPool", "OnRun", "Pool", "make_pool", "was_cancelled"]

log = logging.getLogger(__name__)

OnRun = Callable[[RunPlan, str], None]

_WATCH_S = 1.0
_PATIENCE_S = 60.0  # of a worker that was told to end: its notebook, page and MLflow take a while


class Pool(ABC):
    """Executes plans, so many at the same time; a context manager.

    Leaving it waits for all of them; leaving it with an exception, Ctrl-C among them, cancels what runs.

    Args:
        settings: Where to.
        at_once: How many plans run at the same time.
        on_run: Told each plan's run as soon as there is one, in a thread of the pool.

    Attributes:
        slots: How many plans run at the same time.
    """

    def __init__(self, settings: Settings, *, at_once: int = 1, on_run: OnRun | None = None) -> None:
        if at_once < 1:
            raise InputError(f"at least one plan must run at a time, not {at_once}; leave --at-once out for one")
        open_store(settings)  # not each worker for itself, all at once
        Database.open(settings.database_url).make()
        self.settings = settings
        self.slots = at_once
        self._on_run = on_run
        self._said: set[str] = set()
        self._cancelled = threading.Event()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="guardianflow-plan")

    def submit(self, plan: RunPlan) -> Future[RunOutcome]:
        """Execute a plan as soon as a slot is free.

        Returns:
            Its outcome, or what :meth:`~guardianflow.execution.executors.LocalExecutor.execute` raises; a failed
            notebook is a :class:`~guardianflow.exceptions.RunFailedError`, a plan that was cancelled a
            :class:`~guardianflow.exceptions.RunInterruptedError`.
        """
        return self._threads.submit(self._begin, plan)

    def cancel(self, signum: int = signal.SIGTERM) -> None:
        """End what runs (their runs are KILLED) and what waits, and see it gone; a signal meanwhile hastens it."""
        self._cancelled.set()
        self._end(signum)
        with signals_wait(lambda: self._end(signal.SIGTERM), and_then_raise=False):
            self._threads.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None:
                self._threads.shutdown(wait=True)
            else:
                self.cancel(_signal_of(error))
        except BaseException as late:
            self.cancel(_signal_of(late))
            raise
        finally:
            self._close()

    def _begin(self, plan: RunPlan) -> RunOutcome:
        if self._cancelled.is_set():
            raise was_cancelled()
        return self._execute(plan)

    def _tell_run(self, plan: RunPlan, run_id: str) -> None:
        if self._on_run is not None:
            self._on_run(plan, run_id)

    def _with_threads(self, plan: RunPlan, share: int) -> RunPlan:
        """A training that takes its share of the cores, where it doesn't say how many it takes."""
        scenario = plan.scenario
        if not isinstance(scenario, TrainingScenario) or scenario.env.threads:
            return plan
        self._say_once(
            f"a training takes {share} CPU thread(s), its share with {self.slots} plan(s) at a time, where env.threads "
            "doesn't say how many"
        )
        env = scenario.env.model_copy(update={"threads": share})
        return replace(plan, scenario=scenario.model_copy(update={"env": env}))

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            remark(sentence)

    @abstractmethod
    def _execute(self, plan: RunPlan) -> RunOutcome:
        """Execute one plan, in a thread of the pool."""

    @abstractmethod
    def _end(self, signum: int) -> None:
        """Begin to end all that run; called in any thread, or in a signal handler."""

    def _close(self) -> None:  # noqa: B027 - not every pool has something to do then
        """Nothing runs any more."""


EXECUTORS: Registry[Callable[..., Pool]] = Registry(
    "executor",
    {"local": "guardianflow.execution.pool:LocalPool", "ray": "guardianflow.execution.ray_pool:RayPool"},
)


def make_pool(
    settings: Settings, *, executor: str = "local", at_once: int = 1, address: str = "", on_run: OnRun | None = None
) -> Pool:
    """The pool of an executor.

    Args:
        settings: Where to.
        executor: ``local`` or ``ray``.
        at_once: How many plans run at the same time.
        address: Of the Ray cluster's dashboard, such as ``http://head:8265``.
        on_run: Told each plan's run as soon as there is one.

    Raises:
        NotFoundError: There is no such executor.
        InputError: The cluster doesn't answer.
        MissingDependencyError: Ray is not installed.
        TrackingUnavailableError: A store doesn't answer.
    """
    return EXECUTORS.get(executor)(settings, address=address, at_once=at_once, on_run=on_run)


def _signal_of(error: BaseException) -> int:
    """What ends the runs when this ended us: Ctrl-C for Ctrl-C."""
    by_hand = isinstance(error, KeyboardInterrupt) or getattr(error, "signum", 0) == signal.SIGINT
    return signal.SIGINT if by_hand else signal.SIGTERM


def was_cancelled() -> RunInterruptedError:
    """What a plan's future raises that didn't get its turn."""
    return RunInterruptedError("it was not begun: the others were cancelled before its turn", signum=signal.SIGTERM)


# --- this machine ---------------------------------------------------------------------------------


@dataclass
class _Worker:
    """A plan that has its slot, and the process that executes it as soon as there is one."""

    plan: RunPlan
    device: str = ""
    process: subprocess.Popen[str] | None = None
    watch: ProcessWatch | None = None
    run_id: str = ""
    kill_at: float = float("inf")

    def held_mb(self) -> float:
        return self.watch.read() if self.watch else 0.0

    def end(self, signum: int) -> None:
        process = self.process
        if process is not None and process.poll() is None:
            self.kill_at = min(self.kill_at, time.monotonic() + _PATIENCE_S)
            send_to_group(process.pid, signum)


class LocalPool(Pool):
    """Plans on this machine, each in a process of its own.

    Trainings that don't say how many CPU threads they take share the cores; those that name no device share the GPUs.
    A plan waits while there isn't as much memory left as the largest one so far took. What measures speeds
    (a benchmark, a quantization) runs alone.
    """

    def __init__(self, settings: Settings, *, address: str = "", at_once: int = 1, on_run: OnRun | None = None) -> None:
        if address:
            raise InputError(
                f"{address!r} is the address of a cluster, and plans run on this machine; add --executor ray"
            )
        super().__init__(settings, at_once=at_once, on_run=on_run)
        self._changed = threading.Condition()
        self._running: list[_Worker] = []
        self._waits_alone = 0
        self._largest_mb = 0.0
        self._devices = _gpus() if at_once > 1 else []
        self._closed = threading.Event()
        threading.Thread(target=self._keep_watch, name="guardianflow-memory", daemon=True).start()

    def _execute(self, plan: RunPlan) -> RunOutcome:
        with self._slot(plan) as worker, tempfile.TemporaryFile() as printed:
            process = self._start(worker, printed)
            try:
                last = self._follow(worker, process)
            except BaseException:  # nobody has noted its run
                worker.end(signal.SIGTERM)
                raise
            finally:
                self._see_it_end(worker, process)
            if "outcome" in last:
                return outcome_from(last["outcome"])
            if "error" in last:
                raise error_from(last["error"])
            raise self._died(worker, process.returncode, printed)

    @contextlib.contextmanager
    def _slot(self, plan: RunPlan) -> Iterator[_Worker]:
        alone = KINDS.get(plan.kind).measures
        if alone and self.slots > 1:
            self._say_once("benchmarks and quantizations measure speeds, so each of them runs alone")
        worker = _Worker(plan)
        with self._changed:
            self._waits_alone += alone
            try:
                while not self._cancelled.is_set() and not self._fits(alone=alone):
                    self._changed.wait(_WATCH_S)
            finally:
                self._waits_alone -= alone
            if self._cancelled.is_set():
                raise was_cancelled()
            worker.device = self._free_device(plan)
            self._running.append(worker)
        try:
            yield worker
        finally:
            with self._changed:
                self._running.remove(worker)
                self._changed.notify_all()

    def _fits(self, *, alone: bool) -> bool:
        """Whether a plan may begin beside those that run, and not before one that waits to be alone."""
        if not self._running:
            return alone or not self._waits_alone
        if alone or self._waits_alone or any(KINDS.get(worker.plan.kind).measures for worker in self._running):
            return False
        to_come = sum(max(0.0, self._largest_mb - worker.held_mb()) for worker in self._running)
        return memory_limit() >= self._largest_mb + to_come

    def _shared(self, plan: RunPlan) -> RunPlan:
        return plan if self.slots == 1 else self._with_threads(plan, max(1, usable_cores() // self.slots))

    def _free_device(self, plan: RunPlan) -> str:
        env: Any = getattr(plan.scenario, "env", None)
        if not self._devices or (hasattr(env, "device") and env.device):
            return ""
        taken = [worker.device for worker in self._running]
        return min(self._devices, key=taken.count)

    def _start(self, worker: _Worker, printed: IO[bytes]) -> subprocess.Popen[str]:
        group = ControlGroup()
        environment = {**os.environ, **kernel_environment(self.settings), **group.environment}
        if worker.device:
            environment["CUDA_VISIBLE_DEVICES"] = worker.device
        process = subprocess.Popen(
            kept([sys.executable, *ENTRYPOINT], if_alone=signal.SIGTERM, patience_s=_PATIENCE_S),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            cwd=Path.cwd(),
            env=environment,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches us alone, and we pass it on
        )
        with self._changed:
            worker.process, worker.watch = process, ProcessWatch(process.pid, kept=True, group=group)
        if self._cancelled.is_set():  # between its slot and its start
            worker.end(signal.SIGTERM)
        return process

    def _follow(self, worker: _Worker, process: subprocess.Popen[str]) -> Mapping[str, Any]:
        """Hear what a worker says; its last word, or nothing."""
        name = f"{worker.plan.kind} {worker.plan.experiment_name}"
        _tell(process, order_of(self._shared(worker.plan)) + "\n")
        for line in process.stdout or ():
            said = said_in(line)
            if said is None:
                continue
            if "log" in said:
                log.log(said["log"][0], "%s: %s", name, said["log"][1])
            elif "run" in said:
                worker.run_id = said["run"]
                self._tell_run(worker.plan, worker.run_id)
                _tell(process, GO)
            else:
                return said
        return {}

    def _see_it_end(self, worker: _Worker, process: subprocess.Popen[str]) -> None:
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # it has said its last word, and hangs
            self._kill(worker)
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _died(self, worker: _Worker, code: int, printed: IO[bytes]) -> RunFailedError:
        """What to say of a worker that ended without a word; its run is put right."""
        self._kill(worker)
        if worker.run_id:
            with contextlib.suppress(GuardianFlowError):  # it stays for `guardianflow runs reap`
                reap_runs(self.settings)
        which = f"run {worker.run_id}" if worker.run_id else f"{worker.plan.kind} {worker.plan.experiment_name}"
        if self._cancelled.is_set():
            return RunInterruptedError(f"{which} was cancelled", signum=signal.SIGTERM)
        if code < 0:
            why = f"its process was ended by {signal.Signals(-code).name}; memory may have run out"
            return RunFailedError(f"{which} failed: {why}; fewer --at-once take less")
        printed.seek(0)
        words = printed.read()[-4000:].decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return RunFailedError(f"{which} failed: its process ended with code {code}: {words[-1]}")

    def _kill(self, worker: _Worker) -> None:
        with self._changed:
            if worker.watch is not None:
                worker.watch.end()

    def _end(self, signum: int) -> None:
        for worker in list(self._running):
            worker.end(signum)

    def _close(self) -> None:
        self._closed.set()

    def _keep_watch(self) -> None:
        while not self._closed.wait(_WATCH_S):
            with self._changed:
                for worker in self._running:
                    self._largest_mb = max(self._largest_mb, worker.held_mb())
                    if time.monotonic() >= worker.kill_at:
                        self._kill(worker)


def _tell(process: subprocess.Popen[str], text: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it said says why
            process.stdin.write(text)
            process.stdin.flush()


def _gpus() -> list[str]:
    """The GPUs that we may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    return [str(gpu.index) for gpu in get_gpu_metrics()]
