"""What a quantization leaves behind: facts, predictions of both models for the gate, the artifact, a version."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import MetricRecord, MetricSink
from guardianflow.evaluation.damage import DamageReport
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.evaluation.significance import PairedComparison, paired_bootstrap
from guardianflow.exceptions import GuardianFlowError
from guardianflow.files.run_folder import write_text
from guardianflow.registry.evaluations import Evaluations, evaluation_row, machine_facts
from guardianflow.runners.quantization.comparison import compare, variant_facts
from guardianflow.runners.quantization.result import DAMAGE_PAGE, QuantizationResult
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun, environment_facts, write_json
from guardianflow.scenario.schema import QuantizationScenario
from guardianflow.text.command_lines import command
from guardianflow.vision.benchmark.cell_results import CellResult
from guardianflow.vision.benchmark.speed_rounds import Speed
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.quantizers._base import QuantizedModel
from guardianflow.vision.serving import Serving

if TYPE_CHECKING:
    from guardianflow.runners.quantization.checks import PreparedQuantization

__all__ = ["QuantizationEvidence"]

log = logging.getLogger(__name__)

MODEL_FOLDER = "model"
CALIBRATION_FILE = "calibration.json"
_TIMING = "single_stream"
_REGISTER_TIMEOUT_S = 60.0
_KEPT = ("map50", "map50_95", "precision", "recall", "f1", "latency_ms_mean", "latency_ms_p50", "latency_ms_p95",
         "latency_ms_p99", "rss_mb", "model_size_mb")  # fmt: skip


class QuantizationEvidence:
    """Writes what a quantization leaves behind, into its run.

    Args:
        run: The run.
        asked: What was asked.
        prepared: What the check found.
        settings: Where the registry and the index of evaluations are.
        sink: Where measurements go.
    """

    def __init__(
        self,
        run: TrackedRun,
        asked: QuantizationScenario,
        prepared: PreparedQuantization,
        *,
        settings: Settings,
        sink: MetricSink,
    ) -> None:
        self._run = run
        self._asked = asked
        self._prepared = prepared
        self._settings = settings
        self._sink = sink

    def keep_start(self) -> None:
        """Parameters, the source, the calibration images, the environment."""
        run, prepared = self._run, self._prepared
        run.log_params(self._asked.flat())
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
        self._run.log_artifact(path, f"{MODEL_FOLDER}/{path.name}" if path.is_dir() else MODEL_FOLDER)
        self._run.log_artifact(write_json(self._run.folder / "quantization.json", dict(made.facts)))

    def keep_damage(self, report: DamageReport) -> None:
        """The damage report, as JSON and as a page."""
        run = self._run
        run.log_artifact(write_json(run.folder / "damage.json", report.to_dict()))
        run.log_artifact(write_text(run.folder / DAMAGE_PAGE, report._repr_html_()))

    def keep_result(
        self, original: CellResult, quantized: CellResult, made: QuantizedModel, report: DamageReport,
        speeds: list[Speed], *, plain: CellResult | None = None,
    ) -> QuantizationResult:  # fmt: skip
        """Figures of both, the comparison, and what the gate will look for; nothing is registered yet."""
        run, prepared, small = self._run, self._prepared, made.model
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
            status=RunStatus.FINISHED if report.passed or self._asked.run.allow_damage else RunStatus.FAILED,
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
                "split": self._asked.dataset.split,
                "images": report.comparison.images,
                "names": list(prepared.dataset.names),
            },
            facts=dict(made.facts),
            metrics=metrics,
            remarks=_remarks({"original": original, "fp32 on the same runtime": plain, "quantized": quantized}, speeds),
            tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
        )

    def _plain(self, original: CellResult, plain: CellResult | None) -> tuple[dict[str, Any], PairedComparison] | None:
        """fp32 on the runtime of the quantized model, beside the original."""
        if plain is None or plain.evaluation_folder is None or original.evaluation_folder is None:
            return None
        asked = self._asked
        facts = variant_facts(plain, sha256="", size_mb=plain.model_size_mb, artifact="")
        ours, theirs = (
            DetectionRecord.load(folder) for folder in (plain.evaluation_folder, original.evaluation_folder)
        )
        return facts, paired_bootstrap(ours, theirs, seed=asked.env.seed, max_det=asked.model.max_det)

    def register(self, result: QuantizationResult, small: ModelFile) -> QuantizationResult:
        """The variant as a version of the model that it was made from; as it is where nothing was asked."""
        found, asked = self._prepared.found, self._asked
        name = asked.run.register_as or found.model_name
        if not name:
            return result
        from guardianflow.core.registry import ModelRegistry

        again = command("register", name, "--run", self._run.run_id)
        if not self._run.flush(timeout_s=_REGISTER_TIMEOUT_S):
            said = f"MLflow did not take the model, so {name!r} was not registered; later: {again}"
            return replace(result, remarks=(*result.remarks, said))
        serving = Serving(
            backend=asked.run.backend,
            precision=asked.env.precision,
            imgsz=self._prepared.imgsz,
            format=small.format,
            parent_version=found.version if found.version and name == found.model_name else None,
            parent_run=found.run_id or None,
        )
        try:
            version = ModelRegistry(self._settings).register(
                name,
                self._run.run_id,
                artifact=f"{MODEL_FOLDER}/{small.path.name}",
                metrics={key: value for key, value in result.metrics.items() if not key.startswith("original_")},
                dataset_fingerprint=found.fingerprint or self._prepared.fingerprint,
                serving=serving,
            )
        except GuardianFlowError as error:
            said = f"{name!r} was not registered ({error}); later: {again}"
            return replace(result, remarks=(*result.remarks, said))
        return replace(result, model=version.uri)

    def _index(self, cell: CellResult, model: ModelFile, side: str) -> None:
        """What the gate will look for: this model file, on this data, served this way."""
        folder = cell.evaluation_folder
        if folder is None:
            return
        artifact = f"evaluation/{side}"
        self._run.log_artifact(folder, artifact)
        try:
            row = evaluation_row(
                DetectionRecord.load(folder),
                folder,
                run_id=self._run.run_id,
                metrics={**{name: cell.metrics()[name] for name in _KEPT if name in cell.metrics()},
                         "model_size_mb": model.size_mb},
                per_class=[
                    {"name": row["name"], "ap50_95": row["ap50_95"]} for row in cell.detection_details["per_class"]
                ],
                artifact=artifact,
                device=str(cell.backend.get("device", "")),
                machine=machine_facts(threads=cell.spec.threads, timing=_TIMING),
                sha256=model.sha256,
                dataset_fingerprint=self._prepared.fingerprint,
                split=self._asked.dataset.split,
                backend=cell.spec.backend,
                precision=cell.spec.precision,
                imgsz=cell.spec.imgsz,
            )  # fmt: skip
            Evaluations(self._settings).record(row)
        except (GuardianFlowError, OSError) as error:
            log.warning("the evaluation of the %s model is not in the index, so no gate will see it: %s", side, error)

    def _store(self, metrics: Mapping[str, float], cell: CellResult) -> None:
        found, asked, now = self._prepared.found, self._asked, datetime.now(UTC)
        tags = {
            "backend": asked.run.backend, "precision": cell.precision_executed or asked.env.precision,
            "split": asked.dataset.split,
            "parent_run": found.run_id,
        }  # fmt: skip
        records = [
            MetricRecord(
                time=now,
                metric=name,
                value=value,
                model=asked.run.register_as or found.model_name or None,
                task="detection",
                experiment=self._run.experiment,
                site=self._asked.site.name or None,
                camera=self._asked.site.camera,
                run_id=self._run.run_id,
                device=str(cell.backend.get("device", "")) or None,
                source="quantization",
                tags=tags,
                event_id=sha256(f"{self._run.run_id}/quantization/{name}".encode()).hexdigest()[:32],
            )
            for name, value in metrics.items()
        ]
        try:
            self._sink.save_metrics(records)
        except Exception as error:  # noqa: BLE001 - a store that is away must not end a quantization
            log.warning("the figures of the quantization could not be stored: %s", error)


def _remarks(cells: Mapping[str, CellResult | None], speeds: Sequence[Speed]) -> list[str]:
    said = [f"{name}: {text}" for name, cell in cells.items() if cell is not None for text in cell.warnings]
    return said + [
        f"the speed of {speed.label} could not be measured: {speed.reason}" for speed in speeds if speed.reason
    ]


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, float]:
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
