"""A tracking store that can't be opened: one sentence, nothing touched; our own older one migrates, or stays whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings, sqlite_url
from guardianflow.doctor.services import check_mlflow
from guardianflow.exceptions import ConfigError, GuardianFlowError, MissingDependencyError, TrackingUnavailableError
from guardianflow.runs.mlflow_runs import MlflowRuns, make_client
from guardianflow.runs.tracking_schema import known_revisions, latest_revision
from guardianflow.runs.tracking_store import look_at_store
from guardianflow.text.command_lines import typed

OLD = "bda7b8c39065"


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def to_revision(url: str, revision: str) -> None:
    """MLflow's tables as an MLflow of that time made them, with MLflow's own migrations."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(url)
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO experiments (experiment_id, name, lifecycle_stage) "
                                   "VALUES (0, 'Default', 'active')"))  # fmt: skip
        row = "'kept', 'an old run', 'FINISHED', 'active', 0, 'kim', 1, 2"
        columns = "run_uuid, name, status, lifecycle_stage, experiment_id, user_id, start_time, end_time"
        connection.execute(sa.text(f"INSERT INTO runs ({columns}) VALUES ({row})"))
    engine.dispose()


@pytest.fixture(scope="session")
def old_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "mlflow.db"
    to_revision(sqlite_url(path), OLD)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def fill(path: Path) -> None:
    path.write_text("these are my notes " * 400, encoding="utf-8")


