"""MLflow's file store: a folder an experiment, in it a folder a run, in it a file a metric."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guardianflow.adapters.finished_runs.folders import UnreadableRun, plain_file
from guardianflow.adapters.finished_runs.mlflow_source import MAX_VALUE, STATUSES, SourceRun, whole
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.text.printable import printable

__all__ = ["read_folder"]

_META = "meta.yaml"
_MAX_FILES = 5_000
_MAX_METRIC = 256 << 20


def read_folder(path: Path, root: Path) -> Iterator[SourceRun | UnreadableRun]:
    """The runs in ``mlruns``, in one experiment of it, or the one run whose folder this is.

    Raises:
        InputError: It is no file store.
    """
    meta = _meta(path, root)
    if meta is not None and _run_id(meta):
        experiment = _meta(path.parent, root) or {}
        yield _read_run(path, meta, str(experiment.get("name", path.parent.name)), root)
        return
    experiments = [path] if meta is not None else _folders(path)
    found = False
    for place in experiments:
        try:
            facts = meta if meta is not None else _meta(place, root)
        except InputError as error:
            yield UnreadableRun(place, str(error))
            continue
        if facts is None or "experiment_id" not in facts:
            continue
        found = True
        if facts.get("lifecycle_stage", "active") != "active":
            continue
        yield from _runs_of(place, str(facts.get("name", place.name)), root)
    if not found:
        raise InputError(f"{printable(path)} holds no experiment of MLflow (a folder with a meta.yaml)")


def _runs_of(place: Path, experiment: str, root: Path) -> Iterator[SourceRun | UnreadableRun]:
    for folder in _folders(place):
        try:
            meta = _meta(folder, root)
            if meta is None or not _run_id(meta) or meta.get("lifecycle_stage", "active") != "active":
                continue
            yield _read_run(folder, meta, experiment, root)
        except (InputError, OSError) as error:
            yield UnreadableRun(folder, str(error))


def _folders(path: Path) -> list[Path]:
    try:
        found = [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise InputError(f"{printable(path)} can't be read ({error.strerror or error}); check its rights") from error
    return sorted(folder for folder in found if not folder.name.startswith("."))


def _meta(folder: Path, root: Path) -> dict[Any, Any] | None:
    file = folder / _META
    return load_yaml_mapping(file, what=_META) if plain_file(file, root) else None


def _run_id(meta: dict[Any, Any]) -> str:
    return str(meta.get("run_id") or meta.get("run_uuid") or "")


def _read_run(folder: Path, meta: dict[Any, Any], experiment: str, root: Path) -> SourceRun:
    run = SourceRun(run_id=_run_id(meta), place=folder, experiment=experiment)
    run.tags = _texts(folder / "tags", root, run.remarks)
    run.params = _texts(folder / "params", root, run.remarks)
    run.name = str(meta.get("run_name") or meta.get("name") or run.tags.get("mlflow.runName", ""))
    status = meta.get("status")
    run.status = STATUSES.get(status, "") if isinstance(status, int) else str(status or "")
    run.start_ms, run.end_ms = whole(meta.get("start_time")), whole(meta.get("end_time"))
    run.artifacts = str(meta.get("artifact_uri") or "")
    for name, file in _named_files(folder / "metrics", root, run.remarks):
        points = _points(file, name, run.remarks)
        if points:
            run.metrics[name] = points
    return run


def _named_files(folder: Path, root: Path, remarks: list[str]) -> Iterator[tuple[str, Path]]:
    """Files below a folder: ``train/loss`` lies in a folder ``train``."""
    count = 0
    for place, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(place, name)
            if not plain_file(file, root):
                remarks.append(f"{printable(file)} is no plain file of the scanned folder and is left out")
                continue
            count += 1
            if count > _MAX_FILES:
                remarks.append(f"{folder.name}: more than {_MAX_FILES:,} files; the others are left out")
                return
            yield file.relative_to(folder).as_posix(), file


def _texts(folder: Path, root: Path, remarks: list[str]) -> dict[str, str]:
    found = {}
    for name, file in _named_files(folder, root, remarks):
        with file.open("rb") as stream:
            found[name] = stream.read(MAX_VALUE).decode("utf-8", "replace")
    return found


def _points(file: Path, name: str, remarks: list[str]) -> list[tuple[int, float, int | None]]:
    """Lines ``time value step``; before MLflow 1.0 ``time value``, with the time in seconds."""
    if file.stat().st_size > _MAX_METRIC:
        remarks.append(f"metric {printable(name)} is larger than {_MAX_METRIC >> 20} MiB and is left out")
        return []
    found: list[tuple[int, float, int | None]] = []
    broken = 0
    with file.open("rb") as stream:
        for line in stream:
            words = line.split()
            try:
                time, value = int(float(words[0])), float(words[1])
                step = int(words[2]) if len(words) > 2 else 0
            except (ValueError, IndexError, OverflowError):
                broken += bool(words)
                continue
            found.append((step, value, time if time > 10**11 else time * 1000))
    if broken:
        remarks.append(f"metric {printable(name)}: {broken} damaged line(s) are left out")
    return found
