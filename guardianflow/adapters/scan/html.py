"""A scan's report as HTML for a notebook, in light and dark; every text in it is escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from guardianflow.text.printable import escape, printable
from guardianflow.text.units import file_size

if TYPE_CHECKING:
    from guardianflow.adapters.scan.findings import FoundScript, Reason, ScanReport

__all__ = ["report_html"]

_ROWS = 100  # of each kind; the counts say how many there are
_LINE = "border-top:1px solid rgba(128,128,128,.35)"
_CELL = f"text-align:left;vertical-align:top;padding:4px 14px 4px 0;overflow-wrap:anywhere;{_LINE}"
_HEAD = "text-align:left;padding:2px 14px 4px 0;font-weight:600;opacity:.7;font-size:.85em"
_FIGURE = "text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap"
_QUIET = "opacity:.7;font-size:.9em"
_TABLE = "border-collapse:collapse;width:100%;max-width:70em;margin:2px 0 14px;background:transparent;color:inherit"
_BAR = "#3d8bd4"


def report_html(report: ScanReport) -> str:
    """The tables of a report, with what was skipped in one sentence."""
    parts = [f'<p><strong>{_text(report.root)}</strong><br><span style="{_QUIET}">{_text(report.summary())}</span></p>']
    parts += [
        _table(
            "Scripts and notebooks",
            (("score", "9em"), ("path", ""), ("role", "7em"), ("framework", "8em"), ("why", "46%")),
            report.scripts,
            _script_row,
        ),
        _table(
            "Datasets",
            (("score", "9em"), ("path", ""), ("classes", "6em"), ("why", "46%")),
            report.datasets,
            lambda found: (
                _score(found.score), _text(found.path), _figure(f"{found.classes:,}" if found.classes else "–"),
                _reasons(found.reasons),
            ),
        ),
        _table(
            "Finished runs",
            (("score", "9em"), ("path", ""), ("kind", "8em"), ("why", "46%")),
            report.runs,
            lambda run: (_score(run.score), _text(run.path), _text(run.kind), _reasons(run.reasons)),
        ),
        _table(
            "Weights",
            (("path", ""), ("format", "9em"), ("size", "8em")),
            report.weights,
            lambda found: (_text(found.path), _text(found.format), _figure(file_size(found.size))),
        ),
    ]  # fmt: skip
    if sentence := report.skipped_sentence():
        parts.append(f'<p style="{_QUIET}">{escape(printable(sentence, longest=2000))}</p>')
    return f'<div style="color:inherit">{"".join(parts)}</div>'


def _script_row(script: FoundScript) -> Sequence[str]:
    more = []
    if script.module_of:
        more.append(f"run as <code>python -m {_text(script.module_of)}</code>")
    if script.data:
        more.append(f"data {_text(', '.join(script.data))}")
    if script.declared is not None and script.declared.parameters:
        count = len(script.declared.parameters)
        more.append(f"{count} parameter{'' if count == 1 else 's'}")
    below = f'<div style="{_QUIET}">{" · ".join(more)}</div>' if more else ""
    return (
        _score(script.score), f"{_text(script.path)}{below}", _text(script.role), _text(script.framework or "–"),
        _reasons(script.reasons),
    )  # fmt: skip


def _reasons(reasons: Sequence[Reason]) -> str:
    """The heaviest reason in sight, all of them folded in."""
    if not reasons:
        return ""
    weights = [f"{reason.weight:+.2f}".replace("-", "\N{MINUS SIGN}") for reason in reasons]
    listed = "".join(
        f'<li style="margin:1px 0"><span style="font-variant-numeric:tabular-nums">{weight}</span> {_text(reason)}</li>'
        for weight, reason in zip(weights, reasons, strict=True)
    )
    return (
        f'<details><summary style="cursor:pointer">{_text(reasons[0])}</summary>'
        f'<ul style="list-style:none;margin:4px 0 2px;padding:0 0 0 1.1em;{_QUIET}">{listed}</ul></details>'
    )


def _score(score: float) -> str:
    width = round(100 * min(1.0, max(0.0, score)))
    return (
        f'<span style="display:inline-block;width:4.5em;height:.6em;border-radius:.3em;overflow:hidden;'
        f'background:rgba(128,128,128,.3);margin-right:.6em" role="img" aria-label="score {score:.2f}">'
        f'<span style="display:block;width:{width}%;height:100%;background:{_BAR}"></span></span>'
        f'<span style="font-variant-numeric:tabular-nums">{score:.2f}</span>'
    )


def _table(
    title: str, columns: Sequence[tuple[str, str]], found: Sequence[Any], row_of: Callable[[Any], Sequence[str]]
) -> str:
    rows = map(row_of, found[:_ROWS])
    body = "".join("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(
        f'<th style="{_HEAD}{";width:" + width if width else ""}">{escape(name)}</th>' for name, width in columns
    )
    rest = f'<p style="{_QUIET}">… and {len(found) - _ROWS:,} more</p>' if len(found) > _ROWS else ""
    return (
        f'<div style="font-weight:600;margin-top:8px">{escape(title)} ({len(found):,})</div>'
        f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}'
    )


def _figure(text: str) -> str:
    return f'<span style="{_FIGURE}">{escape(text)}</span>'


def _text(value: object) -> str:
    return escape(printable(value, longest=240))
