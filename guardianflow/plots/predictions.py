"""Predictions as a page: each image with its found, missed and imagined objects, of one model or of two side by side.

Drawn as SVG over the image, so that it is sharp at every size, works without scripts and without a
network, and shows class names of any language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypedDict

from guardianflow.plots.palette import BLUE, GREEN, ORANGE, VERMILION

__all__ = ["PairBox", "PairGallery", "PairImage", "PredictionGallery", "SampleBox", "SampleImage", "prediction_counts"]

_STYLES = {
    "found": (BLUE, "", "found"),
    "imagined": (ORANGE, "6 4", "imagined: no such object is labelled"),
    "missed": (VERMILION, "2 3", "missed: labelled, not found"),
}
_PAIR_STYLES = {
    "found": (BLUE, "", "found by this model alone"),
    "imagined": (ORANGE, "6 4", "imagined by this model alone: no such object is labelled"),
    "missed": (VERMILION, "2 3", "missed by this model alone"),
    "labelled": (GREEN, "", "thin: labelled"),
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


class PairBox(SampleBox):
    """A box of one of two models; also of kind ``"labelled"``: a labelled object, whoever found it.

    Attributes:
        shared: The other model does the same: it found it, missed it or imagined it, too.
    """

    shared: bool


class PairImage(TypedDict):
    """One image with the boxes of two models; ``jpeg`` as in :class:`SampleImage`, empty without a photograph."""

    name: str
    width: int
    height: int
    jpeg: str
    sides: list[list[PairBox]]


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
        legend = "".join(
            _legend(colour, dash, f"{counts[kind]} {words}") for kind, (colour, dash, words) in _STYLES.items()
        )
        figures = "".join(_figure(sample) for sample in self.samples)
        grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:14px"
        return f'<div style="margin:6px 0 12px">{legend}</div><div style="{grid}">{figures}</div>'


@dataclass(frozen=True)
class PairGallery:
    """Images with the boxes of two models side by side: what they do differently is bright, the rest faint.

    Attributes:
        names: Of the two.
        images: What :func:`guardianflow.vision.disagreements.most_disputed` gives.
        confidence: From which boxes are shown.
    """

    names: tuple[str, str]
    images: Sequence[PairImage]
    confidence: float

    def _repr_html_(self) -> str:
        if not self.images:
            return f"<p>From a confidence of {self.confidence:g} on the two show the same on every image.</p>"
        legend = "".join(_legend(*style) for style in _PAIR_STYLES.values())
        bare = (
            ""
            if all(image["jpeg"] for image in self.images)
            else ("<p>Where boxes stand on grey, the photograph is not on this machine, or was changed since.</p>")
        )
        rows = "".join(map(self._row, self.images))
        return f'<div style="margin:6px 0 12px">{legend}<span>faint: both alike</span></div>{bare}{rows}'

    def _row(self, image: PairImage) -> str:
        sides = "".join(self._side(name, boxes, image) for name, boxes in zip(self.names, image["sides"], strict=True))
        grid = "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:10px"
        return f'<div style="margin:0 0 22px"><div style="{grid}">{sides}</div>{_caption(image["name"])}</div>'

    def _side(self, name: str, boxes: Sequence[PairBox], image: PairImage) -> str:
        said = _alone_text(name, boxes)
        ordered = sorted(boxes, key=lambda box: (box["kind"] != "labelled", not box["shared"]))  # bright ones on top
        return f'<div><div style="margin-bottom:3px">{escape(said)}</div>{_picture(image, ordered, said)}</div>'


def _alone_text(name: str, boxes: Sequence[PairBox]) -> str:
    """``"B finds 3 that the other misses and imagines 1 of its own"``."""
    alone = [box["kind"] for box in boxes if not box["shared"]]
    found, imagined = alone.count("found"), alone.count("imagined")
    parts = [f"finds {found} that the other misses"] if found else []
    parts += [f"imagines {imagined} of its own"] if imagined else []
    return f"{name} {' and '.join(parts) or 'shows nothing of its own'}"


def _legend(colour: str, dash: str, text: str) -> str:
    line = (
        f'<svg width="34" height="12" style="vertical-align:middle"><line x1="2" y1="6" x2="32" y2="6" '
        f'stroke="{colour}" stroke-width="{1 if colour == GREEN else 3}" stroke-dasharray="{dash}"/></svg>'
    )
    return f'<span style="display:inline-block;margin-right:22px">{line} {escape(text)}</span> '


def _caption(name: str) -> str:
    return f'<div style="font-size:12px;opacity:.75;overflow-wrap:anywhere">{escape(name)}</div>'


def _figure(sample: SampleImage) -> str:
    said = _sentence(sample)
    return f"<div>{_picture(sample, sample['boxes'], said)}{_caption(sample['name'])}</div>"


def _picture(image: SampleImage | PairImage, boxes: Sequence[SampleBox], said: str) -> str:
    width, height = image["width"], image["height"]
    unit = max(width, height) / 320
    ground = (
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{escape(image["jpeg"])}"/>'
        if image["jpeg"]
        else f'<rect width="{width}" height="{height}" fill="#E3E6EB"/>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" style="width:100%;border-radius:6px;display:block" role="img" '
        f'aria-label="{escape(said, quote=True)}">{ground}'
        f"{''.join(_box(box, width, height, unit) for box in boxes)}</svg>"
    )


def _box(box: SampleBox, width: int, height: int, unit: float) -> str:
    colour, dash, _ = _PAIR_STYLES[box["kind"]]
    shared = bool(box.get("shared"))
    x, y = box["x1"] * width, box["y1"] * height
    w, h = (box["x2"] - box["x1"]) * width, (box["y2"] - box["y1"]) * height
    confidence = "" if box["confidence"] is None else f" {box['confidence']:.2f}"
    label = escape(f"{box['name']}{confidence}")
    dashes = " ".join(f"{float(part) * unit:.1f}" for part in dash.split())
    baseline = y - 3 * unit if y > 12 * unit else y + 11 * unit
    thin = box["kind"] == "labelled"
    opacity = 0.35 if shared and not thin else 1
    text = (
        ""
        if shared
        else (
            f'<text x="{x + 1.5 * unit:.1f}" y="{baseline:.1f}" font-size="{9 * unit:.1f}" font-family="sans-serif" '
            f'fill="{colour}" stroke="white" stroke-width="{2.4 * unit:.2f}" paint-order="stroke">{label}</text>'
        )
    )
    return (
        f'<g opacity="{opacity}"><title>{label} · {escape(box["kind"])}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="transparent" stroke="{colour}" '
        f'stroke-width="{(0.6 if thin else 1.8) * unit:.2f}" stroke-dasharray="{dashes}"/>{text}</g>'
    )


def _sentence(sample: SampleImage) -> str:
    counts = prediction_counts([sample])
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) + f" in {sample['name']}"
