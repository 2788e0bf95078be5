"""Which step a figure belongs to.

The rules, in their order:

1. A step on the line (``step 12``, ``iter=12``, ``global_step``) is the step. Where it begins anew with each
   epoch it is carried on, so that a curve runs forward.
2. A counter that runs to a total (``45/100`` of a progress bar, ``Epoch [1][50/7330]``) counts on over the epochs:
   ``(epoch - 1) x total + counter``. But a name that stands only once an epoch, at the full bar
   (``val_loss``), gets the epoch: the step wins only when a name repeats inside one epoch.
3. An epoch on the line is the step. Where it is a fraction (``'epoch': 0.25``) the name's values are counted.
4. Else the last epoch or step that was seen.
5. Else ``None``; :class:`~guardianflow.adapters.wrap.metrics.series.MetricSeries` then counts the name's values.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StepClock"]

_MOST_NAMES = 4_096
_MOST_BARS = 64
_LONGEST = 18


class StepClock:
    """What one stream has said of its epochs and steps so far; bounded."""

    def __init__(self) -> None:
        self.sticky: int | None = None
        self.epoch: int | None = None
        self._first_epoch = 1
        self._raw = -1
        self._offset = 0
        self._raw_epoch: int | None = None
        self._counted: set[str] = set()
        self._by_step: set[str] = set()
        self._last_epoch: dict[str, int] = {}
        self._bars: dict[int, tuple[int, int]] = {}

    @staticmethod
    def whole(text: str) -> int | None:
        """A count from its text, ``None`` where it is none: too long, negative, a fraction."""
        if text.isdecimal() and len(text) <= _LONGEST:
            return int(text)
        head, point, tail = text.partition(".")
        return int(head) if point and not tail.strip("0") and head.isdecimal() and len(head) <= _LONGEST else None

    def see_epoch(self, text: str) -> int | None:
        """An epoch was named; gives the step that it stands for, ``None`` for a fraction of one."""
        epoch = self.whole(text)
        if epoch is None:
            return None if "." in text else self.sticky
        if self.epoch is None:
            self._first_epoch = min(1, epoch)
        self.epoch = self.sticky = epoch
        return epoch

    def see_step(self, text: str) -> int | None:
        """A step was named; gives it, carried on over epochs in which it begins anew."""
        step = self.whole(text)
        if step is None:
            return self.sticky
        if self.epoch != self._raw_epoch:
            if self._raw_epoch is not None and self.epoch is not None and self.epoch > self._raw_epoch:
                self._offset += self._raw + (step == 0) if step <= self._raw else 0
            self._raw_epoch = self.epoch
        self._raw = step
        self.sticky = step + self._offset
        return self.sticky

    def see_steps(self, texts: Sequence[bytes]) -> Sequence[int | None]:
        """The steps of lines that follow each other and name no epoch, as :meth:`see_step` gives them."""
        first = self.see_step(texts[0].decode("ascii"))  # all that is to be thought over happens here
        if not b"".join(texts).isdigit() or max(map(len, texts)) > _LONGEST:
            return [first, *(self.see_step(text.decode("ascii")) for text in texts[1:])]
        steps = list(map(int, texts))
        self._raw = steps[-1]
        if self._offset:
            steps = [step + self._offset for step in steps]
        self.sticky = steps[-1]
        return steps

    def of_epoch(self, name: str, text: str, epoch: int | None) -> int | None:
        """The step of a figure beside an epoch; ``epoch``: what :meth:`see_epoch` gave for its text."""
        if "." not in text:
            return epoch
        if name in self._counted:
            return None
        if epoch is None and len(self._counted) < _MOST_NAMES:
            self._counted.add(name)
        return epoch

    def on_bar(self, name: str, counter: int, total: int, *, passed: int) -> int:
        """The step of a figure that stands beside a counter; ``passed``: what :meth:`see_bar` gave."""
        full = self.epoch is not None and 0 < total <= counter and name not in self._by_step
        if full and self._last_epoch.get(name) != self.epoch and len(self._last_epoch) < _MOST_NAMES:
            self._last_epoch[name] = epoch = self.epoch or 0
            return epoch
        if len(self._by_step) < _MOST_NAMES:
            self._by_step.add(name)
        return passed + counter

    def see_bar(self, counter: int, total: int) -> int:
        """What was counted in the epochs, or the bars of this length, before this one."""
        if self.epoch is not None and total:
            return max(self.epoch - self._first_epoch, 0) * total
        last, passed = self._bars.get(total, (-1, 0))
        if counter < last:
            passed += total
        if total in self._bars or len(self._bars) < _MOST_BARS:
            self._bars[total] = (counter, passed)
        return passed
