"""Runs whose process died are ended as they really ended; nothing alive is touched, nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from guardianflow.core.config import Settings
from guardianflow.execution.engine.repair import repair_notebook
from guardianflow.execution.reaping import reap_runs
from guardianflow.runs.delivery import Operation
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords
from guardianflow.runs.tracking import TrackedRun
from guardianflow.runs.undelivered import Undelivered
from guardianflow.state.database import Database

DIES = """
import os, sys
from guardianflow.core.config import Settings
from guardianflow.runs.tracking import TrackedRun
run = TrackedRun.start(Settings(work_dir=sys.argv[1]), experiment="gate", kind="train", parameters={})
print(run.run_id, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    (tmp_path / "work").mkdir()
    shutil.copy(mlflow_sqlite_template, tmp_path / "work" / "mlflow.db")
    return Settings(work_dir=tmp_path / "work")


@pytest.fixture
def records(settings: Settings) -> RunRecords:
    return RunRecords(Database.open(settings.database_url))


@pytest.fixture
def dead(settings: Settings, records: RunRecords) -> RunRecord:
    """A run whose process was killed by SIGKILL."""
    out = subprocess.run(
        [sys.executable, "-c", DIES, str(settings.work_dir)], capture_output=True, text=True, check=False
    ).stdout
    return records.get(out.strip())


def mlflow(settings: Settings) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(settings.mlflow_tracking_uri)


def status_in_mlflow(settings: Settings, run_id: str) -> str:
    return str(mlflow(settings).get_run(run_id).info.status)


def test_a_dead_run_is_ended_everywhere_and_a_living_one_is_left(
    settings: Settings, records: RunRecords, dead: RunRecord
) -> None:
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={}) as alive:
        assert [record.run_id for record in reap_runs(settings, dry_run=True)] == [dead.run_id]
        assert records.get(dead.run_id).status == "RUNNING", "a dry run changes nothing"
        assert [record.run_id for record in reap_runs(settings)] == [dead.run_id]
        assert records.get(dead.run_id).status == status_in_mlflow(settings, dead.run_id) == "FAILED"
        assert alive.record.status == status_in_mlflow(settings, alive.run_id) == "RUNNING"
    assert alive.record.status == "FINISHED"


def test_a_run_of_another_machine_is_left_while_its_heart_beats(settings: Settings, records: RunRecords) -> None:
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={}) as run:
        there = ProcessIdentity("another-host", "boot", 1, 1.0)
        assert records.take_over(run.record, there)
        assert len(reap_runs(settings)) == 0
        silent = replace(run.record, run_id="f" * 32, heartbeat=datetime.now(UTC) - timedelta(minutes=5), owner=there)
        records.add(silent)
        assert [record.run_id for record in reap_runs(settings, dry_run=True)] == [silent.run_id]


def test_a_run_that_had_ended_in_mlflow_is_recorded_as_it_ended(
    settings: Settings, records: RunRecords, dead: RunRecord
) -> None:
    mlflow(settings).set_terminated(dead.run_id, "FINISHED")
    (ended,) = reap_runs(settings)
    assert ended.status == status_in_mlflow(settings, dead.run_id) == "FINISHED"
    assert ended.reason is None


def test_a_run_whose_end_was_kept_on_disk_is_recorded_as_it_ended(settings: Settings, dead: RunRecord) -> None:
    Undelivered(dead.folder).append(
        [
            Operation("metrics", dead.run_id, {"metrics": [["loss", 0.5, 1, 1]]}),
            Operation("status", dead.run_id, {"status": "KILLED", "end_time": 1}),
        ]
    )
    report = reap_runs(settings)
    assert [record.status for record in report] == ["KILLED"]
    assert status_in_mlflow(settings, dead.run_id) == "KILLED"
    assert mlflow(settings).get_run(dead.run_id).data.metrics == {"loss": 0.5}
    assert report.delivered == 2


def test_with_mlflow_away_the_end_is_kept_and_told_later(settings: Settings, dead: RunRecord) -> None:
    database = settings.work_dir / "mlflow.db"
    uri = settings.mlflow_tracking_uri
    away = Settings(work_dir=settings.work_dir, mlflow_tracking_uri="http://127.0.0.1:9")
    # The record names the MLflow it belongs to; let that be the one that is away.
    with Database.open(settings.database_url).write() as connection:
        from guardianflow.state.tables import run_records

        connection.execute(run_records.update().values(tracking_uri="http://127.0.0.1:9"))
    report = reap_runs(away)
    assert [record.status for record in report] == ["FAILED"]
    assert (report.kept, report.mlflow_answers) == ((dead.run_id,), False)
    assert (dead.folder / "undelivered.jsonl").exists()
    with Database.open(settings.database_url).write() as connection:
        connection.execute(run_records.update().values(tracking_uri=uri))
    assert database.exists()
    assert reap_runs(settings).kept == ()
    assert status_in_mlflow(settings, dead.run_id) == "FAILED"


