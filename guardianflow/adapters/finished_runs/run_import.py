"""Finished runs of a scanned folder, brought into MLflow and the metrics store, each once.

What a run *is* decides, not where it lies: a copy or a moved folder is the same run. A folder that has grown since
its import (more epochs) updates its run, as long as all that was imported is still its beginning; else it becomes
another run, which names the earlier one in the tag ``guardianflow.import_earlier``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guardianflow.adapters.finished_runs.folders import FinishedRun, UnreadableRun, read_finished_runs
from guardianflow.adapters.finished_runs.import_report import FailedImport, ImportedRun, ImportReport
from guardianflow.adapters.finished_runs.import_values import (
    KIND,
    as_stored,
    ended_ms,
    legal_experiment,
    metric_records,
    moment_of,
    new_rows,
    started_ms,
)
from guardianflow.adapters.finished_runs.same_training import Training, trainings
from guardianflow.exceptions import ConfigError, ConflictError, TrackingUnavailableError
from guardianflow.files.run_folder import folder_name, write_json
from guardianflow.text.names import MAX_NAME, validate_name
from guardianflow.text.printable import plain_values, printable, storable
from guardianflow.text.redaction import redact

if TYPE_CHECKING:
    from guardianflow.adapters.scan.findings import FoundRun, ScanReport
    from guardianflow.core.config import Settings
    from guardianflow.core.metrics import MetricSink
    from guardianflow.runs.mlflow_import import MlflowImports, StoredImport, StoredPoints

__all__ = ["IMPORT_FILE", "KIND", "FailedImport", "ImportReport", "ImportedRun", "import_runs"]

log = logging.getLogger(__name__)

IMPORT_FILE = "import.json"
"""Where a run came from, in its folder."""

_MAX_REMARKS = 20
_MOST_WAITING = 1_000_000
"""Points that are held at once, to tell runs of one training."""


def import_runs(
    report: ScanReport,
    *,
    settings: Settings,
    sink: MetricSink,
    experiment: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Bring the finished runs that a scan found into MLflow and the metrics store.

    Repeating it doubles nothing, in several processes at once neither. An import that was killed is
    completed by the next one. A folder that can't be read stops no other.

    Args:
        report: What the scan found; the runs' files are read now.
        settings: Where MLflow and our records are.
        sink: The metrics store.
        experiment: Where all runs go. Default: each run's own (its project, or MLflow's experiment).
        on_progress: Told how many findings of how many are done.

    Raises:
        InvalidNameError: The experiment's name is not allowed.
        ConflictError: Another import is at work and did not make way for ten minutes.
        TrackingUnavailableError: MLflow or the state database doesn't answer. What was imported before stays.
    """
    wanted = validate_name(experiment, "experiment name") if experiment else ""
    if not report.runs:
        return ImportReport()
    work = _Import(settings, sink, wanted, Path(report.root))
    for number, found in enumerate(report.runs, start=1):
        work.take(found)
        if on_progress is not None:
            on_progress(number, len(report.runs))
    work.bring_all()
    work.clear_up()
    return ImportReport(tuple(work.imported), tuple(work.already), tuple(work.failed))


@dataclass(frozen=True)
class _Target:
    """The run in MLflow that content goes into."""

    run_id: str
    experiment: str
    known: StoredPoints
    updated: bool
    earlier: str = ""


