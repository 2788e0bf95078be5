"""Whatever way a run ends, MLflow, our record, the notebook and the exit code say the same.

The command line runs as a process of its own and gets real signals. The training is a fake one
(:mod:`tests.execution.fake_training`); executor, kernel, notebook and run are the real ones.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.execution.engine.outcome import NotebookEvent
from guardianflow.runs.run_records import RunRecord, RunRecords
from guardianflow.state.database import Database
from tests.services.mlflow_server import MlflowServer

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "게이트 gate"
MAIN = "from guardianflow.cli import main; main()"


@dataclass
class Bench:
    """A work folder with MLflow's database in it, and the command line that works there."""

    folder: Path

    @property
    def settings(self) -> Settings:
        return Settings(work_dir=self.folder / "work")

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("MLFLOW_", "GUARDIANFLOW_", "AWS_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        return env | {
            "GUARDIANFLOW_WORK_DIR": str(self.folder / "work"),
            "FAKE_TEMPLATE": str(self.folder / "fake.ipynb"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *options: str, verb: str = "train") -> subprocess.Popen[str]:
        asked = ("--data", "data.yaml", "--model", "m.yaml", "--experiment", EXPERIMENT, "--epochs", "3", "--json")
        return self._popen(
            "tests.execution.fake_training", verb, *(asked if verb == "train" else ("--json",)), *options
        )

    def guardianflow(self, *arguments: str) -> Any:
        process = self._popen("tests.execution.fake_training", *arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out)

    def wait_for_step(self, step: int, *, of: subprocess.Popen[str]) -> RunRecord:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and of.poll() is None:
            for record in self.records():
                if record.progress.get("done", 0) >= step:
                    return record
            time.sleep(0.05)
        raise AssertionError(f"step {step} was never reached: {of.communicate()}")

    def records(self) -> list[RunRecord]:
        return RunRecords(Database.open(self.settings.database_url)).list()

    def record(self) -> RunRecord:
        (record,) = self.records()
        return record

    def mlflow_run(self, run_id: str) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.settings.mlflow_tracking_uri).get_run(run_id)

    def _popen(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, mlflow_sqlite_template: Path) -> Bench:
    folder = tmp_path / "작업 50% a"
    (folder / "work").mkdir(parents=True)
    (folder / "data.yaml").write_text("names: [a]")
    found = Bench(folder)
    shutil.copy(mlflow_sqlite_template, found.folder / "work" / "mlflow.db")
    return found


def cell_states(record: RunRecord) -> list[str]:
    assert record.notebook is not None
    cells = json.loads(record.notebook.read_text(encoding="utf-8"))["cells"]
    return [cell["metadata"]["papermill"]["status"] for cell in cells if cell["cell_type"] == "code"]


def notebook_status(record: RunRecord) -> str:
    assert record.notebook is not None
    return str(json.loads(record.notebook.read_text(encoding="utf-8"))["metadata"]["guardianflow"]["status"])


def kernels_of(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if any("ipykernel" in word for word in child.cmdline())]


def test_a_run_that_is_done_says_finished_everywhere(bench: Bench) -> None:
    process = bench.start()
    out, err = process.communicate(timeout=180)
    record = bench.record()
    assert process.returncode == 0, err
    assert json.loads(out)["status"] == "FINISHED"
    assert record.status == bench.mlflow_run(record.run_id).info.status == "FINISHED"
    assert notebook_status(record) == "completed"
    assert set(cell_states(record)) == {"completed"}
    assert record.progress["done"] == 3
    # Nothing else is said: no complaint about missing widgets, frozen modules or open ports.
    assert record.notebook is not None
    assert "IProgress" not in record.notebook.read_text(encoding="utf-8")
    assert [line for line in err.splitlines() if "WARNING" in line] == []
    seen = json.loads((record.folder / "seen.json").read_text(encoding="utf-8"))
    assert seen == {"cwd": str(bench.folder), "data_exists": True}


