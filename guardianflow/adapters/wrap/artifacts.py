"""The files that a run made or changed: those that match a glob, with their sha256.

Changed means the content: a file that was only touched is not changed. Two runs at once in one folder can't be told
apart: each finds what the other made in its time.

Links to folders are never entered, links to files only where they end inside the root. What is no regular file is
never opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from guardianflow.adapters.wrap.artifact_patterns import Patterns, Places

__all__ = ["Artifact", "ArtifactReport", "ArtifactRow", "ArtifactWatch", "LeftOut"]

HASHED_BEFORE = 64_000_000
"""Larger files aren't hashed before a run; such a one counts as changed as soon as its times differ."""

_HASHED_BEFORE_TOTAL = 1_000_000_000
_HASH_SECONDS = 3.0  # before the run, for all files together
_MAX_ENTRIES = 1_000_000
_MAX_LEFT_OUT = 500
_RETRY_AFTER_S = 0.2
_CLOCK_NS = 20_000_000  # the clock of file times lags behind that of processes by a tick
_BLOCK = 1 << 20
_SKIPPED = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "site-packages", "dist-packages", ".tox",
    ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".cache", "mlruns", "mlartifacts",
    "wandb",
})  # fmt: skip
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Artifact:
    """A file that a run made or changed.

    Attributes:
        path: Where it lies.
        name: Relative to the root, with ``/``.
        size: In bytes.
        sha256: Of its content.
        new: Whether it wasn't there before; else it was changed, or written anew.
    """

    path: Path
    name: str
    size: int
    sha256: str
    new: bool


class ArtifactRow(TypedDict):
    """A file that was kept, as results and evidence show it."""

    name: str
    size: int
    sha256: str
    new: bool


