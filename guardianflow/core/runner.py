"""Runners: check what is asked, make a run, do the work, log it, end the run truthfully.

A runner works the same in a notebook, in a script and behind the command line. Bad input is found
before any run exists. Whatever way the work ends (done, error, Ctrl-C, SIGTERM), the run says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.database import Database
from guardianflow.core.metrics import MetricRecord, MetricSink, NullSink, get_model_size
from guardianflow.core.names import validate_name
from guardianflow.core.parameters import RunParameters, TrainingParameters, parse_parameters
from guardianflow.core.results import SAMPLES_FILE, TrainingResult, format_metric
from guardianflow.core.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.core.system import SystemSampler
from guardianflow.core.tracking import TrackedRun, environment_facts, write_json
from guardianflow.data.dataset import (
    Dataset,
    DatasetReport,
    check_dataset,
    fingerprint_dataset,
    read_dataset,
    require_usable,
    write_resolved_yaml,
)
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RunInterruptedError

if TYPE_CHECKING:
    from guardianflow.vision.model_files import ModelSource
    from guardianflow.vision.training import EpochReport, TrainingOutcome

__all__ = ["RESULT_FILE", "Runner", "TrainingRunner"]

log = logging.getLogger(__name__)

RESULT_FILE = "result.json"
PROGRESS_EVERY_S = 2.0

P = TypeVar("P", bound=RunParameters)
R = TypeVar("R")


class Runner(Generic[P, R]):
    """The life of one run; subclasses say what to check and what to do.

    Attributes:
        kind: The run's kind, which is also the name of its template notebook.
        parameters: What was asked.
    """

    kind: str
    schema: type[P]

    def __init__(self, parameters: P, *, settings: Settings | None = None, sink: MetricSink | None = None) -> None:
        self.parameters = parameters
        self.settings = settings or Settings()
        self._sink = sink

    def check(self) -> None:
        """Find what is wrong with the input before any run exists.

        Raises:
            InputError: Names the file or value and the next step.
        """
        raise NotImplementedError

    def run(self) -> R:
        """Check, do the work in a run, and return the result.

        Raises:
            InputError: The input can't be used; no run was made.
            RunFailedError: The run failed; its status and evidence say why.
            RunInterruptedError: SIGTERM ended it.
        """
        self.check()
        with _sigterm_raises(), self._open_run() as run:
            return self.work(run)

    def work(self, run: TrackedRun) -> R:
        """Do the work inside a run."""
        raise NotImplementedError

    @property
    def sink(self) -> MetricSink:
        """Where measurements go; the metrics store of the settings unless one was given."""
        if self._sink is None:
            self._sink = _default_sink(self.settings)
        return self._sink

    def _open_run(self) -> TrackedRun:
        if self.parameters.run_id:
            return TrackedRun.attach(self.settings, self.parameters.run_id)
        return TrackedRun.start(
            self.settings,
            experiment=self.parameters.experiment_name,
            kind=self.kind,
            parameters=self.parameters.identity(),
        )


@dataclass(frozen=True)
class PreparedTraining:
    """What the check of a training found, for the training itself."""

    dataset: Dataset
    report: DatasetReport
    fingerprint: str
    model: ModelSource


class TrainingRunner(Runner[TrainingParameters, TrainingResult]):
    """Train a detector, logged, resumable and registered.

    Example:
        >>> result = TrainingRunner("gate", "yolo11n.yaml", "data.yaml", epochs=30).run()  # doctest: +SKIP
        >>> result.metrics["map50"]  # doctest: +SKIP
        0.81

    Args:
        experiment_name: Experiment in MLflow.
        model_arch: Weights file, model YAML, a name that Ultralytics knows, or ``models:/NAME@champion``.
        data_yaml: An Ultralytics data.yaml.
        epochs: Passes over the training split.
        batch: Images per step.
        imgsz: Side of the square input, in pixels.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``, ``"0,1"``.
        seed: The same seed gives the same weights on a CPU.
        register_as: Register the best weights under this name and make them the candidate.
        workers: Processes that load images.
        patience: Epochs without improvement after which training stops; 0 never stops.
        allow_bad: Percentage of bad images that is left out instead of refused.
        new_head: Start from weights of other classes.
        options: Further Ultralytics training arguments.
        resume: Go on with this interrupted run (use :meth:`resuming`).
        run_id: Write into this run, which somebody else made and ends.
        settings: Where to; default: from the environment.
        sink: Where measurements go; default: the metrics store.

    Raises:
        ParameterError: A value is out of range.
    """

    kind = "train"
    schema = TrainingParameters

    def __init__(
        self,
        experiment_name: str,
        model_arch: str,
        data_yaml: str | Path,
        epochs: int = 100,
        batch: int = 16,
        imgsz: int = 640,
        device: str = "",
        seed: int = 0,
        register_as: str = "",
        *,
        workers: int = 8,
        patience: int = 100,
        allow_bad: float = 0.0,
        new_head: bool = False,
        options: Mapping[str, Any] | None = None,
        resume: str = "",
        run_id: str = "",
        settings: Settings | None = None,
        sink: MetricSink | None = None,
    ) -> None:
        values = {
            "experiment_name": experiment_name,
            "model_arch": str(model_arch),
            "data_yaml": str(data_yaml),
            "epochs": epochs,
            "batch": batch,
            "imgsz": imgsz,
            "device": str(device),
            "seed": seed,
            "register_as": register_as or "",
            "workers": workers,
            "patience": patience,
            "allow_bad": allow_bad,
            "new_head": new_head,
            "options": dict(options or {}),
            "resume": resume,
            "run_id": run_id,
        }
        super().__init__(parse_parameters(TrainingParameters, values), settings=settings, sink=sink)
        self._prepared: PreparedTraining | None = None

    @classmethod
    def from_parameters(
        cls, parameters: TrainingParameters, *, settings: Settings | None = None, sink: MetricSink | None = None
    ) -> TrainingRunner:
        """A runner from checked parameters."""
        return cls(**parameters.model_dump(), settings=settings, sink=sink)

    @classmethod
    def resuming(cls, run_id: str, *, settings: Settings | None = None, **changes: Any) -> TrainingRunner:
        """A runner that goes on with an interrupted training, in the same run.

        Args:
            run_id: The run, or an unambiguous beginning of its id.
            settings: Where the run is.
            changes: Of device, workers or batch; the rest stays as it was.

        Raises:
            NotFoundError: No such run.
            InputError: It is no training, or it finished.
        """
        settings = settings or Settings()
        record = RunRecords(Database.open(settings.database_url)).get(run_id)
        values = {**record.parameters, **changes, "resume": record.run_id}
        return cls.from_parameters(parse_parameters(TrainingParameters, values), settings=settings)

    def check(self) -> None:
        """Check names, options, device, dataset and model; nothing is written."""
        asked = self.parameters
        validate_name(asked.experiment_name, "experiment name")
        if asked.register_as:
            validate_name(asked.register_as, "model name")
        from guardianflow.vision.devices import check_device
        from guardianflow.vision.model_files import ModelSource, find_model
        from guardianflow.vision.training import check_options

        check_options(asked.options)
        dataset = read_dataset(asked.data_yaml)
        report = check_dataset(dataset)
        require_usable(report, asked.allow_bad)
        if asked.resume:
            model = ModelSource(str(self._checkpoint()), "weights")
        else:
            model = find_model(self._local_model(), classes=dataset.names, new_head=asked.new_head)
        check_device(asked.device)
        self._prepared = PreparedTraining(dataset, report, fingerprint_dataset(dataset).total, model)

    def work(self, run: TrackedRun) -> TrainingResult:
        """Train inside a run and log everything that comes of it."""
        from guardianflow.vision.training import TrainingJob, train_detector

        if self._prepared is None:
            self.check()
        prepared = self._prepared
        assert prepared is not None  # noqa: S101 - check() sets it or raises
        asked = self.parameters
        folder = run.folder / "training"
        data_yaml = self._resolved_yaml(prepared)
        self._log_start(run, prepared)
        observer = _TrainingLog(run, self.sink, asked)
        job = TrainingJob(
            model=prepared.model.spec,
            data_yaml=data_yaml,
            folder=folder,
            epochs=asked.epochs,
            batch=asked.batch,
            imgsz=asked.imgsz,
            device=asked.device,
            seed=asked.seed,
            workers=asked.workers,
            patience=asked.patience,
            options=asked.options,
            resume=Path(prepared.model.spec) if asked.resume else None,
        )
        sampler = SystemSampler(interval_s=2.0)
        try:
            with sampler:
                outcome = train_detector(job, observer)
        except BaseException:
            self._log_wreck(run, folder)
            raise
        finally:
            observer.close()
        return self._finish(run, prepared, outcome, observer, sampler)

    def _open_run(self) -> TrackedRun:
        if self.parameters.resume and not self.parameters.run_id:
            return TrackedRun.reopen(self.settings, self.parameters.resume)
        return super()._open_run()

    def _local_model(self) -> str:
        spec = self.parameters.model_arch
        if not spec.startswith("models:/"):
            return spec
        from guardianflow.core.registry import ModelRegistry

        return str(ModelRegistry(self.settings).resolve(spec))

    def _checkpoint(self) -> Path:
        record = RunRecords(Database.open(self.settings.database_url)).get(self.parameters.resume)
        if record.kind != self.kind:
            msg = f"run {record.run_id} is a run of kind {record.kind!r}; only trainings can be resumed"
            raise InputError(msg)
        if record.status == RunStatus.FINISHED:
            msg = f"run {record.run_id} finished; start a new one with `guardianflow run --again {record.run_id}`"
            raise InputError(msg)
        checkpoint = record.folder / "training" / "weights" / "last.pt"
        if not checkpoint.is_file():
            msg = (
                f"run {record.run_id} ended before its first epoch was saved, so there is nothing to resume; "
                f"start it anew with `guardianflow run --again {record.run_id}`"
            )
            raise InputError(msg)
        return checkpoint

    def _resolved_yaml(self, prepared: PreparedTraining) -> Path:
        bad = sorted(prepared.report.bad_images)
        key = "\n".join([prepared.fingerprint, str(prepared.dataset.root), *map(str, bad)])
        folder = self.settings.work_dir / "cache" / "datasets" / sha256(key.encode()).hexdigest()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        return write_resolved_yaml(prepared.dataset, folder / "data.yaml", exclude=bad)

    def _log_start(self, run: TrackedRun, prepared: PreparedTraining) -> None:
        facts = {
            "data_yaml": str(prepared.dataset.yaml_path),
            "fingerprint": prepared.fingerprint,
            **prepared.report.to_dict(),
        }
        run.log_params(self.parameters.identity())
        run.set_tags(
            {
                "guardianflow.dataset_fingerprint": prepared.fingerprint,
                "guardianflow.dataset": str(prepared.dataset.yaml_path),
                "guardianflow.model_source": prepared.model.kind,
                "guardianflow.folder": str(run.folder),
            }
        )
        run.log_artifact(write_json(run.folder / "dataset.json", facts))
        run.log_artifact(write_json(run.folder / "environment.json", environment_facts()))

    def _log_wreck(self, run: TrackedRun, folder: Path) -> None:
        for path in (folder / "training.log", folder / "results.csv"):
            if path.exists():
                run.log_artifact(path, "training")
        if (folder / "weights" / "last.pt").exists():
            run.log_artifact(folder / "weights" / "last.pt", "weights")
            log.warning("the training can go on where it ended: guardianflow train --resume %s", run.run_id)

    def _finish(
        self,
        run: TrackedRun,
        prepared: PreparedTraining,
        outcome: TrainingOutcome,
        observer: _TrainingLog,
        sampler: SystemSampler,
    ) -> TrainingResult:
        metrics = dict(outcome.metrics)
        metrics["train_seconds"] = outcome.seconds
        metrics["model_size_mb"] = get_model_size(outcome.best)
        metrics["train_images_per_s"] = observer.images_per_s
        system = sampler.summary()
        if "rss_mb" in system:
            metrics["peak_rss_mb"] = system["rss_mb"].max
        if outcome.peak_gpu_mem_mb is not None:
            metrics["peak_gpu_mem_mb"] = outcome.peak_gpu_mem_mb
        metrics.update({name: figures.mean for name, figures in system.items() if name in _MEANS})
        # One step behind the last epoch, so that "the last value" in MLflow is the one of best.pt.
        run.log_metrics(metrics, step=observer.last_epoch + 1)
        observer.save("final", metrics, device=outcome.device)
        result = TrainingResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            metrics=metrics,
            model=f"runs:/{run.run_id}/weights/best.pt",
            folder=run.folder,
            best=outcome.best,
            last=outcome.last,
            history=observer.history(),
            per_class=[asdict(row) for row in outcome.per_class],
            dataset={
                "data_yaml": str(prepared.dataset.yaml_path),
                "fingerprint": prepared.fingerprint,
                "names": list(prepared.dataset.names),
            },
            pictures=outcome.pictures,
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )
        self._log_samples(run, prepared, outcome)
        self._log_files(run, outcome, result)
        result = self._register(run, result)
        write_json(run.folder / RESULT_FILE, result.to_dict())
        return result

    def _log_samples(self, run: TrackedRun, prepared: PreparedTraining, outcome: TrainingOutcome) -> None:
        from guardianflow.vision.samples import sample_predictions

        try:
            samples = sample_predictions(
                outcome.best, prepared.dataset, imgsz=self.parameters.imgsz, seed=self.parameters.seed,
                device=self.parameters.device,
            )  # fmt: skip
        except (RuntimeError, OSError, ValueError) as error:
            log.warning("the sample predictions could not be drawn: %s", error)
            return
        run.log_artifact(write_json(run.folder / SAMPLES_FILE, [sample.to_dict() for sample in samples]), "samples")

    def _log_files(self, run: TrackedRun, outcome: TrainingOutcome, result: TrainingResult) -> None:
        run.log_artifact(outcome.best, "weights")
        run.log_artifact(outcome.last, "weights")
        run.log_artifact(write_json(run.folder / "per_class.json", list(result.per_class)))
        run.log_artifact(write_json(run.folder / "history.json", list(result.history)))
        folder = outcome.best.parent.parent
        for path in (folder / "results.csv", folder / "training.log", folder / "args.yaml"):
            if path.exists():
                run.log_artifact(path, "training")
        for path in outcome.pictures:
            run.log_artifact(path, "samples" if "batch" in path.name else "curves")

    def _register(self, run: TrackedRun, result: TrainingResult) -> TrainingResult:
        name = self.parameters.register_as
        if not name:
            return result
        from guardianflow.core.registry import ModelRegistry

        again = f"guardianflow register {name} --run {run.run_id}"
        if not run.flush(timeout_s=60.0):
            log.warning("MLflow did not take the weights, so %r was not registered; later: %s", name, again)
            return result
        try:
            version = ModelRegistry(self.settings).register(
                name,
                run.run_id,
                metrics={key: result.metrics[key] for key in result.metrics},
                dataset_fingerprint=result.dataset["fingerprint"],
            )
        except GuardianFlowError as error:
            log.warning("%r was not registered (%s); later: %s", name, error, again)
            return result
        return replace(result, model=version.uri)


_MEANS = ("gpu_util", "gpu_mem_mb", "gpu_power_w", "gpu_temp_c", "cpu_util")


class _TrainingLog:
    """Passes what the training reports to MLflow, to the store, to the record and to the screen."""

    def __init__(self, run: TrackedRun, sink: MetricSink, asked: TrainingParameters) -> None:
        from tqdm.auto import tqdm

        self._run = run
        self._sink = sink
        self._asked = asked
        self._history_file = run.folder / "epochs.jsonl"
        self._bar = tqdm(total=asked.epochs, desc="epochs", unit="epoch", dynamic_ncols=True)
        self._said = 0.0
        self._images_per_s: list[float] = []
        self.last_epoch = 0

    @property
    def images_per_s(self) -> float:
        """Median training speed over the epochs, images per second."""
        ordered = sorted(self._images_per_s)
        return ordered[len(ordered) // 2] if ordered else 0.0

    def on_start(self, first_epoch: int, epochs: int) -> None:
        self.last_epoch = first_epoch - 1
        self._bar.total = epochs
        self._bar.update(first_epoch - 1 - self._bar.n)
        if first_epoch == 1:
            self._history_file.unlink(missing_ok=True)
        self._run.set_progress(first_epoch - 1, epochs, unit="epoch", note="first batches")

    def on_batch(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            self._run.set_progress(
                self.last_epoch, self._bar.total, unit="epoch", note=f"batch {done} of {total}"
            )

    def on_epoch(self, report: EpochReport) -> None:
        self.last_epoch = report.epoch
        self._images_per_s.append(report.images_per_s)
        row = report.to_dict()
        with self._history_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        figures = {key: value for key, value in row.items() if key != "epoch"}
        self._run.log_metrics(figures, step=report.epoch)
        self.save(str(report.epoch), {**report.metrics, "epoch_seconds": report.seconds})
        note = f"mAP50 {format_metric('map50', report.metrics.get('map50'))}"
        self._run.set_progress(report.epoch, report.epochs, unit="epoch", note=note)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(1)

    def save(self, stage: str, metrics: Mapping[str, float], *, device: str | None = None) -> None:
        """Write figures to the store; the same stage written twice is stored once."""
        now = datetime.now(UTC)
        records = [
            MetricRecord(
                time=now,
                metric=name,
                value=value,
                model=self._asked.register_as or None,
                task="detection",
                experiment=self._run.experiment,
                run_id=self._run.run_id,
                device=device or self._asked.device or None,
                source="training",
                tags={"epoch": stage, "split": "val"},
                event_id=sha256(f"{self._run.run_id}/{stage}/{name}".encode()).hexdigest()[:32],
            )
            for name, value in metrics.items()
        ]
        try:
            self._sink.save_metrics(records)
        except Exception as error:  # noqa: BLE001 - a store that is away must not end a training
            log.warning("the figures of epoch %s could not be stored: %s", stage, error)

    def history(self) -> list[dict[str, float]]:
        """All epochs of this run, those before a resume included, each once."""
        rows: dict[int, dict[str, float]] = {}
        if self._history_file.exists():
            for line in self._history_file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    rows[int(row["epoch"])] = row
        return [rows[epoch] for epoch in sorted(rows)]

    def close(self) -> None:
        """Leave the progress bar as it stands."""
        self._bar.close()


def load_result(folder: Path) -> TrainingResult:
    """The result of a finished training, from its run folder.

    Raises:
        NotFoundError: The run left no result.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        msg = f"there is no result in {folder}; the run did not finish"
        raise NotFoundError(msg)
    return TrainingResult.from_dict(json.loads(path.read_text(encoding="utf-8")))


def find_run(run_id: str, *, settings: Settings | None = None) -> RunRecord:
    """Our record of a run, by its id or the beginning of it."""
    settings = settings or Settings()
    return RunRecords(Database.open(settings.database_url)).get(run_id)


def _default_sink(settings: Settings) -> MetricSink:
    try:
        from guardianflow.dashboard.metrics_store import MetricsStore

        return MetricsStore(settings.database_url)
    except GuardianFlowError as error:
        log.warning("measurements are not stored: %s", error)
        return NullSink()


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end the work as an exception, so that the run gets its status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, _: object) -> None:
        raise RunInterruptedError(f"ended by signal {signal.Signals(signum).name}", signum=signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
