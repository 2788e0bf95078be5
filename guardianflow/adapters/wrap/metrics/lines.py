"""Measurements out of what a training prints, while it prints.

What is recognised stands in one table, :data:`~guardianflow.adapters.wrap.metrics.line_forms.LINE_FORMS`; the
user's own regexes go before it. A value with a percent sign is kept as the number that stands there: ``45%`` is 45.
A value with a unit of letters (``12GB``, ``3s``), a share (``9910/10000``) and a number with thousands separators are
none. Which step a figure gets is told in :mod:`guardianflow.adapters.wrap.metrics.line_steps`.

A training prints the same line again and again with other numbers. What stands where is therefore looked for once,
and kept as a *plan*: a regex of the line itself, with any digits for its digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import NamedTuple

from guardianflow.adapters.wrap.metrics.line_forms import LINE_FORMS, OPENING, PLACES, LineForm
from guardianflow.adapters.wrap.metrics.line_names import is_figure_word, kept_name, metric_word, pair_name
from guardianflow.adapters.wrap.metrics.line_patterns import LinePattern, watched
from guardianflow.adapters.wrap.metrics.line_records import LineTable, read_record
from guardianflow.adapters.wrap.metrics.line_steps import StepClock
from guardianflow.adapters.wrap.metrics.measurement import Measurement, ToldFigures, decimal_comma

__all__ = ["MetricLines"]

_LINE_LIMIT = 10_000
_WINDOW = 1 << 18
_MOST_PLANS = 512
_LONGEST_PLANNED = 1_000
_MOST_FOUND = 64  # of one form in a line

_ANSI = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_OVERLONG = re.compile(rb"([^\n]{%d})[^\n]+" % _LINE_LIMIT)
_BLANKS = bytes.maketrans(b"\0\b\r", b"  \n")
_DIGITS = re.compile(rb"[0-9]+")
_COMMA = re.compile(r"[-+]?0,\d\d")
_CALL = re.compile(r"\w\([^()]*$")

_Span = tuple[int, int]
_Read = tuple[list[tuple[str, float]], dict[str, str]]  # figures by kept name, other texts by their roles


class _Figure(NamedTuple):
    """A figure of a plan: its name, or if digits stand in it what it is made of; and its value."""

    name: str
    made_of: list[_Span]
    make: Callable[..., str]
    value: _Span


class _Plan:
    """What stands where in a line: its figures, and what tells a place, a record, the header of a table."""

    def __init__(self, line: str, figures: Sequence[_Figure], roles: Mapping[str, _Span]) -> None:
        names = [span for figure in figures for span in figure.made_of]
        self._line = line
        self._spans = sorted({*roles.values(), *names, *[figure.value for figure in figures]})
        number = {span: number for number, span in enumerate(self._spans)}
        self._roles = [(role, number[span]) for role, span in roles.items()]
        self._figures = [
            (name, [number[span] for span in made_of], make, number[value])
            for name, made_of, make, value in sorted(figures, key=lambda figure: figure.value)
        ]

    @property
    def texts(self) -> list[bytes]:
        """What stands at the spans of the first line."""
        return [_raw(self._line[start:end]) for start, end in self._spans]

    @cached_property
    def regex(self) -> re.Pattern[bytes]:
        """The line with any digits for its digits; each span is a group."""
        pieces, at = [], 0
        for start, end in self._spans:
            pieces += [_any_digits(self._line[at:start]), b"(", _any_digits(self._line[start:end]), b")"]
            at = end
        return re.compile(b"".join([*pieces, _any_digits(self._line[at:]), rb"\n"]))

    def read(self, texts: Sequence[bytes]) -> _Read:
        """What stands in a line, from the texts of its spans."""
        found = []
        for name, made_of, make, number in self._figures:
            full = name or make(*[_text(texts[part]) for part in made_of])
            try:
                value: float | None = float(texts[number])
            except ValueError:  # 0,345; a list such as 1,2 is none
                value = _comma(_text(texts[number]), full)
            if full and value is not None:
                found.append((full, value))
        return found, {role: texts[number].decode("utf-8", "surrogateescape") for role, number in self._roles}


class MetricLines:
    """Bytes in, measurements out; one object a stream.

    Lines end with a line feed or a carriage return. A line of over 10,000 bytes is read up to there, colours are
    taken out. The same bytes give the same measurements, however they are cut into chunks. Steps: see
    :mod:`guardianflow.adapters.wrap.metrics.line_steps`.

    Args:
        patterns: The user's regexes with named groups. Where one finds a name in a line, the same name isn't recognised
            there once more.
        automatic: Recognise figures without a pattern as well. Steps are recognised either way.
        forms: The lines that are known.

    Raises:
        InputError: A pattern can't be used.
    """

    def __init__(
        self, patterns: Sequence[str] = (), *, automatic: bool = True, forms: Sequence[LineForm] = LINE_FORMS
    ) -> None:
        with watched():
            self._patterns = [LinePattern(text) for text in patterns]
        self._automatic = automatic
        self._forms = forms
        self._clock = StepClock()
        self._table = LineTable()
        self._plans: dict[bytes, _Plan | None] = {}
        self._last: _Plan | None = None
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
                    self._read_line(raw[:_LINE_LIMIT] + b"\n", found)
            return
        position, size = 0, len(block)
        while position < size:
            match = self._last.regex.match(block, position) if self._last and not self._table.active else None
            if self._last and match and match.end() - position <= _LINE_LIMIT:
                self._take(found, self._last.read(match.groups()))
                position = match.end()
                continue
            start = position
            if not self._table.active:
                candidate = OPENING.search(block, position)  # other lines cost next to nothing
                if candidate is None:
                    return
                start = block.rfind(b"\n", position, candidate.start()) + 1 or position
            end = block.find(b"\n", start)
            self._read_line(block[start : min(end, start + _LINE_LIMIT)] + b"\n", found)
            position = end + 1

    def _read_line(self, raw: bytes, found: list[Measurement]) -> None:
        line = _text(raw[:-1])
        asked = [told for pattern in self._patterns for told in pattern.find(line)]
        row = self._table.row(line) if self._table.active else None
        self._take(found, ([], {}) if row else self._look(raw, line), row, asked)

    def _look(self, raw: bytes, line: str) -> _Read:
        """What stands in a line."""
        key = _DIGITS.sub(b"0", raw)
        if key in self._plans:
            self._last = plan = self._plans[key] or self._last
            match = plan.regex.match(raw) if plan and self._plans[key] else None
            return plan.read(match.groups()) if plan and match else ([], {})
        plan = _new_plan(line, self._forms) if OPENING.search(raw) else None
        if len(line) <= _LONGEST_PLANNED:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()  # lines that never repeat; starting anew is cheaper than keeping their order
            self._plans[key] = plan
        return plan.read(plan.texts) if plan else ([], {})

    def _take(
        self, found: list[Measurement], read: _Read, row: ToldFigures | None = None, asked: Sequence[ToldFigures] = ()
    ) -> None:
        """Measure what stands in a line, what it says as the row of a table, and what the user's patterns found."""
        figures, said = read
        told = row
        if "record" in said or "header" in said:
            record, header = said.pop("record", ""), said.pop("header", "")
            told = row or (read_record(record) if record else None)
            if header and not told and self._table.begin(header):
                return
        if told:
            said |= {role: text for role, text in (("epoch", told.epoch), ("step", told.step)) if text}
            figures = [(kept_name(name), value) for name, value in told.figures]
        if not (said or figures or asked or told):
            return
        phase = said.pop("phase", "") or (figures[0][0] if figures else "")
        step_of = self._clock.places(phase=phase, **said)
        names = set()
        for each in asked:  # a step that a pattern found goes before the line's
            own = self._clock.places(each.epoch, each.step) if each.epoch or each.step else step_of
            for name, value in each.figures:
                kept = kept_name(name)
                names.add(kept)
                found.append(Measurement(kept, value, own(kept), True))
        if self._automatic:
            found += [Measurement(name, value, step_of(name)) for name, value in figures if name not in names]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _any_digits(text: str) -> bytes:
    return _DIGITS.sub(b"[0-9]+", re.escape(_raw(text)))


