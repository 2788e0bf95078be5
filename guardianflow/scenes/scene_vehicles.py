"""Vehicles of the generated scenes: cars, vans and trucks as blocks with windows, wheels and lights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from guardianflow.scenes.scene_camera import Camera, Colour
from guardianflow.scenes.scene_figures import Decal, Figure, Light, Placement, Points, Solid, add_solid, panel, scaled

__all__ = ["MODELS", "VehicleLook", "VehicleModel", "draw_vehicle", "random_vehicle"]

# Colours are BGR.
_PAINTS: tuple[Colour, ...] = (
    (225, 225, 228), (190, 192, 195), (120, 122, 125), (48, 46, 46), (45, 40, 175), (160, 80, 35),
    (110, 60, 25), (60, 95, 60), (60, 150, 215), (150, 165, 175), (190, 150, 90),
)  # fmt: skip
_GLASS: Colour = (78, 66, 56)
_SHEEN: Colour = (150, 135, 120)
_RUBBER: Colour = (30, 30, 32)
_RIM: Colour = (165, 165, 168)
_TRIM: Colour = (45, 45, 48)
_HEADLIGHT: Colour = (235, 245, 250)
_TAILLIGHT: Colour = (45, 40, 215)
_PLATE: Colour = (235, 235, 235)


@dataclass(frozen=True)
class VehicleModel:
    """Proportions, in metres.

    Attributes:
        length: Bumper to bumper.
        width: Without mirrors.
        belt: Height of the lower body at the rear and at the front (bonnet).
        cabin: Rear end, front end at the belt; rear end, front end at the roof, as shares of the
            length from the rear bumper.
        roof: Height of the roof.
        wheel: Radius of the wheels.
        cargo: Rear end, front end (shares of the length) and height of a box behind the cab, if any.
        glazed: Whether the cabin has side windows all along (a van has them only in front).
    """

    length: float
    width: float
    belt: tuple[float, float]
    cabin: tuple[float, float, float, float]
    roof: float
    wheel: float
    cargo: tuple[float, float, float] | None = None
    glazed: bool = True


MODELS: Mapping[str, VehicleModel] = MappingProxyType(
    {
        "hatchback": VehicleModel(4.0, 1.75, (0.95, 0.84), (0.02, 0.72, 0.08, 0.52), 1.50, 0.31),
        "sedan": VehicleModel(4.6, 1.80, (0.95, 0.84), (0.13, 0.73, 0.26, 0.56), 1.46, 0.32),
        "suv": VehicleModel(4.6, 1.90, (1.08, 1.00), (0.02, 0.74, 0.06, 0.58), 1.75, 0.36),
        "pickup": VehicleModel(5.1, 1.90, (1.02, 1.00), (0.38, 0.76, 0.41, 0.64), 1.78, 0.38),
        "van": VehicleModel(5.0, 2.00, (1.15, 1.05), (0.005, 0.88, 0.01, 0.74), 2.25, 0.35, glazed=False),
        "truck": VehicleModel(6.0, 2.20, (0.95, 1.20), (0.77, 0.985, 0.78, 0.94), 2.35, 0.45, (0.0, 0.74, 2.85)),
    }
)
_SHARES = (0.26, 0.24, 0.20, 0.08, 0.13, 0.09)


@dataclass(frozen=True)
class VehicleLook:
    """A name of :data:`MODELS`, its paint, and the colour of its cargo box."""

    model: str
    paint: Colour
    box: Colour = (215, 215, 215)

    @property
    def shape(self) -> VehicleModel:
        """Its proportions."""
        return MODELS[self.model]


def random_vehicle(rng: np.random.Generator) -> VehicleLook:
    """A car, van or truck in a random paint."""
    name = str(rng.choice(list(MODELS), p=_SHARES))
    b, g, r = _PAINTS[int(rng.integers(len(_PAINTS)))]
    shift = rng.uniform(-14, 14, 3)
    box = (215.0, 215.0, 215.0) if rng.random() < 0.6 else _PAINTS[int(rng.integers(len(_PAINTS)))]
    return VehicleLook(name, (b + float(shift[0]), g + float(shift[1]), r + float(shift[2])), box)


def draw_vehicle(
    look: VehicleLook, place: Placement, camera: Camera, light: Light, level: Colour = (1.0, 1.0, 1.0)
) -> Figure:
    """A vehicle standing on the ground.

    Args:
        look: Model and colours.
        place: The middle of its footprint, and its heading.
        camera: Who looks.
        light: Where the light comes from, and whether its lamps are on.
        level: How much light there is, by colour channel.

    Returns:
        The figure in painter's order, with its lamps where they are on and in sight.
    """
    figure = Figure(level)
    lower, uppers = _solids(look)
    eye_left = -place.x * -math.sin(place.heading) + -place.y * math.cos(place.heading)
    near = 1 if eye_left > 0 else -1
    _wheels(figure, look, place, light, -near)
    faces = add_solid(figure, lower, place, camera, light)
    if {"left", "right"} & faces:
        _wheels(figure, look, place, light, near)
    for solid in sorted(uppers, key=lambda part: -_distance(part, place)):
        add_solid(figure, solid, place, camera, light)
    if light.lamps:
        _lamps(figure, look, place, faces)
    return figure


def _solids(look: VehicleLook) -> tuple[Solid, list[Solid]]:
    shape = look.shape
    rear, half = -shape.length / 2, shape.width / 2
    rear_belt, front_belt = shape.belt
    clearance = shape.wheel * 0.62
    lower = Solid(
        (rear + 0.06, rear + shape.length - 0.06, half * 0.98, clearance),
        (rear, rear + shape.length, half, rear_belt, front_belt),
        look.paint,
        _body_decals(),
    )
    a, b, c, d = (rear + share * shape.length for share in shape.cabin)
    front_of_cabin = rear_belt + (front_belt - rear_belt) * shape.cabin[1]
    cabin = Solid(
        (a, b, half * 0.95, min(rear_belt, front_of_cabin) - 0.02),
        (c, d, half * (0.78 if shape.glazed and not shape.cargo else 0.90), shape.roof, shape.roof),
        look.paint,
        _cabin_decals(shape),
    )
    if shape.cargo is None:
        return lower, [cabin]
    start, end, height = shape.cargo
    box = Solid(
        (rear + start * shape.length, rear + end * shape.length, half, rear_belt - 0.1),
        (rear + start * shape.length, rear + end * shape.length, half, height, height),
        look.box,
        {"rear": (Decal(panel(0.48, 0.03, 0.52, 0.97), scaled(look.box, 0.6)),)},
    )
    return lower, [cabin, box]


def _body_decals() -> dict[str, tuple[Decal, ...]]:
    lamps_front = tuple(Decal(panel(x, 0.55, x + 0.2, 0.85), _HEADLIGHT, (225, 248, 255)) for x in (0.04, 0.76))
    lamps_rear = tuple(Decal(panel(x, 0.52, x + 0.16, 0.86), _TAILLIGHT, (60, 50, 250)) for x in (0.03, 0.81))
    bumper = Decal(panel(0.0, 0.0, 1.0, 0.2), _TRIM)
    plate = Decal(panel(0.38, 0.22, 0.62, 0.40), _PLATE)
    side = (
        Decal(panel(0.0, 0.0, 1.0, 0.14), _TRIM),
        *(Decal(panel(x, 0.14, x + 0.006, 0.98), _TRIM) for x in (0.36, 0.56, 0.74)),
    )
    grille = Decal(panel(0.28, 0.48, 0.72, 0.82), _TRIM)
    return {
        "front": (bumper, grille, plate, *lamps_front),
        "rear": (bumper, plate, *lamps_rear),
        "left": side,
        "right": side,
    }


def _cabin_decals(shape: VehicleModel) -> dict[str, tuple[Decal, ...]]:
    low = 0.10 if shape.glazed else 0.30
    wind = (
        Decal(panel(0.06, low, 0.94, 0.90), _GLASS),
        Decal(((0.12, low), (0.34, low), (0.60, 0.90), (0.38, 0.90)), _SHEEN),
    )
    rear = (Decal(panel(0.08, 0.2 if shape.glazed else 0.55, 0.92, 0.88), _GLASS),)
    # On the left face shares run from the front to the rear, on the right face the other way.
    spans = ((0.10, 0.46), (0.50, 0.88)) if shape.glazed and not shape.cargo else ((0.12, 0.36),)
    if shape.cargo:
        spans = ((0.18, 0.80),)
    left = tuple(Decal(panel(x0, low + 0.02, x1, 0.88), _GLASS) for x0, x1 in spans)
    right = tuple(Decal(panel(1 - x1, low + 0.02, 1 - x0, 0.88), _GLASS) for x0, x1 in spans)
    return {"front": wind, "rear": rear, "left": left, "right": right}


_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 14, False)), np.sin(np.linspace(0, 2 * np.pi, 14, False))], axis=1)


def _wheels(figure: Figure, look: VehicleLook, place: Placement, light: Light, side: int) -> None:
    shape = look.shape
    radius, half = shape.wheel, shape.width / 2
    shade = 0.6 + 0.4 * light.ambient
    for share in (0.19, 0.80):
        forward = (share - 0.5) * shape.length

        def ring(size: float, left: float, forward: float = forward) -> Points:
            circle = _CIRCLE * size
            flat = np.full(len(circle), left)
            return place.to_world(np.stack([circle[:, 0] + forward, flat, circle[:, 1] + radius], axis=1))

        outer, inner = ring(radius, side * half), ring(radius, side * (half - 0.24))
        arch = ring(radius * 1.12, side * half * 0.995)
        arch[:, 2] = np.maximum(arch[:, 2], radius * 0.6)  # it ends at the sill
        figure.face(arch, scaled(_RUBBER, 0.6))
        figure.face(_outline_of(np.concatenate([outer, inner])), scaled(_RUBBER, shade))
        figure.face(outer, scaled(_RUBBER, shade))
        figure.face(ring(radius * 0.6, side * half * 1.005), scaled(_RIM, shade))
        figure.face(ring(radius * 0.2, side * half * 1.01), scaled(_TRIM, shade))
        figure.casters.append((outer, 0.0))


def _outline_of(points: Points) -> Points:
    """The two rings of a tyre as one outline: their hull as seen from the camera's mast."""
    away = np.hypot(points[:, 0], points[:, 1])
    flat = np.stack([points[:, 0] / away, points[:, 2] / away], axis=1).astype(np.float32)
    outline: Points = points[cv2.convexHull(flat, returnPoints=False)[:, 0]]
    return outline


def _lamps(figure: Figure, look: VehicleLook, place: Placement, faces: set[str]) -> None:
    shape = look.shape
    half = shape.width / 2
    height = shape.wheel * 0.62 + 0.7 * (shape.belt[1] - shape.wheel * 0.62)
    for face, forward, colour, size in (
        ("front", shape.length / 2, (205.0, 235.0, 255.0), 0.75),
        ("rear", -shape.length / 2, (30.0, 30.0, 235.0), 0.42),
    ):
        if face in faces:
            local = np.array([(forward, side * half * 0.72, height) for side in (-1, 1)])
            figure.lamps.append((place.to_world(local), colour, size))


def _distance(solid: Solid, place: Placement) -> float:
    middle = np.array([[(solid.bottom[0] + solid.bottom[1]) / 2, 0.0, 0.0]])
    x, y, _ = place.to_world(middle)[0]
    return math.hypot(x, y)
