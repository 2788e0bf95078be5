"""The sites of the generated scenes: their ground, buildings and props, and where movers go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from guardianflow.scenes.scene_camera import Colour
from guardianflow.scenes.scene_figures import Decal, Placement, Solid, panel, scaled
from guardianflow.scenes.scene_props import Prop

__all__ = ["SITES", "Area", "Site", "Way"]

# Colours are BGR; all lengths are metres.
_ASPHALT: Colour = (104, 102, 100)
_WORN: Colour = (116, 114, 112)
_PAVING: Colour = (146, 152, 156)
_KERB: Colour = (172, 176, 178)
_GRASS: Colour = (62, 112, 86)
_LINE: Colour = (208, 212, 214)


@dataclass(frozen=True)
class Area:
    """A painted polygon on the ground and how rough its surface is (grey levels)."""

    corners: tuple[tuple[float, float], ...]
    colour: Colour
    rough: float = 6.0


@dataclass(frozen=True)
class Way:
    """A route that movers follow, how far they may stray to either side, and how much it is used."""

    points: tuple[tuple[float, float], ...]
    spread: float = 0.0
    weight: float = 1.0


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


def _arrow(x: float, y: float, d: float) -> Area:
    outline = ((0, -0.12), (d, -0.12), (d, -0.4), (1.7 * d, 0), (d, 0.4), (d, 0.12), (0, 0.12))
    return Area(tuple((x + dx, y + dy) for dx, dy in outline), _LINE, 3.0)


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
            glass.append(
                Decal(panel(x, y, x + 0.56 / columns, y + 0.42 / storeys), colour, (110, 190, 235) if glows else None)
            )
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
            *_dashes(12.3, -20, 20, 2.4),
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
            Way(((-17, 11.0), (17, 11.0))),
            Way(((17, 13.6), (-17, 13.6))),
            Way(((-12, 26.4), (0.2, 26.2), (2.2, 24.6), (2.2, 18), (1.6, 15.2), (-1.5, 13.7), (-5, 13.6), (-17, 13.6))),
            Way(((17, 13.6), (9.5, 13.6), (6.6, 14.6), (5.8, 18), (5.8, 24.6), (8, 26.2), (18, 26.4))),
            Way(((-17, 11.0), (0, 11.0), (4.2, 11.8), (5.8, 15), (5.8, 24.6), (8, 26.2), (18, 26.4))),
        ),
        walks=(
            Way(((-11, 7.4), (11, 7.4)), 0.7, 4.0),
            Way(((-13, 16.6), (-1, 16.8), (3, 17.6), (8, 17.6), (14, 16.8)), 1.0),
            Way(((-2.6, 7.2), (-2.4, 12), (-2.8, 16), (-6, 17.4), (-14, 17.6)), 0.5),
            Way(((9.2, 7.2), (8.9, 12), (9.0, 17), (7.2, 20), (7.1, 24.0), (9.0, 24.6), (17, 24.6)), 0.3),
            Way(((-14, 17.8), (-4, 17.2), (0.2, 16.8)), 0.6, 0.6),
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
    arrows = [_arrow(-3.5, 12.6, 1.2), _arrow(4.5, 15.6, -1.2)]
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
            Way(((-9, 11.1), (9, 11.2)), 0.2, 1.5),
            Way(((-9, 9.0), (9, 9.0)), 1.0),
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