def _new_plan(line: str, forms: Sequence[LineForm]) -> _Plan | None:
    """What stands where in a line, for all lines that differ in their numbers alone."""
    figures: list[_Figure] = []
    roles: dict[str, _Span] = {}
    rest, closed = line, False
    for form in forms:
        if (closed and form.regex.groupindex.keys().isdisjoint(PLACES)) or (form.counted and not roles):
            continue
        matches = list(islice(form.regex.finditer(rest), _MOST_FOUND))
        for match in matches:
            for role in PLACES if closed else (*PLACES, "record", "header"):
                if match.re.groupindex.get(role) and match[role] is not None:
                    roles.setdefault(role, match.span(role))
            figures += [] if closed else _figures(form, match)
        if matches:
            closed = closed or form.whole
            rest = _without(rest, matches)
    if {"step", "total", "epoch"} <= roles.keys() and "count" not in roles:
        roles["count"] = roles.pop("step")  # Epoch [3/10], Step [100/600]
    return _Plan(line, figures, roles) if figures or roles else None


def _figures(form: LineForm, match: re.Match[str]) -> Iterator[_Figure]:
    """What one match says."""
    signed = "sign" in form.regex.groupindex
    for group in form.metrics:
        if match[group] is None or (signed and not _is_figure(match)):
            continue
        parts = form.parts if group == "value" else []
        texts = [match[part] for part in parts]
        make = partial(_name, form, group)
        if signed:
            mark = match["blank"] + match["sign"] + match["gap"]
            make = partial(pair_name, mark=mark, whole=match["value"].isdecimal())
        if any(sign.isdigit() for text in texts for sign in text):
            yield _Figure("", [match.span(part) for part in parts], make, match.span(group))
        elif name := make(*texts):
            yield _Figure(name, [], make, match.span(group))


def _is_figure(match: re.Match[str]) -> bool:
    """Whether what stands before a pair lets it be one: no option (--lr=3), no argument (Linear(in_features=784."""
    start, line = match.start("name"), match.string
    before = line[start - 1] if start else " "
    if match["sign"] == "=" and (before in "-'\"<>!=" or (before == ":" and not match["blank"])):
        return False
    return not _CALL.search(line[max(0, start - 400) : start])


def _without(line: str, matches: Sequence[re.Match[str]]) -> str:
    """A line with blanks that belong to no word where something was taken."""
    for match in matches:
        start, end = match.span()
        line = line[:start] + "\0" * (end - start) + line[end:]
    return line


@lru_cache(maxsize=4_096)
def _name(form: LineForm, group: str, *texts: str) -> str:
    """The kept name of a figure; empty where the words name none."""
    words = {part: form.words.get(text, text) for part, text in zip(form.parts, texts, strict=False)}
    name = form.named.format(**words).strip() if group == "value" else group
    return kept_name(name) if metric_word(name) else ""


def _comma(text: str, name: str) -> float | None:
    return decimal_comma(text) if is_figure_word(name) or _COMMA.match(text) else None
