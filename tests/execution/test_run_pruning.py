"""`guardianflow runs prune`: what nothing needs goes, what tells of a run stays, and nothing else is ever touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.recommendations import Recommendations, State
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.ledger import Change, Ledger
from guardianflow.registry.model_records import ModelVersion
from guardianflow.runs.mlflow_runs import OWNER_TAG, MlflowRuns
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords, RunStatus, files_lock
from guardianflow.scenario.experiment_design import SweepScenario, Trial
from guardianflow.state.database import Database
from guardianflow.state.tables import run_records
from guardianflow.vision.serving import Serving
from tests.registry.registry_world import admits, loads
from tests.services.mlflow_server import MlflowServer
from tests.trainings import folder_digest

KEPT = ("train.ipynb", "train.html", "scenario.yaml", "result.json", "history.json", "epochs.jsonl", "training.log")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_sqlite_template: Path) -> Settings:
    """An empty work folder whose MLflow database has its schema; the command line finds it too."""
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    work_dir = tmp_path / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(work_dir))
    monkeypatch.chdir(tmp_path)
    return Settings()


class Runs:
    """Runs as trainings leave them, without the training: a record, a folder, artifacts in MLflow."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records = RunRecords(Database.open(settings.database_url))
        self.mlflow = MlflowRuns(settings)

    def make(
        self, kind: str = "train", *, status: str = RunStatus.FINISHED, parameters: Mapping[str, Any] | None = None,
        experiment: str = "현장 site", ended: datetime | None = None,
    ) -> RunRecord:  # fmt: skip
        owner, now = ProcessIdentity.current(), datetime.now(UTC)
        run_id = self.mlflow.create(experiment, None, {OWNER_TAG: json.dumps(vars(owner))})
        record = RunRecord(
            run_id=run_id, tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri), experiment=experiment,
            kind=kind, status=status, reason=None, parameters=parameters or {}, template=kind,
            folder=self.settings.runs_dir / experiment / run_id, actor="kim", again_of=None, owner=owner,
            heartbeat=ended or now, started=now, ended=None if status == RunStatus.RUNNING else ended or now,
        )  # fmt: skip
        self.records.add(record)
        for name in KEPT:
            write(record.folder / name.replace("train.", f"{kind}."), 10)
        for place in self.large(record):
            write(place, 1000)
        write(self.artifacts(record) / "notebook" / f"{kind}.html", 10)
        return record

    def artifacts(self, record: RunRecord) -> Path:
        return self.settings.work_dir / "artifacts" / record.experiment / record.run_id / "artifacts"

    def large(self, record: RunRecord) -> list[Path]:
        """What goes: 1000 bytes each."""
        ours = {
            "train": ("training/weights/best.pt", "training/weights/last.pt", "training/results.png", "evaluation/p"),
            "infer": ("cells/01/evaluation/predictions.parquet",),
            "quantize": ("model/best_int8/model.bin", "cells/plain/result.json", "speeds/plain/cell.json"),
        }
        theirs = {
            "train": ("weights/best.pt", "curves/results.png", "samples/val.jpg", "evaluation/p"),
            "cell": ("evaluation/predictions.parquet", "latencies/l.npy"),
            "quantize": ("model/best_int8/model.bin", "evaluation/quantized/p"),
        }
        return [record.folder / name for name in ours.get(record.kind, ())] + [
            self.artifacts(record) / name for name in theirs.get(record.kind, ())
        ]

    def whole(self, record: RunRecord) -> bool:
        return all(place.is_file() for place in self.large(record))

    def gone(self, record: RunRecord) -> bool:
        """Whether all that is large went, and only that."""
        kept = [record.folder / name.replace("train.", f"{record.kind}.") for name in KEPT]
        kept.append(self.artifacts(record) / "notebook" / f"{record.kind}.html")
        return not any(place.parent.exists() for place in self.large(record)) and all(map(Path.is_file, kept))


@pytest.fixture
def runs(settings: Settings) -> Runs:
    return Runs(settings)


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode()[:1] * size)


