"""``promote`` with the gate on: what a person reads, what a program gets, and the exit codes."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runs.tracking import TrackedRun
from tests.registry.evidence_world import FINGERPRINT, evaluate
from tests.small_onnx import with_weights_beside
from tests.test_cli import call, call_json
from tests.vision.backends.small_models import weights

MODEL = "게이트 detector"
_seeds = itertools.cycle(range(3))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_sqlite_template: Path) -> Path:
    """An empty work folder whose gate is on."""
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    work_dir = tmp_path / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(work_dir))
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "kim")
    monkeypatch.chdir(tmp_path)
    return work_dir


def add(skill: float | None) -> str:
    """A version with evidence of this skill, or without any."""
    settings = Settings()
    asked = {"experiment_name": "gate", "data_yaml": "/data/my site/data.yaml"}
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters=asked) as run:
        place = shutil.copy(weights(seed=next(_seeds)), run.folder / "best.pt")
        run.log_artifact(Path(place), "weights")
    version = ModelRegistry(settings).register(MODEL, run.run_id, dataset_fingerprint=FINGERPRINT)
    if skill is not None:
        evaluate(Evaluations(settings), version.sha256, run.folder / "evaluation", skill, run_id=run.run_id)
    return version.version


def champion() -> str | None:
    return ModelRegistry().list_models()[0].champion


def test_a_file_without_its_weights_is_not_registered_and_the_message_says_what_to_do(workplace: Path) -> None:
    with TrackedRun.start(Settings(), experiment="gate", kind="train", parameters={}) as run:
        run.log_artifact(with_weights_beside(run.folder / "model.onnx"))
    refused = call("register", MODEL, "--run", run.run_id, "--artifact", "model.onnx", code=2)
    assert "keeps weights in another file ('model.onnx.data'), which is not followed" in refused.stderr
    assert "save_as_external_data=False" in refused.stderr
    assert ModelRegistry().list_models() == []


def test_a_worse_version_is_refused_with_exit_code_3_and_the_reasons(workplace: Path) -> None:
    add(0.9)
    assert call_json("promote", MODEL)["aliases"] == ["champion"]
    add(0.4)
    refused = call("promote", MODEL, code=3)
    assert "champion stays 1: (1) mAP50-95" in refused.stderr
    assert "(2) collapsed: " in refused.stderr
    document = call_json("promote", MODEL, code=3)
    assert document["exit_code"] == 3
    assert document["error"]["type"] == "RefusedError"
    assert champion() == "1"


def test_without_evidence_the_command_that_gathers_it_is_given(workplace: Path) -> None:
    add(None)
    said = call("promote", MODEL, code=3).stderr
    assert "never evaluated" in said
    assert f"guardianflow infer --model 'models:/{MODEL}/1' --data '/data/my site/data.yaml'" in said


def test_a_dry_run_shows_the_verdict_and_changes_nothing(workplace: Path) -> None:
    add(0.5)
    call("promote", MODEL)
    add(0.9)
    shown = call("promote", MODEL, "--dry-run")
    assert "accuracy" in shown.stdout
    assert "better" in shown.stdout
    assert "may be promoted; nothing was changed" in shown.stderr
    assert champion() == "1"
    add(0.1)
    document = call_json("promote", MODEL, "--dry-run", code=3)
    assert (document["candidate"], document["champion"], document["passed"]) == ("3", "1", False)
    assert {check["name"]: check["outcome"] for check in document["checks"]} == {
        "evidence": "passed", "accuracy": "refused", "classes": "refused", "latency": "not compared", "size": "passed",
    }  # fmt: skip
    assert "is refused; nothing was changed" in call("promote", MODEL, "--dry-run", code=3).stderr
    assert champion() == "1"


def test_force_needs_the_right(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(None)
    monkeypatch.setenv("GUARDIANFLOW_GATE_OVERRIDE_ACTORS", "lee, park")
    said = call("promote", MODEL, "--force", "--reason", "I know it", code=3).stderr
    assert "'kim' may not force a promotion; lee, park may" in said
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "park")
    assert call_json("promote", MODEL, "--force", "--reason", "no data yet")["version"] == "1"
    [event, *_] = call_json("history", MODEL)["history"]
    assert (event["actor"], event["evidence"]["forced"], event["evidence"]["gate"]["passed"]) == ("park", True, False)
