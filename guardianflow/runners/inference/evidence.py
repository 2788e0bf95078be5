"""What a benchmark leaves behind: rows, predictions for the gate, pictures, measurements in the store."""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import MetricRecord, MetricSink
from guardianflow.exceptions import GuardianFlowError
from guardianflow.registry.evaluations import Evaluations, evaluation_row, machine_facts
from guardianflow.runners.inference.matrix import Matrix, cell_rows
from guardianflow.runners.inference.result import CLIP_FILE, DETECTION_FILE, InferenceResult, cell_remarks
from guardianflow.runners.training.result import SAMPLES_FILE
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun, environment_facts, write_json
from guardianflow.scenario.schema import InferenceScenario
from guardianflow.vision.benchmark.cell_results import CellResult

if TYPE_CHECKING:
    from guardianflow.runners.inference.runner import PreparedBenchmark

__all__ = ["BenchmarkEvidence"]

log = logging.getLogger(__name__)

_SYSTEM = (
    "latency_ms_mean", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "throughput_fps", "gpu_util",
    "gpu_mem_mb", "gpu_power_w", "gpu_temp_c", "energy_j_per_image", "cpu_util", "rss_mb",
)  # fmt: skip
TIMING = "single_stream"


class BenchmarkEvidence:
    """Writes what a benchmark leaves behind, into its run.

    Args:
        run: The run.
        asked: What was asked.
        prepared: What the check found.
        settings: Where the index of evaluations is.
        sink: Where measurements go.
    """

    def __init__(
        self,
        run: TrackedRun,
        asked: InferenceScenario,
        prepared: PreparedBenchmark,
        *,
        settings: Settings,
        sink: MetricSink,
    ) -> None:
        self._run = run
        self._asked = asked
        self._prepared = prepared
        self._settings = settings
        self._sink = sink
        self._cells: list[CellResult] = []
        self._rows: list[dict[str, Any]] = []

    def keep_start(self, matrix: Matrix) -> None:
        """Parameters, the model's facts, the environment."""
        run, prepared = self._run, self._prepared
        run.log_params(self._asked.flat())
        run.set_tags(
            {
                "guardianflow.folder": str(run.folder),
                "guardianflow.model_sha256": prepared.model.sha256,
                "guardianflow.cells": len(matrix.cells),
                **({"guardianflow.dataset_fingerprint": prepared.fingerprint} if prepared.fingerprint else {}),
            }
        )
        run.log_artifact(write_json(run.folder / "environment.json", environment_facts()))

    def keep_cell(self, answer: tuple[CellResult, str]) -> None:
        """A cell's rows, its measurements in the store, its place in the index of evaluations."""
        result, child_id = answer
        self._cells.append(result)
        rows = cell_rows(result, run_id=child_id)
        self._rows += rows
        self._store(result, rows, child_id)
        if result.evaluation_folder is not None:
            self._index(result, result.evaluation_folder, child_id)
        if not result.ok:
            log.warning("%s: %s (%s)", result.spec.name, result.reason, result.status)

    def keep_result(self, matrix: Matrix, *, seconds: float) -> InferenceResult:
        """Headline figures, tables and pictures of the whole matrix."""
        run, prepared, asked = self._run, self._prepared, self._asked
        tracking = next((cell.tracking for cell in self._cells if cell.tracking), {})
        result = InferenceResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            model={
                **prepared.found.to_dict(),
                **prepared.model.to_dict(),
                "imgsz": asked.model.imgsz or prepared.model.imgsz,
                "confidence": asked.model.confidence,
                "iou": asked.model.iou,
                "max_det": asked.model.max_det,
            },
            dataset=self._dataset_facts(),
            cells=self._rows,
            left_out=matrix.left_out,
            detection=next((row["detection"] for row in self._rows if row["detection"]), {}),
            mot=dict(tracking.get("metrics", {})),
            system=self._system(),
            tracking=dict(tracking),
            remarks=cell_remarks(self._rows),
            folder=run.folder,
            seconds=seconds,
            tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
        )
        run.log_metrics(result.metrics)
        self._keep_pictures()
        run.log_artifact(write_json(run.folder / "cells.json", {"cells": self._rows, "left_out": matrix.left_out}))
        return result

    def _system(self) -> dict[str, float]:
        """Of the first cell that ran in each mode; throughput is that of offline, where it was measured."""
        found: dict[str, float] = {}
        for mode in ("server", "single_stream", "offline"):
            row = next((row for row in self._rows if row["mode"] == mode and row["status"] == "ok"), None)
            figures = (row or {}).get("metrics", {})
            wanted = _SYSTEM if mode != "offline" or not found else ("throughput_fps",)
            found.update({name: figures[name] for name in wanted if name in figures})
        size = next((row["model_size_mb"] for row in self._rows if row["model_size_mb"]), None)
        return found if size is None else {**found, "model_size_mb": size}

    def _dataset_facts(self) -> dict[str, Any]:
        prepared, asked = self._prepared, self._asked
        if prepared.dataset is None:
            return {}
        scored = min(asked.dataset.images or prepared.images, prepared.images)
        return {
            "data_yaml": str(prepared.dataset.yaml_path),
            "fingerprint": prepared.fingerprint,
            "split": asked.dataset.split,
            "images": scored,
            "names": list(prepared.dataset.names),
        }

    def _keep_pictures(self) -> None:
        """The curves and the worst misses of the first cell that was scored, and the clip."""
        run, scored = self._run, next((cell for cell in self._cells if cell.evaluation_folder is not None), None)
        for cell in self._cells:
            clip = Path(cell.spec.folder) / CLIP_FILE
            if clip.is_file() and not (run.folder / CLIP_FILE).exists():
                shutil.copyfile(clip, run.folder / CLIP_FILE)
                run.log_artifact(run.folder / CLIP_FILE, "tracking")
        if scored is None or scored.evaluation_folder is None or self._prepared.dataset is None:
            return
        from guardianflow.evaluation.detection.evaluate import evaluate_detection
        from guardianflow.evaluation.detection.records import DetectionRecord
        from guardianflow.vision.misses import worst_images

        asked = self._asked
        try:
            record = DetectionRecord.load(scored.evaluation_folder)
            figures = evaluate_detection(record, confidence=asked.model.confidence, max_det=asked.model.max_det)
            content = {**figures.to_dict(), "curves": figures.curves()}
            run.log_artifact(write_json(run.folder / DETECTION_FILE, content), "evaluation")
            samples = worst_images(
                record, self._prepared.dataset, split=asked.dataset.split, confidence=asked.model.confidence
            )
        except (GuardianFlowError, OSError, ValueError) as error:
            log.warning("the worst misses could not be drawn: %s", error)
            return
        run.log_artifact(write_json(run.folder / SAMPLES_FILE, samples), "samples")

    def _index(self, result: CellResult, folder: Path, child_id: str) -> None:
        """What the gate will look for: this model file, on this data, served this way."""
        from guardianflow.evaluation.detection.records import DetectionRecord

        single = result.mode("single_stream")
        latency = single.metrics() if single is not None and single.query_images == 1 else {}
        figures = {
            **result.detection,
            **{name: value for name, value in latency.items() if name.startswith("latency_ms_")},
            # A difference within the noise neither refuses a candidate nor counts as a gain.
            **({"latency_noise": single.noise.get("latency_ms_p50", 0.0)} if single is not None and latency else {}),
            "model_size_mb": result.model_size_mb,
        }
        try:
            row = evaluation_row(
                DetectionRecord.load(folder),
                folder,
                run_id=child_id,
                metrics=figures,
                per_class=[
                    {"name": row["name"], "ap50_95": row["ap50_95"]} for row in result.detection_details["per_class"]
                ],
                device=str(result.backend.get("device", "")),
                machine=machine_facts(threads=result.spec.threads, timing=TIMING),
                sha256=self._prepared.model.sha256,
                dataset_fingerprint=self._prepared.fingerprint,
                split=self._asked.dataset.split,
                backend=result.spec.backend,
                precision=result.spec.precision,
                imgsz=result.spec.imgsz,
            )
            Evaluations(self._settings).record(row)
        except (GuardianFlowError, OSError) as error:
            log.warning("the evaluation of %s is not in the index, so no gate will see it: %s", result.spec.name, error)

    def _store(self, result: CellResult, rows: list[dict[str, Any]], child_id: str) -> None:
        spec, found, now = result.spec, self._prepared.found, datetime.now(UTC)
        records = []
        for number, row in enumerate(rows):
            tracked = result.tracking.get("metrics", {}) if number == 0 else {}
            figures = {**row.get("metrics", {}), **row["detection"], **tracked}
            tags = {
                "backend": spec.backend, "precision": row["precision_executed"] or spec.precision,
                "batch": str(spec.batch), "mode": row["mode"], "split": spec.split, "parent_run": self._run.run_id,
            }  # fmt: skip
            records += [
                MetricRecord(
                    time=now,
                    metric=name,
                    value=value,
                    model=found.model_name or None,
                    version=found.version or None,
                    task="tracking" if name in tracked else "detection",
                    experiment=self._run.experiment,
                    site=self._asked.site.name or None,
                    camera=self._asked.site.camera,
                    run_id=child_id,
                    device=row["device"] or None,
                    source="inference",
                    tags=tags,
                    event_id=sha256(f"{child_id}/{row['mode']}/{name}".encode()).hexdigest()[:32],
                )
                for name, value in figures.items()
            ]
        try:
            self._sink.save_metrics(records)
        except Exception as error:  # noqa: BLE001 - a store that is away must not end a benchmark
            log.warning("the figures of %s could not be stored: %s", spec.name, error)
