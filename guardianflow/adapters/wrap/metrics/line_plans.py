"""Where in a line the figures stand.

A training prints the same line again and again with other numbers. A line is therefore split at its
numbers; what lies between them, its *shape*, is looked at once and the answer, a :class:`LinePlan`, is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from guardianflow.adapters.wrap.metrics.line_names import kept_name, name_before
from guardianflow.adapters.wrap.metrics.line_tables import LineTable

__all__ = ["NUMBERS", "NUMBERS_AND_NAN", "Figure", "LinePlan", "plan_line"]

# The first character is a plain set, so that the search skips fast; the look-behind (two characters wide)
# then refuses what hangs on a word, a path, a version or a date: mAP50, 10/100, 1.2.3, 2024-01-01.
_DIGITS = (
    r"[-+.0-9](?<![\w./\-@].)"
    r"(?:(?<=[0-9])[0-9]*\.?[0-9]*|(?<=[-+])(?:[0-9]+\.?[0-9]*|\.[0-9]+)|(?<=\.)[0-9]+)(?:[eE][-+]?[0-9]+)?"
)
NUMBERS = re.compile(f"({_DIGITS})")
"""Splits a line: texts at even places, numbers at odd ones."""
NUMBERS_AND_NAN = re.compile(rf"({_DIGITS}|(?<![\w./\-@])[-+]?(?:nan|NaN|NAN|(?:inf|Inf|INF)(?:inity)?)(?!\w))")
"""The same with nan and inf, which cost time and are rare."""

_HOLE = "\0"
_SIGN = re.compile(
    r"(?P<before>[ \t]*)(?P<sign>[:=])(?P<after>[ \t]*)"
    r"(?:(?:torch\.)?tensor\(|(?:np|numpy)\.float\d{2}\(|(?:jnp\.)?[Aa]rray\()?$"
)
# Right after the number: a unit, a share (3/10), a time (12:34), a list or thousands (1,234), a range, a bar.
_BAD_AFTER = re.compile(r"[\w/\\@°×±]|[:,]\0|[.:\-]\w|%[ \t]*[|━╸╺─]")
_NEAR = 160
_SETTINGS = re.compile(r"[=:] ?(?:True|False|None|true|false|null)\b")
_CALL = re.compile(r"\w\([^()]*$")

_MARK = r"[\"']?[ \t]*[:=#]?[ \t]*[\[(]?[ \t]*\0"
_OF = r"(?:[ \t]*(?:/|of)[ \t]*(?P<total>\d+|\0))"
_EPOCH = re.compile(
    rf"(?<![\w./\-])(?<!per )(?<!best )(?<!num )(?<!max )(?<!total )(?<!last )epoch{_MARK}(?![\w%])", re.IGNORECASE
)
_STEP = re.compile(
    rf"(?<![\w.\-])(?<!per )(?<!best )(?<!max )(?<!total )(?<!s/)(?:trainer/)?"
    rf"(?:global[_ ])?(?:step|iter(?:ation)?){_MARK}(?![\w%]){_OF}?",
    re.IGNORECASE,
)
_LEADING = re.compile(r"[ \t]*\[\0\](?=\s)")
_BARS = (
    re.compile(rf"\0%\|[^|\0]*\|[ \t]*\0{_OF}[ \t]*\["),  # tqdm
    re.compile(r"(?:^|[ :])\0(?P<total>)it \["),  # tqdm without a total
    re.compile(rf"(?:^|━|╸|╺)[ \t]*\0{_OF}[ \t]+(?:\[|━|-[ \t]|\0:)"),  # Keras, rich
    re.compile(rf"epoch{_MARK}\]?[^\0\w]*(?:(?<=\[)|(?<=\[ ))[ \t]*\0{_OF}", re.IGNORECASE),  # Epoch [1][50/7330]
    re.compile(rf"(?<![\w.\-])batch{_MARK}{_OF}", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric in a line: its name, the place of its number, and whether a plain integer is none."""

    name: str
    place: int
    tight: bool
    written: str


