"""GuardianFlow: a Jupyter-first workbench for the life of a vision model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardianflow.adapters.experiment_registry import ExperimentRegistry
    from guardianflow.adapters.generic_wrapper import GenericWrapper, WrapResult
    from guardianflow.core.config import Settings
    from guardianflow.core.metrics import MetricRecord, get_gpu_metrics, get_model_size
    from guardianflow.core.registry import ModelRegistry, ModelVersion
    from guardianflow.dashboard.metrics_store import MetricsStore
    from guardianflow.data.dataset import Dataset, check_dataset, read_dataset
    from guardianflow.evaluation.detection.evaluate import evaluate_detection
    from guardianflow.evaluation.mot.evaluate import evaluate_mot
    from guardianflow.exceptions import GuardianFlowError
    from guardianflow.runners.inference.runner import InferenceResult, InferenceRunner
    from guardianflow.runners.quantization.runner import QuantizationResult, QuantizationRunner
    from guardianflow.runners.training.result import TrainingResult
    from guardianflow.runners.training.runner import TrainingRunner
    from guardianflow.scenario.file import load_scenario
    from guardianflow.scenario.schema import (
        BaseScenario,
        InferenceScenario,
        QuantizationScenario,
        TrainingScenario,
        WrapScenario,
    )

__version__ = "0.1.0"

_NAMES = {
    "guardianflow.adapters.experiment_registry": "ExperimentRegistry",
    "guardianflow.adapters.generic_wrapper": "GenericWrapper WrapResult",
    "guardianflow.core.config": "Settings",
    "guardianflow.runners.inference.runner": "InferenceResult InferenceRunner",
    "guardianflow.core.metrics": "MetricRecord get_gpu_metrics get_model_size",
    "guardianflow.runners.quantization.runner": "QuantizationResult QuantizationRunner",
    "guardianflow.core.registry": "ModelRegistry ModelVersion",
    "guardianflow.runners.training.runner": "TrainingResult TrainingRunner",
    "guardianflow.dashboard.metrics_store": "MetricsStore",
    "guardianflow.data.dataset": "Dataset check_dataset read_dataset",
    "guardianflow.evaluation.detection.evaluate": "evaluate_detection",
    "guardianflow.evaluation.mot.evaluate": "evaluate_mot",
    "guardianflow.exceptions": "GuardianFlowError",
    "guardianflow.scenario.file": "load_scenario",
    "guardianflow.scenario.schema": "BaseScenario InferenceScenario QuantizationScenario TrainingScenario WrapScenario",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import guardianflow`` stays light."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'guardianflow' has no attribute {name!r}; it offers {sorted(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
