"""Which runs' files something still needs, and why: a version, evidence, advice, work that goes on, a study."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard.recommendations import DECIDABLE, Recommendations, State
from guardianflow.exceptions import NotFoundError
from guardianflow.registry.evaluations import Evaluations
from guardianflow.registry.ledger import Ledger
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.undelivered import UNDELIVERED
from guardianflow.scenario.factory import KINDS
from guardianflow.state.database import Database
from guardianflow.text.plain import plain

__all__ = ["NeededRuns"]

_ID = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{6,32}(?![0-9a-zA-Z])")

VERSION = "a registered version, or what one was made from"
RUNNING = "still running (`guardianflow runs reap` ends those whose process died)"
USED = "used by a run that is running, or that can be resumed"
TRIAL = "the best trial of a study, or one whose study goes on"
ADVICE = "named by an open recommendation"
EVALUATION = "an evaluation that the gate may need"
UNDELIVERED_RECORDS = "MLflow still lacks records of it (`guardianflow runs reap` sends them)"
ELSEWHERE = "tracked by another MLflow, whose versions can't be seen from here"


class NeededRuns:
    """Why runs are kept.

    Args:
        settings: Where runs, versions, evaluations, recommendations and studies are.
        resumable_days: For so many days an interrupted run that can go on is kept.
    """

    def __init__(self, settings: Settings, *, resumable_days: float) -> None:
        self._settings = settings
        self._days = resumable_days
        self._database = Database.open(settings.database_url)
        self._records = RunRecords(self._database)
        self._ledger = Ledger(settings.database_url, clock=lambda: datetime.now(UTC))

    def reasons(self, records: Sequence[RunRecord]) -> dict[str, str]:
        """Run id → why it is kept; the others are needed by nothing.

        Args:
            records: All runs, as they were read before.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer, so the versions that others entered can't be seen.
        """
        ids = sorted(record.run_id for record in records)
        kept: dict[str, str] = {}

        def keep(found: Iterable[str], why: str) -> None:
            for run_id in found:
                kept.setdefault(run_id, why)

        running, resumable = self._at_work(records)
        keep((record.run_id for record in running), RUNNING)
        keep(self._ledger.needed().runs, VERSION)
        keep(_named(MlflowRegistry(self._settings).sources(), ids), VERSION)
        keep(self._trials(), TRIAL)
        keep((record.run_id for record in resumable), f"interrupted in the last {self._days:g} days; it can be resumed")
        keep(_named([record.parameters for record in (*running, *resumable)], ids), USED)
        keep(_named(self._advice(), ids), ADVICE)
        keep(self._evidence(kept, ids), EVALUATION)
        tracked = mask_secrets(self._settings.mlflow_tracking_uri)
        keep((record.run_id for record in records if record.tracking_uri != tracked), ELSEWHERE)
        late = (record.run_id for record in records if (record.folder / UNDELIVERED).exists())
        keep(late, UNDELIVERED_RECORDS)
        return kept

    def came_up(self, run_id: str) -> bool:
        """Whether a version or a running run needs a run by now that nothing needed before."""
        running = self._records.list(status=RunStatus.RUNNING, limit=1_000_000)
        return run_id in self._ledger.needed().runs or any(_named([record.parameters for record in running], [run_id]))

    def _at_work(self, records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
        """Those that run, and those that ended early and can go on."""
        since = self._records.now() - timedelta(days=self._days)
        running = [record for record in records if record.status == RunStatus.RUNNING]
        early = [record for record in records if record.status in (RunStatus.FAILED, RunStatus.KILLED)]
        return running, [
            record for record in early if _resumable(record.kind) and (record.ended or record.heartbeat) >= since
        ]

    def _advice(self) -> list[Any]:
        found = Recommendations(self._database).list(states=(*DECIDABLE, State.APPLYING), limit=1_000_000)
        return [[item.facts, item.cost, item.scenario, item.outcome, item.run_id] for item in found]

    def _evidence(self, kept: Iterable[str], ids: Sequence[str]) -> Iterator[str]:
        """Runs that hold an evaluation of a registered file, or of one that stays and may be registered yet."""
        rows = Evaluations(self._settings).find()
        held = set(kept)
        files = self._ledger.needed().sha256 | {row.sha256 for row in rows if row.run_id in held}
        for row in rows:
            if row.sha256 in files:
                yield row.run_id
                yield from _named([str(row.folder)], ids)

    def _trials(self) -> Iterator[str]:
        """Of each study the best trial, and those that its sweeps are not done with."""
        from guardianflow.execution.studies import Studies
        from guardianflow.execution.sweep_result import best_of

        studies = Studies(self._settings)
        for study in map(studies.get, studies.names()):
            rows = study.rows()
            best = best_of(rows, study.scenario.task.requirements)
            yield from (row.run_id for row in rows if row.run_id and (row is best or not row.ended))


def _resumable(kind: str) -> bool:
    try:
        return KINDS.get(kind).resumable
    except NotFoundError:
        return False  # of a package that isn't installed any more


def _named(values: Iterable[Any], ids: Sequence[str]) -> Iterator[str]:
    """The runs that values name, by their id or the beginning of it, alone or in a path.

    Args:
        values: Plain values of any depth.
        ids: Run ids, sorted.
    """
    for value in values:
        for found in set(_ID.findall(json.dumps(plain(value), default=str))):
            place = bisect_left(ids, found)
            while place < len(ids) and ids[place].startswith(found):
                yield ids[place]
                place += 1
