"""A run's life in MLflow: what is written there, what is not, and how it ends when MLflow does not answer."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import ConfigError, InputError, RunInterruptedError, TrackingUnavailableError
from guardianflow.execution.reaping import reap_runs
from guardianflow.files.run_folder import folder_name, write_json
from guardianflow.runs.run_records import ProcessIdentity, RunRecords
from guardianflow.runs.tracking import TrackedRun, outcome_of
from guardianflow.state.database import Database
from guardianflow.text.redaction import flatten_params, redact, secret_places
from tests.services import hostile_server
from tests.services.hostile_server import HostileServer
from tests.services.mlflow_server import MlflowServer


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    work = tmp_path / "작업 50% #1"
    work.mkdir()
    shutil.copy(mlflow_sqlite_template, work / "mlflow.db")
    return Settings(work_dir=work)


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("server"), mlflow_sqlite_template)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(one_server: MlflowServer) -> Iterator[MlflowServer]:
    """A server that answers, whatever the test before did to it."""
    if one_server.answers():
        yield one_server
    else:
        one_server.start()
        yield one_server
    one_server.thaw()


@pytest.fixture
def remote(tmp_path: Path, server: MlflowServer) -> Settings:
    return Settings(work_dir=tmp_path / "work", mlflow_tracking_uri=server.url)


def start(settings: Settings, experiment: str = "gate", **parameters: Any) -> TrackedRun:
    return TrackedRun.start(settings, experiment=experiment, kind="train", parameters=parameters)


def client(where: Settings | MlflowServer) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(where.backend if isinstance(where, MlflowServer) else where.mlflow_tracking_uri)


# ---- what is written ------------------------------------------------------------------------------------


def test_a_run_has_its_parameters_figures_tags_and_files(settings: Settings) -> None:
    with start(settings) as run:
        run.log_params({"optimizer": {"lr": 0.1, "name": "SGD"}, "sizes": [1, 2], "note": None, "empty": ""})
        run.log_metrics({"metrics/mAP50(B)": 0.5, "loss": math.nan}, step=3)
        run.set_tags({"site": "정문"})
        file = run.folder / "결과 100%.txt"
        file.write_text("아", encoding="utf-8")
        run.log_artifact(file, "표 1")
    found = client(settings).get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"optimizer.lr": "0.1", "optimizer.name": "SGD", "sizes": "[1, 2]", "empty": ""}
    assert found.data.metrics["metrics/mAP50_B"] == 0.5
    assert math.isnan(found.data.metrics["loss"])
    assert found.data.tags["site"] == "정문"
    assert found.data.tags["guardianflow.kind"] == "train"
    downloaded = client(settings).download_artifacts(run.run_id, "표 1/결과 100%.txt")
    assert Path(downloaded).read_text(encoding="utf-8") == "아"


@pytest.mark.parametrize("where", ["settings", "remote"])
def test_infinity_is_nan_with_a_tag_and_never_the_largest_number(where: str, request: pytest.FixtureRequest) -> None:
    found: Settings = request.getfixturevalue(where)
    with start(found) as run:
        run.log_metrics({"loss": math.inf}, step=1)
        run.log_metrics({"loss": -math.inf}, step=2)
        run.log_metrics({"loss": 0.5}, step=3)
    history = client(found).get_metric_history(run.run_id, "loss")
    assert [math.isnan(row.value) for row in history] == [True, True, False]
    assert client(found).get_run(run.run_id).data.tags["guardianflow.infinite.loss"] == "inf at step 1"


def test_what_is_no_number_is_left_out_and_the_rest_arrives(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with start(settings) as run:
        run.log_metrics({"loss": 0.5, "word": "high", "nothing": None}, step=1)  # type: ignore[dict-item]
    assert client(settings).get_run(run.run_id).data.metrics == {"loss": 0.5}
    assert "word = 'high' is no number" in caplog.text


def test_a_parameter_that_conflicts_loses_nothing_else(settings: Settings) -> None:
    with start(settings) as run:
        run.log_params({"device": "cpu", "epochs": 3})
        run.log_params({"device": "0", "epochs": 3, "batch": 16})
    found = client(settings).get_run(run.run_id).data
    assert found.params == {"device": "cpu", "epochs": "3", "batch": "16"}
    assert found.tags["guardianflow.resumed_with.device"] == "0"


def test_one_name_that_mlflow_refuses_loses_nothing_else(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with start(settings) as run:
        run.set_tags({"good": 1, "a//b": 2, "also good": 3})
    found = client(settings).get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert {name: value for name, value in found.data.tags.items() if "good" in name} == {"good": "1", "also good": "3"}
    refused = [json.loads(line) for line in (run.folder / "refused.jsonl").read_text(encoding="utf-8").splitlines()]
    assert next(row["payload"] for row in refused) == {"tags": {"a//b": "2"}}
    assert "a//b" in caplog.text


def test_names_that_are_no_paths_to_mlflow_become_ones(settings: Settings) -> None:
    with start(settings) as run:
        run.log_params({"good": 1, "a//b": 2, "/c": 3})
        run.log_metrics({"fine": 1.0, "../up": 2.0, "loss/": 3.0, "..": 4.0}, step=1)
    found = client(settings).get_run(run.run_id).data
    assert found.params == {"good": "1", "a/b": "2", "c": "3"}
    assert found.metrics == {"fine": 1.0, "up": 2.0, "loss": 3.0, "unnamed": 4.0}
    assert not (run.folder / "refused.jsonl").exists()


def test_two_threads_write_and_watch_at_once(settings: Settings) -> None:
    with start(settings) as run:

        def write(name: str) -> None:
            for step in range(50):
                run.log_metrics({name: float(step)}, step=step)
                run.set_progress(step, 50, unit="epoch", note=name)

        threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("a", "b"):
        history = client(settings).get_metric_history(run.run_id, name)
        assert [row.step for row in sorted(history, key=lambda row: row.step)] == list(range(50))
    assert run.record.progress["done"] == 49


# ---- secrets ----------------------------------------------------------------------------------------------


def test_secrets_are_found_by_name_at_any_depth_in_lists_and_in_urls() -> None:
    given = {
        "hf_token": "s1",
        "store": {"db": {"PASSWORD": "s2", "accessKey": "s3"}},
        "steps": [{"api-key": "s4"}, "--password", "s5", "--token=s6", "plain"],
        "source": "postgresql://kim:s7@db/models?password=s8",
        "pin_password": 1234,
    }
    cleaned = redact(given)
    text = json.dumps(cleaned)
    assert not [f"s{number}" for number in range(1, 9) if f"s{number}" in text]
    assert "1234" not in text
    assert cleaned["steps"][-1] == "plain"
    assert cleaned["source"].startswith("postgresql://kim:***@db")
    assert secret_places(given) == [
        "hf_token", "store.db.PASSWORD", "store.db.accessKey", "steps[0].api-key", "steps[2]", "steps[3]", "source",
        "pin_password",
    ]  # fmt: skip


def test_ordinary_names_are_no_secrets() -> None:
    given = {"tokenizer": "bpe", "max_tokens": 512, "use_token": True, "monkey": "x", "keys": ["a"], "secret": ""}
    assert redact(given) == given
    assert secret_places(given) == []


def test_what_was_taken_out_before_is_still_a_secret() -> None:
    assert secret_places(redact({"password": "x", "url": "http://u:p@h/"})) == ["password", "url"]


def test_parameters_are_flat_legal_capped_and_never_merged() -> None:
    flat = flatten_params({"a": {"b": {"c": 1}}, "long": "x" * 900, "n(1)": 1, "n[1]": 2, "none": None, "d": {}})
    assert flat == {"a.b.c": "1", "long": "x" * 499 + "…", "n_1": "1", "n_1_2": "2", "d": "{}"}


def test_a_reason_with_a_password_is_masked(settings: Settings) -> None:
    with pytest.raises(ConnectionError), start(settings) as run:
        raise ConnectionError("no answer from http://kim:hunter2@host/")
    assert "hunter2" not in str(run.record.reason)
    assert "hunter2" not in str(client(settings).get_run(run.run_id).data.tags)


# ---- names and places ------------------------------------------------------------------------------------------


NAMES = [
    "게이트 카메라",
    "a b",
    "x" * 200,
    "가" * 200,
    "가" * 199 + "나",
    "CON",
    "a.b",
    "100 percent",
    "it's <b>&",
    "끝.",
]


@pytest.mark.parametrize("name", ["게이트 카메라", "가" * 200, "it's <b>&;'=+", "nul"])
def test_artifacts_of_any_experiment_can_be_read_back(settings: Settings, name: str) -> None:
    with start(settings, name) as run:
        run.log_artifact(write_json(run.folder / "a.json", {"b": 1}))
    assert run.folder.is_dir()
    assert run.folder.is_relative_to(settings.runs_dir)
    assert json.loads(Path(client(settings).download_artifacts(run.run_id, "a.json")).read_text()) == {"b": 1}


def test_folder_names_are_valid_and_never_shared() -> None:
    folders = [folder_name(name) for name in NAMES]
    assert len(set(folders)) == len(NAMES)
    for folder in folders:
        assert len(folder.encode()) <= 120
        assert not set(folder) & set('<>:"/\\|?*')
        assert folder == folder.strip(". ")
    assert folder_name("CON").casefold() != "con"


def test_a_deleted_experiment_is_refused_with_the_way_back(settings: Settings) -> None:
    with start(settings, "gone"):
        pass
    experiment = client(settings).get_experiment_by_name("gone")
    client(settings).delete_experiment(experiment.experiment_id)
    with pytest.raises(InputError, match=rf"mlflow experiments restore -x {experiment.experiment_id}"):
        start(settings, "gone")
    assert len(RunRecords(Database.open(settings.database_url)).list()) == 1


RACE = """
import sys, time
from guardianflow.core.config import Settings
from guardianflow.runs.tracking import TrackedRun
from guardianflow.runs.mlflow_runs import MlflowRuns
settings = Settings(work_dir=sys.argv[1])
MlflowRuns(settings).answers()
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
with TrackedRun.start(settings, experiment="함께", kind="train", parameters={}) as run:
    pass
