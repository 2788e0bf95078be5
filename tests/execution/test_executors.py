"""Plans become runs: bad input makes none, secrets stay out, a run can be repeated and resumed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, RunFailedError
from guardianflow.execution.executors import LocalExecutor, RunOutcome, kernel_environment
from guardianflow.runs.run_records import RunRecords
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import KINDS, plan_again, plan_resume, plan_run
from guardianflow.state.database import Database
from tests.execution.fake_training import use_fake_training, write_template

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "aws_secret_access_key": "hunter2-aws",
    "aws_session_token": "hunter2-session",
    "aws_access_key_id": "hunter2-id",
}


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    template = write_template(tmp_path / "fake.ipynb")
    real = KINDS.get("train")
    use_fake_training(template)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield template
    KINDS.register("train", real, replace=True)


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    (tmp_path / "work").mkdir()
    shutil.copy(mlflow_sqlite_template, tmp_path / "work" / "mlflow.db")
    return Settings(work_dir=tmp_path / "work", **SECRETS)


def plan(**changes: Any) -> RunPlan:
    values: dict[str, Any] = {"experiment_name": "게이트", "model_arch": "m", "data_yaml": "data.yaml", "epochs": 2}
    return plan_run("train", **(values | changes))


def direct(settings: Settings, what: RunPlan) -> RunOutcome:
    return LocalExecutor(settings, direct=True).execute(what)


def runs_of(settings: Settings) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(settings.mlflow_tracking_uri)
    ours = RunRecords(Database.open(settings.database_url)).list()
    theirs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert {record.run_id: record.status for record in ours} == {run.info.run_id: run.info.status for run in theirs}
    return ours


BAD = [
    pytest.param(lambda: plan(options={"then": "nonsense"}), "nonsense", id="runner's check"),
    pytest.param(lambda: plan(epoch=3), "epoch", id="unknown parameter"),
    pytest.param(lambda: plan(epochs="many"), "epochs", id="wrong value"),
    pytest.param(lambda: plan_run("nothing", **plan().parameters), "train", id="unknown kind"),
    pytest.param(lambda: plan(experiment_name="a\x00b"), "invisible", id="experiment name"),
    pytest.param(lambda: plan(options={"hf_token": "x"}), "options.hf_token", id="secret"),
    pytest.param(lambda: plan(model_arch="http://u:p@h/m.pt"), "model_arch", id="password in a URL"),
]


@pytest.mark.parametrize("how", ["notebook", "direct"])
@pytest.mark.parametrize(("make", "names"), BAD)
def test_bad_input_makes_no_run(settings: Settings, make: Any, names: str, how: str) -> None:
    with pytest.raises(GuardianFlowError, match=names) as caught:
        LocalExecutor(settings, direct=how == "direct").execute(make())
    assert caught.value.exit_code == 2
    assert runs_of(settings) == []


def test_a_missing_template_makes_no_run(settings: Settings, fake: Path) -> None:
    fake.unlink()
    with pytest.raises((GuardianFlowError, OSError)):
        LocalExecutor(settings).execute(plan())
    assert runs_of(settings) == []


def test_a_notebook_run_leaves_its_evidence_and_no_secret_anywhere(settings: Settings, tmp_path: Path) -> None:
    seen: list[str] = []
    executor = LocalExecutor(settings, on_run=lambda record: seen.append(record.run_id))
    outcome = executor.execute(plan())
    assert seen == [outcome.run_id]
    assert outcome.status == "FINISHED"
    assert outcome.to_dict()["metrics"] == {"map50": 0.5}
    assert outcome.notebook is not None
    assert outcome.notebook.is_file()
    assert outcome.html is not None
    assert outcome.html.is_file()
    (record,) = runs_of(settings)
    assert (record.template, record.kind) == ("train", "train")

    from mlflow import MlflowClient

    files = MlflowClient(settings.mlflow_tracking_uri).list_artifacts(outcome.run_id, "notebook")
    assert sorted(Path(file.path).name for file in files) == ["train.html", "train.ipynb"]
    environment = kernel_environment(settings)
    assert environment["AWS_SECRET_ACCESS_KEY"] == SECRETS["aws_secret_access_key"], "the kernel gets them"
    assert not [str(path) for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert "hunter2" not in "\n".join(sqlite3.connect(settings.work_dir / "mlflow.db").iterdump())


def test_a_template_that_the_workspace_calls_its_own_is_checked_and_executed(settings: Settings, fake: Path) -> None:
    KINDS.register("train", replace(KINDS.get("train"), template=None), replace=True)
    own = fake.parent / "templates"
    own.mkdir()
    (fake.parent / "guardianflow.toml").write_text('templates = "templates"', encoding="utf-8")
    executor = LocalExecutor(Settings(work_dir=settings.work_dir))
    text = fake.read_text(encoding="utf-8")
    (own / "train.ipynb").write_text(text.replace("patience: int", "impatience: int"), encoding="utf-8")
    with pytest.raises(InputError, match="has no parameter 'patience'"):
        executor.execute(plan())
    assert runs_of(settings) == []

    (own / "train.ipynb").write_text(text.replace("the end", "our own end"), encoding="utf-8")
    notebook = executor.execute(plan()).notebook
    assert notebook is not None
    assert "our own end" in notebook.read_text(encoding="utf-8")


def test_a_direct_run_needs_no_notebook(settings: Settings) -> None:
    outcome = direct(settings, plan())
    assert (outcome.status, outcome.notebook, outcome.html) == ("FINISHED", None, None)
    (record,) = runs_of(settings)
    assert record.template is None


def test_a_direct_run_that_fails_says_so_everywhere(settings: Settings) -> None:
    with pytest.raises(RunFailedError, match="the loss is no number"):
        direct(settings, plan(options={"then": "raise"}))
    (record,) = runs_of(settings)
    assert (record.status, record.reason) == ("FAILED", "RuntimeError: the loss is no number")


def test_a_run_without_a_result_failed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.execution import fake_training

    monkeypatch.setattr(fake_training, "write_json", lambda path, value: path)
    with pytest.raises(RunFailedError, match=r"result\.json"):
        direct(settings, plan())
    (record,) = runs_of(settings)
    assert record.status == "FAILED"


def test_a_listener_that_breaks_ends_the_run_as_failed(settings: Settings) -> None:
    def broken(_: object) -> None:
        raise ValueError("no screen")

    with pytest.raises(RunFailedError, match="no screen"):
        LocalExecutor(settings, direct=True, on_run=broken).execute(plan())
    (record,) = runs_of(settings)
    assert record.status == "FAILED"


def test_again_repeats_from_the_recorded_parameters_as_a_new_run(settings: Settings) -> None:
    first = direct(settings, plan(epochs=2, seed=7))
    records = RunRecords(Database.open(settings.database_url))
    again = direct(settings, plan_again(records.get(first.run_id)))
    assert again.run_id != first.run_id
    record = records.get(again.run_id)
    assert record.again_of == first.run_id
    assert record.parameters == records.get(first.run_id).parameters
    assert len(runs_of(settings)) == 2


def test_a_run_whose_secret_was_not_kept_can_not_be_repeated(settings: Settings) -> None:
    from guardianflow.runs.tracking import TrackedRun

    asked = plan(options={"api_key": "x"}).parameters
    with TrackedRun.start(settings, experiment="게이트", kind="train", parameters=asked) as run:
        pass
    with pytest.raises(InputError, match=r"options\.api_key"):
        direct(settings, plan_again(run.record))


def test_a_failed_run_is_resumed_in_place(settings: Settings) -> None:
    with pytest.raises(RunFailedError):
        direct(settings, plan(options={"then": "raise"}))
    (failed,) = runs_of(settings)
    outcome = direct(settings, replace(plan(), resume=failed.run_id))
    assert outcome.run_id == failed.run_id
    (record,) = runs_of(settings)
    assert record.status == "FINISHED"
    with pytest.raises(InputError, match="finished"):
        direct(settings, plan_resume(record))


def test_what_was_not_registered_is_said_with_the_later_command(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = direct(settings, plan(register_as="cells"))
    assert f"guardianflow register cells --run {outcome.run_id}" in caplog.text


def test_an_outcome_is_plain_json(settings: Settings) -> None:
    json.dumps(direct(settings, plan()).to_dict())
