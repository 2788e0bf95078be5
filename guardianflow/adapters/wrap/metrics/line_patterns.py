"""A user's own regexes on the lines of a training, kept from running away.

``re`` can't be told a time limit, and a regex such as ``(a+)+b`` needs longer than the universe has for a line
of 60 letters. Three things stand against it: a trial on lines of growing length refuses or shortens before the
start; a timer of the process's CPU time breaks off a single search (in the main thread, where Unix gives
signals); and a pattern that goes on needing more than a millisecond a line is given up.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from types import FrameType

from guardianflow.adapters.wrap.metrics.measurement import ToldFigures, figure_of
from guardianflow.exceptions import InputError

__all__ = ["LinePattern", "watched"]

_MOST_FOUND = 64
_LINE_LIMIT = 10_000
_TRIAL_LENGTHS = (*range(8, 34, 2), 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_TRIAL_SEEDS = ("a", "1", " ", "a ", "1.", "a=1 ", "a,", "-")
_TRIAL_SECONDS = 0.02
_HOPELESS = 64
_TICK = 0.25
_TICKS = 4
_PATIENCE = 1.0  # seconds, and a thousandth for each line
_STEPS = frozenset({"step", "iter", "iteration", "global_step"})

_ticks = [0]  # of the search that runs now; one list, because only the main thread has a timer


class _TooSlowError(Exception):
    """Raised by the timer inside a search."""


class LinePattern:
    """One regex with named groups.

    Each group is a metric; ``step``, ``iter``, ``iteration``, ``global_step`` and ``epoch`` give the step; two
    groups ``name`` and ``value`` give a metric that is named in the line itself.

    Args:
        text: The regex.

    Raises:
        InputError: No regex, none with named groups, or so slow that it can't be used.
    """

    def __init__(self, text: str) -> None:
        try:
            self._regex = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise InputError(f"the metric pattern {text!r} is no regular expression: {error}. Correct it.") from error
        groups = list(self._regex.groupindex)
        if not set(groups) - _STEPS - {"epoch"}:
            raise InputError(
                f"a metric pattern needs a named group for its figure; {text!r} has "
                f"{'only ' + ', '.join(groups) if groups else 'none'}. Write it like 'loss: (?P<loss>[\\d.]+)'."
            )
        self.remark = ""
        self.stopped = False
        self._lines = 0
        self._seconds = 0.0
        self._limit = _safe_length(self._regex, text)
        if self._limit < 1_000:
            self.remark = f"pattern {text!r} is slow: it sees the first {self._limit} characters of a line only"

    def find(self, line: str) -> list[ToldFigures]:
        """What it finds in a line, at most 64 times; nothing once it was stopped."""
        if self.stopped:
            return []
        _ticks[0] = 0
        begin = time.perf_counter()
        try:
            matches = list(islice(self._regex.finditer(line[: self._limit]), _MOST_FOUND))
        except _TooSlowError:
            self._stop(f"a single line took over {_TICK * _TICKS:g} s")
            return []
        self._seconds += time.perf_counter() - begin
        self._lines += 1
        if self._seconds > _PATIENCE + self._lines / 1_000:
            self._stop(f"{self._lines} lines took {self._seconds:.1f} s")
        return [_read(match) for match in matches]

    def _stop(self, why: str) -> None:
        self.stopped = True
        self.remark = f"pattern {self._regex.pattern!r} was given up: {why}. Make it simpler, without nested repeats."


def _read(match: re.Match[str]) -> ToldFigures:
    groups = {name: text for name, text in match.groupdict().items() if text}
    epoch = groups.pop("epoch", "")
    steps = [groups.pop(name) for name in match.re.groupindex if name in _STEPS and name in groups]
    if "name" in groups and "value" in groups:
        groups[groups.pop("name").strip()] = groups.pop("value")
    numbers = {name: figure_of(text.strip().rstrip("%")) for name, text in groups.items()}
    figures = [(name, number) for name, number in numbers.items() if number is not None]
    return ToldFigures(figures, epoch, steps[0] if steps else "")


@contextmanager
def watched() -> Iterator[None]:
    """Break off any single search that runs for a second, where the system can: Unix, main thread, no other timer."""
    usable = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not usable or signal.getitimer(signal.ITIMER_VIRTUAL) != (0.0, 0.0):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _tick)
    signal.setitimer(signal.ITIMER_VIRTUAL, _TICK, _TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before if before is not None else signal.SIG_DFL)


def _tick(_number: int, frame: FrameType | None) -> None:
    _ticks[0] += 1
    # Only inside a search: anywhere else the exception would hit what has nothing to do with it.
    if _ticks[0] >= _TICKS and frame is not None and frame.f_code in _SEARCHES:
        raise _TooSlowError


@lru_cache(maxsize=256)
def _safe_length(regex: re.Pattern[str], text: str) -> int:
    """To which length of line the regex is fast, tried on lines that regexes of many repeats are slow on."""
    lead = re.match(r"[\w :=\-]*", text)
    safe = 0
    for length in _TRIAL_LENGTHS:
        bodies = [(seed * length)[:length] + "\x01" for seed in _TRIAL_SEEDS]
        lines = [start + body for body in bodies for start in {"", lead[0] if lead else ""}]
        if any(_seconds(regex, line) > _TRIAL_SECONDS for line in lines):
            if length > _HOPELESS:
                return safe
            raise InputError(
                f"the metric pattern {text!r} is too slow: a line of {length} characters took over "
                f"{_TRIAL_SECONDS * 1000:.0f} ms. Avoid repeats inside repeats, such as (a+)+."
            )
        safe = length
    return _LINE_LIMIT


def _seconds(regex: re.Pattern[str], line: str) -> float:
    _ticks[0] = 0
    begin = time.thread_time()
    try:
        regex.search(line)
    except _TooSlowError:
        return float("inf")
    return time.thread_time() - begin


_SEARCHES = frozenset({LinePattern.find.__code__, _seconds.__code__})
