"""What a run keeps of its training: facts before it, files after it, and a version in the registry."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._kernel import by_hand
from guardianflow.core.config import mask_secrets
from guardianflow.core.metrics import get_model_size
from guardianflow.data.dataset import Dataset, DatasetReport
from guardianflow.machine.system import SystemSampler
from guardianflow.registry.evaluations import EVALUATION_FOLDER, ClassAp, Evaluations, evaluation_row
from guardianflow.runners._evidence import Evidence
from guardianflow.runners.training.log import TrainingLog
from guardianflow.runners.training.result import SAMPLES_FILE, TrainingResult
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import environment_facts, write_json
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.vision.serving import Serving

if TYPE_CHECKING:
    from guardianflow.evaluation.detection.records import DetectionRecord
    from guardianflow.vision.model_files import ModelSource
    from guardianflow.vision.training.epochs import TrainingOutcome

__all__ = ["PreparedTraining", "TrainingEvidence", "recorded_fingerprint"]

log = logging.getLogger(__name__)

DATASET_FILE = "dataset.json"
_MEANS = ("gpu_util", "gpu_mem_mb", "gpu_power_w", "gpu_temp_c", "cpu_util")
_EVALUATION_BATCH = 16


@dataclass(frozen=True)
class PreparedTraining:
    """What the check of a training found, for the training itself.

    Attributes:
        dataset: The data.
        report: What is wrong with it.
        fingerprint: Of its content.
        model: What it starts from.
        options: The options as Ultralytics takes them.
        without_effect: Which of them change nothing, and why.
    """

    dataset: Dataset
    report: DatasetReport
    fingerprint: str
    model: ModelSource
    options: Mapping[str, Any]
    without_effect: Mapping[str, str]


def recorded_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the data that the run in this folder was trained on, if it came so far."""
    try:
        facts = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(facts["fingerprint"]) if facts.get("fingerprint") else None


