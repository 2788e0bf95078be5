"""From a plan to what executes it: the kinds of run, as data.

A new kind is one entry: its scenario, its runner and its template notebook.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guardianflow._plugins import Registry
from guardianflow.exceptions import InputError
from guardianflow.runs.run_records import RunRecord
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.scenario.experiment_design import ComparisonScenario, RunPlan, SweepScenario
from guardianflow.scenario.fields import from_flat
from guardianflow.scenario.schema import (
    InferenceScenario,
    OptimizationScenario,
    QuantizationScenario,
    RegistryScenario,
    TrainingScenario,
    WrapScenario,
)

__all__ = ["KINDS", "Kind", "plan_again", "plan_resume", "plan_run"]


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        name: The kind's name, which is also that of its template notebook.
        scenario: What its runner is asked.
        runner: ``"module:Class"`` of the runner, imported when it is needed.
        resumable: Whether an interrupted run can go on.
        measures: Whether it measures speeds, so that on one machine nothing else of ours may run beside it.
        template: Its template notebook, where that is not one of ours by the kind's name.
    """

    name: str
    scenario: type[BaseScenario]
    runner: str
    resumable: bool = False
    measures: bool = False
    template: Path | None = None


TRAIN = Kind("train", TrainingScenario, "guardianflow.runners.training.runner:TrainingRunner", resumable=True)

INFER = Kind("infer", InferenceScenario, "guardianflow.runners.inference.runner:InferenceRunner", measures=True)

QUANTIZE = Kind(
    "quantize", QuantizationScenario, "guardianflow.runners.quantization.runner:QuantizationRunner", measures=True
)

REGISTRY = Kind("registry", RegistryScenario, "guardianflow.runners.promotion.runner:RegistryRunner")

WRAP = Kind("wrap", WrapScenario, "guardianflow.adapters.generic_wrapper:GenericWrapper")

OPTIMIZE = Kind("optimize", OptimizationScenario, "guardianflow.dashboard.optimization:OptimizationRunner")

SWEEP = Kind("sweep", SweepScenario, "guardianflow.execution.sweep:SweepRunner")

COMPARE = Kind("compare", ComparisonScenario, "guardianflow.execution.comparison:ComparisonRunner")

KINDS: Registry[Kind] = Registry(
    "kind of run",
    {
        "train": "guardianflow.scenario.factory:TRAIN",
        "infer": "guardianflow.scenario.factory:INFER",
        # A cell of a benchmark is recorded as a run of its own; repeated, it is a benchmark of that one cell.
        "cell": "guardianflow.scenario.factory:INFER",
        "quantize": "guardianflow.scenario.factory:QUANTIZE",
        "registry": "guardianflow.scenario.factory:REGISTRY",
        "wrap": "guardianflow.scenario.factory:WRAP",
        "optimize": "guardianflow.scenario.factory:OPTIMIZE",
        "sweep": "guardianflow.scenario.factory:SWEEP",
        "compare": "guardianflow.scenario.factory:COMPARE",
    },
    group="guardianflow.kinds",
)


def plan_run(kind: str, **parameters: Any) -> RunPlan:
    """A plan for a new run, its parameters checked against the kind's schema.

    Raises:
        NotFoundError: No such kind.
        ParameterError: A parameter is unknown, missing or out of range.
    """
    return RunPlan(from_flat(KINDS.get(kind).scenario, parameters))


def plan_again(record: RunRecord) -> RunPlan:
    """A plan that repeats a run from its recorded parameters, as a new run.

    Raises:
        InputError: The run was imported: nothing here knows how to do it again.
    """
    if record.kind == "import":
        msg = f"run {record.run_id} was imported, so it can't be repeated from here; run its script: guardianflow wrap"
        raise InputError(msg)
    values = {key: value for key, value in record.parameters.items() if key != "resume"}
    plan = plan_run(KINDS.get(record.kind).name, **values)
    return replace(plan, again_of=record.run_id)


def plan_resume(record: RunRecord, **changes: Any) -> RunPlan:
    """A plan that goes on with an interrupted run, in the same run.

    Raises:
        InputError: Runs of this kind can't be resumed.
    """
    kind = KINDS.get(record.kind)
    if not kind.resumable:
        msg = f"a run of kind {record.kind!r} can't be resumed; repeat it: guardianflow run --again {record.run_id}"
        raise InputError(msg)
    values = {**record.parameters, **{key: value for key, value in changes.items() if value is not None}}
    plan = plan_run(record.kind, **{**values, "resume": record.run_id})
    return replace(plan, resume=record.run_id)
