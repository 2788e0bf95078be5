"""A comparison as people read it: who is better and by how much, in a sentence, on a ruler, and in plain words.

The rows are those of :class:`guardianflow.execution.comparison_result.ComparisonResult`, as plain JSON types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guardianflow.plots.palette import GREEN, GREY, VERMILION
from guardianflow.text.printable import escape
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
    if not row["caveat"]:
        return f"{said} {_figures(row)}"
    return (
        f"no difference is shown between the trainings of {one} and {other}, which are alike but for their seed; "
        f"{_as_models(row, first)}"
    )


def _as_models(row: Row, first: Row) -> str:
    """Which of two seeds does better on the images, which is another question than which training is better."""
    word = "better than" if row["low"] > 0 else "worse than" if row["high"] < 0 else "as good as"
    return f"as a model {row['name']} is {word} {first['name']}: {_figures(row)}"


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
    models = _as_models(row, first)
    figures = models[0].upper() + models[1:] if row["caveat"] else _figures(row)
    who = f"{one}: {row['label']} · {other}: {first['label']}"
    large = {
        "better": f"{one} is better than {other}",
        "worse": f"{one} is worse than {other}",
        "none": f"No difference is shown between {'the trainings of ' if row['caveat'] else ''}{one} and {other}",
    }[row["outcome"]]
    return (
        f'<div style="border-left:8px solid {colour};padding:4px 0 4px 16px;margin:10px 0 18px">'
        f'<div style="font-size:1.75em;font-weight:650;line-height:1.25"><span style="color:{colour}">{sign}</span> '
        f"{escape(large)}</div>"
        f'<div style="font-size:1.15em;margin:2px 0">{escape(figures)}</div>'
        f'<div style="opacity:.75;overflow-wrap:anywhere">{escape(who)}</div>'
        f"{_ruler(row, other, colour, reach)}<div>{escape(words)}</div>"
        f"<div><b>{escape(row['caveat'])}</b></div></div>"
    )


def _ruler(row: Row, other: str, colour: str, reach: float) -> str:
    """The interval between "A better" and "B better", with the middle marked."""

    def place(value: float) -> float:
        return 50 + 49 * max(-1.0, min(value / reach, 1.0))

    low, high, dot = place(row["low"]), place(row["high"]), place(row["difference"])
    said = f"{_figures(row)}: right of the middle {row['name']} is better, left of it {other}"
    mark = "position:absolute;box-sizing:border-box"
    return (
        f'<div role="img" aria-label="{escape(said, quote=True)}" style="max-width:560px;margin:8px 0">'
        '<div style="position:relative;height:36px">'
        f'<div style="{mark};top:17px;width:100%;border-top:2px solid {GREY}"></div>'
        f'<div style="{mark};left:50%;top:2px;height:32px;border-left:2px dashed currentColor"></div>'
        f'<div style="{mark};left:{low:.2f}%;width:{high - low:.2f}%;top:13px;height:10px;border-radius:5px;'
        f'background:{colour};opacity:.55"></div>'
        f'<div style="{mark};left:calc({dot:.2f}% - 9px);top:9px;width:18px;height:18px;border-radius:9px;'
        f'background:{colour};border:2px solid white"></div></div>'
        '<div style="display:flex;justify-content:space-between;font-size:.9em">'
        f"<span>← {escape(other)} better</span><span>equal</span><span>{escape(row['name'])} better →</span>"
        "</div></div>"
    )
