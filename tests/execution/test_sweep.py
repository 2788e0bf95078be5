"""Sweeps: every trial is executed once, whoever dies; hopeless ones end early; the best one is the best."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import InputError, NotFoundError, RunFailedError
from guardianflow.execution.estimate import estimate
from guardianflow.execution.executors import LocalExecutor
from guardianflow.execution.studies import Studies, Study
from guardianflow.execution.sweep import SweepRunner
from guardianflow.execution.trials import TrialState
from guardianflow.runs.run_records import ProcessIdentity, RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.experiment_design import RunPlan, SweepScenario, plan, trial_plan
from guardianflow.scenario.factory import KINDS, TRAIN
from guardianflow.scenario.fields import to_yaml
from guardianflow.state.database import Database
from tests.execution.direct_sweep import DirectSweep, sweep_of
from tests.execution.fake_trials import fake_kind

GRID = {"run.options.lr0": [0.0001, 0.001, 0.01, 0.1]}


@pytest.fixture(autouse=True)
def fake() -> Iterator[None]:
    real = KINDS.get("train")
    KINDS.register("train", fake_kind(None), replace=True)
    yield
    KINDS.register("train", real, replace=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, training_settings: Settings) -> Settings:
    if request.param == "sqlite":
        return training_settings
    url = request.getfixturevalue("postgres_url")
    return Settings(work_dir=training_settings.work_dir, database_url=url)


@pytest.fixture
def embedded(training_settings: Settings) -> Settings:
    return training_settings


def records_of(settings: Settings) -> RunRecords:
    return RunRecords(Database.open(settings.database_url))


def trainings(settings: Settings) -> list[Any]:
    return records_of(settings).list(kind="train", limit=1000)


def begun(settings: Settings, asked: SweepScenario) -> Study:
    """A study whose sweep's process is dead."""
    runner = DirectSweep(asked, settings=settings)
    runner.check()
    sweep = TrackedRun.start(settings, experiment=asked.experiment, kind="sweep", parameters=asked.flat())
    study = Studies(settings).begin(asked, data=runner._fingerprint, sweep=sweep.run_id)
    sweep.leave()
    make_dead(settings, sweep.run_id)
    return study


def make_dead(settings: Settings, run_id: str) -> None:
    """As if the process of a run had been killed."""
    records = records_of(settings)
    gone = replace(ProcessIdentity.current(), pid=2**22 - 1)
    assert records.take_over(records.get(run_id), gone)


def leave_run(settings: Settings, study: Study, asked: SweepScenario, point: dict[str, Any], **ends: Any) -> str:
    """A trial that was claimed and whose run was begun by a process that is dead now."""
    with study.lock():
        row = study.ask(point, sweep=study.parent)
    what = trial_plan(asked, row.number, row.point, parent=study.parent, sweep=study.parent)
    run = TrackedRun.start(settings, experiment=asked.experiment, kind="train", parameters=what.parameters)
    with study.lock():
        study.enter(what.trial, run.run_id)
    if ends:
        run.finish(**ends)
    else:
        run.leave()
        make_dead(settings, run.run_id)
    return run.run_id


def test_each_point_of_a_grid_is_a_run_below_one_parent(settings: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__space=GRID, sweep__sampler="grid")
    result = DirectSweep(asked, settings=settings).run()
    assert [trial["state"] for trial in result.trials] == [TrialState.FINISHED] * 4
    assert [trial["point"] for trial in result.trials] == [{"run.options.lr0": lr0} for lr0 in GRID["run.options.lr0"]]
    assert result.best["number"] == 2
    assert result.verdict.startswith("Trial 2 is best: mAP50 0.900 with run.options.lr0 = 0.01. 4 trials: 4 finished")
    assert result.metrics["map50"] == pytest.approx(0.9)
    runs = trainings(settings)
    assert {run.run_id for run in runs} == {trial["run_id"] for trial in result.trials}
    assert {run.status for run in runs} == {RunStatus.FINISHED}
    from mlflow import MlflowClient

    tags = MlflowClient(settings.mlflow_tracking_uri).get_run(result.best["run_id"]).data.tags
    assert tags["mlflow.parentRunId"] == result.run_id == result.parent
    assert (tags["guardianflow.study"], tags["guardianflow.trial"]) == ("시험 sweep", "2")
    kept = json.loads((records_of(settings).get(result.run_id).folder / "result.json").read_text(encoding="utf-8"))
    assert kept["best"]["number"] == 2


