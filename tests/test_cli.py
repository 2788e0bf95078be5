"""The command line as users and programs meet it: tables, one JSON document, exit codes, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guardianflow.cli import VERBS, app, load_verb
from guardianflow.core.config import Settings
from guardianflow.runs.tracking import TrackedRun

MODEL = "게이트 detector"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real, untrained weights: a rollback runs one inference with them."""
    from guardianflow.vision._ultralytics import import_ultralytics

    path = tmp_path_factory.mktemp("weights") / "best.pt"
    import_ultralytics().YOLO("yolo11n.yaml").save(path)
    return path


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_sqlite_template: Path) -> Path:
    """An empty work folder whose MLflow database has its schema."""
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    work_dir = tmp_path / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(work_dir))
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "kim")
    monkeypatch.setenv("GUARDIANFLOW_GATE", "off")  # these models were never evaluated; see test_cli_gate.py
    monkeypatch.chdir(tmp_path)
    return work_dir


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stdout + result.stderr
    return result


def call_json(*words: str, code: int = 0) -> dict[str, object]:
    result = call(*words, "--json", code=code)
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def finished_run(weights: Path, map50: float) -> str:
    """A finished run with weights, as a training leaves one, without the training."""
    with TrackedRun.start(Settings(), experiment="gate", kind="train", parameters={"experiment_name": "gate"}) as run:
        run.log_metrics({"map50": map50, "map50_95": map50 / 2})
        run.log_artifact(weights, "weights")
    return run.run_id


def test_a_model_goes_through_its_life(workplace: Path, weights: Path) -> None:
    first, second = finished_run(weights, 0.5), finished_run(weights, 0.8)

    assert call_json("register", MODEL, "--run", first)["version"] == "1"
    assert call_json("promote", MODEL, "--reason", "the first")["aliases"] == ["champion"]
    assert call_json("register", MODEL, "--run", second[:10])["version"] == "2"
    assert call_json("promote", MODEL)["version"] == "2"
    assert call_json("rollback", MODEL, "--reason", "밤에 나쁨")["version"] == "1"
    assert call_json("promote", MODEL, "2", "--reason", "fixed the lens")["version"] == "2"

    ledger = call_json("history", MODEL)["history"]
    assert [event["action"] for event in ledger] == [
        "promote", "rollback", "promote", "register", "promote", "register",
    ]  # fmt: skip
    assert ledger[1]["reason"] == "밤에 나쁨"
    assert {event["actor"] for event in ledger} == {"kim"}
    [model] = call_json("list", "models")["models"]
    assert (model["champion"], model["rollback"], model["champion_map50"]) == ("2", "1", 0.8)
    versions = call_json("list", "versions", MODEL)["versions"]
    assert [(row["version"], row["aliases"]) for row in versions] == [("2", ["champion"]), ("1", ["rollback"])]
    assert (versions[0]["backend"], versions[0]["precision"]) == ("torch", "fp32")
    assert "torch fp32" in call("list", "versions", MODEL).stdout


def test_history_answers_who_was_champion_at_a_time(workplace: Path, weights: Path) -> None:
    call("register", MODEL, "--run", finished_run(weights, 0.5))
    call("promote", MODEL)
    assert call_json("history", MODEL, "--at", "2001-01-01")["champion"] is None
    assert call_json("history", MODEL, "--at", "2199-01-01")["champion"]["version"] == "1"
    assert "champion of" in call("history", MODEL, "--at", "2199-01-01").stderr
    assert "is no time" in call("history", MODEL, "--at", "yesterday", code=2).stderr


def test_a_rejected_version_is_refused_with_exit_code_3(workplace: Path, weights: Path) -> None:
    call("register", MODEL, "--run", finished_run(weights, 0.1))
    call("reject", MODEL, "1", "--reason", "finds nothing")
    refused = call("promote", MODEL, "1", code=3)
    assert "finds nothing" in refused.stderr


def test_only_a_version_without_a_role_is_deleted(workplace: Path, weights: Path) -> None:
    call("register", MODEL, "--run", finished_run(weights, 0.1))
    call("register", MODEL, "--run", finished_run(weights, 0.2))
    assert "can't be deleted" in call("delete", MODEL, "2", code=3).stderr
    assert call_json("delete", MODEL, "1")["status"] == "deleted"
    assert [row["version"] for row in call_json("list", "versions", MODEL)["versions"]] == ["2"]


def test_the_champions_file_is_fetched_whole(workplace: Path, weights: Path, tmp_path: Path) -> None:
    call("register", MODEL, "--run", finished_run(weights, 0.1))
    assert "no @champion" in call("download", MODEL, code=2).stderr
    call("promote", MODEL)
    shared = Path(call("download", MODEL).stdout.strip())
    assert shared.read_bytes() == weights.read_bytes()
    document = call_json("download", MODEL, "--version", "1", "--to", str(tmp_path / "받은.pt"))
    assert Path(str(document["path"])).read_bytes() == weights.read_bytes()
    assert (document["version"], document["backend"], document["precision"]) == ("1", "torch", "fp32")


def test_force_needs_a_reason(workplace: Path) -> None:
    assert "--reason" in call("promote", MODEL, "1", "--force", code=2).stderr


def test_tables_show_what_json_says(workplace: Path, weights: Path) -> None:
    run_id = finished_run(weights, 0.5)
    call("register", MODEL, "--run", run_id)
    assert run_id[:12] in call("list", "runs").stdout
    assert "gate" in call("list", "experiments").stdout
    assert MODEL in call("list", "models").stdout
    assert "0.500" in call("list", "versions", MODEL).stdout
    assert "register" in call("history", MODEL).stdout
    assert run_id in call("runs", "show", run_id[:8]).stdout
    assert call_json("runs", "show", run_id)["status"] == "FINISHED"
    assert call_json("list", "experiments")["experiments"][0]["runs"] == 1


