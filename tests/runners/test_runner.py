"""A training as a run: what it leaves in MLflow, in the store and on disk, and how it goes on after a break."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord, SaveReport
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.runners.training.runner import TrainingResult, TrainingRunner, find_run
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.state.database import Database
from tests.trainings import ListSink, Trained, copy_data, folder_digest, tiny_runner


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.mlflow_tracking_uri)


def artifacts_of(trained: Trained, folder: str = "") -> set[str]:
    return {item.path for item in client_of(trained.settings).list_artifacts(trained.result.run_id, folder)}


# ---- what a finished training leaves -----------------------------------------------------------------


def test_finished_training_is_finished_everywhere(trained: Trained) -> None:
    run = client_of(trained.settings).get_run(trained.result.run_id)
    assert run.info.status == RunStatus.FINISHED
    assert find_run(trained.result.run_id, settings=trained.settings).status == RunStatus.FINISHED
    assert trained.result.status == RunStatus.FINISHED


def test_mlflow_has_every_figure_of_every_epoch_under_its_step(trained: Trained) -> None:
    client, run_id = client_of(trained.settings), trained.result.run_id
    for name in ("train/box_loss", "val/cls_loss", "lr/pg0", "epoch_seconds", "train_images_per_s"):
        logged = {item.step: item.value for item in client.get_metric_history(run_id, name) if item.step <= 2}
        assert logged == {int(row["epoch"]): pytest.approx(row[name]) for row in trained.result.history}, name


def test_last_value_in_mlflow_is_that_of_the_best_weights(trained: Trained) -> None:
    logged = client_of(trained.settings).get_run(trained.result.run_id).data.metrics
    for name in ("map50", "map50_95", "precision", "recall", "f1", "train_seconds", "model_size_mb"):
        assert logged[name] == pytest.approx(trained.result.metrics[name]), name
    steps = [item.step for item in client_of(trained.settings).get_metric_history(trained.result.run_id, "map50")]
    assert sorted(steps) == [1, 2, 3]


def test_mlflow_has_parameters_and_says_which_data_and_code_it_was(trained: Trained) -> None:
    data = client_of(trained.settings).get_run(trained.result.run_id).data
    assert data.params["epochs"] == "2"
    assert data.params["model_arch"] == "yolo11n.yaml"
    assert data.params["data_yaml"] == str(trained.data_yaml)
    assert data.tags["guardianflow.dataset_fingerprint"] == trained.result.dataset["fingerprint"]
    assert len(data.tags["guardianflow.dataset_fingerprint"]) == 64
    assert data.tags["guardianflow.kind"] == "train"
    here = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if here.returncode == 0:  # the experiments' folder is the current one, and a checkout
        assert data.tags["mlflow.source.git.commit"] == here.stdout.strip()


def test_mlflow_has_weights_curves_samples_and_facts(trained: Trained) -> None:
    facts = {"per_class.json", "dataset.json", "environment.json", "history.json"}
    assert artifacts_of(trained) >= {"weights", "curves", "samples", "training", *facts}
    assert artifacts_of(trained, "weights") == {"weights/best.pt", "weights/last.pt"}
    assert {"curves/results.png", "curves/confusion_matrix.png"} <= artifacts_of(trained, "curves")
    assert {"samples/samples.json", "samples/val_batch0_pred.jpg"} <= artifacts_of(trained, "samples")
    assert artifacts_of(trained, "training") >= {"training/results.csv", "training/training.log", "training/args.yaml"}
    local = client_of(trained.settings).download_artifacts(trained.result.run_id, "weights/best.pt")
    assert Path(local).read_bytes() == trained.result.best.read_bytes()


def test_sink_gets_the_figures_that_mlflow_gets_once(trained: Trained) -> None:
    for row in trained.result.history:
        stored = trained.sink.figures(str(int(row["epoch"])))
        assert stored == {
            name: row[name] for name in ("map50", "map50_95", "precision", "recall", "f1", "epoch_seconds")
        }
    assert trained.sink.figures("final") == dict(trained.result.metrics)
    assert {record.run_id for record in trained.sink.records.values()} == {trained.result.run_id}


def test_user_data_is_as_it_was(trained: Trained) -> None:
    assert folder_digest(trained.data_yaml.parent) == trained.data_before


def test_result_can_be_read_back_from_the_run_folder(trained: Trained) -> None:
    again = TrainingResult.load(trained.result.folder)
    assert again.to_dict() == trained.result.to_dict()
    assert json.loads(json.dumps(again.to_dict(), allow_nan=False))["verdict"] == trained.result.verdict


def test_folder_without_a_result_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="did not finish"):
        TrainingResult.load(tmp_path)


def test_log_of_a_training_has_no_terminal_colours(trained: Trained) -> None:
    text = (trained.result.folder / "training.log").read_text(encoding="utf-8")
    assert "epochs completed" in text
    assert "\x1b" not in text


def test_a_checked_training_isnt_checked_again_unless_the_data_changed(
    tiny_data: Path, tmp_path: Path, training_settings: Settings
) -> None:
    data_yaml = copy_data(tiny_data, tmp_path / "data")
    runner = tiny_runner(data_yaml, training_settings)
    assert runner._needs_check()
    runner.check()
    assert not runner._needs_check()
    next((data_yaml.parent / "labels" / "train").glob("*.txt")).write_text("9 0.5 0.5 0.2 0.2\n")
    with pytest.raises(InputError, match="class id 9"):
        runner.run()
    assert RunRecords(Database.open(training_settings.database_url)).list() == []


# ---- a training that breaks off ----------------------------------------------------------------------


class InterruptingSink(ListSink):
    """A sink during whose write of a stage the user presses Ctrl-C."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def save_metrics(self, records: Iterable[MetricRecord]) -> SaveReport:
        batch = list(records)
        report = super().save_metrics(batch)
        if batch and batch[0].tags["epoch"] == self.stage:
            raise KeyboardInterrupt
        return report


