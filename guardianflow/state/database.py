"""The engine of our own state: registry ledger, run records, metrics.

One URL decides: ``sqlite:///…`` (WAL, every write transaction ``BEGIN IMMEDIATE``, 30 s busy
timeout) or ``postgresql://…``. A database that isn't there yet reads as an empty one, and is made by the first
change: who only looks leaves nothing behind. Opening one that is there brings its schema up to date under a lock; a
schema that is newer than this code is refused. The tables are in :mod:`guardianflow.state.tables`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from guardianflow.core.agreements import server_of
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.exceptions import (
    ConfigError,
    ConflictError,
    GuardianFlowError,
    InputError,
    TrackingUnavailableError,
)
from guardianflow.files.process_lock import process_lock
from guardianflow.state.postgres import postgres_engine
from guardianflow.state.schema_upgrade import HEAD, VERSION_TABLE, require_known, revision, upgrade
from guardianflow.state.soundness import Soundness, connect_reading, look_through_file, look_through_server
from guardianflow.state.sqlite_engine import check_ours, make_file, sqlite_engine
from guardianflow.state.state_file import check_file, lock_folder
from guardianflow.state.tables import alerts, api_keys, metadata, metric_records, recommendations

__all__ = ["HEAD", "VERSION_TABLE", "Database", "alerts", "api_keys", "metadata", "metric_records", "recommendations"]

_LOCK_TIMEOUTS = ("55P03", "57014")
_SETTING = "GUARDIANFLOW_DATABASE_URL"


class Database:
    """A state database whose schema is the one this code expects, or the place where the first change makes it.

    Use :meth:`open`; it returns the same object for the same URL within a process.

    Attributes:
        url: Where it is, without the password.
        engine: The SQLAlchemy engine.
    """

    _open: ClassVar[dict[tuple[int, str], Database]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.url = _shown(engine)
        self._is_there = False

    @classmethod
    def open(cls, url: str) -> Database:
        """Connect and bring the schema up to date; where nothing is yet, nothing is made.

        Raises:
            ConfigError: The URL can't be used, its folder can't be written, the file can't be what it was (empty,
                cut off, another program's, gone), or the server doesn't allow it.
            SchemaTooNewError: A newer GuardianFlow has written this database.
            TrackingUnavailableError: The server doesn't answer.
        """
        key = (os.getpid(), url)  # a forked child must not share its parent's connections
        with cls._guard:
            if key not in cls._open:
                _require_agreement(url)
                database = cls(_create_engine(url))
                try:
                    database.is_there()
                except BaseException:
                    database.engine.dispose()
                    raise
                cls._open[key] = database
            return cls._open[key]

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded default."""
        return self.engine.dialect.name == "sqlite"

    @classmethod
    def look(cls, url: str, *, seconds: float) -> tuple[str | None, Soundness]:
        """Its schema, ``None`` where it isn't there yet, and what it can tell of its damage; nothing is changed.

        Args:
            url: Where it is.
            seconds: How long to look.

        Raises:
            ConfigError, SchemaTooNewError, TrackingUnavailableError: As :meth:`open`.
        """
        _require_agreement(url)
        engine = _create_engine(url)
        try:
            with _explained(engine):
                return _look(engine, seconds)
        finally:
            engine.dispose()

    def is_there(self) -> bool:
        """Whether it was made, by whomever; then its schema is up to date."""
        if not self._is_there and (found := _schema_of(self.engine)) is not None:
            if found != HEAD:
                with _explained(self.engine):
                    upgrade(self.engine, self.url)
            self._is_there = True
        return self._is_there

    def make(self) -> None:
        """Make it, where it isn't there yet; whatever changes something does this by itself.

        Raises:
            ConfigError: Its folder can't be written, or we may not make tables there.
        """
        if self.is_there():
            return
        with _explained(self.engine):
            if self.is_sqlite:
                make_file(self.engine.url)
            else:
                upgrade(self.engine, self.url)
        self._is_there = True

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction: committed at the end of the block, rolled back on an error.

        On SQLite it begins IMMEDIATE, so that reading first and writing later can't fail.

        Raises:
            TrackingUnavailableError: The server went away, or the file stayed locked for 30 s.
        """
        self.make()
        with _explained(self.engine), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: every query in the block sees the same state.

        Raises:
            TrackingUnavailableError: The server went away.
        """
        options: dict[str, Any] = {"guardianflow_read": True}
        if not self.is_sqlite:
            options["isolation_level"] = "REPEATABLE READ"
        is_there = self.is_there()
        engine = _NOTHING if self.is_sqlite and not is_there else self.engine
        with _explained(self.engine), engine.connect() as connection:
            connection.execution_options(**options)
            if not is_there:
                _show_empty_tables(connection)
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def lock(self, name: str, *, timeout_s: float = 30.0) -> Iterator[None]:
        """Hold a named lock that every process and thread on this database respects.

        It guards what lies outside the database (MLflow's aliases). It is no database lock: other
        writers go on. When its holder dies, it is free.

        Raises:
            ConflictError: Somebody else held it for all of ``timeout_s``.
        """
        self.make()
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        if self.is_sqlite:
            folder = lock_folder(Path(str(self.engine.url.database)))
            with process_lock(folder / f"{digest.hex()}.lock", timeout_s=timeout_s, what=name):
                yield
            return
        key = int.from_bytes(digest, "big", signed=True)
        with contextlib.ExitStack() as stack:
            with _explained(self.engine, waiting_for=name):
                connection = self.engine.connect()
                stack.callback(_let_go, connection)
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(timeout_s * 1000)}")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
            yield

    def close(self) -> None:
        """Give the connections back; the next :meth:`open` connects anew."""
        with self._guard:
            for key in [key for key, value in self._open.items() if value is self]:
                del self._open[key]
        self.engine.dispose()

    @classmethod
    def forget_parent(cls) -> None:
        """In a forked child: forget the parent's connections without closing them."""
        cls._guard = threading.Lock()
        for database in cls._open.values():
            database.engine.dispose(close=False)


