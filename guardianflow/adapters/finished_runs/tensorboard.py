"""Runs that wrote TensorBoard's event files and nothing else that we know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.finished_runs.folders import FinishedRun, content_digest, kept_files, moment, plain_file
from guardianflow.adapters.scan.findings import SPLITS
from guardianflow.adapters.wrap.metrics.event_files import is_event_file, read_event_file
from guardianflow.exceptions import InputError
from guardianflow.runs.run_records import RunStatus
from guardianflow.text.printable import printable

__all__ = ["EVENTS", "EventRuns", "event_files", "event_stem", "read_events", "read_tensorboard_run"]

EVENTS = "events.out.tfevents"
_MAX_FILES = 500
_HEAD = 40
"""Bytes of an event file's first record: it holds the moment at which the file was begun."""


@dataclass
class EventRuns:
    """What the event files of one run say together.

    Attributes:
        history: Metric → points, files in order of their beginning.
        hparams: Hyperparameters.
        started: Time of the first event, seconds since 1970.
        ended: Time of the last one.
        remarks: What is damaged.
    """

    history: dict[str, list[tuple[int, float, int | None]]] = field(default_factory=dict)
    hparams: dict[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    remarks: list[str] = field(default_factory=list)


def event_files(folder: Path, root: Path) -> list[Path]:
    """The event files of a run: its own and those that ``add_hparams`` puts below; else those of its splits."""
    found = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if is_event_file(path.name)]
    own = [path for path in found if path.parent == folder or path.parent.name.replace(".", "").isdigit()]
    kept = own or [path for path in found if path.parent.name.lower() in SPLITS]
    return sorted(path for path in kept if plain_file(path, root))[:_MAX_FILES]


def read_events(files: Iterable[Path], folder: Path) -> EventRuns:
    """Read event files as one run; those of ``validation`` and the like have its name before theirs.

    Args:
        files: The files.
        folder: The run's folder.

    Raises:
        InputError: None of them can be read.
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """
    found = EventRuns()
    for path in files:
        try:
            events = read_event_file(path)
        except InputError as error:
            found.remarks.append(str(error))
            continue
        split = path.parent.name if path.parent != folder and path.parent.name.lower() in SPLITS else ""
        for name, points in events.metrics.items():
            found.history.setdefault(f"{split}/{name}" if split else name, []).extend(points)
        found.hparams.update(events.hparams)
        times = [found.started, found.ended, events.started, events.ended]
        known = [time for time in times if time is not None]
        found.started, found.ended = (min(known), max(known)) if known else (None, None)
        if events.damaged:
            found.remarks.append(f"{path.name}: {events.damaged}")
    return found


def event_stem(files: Iterable[Path]) -> bytes:
    """What says that event files have only grown: the name of the first and its first record."""
    for path in files:
        with path.open("rb") as file:
            return path.name.encode(errors="surrogateescape") + b"\0" + file.read(_HEAD)
    return b""


def read_tensorboard_run(path: Path, root: Path) -> list[FinishedRun]:
    """The run in a folder of event files.

    Raises:
        InputError: There are none that can be read.
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """
    files = event_files(path, root)
    if not files:
        raise InputError(f"{printable(path)} holds no event file of TensorBoard")
    found = read_events(files, path)
    if not found.history and not found.hparams and found.started is None:
        raise InputError(
            f"{printable(path)}: its event files hold nothing that can be read; {'; '.join(found.remarks)}"
        )
    kept = kept_files(path, also=(EVENTS,))
    return [
        FinishedRun(
            path=path,
            kind="tensorboard",
            name=path.name,
            experiment=path.parent.name,
            parameters=found.hparams,
            history=found.history,
            epochs=max((len(points) for points in found.history.values()), default=0),
            status=RunStatus.FINISHED,
            started=moment(found.started),
            ended=moment(found.ended),
            digest=content_digest("tensorboard", files),
            stem=content_digest("tensorboard stem", [event_stem(files)]),
            artifacts=kept.files,
            artifact_root=path,
            remarks=("event files don't say whether the run ended well", *found.remarks, *kept.remarks),
        )
    ]