def test_a_sweep_that_was_stopped_goes_on_below_the_same_parent(settings: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=5)
    first = DirectSweep(asked, settings=settings)
    first.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        first.run()
    rows = Studies(settings).get(asked.study).rows()
    assert [row.state for row in rows] == [TrialState.FINISHED, TrialState.FINISHED, TrialState.RUNNING]
    second = DirectSweep(asked, settings=settings)
    result = second.run()
    assert [trial["state"] for trial in result.trials] == [TrialState.FINISHED] * 5
    assert [item.trial.number for item in second.pool.plans] == [2, 3, 4]
    assert len(trainings(settings)) == 5
    assert [trial["point"] for trial in result.trials] == list(asked.known_points())
    assert result.parent == second.pool.plans[0].trial.parent != result.run_id
    more = DirectSweep(sweep_of(tiny_data, sweep__trials=6), settings=settings).run()
    assert len(more.trials) == 6
    assert len(trainings(settings)) == 6


def test_what_dead_processes_left_is_taken_up_once(settings: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=6)
    points = [dict(point) for point in asked.known_points()]
    study = begun(settings, asked)
    with study.lock():
        study.ask(points[0], sweep=study.parent)  # claimed, and no run yet
    before_an_epoch = leave_run(settings, study, asked, points[1])
    with_an_epoch = leave_run(settings, study, asked, points[2])
    weights = records_of(settings).get(with_an_epoch).folder / "training" / "weights" / "last.pt"
    weights.parent.mkdir(parents=True)
    weights.write_text("2")
    killed = leave_run(settings, study, asked, points[3], status=RunStatus.KILLED, reason="ended by SIGTERM")
    failed = leave_run(settings, study, asked, points[4], status=RunStatus.FAILED, reason="the loss is no number")
    finished = leave_run(settings, study, asked, points[5], status=RunStatus.FINISHED)
    study.keep_outcome(5, {"metrics": {"map50": 0.25}, "pruned": False, "epochs": 3})
    sweep = DirectSweep(asked, settings=settings)
    result = sweep.run()
    states = [trial["state"] for trial in result.trials]
    assert states == [TrialState.FINISHED] * 4 + [TrialState.FAILED, TrialState.FINISHED]
    runs = [trial["run_id"] for trial in result.trials]
    assert runs[2] == with_an_epoch  # the same run went on
    assert runs[4:] == [failed, finished]
    assert runs[1] != before_an_epoch
    assert runs[3] != killed
    assert result.trials[5]["value"] == 0.25
    assert result.trials[4]["reason"] == "the loss is no number"
    statuses = {run.run_id: run.status for run in trainings(settings)}
    assert statuses[before_an_epoch] == RunStatus.FAILED
    assert sorted(statuses.values()).count(RunStatus.FINISHED) == 5
    assert RunStatus.RUNNING not in statuses.values()


def test_a_process_that_died_between_two_steps_of_asking_leaves_no_hole(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=3)
    points = [dict(point) for point in asked.known_points()]
    study = begun(embedded, asked)
    study._study.enqueue_trial({"run.options.lr0": points[0]["run.options.lr0"]})  # died before it was asked
    result = DirectSweep(asked, settings=embedded).run()
    assert [trial["point"] for trial in result.trials] == points
    other = sweep_of(tiny_data, sweep__trials=3, experiment="another", sweep__sampler="tpe")
    study = begun(embedded, other)
    study._study.ask()  # died before it was claimed, without a value
    result = DirectSweep(other, settings=embedded).run()
    assert [trial["state"] for trial in result.trials] == [TrialState.FINISHED] * 3
    assert all(trial["point"] for trial in result.trials)


