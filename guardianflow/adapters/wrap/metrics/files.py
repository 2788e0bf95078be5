"""Metrics out of the files that a script writes while it runs.

Tables (:mod:`guardianflow.adapters.wrap.metrics.csv_files`) and TensorBoard's event files
(:mod:`guardianflow.adapters.wrap.metrics.event_files`) are found below the script's working folder and read as they
grow. Names are the columns' and tags' own. Where a second file has a name that another file already gave, all of
its names get a prefix: the folder it lies in (``b/metrics/mAP50_B`` for ``runs/b/results.csv``), or its own name
where it lies beside the first (``val/loss`` for ``val.csv``). Event files of one folder are one run and share their
names; a tag that a table also has is the table's.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.csv_files import METRIC_FILES, TableReader
from guardianflow.adapters.wrap.metrics.event_files import EventReader, is_event_file
from guardianflow.adapters.wrap.metrics.growing_file import GrowingFile, mark_of
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import InputError, MissingDependencyError
from guardianflow.text.names import free_name
from guardianflow.text.printable import printable

__all__ = ["GrowingFiles"]

_SLACK_S = 2.0  # clocks of file systems are coarser than ours
_WALK_S = 5.0
_BEFORE_S = 2.0
_MAX_FILES = 50
_CHUNK = 256 * 1024  # bytes a file a look
_POLL_S = 0.25
_CLOSE_S = 20.0
_MAX_BYTES = 512 << 20  # of one file
_MAX_REMEMBERED = 500_000  # points of all files
_MAX_REMARKS = 20
_DEPTH = 8
_ENTRIES = 20_000
_ENTRIES_A_FOLDER = 4_000  # a folder of a million pictures mustn't use up what the others need
_SECONDS = 1.0
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "dist-packages", "venv", "mlruns", "mlartifacts"})


class _Candidate(NamedTuple):
    """A file that may hold metrics; those sort first that surely do, of them tables before event files."""

    unsure: bool  # neither its name nor a pattern says that it does
    events: bool  # its name is that of an event file
    relative: str  # where it is from the root, with `/`
    path: Path
    named: bool  # a pattern of the user's names it
    mark: tuple[int, int, int]


class _FileSearch:
    """Looks for files of metrics below a folder.

    Bounded: eight folders deep, 20,000 entries (4,000 a folder), one second; folders near the root come first.
    Hidden folders, environments, caches and MLflow's own stores are skipped, links of any kind too.
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
        self.cut = False  # the last search didn't see everything

    def search(self) -> list[_Candidate]:
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

    def _judge(self, entry: os.DirEntry[str], relative: str) -> _Candidate | None:
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
        return _Candidate(not sure, events, relative, Path(entry.path), named, mark_of(now))


class _Watched:
    """One file that is watched."""

    def __init__(self, candidate: _Candidate, file: GrowingFile) -> None:
        self.candidate = candidate
        self.owner = candidate.path.parent if candidate.events else candidate.path  # whose its names are
        self.names: dict[str, str] = {}  # the reader's → the full ones
        self.behind = True
        self._file = file
        self._bytes = 0
        self.reader = self._fresh()

    def _fresh(self) -> TableReader | EventReader:
        asked = self.candidate
        return EventReader() if asked.events else TableReader(asked.path.name, named=asked.named)

    def look(self) -> list[Point]:
        """The points that the file gained, of at most 256 KiB."""
        gain = self._file.read(_CHUNK)
        self.behind = gain is not None and gain.behind
        if gain is None:
            return []
        if gain.anew:
            self.reader = self._fresh()
        self._bytes += len(gain.data)
        points = self.reader.feed(gain.data)
        if self._bytes > _MAX_BYTES:
            self.reader.refused = f"more than {_MAX_BYTES >> 20} MB of it were read; the rest is left out"
        return [] if gain.old else points


