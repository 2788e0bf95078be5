"""Runs that Ultralytics left: ``args.yaml``, ``results.csv``, weights and plots; and those of YOLOv5, v7 and v9.

The metrics have the names of ``results.csv``, as far as MLflow takes them, and beside these the catalogue's names,
which trainings of ours write (``map50``, ``epoch_seconds`` …). The step is the epoch's number in ``results.csv``.
YOLOv5 and its relatives keep what they were asked in ``opt.yaml`` and ``hyp.yaml``; the older ones have a
``results.txt`` without names, whose figures get those of YOLOv5's later ``results.csv``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from guardianflow.adapters.finished_runs.folders import (
    FinishedRun,
    content_digest,
    kept_files,
    moment,
    or_remark,
    plain_file,
)
from guardianflow.adapters.wrap.metrics.csv_files import read_csv_metrics
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.printable import printable
from guardianflow.vision.training.epochs import EpochReport, catalogue_metrics, with_prefix
from guardianflow.vision.training.results_csv import read_results

__all__ = ["read_ultralytics_run", "read_yolov5_run"]

_ARGS, _OPTIONS, _HYPERPARAMETERS = "args.yaml", "opt.yaml", "hyp.yaml"
_RESULTS, _OLD_RESULTS = "results.csv", "results.txt"
_WEIGHTS = ("weights/best.pt", "weights/last.pt")
_FIRST = (*_WEIGHTS, _ARGS, _OPTIONS, _HYPERPARAMETERS, _RESULTS, _OLD_RESULTS, "results.png")
# Behind epoch and memory: losses (the total may be missing), labels and size, which are no figures, validation.
_OLD_LOSSES = ("train/box_loss", "train/obj_loss", "train/cls_loss", "train/total_loss")
_OLD_FIGURES = (
    "metrics/precision",
    "metrics/recall",
    "metrics/mAP_0.5",
    "metrics/mAP_0.5:0.95",
    "val/box_loss",
    "val/obj_loss",
    "val/cls_loss",
)
_OLD_ROW = re.compile(r"\s*(?P<epoch>\d{1,9})/(?P<last>\d{1,9})\s+\S+\s+(?P<figures>\S.*?)\s*")
_TASKS = {
    "detect": "detection",
    "segment": "segmentation",
    "classify": "classification",
    "pose": "pose",
    "obb": "oriented_detection",
}
_LAID_DOWN = ("task", "mode", "data", "project", "name", "save_dir", "seed")
"""Settings that a resumed training keeps; epochs, batch and device may change."""
_FITNESS = ("map50_95", "map50")
_LARGEST_TABLE = 50_000_000


@dataclass(frozen=True)
class _Table:
    """What ``results.csv`` says; ``time`` counts seconds since the training began."""

    history: Mapping[str, list[tuple[int, float, int | None]]]
    reports: tuple[EpochReport, ...]
    remarks: tuple[str, ...]
    asked: int = 0

    @property
    def epochs(self) -> list[int]:
        return sorted({step for points in self.history.values() for step, _, _ in points})


def read_ultralytics_run(path: Path, root: Path) -> list[FinishedRun]:
    """The run in a folder that Ultralytics wrote.

    Raises:
        InputError: It holds neither an ``args.yaml`` nor a ``results.csv`` that can be read.
    """
    return _read_run(path, root, "ultralytics", (_ARGS,), (_RESULTS,))


def read_yolov5_run(path: Path, root: Path) -> list[FinishedRun]:
    """The run in a folder that YOLOv5, v7 or v9 wrote.

    Raises:
        InputError: It holds neither settings nor results that can be read.
    """
    return _read_run(path, root, "yolov5", (_OPTIONS, _HYPERPARAMETERS), (_RESULTS, _OLD_RESULTS))


def _read_run(
    path: Path, root: Path, kind: str, settings: tuple[str, ...], tables: tuple[str, ...]
) -> list[FinishedRun]:
    files = {name: path / name for name in (*settings, *tables) if plain_file(path / name, root)}
    if not files:
        raise InputError(f"{printable(path)} holds neither {settings[0]} nor {tables[0]}; it is no run of {kind}")
    remarks = [] if settings[0] in files else [f"there is no {settings[0]}: what the run was asked is not known"]
    args = _read_settings([files[name] for name in settings if name in files], remarks)
    table = _read_tables([files[name] for name in tables if name in files], args)
    if not args and not table.history and files.keys().isdisjoint(tables):
        raise InputError(f"{printable(path)}: {remarks[0] if remarks else f'{settings[0]} is empty'}")
    asked = _whole(args.get("epochs")) or table.asked
    started, ended = _times(files, table)
    status, why = _status(path, args, table, asked)
    kept = kept_files(path, first=_FIRST, also=("events.out.tfevents",))
    return [
        FinishedRun(
            path=path,
            kind=kind,
            name=path.name,
            experiment=_project(args, path),
            parameters={str(key): value for key, value in args.items()},
            history=_history(table, started),
            epochs=len(table.epochs),
            asked_epochs=asked,
            status=status,
            started=started,
            ended=ended,
            digest=content_digest(kind, files.values()),
            stem=_stem(kind, args, files),
            artifacts=kept.files,
            artifact_root=path,
            weights=next((path / name for name in _WEIGHTS if path / name in kept.files), None),
            task=_TASKS.get(str(args.get("task", "")), "") or _task_of(table.history),
            remarks=(*remarks, *why, *table.remarks, *kept.remarks),
        )
    ]


def _read_settings(files: Sequence[Path], remarks: list[str]) -> dict[Any, Any]:
    """What was asked, of several files the first one's value; what can't be read is remarked."""
    args: dict[Any, Any] = {}
    for file in files:
        said: dict[Any, Any] = or_remark(partial(load_yaml_mapping, file, what=file.name), remarks, {})
        # YOLOv5's `hyp` is a path, or all of hyp.yaml once more.
        args = {key: value for key, value in said.items() if not (key == "hyp" and isinstance(value, dict))} | args
    return args


def _read_tables(files: Sequence[Path], args: Mapping[Any, Any]) -> _Table:
    """The first table that holds figures."""
    table, remarks = _Table({}, (), ()), list[str]()
    for file in files:
        table = _read_old_table(file) if file.name == _OLD_RESULTS else _read_table(file, args)
        remarks += table.remarks
        if table.history:
            break
    return replace(table, remarks=tuple(remarks))


def _task_of(names: Collection[str]) -> str:
    """The task that YOLOv5's columns tell of: it has no setting for it."""
    if any(name.endswith("_M") for name in names):
        return "segmentation"
    return "detection" if any(name.startswith("metrics/mAP_0.5") for name in names) else ""


