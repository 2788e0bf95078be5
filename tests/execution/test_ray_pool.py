"""Plans on a real Ray cluster of two nodes: the contract, a node that dies, a cluster that isn't there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError
from guardianflow.execution.pool import Pool, make_pool
from guardianflow.execution.ray_pool import RayPool, _Job
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.experiment_design import RunPlan, Trial
from guardianflow.scenario.factory import plan_run
from guardianflow.state.database import Database
from guardianflow.testing.executor_suite import ExecutorSuite, script_plan, wait_until
from tests.services.ray_cluster import HOW_TO_GET_IT, RayCluster

pytest.importorskip("ray", reason=HOW_TO_GET_IT)

_WAITS = """
import os, pathlib, sys, time
place, go = map(pathlib.Path, sys.argv[1:])
place.write_text(str(os.getpid()))
while not go.exists():
    time.sleep(0.1)
print("loss: 0.5")
"""


@pytest.mark.services
@pytest.mark.timeout(900)  # on a busy machine a plan takes minutes
class TestRayPool(ExecutorSuite):
    @pytest.fixture(scope="class")
    def settings(self, ray_cluster: RayCluster) -> Settings:
        return ray_cluster.settings

    @pytest.fixture(scope="class")
    def open_pool(self, ray_cluster: RayCluster):
        return lambda **options: make_pool(ray_cluster.settings, executor="ray", address=ray_cluster.address, **options)


@pytest.mark.slow
@pytest.mark.fire
@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_plan_whose_node_is_killed_is_done_on_another(ray_cluster: RayCluster, tmp_path: Path, caplog) -> None:
    told: list[str] = []
    settings = ray_cluster.settings
    records = RunRecords(Database.open(settings.database_url))
    places, go = [tmp_path / "a", tmp_path / "b"], tmp_path / "go"
    plans = [script_plan(tmp_path / f"plan {place.name}", _WAITS, place, go) for place in places]
    with make_pool(
        settings, executor="ray", address=ray_cluster.address, at_once=2, on_run=lambda _, run: told.append(run)
    ) as pool:
        futures = [pool.submit(plan) for plan in plans]
        wait_until(lambda: len(told) == 2 and all(place.exists() for place in places), seconds=180)
        there = ray_cluster.node_pids(1)  # a CPU each, so one of them is on the node that isn't the head
        [lost] = [run for run in told if records.get(run).owner.pid in there]
        ray_cluster.kill_node()
        go.touch()
        try:
            outcomes = [future.result(240) for future in futures]
        finally:
            ray_cluster.add_node()
    assert [outcome.result["metrics"]["loss"] for outcome in outcomes] == [0.5, 0.5]
    [again] = [run for run in told if records.get(run).again_of == lost]
    assert len(told) == 3
    assert again in {outcome.run_id for outcome in outcomes}
    assert lost not in {outcome.run_id for outcome in outcomes}
    assert (records.get(lost).status, records.get(again).status) == (RunStatus.FAILED, RunStatus.FINISHED)
    assert "its worker died" in caplog.text


_DIES = """
import os, sys
from guardianflow.core.config import Settings
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.factory import plan_run
plan = plan_run("train", experiment_name="gate", model_arch="yolo11n.yaml", data_yaml="data.yaml", threads=3)
run = TrackedRun.start(Settings(work_dir=sys.argv[1]), experiment="gate", kind="train", parameters=plan.parameters)
print(run.run_id, flush=True)
os._exit(1)
"""


def pool_without_cluster(settings: Settings, *nodes: dict[str, float]) -> RayPool:
    """A pool as it is after it has found its cluster."""
    pool = RayPool.__new__(RayPool)
    Pool.__init__(pool, settings, at_once=2)
    pool._records = RunRecords(Database.open(settings.database_url))
    pool._nodes = list(nodes)
    pool._jobs = type("Jobs", (), {"address": "http://head:8265"})()
    return pool


def training(**changes: object) -> RunPlan:
    asked = {"experiment_name": "gate", "model_arch": "yolo11n.yaml", "data_yaml": "data.yaml", **changes}
    return RunPlan(plan_run("train", **asked).scenario, trial=Trial("study", 4))


def test_a_training_whose_worker_died_goes_on_in_its_run(local_work: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIES, str(local_work.work_dir)], capture_output=True, text=True, check=False
    )
    run_id = done.stdout.strip()
    pool, first = pool_without_cluster(local_work), training()
    assert pool._after_death(first, _Job("a", first, first, 1, 0)) is first  # it had no run yet
    after = pool._after_death(first, _Job("a", first, first, 1, 0, run_id=run_id))
    assert (after.resume, after.trial, after.parameters["threads"]) == (run_id, Trial("study", 4), 3)
    assert pool._records.get(run_id).status == RunStatus.FAILED
    assert not pool._taken(after)


@pytest.mark.parametrize(
    ("plan", "threads", "needs"),
    [
        (training(), 4, (4, 1)),  # its share: 2 of 3 nodes' 20 CPUs, and no more than the smallest has
        (training(threads=8, device="cpu"), 8, (8, 0)),
        (training(threads=1, device="1,3"), 1, (1, 2)),
        (plan_run("wrap", experiment_name="gate", script_path="a.py"), None, (1, 1)),
        (plan_run("infer", experiment_name="gate", model_path="a.pt", data_yaml="a", device="cpu"), 0, (4, 0)),
        (plan_run("registry", experiment_name="gate", action="promote", model_name="m"), None, (1, 0)),
    ],
)
def test_a_job_asks_for_what_its_plan_needs(
    local_work: Settings, plan: RunPlan, threads: int | None, needs: tuple[int, int]
) -> None:
    pool = pool_without_cluster(local_work, {"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0})
    form, *found = pool._on_a_node(plan)
    assert tuple(found) == needs
    assert getattr(getattr(form.scenario, "env", None), "threads", None) == threads
    if needs[1] == 2:
        assert form.scenario.env.device == "0,1"  # Ray numbers those that it gives from 0


def test_what_no_node_has_is_refused(local_work: Settings) -> None:
    pool = pool_without_cluster(local_work, {"CPU": 4.0}, {"CPU": 8.0})
    with pytest.raises(InputError, match=r"needs 9 CPUs of one node, .* more than 8; ask for fewer in env.threads"):
        pool._on_a_node(training(threads=9))
    with pytest.raises(InputError, match=r"needs 1 GPUs of one node, .* more than 0; ask for fewer in env.device"):
        pool._on_a_node(training(device="0"))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody who takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("where", ["closed", "silent", "elsewhere"])
def test_a_cluster_that_does_not_answer_is_one_sentence_within_15_s(
    local_work: Settings, silent_port: int, where: str
) -> None:
    hosts = {
        "closed": "http://127.0.0.1:9",
        "silent": f"127.0.0.1:{silent_port}",
        "elsewhere": "http://10.255.255.1:8265",
    }
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no Ray cluster answers at http://.*ray status"):
        make_pool(local_work, executor="ray", address=hosts[where])
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("address", ["ray://head:10001", "http://", "http://head:port", "ftp://head:8265"])
def test_what_is_no_address_of_a_dashboard_is_refused(local_work: Settings, address: str) -> None:
    with pytest.raises(InputError, match="is no address of a Ray dashboard; write it as http://HEAD:8265"):
        make_pool(local_work, executor="ray", address=address)


@pytest.fixture
def local_work(tmp_path: Path) -> Settings:
    return Settings(work_dir=tmp_path / "work")