def test_a_trial_that_another_living_sweep_executes_is_left_alone(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=2)
    study = begun(embedded, asked)
    first, _ = (dict(point) for point in asked.known_points())
    other = TrackedRun.start(embedded, experiment="x", kind="sweep", parameters={})
    with study.lock():
        row = study.ask(first, sweep=other.run_id)
    found: list[Any] = []
    sweep = DirectSweep(asked, settings=embedded)
    thread = threading.Thread(target=lambda: found.append(sweep.run()))
    thread.start()
    deadline = time.monotonic() + 60
    while not any(item.ended for item in study.rows()) and time.monotonic() < deadline:
        time.sleep(0.05)
    what = trial_plan(asked, row.number, row.point, parent=study.parent, sweep=other.run_id)
    LocalExecutor(embedded, direct=True).execute(what)  # the other one's run finishes, and nobody tells of it
    thread.join(60)
    assert [item.trial.number for item in sweep.pool.plans] == [1]
    assert [trial["state"] for trial in found[0].trials] == [TrialState.FINISHED] * 2
    assert len(trainings(embedded)) == 2
    other.finish()


def test_a_run_whose_trial_was_taken_over_meanwhile_is_not_executed(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=1)
    study = begun(embedded, asked)
    with study.lock():
        row = study.ask(next(asked.known_points()), sweep=study.parent)
    late = trial_plan(asked, row.number, row.point, parent=study.parent, sweep=study.parent)
    DirectSweep(asked, settings=embedded).run()
    with pytest.raises(RunFailedError, match=r"trial 0 of study '시험 sweep' has finished; this run is not needed"):
        LocalExecutor(embedded, direct=True).execute(late)
    assert len([run for run in trainings(embedded) if run.status == RunStatus.FINISHED]) == 1


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_hopeless_trials_end_early_and_their_runs_are_finished(
    embedded: Settings, tiny_data: Path, pruner: str
) -> None:
    asked = sweep_of(tiny_data, sweep__trials=7, sweep__pruner=pruner, run__epochs=9)
    result = DirectSweep(asked, settings=embedded).run()
    pruned = [trial for trial in result.trials if trial["state"] == TrialState.PRUNED]
    assert pruned
    assert all(trial["epochs"] < 9 for trial in pruned)
    assert all(trial["value"] < result.best["value"] for trial in pruned)
    assert {run.status for run in trainings(embedded)} == {RunStatus.FINISHED}
    done = sum(trial["epochs"] for trial in result.trials)
    assert f"{done} of 63 epochs were trained." in result.verdict


def test_tpe_asks_alike_whoever_asks(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=13, sweep__sampler="tpe", run__epochs=1)
    result = DirectSweep(asked, settings=embedded).run()
    known = [point["run.options.lr0"] for point in asked.known_points()]
    tried = [trial["point"]["run.options.lr0"] for trial in result.trials]
    assert tried[:10] == known
    assert len({*tried}) == 13
    in_two = sweep_of(tiny_data, sweep__trials=13, sweep__sampler="tpe", run__epochs=1, experiment="in two")
    first = DirectSweep(in_two, settings=embedded)
    first.stop_after = 11
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = DirectSweep(in_two, settings=embedded).run()
    assert [trial["point"]["run.options.lr0"] for trial in again.trials] == tried


