"""Runs that trainings left in folders: Ultralytics, YOLOv5, v7 and v9, Lightning's loggers, plain event files.

All of them keep what was asked in YAML files, and figures in a table, in TensorBoard's event files, or in both: one
table says which files these are. The metrics have the names that the files give them, as far as MLflow takes them, and
beside these the catalogue's names, which trainings of ours write (``map50``, ``epoch_seconds`` …). The step of
Ultralytics' and YOLOv5's is the epoch's number in ``results.csv``; the older ``results.txt`` is without names, and its
figures get those of YOLOv5's later ``results.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from guardianflow.adapters.finished_runs.folders import (
    FinishedRun,
    content_digest,
    kept_files,
    moment,
    or_remark,
    plain_file,
)
from guardianflow.adapters.scan.findings import SPLITS
from guardianflow.adapters.wrap.metrics.csv_files import read_csv_metrics
from guardianflow.adapters.wrap.metrics.event_files import EventReader, is_event_file
from guardianflow.adapters.wrap.metrics.growing_file import Points, read_points
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import yaml_leaves
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.printable import printable
from guardianflow.vision.training.epochs import catalogue_metrics
from guardianflow.vision.training.results_csv import read_results

__all__ = ["read_lightning", "read_tensorboard", "read_ultralytics", "read_yolov5"]


class _Figures(NamedTuple):
    """What a table or event files say: epochs → seconds, and how many epochs there were to be, as tables tell."""

    points: Points
    hparams: Mapping[str, Any]
    seconds: Mapping[int, float]
    asked: int = 0
    started: float | None = None
    ended: float | None = None


_NONE = _Figures({}, {}, {})


@dataclass(frozen=True)
class _Kind:
    """Which files a kind of run has.

    Attributes:
        name: The kind's name.
        settings: What was asked; of several files the first one's value counts.
        tables: Figures; the first that holds some counts.
        events: Whether event files hold figures, too.
        yolo: Whether a row is an epoch, the settings are those of :data:`_LASTING`, and ``project`` is the experiment.
    """

    name: str
    settings: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    events: bool = False
    yolo: bool = False

    @property
    def wanted(self) -> str:
        """Its files, as a sentence has them."""
        return ", ".join((*self.settings, *self.tables, *(["event files"] if self.events else [])))


_OLD_TABLE = "results.txt"
_ULTRALYTICS = _Kind("ultralytics", ("args.yaml",), ("results.csv",), yolo=True)
_YOLOV5 = _Kind("yolov5", ("opt.yaml", "hyp.yaml"), ("results.csv", _OLD_TABLE), yolo=True)
_LIGHTNING = _Kind("lightning", ("hparams.yaml",), ("metrics.csv",), events=True)
_TENSORBOARD = _Kind("tensorboard", events=True)

_LASTING = ("task", "mode", "data", "project", "name", "save_dir", "seed")
"""Settings that a resumed training keeps; epochs, batch and device may change."""
_ASKED = ("max_epochs", "epochs", "num_epochs")
_TASKS = {
    "detect": "detection",
    "segment": "segmentation",
    "classify": "classification",
    "pose": "pose",
    "obb": "oriented_detection",
}
_OLD_LOSSES = ("train/box_loss", "train/obj_loss", "train/cls_loss", "train/total_loss")
# Behind the losses, of which the total may be missing, stand the count of labels and the size, which are no figures.
_OLD_FIGURES = ("", "", "metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95",
                "val/box_loss", "val/obj_loss", "val/cls_loss")  # fmt: skip
_OLD_COLUMNS = {len(names): names for names in ((*_OLD_LOSSES[:3], *_OLD_FIGURES), (*_OLD_LOSSES, *_OLD_FIGURES))}
_LARGEST_TABLE = 50_000_000
_MAX_EVENT_FILES = 500
_EVENT_HEAD = 40
"""Bytes of an event file's first record: it holds the moment at which the file was begun."""


def _read(path: Path, root: Path, *, kind: _Kind) -> list[FinishedRun]:
    """The run in a folder of a kind.

    Raises:
        InputError: It holds no settings and no figures that can be read.
        OSError: One of its files can't be read at all.
    """
    files = {name: path / name for name in (*kind.settings, *kind.tables) if plain_file(path / name, root)}
    events = _event_files(path, root) if kind.events else []
    remarks: list[str] = []
    args = _settings([files[name] for name in kind.settings if name in files], remarks)
    logged = or_remark(partial(_events, events, path, remarks), remarks, _NONE)
    params, table = {**logged.hparams, **args}, _table(files, kind, remarks)
    if not (params or table.points or logged.points):
        raise InputError(f"{printable(path)} holds nothing that can be read of {kind.wanted}; {'; '.join(remarks)}")
    started, ended = _times(files, events, logged, table)
    history = _timed({**logged.points, **table.points}, table.seconds, started)
    epochs = _epochs(history)
    asked = next((count for name in _ASKED if type(count := params.get(name)) is int and count > 0), table.asked)
    status, why = _status(path, kind, history, epochs, asked)
    artifacts, left_out = kept_files(path)
    return [
        FinishedRun(
            path=path,
            kind=kind.name,
            name=path.name,
            experiment=_experiment(path, args if kind.yolo else {}),
            parameters=params,
            history=history,
            epochs=epochs,
            asked_epochs=asked,
            status=status,
            started=moment(started),
            ended=moment(ended),
            digest=content_digest(kind.name, [*files.values(), *events]),
            stem=_stem(kind, args, files, events),
            artifacts=artifacts,
            artifact_root=path,
            task=_task(args, history) if kind.yolo else "",
            remarks=(*why, *remarks, *left_out),
        )
    ]


