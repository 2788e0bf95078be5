"""The door to MLflow tracking: a run's life, from its creation to its terminal status.

A run is owned by an explicit run id. Nothing here makes a training wait for a server (see
:mod:`guardianflow.runs.delivery`). Whatever way a run ends, MLflow and our own record say the same:
first MLflow is told, or what it must be told is kept on disk; then our record is closed. A process that
dies in between leaves a record that says RUNNING, which ``guardianflow runs reap`` puts right.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import GuardianFlowError, InputError, RunInterruptedError
from guardianflow.files.run_folder import folder_name, write_json
from guardianflow.machine.environment import environment_facts, git_facts
from guardianflow.processes.interrupts import Signalled, signals_wait
from guardianflow.runs.delivery import BackgroundDelivery, Operation, batches
from guardianflow.runs.heartbeat import Pulse
from guardianflow.runs.mlflow_runs import OWNER_TAG, REASON_TAG, TAG, MlflowRuns, make_client
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords, RunStatus
from guardianflow.runs.undelivered import Snapshot, Undelivered, keep_refusal
from guardianflow.state.database import Database
from guardianflow.text.names import validate_name
from guardianflow.text.redaction import flatten_params, redact

__all__ = ["TrackedRun", "environment_facts", "make_client", "outcome_of", "write_json"]

log = logging.getLogger(__name__)

_MAX_TAG = 5000
_SHORT_PATIENCE_S = 5.0
_RECORD_ATTEMPTS = 3


class TrackedRun:
    """One MLflow run and our record of it, written by one process at a time.

    Make one with :meth:`start` (a new run), :meth:`attach` (a run that another process of ours
    owns, such as the one that executes the notebook) or :meth:`reopen` (resume). Use it as a
    context manager: whatever way the block is left, an owned run gets a terminal status.

    All methods may be called from several threads.

    Attributes:
        run_id: The MLflow run id.
        folder: ``<work_dir>/runs/<experiment>/<run_id>``; what the run makes lies here.
        experiment: Experiment name.
        owned: Whether leaving the block ends the run.
    """

    def __init__(
        self,
        settings: Settings,
        record: RunRecord,
        *,
        owned: bool,
        mlflow: MlflowRuns,
    ) -> None:
        self.settings = settings
        self.run_id = record.run_id
        self.folder = record.folder
        self.experiment = record.experiment
        self.owned = owned
        self._owner = record.owner
        self._records = RunRecords(Database.open(settings.database_url))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._delivery = BackgroundDelivery(
            mlflow.send, answers=mlflow.answers, on_refused=partial(keep_refusal, self.folder)
        )
        self._pulse = Pulse(self._records, self.run_id, beats=owned)
        self._lock = threading.Lock()
        self._ended = False
        self._infinite: set[str] = set()

    @classmethod
    def start(
        cls,
        settings: Settings,
        *,
        experiment: str,
        kind: str,
        parameters: Mapping[str, Any],
        name: str | None = None,
        template: str | None = None,
        again_of: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """Create the run in MLflow and our record of it.

        Args:
            settings: Where to.
            experiment: Experiment name; created if it isn't there.
            kind: ``"train"`` and so on.
            parameters: What the run is asked to do; kept so that it can be executed again. Values under
                secret-like names are not kept.
            name: MLflow's run name.
            template: Template notebook that executes it.
            again_of: The run that this one repeats.
            tags: Further MLflow tags.

        Raises:
            InvalidNameError: The experiment name has a form that is not allowed.
            InputError: The experiment was deleted in MLflow.
            TrackingUnavailableError: MLflow or the state database doesn't answer; no run was made.
        """
        experiment = validate_name(experiment, "experiment name")
        records = RunRecords(Database.open(settings.database_url))  # first: no run in MLflow that we can't record
        mlflow = MlflowRuns(settings)
        mlflow.ensure_experiment(experiment)
        owner = ProcessIdentity.current()
        all_tags = _start_tags(settings, kind, owner, again_of, tags)
        run: TrackedRun | None = None
        try:
            with signals_wait():  # a signal between the two would leave a run that nobody knows
                run_id = mlflow.create(experiment, name, all_tags)
                now = records.now()
                record = RunRecord(
                    run_id=run_id,
                    tracking_uri=mask_secrets(settings.mlflow_tracking_uri),
                    experiment=experiment,
                    kind=kind,
                    status=RunStatus.RUNNING,
                    reason=None,
                    parameters=redact(parameters),
                    template=template,
                    folder=settings.runs_dir / folder_name(experiment) / run_id,
                    actor=settings.actor,
                    again_of=again_of,
                    owner=owner,
                    heartbeat=now,
                    started=now,
                    ended=None,
                )
                run = _recorded(cls, settings, record, records, mlflow)
        except BaseException as error:
            if run is not None:
                run.finish(*outcome_of(error))
            raise
        return run

    @classmethod
    def attach(cls, settings: Settings, run_id: str) -> TrackedRun:
        """Write into a run that another process owns; leaving the block doesn't end it.

        Raises:
            NotFoundError: There is no such run.
        """
        record = RunRecords(Database.open(settings.database_url)).get(run_id)
        return cls(settings, record, owned=False, mlflow=MlflowRuns(settings))

    @classmethod
    def reopen(cls, settings: Settings, run_id: str) -> TrackedRun:
        """Take a run that ended early and go on in it, under the same id.

        Raises:
            NotFoundError: There is no such run, or its files were pruned.
            InputError: The run is still executed by a living process, or it finished.
            TrackingUnavailableError: MLflow doesn't answer; the run stays as it was.
        """
        records = RunRecords(Database.open(settings.database_url))
        seen = records.get(run_id)
        seen.require_files()
        if seen.status == RunStatus.FINISHED:
            raise InputError(f"run {seen.run_id} finished; start a new one with `guardianflow run --again {run_id}`")
        if seen.status == RunStatus.RUNNING and seen.owner.lives(seen.heartbeat, records.now()):
            raise InputError(
                f"run {seen.run_id} is being executed by process {seen.owner.pid} on {seen.owner.host}; "
                "wait for it, or stop that process first"
            )
        mlflow = MlflowRuns(settings)
        owner = ProcessIdentity.current()
        if not records.take_over(seen, owner):
            raise InputError(f"run {seen.run_id} has just been taken by another process; wait for it")
        try:
            mlflow.reopen(seen.run_id)
        except BaseException:
            ended = RunStatus.FAILED if seen.status == RunStatus.RUNNING else seen.status
            records.finish(seen.run_id, ended, seen.reason, owner=owner)
            raise
        return cls(settings, replace(seen, status=RunStatus.RUNNING, owner=owner), owned=True, mlflow=mlflow)

    @property
    def record(self) -> RunRecord:
        """The run's record as it stands now."""
        return self._records.get(self.run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters: nested ones flattened with dots, secrets redacted, long values cut."""
        for batch in batches(flatten_params(redact(params)).items(), 90):
            self._submit("params", {"params": dict(batch)})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log figures of one step under legal names.

        MLflow has no infinity: it would store the largest number there is, and draw it. An infinite
        figure is logged as NaN, and the tag ``guardianflow.infinite.<metric>`` says at which step that
        happened first. What is no number at all is left out, with a warning.
        """
        self.log_points((key, value, step) for key, value in metrics.items())

    def log_points(self, points: Iterable[tuple[str, float, int]]) -> None:
        """Log figures of many steps (name, figure, step), as :meth:`log_metrics` does it, in few requests."""
        now = int(time.time() * 1000)
        rows = []
        for key, value, step in points:
            name = legal_metric_name(key)
            try:
                figure = float(value)
            except (TypeError, ValueError):
                log.warning("metric %s = %r is no number and is left out", key, value)
                continue
            if math.isinf(figure):
                self._note_infinite(name, figure, step)
                figure = math.nan
            rows.append([name, figure, now, step])
        for batch in batches(rows, 900):
            self._submit("metrics", {"metrics": batch})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        clean = {key: mask_secrets(str(value))[:_MAX_TAG] for key, value in tags.items()}
        for batch in batches(clean.items(), 90):
            self._submit("tags", {"tags": dict(batch)})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder (its content then lies under ``folder``)."""
        if not path.exists():
            log.warning("artifact %s does not exist and is left out", path)
            return
        # Absolute: what is sent later is sent from another working folder.
        self._submit("artifact", {"path": str(path.absolute()), "folder": folder})

    def set_progress(self, done: int, total: int, *, unit: str, note: str = "", part: float = 0.0) -> None:
        """Say where the run stands; whoever watches it reads this. Returns at once."""
        self._pulse.set_progress({"done": done, "total": total, "unit": unit, "note": note, "part": part})

    def flush(self, *, timeout_s: float) -> bool:
        """Wait until MLflow has taken everything so far; ``False`` if it hasn't in time, or can't."""
        return self._delivery.flush(timeout_s)

    def finish(self, status: str = RunStatus.FINISHED, reason: str | None = None) -> None:
        """End the run. Whatever MLflow has not taken by then is kept in the run's folder.

        From here on the status stands: a signal cuts the waiting for MLflow short, and takes effect
        when the run has ended.
        """
        if not self._end_once():
            return
        with signals_wait(self._delivery.hurry, and_then_raise=status != RunStatus.KILLED):
            kept = Undelivered(self.folder)
            earlier = kept.read()  # of the kernel that has ended: it comes first
            for operation in earlier.operations:
                self._delivery.submit(operation)
            mine = self._is_mine()
            if mine and reason:
                self._submit("tags", {"tags": {REASON_TAG: mask_secrets(reason)[:_MAX_TAG]}})
            if mine:
                self._submit("status", {"status": status, "end_time": int(time.time() * 1000)})
            self._close(kept, earlier)
            if mine:
                self._close_record(status, reason)

    def leave(self) -> None:
        """Stop writing without ending the run (its owner does that)."""
        if self._end_once():
            with signals_wait(self._delivery.hurry):
                self._close(Undelivered(self.folder), Snapshot((), b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self.owned:
            self.leave()
        elif error is None:
            self.finish(RunStatus.FINISHED)
        else:
            self.finish(*outcome_of(error))

    def _end_once(self) -> bool:
        with self._lock:
            first, self._ended = not self._ended, True
        return first

    def _submit(self, kind: str, payload: dict[str, Any]) -> None:
        self._delivery.submit(Operation(kind, self.run_id, payload))

    def _note_infinite(self, name: str, figure: float, step: int) -> None:
        with self._lock:
            first = name not in self._infinite
            self._infinite.add(name)
        if first:
            self.set_tags({f"{TAG}infinite.{name}"[:250]: f"{figure} at step {step}"})

    def _close(self, kept: Undelivered, earlier: Snapshot) -> None:
        self._pulse.stop()
        # Where the kernel has just tried in vain, this process doesn't wait as long again.
        left = self._delivery.close(patience_s=_SHORT_PATIENCE_S if earlier.operations else None)
        if (left or earlier.operations) and kept.settle(earlier, left) and left:
            log.warning(
                "MLflow did not take %d records of run %s; they are kept in %s. "
                "`guardianflow runs reap` sends them when the server answers again.",
                len(left), self.run_id, kept.path,
            )  # fmt: skip

    def _is_mine(self) -> bool:
        """Whether nobody took this run over, having taken its process for dead."""
        try:
            mine = self._records.get(self.run_id).owner == self._owner
        except GuardianFlowError as error:
            log.debug("the record of run %s can't be read: %s", self.run_id, error)
            return True
        if not mine:
            log.warning("run %s was taken over by another process, which ends it", self.run_id)
        return mine

    def _close_record(self, status: str, reason: str | None) -> None:
        said = mask_secrets(reason) if reason else None
        for attempt in range(_RECORD_ATTEMPTS):
            try:
                self._records.finish(self.run_id, status, said, owner=self._owner)
                return
            except GuardianFlowError as error:
                log.warning("the end of run %s can't be recorded (%s)", self.run_id, error)
                if attempt + 1 < _RECORD_ATTEMPTS:
                    time.sleep(0.5)
        log.error(
            "run %s ended as %s, but our record of it still says RUNNING; `guardianflow runs reap` puts it right",
            self.run_id, status,
        )  # fmt: skip


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The terminal status and reason that an error means for a run."""
    signum = getattr(error, "signum", None)
    if isinstance(error, KeyboardInterrupt) or signum == 2:
        return RunStatus.KILLED, "interrupted by Ctrl-C"
    if isinstance(error, (RunInterruptedError, Signalled)):
        return RunStatus.KILLED, f"ended by signal {signum}"
    return RunStatus.FAILED, mask_secrets(f"{type(error).__name__}: {error}")


def _recorded(
    cls: type[TrackedRun], settings: Settings, record: RunRecord, records: RunRecords, mlflow: MlflowRuns
) -> TrackedRun:
    """Write the record of a run that MLflow has just made; if that fails, the run ends there too."""
    try:
        records.add(record)
        return cls(settings, record, owned=True, mlflow=mlflow)
    except Exception as error:
        status, reason = outcome_of(error)
        _tell(mlflow, Operation("tags", record.run_id, {"tags": {REASON_TAG: reason[:_MAX_TAG]}}))
        _tell(mlflow, Operation("status", record.run_id, {"status": status, "end_time": int(time.time() * 1000)}))
        with contextlib.suppress(GuardianFlowError):
            records.finish(record.run_id, status, reason)
        raise


def _tell(mlflow: MlflowRuns, operation: Operation) -> None:
    try:
        mlflow.send(operation)
    except Exception as error:  # noqa: BLE001 - the first error is the one to raise
        log.warning("MLflow still shows run %s as RUNNING (%s)", operation.run_id, error)


def _start_tags(
    settings: Settings, kind: str, owner: ProcessIdentity, again_of: str | None, tags: Mapping[str, str] | None
) -> dict[str, str]:
    from guardianflow import __version__

    found = {
        "mlflow.user": settings.actor,
        "mlflow.source.name": "guardianflow",
        "mlflow.source.type": "LOCAL",
        TAG + "kind": kind,
        TAG + "version": __version__,
        OWNER_TAG: json.dumps(vars(owner)),
        **git_facts(settings.experiments_base),
        **(tags or {}),
    }
    if again_of:
        found[TAG + "again_of"] = again_of
    return found
