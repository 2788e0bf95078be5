"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two tests at a time share the cores: threads of one that wait must not spin where those of the other compute.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Worker processes and fixtures import `tests.…`, from whatever folder pytest was started.
_ROOT = str(Path(__file__).resolve().parents[1])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from guardianflow.core.config import Settings  # noqa: E402
from guardianflow.exceptions import MissingDependencyError  # noqa: E402
from tests.services import ray_cluster as ray_services  # noqa: E402
from tests.services.postgres import PostgresServer  # noqa: E402
from tests.trainings import tiny_data, trained, training_settings  # noqa: E402, F401 - fixtures


def pytest_sessionstart() -> None:
    """A ``.env`` of the checkout (``guardianflow stack init`` makes one) would have tests write to its servers."""
    if (Path(_ROOT) / ".env").exists():
        pytest.exit(f"{_ROOT}/.env names servers that the tests would write to; move it away while they run", 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is of the long form alone is left to ``make test-fire``; files whose tests may take longest come first."""
    if not os.environ.get("GUARDIANFLOW_FIRE"):
        long = [item for item in items if item.get_closest_marker("fire")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    longest: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), limit.args[0] if limit else 0)
    items.sort(key=lambda item: -longest[item.path])  # else one worker ends with them while the other has nothing left


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where all that tests need was brought (.ci/run), a skip for another reason than the allowed ones is a failure."""
    allowed = os.environ.get("GUARDIANFLOW_SKIPS")
    if allowed is None:
        return
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])}
    if needless := sorted(reason for reason in reasons if not re.search(allowed, reason)):
        terminalreporter.section("skipped, though nothing may be missing here", red=True)
        for reason in needless:
            terminalreporter.line(reason)
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_not_ignored() -> None:
    """A shell that starts us in the background has SIGINT ignored, here and in every process we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the session; skips, and says how to get it, where its programs are missing."""
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install 'guardianflow[postgres]'")
    try:
        server = PostgresServer()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh state database: the test runs once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/상태 state.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def mlflow_sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database file, made once: its schema takes seconds. Tests copy it."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture(scope="session")
def ray_cluster(
    tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path
) -> Iterator[ray_services.RayCluster]:
    """A Ray cluster of two nodes for the session; skips, and says how to get it, where Ray is missing."""
    pytest.importorskip("ray", reason=ray_services.HOW_TO_GET_IT)
    work_dir = tmp_path_factory.mktemp("cluster") / "work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    cluster = ray_services.RayCluster(Settings(work_dir=work_dir))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def mlflow_postgres_template(postgres_server: PostgresServer) -> str:
    """A PostgreSQL database with MLflow's schema, made once. Tests create theirs from it."""
    from mlflow import MlflowClient

    name = postgres_server.create()
    url = postgres_server.url(name)
    MlflowClient(url, url).search_registered_models()
    # A template must have no connections, and MLflow keeps its engine for the life of the process.
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    for store in (RegistryStore, TrackingStore):
        for known in list(store._engine_map) if hasattr(store, "_engine_map") else []:
            if name in known:
                store._engine_map.pop(known).dispose()
    return name
