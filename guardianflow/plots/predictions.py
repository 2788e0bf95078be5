"""Sample predictions as a page: each image with its found, missed and imagined objects.

Drawn as SVG over the image, so that it is sharp at every size, works without scripts and without a
network, and shows class names of any language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypedDict

from guardianflow.plots.palette import BLUE, ORANGE, VERMILION

__all__ = ["PredictionGallery", "SampleBox", "SampleImage", "prediction_counts"]

_STYLES = {
    "found": (BLUE, "", "found"),
    "imagined": (ORANGE, "6 4", "imagined: no such object is labelled"),
    "missed": (VERMILION, "2 3", "missed: labelled, not found"),
}


class SampleBox(TypedDict):
    """One box, corners as fractions of the image's width and height.

    Attributes:
        kind: ``"found"`` (prediction with a label), ``"imagined"`` (prediction without one) or
            ``"missed"`` (label without a prediction).
        confidence: Of the prediction; ``None`` for a missed object.
    """

    kind: str
    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float | None


class SampleImage(TypedDict):
    """One image with its boxes; ``jpeg`` is a thumbnail in base64, at most 480 px wide or high."""

    name: str
    width: int
    height: int
    jpeg: str
    boxes: list[SampleBox]


def prediction_counts(samples: Sequence[SampleImage]) -> dict[str, int]:
    """How many boxes were found, imagined and missed over all images."""
    counts = dict.fromkeys(_STYLES, 0)
    for sample in samples:
        for box in sample["boxes"]:
            counts[box["kind"]] += 1
    return counts


@dataclass(frozen=True)
class PredictionGallery:
    """Sample images with boxes; a notebook shows it as a page.

    Attributes:
        samples: What :func:`guardianflow.vision.samples.sample_predictions` gives.
    """

    samples: Sequence[SampleImage]

    def _repr_html_(self) -> str:
        if not self.samples:
            return "<p>No labelled images to show.</p>"
        counts = prediction_counts(self.samples)
        legend = "".join(_legend(kind, counts[kind]) for kind in _STYLES)
        figures = "".join(_figure(sample) for sample in self.samples)
        grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:14px"
        return f'<div style="margin:6px 0 12px">{legend}</div><div style="{grid}">{figures}</div>'


def _legend(kind: str, count: int) -> str:
    colour, dash, text = _STYLES[kind]
    line = (
        f'<svg width="34" height="12" style="vertical-align:middle"><line x1="2" y1="6" x2="32" y2="6" '
        f'stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/></svg>'
    )
    return f'<span style="margin-right:22px;white-space:nowrap">{line} {count} {escape(text)}</span>'


def _figure(sample: SampleImage) -> str:
    width, height = sample["width"], sample["height"]
    unit = max(width, height) / 320
    boxes = "".join(_box(box, width, height, unit) for box in sample["boxes"])
    return (
        '<figure style="margin:0">'
        f'<svg viewBox="0 0 {width} {height}" style="width:100%;border-radius:6px;display:block" role="img" '
        f'aria-label="{escape(_sentence(sample), quote=True)}">'
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{escape(sample["jpeg"])}"/>'
        f"{boxes}</svg>"
        f'<figcaption style="font-size:12px;opacity:.75;overflow-wrap:anywhere">{escape(sample["name"])}</figcaption>'
        "</figure>"
    )


def _box(box: SampleBox, width: int, height: int, unit: float) -> str:
    colour, dash, _ = _STYLES[box["kind"]]
    x, y = box["x1"] * width, box["y1"] * height
    w, h = (box["x2"] - box["x1"]) * width, (box["y2"] - box["y1"]) * height
    confidence = "" if box["confidence"] is None else f" {box['confidence']:.2f}"
    label = escape(f"{box['name']}{confidence}")
    dashes = " ".join(f"{float(part) * unit:.1f}" for part in dash.split())
    baseline = y - 3 * unit if y > 12 * unit else y + 11 * unit
    return (
        f"<g><title>{label} · {escape(box['kind'])}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="transparent" stroke="{colour}" '
        f'stroke-width="{1.8 * unit:.2f}" stroke-dasharray="{dashes}"/>'
        f'<text x="{x + 1.5 * unit:.1f}" y="{baseline:.1f}" font-size="{9 * unit:.1f}" font-family="sans-serif" '
        f'fill="{colour}" stroke="white" stroke-width="{2.4 * unit:.2f}" paint-order="stroke">{label}</text></g>'
    )


def _sentence(sample: SampleImage) -> str:
    counts = prediction_counts([sample])
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) + f" in {sample['name']}"