class TrainingEvidence(Evidence[TrainingScenario, PreparedTraining]):
    """Writes what a training leaves behind, into its run."""

    def keep_start(self) -> None:
        """Parameters, the facts of the data and the environment. A resumed run keeps those of its beginning."""
        run, prepared = self.run, self.prepared
        void = prepared.without_effect
        effective = {name: value for name, value in prepared.options.items() if name not in void}
        run.log_params({**self.asked.flat(), "options": effective})
        if void:
            said = ", ".join(f"{name}={prepared.options[name]!r}" for name in void)
            run.set_tags({"guardianflow.options_without_effect": said})
        if self.asked.run.resume:
            run.log_artifact(write_json(run.folder / "environment-resumed.json", environment_facts()))
            return
        run.set_tags(
            {
                "guardianflow.dataset_fingerprint": prepared.fingerprint,
                "guardianflow.dataset": str(prepared.dataset.yaml_path),
                "guardianflow.model_source": prepared.model.kind,
                "guardianflow.folder": str(run.folder),
            }
        )
        facts = {
            "data_yaml": str(prepared.dataset.yaml_path),
            "fingerprint": prepared.fingerprint,
            **prepared.report.to_dict(),
        }
        run.log_artifact(write_json(run.folder / DATASET_FILE, facts))
        run.log_artifact(write_json(run.folder / "environment.json", environment_facts()))

    def keep_wreck(self, folder: Path) -> None:
        """The log, the figures and the last weights of a training that broke off."""
        run = self.run
        for path in (run.folder / "training.log", folder / "results.csv"):
            if path.exists():
                run.log_artifact(path, "training")
        last = folder / "weights" / "last.pt"
        if last.exists():
            run.log_artifact(last, "weights")
            said = logging.DEBUG if by_hand() else logging.WARNING  # a person is told by the error itself
            log.log(said, "the training can go on where it ended: guardianflow train --resume %s", run.run_id)

    def keep_result(self, outcome: TrainingOutcome, epochs: TrainingLog, sampler: SystemSampler) -> TrainingResult:
        """Figures, files and samples of a finished training; registered, where that was asked."""
        metrics = self._final_metrics(outcome, epochs, sampler)
        # One step behind the last epoch, so that "the last value" in MLflow is the one of best.pt.
        self.run.log_metrics(metrics, step=epochs.last_epoch + 1)
        epochs.save("final", metrics, device=outcome.device)
        epochs.on_settings(outcome.used)
        result = self._result(outcome, metrics, epochs)
        self._keep_samples(outcome)
        self._keep_files(outcome, result)
        self._keep_evaluation(outcome)
        return self._registered(result, outcome.imgsz)

    def _final_metrics(self, outcome: TrainingOutcome, epochs: TrainingLog, sampler: SystemSampler) -> dict[str, float]:
        metrics = dict(outcome.metrics)
        metrics["train_seconds"] = epochs.seconds_before + outcome.seconds
        metrics["model_size_mb"] = get_model_size(outcome.best)
        if epochs.images_per_s is not None:
            metrics["train_images_per_s"] = epochs.images_per_s
        system = sampler.summary()
        if "rss_mb" in system:
            metrics["peak_rss_mb"] = system["rss_mb"].max
        if outcome.peak_gpu_mem_mb is not None:
            metrics["peak_gpu_mem_mb"] = outcome.peak_gpu_mem_mb
        metrics.update({name: figures.mean for name, figures in system.items() if name in _MEANS})
        return metrics

    def _result(self, outcome: TrainingOutcome, metrics: dict[str, float], epochs: TrainingLog) -> TrainingResult:
        run, prepared = self.run, self.prepared
        return TrainingResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            metrics=metrics,
            model=f"runs:/{run.run_id}/weights/best.pt",
            folder=run.folder,
            best=outcome.best,
            last=outcome.last,
            epochs=self.asked.run.epochs,
            history=epochs.history(),
            per_class=list(outcome.per_class),
            dataset={
                "data_yaml": str(prepared.dataset.yaml_path),
                "fingerprint": prepared.fingerprint,
                "names": list(prepared.dataset.names),
                "images": {split: counts.images - counts.bad for split, counts in prepared.report.splits.items()},
                "left_out": len(prepared.report.bad_images),
            },
            used=dict(outcome.used),
            pictures=outcome.pictures,
            remarks=(*self._altered(outcome), *_pruned(epochs, self.asked.run.epochs)),
            stopped_by="pruner" if epochs.pruned else "",
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )

    def _altered(self, outcome: TrainingOutcome) -> tuple[str, ...]:
        """What was asked and came out otherwise, by what Ultralytics does without a word."""
        asked = {"batch": self.asked.run.batch, "imgsz": self.asked.model.imgsz}
        whys = {"batch": "more didn't fit into the GPU's memory", "imgsz": "the model's stride divides it"}
        return tuple(
            f"{name}={asked[name]} became {outcome.used[name]}: {whys[name]}"
            for name in asked
            if outcome.used.get(name, asked[name]) != asked[name]
        )

    def _keep_samples(self, outcome: TrainingOutcome) -> None:
        from guardianflow.vision.samples import sample_predictions

        try:
            samples = sample_predictions(
                outcome.best, self.prepared.dataset, imgsz=outcome.imgsz, seed=self.asked.env.seed,
                device=self.asked.env.device.split(",")[0], exclude=self.prepared.report.bad_images,
            )  # fmt: skip
        except (RuntimeError, OSError, ValueError) as error:
            log.warning("the sample predictions could not be drawn: %s", error)
            return
        self.run.log_artifact(write_json(self.run.folder / SAMPLES_FILE, samples), "samples")

    def _keep_files(self, outcome: TrainingOutcome, result: TrainingResult) -> None:
        run = self.run
        run.log_artifact(outcome.best, "weights")
        run.log_artifact(outcome.last, "weights")
        run.log_artifact(write_json(run.folder / "per_class.json", list(result.per_class)))
        run.log_artifact(write_json(run.folder / "history.json", list(result.history)))
        folder = outcome.best.parent.parent
        for path in (folder / "results.csv", folder / "args.yaml", run.folder / "training.log"):
            if path.exists():
                run.log_artifact(path, "training")
        for path in outcome.pictures:
            run.log_artifact(path, "samples" if "batch" in path.name else "curves")

    def _keep_evaluation(self, outcome: TrainingOutcome) -> None:
        """What the best weights see on the validation images, by our own pipeline: a gate compares by that."""
        folder = self.run.folder / EVALUATION_FOLDER
        try:
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that broke off after its training
            record = self._seen_by(outcome.best, outcome.imgsz)
            self._index_record(record, record.save(folder))
            self.run.log_artifact(folder, EVALUATION_FOLDER)
        except Exception as error:  # noqa: BLE001 - hours of training must not be lost over this
            log.warning(
                "there is no evidence of how good the weights are, so a gate will refuse them (%s: %s); "
                "`guardianflow infer` gathers it later",
                type(error).__name__, error,
            )  # fmt: skip

    def _seen_by(self, weights: Path, imgsz: int) -> DetectionRecord:
        from guardianflow.vision.backends._base import BackendOptions
        from guardianflow.vision.backends.catalog import open_backend
        from guardianflow.vision.evaluation_set import collect_record
        from guardianflow.vision.model_artifacts import read_model_file
        from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

        asked, prepared = self.asked, self.prepared
        batch = min(asked.run.batch, _EVALUATION_BATCH)
        options = BackendOptions(device=asked.env.device.split(",")[0], imgsz=imgsz, batch=batch, compiled=False)
        model = read_model_file(weights)
        with open_backend(model, backend="torch", options=options) as backend:
            return collect_record(
                Pipeline(backend, PipelineConfig(imgsz=imgsz, batch=batch)),
                prepared.dataset,
                "val",
                fingerprint=prepared.fingerprint,
                facts={"model_sha256": model.sha256},
            )

    def _index_record(self, record: DetectionRecord, folder: Path) -> None:
        from guardianflow.evaluation.detection.evaluate import evaluate_detection

        result = evaluate_detection(record)
        per_class: list[ClassAp] = [{"name": row.name, "ap50_95": row.ap50_95} for row in result.per_class]
        row = evaluation_row(
            record, folder, run_id=self.run.run_id, metrics=result.metrics(), per_class=per_class, backend="torch",
            precision="fp32",
        )  # fmt: skip
        Evaluations(self.settings).record(row)

    def _registered(self, result: TrainingResult, imgsz: int) -> TrainingResult:
        name = self.asked.run.register_as
        if not name:
            return result
        uri, said = self.register(
            name,
            "the weights",
            metrics=dict(result.metrics),
            dataset_fingerprint=result.dataset["fingerprint"],
            serving=Serving(imgsz=imgsz),
        )
        return replace(result, model=uri) if uri else replace(result, remarks=(*result.remarks, said))


def _pruned(epochs: TrainingLog, asked: int) -> tuple[str, ...]:
    if not epochs.pruned:
        return ()
    return (f"its sweep ended it after epoch {epochs.last_epoch} of {asked}: other trials were better by then",)
