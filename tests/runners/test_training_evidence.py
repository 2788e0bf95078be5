"""What a training leaves for the gate: its weights' predictions on the validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.metrics import NullSink
from guardianflow.core.registry import ModelRegistry
from guardianflow.data.dataset import read_dataset
from guardianflow.files.content import measure
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runners.training.evidence import PreparedTraining, TrainingEvidence
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.fields import from_flat
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.vision.serving import Serving
from tests.trainings import Trained


def test_a_training_leaves_evidence_of_its_best_weights(trained: Trained) -> None:
    [row] = Evaluations(trained.settings).find(run_id=trained.result.run_id)
    assert row.sha256 == measure(trained.result.best).sha256
    assert row.dataset_fingerprint == trained.result.dataset["fingerprint"]
    assert (row.split, row.backend, row.precision, row.imgsz) == ("val", "torch", "fp32", 64)
    assert row.images == trained.result.dataset["images"]["val"]
    assert {"map50", "map50_95", "precision", "recall", "f1"} <= set(row.metrics)
    assert [item["name"] for item in row.per_class] == trained.result.dataset["names"]
    record = Evaluations(trained.settings).load(row)
    assert len(record.truth) > 0
    assert record.facts["model_sha256"] == row.sha256


def test_the_evidence_is_in_mlflow_too(trained: Trained, tmp_path: Path) -> None:
    [row] = Evaluations(trained.settings).find(run_id=trained.result.run_id)
    elsewhere = replace(row, folder=tmp_path / "another machine")
    assert len(Evaluations(trained.settings).load(elsewhere).images) == row.images


def test_a_trained_version_passes_the_gate_as_the_first_champion(trained: Trained) -> None:
    registry = ModelRegistry(trained.settings)
    version = registry.register("evidence", trained.result.run_id)
    assert version.serving == Serving(imgsz=64)
    assert registry.judge("evidence").passed
    registry.promote("evidence")
    again = registry.register("evidence", trained.result.run_id, artifact="weights/last.pt")
    assert not registry.judge(
        "evidence", again.version
    ).passed  # the last weights were never evaluated, or bring nothing


def test_evidence_that_can_not_be_made_is_a_warning(
    trained: Trained, training_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "best.pt"
    damaged.write_bytes(b"no weights")
    asked = from_flat(
        TrainingScenario,
        {"experiment_name": "gate", "model_arch": "m", "data_yaml": str(trained.data_yaml), "imgsz": 64},
    )
    prepared: Any = PreparedTraining(read_dataset(trained.data_yaml), None, "f" * 64, None, {}, {})  # type: ignore[arg-type]
    outcome: Any = SimpleNamespace(best=damaged, imgsz=64)
    with TrackedRun.start(
        training_settings, experiment="gate", kind="train", parameters={"experiment_name": "gate"}
    ) as run:
        TrainingEvidence(run, asked, prepared, training_settings, NullSink())._keep_evaluation(outcome)
    assert "there is no evidence of how good the weights are" in caplog.text
    assert "best.pt" in caplog.text
    assert Evaluations(training_settings).find() == []
    assert not (run.folder / "evaluation").exists()