def end_by_error(bench: Bench) -> subprocess.Popen[str]:
    return bench.start("--set", "then=raise")


def end_by_kernel_death(bench: Bench) -> subprocess.Popen[str]:
    return bench.start("--set", "then=die")


def end_by_ctrl_c(bench: Bench) -> subprocess.Popen[str]:
    process = bench.start("--set", "then=hang")
    bench.wait_for_step(2, of=process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    return process


def end_by_sigterm(bench: Bench) -> subprocess.Popen[str]:
    process = bench.start("--set", "then=hang")
    bench.wait_for_step(2, of=process)
    process.send_signal(signal.SIGTERM)
    return process


ENDINGS = [
    pytest.param(end_by_error, 1, "FAILED", "failed", "the loss is no number", id="error"),
    pytest.param(end_by_kernel_death, 1, "FAILED", "killed", "SIGKILL", id="kernel killed"),
    pytest.param(end_by_ctrl_c, 130, "KILLED", "interrupted", "Ctrl-C", id="Ctrl-C"),
    pytest.param(end_by_sigterm, 143, "KILLED", "terminated", "SIGTERM", id="SIGTERM"),
]


@pytest.mark.parametrize(("end", "exit_code", "status", "notebook", "reason"), ENDINGS)
def test_status_record_notebook_and_exit_code_agree(
    bench: Bench, end: Callable[[Bench], subprocess.Popen[str]], exit_code: int, status: str, notebook: str, reason: str
) -> None:
    process = end(bench)
    out, err = process.communicate(timeout=180)
    record = bench.record()
    run = bench.mlflow_run(record.run_id)
    assert process.returncode == exit_code, err
    assert json.loads(out)["exit_code"] == exit_code
    assert record.status == run.info.status == status
    assert reason in (record.reason or "")
    assert reason in run.data.tags["guardianflow.reason"]
    assert notebook_status(record) == notebook
    assert cell_states(record)[-2:] == ["failed", "pending"]
    assert record.ended is not None
    assert run.info.end_time is not None
    assert run.data.metrics["loss"] == 0.5, "what was logged before the end has arrived"
    assert not (record.folder / "undelivered.jsonl").exists()


def test_after_sigkill_of_the_command_the_kernel_goes_and_reap_tells_the_truth(bench: Bench) -> None:
    process = bench.start("--set", "then=hang")
    record = bench.wait_for_step(2, of=process)
    kernels = kernels_of(process.pid)
    assert kernels
    assert bench.guardianflow("runs", "reap", "--json")["reaped"] == [], "a living run was taken for dead"

    os.kill(process.pid, signal.SIGSTOP)
    assert bench.guardianflow("runs", "reap", "--json")["reaped"] == [], "a stopped process lives"
    os.kill(process.pid, signal.SIGCONT)

    process.kill()
    process.communicate()
    assert psutil.wait_procs(kernels, timeout=10)[1] == [], "the kernel outlived the process that drives it"
    assert bench.record().status == "RUNNING"

    ended = bench.guardianflow("runs", "reap", "--json")["reaped"]
    assert [row["run_id"] for row in ended] == [record.run_id]
    record = bench.record()
    run = bench.mlflow_run(record.run_id)
    assert record.status == run.info.status == "FAILED"
    assert record.reason == run.data.tags["guardianflow.reason"] == "its process died without ending the run"
    assert notebook_status(record) == "killed"
    assert cell_states(record)[-2:] == ["failed", "pending"]
    assert "cut off" in record.notebook.with_suffix(".html").read_text(encoding="utf-8")  # type: ignore[union-attr]
    assert bench.guardianflow("runs", "reap", "--json")["reaped"] == []


def test_a_cell_that_takes_too_long_fails_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from guardianflow.exceptions import RunFailedError
    from guardianflow.execution.executors import LocalExecutor
    from guardianflow.scenario.factory import KINDS, plan_run
    from tests.execution.fake_training import use_fake_training, write_template

    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    real = KINDS.get("train")
    use_fake_training(write_template(bench.folder / "fake.ipynb"))
    events: list[NotebookEvent] = []
    try:
        plan = plan_run(
            "train",
            experiment_name=EXPERIMENT,
            model_arch="m",
            data_yaml="data.yaml",
            epochs=3,
            options={"then": "hang"},
        )
        with pytest.raises(RunFailedError, match="time was up"):
            LocalExecutor(bench.settings, timeout_s=20, on_event=events.append).execute(plan)
    finally:
        KINDS.register("train", real, replace=True)
    record = bench.record()
    assert record.status == bench.mlflow_run(record.run_id).info.status == "FAILED"
    assert "time was up" in (record.reason or "")
    assert notebook_status(record) == "timeout"
    assert cell_states(record)[-2:] == ["failed", "pending"]
    assert events[0].kind == "kernel-started"


# ---- a real training, and an MLflow server that is killed in the middle of it ------------------------------------


@pytest.fixture
def server(tmp_path: Path, mlflow_sqlite_template: Path) -> Iterator[MlflowServer]:
    found = MlflowServer(tmp_path / "server", mlflow_sqlite_template)
    found.start()
    yield found
    found.kill()


@pytest.mark.slow
@pytest.mark.fire  # CI kills an MLflow server under a training, too: tests/stack
@pytest.mark.services
def test_a_training_ends_well_when_the_mlflow_server_is_killed_and_reap_delivers_the_rest(
    bench: Bench, server: MlflowServer
) -> None:
    from guardianflow.scenes.scenes import SceneConfig, generate_images

    data = generate_images(bench.folder / "장면 1", images=16, config=SceneConfig(imgsz=96, people=(1, 2))).data_yaml
    env = bench.environment | {"MLFLOW_TRACKING_URI": server.url}
    epochs = 6
    command = [
        sys.executable, "-c", MAIN, "train", "--data", str(data), "--model", "yolo11n.yaml", "--imgsz", "64",
        "--batch", "4", "--epochs", str(epochs), "--experiment", EXPERIMENT, "--register-as", "gate", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=bench.folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    bench.wait_for_step(1, of=process)
    server.kill()
    bench.wait_for_step(epochs, of=process)
    trained = time.monotonic()
    out, err = process.communicate(timeout=200)
    after = time.monotonic() - trained
    assert process.returncode == 0, err
    record = bench.record()
    assert record.status == json.loads(out)["status"] == "FINISHED"
    assert (record.folder / "training" / "weights" / "best.pt").is_file()
    assert (record.folder / "undelivered.jsonl").is_file()
    assert f"guardianflow register gate --run {record.run_id}" in err
    assert "guardianflow runs reap" in err
    logging.getLogger(__name__).info("from the last epoch to the exit: %.1f s", after)
    assert after < 60, "the end of a training takes some 20 s by itself, and may be delayed by 30 s"

    server.start()
    again = subprocess.run(
        [sys.executable, "-c", MAIN, "runs", "reap", "--json"], env=env, cwd=bench.folder,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(again.stdout)["reaped"] == []
    from mlflow import MlflowClient

    client = MlflowClient(server.backend)
    run = client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model_arch"] == "yolo11n.yaml"
    history = client.get_metric_history(record.run_id, "map50")
    assert sorted(row.step for row in history) == list(range(1, epochs + 2)), "each epoch once, and the final figure"
    through = MlflowClient(server.url)
    assert {"best.pt", "last.pt"} <= {Path(file.path).name for file in through.list_artifacts(record.run_id, "weights")}
    assert {"train.ipynb", "train.html"} <= {
        Path(file.path).name for file in through.list_artifacts(record.run_id, "notebook")
    }
    assert not (record.folder / "undelivered.jsonl").exists()