def _read_table(file: Path, args: Mapping[Any, Any]) -> _Table:
    try:
        history = read_csv_metrics(file)
    except InputError as error:
        return _Table({}, (), (str(error),))
    reports: list[EpochReport] = []
    remarks = list(history.remarks)
    try:
        if file.stat().st_size <= _LARGEST_TABLE:
            reports = read_results(file, _whole(args.get("epochs")))
    except (OSError, ValueError, OverflowError):  # not UTF-8, a number that no epoch has
        remarks.append("results.csv is damaged in part; figures under the catalogue's names are left out")
    return _Table(history.metrics, tuple(reports), tuple(remarks))


def _read_old_table(file: Path) -> _Table:
    """A ``results.txt``: of an epoch that stands there twice the later row counts."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(_LARGEST_TABLE).decode("utf-8", "replace").splitlines()
    except OSError as error:
        return _Table({}, (), (f"{file.name} can't be read ({error.strerror or error})",))
    rows: dict[int, dict[str, float]] = {}
    asked = strange = 0
    for line in filter(str.strip, lines):
        found = _OLD_ROW.fullmatch(line)
        values = _old_figures(found["figures"].split()) if found else None
        if found is None or values is None:
            strange += 1
            continue
        rows[int(found["epoch"])] = values
        asked = int(found["last"]) + 1
    history: dict[str, list[tuple[int, float, int | None]]] = {}
    for epoch, values in sorted(rows.items()):
        for name, value in values.items():
            history.setdefault(kept_name(name), []).append((epoch, value, None))
    reports = [
        EpochReport(epoch, asked, with_prefix(row, "train/"), {}, catalogue_metrics(row), 0.0, None)
        for epoch, row in sorted(rows.items())
    ]
    remarks = (f"{strange} line(s) of {file.name} are no row of figures and are left out",) if strange else ()
    return _Table(history, tuple(reports), remarks, asked)


def _old_figures(cells: Sequence[str]) -> dict[str, float] | None:
    losses = len(cells) - len(_OLD_FIGURES) - 2
    if losses not in {3, 4}:
        return None
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    return dict(zip((*_OLD_LOSSES[:losses], *_OLD_FIGURES), (*numbers[:losses], *numbers[losses + 2 :]), strict=True))


def _history(table: _Table, started: datetime | None) -> dict[str, list[tuple[int, float, int | None]]]:
    times = _epoch_times(table, started)
    found = {
        name: [(step, value, times.get(step, time_ms)) for step, value, time_ms in points]
        for name, points in table.history.items()
    }
    for report in table.reports:
        seconds = {"epoch_seconds": report.seconds} if report.seconds else {}
        for name, value in {**report.metrics, **seconds}.items():
            if name not in table.history:
                found.setdefault(name, []).append((report.epoch, value, times.get(report.epoch)))
    return found


def _epoch_times(table: _Table, started: datetime | None) -> dict[int, int]:
    if started is None:
        return {}
    clock, times = started.timestamp(), {}
    for report in table.reports:
        clock += max(0.0, report.seconds)
        times[report.epoch] = int(clock * 1000)
    return times


def _times(files: Mapping[str, Path], table: _Table) -> tuple[datetime | None, datetime | None]:
    """From the file's times: the table was last written at the end, the settings at the beginning."""
    written = {name: file.stat().st_mtime for name, file in files.items()}
    ended = next((written[name] for name in (_RESULTS, _OLD_RESULTS, *written) if name in written), 0.0)
    seconds = sum(max(0.0, report.seconds) for report in table.reports)
    # A copy may have new file times; the table's own clock is the better witness of how long it took.
    started = ended - seconds if seconds > 0 else min(written.values(), default=ended)
    return moment(started), moment(ended)


