"""A comparison as people read it: who is better and by how much, in a sentence, on a ruler, and in plain words.

The rows are those of :class:`guardianflow.execution.comparison_result.ComparisonResult`, as plain JSON types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from guardianflow.plots.palette import GREEN, GREY, VERMILION
from guardianflow.text.units import figure_text, interval_text

__all__ = ["METRIC_NAMES", "headline_html", "interval_name", "plain_words", "sentence"]

METRIC_NAMES = {"map50_95": "mAP50-95", "map50": "mAP50"}

_SIGNS = {"better": ("▲", GREEN), "worse": ("▼", VERMILION), "none": ("≈", GREY)}

Row = Mapping[str, Any]


def interval_name(level: float) -> str:
    """``"95% interval"``."""
    return f"{100 * level:.3g}% interval"


def sentence(row: Row, first: Row) -> str:
    """Whether one model is better than another, by how much, how sure that is, and on what.

    Args:
        row: The comparison.
        first: The subject that it is held against.
    """
    one, other = f"{row['name']} ({row['label']})", f"{first['name']} ({first['label']})"
    said = {
        "better": f"{one} is better than {other}:",
        "worse": f"{one} is worse than {other}:",
        "none": f"no difference is shown between {one} and {other}:",
    }[row["outcome"]]
    return f"{said} {_figures(row)}"


def _figures(row: Row) -> str:
    return (
        f"{METRIC_NAMES[row['metric']]} {figure_text(row['difference'], sign=True)} "
        f"({interval_name(row['level'])} {interval_text(row['low'], row['high'])}) on {row['images']:,} images"
    )


def plain_words(row: Row, subject: Row, first: Row, *, confidence: float) -> str:
    """The same in counts, for people who don't read mAP."""
    mine, theirs = subject["found"], first["found"]
    return (
        f"Of {mine['labelled']:,} labelled objects {row['name']} finds {mine['found']:,} and {first['name']} "
        f"{theirs['found']:,}; where nothing is labelled, {row['name']} shows {mine['imagined']:,} boxes and "
        f"{first['name']} {theirs['imagined']:,} (from a confidence of {confidence:g} on)."
    )


def headline_html(subjects: Sequence[Row], comparisons: Sequence[Row], *, confidence: float) -> str:
    """A card a compared model: the sentence large, the interval on a ruler, the counts in words."""
    first, by_name = subjects[0], {row["name"]: row for row in subjects}
    reach = 1.15 * max([0.005, *(abs(row[end]) for row in comparisons for end in ("low", "high"))])
    return "".join(
        _card(row, first, plain_words(row, by_name[row["name"]], first, confidence=confidence), reach)
        for row in comparisons
    )


def _card(row: Row, first: Row, words: str, reach: float) -> str:
    sign, colour = _SIGNS[row["outcome"]]
    one, other = row["name"], first["name"]
    large = {
        "better": f"{one} is better than {other}",
        "worse": f"{one} is worse than {other}",
        "none": f"No difference is shown between {one} and {other}",
    }[row["outcome"]]
    return (
        f'<div style="border-left:8px solid {colour};padding:4px 0 4px 16px;margin:10px 0 18px">'
        f'<div style="font-size:1.75em;font-weight:650;line-height:1.25"><span style="color:{colour}">{sign}</span> '
        f"{escape(large)}</div>"
        f'<div style="font-size:1.15em;margin:2px 0 6px">{escape(_figures(row))}</div>'
        f"{_ruler(row, other, colour, reach)}"
        f'<div style="margin-top:6px">{escape(words)}</div></div>'
    )


def _ruler(row: Row, other: str, colour: str, reach: float) -> str:
    """The interval between "A better" and "B better", with the middle marked."""
    width, middle = 560, 26

    def place(value: float) -> float:
        return width / 2 + value / reach * (width / 2 - 8)

    low, high, dot = place(row["low"]), place(row["high"]), place(row["difference"])
    said = f"{_figures(row)}: right of the middle {row['name']} is better, left of it {other}"
    text = 'font-size="13" font-family="sans-serif" fill="currentColor"'
    return (
        f'<svg viewBox="0 0 {width} 62" style="width:100%;max-width:{width}px;display:block;overflow:visible" '
        f'role="img" aria-label="{escape(said, quote=True)}">'
        f'<line x1="0" y1="{middle}" x2="{width}" y2="{middle}" stroke="{GREY}" stroke-width="1"/>'
        f'<line x1="{width / 2}" y1="8" x2="{width / 2}" y2="44" stroke="currentColor" stroke-width="1.5" '
        'stroke-dasharray="4 3"/>'
        f'<line x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}" stroke="{colour}" stroke-width="9" '
        'stroke-linecap="round" opacity="0.55"/>'
        f'<circle cx="{dot:.1f}" cy="{middle}" r="8" fill="{colour}" stroke="white" stroke-width="2"/>'
        f'<text x="0" y="59" {text}>← {escape(other)} better</text>'
        f'<text x="{width / 2}" y="59" text-anchor="middle" {text}>equal</text>'
        f'<text x="{width}" y="59" text-anchor="end" {text}>{escape(row["name"])} better →</text></svg>'
    )
