"""The schema of MLflow's SQLite files: which one the installed MLflow needs, and how a file gets it.

A file is made beside its place and moved there whole; a migration is one transaction, after a copy. So whenever a
process dies, there is no file, the old one or the new one. MLflow's own way commits step by step.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from guardianflow.core.config import sqlite_url
from guardianflow.exceptions import ConfigError
from guardianflow.state.soundness import connect_reading
from guardianflow.text.remarks import remark

__all__ = [
    "TABLES",
    "installed_mlflow",
    "known_revisions",
    "latest_revision",
    "make_file",
    "make_tables",
    "migrate_file",
]

TABLES = frozenset({
    "experiments", "runs", "params", "tags", "metrics", "latest_metrics", "registered_models", "model_versions",
    "registered_model_aliases",
})  # fmt: skip
"""Those that hold what we write; without one of them a store of the newest schema is damaged."""

_BUSY_S = 60.0
_LOCK = 0x67_66_6D_6C  # advisory-lock key: "gfml"
_REVISION = re.compile(r"^(down_)?revision\s*(?::[^=\n]*)?=\s*(.+)$", re.MULTILINE)
_NAME = re.compile(r"['\"]([^'\"]+)['\"]")


def installed_mlflow() -> str:
    """The version of the installed MLflow."""
    return version("mlflow")


@cache
def known_revisions() -> frozenset[str]:
    """The schemas that the installed MLflow knows; read from its files, which is faster than importing it."""
    return frozenset(_history()[0])


@cache
def latest_revision() -> str:
    """The schema that the installed MLflow needs.

    Raises:
        ConfigError: MLflow's own files don't say.
    """
    made, replaced = _history()
    last = made - replaced
    if len(last) != 1:
        raise ConfigError(
            f"mlflow {installed_mlflow()} has {len(last)} newest schemas instead of one; install it again: "
            "pip install --force-reinstall mlflow"
        )
    return next(iter(last))


def _history() -> tuple[set[str], set[str]]:
    """All revisions, and those that have a successor."""
    made: set[str] = set()
    replaced: set[str] = set()
    for file in (_migrations() / "versions").glob("*.py"):
        for down, value in _REVISION.findall(file.read_text(encoding="utf-8")):
            (replaced if down else made).update(_NAME.findall(value))
    return made, replaced


def _migrations() -> Path:
    found = importlib.util.find_spec("mlflow")
    if found is None or found.origin is None:
        raise ConfigError("mlflow is not installed; install GuardianFlow again")
    return Path(found.origin).parent / "store" / "db_migrations"


def make_file(path: Path) -> None:
    """Make a new store; where another process is faster, its one stays.

    Raises:
        OSError: The folder can't be written.
        sqlalchemy.exc.SQLAlchemyError: The disk is full, say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(path, "new")
    try:
        with _writing(fresh) as connection:
            _migrate(connection)
        try:
            os.link(fresh, path)  # fails where there is one by now, unlike a rename
        except FileExistsError:
            return
        except OSError:  # a file system without links
            if not path.exists():
                fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)


def make_tables(uri: str) -> None:
    """Make MLflow's tables in a PostgreSQL database, or bring them up to date: all or none, one process at a time.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: We may not make tables there, say.
    """
    engine = sa.create_engine(uri, poolclass=sa.pool.NullPool)
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if _revision(connection) != latest_revision():
            _migrate(connection)


def migrate_file(path: Path) -> None:
    """Bring a store's schema up to date, after a copy; a remark says so. One process does it, the others wait.

    Raises:
        ConfigError: MLflow's migrations fail on it; it is as it was.
        OSError: The copy can't be written.
        sqlalchemy.exc.SQLAlchemyError: The file can't be written.
    """
    with _writing(path) as connection:
        before = _revision(connection)
        if before == latest_revision():
            return  # another process was faster
        copy = path.with_name(f"{path.name}.before-{latest_revision()}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        _copy(path, copy)
        try:
            _migrate(connection)
        except Exception as error:
            copy.unlink(missing_ok=True)
            said = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"MLflow's store {path} can't be migrated from schema {before} to {latest_revision()} ({said}). It is "
                "as it was: install the MLflow that wrote it, or set MLFLOW_TRACKING_URI to another store"
            ) from error
    remark(
        f"MLflow's store {path} had the schema {before} of an older MLflow and was migrated to {latest_revision()} "
        f"(mlflow {installed_mlflow()}); as it was before, it lies in {copy}"
    )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[sa.Connection]:
    """One transaction over the whole block, from its first moment the only one that writes."""
    engine = sa.create_engine(
        sqlite_url(path.absolute()), poolclass=sa.pool.NullPool, connect_args={"timeout": _BUSY_S}
    )

    @sa.event.listens_for(engine, "connect")
    def _prepare(database: sqlite3.Connection, _record: object) -> None:
        database.isolation_level = None  # else the driver commits before each change of a table

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection, connection.begin():
        yield connection


def _migrate(connection: sa.Connection) -> None:
    """All of MLflow's migrations that a database lacks, within the caller's transaction.

    MLflow's own entry opens a second connection, which would wait for this one's end forever.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from mlflow.store.tracking.dbmodels.initial_models import Base

    if _revision(connection) is None:
        Base.metadata.create_all(connection)
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def missing(found: Any, _context: Any) -> Any:
        return script._upgrade_revs("heads", found)  # noqa: SLF001 - as Alembic's manual has it

    with EnvironmentContext(config, script, fn=missing) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if found is None else str(found)


def _copy(path: Path, copy: Path) -> None:
    """A copy of the database, whole or not there."""
    part = _beside(copy, "part")
    try:
        with (
            contextlib.closing(connect_reading(path, _BUSY_S)) as source,
            contextlib.closing(sqlite3.connect(part)) as target,
        ):
            source.backup(target)
        part.rename(copy)
    finally:
        part.unlink(missing_ok=True)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(3).hex()}.{what}")
