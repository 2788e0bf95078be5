"""What every pool of plans must do: subclass the suite, and open yours.

Example:
    ::

        class TestMyPool(ExecutorSuite):
            @pytest.fixture(scope="class")
            def settings(self):
                return Settings(work_dir=...)

            @pytest.fixture(scope="class")
            def open_pool(self, settings):
                return lambda **options: MyPool(settings, **options)
"""

# ruff: noqa: S101, D102, PT012 - tests assert, the name of one is its sentence, and a pool is left by an error

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError, RunFailedError, RunInterruptedError
from guardianflow.execution.executors import RunOutcome
from guardianflow.execution.pool import Pool
from guardianflow.execution.studies import Studies
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.runs.tracking import make_client
from guardianflow.scenario.experiment_design import RunPlan, SweepScenario, Trial
from guardianflow.scenario.factory import plan_run
from guardianflow.state.database import Database

__all__ = ["ExecutorSuite", "script_plan", "wait_until"]

OpenPool = Callable[..., Pool]

_MEETS = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:])
mine.touch()
end = time.monotonic() + 400  # the first job of a cluster on a busy machine takes its time
while not other.exists():
    if time.monotonic() > end:
        sys.exit("the other one is not there")
    time.sleep(0.05)
print("loss: 0.25")
"""
_STUDY = SweepScenario.model_validate(
    {
        "experiment": "연구 study",
        "model": {"architecture": "yolo11n.yaml"},
        "dataset": {"data_yaml": "data.yaml"},
        "sweep": {"space": {"run.batch": [4, 8]}, "sampler": "grid"},
    }
)
_FAILS = "raise SystemExit('the disk is made of cheese')"
_HANGS = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
"""


def script_plan(folder: Path, text: str, *args: object, trial: Trial | None = None) -> RunPlan:
    """A plan that runs a script, the cheapest kind that there is."""
    script = folder / "script.py"
    folder.mkdir(parents=True, exist_ok=True)
    script.write_text(text, encoding="utf-8")
    plan = plan_run(
        "wrap", experiment_name="풀 pool", script_path=str(script), working_dir=str(folder), args=list(map(str, args))
    )
    return RunPlan(plan.scenario, trial=trial)


