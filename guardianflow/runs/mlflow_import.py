"""Runs in MLflow that were brought in from elsewhere: found again by what they hold, written so that a crash shows.

A run is made with the tag ``guardianflow.import_state=writing`` and its content's digest, in one step. Only when
all of it has arrived, our record of it included, the tag says ``complete``. Who finds one that is still being
written while holding :meth:`MlflowImports.lock` knows that its writer died, and may remove it.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.runs.delivery import Operation, batches
from guardianflow.runs.mlflow_runs import OWNER_TAG, TAG, MlflowRuns, local_folder
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords
from guardianflow.state.database import Database
from guardianflow.state.tables import run_records
from guardianflow.text.redaction import flatten_params, redact

__all__ = [
    "DIGEST_TAG",
    "KIND_TAG",
    "REMARKS_TAG",
    "SOURCE_TAG",
    "STATE_TAG",
    "STEM_TAG",
    "STORED_TAG",
    "MlflowImports",
    "StoredImport",
    "StoredPoints",
]

log = logging.getLogger(__name__)

_IMPORT = TAG + "import_"
DIGEST_TAG, STEM_TAG, STATE_TAG, SOURCE_TAG = (_IMPORT + name for name in ("digest", "stem", "state", "source"))
KIND_TAG, STORED_TAG, REMARKS_TAG = (_IMPORT + name for name in ("kind", "stored", "remarks"))
_WRITING, _COMPLETE = "writing", "complete"

StoredPoints = dict[str, set[tuple[int, str]]]
"""Metric → its points as (step, value's repr): NaN is the same as NaN."""

_LOCK = "the import of finished runs"
_LOCK_TIMEOUT_S = 600.0
_METRICS_A_REQUEST, _PARAMS_A_REQUEST, _TAGS_A_REQUEST = 900, 90, 90
_LONGEST_TAG = 5_000


@dataclass(frozen=True)
class StoredImport:
    """A run that an import made.

    Attributes:
        run_id: The run.
        experiment: Its experiment's name.
        name: Its name.
        source: Where that content lay.
        stored: Whether the metrics store has its figures.
    """

    run_id: str
    experiment: str
    name: str
    source: str
    stored: bool


class MlflowImports(MlflowRuns):
    """The imported runs of one MLflow.

    Args:
        settings: Which MLflow, and where our own records are.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._database = Database.open(settings.database_url)

    @staticmethod
    def lock(settings: Settings) -> AbstractContextManager[None]:
        """Hold the right to write imported runs; processes and machines that share the state database wait.

        Raises:
            ConflictError: Another import held it for ten minutes.
        """
        return Database.open(settings.database_url).lock(_LOCK, timeout_s=_LOCK_TIMEOUT_S)

    def with_digest(self, digest: str) -> StoredImport | None:
        """The run that was made from this content.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer; so do all calls here.
        """
        return next(self._tagged(DIGEST_TAG, digest), None)

    def with_stem(self, stem: str) -> list[StoredImport]:
        """The runs that may be earlier states of some content."""
        return list(self._tagged(STEM_TAG, stem))

    def discard_halves(self) -> None:
        """Take away what imports that died have left; to be called by who holds the lock."""
        for half in list(self._tagged(STATE_TAG, _WRITING)):
            log.warning("run %s was left half imported from %s and is removed", half.run_id, half.source)
            self._discard(half.run_id)

    def has(self, run_id: str) -> bool:
        """Whether this MLflow itself has a run of that id."""
        try:
            self._client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return False
            with self._explained():
                raise
        return True

    def begin(self, experiment: str, name: str, tags: Mapping[str, str], started_ms: int) -> str:
        """Make a run that says that it is being written.

        Raises:
            InputError: The experiment was deleted in MLflow.
        """
        owner = json.dumps(vars(ProcessIdentity.current()))  # `runs reap` ends it in MLflow if we die
        experiment_id = self.ensure_experiment(experiment)
        with self._explained():
            run = self._client.create_run(
                experiment_id,
                start_time=started_ms,
                run_name=name,
                tags={**_masked(tags), STATE_TAG: _WRITING, OWNER_TAG: owner},
            )
        return str(run.info.run_id)

    def points(self, run_id: str) -> StoredPoints:
        """All that a run's metrics were."""
        with self._explained():
            names = list(self._client.get_run(run_id).data.metrics)
            return {
                name: {(point.step, repr(point.value)) for point in self._client.get_metric_history(run_id, name)}
                for name in names
            }

    def write(self, run_id: str, params: Mapping[str, Any], rows: Iterable[tuple[str, float, int, int]]) -> list[str]:
        """Log parameters and points (name, value, ms, step); what was logged before stays.

        Returns:
            What MLflow refused, in words.
        """
        refused: list[str] = []
        for some in batches(flatten_params(redact(params)).items(), _PARAMS_A_REQUEST):
            refused += self._sent("params", run_id, {"params": dict(some)})
        infinite: dict[str, str] = {}
        figures = []
        for name, value, time_ms, step in rows:
            if math.isinf(value):  # MLflow would keep the largest number there is, and draw it
                infinite.setdefault(f"{TAG}infinite.{name}"[:250], f"{value} at step {step}")
            figures.append([name, math.nan if math.isinf(value) else value, time_ms, step])
        for part in batches(figures, _METRICS_A_REQUEST):
            refused += self._sent("metrics", run_id, {"metrics": part})
        return refused + self.set_tags(run_id, infinite)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> list[str]:
        """Set tags; returns what was refused."""
        refused: list[str] = []
        for some in batches(_masked(tags).items(), _TAGS_A_REQUEST):
            refused += self._sent("tags", run_id, {"tags": dict(some)})
        return refused

    def upload(self, run_id: str, path: Path, folder: str | None) -> list[str]:
        """Log one artifact; returns why it was refused, if it was."""
        return self._sent("artifact", run_id, {"path": str(path), "folder": folder})

    def complete(self, run_id: str, tags: Mapping[str, str], status: str, ended_ms: int) -> None:
        """Say that a run has ended, and last that all of it is there."""
        self._sent("status", run_id, {"status": status, "end_time": ended_ms})
        with self._explained():
            for key, value in _masked(tags).items():
                self._client.set_tag(run_id, key, value)
            self._client.set_tag(run_id, STATE_TAG, _COMPLETE)

    def keep_record(self, record: RunRecord) -> None:
        """Write our own record of an imported run, or write it anew."""
        table = run_records
        with self._database.write() as connection:
            connection.execute(table.delete().where(table.c.run_id == record.run_id, table.c.kind == record.kind))
        RunRecords(self._database).add(record)

    def _discard(self, run_id: str) -> None:
        """Take away a run: in MLflow, its artifacts, our record."""
        with self._explained():
            place = local_folder(self._client.get_run(run_id).info.artifact_uri or "")
            self._client.delete_run(run_id)
        with self._database.write() as connection:
            connection.execute(run_records.delete().where(run_records.c.run_id == run_id))
        if place is not None and run_id in place.parts and place.is_dir():
            shutil.rmtree(place, ignore_errors=True)

    def now(self) -> Any:
        """The time that records are measured by."""
        return RunRecords(self._database).now()

    def _sent(self, kind: str, run_id: str, payload: dict[str, Any]) -> list[str]:
        with self._explained():
            refusals = self.send(Operation(kind, run_id, payload))
        return [f"MLflow refused {refusal.operation}: {refusal.reason}" for refusal in refusals]

    def _tagged(self, tag: str, value: str) -> Iterator[StoredImport]:
        with self._explained():
            names = self._experiments()
            # Digests and our own words: nothing to escape.
            for run in self._search(f"tags.`{tag}` = '{value}'", names):
                yield _stored(run, names[run.info.experiment_id])


def _stored(run: Any, experiment: str) -> StoredImport:
    tags = run.data.tags
    return StoredImport(
        run_id=str(run.info.run_id),
        experiment=experiment,
        name=str(run.info.run_name or ""),
        source=tags.get(SOURCE_TAG, ""),
        stored=tags.get(STORED_TAG) == "yes",
    )


def _masked(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: mask_secrets(str(value))[:_LONGEST_TAG] for key, value in redact(tags).items()}
