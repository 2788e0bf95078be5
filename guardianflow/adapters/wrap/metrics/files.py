"""Metrics out of the files that a script writes while it runs.

Tables (:mod:`guardianflow.adapters.wrap.metrics.csv_files`) and TensorBoard's event files
(:mod:`guardianflow.adapters.wrap.metrics.event_files`) are found below the script's working folder and read as they
grow. Names are the columns' and tags' own. Where a second file has a name that another file already gave, all of
its names get a prefix: the folder it lies in (``b/metrics/mAP50_B`` for ``runs/b/results.csv``), or its own name
where it lies beside the first (``val/loss`` for ``val.csv``). Event files of one folder are one run and share their
names; a tag that a table also has is the table's.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from guardianflow.adapters.wrap.metrics.csv_files import TableReader, TableRow
from guardianflow.adapters.wrap.metrics.event_files import EventReader
from guardianflow.adapters.wrap.metrics.file_names import FileMetricNames
from guardianflow.adapters.wrap.metrics.file_search import Candidate, FileSearch
from guardianflow.adapters.wrap.metrics.growing_file import FileBefore, Gain, GrowingFile
from guardianflow.adapters.wrap.metrics.lines import Measurement
from guardianflow.exceptions import MissingDependencyError

__all__ = ["GrowingFiles"]

_SLACK_S = 2.0  # clocks of file systems are coarser than ours
_WALK_S = 5.0
_SLOW_WALK_S = 0.5
_MAX_BEFORE = 2_000
_BEFORE_S = 2.0
_KEEP_FILE, _KEEP_ALL = 64 * 1024, 8 << 20  # bytes of tables that were there before
_CHUNK = 256 * 1024  # bytes a file a poll
_POLL_S = 0.25
_CLOSE_S = 20.0
_MAX_BYTES = 512 << 20  # of one file
_MAX_REMEMBERED = 100_000  # points a file
_MAX_REMARKS = 20
_MAX_REST = 200_000  # points that are handed out at the end

_Found = tuple[str, int, float]  # name, step, value, before the file's prefix


class GrowingFiles:
    """Watches a folder for tables of metrics and event files, and hands out what they gain.

    A file that was there before gives only the rows that it gained since. One that is truncated, rewritten or
    replaced is read anew; a point of it that was handed out already is not handed out again unless its value changed.

    Args:
        root: The script's working folder. It may vanish while the script runs.
        since: When the script began, seconds since 1970.
        patterns: Globs, relative to the root, of further tables. Without them a CSV counts if it has a column of
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
        self._refused: dict[Path, int] = {}
        self._left_out: set[Path] = set()
        self._names = FileMetricNames(self._root)
        self._remarks: dict[str, None] = {}
        self._file_remarks: dict[str, tuple[str, ...]] = {}
        self._started_over: set[str] = set()
        self._next_walk = 0.0
        self._next_file = 0
        self._no_events = False
        self.found: dict[Path, str] = {}
        self._before = self._look_before(int(since * 1e9))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out, and why."""
        left_out = [f"{len(self._left_out)} more metric files are left out: at most {self._max_files} are watched"]
        of_files = [f"{name}: {text}" for name, texts in self._file_remarks.items() for text in texts]
        return (*self._remarks, *of_files[:_MAX_REMARKS], *(left_out if self._left_out else ()))

    def started_over(self) -> set[str]:
        """Names whose file began another training since the last call: what they gave before doesn't count."""
        names = set(self._started_over)
        self._started_over.clear()
        return names

    def poll(self) -> list[Measurement]:
        """What the files gained since the last poll; cheap where nothing changed."""
        began = time.monotonic()
        if began >= self._next_walk:
            self._walk()
        # Tables first: a name that both have is theirs.
        order = sorted(self._watched.values(), key=lambda watched: watched.events)
        measurements: list[Measurement] = []
        for count in range(len(order)):
            if time.monotonic() - began > _POLL_S:  # the others come first next time
                self._next_file += count
                break
            measurements += self._take(order[(self._next_file + count) % len(order)])
        return measurements

    def close(self) -> list[Measurement]:
        """Read what is left: the last rows, and last lines without an end."""
        until = time.monotonic() + _CLOSE_S
        self._walk()
        measurements: list[Measurement] = []
        for watched in sorted(self._watched.values(), key=lambda watched: watched.events):
            measurements += self._rest_of(watched, until, max(_MAX_REST // 50, _MAX_REST - len(measurements)))
        return measurements

    def _rest_of(self, watched: _Watched, until: float, room: int) -> list[Measurement]:
        """All that a file still holds; of very much, the first half and the last half of what there is room for."""
        first = self._take(watched)
        last: deque[Measurement] = deque(maxlen=room // 2)
        passed = 0
        while watched.behind and not watched.refused:
            if time.monotonic() > until:
                self._remark(watched, "its last rows are left out: reading them took too long")
                return [*first, *last]
            fresh = self._take(watched)
            if len(first) < room // 2:
                first += fresh
            else:
                passed += len(fresh)
                last.extend(fresh)
        if passed > len(last):
            self._remark(
                watched, f"{passed - len(last):,} points before its last ones are left out: too many at its end"
            )
        if not watched.refused:
            last.extend(self._named(watched, watched.close()))
            self._note(watched)
        return [*first, *last]

    def _look_before(self, since_ns: int) -> dict[Path, FileBefore]:
        """What lay there before the script began."""
        until = time.monotonic() + _BEFORE_S
        room = _KEEP_ALL
        before: dict[Path, FileBefore] = {}
        for candidate in self._search.search():
            if candidate.mtime_ns >= since_ns:
                continue
            looked = None
            if len(before) < _MAX_BEFORE and time.monotonic() < until:
                looked = FileBefore.of(candidate.path, keep=0 if candidate.events else min(_KEEP_FILE, room))
                room -= len(looked.data) if looked else 0
            before[candidate.path] = looked or FileBefore(candidate.size, candidate.mtime_ns)
        return before

    def _walk(self) -> None:
        candidates = self._search.search()
        took = self._search.seconds
        self._next_walk = time.monotonic() + (_WALK_S if took <= _SLOW_WALK_S else max(_WALK_S, 40 * took))
        for candidate in candidates:
            if candidate.path in self._watched or not self._is_new(candidate):
                continue
            if len(self._watched) >= self._max_files:
                self._make_room()
            if len(self._watched) >= self._max_files:
                self._left_out.add(candidate.path)
            else:
                self._watch(candidate)
        if self._search.cut:
            self._remarks["the working folder is too large to be searched whole for metric files"] = None

    def _is_new(self, candidate: Candidate) -> bool:
        before = self._before.get(candidate.path)
        if before is not None:
            return (candidate.size, candidate.mtime_ns) != (before.size, before.mtime_ns)
        if self._refused.get(candidate.path) == candidate.inode or (candidate.events and self._no_events):
            return False
        return candidate.mtime_ns >= self._since_ns

    def _make_room(self) -> None:
        """Stop watching files that are gone."""
        for path in [path for path in self._watched if not path.exists()]:
            del self._watched[path]

    def _watch(self, candidate: Candidate) -> None:
        before = self._before.pop(candidate.path, None)
        try:
            kind = _WatchedEvents if candidate.events else _WatchedTable
            self._watched[candidate.path] = kind(candidate, before)
        except MissingDependencyError as error:
            self._no_events = True
            self._remarks[f"event files are there and can't be read: {error}"] = None
        if candidate.events:
            self.found[candidate.path] = "tensorboard"
        self._left_out.discard(candidate.path)

    def _take(self, watched: _Watched) -> list[Measurement]:
        points = watched.poll()
        self._note(watched)
        for name in watched.started_over():
            self._started_over.add(self._full_name(watched, name))
        return self._named(watched, points) if points else []

    def _note(self, watched: _Watched) -> None:
        """Keep in ``found`` and in the remarks what a file turned out to be."""
        if watched.kind:
            self.found[watched.path] = watched.kind
        if remarks := tuple(watched.remarks()):
            self._file_remarks[watched.relative] = remarks
        if watched.refused:
            if watched.kind or watched.named:
                self._remark(watched, watched.refused)
            self._refused[watched.path] = watched.inode
            self._watched.pop(watched.path, None)

    def _remark(self, watched: _Watched, remark: str) -> None:
        if len(self._remarks) < _MAX_REMARKS:
            self._remarks[f"{watched.relative}: {remark}"] = None

    def _named(self, watched: _Watched, points: Sequence[_Found]) -> list[Measurement]:
        measurements = []
        for name, step, value in points:
            full = self._full_name(watched, name)
            if full:
                measurements.append(Measurement(full, value, step))
        return measurements

    def _full_name(self, watched: _Watched, name: str) -> str:
        return self._names.name(name, path=watched.path, events=watched.events, columns=watched.columns()) or ""


class _Watched:
    """One file that is watched: its bytes in, its points out, each only once."""

    def __init__(self, candidate: Candidate, before: FileBefore | None) -> None:
        self.path = candidate.path
        self.relative = candidate.relative.encode("utf-8", "replace").decode()
        self.named = candidate.named
        self.events = candidate.events
        self.kind = ""
        self.refused = ""
        self.behind = False
        self._before = before
        self._file = GrowingFile(candidate.path, before)
        self._given = _Given()
        self._bytes = 0
        self._fresh()

    @property
    def inode(self) -> int:
        return self._file.inode

    def poll(self) -> list[_Found]:
        """What the file gained, at most 256 KiB of it."""
        gain = self._file.read(_CHUNK)
        self.behind = gain is not None and gain.behind
        if gain is None:
            return []
        if gain.anew:
            self._fresh()
            self._given.again()
        self._bytes += len(gain.data)
        points = self._given.new(self._points(gain))
        if self._bytes > _MAX_BYTES:
            self.refused = f"more than {_MAX_BYTES >> 20} MB of it were read; the rest is left out"
        return [] if gain.old else points

    def close(self) -> list[_Found]:
        """The points in a last line that has no end."""
        return self._given.new(self._last_points())

    def columns(self) -> Sequence[str]:
        """Names that the file is known to have."""
        raise NotImplementedError

    def remarks(self) -> Sequence[str]:
        """What was left out of it."""
        raise NotImplementedError

    def started_over(self) -> set[str]:
        """Names that were handed out for a training before the one that now stands in it."""
        return set()

    def _fresh(self) -> None:
        raise NotImplementedError

    def _points(self, gain: Gain) -> Iterator[_Found]:
        raise NotImplementedError

    def _last_points(self) -> Iterator[_Found]:
        raise NotImplementedError


class _WatchedTable(_Watched):
    def _fresh(self) -> None:
        self._reader = TableReader(self.path.name, named=self.named)
        self._old_rows: set[tuple[int, str]] = set()
        self._training = 0
        self._given_names: set[str] = set()
        self._over: set[str] = set()

    def columns(self) -> Sequence[str]:
        return self._reader.names

    def remarks(self) -> Sequence[str]:
        return [*self._reader.order.remarks(self._reader.unit), *self._reader.remarks]

    def started_over(self) -> set[str]:
        over, self._over = self._over, set()
        return over

    def _points(self, gain: Gain) -> Iterator[_Found]:
        if gain.anew:
            self._old_rows = self._rows_before()
        yield from self._figures(self._reader.feed(gain.data), old=gain.old)
        self.refused = self._reader.refused

    def _last_points(self) -> Iterator[_Found]:
        return self._figures(self._reader.close())

    def _figures(self, rows: Sequence[TableRow], *, old: bool = False) -> Iterator[_Found]:
        last = self._reader.order.training
        if last > self._training:
            self._over |= self._given_names
            self._training, self._given_names = last, set()
        for row in rows:
            if row.training < last:
                continue
            if not old:
                self._given_names.update(row.values)
            if row.values:
                self.kind = self._reader.kind
            if self._old_rows and _row_key(row) in self._old_rows:
                continue
            for name, value in row.values.items():
                yield name, row.step, value

    def _rows_before(self) -> set[tuple[int, str]]:
        """Rows that stood in the file before the script began: it may write them again among others."""
        if self._before is None or not self._before.data:
            return set()
        reader = TableReader(self.path.name, named=self.named)
        return {_row_key(row) for row in (*reader.feed(self._before.data), *reader.close())}


def _row_key(row: TableRow) -> tuple[int, str]:
    return row.step, repr(sorted(row.values.items()))


class _WatchedEvents(_Watched):
    def _fresh(self) -> None:
        self._reader = EventReader()
        self.kind = "tensorboard"

    def columns(self) -> Sequence[str]:
        return self._reader.names

    def remarks(self) -> Sequence[str]:
        return (self._reader.damaged,) if self._reader.damaged else ()

    def _points(self, gain: Gain) -> Iterator[_Found]:
        for point in self._reader.feed(gain.data):
            yield point.name, point.step, point.value

    def _last_points(self) -> Iterator[_Found]:
        self._reader.close()
        return iter(())


class _Given:
    """Which points of a file were handed out, in 16 bytes each, for the case that it is read anew."""

    def __init__(self) -> None:
        self._points: dict[str, tuple[array[int], array[float]]] = {}
        self._known: dict[str, dict[int, float]] = {}
        self._count = 0

    def again(self) -> None:
        """The file begins anew: what it gave so far is known from now on."""
        for name, (steps, values) in self._points.items():
            self._known.setdefault(name, {}).update(zip(steps, values, strict=True))
        self._points, self._count = {}, 0

    def new(self, points: Iterator[_Found]) -> list[_Found]:
        """Those points that were not given before with the same value."""
        fresh = []
        for name, step, value in points:
            known = self._known[name].get(step) if name in self._known else None
            if known is None or not (known == value or (math.isnan(known) and math.isnan(value))):
                fresh.append((name, step, value))
            if self._count < _MAX_REMEMBERED:
                self._count += 1
                steps, values = self._points.setdefault(name, (array("q"), array("d")))
                steps.append(step)
                values.append(value)
        return fresh