def wait_until(condition: Callable[[], Any], *, seconds: float = 240.0) -> None:
    """Wait until something holds; it fails where that isn't so in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@dataclass
class Batch:
    """What became of the plans that all tests look at."""

    futures: Mapping[str, Future[RunOutcome]]
    told: dict[str, str] = field(default_factory=dict)


class ExecutorSuite:
    """Behaviour that holds for every pool."""

    @pytest.fixture(scope="class")
    def settings(self) -> Settings:
        """Where the runs go; give your own."""
        raise NotImplementedError("define the fixture settings in the subclass")

    @pytest.fixture(scope="class")
    def open_pool(self) -> OpenPool:
        """Opens the pool with ``at_once`` and ``on_run`` given by name; give your own."""
        raise NotImplementedError("define the fixture open_pool in the subclass")

    @pytest.fixture(scope="class")
    def batch(self, open_pool: OpenPool, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Batch:
        """Two plans that wait for each other, one that fails and one whose input can't be used; all have ended."""
        folder = tmp_path_factory.mktemp("plans")
        one, two = folder / "one.here", folder / "two.here"
        study = Studies(settings).begin(_STUDY, data="d" * 64, sweep="a" * 32)
        with study.lock():
            row = study.ask({"run.batch": 8}, sweep="b" * 32)
        trial = Trial(study.name, row.number, study.parent, row.sweep)
        batch = Batch({})
        plans = {
            "one": script_plan(folder / "one", _MEETS, one, two, trial=trial),
            "two": script_plan(folder / "two", _MEETS, two, one),
            "fails": script_plan(folder / "fails", _FAILS),
            "unusable": script_plan(folder / "unusable", ""),
        }
        (folder / "unusable" / "script.py").unlink()
        names = {plan.parameters["script_path"]: name for name, plan in plans.items()}
        with open_pool(
            at_once=2, on_run=lambda plan, run: batch.told.update({names[plan.parameters["script_path"]]: run})
        ) as pool:
            assert pool.slots == 2
            batch.futures = {name: pool.submit(plan) for name, plan in plans.items()}
        return batch

    def test_as_many_plans_run_at_the_same_time_as_there_are_slots(self, batch: Batch) -> None:
        # Each of the two waits for the other.
        assert [batch.futures[name].result(0).status for name in ("one", "two")] == [RunStatus.FINISHED] * 2

    def test_an_outcome_is_whole(self, batch: Batch, settings: Settings) -> None:
        outcome = batch.futures["two"].result(0)
        assert outcome.result["metrics"]["loss"] == 0.25
        assert outcome.folder.is_dir()
        assert [path and path.is_file() for path in (outcome.notebook, outcome.html)] == [True, True]
        record = RunRecords(Database.open(settings.database_url)).get(outcome.run_id)
        assert (record.status, record.kind) == (RunStatus.FINISHED, "wrap")

    def test_notebook_and_page_are_in_the_shared_store(self, batch: Batch, settings: Settings) -> None:
        run_id = batch.futures["two"].result(0).run_id
        kept = {item.path for item in make_client(settings).list_artifacts(run_id, "notebook")}
        assert kept == {"notebook/wrap.ipynb", "notebook/wrap.html"}

    def test_each_run_is_told_once(self, batch: Batch) -> None:
        assert batch.told.keys() == {"one", "two", "fails"}
        assert batch.told["one"] == batch.futures["one"].result(0).run_id

    def test_a_trials_run_lies_below_its_parent(self, batch: Batch, settings: Settings) -> None:
        tags = make_client(settings).get_run(batch.told["one"]).data.tags
        wanted = {"mlflow.parentRunId": "a" * 32, "guardianflow.study": _STUDY.study, "guardianflow.trial": "0"}
        assert wanted.items() <= tags.items()

    def test_a_trials_run_stands_in_its_study_with_its_outcome(self, batch: Batch, settings: Settings) -> None:
        row = Studies(settings).get(_STUDY.study).row(0)
        assert (row.run_id, row.outcome["metrics"]["loss"]) == (batch.told["one"], 0.25)

    def test_a_run_that_failed_says_why(self, batch: Batch, settings: Settings) -> None:
        with pytest.raises(RunFailedError, match=r"run \w+ failed|code 1"):
            batch.futures["fails"].result(0)
        assert RunRecords(Database.open(settings.database_url)).get(batch.told["fails"]).status == RunStatus.FAILED

    def test_input_that_cant_be_used_makes_no_run(self, batch: Batch) -> None:
        with pytest.raises(InputError, match=r"script\.py"):
            batch.futures["unusable"].result(0)

    def test_what_runs_is_ended_and_what_waits_is_not_begun(
        self, open_pool: OpenPool, settings: Settings, tmp_path: Path
    ) -> None:
        told: list[str] = []
        place = tmp_path / "pid"
        with pytest.raises(KeyboardInterrupt), open_pool(on_run=lambda _, run: told.append(run)) as pool:
            runs = pool.submit(script_plan(tmp_path / "runs", _HANGS, place))
            waits = pool.submit(script_plan(tmp_path / "waits", _HANGS, tmp_path / "never"))
            wait_until(lambda: place.exists() and place.read_text())
            raise KeyboardInterrupt
        for future in (runs, waits):
            with pytest.raises(RunInterruptedError):
                future.result(0)
        assert len(told) == 1
        assert RunRecords(Database.open(settings.database_url)).get(told[0]).status == RunStatus.KILLED
        assert make_client(settings).get_run(told[0]).info.status == RunStatus.KILLED
        assert not psutil.pid_exists(int(place.read_text()))
        assert not (tmp_path / "never").exists()

    def test_a_run_that_can_not_be_noted_is_ended(
        self, open_pool: OpenPool, settings: Settings, tmp_path: Path
    ) -> None:
        told: list[str] = []

        def refuse(_: RunPlan, run_id: str) -> None:
            told.append(run_id)
            raise InputError("the study is gone")

        with open_pool(on_run=refuse) as pool:
            future = pool.submit(script_plan(tmp_path, _HANGS, tmp_path / "pid"))
            with pytest.raises(InputError, match="the study is gone"):
                future.result(120)
        records = RunRecords(Database.open(settings.database_url))
        wait_until(lambda: records.get(told[0]).status == RunStatus.KILLED, seconds=30)
