"""A state database that can't be what it was is refused as it is, with the way back; a new one is made whole."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.doctor.services import check_database
from guardianflow.exceptions import ConfigError, NotFoundError, SchemaTooNewError, TrackingUnavailableError
from guardianflow.state import schema_upgrade
from guardianflow.state.database import HEAD, Database
from tests.registry.registry_world import World


def open_(path: Path) -> Database:
    database = Database.open(f"sqlite:///{path}")
    database.make()
    return database


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state database that nobody has open."""
    path = tmp_path / "guardianflow.db"
    open_(path).close()
    return path


def say(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    path.write_text("these are my notes\n" * 100)


def another_programs(path: Path) -> None:
    path.unlink()
    say(path, "CREATE TABLE places (id INTEGER)", "CREATE TABLE visits (id INTEGER)")


def without_tables(path: Path) -> None:
    path.unlink()
    say(path, "CREATE TABLE x (id INTEGER)", "DROP TABLE x")


def without_one_table(path: Path) -> None:
    say(path, "DROP TABLE gf_model_events")


def without_its_version(path: Path) -> None:
    say(path, "DROP TABLE guardianflow_version")


def a_link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/mnt/not there/guardianflow.db")


def gone_but_for_its_journal(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.with_name(f"{path.name}-wal").write_bytes(b"pages")


def gone_with_models_in_it(path: Path) -> None:
    with open_(path).lock("the versions of model 'gate'"):
        pass
    open_(path).close()
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (empty, r"it is empty \(0 bytes\).*Put a copy of it back.*takes up the versions and the champion"),
        (cut_in_the_header, "it is cut off: 60 bytes of at least"),
        (cut_in_half, "it is cut off"),
        (overwritten, "it is not an SQLite database"),
        (another_programs, r"of another program \(its tables: places, visits\).*adds nothing to it.*Name another file"),
        (without_tables, "it is a database without any table"),
        (without_one_table, "it lacks the tables gf_model_events"),
        (without_its_version, "it lacks the table guardianflow_version"),
        (a_link_to_nowhere, "it is a link to /mnt/not there/guardianflow.db, where nothing is; mount that disk"),
        (gone_but_for_its_journal, r"it is gone, and its journal guardianflow\.db-wal"),
        (gone_with_models_in_it, r"it is gone: guardianflow\.db\.locks beside it says that models were registered"),
    ],
)
def test_what_can_not_be_what_it_was_is_refused_and_left_as_it_is(state, damage, says):
    damage(state)
    before = everything(state.parent)
    for _ in range(2):
        with pytest.raises(ConfigError, match=says) as caught:
            open_(state)
        assert str(state) in str(caught.value)
        assert everything(state.parent) == before
    settings = Settings(work_dir=state.parent, database_url=f"sqlite:///{state}")
    with pytest.raises(ConfigError, match=says):  # what doctor shows as a failed check
        check_database(settings)


def test_the_way_back_that_is_named_is_one(state):
    gone_with_models_in_it(state)
    for path in [*state.parent.glob("guardianflow.db*")]:
        path.rename(state.parent / f"away {path.name}")
    open_(state).close()
    assert say(state, "SELECT version_num FROM guardianflow_version") == [(HEAD,)]


def test_a_database_in_use_by_a_killed_process_is_whole(state):
    """Its journal holds the newest pages, and its header may say more than the file has."""
    code = (
        "import os, sys\nfrom datetime import UTC, datetime\n"
        "from guardianflow.state.database import Database\n"
        "from guardianflow.state.tables import model_states\n"
        "with Database.open(sys.argv[1]).write() as connection:\n"
        "    connection.execute(model_states.insert().values(name='x' * 150, gen=1, updated=datetime.now(UTC)))\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{state}"], check=False)
    assert state.with_name("guardianflow.db-wal").stat().st_size > 0
    opened = open_(state)
    with opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM gf_model_states").scalar() == 1
    opened.close()


