"""A quantization as a run: refused before it begins, and truthful about what came of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.evaluation.damage import DamageReport, damage_report
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.exceptions import DatasetError, InputError, MissingDependencyError, NotFoundError, RunFailedError
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runners.quantization.runner import QuantizationResult, QuantizationRunner
from guardianflow.runners.training.runner import find_run
from guardianflow.runs.run_records import RunStatus
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.benchmark.cell_results import CellResult
from tests.trainings import ListSink, Trained, copy_data, write_tiny_data


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with two classes."""
    from ultralytics.nn.tasks import DetectionModel

    ultralytics = import_ultralytics()
    path = tmp_path_factory.mktemp("가중치 weights") / "best.pt"
    yolo = ultralytics.YOLO("yolo11n.yaml")
    yolo.model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    yolo.model.names = {0: "person", 1: "vehicle"}
    yolo.save(path)
    return path


def runner(source: Path | str, settings: Settings, data: Path | str = "", **options: Any) -> QuantizationRunner:
    """A runner for a quantization of seconds."""
    quick = {"imgsz": 64, "calibration_images": 4, "seconds": 0.05, "repeats": 1, "device": "cpu"}
    return QuantizationRunner(
        "시험 quant", source, options.pop("backend", "openvino"), options.pop("precision", "int8"), data,
        settings=settings, sink=options.pop("sink", ListSink()), **{**quick, **options},
    )  # fmt: skip


