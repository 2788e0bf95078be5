"""Runs that have ended somewhere else, read from the folders that they left: one reader for each kind."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from guardianflow._plugins import Registry
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    from guardianflow.adapters.scan.findings import FoundRun

__all__ = [
    "RUN_FOLDERS",
    "FinishedRun",
    "KeptFiles",
    "Points",
    "RunReader",
    "UnreadableRun",
    "content_digest",
    "kept_files",
    "moment",
    "or_remark",
    "plain_file",
    "read_finished_runs",
]

Points = Sequence[tuple[int, float, int | None]]
"""What one metric was, in order: step, value, milliseconds since 1970 (``None`` where nobody wrote the time)."""

_T = TypeVar("_T")
MAX_FILES = 200
MAX_BYTES = 2_000_000_000
_MAX_ENTRIES = 20_000
_WEIGHTS = (".pt", ".pth", ".ckpt", ".onnx", ".safetensors", ".keras", ".h5", ".engine")
_TABLES = (".csv", ".yaml", ".yml", ".json", ".txt")
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FinishedRun:
    """A run as its folder shows it.

    Attributes:
        path: Its folder, or the database that holds it.
        kind: ``"ultralytics"``, ``"yolov5"``, ``"lightning"``, ``"tensorboard"`` or ``"mlflow"``.
        name: What the run is called: its folder's name, or the name that MLflow had for it.
        experiment: What it belongs to, in its own words; may break our rule for names.
        parameters: What it was asked to do; secrets are still among them.
        history: Legal metric name → its points.
        epochs: How many epochs (or, where nobody counts these, steps with figures) there are.
        asked_epochs: How many were asked for; 0 where that is not known.
        status: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        started: When it began, UTC; ``None`` where nothing tells.
        ended: When it ended, UTC.
        artifacts: Files to keep, all of them below ``artifact_root``.
        artifact_root: What the artifacts' names count from.
        weights: The best weights among the artifacts.
        task: ``"detection"`` and so on; empty where it is not known.
        digest: Of all that defines the run: equal digests are the same run, wherever it lies.
        stem: Of what defines it and stays while it goes on: a run that has grown has the same.
        tags: Further tags, as they were.
        source_id: Its id in the store that it comes from; empty where it had none.
        parent_id: The same of the run that it is nested in.
        remarks: What could not be known or read, and why.
    """

    path: Path
    kind: str
    name: str
    experiment: str
    parameters: Mapping[str, Any]
    history: Mapping[str, Points]
    epochs: int
    status: str
    started: datetime | None
    ended: datetime | None
    digest: str
    stem: str
    artifacts: tuple[Path, ...] = ()
    artifact_root: Path = Path()
    weights: Path | None = None
    task: str = ""
    asked_epochs: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    source_id: str = ""
    parent_id: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def last(self) -> dict[str, float]:
        """Each metric's value at its last step."""
        return {name: max(points, key=lambda point: point[0])[1] for name, points in self.history.items() if points}

    def artifact_name(self, path: Path) -> str:
        """An artifact's path within the run, with slashes."""
        return path.relative_to(self.artifact_root).as_posix()


@dataclass(frozen=True)
class UnreadableRun:
    """A run of a store whose other runs can be read."""

    path: Path
    reason: str


RunReader = Callable[[Path, Path], Iterable[FinishedRun | UnreadableRun]]
"""Reads the run or runs at a path; the second path is the folder that was scanned, which nothing may leave."""

RUN_FOLDERS: Registry[RunReader] = Registry(
    "kind of run folder",
    {
        "ultralytics": "guardianflow.adapters.finished_runs.ultralytics:read_ultralytics_run",
        "yolov5": "guardianflow.adapters.finished_runs.ultralytics:read_yolov5_run",
        "lightning": "guardianflow.adapters.finished_runs.lightning:read_lightning_run",
        "tensorboard": "guardianflow.adapters.finished_runs.tensorboard:read_tensorboard_run",
        "mlflow": "guardianflow.adapters.finished_runs.mlflow_stores:read_mlflow_store",
    },
    group="guardianflow.run_folders",
)