def test_a_creation_that_is_killed_leaves_no_empty_file(tmp_path, monkeypatch):
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(schema_upgrade, "_migrate", dies)
    with pytest.raises(KeyboardInterrupt):
        open_(tmp_path / "guardianflow.db")
    assert everything(tmp_path) == {}
    monkeypatch.undo()
    open_(tmp_path / "guardianflow.db").close()


def test_doctor_finds_a_page_that_was_written_over(state):
    with state.open("r+b") as file:  # a page in the middle; the first ones still say what they should
        file.seek(8 * 4096)
        file.write(b"\xff" * 4096)
    settings = Settings(work_dir=state.parent, database_url=f"sqlite:///{state}")
    try:
        (check,) = check_database(settings)
        said, status = check.detail, check.status
    except ConfigError as error:
        said, status = str(error), "fail"
    assert status == "fail"
    assert "damaged" in said
    open_(state).close()


# --- migrations -------------------------------------------------------------------------------------


@pytest.fixture
def older(tmp_path, monkeypatch) -> Path:
    """A state database of the first schema, with a model in it."""
    from alembic import command

    path = tmp_path / "guardianflow.db"
    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        open_(path).close()
    say(path, "INSERT INTO gf_model_states (name, gen, updated) VALUES ('gate', 1, '2026-01-01')")
    return path


def test_a_migration_keeps_a_copy_first(older, caplog):
    assert say(older, "SELECT version_num FROM guardianflow_version") == [("0001",)]
    open_(older).close()
    (copy,) = older.parent.glob("guardianflow.db.*-schema-0001.backup")
    assert f"from schema 0001 to {HEAD}" in caplog.text
    assert str(copy) in caplog.text
    assert say(copy, "SELECT version_num FROM guardianflow_version", "SELECT name FROM gf_model_states") == [
        ("0001",),
        ("gate",),
    ]
    open_(older).close()
    assert len([*older.parent.glob("*.backup")]) == 1  # a current one is copied no more
    empty(older)
    with pytest.raises(ConfigError, match=rf"the newest that GuardianFlow made is {copy.name}"):
        open_(older)


def test_an_older_schema_is_looked_at_as_it_is_and_never_changed_without_a_word(older, monkeypatch):
    before = everything(older.parent)
    (check,) = check_database(Settings(work_dir=older.parent))
    assert (check.status, "schema 0001 of an older GuardianFlow" in check.detail) == ("warn", True)
    assert "after a copy" in check.advice
    assert everything(older.parent) == before
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(older.parent))
    answer = json.loads(CliRunner().invoke(app, ["list", "runs", "--json"]).stdout)
    assert f"goes from schema 0001 to {HEAD}; as it was, it is kept as" in answer["remarks"][0]
    open_(older).close()


@pytest.mark.services
def test_who_migrates_a_server_is_told(postgres_url, monkeypatch, caplog):
    from alembic import command

    with monkeypatch.context() as patched:
        upgrade = command.upgrade
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        made = Database.open(postgres_url)
        made.make()
        made.close()
    (check,) = check_database(Settings(database_url=postgres_url))
    assert (check.status, "no older one opens it" in check.advice) == ("warn", True)
    Database.open(postgres_url).close()
    assert f"goes from schema 0001 to {HEAD}; an older GuardianFlow can't open it" in caplog.text


def test_a_migration_that_fails_leaves_the_old_schema_and_its_copy(older):
    say(older, "CREATE TABLE gf_model_evaluations (x INTEGER)")
    with pytest.raises(TrackingUnavailableError, match="gf_model_evaluations already exists"):
        open_(older)
    assert say(older, "SELECT version_num FROM guardianflow_version") == [("0001",)]
    assert len([*older.parent.glob("*.backup")]) == 1


def test_without_a_copy_nothing_is_migrated(older, monkeypatch):
    monkeypatch.setattr("guardianflow.state.state_file.Path.rename", _full_disk)
    with pytest.raises(ConfigError, match=r"is copied first, which fails .*No space left.*it is as it was"):
        open_(older)
    assert say(older, "SELECT version_num FROM guardianflow_version") == [("0001",)]
    assert not [*older.parent.glob("*.part")]


