"""A verb that only reads leaves nothing behind: no folder, no database, no MLflow; it says what there is to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from guardianflow.cli import VERBS, app, load_verb
from guardianflow.core.config import Settings, env_names
from guardianflow.dashboard.api import create_app
from guardianflow.state.database import Database
from guardianflow.state.tables import metadata

READING = {
    "doctor": 0,
    "list experiments": 0,
    "list runs": 0,
    "list models": 0,
    "list versions gate": 2,
    "history gate": 2,
    "download gate": 2,
    "runs show abc": 2,
    "runs reap --dry-run": 0,
    "runs prune": 0,
    "study list": 0,
    "study show abc": 2,
    "metrics summary": 0,
    "metrics trend map50": 0,
    "metrics compare map50 --by version": 0,
    "metrics query": 0,
    "alerts list": 0,
    "alerts check": 0,
    "keys list": 0,
    "optimize": 0,
    "compare a b": 2,
    "scan .": 0,
    "scenario new train": 0,
    "scenario schema": 0,
    "scenario check nothing.yaml": 2,
    "scenario show nothing.yaml": 2,
    "eval detection gt.json pred.json": 2,
    "eval mot gt.txt result.txt": 2,
    # What changes something only once it has found what to change: here it finds nothing.
    "promote gate": 2,
    "rollback gate": 2,
    "reject gate 1 --reason no": 2,
    "delete gate 1 --reason no": 2,
    "infer --model models:/gate@champion --data nothing.yaml": 2,
    "train --model models:/gate@champion --data nothing.yaml": 2,
    "quant --source models:/gate@champion --data nothing.yaml": 2,
    "run nothing.yaml": 2,
    "run --again abc": 2,
    "batch nothing.yaml": 2,
    "sweep nothing.yaml": 2,
    "wrap nothing.py": 2,
}
"""Command → its exit code where nothing is yet."""

CHANGING = {"init", "demo", "register", "api", "dashboard", "lab", "stack"}
"""Verbs that make something, or stay open."""
CHANGING_PARTS = {"metrics export", "alerts ack", "keys create", "keys revoke"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in env_names().values():
        monkeypatch.delenv(name, raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    yield empty
    Database.open(Settings().database_url).close()


def call(words: str) -> Result:
    return CliRunner().invoke(app, words.split())


def test_every_verb_is_one_that_reads_or_one_that_changes() -> None:
    tried = {" ".join(words.split()[:count]) for words in READING for count in (1, 2)}
    for name in set(VERBS) - CHANGING:
        parts = getattr(load_verb(name), "commands", None)
        assert {f"{name} {part}" for part in parts} - CHANGING_PARTS <= tried if parts else name in tried


@pytest.mark.parametrize("words", READING)
def test_it_leaves_an_empty_folder_empty(words: str, place: Path) -> None:
    answer = call(words)
    assert answer.exit_code == READING[words], answer.output
    assert answer.stdout + answer.stderr
    assert [*place.rglob("*")] == []


def test_where_nothing_is_yet_the_next_step_is_said(place: Path) -> None:
    for words in ("list runs", "list models", "study list", "metrics summary", "metrics query", "keys list"):
        assert "`guardianflow " in re.sub(r"`\S*/guardianflow ", "`guardianflow ", call(words).stderr), words


def test_a_folder_that_can_not_be_written_is_no_hindrance(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc: no folder is surely read-only here")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", "/proc/self/work")
    for words, code in READING.items():
        if words != "doctor":  # it says that nothing can be written
            assert call(words).exit_code == code, words


def test_a_folder_that_may_only_be_read_is_read(place: Path) -> None:
    made = Database.open(Settings().database_url)
    made.make()
    made.close()
    # Root writes where it likes, unless it gives that up.
    powers = "-dac_override,-dac_read_search"
    first = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"] if os.geteuid() == 0 else []
    if first and shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing: apt-get install util-linux")
    work = place / "guardianflow-work"
    before = sorted(place.rglob("*"))
    work.chmod(0o555)
    try:
        command = [*first, sys.executable, "-c", "from guardianflow.cli import main; main()"]
        for words, code, says in (("list runs", 0, "no run yet"), ("keys create ann --role viewer", 2, "readonly")):
            done = subprocess.run([*command, *words.split()], capture_output=True, text=True, check=False)
            assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    finally:
        work.chmod(0o755)
    assert sorted(place.rglob("*")) == before


@pytest.mark.services
def test_a_server_gets_no_table(place: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", postgres_url)
    for words, code in READING.items():
        answer = call(words)
        assert answer.exit_code == code, answer.output
    assert [*place.rglob("*")] == []
    engine = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'"
        assert set(connection.execute(sa.text(schemas)).scalars()) == {"public", "information_schema"}
        assert sa.inspect(connection).get_table_names() == []
    engine.dispose()


def test_the_api_and_the_pages_leave_nothing(place: Path) -> None:
    from fastapi.testclient import TestClient

    from guardianflow.widgets.comparison_view import ComparisonView
    from guardianflow.widgets.fleet import FleetPanel
    from guardianflow.widgets.optimizer import OptimizerPanel
    from guardianflow.widgets.registry_panel import RegistryPanel
    from guardianflow.widgets.run_monitor import RunMonitor
    from guardianflow.widgets.start import StartPanel
    from guardianflow.widgets.trends import TrendsPanel

    with TestClient(create_app(), base_url="http://127.0.0.1") as client:
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            if "get" in methods:
                assert client.get(re.sub(r"\{[^}]*\}", "1", path)).status_code in (200, 401)
    for page in (StartPanel, FleetPanel, OptimizerPanel, RegistryPanel, TrendsPanel, ComparisonView, RunMonitor):
        page().draw()
    assert [*place.rglob("*")] == []


def test_the_first_change_makes_it_whole(database_url: str) -> None:
    database = Database.open(database_url)
    with database.read() as connection:
        found = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
            for table in metadata.tables.values()
        ]
    assert found == [0] * len(metadata.tables)
    assert not database.is_there()
    with database.write():
        pass
    with database.read() as connection:
        assert sa.inspect(database.engine).has_table("guardianflow_version")
    database.close()


def test_what_another_process_makes_is_seen(database_url: str) -> None:
    looking = Database.open(database_url)
    assert not looking.is_there()
    made = Database(looking.engine)
    made.make()
    assert looking.is_there()
    looking.close()