def only_run(settings: Settings) -> str:
    (record,) = RunRecords(Database.open(settings.database_url)).list()
    return record.run_id


def test_interrupted_training_goes_on_in_the_same_run_until_every_epoch_is_there_once(
    tiny_data: Path, training_settings: Settings
) -> None:
    """Ctrl-C after the first of three epochs; again when only the last figures were left; then to the end."""
    with pytest.raises(KeyboardInterrupt):
        tiny_runner(tiny_data, training_settings, epochs=3, sink=InterruptingSink("1")).run()
    run_id = only_run(training_settings)
    record = find_run(run_id, settings=training_settings)
    assert (record.status, record.reason) == (RunStatus.KILLED, "interrupted by Ctrl-C")
    assert client_of(training_settings).get_run(run_id).info.status == RunStatus.KILLED

    runner = TrainingRunner.resuming(run_id[:8], settings=training_settings, sink=InterruptingSink("final"))
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert only_run(training_settings) == run_id

    sink = ListSink()
    result = TrainingRunner.resuming(run_id, settings=training_settings, sink=sink).run()
    assert result.run_id == run_id
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert find_run(run_id, settings=training_settings).status == RunStatus.FINISHED
    assert client_of(training_settings).get_run(run_id).info.status == RunStatus.FINISHED
    logged = client_of(training_settings).get_metric_history(run_id, "train/box_loss")
    assert [item.step for item in sorted(logged, key=lambda item: item.step)] == [1, 2, 3]
    assert result.metrics["train_seconds"] > sum(row["epoch_seconds"] for row in result.history)
    assert sink.figures("final")["map50"] == result.metrics["map50"]
    with pytest.raises(InputError, match=f"finished; start a new one with `guardianflow run --again {run_id}`"):
        TrainingRunner.resuming(run_id, settings=training_settings).run()


