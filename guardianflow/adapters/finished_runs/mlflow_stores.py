"""MLflow's stores of runs, read without MLflow: folders of files (``mlruns``) and SQLite databases.

MLflow 3 refuses file stores, and opens a database only after it has migrated it. Here nothing is written: files are
parsed, a database is opened read-only, and what an older MLflow didn't have is not missed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from guardianflow.adapters.finished_runs.folders import (
    FinishedRun,
    UnreadableRun,
    content_digest,
    kept_files,
    moment,
    plain_file,
)
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import InputError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.runs.mlflow_runs import local_folder
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.names import free_name
from guardianflow.text.printable import printable

__all__ = ["read_mlflow_store"]

_PARENT_TAG = "mlflow.parentRunId"
_KEPT_TAGS = ("mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit", "mlflow.note.content",
              "guardianflow.dataset_fingerprint")  # fmt: skip
_OWN = ("mlflow.", "guardianflow.")
_STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: RunStatus.FINISHED, 4: RunStatus.FAILED, 5: RunStatus.KILLED}
"""How a file store writes a status."""
_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
_INFINITE = 1.7976931348623157e308  # what MLflow's databases keep for infinity
_META = "meta.yaml"
_NEVER = datetime.min.replace(tzinfo=UTC)
_OF_A_RUN = ("params", "tags", "metrics")
_SIDECARS = ("-wal", "-journal")
_PATIENCE_S = 120.0
_LARGEST_COPY = 4_000_000_000
_LONGEST_VALUE, _LONGEST_LINE = 16_384, 1_024
_MAX_RUNS, _MAX_FILES, _MAX_POINTS = 20_000, 5_000, 5_000_000


@dataclass
class _StoredRun:
    """A run as its store has it: the facts of its meta.yaml, or of its row in the table of runs."""

    place: Path
    experiment: str
    facts: Mapping[Any, Any]
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float, int | None]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return str(self.facts.get("run_id") or self.facts.get("run_uuid") or "")


def read_mlflow_store(path: Path, root: Path) -> Iterator[FinishedRun | UnreadableRun]:
    """The runs of a store, those that others are nested in first; deleted ones are none.

    Args:
        path: ``mlruns``, one experiment in it, or an SQLite file.
        root: The folder that was scanned: artifacts outside of it are left alone.

    Raises:
        InputError: It is no such store, or can't be read.
    """
    runs: list[FinishedRun] = []
    for number, found in enumerate(_in_files(path, root) if path.is_dir() else _in_database(path)):
        if number >= _MAX_RUNS:
            yield UnreadableRun(path, f"it holds more than {_MAX_RUNS:,} runs; the others are left out")
            break
        if isinstance(found, UnreadableRun):
            yield found
        else:
            runs.append(_finished(found, path, root))
    parents = {run.source_id: run.parent_id for run in runs}
    yield from sorted(runs, key=lambda run: (_depth(run.source_id, parents), run.started or _NEVER, run.source_id))


def _depth(run_id: str, parents: Mapping[str, str]) -> int:
    """How many runs a run is nested in, one in the other."""
    above: set[str] = set()
    while (run_id := parents.get(run_id, "")) and run_id not in above:
        above.add(run_id)
    return len(above)


def _is_active(facts: Mapping[Any, Any]) -> bool:
    return facts.get("lifecycle_stage") in {None, "active"}


# ---- a database ------------------------------------------------------------------------------------


def _in_database(path: Path) -> Iterator[_StoredRun]:
    try:
        with _opened(path) as connection:
            # Only true tables: a view in a database from outside may compute without end.
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"experiments", "runs"} <= tables:
                raise InputError(
                    f"{printable(path)} has no tables `experiments` and `runs`: it is no database of MLflow"
                )
            experiments = {row["experiment_id"]: row["name"] for row in _rows(connection, "experiments")}
            points = count(1)
            for facts in _rows(connection, "runs"):
                run = _StoredRun(path, str(experiments.get(facts["experiment_id"]) or ""), facts)
                if run.run_id and facts["experiment_id"] in experiments:
                    own = {table: _rows(connection, table, run.run_id) for table in _OF_A_RUN if table in tables}
                    run.params, run.tags = (_texts(own.get(table, ())) for table in ("params", "tags"))
                    _add_metrics(run, own.get("metrics", ()), points)
                    yield run
    except (sqlite3.Error, KeyError) as error:
        raise InputError(f"{printable(path)} can't be read as a database of MLflow ({error})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database, opened so that not a byte of it changes."""
    files = [path, *(side for end in _SIDECARS if (side := path.with_name(path.name + end)).is_file())]
    with contextlib.ExitStack() as stack:
        uri = f"{path.as_uri()}?mode=ro&immutable=1"
        if any(side.stat().st_size for side in files[1:]):
            # Somebody writes to it, or was killed while writing. To read what is in the journal, SQLite must
            # write: it does so in a copy.
            if sum(file.stat().st_size for file in files) > _LARGEST_COPY:
                raise InputError(
                    f"{printable(path)} is in use and too large to be copied; stop the MLflow that writes to it, and "
                    "try again"
                )
            folder = stack.enter_context(ScratchFolder("import"))
            for file in files:
                shutil.copyfile(file, folder / file.name)
            uri = (folder / path.name).as_uri()
        connection = stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True)))
        connection.text_factory = lambda content: content.decode("utf-8", "replace")
        until = time.monotonic() + _PATIENCE_S
        connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection


