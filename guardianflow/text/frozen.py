"""A mapping that nobody changes, shown as a dictionary at a prompt and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from guardianflow.text.printable import escape

__all__ = ["Frozen"]

K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)


class Frozen(Mapping[K, V_co]):
    """The values of a mapping as they are now.

    Args:
        values: They are copied.
    """

    def __init__(self, values: Mapping[K, V_co]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: K) -> V_co:
        return self._values[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def _repr_html_(self) -> str:
        rows = [(str(name), f"{value:.6g}" if isinstance(value, float) else str(value)) for name, value in self.items()]
        left = '<t{0} style="text-align:left">{1}</t{0}>'
        lines = (f"<tr>{left.format('h', escape(name))}{left.format('d', escape(value))}</tr>" for name, value in rows)
        return f"<table>{''.join(lines)}</table>" if rows else "<p>empty</p>"