def test_an_empty_workplace_says_what_to_do(workplace: Path) -> None:
    for what in ("runs", "experiments", "models"):
        result = call("list", what)
        assert result.stdout == ""
        assert "guardianflow" in result.stderr
        assert call_json("list", what) == {what: []}
    assert "no measurement" in call("metrics").stderr
    assert "no run has lost its process" in call("runs", "reap").stderr
    assert call_json("runs", "reap")["reaped"] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("list", "versions"), "which model"),
        (("list", "versions", "nobody"), "no model named 'nobody'"),
        (("promote", "nobody"), "no model named 'nobody'"),
        (("rollback", "nobody"), "no model named 'nobody'"),
        (("history", "nobody"), "no model named 'nobody'"),
        (("register", "x", "--run", "0123456789abcdef0123456789abcdef"), "0123456789abcdef"),
        (("register", "a\u202eb", "--run", "0123456789"), "U+202E"),
        (("runs", "show", "nothing-like-it"), "nothing-like-it"),
        (("run",), "--again"),
        (("run", "--again", "nothing-like-it"), "nothing-like-it"),
        (("train",), "--data"),
        (("train", "--data", "x.yaml", "--model", "y", "--experiment", "z", "--set", "mosaic"), "KEY=VALUE"),
        (("train", "--data", "x.yaml", "--model", "y", "--experiment", "z", "--allow-bad", "few"), "percentage"),
        (("train", "--resume", "nothing-like-it"), "nothing-like-it"),
        (("metrics", "--start", "noon"), "is no time"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(workplace: Path, words: tuple[str, ...], says: str) -> None:
    plain = call(*words, code=2)
    assert says in plain.stderr
    assert plain.stdout == ""
    assert len(plain.stderr.strip().splitlines()) == 1, plain.stderr
    document = call_json(*words, code=2)
    assert says in document["error"]["message"]
    assert document["exit_code"] == 2


def test_metrics_are_queried_with_filters(workplace: Path) -> None:
    from datetime import UTC, datetime

    from guardianflow import MetricRecord, MetricsStore

    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    MetricsStore(Settings().database_url).save_metrics(
        [
            MetricRecord(moment, "map50", 0.7, model="a", site="gate", run_id="f" * 32, tags={"epoch": "final"}),
            MetricRecord(moment, "latency_ms_p95", 31.5, model="a", site="gate"),
            MetricRecord(moment, "map50", float("nan"), model="b", site="yard"),
        ]
    )
    [row] = call_json("metrics", "--metric", "map50")["metrics"]
    assert (row["value"], row["model"], row["tags"]) == (0.7, "a", {"epoch": "final"})
    assert len(call_json("metrics", "query", "--model", "a")["metrics"]) == 2
    assert len(call_json("metrics", "--run", "f" * 32)["metrics"]) == 1
    assert len(call_json("metrics", "--invalid")["metrics"]) == 3
    assert call_json("metrics", "--end", "2026-01-31T12:00+00:00")["metrics"] == []
    assert "31.5 ms" in call("metrics", "--site", "gate").stdout


def test_init_makes_a_workspace_and_keeps_what_is_there(workplace: Path, tmp_path: Path) -> None:
    made = call_json("init", "새 site")
    assert (tmp_path / "새 site" / "guardianflow.toml").is_file()
    assert made["created"]
    (tmp_path / "새 site" / "guardianflow.toml").write_text("# mine\n", encoding="utf-8")
    again = call("init", "새 site")
    assert "kept" in again.stderr
    assert (tmp_path / "새 site" / "guardianflow.toml").read_text(encoding="utf-8") == "# mine\n"


def test_doctor_shows_where_each_value_comes_from(workplace: Path) -> None:
    report = call_json("doctor")
    origins = {row["name"]: row["origin"] for row in report["settings"]}
    assert origins["work_dir"] == "environment"
    assert origins["mlflow_tracking_uri"] == "default"
    assert {check["status"] for check in report["checks"]} <= {"ok", "warn", "skip"}


def test_help_lists_every_verb() -> None:
    text = call("--help").stdout
    for verb in ("init", "doctor", "demo", "train", "run", "register", "promote", "rollback", "list", "history", "runs",
                 "metrics"):  # fmt: skip
        assert f"\n  {verb} " in text
    assert "--install-completion" in text
    assert call("--version").stdout.startswith("guardianflow 0.")


@pytest.mark.parametrize("name", VERBS)
def test_the_line_of_a_verb_in_help_is_that_of_the_verb(name: str) -> None:
    assert load_verb(name).help.splitlines()[0] == VERBS[name][1]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pro", "promote"),
        ("train --pat", "--patience"),
        ("list ver", "versions"),
        ("scenario sch", "schema"),
        ("wrap --sam", "--sample"),
    ],
)
def test_the_shell_completes_verbs_and_their_options(typed: str, offered: str) -> None:
    words = {"COMP_WORDS": f"guardianflow {typed}", "COMP_CWORD": str(len(typed.split()))}
    environment = {**os.environ, "_GUARDIANFLOW_COMPLETE": "complete_bash", **words}
    done = subprocess.run(
        [Path(sys.executable).parent / "guardianflow"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered]


def test_an_unknown_verb_or_option_says_what_is_near() -> None:
    assert "No such command 'promot'. Did you mean 'promote'" in call("promot", code=2).stderr
    assert "Usage: guardianflow list [OPTIONS]" in (said := call("list", "--limt", "3", code=2).stderr)
    assert "--limit" in said
