from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from guardianflow.exceptions import (
    ConfigError,
    ConflictError,
    GuardianFlowError,
    SchemaTooNewError,
    TrackingUnavailableError,
)
from guardianflow.state import database as module
from guardianflow.state.database import HEAD, VERSION_TABLE, Database
from guardianflow.state.tables import metadata, model_states
from tests.state.database_workers import hold_lock_and_die, open_at_once

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def database(database_url):
    opened = Database.open(database_url)
    opened.make()
    yield opened
    opened.close()


def add_state(database: Database, name: str, gen: int = 1, updated: datetime | None = None) -> None:
    with database.write() as connection:
        row = {"name": name, "gen": gen, "updated": updated or datetime.now(UTC)}
        connection.execute(model_states.insert().values(row))


def tables_of(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


# --- schema ---------------------------------------------------------------------------------------


def test_a_fresh_database_gets_exactly_the_tables_of_the_code(database):
    assert tables_of(database.engine) == set(metadata.tables) | {VERSION_TABLE}


def test_migrations_and_tables_say_the_same(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [d for d in compare_metadata(context, metadata) if VERSION_TABLE not in str(d)]
    assert differences == []


def test_the_comparison_would_notice_a_missing_column(database):
    with database.write() as connection:
        connection.execute(sa.text("ALTER TABLE gf_model_states DROP COLUMN candidate"))
    with database.engine.connect() as connection:
        assert any("candidate" in str(d) for d in compare_metadata(MigrationContext.configure(connection), metadata))


def test_the_head_constant_is_the_newest_migration():
    scripts = ScriptDirectory(str(Path(module.__file__).parent / "migrations"))
    assert scripts.get_heads() == [HEAD]


def test_all_our_tables_carry_the_prefix():
    assert all(name.startswith("gf_") for name in metadata.tables)
    indexes = [index.name for table in metadata.tables.values() for index in table.indexes]
    assert indexes
    assert all("gf_" in name for name in indexes)


def test_eight_processes_open_a_fresh_database_at_the_same_moment(database_url):
    barrier = SPAWN.Barrier(8)
    workers = [SPAWN.Process(target=open_at_once, args=(database_url, barrier)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 8
    opened = Database.open(database_url)
    with opened.read() as connection:
        assert connection.execute(sa.text(f"SELECT count(*), max(version_num) FROM {VERSION_TABLE}")).one() == (1, HEAD)
    opened.close()


def test_opening_a_current_database_is_fast_and_loads_no_alembic(database_url):
    made = Database.open(database_url)
    made.make()
    made.close()
    code = (
        "import sys, time\n"
        "from guardianflow.state.database import Database\n"
        "Database.open(sys.argv[1]).close()\n"
        "times = []\n"
        "for _ in range(7):\n"
        "    start = time.perf_counter()\n"
        "    Database.open(sys.argv[1]).close()\n"
        "    times.append(time.perf_counter() - start)\n"
        "print(min(times), 'alembic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, text=True, check=True)
    seconds, alembic = done.stdout.split()
    assert alembic == "False"
    assert float(seconds) < 0.06


def test_a_newer_schema_is_refused_and_left_alone(database, database_url):
    with database.write() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    database.close()
    with pytest.raises(SchemaTooNewError, match=rf"'9999'.*newer GuardianFlow.*knows up to '{HEAD}'.*pip install"):
        Database.open(database_url)


@pytest.mark.services
def test_a_migration_that_fails_leaves_nothing_behind(postgres_url):
    engine = module._create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE gf_run_records (x INTEGER)"))
    with pytest.raises(Exception, match="gf_run_records"):
        Database.open(postgres_url).make()
    assert tables_of(engine) == {"gf_run_records"}
    engine.dispose()


@pytest.mark.services
@pytest.mark.parametrize("first", ["ours", "mlflow"])
def test_mlflow_may_live_in_the_same_postgresql_database(
    first, postgres_url, mlflow_postgres_template, postgres_server
):
    from mlflow import MlflowClient

    if first == "ours":
        url = postgres_url
        made = Database.open(url)
        made.make()
        made.close()
        client = MlflowClient(url, url)  # makes its tables beside ours
    else:
        url = postgres_server.url(postgres_server.create(template=mlflow_postgres_template))
        client = MlflowClient(url, url)
    client.create_registered_model("both")
    opened = Database.open(url)
    add_state(opened, "both")
    assert client.get_registered_model("both").name == "both"
    with opened.read() as connection:
        versions = [connection.execute(sa.text(f"SELECT version_num FROM {table}")).scalar_one()
                    for table in (VERSION_TABLE, "alembic_version")]  # fmt: skip
    assert versions[0] == HEAD
    assert versions[1] != HEAD
    opened.close()


# --- transactions ---------------------------------------------------------------------------------


def test_reading_first_and_writing_later_never_fails(database):
    add_state(database, "counter", gen=0)
    errors = []

    def count_up() -> None:
        try:
            for _ in range(25):
                with database.write() as connection:
                    lock = "" if database.is_sqlite else " FOR UPDATE"
                    gen = connection.execute(sa.text(f"SELECT gen FROM gf_model_states{lock}")).scalar_one()
                    connection.execute(model_states.update().values(gen=gen + 1))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.read() as connection:
        assert connection.execute(sa.select(model_states.c.gen)).scalar_one() == 100


def test_an_error_in_the_block_rolls_everything_back(database):
    def write_and_stop() -> None:
        with database.write() as connection:
            connection.execute(model_states.insert().values(name="x", gen=1, updated=datetime.now(UTC)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_stop()
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(model_states)).scalar_one() == 0


def test_one_read_block_sees_one_state(database):
    add_state(database, "x", gen=1)
    with database.read() as connection:
        query = sa.select(model_states.c.gen)
        before = connection.execute(query).scalar_one()
        with database.write() as other:
            other.execute(model_states.update().values(gen=2))
        assert connection.execute(query).scalar_one() == before == 1
    with database.read() as connection:
        assert connection.execute(query).scalar_one() == 2


def test_times_come_back_as_the_same_moment_in_utc(database):
    seoul = datetime(2026, 3, 1, 9, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    add_state(database, "x", updated=seoul)
    with database.read() as connection:
        found = connection.execute(sa.select(model_states.c.updated)).scalar_one()
    assert found == seoul
    assert found.utcoffset() == timedelta(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_opens_its_own_connections(database, database_url):
    add_state(database, "parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            add_state(Database.open(database_url), "child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with database.read() as connection:
        assert set(connection.execute(sa.select(model_states.c.name)).scalars()) == {"parent", "child"}


# --- the lock -------------------------------------------------------------------------------------


def test_the_lock_keeps_threads_apart_and_names_are_independent(database):
    inside, worst = 0, 0

    def enter() -> None:
        nonlocal inside, worst
        for _ in range(10):
            with database.lock("model"):
                inside += 1
                worst = max(worst, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    with database.lock("another model"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert worst == 1


def test_the_lock_gives_up_with_a_clear_error(database):
    with database.lock("model"):
        start = time.monotonic()
        with pytest.raises(ConflictError, match="holds the lock of model"), database.lock("model", timeout_s=0.2):
            pass
        assert time.monotonic() - start < 5


def test_the_lock_of_a_killed_process_is_free(database, database_url):
    held = SPAWN.Event()
    worker = SPAWN.Process(target=hold_lock_and_die, args=(database_url, "model", held))
    worker.start()
    assert held.wait(60)
    with pytest.raises(ConflictError), database.lock("model", timeout_s=0.1):
        pass
    worker.kill()
    worker.join()
    with database.lock("model", timeout_s=5):
        pass


# --- what can't be opened -------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(ConfigError, match=r"notes\.db can't be used: it is not an SQLite database"):
        Database.open(f"sqlite:///{path}")
    assert path.read_text().startswith("these are my notes")


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/sub.*GUARDIANFLOW_WORK_DIR"):
        Database.open(f"sqlite:///{tmp_path}/file/sub/state.db").make()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't be used: it is a folder"):
        Database.open(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://u:secret@host/db", "SQLite or PostgreSQL"),
        ("no url", "is not a database URL"),
        ("postgresql://u:secret@host:port/db", "is not a database URL"),
    ],
)
def test_urls_that_can_not_be_used_are_refused_without_their_password(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(TrackingUnavailableError, match=f"{port}.*guardianflow doctor") as caught:
        Database.open(f"postgresql://u:secret@127.0.0.1:{port}/db")
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


@pytest.mark.services
def test_a_database_that_is_missing_on_the_server_is_named(postgres_server):
    with pytest.raises(TrackingUnavailableError, match='"nowhere" does not exist'):
        Database.open(postgres_server.url("nowhere"))


@pytest.mark.services
def test_a_connection_lost_in_a_transaction_is_an_error_of_ours_and_the_next_one_works(postgres_url):
    database = Database.open(postgres_url)

    def lose_the_connection() -> None:
        with database.write() as connection:
            mine = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with database.engine.connect() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": mine})
            connection.execute(sa.text("SELECT 1"))

    with pytest.raises(TrackingUnavailableError, match="can't be used"):
        lose_the_connection()
    add_state(database, "after")
    database.close()


@pytest.mark.parametrize("query", ["sslpassword=geheim", "password=geheim", "sslmode=prefer&passwd=geheim"])
def test_a_server_that_does_not_answer_is_named_without_a_password_of_the_query(query: str) -> None:
    with pytest.raises(GuardianFlowError) as refused:
        Database.open(f"postgresql://kim@127.0.0.1:1/gf?{query}")
    assert "127.0.0.1:1/gf" in str(refused.value)
    assert "geheim" not in str(refused.value)
