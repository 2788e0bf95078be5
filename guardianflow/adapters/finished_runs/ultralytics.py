"""Runs that Ultralytics left: ``args.yaml``, ``results.csv``, weights and plots.

The metrics have the names of ``results.csv``, as far as MLflow takes them, and beside these the catalogue's names,
which trainings of ours write (``map50``, ``epoch_seconds`` …). The step is the epoch's number in ``results.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.printable import printable
from guardianflow.vision.training.epochs import EpochReport
from guardianflow.vision.training.results_csv import read_results

__all__ = ["read_ultralytics_run"]

_ARGS, _RESULTS = "args.yaml", "results.csv"
_FIRST = ("weights/best.pt", "weights/last.pt", _ARGS, _RESULTS, "results.png")
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

    @property
    def epochs(self) -> list[int]:
        return sorted({step for points in self.history.values() for step, _, _ in points})


def read_ultralytics_run(path: Path, root: Path) -> list[FinishedRun]:
    """The run in a folder that Ultralytics wrote.

    Raises:
        InputError: It holds neither an ``args.yaml`` nor a ``results.csv`` that can be read.
    """
    files = {name: path / name for name in (_ARGS, _RESULTS) if plain_file(path / name, root)}
    if not files:
        raise InputError(f"{printable(path)} holds neither args.yaml nor results.csv; it is no run of Ultralytics")
    remarks = [] if _ARGS in files else ["there is no args.yaml: what the run was asked is not known"]
    args: dict[Any, Any] = {}
    if _ARGS in files:
        args = or_remark(lambda: load_yaml_mapping(files[_ARGS], what=_ARGS), remarks, args)
    asked = _whole(args.get("epochs"))
    table = _read_table(files.get(_RESULTS), asked)
    if not args and not table.history and _RESULTS not in files:
        raise InputError(f"{printable(path)}: {remarks[0] if remarks else 'args.yaml is empty'}")
    started, ended = _times(files, table)
    status, why = _status(path, args, table, asked)
    kept = kept_files(path, first=_FIRST, also=("events.out.tfevents",))
    weights = next((path / name for name in _FIRST[:2] if path / name in kept.files), None)
    return [
        FinishedRun(
            path=path,
            kind="ultralytics",
            name=path.name,
            experiment=_project(args, path),
            parameters={str(key): value for key, value in args.items()},
            history=_history(table, started),
            epochs=len(table.epochs),
            asked_epochs=asked,
            status=status,
            started=started,
            ended=ended,
            digest=content_digest("ultralytics", files.values()),
            stem=_stem(args, files),
            artifacts=kept.files,
            artifact_root=path,
            weights=weights,
            task=_TASKS.get(str(args.get("task", "")), ""),
            remarks=(*remarks, *why, *table.remarks, *kept.remarks),
        )
    ]


def _read_table(file: Path | None, asked: int) -> _Table:
    if file is None:
        return _Table({}, (), ())
    try:
        history = read_csv_metrics(file)
    except InputError as error:
        return _Table({}, (), (str(error),))
    reports: list[EpochReport] = []
    remarks = list(history.remarks)
    try:
        if file.stat().st_size <= _LARGEST_TABLE:
            reports = read_results(file, asked)
    except (OSError, ValueError, OverflowError):  # not UTF-8, a number that no epoch has
        remarks.append("results.csv is damaged in part; figures under the catalogue's names are left out")
    return _Table(history.metrics, tuple(reports), tuple(remarks))


def _history(table: _Table, started: datetime | None) -> dict[str, list[tuple[int, float, int | None]]]:
    times = _epoch_times(table, started)
    found = {
        name: [(step, value, times.get(step, time_ms)) for step, value, time_ms in points]
        for name, points in table.history.items()
    }
    for report in table.reports:
        for name, value in {**report.metrics, "epoch_seconds": report.seconds}.items():
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
    ended = written.get(_RESULTS, written.get(_ARGS, 0.0))
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


def _stem(args: Mapping[Any, Any], files: Mapping[str, Path]) -> str:
    kept = {name: str(args[name]) for name in _LAID_DOWN if args.get(name) is not None}
    if not kept:  # without settings the head of the table and its first epoch stand for them
        with next(iter(files.values())).open("rb") as file:
            kept = {"head": "".join(f"{file.readline(65_536)!r}" for _ in range(2))}
    return content_digest("ultralytics stem", [json.dumps(kept, sort_keys=True).encode()])


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
