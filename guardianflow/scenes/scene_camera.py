"""The camera of a generated scene, and the canvas its figures are drawn on.

World coordinates are metres on a flat ground: ``x`` to the right of the camera, ``y`` away from it,
``z`` up. Image coordinates are pixels with the origin at the top left corner of the top left pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Camera", "Canvas", "Colour", "Sprite"]

Array = NDArray[np.float32]
Colour = tuple[float, float, float]

_SUBPIXEL_BITS = 4
_ONE = 1 << _SUBPIXEL_BITS
_COVERED = 0.5


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on a mast, looking along ``y`` and down.

    Attributes:
        imgsz: Width and height of the image, in pixels.
        height: Of the lens above ground, in metres.
        pitch: Angle below the horizontal, in radians.
        focal: Focal length as a fraction of the image width.
    """

    imgsz: int
    height: float = 6.5
    pitch: float = math.radians(23.0)
    focal: float = 1.1

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return self.focal * self.imgsz

    @property
    def supersampling(self) -> int:
        """How many samples a pixel edge is drawn with."""
        return 3 if self.imgsz < 600 else 2

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where world points are seen.

        Args:
            points: ``(N, 3)`` in metres.

        Returns:
            ``(N, 3)``: ``u`` and ``v`` in pixels, and the depth along the optical axis in metres.
        """
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        y, below = points[:, 1], self.height - points[:, 2]
        depth = np.maximum(y * cos + below * sin, 0.3)
        scale = self.focal_px / depth
        half = self.imgsz / 2
        seen = np.empty((len(points), 3))
        seen[:, 0] = half + scale * points[:, 0]
        seen[:, 1] = half + scale * (below * cos - y * sin)
        seen[:, 2] = depth
        return seen

    def ground_of_pixels(self, samples: int = 1) -> tuple[Array, Array, Array]:
        """The ground seen through every pixel.

        Args:
            samples: Samples per pixel edge.

        Returns:
            ``x``, ``y`` and depth in metres, each ``(imgsz * samples, imgsz * samples)``; above the
            horizon depth is infinite and the others are zero.
        """
        size = self.imgsz * samples
        at = ((np.arange(size) + 0.5) / samples - self.imgsz / 2) / self.focal_px
        cos, sin = math.cos(self.pitch), math.sin(self.pitch)
        descent = at * cos + sin  # per metre of depth, by row
        with np.errstate(divide="ignore"):
            depth = np.where(descent > 1e-3, self.height / np.maximum(descent, 1e-3), np.inf)
        seen = np.where(np.isfinite(depth), depth, 0.0)
        x = np.outer(seen, at)
        y = np.repeat((seen * (cos - at * sin))[:, None], size, axis=1)
        far = np.repeat(depth[:, None], size, axis=1)
        return x.astype(np.float32), y.astype(np.float32), far.astype(np.float32)


@dataclass(frozen=True)
class Sprite:
    """One drawn figure, ready to be laid over an image.

    Attributes:
        left: Image column of the patch's first column; may lie outside the image.
        top: Image row of the patch's first row; may lie outside the image.
        colour: ``(h, w, 3)`` BGR 0–255, multiplied by alpha.
        alpha: ``(h, w)``, the share of each pixel that is covered, 0–1.
    """

    left: int
    top: int
    colour: Array
    alpha: Array

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Pixels that belong to the figure: at least half covered."""
        return self.alpha >= _COVERED

    def clip(self, imgsz: int) -> tuple[slice, slice, slice, slice] | None:
        """Rows and columns in the image, then in the patch; ``None`` when it lies outside."""
        height, width = self.alpha.shape
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + height, imgsz), min(self.left + width, imgsz)
        if top >= bottom or left >= right:
            return None
        rows, columns = slice(top, bottom), slice(left, right)
        return (rows, columns, slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left))


class Canvas:
    """A supersampled patch that polygons and circles are painted on, in painter's order.

    Args:
        camera: Gives the supersampling and the largest sensible patch.
        bounds: ``u0, v0, u1, v1`` in image pixels that the drawing will need.
    """

    def __init__(self, camera: Camera, bounds: tuple[float, float, float, float]) -> None:
        limit = float(camera.imgsz)
        u0, v0, u1, v1 = (min(max(value, -limit), 2 * limit) for value in bounds)
        self._samples = camera.supersampling
        self.left, self.top = math.floor(u0) - 1, math.floor(v0) - 1
        self._width = max(math.ceil(u1) + 1 - self.left, 1)
        self._height = max(math.ceil(v1) + 1 - self.top, 1)
        self._paint = np.zeros((self._height * self._samples, self._width * self._samples, 4), np.uint8)

    def to_patch(self, uv: NDArray[np.floating]) -> NDArray[np.float64]:
        """Image pixels ``(N, 2)`` as the samples that :meth:`fill` and :meth:`limb` take."""
        local = (uv - (self.left, self.top)) * self._samples - 0.5
        # Far outside the patch the exact place is of no matter, and must not overflow.
        bounded: NDArray[np.float64] = local.clip(-20_000.0, 20_000.0)
        return bounded

    def fill(self, local: NDArray[np.float64], colour: Colour) -> None:
        """Paint one polygon.

        Args:
            local: ``(N, 2)`` samples of the patch; the polygon need not be convex.
            colour: BGR, 0–255.
        """
        cv2.fillPoly(self._paint, [_fixed(local)], _opaque(colour), cv2.LINE_8, _SUBPIXEL_BITS)

    def limb(self, local: NDArray[np.float64], radii: tuple[float, float], colour: Colour) -> None:
        """Paint a tapered stroke with round ends.

        Args:
            local: ``(2, 2)``, both ends in samples of the patch.
            radii: At either end, in image pixels.
            colour: BGR, 0–255.
        """
        paint = _opaque(colour)
        (x0, y0), (x1, y1) = local.tolist()
        r0, r1 = radii[0] * self._samples, radii[1] * self._samples
        for x, y, radius in ((x0, y0, r0), (x1, y1, r1)):
            size = max(round(radius * _ONE), _ONE // 2)
            cv2.circle(self._paint, (round(x * _ONE), round(y * _ONE)), size, paint, -1, cv2.LINE_8, _SUBPIXEL_BITS)
        length = math.hypot(x1 - x0, y1 - y0)
        if length > 1e-6:
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            outline = [
                (x0 + nx * r0, y0 + ny * r0), (x1 + nx * r1, y1 + ny * r1),
                (x1 - nx * r1, y1 - ny * r1), (x0 - nx * r0, y0 - ny * r0),
            ]  # fmt: skip
            cv2.fillPoly(self._paint, [_fixed(np.array(outline))], paint, cv2.LINE_8, _SUBPIXEL_BITS)

    def finish(self) -> Sprite:
        """The patch at image resolution, its edges averaged over the samples."""
        small = cv2.resize(self._paint, (self._width, self._height), interpolation=cv2.INTER_AREA)
        values = small.astype(np.float32)
        return Sprite(self.left, self.top, values[..., :3], values[..., 3] / 255.0)


def _fixed(local: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(local * _ONE).astype(np.int32)


def _opaque(colour: Colour) -> tuple[int, int, int, int]:
    b, g, r = colour
    return (min(max(round(b), 0), 255), min(max(round(g), 0), 255), min(max(round(r), 0), 255), 255)
