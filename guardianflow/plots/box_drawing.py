"""Boxes drawn into a picture, as a JPEG: what a notebook shows though nobody trusts it, and stores once."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

from guardianflow.plots.font import font_file

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont

__all__ = ["DrawnBox", "draw_boxes", "draw_dashed", "jpeg", "letters"]


@dataclass(frozen=True)
class DrawnBox:
    """A box, corners in pixels of the picture.

    Attributes:
        text: On a plate at its upper edge; empty: none.
        colour: As ``#rrggbb``.
        dash: Lengths of line and gap; empty: drawn through.
        width: Of the line.
    """

    corners: tuple[float, float, float, float]
    text: str
    colour: str
    dash: tuple[int, ...] = ()
    width: int = 2


def letters(text: str, size: int) -> PIL.ImageFont.FreeTypeFont:
    """A font that has all letters of a text."""
    from PIL import ImageFont

    return ImageFont.truetype(str(font_file(text)), size)


def draw_boxes(picture: PIL.Image.Image, boxes: Sequence[DrawnBox], font: PIL.ImageFont.FreeTypeFont) -> None:
    """Draw boxes into a picture; the first lies on top."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    for box in reversed(boxes):
        x1, y1, x2, y2 = box.corners
        edges = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
        draw_dashed(draw, edges, box)
    for box in reversed(boxes):  # no line runs through a text
        if box.text:
            _draw_plate(draw, box, picture.width, font)


def draw_dashed(draw: PIL.ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], style: DrawnBox) -> None:
    """A line through some points."""
    for begin, end in pairwise(points):
        for part in _dashes(begin, end, style.dash):
            draw.line(part, fill=style.colour, width=style.width)


def _dashes(
    begin: tuple[float, float], end: tuple[float, float], dash: tuple[int, ...]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    if not dash:
        yield begin, end
        return
    (x1, y1), (x2, y2) = begin, end
    length = max(abs(x2 - x1), abs(y2 - y1))
    at = 0.0
    for index, part in enumerate(cycle(dash)):
        if at >= length:
            return
        to = min(at + part, length)
        if index % 2 == 0:
            ends = [(x1 + (x2 - x1) * place / length, y1 + (y2 - y1) * place / length) for place in (at, to)]
            yield ends[0], ends[1]
        at = to


def _draw_plate(draw: PIL.ImageDraw.ImageDraw, box: DrawnBox, room: int, font: PIL.ImageFont.FreeTypeFont) -> None:
    from PIL import ImageColor

    left, _, right, bottom = draw.textbbox((0, 0), box.text, font=font)
    x = max(0.0, min(box.corners[0], room - (right - left) - 6))
    y = box.corners[1] - bottom - 4 if box.corners[1] > bottom + 4 else box.corners[1]
    draw.rectangle((x, y, x + right - left + 6, y + bottom + 4), fill=box.colour)
    red, green, blue = ImageColor.getrgb(box.colour)[:3]
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else "white"
    draw.text((x + 3, y + 1), box.text, fill=ink, font=font)


def jpeg(picture: PIL.Image.Image) -> bytes:
    """The picture as a file."""
    kept = io.BytesIO()
    picture.save(kept, "JPEG", quality=82)
    return kept.getvalue()
