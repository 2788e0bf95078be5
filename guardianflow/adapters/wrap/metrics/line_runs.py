"""Lines of one shape that follow each other, read at once.

A training that prints fast prints the same line thousands of times. Its shape, the texts between its numbers, is
made into one regex, which finds how far such lines go and takes their numbers out. It is made so that it takes
exactly the lines that, split at their numbers one by one, have this shape; shapes for which that is in doubt have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from guardianflow.adapters.wrap.metrics.line_plans import LinePlan
from guardianflow.adapters.wrap.metrics.line_steps import StepClock
from guardianflow.adapters.wrap.metrics.measurement import MeasuredLines

__all__ = ["LineRun"]

# As in line_plans.NUMBERS, but for the look-behind: what stands before a number is part of the shape. Nothing is given
# back (`*+`), so that a number is as long as a split would make it. One with more digits ends the run.
_DIGITS = (
    rb"(?:[0-9]{1,24}+\.?+[0-9]{0,24}+|\.[0-9]{1,24}+|[-+](?:[0-9]{1,24}+\.?+[0-9]{0,24}+|\.[0-9]{1,24}+))"
    rb"(?:[eE][-+]?[0-9]{1,24}+)?+"
)
_NAN = rb"[-+]?(?:nan|NaN|NAN|(?:inf|Inf|INF)(?:inity)?+)"
_LONGEST_NUMBER = 80
_WORD = re.compile(r"\w")


class LineRun:
    """Reads lines of one shape.

    Args:
        plan: Where the figures stand.
        texts: The shape.
    """

    def __init__(self, plan: LinePlan, texts: Sequence[str]) -> None:
        line, whole = _regexes(plan, texts)
        self._find = re.compile(b"^" + line, re.MULTILINE).findall
        self._match = re.compile(rb"(?:%s)*+" % whole).match
        self._plan = plan
        self._names = tuple(figure.name for figure in plan.figures)
        # Columns of what is found: the captured places in their order.
        places = _captured(plan)
        self._columns = [places.index(figure.place) for figure in plan.figures]
        self._step = places.index(plan.step) if plan.step else None
        self._single = len(places) == 1  # a regex with one group gives no tuples
        self._alone = False

    @staticmethod
    def of(plan: LinePlan, texts: Sequence[str], *, longest: int) -> LineRun | None:
        """For the lines of a shape; ``None`` where they are read one by one.

        Args:
            plan: Where the figures stand.
            texts: The shape.
            longest: Bytes that a line may have.
        """
        before, after = texts[:-1], texts[1:]
        names = {figure.name for figure in plan.figures}
        if not plan.steady or not names or len(names) < len(plan.figures):
            return None
        if any(figure.tight for figure in plan.figures):
            return None  # it depends on the number whether it is a figure
        if any(text.endswith("+") for text in before) or any(text.startswith(".") for text in after):
            return None  # might be part of another number
        if len("".join(texts).encode()) + _LONGEST_NUMBER * len(before) > longest:
            return None
        return LineRun(plan, texts)

    def read(self, block: bytes, start: int, clock: StepClock) -> tuple[MeasuredLines | None, int]:
        """The lines of this shape from a place on, and where they end."""
        found, end = self._lines(block, start)
        if not found:
            return None, start
        texts = self._texts
        steps = [clock.sticky] * len(found) if self._step is None else clock.see_steps(texts(found, self._step))
        columns = tuple(list(map(float, texts(found, column))) for column in self._columns)
        return MeasuredLines(self._names, columns, steps), end

    def _lines(self, block: bytes, start: int) -> tuple[list[Any], int]:
        """The numbers of each line, and where the last of the lines ends."""
        if self._alone:  # the block before held nothing else, and this one may be the same
            found = self._find(block, start)
            self._alone = len(found) == block.count(b"\n", start)
            if self._alone:
                return found, len(block)
        run = self._match(block, start)
        end = run.end() if run else start
        self._alone = start < end == len(block)
        return self._find(block, start, end), end

    def _texts(self, found: list[Any], column: int) -> list[bytes]:
        return found if self._single else [line[column] for line in found]


def _captured(plan: LinePlan) -> list[int]:
    return sorted({figure.place for figure in plan.figures} | ({plan.step} if plan.step else set()))


def _regexes(plan: LinePlan, texts: Sequence[str]) -> tuple[bytes, bytes]:
    """A line with its numbers captured, and the same without."""
    captured = _captured(plan)
    line = whole = re.escape(texts[0].encode())
    for number, text in enumerate(texts[1:]):
        digits = _DIGITS if _WORD.match(text) else rb"(?:%s|%s)" % (_DIGITS, _NAN)
        line += (rb"(%s)" if 2 * number + 1 in captured else rb"%s") % digits + re.escape(text.encode())
        whole += digits + re.escape(text.encode())
    return line + b"\n", whole + b"\n"
