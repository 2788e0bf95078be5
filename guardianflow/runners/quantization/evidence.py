"""What a quantization leaves behind: facts, predictions of both models for the gate, the artifact, a version."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from guardianflow.core.config import mask_secrets
from guardianflow.evaluation.damage import DamageReport
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.evaluation.significance import PairedComparison, paired_bootstrap
from guardianflow.files.run_folder import write_text
from guardianflow.runners._evidence import Evidence, save_figures
from guardianflow.runners.quantization.checks import PreparedQuantization
from guardianflow.runners.quantization.comparison import VariantFacts, compare, variant_facts
from guardianflow.runners.quantization.result import DAMAGE_PAGE, QuantizationResult
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import environment_facts, write_json
from guardianflow.scenario.schema import QuantizationScenario
from guardianflow.vision.benchmark.cell_results import CellResult
from guardianflow.vision.benchmark.speed_rounds import Speed
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.quantizers._base import QuantizedModel
from guardianflow.vision.serving import Serving

__all__ = ["QuantizationEvidence"]

MODEL_FOLDER = "model"
CALIBRATION_FILE = "calibration.json"
_KEPT = ("map50", "map50_95", "precision", "recall", "f1", "latency_ms_mean", "latency_ms_p50", "latency_ms_p95",
         "latency_ms_p99", "rss_mb", "model_size_mb")  # fmt: skip


class QuantizationEvidence(Evidence[QuantizationScenario, PreparedQuantization]):
    """Writes what a quantization leaves behind, into its run."""

    def keep_start(self) -> None:
        """Parameters, the source, the calibration images, the environment."""
        run, prepared = self.run, self.prepared
        run.log_params(self.asked.flat())
        tags = {
            "guardianflow.folder": str(run.folder),
            "guardianflow.dataset_fingerprint": prepared.fingerprint,
            "guardianflow.source_sha256": prepared.model.sha256,
            "guardianflow.source_run": prepared.found.run_id,
        }
        if prepared.calibration is not None:
            tags["guardianflow.calibration_fingerprint"] = prepared.calibration.fingerprint
            run.log_artifact(write_json(run.folder / CALIBRATION_FILE, prepared.calibration.to_dict()))
        run.set_tags({name: value for name, value in tags.items() if value})
        run.log_artifact(write_json(run.folder / "environment.json", environment_facts()))

    def keep_artifact(self, made: QuantizedModel) -> None:
        """The artifact under ``model/``, and what the quantizer did."""
        path = made.model.path
        self.run.log_artifact(path, f"{MODEL_FOLDER}/{path.name}" if path.is_dir() else MODEL_FOLDER)
        self.run.log_artifact(write_json(self.run.folder / "quantization.json", dict(made.facts)))

    def keep_damage(self, report: DamageReport) -> None:
        """The damage report, as JSON and as a page."""
        run = self.run
        run.log_artifact(write_json(run.folder / "damage.json", report.to_dict()))
        run.log_artifact(write_text(run.folder / DAMAGE_PAGE, report._repr_html_()))

    def keep_result(
        self, original: CellResult, quantized: CellResult, made: QuantizedModel, report: DamageReport,
        speeds: list[Speed], *, plain: CellResult | None = None,
    ) -> QuantizationResult:  # fmt: skip
        """Figures of both, the comparison, and what the gate will look for; nothing is registered yet."""
        run, prepared, small = self.run, self.prepared, made.model
        before = variant_facts(
            original, sha256=prepared.model.sha256, size_mb=prepared.model.size_mb, artifact=str(prepared.model.path)
        )
        after = variant_facts(
            quantized, sha256=small.sha256, size_mb=small.size_mb, artifact=f"{MODEL_FOLDER}/{small.path.name}"
        )
        comparison = compare(before, after, report, speeds, plain=self._plain(original, plain))
        metrics = _metrics(before, after, comparison)
        run.log_metrics(metrics)
        self._index(original, prepared.model, "original")
        self._index(quantized, small, "quantized")
        self._store(metrics, quantized)
        return QuantizationResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED if report.passed or self.asked.run.allow_damage else RunStatus.FAILED,
            original=before,
            quantized=after,
            comparison=comparison,
            folder=run.folder,
            model=f"runs:/{run.run_id}/{MODEL_FOLDER}/{small.path.name}",
            model_file=str(small.path.relative_to(run.folder)),
            damage=json.loads(json.dumps(report.to_dict())),  # as it will be read back: lists, no tuples
            calibration=prepared.calibration.to_dict() if prepared.calibration is not None else {},
            dataset={
                "data_yaml": str(prepared.dataset.yaml_path),
                "fingerprint": prepared.fingerprint,
                "split": self.asked.dataset.split,
                "images": report.comparison.images,
                "names": list(prepared.dataset.names),
            },
            facts=dict(made.facts),
            metrics=metrics,
            remarks=_remarks({"original": original, "fp32 on the same runtime": plain, "quantized": quantized}, speeds),
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )

    def _plain(self, original: CellResult, plain: CellResult | None) -> tuple[VariantFacts, PairedComparison] | None:
        """fp32 on the runtime of the quantized model, beside the original."""
        if plain is None or plain.evaluation_folder is None or original.evaluation_folder is None:
            return None
        asked = self.asked
        facts = variant_facts(plain, sha256="", size_mb=plain.model_size_mb, artifact="")
        ours, theirs = (
            DetectionRecord.load(folder) for folder in (plain.evaluation_folder, original.evaluation_folder)
        )
        return facts, paired_bootstrap(ours, theirs, seed=asked.env.seed, max_det=asked.model.max_det)

    def keep_version(self, result: QuantizationResult, small: ModelFile) -> QuantizationResult:
        """The variant as a version of the model that it was made from; as it is where nothing was asked."""
        found, asked = self.prepared.found, self.asked
        name = asked.run.register_as or found.model_name
        if not name:
            return result
        serving = Serving(
            backend=asked.run.backend,
            precision=asked.env.precision,
            imgsz=self.prepared.imgsz,
            format=small.format,
            parent_version=found.version if found.version and name == found.model_name else None,
            parent_run=found.run_id or None,
        )
        uri, said = self.register(
            name,
            "the model",
            artifact=f"{MODEL_FOLDER}/{small.path.name}",
            metrics={key: value for key, value in result.metrics.items() if not key.startswith("original_")},
            dataset_fingerprint=found.fingerprint or self.prepared.fingerprint,
            serving=serving,
        )
        return replace(result, model=uri) if uri else replace(result, remarks=(*result.remarks, said))

    def _index(self, cell: CellResult, model: ModelFile, side: str) -> None:
        artifact, found = f"evaluation/{side}", cell.metrics()
        if cell.evaluation_folder is not None:
            self.run.log_artifact(cell.evaluation_folder, artifact)
        metrics = {**{name: found[name] for name in _KEPT if name in found}, "model_size_mb": model.size_mb}
        self.index(cell, metrics, what=f"the {side} model", artifact=artifact)

    def _store(self, metrics: Mapping[str, float], cell: CellResult) -> None:
        found, asked = self.prepared.found, self.asked
        save_figures(
            self.sink,
            self.run,
            asked,
            metrics,
            key="quantization",
            what="the quantization",
            model=asked.run.register_as or found.model_name or None,
            task="detection",
            device=cell.device or None,
            source="quantization",
            tags={
                "backend": asked.run.backend,
                "precision": cell.precision_executed or asked.env.precision,
                "split": asked.dataset.split,
                "parent_run": found.run_id,
            },
        )


def _remarks(cells: Mapping[str, CellResult | None], speeds: Sequence[Speed]) -> list[str]:
    said = [f"{name}: {text}" for name, cell in cells.items() if cell is not None for text in cell.warnings]
    return said + [
        f"the speed of {speed.label} could not be measured: {speed.reason}" for speed in speeds if speed.reason
    ]


def _metrics(before: VariantFacts, after: VariantFacts, comparison: Mapping[str, Any]) -> dict[str, float]:
    """Catalogue names are the quantized model's; the original's stand beside them under ``original_…``."""
    found = {name: after["metrics"][name] for name in _KEPT if name in after["metrics"]}
    found |= {f"original_{name}": before["metrics"][name] for name in _KEPT if name in before["metrics"]}
    speeds = {row["role"]: row["images_per_s"] for row in comparison["speeds"] if row["status"] == "ok"}
    if "quantized" in speeds:
        found["throughput_fps"] = speeds["quantized"]
    if "original" in speeds:
        found["original_throughput_fps"] = speeds["original"]
    found["map50_95_change"] = comparison["map50_95"]["change"]
    if comparison["agreement"] is not None:
        found["agreement"] = comparison["agreement"]
    found |= {f"speed_against_{role}": ratio["ratio"] for role, ratio in comparison["speed_ratios"].items()}
    return {name: float(value) for name, value in found.items()}