read_ultralytics = partial(_read, kind=_ULTRALYTICS)
read_yolov5 = partial(_read, kind=_YOLOV5)
read_lightning = partial(_read, kind=_LIGHTNING)
read_tensorboard = partial(_read, kind=_TENSORBOARD)


def _settings(files: Sequence[Path], remarks: list[str]) -> dict[str, Any]:
    """What was asked, of several files the first one's value; what can't be read is remarked."""
    args: dict[str, Any] = {}
    for file in files:
        read = or_remark(partial(yaml_leaves, file, what=file.name), remarks, None)
        if read is not None:
            remarks += read[1]
            # YOLOv5's `hyp` is a path, or all of hyp.yaml once more.
            args = {name: value for name, value in read[0] if not name.startswith("hyp.")} | args
    return args


# ---- figures ---------------------------------------------------------------------------------------


def _table(files: Mapping[str, Path], kind: _Kind, remarks: list[str]) -> _Figures:
    """The first table that holds figures."""
    table = _NONE
    for file in (files[name] for name in kind.tables if name in files):
        table = _old_table(file, remarks) if file.name == _OLD_TABLE else _csv_table(file, kind, remarks)
        if table.points:
            break
    return table


def _csv_table(file: Path, kind: _Kind, remarks: list[str]) -> _Figures:
    read = or_remark(partial(read_csv_metrics, file), remarks, None)
    if read is None:
        return _NONE
    remarks += read.remarks
    history = dict(read.metrics)
    if not kind.yolo:
        return _Figures(history, {}, {})
    seconds: dict[int, float] = {}
    try:
        if file.stat().st_size <= _LARGEST_TABLE:
            seconds = {report.epoch: report.seconds for report in read_results(file, 0)}
    except (ValueError, OverflowError):  # not UTF-8, a number that no epoch has
        remarks.append(f"{file.name} is damaged in part; how long its epochs took is not known")
    return _Figures(_with_catalogue(history), {}, seconds)


def _old_table(file: Path, remarks: list[str]) -> _Figures:
    """A ``results.txt``: of an epoch that stands there twice the later row counts."""
    with file.open("rb") as stream:
        lines = stream.read(_LARGEST_TABLE).decode("utf-8", "replace").splitlines()
    rows: dict[int, dict[str, float]] = {}
    asked = strange = 0
    for words in filter(None, map(str.split, lines)):  # epoch/last, memory, figures
        try:
            epoch, last = map(int, words[0].split("/"))
            rows[epoch] = dict(zip(_OLD_COLUMNS[len(words) - 2], map(float, words[2:]), strict=True))
            asked = last + 1
        except (ValueError, KeyError):
            strange += 1
    if strange:
        remarks.append(f"{strange} line(s) of {file.name} are no row of figures and are left out")
    history: Points = {}
    for epoch in sorted(rows):
        for name, value in rows[epoch].items():
            if name:
                history.setdefault(kept_name(name), []).append((epoch, value, None))
    return _Figures(_with_catalogue(history), {}, {}, asked)


def _with_catalogue(history: Points) -> Points:
    """The metrics, with those that the catalogue has a name for under that one as well."""
    rows: dict[int, dict[str, float]] = {}
    for name, points in history.items():
        for step, value, _ in points:
            rows.setdefault(step, {})[name] = value
    found: Points = {}
    for step in sorted(rows):
        for name, value in catalogue_metrics(rows[step]).items():
            found.setdefault(name, []).append((step, value, None))
    return {**found, **history}


def _event_files(folder: Path, root: Path) -> list[Path]:
    """The event files of a run: its own and those that ``add_hparams`` puts below; else those of its splits."""
    found = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if is_event_file(path.name)]
    own = [path for path in found if path.parent == folder or path.parent.name.replace(".", "").isdigit()]
    kept = own or [path for path in found if path.parent.name.lower() in SPLITS]
    return sorted(path for path in kept if plain_file(path, root))[:_MAX_EVENT_FILES]


