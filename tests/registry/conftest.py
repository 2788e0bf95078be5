"""Fixtures of the model registry's tests: each runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil

import pytest

from tests.registry.registry_world import World


@pytest.fixture(scope="session")
def sqlite_world(tmp_path_factory, mlflow_sqlite_template) -> World:
    folder = tmp_path_factory.mktemp("sqlite world")
    shutil.copy(mlflow_sqlite_template, folder / "mlflow.db")
    return World(folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db", database_url=f"sqlite:///{folder}/상태 state.db")


@pytest.fixture(scope="session")
def postgres_world(tmp_path_factory, postgres_server, mlflow_postgres_template):
    """MLflow and our state in one PostgreSQL database, as a team may have it."""
    name = postgres_server.create(template=mlflow_postgres_template)
    url = postgres_server.url(name)
    yield World(tmp_path_factory.mktemp("postgres world"), mlflow_uri=url, database_url=url)
    postgres_server.drop(name)


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def world(request) -> World:
    """One MLflow and one state database of each kind; every test takes models of its own."""
    kind = {"sqlite": "sqlite_world", "postgresql": "postgres_world"}[request.param]
    return request.getfixturevalue(kind)