def test_values_of_every_kind_reach_the_training_as_they_are(embedded: Settings, tiny_data: Path) -> None:
    space = {
        "run.options.freeze": [[0], [0, 1], 2],
        "run.options.cos_lr": [True, False],
        "run.options.optimizer": ["SGD", "AdamW"],
        "run.batch": {"low": 2, "high": 9, "step": 3},
        "run.options.lrf": {"low": 0.1, "high": 0.45, "step": 0.1},
        "run.epochs": {"low": 1, "high": 4, "log": True},
    }
    asked = sweep_of(tiny_data, sweep__space=space, sweep__trials=12, sweep__sampler="tpe")
    result = DirectSweep(asked, settings=embedded).run()
    assert {trial["state"] for trial in result.trials} == {TrialState.FINISHED}
    by_run = {run.run_id: run.parameters for run in trainings(embedded)}
    for trial in result.trials:
        parameters, point = by_run[trial["run_id"]], trial["point"]
        assert parameters["options"] == {
            name: point[f"run.options.{name}"] for name in ("freeze", "cos_lr", "optimizer", "lrf")
        }
        assert (parameters["batch"], parameters["epochs"]) == (point["run.batch"], point["run.epochs"])
        assert point["run.batch"] in (2, 5, 8)
        assert point["run.options.lrf"] in (0.1, 0.2, 0.3, 0.4)


