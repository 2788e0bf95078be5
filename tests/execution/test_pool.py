"""Plans at the same time on this machine: the contract, and what only this machine can show."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError, NotFoundError, RunFailedError
from guardianflow.execution.pool import LocalPool, _Worker, make_pool
from guardianflow.execution.worker import MARK, error_from, said_in
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.factory import plan_run
from guardianflow.state.database import Database
from guardianflow.testing.executor_suite import ExecutorSuite, script_plan, wait_until

_HANGS = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
_COORDINATOR = """
import sys
from pathlib import Path
from guardianflow.core.config import Settings
from guardianflow.execution.pool import make_pool
from guardianflow.testing.executor_suite import script_plan
with make_pool(Settings(work_dir=sys.argv[1]), on_run=lambda _, run: print(run, flush=True)) as pool:
    pool.submit(script_plan(Path(sys.argv[2]), sys.argv[3], sys.argv[4])).result()
"""


@pytest.fixture(scope="module")
def local_settings(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Settings:
    work_dir = tmp_path_factory.mktemp("pool") / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    return Settings(work_dir=work_dir)


@pytest.mark.timeout(900)  # on a busy machine a plan takes minutes
class TestLocalPool(ExecutorSuite):
    @pytest.fixture(scope="class")
    def settings(self, local_settings: Settings) -> Settings:
        return local_settings

    @pytest.fixture(scope="class")
    def open_pool(self, settings: Settings):
        return lambda **options: LocalPool(settings, **options)


def records_of(settings: Settings) -> RunRecords:
    return RunRecords(Database.open(settings.database_url))


def test_a_worker_that_is_killed_is_a_failed_run_that_is_put_right(local_settings: Settings, tmp_path: Path) -> None:
    told: list[str] = []
    place = tmp_path / "pid"
    with make_pool(local_settings, on_run=lambda _, run: told.append(run)) as pool:
        future = pool.submit(script_plan(tmp_path, _HANGS, place))
        wait_until(lambda: place.exists() and place.read_text())
        os.kill(records_of(local_settings).get(told[0]).owner.pid, signal.SIGKILL)
        with pytest.raises(RunFailedError, match=f"run {told[0]} failed: its process was ended by SIGKILL"):
            future.result(60)
    assert records_of(local_settings).get(told[0]).status == RunStatus.FAILED
    wait_until(lambda: not psutil.pid_exists(int(place.read_text())), seconds=20)


def test_when_whoever_ordered_it_is_killed_the_run_ends(local_settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    command = [sys.executable, "-c", _COORDINATOR, str(local_settings.work_dir), str(tmp_path), _HANGS, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout
        run_id = coordinator.stdout.readline().strip()
        wait_until(lambda: place.exists() and place.read_text())
        coordinator.kill()
    wait_until(lambda: records_of(local_settings).get(run_id).status == RunStatus.KILLED, seconds=60)
    wait_until(lambda: not psutil.pid_exists(int(place.read_text())), seconds=20)


class Recorded(LocalPool):
    """What a plan is given, without a process that executes it."""

    def _start(self, worker, printed):
        self.seen = getattr(self, "seen", [])
        self.seen.append((worker.plan, worker.device))
        raise InputError("enough is seen")


class Busy(_Worker):
    """A plan that runs, by what the pool sees of it."""

    def __init__(self, plan, *, device: str = "", held: float = 0.0) -> None:
        super().__init__(plan, device)
        self.held_mb = lambda: held


def training(**changes: object):
    asked = {"experiment_name": "gate", "model_arch": "yolo11n.yaml", "data_yaml": "data.yaml", **changes}
    return plan_run("train", **asked)


def test_trainings_at_the_same_time_share_the_cores(local_settings: Settings, monkeypatch, caplog) -> None:
    monkeypatch.setattr("guardianflow.execution.pool.usable_cores", lambda: 8)
    plans = [training(), training(), training(threads=5), plan_run("wrap", experiment_name="gate", script_path="a.py")]
    with LocalPool(local_settings, at_once=4) as four, LocalPool(local_settings) as one:
        shared = [getattr(four._shared(plan).scenario.env, "threads", None) for plan in plans]
        alone = one._shared(training()).scenario.env.threads
    assert (shared, alone) == ([2, 2, 5, None], 0)
    assert caplog.text.count("a training takes 2 CPU thread(s), its share with 4 plan(s) at a time") == 1


def test_gpus_are_dealt_out_to_those_that_name_none(local_settings: Settings, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with Recorded(local_settings, at_once=2) as pool:
        pool._running = [Busy(training(), device="4")]
        for plan in (training(), training(device="0"), training(device="cpu")):
            with pytest.raises(InputError):
                pool.submit(plan).result(10)
        pool._running = []
    assert [device for _, device in pool.seen] == ["7", "", ""]
    assert LocalPool(local_settings)._devices == []  # one at a time has them all


def test_what_measures_speeds_runs_alone(local_settings: Settings) -> None:
    with Recorded(local_settings, at_once=2) as pool:
        benchmark = plan_run("infer", model_path="a.pt", data_yaml="data.yaml", experiment_name="speeds")
        pool._running = [Busy(training())]
        waits = pool.submit(benchmark)
        wait_until(lambda: pool._waits_alone, seconds=5)
        also = pool.submit(training())  # or the benchmark would never have its turn
        with pytest.raises(TimeoutError):
            also.result(1.5)
        assert not hasattr(pool, "seen")
        pool._running = []
        for future in (waits, also):
            with pytest.raises(InputError, match="enough is seen"):
                future.result(10)
    assert [plan.kind for plan, _ in pool.seen] == ["infer", "train"]


def test_a_plan_waits_while_memory_is_short(local_settings: Settings, monkeypatch) -> None:
    left = [1500.0]
    monkeypatch.setattr("guardianflow.execution.pool.memory_limit", lambda: left[0])
    with Recorded(local_settings, at_once=2) as pool:
        # The largest took 1000 MB, and the one that runs holds 400 now: it may want 600 more.
        pool._largest_mb = 1000.0
        pool._running = [Busy(training(), held=400.0)]
        waits = pool.submit(training())
        with pytest.raises(TimeoutError):
            waits.result(1.5)
        left[0] = 1700.0
        with pytest.raises(InputError, match="enough is seen"):
            waits.result(10)
        pool._running = []


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"at_once": 0}, InputError, "at least one plan must run at a time, not 0"),
        ({"executor": "slurm"}, NotFoundError, "there is no executor named 'slurm'. Known: local, ray"),
        ({"address": "http://head:8265"}, InputError, "add --executor ray"),
    ],
)
def test_a_pool_that_cant_be_is_refused(local_settings: Settings, options, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        make_pool(local_settings, **options)


def test_only_the_workers_own_words_count() -> None:
    assert said_in(f"{MARK}{json.dumps({'run': 'a'})}\n") == {"run": "a"}
    assert (
        said_in(f"x {MARK}{{}}") is said_in("loss: 1\n") is said_in(f"{MARK}half a li") is said_in(f"{MARK}[1]") is None
    )


def test_an_error_is_raised_as_the_executor_raised_it() -> None:
    error = error_from({"type": "DatasetError", "message": "no labels", "signum": 0})
    assert (type(error).__name__, str(error), error.exit_code) == ("DatasetError", "no labels", 2)
    assert type(error_from({"type": "NotebookFailedError", "message": "x", "signum": 0})) is RunFailedError
    assert error_from({"type": "NotebookInterruptedError", "message": "x", "signum": 2}).exit_code == 130
