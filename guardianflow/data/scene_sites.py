"""The sites of the generated scenes: their ground, buildings and props, and where movers may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from guardianflow.data.scene_camera import Camera, Colour
from guardianflow.data.scene_figures import Decal, Figure, Light, Placement, Points, Solid, add_solid, panel, scaled

__all__ = ["CLUTTER", "SITES", "Area", "Prop", "Site", "Way", "draw_prop"]

# Colours are BGR; all lengths are metres.
_ASPHALT: Colour = (104, 102, 100)
_WORN: Colour = (116, 114, 112)
_PAVING: Colour = (146, 152, 156)
_KERB: Colour = (172, 176, 178)
_GRASS: Colour = (62, 112, 86)
_LINE: Colour = (208, 212, 214)
_STEEL: Colour = (128, 126, 122)


@dataclass(frozen=True)
class Area:
    """A painted polygon on the ground and how rough its surface is (grey levels)."""

    corners: tuple[tuple[float, float], ...]
    colour: Colour
    rough: float = 6.0


@dataclass(frozen=True)
class Way:
    """A route that movers follow, and how far they may stray to either side."""

    points: tuple[tuple[float, float], ...]
    spread: float = 0.0


@dataclass(frozen=True)
class Prop:
    """A thing that stands still: its kind, place, size factor and half footprint."""

    kind: str
    place: Placement
    size: float = 1.0


@dataclass(frozen=True)
class Site:
    """One site as its camera sees it.

    Attributes:
        areas: Ground, painted in order.
        facades: Blocks at the back that nothing passes behind.
        props: What stands around and may hide a mover.
        lanes: Routes of vehicles.
        bays: Where vehicles park.
        walks: Routes of people.
        lamps: Ground positions of street lamps.
        clutter: ``x0, y0, x1, y1`` rectangles where small things may lie.
    """

    areas: tuple[Area, ...]
    facades: tuple[tuple[Solid, Placement], ...]
    props: tuple[Prop, ...]
    lanes: tuple[Way, ...]
    walks: tuple[Way, ...]
    clutter: tuple[tuple[float, float, float, float], ...]
    bays: tuple[Placement, ...] = ()
    lamps: tuple[tuple[float, float], ...] = field(default=())


def _rectangle(x0: float, y0: float, x1: float, y1: float, colour: Colour, rough: float = 6.0) -> Area:
    return Area(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour, rough)


def _dashes(y: float, x0: float, x1: float, step: float) -> tuple[Area, ...]:
    starts = np.arange(x0, x1, step)
    return tuple(_rectangle(float(x), y - 0.07, float(x) + step * 0.5, y + 0.07, _LINE, 3.0) for x in starts)


def _building(length: float, depth: float, height: float, paint: Colour, storeys: int, columns: int) -> Solid:
    """A block whose front (its right face, towards the camera) has rows of windows."""
    glass: list[Decal] = []
    for row in range(storeys):
        for column in range(columns):
            x, y = (column + 0.22) / columns, (row + 0.35) / storeys
            tone = 0.8 + 0.35 * ((row * 7 + column * 5) % 4) / 3
            colour = scaled((120, 104, 88), tone)
            glows = (row * 3 + column * 5) % 7 == 0
            glass.append(Decal(panel(x, y, x + 0.56 / columns, y + 0.42 / storeys), colour, (110, 190, 235) if glows else None))
    base = Decal(panel(0, 0, 1, 0.05), scaled(paint, 0.6))
    return Solid(
        (-length / 2, length / 2, depth / 2, 0.0),
        (-length / 2, length / 2, depth / 2, height, height),
        paint,
        {"right": (base, *glass)},
    )


def _hall(length: float, height: float, paint: Colour, gates: tuple[float, ...]) -> Solid:
    """A low industrial hall with roller doors."""
    ribs = tuple(Decal(panel(x, 0, x + 0.004, 1), scaled(paint, 0.9)) for x in np.linspace(0.02, 0.98, 40))
    doors: list[Decal] = []
    for x in gates:
        doors.append(Decal(panel(x, 0, x + 0.10, 0.62), (98, 92, 88)))
        doors += [Decal(panel(x, y, x + 0.10, y + 0.012), (120, 114, 110)) for y in (0.12, 0.24, 0.36, 0.48)]
    band = Decal(panel(0, 0.82, 1, 0.92), (150, 95, 40))
    return Solid(
        (-length / 2, length / 2, 3.0, 0.0),
        (-length / 2, length / 2, 3.0, height, height),
        paint,
        {"right": (*ribs, band, *doors)},
    )


def _gate() -> Site:
    wall = tuple(
        Prop("wall", Placement(x, 22.0), 1.0) for x in (-16.5, -13.5, -10.5, -7.5, -4.5, -1.5, 9.5, 12.5, 15.5, 18.5)
    )
    return Site(
        areas=(
            _rectangle(-60, 1, 60, 200, _GRASS, 13.0),
            _rectangle(-40, 15.6, 40, 30, _PAVING, 7.0),
            _rectangle(-40, 8.8, 40, 15.2, _ASPHALT),
            _rectangle(0.4, 15.0, 7.6, 60, _ASPHALT),
            Area(((-1.2, 15.2), (0.4, 17.0), (7.6, 17.0), (9.2, 15.2)), _ASPHALT),
            _rectangle(-40, 15.2, -1.2, 15.6, _KERB, 4.0),
            _rectangle(9.2, 15.2, 40, 15.6, _KERB, 4.0),
            _rectangle(-40, 8.4, 40, 8.8, _KERB, 4.0),
            _rectangle(-40, 6.3, 40, 8.4, _PAVING, 7.0),
            *_dashes(12.0, -20, 20, 2.4),
            *(_rectangle(0.7 + 0.9 * i, 17.2, 1.2 + 0.9 * i, 19.0, _LINE, 4.0) for i in range(8)),
            _rectangle(3.93, 20.5, 4.07, 34, _LINE, 3.0),
            _rectangle(0.6, 19.5, 3.8, 19.75, _LINE, 3.0),
        ),
        facades=((_hall(52, 7.0, (178, 172, 164), (0.30, 0.44, 0.66)), Placement(2.0, 37.0)),),
        props=(
            *wall,
            Prop("booth", Placement(-1.6, 19.6)),
            Prop("pillar", Placement(0.0, 22.0)),
            Prop("pillar", Placement(8.0, 22.0)),
            Prop("boom", Placement(0.1, 20.4)),
            Prop("boom", Placement(7.9, 20.4), -1.0),
            Prop("lamp", Placement(-5.6, 16.0)),
            Prop("lamp", Placement(9.9, 16.4), -1.0),
            Prop("tree", Placement(-8.8, 18.2), 1.0),
            Prop("tree", Placement(11.6, 19.4), 1.15),
            Prop("tree", Placement(-3.4, 27.0), 1.3),
            Prop("sign", Placement(2.9, 8.0)),
            Prop("bin", Placement(-3.2, 16.3)),
            *(Prop("bollard", Placement(x, 16.0)) for x in (-4.4, -2.0, 10.6, 12.0)),
        ),
        lanes=(
            Way(((-17, 10.4), (17, 10.4))),
            Way(((17, 13.6), (-17, 13.6))),
            Way(((-12, 26.4), (0.2, 26.2), (2.2, 24.6), (2.2, 18), (1.6, 15.2), (-1.5, 13.7), (-5, 13.6), (-17, 13.6))),
            Way(((17, 13.6), (9.5, 13.6), (6.6, 14.6), (5.8, 18), (5.8, 24.6), (8, 26.2), (18, 26.4))),
            Way(((-17, 10.4), (0, 10.4), (4.2, 11.6), (5.8, 15), (5.8, 24.6), (8, 26.2), (18, 26.4))),
        ),
        walks=(
            Way(((-11, 7.4), (11, 7.4)), 0.7),
            Way(((-13, 17.4), (-1, 17.2), (3, 18.0), (8, 18.0), (14, 17.4)), 1.0),
            Way(((-2.6, 7.2), (-2.4, 12), (-2.8, 17), (-6, 19.5), (-14, 20)), 0.5),
            Way(((9.2, 7.2), (8.9, 12), (9.0, 17), (7.2, 20), (7.1, 24.0), (9.0, 24.6), (17, 24.6)), 0.3),
            Way(((-14, 19.6), (-4, 18.6), (0.2, 17.6)), 0.8),
        ),
        clutter=((-9, 15.9, -2.5, 20.5), (9.5, 15.9, 13, 20.5), (-6, 6.4, 6, 6.9)),
        lamps=((-4.6, 15.0), (8.9, 15.4), (-1.6, 18.8), (4.0, 24.0)),
    )


def _car_park() -> Site:
    far = np.arange(-12.4, 12.5, 2.75)
    near = np.arange(-6.9, 7.0, 2.75)
    lines = [
        *(_rectangle(float(x) - 0.06, 17.4, float(x) + 0.06, 22.2, _LINE, 3.0) for x in np.arange(-13.8, 14, 2.75)),
        *(_rectangle(float(x) - 0.06, 6.0, float(x) + 0.06, 10.7, _LINE, 3.0) for x in np.arange(-8.25, 8.3, 2.75)),
    ]
    arrows = [
        Area(((x, y - 0.12), (x + d, y - 0.12), (x + d, y - 0.4), (x + 1.7 * d, y), (x + d, y + 0.4), (x + d, y + 0.12), (x, y + 0.12)), _LINE, 3.0)
        for x, y, d in ((-3.5, 12.6, 1.2), (4.5, 15.6, -1.2))
    ]  # fmt: skip
    return Site(
        areas=(
            _rectangle(-60, 1, 60, 200, _ASPHALT, 7.0),
            _rectangle(-40, 11.0, 40, 17.2, _WORN, 5.0),
            _rectangle(-60, 22.6, 60, 25.0, _PAVING, 7.0),
            _rectangle(-60, 22.3, 60, 22.6, _KERB, 4.0),
            _rectangle(-60, 25.0, 60, 29.5, _GRASS, 13.0),
            _rectangle(-60, 4.0, 60, 5.6, _GRASS, 13.0),
            _rectangle(-60, 5.6, 60, 5.9, _KERB, 4.0),
            *lines,
            *arrows,
            *(_rectangle(1.1, 11.3 + 0.95 * i, 2.9, 11.8 + 0.95 * i, _LINE, 4.0) for i in range(6)),
        ),
        facades=((_building(60, 6.0, 9.0, (150, 168, 186), 3, 22), Placement(0.0, 35.0)),),
        props=(
            Prop("lamp", Placement(-5.5, 11.0)),
            Prop("lamp", Placement(6.9, 23.0), -1.0),
            Prop("tree", Placement(-9.5, 26.5), 1.25),
            Prop("tree", Placement(-2.2, 27.2), 1.05),
            Prop("tree", Placement(4.8, 26.3), 1.2),
            Prop("tree", Placement(11.5, 27.0), 1.3),
            Prop("bin", Placement(0.3, 22.9)),
            Prop("sign", Placement(3.4, 10.9)),
            *(Prop("bollard", Placement(x, 22.8)) for x in (-3.4, -2.0, 2.0, 3.4)),
            Prop("bush", Placement(-4.2, 5.3), 1.0),
            Prop("bush", Placement(3.4, 5.2), 1.1),
        ),
        lanes=(Way(((-17, 12.6), (17, 12.6))), Way(((17, 15.6), (-17, 15.6)))),
        walks=(
            Way(((-14, 23.7), (14, 23.7)), 0.5),
            Way(((2.0, 5.5), (2.0, 11), (2.0, 17), (1.4, 23.4), (-6, 23.8)), 0.5),
            Way(((-11, 16.9), (11, 16.8)), 0.25),
            Way(((-9, 11.1), (9, 11.2)), 0.2),
            Way(((-9, 14.0), (-2, 14.2), (2.0, 13.8), (9, 14.1)), 0.5),
        ),
        clutter=((-9, 22.8, 9, 25.5), (-6, 5.0, 6, 5.5)),
        bays=(
            *(Placement(float(x), 19.9, np.pi / 2 * side) for x, side in zip(far, (1, -1) * 5, strict=True)),
            *(Placement(float(x), 8.3, np.pi / 2 * side) for x, side in zip(near, (-1, 1) * 3, strict=True)),
        ),
        lamps=((-5.2, 12.2), (6.6, 21.8), (-9.0, 23.5), (0.0, 28.5)),
    )


SITES: Mapping[str, Site] = MappingProxyType({"car_park": _car_park(), "gate": _gate()})
"""Site name → site."""

CLUTTER = ("barrel", "bin", "bush", "cone", "crate")
"""Kinds of small things that lie about, differently in every image."""


def draw_prop(prop: Prop, camera: Camera, light: Light, level: Colour = (1.0, 1.0, 1.0)) -> Figure:
    """A prop as a figure in painter's order."""
    figure = Figure(level)
    _DRAW[prop.kind](figure, prop, camera, light)
    return figure


