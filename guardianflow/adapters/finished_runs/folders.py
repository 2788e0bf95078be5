"""Runs that have ended somewhere else, read from the folders that they left: one reader for each kind."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from guardianflow._plugins import Registry
from guardianflow.adapters.wrap.metrics.event_files import is_event_file
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.files.content import hash_file
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    from guardianflow.adapters.scan.findings import FoundRun

__all__ = [
    "RUN_FOLDERS", "FinishedRun", "Points", "RunReader", "UnreadableRun", "content_digest",
    "kept_files", "moment", "or_remark", "plain_file", "read_finished_runs",
]  # fmt: skip

Points = Sequence[tuple[int, float, int | None]]
"""What one metric was, in order: step, value, milliseconds since 1970 (``None`` where nobody wrote the time)."""

_T = TypeVar("_T")
MAX_FILES = 200
MAX_BYTES = 2_000_000_000
_MAX_ENTRIES = 20_000
_WEIGHTS = (".pt", ".pth", ".ckpt", ".onnx", ".safetensors", ".keras", ".h5", ".engine")
_GROUPS = ((".csv", ".yaml", ".yml", ".json", ".txt"), (".png", ".jpg", ".jpeg"), _WEIGHTS)
"""Endings of the files that are worth keeping: tables and settings before pictures, these before other weights."""


@dataclass(frozen=True)
class FinishedRun:
    """A run as its folder shows it.

    Attributes:
        path: Its folder, or the database that holds it.
        kind: One of :data:`RUN_FOLDERS`.
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

    @property
    def weights(self) -> Path | None:
        """Of the artifacts the weights called ``best``, else the newest but ``last``; PyTorch's before others."""
        found = [path for path in self.artifacts if path.suffix in _WEIGHTS]
        kept = (
            [path for path in found if path.stem == "best"] or [path for path in found if path.stem != "last"] or found
        )
        return min(kept, key=lambda path: (_WEIGHTS.index(path.suffix), -path.stat().st_mtime), default=None)

    def artifact_name(self, path: Path) -> str:
        """An artifact's path within the run, with slashes."""
        return path.relative_to(self.artifact_root).as_posix()


class UnreadableRun(NamedTuple):
    """A run of a store whose other runs can be read."""

    path: Path
    reason: str


RunReader = Callable[[Path, Path], Iterable[FinishedRun | UnreadableRun]]
"""Reads the run or runs at a path; the second path is the folder that was scanned, which nothing may leave."""

_FOLDERS = "guardianflow.adapters.finished_runs.training_folders:read_"
RUN_FOLDERS: Registry[RunReader] = Registry(
    "kind of run folder",
    {
        "ultralytics": f"{_FOLDERS}ultralytics",
        "yolov5": f"{_FOLDERS}yolov5",
        "lightning": f"{_FOLDERS}lightning",
        "tensorboard": f"{_FOLDERS}tensorboard",
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
    try:
        yield from reader(path, base)
    except OSError as error:
        place = printable(error.filename or path, longest=400)
        raise InputError(f"{place} can't be read ({error.strerror or error}); check the path and its rights") from error


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
    """The sha256 of texts and of files' bytes; where one ends counts, what the files are called doesn't."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(bytes.fromhex(hash_file(part)) if isinstance(part, Path) else hashlib.sha256(part).digest())
    return digest.hexdigest()


def kept_files(folder: Path, *, every: bool = False) -> tuple[tuple[Path, ...], list[str]]:
    """Weights, tables, settings, pictures and event files below a folder, at most 200 files and 2 GB.

    No link is followed out of the folder, and none to a folder at all.

    Args:
        folder: Where they lie.
        every: Keep files of any kind.

    Returns:
        The most important first; and what is left out, and why.
    """
    ranked: list[tuple[int, str, Path]] = []
    foreign = 0
    for path in islice(_files_below(folder), _MAX_ENTRIES):
        rank = _rank(path, every)
        if rank is None:
            continue
        if plain_file(path, folder):
            ranked.append((rank, path.relative_to(folder).as_posix(), path))
        else:
            foreign += 1
    remarks = [f"{foreign} link(s) lead out of the run's folder, or nowhere, and are left out"] if foreign else []
    kept: list[Path] = []
    size = 0
    for _, _, path in sorted(ranked):
        needed = path.stat().st_size
        if len(kept) < MAX_FILES and size + needed <= MAX_BYTES:
            kept.append(path)
            size += needed
    if dropped := len(ranked) - len(kept):
        remarks.append(
            f"{dropped} file(s) are left out: {MAX_FILES} files and {MAX_BYTES // 10**9} GB of a run are kept"
        )
    return tuple(kept), remarks


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files))


def _rank(path: Path, every: bool) -> int | None:
    suffix = path.suffix.lower()
    if suffix in _WEIGHTS and path.stem in {"best", "last"}:
        return 0
    for rank, group in enumerate(_GROUPS, start=1):
        if suffix in group:
            return rank
    return len(_GROUPS) + 1 if every or is_event_file(path.name) else None
