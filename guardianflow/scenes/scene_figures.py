"""What is drawn: figures made of limbs and flat faces, in the painter's order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Camera, Canvas, Colour, Sprite

__all__ = ["Decal", "Figure", "Light", "Placement", "Solid", "add_solid", "panel", "scaled"]

Points = NDArray[np.float64]


def scaled(colour: Colour, factor: float) -> Colour:
    """A colour made lighter or darker."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


@dataclass(frozen=True)
class Light:
    """Where the light comes from.

    Attributes:
        sun: Unit vector towards the sun.
        ambient: Share of light that reaches a face turned away from the sun.
        shadow: How dark a cast shadow is, 0–1; 0 where nothing casts one.
        lamps: Whether vehicles have their lights on.
    """

    sun: tuple[float, float, float]
    ambient: float
    shadow: float
    lamps: bool

    def on(self, normal: Points) -> float:
        """Brightness of a face, 0–1, by the direction it faces."""
        towards = normal[0] * self.sun[0] + normal[1] * self.sun[1] + normal[2] * self.sun[2]
        return self.ambient + (1 - self.ambient) * max(0.0, float(towards))


@dataclass(frozen=True)
class Placement:
    """Position on the ground in metres and heading in radians (0 looks along ``x``)."""

    x: float
    y: float
    heading: float = 0.0

    def rectangle(self, half_length: float, half_width: float) -> list[tuple[float, float]]:
        """Corners of a rectangle on the ground around it, anticlockwise."""
        signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
        corners = self.to_world(np.array([(a * half_length, b * half_width, 0.0) for a, b in signs]))
        return [(float(x), float(y)) for x, y, _ in corners]

    def to_world(self, local: NDArray[np.floating]) -> Points:
        """Local points (forward, left, up) as world points, ``(N, 3)``."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        turn = np.array([(cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0)])
        world: Points = local @ turn + (self.x, self.y, 0.0)
        return world


@dataclass
class Figure:
    """Parts in painter's order, what casts a shadow, and where its lamps are.

    Attributes:
        level: How much light reaches it, by colour channel; what glows by itself is not dimmed.
        casters: What throws a shadow: points and a radius; radius 0 means the hull of the points.
        lamps: Where lights are seen, their colour and their reach in metres.
    """

    level: Colour = (1.0, 1.0, 1.0)
    _points: list[Points] = field(default_factory=list)
    _parts: list[tuple[tuple[float, float] | None, Colour]] = field(default_factory=list)
    casters: list[tuple[Points, float]] = field(default_factory=list)
    lamps: list[tuple[Points, Colour, float]] = field(default_factory=list)

    def face(self, points: Points, colour: Colour, *, glows: bool = False) -> None:
        """Add a flat polygon, ``(N, 3)`` in metres."""
        self._points.append(points)
        self._parts.append((None, colour if glows else self._dimmed(colour)))

    def limb(
        self, start: Points, end: Points, radii: tuple[float, float], colour: Colour, *, glows: bool = False
    ) -> None:
        """Add a tapered stroke between two points; radii in metres."""
        self._points.append(np.stack([start, end]))
        self._parts.append((radii, colour if glows else self._dimmed(colour)))

    def _dimmed(self, colour: Colour) -> Colour:
        b, g, r = self.level
        return (colour[0] * b, colour[1] * g, colour[2] * r)

    def draw(self, camera: Camera) -> Sprite:
        """Paint it as the camera sees it."""
        seen = camera.project(np.concatenate(self._points))
        scale = (camera.focal_px / seen[:, 2]).tolist()
        widest = max((max(radii) for radii, _ in self._parts if radii), default=0.0)
        margin = widest * max(scale)
        uv = seen[:, :2]
        (left, top), (right, bottom) = uv.min(axis=0) - margin, uv.max(axis=0) + margin
        canvas = Canvas(camera, (left, top, right, bottom))
        local = canvas.to_patch(uv)
        at = 0
        for points, (radii, colour) in zip(self._points, self._parts, strict=True):
            end = at + len(points)
            if radii is None:
                canvas.fill(local[at:end], colour)
            else:
                canvas.limb(local[at:end], (radii[0] * scale[at], radii[1] * scale[at + 1]), colour)
            at = end
        return canvas.finish()

    def cast(self, camera: Camera, light: Light, mask: NDArray[np.uint8]) -> None:
        """Paint its shadow on the ground into a mask of the image's size."""
        if not self.casters:
            return
        fallen = np.concatenate([points for points, _ in self.casters])
        fallen[:, 0] -= fallen[:, 2] * (light.sun[0] / light.sun[2])
        fallen[:, 1] = np.maximum(fallen[:, 1] - fallen[:, 2] * (light.sun[1] / light.sun[2]), 1.0)
        fallen[:, 2] = 0
        seen = camera.project(fallen)
        fixed = np.rint((seen[:, :2] - 0.5).clip(-8000, 8000) * 16).astype(np.int32)
        scale = (2 * camera.focal_px / seen[:, 2]).tolist()
        at = 0
        for points, radius in self.casters:
            part = fixed[at : at + len(points)]
            if radius:
                ends = part.tolist()
                cv2.line(mask, ends[0], ends[-1], 255, max(1, round(radius * scale[at])), cv2.LINE_AA, 4)
            else:
                cv2.fillConvexPoly(mask, cv2.convexHull(part), 255, cv2.LINE_AA, 4)
            at += len(points)


