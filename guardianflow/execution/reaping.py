"""Runs whose process died: their status and their notebooks are put right, and MLflow is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.exceptions import GuardianFlowError, NotFoundError, TrackingUnavailableError
from guardianflow.execution.engine.repair import repair_notebook
from guardianflow.runs.delivery import Operation, brief
from guardianflow.runs.mlflow_runs import REASON_TAG, MlflowRuns
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.undelivered import UNDELIVERED, Undelivered, keep_refusal
from guardianflow.state.database import Database

__all__ = ["ReapReport", "reap_runs"]

log = logging.getLogger(__name__)

REASON = "its process died without ending the run"


@dataclass(frozen=True)
class ReapReport:
    """What was put right. Iterating gives the runs that were ended.

    Attributes:
        ended: The runs that were (or would be) ended, with their status now.
        closed_in_mlflow: Ids of runs that only MLflow still showed as RUNNING.
        delivered: How many records MLflow took that it had missed.
        kept: Ids of runs whose records MLflow still lacks; they are kept.
        mlflow_answers: Whether MLflow could be asked at all.
    """

    ended: tuple[RunRecord, ...] = ()
    closed_in_mlflow: tuple[str, ...] = ()
    delivered: int = 0
    kept: tuple[str, ...] = ()
    mlflow_answers: bool = True

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self.ended)

    def __len__(self) -> int:
        return len(self.ended)

    def sentences(self) -> list[str]:
        """What else happened, and what is still to be done, for people."""
        said = []
        if self.closed_in_mlflow:
            said.append(f"ended in MLflow, which still showed them as running: {', '.join(self.closed_in_mlflow)}")
        if self.delivered:
            said.append(f"MLflow took {self.delivered:,} records that it had missed")
        if not self.mlflow_answers:
            said.append("MLflow does not answer; `guardianflow doctor` checks it")
        if self.kept:
            said.append(f"MLflow still lacks records of {', '.join(self.kept)}; they are kept. Reap again later")
        if not self.ended and not said:
            said.append("no run has lost its process, and MLflow lacks nothing")
        return said

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "reaped": [record.to_dict() for record in self.ended],
            "closed_in_mlflow": list(self.closed_in_mlflow),
            "delivered": self.delivered,
            "kept": list(self.kept),
            "mlflow_answers": self.mlflow_answers,
        }


def reap_runs(settings: Settings, *, dry_run: bool = False) -> ReapReport:
    """End every run whose process died, repair the notebook that it left, and send what MLflow missed.

    Safe at any time and in several processes at once: a run that gives a sign of life is left alone,
    and what is sent twice has no further effect.

    Args:
        settings: Where the runs are.
        dry_run: Only say which runs would be ended.

    Raises:
        TrackingUnavailableError: The state database doesn't answer. (A dead MLflow is no error: what it
            must be told is kept.)
    """
    records = RunRecords(Database.open(settings.database_url))
    now = records.now()
    running = records.list(status=RunStatus.RUNNING, limit=1_000_000)
    dead = [record for record in running if not record.owner.lives(record.heartbeat, now)]
    if dry_run:
        return ReapReport(ended=tuple(dead))
    return _Reaping(settings, records).run(dead)


@dataclass
class _Reaping:
    settings: Settings
    records: RunRecords
    delivered: int = 0
    kept: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mlflow = MlflowRuns(self.settings)
        self.answers = self.mlflow.answers()
        self.tracking_uri = mask_secrets(self.settings.mlflow_tracking_uri)

    def run(self, dead: list[RunRecord]) -> ReapReport:
        ended = [record for record in map(self._end, dead) if record is not None]
        for folder in sorted({path.parent for path in self.settings.runs_dir.glob(f"*/*/{UNDELIVERED}")}):
            self._deliver(folder)
        closed = tuple(self._close_in_mlflow()) if self.answers else ()
        return ReapReport(tuple(ended), closed, self.delivered, tuple(self.kept), self.answers)

    # ---- runs without a process ----------------------------------------------------------------

    def _end(self, record: RunRecord) -> RunRecord | None:
        status, reason, told = self._truth(record)
        local = record.folder.is_dir()
        if local:
            page = repair_notebook(record.notebook, reason or REASON) if record.notebook else []
            operations = [
                Operation("artifact", record.run_id, {"path": str(path), "folder": "notebook"}) for path in page
            ]
        else:
            operations = []
        if not told:
            operations += _end_operations(record.run_id, status, reason)
        # MLflow's part is on disk before our record is closed: a crash in between loses nothing.
        if local:
            if not Undelivered(record.folder).append(operations):
                return None
        elif not self._send_all(operations):
            log.warning(
                "run %s ran on %s, and MLflow can't be told of its end now; try again", record.run_id, record.owner.host
            )
            return None
        if not self.records.bury(record, status, reason):
            log.info("run %s gave a sign of life and is left alone", record.run_id)
            return None
        return self.records.get(record.run_id)

    def _truth(self, record: RunRecord) -> tuple[str, str | None, bool]:
        """Status and reason of a run whose process died, and whether MLflow knows (or will)."""
        for operation in reversed(Undelivered(record.folder).read().operations):
            if operation.kind == "status":  # it had ended, and died before our record said so
                return str(operation.payload["status"]), None, True
        if self.answers and record.tracking_uri == self.tracking_uri:
            try:
                ended = self.mlflow.ended_as(record.run_id)
            except TrackingUnavailableError as error:
                log.debug("MLflow does not know run %s: %s", record.run_id, error)
            else:
                if ended is not None:
                    return *ended, True
        return RunStatus.FAILED, REASON, False

    # ---- what MLflow missed --------------------------------------------------------------------

    def _deliver(self, folder: Path) -> None:
        try:
            record = self.records.get(folder.name)
        except NotFoundError:
            log.warning("%s belongs to no run in this state database and is left alone", folder / UNDELIVERED)
            return
        if record.status == RunStatus.RUNNING:
            return  # its process sends it when it ends
        if record.tracking_uri != self.tracking_uri:
            log.warning(
                "run %s belongs to the MLflow at %s; what that missed is kept", record.run_id, record.tracking_uri
            )
            self.kept.append(record.run_id)
            return
        kept = Undelivered(folder)
        taken = kept.read()
        left = list(taken.operations)
        while left and self._send(left[0]):
            left.pop(0)
        self.delivered += len(taken.operations) - len(left)
        if len(left) < len(taken.operations) or not left:
            kept.settle(taken, left)
        if left:
            self.kept.append(record.run_id)

    def _send(self, operation: Operation) -> bool:
        if not self.answers:
            return False
        try:
            refusals = self.mlflow.send(operation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record is kept for another time
            self.answers = self.mlflow.answers()
            log.warning("MLflow does not take %s of run %s: %s", operation.kind, operation.run_id, brief(error))
            return False
        for refusal in refusals:
            keep_refusal(self.records.get(operation.run_id).folder, refusal)
        return True

    def _send_all(self, operations: list[Operation]) -> bool:
        return all(self._send(operation) for operation in operations)

    # ---- runs that only MLflow shows as RUNNING ---------------------------------------------------

    def _close_in_mlflow(self) -> Iterator[str]:
        """Runs whose record was never made, or ended without MLflow hearing of it."""
        try:
            found = list(self.mlflow.left_running())
        except GuardianFlowError as error:
            log.warning("MLflow's own list of running runs can't be read: %s", error)
            return
        for run in found:
            try:
                record = self.records.get(run.run_id)
            except NotFoundError:
                now = self.records.now()
                if run.owner is None or run.owner.lives(now, now):
                    continue
                operations = _end_operations(run.run_id, RunStatus.FAILED, REASON)
            else:
                if record.status == RunStatus.RUNNING or record.run_id in self.kept:
                    continue
                operations = _end_operations(run.run_id, record.status, record.reason)
            if self._send_all(operations):
                yield run.run_id


def _end_operations(run_id: str, status: str, reason: str | None) -> list[Operation]:
    tags = [Operation("tags", run_id, {"tags": {REASON_TAG: reason}})] if reason else []
    return [*tags, Operation("status", run_id, {"status": status, "end_time": int(time.time() * 1000)})]
