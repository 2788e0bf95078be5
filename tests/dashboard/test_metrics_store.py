"""The metrics store, by one contract over SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardianflow.core.config import sqlite_url
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import ConfigError, InputError, TrackingUnavailableError
from guardianflow.state.database import Database
from guardianflow.testing.store_suite import MetricsStoreSuite

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class TestOnSqlite(MetricsStoreSuite):
    @pytest.fixture
    def store_url(self, tmp_path):
        folder = tmp_path / "상태 100% db"
        folder.mkdir()
        return sqlite_url(folder / "state.db")

    def test_a_time_is_stored_as_sqlalchemy_writes_it(self, store_url, tmp_path):
        """Two ways of writing one column must sort and compare alike."""
        store = MetricsStore(store_url, clock=lambda: NOW)
        store.save_metrics([MetricRecord(NOW, "m", 1.0)])
        with sqlite3.connect(tmp_path / "상태 100% db/state.db") as connection:
            (row,) = connection.execute("SELECT time, received, tags FROM gf_metric_records").fetchall()

        assert row == ("2026-05-01 00:00:00.000000", "2026-05-01 00:00:00.000000", "{}")

    def test_a_writer_that_is_locked_out_says_so(self, store_url, tmp_path):
        database = Database.open(store_url)
        store = MetricsStore(database=database)
        store.save_metrics([MetricRecord(NOW, "m", 1.0)])
        with database.write() as other:
            other.exec_driver_sql("SELECT 1")
            script = (
                "import sys\nfrom guardianflow.state import sqlite_engine\nsqlite_engine.BUSY_SECONDS = 0.2\n"
                "from guardianflow.core.metrics import MetricRecord\n"
                "from guardianflow.dashboard.metrics_store import MetricsStore\n"
                "from guardianflow.exceptions import TrackingUnavailableError\nfrom datetime import datetime, UTC\n"
                "store = MetricsStore(sys.argv[1])\n"
                "try: store.save_metrics([MetricRecord(datetime.now(UTC), 'm', 2.0)])\n"
                "except TrackingUnavailableError as error: print(error)\n"
            )
            done = subprocess.run(
                [sys.executable, "-c", script, store_url], capture_output=True, text=True, timeout=60, check=True
            )

        assert "locked" in done.stdout
        assert "guardianflow doctor" in done.stdout


class TestOnPostgresql(MetricsStoreSuite):
    @pytest.fixture
    def store_url(self, postgres_url):
        return postgres_url

    def test_a_server_that_dies_is_named_without_its_password(self, postgres_url, postgres_server):
        store = MetricsStore(postgres_url)
        store.save_metrics([MetricRecord(NOW, "m", 1.0)])
        name = postgres_url.rpartition("/")[2].partition("?")[0]
        postgres_server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with pytest.raises((TrackingUnavailableError, ConfigError), match="guardianflow doctor"):
            store.save_metrics([MetricRecord(NOW, "m", 2.0)])
        postgres_server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

        assert store.save_metrics([MetricRecord(NOW, "m", 2.0)]).stored == 1


def test_the_default_is_the_configured_state_database(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", sqlite_url(tmp_path / "x.db"))
    MetricsStore().save_metrics([MetricRecord(NOW, "m", 1.0)])

    assert (tmp_path / "x.db").is_file()


def test_a_url_and_a_database_together_are_refused(tmp_path):
    url = sqlite_url(tmp_path / "x.db")
    with pytest.raises(ConfigError, match="not both"):
        MetricsStore(url, database=Database.open(url))


@pytest.mark.parametrize("target", ["s3://", "s3://bucket", "s3://bucket/folder/", "s3://bucket/figures.parquet"])
def test_an_object_that_cant_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(InputError, match=r"names no object|can't be written: Could not connect"):
        MetricsStore(f"sqlite:///{tmp_path}/state.db").export_to_parquet(target)