class GrowingFiles:
    """Watches a folder for tables of metrics and event files, and hands out what they gain.

    A file that was there before gives only the rows that it gained since. One that is truncated, rewritten or
    replaced is read anew. A point that was handed out already is not handed out again unless its value changed.

    Args:
        root: The script's working folder. It may vanish while the script runs.
        since: When the script began, seconds since 1970.
        patterns: Globs of further tables; without, those count that have steps, or names such as ``metrics.csv``.
        skip: Folders that are not looked into.

    Raises:
        InputError: A pattern leaves the root.
    """

    def __init__(self, root: Path, *, since: float, patterns: Sequence[str] = (), skip: Sequence[Path] = ()) -> None:
        self._root = root.resolve()
        self._since_ns = int((since - _SLACK_S) * 1e9)
        self._search = _FileSearch(self._root, patterns, skip=skip)
        self._watched: dict[Path, _Watched] = {}
        self._passed: set[Path] = set()  # no metrics, or no more of them
        self._left_out: set[Path] = set()
        self._owners: dict[tuple[bool, str], Path] = {}  # name, of event files or not → whose it is
        self._prefixes: dict[Path, str] = {}
        self._given: dict[str, dict[int, float]] = {}
        self._of_tables: set[str] = set()
        self._remembered = 0
        self._remarks: dict[str, Sequence[str]] = {}  # file → what was left out of it
        self._started_over: set[str] = set()
        self._missing = ""
        self._next_walk = 0.0
        self._before: dict[Path, GrowingFile] = {}
        self._look_before(int(since * 1e9))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, and why."""
        remarks = [f"{printable(file)}: {text}" for file, texts in self._remarks.items() for text in texts]
        del remarks[_MAX_REMARKS:]
        if self._missing:
            remarks.append(f"event files are there and can't be read: {self._missing}")
        if self._search.cut:
            remarks.append("the working folder is too large to be searched whole for metric files")
        if self._left_out:
            remarks.append(f"{len(self._left_out)} more metric files are left out: at most {_MAX_FILES} are watched")
        return tuple(remarks)

    def started_over(self) -> set[str]:
        """Names whose file began another training since the last call: what they gave before doesn't count."""
        names, self._started_over = self._started_over, set()
        return names

    def poll(self) -> list[Measurement]:
        """What the files gained since the last poll; cheap where nothing changed."""
        if time.monotonic() >= self._next_walk:
            self._walk()
        return self._look(time.monotonic() + _POLL_S)

    def close(self) -> Iterator[list[Measurement]]:
        """Read what is left, piece by piece: the last rows, and last lines without an end."""
        until = time.monotonic() + _CLOSE_S
        self._walk()
        yield self._look(until)
        while time.monotonic() < until and any(watched.behind for watched in self._watched.values()):
            yield self._look(until)
        for watched in list(self._watched.values()):
            if watched.behind:
                watched.reader.refused = "its last rows are left out: reading them took too long"
            yield self._named(watched, watched.reader.close())

    def _look(self, until: float) -> list[Measurement]:
        measurements: list[Measurement] = []
        for path, watched in list(self._watched.items()):
            if time.monotonic() > until:
                break
            self._watched[path] = self._watched.pop(path)  # those that time is too short for come first next time
            measurements += self._named(watched, watched.look())
        return measurements

    def _look_before(self, since_ns: int) -> None:
        """Note what lay there before the script began; where there is too much of it, the rest is no file of its."""
        until = time.monotonic() + _BEFORE_S
        for candidate in self._search.search():
            if candidate.mark[2] < since_ns:
                self._passed.add(candidate.path)
                if time.monotonic() < until:
                    with contextlib.suppress(OSError):
                        self._before[candidate.path] = GrowingFile(candidate.path, there=True)
                        self._passed.remove(candidate.path)

    def _walk(self) -> None:
        began = time.monotonic()
        candidates = self._search.search()
        now = time.monotonic()
        self._next_walk = now + max(_WALK_S, 40 * (now - began))
        for candidate in candidates:
            path = candidate.path
            before = self._before.get(path)
            is_new = candidate.mark != before.mark if before else candidate.mark[2] >= self._since_ns
            if path in self._watched or path in self._passed or not is_new:
                continue
            if len(self._watched) >= _MAX_FILES:
                self._left_out.add(path)
                continue
            try:
                self._watched[path] = _Watched(candidate, before or GrowingFile(path))
            except MissingDependencyError as error:
                self._missing = str(error)
                self._passed.add(path)

    def _named(self, watched: _Watched, points: Sequence[Point]) -> list[Measurement]:
        """Those points that were not handed out before, under their full names."""
        reader, file = watched.reader, watched.candidate
        if reader.started_over:
            self._started_over |= {full for full in watched.names.values() if self._given.pop(full, None)}
        told = [reader.refused] if reader.refused and (file.named or file.events or reader.names) else []
        self._remarks[file.relative] = [*reader.remarks, *told]
        if reader.refused:
            self._passed.add(file.path)
            self._watched.pop(file.path, None)
        measurements = []
        for name, value, step, _ in points:
            full = watched.names.get(name) or self._full_name(watched, name)
            given = self._given.setdefault(full, {})
            is_tables = file.events and full in self._of_tables
            if is_tables or repr(given.get(step)) == repr(value):
                continue
            measurements.append(Measurement(full, value, step))
            if self._remembered < _MAX_REMEMBERED:
                self._remembered += 1
                given[step] = value
        return measurements

    def _full_name(self, watched: _Watched, name: str) -> str:
        """The name under which a point is handed out: the first file that has a name keeps it bare."""
        owner, path, events = watched.owner, watched.candidate.path, watched.candidate.events
        owners = (self._owners.get((events, other), owner) for other in (name, *watched.reader.names))
        rival = next((other for other in owners if other != owner), None)
        if rival is not None and owner not in self._prefixes:
            is_beside = path.parent == self._root or (not events and rival.parent == path.parent)
            prefix = kept_name(path.stem if is_beside else path.parent.name)
            self._prefixes[owner] = free_name(prefix, self._prefixes.values())
        if owner in self._prefixes:
            full = legal_metric_name(f"{self._prefixes[owner]}/{name}")
        else:
            full = name
            self._owners[events, name] = owner
        watched.names[name] = full
        if not events:
            self._of_tables.add(full)
        return full
