"""Runners: training, and what is known of runs.

A runner works the same in a notebook, in a script and behind the command line. Bad input is found
before any run exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricSink
from guardianflow.data.dataset import (
    Dataset,
    DatasetReport,
    check_dataset,
    fingerprint_dataset,
    read_dataset,
    require_usable,
    write_resolved_yaml,
)
from guardianflow.exceptions import InputError
from guardianflow.machine.system import SystemSampler
from guardianflow.runners._base import RESULT_FILE
from guardianflow.runners._prepared import PreparedRunner
from guardianflow.runners.training.evidence import PreparedTraining, TrainingEvidence, recorded_fingerprint
from guardianflow.runners.training.log import TrainingLog
from guardianflow.runners.training.pruning import pruner_of
from guardianflow.runners.training.result import TrainingResult
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.state.database import Database
from guardianflow.text.names import validate_name
from guardianflow.text.redaction import redact

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from guardianflow.vision.model_files import ModelSource

__all__ = ["TrainingResult", "TrainingRunner", "find_run"]

CHECKPOINT = Path("training", "weights", "last.pt")
"""In a run's folder: what it goes on from."""


class TrainingRunner(PreparedRunner[TrainingScenario, TrainingResult, PreparedTraining]):
    """Train a detector, logged, resumable and registered.

    Example:
        >>> result = TrainingRunner("gate", "yolo11n.yaml", "data.yaml", epochs=30).run()  # doctest: +SKIP
        >>> result.metrics["map50"]  # doctest: +SKIP
        0.81

    Raises:
        ParameterError: A value is out of range.
    """

    asks = TrainingScenario

    @classmethod
    def resuming(
        cls, run_id: str, *, settings: Settings | None = None, sink: MetricSink | None = None, **changes: Any
    ) -> TrainingRunner:
        """A runner that goes on with an interrupted training, in the same run.

        Args:
            run_id: The run, or an unambiguous beginning of its id.
            settings: Where the run is.
            sink: Where measurements go; default: the metrics store.
            changes: Of device, workers or batch; the rest stays as it was.

        Raises:
            NotFoundError: No such run.
            InputError: It is no training, or it finished.
        """
        settings = settings or Settings()
        record = find_run(run_id, settings=settings)
        values = {**record.parameters, **changes, "resume": record.run_id}
        return cls(**values, settings=settings, sink=sink)

    @property
    def dataset(self) -> Dataset:
        """The dataset, as :meth:`check` read it."""
        return self._checked().dataset

    @property
    def dataset_report(self) -> DatasetReport:
        """What :meth:`check` found in the images and labels."""
        return self._checked().report

    @property
    def fingerprint(self) -> str:
        """Of the data's content, as :meth:`check` took it."""
        return self._checked().fingerprint

    def plot_dataset(self) -> Figure:
        """How often each class is labelled, and how large its boxes are to the model."""
        from guardianflow.plots.dataset import dataset_figures, plot_dataset
        from guardianflow.vision.samples import box_sizes

        report, imgsz = self.dataset_report, self.scenario.model.imgsz
        sizes = box_sizes(self.dataset, imgsz=imgsz, seed=self.scenario.env.seed, exclude=report.bad_images)
        boxes = {split: counts.boxes_per_class for split, counts in report.splits.items()}
        return plot_dataset(dataset_figures(boxes, sizes, imgsz=imgsz))

    def check(self) -> None:
        """Check names, options, device, dataset and model; nothing is written."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        if asked.run.register_as:
            validate_name(asked.run.register_as, "model name")
        self._check_work_dir()
        from guardianflow.vision.devices import check_device
        from guardianflow.vision.model_files import ModelSource, find_model
        from guardianflow.vision.training.options import read_options

        checkpoint = self._checkpoint() if asked.run.resume else None
        options = read_options(asked.run.options)
        dataset = read_dataset(asked.dataset.data_yaml)
        self.require_classes(dataset.names)
        report = check_dataset(dataset)
        require_usable(report, asked.dataset.allow_bad)
        fingerprint = fingerprint_dataset(dataset).total
        if checkpoint is not None:
            self._require_same_data(fingerprint)
            model = ModelSource(str(checkpoint), "weights")
        else:
            model = find_model(self._local_model(), classes=dataset.names, new_head=asked.model.new_head)
        check_device(asked.env.device)
        void, remarks = self._effects(options, dataset, report, model)
        self._prepared = PreparedTraining(dataset, report, fingerprint, model, options, void)
        self.remarks = (*report.remarks(), *remarks, *_other_names(model, dataset))

    def _effects(
        self, options: Mapping[str, Any], dataset: Dataset, report: DatasetReport, model: ModelSource
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Options without effect, and remarks on all that is not as it was asked."""
        from guardianflow.vision.devices import best_device
        from guardianflow.vision.training.option_effects import (
            AskedTraining,
            check_freeze,
            effect_remarks,
            without_effect,
        )

        counts = report.splits["train"]
        training = AskedTraining(
            options,
            epochs=self.scenario.run.epochs,
            batch=self.scenario.run.batch,
            images=counts.images - counts.bad,
            on_cpu=(self.scenario.env.device or best_device()) == "cpu",
            polygons=any(problem.kind == "polygons" for problem in report.problems),
        )
        bare = check_freeze(options.get("freeze"), model, len(dataset.names))
        return without_effect(training), (*effect_remarks(training), *bare)

    def work(self, run: TrackedRun) -> TrainingResult:
        """Train inside a run and log everything that comes of it."""
        from guardianflow.vision.training.training import TrainingJob, train_detector

        prepared, asked = self._checked(), self.scenario
        evidence = TrainingEvidence(run, asked, prepared, self.settings, self.sink)
        job = TrainingJob(
            model=prepared.model.spec,
            data_yaml=self._resolved_yaml(prepared),
            folder=run.folder / "training",
            log_file=run.folder / "training.log",
            epochs=asked.run.epochs,
            batch=asked.run.batch,
            imgsz=asked.model.imgsz,
            device=asked.env.device,
            seed=asked.env.seed,
            workers=asked.env.workers,
            threads=asked.env.threads,
            patience=asked.run.patience,
            options=prepared.options,
            resume=Path(prepared.model.spec) if asked.run.resume else None,
        )
        evidence.keep_start()
        prune = pruner_of(run.folder, self.settings)
        epochs = TrainingLog(run, self.sink, asked, prune=prune, shown=self.shows_progress)
        try:
            with SystemSampler(interval_s=2.0) as sampler:
                outcome = train_detector(job, epochs)
        except BaseException:
            evidence.keep_wreck(job.folder)
            raise
        finally:
            epochs.close()
        result = evidence.keep_result(outcome, epochs, sampler)
        result = replace(result, remarks=(*self.remarks, *result.remarks, *self.unmet(result.metrics)))
        write_json(run.folder / RESULT_FILE, result.to_dict())
        return result

    def question(self) -> str:
        """Whether a training that was done already, on the same data, is meant to be done again."""
        asked = redact(self.scenario.flat())
        done = RunRecords(Database.open(self.settings.database_url)).list(
            experiment=self.scenario.experiment, status=RunStatus.FINISHED, kind=self.kind
        )
        same = (run for run in done if {**run.parameters, "resume": ""} == {**asked, "resume": ""})
        twin = next((run for run in same if recorded_fingerprint(run.folder) == self.fingerprint), None)
        if twin is None or self.scenario.run.resume:
            return ""
        return (
            f"Run {twin.run_id[:12]} of {twin.started:%Y-%m-%d %H:%M} UTC trained exactly this; "
            f'guardianflow.open_run("{twin.run_id[:12]}") shows it. Train it once more?'
        )

    def how_to_go_on(self, run: TrackedRun) -> str:
        """How an interrupted training is resumed, where an epoch of it was saved."""
        if not (run.folder / CHECKPOINT).is_file():
            return f"it had no epoch behind it; {super().how_to_go_on(run)}"
        return (
            f'go on after its last epoch: result = TrainingRunner.resuming("{run.run_id}").run(), '
            f"or `guardianflow train --resume {run.run_id}`"
        )

    def _needs_check(self) -> bool:
        # A cell of the notebook may have checked already. Decoding all images is what costs; hashing them doesn't.
        prepared = self._prepared
        return (
            prepared is None
            or fingerprint_dataset(read_dataset(self.scenario.dataset.data_yaml)).total != prepared.fingerprint
        )

    def _open_run(self) -> TrackedRun:
        if self.scenario.run.resume and not self.run_id:
            return TrackedRun.reopen(self.settings, self.scenario.run.resume)
        return super()._open_run()

    def _local_model(self) -> str:
        spec = self.scenario.model.architecture
        if not spec.startswith("models:/"):
            return spec
        from guardianflow.core.registry import ModelRegistry

        return str(ModelRegistry(self.settings).resolve(spec))

    def _checkpoint(self) -> Path:
        record = find_run(self.scenario.run.resume, settings=self.settings)
        if record.kind != self.kind:
            raise InputError(f"run {record.run_id} is a run of kind {record.kind!r}; only trainings can be resumed")
        if record.status == RunStatus.FINISHED:
            msg = f"run {record.run_id} finished; start a new one with `guardianflow run --again {record.run_id}`"
            raise InputError(msg)
        record.require_files()
        checkpoint = record.folder / CHECKPOINT
        if not checkpoint.is_file():
            raise InputError(
                f"run {record.run_id} ended before its first epoch was saved, so there is nothing to resume; "
                f"start it anew with `guardianflow run --again {record.run_id}`"
            )
        return checkpoint

    def _require_same_data(self, fingerprint: str) -> None:
        known = recorded_fingerprint(find_run(self.scenario.run.resume, settings=self.settings).folder)
        if known is not None and known != fingerprint:
            raise InputError(
                f"the data of {self.scenario.dataset.data_yaml} has changed since run {self.scenario.run.resume} "
                f"began, so its figures would belong to no dataset; put the data back as it was, or start a new run "
                f"(guardianflow run --again {self.scenario.run.resume})"
            )

    def _check_work_dir(self) -> None:
        if "'" in str(self.settings.work_dir):
            raise InputError(
                f"the work folder {self.settings.work_dir} holds an apostrophe, which Ultralytics drops from paths; "
                "choose another one with GUARDIANFLOW_WORK_DIR"
            )

    def _resolved_yaml(self, prepared: PreparedTraining) -> Path:
        bad = sorted(prepared.report.bad_images)
        key = "\n".join([prepared.fingerprint, str(prepared.dataset.root), *map(str, bad)])
        folder = self.settings.work_dir / "cache" / "datasets" / sha256(key.encode()).hexdigest()[:24]
        folder.mkdir(parents=True, exist_ok=True)
        return write_resolved_yaml(prepared.dataset, folder / "data.yaml", exclude=bad)


def _other_names(model: ModelSource, dataset: Dataset) -> list[str]:
    """What to say of weights that have as many classes as the data, under other names."""
    if len(model.classes) != len(dataset.names) or tuple(model.classes) == dataset.names:
        return []
    pairs = [f"{old!r}, now {new!r}" for old, new in zip(model.classes, dataset.names, strict=True) if old != new]
    more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
    begins = "the training begins with what they know, class by class"
    return [f"the weights call their classes otherwise than the data ({'; '.join(pairs[:3])}{more}); {begins}"]


def find_run(run_id: str, *, settings: Settings | None = None) -> RunRecord:
    """Our record of a run, by its id or the beginning of it."""
    settings = settings or Settings()
    return RunRecords(Database.open(settings.database_url)).get(run_id)
