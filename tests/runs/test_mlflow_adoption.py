"""Scripts that log to MLflow themselves: real ones, with the real MLflow."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from guardianflow.adapters.finished_runs.mlflow_stores import read_mlflow_store
from guardianflow.core.config import Settings
from guardianflow.exceptions import TrackingUnavailableError
from guardianflow.runs.mlflow_adoption import (
    ADOPTED_TAG,
    COPIED_TAG,
    AdoptedRun,
    adopt_runs,
    adoption_environment,
    without_foreign_runs,
)
from guardianflow.runs.mlflow_runs import REASON_TAG, MlflowRuns, make_client

PARENT = "mlflow.parentRunId"

FLUENT = """
import mlflow, os
from pathlib import Path
with mlflow.start_run(run_name="외부 outer") as outer:
    mlflow.log_params({"lr": 0.1, "api_key": "geheim"})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    Path("노트.txt").write_text("x")
    mlflow.log_artifact("노트.txt", "notes")
    with mlflow.start_run(run_name="inner", nested=True):
        mlflow.log_metric("acc", 0.5)
client = mlflow.MlflowClient()
parent = {"mlflow.parentRunId": outer.info.run_id}
bare = client.create_run(outer.info.experiment_id, run_name="bare child", tags=parent)
client.set_terminated(bare.info.run_id)
client.create_run(outer.info.experiment_id, run_name="whose?")
try:
    with mlflow.start_run(run_name="failing"):
        raise ValueError
except ValueError:
    pass
mlflow.set_experiment("its own")
mlflow.start_run(run_name="killed in the middle")
mlflow.log_metric("loss", 9.0)
os._exit(9)
"""

OWN_DATABASE = """
import mlflow
mlflow.set_tracking_uri("sqlite:///내 기록's.db")
mlflow.set_experiment("mine")
with mlflow.start_run(run_name="first"):
    mlflow.log_params({"lr": 1, "db_password": "geheim"})
    for step in range(2500):
        mlflow.log_metric("loss", float(step), step=step)
    mlflow.log_metric("bad", float("nan"))
    mlflow.log_dict({"a": 1}, "sub/facts.json")
    with mlflow.start_run(run_name="second", nested=True):
        mlflow.log_metric("acc", 0.25, step=3)
"""

OWN_FILES = """
import mlflow
mlflow.set_tracking_uri("file:runs/mlruns")
with mlflow.start_run(run_name="in files"):
    mlflow.log_metric("loss", 0.5, step=7)
    mlflow.log_param("lr", "1e-3")