def test_a_run_that_only_mlflow_knows_is_closed_there(settings: Settings, records: RunRecords) -> None:
    """Its process died between MLflow's answer and our record."""
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={}) as run:
        experiment = mlflow(settings).get_run(run.run_id).info.experiment_id
        gone = replace(ProcessIdentity.current(), pid=2**22 - 1)
        tags = {"guardianflow.owner": json.dumps(vars(gone))}
        orphan = mlflow(settings).create_run(experiment, tags=tags).info.run_id
        foreign = mlflow(settings).create_run(experiment).info.run_id
        assert reap_runs(settings).closed_in_mlflow == (orphan,)
        assert status_in_mlflow(settings, orphan) == "FAILED"
        assert status_in_mlflow(settings, foreign) == "RUNNING", "what we did not make is not ours to end"
        assert status_in_mlflow(settings, run.run_id) == "RUNNING"


def test_a_run_that_ended_without_mlflow_hearing_of_it_is_closed_there(settings: Settings) -> None:
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={}) as run:
        pass
    mlflow(settings).update_run(run.run_id, status="RUNNING")
    assert reap_runs(settings).closed_in_mlflow == (run.run_id,)
    assert status_in_mlflow(settings, run.run_id) == "FINISHED"


def test_reaping_twice_at_once_is_as_good_as_once(settings: Settings, dead: RunRecord) -> None:
    code = "import sys; from guardianflow.core.config import Settings; from guardianflow.execution.reaping import reap_runs; print(len(reap_runs(Settings(work_dir=sys.argv[1]))))"  # noqa: E501
    command = [sys.executable, "-c", code, str(settings.work_dir)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(counts) == 1
    assert status_in_mlflow(settings, dead.run_id) == "FAILED"
    assert not (dead.folder / "undelivered.jsonl").exists()


# ---- the notebook ------------------------------------------------------------------------------------------


def notebook_in_the_middle(path: Path, status: str = "running") -> Path:
    cells = [nbformat.v4.new_code_cell(text) for text in ("a", "b", "c")]
    for cell, state in zip(cells, ("completed", "running", "pending"), strict=True):
        cell.metadata["papermill"] = {"status": state, "exception": None}
    document = nbformat.v4.new_notebook(cells=cells)
    document.metadata["papermill"] = {"exception": None}
    document.metadata["guardianflow"] = {"status": status}
    nbformat.write(document, path)
    return path


def states(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell.metadata.papermill["status"] for cell in cells if cell.cell_type == "code"]


def test_the_cell_that_ran_failed_and_those_behind_it_never_began(tmp_path: Path) -> None:
    path = notebook_in_the_middle(tmp_path / "train.ipynb")
    written = repair_notebook(path, "its process <died>")
    assert states(path) == ["completed", "failed", "pending"]
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    assert document.cells[0].source.count("its process &lt;died&gt;") == 1
    assert document.cells[2].outputs[-1].evalue == "its process <died>"
    assert document.metadata["guardianflow"]["status"] == "killed"
    assert [file.suffix for file in written] == [".ipynb", ".html"]


@pytest.mark.parametrize("status", ["completed", "failed", "killed"])
def test_a_notebook_that_ended_is_left_alone(tmp_path: Path, status: str) -> None:
    path = notebook_in_the_middle(tmp_path / "train.ipynb", status)
    before = path.read_bytes()
    assert repair_notebook(path, "x") == []
    assert path.read_bytes() == before


def test_a_notebook_that_can_not_be_read_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "train.ipynb"
    path.write_text('{"cells": [')
    assert repair_notebook(path, "x") == []
    assert "can't be read" in caplog.text


def test_the_repaired_notebook_and_its_page_are_in_mlflow(settings: Settings, dead: RunRecord) -> None:
    notebook_in_the_middle(dead.folder / "train.ipynb")
    reap_runs(settings)
    files = mlflow(settings).list_artifacts(dead.run_id, "notebook")
    assert sorted(Path(file.path).name for file in files) == ["train.html", "train.ipynb"]