def test_trials_that_all_fail_alike_end_the_sweep_and_are_tried_again_later(
    embedded: Settings, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = tmp_path / "mended"
    monkeypatch.setenv("FAKE_MENDED", str(mended))
    asked = sweep_of(tiny_data, sweep__trials=5)
    with pytest.raises(RunFailedError, match=r"the first 3 trials all failed: .*the loss is no number"):
        DirectSweep(asked, settings=embedded).run()
    assert len(trainings(embedded)) == 3
    mended.touch()
    result = DirectSweep(asked, settings=embedded).run()
    assert [trial["state"] for trial in result.trials] == [TrialState.FINISHED] * 5
    assert [trial["again_of"] for trial in result.trials] == [0, 1, 2, None, None]
    assert sorted(trial["point"]["run.options.lr0"] for trial in result.trials) == sorted(
        point["run.options.lr0"] for point in asked.known_points()
    )


def test_what_breaks_a_requirement_is_not_the_best(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(
        tiny_data, sweep__space=GRID, sweep__sampler="grid", task={"requirements": ["map50 <= 0.7", "recall >= 0.1"]}
    )
    result = DirectSweep(asked, settings=embedded).run()
    assert result.best["number"] in (1, 3)
    from guardianflow.execution.study_storage import open_storage

    storage = open_storage(embedded)
    kept = storage.get_all_trials(storage.get_study_id_from_name(asked.study))
    assert kept[2].constraints["map50 <= 0.7"] == pytest.approx(0.2)
    none = sweep_of(
        tiny_data, sweep__space=GRID, sweep__sampler="grid", experiment="none", task={"requirements": ["map50 > 0.95"]},
        run__register_as="gate",
    )  # fmt: skip
    result = DirectSweep(none, settings=embedded).run()
    assert result.best == {}
    assert "No trial meets all requirements: trial 2 has the highest mAP50, 0.900, but" in result.verdict
    assert "'gate' was not registered: no trial may be called the best" in result.remarks


def test_a_study_of_another_design_is_refused_and_the_field_named(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=1)
    DirectSweep(asked, settings=embedded).run()
    for changes, said in (
        ({"run__epochs": 4}, "run.epochs was 3, here it is 4"),
        ({"sweep__metric": "recall"}, "sweep.metric was map50, here it is recall"),
        ({"sweep__space": {"run.options.lr0": {"low": 0.001, "high": 1.0, "log": True}}}, r"lr0.low was 0.0001"),
        ({"sweep__space": {"run.options.lrf": [0.1, 0.2]}}, "here it is"),
        ({"task": {"requirements": ["map50 > 0.5"]}}, "task.requirements was"),
        ({"run__options": {"mosaic": 0.0}}, "run.options.mosaic was not set, here it is 0.0"),
    ):
        other = sweep_of(tiny_data, **{"sweep__trials": 1, **changes})
        with pytest.raises(InputError, match=said):
            DirectSweep(other, settings=embedded).check()
    with pytest.raises(InputError, match=r"the fingerprint of dataset\.data_yaml was"):
        Studies(embedded).require_same_design(asked, "f" * 64)
    free = sweep_of(tiny_data, sweep__trials=1, sweep__at_once=2, site={"name": "Gate"}, run__register_as="gate")
    DirectSweep(free, settings=embedded).check()


def test_values_that_no_training_takes_are_refused_before_anything_runs(embedded: Settings, tiny_data: Path) -> None:
    for space, said in (
        ({"run.options.nosuch": [1, 2]}, "nosuch"),
        ({"run.options.lr0": {"low": 0.1, "high": "x"}}, "high"),
        ({"run.options.hsv_h": {"low": 0.1, "high": 5.0}}, "hsv_h"),
        ({"run.options.hsv_h": [0.1, 5.0, 0.2]}, "hsv_h"),
        ({"run.options.optimizer": ["SGD", "Sgdd"]}, "Sgdd"),
        ({"model.architecture": ["yolo11n.yaml", "yolo99x.yaml"]}, "yolo99x"),
        ({"env.device": ["cpu", "cuda:77"]}, "77"),
    ):
        with pytest.raises((InputError, ValueError), match=said):
            SweepRunner(sweep_of(tiny_data, sweep__space=space), settings=embedded).check()
    assert records_of(embedded).list() == []
    assert Studies(embedded).names() == []


def test_an_estimate_is_made_of_runs_that_are_alike(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__trials=4, sweep__at_once=2)
    nothing = estimate(plan(asked), embedded)
    assert nothing.sentence() == "nothing like it finished here before, so how long it takes isn't known"
    outcome = LocalExecutor(embedded, direct=True).execute(RunPlan(asked.at(next(asked.known_points()))))
    record = records_of(embedded).get(outcome.run_id)
    took = (record.ended - record.started).total_seconds()
    found = SweepRunner(asked, settings=embedded).estimate()
    assert found.seconds == pytest.approx(took * 4 / 2, abs=0.06)
    assert (found.based_on, found.unlike) == (1, 0)
    longer = estimate([*plan(asked), RunPlan(sweep_of(tiny_data, run__epochs=9).at({}))], embedded)
    assert (longer.plans, longer.unlike) == (5, 1)
    assert "1 of 5 are like none of them" in longer.sentence()


def test_studies_that_can_not_be_read_are_an_error_of_ours(embedded: Settings) -> None:
    file = embedded.work_dir / "studies.db"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"studies\.db can't be read \(file is not a database\)"):
        Studies(embedded)
    file.unlink()
    with pytest.raises(NotFoundError, match="there is no study 'x' here; known: none yet; `guardianflow sweep FILE`"):
        Studies(embedded).get("x")


def test_a_work_folder_of_any_name_holds_studies(mlflow_sqlite_template: Path, tmp_path: Path, tiny_data: Path) -> None:
    import shutil

    work_dir = tmp_path / "작업 {run} %s #1 100%"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    settings = Settings(work_dir=work_dir)
    DirectSweep(sweep_of(tiny_data, sweep__trials=1), settings=settings).run()
    assert (work_dir / "studies.db").is_file()
    assert list(tmp_path.rglob("studies.db")) == [work_dir / "studies.db"]


def test_studies_and_mlflow_share_a_postgresql_database(
    postgres_server: Any, mlflow_postgres_template: str, tmp_path: Path, tiny_data: Path
) -> None:
    name = postgres_server.create(template=mlflow_postgres_template)
    url = postgres_server.url(name)
    settings = Settings(work_dir=tmp_path, database_url=url, mlflow_tracking_uri=url)
    result = DirectSweep(sweep_of(tiny_data, sweep__trials=2), settings=settings).run()
    assert len(result.trials) == 2
    with Database.open(url).read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT table_schema FROM information_schema.tables WHERE table_name = 'alembic_version' ORDER BY 1"
        ).fetchall()
    assert [schema for (schema,) in rows] == ["guardianflow_studies", "public"]


