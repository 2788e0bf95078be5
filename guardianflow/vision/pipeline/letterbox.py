"""The one square letterbox: an image scaled into a square with its shape kept, grey around it.

Geometry and values are those of Ultralytics' ``LetterBox(auto=False, scaleup=True, center=True)`` followed by
its predictor's conversion to floats, to the bit; written straight into a buffer that is used again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PADDING", "Letterboxer", "Placement", "letterbox"]

PADDING = 114
"""Value of the grey around the image, 0–255; the one that Ultralytics trains with."""

_GREY = np.float32(PADDING) / np.float32(255)
_WHITE = np.float32(255)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in the square.

    Attributes:
        width: Of the original image, in pixels.
        height: As width.
        inner_width: Of the image within the square, in pixels.
        inner_height: As inner_width.
        left: Columns of padding left of it.
        top: Rows of padding above it.
        imgsz: Side of the square.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int
    imgsz: int

    @classmethod
    def of(cls, width: int, height: int, imgsz: int) -> Placement:
        """Place an image of this size; formulas of ``ultralytics.data.augment.LetterBox.get_params``."""
        scale = min(imgsz / height, imgsz / width)
        inner_width, inner_height = max(round(width * scale), 1), max(round(height * scale), 1)
        left = round((imgsz - inner_width) / 2 - 0.1)
        top = round((imgsz - inner_height) / 2 - 0.1)
        return cls(width, height, inner_width, inner_height, left, top, imgsz)

    @property
    def scale(self) -> float:
        """Side in the square / side in the original image, before rounding to pixels."""
        return min(self.imgsz / self.height, self.imgsz / self.width)

    def to_image(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Corners in pixels of the square to pixels of the original image, clipped to it.

        Args:
            boxes: float32 (n, 4), x1 y1 x2 y2; not changed.

        Returns:
            float32 (n, 4). Each side has its own gain, since each was rounded to pixels by itself
            (as ``ultralytics.utils.ops.scale_boxes``).
        """
        gain_x, gain_y = self.inner_width / self.width, self.inner_height / self.height
        shift = np.array((self.left, self.top, self.left, self.top), np.float32)
        moved: npt.NDArray[np.float32] = boxes - shift
        moved /= np.array((gain_x, gain_y, gain_x, gain_y), np.float32)
        np.maximum(moved, np.float32(0), out=moved)
        np.minimum(moved, np.array((self.width, self.height, self.width, self.height), np.float32), out=moved)
        return moved


class Letterboxer:
    """Writes images into squares, with scratch memory of its own: one for each thread.

    Args:
        imgsz: Side of the squares, in pixels.
    """

    def __init__(self, imgsz: int) -> None:
        self.imgsz = imgsz
        self._resized = np.empty(imgsz * imgsz * 3, np.uint8)
        self._planes = np.empty(imgsz * imgsz * 3, np.uint8)

    def write(
        self, image: npt.NDArray[np.uint8], out: npt.NDArray[np.float32], *, before: Placement | None = None
    ) -> Placement:
        """Letterbox an image into a square.

        Args:
            image: uint8 (H, W, 3), BGR, C-contiguous.
            out: float32 (3, imgsz, imgsz): becomes RGB, 0–1.
            before: What ``out`` held, if this class wrote it: the padding is left alone where it lies alike.
        """
        import cv2

        height, width = image.shape[:2]
        placed = Placement.of(width, height, self.imgsz)
        shape = (placed.inner_height, placed.inner_width)
        count = shape[0] * shape[1]
        if shape != (height, width):
            resized = self._resized[: count * 3].reshape(*shape, 3)
            image = cv2.resize(image, shape[::-1], dst=resized, interpolation=cv2.INTER_LINEAR)
        planes = self._planes[: count * 3].reshape(3, *shape)
        cv2.split(image, [planes[2], planes[1], planes[0]])  # BGR to RGB
        top, left = placed.top, placed.left
        bottom, right = top + shape[0], left + shape[1]
        # Divided, not multiplied by 1/255: half of the 256 values would differ from Ultralytics' in the last bit.
        np.divide(planes, _WHITE, out=out[:, top:bottom, left:right])
        if before is None or (before.inner_width, before.inner_height) != shape[::-1]:
            out[:, :top], out[:, bottom:] = _GREY, _GREY
            out[:, top:bottom, :left], out[:, top:bottom, right:] = _GREY, _GREY
        return placed


def letterbox(
    image: npt.NDArray[np.uint8], imgsz: int, *, out: npt.NDArray[np.float32] | None = None
) -> tuple[npt.NDArray[np.float32], Placement]:
    """One image as the square that a model takes.

    Args:
        image: uint8 (H, W, 3), BGR.
        imgsz: Side of the square, in pixels.
        out: float32 (3, imgsz, imgsz) to write to; ``None`` makes one.

    Returns:
        float32 (3, imgsz, imgsz), RGB, 0–1, and where the image lies in it.
    """
    square = np.empty((3, imgsz, imgsz), np.float32) if out is None else out
    return square, Letterboxer(imgsz).write(np.ascontiguousarray(image), square)
