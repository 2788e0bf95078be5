"""Finished runs of a scanned folder, brought into MLflow and the metrics store, each once.

What a run *is* decides, not where it lies: a copy or a moved folder is the same run. A folder that has grown since
its import (more epochs) updates its run, as long as all that was imported is still its beginning; else it becomes
another run.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from guardianflow import __version__
from guardianflow.adapters.finished_runs.folders import (
    FinishedRun,
    Points,
    UnreadableRun,
    moment,
    read_finished_runs,
)
from guardianflow.adapters.finished_runs.import_report import ImportedRun, ImportReport
from guardianflow.adapters.finished_runs.same_training import Training, trainings
from guardianflow.adapters.scan.findings import FoundRun, ScanReport
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import MetricRecord, MetricSink
from guardianflow.exceptions import ConfigError, ConflictError, InvalidNameError, TrackingUnavailableError
from guardianflow.files.run_folder import folder_name, write_json
from guardianflow.runs import mlflow_import as words
from guardianflow.runs.mlflow_import import MlflowImports, StoredImport, StoredPoints
from guardianflow.runs.mlflow_runs import TAG
from guardianflow.runs.run_records import ProcessIdentity, Progress, RunRecord, RunStatus
from guardianflow.text.names import MAX_NAME, validate_name
from guardianflow.text.printable import plain_values, printable, storable
from guardianflow.text.redaction import redact

__all__ = ["IMPORT_FILE", "KIND", "MAX_POINTS", "ImportReport", "ImportedRun", "as_stored", "import_runs", "new_rows"]

log = logging.getLogger(__name__)

IMPORT_FILE = "import.json"
"""Where a run came from, in its folder."""

KIND = "import"
"""The kind of run that our records give an imported one, and the source of its figures."""

MAX_POINTS = 20_000
"""Points of one metric that are kept; of longer ones every second, fourth … and the last."""

_RESERVED = "/\\:@?#%"
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
    root, own = Path(report.root), settings.work_dir.resolve()
    # The scan knows our working folder by its database, which isn't there where PostgreSQL keeps the state.
    findings = [found for found in report.runs if not (root / found.path).resolve().is_relative_to(own)]
    if not findings:
        return ImportReport()
    work = _Import(settings, sink, wanted)
    waiting: list[FinishedRun] = []
    points = 0
    for number, found in enumerate(findings, start=1):
        for run in work.read(found, root):
            waiting.append(run)
            points += sum(map(len, run.history.values()))
            if points > _MOST_WAITING:  # of a folder too large to be held at once, parts are compared among themselves
                work.bring(waiting)
                waiting, points = [], 0
        if on_progress is not None:
            on_progress(number, len(findings))
    work.bring(waiting)
    return ImportReport(tuple(work.imported), tuple(work.already), tuple(work.failed))


class _Import:
    def __init__(self, settings: Settings, sink: MetricSink, experiment: str) -> None:
        self._settings = settings
        self._sink = sink
        self._experiment = experiment
        self._ids: dict[str, str] = {}  # the id in the store that it comes from → in ours
        self.imported: list[ImportedRun] = []
        self.already: list[ImportedRun] = []
        self.failed: list[UnreadableRun] = []
        with MlflowImports.lock(settings):  # two processes at once must not both make MLflow's tables
            self._mlflow = MlflowImports(settings)
            self._mlflow.answers()

    def read(self, found: FoundRun, root: Path) -> Iterator[FinishedRun]:
        """What one finding holds; whatever is wrong with it is noted."""
        try:
            for run in read_finished_runs(found, root):
                if isinstance(run, UnreadableRun):
                    self.failed.append(run)
                else:
                    yield run
        except Exception as error:  # noqa: BLE001 - files from outside: one that breaks a reader stops no other
            self._fail(root / found.path, error)

    def bring(self, runs: list[FinishedRun]) -> None:
        """Import what was read, runs of one training as one."""
        for training in trainings(runs):
            try:
                with self._mlflow.lock(self._settings):
                    self._mlflow.discard_halves()
                    run_id = self._bring(training)
                self._ids.update({each.source_id: run_id for each in training.all if each.source_id})
            except (ConfigError, ConflictError):
                raise
            except Exception as error:
                if isinstance(error, TrackingUnavailableError) and not self._mlflow.answers():
                    raise
                self._fail(training.run.path, error)

    def _fail(self, path: Path, error: Exception) -> None:
        self.failed.append(UnreadableRun(path, storable(printable(error, longest=600)) or type(error).__name__))

    def _bring(self, training: Training) -> str:
        """Import a training, or say that it is there; gives its id in MLflow."""
        run, known = training.run, self._mlflow.with_digest(training.run.digest)
        if known is not None:
            if not known.stored:
                self._store(run, known.run_id, known.experiment)
            self.already.append(_row(run, known.run_id, known.experiment, name=known.name))
            return known.run_id
        for each in training.all:
            if each.source_id and self._mlflow.has(each.source_id):
                row = _row(run, each.source_id, each.experiment)
                self.already.append(replace(row, remarks=(*row.remarks, "this MLflow itself has the run")))
                return each.source_id
        of_others = (self._mlflow.with_digest(other.digest) for other in training.others)
        known = next(filter(None, of_others), None) or self._earlier(run)
        if known is not None:
            return self._fill(run, known.run_id, known.experiment, updated=True)
        experiment = self._experiment or _legal_experiment(run.experiment)
        name = storable(run.name)[:MAX_NAME] or run.kind
        run_id = self._mlflow.begin(experiment, name, self._tags(run), _milliseconds(_span(run)[0]))
        return self._fill(run, run_id, experiment, updated=False)

    def _earlier(self, run: FinishedRun) -> StoredImport | None:
        """The run of an earlier state of the same content, to which this one only adds."""
        now = as_stored(run.history)
        grown: list[tuple[int, StoredImport]] = []
        for stored in self._mlflow.with_stem(run.stem):
            known = self._mlflow.points(stored.run_id)
            # Two runs with the same settings and seed begin alike. The earlier one's folder tells them apart.
            moved = bool(known) and not Path(stored.source).exists()
            is_beginning = all(points <= now.get(name, set()) for name, points in known.items())
            if is_beginning and (moved or stored.source == storable(str(run.path))):
                grown.append((sum(map(len, known.values())), stored))
        return max(grown, key=lambda pair: pair[0], default=(0, None))[1]

    # ---- what is written ---------------------------------------------------------------------------

    def _fill(self, run: FinishedRun, run_id: str, experiment: str, *, updated: bool) -> str:
        """Put into a run of MLflow what it lacks; gives its id."""
        rows = new_rows(run, self._mlflow.points(run_id))
        refused = self._mlflow.write(run_id, plain_values(run.parameters), rows)
        for path in run.artifacts:
            folder = storable(run.artifact_name(path)).rpartition("/")[0]
            refused += self._mlflow.upload(run_id, path, folder or None)
        self._store(run, run_id, experiment)
        row = replace(_row(run, run_id, experiment), remarks=(*run.remarks, *refused), updated=updated)
        self._keep(run, row)
        tags = {
            words.DIGEST_TAG: run.digest,
            words.SOURCE_TAG: storable(str(run.path)),
            words.REMARKS_TAG: storable("; ".join(row.remarks[:_MAX_REMARKS])) or "none",
        }
        self._mlflow.complete(run_id, tags, run.status, _milliseconds(_span(run)[1]))
        self.imported.append(row)
        return run_id

    def _tags(self, run: FinishedRun) -> dict[str, str]:
        found = {storable(key)[:250]: storable(value) for key, value in run.tags.items() if key}
        ours = {
            "mlflow.user": self._settings.actor,
            "mlflow.source.name": found.get("mlflow.source.name", "guardianflow"),
            "mlflow.source.type": "LOCAL",
            "mlflow.parentRunId": self._ids.get(run.parent_id, ""),
            f"{TAG}kind": KIND,
            f"{TAG}version": __version__,
            f"{TAG}import_run_id": storable(run.source_id),
            words.DIGEST_TAG: run.digest,
            words.STEM_TAG: run.stem,
            words.KIND_TAG: run.kind,
            words.SOURCE_TAG: storable(str(run.path)),
        }
        return found | {name: value for name, value in ours.items() if value}

    def _store(self, run: FinishedRun, run_id: str, experiment: str) -> None:
        """Write the figures to the metrics store; one that is away gets them from the next import."""
        stored = "yes"
        try:
            self._sink.save_metrics(_metric_records(run, run_id, experiment))
        except Exception as error:  # noqa: BLE001 - as in a training: a store that is away must not end it
            log.warning("the figures of %s could not be stored (%s); import again later", run.path, error)
            stored = "no"
        self._mlflow.set_tags(run_id, {words.STORED_TAG: stored})

    def _keep(self, run: FinishedRun, row: ImportedRun) -> None:
        """Our own record of it, and in its folder where it came from."""
        folder = self._settings.runs_dir / folder_name(row.experiment) / row.run_id
        write_json(folder / IMPORT_FILE, plain_values({**vars(row), "digest": run.digest}))
        began, ended = _span(run)
        self._mlflow.keep_record(
            RunRecord(
                run_id=row.run_id,
                tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
                experiment=row.experiment,
                kind=KIND,
                status=run.status,
                reason=None if run.status == RunStatus.FINISHED else storable("; ".join(row.remarks[:3])) or None,
                parameters=plain_values(redact(plain_values(run.parameters))),
                template=None,
                folder=folder,
                actor=self._settings.actor,
                again_of=None,
                owner=ProcessIdentity.current(),
                heartbeat=self._mlflow.now(),
                started=began,
                ended=ended,
                progress=Progress(done=run.epochs, total=run.asked_epochs or run.epochs, unit="epoch", note="imported"),
            )
        )


def _row(run: FinishedRun, run_id: str, experiment: str, *, name: str = "") -> ImportedRun:
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
        remarks=run.remarks,
    )


# ---- figures and words as they are kept ------------------------------------------------------------


def _span(run: FinishedRun) -> tuple[datetime, datetime]:
    """When a run began and ended; what nothing tells is now, and no end is before its beginning."""
    began = run.started or run.ended or datetime.now(UTC)
    return began, max(began, run.ended or began)


def _milliseconds(time: datetime) -> int:
    """A time as MLflow takes it, since 1970."""
    return max(0, int(time.timestamp() * 1000))


def new_rows(run: FinishedRun, known: StoredPoints) -> Iterator[tuple[str, float, int, int]]:
    """The points that the run in MLflow lacks: name, value, ms, step."""
    for name, step, value, time_ms in _points(run):
        if (step, _shown(value)) not in known.get(name, ()):
            yield name, value, time_ms, step


def _metric_records(run: FinishedRun, run_id: str, experiment: str) -> Iterator[MetricRecord]:
    """The figures as measurements, with ids that a second import repeats."""
    seen: Counter[tuple[str, int]] = Counter()
    ended = _span(run)[1]
    for name, step, value, time_ms in _points(run):
        # TensorBoard may hold two figures of one step: they are two measurements.
        seen[name, step] += 1
        key = f"{run_id}/{name}/{step}/{seen[name, step]}"
        yield MetricRecord(
            time=moment(time_ms / 1000) or ended,
            metric=name,
            value=value,
            task=run.task or None,
            experiment=experiment,
            run_id=run_id,
            source=KIND,
            tags={"epoch": str(step), "kind": run.kind},
            event_id=hashlib.sha256(key.encode()).hexdigest()[:32],
        )


def as_stored(history: Mapping[str, Points]) -> StoredPoints:
    """All points, as MLflow hands them back."""
    return {name: {(step, _shown(value)) for step, value, _ in points} for name, points in history.items()}


def _points(run: FinishedRun) -> Iterator[tuple[str, int, float, int]]:
    """Name, step, value and ms of at most about :data:`MAX_POINTS` a metric, where no time is told the run's end.

    Every 2nd, 4th, 8th …, so that a longer run's are among a shorter one's.
    """
    ended = _milliseconds(_span(run)[1])
    for name, points in run.history.items():
        stride = 1
        while len(points) > MAX_POINTS * stride:
            stride *= 2
        for place, (step, value, time_ms) in enumerate(points):
            if place % stride == 0 or place == len(points) - 1:
                yield name, step, value, ended if time_ms is None else max(0, time_ms)


def _shown(value: float) -> str:
    return repr(math.nan if math.isinf(value) else float(value))  # MLflow gets infinity as NaN


def _legal_experiment(name: str) -> str:
    """A name as our rule for experiments has it, as near to the given one as that goes."""
    kept = "".join("-" if sign in _RESERVED else sign for sign in storable(name) if sign.isprintable())
    try:
        return validate_name(kept[:MAX_NAME].strip(), "experiment name")
    except InvalidNameError:
        return "imported"
