"""MLflow's SQLite databases, opened so that not a byte of them changes."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from guardianflow.adapters.finished_runs.mlflow_source import MAX_VALUE, SourceRun, whole
from guardianflow.exceptions import InputError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.text.printable import printable

__all__ = ["read_database"]

_MAX_POINTS = 5_000_000
_PATIENCE_S = 120.0
_LARGEST_COPY = 4_000_000_000
_SIDECARS = ("-wal", "-journal")


def read_database(path: Path) -> Iterator[SourceRun]:
    """The active runs in a database.

    Raises:
        InputError: It is no database of MLflow, or can't be read.
    """
    try:
        with _opened(path) as connection:
            yield from _Reader(connection, path).runs()
    except sqlite3.Error as error:
        raise InputError(f"{printable(path)} can't be read as a database of MLflow ({error})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.ExitStack() as stack:
        beside = [side for end in _SIDECARS if (side := path.with_name(path.name + end)).is_file()]
        if any(side.stat().st_size for side in beside):
            # Somebody writes to it, or was killed while writing. To read what is in the journal, SQLite must
            # write: it does so in a copy.
            folder = stack.enter_context(ScratchFolder("import"))
            path = _copied(path, beside, folder)
            uri = path.as_uri()
        else:
            uri = f"{path.as_uri()}?mode=ro&immutable=1"
        connection = stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True)))
        connection.text_factory = lambda content: content.decode("utf-8", "replace")
        connection.row_factory = sqlite3.Row
        until = time.monotonic() + _PATIENCE_S
        connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection


def _copied(path: Path, beside: list[Path], folder: Path) -> Path:
    files = [path, *beside]
    if sum(file.stat().st_size for file in files) > _LARGEST_COPY:
        raise InputError(
            f"{printable(path)} is in use and too large to be copied; stop the MLflow that writes to it, and try again"
        )
    try:
        for file in files:
            shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise InputError(f"{printable(path)} can't be read ({error.strerror or error}); check its rights") from error
    return folder / path.name


class _Reader:
    """Reads the tables of any MLflow since 1.0; a column that isn't there is empty."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._points = 0
        # Only true tables: a view in a database from outside may compute without end.
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = {str(row[0]) for row in rows}
        if not {"experiments", "runs"} <= self._tables:
            raise InputError(f"{printable(path)} has no tables `experiments` and `runs`: it is no database of MLflow")

    def runs(self) -> Iterator[SourceRun]:
        names = {
            str(row["experiment_id"]): str(row["name"] or "")
            for row in self._rows("experiments", ("experiment_id", "name", "lifecycle_stage"))
            if row["lifecycle_stage"] in (None, "active")
        }
        columns = ("run_uuid", "name", "experiment_id", "status", "start_time", "end_time", "artifact_uri",
                   "lifecycle_stage")  # fmt: skip
        rows = [row for row in self._rows("runs", columns) if row["lifecycle_stage"] in (None, "active")]
        for row in rows:
            if str(row["experiment_id"]) in names and row["run_uuid"]:
                yield self._run(row, names[str(row["experiment_id"])])

    def _run(self, row: sqlite3.Row, experiment: str) -> SourceRun:
        run_id = str(row["run_uuid"])
        run = SourceRun(run_id=run_id, place=self._path, experiment=experiment)
        run.tags = self._texts("tags", run_id)
        run.params = self._texts("params", run_id)
        run.name = str(row["name"] or run.tags.get("mlflow.runName", ""))
        run.status = str(row["status"] or "")
        run.start_ms, run.end_ms = whole(row["start_time"]), whole(row["end_time"])
        run.artifacts = str(row["artifact_uri"] or "")
        self._add_metrics(run)
        return run

    def _add_metrics(self, run: SourceRun) -> None:
        columns = ("key", "value", "timestamp", "step", "is_nan")
        for row in self._rows("metrics", columns, run.run_id, order=("step", "timestamp")):
            self._points += 1
            if self._points > _MAX_POINTS:
                run.remarks.append(f"the database holds more than {_MAX_POINTS:,} points; the others are left out")
                return
            try:
                value = float("nan") if row["is_nan"] else float(row["value"])
                point = (int(row["step"] or 0), value, whole(row["timestamp"]))
            except (TypeError, ValueError, OverflowError):
                continue
            run.metrics.setdefault(str(row["key"]), []).append(point)

    def _texts(self, table: str, run_id: str) -> dict[str, str]:
        rows = self._rows(table, ("key", "value"), run_id)
        return {str(row["key"]): str(row["value"] or "")[:MAX_VALUE] for row in rows}

    def _rows(
        self, table: str, wanted: tuple[str, ...], run_id: str | None = None, order: tuple[str, ...] = ()
    ) -> Iterator[sqlite3.Row]:
        """The wanted columns of a table, all names our own; a column that this MLflow doesn't have is ``None``."""
        if table not in self._tables:
            return
        known = {str(row["name"]) for row in self._connection.execute(f"PRAGMA table_info({table})")}
        if run_id is not None and "run_uuid" not in known:
            return
        chosen = ", ".join(name if name in known else f"NULL AS {name}" for name in wanted)
        query = f"SELECT {chosen} FROM {table}"  # noqa: S608 - names of this module's own
        if run_id is not None:
            query += " WHERE run_uuid = ?"
        if sorts := ", ".join(name for name in order if name in known):
            query += f" ORDER BY {sorts}"
        yield from self._connection.execute(query, () if run_id is None else (run_id,))
