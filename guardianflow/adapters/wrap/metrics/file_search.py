"""Where metrics may lie below a folder: CSVs and event files, found by a bounded walk that follows no link."""

from __future__ import annotations

import fnmatch
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from guardianflow.adapters.wrap.metrics.csv_files import METRIC_FILES
from guardianflow.adapters.wrap.metrics.event_files import is_event_file
from guardianflow.exceptions import InputError

__all__ = ["Candidate", "FileSearch"]

_DEPTH = 8
_ENTRIES = 20_000
_ENTRIES_A_FOLDER = 4_000  # a folder of a million pictures mustn't use up what the others need
_SECONDS = 1.0
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "dist-packages", "venv", "mlruns", "mlartifacts"})


@dataclass(frozen=True)
class Candidate:
    """A file that may hold metrics.

    Attributes:
        path: The file.
        relative: The same from the root, with ``/``.
        named: A pattern of the user's names it.
        events: Its name is that of an event file.
        size: Bytes.
        mtime_ns: When it was last written.
        inode: Tells a file from another that took its name.
    """

    path: Path
    relative: str
    named: bool
    events: bool
    size: int
    mtime_ns: int
    inode: int

    @property
    def rank(self) -> tuple[bool, bool, str]:
        """Sorts those first that surely hold metrics, of them tables before event files; then by path."""
        sure = self.events or self.named or PurePosixPath(self.relative).stem.lower() in METRIC_FILES
        return (not sure, self.events, self.relative)


class FileSearch:
    """Looks for files of metrics below a folder.

    Bounded: eight folders deep, 20,000 entries (4,000 a folder), one second; folders near the root come first.
    Hidden folders, environments, caches and MLflow's own stores are skipped, links of any kind too.

    Args:
        root: The folder.
        patterns: Globs, relative to the root, of further files that are tables of metrics.
        skip: Folders that are not looked into: our own copies of a run's files are no second source.

    Raises:
        InputError: A pattern leaves the root.
    """

    def __init__(self, root: Path, patterns: Sequence[str] = (), *, skip: Sequence[Path] = ()) -> None:
        for pattern in patterns:
            if not pattern or PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
                raise InputError(
                    f"a pattern of metric files must stay inside the working folder: {pattern!r}; "
                    "give it relative to that folder, for example 'runs/**/scores.csv'"
                )
        self._root = root.resolve()
        self._skip = {os.path.realpath(path) for path in skip}
        self._patterns = tuple(pattern.removeprefix("./") for pattern in patterns)
        self.seconds = 0.0
        self.cut = False

    def search(self) -> list[Candidate]:
        """What is there now, the surest first; nothing where the root is gone."""
        began = time.monotonic()
        found = [candidate for entry, relative in self._entries(began) if (candidate := self._judge(entry, relative))]
        self.seconds = time.monotonic() - began
        return sorted(found, key=lambda candidate: candidate.rank)

    def _entries(self, began: float) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Files below the root, breadth first."""
        folders = deque([(str(self._root), "", 0)])
        left, self.cut = _ENTRIES, False
        while folders:
            folder, prefix, depth = folders.popleft()
            try:
                with os.scandir(folder) as scan:
                    for count, entry in enumerate(scan):
                        if count >= _ENTRIES_A_FOLDER:
                            self.cut = True
                            break
                        left -= 1
                        if left < 0 or time.monotonic() - began > _SECONDS:
                            self.cut = True
                            return
                        if entry.is_dir(follow_symlinks=False):
                            if depth < _DEPTH and not _is_skipped(entry.name) and entry.path not in self._skip:
                                folders.append((entry.path, f"{prefix}{entry.name}/", depth + 1))
                        else:
                            yield entry, prefix + entry.name
            except OSError:
                continue  # removed while we looked, or not ours to read

    def _judge(self, entry: os.DirEntry[str], relative: str) -> Candidate | None:
        name = entry.name
        events = is_event_file(name)
        named = any(_matches(relative, pattern) for pattern in self._patterns)
        if not (events or named or name.lower().endswith((".csv", ".tsv"))):
            return None
        try:
            if not entry.is_file(follow_symlinks=False):
                return None
            now = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        return Candidate(Path(entry.path), relative, named, events, now.st_size, now.st_mtime_ns, now.st_ino)


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name in _SKIPPED


def _matches(relative: str, pattern: str) -> bool:
    """Whether a path fits a glob: one without ``/`` fits the name in any folder; ``**/`` fits no folder, too."""
    if "/" not in pattern:
        return fnmatch.fnmatchcase(relative.rpartition("/")[2], pattern)
    return any(fnmatch.fnmatchcase(relative, form) for form in {pattern, pattern.replace("**/", "")})
