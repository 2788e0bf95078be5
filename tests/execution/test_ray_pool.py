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

_HANGS_THE_FIRST_TIME = """
import os, pathlib, sys, time
place = pathlib.Path(sys.argv[1])
if not place.exists():
    place.write_text(str(os.getpid()))
    time.sleep(600)
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
    place = tmp_path / "pid"
    settings = ray_cluster.settings
    records = RunRecords(Database.open(settings.database_url))
    with make_pool(
        settings, executor="ray", address=ray_cluster.address, at_once=2, on_run=lambda _, run: told.append(run)
    ) as pool:
        # The head stays busy, so that the other node has the plan.
        filler = pool.submit(script_plan(tmp_path / "filler", "import time; time.sleep(1)"))
        plan = script_plan(tmp_path / "plan", _HANGS_THE_FIRST_TIME, place)
        future = pool.submit(plan)
        wait_until(lambda: place.exists() and place.read_text())
        [mine] = [run for run in told if records.get(run).parameters["script_path"] == plan.parameters["script_path"]]
        victim = next(number for number in (1, 0) if records.get(mine).owner.pid in ray_cluster.node_pids(number))
        if victim == 0:
            pytest.fail("Ray put the plan on the head, which no cluster survives")
        ray_cluster.kill_node(victim)
        try:
            outcome = future.result(180)
        finally:
            ray_cluster.add_node()
        filler.result(120)
    assert outcome.result["metrics"]["loss"] == 0.5
    assert outcome.run_id != mine
    assert (records.get(mine).status, records.get(outcome.run_id).status) == (RunStatus.FAILED, RunStatus.FINISHED)
    assert records.get(outcome.run_id).again_of == mine
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
