"""Whether MLflow's store can be opened: found out before MLflow touches it, and said in one sentence.

MLflow itself answers a database of another version, a damaged one or a refused one with a traceback, after up to
100 s of retries, and takes an empty file for a new store. Here a database is looked at first, without a change to it.
The file in our own work folder is made and migrated by us, whole or not at all (see
:mod:`guardianflow.runs.tracking_schema`); every other store belongs to whoever runs it.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from guardianflow.core.config import SettingOrigin, Settings, mask_secrets, sqlite_path
from guardianflow.exceptions import ConfigError, GuardianFlowError, MissingDependencyError, TrackingUnavailableError
from guardianflow.runs.delivery import brief
from guardianflow.runs.tracking_schema import (
    TABLES,
    installed_mlflow,
    known_revisions,
    latest_revision,
    make_file,
    make_tables,
    migrate_file,
)
from guardianflow.state.postgres import watch_server
from guardianflow.state.soundness import connect_reading, says_of_pages

__all__ = ["StoreState", "explain_failure", "look_at_store", "no_mlflow", "open_store"]

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_SERVERS = ("http", "https", "databricks")
_PACKAGES = {"MySQLdb": "mysqlclient"}  # a driver's module → its package, where they differ
_TIMED = ("postgresql", "mysql")
_CHECK_S = 0.5  # of a file's pages: 250 MB
_OURS = ("gf_", "guardianflow_")  # one database may hold MLflow's tables and those of our own state
_ELSEWHERE = "or set MLFLOW_TRACKING_URI to another store"
_UNTOUCHED = "Nothing was changed."
_FIRST = {"experiments", "runs"}  # as old as MLflow's databases

# What a store says that no second try will mend.
_DAMAGED = re.compile(r"malformed|not a database|disk I/O error|no such (table|column)|undefined(table|column)")
_FORBIDDEN = re.compile(
    r"authentication failed|access denied|permission denied|does not exist|unknown database|no pg_hba"
    r"|readonly database|unable to open database file|attempt to write"
)  # fmt: skip
_NO_MLFLOW = re.compile(r"not in a valid json format|error code (404|405|501)|expecting value")


@dataclass(frozen=True)
class StoreState:
    """A store that can be used.

    Attributes:
        where: Its URI or file, without passwords.
        schema: ``"new"`` (MLflow's tables are made when it is opened), ``"current"``, ``"older"`` (our own file, which
            is migrated when it is opened) or ``"unknown"`` (a server, which looks after its own).
        runs: How many it holds; ``None`` where that isn't known.
    """

    where: str
    schema: Literal["new", "current", "older", "unknown"]
    runs: int | None = None


def look_at_store(settings: Settings, *, timeout_s: float = 10.0) -> StoreState:
    """Find out whether MLflow's store can be opened, without a change to it; servers are not asked.

    Args:
        settings: Which store.
        timeout_s: Limit in seconds for reaching a database.

    Raises:
        ConfigError: It is no store, a damaged one, one of another version, or we may not use it; or the user hasn't
            agreed to it.
        MissingDependencyError: The database's driver is not installed.
        TrackingUnavailableError: It doesn't answer.
    """
    uri = settings.mlflow_tracking_uri
    settings.require_agreement("mlflow_tracking_uri")
    scheme = _scheme(uri)
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"MLFLOW_TRACKING_URI {mask_secrets(uri)!r} is no database or server; "
            "use sqlite:////folder/mlflow.db, postgresql://… or http://…"
        )
    if scheme in _SERVERS:
        return StoreState(mask_secrets(uri), "unknown")
    if scheme == "sqlite":
        return _look_at_file(settings, timeout_s)
    limit = {"connect_timeout": max(1, int(timeout_s))} if scheme in _TIMED else {}
    with _explained(settings):
        engine = sa.create_engine(uri, poolclass=sa.pool.NullPool, connect_args=limit)
        watch_server(engine)
        with engine.connect() as connection:
            return _judge(connection, settings, mask_secrets(uri))


def open_store(settings: Settings) -> None:
    """Make sure that MLflow can open its store: make what isn't there yet, migrate our own file.

    Raises:
        ConfigError: As :func:`look_at_store`; or our own file can't be made or migrated, and is as it was.
        MissingDependencyError: The database's driver is not installed.
        TrackingUnavailableError: It doesn't answer.
    """
    state = look_at_store(settings)
    uri = settings.mlflow_tracking_uri
    path = sqlite_path(uri)
    with _explained(settings):
        if path is not None and state.schema == "older":
            migrate_file(path)
        elif path is not None and not path.exists():
            make_file(path)
        elif state.schema == "new" and _scheme(uri) == "postgresql":
            make_tables(uri)


def explain_failure(error: Exception, settings: Settings) -> GuardianFlowError:
    """What MLflow or its database raised, as one sentence with the next step."""
    if isinstance(error, GuardianFlowError):
        return error
    uri = settings.mlflow_tracking_uri
    scheme, where, said = _scheme(uri), _where(uri), brief(getattr(error, "orig", None) or error)
    heard = str(error).lower()
    name = "MLflow's store" if scheme not in _SERVERS else "MLflow"
    check = "`guardianflow doctor` checks it"
    if isinstance(error, ImportError):
        package = _PACKAGES.get(error.name or "", error.name)
        return MissingDependencyError(
            f"{name} at {where} needs a driver that is not installed ({said}): pip install {package}, {_ELSEWHERE}"
        )
    if isinstance(error, (sa.exc.ArgumentError, ValueError)):
        return ConfigError(f"MLFLOW_TRACKING_URI {where} can't be used ({said}). Correct it; {check}")
    if isinstance(error, OSError):
        return ConfigError(f"{name} {where} can't be made or read ({said}). Correct the folder's rights, {_ELSEWHERE}")
    if scheme in _SERVERS and _NO_MLFLOW.search(heard):
        return no_mlflow(settings, said)
    if scheme not in _SERVERS and _DAMAGED.search(heard):
        return ConfigError(
            f"{name} {where} is damaged, or no database of MLflow's ({said}). Put a backup in its place, or move it "
            f"away (the next run makes a new one), {_ELSEWHERE}. {_UNTOUCHED}"
        )
    if scheme not in _SERVERS and _FORBIDDEN.search(heard):
        return ConfigError(
            f"{name} at {where} can't be used ({said}). Correct its login or rights, or MLFLOW_TRACKING_URI; {check}"
        )
    return TrackingUnavailableError(
        f"{name} at {where} can't be used ({said}): start it, or correct MLFLOW_TRACKING_URI; {check}"
    )


def no_mlflow(settings: Settings, said: str) -> ConfigError:
    """A server answers, but not as MLflow does."""
    return ConfigError(
        f"what answers at {_where(settings.mlflow_tracking_uri)} is no MLflow ({said}). Correct MLFLOW_TRACKING_URI; "
        "`guardianflow doctor` checks it"
    )


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    try:
        yield
    except GuardianFlowError:
        raise
    except (sa.exc.SQLAlchemyError, sqlite3.Error, ImportError, OSError, ValueError) as error:
        raise explain_failure(error, settings) from error


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].partition("+")[0].lower()


def _where(uri: str) -> str:
    return str(sqlite_path(uri) or mask_secrets(uri))


def _look_at_file(settings: Settings, timeout_s: float) -> StoreState:
    path = sqlite_path(settings.mlflow_tracking_uri)
    if path is None:
        raise ConfigError(
            f"MLFLOW_TRACKING_URI {settings.mlflow_tracking_uri} is not a file, so its runs vanish with the process; "
            "use sqlite:////folder/mlflow.db"
        )
    with _explained(settings):
        if not path.exists():
            return StoreState(str(path), "new")
        if not path.is_file():
            raise ConfigError(f"MLflow's store {path} is a folder, not a database; move it away, {_ELSEWHERE}")
        if path.stat().st_size == 0:
            raise _empty(path, "0 bytes")
        engine = sa.create_engine(
            "sqlite://", creator=lambda: connect_reading(path, timeout_s), poolclass=sa.pool.NullPool
        )
        with engine.connect() as connection:
            pages: Any = connection.connection.driver_connection
            # For a moment: whoever opens a store of gigabytes doesn't wait for all of it.
            if (said := says_of_pages(pages, time.monotonic() + _CHECK_S)) not in (None, "ok"):
                raise sqlite3.DatabaseError(f"database disk image is malformed: {said}")
            return _judge(connection, settings, str(path))


def _judge(connection: sa.Connection, settings: Settings, where: str) -> StoreState:
    """Hold a database's schema against the one that the installed MLflow needs."""
    tables = set(sa.inspect(connection).get_table_names())
    found = _revisions(connection) if "alembic_version" in tables else []
    is_mlflow = tables >= _FIRST
    if not found:
        return _older(settings, where, "none") if is_mlflow else _without_mlflow(connection, tables, settings, where)
    known = len(found) == 1 and found[0] in known_revisions()
    if not known and not is_mlflow:
        raise _foreign(settings, where, f"its table alembic_version (schema {found[0]!r})")
    if not known:
        raise ConfigError(
            f"MLflow's store {where} was written by a newer MLflow: its schema {', '.join(map(repr, found))} is "
            f"unknown to mlflow {installed_mlflow()}. Install that MLflow (`pip install --upgrade mlflow`), "
            f"{_ELSEWHERE}. {_UNTOUCHED}"
        )
    if found[0] != latest_revision():
        return _older(settings, where, found[0])
    if lost := sorted(TABLES - tables):
        raise ConfigError(
            f"MLflow's store {where} is damaged: it lacks the tables {', '.join(lost)}. Put a backup in its place, "
            f"{_ELSEWHERE}. {_UNTOUCHED}"
        )
    return StoreState(where, "current", connection.scalar(sa.text("SELECT count(*) FROM runs")))


