"""A change in the registry as a run: checked before it exists, the same in process and in a notebook."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import NotFoundError, ParameterError, RefusedError
from guardianflow.execution.executors import LocalExecutor
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runners.promotion.runner import RegistryResult, RegistryRunner, VerdictTable
from guardianflow.runs.run_records import RunRecords
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.factory import plan_run
from guardianflow.scenario.fields import flat_fields
from guardianflow.scenario.schema import RegistryScenario
from guardianflow.state.database import Database
from tests.registry.evidence_world import FINGERPRINT, evaluate
from tests.vision.backends.small_models import weights


@pytest.fixture
def gated(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    """A work folder whose gate is on."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    return Settings(work_dir=work_dir, actor="lee")


@pytest.fixture
def settings(gated: Settings) -> Settings:
    """The same with the gate off: these files were never evaluated."""
    return Settings(work_dir=gated.work_dir, actor="lee", gate="off")


@pytest.fixture
def source_run(settings: Settings, tmp_path: Path) -> str:
    """A finished run with weights."""
    place = shutil.copy(weights(), tmp_path / "best.pt")
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={"experiment_name": "gate"}) as run:
        run.log_metrics({"map50": 0.6})
        run.log_artifact(Path(place), "weights")
    return run.run_id


def test_a_change_is_a_run_that_says_what_it_led_to(settings: Settings, source_run: str) -> None:
    registered = RegistryRunner("gate", "register", "cam", source_run_id=source_run, settings=settings).run()
    promoted = RegistryRunner("gate", "promote", "cam", reason="first", settings=settings).run()

    assert registered.aliases == {"candidate": "1"}
    assert promoted.aliases == {"champion": "1"}
    assert promoted.model_uri == "models:/cam/1"
    assert [event["action"] for event in promoted.history] == ["promote", "register"]
    record = RunRecords(Database.open(settings.database_url)).get(promoted.run_id)
    assert (record.kind, record.status, record.actor) == ("registry", "FINISHED", "lee")
    kept = json.loads((record.folder / "result.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(promoted.to_dict()))


def test_its_tables_escape_what_they_show(settings: Settings, source_run: str) -> None:
    ModelRegistry(settings).register("cam", source_run)
    result = RegistryRunner(
        "gate", "reject", "cam", version="1", reason="<img src=x onerror=alert(1)>", settings=settings
    ).run()
    page = result.show_history()._repr_html_() + result.show_versions()._repr_html_() + result._repr_html_()
    assert "<img" not in page
    assert "&lt;img" in page


def evaluated(settings: Settings, folder: Path, skill: float) -> str:
    """A version of the model "cam" with evidence; returns its number."""
    folder.mkdir()
    place = shutil.copy(weights(seed=ord(folder.name)), folder / "best.pt")
    with TrackedRun.start(settings, experiment="gate", kind="train", parameters={"experiment_name": "gate"}) as run:
        run.log_artifact(Path(place), "weights")
    version = ModelRegistry(settings).register("cam", run.run_id, dataset_fingerprint=FINGERPRINT)
    evaluate(Evaluations(settings), version.sha256, folder / "evaluation", skill, run_id=run.run_id)
    return version.version


def test_the_page_says_what_the_gate_said(gated: Settings, tmp_path: Path) -> None:
    evaluated(gated, tmp_path / "a", 0.5)
    RegistryRunner("gate", "promote", "cam", settings=gated).run()
    evaluated(gated, tmp_path / "b", 0.9)
    runner = RegistryRunner("gate", "promote", "cam", settings=gated)
    before = runner.judge()._repr_html_()
    result = runner.run()
    assert "Version 2 of cam, judged against champion 1, may be promoted." in before
    assert VerdictTable(result.verdict)._repr_html_() == before
    assert result.to_dict()["verdict"]["passed"] is True
    assert "No gate was asked" in RegistryRunner("gate", "rollback", "cam", settings=gated).judge()._repr_html_()


def test_a_refused_change_shows_why_and_is_no_failed_run(gated: Settings, tmp_path: Path) -> None:
    evaluated(gated, tmp_path / "a", 0.9)
    RegistryRunner("gate", "promote", "cam", settings=gated).run()
    evaluated(gated, tmp_path / "b", 0.5)
    runner = RegistryRunner("gate", "promote", "cam", settings=gated)
    assert ">refused<" in runner.judge()._repr_html_()
    with pytest.raises(RefusedError, match="champion stays 1"):
        runner.run()
    record = RunRecords(Database.open(gated.database_url)).list(limit=1)[0]
    kept = RegistryResult.load(record.folder)
    assert record.status == "FINISHED"
    assert "champion stays 1" in kept.refused
    assert (kept.verdict["passed"], kept.version["version"]) == (False, "2")
    assert "<b>Refused:</b> version 2 of" in kept._repr_html_()
    ModelRegistry(gated).reject("cam", 2, reason="<b>no</b>")
    again = RegistryRunner("gate", "promote", "cam", version="2", settings=gated).judge()._repr_html_()
    assert "The gate could not judge: version 2 of" in again
    assert "<b>no" not in again


@pytest.mark.slow
def test_the_notebook_does_the_same(gated: Settings, tmp_path: Path) -> None:
    evaluated(gated, tmp_path / "a", 0.9)
    outcome = LocalExecutor(gated).execute(
        plan_run("registry", experiment_name="gate", action="promote", model_name="cam", reason="from a notebook")
    )
    assert outcome.status == "FINISHED"
    assert outcome.notebook is not None
    assert "from a notebook" in outcome.notebook.read_text(encoding="utf-8")
    assert outcome.html is not None
    assert "judged as the first champion, may be promoted" in outcome.html.read_text(encoding="utf-8")
    assert ModelRegistry(gated).get("cam", "champion").version == "1"

    evaluated(gated, tmp_path / "b", 0.5)
    with pytest.raises(RefusedError, match=r"champion stays 1: .* has its page in"):
        LocalExecutor(gated).execute(plan_run("registry", experiment_name="gate", action="promote", model_name="cam"))
    record = RunRecords(Database.open(gated.database_url)).list(limit=1)[0]
    assert record.status == "FINISHED"
    page = (record.folder / "registry.html").read_text(encoding="utf-8")
    assert "<b>Refused:</b> version 2 of" in page
    assert "The notebook failed" not in page


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"action": "destroy"}, "'register', 'promote', 'rollback' or 'reject'"),
        ({"action": "register"}, "source_run_id must be given"),
        ({"action": "reject", "version": "1"}, "reason must be given"),
        ({"action": "promote", "force": True}, "reason must be given"),
    ],
)
def test_what_an_action_needs_is_asked_for(values: dict[str, object], says: str) -> None:
    action = str(values.pop("action"))
    with pytest.raises(ParameterError, match=says):
        RegistryRunner("gate", action, "cam", **values)


def test_an_unknown_model_makes_no_run(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="no model named 'nobody'"):
        RegistryRunner("gate", "promote", "nobody", settings=settings).run()
    assert RunRecords(Database.open(settings.database_url)).list() == []


def test_the_template_asks_what_the_schema_knows() -> None:
    from guardianflow.execution.engine.notebook import template_path
    from guardianflow.execution.engine.parameters import declared_parameters

    assert set(declared_parameters(template_path("registry"))) == {*flat_fields(RegistryScenario), "run_id"}