_NOTHING = sa.create_engine("sqlite://", poolclass=sa.NullPool)
"""A database in memory, another one with each connection: what is read where no file is yet."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Database.forget_parent)


def _require_agreement(url: str) -> None:
    """Refuse a server that a file of the current folder names, and that the user's logins may not go to."""
    if server_of(url) and (settings := Settings()).database_url == url:
        settings.require_agreement("database_url")


def _create_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError(
            f"{_SETTING} {mask_secrets(url)!r} is not a database URL. "
            "Use sqlite:////absolute/file.db or postgresql://user:password@host/name."
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return sqlite_engine(parsed)
    if backend == "postgresql":
        return postgres_engine(parsed)
    raise ConfigError(
        f"{_SETTING} {mask_secrets(url)!r} is of kind {backend!r}; the state database is SQLite or PostgreSQL. "
        "Use sqlite:////absolute/file.db or postgresql://user:password@host/name."
    )


def _look(engine: Engine, seconds: float) -> tuple[str | None, Soundness]:
    path = Path(str(engine.url.database))
    reading, soundness = engine, Soundness()
    if engine.dialect.name == "sqlite":
        if not path.exists():
            return None, soundness
        reading = sa.create_engine("sqlite://", creator=lambda: connect_reading(path, seconds), poolclass=sa.NullPool)
        soundness = look_through_file(path, seconds=seconds)
        if soundness.damage:
            return HEAD, soundness
    with reading.connect() as connection:
        if reading is not engine:
            check_ours(connection.connection.cursor(), path)
        found = revision(connection)
    if found not in (None, HEAD):
        require_known(str(found), _shown(engine))
    if reading is engine and found == HEAD:
        soundness = look_through_server(engine, seconds=seconds)
    return found, soundness


def _schema_of(engine: Engine) -> str | None:
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        check_file(path)  # one that was there and is gone isn't a place for a new one
        if not path.exists():
            return None
    with _explained(engine), engine.connect() as connection:
        connection.execution_options(guardianflow_read=True)
        return revision(connection)


def _show_empty_tables(connection: Connection) -> None:
    """Our tables, empty, for this transaction alone: in memory, or as PostgreSQL's temporary tables."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL search_path = pg_temp")
    metadata.create_all(connection, checkfirst=False)


@contextlib.contextmanager
def _explained(engine: Engine, *, waiting_for: str = "") -> Iterator[None]:
    """Turn a failure of the database itself into an error of ours; a wrong statement stays what it is."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        explained = _explain(error, engine, waiting_for)
        if explained is None:
            raise
        raise explained from error


def _shown(engine: Engine) -> str:
    """Its URL without any secret: a password may stand in the query, too."""
    return mask_secrets(engine.url.render_as_string(hide_password=True))


def _let_go(connection: Connection) -> None:
    """Closing a connection ends its transaction, and with it the lock; a server that went away let go by itself."""
    with contextlib.suppress(sa.exc.DBAPIError):
        connection.close()


def _explain(error: sa.exc.DBAPIError, engine: Engine, waiting_for: str) -> GuardianFlowError | None:
    said = mask_secrets(" ".join(str(error.orig).split()))
    where = f"the state database {_shown(engine)}"
    advice = f"Check {_SETTING} with `guardianflow doctor`."
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if waiting_for and code in _LOCK_TIMEOUTS:
        return ConflictError(f"another process holds the lock of {waiting_for} and did not let go. Try again.")
    if code.startswith("40"):  # serialization failure, deadlock: PostgreSQL asks for another try
        return ConflictError(f"{where} could not serialise this change with another one ({said}). Try again.")
    if "not a database" in said or "malformed" in said:
        return ConfigError(f"{where} is damaged ({said}). Put a copy of it back: *.backup beside it is one. {advice}")
    unknown_option = isinstance(error, sa.exc.ProgrammingError) and engine.dialect.name == "postgresql" and not code
    if unknown_option or code.startswith(("28", "3D", "42501")) or "unable to open" in said or "readonly" in said:
        return ConfigError(f"{where} can't be used: {said}. {advice}")
    if isinstance(error, sa.exc.DataError):
        return InputError(f"{where} can't keep a value: {said}")
    if error.connection_invalidated or isinstance(
        error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError)
    ):
        return TrackingUnavailableError(f"{where} can't be used: {said}. {advice}")
    return None
