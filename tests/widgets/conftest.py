"""A registry with models in it, as the panels show it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ipywidgets", reason="ipywidgets is missing: pip install 'guardianflow[dashboard]'")

from guardianflow.registry.evaluations import Evaluations
from guardianflow.registry.model_records import ModelVersion
from guardianflow.widgets.page import SERVED
from tests.registry.evidence_world import evaluate
from tests.registry.registry_world import World
from tests.small_onnx import working

Enter = Callable[..., ModelVersion]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a kernel that the server of the pages started for a visitor."""
    monkeypatch.setenv(SERVED, "1")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> World:
    """One MLflow and one state database; every test takes models of its own."""
    folder = tmp_path_factory.mktemp("panels world")
    shutil.copy(mlflow_sqlite_template, folder / "mlflow.db")
    return World(folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db", database_url=f"sqlite:///{folder}/state.db")


@pytest.fixture
def enter(world: World, tmp_path: Path) -> Enter:
    """Registers a model that loads, with evidence that it finds this share of what is labelled."""

    def made(name: str, skill: float, *, promoted: bool = False) -> ModelVersion:
        number = len(list(tmp_path.iterdir()))
        names = "{0: 'a', 1: 'b', 2: 'c'}"
        file = working(tmp_path / f"{number}.onnx", metadata={"names": names, "author": f"{name} {number}"})
        run_id = world.run(file.read_bytes(), artifact=f"weights/best{number}.onnx")
        registry = world.registry()
        found = registry.register(name, run_id, artifact=f"weights/best{number}.onnx", metrics={"map50": skill})
        evaluate(
            Evaluations(world.settings), found.sha256, tmp_path / f"evidence {number}", skill,
            metrics={"latency_ms_p50": 12.0, "latency_ms_p95": 15.5}, backend="onnxruntime", images=12,
        )  # fmt: skip
        if promoted:
            registry.promote(name, found.version, reason=f"reason of {number}")
        return found

    return made