def read_finished_runs(found: FoundRun, root: Path) -> Iterator[FinishedRun | UnreadableRun]:
    """The runs behind one finding: one of most kinds, and all runs of an MLflow store, parents first.

    Args:
        found: What the scan found.
        root: The folder that was scanned.

    Raises:
        InputError: There is no such run any more, or its files can't be read.
        NotFoundError: Nothing reads this kind.
    """
    reader = RUN_FOLDERS.get(found.kind)
    base = root.resolve()
    path = (base / found.path).resolve()
    if not path.is_relative_to(base):
        raise InputError(f"{printable(found.path)} leads out of {printable(root)}; scan the folder that it lies in")
    if not path.exists():
        raise InputError(f"{printable(path)} is no longer there; scan the folder again")
    yield from reader(path, base)


def plain_file(path: Path, folder: Path) -> bool:
    """Whether something is a regular file that lies in a folder, also when it is reached over a link."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # RuntimeError: links in a ring, before Python 3.13
        return False


def moment(seconds: float | None) -> datetime | None:
    """A time since 1970 in UTC; ``None`` for one that no calendar has."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def or_remark(read: Callable[[], _T], remarks: list[str], otherwise: _T) -> _T:
    """What is read; where it can't be, a remark says why, and something else stands for it."""
    try:
        return read()
    except GuardianFlowError as error:
        remarks.append(str(error))
        return otherwise


def content_digest(kind: str, parts: Iterable[bytes | Path]) -> str:
    """The sha256 of texts and of files' bytes; where one ends counts, what the files are called doesn't.

    Raises:
        InputError: A file can't be read.
    """
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest() if isinstance(part, bytes) else _digest_of(part))
    return digest.hexdigest()


def _digest_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputError(
            f"{printable(path)} can't be read ({error.strerror or error}); check the path and its rights"
        ) from error


@dataclass(frozen=True)
class KeptFiles:
    """The files of a run folder that are worth keeping.

    Attributes:
        files: What is kept, the most important first.
        remarks: What is left out, and why.
    """

    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def kept_files(folder: Path, *, first: Sequence[str] = (), also: Sequence[str] = (), every: bool = False) -> KeptFiles:
    """Weights, tables, settings and pictures below a folder, at most 200 files and 2 GB.

    No link is followed out of the folder, and none to a folder at all.

    Args:
        folder: Where they lie.
        first: Names (relative, with slashes) that come before all others.
        also: Parts of file names that are worth keeping, too.
        every: Keep files of any kind.
    """
    ranked: list[tuple[int, str, Path]] = []
    foreign = 0
    for path in _files_below(folder):
        name = path.relative_to(folder).as_posix()
        rank = first.index(name) if name in first else _rank(path, also, every)
        if rank is None:
            continue
        if plain_file(path, folder):
            ranked.append((rank, name, path))
        else:
            foreign += 1
    remarks = [f"{foreign} link(s) lead out of the run's folder, or nowhere, and are left out"] if foreign else []
    kept, dropped = _within_caps(path for _, _, path in sorted(ranked))
    if dropped:
        remarks.append(
            f"{dropped} file(s) are left out: {MAX_FILES} files and {MAX_BYTES // 10**9} GB of a run are kept"
        )
    return KeptFiles(tuple(kept), tuple(remarks))


def _files_below(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(files):
            seen += 1
            if seen > _MAX_ENTRIES:
                return
            yield Path(place, name)


def _rank(path: Path, also: Sequence[str], every: bool) -> int | None:
    suffix = path.suffix.lower()
    groups = (_TABLES, _PICTURES, _WEIGHTS)
    for rank, group in enumerate(groups, start=100):
        if suffix in group:
            return rank
    return 103 if every or any(part in path.name for part in also) else None


def _within_caps(paths: Iterable[Path]) -> tuple[list[Path], int]:
    kept: list[Path] = []
    size = dropped = 0
    for path in paths:
        try:
            needed = path.stat().st_size
        except OSError:
            continue
        if len(kept) >= MAX_FILES or size + needed > MAX_BYTES:
            dropped += 1
            continue
        kept.append(path)
        size += needed
    return kept, dropped