class _Import:
    def __init__(self, settings: Settings, sink: MetricSink, experiment: str, root: Path) -> None:
        from guardianflow.runs.mlflow_import import MlflowImports

        self._settings = settings
        self._sink = sink
        self._experiment = experiment
        self._root = root
        self._waiting: list[FinishedRun] = []
        self._points = 0
        self._ids: dict[str, str] = {}  # the id in the store that it comes from → in ours
        self.imported: list[ImportedRun] = []
        self.already: list[ImportedRun] = []
        self.failed: list[FailedImport] = []
        with MlflowImports.lock(settings):  # two processes at once must not both make MLflow's tables
            self._mlflow: MlflowImports = MlflowImports(settings)
            self._mlflow.answers()

    def take(self, found: FoundRun) -> None:
        """Read what one finding holds; whatever is wrong with it is noted."""
        path = self._root / found.path
        if self._is_own(path):
            remark = "it lies in GuardianFlow's own work folder, where its runs are tracked already"
            self.already.append(ImportedRun(path, found.kind, "", found.name, remarks=(remark,)))
            return
        try:
            for run in read_finished_runs(found, self._root):
                if isinstance(run, UnreadableRun):
                    self.failed.append(FailedImport(run.path, run.reason))
                    continue
                self._waiting.append(run)
                self._points += sum(map(len, run.history.values()))
                if self._points > _MOST_WAITING:
                    self.bring_all()
        except (TrackingUnavailableError, ConfigError):
            raise
        except Exception as error:  # noqa: BLE001 - files from outside: one that breaks a reader stops no other
            self.failed.append(FailedImport(path, _reason(error)))

    def bring_all(self) -> None:
        """Import what was read. Of a folder too large to be held at once, parts are compared among themselves."""
        waiting, self._waiting, self._points = self._waiting, [], 0
        for training in trainings(waiting):
            self._take_one(training)

    def clear_up(self) -> None:
        """Take away what imports that died have left, and that nothing here completed."""
        with self._mlflow.lock(self._settings):
            for half in self._mlflow.half_written():
                log.warning("run %s was left half imported from %s and is removed", half.run_id, half.source)
                self._mlflow.discard(half.run_id)

    def _take_one(self, training: Training) -> None:
        run = training.run
        try:
            with self._mlflow.lock(self._settings):
                run_id = self._bring(training)
            self._ids.update({each.source_id: run_id for each in (run, *training.others) if each.source_id})
        except (ConfigError, ConflictError):
            raise
        except TrackingUnavailableError as error:
            if not self._mlflow.answers():
                raise
            self.failed.append(FailedImport(run.path, _reason(error)))
        except Exception as error:  # noqa: BLE001 - see take
            self.failed.append(FailedImport(run.path, _reason(error)))

    def _is_own(self, path: Path) -> bool:
        from guardianflow.core.config import sqlite_path

        try:
            place = path.resolve()
            own = sqlite_path(self._settings.mlflow_tracking_uri)
            return place.is_relative_to(self._settings.work_dir.resolve()) or (
                own is not None and own.resolve() == place
            )
        except (OSError, RuntimeError):
            return False

    def _bring(self, training: Training) -> str:
        """Import a training, or say that it is there; gives its id in MLflow."""
        from guardianflow.runs.mlflow_import import COMPLETE

        run, same = training.run, self._mlflow.with_digest(training.run.digest)
        if same is not None and same.state == COMPLETE:
            if not same.stored:
                self._store(run, same.run_id, same.experiment)
            self.already.append(_row(run, same.run_id, same.experiment, name=same.name))
            return same.run_id
        for each in (run, *training.others):
            if each.source_id and self._mlflow.has(each.source_id):
                remark = "this MLflow itself has the run"
                self.already.append(_row(run, each.source_id, each.experiment, remarks=(*run.remarks, remark)))
                return each.source_id
        target = self._of_another_logger(training) or self._target(run, same)
        remarks = self._fill(run, target)
        self.imported.append(_row(run, target.run_id, target.experiment, updated=target.updated, remarks=remarks))
        return target.run_id

    def _of_another_logger(self, training: Training) -> _Target | None:
        """The run that was imported when only another logger's description of this training was there."""
        from guardianflow.runs.mlflow_import import COMPLETE

        for other in training.others:
            known = self._mlflow.with_digest(other.digest)
            if known is not None and known.state == COMPLETE:
                return _Target(known.run_id, known.experiment, self._mlflow.points(known.run_id), updated=True)
        return None

    # ---- where it goes -----------------------------------------------------------------------------

    def _target(self, run: FinishedRun, same: StoredImport | None) -> _Target:
        from guardianflow.runs.mlflow_import import COMPLETE

        if same is not None:  # its writer died
            return _Target(same.run_id, same.experiment, self._mlflow.points(same.run_id), updated=False)
        earlier, grown = self._earlier(run)
        if grown is not None:
            stored, known = grown
            return _Target(stored.run_id, stored.experiment, known, updated=stored.state == COMPLETE)
        experiment = self._experiment or legal_experiment(run.experiment)
        tags = self._tags(run, earlier)
        run_id = self._mlflow.begin(experiment, storable(run.name)[:MAX_NAME] or run.kind, tags, started_ms(run))
        return _Target(run_id, experiment, {}, updated=False, earlier=earlier)

    def _earlier(self, run: FinishedRun) -> tuple[str, tuple[StoredImport, StoredPoints] | None]:
        """The run of an earlier state of the same content, and the run that this one only adds to."""
        now = as_stored(run.history)
        earlier, grown, most = "", None, -1
        for stored in self._mlflow.with_stem(run.stem):
            known = self._mlflow.points(stored.run_id)
            count = sum(map(len, known.values()))
            is_beginning = all(points <= now.get(name, set()) for name, points in known.items())
            same_place = stored.source == storable(str(run.path))
            # Two runs with the same settings and seed begin alike. The earlier one's folder tells them apart.
            moved = count > 0 and not Path(stored.source).exists()
            if is_beginning and (same_place or moved) and count > most:
                grown, most = (stored, known), count
            elif same_place or (is_beginning and count > 0):
                earlier = stored.run_id
        return earlier, grown

    # ---- what is written ---------------------------------------------------------------------------

    def _fill(self, run: FinishedRun, target: _Target) -> tuple[str, ...]:
        from guardianflow.runs.mlflow_import import DIGEST_TAG, REMARKS_TAG, SOURCE_TAG

        refused = self._mlflow.write(target.run_id, plain_values(run.parameters), new_rows(run, target.known))
        for path in run.artifacts:
            name = storable(run.artifact_name(path))
            folder = name.rpartition("/")[0] or None
            refused += self._mlflow.upload(target.run_id, path, folder)
        remarks = (*run.remarks, *refused)
        self._store(run, target.run_id, target.experiment)
        self._keep(run, target, remarks)
        tags = {
            DIGEST_TAG: run.digest,
            SOURCE_TAG: storable(str(run.path)),
            REMARKS_TAG: storable("; ".join(remarks[:_MAX_REMARKS])) or "none",
        }
        self._mlflow.complete(target.run_id, tags, run.status, ended_ms(run))
        return remarks

    def _tags(self, run: FinishedRun, earlier: str) -> dict[str, str]:
        from guardianflow import __version__
        from guardianflow.runs import mlflow_import as words
        from guardianflow.runs.mlflow_runs import TAG

        found = {storable(key)[:250]: storable(value) for key, value in run.tags.items() if key}
        found.update({
            "mlflow.user": self._settings.actor,
            "mlflow.source.name": found.get("mlflow.source.name", "guardianflow"),
            "mlflow.source.type": "LOCAL",
            TAG + "kind": KIND,
            TAG + "version": __version__,
            words.DIGEST_TAG: run.digest,
            words.STEM_TAG: run.stem,
            words.KIND_TAG: run.kind,
            words.SOURCE_TAG: storable(str(run.path)),
        })  # fmt: skip
        if run.source_id:
            found[TAG + "import_run_id"] = storable(run.source_id)
        if run.parent_id and run.parent_id in self._ids:
            found["mlflow.parentRunId"] = self._ids[run.parent_id]
        if earlier:
            found[words.EARLIER_TAG] = earlier
        return found

    def _store(self, run: FinishedRun, run_id: str, experiment: str) -> None:
        """Write the figures to the metrics store; one that is away gets them from the next import."""
        from guardianflow.runs.mlflow_import import STORED_TAG

        try:
            self._sink.save_metrics(metric_records(run, run_id, experiment))
        except Exception as error:  # noqa: BLE001 - as in a training: a store that is away must not end it
            log.warning("the figures of %s could not be stored (%s); import again later", run.path, error)
            self._mlflow.set_tags(run_id, {STORED_TAG: "no"})
            return
        self._mlflow.set_tags(run_id, {STORED_TAG: "yes"})

    def _keep(self, run: FinishedRun, target: _Target, remarks: tuple[str, ...]) -> None:
        """Our own record of it, and in its folder where it came from."""
        from guardianflow.core.config import mask_secrets
        from guardianflow.runs.run_records import ProcessIdentity, Progress, RunRecord, RunStatus

        folder = self._settings.runs_dir / folder_name(target.experiment) / target.run_id
        row = _row(run, target.run_id, target.experiment, updated=target.updated, remarks=remarks)
        write_json(folder / IMPORT_FILE, {**row.to_dict(), "digest": run.digest, "earlier": target.earlier or None})
        done = Progress(done=run.epochs, total=run.asked_epochs or run.epochs, unit="epoch", note="imported")
        self._mlflow.keep_record(
            RunRecord(
                run_id=target.run_id,
                tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
                experiment=target.experiment,
                kind=KIND,
                status=run.status,
                reason=None if run.status == RunStatus.FINISHED else storable("; ".join(remarks[:3])) or None,
                parameters=plain_values(redact(plain_values(run.parameters))),
                template=None,
                folder=folder,
                actor=self._settings.actor,
                again_of=None,
                owner=ProcessIdentity.current(),
                heartbeat=self._mlflow.now(),
                started=moment_of(started_ms(run)),
                ended=moment_of(ended_ms(run)),
                progress=done,
            )
        )


def _row(
    run: FinishedRun,
    run_id: str,
    experiment: str,
    *,
    name: str = "",
    updated: bool = False,
    remarks: tuple[str, ...] | None = None,
) -> ImportedRun:
    return ImportedRun(
        path=run.path,
        kind=run.kind,
        run_id=run_id,
        name=name or storable(run.name),
        experiment=experiment,
        status=run.status,
        epochs=run.epochs,
        metrics=run.last,
        artifact=storable(run.artifact_name(run.weights)) if run.weights is not None else "",
        updated=updated,
        remarks=run.remarks if remarks is None else remarks,
    )


def _reason(error: Exception) -> str:
    return storable(printable(error, longest=600)) or type(error).__name__
