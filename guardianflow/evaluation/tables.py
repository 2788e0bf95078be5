"""Tables of figures as HTML for a notebook; every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["figure_text", "html_table", "interval_text"]


def figure_text(value: float | None, *, places: int = 3, sign: bool = False) -> str:
    """A figure as a person reads it; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''}.{places}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def interval_text(low: float | None, high: float | None) -> str:
    """An interval of a change; a dash where there is none."""
    if low is None or high is None:
        return "–"
    return f"{figure_text(low, sign=True)} to {figure_text(high, sign=True)}"


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: the first column is text, the others are figures."""
    left = "text-align:left;padding:2px 10px 2px 0;overflow-wrap:anywhere"
    right = "text-align:right;padding:2px 0 2px 14px;font-variant-numeric:tabular-nums"

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{tag} style="{right if place else left}">{escape(cell)}</{tag}>' for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', head)}</tr></thead><tbody>{body}</tbody></table>"