def test_the_command_line_shows_plans_studies_and_trials(
    embedded: Settings, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(embedded.work_dir))
    asked = sweep_of(tiny_data, sweep__trials=12, sweep__sampler="tpe")
    file = tmp_path / "sweep.yaml"
    file.write_text(to_yaml(asked), encoding="utf-8")

    def call(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    shown = call("sweep", str(file), "--dry-run")
    assert (shown["trials"], len(shown["points"]), shown["chosen_later"]) == (12, 10, 2)
    assert shown["estimate"]["seconds"] is None
    assert records_of(embedded).list() == []  # nothing has run
    text = CliRunner().invoke(app, ["sweep", str(file), "--dry-run"])
    assert "2 more, which TPE chooses by the results" in text.stdout
    assert "nothing like it finished here before" in text.stderr
    assert call("study", "list") == {"studies": []}
    DirectSweep(sweep_of(tiny_data, sweep__trials=2, sweep__sampler="tpe"), settings=embedded).run()
    (line,) = call("study", "list")["studies"]
    assert (line["study"], line["trials"], line["finished"], line["metric"]) == ("시험 sweep", 2, 2, "map50")
    shown = call("sweep", str(file), "--dry-run")
    assert shown["ended"] == 2
    assert shown["estimate"]["seconds"] > 0
    found = call("study", "show", "시험 sweep")
    assert [row["number"] for row in found["rows"]] == [0, 1]
    assert found["best"] == line["best"]
    table = CliRunner().invoke(app, ["study", "show", "시험 sweep"])
    assert "kind: sweep" in table.stdout
    none = CliRunner().invoke(app, ["study", "show", "시험"])
    assert none.exit_code == 2
    assert "there is no study '시험' here; known: 시험 sweep" in none.stderr
    other = CliRunner().invoke(app, ["sweep", str(file), "--dry-run", "--set", "run.epochs=7"])
    assert other.exit_code == 2
    assert "another design: run.epochs was 3, here it is 7; put it back, or begin another study" in other.stderr
    assert CliRunner().invoke(app, ["sweep", str(file), "--dry-run", "--set", "sweep.study=b"]).exit_code == 0


def test_the_best_of_real_trainings_is_registered_once(embedded: Settings, tiny_data: Path) -> None:
    fake = KINDS.get("train")
    KINDS.register("train", TRAIN, replace=True)
    try:
        asked = sweep_of(
            tiny_data, sweep__space={"run.options.lr0": [0.001, 0.01]}, sweep__sampler="grid", run__epochs=1,
            run__batch=8, run__options={"plots": False}, run__register_as="gate model",
        )  # fmt: skip
        result = DirectSweep(asked, settings=embedded).run()
        assert result.model == "models:/gate model/1"
        assert result.best["epochs"] == 1
        again = DirectSweep(asked, settings=embedded).run()
        assert again.model == result.model
    finally:
        KINDS.register("train", fake, replace=True)
    (version,) = ModelRegistry(embedded).list_versions("gate model")
    assert version.run_id == result.best["run_id"]
    assert "candidate" in version.aliases
    assert version.metrics["map50"] == result.best["metrics"]["map50"]


def test_trials_that_are_all_alike_have_no_best_and_no_field_that_matters(embedded: Settings, tiny_data: Path) -> None:
    asked = sweep_of(tiny_data, sweep__space={"run.batch": [2, 4, 8]}, sweep__sampler="grid")  # as good with each
    result = DirectSweep(asked, settings=embedded).run()
    assert result.verdict.startswith("No trial is better than another: mAP50 is 0.900 in all 3 that finished.")
    assert result.importance == {}
    assert "Too few trials differ" in result.plot_importance().layout.annotations[0].text
