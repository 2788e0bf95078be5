"""Where metrics may lie below a folder: CSVs and event files, found by a bounded walk that follows no link."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.csv_files import METRIC_FILES
from guardianflow.adapters.wrap.metrics.event_files import is_event_file
from guardianflow.adapters.wrap.metrics.growing_file import Mark, mark_of
from guardianflow.exceptions import InputError

__all__ = ["Candidate", "FileSearch"]

_DEPTH = 8
_ENTRIES = 20_000
_ENTRIES_A_FOLDER = 4_000  # a folder of a million pictures mustn't use up what the others need
_SECONDS = 1.0
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "dist-packages", "venv", "mlruns", "mlartifacts"})


class Candidate(NamedTuple):
    """A file that may hold metrics; those sort first that surely do, of them tables before event files."""

    unsure: bool  # neither its name nor a pattern says that it does
    events: bool  # its name is that of an event file
    relative: str  # where it is from the root, with `/`
    path: Path
    named: bool  # a pattern of the user's names it
    mark: Mark


class FileSearch:
    """Looks for files of metrics below a folder.

    Bounded: eight folders deep, 20,000 entries (4,000 a folder), one second; folders near the root come first.
    Hidden folders, environments, caches and MLflow's own stores are skipped, links of any kind too.

    Args:
        root: The folder.
        patterns: Globs of further files that are tables of metrics, as in a ``.gitignore``.
        skip: Folders that are not looked into: our own copies of a run's files are no second source.

    Attributes:
        cut: The last search didn't see everything.

    Raises:
        InputError: A pattern leaves the root.
    """

    def __init__(self, root: Path, patterns: Sequence[str] = (), *, skip: Sequence[Path] = ()) -> None:
        from pathspec import PathSpec

        for pattern in patterns:
            if not pattern or PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
                raise InputError(
                    f"a pattern of metric files must stay inside the working folder: {pattern!r}; "
                    "give it relative to that folder, for example 'runs/**/scores.csv'"
                )
        self._root = os.path.realpath(root)
        self._skip = {os.path.realpath(path) for path in skip}
        self._named = PathSpec.from_lines("gitignore", (pattern.removeprefix("./") for pattern in patterns))
        self.cut = False

    def search(self) -> list[Candidate]:
        """What is there now, the surest first; nothing where the root is gone."""
        return sorted(filter(None, (self._judge(entry, relative) for entry, relative in self._entries())))

    def _entries(self) -> Iterator[tuple[os.DirEntry[str], str]]:
        """Files below the root, breadth first."""
        folders = deque([(self._root, "", 0)])
        left, until, self.cut = _ENTRIES, time.monotonic() + _SECONDS, False
        while folders:
            folder, prefix, depth = folders.popleft()
            try:
                with os.scandir(folder) as scan:
                    for count, entry in enumerate(scan):
                        left -= 1
                        if left < 0 or count >= _ENTRIES_A_FOLDER or time.monotonic() > until:
                            self.cut = True
                            break
                        if not entry.is_dir(follow_symlinks=False):
                            yield entry, prefix + entry.name
                        elif depth < _DEPTH and not self._is_skipped(entry):
                            folders.append((entry.path, f"{prefix}{entry.name}/", depth + 1))
            except OSError:
                continue  # removed while we looked, or not ours to read

    def _is_skipped(self, folder: os.DirEntry[str]) -> bool:
        return folder.name.startswith(".") or folder.name in _SKIPPED or folder.path in self._skip

    def _judge(self, entry: os.DirEntry[str], relative: str) -> Candidate | None:
        events = is_event_file(entry.name)
        named = self._named.match_file(relative)
        if not (events or named or entry.name.lower().endswith((".csv", ".tsv"))):
            return None
        try:
            now = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        if not stat.S_ISREG(now.st_mode):
            return None
        sure = events or named or PurePosixPath(relative).stem.lower() in METRIC_FILES
        return Candidate(not sure, events, relative, Path(entry.path), named, mark_of(now))
