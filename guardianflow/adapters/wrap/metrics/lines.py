"""Measurements out of what a training prints, while it prints.

Recognised are ``name: value`` and ``name=value`` pairs, JSON lines and printed dicts, what progress bars carry
behind their bars, tables under a line of column names, and the user's own regexes. A value with a percent sign is
kept as the number that stands there: ``45%`` is 45. A value with a unit of letters (``12GB``, ``3s``), a share
(``9910/10000``) and a number with thousands separators are none. Which step a figure gets is told in
:mod:`guardianflow.adapters.wrap.metrics.line_steps`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.adapters.wrap.metrics.line_patterns import Matched, read_patterns, watched
from guardianflow.adapters.wrap.metrics.line_plans import NUMBERS, NUMBERS_AND_NAN, LinePlan, plan_line
from guardianflow.adapters.wrap.metrics.line_records import read_record
from guardianflow.adapters.wrap.metrics.line_runs import LineRun
from guardianflow.adapters.wrap.metrics.line_steps import StepClock
from guardianflow.adapters.wrap.metrics.line_tables import LineTable
from guardianflow.adapters.wrap.metrics.measurement import MeasuredLines, Measurement

__all__ = ["Measurement", "MetricLines"]

_LINE_LIMIT = 10_000
_WINDOW = 1 << 18
_MOST_PLANS = 2_048
_MOST_RUNS = 256
_LONGEST_PLANNED = 1_000

# Lines that can hold a figure, found in a whole block at once: sign and number, but no 12:34:56.
_NUMBER = rb"(?:[-+.0-9]|[nN][aA][nN]|[iI][nN][fF]|(?:torch\.)?tensor\(|(?:np|numpy|jnp)\.|[Aa]rray\()"
_PAIRS_TEXT = (
    rb":(?:[ \t]+" + _NUMBER + rb"|(?<![\s\[T][0-9][0-9]:)(?<!:[0-9][0-9]:)" + _NUMBER + rb")|=[ \t]*" + _NUMBER
)
_PAIRS = re.compile(_PAIRS_TEXT)
# … or can tell the step, or begin a table. Slower, therefore only for blocks that hold one of the words.
_COUNTERS = re.compile(
    _PAIRS_TEXT
    + rb"|(?:poch|POCH|tep(?<=[sS]tep)|TEP(?<=STEP)|ter(?<=[iI]ter)(?:ation)?|TER(?<=ITER)(?:ATION)?)"
    + rb"(?:[\"']?[ \t]*[:=#]?[ \t]*[\[(]?[ \t]*[0-9]|[ \t]{2,}[A-Za-z(]|\t[A-Za-z(]|[ \t]*\|[ \t]*[A-Za-z])"
)
_COUNTER_WORDS = (b"poch", b"POCH", b"step", b"Step", b"STEP", b"iter", b"Iter", b"ITER")
_NAN_WORDS = (b"nan", b"NaN", b"NAN", b"inf", b"Inf", b"INF")
_ANSI = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_OVERLONG = re.compile(rb"([^\n]{%d})[^\n]+" % _LINE_LIMIT)
_BLANKS = bytes.maketrans(b"\0\b\r", b"  \n")


Found = list[Measurement | MeasuredLines]


class MetricLines:
    """Bytes in, measurements out; one object a stream.

    Lines end with a line feed or a carriage return. A line of over 10,000 bytes is read up to there, bytes that
    are no UTF-8 are replaced, colours are taken out. The same bytes give the same measurements, however they
    are cut into chunks. Steps: see :mod:`guardianflow.adapters.wrap.metrics.line_steps`.

    Args:
        patterns: The user's regexes with named groups, see
            :class:`~guardianflow.adapters.wrap.metrics.line_patterns.LinePattern`. Where one finds a name in a line,
            the same name isn't recognised there once more.
        automatic: Recognise figures without a pattern as well. Steps are recognised either way.

    Raises:
        InputError: A pattern can't be used.
    """

    def __init__(self, patterns: Sequence[str] = (), *, automatic: bool = True) -> None:
        self._patterns = read_patterns(patterns)
        self._automatic = automatic
        self._clock = StepClock()
        self._table = LineTable()
        self._plans: dict[str, LinePlan] = {}
        self._runs: dict[str, LineRun | None] = {}
        self._last_shape = ""
        self._numbers = NUMBERS
        self._pending = b""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: patterns that were stopped and why."""
        return tuple(pattern.remark for pattern in self._patterns if pattern.remark)

    def feed(self, chunk: bytes) -> list[Measurement]:
        """The measurements of the lines that ended with this chunk."""
        return [
            each
            for found in self.feed_fast(chunk)
            for each in (found.each() if isinstance(found, MeasuredLines) else (found,))
        ]

    def feed_fast(self, chunk: bytes) -> Found:
        """The same as :meth:`feed`, with the figures of lines that are alike in columns."""
        found: Found = []
        for start in range(0, len(chunk), _WINDOW):
            piece = chunk[start : start + _WINDOW]
            end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
            if end:
                self._read_block(self._pending + piece[:end], found)
                self._pending = piece[end : end + _LINE_LIMIT]
            elif len(self._pending) < _LINE_LIMIT:
                self._pending = (self._pending + piece)[:_LINE_LIMIT]
        return found

    def close(self) -> list[Measurement]:
        """The measurements of a last line that never ended."""
        return self.feed(b"\n") if self._pending else []

    def _read_block(self, block: bytes, found: Found) -> None:
        block = block.translate(_BLANKS)
        if b"\x1b" in block:
            block = _ANSI.sub(b"", _OVERLONG.sub(rb"\1", block))
        if self._patterns:
            with watched():
                self._read_lines(block, found)
        else:
            self._read_candidates(block, found)

    def _choose_numbers(self, block: bytes) -> None:
        # Both split a line without nan alike; the one that knows it is slower.
        self._numbers = NUMBERS_AND_NAN if any(word in block for word in _NAN_WORDS) else NUMBERS

    def _read_candidates(self, block: bytes, found: Found) -> None:
        """Read the lines that can hold something; the others cost next to nothing."""
        size = len(block)
        position = self._read_run(block, 0, found)
        if position == size:
            return
        self._choose_numbers(block)
        read = self._read_line
        search = (_COUNTERS if any(word in block for word in _COUNTER_WORDS) else _PAIRS).search
        newline = b"\n"
        while position < size:
            if self._table.active:
                start = position
            else:
                candidate = search(block, position)
                if candidate is None:
                    return
                start = block.rfind(newline, position, candidate.start()) + 1 or position
            end = block.find(newline, start)
            shape = read(block[start : min(end, start + _LINE_LIMIT)].decode("utf-8", "replace"), found)
            position = end + 1
            if shape == self._last_shape:  # the second in a row: there may be more
                position = self._read_run(block, position, found)
            self._last_shape = shape

    def _read_run(self, block: bytes, position: int, found: Found) -> int:
        """Read the lines that have the shape of the line before; gives the place behind them."""
        shape = self._last_shape
        if not shape:
            return position
        if shape not in self._runs:
            if len(self._runs) >= _MOST_RUNS:
                self._runs.clear()
            texts = shape.split("\0")
            searched = _PAIRS.search("00".join(texts).encode())  # whatever the numbers are, such a line is looked at
            self._runs[shape] = LineRun.of(plan_line(texts), texts, longest=_LINE_LIMIT) if searched else None
        run = self._runs[shape]
        if run is None:
            return position
        lines, position = run.read(block, position, self._clock)
        if lines is not None:
            found.append(lines)
        return position

    def _read_lines(self, block: bytes, found: Found) -> None:
        """Read every line: the user's patterns may match anywhere."""
        self._choose_numbers(block)
        for raw in block[:-1].split(b"\n"):
            if not raw:
                continue
            line = raw[:_LINE_LIMIT].decode("utf-8", "replace")
            matches = [match for pattern in self._patterns for match in pattern.find(line)]
            if matches or self._table.active or _COUNTERS.search(raw):
                self._read_line(line, found, matches)

    def _read_line(self, line: str, found: Found, matches: Sequence[Matched] = ()) -> str:
        """Read a line; gives its shape where the lines of this shape are all read alike, else an empty text."""
        parts = self._numbers.split(line)
        shape = "\0".join(parts[::2])
        plan = self._plans.get(shape) or self._new_plan(shape, parts)
        if not plan.steady or self._table.active or matches:
            self._read_closely(line, plan, parts, found, matches)
            return ""
        step = self._clock.see_step(parts[plan.step]) if plan.step else self._clock.sticky
        if self._automatic:
            for figure in plan.figures:
                number = parts[figure.place]
                if not figure.tight or not number.isdecimal():
                    found.append(Measurement(figure.name, float(number), step))
        return shape if self._automatic and len(shape) <= _LONGEST_PLANNED else ""

    def _new_plan(self, shape: str, parts: list[str]) -> LinePlan:
        plan = plan_line(parts[::2])
        if len(shape) <= _LONGEST_PLANNED:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()  # lines that never repeat; starting anew is cheaper than keeping their order
            self._plans[shape] = plan
        return plan

    def _read_closely(
        self, line: str, plan: LinePlan, parts: list[str], found: Found, matches: Sequence[Matched]
    ) -> None:
        """Read a line that is a row, a record or a header, or whose steps need a thought."""
        figures: list[tuple[str, float]]
        row = self._table.row(line) if self._table.active else None
        record = read_record(line) if plan.record and not row else None
        told = row or record
        if told:
            figures, step_of = told.figures, self._steps(told.epoch, told.step)
        elif self._table.begin(line):
            return
        else:
            figures = [
                (figure.written, float(parts[figure.place]))
                for figure in plan.figures
                if not figure.tight or not parts[figure.place].isdecimal()
            ]
            step_of = self._line_steps(plan, parts)
        asked = self._asked(matches, step_of)
        found += asked
        if self._automatic:
            names = {measurement.name for measurement in asked}
            found += [
                Measurement(name, value, step_of(name))
                for name, value in ((kept_name(written), value) for written, value in figures)
                if name not in names
            ]

    def _line_steps(self, plan: LinePlan, parts: list[str]) -> Callable[[str], int | None]:
        """Name → step, for the figures of a line that has a plan."""
        total = plan.total
        if plan.total_place and plan.total_place < len(parts):
            total = self._clock.whole(parts[plan.total_place]) or 0
        epoch = parts[plan.epoch] if plan.epoch else ""
        step = parts[plan.step] if plan.step else ""
        return self._steps(epoch, step, parts[plan.bar] if plan.bar else "", total)

    def _steps(self, epoch: str, step: str, counter: str = "", total: int = 0) -> Callable[[str], int | None]:
        """Name → step, from what a line says of its epoch, its step and a counter."""
        clock = self._clock
        of_epoch = clock.see_epoch(epoch) if epoch else None
        if step:
            of_step = clock.see_step(step)
            return lambda _name: of_step
        count = clock.whole(counter) if counter else None
        if count is not None:
            passed = clock.see_bar(count, total)
            return lambda name: clock.on_bar(name, count, total, passed=passed)
        if epoch:
            return lambda name: clock.of_epoch(name, epoch, of_epoch)
        sticky = clock.sticky
        return lambda _name: sticky

    def _asked(self, matches: Sequence[Matched], step_of: Callable[[str], int | None]) -> list[Measurement]:
        """What the user's patterns found; a step that a pattern found goes before the line's."""
        asked: list[Measurement] = []
        for match in matches:
            own = self._steps(match.epoch, match.step) if match.epoch or match.step else step_of
            for written, text in match.figures:
                name = kept_name(written)
                try:
                    value = float(text.strip().rstrip("%"))
                except ValueError:
                    continue
                asked.append(Measurement(name, value, own(name), True))
        return asked