def refuse(runner: QuantizationRunner, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        runner.run()
    assert not list(runner.settings.work_dir.glob("runs/*/*"))  # no run was made


def test_a_source_that_says_nothing_of_its_data_needs_a_data_yaml(weights: Path, training_settings: Settings) -> None:
    refuse(runner(weights, training_settings), InputError, r"name a data.yaml \(--data\)")


def test_an_unknown_source_backend_or_precision_makes_no_run(
    weights: Path, tiny_data: Path, training_settings: Settings
) -> None:
    refuse(runner("nowhere.pt", training_settings, tiny_data), NotFoundError, "there is no model")
    refuse(runner(weights, training_settings, tiny_data, backend="openvine"), NotFoundError, "Did you mean")
    refuse(runner(weights, training_settings, tiny_data, precision="bf16"), InputError, "bf16 is made by torch")
    asked = runner(weights, training_settings, tiny_data, backend="onnxruntime", max_drop=0.01)
    refuse(asked, InputError, "greatest drop")


def test_a_backend_that_cannot_run_here_makes_no_run(
    weights: Path, tiny_data: Path, training_settings: Settings
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    asked = runner(weights, training_settings, tiny_data, backend="tensorrt", precision="fp16")
    refuse(asked, MissingDependencyError, "tensorrt")


def test_an_empty_training_split_makes_no_run(
    weights: Path, tiny_data: Path, tmp_path: Path, training_settings: Settings
) -> None:
    data = copy_data(tiny_data, tmp_path / "data")
    for image in (data.parent / "images" / "train").iterdir():
        image.unlink()
    refuse(runner(weights, training_settings, data), DatasetError, "holds no images")


def test_a_model_of_other_classes_makes_no_run(weights: Path, tmp_path: Path, training_settings: Settings) -> None:
    data = write_tiny_data(tmp_path / "data", images=6, names=("person", "vehicle", "crane"))
    refuse(runner(weights, training_settings, data), InputError, "knows 2 classes")


def test_a_run_brings_its_own_data_and_the_check_draws_calibration_images(trained: Trained) -> None:
    asked = runner(trained.result.run_id, trained.settings)
    asked.check()
    assert asked.dataset.yaml_path == trained.data_yaml
    assert "4</b> of" in asked.calibration._repr_html_()


class Quick(QuantizationRunner):
    """A runner that measures each thing once, and whose damage can be made up."""

    damage: DamageReport | None = None

    def _damage(self, original: CellResult, quantized: CellResult) -> DamageReport:
        real = super()._damage(original, quantized)
        return real if self.damage is None else replace(self.damage, comparison=real.comparison)


def collapsed() -> DamageReport:
    """Of a model that no longer sees the second of two classes."""
    count = 12
    images = Images(tuple(f"{index}.jpg" for index in range(count)), np.full(count, 64), np.full(count, 64))
    image, label = np.repeat(np.arange(count), 2), np.tile([0, 1], count)
    box = np.tile([[4.0, 4.0, 30.0, 30.0], [34.0, 34.0, 60.0, 60.0]], (count, 1))
    truth = GroundTruth(image, label, box, np.zeros(len(box), bool), np.full(len(box), 676.0))
    before = Predictions(image, label, np.full(len(box), 0.9), box)
    first = label == 0
    after = Predictions(image[first], label[first], np.full(count, 0.9), box[first])
    names = ("person", "vehicle")
    return damage_report(DetectionRecord(images, names, truth, before), DetectionRecord(images, names, truth, after))


@pytest.mark.slow
def test_a_quantization_leaves_figures_evidence_and_a_version_with_its_lineage(
    trained: Trained,
) -> None:
    name = "작은 모델"
    registry = ModelRegistry(trained.settings)
    parent = registry.register(name, trained.result.run_id)
    sink = ListSink()
    result = runner(f"models:/{name}/{parent.version}", trained.settings, sink=sink).run()

    assert result.comparison["passed"]
    assert result.quantized["precision_executed"] == "int8"
    assert {row["role"] for row in result.comparison["speeds"]} == {"peer", "original", "plain", "quantized"}
    assert all(row["status"] == "ok" for row in result.comparison["speeds"]), result.comparison["speeds"]
    assert result.metrics["model_size_mb"] == result.quantized["size_mb"]
    assert {"map50_95", "original_map50_95", "latency_ms_p50", "throughput_fps"} <= set(result.metrics)
    for file in ("damage.json", "damage.html", "calibration.json", "speeds.json", "result.json"):
        assert (result.folder / file).is_file(), file
    assert QuantizationResult.load(result.folder).to_dict() == result.to_dict()
    assert "Quantization to openvino int8" in result._repr_html_()

    version = registry.get(name, "candidate")
    assert result.model == version.uri
    assert (version.serving.backend, version.serving.precision, version.serving.imgsz) == ("openvino", "int8", 64)
    assert version.serving.parent_version == parent.version
    assert registry.download(name, version.version).is_dir()
    shas = {row.sha256 for row in Evaluations(trained.settings).find(run_id=result.run_id)}
    assert shas == {version.sha256, parent.sha256}
    assert {record.source for record in sink.records.values()} == {"quantization"}


@pytest.mark.slow
def test_a_class_that_collapses_fails_the_run_after_its_evidence_was_written(
    weights: Path, tiny_data: Path, training_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = collapsed()
    assert report.collapsed == ("vehicle",)
    monkeypatch.setattr(Quick, "damage", report)
    monkeypatch.setattr(Quick, "_speeds", lambda *_: [])
    monkeypatch.setattr(Quick, "_score_plain", lambda *_: None)
    asked = Quick(
        "시험 quant", weights, "onnxruntime", "int8", tiny_data, settings=training_settings, sink=ListSink(),
        imgsz=64, calibration_images=4, seconds=0.05, repeats=1, device="cpu", register_as="small",
    )  # fmt: skip
    with pytest.raises(RunFailedError, match=r"class 'vehicle' fell from.*--allow-damage"):
        asked.run()
    folder = next(iter(training_settings.work_dir.glob("runs/*/*")))
    record = find_run(folder.name, settings=training_settings)
    assert record.status == RunStatus.FAILED
    assert json.loads((folder / "damage.json").read_text(encoding="utf-8"))["collapsed"] == ["vehicle"]
    assert QuantizationResult.load(folder).status == RunStatus.FAILED
    assert not ModelRegistry(training_settings).list_models()
