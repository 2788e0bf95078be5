"""Plans on a real Ray cluster of two nodes: the contract, a node that dies, a cluster that isn't there."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError
from guardianflow.execution.pool import make_pool
from guardianflow.runs.run_records import RunRecords, RunStatus
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
class TestRayPool(ExecutorSuite):
    @pytest.fixture(scope="class")
    def settings(self, ray_cluster: RayCluster) -> Settings:
        return ray_cluster.settings

    @pytest.fixture(scope="class")
    def open_pool(self, ray_cluster: RayCluster):
        return lambda **options: make_pool(ray_cluster.settings, executor="ray", address=ray_cluster.address, **options)


@pytest.mark.services
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
