"""PostgreSQL, waited for as long as it lives: one that takes a statement and says nothing more is asked another way.

A machine that goes away is noticed by TCP. A server that is stopped, or that swallows what it is sent, is not: its side
of the connection stays open, and the client's library would wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from guardianflow._imports import require

__all__ = ["postgres_engine", "watch_server"]

SILENCE_S = 30.0
_CONNECT_S = 10


def postgres_engine(url: URL, *, silence_s: float = SILENCE_S) -> Engine:
    """An engine for a PostgreSQL database; what the URL says of its connections wins.

    Args:
        url: Of the database.
        silence_s: As :func:`watch_server`.
    """
    require("psycopg", extra="postgres", purpose="a PostgreSQL state database")
    options: dict[str, object] = {
        "connect_timeout": _CONNECT_S,
        "application_name": "guardianflow",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        max_overflow=20,
        connect_args={name: value for name, value in options.items() if name not in url.query},
    )
    watch_server(engine, silence_s=silence_s)
    return engine


def watch_server(engine: Engine, *, silence_s: float = SILENCE_S) -> None:
    """Have an engine's connections fail where their server has gone silent; another driver's stay as they are.

    Args:
        engine: Its statements may take as long as they like while the server answers others.
        silence_s: Seconds without a word after which it is asked, over another connection, whether it lives.
    """
    if engine.dialect.driver != "psycopg":
        return
    import psycopg

    class Watched(psycopg.Connection[Any]):
        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            return super().wait(_watched(self, gen, silence_s), *args, **options)

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, args: Any, options: Any) -> Any:
        return Watched.connect(*args, **options)


def _watched(connection: Any, steps: Generator[Any, Any, Any], silence_s: float) -> Generator[Any, Any, Any]:
    """Psycopg's steps of one exchange. Each is told what the socket is ready for; several times a second: nothing."""
    from psycopg import OperationalError

    heard = time.monotonic()
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_s:
                if not _lives(connection.info.dsn):
                    connection.close()
                    raise OperationalError(f"no answer within {silence_s:g} s, and none to another connection")
                heard = time.monotonic()
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


def _lives(dsn: str) -> bool:
    from psycopg import pq

    return pq.PGconn.ping(dsn.encode()) != pq.Ping.NO_RESPONSE
