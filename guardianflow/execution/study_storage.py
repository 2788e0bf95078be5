"""Where Optuna keeps the studies: a file of their own in the work folder, or a schema of their own in PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from guardianflow.core.config import Settings, mask_secrets, sqlite_url
from guardianflow.exceptions import ConfigError, GuardianFlowError, SchemaTooNewError, TrackingUnavailableError
from guardianflow.state.database import Database
from guardianflow.state.postgres import watch_server

__all__ = ["open_storage"]

STUDIES_FILE = "studies.db"
SCHEMA = "guardianflow_studies"
_BUSY_SECONDS = 30

_opened: dict[tuple[int, str, Path], optuna.storages.BaseStorage] = {}
_guard = threading.Lock()


def open_storage(settings: Settings, *, makes: bool = False) -> optuna.storages.BaseStorage:
    """The storage of all studies; the same one within a process. Where none is yet, an empty one in memory.

    Args:
        settings: Where it is.
        makes: Make it, where it isn't there yet.

    Raises:
        ConfigError: The file can't be read.
        SchemaTooNewError: A newer Optuna has written it.
        TrackingUnavailableError: The database doesn't answer.
    """
    logging.getLogger("optuna").setLevel(logging.WARNING)
    key = (os.getpid(), settings.database_url, settings.work_dir)
    with _guard:
        if key not in _opened:
            database = Database.open(settings.database_url)
            if not makes and not _is_there(settings, database):
                return optuna.storages.InMemoryStorage()
            with _explained(settings, database), database.lock("studies", timeout_s=2 * _BUSY_SECONDS):
                _opened[key] = _open(settings, database)
        return _opened[key]


def _is_there(settings: Settings, database: Database) -> bool:
    if database.is_sqlite:
        return (settings.work_dir / STUDIES_FILE).exists()
    with database.read() as connection:
        return bool(connection.exec_driver_sql(f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL").scalar())


def _open(settings: Settings, database: Database) -> optuna.storages.BaseStorage:
    if database.is_sqlite:
        file = settings.work_dir / STUDIES_FILE
        with contextlib.closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        url = sqlite_url(file)
        # Python begins a transaction with its first write; IMMEDIATE waits for its turn, whatever was read before.
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS, "isolation_level": "IMMEDIATE"}}
    else:
        with database.write() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        place = database.engine.url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
        url = place.render_as_string(hide_password=False)
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    raw = url.replace("{", "{{").replace("}", "}}")  # Optuna takes it for a format
    storage = optuna.storages.RDBStorage(raw, options, skip_compatibility_check=True)
    watch_server(storage.engine)
    storage.engine.dispose()  # it has made its tables over a connection that isn't watched
    current = storage.get_current_version()
    if current not in storage.get_all_versions():
        raise SchemaTooNewError(f"the studies were written by a newer Optuna (schema {current}); install that one here")
    if current != storage.get_head_version():
        storage.upgrade()
    return optuna.storages.get_storage(storage)


@contextlib.contextmanager
def _explained(settings: Settings, database: Database) -> Iterator[None]:
    try:
        yield
    except (GuardianFlowError, KeyboardInterrupt):
        raise
    except Exception as error:
        said = mask_secrets(" ".join(str(error.__cause__ or error).split()))
        if database.is_sqlite:
            raise ConfigError(
                f"the studies in {settings.work_dir / STUDIES_FILE} can't be read ({said}); put a copy of the file "
                "back, or move it away to begin without studies"
            ) from error
        raise TrackingUnavailableError(f"the studies in {database.url} can't be read: {said}") from error