"""


def start(folder: Path, text: str, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text(text, encoding="utf-8")
    env = {**os.environ, **extra, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.Popen(
        [sys.executable, "train.py"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


class Wrapped:
    """Three scripts under one run of ours, each in its folder."""

    def __init__(self, root: Path, template: Path) -> None:
        (root / "work").mkdir(parents=True)
        shutil.copy(template, root / "work" / "mlflow.db")
        self.settings = Settings(
            work_dir=root / "work", mlflow_tracking_uri=f"sqlite:///{root}/work/mlflow.db", actor="김"
        )
        self.client: Any = make_client(self.settings)
        self.run_id = MlflowRuns(self.settings).create("wrapped", "ours", {})
        self.folder = root / "스크립트 s"
        self.since = time.time()
        extra = adoption_environment(self.settings, run_id=self.run_id, experiment="wrapped", environment={})
        scripts = {"fluent": FLUENT, "database": OWN_DATABASE, "files": OWN_FILES}
        started = {name: start(self.folder / name, text, extra) for name, text in scripts.items()}
        said = {name: process.communicate()[0] for name, process in started.items()}
        codes = {name: process.returncode for name, process in started.items()}
        assert codes == {"fluent": 9, "database": 0, "files": 0}, said

    def adopt(self, **options: Any) -> dict[str, AdoptedRun]:
        rows = adopt_runs(self.settings, run_id=self.run_id, working_dir=self.folder, since=self.since, **options)
        assert len({row.run_id for row in rows}) == len(rows)
        return {row.name: row for row in rows}

    def tags(self, row: AdoptedRun) -> dict[str, str]:
        return dict(self.client.get_run(row.run_id).data.tags)


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Wrapped:
    return Wrapped(tmp_path_factory.mktemp("adoption"), mlflow_sqlite_template)


def test_marked_runs_become_children_and_nested_ones_keep_their_parent(wrapped: Wrapped) -> None:
    found = wrapped.adopt()
    assert {name for name, row in found.items() if not row.copied_from} == {
        "외부 outer", "inner", "bare child", "failing", "killed in the middle",
    }  # fmt: skip
    outer = found["외부 outer"]
    assert wrapped.tags(outer)[PARENT] == wrapped.run_id
    assert wrapped.tags(found["inner"])[PARENT] == outer.run_id
    assert wrapped.tags(found["bare child"])[PARENT] == outer.run_id
    assert all(wrapped.tags(row)[ADOPTED_TAG] == wrapped.run_id for row in found.values())


def test_what_a_run_holds_is_told_without_its_secrets(wrapped: Wrapped) -> None:
    outer = wrapped.adopt()["외부 outer"]
    assert (outer.status, outer.metrics, outer.params) == ("FINISHED", {"loss": 0.2}, {"lr": "0.1", "api_key": "***"})
    assert outer.artifacts == 1
    assert json.loads(json.dumps(outer.to_dict()))["name"] == "외부 outer"


def test_runs_end_as_their_script_says_and_one_left_running_is_killed(wrapped: Wrapped) -> None:
    found = wrapped.adopt()
    assert found["failing"].status == "FAILED"
    killed = found["killed in the middle"]
    assert killed.status == "KILLED"
    assert killed.metrics == {"loss": 9.0}
    info = wrapped.client.get_run(killed.run_id).info
    assert info.status == "KILLED"
    assert info.end_time is not None
    assert wrapped.client.get_experiment(info.experiment_id).name == "its own"
    assert "without ending" in wrapped.tags(killed)[REASON_TAG]


def test_a_run_that_nobody_can_attribute_is_left_alone(wrapped: Wrapped) -> None:
    assert "whose?" not in wrapped.adopt()
    experiment = wrapped.client.get_experiment_by_name("wrapped").experiment_id
    left = next(run for run in wrapped.client.search_runs([experiment]) if run.info.run_name == "whose?")
    assert left.info.status == "RUNNING"
    assert PARENT not in left.data.tags


def test_runs_in_a_store_of_its_own_are_copied_once(wrapped: Wrapped) -> None:
    found = wrapped.adopt(read_store=read_mlflow_store)
    copies = {name: row for name, row in found.items() if row.copied_from}
    assert set(copies) == {"first", "second", "in files"}
    first = copies["first"]
    points = wrapped.client.get_metric_history(first.run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [(step, float(step)) for step in range(2500)]
    assert all(wrapped.since - 2 < point.timestamp / 1000 < time.time() for point in points)
    assert math.isnan(first.metrics["bad"])
    assert first.params == {"lr": "1", "db_password": "***"}
    assert wrapped.client.get_run(first.run_id).data.params["db_password"] == "***"
    assert [entry.path for entry in wrapped.client.list_artifacts(first.run_id, "sub")] == ["sub/facts.json"]
    assert wrapped.tags(first)[PARENT] == wrapped.run_id
    assert wrapped.tags(copies["second"])[PARENT] == first.run_id
    assert copies["in files"].metrics == {"loss": 0.5}
    assert copies["in files"].params == {"lr": "1e-3"}
    assert "'" not in wrapped.tags(first)[COPIED_TAG]

    again = wrapped.adopt(read_store=read_mlflow_store)
    assert {name: row.run_id for name, row in again.items()} == {name: row.run_id for name, row in found.items()}


def test_what_was_in_a_store_before_is_not_copied(wrapped: Wrapped) -> None:
    run_id = MlflowRuns(wrapped.settings).create("later", "another run of ours", {})
    later = {"run_id": run_id, "working_dir": wrapped.folder, "read_store": read_mlflow_store}
    assert adopt_runs(wrapped.settings, since=time.time() + 60, **later) == []


def test_our_own_store_is_never_copied_into_itself(wrapped: Wrapped) -> None:
    run_id = MlflowRuns(wrapped.settings).create("root", "a run in the folder above", {})
    above = wrapped.settings.work_dir.parent
    rows = adopt_runs(
        wrapped.settings, run_id=run_id, working_dir=above, since=wrapped.since, read_store=read_mlflow_store
    )
    assert {row.name for row in rows} == {"first", "second", "in files"}


def test_broken_stores_cost_nothing(wrapped: Wrapped, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    (tmp_path / "other.sqlite").write_bytes(b"not a database")
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: [")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.db")
    (tmp_path / "loop").symlink_to(tmp_path)
    run_id = MlflowRuns(wrapped.settings).create("broken", "ours", {})
    options: dict[str, Any] = {"read_store": read_mlflow_store, "tracking_uris": ["sqlite:////none.db", "http://x"]}
    assert adopt_runs(wrapped.settings, run_id=run_id, working_dir=tmp_path, since=0, **options) == []
    assert adopt_runs(wrapped.settings, run_id=run_id, working_dir=tmp_path / "gone", since=0, **options) == []


def test_the_environment_names_our_store_and_leaves_the_users_choices(tmp_path: Path) -> None:
    settings = Settings(
        work_dir=tmp_path, mlflow_s3_endpoint_url="http://s3", aws_access_key_id="AKIA1", aws_secret_access_key="s1"
    )
    found = adoption_environment(settings, run_id="r1", experiment="실험", environment={"PATH": "/bin"})
    assert found["MLFLOW_TRACKING_URI"] == settings.mlflow_tracking_uri
    assert found["MLFLOW_EXPERIMENT_NAME"] == "실험"
    assert found["MLFLOW_S3_ENDPOINT_URL"] == "http://s3"
    assert found["AWS_SECRET_ACCESS_KEY"] == "s1"
    assert json.loads(found["MLFLOW_RUN_CONTEXT"]) == {PARENT: "r1", ADOPTED_TAG: "r1"}
    assert "MLFLOW_RUN_ID" not in found
    assert "PATH" not in found

    theirs = {"MLFLOW_EXPERIMENT_ID": "3", "AWS_ACCESS_KEY_ID": "AKIA2", "MLFLOW_RUN_CONTEXT": '{"team": "a"}'}
    found = adoption_environment(settings, run_id="r1", experiment="e", environment=theirs)
    assert "MLFLOW_EXPERIMENT_NAME" not in found
    assert "AWS_ACCESS_KEY_ID" not in found
    assert json.loads(found["MLFLOW_RUN_CONTEXT"])["team"] == "a"


def test_what_leads_into_another_run_is_set_aside_with_a_remark(tmp_path: Path) -> None:
    settings = Settings(work_dir=tmp_path)
    theirs = {
        "PATH": "/bin", "MLFLOW_RUN_ID": "a" * 32, "MLFLOW_ACTIVE_MODEL_ID": "m-1", "MLFLOW_EXPERIMENT_ID": "3",
        "MLFLOW_EXPERIMENT_NAME": "mine", "MLFLOW_RUN_CONTEXT": '{"team": "a", "mlflow.runName": "theirs"}',
    }  # fmt: skip
    kept, remarks = without_foreign_runs(settings, theirs)
    assert kept == {"PATH": "/bin", "MLFLOW_EXPERIMENT_NAME": "mine", "MLFLOW_RUN_CONTEXT": '{"team": "a"}'}
    assert [text.partition(" ")[0] for text in remarks] == [
        f"MLFLOW_RUN_ID='{'a' * 32}'", "MLFLOW_ACTIVE_MODEL_ID='m-1'", "MLFLOW_EXPERIMENT_ID='3'", "mlflow.runName",
    ]  # fmt: skip
    same_store = {"MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri, "MLFLOW_EXPERIMENT_ID": "3"}
    assert without_foreign_runs(settings, same_store) == (same_store, [])


@pytest.mark.parametrize("context", ["{", "[]", "3"])
def test_a_broken_context_is_replaced(tmp_path: Path, context: str) -> None:
    environment = {"MLFLOW_RUN_CONTEXT": context}
    found = adoption_environment(Settings(work_dir=tmp_path), run_id="r1", experiment="e", environment=environment)
    assert set(json.loads(found["MLFLOW_RUN_CONTEXT"])) == {PARENT, ADOPTED_TAG}


def test_without_mlflow_it_says_so(tmp_path: Path) -> None:
    settings = Settings(work_dir=tmp_path, mlflow_tracking_uri="http://127.0.0.1:1")
    with pytest.raises(TrackingUnavailableError):
        adopt_runs(settings, run_id="r1", working_dir=tmp_path, since=0)
