"""The server that the service tests use, from the package that brings it where the machine has none."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from guardianflow.stack import postgres
from guardianflow.stack.postgres import copy_programs, find_programs, packaged_programs
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.services


def test_the_packaged_server_starts_from_a_folder_that_is_its_owners_alone(tmp_path: Path) -> None:
    programs = copy_programs(packaged_programs()[0], tmp_path / "closed")  # tmp_path is closed to other users
    server = PostgresServer(programs)
    try:
        server.start()
        with psycopg.connect(server.url(server.create())) as connection:
            assert connection.execute("SELECT '한글'").fetchone() == ("한글",)
            assert connection.info.server_version >= 160000
    finally:
        server.stop()


def test_the_packaged_server_is_taken_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("initdb", "postgres"):
        (own / name).touch(mode=0o755)
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_programs() == packaged_programs()[0]
    monkeypatch.setenv("PATH", str(own))
    assert find_programs() == own
