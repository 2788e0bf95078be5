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
    from guardianflow.dashboard.reporter import Reporter
    from guardianflow.data.dataset import Dataset, check_dataset, read_dataset
    from guardianflow.evaluation.detection.evaluate import evaluate_detection
    from guardianflow.evaluation.mot.evaluate import evaluate_mot
    from guardianflow.exceptions import GuardianFlowError
    from guardianflow.execution.comparison import ComparisonResult, ComparisonRunner
    from guardianflow.execution.opened_run import OpenedRun, compare, open_run
    from guardianflow.execution.sweep import SweepResult, SweepRunner
    from guardianflow.runners.inference.runner import InferenceResult, InferenceRunner
    from guardianflow.runners.loaded_model import LoadedModel, load, load_champion
    from guardianflow.runners.quantization.runner import QuantizationResult, QuantizationRunner
    from guardianflow.runners.training.runner import TrainingResult, TrainingRunner
    from guardianflow.scenario.blocks import BaseScenario, Env, Model, Site, Task
    from guardianflow.scenario.file import load_scenario
    from guardianflow.scenario.schema import InferenceScenario, QuantizationScenario, TrainingScenario, WrapScenario
    from guardianflow.widgets.comparison_view import ComparisonView
    from guardianflow.widgets.fleet import FleetPanel
    from guardianflow.widgets.optimizer import OptimizerPanel
    from guardianflow.widgets.registry_panel import RegistryPanel
    from guardianflow.widgets.run_monitor import RunMonitor

__version__ = "0.1.0"

_HOMES = """
    adapters.experiment_registry ExperimentRegistry | adapters.generic_wrapper GenericWrapper WrapResult
    core.config Settings | core.metrics MetricRecord get_gpu_metrics get_model_size
    core.registry ModelRegistry ModelVersion | dashboard.metrics_store MetricsStore | dashboard.reporter Reporter
    data.dataset Dataset check_dataset read_dataset | evaluation.detection.evaluate evaluate_detection
    evaluation.mot.evaluate evaluate_mot | exceptions GuardianFlowError
    execution.comparison ComparisonResult ComparisonRunner | execution.sweep SweepResult SweepRunner
    execution.opened_run OpenedRun compare open_run
    runners.inference.runner InferenceResult InferenceRunner | runners.loaded_model LoadedModel load load_champion
    runners.quantization.runner QuantizationResult QuantizationRunner
    runners.training.runner TrainingResult TrainingRunner | scenario.blocks BaseScenario Env Model Site Task
    scenario.file load_scenario | scenario.schema InferenceScenario QuantizationScenario TrainingScenario WrapScenario
    widgets.comparison_view ComparisonView | widgets.fleet FleetPanel | widgets.optimizer OptimizerPanel
    widgets.registry_panel RegistryPanel | widgets.run_monitor RunMonitor"""
_HOME = {name: home for home, *names in map(str.split, _HOMES.replace("\n", "|").split("|")[1:]) for name in names}
__all__ = sorted(["__version__", *_HOME])


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that ``import guardianflow`` stays light."""
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"guardianflow.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"module 'guardianflow' has no attribute {name!r}; it offers {sorted(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
