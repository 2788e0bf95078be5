"""Pictures with their boxes on one sheet, with a legend above and words at each."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardianflow.plots.box_drawing import DrawnBox, draw_boxes, draw_dashed, letters
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFont

    Font = PIL.ImageFont.FreeTypeFont

__all__ = ["Tile", "contact_sheet"]

_TEXT_PX = 15
_LINE_PX = 21
_GAP_PX = 14
_LEGEND_PX = 40
_FAINT = 0.35
_INK = "#1F2933"
_NO_PHOTOGRAPH = "#E3E6EB"


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        jpeg: The photograph in base64; empty without one.
        width: Of the image, in any unit.
        height: Likewise.
        boxes: Corners as fractions of the image's width and height; the first lies on top.
        faint: Boxes that stand back.
        above: Words.
        below: Words.
    """

    jpeg: str
    width: int
    height: int
    boxes: Sequence[DrawnBox]
    faint: Sequence[DrawnBox] = ()
    above: str = ""
    below: str = ""

    def texts(self) -> Iterator[str]:
        """All that is written."""
        yield from (self.above, self.below, *(box.text for box in (*self.boxes, *self.faint)))


def contact_sheet(
    tiles: Sequence[Tile], legend: Sequence[tuple[DrawnBox | None, str]], *, columns: int, tile_px: int
) -> PIL.Image.Image:
    """Draw the sheet.

    Args:
        tiles: The pictures, row by row.
        legend: A line's style and what it means; without a style the words alone.
        columns: Pictures in a row.
        tile_px: Width of each, and its greatest height.
    """
    from PIL import ImageOps

    texts = [text for _, text in legend] + [text for tile in tiles for text in tile.texts()]
    font = letters("".join(map(printable, texts)), _TEXT_PX)
    drawn = [_tile(tile, tile_px, font) for tile in tiles]
    rows = [_beside(drawn[place : place + columns], tile_px) for place in range(0, len(drawn), columns)]
    width = columns * (tile_px + _GAP_PX) - _GAP_PX
    return ImageOps.expand(_below([_legend(legend, width, font), *rows], _GAP_PX), _GAP_PX, "white")


def _tile(tile: Tile, side: int, font: Font) -> PIL.Image.Image:
    from PIL import Image

    scale = side / max(tile.width, tile.height)
    size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
    if tile.jpeg:
        photograph = Image.open(io.BytesIO(base64.b64decode(tile.jpeg))).convert("RGB").resize(size)
    else:
        photograph = Image.new("RGB", size, _NO_PHOTOGRAPH)
    if tile.faint:
        behind = photograph.copy()
        draw_boxes(behind, _in_pixels(tile.faint, size), font)
        photograph = Image.blend(photograph, behind, _FAINT)
    draw_boxes(photograph, _in_pixels(tile.boxes, size), font)
    words = [_words(printable(text), side, font) for text in (tile.above, tile.below)]
    return _below([words[0], photograph, words[1]], 3)


def _in_pixels(boxes: Sequence[DrawnBox], size: tuple[int, int]) -> list[DrawnBox]:
    width, height = size
    found = []
    for box in boxes:
        x1, y1, x2, y2 = box.corners
        corners = (x1 * (width - 1), y1 * (height - 1), x2 * (width - 1), y2 * (height - 1))
        found.append(DrawnBox(corners, printable(box.text), box.colour, box.dash, box.width))
    return found


def _words(text: str, width: int, font: Font) -> PIL.Image.Image:
    """A text in lines; a word that is too long is broken, as file names must be."""
    from PIL import Image, ImageDraw

    lines = [""] if text else []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip() if lines else ""
        if font.getlength(joined) <= width:
            lines[-1:] = [joined] if lines else []
            continue
        lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    lines = [line for line in lines if line]
    image = Image.new("RGB", (width, _LINE_PX * len(lines)), "white")
    for place, line in enumerate(lines):
        ImageDraw.Draw(image).text((0, place * _LINE_PX), line, fill=_INK, font=font)
    return image


def _legend(entries: Sequence[tuple[DrawnBox | None, str]], width: int, font: Font) -> PIL.Image.Image:
    from PIL import Image, ImageDraw

    x, y, places = 0, 0, []
    for style, text in entries:
        needed = _LEGEND_PX * bool(style) + round(font.getlength(text)) + 2 * _GAP_PX
        if x and x + needed - 2 * _GAP_PX > width:
            x, y = 0, y + _LINE_PX
        places.append((x, y, style, text))
        x += needed
    image = Image.new("RGB", (width, y + _LINE_PX), "white")
    draw = ImageDraw.Draw(image)
    for x, y, style, text in places:
        middle = y + _LINE_PX // 2
        if style:
            draw_dashed(draw, [(x, middle), (x + _LEGEND_PX - 6, middle)], style)
        draw.text((x + _LEGEND_PX * bool(style), y), text, fill=_INK, font=font)
    return image


def _beside(images: Sequence[PIL.Image.Image], column: int) -> PIL.Image.Image:
    from PIL import Image

    row = Image.new("RGB", (len(images) * (column + _GAP_PX) - _GAP_PX, max(image.height for image in images)), "white")
    for place, image in enumerate(images):
        row.paste(image, (place * (column + _GAP_PX), 0))
    return row


def _below(images: Sequence[PIL.Image.Image], gap: int) -> PIL.Image.Image:
    from PIL import Image

    shown = [image for image in images if image.height]
    whole = Image.new("RGB", (max(image.width for image in shown), sum(i.height + gap for i in shown) - gap), "white")
    y = 0
    for image in shown:
        whole.paste(image, (0, y))
        y += image.height + gap
    return whole
