"""Measurements out of what a training prints, while it prints.

Recognised are ``name: value`` and ``name=value`` pairs, JSON lines and printed dicts, what progress bars carry
behind their bars, tables under a line of column names, and the user's own regexes. A value with a percent sign is
kept as the number that stands there: ``45%`` is 45. A value with a unit of letters (``12GB``, ``3s``), a share
(``9910/10000``) and a number with thousands separators are none. Which step a figure gets is told in
:mod:`guardianflow.adapters.metrics.line_steps`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from guardianflow.adapters.metrics.line_names import kept_name
from guardianflow.adapters.metrics.line_patterns import Matched, read_patterns, watched
from guardianflow.adapters.metrics.line_plans import NUMBERS, NUMBERS_AND_NAN, LinePlan, plan_line
from guardianflow.adapters.metrics.line_records import read_record
from guardianflow.adapters.metrics.line_steps import StepClock
from guardianflow.adapters.metrics.line_tables import LineTable

__all__ = ["Measurement", "MetricLines"]

_LINE_LIMIT = 10_000
_WINDOW = 1 << 18
_MOST_PLANS = 2_048
_LONGEST_PLANNED = 1_000
_MOST_SPELLED = 1_000

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


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure that a training gave.

    Attributes:
        name: As MLflow accepts it, see :func:`guardianflow.core.metrics.legal_metric_name`.
        value: The figure; nan and infinite ones stay what they are.
        step: Step or epoch; ``None`` where nothing told one.
        asked: A pattern of the user's found it: its name always has room.
    """

    name: str
    value: float
    step: int | None = None
    asked: bool = field(default=False, compare=False)


class MetricLines:
    """Bytes in, measurements out; one object a stream.

    Lines end with a line feed or a carriage return. A line of over 10,000 bytes is read up to there, bytes that
    are no UTF-8 are replaced, colours are taken out. The same bytes give the same measurements, however they
    are cut into chunks. Steps: see :mod:`guardianflow.adapters.metrics.line_steps`.

    Args:
        patterns: The user's regexes with named groups, see
            :class:`~guardianflow.adapters.metrics.line_patterns.LinePattern`. Where one finds a name in a line, the
            same name isn't recognised there once more.
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
        self._numbers = NUMBERS
        self._pending = b""
        self._spelled: dict[str, str] = {}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: patterns that were stopped and why."""
        return tuple(pattern.remark for pattern in self._patterns if pattern.remark)

    @property
    def spelled(self) -> dict[str, str]:
        """Name → how it was written, for names that had to be changed beyond recognition (Korean ones)."""
        return dict(self._spelled)

    def feed(self, chunk: bytes) -> list[Measurement]:
        """The measurements of the lines that ended with this chunk."""
        found: list[Measurement] = []
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

    def _read_block(self, block: bytes, found: list[Measurement]) -> None:
        block = block.translate(_BLANKS)
        if b"\x1b" in block:
            block = _ANSI.sub(b"", _OVERLONG.sub(rb"\1", block))
        # Both split a line without nan alike; the one that knows it is slower.
        self._numbers = NUMBERS_AND_NAN if any(word in block for word in _NAN_WORDS) else NUMBERS
        if self._patterns:
            with watched():
                self._read_lines(block, found)
        else:
            self._read_candidates(block, found)

    def _read_candidates(self, block: bytes, found: list[Measurement]) -> None:
        """Read the lines that can hold something; the others cost next to nothing."""
        read = self._read_line
        search = (_COUNTERS if any(word in block for word in _COUNTER_WORDS) else _PAIRS).search
        newline, position, size = b"\n", 0, len(block)
        while position < size:
            if self._table.active:
                start = position
            else:
                candidate = search(block, position)
                if candidate is None:
                    return
                start = block.rfind(newline, position, candidate.start()) + 1 or position
            end = block.find(newline, start)
            read(block[start : min(end, start + _LINE_LIMIT)].decode("utf-8", "replace"), found)
            position = end + 1

    def _read_lines(self, block: bytes, found: list[Measurement]) -> None:
        """Read every line: the user's patterns may match anywhere."""
        for raw in block[:-1].split(b"\n"):
            if not raw:
                continue
            line = raw[:_LINE_LIMIT].decode("utf-8", "replace")
            matches = [match for pattern in self._patterns for match in pattern.find(line)]
            if matches or self._table.active or _COUNTERS.search(raw):
                self._read_line(line, found, matches)

    def _read_line(self, line: str, found: list[Measurement], matches: Sequence[Matched] = ()) -> None:
        parts = self._numbers.split(line)
        shape = "\0".join(parts[::2])
        plan = self._plans.get(shape) or self._new_plan(shape, parts)
        if not plan.steady or self._table.active or matches:
            self._read_closely(line, plan, parts, found, matches)
            return
        step = self._clock.see_step(parts[plan.step]) if plan.step else self._clock.sticky
        if self._automatic:
            for figure in plan.figures:
                number = parts[figure.place]
                if not figure.tight or not number.isdecimal():
                    found.append(Measurement(figure.name, float(number), step))

    def _new_plan(self, shape: str, parts: list[str]) -> LinePlan:
        plan = plan_line(parts[::2])
        for figure in plan.figures:
            self._name(figure.written)
        if len(shape) <= _LONGEST_PLANNED:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()  # lines that never repeat; starting anew is cheaper than keeping their order
            self._plans[shape] = plan
        return plan

    def _read_closely(
        self, line: str, plan: LinePlan, parts: list[str], found: list[Measurement], matches: Sequence[Matched]
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
                for name, value in ((self._name(written), value) for written, value in figures)
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
                name = self._name(written)
                try:
                    value = float(text.strip().rstrip("%"))
                except ValueError:
                    continue
                asked.append(Measurement(name, value, own(name), True))
        return asked

    def _name(self, written: str) -> str:
        name = kept_name(written)
        if not written.isascii() and len(self._spelled) < _MOST_SPELLED:
            self._spelled.setdefault(name, written)
        return name
