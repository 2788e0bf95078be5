"""Folders of finished runs: Ultralytics, YOLOv5 and its relatives, Lightning, MLflow and plain TensorBoard."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path, PurePosixPath

from guardianflow.adapters.scan.findings import SPLITS, FoundRun
from guardianflow.adapters.scan.walk import SeenFolder, read_start
from guardianflow.adapters.wrap.metrics.event_files import is_event_file

__all__ = ["find_runs"]

_VERSION = re.compile(r"version_\d+", re.IGNORECASE)
_HPARAMS_FOLDER = re.compile(r"\d{9,11}(\.\d+)?")  # SummaryWriter.add_hparams puts one inside its run
_SQLITE = b"SQLite format 3\x00"
_MLFLOW_DATABASES = {"mlflow.db", "mlruns.db"}
_MLFLOW_FOLDERS = {"mlruns", "mlartifacts"}
_PEEKED = 50


def find_runs(folder: SeenFolder) -> list[FoundRun]:
    """The finished runs that lie in a folder, and whether all below belongs to one (``folder.in_run``)."""
    if folder.in_run:
        return []
    databases = [
        FoundRun(Path(folder.below(name)), "mlflow", name, "MLflow's database")
        for name in folder.files
        if name.lower() in _MLFLOW_DATABASES and read_start(folder.at(name), len(_SQLITE)) == _SQLITE
    ]
    events = any(map(is_event_file, folder.files))
    kind, reason = _kind(folder, has_events=events)
    # Below plain events there may be other runs; in MLflow's folders without meta.yaml lie the artifacts of runs that
    # a database knows.
    folder.in_run = (kind != "tensorboard" or not events) if kind else folder.name.lower() in _MLFLOW_FOLDERS
    if not kind:
        return databases
    name = folder.name
    if kind == "lightning" and _VERSION.fullmatch(name) and "/" in folder.relative:
        name = f"{PurePosixPath(folder.relative).parent.name}/{name}"
    return [*databases, FoundRun(Path(folder.relative or "."), kind, name, reason)]


def _kind(folder: SeenFolder, *, has_events: bool) -> tuple[str, str]:
    """The kind of run that a folder is, and what it is recognised by."""
    files = set(folder.files)
    table = next((name for name in ("results.csv", "results.txt") if name in files), "")
    if {"args.yaml", "results.csv"} <= files:
        return "ultralytics", "args.yaml and results.csv lie together"
    if "opt.yaml" in files and table:
        return "yolov5", f"opt.yaml and {table} lie together"
    logger = "metrics.csv" if "metrics.csv" in files else "TensorBoard events" if has_events else ""
    signs = {
        "hparams.yaml": "hparams.yaml" in files,
        "a folder called version_N": _VERSION.fullmatch(folder.name),
        "a folder below lightning_logs": "lightning_logs" in PurePosixPath(folder.path).parts,
    }
    if logger and any(signs.values()):
        return "lightning", f"{logger} and {next(sign for sign, seen in signs.items() if seen)}"
    if any(_is_mlflow_experiment(folder.at(name)) for name in folder.folders[:_PEEKED] if name.isdigit()):
        return "mlflow", "experiments with meta.yaml"
    if has_events and not _HPARAMS_FOLDER.fullmatch(folder.name):
        return "tensorboard", "TensorBoard events"
    splits = [name for name in folder.folders if name.lower() in SPLITS]
    if not has_events and len(splits) == len(folder.folders) and sum(_holds_events(folder.at(n)) for n in splits) > 1:
        return "tensorboard", "TensorBoard events of the parts of a training's data"
    return "", ""


def _is_mlflow_experiment(path: str) -> bool:
    meta = read_start(f"{path}/meta.yaml", 4096)
    return b"experiment_id:" in meta and b"artifact_location:" in meta


def _holds_events(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(is_event_file(entry.name) for entry in islice(entries, _PEEKED))
    except OSError:
        return False