def test_command_line_resumes_an_interrupted_training_and_refuses_a_finished_one(
    tiny_data: Path, training_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_runner(tiny_data, training_settings, epochs=2, sink=InterruptingSink("1")).run()
    run_id = only_run(training_settings)
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(training_settings.work_dir))
    words = ["train", "--resume", run_id[:10], "--direct", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["run_id"] == run_id
    result = TrainingResult.load(find_run(run_id, settings=training_settings).folder)
    assert [row["epoch"] for row in result.history] == [1, 2]
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert f"run {run_id} finished" in again.stderr


def test_epoch_that_was_trained_but_not_told_is_in_the_resumed_history(
    tiny_data: Path, training_settings: Settings
) -> None:
    """An epoch that was finished when the process died, before anybody was told, is told later."""
    with pytest.raises(KeyboardInterrupt):
        tiny_runner(tiny_data, training_settings, epochs=3, sink=InterruptingSink("2")).run()
    run_id = only_run(training_settings)
    history = find_run(run_id, settings=training_settings).folder / "epochs.jsonl"
    history.write_text(history.read_text().splitlines()[0] + "\n" + '{"epoch": 2, "cut')
    result = TrainingRunner.resuming(run_id, settings=training_settings, sink=ListSink()).run()
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert all("map50" in row and row["epoch_seconds"] > 0 for row in result.history)


def test_run_that_never_finished_an_epoch_cant_be_resumed(tiny_data: Path, training_settings: Settings) -> None:
    class Impatient(TrainingRunner):
        def work(self, run: object) -> None:  # type: ignore[override]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Impatient("x", "yolo11n.yaml", tiny_data, 1, 8, 64, "cpu", settings=training_settings).run()
    run_id = only_run(training_settings)
    with pytest.raises(InputError, match=rf"nothing to resume; start it anew with `guardianflow run --again {run_id}`"):
        TrainingRunner.resuming(run_id, settings=training_settings).run()
    assert find_run(run_id, settings=training_settings).status == RunStatus.KILLED


def test_resuming_on_changed_data_is_refused(tiny_data: Path, tmp_path: Path, training_settings: Settings) -> None:
    data_yaml = copy_data(tiny_data, tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        tiny_runner(data_yaml, training_settings, epochs=2, sink=InterruptingSink("1")).run()
    run_id = only_run(training_settings)
    label = next((data_yaml.parent / "labels" / "train").glob("*.txt"))
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(InputError, match=rf"data\.yaml has changed since run {run_id} began.*--again {run_id}"):
        TrainingRunner.resuming(run_id, settings=training_settings).run()
    assert find_run(run_id, settings=training_settings).status == RunStatus.KILLED


def test_a_runner_refuses_a_scenario_of_another_kind() -> None:
    scenario = BaseScenario.model_validate({"kind": "wrap", "experiment": "x"})
    with pytest.raises(InputError, match="runs scenarios of kind train; this one is of kind wrap"):
        TrainingRunner(scenario)


def test_unknown_run_cant_be_resumed(trained: Trained) -> None:
    with pytest.raises(NotFoundError, match="no run 'ffffffff'"):
        TrainingRunner.resuming("ffffffff", settings=trained.settings)


def wait_for_epoch(settings: Settings, process: subprocess.Popen[str], *, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if (settings.work_dir / "guardianflow.db").exists():
            for record in RunRecords(Database.open(settings.database_url)).list():
                if record.progress.get("done", 0) >= 1:
                    return record.run_id
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"no epoch was trained: {process.communicate()}")


def test_sigterm_leaves_a_killed_run_and_says_how_to_go_on(tiny_data: Path, training_settings: Settings) -> None:
    settings = training_settings
    environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(settings.work_dir), "MLFLOW_DISABLE_TELEMETRY": "true"}
    asked = ["--data", str(tiny_data), "--model", "yolo11n.yaml", "--experiment", "x", "--imgsz", "64", "--batch", "8"]
    options = ["--device", "cpu", "--direct", "--set", "plots=false"]
    entry = [sys.executable, "-c", "from guardianflow.cli import main; main()"]
    process = subprocess.Popen(
        [*entry, "train", *asked, *options, "--epochs", "300"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run_id = wait_for_epoch(settings, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    record = find_run(run_id, settings=settings)
    assert record.status == RunStatus.KILLED
    assert client_of(settings).get_run(run_id).info.status == RunStatus.KILLED
    assert f"guardianflow train --resume {run_id}" in errors


def test_default_sink_is_the_metrics_store(tiny_data: Path, training_settings: Settings) -> None:
    runner = tiny_runner(tiny_data, training_settings)
    assert isinstance(runner.sink, MetricsStore)