@dataclass(frozen=True)
class Decal:
    """A polygon on one face: corners as shares of the face's width and height, from its lower left.

    ``lit`` is its colour when the lamps are on, where it gives light of its own.
    """

    corners: Sequence[tuple[float, float]]
    colour: Colour
    lit: Colour | None = None


# Corner numbers of each face, lower left first, seen from outside. Corners: bottom 0–3, top 4–7,
# each rear right, front right, front left, rear left.
_FACES: dict[str, tuple[int, int, int, int]] = {
    "right": (0, 1, 5, 4),
    "front": (1, 2, 6, 5),
    "left": (2, 3, 7, 6),
    "rear": (3, 0, 4, 7),
    "top": (4, 5, 6, 7),
}


@dataclass(frozen=True)
class Solid:
    """A block with six flat faces, lengthwise along its heading, in metres.

    Attributes:
        bottom: Rear end, front end, half width and height above ground of the lower rim.
        top: Rear end, front end, half width, height at the rear and height at the front.
        paint: Colour of the faces.
        decals: Face name (``front``, ``rear``, ``left``, ``right``, ``top``) → what is on it.
    """

    bottom: tuple[float, float, float, float]
    top: tuple[float, float, float, float, float]
    paint: Colour
    decals: Mapping[str, Sequence[Decal]] = field(default_factory=dict)

    def corners(self) -> Points:
        """The eight corners in local coordinates, ``(8, 3)``."""
        rear, front, half, low = self.bottom
        rear_top, front_top, half_top, high_rear, high_front = self.top
        return np.array(
            [
                (rear, -half, low),
                (front, -half, low),
                (front, half, low),
                (rear, half, low),
                (rear_top, -half_top, high_rear),
                (front_top, -half_top, high_front),
                (front_top, half_top, high_front),
                (rear_top, half_top, high_rear),
            ]
        )


def add_solid(figure: Figure, solid: Solid, place: Placement, camera: Camera, light: Light) -> set[str]:
    """Add the faces of a block that the camera sees.

    Returns:
        The names of those faces.
    """
    corners = place.to_world(solid.corners())
    figure.casters.append((corners, 0.0))
    eye = np.array([0.0, 0.0, camera.height])
    seen = set()
    for name, numbers in _FACES.items():
        quad = corners[list(numbers)]
        normal = _normal(quad)
        if float(normal @ (eye - quad[0])) <= 0:
            continue
        seen.add(name)
        brightness = light.on(normal)
        figure.face(quad, scaled(solid.paint, brightness))
        for decal in solid.decals.get(name, ()):
            glows = light.lamps and decal.lit is not None
            colour = decal.lit if light.lamps and decal.lit else scaled(decal.colour, max(brightness, 0.75))
            figure.face(_on_face(quad, decal.corners), colour, glows=glows)
    return seen


def _normal(quad: Points) -> Points:
    """Unit vector that a face looks along."""
    (ax, ay, az), (bx, by, bz) = (quad[1] - quad[0]).tolist(), (quad[3] - quad[0]).tolist()
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = math.sqrt(x * x + y * y + z * z)
    return np.array([x / length, y / length, z / length])


def panel(x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[float, float], ...]:
    """Corners of an upright rectangle on a face."""
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _on_face(quad: Points, corners: Sequence[tuple[float, float]]) -> Points:
    share = np.array(corners)
    s, t = share[:, :1], share[:, 1:]
    result: Points = (quad[0] * (1 - s) + quad[1] * s) * (1 - t) + (quad[3] * (1 - s) + quad[2] * s) * t
    return result
