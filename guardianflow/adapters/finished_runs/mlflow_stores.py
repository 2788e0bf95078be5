"""MLflow's stores of runs, read without MLflow: folders of files (``mlruns``) and SQLite databases.

MLflow 3 refuses file stores, and opens a database only after it has migrated it. Here nothing is written: files are
parsed, a database is opened read-only, and tables or columns that an older MLflow didn't have are not missed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from guardianflow.adapters.finished_runs.folders import FinishedRun, UnreadableRun, content_digest, kept_files, moment
from guardianflow.adapters.finished_runs.mlflow_databases import read_database
from guardianflow.adapters.finished_runs.mlflow_folders import read_folder
from guardianflow.adapters.finished_runs.mlflow_source import SourceRun
from guardianflow.core.metrics import legal_metric_name
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.names import free_name

__all__ = ["read_mlflow_store"]

PARENT_TAG = "mlflow.parentRunId"
_KEPT_TAGS = ("mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit", "mlflow.note.content",
              "guardianflow.dataset_fingerprint")  # fmt: skip
_OWN = ("mlflow.", "guardianflow.")
_ENDED = (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED)
_MAX_RUNS = 20_000
_INFINITE = 1.7976931348623157e308  # what MLflow's databases keep for infinity
_WEIGHTS = (".pt", ".pth", ".ckpt", ".onnx", ".safetensors")


def read_mlflow_store(path: Path, root: Path) -> Iterator[FinishedRun | UnreadableRun]:
    """The runs of a store, those that others are nested in first.

    Args:
        path: ``mlruns``, one experiment or run in it, or an SQLite file.
        root: The folder that was scanned: artifacts outside of it are left alone.

    Raises:
        InputError: It is no such store, or can't be read.
    """
    runs: list[SourceRun] = []
    for number, found in enumerate(read_folder(path, root) if path.is_dir() else read_database(path)):
        if number >= _MAX_RUNS:
            yield UnreadableRun(path, f"it holds more than {_MAX_RUNS:,} runs; the others are left out")
            break
        if isinstance(found, UnreadableRun):
            yield found
        else:
            runs.append(found)
    for run in _parents_first(runs):
        yield _finished(run, path, root)


def _parents_first(runs: Sequence[SourceRun]) -> Iterable[SourceRun]:
    parents = {run.run_id: run.tags.get(PARENT_TAG, "") for run in runs}

    def depth(run_id: str) -> int:
        seen: set[str] = set()
        while (run_id := parents.get(run_id, "")) and run_id not in seen:
            seen.add(run_id)
        return len(seen)

    return sorted(runs, key=lambda run: (depth(run.run_id), run.start_ms or 0, run.run_id))


def _finished(run: SourceRun, store: Path, root: Path) -> FinishedRun:
    history = _history(run)
    status, why = _status(run)
    folder = _artifact_folder(run, store, root)
    kept = kept_files(folder, every=True) if folder is not None else None
    files = kept.files if kept else ()
    remarks = [*why, *run.remarks, *(kept.remarks if kept else ())]
    if folder is None and run.artifacts:
        remarks.append("its artifacts don't lie in the scanned folder and are left where they are")
    return FinishedRun(
        path=run.place,
        kind="mlflow",
        name=run.name or run.run_id[:12],
        experiment=run.experiment,
        parameters=run.params,
        history=history,
        epochs=max((len({step for step, _, _ in points}) for points in history.values()), default=0),
        status=status,
        started=moment(run.start_ms / 1000) if run.start_ms is not None else None,
        ended=moment(run.end_ms / 1000) if run.end_ms is not None else None,
        digest=_digest(run, status),
        stem=content_digest("mlflow stem", [run.run_id.encode(errors="surrogateescape")]),
        artifacts=files,
        artifact_root=folder or Path(),
        weights=_weights(files),
        tags={key: value for key, value in run.tags.items() if key in _KEPT_TAGS or not key.startswith(_OWN)},
        source_id=run.run_id,
        parent_id=run.tags.get(PARENT_TAG, ""),
        remarks=tuple(remarks),
    )


def _history(run: SourceRun) -> dict[str, list[tuple[int, float, int | None]]]:
    found: dict[str, list[tuple[int, float, int | None]]] = {}
    for name, points in run.metrics.items():
        # Older versions logged without a step: there the order in time is all there is.
        ordered = sorted(points, key=lambda point: point[2] or 0) if len({p[0] for p in points}) == 1 else points
        legal = free_name(legal_metric_name(name), found)
        found[legal] = [(step, _unbounded(value), time_ms) for step, value, time_ms in ordered]
    return found


def _unbounded(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= _INFINITE else value


def _status(run: SourceRun) -> tuple[str, list[str]]:
    if run.status in _ENDED:
        return run.status, []
    return RunStatus.KILLED, [f"its store shows it as {run.status or 'nothing at all'}: it never said that it ended"]


def _digest(run: SourceRun, status: str) -> str:
    """Of the content, so that a store moved from files into a database is the same."""
    content = {
        "status": status,
        "params": run.params,
        "metrics": {name: [(step, repr(value)) for step, value, _ in rows] for name, rows in run.metrics.items()},
    }
    text = json.dumps([run.run_id, content], sort_keys=True, ensure_ascii=True)
    return content_digest("mlflow", [text.encode(errors="surrogateescape")])


def _artifact_folder(run: SourceRun, store: Path, root: Path) -> Path | None:
    """Where a run's artifacts lie, if that is inside the scanned folder; a moved store has them beside it."""
    named = _local(run.artifacts)
    candidates = [] if named is None else [named if named.is_absolute() else store.parent / named]
    if run.place.is_dir():
        candidates.append(run.place / "artifacts")
    elif named is not None:
        candidates += [store.parent / Path(*named.parts[-depth:]) for depth in (3, 4) if len(named.parts) > depth]
    for folder in candidates:
        try:
            inside = folder.resolve().is_relative_to(root.resolve())
            # The last folders name the run: a store that says "/" gets nothing.
            if inside and folder.is_dir() and run.run_id in folder.parts:
                return folder
        except (OSError, ValueError, RuntimeError):
            continue
    return None


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri) if uri and "\0" not in uri else None
    if parts is None or parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme else Path(uri)


def _weights(files: Iterable[Path]) -> Path | None:
    found = [path for path in files if path.suffix in _WEIGHTS]
    best = [path for path in found if path.stem == "best"]
    return next(iter(best or found), None)
