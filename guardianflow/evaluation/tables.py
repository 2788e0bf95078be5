"""Tables of figures as HTML for a notebook; every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from guardianflow.text.printable import escape

__all__ = ["html_table"]


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
