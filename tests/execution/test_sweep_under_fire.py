"""A sweep is killed with all that it started, and started again: no trial is lost, none is executed twice.

The short form's trainings take no time, and two processes share a study on PostgreSQL; ``make test-fire`` trains on
the real photographs, and has the embedded database and a Ray cluster, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError
from guardianflow.execution.executors import kernel_environment
from guardianflow.execution.studies import Studies
from guardianflow.execution.trials import TrialRow, TrialState
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.fields import to_yaml
from guardianflow.state.database import Database
from tests.execution.direct_sweep import sweep_of
from tests.execution.fake_trials import write_template
from tests.services.ray_cluster import HOW_TO_GET_IT, RayCluster

ROOT = Path(__file__).resolve().parents[2]
FULL = bool(os.environ.get("GUARDIANFLOW_FIRE"))
TRIALS = 12 if FULL else 4
PATIENCE_S = 1800 if FULL else 600
CALL = "from guardianflow.cli import main; main()"
PHOTOGRAPHS = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or ROOT.parent / "shared" / "data") / "bccd" / "data.yaml"


class Sweeps:
    """Sweeps of one scenario, each a process as a user starts it."""

    def __init__(self, settings: Settings, folder: Path, data_yaml: Path, **changes: Any) -> None:
        self.settings = settings
        self.words: list[str] = []
        self.asked = sweep_of(
            data_yaml, experiment="under fire", sweep__trials=TRIALS, sweep__pruner="median", run__batch=8,
            run__options={"fraction": 0.05, "plots": False} if FULL else {}, env__threads=1, **changes,
        )  # fmt: skip
        self.file = folder / "sweep.yaml"
        self.file.write_text(to_yaml(self.asked), encoding="utf-8")
        self.environment = {**os.environ, **kernel_environment(settings), "PYTHONPATH": str(ROOT)}
        if not FULL:
            site = ROOT / "tests" / "execution" / "fake_site"
            fakes = {"FAKE_TRIALS": str(write_template(folder / "fake.ipynb")), "FAKE_PAUSE": "0.5"}
            self.environment |= {**fakes, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-P", "-c", CALL, "sweep", str(self.file), "--json", *self.words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                kill_tree(process)

    def rows(self) -> list[TrialRow]:
        try:
            return Studies(self.settings).get(self.asked.study).rows()
        except GuardianFlowError:
            return []

    def wait_for(self, condition: Callable[[list[TrialRow]], bool], *processes: subprocess.Popen[str]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition(self.rows()):
            assert time.monotonic() < end, "it did not come"
            for process in processes:
                assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)


def kill_tree(process: subprocess.Popen[str]) -> None:
    try:
        root = psutil.Process(process.pid)
        members = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for member in members:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(members, 20)


def in_the_middle(rows: list[TrialRow]) -> bool:
    """Some have ended, and one of the others has got as far as its first epoch."""
    return sum(row.ended for row in rows) >= TRIALS // 3 and any(row.reports and not row.ended for row in rows)


def check_each_once(sweeps: Sweeps, document: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    rows = sweeps.rows()
    assert [row.number for row in rows] == list(range(TRIALS))
    assert {row.state for row in rows} <= {TrialState.FINISHED, TrialState.PRUNED}
    assert [trial["state"] for trial in document["trials"]] == [row.state for row in rows]
    assert [row.point for row in rows] == [dict(point) for point in sweeps.asked.known_points()]
    runs = RunRecords(Database.open(sweeps.settings.database_url)).list(limit=1000)
    assert RunStatus.RUNNING not in {run.status for run in runs}
    done = [run.run_id for run in runs if run.kind == "train" and run.status == RunStatus.FINISHED]
    assert sorted(done) == sorted(row.run_id for row in rows)
    client = MlflowClient(sweeps.settings.mlflow_tracking_uri)
    tags = [client.get_run(run_id).data.tags for run_id in done]
    assert Counter(int(tag["guardianflow.trial"]) for tag in tags) == Counter(range(TRIALS))
    assert len({tag["mlflow.parentRunId"] for tag in tags}) == 1
    for row in rows:  # the notebook of each, whole
        folder = next(run.folder for run in runs if run.run_id == row.run_id)
        cells = json.loads((folder / "train.ipynb").read_text(encoding="utf-8"))["cells"]
        assert "completed" in {cell["metadata"].get("papermill", {}).get("status") for cell in cells}


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def data_yaml(request: pytest.FixtureRequest) -> Path:
    if not FULL:
        return Path(request.getfixturevalue("tiny_data"))
    if not PHOTOGRAPHS.is_file():
        pytest.skip(f"the real photographs are not at {PHOTOGRAPHS}; set GUARDIANFLOW_REAL_DATA")
    return PHOTOGRAPHS


@pytest.mark.fire
@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE_S)
def test_a_sweep_that_is_killed_and_started_again_does_each_trial_once(
    training_settings: Settings, tmp_path: Path, data_yaml: Path
) -> None:
    sweeps = Sweeps(training_settings, tmp_path, data_yaml)
    with sweeps.running() as first:
        sweeps.wait_for(in_the_middle, first)
        kill_tree(first)
    assert not all(row.ended for row in sweeps.rows())
    with sweeps.running() as second:
        check_each_once(sweeps, finished(second))


@pytest.mark.fire
@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(3 * PATIENCE_S)
def test_two_processes_share_a_study_and_one_is_killed(
    postgres_url: str, mlflow_sqlite_template: Path, tmp_path: Path, data_yaml: Path
) -> None:
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "mlflow.db")
    sweeps = Sweeps(Settings(work_dir=tmp_path, database_url=postgres_url), tmp_path, data_yaml)
    with sweeps.running() as first, sweeps.running() as second:
        sweeps.wait_for(lambda rows: in_the_middle(rows) and len({row.sweep for row in rows}) == 2, first, second)
        kill_tree(first)
        with sweeps.running() as third:
            documents = [finished(second), finished(third)]
    check_each_once(sweeps, documents[0])
    assert documents[0]["best"] == documents[1]["best"] == finished_best(sweeps)


@pytest.mark.fire
@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(3 * PATIENCE_S)
def test_a_sweep_on_a_cluster_ends_though_one_of_two_nodes_is_killed(
    training_settings: Settings, tmp_path: Path, data_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=HOW_TO_GET_IT)
    sweeps = Sweeps(training_settings, tmp_path, data_yaml, sweep__executor="ray", sweep__at_once=2)
    for name in ("FAKE_TRIALS", "FAKE_PAUSE", "PYTHONPATH"):
        if name in sweeps.environment:
            monkeypatch.setenv(name, sweeps.environment[name])  # the nodes have it, too
    cluster = RayCluster(training_settings)
    cluster.start()
    sweeps.words = ["--set", f"sweep.address={cluster.address}"]
    try:
        with sweeps.running() as sweep:
            sweeps.wait_for(in_the_middle, sweep)
            cluster.kill_node()
            check_each_once(sweeps, finished(sweep))
    finally:
        cluster.stop()


def finished_best(sweeps: Sweeps) -> dict[str, Any]:
    rows = [row for row in sweeps.rows() if row.state == TrialState.FINISHED]
    return max(rows, key=lambda row: row.value or 0).to_dict()
