"""``guardianflow doctor`` on databases that are really damaged: it says so, and what to do; and it changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.doctor import Check
from guardianflow.doctor.services import check_database, check_mlflow
from guardianflow.exceptions import GuardianFlowError
from guardianflow.state.database import HEAD, Database
from guardianflow.state.soundness import look_through_file
from tests.services.postgres import PostgresServer

PAGE = 4096
INDEX = "ix_gf_metric_records_"


def fill(url: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    records = [
        MetricRecord(time=now, metric="map50", value=number / 3000, model="gate", event_id=f"event-{number:06}")
        for number in range(3000)
    ]
    MetricsStore(url).save_metrics(records)
    Database.open(url).close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "guardianflow.db"
    fill(f"sqlite:///{path}")
    return path


@pytest.fixture
def state(tmp_path: Path, filled: Path) -> Path:
    return Path(shutil.copyfile(filled, tmp_path / "guardianflow.db"))


def garbage(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)


def root_of(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0])


def an_index_of(path: Path, table: str) -> str:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL ORDER BY name"
        return str(connection.execute(query, (table,)).fetchone()[0])


def a_page_of_a_table(path: Path, table: str) -> None:
    garbage(path, root_of(path, table))


def a_page_of_an_index(path: Path, table: str) -> None:
    garbage(path, root_of(path, an_index_of(path, table)))


def cut_off(path: Path, _: str) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3 * PAGE - 100)


def no_database(path: Path, _: str) -> None:
    path.write_text("these are my notes\n" * 1000)


def an_index_that_does_not_fit(path: Path, table: str) -> None:
    """Rows are removed while SQLite doesn't know of the index."""
    name = an_index_of(path, table)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        row = connection.execute("SELECT * FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (name,))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid % 2 = 0")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", row)


def crash_with_a_journal(path: Path) -> Path:
    """A process that is killed after three changes leaves them in its journal."""
    code = (
        "import os, sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('PRAGMA journal_mode = WAL')\n"
        "for number in range(3):\n"
        "    connection.execute('UPDATE gf_metric_records SET value = ? WHERE rowid % 7 = ?', (number, number))\n"
        "    connection.commit()\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    wal = path.with_name(f"{path.name}-wal")
    assert wal.stat().st_size > 20 * PAGE
    return wal


def a_journal_with_a_damaged_change(path: Path, _: str) -> None:
    with crash_with_a_journal(path).open("r+b") as file:
        file.seek(32 + 2 * (24 + PAGE) + 500)
        file.write(b"\xa5" * 100)


def a_journal_with_a_lost_change(path: Path, _: str) -> None:
    with crash_with_a_journal(path).open("r+b") as file:
        file.seek(32 + 2 * (24 + PAGE))
        file.write(b"\xa5" * (24 + PAGE))


def a_journal_with_a_damaged_head(path: Path, _: str) -> None:
    with crash_with_a_journal(path).open("r+b") as file:
        file.write(b"\xa5" * 16)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and "-shm" not in path.name}


def found(check: Callable[[Settings], list[Check]], settings: Settings) -> tuple[str, str]:
    """Status, and what is said; as `doctor` shows it, an error of ours is a finding."""
    try:
        (said,) = check(settings)
    except GuardianFlowError as error:
        return "fail", str(error)
    return said.status, f"{said.detail} -> {said.advice}"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (a_page_of_a_table, "damaged"),
        (a_page_of_an_index, "damaged"),
        (cut_off, "cut off"),
        (no_database, "not an SQLite database"),
        (an_index_that_does_not_fit, "REINDEX"),
        (
            a_journal_with_a_damaged_change,
            "guardianflow.db-wal is damaged at change 3, and all that follows it is lost",
        ),
        (a_journal_with_a_lost_change, "guardianflow.db-wal is damaged at change 3"),
        (a_journal_with_a_damaged_head, "the head of its journal guardianflow.db-wal is damaged"),
    ],
)
def test_a_damaged_state_database_is_not_ready(state: Path, damage: Callable[[Path, str], None], says: str) -> None:
    settings = Settings(work_dir=state.parent)
    assert found(check_database, settings) == ("ok", f"embedded; {state} (schema {HEAD}) -> ")
    damage(state, "gf_metric_records")
    before = everything(state.parent)
    status, said = found(check_database, settings)
    assert (status, says in said) == ("fail", True), said
    assert "cop" in said  # the next step begins with one
    assert everything(state.parent) == before


