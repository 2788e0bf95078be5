"""Which step a figure belongs to.

The rules, in their order:

1. A step on the line (``step 12``, ``iter=12``, ``global_step``) is the step. Where it begins anew with each
   epoch it is carried on, so that a curve runs forward. Steps of training and of validation are counted apart.
2. A counter that runs to a total (``45/100`` of a progress bar, ``Epoch [1][50/7330]``) counts on over the epochs:
   ``(epoch - 1) x total + counter``. But a name that stands only once an epoch, at the full bar
   (``val_loss``), gets the epoch: the step wins only when a name repeats inside one epoch.
3. An epoch on the line is the step. Where it is a fraction (``'epoch': 0.25``) the name's values are counted.
4. Else the last epoch or step that was seen.
5. Else ``None``; :class:`~guardianflow.adapters.wrap.metrics.series.MetricSeries` then counts the name's values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["StepClock"]

_MOST_NAMES = 4_096
_MOST_BARS = 64
_LONGEST = 18


@dataclass(slots=True)
class _Count:
    """Steps of training, or of validation: the highest of this epoch, and what the epochs before it had."""

    epoch: int | None = None
    most: int = -1
    before: int = 0


class StepClock:
    """What one stream has said of its epochs and steps so far; bounded."""

    def __init__(self) -> None:
        self.sticky: int | None = None
        self.epoch: int | None = None
        self._first_epoch = 1
        self._counts: dict[bool, _Count] = {False: _Count(), True: _Count()}
        self._counted: set[str] = set()
        self._by_step: set[str] = set()
        self._last_epoch: dict[str, int] = {}
        self._bars: dict[int, tuple[int, int]] = {}

    def places(
        self, epoch: str = "", step: str = "", count: str = "", total: str = "", *, training: bool = True
    ) -> Callable[[str], int | None]:
        """Name → step, from what a line says of its epoch, its step and a counter."""
        of_epoch = self._see_epoch(epoch) if epoch else None
        if step:
            of_step = self.see_step(step, training=training)
            return lambda _name: of_step
        counter = _whole(count) if count else None
        if counter is not None:
            most = _whole(total) or 0
            passed = self._see_bar(counter, most)
            return lambda name: self._on_bar(name, counter, most, passed)
        if epoch:
            return lambda name: self._of_epoch(name, epoch, of_epoch)
        sticky = self.sticky
        return lambda _name: sticky

    def see_step(self, text: str, *, training: bool = True) -> int | None:
        """A step was named; gives it, carried on over epochs in which it begins anew."""
        step = _whole(text)
        if step is None:
            return self.sticky
        count = self._counts[training]
        if self.epoch != count.epoch:
            if count.epoch is not None and self.epoch is not None and self.epoch > count.epoch:
                count.before += count.most + (step == 0) if step <= count.most else 0
            count.epoch, count.most = self.epoch, -1
        count.most = max(count.most, step)
        self.sticky = step + count.before
        return self.sticky

    def _see_epoch(self, text: str) -> int | None:
        """An epoch was named; gives the step that it stands for, ``None`` for a fraction of one."""
        epoch = _whole(text)
        if epoch is None:
            return None if "." in text else self.sticky
        if self.epoch is None:
            self._first_epoch = min(1, epoch)
        self.epoch = self.sticky = epoch
        return epoch

    def _of_epoch(self, name: str, text: str, epoch: int | None) -> int | None:
        """The step of a figure beside an epoch; ``epoch``: what :meth:`_see_epoch` gave for its text."""
        if "." not in text:
            return epoch
        if name in self._counted:
            return None
        if epoch is None and len(self._counted) < _MOST_NAMES:
            self._counted.add(name)
        return epoch

    def _on_bar(self, name: str, counter: int, total: int, passed: int) -> int:
        """The step of a figure that stands beside a counter; ``passed``: what :meth:`_see_bar` gave."""
        full = self.epoch is not None and 0 < total <= counter and name not in self._by_step
        if full and self._last_epoch.get(name) != self.epoch and len(self._last_epoch) < _MOST_NAMES:
            self._last_epoch[name] = epoch = self.epoch or 0
            return epoch
        if len(self._by_step) < _MOST_NAMES:
            self._by_step.add(name)
        return passed + counter

    def _see_bar(self, counter: int, total: int) -> int:
        """What was counted in the epochs, or the bars of this length, before this one."""
        if self.epoch is not None and total:
            return max(self.epoch - self._first_epoch, 0) * total
        last, passed = self._bars.get(total, (-1, 0))
        if counter < last:
            passed += total
        if total in self._bars or len(self._bars) < _MOST_BARS:
            self._bars[total] = (counter, passed)
        return passed


def _whole(text: str) -> int | None:
    """A count from its text, ``None`` where it is none: too long, negative, a fraction."""
    if text.isdecimal() and len(text) <= _LONGEST:
        return int(text)
    head, point, tail = text.partition(".")
    return int(head) if point and not tail.strip("0") and head.isdecimal() and len(head) <= _LONGEST else None
