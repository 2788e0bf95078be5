"""A PostgreSQL that stops in the middle of a statement is said in time; one that only takes its time is waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from guardianflow.exceptions import TrackingUnavailableError
from guardianflow.runs.mlflow_answers import limit_answers
from guardianflow.state.database import Database
from guardianflow.state.postgres import postgres_engine
from tests.services.postgres import PostgresServer

pytestmark = [pytest.mark.services, pytest.mark.timeout(60)]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    url = make_url(postgres_url).update_query_dict({"connect_timeout": "2"})
    database = Database(postgres_engine(url, silence_s=0.5))
    yield database
    database.close()


def test_a_server_that_stops_is_said_in_time_and_used_again_when_it_goes_on(
    database: Database, postgres_server: PostgresServer
) -> None:
    def stopped_in_the_middle() -> None:
        with database.read() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
            with postgres_server.frozen():
                connection.scalar(sa.text("SELECT 2"))

    began = time.monotonic()
    with pytest.raises(TrackingUnavailableError, match=r"no answer within 0\.5 s, and none to another connection"):
        stopped_in_the_middle()
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT 3")) == 3
    with postgres_server.frozen(), pytest.raises(TrackingUnavailableError, match="timeout"), database.read():
        pass  # the connection that it keeps is asked whether it still is one
    assert time.monotonic() - began < 15


def test_one_that_takes_connections_and_never_answers_is_said_in_time(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    began = time.monotonic()
    with postgres_server.frozen(), pytest.raises(TrackingUnavailableError, match="GUARDIANFLOW_DATABASE_URL"):
        Database.open(f"{postgres_url}?connect_timeout=2")
    assert time.monotonic() - began < 8


def test_a_statement_may_take_its_time(database: Database) -> None:
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT 4 FROM pg_sleep(2)")) == 4


def test_mlflows_own_connections_are_watched_too(postgres_url: str) -> None:
    from mlflow.store.db import utils

    limit_answers()
    engine = utils.create_sqlalchemy_engine(postgres_url)
    with engine.connect() as connection:
        assert type(connection.connection.driver_connection).__name__ == "Watched"
    engine.dispose()