def _upright(place: Placement, forward: float, left: float, up: float) -> Points:
    point: Points = place.to_world(np.array([[forward, left, up]]))[0]
    return point


def _post(figure: Figure, place: Placement, height: float, radius: float, colour: Colour, x: float = 0.0) -> None:
    start, end = _upright(place, x, 0, 0), _upright(place, x, 0, height)
    figure.limb(start, end, (radius, radius), colour)
    figure.limb(start, end, (radius * 0.4, radius * 0.4), scaled(colour, 1.25))
    figure.casters.append((np.stack([start, end]), radius))


def _block(
    figure: Figure,
    prop: Prop,
    camera: Camera,
    light: Light,
    *,
    size: tuple[float, float, float],
    paint: Colour,
    decals: Mapping[str, tuple[Decal, ...]] = MappingProxyType({}),
    base: float = 0.0,
) -> None:
    length, width, height = (value * abs(prop.size) for value in size)
    solid = Solid(
        (-length / 2, length / 2, width / 2, base),
        (-length / 2, length / 2, width / 2, base + height, base + height),
        paint,
        decals,
    )
    add_solid(figure, solid, prop.place, camera, light)


def _wall(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    joints = tuple(Decal(panel(x, 0, x + 0.012, 1), (128, 134, 138)) for x in (0.0, 0.33, 0.66))
    cap = Decal(panel(0, 0.88, 1, 1), (186, 190, 192))
    _block(figure, prop, camera, light, size=(3.0, 0.35, 2.3), paint=(150, 158, 164), decals={"right": (*joints, cap)})


def _booth(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    window = Decal(panel(0.12, 0.45, 0.88, 0.82), (112, 96, 80), (120, 205, 245))
    stripe = Decal(panel(0, 0.0, 1, 0.1), (60, 60, 62))
    sides: dict[str, tuple[Decal, ...]] = {name: (stripe, window) for name in ("left", "right", "front", "rear")}
    _block(figure, prop, camera, light, size=(2.0, 2.0, 2.5), paint=(196, 202, 206), decals=sides)
    _block(figure, prop, camera, light, size=(2.5, 2.5, 0.18), paint=(150, 90, 40), base=2.5)


def _pillar(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    band = (Decal(panel(0, 0.86, 1, 0.93), (40, 170, 235)),)
    _block(figure, prop, camera, light, size=(0.6, 0.6, 3.0), paint=(140, 146, 150), decals={"right": band})


def _boom(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    side = 1.0 if prop.size > 0 else -1.0
    _block(figure, prop, camera, light, size=(0.35, 0.35, 1.1), paint=(40, 150, 230))
    start, end = _upright(prop.place, 0, 0, 1.0), _upright(prop.place, side * 0.9, 0, 4.1)
    for i in range(8):
        a, b = start + (end - start) * i / 8, start + (end - start) * (i + 1) / 8
        figure.limb(a, b, (0.055, 0.055), (235, 235, 235) if i % 2 else (40, 40, 205))


def _lamp(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    side = 1.0 if prop.size > 0 else -1.0
    _post(figure, prop.place, 5.6, 0.09, _STEEL)
    top, head = _upright(prop.place, 0, 0, 5.6), _upright(prop.place, side * 1.0, -1.0, 5.9)
    figure.limb(top, head, (0.06, 0.06), _STEEL)
    lit: Colour = (190, 235, 255) if light.lamps else (205, 205, 205)
    figure.limb(head, _upright(prop.place, side * 1.35, -1.3, 5.9), (0.13, 0.11), lit, glows=light.lamps)
    if light.lamps:
        figure.lamps.append((head[None, :], (120.0, 200.0, 255.0), 1.1))


def _sign(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    _post(figure, prop.place, 2.3, 0.05, _STEEL)
    centre = _upright(prop.place, 0, -0.06, 2.2)
    for size, colour in ((0.34, (235, 235, 235)), (0.30, (50, 45, 200)), (0.19, (240, 240, 240))):
        figure.limb(centre, centre + (0, 0, 0.01), (size, size), colour)


def _bollard(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    _post(figure, prop.place, 0.9, 0.10, (70, 70, 74))
    ring = _upright(prop.place, 0, 0, 0.75)
    figure.limb(ring, ring + (0, 0, 0.06), (0.105, 0.105), (225, 228, 230))


def _bin(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    _block(figure, prop, camera, light, size=(0.6, 0.6, 1.05), paint=(70, 92, 60))
    _block(figure, prop, camera, light, size=(0.7, 0.7, 0.08), paint=(44, 52, 40), base=1.05)


def _crate(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    slats = tuple(Decal(panel(0, y, 1, y + 0.05), (60, 96, 126)) for y in (0.25, 0.5, 0.75))
    sides = {name: slats for name in ("left", "right", "front", "rear")}
    _block(figure, prop, camera, light, size=(1.1, 0.9, 0.75), paint=(98, 140, 172), decals=sides)


def _barrel(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    start, end = _upright(prop.place, 0, 0, 0.25), _upright(prop.place, 0, 0, 0.72)
    figure.limb(start, end, (0.29, 0.27), (150, 92, 38))
    figure.limb(start, start + (end - start) * 0.2, (0.29, 0.29), (120, 72, 30))
    figure.limb(end + (0, 0, 0.16), end + (0, 0, 0.165), (0.2, 0.2), (176, 120, 66))
    figure.casters.append((np.stack([start, end]), 0.28))


def _cone(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    base = prop.place
    _block(figure, prop, camera, light, size=(0.42, 0.42, 0.05), paint=(35, 35, 38))
    tip = _upright(base, 0, 0, 0.72)
    figure.limb(_upright(base, 0, 0, 0.10), tip, (0.16, 0.03), (35, 105, 240))
    figure.limb(_upright(base, 0, 0, 0.34), _upright(base, 0, 0, 0.46), (0.105, 0.085), (235, 238, 240))
    figure.casters.append((np.stack([_upright(base, 0, 0, 0.0), tip]), 0.1))


def _leaves(figure: Figure, centre: Points, radius: float, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = centre + directions * radius * rng.uniform(0.35, 1.0, (count, 1)) * (1.0, 1.0, 0.85)
    for point in points[np.argsort(-points[:, 1])]:  # far leaves first
        tone = 0.62 + 0.42 * (point[2] - centre[2]) / radius * 0.6 + float(rng.uniform(-0.08, 0.12))
        leaf: Colour = (58 + 14 * float(rng.random()), 122, 84 + 22 * float(rng.random()))
        size = radius * float(rng.uniform(0.20, 0.34))
        figure.limb(point, point + (0, 0, 0.02), (size, size), scaled(leaf, tone))
        figure.casters.append((np.stack([point, point + (0, 0, 0.02)]), size))


def _tree(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    size = prop.size
    trunk, fork = _upright(prop.place, 0, 0, 0), _upright(prop.place, 0.08, 0, 2.2 * size)
    figure.limb(trunk, fork, (0.17 * size, 0.11 * size), (52, 70, 88))
    figure.casters.append((np.stack([trunk, fork]), 0.14 * size))
    _leaves(figure, _upright(prop.place, 0.05, 0, 3.3 * size), 1.45 * size, 70, round(prop.place.x * 100) % 997)


def _bush(figure: Figure, prop: Prop, camera: Camera, light: Light) -> None:
    _leaves(figure, _upright(prop.place, 0, 0, 0.32 * prop.size), 0.5 * prop.size, 26, round(prop.place.x * 100) % 997)


_DRAW = {
    "barrel": _barrel, "bin": _bin, "bollard": _bollard, "boom": _boom, "booth": _booth, "bush": _bush, "cone": _cone,
    "crate": _crate, "lamp": _lamp, "pillar": _pillar, "sign": _sign, "tree": _tree, "wall": _wall,
}  # fmt: skip