def _revisions(connection: sa.Connection) -> list[str]:
    return [str(row[0]) for row in connection.execute(sa.text("SELECT version_num FROM alembic_version"))]


def _without_mlflow(connection: sa.Connection, tables: set[str], settings: Settings, where: str) -> StoreState:
    """A database without MLflow's tables: a new one, one that we share with it, or somebody else's."""
    is_file = connection.dialect.name == "sqlite"
    if is_file and not tables:
        raise _empty(Path(where), "no table")
    others = {name for name in tables if not name.startswith(_OURS)} if is_file else tables & TABLES
    if others:
        raise _foreign(settings, where, f"the tables {', '.join(sorted(others)[:3])}")
    return StoreState(where, "new")


def _foreign(settings: Settings, where: str, what: str) -> ConfigError:
    return ConfigError(
        f"{where} is no store of MLflow's: another program has {what} there. Give MLflow a database of its own in "
        f"MLFLOW_TRACKING_URI (now from: {_origin(settings)}). {_UNTOUCHED}"
    )


def _empty(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"MLflow's store {path} is empty ({what}), which no store is that held runs. Put a backup in its place, or "
        f"move the file away (the next run makes a new one), {_ELSEWHERE}. {_UNTOUCHED}"
    )


def _older(settings: Settings, where: str, found: str) -> StoreState:
    if _is_own(settings):
        return StoreState(where, "older")
    raise ConfigError(
        f"MLflow's store {where} was written by an older MLflow: its schema is {found}, and mlflow "
        f"{installed_mlflow()} needs {latest_revision()}. Make a copy of it, then run "
        f"`{_upgrade_command(settings)}`. {_UNTOUCHED}"
    )


def _is_own(settings: Settings) -> bool:
    path = sqlite_path(settings.mlflow_tracking_uri)
    return path is not None and path == settings.work_dir / "mlflow.db"


def _origin(settings: Settings) -> str:
    return settings.origins["mlflow_tracking_uri"]


def _upgrade_command(settings: Settings) -> str:
    uri = settings.mlflow_tracking_uri
    if mask_secrets(uri) == uri:
        return f"mlflow db upgrade {shlex.quote(uri)}"
    if _origin(settings) == SettingOrigin.ENV:  # the shell has the password, and the message hasn't
        return 'mlflow db upgrade "$MLFLOW_TRACKING_URI"'
    return f"mlflow db upgrade {shlex.quote(mask_secrets(uri))}` with the password in the place of `***"
