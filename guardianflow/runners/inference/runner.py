"""Benchmarks: one model, measured on every backend, precision and batch size under the same conditions."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardianflow.data.dataset import Dataset, fingerprint_dataset
from guardianflow.exceptions import NotFoundError, RunFailedError
from guardianflow.runners._base import RESULT_FILE
from guardianflow.runners._prepared import PreparedRunner
from guardianflow.runners.inference.evidence import BenchmarkEvidence, PreparedBenchmark
from guardianflow.runners.inference.matrix import Matrix, plan_matrix
from guardianflow.runners.inference.result import InferenceResult
from guardianflow.runners.model_source import find_model_source
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.schema import InferenceScenario
from guardianflow.text.names import validate_name
from guardianflow.text.progress_bar import progress_bar
from guardianflow.vision.benchmark.cell_results import CellResult, CellSpec
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.preflight import check_usable

__all__ = ["CELL_KIND", "InferenceResult", "InferenceRunner"]

CELL_KIND = "cell"


class InferenceRunner(PreparedRunner[InferenceScenario, InferenceResult, PreparedBenchmark]):
    """Measure a model: accuracy, latency, throughput and memory on each runtime.

    Every combination of backend, precision and batch size is a cell: a process of its own and a child
    run of its own in MLflow. A cell that fails, crashes, or needs too much memory is reported, and the
    others go on.

    Example:
        >>> runner = InferenceRunner("gate", "models:/gate@champion", "data.yaml", (1, 8), ("torch", "openvino"))
        ... # doctest: +SKIP
        >>> runner.run().verdict  # doctest: +SKIP

    Raises:
        ParameterError: A value is out of range, or there is no such option.
    """

    asks = InferenceScenario

    @property
    def model(self) -> ModelFile:
        """The model's file, as :meth:`check` read it."""
        return self._checked().model

    @property
    def dataset(self) -> Dataset | None:
        """The labelled images, as :meth:`check` read them."""
        return self._checked().dataset

    def check(self) -> None:
        """Find the model, the images and the backends; nothing is measured and no run is made."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        from guardianflow.vision.devices import check_device

        found = find_model_source(asked.model.path, self.settings)
        model = check_usable(found.path)
        dataset, fingerprint, images, self.remarks = None, "", 0, model.remarks
        if asked.dataset.data_yaml:
            dataset, images, self.remarks = self._labelled(
                model, asked.dataset.data_yaml, asked.dataset.split, by_number=asked.model.classes_by_number
            )
            fingerprint = fingerprint_dataset(dataset).total
        if asked.dataset.source and not Path(asked.dataset.source).expanduser().exists():
            raise NotFoundError(f"there is no source {asked.dataset.source}; pass a video file or a folder of images")
        check_device(asked.env.device)
        self._prepared = PreparedBenchmark(found, model, dataset, fingerprint, images)
        self._matrix(self._prepared, Path())  # names of backends and precisions

    def work(self, run: TrackedRun) -> InferenceResult:
        """Measure every cell inside a run and log everything that comes of it."""
        prepared, asked = self._checked(), self.scenario
        matrix = self._matrix(prepared, run.folder / "cells")
        evidence = BenchmarkEvidence(run, asked, prepared, self.settings, self.sink)
        evidence.keep_start(matrix)
        began = time.perf_counter()
        shown = progress_bar(len(matrix.cells), desc="cells", unit="cell", shown=self.shows_progress)
        with shown as bar:
            for number, spec in enumerate(matrix.cells):
                run.set_progress(number, len(matrix.cells), unit="cell", note=f"now: {spec.name}")
                bar.set_postfix_str(spec.name)
                evidence.keep_cell(self._measure(run, spec))
                bar.update()
        run.set_progress(len(matrix.cells), len(matrix.cells), unit="cell")
        result = evidence.keep_result(matrix, seconds=time.perf_counter() - began)
        result = replace(result, remarks=(*self.remarks, *result.remarks, *self.unmet(result.metrics)))
        write_json(run.folder / RESULT_FILE, result.to_dict())
        if not any(row["status"] == "ok" for row in result.cells):
            reasons = "; ".join(dict.fromkeys(f"{row['label']}: {row['reason']}" for row in result.cells))
            raise RunFailedError(f"no cell of the benchmark could be measured ({reasons})")
        return result

    def _measure(self, run: TrackedRun, spec: CellSpec) -> tuple[CellResult, str]:
        """One cell in a process and a child run of its own."""
        from guardianflow.vision.benchmark.cell_process import run_cell

        asked = self.scenario
        child = TrackedRun.start(
            self.settings,
            experiment=run.experiment,
            kind=CELL_KIND,
            parameters=one_cell(asked, spec),
            name=spec.name,
            tags={"mlflow.parentRunId": run.run_id},
        )
        with child:
            result = run_cell(spec, memory_limit_mb=asked.env.memory_limit_mb, timeout_s=asked.run.cell_timeout_s)
            keep_child(child, result)
            child.finish(RunStatus.FINISHED if result.ok else RunStatus.FAILED, result.reason or None)
        return result, child.run_id

    def _matrix(self, prepared: PreparedBenchmark, folder: Path) -> Matrix:
        return plan_matrix(
            self.scenario,
            prepared.found,
            prepared.model,
            folder=folder,
            exports=self.settings.work_dir / "cache" / "exports",
            fingerprint=prepared.fingerprint,
            labelled=prepared.dataset is not None,
        )


def one_cell(asked: InferenceScenario, spec: CellSpec) -> dict[str, Any]:
    """What a benchmark of this cell alone would be asked: a child run can be repeated by itself."""
    values = {"backends": [spec.backend], "precision": [spec.precision], "batch_sizes": [spec.batch]}
    return {**asked.flat(), **values}


def keep_child(child: TrackedRun, result: CellResult) -> None:
    """A cell's parameters, figures and files, in its own run."""
    spec = result.spec
    child.log_params(
        {
            "backend": spec.backend,
            "precision": spec.precision,
            "precision_executed": result.precision_executed,
            "batch": spec.batch,
            "modes": ",".join(spec.modes),
            "imgsz": spec.imgsz,
            "device": result.device,
            "runtime": result.backend.version if result.backend else "",
        }
    )
    child.log_metrics({**result.metrics(), **result.tracking.get("metrics", {})})
    for mode in result.modes:
        child.log_metrics({f"{mode.mode}/{name}": value for name, value in mode.metrics().items()})
        child.log_metrics({f"{mode.mode}/noise/{name}": value for name, value in mode.noise.items()})
    folder = Path(spec.folder)
    for name in ("result.json", "cell.log"):
        if (folder / name).is_file():
            child.log_artifact(folder / name)
    for file in sorted(folder.glob("latencies_*.npy")):
        child.log_artifact(file, "latencies")
    for part in ("evaluation", "tracking"):
        if (folder / part).is_dir():
            child.log_artifact(folder / part, part)