def blank(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE a (b)", "DROP TABLE a")


def replace(path: Path, *statements: str) -> None:
    path.unlink()
    change(path, *statements)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (lambda p: change(p, "UPDATE alembic_version SET version_num = 'f00dfeed0001'"),
              r"newer MLflow.*f00dfeed0001.*pip install --upgrade mlflow"),
    "two schemas": (lambda p: change(p, "INSERT INTO alembic_version VALUES ('f00dfeed0001')"), "newer MLflow"),
    "zero length": (lambda p: p.write_bytes(b""), r"empty \(0 bytes\).*backup"),
    "no table": (blank, r"empty \(no table\)"),
    "a text": (fill, r"damaged.*not a database.*backup"),
    "cut off": (lambda p: os.truncate(p, p.stat().st_size // 2), "damaged.*malformed"),
    "a page of zeros": (lambda p: overwrite(p, 4096 * 60, bytes(4096 * 20)), "damaged.*malformed"),
    "a broken header": (lambda p: overwrite(p, 0, b"\xff" * 64), "damaged.*not a database"),
    "a lost table": (lambda p: change(p, "DROP TABLE latest_metrics"), "lacks the tables latest_metrics"),
    "another program's": (lambda p: replace(p, "CREATE TABLE notes (a)"), "another program has the tables notes"),
    "another program's runs": (lambda p: replace(p, "CREATE TABLE runs (a)"), "another program has the tables runs"),
    "another's alembic": (lambda p: replace(p, "CREATE TABLE alembic_version (version_num)", "CREATE TABLE studies (a)",
                                            "INSERT INTO alembic_version VALUES ('v3')"), "alembic_version.*'v3'"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
}  # fmt: skip


def test_the_schemas_are_read_as_mlflow_itself_has_them() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert latest_revision() == _get_latest_schema_revision()
    assert OLD in known_revisions()


@pytest.mark.parametrize("own", [True, False], ids=["our own", "a named one"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_store_is_one_sentence_for_runs_and_doctor_and_stays_as_it_is(
    how: str, own: bool, tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    store = tmp_path / ("mlflow.db" if own else "팀 store.db")
    shutil.copyfile(mlflow_sqlite_template, store)
    breaks, sentence = BROKEN[how]
    breaks(store)
    before = digest(store)
    settings = Settings(work_dir=tmp_path, **({} if own else {"mlflow_tracking_uri": sqlite_url(store)}))
    for call in (make_client, look_at_store, check_mlflow):
        with pytest.raises(ConfigError, match=sentence) as caught:
            call(settings)
        assert caught.value.exit_code == 2
        assert str(store) in str(caught.value)
    assert digest(store) == before
    assert [path for path in tmp_path.iterdir() if path != store] == []


VERBS = (
    ("train", "--data", "data.yaml", "--model", "yolo11n.yaml", "--experiment", "a"),
    ("infer", "--model", "models:/a@champion", "--data", "data.yaml", "--experiment", "a"),
    ("quant", "--source", "models:/a@champion", "--backend", "openvino", "--precision", "int8"),
    ("wrap", "script.py"),
    ("wrap", "script.py", "--direct"),
    ("register", "a", "--run", "kept"),
    ("runs", "reap"),
)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_that_opens_the_store_ends_with_one_sentence_and_exit_code_2(
    words: tuple[str, ...], tmp_path: Path, old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "팀 store.db"
    shutil.copyfile(old_file, store)
    before = digest(store)
    (tmp_path / "script.py").write_text("open('ran', 'w')")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_url(store))
    result = CliRunner().invoke(app, [*words, "--json"])
    document = json.loads(result.stdout)
    assert (result.exit_code, document["exit_code"]) == (2, 2), result.stderr
    assert f"mlflow db upgrade 'sqlite:///{store}'`" in document["error"]["message"]
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert digest(store) == before
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError) as found:  # what doctor shows as a failed check
        check_mlflow(Settings())
    assert typed(str(found.value)) == document["error"]["message"]


def test_doctor_is_not_ready_where_the_store_can_not_be_opened(
    tmp_path: Path, old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(old_file, tmp_path / "team.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_url(tmp_path / "team.db"))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    [check] = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "mlflow"]
    assert (result.exit_code, check["status"]) == (1, "fail")
    assert "mlflow db upgrade" in check["detail"]


def test_the_command_that_the_sentence_names_mends_the_store(tmp_path: Path, old_file: Path) -> None:
    store = tmp_path / "팀 it's store.db"
    shutil.copyfile(old_file, store)
    settings = Settings(work_dir=tmp_path / "work", mlflow_tracking_uri=sqlite_url(store))
    with pytest.raises(ConfigError) as caught:
        make_client(settings)
    command = str(caught.value).split("`")[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "PATH": path}, capture_output=True)
    assert make_client(settings).get_run("kept").info.run_name == "an old run"


def test_our_own_older_store_migrates_after_a_copy_and_says_so_on_both_channels(
    tmp_path: Path, old_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copyfile(old_file, tmp_path / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path))
    [check] = check_mlflow(Settings())
    assert check.status == "warn"
    assert "The next run migrates it" in check.advice
    assert digest(tmp_path / "mlflow.db") == digest(old_file)

    report = json.loads(CliRunner().invoke(app, ["runs", "reap", "--json"]).stdout)
    [copy] = tmp_path.glob("mlflow.db.before-*")
    assert str(copy) in report["remarks"][0]
    assert OLD in report["remarks"][0]
    assert report["remarks"][0] in caplog.text
    assert sqlite3.connect(copy).execute("SELECT version_num FROM alembic_version").fetchall() == [(OLD,)]
    assert make_client(Settings()).get_run("kept").info.run_name == "an old run"
    assert look_at_store(Settings()).schema == "current"
    assert [*tmp_path.glob("mlflow.db.before-*")] == [copy]
    assert "remarks" not in json.loads(CliRunner().invoke(app, ["runs", "reap", "--json"]).stdout)
    assert [*tmp_path.glob(".mlflow*")] == []


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path, old_file: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copyfile(old_file, store)
    last = _tables_of_later_schemas(store)[-1]
    change(store, f"CREATE TABLE {last} (in_the_way)")  # so that only the end of the migration fails
    before = digest(store)
    with pytest.raises(ConfigError, match=rf"can't be migrated from schema {OLD}.*as it was"):
        make_client(Settings(work_dir=tmp_path))
    assert digest(store) == before
    assert [*tmp_path.iterdir()] == [store]


def _tables_of_later_schemas(old: Path) -> list[str]:
    """In the order in which the migrations make them."""
    from guardianflow.runs.tracking_schema import make_file

    new = old.with_name("new.db")
    make_file(new)
    query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rootpage"
    known = {row[0] for row in sqlite3.connect(old).execute(query)}
    made = [row[0] for row in sqlite3.connect(new).execute(query) if row[0] not in known]
    new.unlink()
    return made


OPEN = """
from guardianflow.core.config import Settings
from guardianflow.runs.mlflow_runs import MlflowRuns
print(MlflowRuns(Settings()).ensure_experiment('gate'))
"""


def at_once(environment: dict[str, str], count: int = 2) -> list[str]:
    """Several processes that open the store at the same time."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(count)
    ]
    done = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * count, done
    return [out.decode() for out, _ in done]


@pytest.mark.parametrize("kind", ["nothing", pytest.param("older", marks=[pytest.mark.slow, pytest.mark.fire])])
def test_processes_at_once_make_or_migrate_a_store_once(kind: str, tmp_path: Path, old_file: Path) -> None:
    if kind == "older":
        shutil.copyfile(old_file, tmp_path / "mlflow.db")
    assert len(set(at_once({"GUARDIANFLOW_WORK_DIR": str(tmp_path)}))) == 1
    assert len([*tmp_path.glob("mlflow.db.before-*")]) == (kind == "older")
    assert [*tmp_path.glob(".mlflow*")] == []
    assert look_at_store(Settings(work_dir=tmp_path)).schema == "current"


def test_a_process_killed_while_it_makes_or_migrates_the_store_leaves_no_half_one(
    tmp_path: Path, old_file: Path
) -> None:
    code = (
        "import os, sys, guardianflow.runs.tracking_schema as schema\n"
        "from alembic.runtime.migration import MigrationContext\n"
        "whole = MigrationContext.run_migrations\n"
        "def half(self, **kw):\n"
        "    whole(self, **kw); os.kill(os.getpid(), 9)\n"
        "MigrationContext.run_migrations = half\n" + OPEN
    )
    for older in (False, True):
        work = tmp_path / str(older)
        work.mkdir()
        if older:
            shutil.copyfile(old_file, work / "mlflow.db")
        environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(work)}
        killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert look_at_store(Settings(work_dir=work)).schema == ("older" if older else "new")
        MlflowRuns(Settings(work_dir=work)).ensure_experiment("gate")


def test_a_journal_that_a_crash_left_is_put_right_and_not_refused(tmp_path: Path, mlflow_sqlite_template: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copyfile(mlflow_sqlite_template, store)
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN')\n"
        'c.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) "\n'
        "          \"INSERT INTO runs (run_uuid, experiment_id) SELECT 'r' || i, 0 FROM n\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=False)
    assert store.with_name("mlflow.db-journal").stat().st_size > 0
    assert look_at_store(Settings(work_dir=tmp_path)).runs == 0
    assert make_client(Settings(work_dir=tmp_path)).search_experiments()


def test_a_store_in_memory_and_a_driver_that_is_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vanish with the process"):
        make_client(Settings(work_dir=tmp_path, mlflow_tracking_uri="sqlite:///:memory:"))
    with pytest.raises(MissingDependencyError, match="pip install mysqlclient") as caught:
        make_client(Settings(work_dir=tmp_path, mlflow_tracking_uri="mysql://kim:hunter2@127.0.0.1/mlflow"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI .*can't be used"):
        make_client(Settings(work_dir=tmp_path, mlflow_tracking_uri="postgresql://host:port/mlflow"))


def test_a_folder_that_can_not_hold_the_store_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(work_dir=tmp_path, mlflow_tracking_uri=sqlite_url(tmp_path / "file" / "mlflow.db"))
    with pytest.raises(ConfigError, match="can't be made or read"):
        make_client(settings)


@pytest.mark.parametrize(
    ("status", "body"), [(404, "<html>no</html>"), (200, "<html>welcome</html>"), (200, ""), (200, "{}")]
)
def test_a_web_server_that_is_no_mlflow_is_called_so(status: int, body: str, tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = Settings(work_dir=tmp_path, mlflow_tracking_uri=f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(ConfigError, match="is no MLflow") as caught:
            MlflowRuns(settings).ensure_experiment("gate")
        assert caught.value.exit_code == 2
    finally:
        server.shutdown()
        server.server_close()


# --- PostgreSQL ---------------------------------------------------------------------------------------


def postgres(tmp_path: Path, url: str) -> Settings:
    return Settings(work_dir=tmp_path, mlflow_tracking_uri=url)


def refused(settings: Settings, kind: type[GuardianFlowError], sentence: str) -> str:
    began = time.monotonic()
    for call in (make_client, check_mlflow):
        with pytest.raises(kind, match=sentence) as caught:
            call(settings)
        assert caught.value.exit_code == 2
    assert time.monotonic() - began < 15
    return str(caught.value)


@pytest.mark.services
def test_a_postgresql_that_refuses_is_one_sentence_within_seconds(
    tmp_path: Path, postgres_server, postgres_url
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"postgresql://kim:hunter2@127.0.0.1:{probe.getsockname()[1]}/mlflow"
    assert "hunter2" not in refused(postgres(tmp_path, closed), TrackingUnavailableError, "Connection refused")
    wrong = postgres_url.replace("//postgres:", "//postgres:hunter2")
    said = refused(postgres(tmp_path, wrong), ConfigError, "password authentication failed.*login")
    assert "hunter2" not in said
    refused(postgres(tmp_path, postgres_server.url("nowhere")), ConfigError, '"nowhere" does not exist')


@pytest.mark.services
def test_a_postgresql_of_another_mlflow_is_left_as_it_is(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_revision(postgres_url, OLD)
    refused(postgres(tmp_path, postgres_url), ConfigError, "older MLflow.*`mlflow db upgrade 'postgresql:.*`[*]{3}`")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres_url)
    refused(Settings(work_dir=tmp_path), ConfigError, r'`mlflow db upgrade "\$MLFLOW_TRACKING_URI"`')
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == OLD
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'f00dfeed0001'"))
    refused(Settings(work_dir=tmp_path), ConfigError, "newer MLflow.*f00dfeed0001")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE runs CASCADE"))
    refused(Settings(work_dir=tmp_path), ConfigError, "another program has its table alembic_version")
    engine.dispose()


@pytest.mark.services
def test_processes_at_once_make_the_tables_of_an_empty_postgresql_once(tmp_path: Path, postgres_url: str) -> None:
    environment = {"GUARDIANFLOW_WORK_DIR": str(tmp_path), "MLFLOW_TRACKING_URI": postgres_url}
    assert len(set(at_once(environment))) == 1
    assert look_at_store(postgres(tmp_path, postgres_url)).runs == 0
