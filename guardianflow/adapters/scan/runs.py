"""Folders of finished runs: Ultralytics, YOLOv5 and its relatives, Lightning, MLflow and plain TensorBoard."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path, PurePosixPath

from guardianflow.adapters.scan.bytes import read_start
from guardianflow.adapters.scan.findings import SPLITS, FoundRun, Reason
from guardianflow.adapters.scan.walk import SeenFolder

__all__ = ["find_runs"]

_EVENTS = re.compile(r"events\.out\.tfevents\.\d")
_VERSION = re.compile(r"version_\d+", re.IGNORECASE)
_HPARAMS_FOLDER = re.compile(r"\d{9,11}(\.\d+)?")  # SummaryWriter.add_hparams puts one inside its run
_SQLITE = b"SQLite format 3\x00"
_SQLITE_NAMES = {"mlflow.db", "mlruns.db"}
_MLFLOW_FOLDERS = {"mlruns", "mlartifacts"}
_PEEKED = 50


def find_runs(folder: SeenFolder) -> list[FoundRun]:
    """The finished runs that lie in a folder, and whether all below belongs to one (``folder.in_run``)."""
    if folder.in_run:
        return []
    databases = [found for name in folder.files if (found := _mlflow_database(folder, name))]
    for look in _KINDS:
        if found := look(folder):
            folder.in_run = found.kind != "tensorboard" or not any(map(_EVENTS.match, folder.files))
            return [*databases, found]
    name = folder.name.lower()
    folder.in_run = name in _MLFLOW_FOLDERS  # without meta.yaml: the artifacts of runs that a database knows
    return databases


def _found(folder: SeenFolder, kind: str, reasons: list[Reason]) -> FoundRun:
    score = round(min(1.0, max(0.0, sum(reason.weight for reason in reasons))), 2)
    name = PurePosixPath(folder.relative or folder.path).name
    if kind == "lightning" and _VERSION.fullmatch(name) and "/" in folder.relative:
        name = f"{PurePosixPath(folder.relative).parent.name}/{name}"
    return FoundRun(Path(folder.relative or "."), kind, name, score, tuple(reasons))


def _ultralytics(folder: SeenFolder) -> FoundRun | None:
    if not {"args.yaml", "results.csv"} <= set(folder.files):
        return None
    reasons = [Reason("args.yaml and results.csv lie together", 0.6)]
    head = read_start(folder.at("results.csv"), 4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"epoch"):
        reasons.append(Reason("results.csv has a line per epoch", 0.2))
    settings = read_start(folder.at("args.yaml"), 1 << 16)
    if re.search(rb"^(task|mode|model|imgsz)\s*:", settings, re.MULTILINE):
        reasons.append(Reason("args.yaml holds Ultralytics' settings", 0.1))
    if "weights" in folder.folders:
        reasons.append(Reason("a folder `weights`", 0.1))
    return _found(folder, "ultralytics", reasons)


def _yolov5(folder: SeenFolder) -> FoundRun | None:
    """YOLOv5, v7 and v9: ``opt.yaml`` beside a table of epochs, in older ones without names."""
    tables = [name for name in ("results.csv", "results.txt") if name in folder.files]
    if "opt.yaml" not in folder.files or not tables:
        return None
    reasons = [Reason(f"opt.yaml and {tables[0]} lie together", 0.6)]
    for present, text, weight in (
        ("hyp.yaml" in folder.files, "hyp.yaml", 0.2),
        ("weights" in folder.folders, "a folder `weights`", 0.1),
        (any(map(_EVENTS.match, folder.files)), "TensorBoard events", 0.1),
    ):
        reasons += [Reason(text, weight)] if present else []
    return _found(folder, "yolov5", reasons)


def _lightning(folder: SeenFolder) -> FoundRun | None:
    is_version = bool(_VERSION.fullmatch(folder.name))
    below_logs = "lightning_logs" in PurePosixPath(folder.path).parts
    has_events = any(map(_EVENTS.match, folder.files))
    reasons = [
        Reason(text, weight)
        for present, text, weight in (
            (is_version, "the folder is called version_N", 0.3),
            (below_logs, "it lies in lightning_logs", 0.2),
            ("hparams.yaml" in folder.files, "hparams.yaml", 0.3),
            ("metrics.csv" in folder.files, "metrics.csv", 0.35),
            (has_events, "TensorBoard events", 0.2),
            ("checkpoints" in folder.folders, "a folder `checkpoints`", 0.1),
        )
        if present
    ]
    has_metrics = has_events or "metrics.csv" in folder.files
    if not has_metrics or sum(reason.weight for reason in reasons) < 0.5:
        return None
    return _found(folder, "lightning", reasons)


def _mlflow(folder: SeenFolder) -> FoundRun | None:
    experiments = [name for name in folder.folders if name.isascii() and name.isdigit()]
    known = 0
    for name in experiments[:_PEEKED]:
        meta = read_start(folder.at(f"{name}/meta.yaml"), 4096)
        known += b"experiment_id:" in meta and b"artifact_location:" in meta
    if not known:
        return None
    reasons = [Reason(f"{known} experiment folder{'' if known == 1 else 's'} with meta.yaml", 0.8)]
    if folder.name in _MLFLOW_FOLDERS:
        reasons.append(Reason("the folder is called mlruns", 0.2))
    return _found(folder, "mlflow", reasons)


def _mlflow_database(folder: SeenFolder, name: str) -> FoundRun | None:
    if name.lower() not in _SQLITE_NAMES or folder.in_run:
        return None
    start = read_start(folder.at(name), 1 << 18)
    if not start.startswith(_SQLITE):
        return None
    reasons = [Reason(f"an SQLite database called {name}", 0.7)]
    if b"CREATE TABLE experiments" in start or b"experiment_id" in start:
        reasons.append(Reason("it has MLflow's tables", 0.3))
    score = round(sum(reason.weight for reason in reasons), 2)
    return FoundRun(Path(folder.below(name)), "mlflow", name, score, tuple(reasons))


def _tensorboard(folder: SeenFolder) -> FoundRun | None:
    events = [name for name in folder.files if _EVENTS.match(name)]
    if not events and (splits := _splits(folder)):
        return _found(folder, "tensorboard", [Reason(f"event files in {', '.join(splits)}", 0.8)])
    if not events or _HPARAMS_FOLDER.fullmatch(folder.name):
        return None
    return _found(folder, "tensorboard", [Reason(f"{len(events)} TensorBoard event file{'s'[: len(events) > 1]}", 0.8)])


def _splits(folder: SeenFolder) -> list[str]:
    """The folders of a training's splits with event files in them, where there are no folders but these."""
    if len(folder.folders) < 2 or not all(name.lower() in SPLITS for name in folder.folders):
        return []
    found = [name for name in folder.folders if any(map(_EVENTS.match, _some_names(folder.at(name))))]
    return found if len(found) > 1 else []


def _some_names(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in islice(entries, _PEEKED)]
    except OSError:
        return []


_KINDS: tuple[Callable[[SeenFolder], FoundRun | None], ...] = (_ultralytics, _yolov5, _lightning, _mlflow, _tensorboard)