@dataclass(frozen=True, slots=True)
class LinePlan:
    """Places in a split line; 0 where there is none (numbers stand at odd places).

    Attributes:
        figures: The metrics.
        epoch: Place of the epoch.
        step: Place of the step.
        bar: Place of a counter that starts again with each epoch.
        total: What that counter runs to; 0 where unknown.
        total_place: Where that number stands, when it varies.
        record: The line looks like JSON or a printed dict.
        steady: Figures, at most a step, and nothing else to think about.
    """

    figures: tuple[Figure, ...] = ()
    epoch: int = 0
    step: int = 0
    bar: int = 0
    total: int = 0
    total_place: int = 0
    record: bool = False
    steady: bool = False


def plan_line(texts: list[str]) -> LinePlan:
    """The plan for all lines with these texts between their numbers."""
    shape = _HOLE.join(texts)
    record = shape.lstrip()[:1] == "{" and shape.rstrip()[-1:] == "}"
    figures = _figures(texts, shape)
    epoch = _EPOCH.search(shape)
    step = _STEP.search(shape)
    bar, total = _bar(shape)
    if step and not bar and step["total"] and epoch:
        bar, total = _place(shape, step), step["total"]
        step = None
    lead = _LEADING.match(shape) if figures and not (epoch or step or bar) else None
    step_place = _place(shape, step) if step else _place(shape, lead) if lead else 0
    taken = {_place(shape, epoch) if epoch else 0, step_place, bar}
    figures = tuple(figure for figure in figures if figure.place not in taken)
    return LinePlan(
        figures=figures,
        epoch=_place(shape, epoch) if epoch else 0,
        step=step_place,
        bar=bar,
        total=int(total) if total.isdecimal() and len(total) < 16 else 0,
        total_place=bar + 2 if total == _HOLE else 0,
        record=record,
        steady=not (epoch or bar or record or LineTable.may_begin(shape)),
    )


def _place(shape: str, found: re.Match[str]) -> int:
    """Place of the first number in what was found."""
    return 2 * shape.count(_HOLE, 0, found.start() + found[0].index(_HOLE)) + 1


def _bar(shape: str) -> tuple[int, str]:
    for pattern in _BARS:
        if found := pattern.search(shape):
            end = found.end() if found["total"] is None else found.start("total")
            # The counter is the last number before its total: tqdm's percentage and an epoch stand before it.
            upto = end if found["total"] else found.end()
            return 2 * shape.count(_HOLE, 0, upto) - 1, found["total"] or ""
    return 0, ""


def _figures(texts: list[str], shape: str) -> tuple[Figure, ...]:
    if len(_SETTINGS.findall(shape)) > 1:
        return ()  # a dump of settings: amp=True, cache=None, lr0=0.01 …
    figures: list[Figure] = []
    offset = 0
    for number, text in enumerate(texts[:-1]):
        offset += len(text)
        after = texts[number + 1][:3] + (_HOLE if number + 2 < len(texts) else "")
        if not _BAD_AFTER.match(after):
            figure = _figure(text[-_NEAR:], 2 * number + 1, shape, offset, first=number == 0)
            if figure:
                figures.append(figure)
        offset += 1
    return tuple(figures)


def _figure(text: str, place: int, shape: str, end: int, *, first: bool) -> Figure | None:
    sign = _SIGN.search(text)
    if sign is None:
        return None
    head = text[: sign.start()]
    tight_after = not sign["after"] and sign.end() == sign.end("after")
    named = name_before(head, sign["sign"], tight_before=not sign["before"], tight_after=tight_after)
    if named is None:
        return None
    name, tight = named
    start = head.rfind(name)
    if start == 0 and not first and len(text) < _NEAR:
        return None  # hangs on the number before: 3d_loss
    run = shape[max(0, end - 400) : end - len(text) + start].rsplit(None, 1)
    if (run and "://" in run[-1]) or _CALL.search(shape[max(0, end - 400) : end - len(text) + start]):
        return None  # inside a URL, or an argument of a call's or an object's text: Linear(in_features=784
    return Figure(kept_name(name), place, tight, name)
