"""Quantizations: a model made smaller, beside the original on the same images, and entered as a version of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from guardianflow.data.dataset import Dataset, fingerprint_dataset
from guardianflow.evaluation.damage import DamageReport, damage_report
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.exceptions import InputError, RunFailedError
from guardianflow.runners._base import RESULT_FILE
from guardianflow.runners._prepared import PreparedRunner
from guardianflow.runners.model_source import FoundModel, find_model_source
from guardianflow.runners.quantization.checks import PreparedQuantization, require_backend, require_full_precision
from guardianflow.runners.quantization.evidence import QuantizationEvidence
from guardianflow.runners.quantization.result import CalibrationView, QuantizationResult
from guardianflow.runners.quantization.steps import STEPS, Steps
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.schema import QuantizationScenario
from guardianflow.text.names import validate_name
from guardianflow.text.progress_bar import progress_bar
from guardianflow.vision.benchmark.cell_results import REFERENCE, CellResult, CellSpec
from guardianflow.vision.benchmark.speed_rounds import Contender, Speed, measure_in_turns
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.preflight import check_usable
from guardianflow.vision.quantizers._base import Accuracy, QuantizationOptions, QuantizedModel
from guardianflow.vision.quantizers.calibration import draw_calibration_set
from guardianflow.vision.quantizers.catalog import find_quantizer

__all__ = ["PreparedQuantization", "QuantizationResult", "QuantizationRunner"]

log = logging.getLogger(__name__)

TRAINING_SPLIT = "train"


class QuantizationRunner(PreparedRunner[QuantizationScenario, QuantizationResult, PreparedQuantization]):
    """Make a model smaller and faster, and say honestly what that brought and cost.

    Original and variant are scored on the same images, each in a process of its own, and their speeds are
    measured in turns beside Ultralytics' own predict. A class that collapses fails the run, after its
    evidence was written.

    Example:
        >>> runner = QuantizationRunner("gate", "models:/gate@champion", "openvino", "int8")  # doctest: +SKIP
        >>> runner.run().comparison["map50_95"]["change"]  # doctest: +SKIP
        -0.002

    Raises:
        ParameterError: A value is out of range, or there is no such option.
    """

    asks = QuantizationScenario

    @property
    def dataset(self) -> Dataset:
        """The labelled images, as :meth:`check` read them."""
        return self._checked().dataset

    @property
    def calibration(self) -> CalibrationView:
        """The calibration images that :meth:`check` drew."""
        drawn = self._checked().calibration
        return CalibrationView(drawn.to_dict() if drawn is not None else {})

    def check(self) -> None:
        """Find model, quantizer and images, and draw the calibration images; no run is made."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        if asked.run.register_as:
            validate_name(asked.run.register_as, "model name")
        from guardianflow.vision.devices import check_device

        check_device(asked.env.device)
        quantizer = find_quantizer(asked.run.backend, asked.env.precision, max_drop=asked.run.max_drop)
        require_backend(asked.run.backend)
        found = find_model_source(asked.model.source, self.settings)
        model = check_usable(found.path)
        require_full_precision(model, asked)
        imgsz = asked.model.imgsz or model.imgsz
        dataset, _, said = self._labelled(
            model, self._data_yaml(found), asked.dataset.split, by_number=asked.model.classes_by_number
        )
        fingerprint = fingerprint_dataset(dataset).total
        self.remarks = (*said, *self._judged_by_what_chose())
        calibration = None
        if asked.env.precision == "int8":
            calibration = draw_calibration_set(
                dataset, imgsz=imgsz, count=asked.run.calibration_images, seed=asked.env.seed, split=TRAINING_SPLIT
            )
        self._prepared = PreparedQuantization(found, model, quantizer, dataset, fingerprint, imgsz, calibration)

    def work(self, run: TrackedRun) -> QuantizationResult:
        """Quantize inside a run, compare, and log everything that comes of it."""
        prepared, asked = self._checked(), self.scenario
        evidence = QuantizationEvidence(run, asked, prepared, self.settings, self.sink)
        evidence.keep_start()
        shown = progress_bar(len(STEPS), desc="quantize", unit="step", shown=self.shows_progress)
        with shown as bar:
            step = Steps(run, bar)
            step()
            original = self._score(run, "original", prepared.model, prepared.served_by, "fp32")
            step()
            made = self._quantize(run)
            evidence.keep_artifact(made)
            step()
            quantized = self._score(run, "quantized", made.model, asked.run.backend, asked.env.precision)
            step()
            plain = self._score_plain(run)
            step()
            report = self._damage(original, quantized)
            evidence.keep_damage(report)
            step()
            speeds = self._speeds(run, made.model, step.note)
            step()
            result = evidence.keep_result(original, quantized, made, report, speeds, plain=plain)
            result = replace(result, remarks=(*self.remarks, *result.remarks, *self.unmet(result.metrics)))
            if report.passed or asked.run.allow_damage:
                result = evidence.keep_version(result, made.model)
            step()
        write_json(run.folder / RESULT_FILE, result.to_dict())
        run.log_artifact(run.folder / RESULT_FILE)
        if not report.passed and not asked.run.allow_damage:
            raise RunFailedError(
                f"the quantized model is damaged: {'; '.join(report.reasons)}. It was not registered; the report is "
                f"{run.folder / 'damage.html'}. Try --max-drop, more --calibration-images or --precision fp16, or "
                "register it all the same with --allow-damage"
            )
        return result

    # --- steps ------------------------------------------------------------------------------------

    def _quantize(self, run: TrackedRun) -> QuantizedModel:
        prepared, asked = self._checked(), self.scenario
        options = QuantizationOptions(
            precision=asked.env.precision,
            imgsz=prepared.imgsz,
            calibration_method=asked.run.calibration_method,
            per_channel=asked.run.per_channel,
            max_drop=asked.run.max_drop,
            device=asked.env.device,
            exports=self._exports,
            accuracy=self._accuracy() if asked.run.max_drop else None,
        )
        return prepared.quantizer.make().quantize(prepared.model, prepared.calibration, options, run.folder / "model")

    def _score_plain(self, run: TrackedRun) -> CellResult | None:
        """fp32 on the runtime of the quantized model: what the runtime alone brings. ``None`` where it isn't apart."""
        prepared, asked = self._checked(), self.scenario
        if asked.run.backend == prepared.served_by:
            return None
        try:
            return self._score(run, "plain", prepared.model, asked.run.backend, "fp32")
        except RunFailedError as error:
            log.warning("%s", error)
            return None

    def _score(self, run: TrackedRun, name: str, model: ModelFile, backend: str, precision: str) -> CellResult:
        """Accuracy and latency of one way to run the model, in a process of its own.

        Raises:
            RunFailedError: It could not be measured.
        """
        from guardianflow.vision.benchmark.cell_process import run_cell

        spec = self._cell(model, backend, precision, run.folder / "cells" / name)
        result = run_cell(replace(spec, modes=("single_stream",), evaluate=True))
        for file in ("result.json", "cell.log"):
            if (Path(spec.folder) / file).is_file():
                run.log_artifact(Path(spec.folder) / file, f"cells/{name}")
        if not result.ok or result.evaluation_folder is None:
            msg = f"the {name} model could not be scored with {backend} {precision}: {result.reason or result.status}"
            raise RunFailedError(msg)
        return result

    def _damage(self, original: CellResult, quantized: CellResult) -> DamageReport:
        asked = self.scenario
        before, after = original.evaluation_folder, quantized.evaluation_folder
        assert before is not None and after is not None  # noqa: S101, PT018 - _score raises else
        return damage_report(
            DetectionRecord.load(before),
            DetectionRecord.load(after),
            collapse=asked.run.collapse,
            confidence=asked.model.confidence,
            seed=asked.env.seed,
            max_det=asked.model.max_det,
        )

    def _speeds(self, run: TrackedRun, small: ModelFile, note: Callable[[str], None]) -> list[Speed]:
        """Images a second of everybody that the variant is compared with, in turns."""
        prepared, asked, folder = self._checked(), self.scenario, run.folder / "speeds"
        served = prepared.served_by

        def contender(role: str, label: str, model: ModelFile, backend: str, precision: str) -> Contender:
            return Contender(role, label, self._cell(model, backend, precision, folder / role))

        contenders = []
        if prepared.model.format == "torch":
            label = "Ultralytics predict, torch fp32"
            contenders.append(contender("peer", label, prepared.model, REFERENCE, "fp32"))
        contenders.append(contender("original", f"{served} fp32", prepared.model, served, "fp32"))
        if asked.run.backend != served:
            contenders.append(
                contender("plain", f"{asked.run.backend} fp32", prepared.model, asked.run.backend, "fp32")
            )
        label = f"{asked.run.backend} {asked.env.precision}"
        contenders.append(contender("quantized", label, small, asked.run.backend, asked.env.precision))
        speeds = measure_in_turns(
            contenders, rounds=asked.run.repeats, on_turn=lambda done, total, who: note(f"{who}, {done + 1} of {total}")
        )
        run.log_artifact(write_json(run.folder / "speeds.json", [speed.to_dict() for speed in speeds]))
        return speeds

    def _cell(self, model: ModelFile, backend: str, precision: str, folder: Path) -> CellSpec:
        prepared, asked = self._checked(), self.scenario
        return CellSpec(
            model=model,
            backend=backend,
            folder=str(folder),
            exports=str(self._exports),
            precision=precision,
            device=asked.env.device,
            imgsz=prepared.imgsz,
            confidence=asked.model.confidence,
            max_det=asked.model.max_det,
            data_yaml=str(prepared.dataset.yaml_path),
            split=asked.dataset.split,
            fingerprint=prepared.fingerprint,
            seconds=asked.run.seconds,
            repeats=asked.run.repeats,
            extras=False,
            seed=asked.env.seed,
        )

    def _accuracy(self) -> Accuracy:
        """mAP50-95 on the images of the comparison: what a greatest drop is a drop of."""
        from guardianflow.evaluation.detection.evaluate import evaluate_detection
        from guardianflow.vision.backends._base import Backend
        from guardianflow.vision.evaluation_set import collect_record
        from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

        prepared, asked = self._checked(), self.scenario
        config = PipelineConfig(imgsz=prepared.imgsz, max_det=asked.model.max_det)

        def judge(backend: Backend) -> float:
            pipeline = Pipeline(backend, config)
            record = collect_record(pipeline, prepared.dataset, asked.dataset.split, fingerprint=prepared.fingerprint)
            return float(evaluate_detection(record, max_det=asked.model.max_det).map50_95)

        return judge

    # --- checks -----------------------------------------------------------------------------------

    @property
    def _exports(self) -> Path:
        return self.settings.work_dir / "cache" / "exports"

    def _data_yaml(self, found: FoundModel) -> str:
        asked = self.scenario
        data_yaml = asked.dataset.data_yaml or found.data_yaml
        if not data_yaml:
            raise InputError(
                f"nothing says what data {asked.model.source} was trained on, and a quantization needs labelled "
                "images to calibrate and to compare with; name a data.yaml (--data)"
            )
        return data_yaml

    def _judged_by_what_chose(self) -> list[str]:
        """Choices that were made on the images that judge them."""
        asked = self.scenario
        chosen = []
        if asked.run.max_drop:
            chosen.append("layers are chosen by")
        if asked.env.precision == "int8" and asked.dataset.split == TRAINING_SPLIT:
            chosen.append("calibration images are drawn from")
        return [
            f"{what} the split {asked.dataset.split!r}, on which the models are compared, too: the loss of accuracy "
            "may look smaller than it is"
            for what in chosen
        ]