def _full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_newer_schema_is_not_copied_nor_touched(state):
    say(state, "UPDATE guardianflow_version SET version_num = '9999'")
    before = everything(state.parent)
    with pytest.raises(SchemaTooNewError):
        open_(state)
    assert everything(state.parent) == before


# --- a ledger that was lost -------------------------------------------------------------------------


@pytest.fixture
def lost(tmp_path, mlflow_sqlite_template) -> tuple[World, dict[str, object]]:
    """MLflow with three versions, and a new, empty state database; and what the old one knew."""
    shutil.copy(mlflow_sqlite_template, tmp_path / "mlflow.db")
    world = World(tmp_path, mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db", database_url=f"sqlite:///{tmp_path}/state.db")
    registry = world.registry()
    for size in (0, 320, 640):
        run_id = world.run(dataset_fingerprint="f" * 64)
        world.client.log_param(run_id, "imgsz", size)
        world.client.log_metric(run_id, "map50", 0.5)
        registry.register("gate", run_id)
        if size != 640:
            registry.promote("gate")
    known = {item.version: item for item in registry.list_versions("gate")}
    Database.open(world.settings.database_url).close()
    away = tmp_path / "away"
    away.mkdir()
    for path in [*tmp_path.glob("state.db*")]:
        path.rename(away / path.name)
    return world, known


def test_an_empty_ledger_says_that_mlflow_knows_more(lost, monkeypatch):
    world, _ = lost
    with pytest.raises(NotFoundError, match=r"no model named 'gate'\. MLflow shows 'gate' .*was lost.*Put a copy"):
        world.registry().promote("gate")
    assert world.mlflow_aliases("gate") == {"champion": "2", "candidate": "3", "rollback": "1"}
    for variable, value in world.settings.as_environment().items():
        monkeypatch.setenv(variable, value)
    shown = CliRunner().invoke(app, ["list", "models"])
    assert "note      MLflow shows 'gate' with aliases of GuardianFlow" in shown.stderr
    answer = json.loads(CliRunner().invoke(app, ["list", "models", "--json"]).stdout)
    assert answer["models"] == []
    assert "was lost" in answer["remarks"][0]


def test_registering_takes_up_what_mlflow_shows_instead_of_wiping_it(lost, caplog):
    world, known = lost
    registry = world.registry()
    with caplog.at_level(logging.WARNING, logger="guardianflow"):
        assert registry.register("gate", known["2"].run_id).version == "2"
    assert "taken up from MLflow were versions 1, 2, 3 (@champion is 2, @candidate is 3, @rollback is 1)" in caplog.text
    assert "put it back" in caplog.text
    assert world.mlflow_aliases("gate") == {"champion": "2", "candidate": "3", "rollback": "1"}
    for item in registry.list_versions("gate"):
        old = known[item.version]
        same = ("run_id", "artifact", "sha256", "size_bytes", "dataset_fingerprint", "metrics", "serving", "aliases")
        assert {name: getattr(item, name) for name in same} == {name: getattr(old, name) for name in same}
    assert [event.reason for event in registry.history("gate")] == ["the ledger knew nothing of this model"]
    assert registry.signs_of_loss() == ()
    assert registry.promote("gate").version == "3"
    assert registry.rollback("gate").version == "2"


def test_a_version_of_which_mlflow_lost_the_file_is_taken_up_and_not_promoted(lost, caplog):
    world, known = lost
    world.artifact_path(known["3"].run_id).unlink()
    registry = world.registry()
    registry.register("gate", world.run())
    assert "version 3 of model 'gate' has lost its run or file" in caplog.text
    with pytest.raises(NotFoundError, match="can't be promoted; champion stays 2"):
        registry.promote("gate", 3)


def test_a_model_that_another_program_registered_is_not_taken_up(lost):
    world, _ = lost
    world.client.create_registered_model("theirs")
    run_id = world.run()
    world.client.create_model_version("theirs", f"runs:/{run_id}/weights/best.pt", run_id=run_id)
    world.client.set_registered_model_alias("theirs", "prod", "1")
    registry = world.registry()
    assert registry.register("theirs", world.run()).version == "2"
    assert [item.version for item in registry.list_versions("theirs")] == ["2"]