@dataclass(frozen=True)
class LeftOut:
    """Something that matched and was not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ArtifactReport:
    """What a run left; ``artifacts`` are in the order of the patterns, then of the names."""

    artifacts: tuple[Artifact, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    mark: tuple[int, ...]
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Match:
    path: str
    name: str
    order: int
    status: os.stat_result
    problem: str = ""
    changed_ns: int = 0  # of the link itself, where it is one


class _ChangedMeanwhileError(OSError):
    pass


class ArtifactWatch:
    """Watches a folder for what a run makes in it.

    Args:
        root: The folder.
        patterns: Globs relative to it, see :mod:`~guardianflow.adapters.wrap.artifact_patterns`.
        skip: Folders that are not looked into, besides environments, caches and version control.

    Raises:
        InputError: A pattern is empty, absolute, or leads out of ``root``.
    """

    def __init__(self, root: Path, patterns: Sequence[str], *, skip: Sequence[Path] = ()) -> None:
        self._root = os.path.realpath(root)
        self._patterns = Patterns(patterns)
        self._skip = {os.path.realpath(path) for path in skip}
        self._known: dict[str, _Known] = {}
        self._began_ns = 0
        self._complete = True  # whether the last walk saw everything
        self._knows_all = True

    def before(self) -> None:
        """Remember what is there already; to be called right before the run."""
        self._began_ns = time.time_ns()
        self._known = {}
        until, left = time.monotonic() + _HASH_SECONDS, _HASHED_BEFORE_TOTAL
        for match in self._walk():
            digest = ""
            size = match.status.st_size
            if not match.problem and size <= min(HASHED_BEFORE, left) and time.monotonic() < until:
                digest = _hashed_quietly(match.path)
                left -= size
            self._known[match.name] = _Known(_mark(match), digest)
        self._knows_all = self._complete

    def matching(self, *, limit: int = 1_000) -> list[str]:
        """The names of files that match right now, in order."""
        found = []
        for match in self._walk():
            if not match.problem:
                found.append(match.name)
            if len(found) >= limit:
                break
        return sorted(found)

    def collect(self, *, max_files: int = 1_000, max_bytes: float = 5e9, max_file_bytes: float = 5e9) -> ArtifactReport:
        """The files that were made or changed since :meth:`before`.

        Args:
            max_files: How many are taken at most.
            max_bytes: How many bytes of them all together.
            max_file_bytes: How large one may be.
        """
        artifacts: list[Artifact] = []
        left_out: list[LeftOut] = []
        taken = 0
        if not os.path.isdir(self._root):  # noqa: PTH112 - never raises
            return ArtifactReport((), (LeftOut(".", "the folder is no longer there"),))
        for match in sorted(self._walk(), key=lambda one: (one.order, one.name)):
            known = self._known.get(match.name)
            if self._is_old(match, known):
                continue
            reason = match.problem or _too_much(
                match, len(artifacts), taken, max_files=max_files, max_bytes=max_bytes, max_file_bytes=max_file_bytes
            )
            found = None
            if not reason:
                found, reason = _taken(match, known, written_since=self._began_ns - _CLOCK_NS)
            if found is not None:
                artifacts.append(found)
                taken += found.size
            elif reason:
                left_out.append(LeftOut(_printable(match.name), reason))
        if not self._complete:
            left_out.insert(
                0, LeftOut(".", f"the folder has more than {_MAX_ENTRIES:,} entries; the rest was not seen")
            )
        return ArtifactReport(tuple(artifacts), _capped(left_out))

    def _is_old(self, match: _Match, known: _Known | None) -> bool:
        if known is None:
            # Not seen before, because there was too much to see: then the time of its last change must do.
            return not self._knows_all and max(match.status.st_ctime_ns, match.changed_ns) < self._began_ns
        return known.mark == _mark(match)

    def _walk(self) -> Iterator[_Match]:
        self._complete = True
        entries = 0
        folders: list[tuple[str, str, Places]] = [(self._root, "", self._patterns.start)]
        while folders:
            folder, prefix, places = folders.pop()
            for entry in _entries(folder):
                entries += 1
                if entries > _MAX_ENTRIES:
                    self._complete = False
                    return
                name = prefix + entry.name
                if _is_folder(entry):
                    below = self._patterns.enter(places, entry.name)
                    if below is not None and self._may_enter(entry):
                        folders.append((entry.path, name + "/", below))
                    continue
                order = self._patterns.order(places, entry.name)
                if order is not None and (match := self._match(entry, name, order)) is not None:
                    yield match

    def _may_enter(self, entry: os.DirEntry[str]) -> bool:
        if entry.name in _SKIPPED and not self._patterns.names(entry.name):
            return False
        if entry.path in self._skip:
            return False
        return not os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - a hot loop

    def _match(self, entry: os.DirEntry[str], name: str, order: int) -> _Match | None:
        try:
            own = entry.stat(follow_symlinks=False)
        except OSError:  # gone again
            return None
        path, status, problem = entry.path, own, ""
        if stat.S_ISLNK(own.st_mode):
            path = os.path.realpath(entry.path)
            if os.path.commonpath([path, self._root]) != self._root:
                return _Match(path, name, order, own, "a link that leads out of the folder", own.st_ctime_ns)
            try:
                status = os.lstat(path)
            except OSError:
                return _Match(path, name, order, own, "a link that leads nowhere", own.st_ctime_ns)
            if stat.S_ISDIR(status.st_mode):
                return None  # what lies in it is found there
        if not stat.S_ISREG(status.st_mode):
            problem = "no regular file"
        elif not _is_text(name):
            problem = "its name is no UTF-8"
        return _Match(entry.path, name, order, status, problem, own.st_ctime_ns)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:  # not ours to read, or gone
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _mark(match: _Match) -> tuple[int, ...]:
    """What differs as soon as somebody wrote to the file, or put another one in its place."""
    status = match.status
    return (
        status.st_dev,
        status.st_ino,
        stat.S_IFMT(status.st_mode),
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        match.changed_ns,
    )


def _too_much(match: _Match, files: int, taken: int, *, max_files: int, max_bytes: float, max_file_bytes: float) -> str:
    size = match.status.st_size
    if size > max_file_bytes:
        return f"{size:,} bytes; one file may have {max_file_bytes:,.0f}"
    if files >= max_files:
        return f"more than {max_files:,} files"
    if taken + size > max_bytes:
        return f"with its {size:,} bytes, all files would have more than {max_bytes:,.0f}"
    return ""


def _taken(match: _Match, known: _Known | None, *, written_since: int) -> tuple[Artifact | None, str]:
    """The artifact, or why it is none; neither for a file that has other times, but was not written anew.

    A run that writes the very same bytes again, as one with a fixed seed does, has made that file, too.
    """
    for attempt in range(2):
        try:
            size, digest = _hashed(match.path)
        except FileNotFoundError:
            return None, "it vanished while it was read"
        except _ChangedMeanwhileError as error:
            if attempt:
                return None, str(error)
            time.sleep(_RETRY_AFTER_S)
            continue
        except OSError as error:
            return None, f"it can't be read: {error.strerror or error}"
        if known is not None and known.sha256 == digest and match.status.st_mtime_ns < written_since:
            return None, ""
        return Artifact(Path(match.path), match.name, size, digest, new=known is None), ""
    return None, ""


def _hashed(path: str) -> tuple[int, str]:
    """Size and sha256 of a regular file; anything else is closed without being read."""
    number = os.open(path, _OPEN_FLAGS)
    with os.fdopen(number, "rb", buffering=0) as file:
        before = os.fstat(number)
        if not stat.S_ISREG(before.st_mode):
            raise OSError("no regular file")
        digest, size = hashlib.sha256(), 0
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size > before.st_size:  # whoever writes may be faster than we read
                break
        after = os.fstat(number)
    if size != after.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise _ChangedMeanwhileError("it was still being written")
    return size, digest.hexdigest()


def _hashed_quietly(path: str) -> str:
    try:
        return _hashed(path)[1]
    except OSError:
        return ""


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _capped(rows: list[LeftOut]) -> tuple[LeftOut, ...]:
    if len(rows) <= _MAX_LEFT_OUT:
        return tuple(rows)
    return (*rows[:_MAX_LEFT_OUT], LeftOut("…", f"and {len(rows) - _MAX_LEFT_OUT:,} more"))