def _status(path: Path, args: Mapping[Any, Any], table: _Table, asked: int) -> tuple[str, list[str]]:
    mode = str(args.get("mode", "train"))
    if mode != "train":
        return RunStatus.FINISHED, [f"mode {printable(mode)}: Ultralytics writes no figures of it into files"]
    done = table.epochs
    if not done:
        return RunStatus.FAILED, ["it ended before its first epoch was done"]
    # Older versions count from 0. Their last epoch of N is N - 1.
    reached = len(done) if done[0] == 0 else done[-1]
    if not asked or reached >= asked:
        return RunStatus.FINISHED, []
    if (path / "results.png").is_file():  # drawn when the training is over, however many epochs it had
        return RunStatus.FINISHED, [f"it stopped by itself after {reached} of {asked} epochs"]
    best = _epochs_since_best(table)
    patience = _whole(args.get("patience"))
    if patience and best >= patience:
        return RunStatus.FINISHED, [f"it stopped after {reached} of {asked} epochs: {best} brought nothing better"]
    return RunStatus.KILLED, [f"it ended after {reached} of {asked} epochs; its files don't say why"]


def _epochs_since_best(table: _Table) -> int:
    figures = [sum(w * r.metrics.get(n, 0.0) for w, n in zip((0.9, 0.1), _FITNESS, strict=True)) for r in table.reports]
    return len(figures) - 1 - max(range(len(figures)), key=lambda place: (figures[place], place)) if figures else 0


def _project(args: Mapping[Any, Any], path: Path) -> str:
    project = args.get("project")
    named = PurePath(project.replace("\\", "/")).name if isinstance(project, str) else ""
    return named or path.parent.name


def _stem(kind: str, args: Mapping[Any, Any], files: Mapping[str, Path]) -> str:
    kept = {name: str(args[name]) for name in _LAID_DOWN if args.get(name) is not None}
    if not kept:  # without settings the head of the table and its first epoch stand for them
        with next(iter(files.values())).open("rb") as file:
            kept = {"head": "".join(f"{file.readline(65_536)!r}" for _ in range(2))}
    return content_digest(f"{kind} stem", [json.dumps(kept, sort_keys=True).encode()])


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