@pytest.mark.parametrize(
    "damage", [a_page_of_a_table, a_page_of_an_index, cut_off, no_database, an_index_that_does_not_fit]
)
def test_a_damaged_mlflow_file_is_not_ready(
    tmp_path: Path, mlflow_sqlite_template: Path, damage: Callable[[Path, str], None]
) -> None:
    path = Path(shutil.copyfile(mlflow_sqlite_template, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(f"{number:032x}", f"p{number}", "v" * 60) for number in range(2000)]
        connection.executemany("INSERT INTO runs (run_uuid, experiment_id) VALUES (?, 0)", [row[:1] for row in rows])
        connection.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", rows)
    settings = Settings(work_dir=tmp_path)
    assert found(check_mlflow, settings)[0] == "ok"
    damage(path, "params")
    before = everything(tmp_path)
    status, said = found(check_mlflow, settings)
    assert status == "fail", said
    assert any(step in said for step in ("REINDEX", "Put a backup", "put a copy"))
    assert everything(tmp_path) == before


def test_doctor_ends_with_one_and_names_what_is_damaged(
    state: Path, mlflow_sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(state.parent))
    an_index_that_does_not_fit(state, "gf_metric_records")
    answer = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(answer.stdout)
    assert (answer.exit_code, report["ok"]) == (1, False)
    assert [check["name"] for check in report["checks"] if check["status"] == "fail"] == ["database"]


def test_a_journal_that_a_crash_tore_at_its_end_is_no_damage(state: Path) -> None:
    wal = crash_with_a_journal(state)
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 1000)
    assert found(check_database, Settings(work_dir=state.parent))[0] == "ok"


def test_what_there_was_no_time_for_is_said(state: Path) -> None:
    assert look_through_file(state, seconds=0).unseen == "its pages and indexes"


# --- PostgreSQL -------------------------------------------------------------------------------------


@pytest.fixture
def server(postgres_server: PostgresServer, postgres_url: str) -> tuple[PostgresServer, str, str]:
    """The server, a filled database, and its copy, of which no page was read yet."""
    fill(postgres_url)
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}" STRATEGY FILE_COPY')
    yield postgres_server, postgres_url, f"{postgres_url}_copy"
    postgres_server.drop(f"{name}_copy")


def in_server(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.services
@pytest.mark.parametrize("what", ["page", "file"])
def test_a_table_that_postgresql_can_not_read_is_not_ready(server: tuple[PostgresServer, str, str], what: str) -> None:
    running, _, url = server
    (place,) = in_server(url, "SELECT pg_relation_filepath('gf_metric_records')")[0]
    path = running.folder / "data" / str(place)
    with path.open("r+b") as file:
        if what == "page":
            file.seek(8192 * 3)
            file.write(b"\xa5" * 8192)
        else:
            file.truncate(0)
            file.write(b"\xa5" * 100_000)
    status, said = found(check_database, Settings(database_url=url))
    assert (status, "the table gf_metric_records: " in said, "pg_dump" in said) == ("fail", True, True), said
    again = found(check_database, Settings(database_url=url))
    assert again[0] == "fail"


@pytest.mark.services
def test_a_table_that_is_missing_on_the_server_is_not_ready(server: tuple[PostgresServer, str, str]) -> None:
    _, _, url = server
    in_server(url, "DROP TABLE gf_model_events")
    status, said = found(check_database, Settings(database_url=url))
    assert (status, "gf_model_events" in said) == ("fail", True)


@pytest.mark.services
def test_an_index_that_does_not_fit_is_seen_by_amcheck(server: tuple[PostgresServer, str, str]) -> None:
    _, url, _ = server
    assert found(check_database, Settings(database_url=url))[0] == "ok"
    try:
        in_server(url, "CREATE EXTENSION amcheck")
    except psycopg.Error:
        pytest.skip("the extension amcheck is missing: apt-get install postgresql")
    assert found(check_database, Settings(database_url=url))[0] == "ok"
    which = "WHERE indrelid = 'gf_metric_records'::regclass AND NOT indisunique"
    in_server(url, f"UPDATE pg_index SET indisready = false, indisvalid = false {which}")
    MetricsStore(url).save_metrics(
        [MetricRecord(time=datetime(2026, 2, 1, tzinfo=UTC), metric="map50", value=1.0, event_id="late")]
    )
    Database.open(url).close()
    in_server(url, f"UPDATE pg_index SET indisready = true, indisvalid = true {which}")
    status, said = found(check_database, Settings(database_url=url))
    assert (status, "the index " in said, "REINDEX TABLE" in said) == ("fail", True, True), said
