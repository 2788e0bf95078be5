"""The engine of our own state: registry ledger, run records, metrics.

One URL decides: ``sqlite:///…`` (WAL, every write transaction ``BEGIN IMMEDIATE``, 30 s busy
timeout) or ``postgresql://…``. Opening a database brings its schema up to date under a lock; a
schema that is newer than this code is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from guardianflow._imports import require
from guardianflow.core.config import mask_secrets
from guardianflow.exceptions import ConfigError, SchemaTooNewError, TrackingUnavailableError

__all__ = ["Database", "metadata", "metric_records", "model_events", "model_states", "model_versions", "run_records"]

log = logging.getLogger(__name__)

BUSY_SECONDS = 30
_MIGRATION_LOCK = 0x67_66_6C_77  # advisory-lock key: "gflw"

metadata = sa.MetaData()

_JSON = sa.JSON()
_TIME = sa.DateTime(timezone=True)
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

model_states = sa.Table(
    "model_states",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("gen", sa.Integer, nullable=False),
    sa.Column("champion", sa.String(20)),
    sa.Column("candidate", sa.String(20)),
    sa.Column("rollback", sa.String(20)),
    sa.Column("updated", _TIME, nullable=False),
)
"""The authority over aliases: one row a model, moved by compare-and-set on ``gen``."""

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("version", sa.String(20), primary_key=True),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("dataset_fingerprint", sa.String(64)),
    sa.Column("metrics", _JSON, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("created", _TIME, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
)
"""What was registered: one row a version, with the hash its file must have. Status: ready, rejected, deleted."""

model_events = sa.Table(
    "model_events",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("gen", sa.Integer, nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("version", sa.String(20)),
    sa.Column("champion", sa.String(20)),
    sa.Column("candidate", sa.String(20)),
    sa.Column("rollback", sa.String(20)),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("evidence", _JSON, nullable=False),
    sa.Column("time", _TIME, nullable=False),
    sa.UniqueConstraint("name", "gen", name="uq_model_events_name_gen"),
)
"""The ledger: append-only, one row for every move of a model's state, written with the move."""

run_records = sa.Table(
    "run_records",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("tracking_uri", sa.Text, nullable=False),
    sa.Column("experiment", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("parameters", _JSON, nullable=False),
    sa.Column("template", sa.Text),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("again_of", sa.String(64)),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("boot", sa.String(64), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("pid_started", sa.Float, nullable=False),
    sa.Column("heartbeat", _TIME, nullable=False),
    sa.Column("started", _TIME, nullable=False),
    sa.Column("ended", _TIME),
    sa.Column("progress", _JSON, nullable=False),
)
"""One row a run: who executes it, whether that process lives, and what it was asked to do."""
sa.Index("ix_run_records_status", run_records.c.status)
sa.Index("ix_run_records_experiment_started", run_records.c.experiment, run_records.c.started)

metric_records = sa.Table(
    "metric_records",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(64), nullable=False, unique=True),
    sa.Column("time", _TIME, nullable=False),
    sa.Column("received", _TIME, nullable=False),
    sa.Column("metric", sa.String(250), nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("invalid", sa.String(4)),
    sa.Column("model", sa.String(200)),
    sa.Column("version", sa.String(20)),
    sa.Column("site", sa.String(200)),
    sa.Column("camera", sa.String(200)),
    sa.Column("task", sa.String(40)),
    sa.Column("experiment", sa.String(200)),
    sa.Column("run_id", sa.String(64)),
    sa.Column("device", sa.String(100)),
    sa.Column("source", sa.String(100)),
    sa.Column("tags", _JSON, nullable=False),
)
"""Measurements. ``value`` is NULL exactly where ``invalid`` says nan, inf or -inf."""
sa.Index("ix_metric_records_metric_time", metric_records.c.metric, metric_records.c.time)
sa.Index("ix_metric_records_model_time", metric_records.c.model, metric_records.c.time)
sa.Index("ix_metric_records_run", metric_records.c.run_id)


class Database:
    """An open state database whose schema is the one this code expects.

    Use :meth:`open`; it returns the same object for the same URL within a process.

    Attributes:
        url: Where it is, without the password.
        engine: The SQLAlchemy engine.
    """

    _open: dict[tuple[int, str], Database] = {}
    _guard = threading.Lock()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.url = mask_secrets(engine.url.render_as_string(hide_password=True))

    @classmethod
    def open(cls, url: str) -> Database:
        """Connect and bring the schema up to date.

        Raises:
            ConfigError: The URL can't be used, or its folder can't be written.
            SchemaTooNewError: A newer GuardianFlow has written this database.
            TrackingUnavailableError: The server doesn't answer.
        """
        key = (os.getpid(), url)  # a forked child must not share its parent's connections
        with cls._guard:
            if key not in cls._open:
                database = cls(_create_engine(url))
                upgrade(database.engine)
                cls._open[key] = database
            return cls._open[key]

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded default."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction: committed at the end of the block, rolled back on an error.

        On SQLite it begins IMMEDIATE, so that reading first and writing later can't fail.
        """
        with self.engine.connect() as connection:
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: every query in the block sees the same state."""
        with self.engine.connect().execution_options(guardianflow_read=True) as connection:
            yield connection
            connection.rollback()

    def close(self) -> None:
        """Give the connections back; the next :meth:`open` connects anew."""
        with self._guard:
            for key in [key for key, value in self._open.items() if value is self]:
                del self._open[key]
        self.engine.dispose()


def _create_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            f"GUARDIANFLOW_DATABASE_URL {mask_secrets(url)!r} is not a database URL. "
            "Use sqlite:////absolute/file.db or postgresql://user:password@host/name."
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite_engine(parsed)
    if backend == "postgresql":
        require("psycopg", extra="postgres", purpose="a PostgreSQL state database")
        return sa.create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "application_name": "guardianflow"},
        )
    raise ConfigError(f"state databases are SQLite or PostgreSQL, not {backend!r} ({mask_secrets(url)})")


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("the state database must be a file, because several processes share it: sqlite:////folder/x.db")
    folder = Path(url.database).expanduser().absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of the state database can't be made: {folder} ({error.strerror}). Set GUARDIANFLOW_WORK_DIR."
        ) from error
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _prepare(dbapi_connection, _record):  # type: ignore[no-untyped-def]
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get("guardianflow_read")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def upgrade(engine: Engine) -> None:
    """Apply the migrations that this database lacks, one process at a time.

    Raises:
        SchemaTooNewError: The database is newer than this code.
        TrackingUnavailableError: The database doesn't answer.
    """
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    head = scripts.get_current_head()
    try:
        with engine.connect() as connection, connection.begin():
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
        with engine.connect() as connection, connection.begin():
            _migrate(connection, scripts, head)
    except sa.exc.OperationalError as error:
        raise TrackingUnavailableError(
            f"the state database {engine.url.render_as_string(hide_password=True)} can't be used: "
            f"{str(error.orig).strip()}. Check GUARDIANFLOW_DATABASE_URL with `guardianflow doctor`."
        ) from error
