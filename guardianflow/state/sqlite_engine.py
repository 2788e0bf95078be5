"""The SQLAlchemy engine of an embedded state database: WAL, IMMEDIATE writes, and how a new file is made."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from guardianflow.exceptions import ConfigError
from guardianflow.state.schema_upgrade import HEAD, VERSION_TABLE, upgrade
from guardianflow.state.soundness import connect_reading
from guardianflow.state.state_file import check_file, check_tables, make_whole
from guardianflow.state.tables import metadata

__all__ = ["check_ours", "make_file", "sqlite_engine"]

BUSY_SECONDS = 30


def sqlite_engine(url: URL) -> Engine:
    """The engine of a file, which need not be there yet; nothing is opened.

    Raises:
        ConfigError: The URL names no file, or one that can't be what it was.
    """
    if not url.database or url.database == ":memory:":
        raise ConfigError(
            f"GUARDIANFLOW_DATABASE_URL {str(url)!r} names no file, and several processes share the state database. "
            "Use sqlite:////absolute/file.db."
        )
    path = Path(url.database).expanduser().absolute()
    check_file(path)
    return _file_engine(url, path)


def make_file(url: URL) -> None:
    """Make the file with its tables, and its folder.

    Raises:
        ConfigError: The folder can't be made or written.
    """
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of the state database can't be made: {path.parent} ({error.strerror}). "
            "Set GUARDIANFLOW_WORK_DIR to a folder you may write."
        ) from error
    make_whole(path, lambda draft: _fill(url, draft))


def _fill(url: URL, draft: Path) -> None:
    engine = _file_engine(url, draft, is_draft=True)
    try:
        upgrade(engine, str(draft))
    finally:
        engine.dispose()


def _file_engine(url: URL, path: Path, *, is_draft: bool = False) -> Engine:
    only_reads = path.exists() and not os.access(path.parent, os.W_OK)
    how: dict[str, Any] = {"max_overflow": 20, "connect_args": {"timeout": BUSY_SECONDS}}
    if only_reads:  # somebody else's folder: each time as it is then
        how = {"poolclass": sa.NullPool, "creator": lambda: connect_reading(path, BUSY_SECONDS)}
    engine = sa.create_engine(url.set(database=str(path)), **how)

    checked = [path] if is_draft else []  # a draft has nothing yet

    @sa.event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        if not checked:
            check_ours(cursor, path)
            checked.append(path)
        if not only_reads:
            _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("guardianflow_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def check_ours(cursor: Any, path: Path) -> None:
    """Refuse what isn't ours before anything is written to it."""
    names = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    current = VERSION_TABLE in names and cursor.execute(
        f"SELECT count(*) FROM {VERSION_TABLE} WHERE version_num = ?",  # noqa: S608 - a constant
        (HEAD,),
    ).fetchone() == (1,)
    check_tables(path, names, version_table=VERSION_TABLE, needed=set(metadata.tables) if current else ())


def _enter_wal(cursor: Any) -> None:
    """Switch to WAL. Here SQLite may say "locked" at once, whatever the timeout (1 in 320 at 8 processes)."""
    from sqlite3 import OperationalError

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