def _rows(connection: sqlite3.Connection, table: str, run_id: str | None = None) -> Iterator[dict[str, Any]]:
    """What stands in a table (of ours to name), all of it or a run's; of runs and experiments those not deleted."""
    where = "" if run_id is None else " WHERE run_uuid = ?"
    found = connection.execute(f"SELECT * FROM {table}{where}", () if run_id is None else (run_id,))  # noqa: S608
    names = [column[0] for column in found.description]
    rows = (dict(zip(names, row, strict=True)) for row in found)
    yield from (row for row in rows if _is_active(row))


def _texts(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {str(row["key"]): str(row["value"] or "")[:_LONGEST_VALUE] for row in rows}


# ---- a folder: in it one of each experiment, in that one of each run, in that a file for each metric -----


def _in_files(path: Path, root: Path) -> Iterator[_StoredRun | UnreadableRun]:
    known, points = False, count(1)
    for place in [path] if plain_file(path / _META, root) else _folders(path):
        try:
            facts = _meta(place, root)
        except InputError as error:
            yield UnreadableRun(place, str(error))
            continue
        known |= "experiment_id" in facts
        for folder in _folders(place) if "experiment_id" in facts and _is_active(facts) else ():
            try:
                run = _StoredRun(folder, str(facts.get("name", place.name)), _meta(folder, root))
                if run.run_id and _is_active(run.facts):
                    _read_files(run, root, points)
                    yield run
            except (InputError, OSError) as error:
                yield UnreadableRun(folder, str(error))
    if not known:
        raise InputError(f"{printable(path)} holds no experiment of MLflow (a folder with a meta.yaml)")


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(folder for folder in found if not folder.name.startswith("."))


def _meta(folder: Path, root: Path) -> dict[Any, Any]:
    """What a folder's meta.yaml says; nothing where it has none."""
    file = folder / _META
    return load_yaml_mapping(file, what=_META) if plain_file(file, root) else {}


def _read_files(run: _StoredRun, root: Path, points: Iterator[int]) -> None:
    for kind, texts in (("params", run.params), ("tags", run.tags)):
        for name, file in _named_files(run, kind, root):
            with file.open("rb") as stream:
                texts[name] = stream.read(_LONGEST_VALUE).decode("utf-8", "replace")
    for name, file in _named_files(run, "metrics", root):
        with file.open("rb") as stream:
            # Before MLflow 1.0 without a step, and with the time in seconds.
            words = (line.split() for line in iter(partial(stream.readline, _LONGEST_LINE), b""))
            lines = (dict(zip(("timestamp", "value", "step"), cells, strict=False)) for cells in words if cells)
            _add_metrics(run, ({"key": name, **line} for line in lines), points)


def _named_files(run: _StoredRun, kind: str, root: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder: ``train/loss`` lies in a folder ``train``."""
    folder = run.place / kind
    below = (Path(place, name) for place, _, names in os.walk(folder, followlinks=False) for name in names)
    files = list(islice(below, _MAX_FILES + 1))
    if len(files) > _MAX_FILES:
        run.remarks.append(f"{kind}: more than {_MAX_FILES:,} files; the others are left out")
    for file in sorted(files[:_MAX_FILES]):
        if plain_file(file, root):
            yield file.relative_to(folder).as_posix(), file
        else:
            run.remarks.append(f"{printable(file)} is no plain file of the scanned folder and is left out")


# ---- what becomes of it ----------------------------------------------------------------------------


def _add_metrics(run: _StoredRun, rows: Iterable[Mapping[str, Any]], points: Iterator[int]) -> None:
    """Rows of a table, or lines of a file, as points: step, value, ms."""
    broken: Counter[str] = Counter()
    for row in rows:
        if next(points) > _MAX_POINTS:
            run.remarks.append(f"its store holds more than {_MAX_POINTS:,} points; the others are left out")
            break
        try:
            value = math.nan if row.get("is_nan") else float(row["value"])
            step, time_ms = int(row.get("step") or 0), int(float(row["timestamp"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            broken[str(row["key"])] += 1
            continue
        point = (step, value, time_ms if time_ms > 10**11 else time_ms * 1000)
        run.metrics.setdefault(str(row["key"]), []).append(point)
    run.remarks += [
        f"metric {printable(name)}: {number} damaged line(s) are left out" for name, number in broken.items()
    ]


def _finished(run: _StoredRun, store: Path, root: Path) -> FinishedRun:
    for rows in run.metrics.values():
        # Older versions logged without a step: there the order in time is all there is.
        rows.sort(key=lambda point: (point[0], point[2] or 0))
    history = _history(run)
    said = run.facts.get("status")
    status = _STATUSES.get(said, "") if isinstance(said, int) else str(said or "")
    folder = _artifact_folder(run, store, root)
    artifacts, left_out = kept_files(folder, every=True) if folder is not None else ((), [])
    remarks = [*run.remarks, *left_out]
    if status not in _ENDED:
        remarks.insert(0, f"its store shows it as {printable(status or 'nothing at all')}: it never said that it ended")
        status = RunStatus.KILLED
    if folder is None and run.facts.get("artifact_uri"):
        remarks.append("its artifacts don't lie in the scanned folder and are left where they are")
    names = [run.facts.get("run_name"), run.facts.get("name"), run.tags.get("mlflow.runName"), run.run_id[:12]]
    return FinishedRun(
        path=run.place,
        kind="mlflow",
        name=next(str(name) for name in names if name),
        experiment=run.experiment,
        parameters=run.params,
        history=history,
        epochs=max((len({step for step, _, _ in points}) for points in history.values()), default=0),
        status=status,
        started=_time(run.facts.get("start_time")),
        ended=_time(run.facts.get("end_time")),
        digest=_digest(run, status),
        stem=content_digest("mlflow stem", [run.run_id.encode(errors="surrogateescape")]),
        artifacts=artifacts,
        artifact_root=folder or Path(),
        tags={key: value for key, value in run.tags.items() if key in _KEPT_TAGS or not key.startswith(_OWN)},
        source_id=run.run_id,
        parent_id=run.tags.get(_PARENT_TAG, ""),
        remarks=tuple(remarks),
    )


def _time(ms: Any) -> datetime | None:
    return moment(ms / 1000) if isinstance(ms, int) else None


def _history(run: _StoredRun) -> dict[str, list[tuple[int, float, int | None]]]:
    found: dict[str, list[tuple[int, float, int | None]]] = {}
    for name, points in run.metrics.items():
        legal = free_name(legal_metric_name(name), found)
        found[legal] = [
            (step, math.copysign(math.inf, value) if abs(value) >= _INFINITE else value, time_ms)
            for step, value, time_ms in points
        ]
    return found


def _digest(run: _StoredRun, status: str) -> str:
    """Of the content, so that a store moved from files into a database is the same."""
    content = {
        "status": status,
        "params": run.params,
        "metrics": {name: [(step, repr(value)) for step, value, _ in rows] for name, rows in run.metrics.items()},
    }
    text = json.dumps([run.run_id, content], sort_keys=True, ensure_ascii=True)
    return content_digest("mlflow", [text.encode(errors="surrogateescape")])


def _artifact_folder(run: _StoredRun, store: Path, root: Path) -> Path | None:
    """Where a run's artifacts lie, if that is inside the scanned folder; a moved store has them beside it."""
    candidates = [run.place / "artifacts"]
    uri = str(run.facts.get("artifact_uri") or "")
    try:
        named = local_folder(uri) if uri else None
        if named is not None:
            candidates = [store.parent / named, *candidates]
            candidates += [store.parent / Path(*named.parts[-depth:]) for depth in (3, 4) if len(named.parts) > depth]
        for folder in candidates:
            inside = folder.resolve().is_relative_to(root.resolve())
            # The last folders name the run: a store that says "/" gets nothing.
            if inside and folder.is_dir() and run.run_id in folder.parts:
                return folder
    except (OSError, ValueError, RuntimeError):  # no address, or no path
        return None
    return None