def _events(files: Iterable[Path], folder: Path, remarks: list[str]) -> _Figures:
    """Event files read as one run; those of ``validation`` and the like have its name before theirs."""
    history: Points = {}
    hparams: dict[str, Any] = {}
    times: list[float] = []
    for path in files:
        events = EventReader()
        metrics: Points = or_remark(partial(read_points, path, events), remarks, {})
        split = f"{path.parent.name}/" if path.parent != folder and path.parent.name.lower() in SPLITS else ""
        for name, points in metrics.items():
            history.setdefault(f"{split}{name}", []).extend(points)
        hparams |= events.hparams
        times += [time for time in (events.started, events.ended) if time is not None]
        remarks += [f"{path.name}: {text}" for text in (*events.remarks, events.refused) if text]
    return _Figures(history, hparams, {}, 0, min(times, default=None), max(times, default=None))


# ---- what they tell --------------------------------------------------------------------------------


def _times(files: Mapping[str, Path], events: Sequence[Path], logged: _Figures, table: _Figures) -> tuple[float, float]:
    """Beginning and end, seconds since 1970, by the events; else by the files' times: the table was written last."""
    written = {path.name: path.stat().st_mtime for path in (*files.values(), *events)}
    by_table = [written[name] for kind in (_YOLOV5, _LIGHTNING) for name in kind.tables if name in written]
    ended = logged.ended if logged.ended is not None else next(iter(by_table), max(written.values()))
    # A copy may have new file times; the table's own clock is the better witness of how long it took.
    began = ended - sum(seconds for seconds in table.seconds.values() if seconds > 0)
    if logged.started is not None:
        began = logged.started
    elif began == ended:
        began = min(ended, *written.values())
    return began, ended


def _timed(history: Points, seconds: Mapping[int, float], started: float) -> Points:
    """The points at the times that a table's clock tells, and what it tells as a metric."""
    times: dict[int, int] = {}
    for epoch, took in seconds.items():
        started += max(0.0, took)
        times[epoch] = int(started * 1000)
    if any(seconds.values()):
        history["epoch_seconds"] = [(epoch, took, None) for epoch, took in seconds.items()]
    return {
        name: [(step, value, times.get(step, time_ms)) for step, value, time_ms in points]
        for name, points in history.items()
    }


def _epochs(history: Points) -> int:
    """Lightning logs the epoch's number as a metric, from 0; of others the longest metric tells."""
    counted = [value for _, value, _ in history.get("epoch", ()) if 0 <= value < 1e9]
    return int(max(counted)) + 1 if counted else max(map(len, history.values()), default=0)


def _status(path: Path, kind: _Kind, history: Points, epochs: int, asked: int) -> tuple[str, list[str]]:
    if not epochs:
        return RunStatus.FAILED, ["nothing was logged: it ended before its first figure"]
    if not asked:
        return RunStatus.FINISHED, ["its files don't say whether it ended well"]
    steps = [step for points in history.values() for step, _, _ in points]
    # YOLO's tables count the epochs; older versions from 0: their last epoch of N is N - 1.
    reached = max(steps) + (min(steps) == 0) if kind.yolo else epochs
    if reached >= asked:
        return RunStatus.FINISHED, []
    if kind.yolo and (path / "results.png").is_file():  # drawn when the training is over, however many epochs it had
        return RunStatus.FINISHED, [f"it stopped by itself after {reached} of {asked} epochs"]
    # Lightning's callbacks often stop a training early, and nothing tells.
    status = RunStatus.KILLED if kind.yolo else RunStatus.FINISHED
    return status, [f"it ended after {reached} of {asked} epochs; its files don't say why"]


def _task(args: Mapping[str, Any], names: Collection[str]) -> str:
    """The task that Ultralytics was given, or that YOLOv5's columns tell of: it has no setting for it."""
    told = any(name.startswith("metrics/mAP_0.5") for name in names)
    masks = any(name.startswith("metrics/") and name.endswith("_M") for name in names)
    return _TASKS.get(str(args.get("task", "")), "segmentation" if masks else "detection" if told else "")


def _experiment(path: Path, args: Mapping[str, Any]) -> str:
    project = args.get("project")
    named = PurePath(project.replace("\\", "/")).name if isinstance(project, str) else ""
    return named or path.parent.name


def _stem(kind: _Kind, args: Mapping[str, Any], files: Mapping[str, Path], events: Sequence[Path]) -> str:
    """Of what stays while the run goes on: its settings, and the first record of its first event file."""
    kept = {name: str(args[name]) for name in (_LASTING if kind.yolo else args) if args.get(name) is not None}
    parts = [json.dumps(kept, sort_keys=True).encode()] if kept else []
    for path in events[:1]:
        with path.open("rb") as file:
            parts.append(path.name.encode(errors="surrogateescape") + b"\0" + file.read(_EVENT_HEAD))
    if not parts:  # the head of the table and its first row stand for them
        with next(iter(files.values())).open("rb") as file:
            parts = [file.readline(65_536) for _ in range(2)]
    return content_digest(f"{kind.name} stem", parts)
