"""What a benchmark leaves behind: rows, predictions for the gate, pictures, measurements in the store."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.core.config import mask_secrets
from guardianflow.data.dataset import Dataset
from guardianflow.exceptions import GuardianFlowError
from guardianflow.plots.benchmark_rows import BenchmarkRow
from guardianflow.runners._evidence import TIMING, Evidence, save_figures
from guardianflow.runners.inference.matrix import Matrix, cell_rows
from guardianflow.runners.inference.result import CLIP_FILE, DETECTION_FILE, InferenceResult, cell_remarks
from guardianflow.runners.model_source import FoundModel
from guardianflow.runners.training.result import SAMPLES_FILE
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import environment_facts, write_json
from guardianflow.scenario.schema import InferenceScenario
from guardianflow.vision.benchmark.cell_results import CellResult
from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["BenchmarkEvidence", "PreparedBenchmark"]

log = logging.getLogger(__name__)

_SYSTEM = (
    "latency_ms_mean", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "throughput_fps", "gpu_util",
    "gpu_mem_mb", "gpu_power_w", "gpu_temp_c", "energy_j_per_image", "cpu_util", "rss_mb",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedBenchmark:
    """What the check of a benchmark found.

    Attributes:
        found: Where the model comes from.
        model: Its file.
        dataset: The labelled images; ``None`` where only a source is looked at.
        fingerprint: Of the dataset.
        images: How many images the split has.
    """

    found: FoundModel
    model: ModelFile
    dataset: Dataset | None
    fingerprint: str
    images: int


@dataclass
class BenchmarkEvidence(Evidence[InferenceScenario, PreparedBenchmark]):
    """Writes what a benchmark leaves behind, into its run."""

    cells: list[CellResult] = field(default_factory=list)
    rows: list[BenchmarkRow] = field(default_factory=list)

    def keep_start(self, matrix: Matrix) -> None:
        """Parameters, the model's facts, the environment."""
        run, prepared = self.run, self.prepared
        run.log_params(self.asked.flat())
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
        self.cells.append(result)
        rows = cell_rows(result, run_id=child_id)
        self.rows += rows
        self._store(result, rows, child_id)
        self._index(result, child_id)
        if not result.ok:
            log.warning("%s: %s (%s)", result.spec.name, result.reason, result.status)

    def keep_result(self, matrix: Matrix, *, seconds: float) -> InferenceResult:
        """Headline figures, tables and pictures of the whole matrix."""
        run, prepared, asked = self.run, self.prepared, self.asked
        tracking = next((cell.tracking for cell in self.cells if cell.tracking), {})
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
            cells=self.rows,
            left_out=matrix.left_out,
            detection=next((row["detection"] for row in self.rows if row["detection"]), {}),
            mot=dict(tracking.get("metrics", {})),
            system=self._system(),
            tracking=dict(tracking),
            remarks=cell_remarks(self.rows),
            folder=run.folder,
            seconds=seconds,
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )
        run.log_metrics(result.metrics)
        self._keep_pictures()
        run.log_artifact(write_json(run.folder / "cells.json", {"cells": self.rows, "left_out": matrix.left_out}))
        return result

    def _system(self) -> dict[str, float]:
        """Of the first cell that ran in each mode; throughput is that of offline, where it was measured."""
        found: dict[str, float] = {}
        for mode in ("server", "single_stream", "offline"):
            row = next((row for row in self.rows if row["mode"] == mode and row["status"] == "ok"), None)
            figures = (row or {}).get("metrics", {})
            wanted = _SYSTEM if mode != "offline" or not found else ("throughput_fps",)
            found.update({name: figures[name] for name in wanted if name in figures})
        size = next((row["model_size_mb"] for row in self.rows if row["model_size_mb"]), None)
        return found if size is None else {**found, "model_size_mb": size}

    def _dataset_facts(self) -> dict[str, Any]:
        prepared, asked = self.prepared, self.asked
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
        run, scored = self.run, next((cell for cell in self.cells if cell.evaluation_folder is not None), None)
        for cell in self.cells:
            clip = Path(cell.spec.folder) / CLIP_FILE
            if clip.is_file() and not (run.folder / CLIP_FILE).exists():
                shutil.copyfile(clip, run.folder / CLIP_FILE)
                run.log_artifact(run.folder / CLIP_FILE, "tracking")
        if scored is None or scored.evaluation_folder is None or self.prepared.dataset is None:
            return
        from guardianflow.evaluation.detection.evaluate import evaluate_detection
        from guardianflow.evaluation.detection.records import DetectionRecord
        from guardianflow.vision.misses import worst_images

        asked = self.asked
        try:
            record = DetectionRecord.load(scored.evaluation_folder)
            figures = evaluate_detection(record, confidence=asked.model.confidence, max_det=asked.model.max_det)
            content = {**figures.to_dict(), "curves": figures.curves()}
            run.log_artifact(write_json(run.folder / DETECTION_FILE, content), "evaluation")
            samples = worst_images(
                record, self.prepared.dataset, split=asked.dataset.split, confidence=asked.model.confidence
            )
        except (GuardianFlowError, OSError, ValueError) as error:
            log.warning("the worst misses could not be drawn: %s", error)
            return
        run.log_artifact(write_json(run.folder / SAMPLES_FILE, samples), "samples")

    def _index(self, result: CellResult, child_id: str) -> None:
        single = result.mode(TIMING)
        latency = single.metrics() if single is not None and single.query_images == 1 else {}
        figures = {
            **result.detection,
            **{name: value for name, value in latency.items() if name.startswith("latency_ms_")},
            # A difference within the noise neither refuses a candidate nor counts as a gain.
            **({"latency_noise": single.noise.get("latency_ms_p50", 0.0)} if single is not None and latency else {}),
            "model_size_mb": result.model_size_mb,
        }
        self.index(result, figures, what=result.spec.name, run_id=child_id)

    def _store(self, result: CellResult, rows: list[BenchmarkRow], child_id: str) -> None:
        spec, found = result.spec, self.prepared.found
        for number, row in enumerate(rows):
            tracked = result.tracking.get("metrics", {}) if number == 0 else {}
            tags = {
                "backend": spec.backend, "precision": row["precision_executed"] or spec.precision,
                "batch": str(spec.batch), "mode": row["mode"], "split": spec.split, "parent_run": self.run.run_id,
            }  # fmt: skip
            for task, figures in (("detection", {**row.get("metrics", {}), **row["detection"]}), ("tracking", tracked)):
                save_figures(
                    self.sink,
                    self.run,
                    self.asked,
                    figures,
                    key=row["mode"],
                    what=spec.name,
                    run_id=child_id,
                    model=found.model_name or None,
                    version=found.version or None,
                    task=task,
                    device=row["device"] or None,
                    source="inference",
                    tags=tags,
                )
