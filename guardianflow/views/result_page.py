"""What the pages of all results share: figures as people read them, tables, remarks, links, next steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from guardianflow.core.metrics import CATALOGUE, MetricSpec
from guardianflow.text.printable import escape, printable

__all__ = [
    "Rows", "Table", "format_metric", "metric_table_html", "remarks_html", "run_link", "table_html",
]  # fmt: skip

_HEADLINE = ("map50", "map50_95", "precision", "recall", "f1")


class _Shown(Protocol):
    def shown(self) -> Mapping[str, str]:
        """Column → text."""


T = TypeVar("T", bound=_Shown)


def remarks_html(remarks: Sequence[str]) -> str:
    """The remarks as a list that unfolds; nothing where there is none."""
    if not remarks:
        return ""
    items = "".join(f"<li>{escape(printable(text, longest=1000))}</li>" for text in remarks)
    count = f"{len(remarks)} remark{'s' if len(remarks) > 1 else ''}"
    return f"<details><summary>{count} on what was taken and how it was measured</summary><ul>{items}</ul></details>"


def run_link(tracking_uri: str, run_id: str, *, shown: int = 64) -> str:
    """The run as a link into MLflow's pages where these are served, else its id; so many letters of it are shown."""
    text = f"<code>{escape(run_id[:shown])}</code>"
    if not tracking_uri.startswith(("http://", "https://")):
        return text
    return f'<a href="{escape(tracking_uri.rstrip("/"))}/#/runs/{escape(run_id)}">{text}</a>'


def format_metric(name: str, value: float | None) -> str:
    """A figure as a person reads it: ``0.574``, ``12.3 ms``, ``1,234 MB``."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "–"
    spec = CATALOGUE.get(name)
    if spec is None or spec.unit == "fraction":
        return f"{value:.3f}"
    if spec.unit == "count":
        return f"{value:,.0f}"
    unit = "%" if spec.unit == "percent" else spec.unit
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.1f} {unit}"


def table_html(rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """Rows of text as a table, with headings where there are any."""
    lines = [_line(columns, "th")] if columns else []
    return f"<table>{''.join([*lines, *(_line(row, 'td') for row in rows)])}</table>"


def _line(cells: Sequence[object], tag: str) -> str:
    inside = "".join(f'<{tag} style="text-align:left">{escape(str(text))}</{tag}>' for text in cells)
    return f"<tr>{inside}</tr>"


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def _repr_html_(self) -> str:
        return table_html(self.rows, self.columns)


class Rows(list[T]):
    """A list whose members say what to show of them: a table in a notebook, aligned text at a prompt."""

    def _table(self) -> Table:
        rows = [row.shown() for row in self]
        named = dict.fromkeys(name for row in rows for name in row)
        columns = [name for name in named if any(row[name] for row in rows)]
        return Table(columns, [[row[name] for name in columns] for row in rows])

    def _repr_html_(self) -> str:
        return self._table()._repr_html_() if self else "<p>none yet</p>"

    def __repr__(self) -> str:
        table = self._table()
        lines = [[str(text) for text in line] for line in (table.columns, *table.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines) or "none yet"


def metric_table_html(metrics: Mapping[str, float]) -> str:
    """The figures as a table, the headline ones first, each with its meaning as a tooltip."""
    names = [name for name in _HEADLINE if name in metrics]
    names += [name for name in metrics if name in CATALOGUE and name not in names]
    rows = "".join(_row(name, metrics[name], CATALOGUE[name]) for name in names)
    return f'<table><tr><th style="text-align:left">Metric</th><th>Value</th><th></th></tr>{rows}</table>'


def _row(name: str, value: float, spec: MetricSpec) -> str:
    return (
        f'<tr><td style="text-align:left"><code>{escape(name)}</code></td>'
        f"<td>{escape(format_metric(name, value))}</td>"
        f'<td style="text-align:left;opacity:.7">{escape(spec.description)}</td></tr>'
    )
