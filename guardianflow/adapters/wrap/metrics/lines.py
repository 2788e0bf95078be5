"""Measurements out of what a training prints, while it prints.

What is recognised stands in one table, :data:`~guardianflow.adapters.wrap.metrics.line_forms.LINE_FORMS`; the
user's own regexes go before it. A value with a percent sign is kept as the number that stands there: ``45%`` is 45.
A value with a unit of letters (``12GB``, ``3s``), a share (``9910/10000``) and a number with thousands separators are
none. Which step a figure gets is told in :mod:`guardianflow.adapters.wrap.metrics.line_steps`.

A training prints the same line again and again with other digits. Where a line's figures stand, its *plan*, is
therefore looked for once for all lines that differ in their digits alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.line_forms import LINE_FORMS, PLACES, LineForm
from guardianflow.adapters.wrap.metrics.line_names import is_figure_word, kept_name, metric_word, pair_name
from guardianflow.adapters.wrap.metrics.line_patterns import Matched, read_patterns, watched
from guardianflow.adapters.wrap.metrics.line_records import ToldFigures, read_record
from guardianflow.adapters.wrap.metrics.line_steps import StepClock
from guardianflow.adapters.wrap.metrics.line_tables import LineTable
from guardianflow.adapters.wrap.metrics.measurement import Measurement, decimal_comma

__all__ = ["Measurement", "MetricLines"]

_LINE_LIMIT = 10_000
_WINDOW = 1 << 18
_MOST_PLANS = 2_048
_MOST_GATES = 256
_LONGEST_PLANNED = 1_000

_ANSI = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_OVERLONG = re.compile(rb"([^\n]{%d})[^\n]+" % _LINE_LIMIT)
_BLANKS = bytes.maketrans(b"\0\b\r", b"  \n")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_COMMA = re.compile(r"[-+]?0,\d\d")
_CALL = re.compile(r"\w\([^()]*$")
_VALIDATES = re.compile(r"(?:val|eval|test|dev)", re.IGNORECASE)

_Span = tuple[int, int]
_Found = list[tuple[str, float]]
_Search = Callable[[bytes, int], re.Match[bytes] | None]


class _Figure(NamedTuple):
    """Where a figure and the words of its name stand, and how these make a name."""

    form: LineForm
    names: tuple[_Span, ...]
    value: _Span
    mark: str = ""  # the sign of a pair, with the blanks around it
    whole: bool = False
    group: str = ""


@dataclass(slots=True)
class _Plan:
    """Where in a line what stands."""

    figures: list[_Figure] = field(default_factory=list)
    places: dict[str, _Span] = field(default_factory=dict)
    record: _Span | None = None
    header: _Span | None = None

    @property
    def tells(self) -> bool:
        return bool(self.figures or self.places or self.record or self.header)

    def read(self, line: str) -> _Found:
        """The figures of a line, by kept name."""
        found: _Found = []
        for form, names, (start, end), mark, whole, group in self.figures:
            texts = [line[left:right] for left, right in names]
            name = pair_name(texts[0], mark, whole) if mark else _name(form, group, *texts)
            if name:
                value = _value(line[start:end], name)
                if value is not None and value != form.void:
                    found.append((name, value))
        return found


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
        forms: The lines that are known.

    Raises:
        InputError: A pattern can't be used.
    """

    def __init__(
        self, patterns: Sequence[str] = (), *, automatic: bool = True, forms: Sequence[LineForm] = LINE_FORMS
    ) -> None:
        self._patterns = read_patterns(patterns)
        self._automatic = automatic
        self._forms = forms
        self._needs = list(dict.fromkeys(text.encode() for form in forms if form.opens for text in form.needs))
        self._gates: dict[tuple[bytes, ...], _Search] = {}
        self._clock = StepClock()
        self._table = LineTable()
        self._plans: dict[bytes, _Plan] = {}
        self._pending = b""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of: patterns that were stopped and why."""
        return tuple(pattern.remark for pattern in self._patterns if pattern.remark)

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
        if self._patterns:  # which may match anywhere
            with watched():
                for raw in block.split(b"\n"):
                    self._read_line(raw[:_LINE_LIMIT], found)
        else:
            self._read_candidates(block, found)

    def _read_candidates(self, block: bytes, found: list[Measurement]) -> None:
        """Read the lines that can hold something; the others cost next to nothing."""
        position, size = 0, len(block)
        if block.find(b"\n") == size - 1:  # a single line
            self._read_line(block[: min(size - 1, _LINE_LIMIT)], found)
            return
        search = self._gate(block)
        while position < size:
            start = position
            if not self._table.active:
                candidate = search(block, position)
                if candidate is None:
                    return
                start = block.rfind(b"\n", position, candidate.start()) + 1 or position
            end = block.find(b"\n", start)
            end = size if end < 0 else end
            self._read_line(block[start : min(end, start + _LINE_LIMIT)], found)
            position = end + 1

    def _gate(self, block: bytes) -> _Search:
        """Searches for the lines of a block that are worth looking at."""
        texts = tuple([text for text in self._needs if text in block])
        search = self._gates.get(texts)
        if search is None:
            if len(self._gates) >= _MOST_GATES:
                self._gates.clear()
            needs = {text.decode() for text in texts}
            opens = dict.fromkeys(form.opens for form in self._forms if form.opens and needs.intersection(form.needs))
            search = re.compile("|".join(f"(?:{each})" for each in opens or ["(?!)"]).encode()).search
            self._gates[texts] = search
        return search

    def _read_line(self, raw: bytes, found: list[Measurement]) -> None:
        mask = raw.translate(_DIGITS)
        plan = self._plans.get(mask)
        if plan is not None and not (plan.tells or self._patterns or self._table.active):
            return
        line = raw.decode("utf-8", "replace")
        if plan is None:
            plan = self._new_plan(line, raw, mask)
        matches = [match for pattern in self._patterns for match in pattern.find(line)] if self._patterns else []
        row = self._table.row(line) if self._table.active else None
        told = row or (read_record(line[slice(*plan.record)]) if plan.record else None)
        if told is None and plan.header and self._table.begin(line[slice(*plan.header)]):
            return
        figures = _named(told) if told else plan.read(line)
        if not (figures or matches or plan.places or told):
            return
        step_of = self._steps({} if row else plan.places, line, told, figures)
        if matches:
            asked = self._asked(matches, step_of)
            found += asked
            names = {measurement.name for measurement in asked}
            figures = [figure for figure in figures if figure[0] not in names]
        if self._automatic:
            found += [Measurement(name, value, step_of(name)) for name, value in figures]

    def _new_plan(self, line: str, raw: bytes, mask: bytes) -> _Plan:
        plan = _plan_line(line, self._forms) if self._gate(raw)(raw, 0) else _Plan()
        if len(mask) <= _LONGEST_PLANNED:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()  # lines that never repeat; starting anew is cheaper than keeping their order
            self._plans[mask] = plan
        return plan

    def _steps(
        self, places: dict[str, _Span], line: str, told: ToldFigures | None, figures: _Found
    ) -> Callable[[str], int | None]:
        """Name → step, from what a line says of its place."""
        if not places and not told:
            return self._clock.places("", "")
        said = {role: line[start:end] for role, (start, end) in places.items()}
        if told:
            said |= {role: text for role, text in (("epoch", told.epoch), ("step", told.step)) if text}
        phase = said.pop("phase", "") or (figures[0][0] if figures else "")
        return self._clock.places(**{"epoch": "", "step": "", **said}, training=not _VALIDATES.match(phase))

    def _asked(self, matches: Sequence[Matched], step_of: Callable[[str], int | None]) -> list[Measurement]:
        """What the user's patterns found; a step that a pattern found goes before the line's."""
        asked: list[Measurement] = []
        for match in matches:
            own = self._clock.places(match.epoch, match.step) if match.epoch or match.step else step_of
            for written, text in match.figures:
                name = kept_name(written)
                try:
                    value = float(text.strip().rstrip("%"))
                except ValueError:
                    continue
                asked.append(Measurement(name, value, own(name), True))
        return asked


def _named(told: ToldFigures) -> _Found:
    return [(kept_name(name), value) for name, value in told.figures]


def _plan_line(line: str, forms: Sequence[LineForm]) -> _Plan:
    """Where in a line what stands, for all lines that differ in their digits alone."""
    plan = _Plan()
    rest, closed = line, False
    for form in forms:
        if (closed and not form.tells_places) or (form.counted and not plan.places):
            continue
        matches = form.match(rest)
        for match in matches:
            _take(plan, form, match, closed=closed)
        if matches:
            closed = closed or form.whole
            rest = _without(rest, matches)
    places = plan.places
    if "step" in places and "total" in places and "epoch" in places and "count" not in places:
        places["count"] = places.pop("step")  # Epoch [3/10], Step [100/600]
    plan.figures.sort(key=lambda figure: figure.value)
    return plan


def _take(plan: _Plan, form: LineForm, match: re.Match[str], *, closed: bool) -> None:
    """Note what one match says."""
    spans = {group: match.span(group) for group, text in match.groupdict().items() if text is not None}
    for role in PLACES:
        if role in spans:
            plan.places.setdefault(role, spans[role])
    if closed:
        return
    plan.record = spans.get("record", plan.record)
    plan.header = spans.get("header", plan.header)
    if "sign" in spans:
        if _is_figure(match):
            mark = match["blank"] + match["sign"] + match["gap"]
            plan.figures.append(_Figure(form, (spans["name"],), spans["value"], mark, whole=match["value"].isdecimal()))
    elif "value" in spans:
        names = form.parts or (("name",) if "name" in spans else ())
        plan.figures.append(_Figure(form, tuple(spans[part] for part in names), spans["value"]))
    plan.figures += [_Figure(form, (), spans[group], group=group) for group in form.metrics if group in spans]


def _is_figure(match: re.Match[str]) -> bool:
    """Whether what stands before a pair lets it be one: no option (--lr=3), no argument (Linear(in_features=784."""
    start, line = match.start("name"), match.string
    before = line[start - 1] if start else " "
    if match["sign"] == "=" and (before in "-'\"<>!=" or (before == ":" and not match["blank"])):
        return False
    return not _CALL.search(line[max(0, start - 400) : start])


def _without(line: str, matches: Sequence[re.Match[str]]) -> str:
    """A line with blanks that belong to no word where something was taken."""
    pieces, at = [], 0
    for match in matches:
        pieces += [line[at : match.start()], "\0" * (match.end() - match.start())]
        at = match.end()
    return "".join([*pieces, line[at:]])


@lru_cache(maxsize=4_096)
def _name(form: LineForm, group: str, *texts: str) -> str:
    """The kept name of a figure; empty where the words name none."""
    if form.parts:
        words = {part: form.words.get(text, text) for part, text in zip(form.parts, texts, strict=True)}
        return kept_name(form.named.format(**words))
    name = group or form.named or texts[0].strip()
    return kept_name(name) if metric_word(name) else ""


def _value(text: str, name: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # 0,345; a list such as 1,2 is none
        return decimal_comma(text, ",") if is_figure_word(name) or _COMMA.match(text) else None
