"""Sweeps whose trials run in this process, one after another."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from guardianflow.core.config import Settings
from guardianflow.execution.executors import LocalExecutor, RunOutcome
from guardianflow.execution.sweep import SweepRunner
from guardianflow.scenario.experiment_design import RunPlan, SweepScenario


class DirectPool:
    """A pool that executes in this process, one after another; ``stop_after`` so many it is interrupted."""

    slots = 1

    def __init__(self, settings: Settings, stop_after: int = 10_000) -> None:
        self.settings = settings
        self.left = stop_after
        self.plans: list[RunPlan] = []

    def submit(self, plan: RunPlan) -> Future[RunOutcome]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.plans.append(plan)
        done: Future[RunOutcome] = Future()
        try:
            done.set_result(LocalExecutor(self.settings, direct=True).execute(plan))
        except Exception as error:
            done.set_exception(error)
        return done

    def cancel(self) -> None:
        """Nothing runs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class DirectSweep(SweepRunner):
    """A sweep whose trials run in this process."""

    stop_after = 10_000

    def _pool(self) -> Any:
        self.pool = DirectPool(self.settings, self.stop_after)
        return self.pool


def sweep_of(data_yaml: Path, **changes: Any) -> SweepScenario:
    """A sweep over lr0; ``changes`` of its fields by their paths, such as ``sweep__trials``."""
    values: dict[str, Any] = {
        "kind": "sweep",
        "experiment": "시험 sweep",
        "model": {"architecture": "yolo11n.yaml", "imgsz": 64},
        "dataset": {"data_yaml": str(data_yaml)},
        "env": {"device": "cpu"},
        "run": {"epochs": 3, "options": {}},
        "sweep": {
            "space": {"run.options.lr0": {"low": 0.0001, "high": 1.0, "log": True}},
            "sampler": "random", "pruner": "none", "trials": 4, "metric": "map50",
        },
    }  # fmt: skip
    for name, value in changes.items():
        block, _, last = name.rpartition("__")
        (values[block] if block else values)[last] = value
    return SweepScenario.model_validate(values)
