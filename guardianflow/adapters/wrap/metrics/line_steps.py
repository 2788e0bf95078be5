"""Which step a figure belongs to.

The rules, in their order:

1. A step on the line (``step 12``, ``iter=12``, ``global_step``) is the step. Where it begins anew with each
   epoch it is carried on, so that a curve runs forward. Steps of training and of validation are counted apart.
2. A counter that runs to a total (``45/100`` of a progress bar, ``Epoch [1][50/7330]``) counts on over the epochs:
   ``(epoch - 1) x total + counter``. But a name that stands only once an epoch, at the full bar
   (``val_loss``), gets the epoch: the step wins only when a name repeats inside one epoch.
3. An epoch on the line is the step. Where it is a fraction (``'epoch': 0.25``) the name's values are counted.
4. Else the last epoch or step that was seen; without any, the name's values are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["StepClock"]

_MOST_NAMES = 4_096
_MOST_BARS = 64
_LONGEST = 18
_VALIDATES = lru_cache(maxsize=_MOST_NAMES)(re.compile(r"(?:val|eval|test|dev)", re.IGNORECASE).match)


@dataclass(slots=True)
class _Count:
    """Steps of training, or of validation: the highest of this epoch, and what the epochs before it had."""

    epoch: int | None = None
    most: int = -1
    before: int = 0


class StepClock:
    """What one stream has said of its epochs and steps so far; bounded."""

    def __init__(self) -> None:
        self._sticky: int | None = None
        self._epoch: int | None = None
        self._first_epoch = 1
        self._counts: dict[bool, _Count] = {False: _Count(), True: _Count()}
        self._counted: set[str] = set()  # names that stand beside fractions of epochs
        self._by_step: set[str] = set()  # names that stand beside counters that aren't full
        self._last_epoch: dict[str, int] = {}  # name → the epoch that its figure at the full bar got
        self._bars: dict[int, tuple[int, int]] = {}  # total → the counter, and what was counted before

    def places(
        self, epoch: str = "", step: str = "", count: str = "", total: str = "", phase: str = ""
    ) -> Callable[[str], int | None]:
        """Name → step, from what a line says of its epoch, its step, a counter, and whose they are."""
        of_epoch = self._see_epoch(epoch) if epoch else None
        if step:
            of_step = self._see_step(step, validates=_VALIDATES(phase) is not None)
            return lambda _name: of_step
        counter = _whole(count)
        if counter is not None:
            most = _whole(total) or 0
            passed = self._see_bar(counter, most)
            return lambda name: self._on_bar(name, counter, most, passed)
        if "." in epoch:
            return lambda name: self._of_fraction(name, of_epoch)
        sticky = self._sticky
        return lambda _name: sticky

    def _see_step(self, text: str, *, validates: bool) -> int | None:
        """A step was named; gives it, carried on over epochs in which it begins anew."""
        step = _whole(text)
        if step is not None:
            count = self._counts[validates]
            if self._epoch != count.epoch:
                if count.epoch is not None and self._epoch is not None and self._epoch > count.epoch:
                    count.before += count.most + (step == 0) if step <= count.most else 0
                count.epoch, count.most = self._epoch, -1
            count.most = max(count.most, step)
            self._sticky = step + count.before
        return self._sticky

    def _see_epoch(self, text: str) -> int | None:
        """An epoch was named; gives the step that it stands for, ``None`` for a fraction of one."""
        epoch = _whole(text)
        if epoch is not None:
            if self._epoch is None:
                self._first_epoch = min(1, epoch)
            self._epoch = self._sticky = epoch
        return epoch

    def _of_fraction(self, name: str, epoch: int | None) -> int | None:
        """The step of a figure beside ``1.0`` or ``0.25``: ``None`` as soon as it stood beside a fraction."""
        if epoch is None and len(self._counted) < _MOST_NAMES:
            self._counted.add(name)
        return None if name in self._counted else epoch

    def _on_bar(self, name: str, counter: int, total: int, passed: int) -> int:
        """The step of a figure that stands beside a counter; ``passed``: what :meth:`_see_bar` gave."""
        epoch = self._epoch
        is_full = 0 < total <= counter and name not in self._by_step and len(self._last_epoch) < _MOST_NAMES
        if is_full and epoch is not None and self._last_epoch.get(name) != epoch:
            self._last_epoch[name] = epoch
            return epoch
        if len(self._by_step) < _MOST_NAMES:
            self._by_step.add(name)
        return passed + counter

    def _see_bar(self, counter: int, total: int) -> int:
        """What was counted in the epochs, or the bars of this length, before this one."""
        if self._epoch is not None and total:
            return max(self._epoch - self._first_epoch, 0) * total
        last, passed = self._bars.get(total, (-1, 0))
        passed += total if counter < last else 0
        if total in self._bars or len(self._bars) < _MOST_BARS:
            self._bars[total] = (counter, passed)
        return passed


def _whole(text: str) -> int | None:
    """A count from its text, ``None`` where it is none: too long, negative, a fraction."""
    if text.isdecimal() and len(text) <= _LONGEST:
        return int(text)
    head, _, tail = text.partition(".")
    return int(head) if head.isdecimal() and len(head) <= _LONGEST and not tail.strip("0") else None
