"""Which rows of a table of metrics are its last training: a second run, or a resumed one, appends to the same file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["RowOrder", "last_training", "some_lines"]

_SHOWN_LINES = 5


@dataclass
class RowOrder:
    """Follows the number that counts on from row to row.

    Where it goes back to its beginning, another training begins; where it goes back to a place in between, one was
    resumed there, and rows that follow replace those of the same number.

    Attributes:
        training: Number of the training that the last row belongs to, from 0.
        stretch: Number of the stretch without a step back, from 0, over all trainings.
        restarts: The line of each first row of a further training.
        resumes: The line of each first row that goes back to a place in between.
    """

    training: int = 0
    stretch: int = 0
    restarts: list[int] = field(default_factory=list)
    resumes: list[int] = field(default_factory=list)
    _first: float | None = None
    _last: float = 0.0

    def goes_back(self, number: float) -> bool:
        """Whether a row with this number would go back behind the last one."""
        return self._first is not None and number < self._last

    def place(self, number: float, line: int, *, repeats: bool = True) -> str:
        """Take the next row.

        Args:
            number: Its epoch or step.
            line: Where it stands.
            repeats: Several rows may have the same number; ``False`` where the same number once more is a step back.

        Returns:
            ``"restart"``, ``"resume"`` or ``""``.
        """
        first, last, self._last = self._first, self._last, number
        if first is None:
            self._first = number
        elif number < last or (number == last and not repeats):
            self.stretch += 1
            if number <= first:
                self.training += 1
                self._first = number
                self.restarts.append(line)
                self.resumes.clear()  # of a training that doesn't count
                return "restart"
            self.resumes.append(line)
            return "resume"
        return ""

    def remarks(self, unit: str) -> list[str]:
        """What a person should know of it; ``unit`` is what counts on, such as ``"epoch"``."""
        found = []
        if self.restarts:
            found.append(
                f"{len(self.restarts) + 1} trainings stand in it, the {unit} starts over at "
                f"{some_lines(self.restarts)}: the last one is the run"
            )
        if self.resumes:
            found.append(
                f"the {unit} goes back at {some_lines(self.resumes)}, as where a training was resumed: "
                "of rows that stand twice the later ones count"
            )
        return found


def last_training(steps: Sequence[int], stretches: Sequence[int], *, ends: bool) -> list[int]:
    """The places of the rows that count within one training: those of a step's last stretch.

    Args:
        steps: The rows' steps.
        stretches: The rows' stretches, rising.
        ends: What an earlier stretch has beyond the last row was given up, and doesn't count either.
    """
    newest = dict(zip(steps, stretches, strict=True))
    last, end = (stretches[-1], steps[-1]) if steps else (0, 0)
    return [
        place
        for place, (step, stretch) in enumerate(zip(steps, stretches, strict=True))
        if newest[step] == stretch and (stretch == last or not ends or step <= end)
    ]


def some_lines(lines: Iterable[int]) -> str:
    """``line 4`` or ``lines 4, 7, 9, 12, 15 and 3 more``."""
    listed = list(lines)
    more = len(listed) - _SHOWN_LINES
    shown = ", ".join(str(line) for line in listed[:_SHOWN_LINES])
    return f"line{'s' if len(listed) > 1 else ''} {shown}" + (f" and {more} more" if more > 0 else "")
