"""Metrics out of the files that a script writes while it runs.

Tables (:mod:`guardianflow.adapters.wrap.metrics.csv_files`) and TensorBoard's event files
(:mod:`guardianflow.adapters.wrap.metrics.event_files`) are found below the script's working folder and read as they
grow. Names are the columns' and tags' own. Where a second file has a name that another file already gave, all of
its names get a prefix: the folder it lies in (``b/metrics/mAP50_B`` for ``runs/b/results.csv``), or its own name
where it lies beside the first (``val/loss`` for ``val.csv``). Event files of one folder are one run and share their
names; a tag that a table also has is the table's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardianflow.adapters.wrap.metrics.csv_files import TableReader
from guardianflow.adapters.wrap.metrics.event_files import EventReader
from guardianflow.adapters.wrap.metrics.file_search import Candidate, FileSearch
from guardianflow.adapters.wrap.metrics.growing_file import FileBefore, GrowingFile
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import MissingDependencyError
from guardianflow.text.names import free_name

__all__ = ["GrowingFiles"]

_SLACK_S = 2.0  # clocks of file systems are coarser than ours
_WALK_S = 5.0
_BEFORE_S = 2.0
_CHUNK = 256 * 1024  # bytes a file a look
_POLL_S = 0.25
_CLOSE_S = 20.0
_MAX_BYTES = 512 << 20  # of one file
_MAX_REMEMBERED = 500_000  # points of all files
_MAX_REMARKS = 20


class _Watched:
    """One file that is watched.

    Attributes:
        owner: Whose its names are: a table's, or those of all event files of a folder.
        names: The reader's names → the full ones.
        behind: More of it is waiting.
    """

    def __init__(self, candidate: Candidate, before: FileBefore | None) -> None:
        self.candidate = candidate
        self.path = candidate.path
        self.relative = candidate.relative.encode("utf-8", "replace").decode()
        self.owner = self.path.parent if candidate.events else self.path
        self.file = GrowingFile(self.path, before)
        self.names: dict[str, str] = {}
        self.behind = True
        self.bytes = 0
        self.reader = self._fresh()

    def _fresh(self) -> TableReader | EventReader:
        return EventReader() if self.candidate.events else TableReader(self.path.name, named=self.candidate.named)

    def look(self) -> list[Point]:
        """The points that the file gained, of at most 256 KiB."""
        gain = self.file.read(_CHUNK)
        self.behind = gain is not None and gain.behind
        if gain is None:
            return []
        if gain.anew:
            self.reader = self._fresh()
        self.bytes += len(gain.data)
        points = self.reader.feed(gain.data)
        if self.bytes > _MAX_BYTES:
            self.reader.refused = f"more than {_MAX_BYTES >> 20} MB of it were read; the rest is left out"
        return [] if gain.old else points


class GrowingFiles:
    """Watches a folder for tables of metrics and event files, and hands out what they gain.

    A file that was there before gives only the rows that it gained since. One that is truncated, rewritten or
    replaced is read anew. A point that was handed out already is not handed out again unless its value changed.

    Args:
        root: The script's working folder. It may vanish while the script runs.
        since: When the script began, seconds since 1970.
        patterns: Globs of further tables, as in a ``.gitignore``. Without them a CSV counts if it has a column of
            steps, or a name such as ``metrics.csv`` or ``history.csv``.
        skip: Folders that are not looked into.
        max_files: Files watched at most.

    Attributes:
        found: File → ``"ultralytics"``, ``"lightning"``, ``"csv"`` or ``"tensorboard"``.

    Raises:
        InputError: A pattern leaves the root.
    """

    def __init__(
        self, root: Path, *, since: float, patterns: Sequence[str] = (), skip: Sequence[Path] = (), max_files: int = 50
    ) -> None:
        self._root = Path(root).resolve()
        self._since_ns = int((since - _SLACK_S) * 1e9)
        self._search = FileSearch(self._root, patterns, skip=skip)
        self._max_files = max_files
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
        self.found: dict[Path, str] = {}
        self._before = self._look_before(int(since * 1e9))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, and why."""
        remarks = [f"{file}: {text}" for file, texts in self._remarks.items() for text in texts][:_MAX_REMARKS]
        if self._missing:
            remarks.append(f"event files are there and can't be read: {self._missing}")
        if self._search.cut:
            remarks.append("the working folder is too large to be searched whole for metric files")
        if self._left_out:
            more = len(self._left_out)
            remarks.append(f"{more} more metric files are left out: at most {self._max_files} are watched")
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

    def _look_before(self, since_ns: int) -> dict[Path, FileBefore]:
        """What lay there before the script began."""
        until = time.monotonic() + _BEFORE_S
        before: dict[Path, FileBefore] = {}
        for candidate in self._search.search():
            if candidate.mtime_ns < since_ns:
                looked = FileBefore.of(candidate.path) if time.monotonic() < until else None
                before[candidate.path] = looked or FileBefore(candidate.size, candidate.mtime_ns)
        return before

    def _walk(self) -> None:
        began = time.monotonic()
        candidates = self._search.search()
        now = time.monotonic()
        self._next_walk = now + max(_WALK_S, 40 * (now - began))
        for candidate in candidates:
            path = candidate.path
            if path in self._watched or path in self._passed or not self._is_new(candidate):
                continue
            if len(self._watched) >= self._max_files:
                self._left_out.add(path)
                continue
            try:
                self._watched[path] = _Watched(candidate, self._before.pop(path, None))
            except MissingDependencyError as error:
                self._missing = str(error)
                self._passed.add(path)

    def _is_new(self, candidate: Candidate) -> bool:
        before = self._before.get(candidate.path)
        if before is None:
            return candidate.mtime_ns >= self._since_ns
        return (candidate.size, candidate.mtime_ns) != (before.size, before.mtime_ns)

    def _named(self, watched: _Watched, points: Sequence[Point]) -> list[Measurement]:
        """Those points that were not handed out before, under their full names."""
        self._note(watched, bool(points))
        measurements = []
        for name, value, step, _ in points:
            full = watched.names.get(name) or self._full_name(watched, name)
            if watched.candidate.events and full in self._of_tables:
                continue
            given = self._given.setdefault(full, {})
            if repr(given.get(step)) == repr(value):
                continue
            measurements.append(Measurement(full, value, step))
            if self._remembered < _MAX_REMEMBERED:
                self._remembered += 1
                given[step] = value
        return measurements

    def _note(self, watched: _Watched, has_points: bool) -> None:
        """Keep what a file turned out to be."""
        reader, path = watched.reader, watched.path
        if reader.started_over:
            self._started_over |= {full for full in watched.names.values() if self._given.pop(full, None)}
        if has_points:
            self.found[path] = reader.kind
        told = bool(reader.refused) and bool(reader.kind or watched.candidate.named)
        self._remarks[watched.relative] = [*reader.remarks, *([reader.refused] if told else [])]
        if reader.refused:
            self._passed.add(path)
            self._watched.pop(path, None)

    def _full_name(self, watched: _Watched, name: str) -> str:
        """The name under which a point is handed out: the first file that has a name keeps it bare."""
        owner, path, events = watched.owner, watched.path, watched.candidate.events
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
