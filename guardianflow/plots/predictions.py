"""Predictions as a picture: images with their found, missed and imagined objects, of one model or of two side by side.

A JPEG, because a notebook that isn't trusted shows no drawing in HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from guardianflow.plots.box_drawing import DrawnBox, jpeg
from guardianflow.plots.contact_sheet import Tile, contact_sheet
from guardianflow.plots.palette import BLUE, GREEN, ORANGE, VERMILION

__all__ = ["PairBox", "PairGallery", "PairImage", "PredictionGallery", "SampleBox", "SampleImage", "prediction_counts"]

_NOWHERE = (0.0, 0.0, 0.0, 0.0)
_STYLES = {
    "found": DrawnBox(_NOWHERE, "found", BLUE),
    "imagined": DrawnBox(_NOWHERE, "imagined: no such object is labelled", ORANGE, (8, 5)),
    "missed": DrawnBox(_NOWHERE, "missed: labelled, not found", VERMILION, (3, 4)),
    "labelled": DrawnBox(_NOWHERE, "thin: labelled", GREEN, width=1),
}
_ALONE = {"found": "found by this model alone", "imagined": "imagined by this model alone: no such object is labelled",
          "missed": "missed by this model alone", "labelled": "thin: labelled"}  # fmt: skip


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
    counts = dict.fromkeys(("found", "imagined", "missed"), 0)
    for sample in samples:
        for box in sample["boxes"]:
            counts[box["kind"]] += 1
    return counts


@dataclass(frozen=True, repr=False)
class PredictionGallery:
    """Sample images with boxes; a notebook shows them as one picture.

    Attributes:
        samples: What :func:`guardianflow.vision.samples.sample_predictions` gives.
    """

    samples: Sequence[SampleImage]

    def __repr__(self) -> str:
        if not self.samples:
            return "No labelled images to show."
        names = ", ".join(sample["name"] for sample in self.samples)
        return f"{_counted(self.samples)} in {names}"

    def _repr_jpeg_(self) -> bytes | None:
        if not self.samples:
            return None
        counts = prediction_counts(self.samples)
        legend = [(_STYLES[kind], f"{count} {_STYLES[kind].text}") for kind, count in counts.items()]
        tiles = [
            Tile(
                image["jpeg"], image["width"], image["height"], _drawn(image["boxes"]),
                below=f"{image['name']}: {_counted([image])}",
            )
            for image in self.samples
        ]  # fmt: skip
        return jpeg(contact_sheet(tiles, legend, columns=3, tile_px=400))


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        if not self.images:
            return f"From a confidence of {self.confidence:g} on the two show the same on every image."
        lines = [f"{image['name']}: {'; '.join(self._said(image))}" for image in self.images]
        return "\n".join([*lines, *self._bare()])

    def _repr_jpeg_(self) -> bytes | None:
        if not self.images:
            return None
        legend: list[tuple[DrawnBox | None, str]] = [(style, _ALONE[kind]) for kind, style in _STYLES.items()]
        legend += [(None, text) for text in ("faint: both alike", *self._bare())]
        tiles = [tile for image in self.images for tile in self._sides(image)]
        return jpeg(contact_sheet(tiles, legend, columns=2, tile_px=520))

    def _bare(self) -> list[str]:
        without = not all(image["jpeg"] for image in self.images)
        return ["boxes on grey: the photograph is not on this machine, or was changed since"] if without else []

    def _said(self, image: PairImage) -> list[str]:
        return [_alone_text(name, boxes) for name, boxes in zip(self.names, image["sides"], strict=True)]

    def _sides(self, image: PairImage) -> Iterator[Tile]:
        for side, said in zip(image["sides"], self._said(image), strict=True):
            faint = [box for box in side if box["shared"] and box["kind"] != "labelled"]
            labelled = [box for box in side if box["kind"] == "labelled"]
            bright = [box for box in side if box not in faint and box not in labelled]
            yield Tile(
                image["jpeg"], image["width"], image["height"],
                [*_drawn(bright), *_drawn(labelled, named=False)], _drawn(faint, named=False), said, image["name"],
            )  # fmt: skip


def _alone_text(name: str, boxes: Sequence[PairBox]) -> str:
    """``"B finds 3 that the other misses and imagines 1 of its own"``."""
    alone = [box["kind"] for box in boxes if not box["shared"]]
    found, imagined = alone.count("found"), alone.count("imagined")
    parts = [f"finds {found} that the other misses"] if found else []
    parts += [f"imagines {imagined} of its own"] if imagined else []
    return f"{name} {' and '.join(parts) or 'shows nothing of its own'}"


def _counted(samples: Sequence[SampleImage]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in prediction_counts(samples).items())


def _drawn(boxes: Sequence[SampleBox], *, named: bool = True) -> list[DrawnBox]:
    return [
        replace(
            _STYLES[box["kind"]],
            corners=(box["x1"], box["y1"], box["x2"], box["y2"]),
            text=_label(box) if named else "",
        )
        for box in boxes
    ]


def _label(box: SampleBox) -> str:
    return box["name"] if box["confidence"] is None else f"{box['name']} {box['confidence']:.2f}"