def prune(*words: str, code: int = 0) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["runs", "prune", "--json", *words])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def say(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def register(settings: Settings, run: RunRecord, **options: Any) -> ModelVersion:
    registry = ModelRegistry(settings, gate="off", admission=admits, preflight=loads)
    return registry.register("detector", run.run_id, **options)


def evaluation(settings: Settings, run: RunRecord, sha256: str, folder: Path) -> None:
    Evaluations(settings).record(
        EvaluationRow(
            sha256=sha256, dataset_fingerprint="f" * 64, split="val", images=9, images_sha256="1" * 64,
            backend="torch", precision="fp32", imgsz=64, device="CPU", machine={}, protocol={}, run_id=run.run_id,
            folder=folder, artifact="evaluation", record_sha256="2" * 64, metrics={}, time=datetime.now(UTC),
        )
    )  # fmt: skip


# --- what goes and what is said of it ----------------------------------------------------------------


def test_a_dry_run_shows_what_would_go_and_touches_nothing(settings: Settings, runs: Runs) -> None:
    record, _, _ = runs.make(), runs.make("infer"), runs.make("quantize")
    before = folder_digest(settings.runs_dir), folder_digest(settings.work_dir / "artifacts")
    said = say("runs", "prune")
    assert (folder_digest(settings.runs_dir), folder_digest(settings.work_dir / "artifacts")) == before
    assert runs.records.get(record.run_id).pruned is None
    assert "train weights 1 2.0 kB 1.0 kB" in said
    assert "train training folder 1 1.0 kB 2.0 kB" in said
    assert "infer cells of benchmarks 1 1.0 kB" in said
    assert "guardianflow runs prune --yes` removes 14.0 kB of 3 runs" in said


def test_the_large_files_go_and_what_tells_of_the_run_stays(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", database_url)
    runs = Runs(Settings())
    made = [runs.make(kind) for kind in ("train", "infer", "cell", "quantize")]
    wrapped = runs.make("wrap")
    write(wrapped.folder / "training" / "weights" / "best.pt", 1000)

    done = prune("--yes")
    assert {run["run_id"] for run in done["runs"]} == {record.run_id for record in made}
    assert done["size_bytes"] == sum(1000 * len(runs.large(record)) for record in made)
    for record in made:
        assert runs.gone(record), record.kind
        assert json.loads(say("runs", "show", record.run_id, "--json"))["pruned"]
        assert "guardianflow.pruned" in runs.mlflow._client.get_run(record.run_id).data.tags
    assert (wrapped.folder / "training" / "weights" / "best.pt").is_file(), "a wrapped script's files are its own"
    assert say("list", "runs", "--cells").count("files pruned") == 4

    again = prune("--yes")
    assert (again["runs"], again["size_bytes"]) == ([], 0)


def test_a_pruned_run_says_so_whatever_is_asked_of_it(settings: Settings, runs: Runs) -> None:
    asked = {"experiment_name": "site", "model_arch": "yolo11n.yaml", "data_yaml": "data.yaml"}
    finished, killed = runs.make(), runs.make(status=RunStatus.KILLED, ended=LONG_AGO, parameters=asked)
    prune("--yes")
    for words in (
        ("register", "detector", "--run", finished.run_id),
        ("infer", "--model", finished.run_id, "--data", "data.yaml"),
        ("quant", "--source", finished.run_id),
        ("compare", finished.run_id, killed.run_id),
        ("train", "--resume", killed.run_id),
    ):
        said = say(*words, code=2)
        assert "were removed on" in said, said
        assert f"guardianflow run --again {(killed if '--resume' in words else finished).run_id}" in said


# --- what stays, and why ------------------------------------------------------------------------------


def test_what_something_needs_stays_and_is_counted(settings: Settings, runs: Runs) -> None:
    free = runs.make()
    needed: dict[str, list[RunRecord]] = {}

    version, parent, foreign = runs.make(), runs.make(), runs.make()
    register(settings, version, serving=Serving(parent_run=parent.run_id))
    client = runs.mlflow._client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", f"runs:/{foreign.run_id}/weights")  # by another program, without its run
    needed["a registered version, or what one was made from"] = [version, parent, foreign]

    registered = ModelRegistry(settings).list_versions("detector")[0]
    infer, cell = runs.make("infer"), runs.make("cell")
    evaluation(settings, cell, registered.sha256, infer.folder / "cells" / "01" / "evaluation")
    needed["an evaluation that the gate may need"] = [infer, cell]

    killed = runs.make(status=RunStatus.KILLED)
    needed["interrupted in the last 14 days; it can be resumed"] = [killed]
    source, weights = runs.make(), runs.make()
    working = runs.make("quantize", status=RunStatus.RUNNING, parameters={"source_run_id": source.run_id[:12]})
    path = str(weights.folder / "training" / "weights" / "best.pt")
    tuned = runs.make(status=RunStatus.FAILED, parameters={"model_arch": path})
    needed["interrupted in the last 14 days; it can be resumed"].append(tuned)
    needed["still running (`guardianflow runs reap` ends those whose process died)"] = [working]
    needed["used by a run that is running, or that can be resumed"] = [source, weights]

    advised, past = runs.make(), runs.make()
    recommendations = Recommendations(Database.open(settings.database_url))
    for number, record in enumerate((advised, past)):
        facts = {"trained_run": record.run_id}
        common = {"action": "retrain", "model": "detector", "created": LONG_AGO, "cost": {}, "scenario": {}}
        recommendations.add(alert_id=number, facts=facts, **common)
    recommendations.move(2, of=[State.OPEN], state=State.DISMISSED)
    needed["named by an open recommendation"] = [advised]

    late = runs.make()
    write(late.folder / "undelivered.jsonl", 10)
    needed["MLflow still lacks records of it (`guardianflow runs reap` sends them)"] = [late]
    other = runs.make()
    with Database.open(settings.database_url).write() as connection:
        change = run_records.update().where(run_records.c.run_id == other.run_id)
        connection.execute(change.values(tracking_uri="http://elsewhere:5000"))
    needed["tracked by another MLflow, whose versions can't be seen from here"] = [other]

    done = prune("--yes")
    assert done["kept"] == {why: len(kept) for why, kept in needed.items()}
    assert {run["run_id"] for run in done["runs"]} == {free.run_id, past.run_id}
    assert all(runs.whole(record) for kept in needed.values() for record in kept)
    assert runs.gone(free)


def test_an_evaluation_of_weights_that_stay_stays_and_one_of_those_that_go_leaves_the_index(
    settings: Settings, runs: Runs
) -> None:
    """Weights that can still be registered keep what the gate would ask for then."""
    going, killed = runs.make(), runs.make(status=RunStatus.KILLED)
    measured = {record.run_id: runs.make("infer") for record in (going, killed)}
    for record, letter in ((going, "a"), (killed, "b")):
        evaluation(settings, record, letter * 64, record.folder / "evaluation")
        infer = measured[record.run_id]
        evaluation(settings, infer, letter * 64, infer.folder / "cells" / "01" / "evaluation")
    done = prune("--yes")
    assert {run["run_id"] for run in done["runs"]} == {going.run_id, measured[going.run_id].run_id}
    assert {row.run_id for row in Evaluations(settings).find()} == {killed.run_id, measured[killed.run_id].run_id}


def test_of_a_study_the_best_trial_stays_and_those_that_it_waits_for(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardianflow.execution.studies import Studies

    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", database_url)
    settings = Settings()
    runs = Runs(settings)
    asked = {
        "experiment": "sweep", "model": {"architecture": "yolo11n.yaml"}, "dataset": {"data_yaml": "data.yaml"},
        "task": {"requirements": ["recall >= 0.5"]},
        "sweep": {"space": {"run.batch": [1, 2, 4, 8, 16]}, "sampler": "grid", "metric": "map50"},
    }  # fmt: skip
    scenario = SweepScenario.model_validate(asked)
    study = Studies(settings).begin(scenario, data="d" * 64, sweep="s" * 32)
    figures = {"worse": (0.4, 0.9), "best": (0.7, 0.9), "blind": (0.9, 0.1), "untold": None, "failed": None}
    made = {}
    for (name, figure), point in zip(figures.items(), scenario.known_points(), strict=True):
        made[name] = runs.make()
        row = study.ask(point, sweep="s" * 32)
        study.enter(Trial(study.name, row.number, sweep="s" * 32), made[name].run_id)
        if figure:
            study.keep_outcome(row.number, {"metrics": dict(zip(("map50", "recall"), figure, strict=True))})
            study.tell(study.row(row.number))
        elif name == "failed":
            study.fail(row.number, "it broke")
    done = prune("--yes")
    assert done["kept"] == {"the best trial of a study, or one whose study goes on": 2}
    assert {name for name, record in made.items() if runs.whole(record)} == {"best", "untold"}
    assert {name for name, record in made.items() if runs.gone(record)} == {"worse", "blind", "failed"}


def test_days_say_how_long_an_interrupted_run_is_kept(runs: Runs) -> None:
    week_old = runs.make(status=RunStatus.KILLED, ended=datetime.now(UTC) - timedelta(days=7))
    benchmark = runs.make("infer", status=RunStatus.KILLED)
    assert [run["run_id"] for run in prune()["runs"]] == [benchmark.run_id], "a benchmark can't be resumed"
    assert {run["run_id"] for run in prune("--days", "6.5")["runs"]} == {week_old.run_id, benchmark.run_id}
    assert "days" in say("runs", "prune", "--days", "-1", code=2)


def test_a_version_that_was_deleted_needs_nothing(settings: Settings, runs: Runs) -> None:
    first, second = runs.make(), runs.make()
    write(runs.artifacts(first) / "weights" / "best.pt", 999)
    register(settings, first)
    register(settings, second)
    ModelRegistry(settings).delete("detector", 1)
    assert [run["run_id"] for run in prune("--yes")["runs"]] == [first.run_id]
    assert runs.whole(second)


def test_nothing_goes_while_mlflow_can_not_be_asked_for_versions(
    settings: Settings, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = runs.make()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "error" in prune("--yes", code=2)
    assert runs.whole(record)


# --- nothing else is touched --------------------------------------------------------------------------


def test_links_are_not_followed_and_nothing_outside_of_the_runs_folder_goes(
    settings: Settings, runs: Runs, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    write(mine / "weights" / "best.pt", 1000)
    write(mine / "weights" / "deep" / "photo.jpg", 1000)
    before = folder_digest(mine)

    inside, whole_folder, elsewhere, odd = (runs.make() for _ in range(4))
    shutil.rmtree(inside.folder / "training")
    (inside.folder / "training").symlink_to(mine)  # a part is a link
    (inside.folder / "evaluation" / "link").symlink_to(mine)  # a link in what goes
    (inside.folder / "evaluation" / "file").symlink_to(mine / "weights" / "best.pt")
    shutil.rmtree(runs.artifacts(inside) / "weights")
    (runs.artifacts(inside) / "weights").symlink_to(mine / "weights")
    shutil.copytree(whole_folder.folder, tmp_path / "moved")
    shutil.rmtree(whole_folder.folder)
    whole_folder.folder.symlink_to(tmp_path / "moved")  # the run's folder is a link
    for record, folder in ((elsewhere, mine / elsewhere.run_id), (odd, settings.runs_dir / ".." / "runs" / "x")):
        with Database.open(settings.database_url).write() as connection:
            change = run_records.update().where(run_records.c.run_id == record.run_id)
            connection.execute(change.values(folder=str(folder)))

    done = prune("--yes")
    assert folder_digest(mine) == before
    assert done["kept"] == {"its folder lies outside of the runs folder, or behind a link": 3}
    assert [run["run_id"] for run in done["runs"]] == [inside.run_id]
    assert not (inside.folder / "evaluation").exists()
    assert (inside.folder / "training").is_symlink()
    assert (tmp_path / "moved" / "training" / "weights" / "best.pt").is_file()
    assert runs.whole(elsewhere)
    assert runs.whole(odd)


def test_a_folder_that_can_not_be_removed_is_named_and_goes_another_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, whom no rights keep from removing, so the refusal is made up."""
    record, other = runs.make(), runs.make()
    really = shutil.rmtree

    def refuse(path: Path, *args: Any) -> None:
        if record.run_id in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        really(path, *args)

    with monkeypatch.context() as context:
        context.setattr("guardianflow.files.removal.shutil.rmtree", refuse)
        done = prune("--yes")
    assert [run["run_id"] for run in done["runs"]] == [other.run_id]
    assert f"the files of run {record.run_id} can't all be removed ([Errno 13] Permission denied" in done["remarks"][0]
    assert [run["run_id"] for run in prune("--yes")["runs"]] == [record.run_id]
    assert runs.gone(record)


def test_artifacts_of_a_run_that_we_did_not_make_stay(runs: Runs) -> None:
    record = runs.make()
    runs.mlflow._client.delete_tag(record.run_id, OWNER_TAG)
    done = prune("--yes")
    assert (runs.artifacts(record) / "weights" / "best.pt").is_file()
    assert not (record.folder / "training").exists()
    assert "GuardianFlow's to remove" in done["remarks"][0]


def test_artifacts_behind_a_server_are_removed_through_it(
    settings: Settings, tmp_path: Path, mlflow_sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MlflowServer(tmp_path / "server", mlflow_sqlite_template)
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        runs = Runs(Settings())
        record = runs.make()
        for name in ("weights", "notebook"):
            runs.mlflow._client.log_artifacts(record.run_id, str(runs.artifacts(record) / name), name)
        done = prune("--yes")
        assert done["runs"][0]["artifacts"] == {"weights": 1000}
        assert [item.path for item in runs.mlflow._client.list_artifacts(record.run_id)] == ["notebook"]
    finally:
        server.kill()


# --- killed, and several at once ------------------------------------------------------------------------


def start_prune() -> subprocess.Popen[str]:
    words = [str(Path(sys.executable).with_name("guardianflow")), "runs", "prune", "--yes", "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for(what: Any, *, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.timeout(600)
def test_killed_in_the_middle_and_started_again_twice_at_once_each_run_goes_once(
    settings: Settings, runs: Runs
) -> None:
    made = [runs.make() for _ in range(30)]
    needed = runs.make(status=RunStatus.KILLED)
    process = start_prune()
    wait_for(lambda: len(list(settings.runs_dir.glob("*/*/pruned.json"))) > 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = {record.run_id for record in made if not (record.folder / "pruned.json").exists()}
    assert left, "it was killed too late to show anything"

    both = [start_prune() for _ in range(2)]
    done = [json.loads(process.communicate()[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(run["run_id"] for document in done for run in document["runs"]) == sorted(left)
    assert all(runs.gone(record) for record in made)
    assert all(runs.records.get(record.run_id).pruned for record in made)
    assert runs.whole(needed)


def test_what_was_half_removed_is_gone_on_with(settings: Settings, runs: Runs) -> None:
    """As a kill leaves it between the mark and the last folder."""
    record = runs.make()
    assert runs.records.set_pruned(record)
    shutil.rmtree(record.folder / "training" / "weights")
    shutil.rmtree(runs.artifacts(record) / "weights")
    assert [run["run_id"] for run in prune("--yes")["runs"]] == [record.run_id]
    assert runs.gone(record)


@pytest.mark.timeout(600)
def test_a_run_that_becomes_a_version_meanwhile_stays(settings: Settings, runs: Runs) -> None:
    record = runs.make()
    other = runs.make()
    while files_lock(other.run_id) == files_lock(record.run_id):
        other = runs.make()
    database = Database.open(settings.database_url)
    with database.lock(files_lock(record.run_id)):  # as a registration holds it
        process = start_prune()
        wait_for((other.folder / "pruned.json").exists)  # it has looked at all, and comes to the other one
        ledger = Ledger(settings.database_url, clock=lambda: datetime.now(UTC))
        version = ModelVersion(
            name="detector", version="1", run_id=record.run_id, artifact="weights/best.pt", sha256="a" * 64,
            size_bytes=1, dataset_fingerprint=None, metrics={}, status="ready", created=LONG_AGO, created_by="kim",
            serving=Serving(),
        )  # fmt: skip
        ledger.move(
            "detector", "register", lambda state, _: Change("1", state.nominated("1"), None, (version,)), actor="kim"
        )
    done = json.loads(process.communicate()[0])
    assert record.run_id not in {run["run_id"] for run in done["runs"]}
    assert runs.whole(record)
    assert runs.records.get(record.run_id).pruned is None


def test_a_run_that_is_resumed_meanwhile_stays(runs: Runs) -> None:
    seen = runs.make(status=RunStatus.KILLED, ended=LONG_AGO)
    assert runs.records.take_over(seen, ProcessIdentity.current())
    assert not runs.records.set_pruned(seen)
    runs.records.finish(seen.run_id, RunStatus.KILLED, None)
    now = runs.records.get(seen.run_id)
    assert runs.records.set_pruned(now)
    assert not runs.records.set_pruned(now), "once"
    assert not runs.records.take_over(now, ProcessIdentity.current()), "and what is pruned isn't resumed"
