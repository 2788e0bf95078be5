"""The file of an embedded state database: refused, untouched, where it can't be what it was; copied before it changes.

SQLite takes an empty file for a new database and a foreign one for ours to add tables to. Here a new one appears
whole or not at all, so an empty one is never ours.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import sqlite3
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from guardianflow.exceptions import ConfigError, GuardianFlowError
from guardianflow.files.process_lock import process_lock

__all__ = ["back_up", "check_file", "check_tables", "lock_folder", "make_whole"]

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_NEW_LOCK = "new.lock"
_LOCK_SECONDS = 60.0


def lock_folder(path: Path) -> Path:
    """Where the locks of a state database lie; it stays when the database is moved away."""
    return Path(f"{path}.locks")


def check_file(path: Path) -> None:
    """Refuse a file that is no whole SQLite database, and a place where one was; nothing is opened or written.

    Raises:
        ConfigError: The message says what is wrong and the way back.
    """
    wrong = _what_is_wrong(path)
    if wrong:
        raise ConfigError(f"the state database {path} can't be used: {wrong}. {_way_back(path)}")


def check_tables(path: Path, found: Collection[str], *, version_table: str, needed: Collection[str]) -> None:
    """Refuse a database that is another program's, or that lacks tables of ours.

    Args:
        path: Its file.
        found: The tables in it.
        version_table: The table that every state database has.
        needed: The tables that one of the current schema has; empty where its schema is another one.

    Raises:
        ConfigError: The message says what is wrong and the way back.
    """
    theirs = sorted(name for name in found if not name.startswith(("gf_", "sqlite_")))
    missing = sorted(set(needed) - set(found))
    if version_table not in found and theirs:
        listed = ", ".join(theirs[:4]) + (", …" if len(theirs) > 4 else "")
        raise ConfigError(
            f"{path} is a database of another program (its tables: {listed}), and GuardianFlow adds nothing to it. "
            "Name another file in GUARDIANFLOW_DATABASE_URL, or leave it out."
        )
    if version_table not in found:
        wrong = f"it lacks the table {version_table}" if found else "it is a database without any table"
    elif missing:
        wrong = f"it lacks the tables {', '.join(missing)}"
    else:
        return
    raise ConfigError(f"the state database {path} can't be used: {wrong}. {_way_back(path)}")


def make_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a state database where there is none: beside its place first, one process at a time.

    Args:
        path: Its place.
        fill: Makes the tables in the file that it is given, and lets go of it.

    Raises:
        ConfigError: The folder can't be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with process_lock(lock_folder(path) / _NEW_LOCK, timeout_s=_LOCK_SECONDS, what="a new state database"):
            if path.exists():  # another process was faster
                return
            try:
                fill(draft)
                draft.rename(path)
            finally:
                for ending in ("", "-wal", "-shm", "-journal"):
                    Path(f"{draft}{ending}").unlink(missing_ok=True)
    except GuardianFlowError:
        raise
    except OSError as error:
        raise ConfigError(
            f"the state database {path} can't be made ({error.strerror or error}). "
            "Set GUARDIANFLOW_WORK_DIR to a folder you may write, or make room."
        ) from error


def back_up(path: Path, schema: str) -> Path:
    """Copy a state database beside itself, as it was last committed.

    Args:
        path: Its file, which others may have open.
        schema: Its schema, for the copy's name.

    Returns:
        The copy.

    Raises:
        ConfigError: It can't be copied.
    """
    copy = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%d-%H%M%S}-schema-{schema}.backup")
    draft = path.with_name(f".{copy.name}.{secrets.token_hex(6)}.part")
    try:
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)
        draft.rename(copy)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"the state database {path} must be brought up to date and is copied first, which fails ({error}); it is "
            "as it was. Make room in its folder, or allow writing there."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return copy


def _what_is_wrong(path: Path) -> str:
    if not path.exists():
        return _what_was_there(path)
    if not path.is_file():
        return "it is a folder" if path.is_dir() else "it is no regular file"
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
        size = path.stat().st_size
    except OSError as error:
        return f"{error.strerror or error}"
    if not header:
        return "it is empty (0 bytes), and a state database never is"
    if not header.startswith(_MAGIC[: len(header)]):
        return "it is not an SQLite database"
    if len(header) < _HEADER or (size < _pages_bytes(header) and not _has_content(Path(f"{path}-wal"))):
        return f"it is cut off: {size:,} bytes of at least {max(_HEADER, _pages_bytes(header)):,}"
    return ""


def _what_was_there(path: Path) -> str:
    """Whether a database was where none is: a link that leads nowhere, its journal, locks of its models."""
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, where nothing is; mount that disk, or correct the link"
    if _has_content(Path(f"{path}-wal")):
        return f"it is gone, and its journal {path.name}-wal, which holds a part of it, is still there"
    locks = lock_folder(path)
    locked = locks.is_dir() and any(item.name != _NEW_LOCK for item in locks.glob("*.lock"))
    if locked and not path.exists():  # or another process has just made it
        return f"it is gone: {locks.name} beside it says that models were registered in it"
    return ""


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _pages_bytes(header: bytes) -> int:
    """What the header says of the file's size; 0 where an old SQLite left it out. See sqlite.org/fileformat.html."""
    if len(header) < _HEADER or header[24:28] != header[92:96]:
        return 0
    page = int.from_bytes(header[16:18], "big")
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def _way_back(path: Path) -> str:
    kept = sorted(path.parent.glob(f"{glob.escape(path.name)}.*.backup"), key=os.path.getmtime)
    copy = f"; the newest that GuardianFlow made is {kept[-1].name}" if kept else ""
    return (
        f"Nothing was changed. Put a copy of it back{copy}, or correct GUARDIANFLOW_DATABASE_URL. Without a copy, move "
        f"{path.name} and all that begins with this name away: a new one is made then, and `guardianflow register NAME "
        "--run RUN_ID` takes up the versions and the champion that MLflow still knows of that model; run records and "
        "the ledger's history are lost."
    )
