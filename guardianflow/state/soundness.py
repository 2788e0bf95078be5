"""What a database can tell of its own damage: pages, indexes that don't fit their table, a journal cut in its middle.

Whoever works with a database meets damage only where it reads. Here all of it is looked at, without a change, for as
long as there is time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from guardianflow.exceptions import TrackingUnavailableError
from guardianflow.state.schema_upgrade import VERSION_TABLE
from guardianflow.state.tables import metadata

__all__ = ["Soundness", "connect_reading", "look_through_file", "look_through_server", "says_of_pages"]

_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock
_WAL_MAGIC = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}  # sqlite.org/fileformat2.html#walformat
_HEAD, _FRAME = 32, 24
_TIMED_OUT, _FORBIDDEN = "57014", "42501"


@dataclass(frozen=True)
class Soundness:
    """What was found.

    Attributes:
        damage: What is damaged; empty where nothing was found.
        indexes_only: Whether all rows can be read and only indexes must be made anew.
        unseen: What there was no time or no right to look at.
    """

    damage: str = ""
    indexes_only: bool = False
    unseen: str = ""


def connect_reading(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection to an SQLite file that only reads; where a crash left a journal, SQLite must put it right first.

    In a folder that may not be written SQLite can't have its journal, and reads the file as it is.

    Raises:
        sqlite3.Error: It can't be opened.
    """
    journal = Path(f"{path}-wal")
    was_there = journal.exists()
    try:
        reading = _connect(path, "ro", timeout_s)
        if was_there or not journal.exists():
            return reading
        reading.close()  # it has made an empty journal and may not remove it; the other kind does
        return _connect(path, "rw", timeout_s)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
        is_closed = not (was_there and journal.stat().st_size)
        return _connect(path, "rw" if os.access(path.parent, os.W_OK) or not is_closed else "ro&immutable=1", timeout_s)


def _connect(path: Path, mode: str, timeout_s: float) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def look_through_file(path: Path, *, seconds: float) -> Soundness:
    """Look through an SQLite file: its journal, its pages (1 s for 700 MB), its indexes (1 s for 25 MB).

    Raises:
        TrackingUnavailableError: It can't be looked through now: another program holds it, say.
    """
    deadline = time.monotonic() + seconds
    if said := _journal_damage(Path(f"{path}-wal"), deadline):
        return Soundness(said)
    try:
        with contextlib.closing(connect_reading(path, seconds)) as connection:
            pages = says_of_pages(connection, deadline)
            if pages != "ok":
                return Soundness(pages or "", unseen="" if pages else "its pages and indexes")
            rows = says_of_pages(connection, deadline, check="integrity_check")
            return Soundness("" if rows in (None, "ok") else rows, rows is not None, "" if rows else "its indexes")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BROKEN:
            raise TrackingUnavailableError(
                f"{path} can't be looked through now ({error}); try again when nothing is at work on it"
            ) from error
        return Soundness(str(error))


def says_of_pages(connection: sqlite3.Connection, deadline: float, *, check: str = "quick_check") -> str | None:
    """What SQLite finds wrong first, or ``"ok"``; ``None`` where the time is over before it is through.

    Args:
        connection: To the file.
        deadline: When to stop, by :func:`time.monotonic`.
        check: ``quick_check`` for the pages, ``integrity_check`` for the indexes, too.
    """
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        return " ".join(str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0]).split())
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)


def _journal_damage(wal: Path, deadline: float) -> str:
    """Whether the journal is damaged before its end. SQLite takes it for a crash's and drops the rest without a word.

    A frame that is torn at the end is what a crash leaves. One that is whole behind one that isn't proves damage.
    """
    try:
        content = wal.open("rb")
    except FileNotFoundError:
        return ""
    with content as file:
        head = file.read(_HEAD)
        if not any(head):
            return ""
        order = _WAL_MAGIC.get(head[:4])
        if len(head) < _HEAD or order is None or _checksum(head[:24], order, (0, 0)) != _pair(head[24:]):
            return f"the head of its journal {wal.name} is damaged, and the changes in it can't be read"
        size, salts, before, broken = int.from_bytes(head[8:12], "big"), head[16:24], head[24:], 0
        for number, frame in enumerate(iter(lambda: file.read(_FRAME + size), b""), 1):
            if len(frame) < _FRAME + size or time.monotonic() > deadline:
                break
            is_ours = frame[8:16] == salts
            if not is_ours or _checksum(frame[:8] + frame[_FRAME:], order, _pair(before)) != _pair(frame[16:24]):
                broken = broken or number
            elif broken:
                return f"its journal {wal.name} is damaged at change {broken}, and all that follows it is lost"
            before = frame[16:24]
    return ""


def _pair(content: bytes) -> tuple[int, int]:
    first, second = struct.unpack(">II", content)
    return first, second


def _checksum(content: bytes, order: str, seed: tuple[int, int]) -> tuple[int, int]:
    words = array("I", content)
    if order != ("<" if array("I", b"\1\0\0\0")[0] == 1 else ">"):
        words.byteswap()
    one, two = seed
    numbers = iter(words)
    for first, second in zip(numbers, numbers, strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def look_through_server(engine: Engine, *, seconds: float) -> Soundness:
    """What PostgreSQL can tell of our tables: wrong checksums that it met, every value read, indexes (by amcheck).

    Raises:
        sqlalchemy.exc.DBAPIError: It doesn't answer.
    """
    deadline = time.monotonic() + seconds
    unseen: list[str] = []
    with engine.connect() as connection:
        for what, statement in _questions(connection):
            try:
                _ask(connection, statement, deadline)
            except sa.exc.DBAPIError as error:
                code = str(getattr(error.orig, "sqlstate", None) or "")
                if error.connection_invalidated or not code:
                    raise
                if code not in (_TIMED_OUT, _FORBIDDEN):
                    return Soundness(f"{what}: {' '.join(str(error.orig).split())}", what.startswith("the index"))
                unseen.append(what)
        wrong = connection.exec_driver_sql(
            "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
        ).scalar()
    damage = f"PostgreSQL met {wrong} pages in it whose checksum is wrong" if wrong else ""
    return Soundness(damage, unseen=", ".join(unseen))


def _ask(connection: Connection, statement: str, deadline: float) -> None:
    with connection.begin():
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int((deadline - time.monotonic()) * 1000))}")
        for way in ("indexscan", "indexonlyscan", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        connection.exec_driver_sql(statement)


def _questions(connection: Connection) -> Iterator[tuple[str, str]]:
    """What each statement looks through, and the statement."""
    names = sorted([*metadata.tables, VERSION_TABLE])
    with connection.begin():
        checker = connection.exec_driver_sql(
            "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
            "WHERE extname = 'amcheck'"
        ).scalar()
        indexes = connection.execute(
            sa.text(
                "SELECT i.indexrelid::oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                "JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am a ON a.oid = c.relam "
                "WHERE i.indisvalid AND a.amname = 'btree' AND pg_table_is_visible(t.oid) AND t.relname IN :names "
                "ORDER BY c.relname"
            ).bindparams(sa.bindparam("names", expanding=True)),
            {"names": names},
        ).all()
    for name in names:
        yield f"the table {name}", f"SELECT count(each::text) FROM {name} AS each"  # noqa: S608 - names of ours
    for number, name in indexes if checker else ():
        yield f"the index {name}", f"SELECT {checker}.bt_index_check({int(number)}, true)"
