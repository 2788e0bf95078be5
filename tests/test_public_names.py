"""The public face: what it offers is decided here, on purpose, and nowhere by accident."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import guardianflow

PUBLIC = [
    "BaseScenario",
    "ComparisonResult",
    "ComparisonRunner",
    "ComparisonView",
    "Dataset",
    "Env",
    "ExperimentRegistry",
    "FleetPanel",
    "GenericWrapper",
    "GuardianFlowError",
    "InferenceResult",
    "InferenceRunner",
    "InferenceScenario",
    "LoadedModel",
    "MetricRecord",
    "MetricsStore",
    "Model",
    "ModelRegistry",
    "ModelVersion",
    "OpenedRun",
    "OptimizerPanel",
    "QuantizationResult",
    "QuantizationRunner",
    "QuantizationScenario",
    "RegistryPanel",
    "Reporter",
    "RunMonitor",
    "Settings",
    "Site",
    "SweepResult",
    "SweepRunner",
    "Task",
    "TrainingResult",
    "TrainingRunner",
    "TrainingScenario",
    "WrapResult",
    "WrapScenario",
    "__version__",
    "check_dataset",
    "compare",
    "evaluate_detection",
    "evaluate_mot",
    "get_gpu_metrics",
    "get_model_size",
    "load",
    "load_champion",
    "load_scenario",
    "open_run",
    "read_dataset",
]
OBJECTS = [name for name in PUBLIC if name != "__version__"]


def test_the_public_names_are_these() -> None:
    assert sorted(PUBLIC) == PUBLIC
    assert guardianflow.__all__ == PUBLIC
    assert dir(guardianflow) == PUBLIC


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(guardianflow.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(OBJECTS)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_can_be_imported_and_is_at_home_in_the_package(name: str) -> None:
    value = getattr(guardianflow, name)
    assert value.__name__ == name
    assert value.__module__.startswith("guardianflow.")


@pytest.mark.parametrize("name", OBJECTS)
def test_a_public_name_is_documented_and_so_are_its_methods(name: str) -> None:
    value = getattr(guardianflow, name)
    missing = [] if (value.__doc__ or "").strip() else [name]
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not attribute.startswith("_") and inspect.isfunction(function) and not inspect.getdoc(function):
                missing.append(f"{name}.{attribute}")
    assert missing == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'TrainingRuner'; it offers .*'TrainingRunner'"):
        _ = guardianflow.TrainingRuner


def test_the_root_stays_small() -> None:
    lines = Path(guardianflow.__file__).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 66


def test_the_version_is_that_of_the_project() -> None:
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{guardianflow.__version__}"\n' in text