print(run.run_id)
"""


def test_processes_that_create_an_experiment_at_once_share_it(settings: Settings) -> None:
    go = str(time.time() + 10)
    command = [sys.executable, "-c", RACE, str(settings.work_dir), go]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    runs = [client(settings).get_run(out.strip()) for out, _ in results]
    assert len({run.info.experiment_id for run in runs}) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_folder_as_tracking_uri_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no database or server"):
        start(Settings(work_dir=tmp_path, mlflow_tracking_uri=(tmp_path / "mlruns").as_uri()))


# ---- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (RunInterruptedError("stop", signum=15), "KILLED"),
        (SystemExit(3), "FAILED"),
    ],
)
def test_the_block_is_left_with_a_terminal_status(settings: Settings, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), start(settings) as run:
        raise error
    assert run.record.status == client(settings).get_run(run.run_id).info.status == status
    assert run.record.reason == outcome_of(error)[1]


def test_an_attached_run_is_ended_by_its_owner_only(settings: Settings) -> None:
    with start(settings) as run:
        with TrackedRun.attach(settings, run.run_id) as attached:
            attached.log_metrics({"loss": 1.0}, step=1)
        assert run.record.status == client(settings).get_run(run.run_id).info.status == "RUNNING"
        assert client(settings).get_run(run.run_id).data.metrics == {"loss": 1.0}


def test_a_failed_run_goes_on_under_its_id_and_ends_anew(settings: Settings) -> None:
    with pytest.raises(ValueError, match="first"), start(settings) as run:
        raise ValueError("first")
    with TrackedRun.reopen(settings, run.run_id) as again:
        assert client(settings).get_run(run.run_id).info.status == "RUNNING"
        assert "guardianflow.reason" not in client(settings).get_run(run.run_id).data.tags
    assert again.record.status == client(settings).get_run(run.run_id).info.status == "FINISHED"
    with pytest.raises(InputError, match="run --again"):
        TrackedRun.reopen(settings, run.run_id)


def test_a_living_run_can_not_be_reopened(settings: Settings) -> None:
    with start(settings) as run, pytest.raises(InputError, match=f"process {os.getpid()}"):
        TrackedRun.reopen(settings, run.run_id)


def test_no_run_is_made_in_mlflow_when_our_record_of_it_can_not_be_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RunRecords, record: object) -> None:
        raise TrackingUnavailableError("the state database is full")

    monkeypatch.setattr(RunRecords, "add", full)
    with pytest.raises(TrackingUnavailableError, match="is full"):
        start(settings)
    experiment = client(settings).get_experiment_by_name("gate")
    (run,) = client(settings).search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


# ---- servers that die, freeze and come back ------------------------------------------------------------------------


@pytest.mark.services
def test_a_dead_server_is_said_in_one_sentence_and_no_run_is_made(tmp_path: Path) -> None:
    settings = Settings(work_dir=tmp_path, mlflow_tracking_uri="http://kim:hunter2@127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(TrackingUnavailableError, match=r"Connection refused.*guardianflow doctor") as caught:
        start(settings)
    assert time.monotonic() - began < 15
    assert "hunter2" not in str(caught.value)
    assert RunRecords(Database.open(settings.database_url)).list() == []


@pytest.mark.services
def test_a_frozen_server_is_said_within_15_seconds(server: MlflowServer, remote: Settings) -> None:
    server.freeze()
    began = time.monotonic()
    with pytest.raises(TrackingUnavailableError, match="no answer within 6 s"):
        start(remote)
    assert time.monotonic() - began < 15
    assert RunRecords(Database.open(remote.database_url)).list() == []


@pytest.mark.services
def test_a_run_ends_in_time_when_the_server_freezes_and_reap_delivers_it_once(
    server: MlflowServer, remote: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with start(remote) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        assert run.flush(timeout_s=30)
        server.freeze()
        for step in range(2, 30):
            run.log_metrics({"loss": 1 / step}, step=step)
        run.log_params({"epochs": 30})
        run.log_artifact(write_json(run.folder / "a.json", [1]))
        began = time.monotonic()
    assert time.monotonic() - began < 15
    assert run.record.status == "FINISHED"
    assert "guardianflow runs reap" in caplog.text
    assert (run.folder / "undelivered.jsonl").exists()
    server.thaw()
    report = reap_runs(remote)
    assert (len(report), report.kept) == (0, ())
    assert report.delivered >= 30
    found = client(server).get_run(run.run_id)
    assert (found.info.status, found.data.params) == ("FINISHED", {"epochs": "30"})
    history = client(server).get_metric_history(run.run_id, "loss")
    assert [(row.step, row.value) for row in history] == [(step, 1 / step) for step in range(1, 30)]
    assert [file.path for file in client(remote).list_artifacts(run.run_id)] == ["a.json"]
    assert not (run.folder / "undelivered.jsonl").exists()
    assert reap_runs(remote).delivered == 0


@pytest.mark.services
@pytest.mark.parametrize("manner", [hostile_server.drips, hostile_server.floods])
def test_a_run_goes_on_and_ends_in_time_when_its_server_drips_or_floods(
    manner: Any, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with HostileServer(hostile_server.relays(server.port)) as front:
        with start(Settings(work_dir=tmp_path / "work", mlflow_tracking_uri=front.url)) as run:
            run.log_metrics({"loss": 1.0}, step=1)
            assert run.flush(timeout_s=30)
            front.answer = manner
            began = time.monotonic()
            for step in range(2, 30):
                run.log_metrics({"loss": 1 / step}, step=step)
            assert time.monotonic() - began < 1
        assert time.monotonic() - began < 15
        assert (run.folder / "undelivered.jsonl").exists()
        front.answer = hostile_server.relays(server.port)
        assert reap_runs(Settings(work_dir=tmp_path / "work", mlflow_tracking_uri=front.url)).delivered >= 28
    assert len(client(server).get_metric_history(run.run_id, "loss")) == 29


@pytest.mark.services
def test_ctrl_c_while_the_end_is_written_waits_for_it_and_cuts_it_short(server: MlflowServer, remote: Settings) -> None:
    run = start(remote)
    server.freeze()
    run.log_metrics({"loss": 1.0}, step=1)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    assert time.monotonic() - began < 6
    assert run.record.status == "FINISHED"
    assert (run.folder / "undelivered.jsonl").exists()


@pytest.mark.services
def test_a_server_that_is_killed_and_started_again_gets_everything_in_order(
    server: MlflowServer, remote: Settings
) -> None:
    with start(remote) as run:
        run.log_metrics({"loss": 1.0}, step=1)
        assert run.flush(timeout_s=30)
        server.kill()
        for step in range(2, 21):
            run.log_metrics({"loss": float(step)}, step=step)
        assert run.flush(timeout_s=5) is False
        server.start()
    found = client(server).get_run(run.run_id)
    assert found.info.status == "FINISHED"
    history = client(server).get_metric_history(run.run_id, "loss")
    assert [row.step for row in history] == list(range(1, 21))
    assert not (run.folder / "undelivered.jsonl").exists()


@pytest.mark.services
def test_what_one_mlflow_missed_is_not_sent_to_another(
    server: MlflowServer, remote: Settings, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with start(remote) as run:
        server.freeze()
        run.log_metrics({"loss": 1.0}, step=1)
    elsewhere = Settings(work_dir=remote.work_dir, mlflow_tracking_uri=settings.mlflow_tracking_uri)
    with caplog.at_level(logging.WARNING):
        assert reap_runs(elsewhere).kept == (run.run_id,)
    assert server.url in caplog.text
    assert (run.folder / "undelivered.jsonl").exists()


def test_what_a_kernel_could_not_deliver_is_sent_by_the_owner_before_the_status(settings: Settings) -> None:
    from guardianflow.runs.delivery import Operation
    from guardianflow.runs.undelivered import Undelivered

    with start(settings) as run:
        late = Operation("metrics", run.run_id, {"metrics": [["loss", 0.25, 1, 1]]})
        Undelivered(run.folder).append([late])
    found = client(settings).get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.25})
    assert not (run.folder / "undelivered.jsonl").exists()


def test_a_run_taken_over_by_another_process_is_left_to_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    records = RunRecords(Database.open(settings.database_url))
    run = start(settings)
    other = ProcessIdentity("another", "boot", 1, 1.0)
    assert records.take_over(records.get(run.run_id), other)
    run.finish()
    assert records.get(run.run_id).owner == other
    assert records.get(run.run_id).status == client(settings).get_run(run.run_id).info.status == "RUNNING"
    assert "taken over" in caplog.text
