"""Things that stand around on a generated site: walls, booths, lamps, trees, bins and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from guardianflow.scenes.scene_camera import Camera, Colour
from guardianflow.scenes.scene_figures import Decal, Figure, Light, Placement, Points, Solid, add_solid, panel, scaled

__all__ = ["CLUTTER", "Prop", "draw_prop"]

_STEEL: Colour = (128, 126, 122)  # colours are BGR


@dataclass(frozen=True)
class Prop:
    """A thing that stands still: its kind, place and size factor."""

    kind: str
    place: Placement
    size: float = 1.0


CLUTTER = ("barrel", "bin", "bush", "cone", "crate")
"""Kinds of small things that lie about, differently in every image."""


def draw_prop(prop: Prop, camera: Camera, light: Light, level: Colour = (1.0, 1.0, 1.0)) -> Figure:
    """A prop as a figure in painter's order."""
    figure = Figure(level)
    _DRAW[prop.kind](_Draft(figure, prop, camera, light))
    return figure


@dataclass(frozen=True)
class _Draft:
    """A prop on its way to a figure."""

    figure: Figure
    prop: Prop
    camera: Camera
    light: Light

    def at(self, forward: float, left: float, up: float) -> Points:
        """A point by its offset from the prop's place."""
        point: Points = self.prop.place.to_world(np.array([[forward, left, up]]))[0]
        return point

    def limb(
        self, start: Points, end: Points, radii: tuple[float, float], colour: Colour, *, glows: bool = False
    ) -> None:
        """Add a stroke."""
        self.figure.limb(start, end, radii, colour, glows=glows)

    def disc(self, centre: Points, radius: float, colour: Colour) -> None:
        """Add a ball."""
        self.figure.limb(centre, _raised(centre, 0.01), (radius, radius), colour)

    def casts(self, start: Points, end: Points, radius: float) -> None:
        """Let a stroke throw a shadow."""
        self.figure.casters.append((np.stack([start, end]), radius))


def _raised(point: Points, up: float) -> Points:
    lifted = point.copy()
    lifted[2] += up
    return lifted


def _post(draft: _Draft, height: float, radius: float, colour: Colour) -> None:
    start, end = draft.at(0, 0, 0), draft.at(0, 0, height)
    draft.limb(start, end, (radius, radius), colour)
    draft.limb(start, end, (radius * 0.4, radius * 0.4), scaled(colour, 1.25))
    draft.casts(start, end, radius)


def _block(
    draft: _Draft,
    *,
    size: tuple[float, float, float],
    paint: Colour,
    decals: Mapping[str, tuple[Decal, ...]] = MappingProxyType({}),
    base: float = 0.0,
) -> None:
    length, width, height = (value * abs(draft.prop.size) for value in size)
    solid = Solid(
        (-length / 2, length / 2, width / 2, base),
        (-length / 2, length / 2, width / 2, base + height, base + height),
        paint,
        decals,
    )
    add_solid(draft.figure, solid, draft.prop.place, draft.camera, draft.light)


def _wall(draft: _Draft) -> None:
    joints = tuple(Decal(panel(x, 0, x + 0.012, 1), (128, 134, 138)) for x in (0.0, 0.33, 0.66))
    cap = Decal(panel(0, 0.88, 1, 1), (186, 190, 192))
    _block(draft, size=(3.0, 0.35, 2.3), paint=(150, 158, 164), decals={"right": (*joints, cap)})


def _booth(draft: _Draft) -> None:
    window = Decal(panel(0.12, 0.45, 0.88, 0.82), (112, 96, 80), (120, 205, 245))
    stripe = Decal(panel(0, 0.0, 1, 0.1), (60, 60, 62))
    sides = dict.fromkeys(("left", "right", "front", "rear"), (stripe, window))
    _block(draft, size=(2.0, 2.0, 2.5), paint=(196, 202, 206), decals=sides)
    _block(draft, size=(2.5, 2.5, 0.18), paint=(150, 90, 40), base=2.5)


def _pillar(draft: _Draft) -> None:
    band = (Decal(panel(0, 0.86, 1, 0.93), (40, 170, 235)),)
    _block(draft, size=(0.6, 0.6, 3.0), paint=(140, 146, 150), decals={"right": band})


def _boom(draft: _Draft) -> None:
    side = 1.0 if draft.prop.size > 0 else -1.0
    _block(draft, size=(0.35, 0.35, 1.1), paint=(40, 150, 230))
    start, end = draft.at(0, 0, 1.0), draft.at(side * 0.9, 0, 4.1)
    for i in range(8):
        a, b = start + (end - start) * i / 8, start + (end - start) * (i + 1) / 8
        draft.limb(a, b, (0.055, 0.055), (235, 235, 235) if i % 2 else (40, 40, 205))


def _lamp(draft: _Draft) -> None:
    side = 1.0 if draft.prop.size > 0 else -1.0
    _post(draft, 5.6, 0.09, _STEEL)
    top, head = draft.at(0, 0, 5.6), draft.at(side * 1.0, -1.0, 5.9)
    draft.limb(top, head, (0.06, 0.06), _STEEL)
    lit: Colour = (190, 235, 255) if draft.light.lamps else (205, 205, 205)
    draft.limb(head, draft.at(side * 1.35, -1.3, 5.9), (0.13, 0.11), lit, glows=draft.light.lamps)
    if draft.light.lamps:
        draft.figure.lamps.append((head[None, :], (120.0, 200.0, 255.0), 1.1))


def _sign(draft: _Draft) -> None:
    _post(draft, 2.3, 0.05, _STEEL)
    centre = draft.at(0, -0.06, 2.2)
    for size, colour in ((0.34, (235, 235, 235)), (0.30, (50, 45, 200)), (0.19, (240, 240, 240))):
        draft.disc(centre, size, colour)


def _bollard(draft: _Draft) -> None:
    _post(draft, 0.9, 0.10, (70, 70, 74))
    ring = draft.at(0, 0, 0.75)
    draft.limb(ring, _raised(ring, 0.06), (0.105, 0.105), (225, 228, 230))


def _bin(draft: _Draft) -> None:
    _block(draft, size=(0.6, 0.6, 1.05), paint=(70, 92, 60))
    _block(draft, size=(0.7, 0.7, 0.08), paint=(44, 52, 40), base=1.05)


def _crate(draft: _Draft) -> None:
    slats = tuple(Decal(panel(0, y, 1, y + 0.05), (60, 96, 126)) for y in (0.25, 0.5, 0.75))
    sides = dict.fromkeys(("left", "right", "front", "rear"), slats)
    _block(draft, size=(1.1, 0.9, 0.75), paint=(98, 140, 172), decals=sides)


def _barrel(draft: _Draft) -> None:
    start, end = draft.at(0, 0, 0.25), draft.at(0, 0, 0.72)
    draft.limb(start, end, (0.29, 0.27), (150, 92, 38))
    draft.limb(start, start + (end - start) * 0.2, (0.29, 0.29), (120, 72, 30))
    draft.limb(_raised(end, 0.16), _raised(end, 0.165), (0.2, 0.2), (176, 120, 66))
    draft.casts(start, end, 0.28)


def _cone(draft: _Draft) -> None:
    _block(draft, size=(0.42, 0.42, 0.05), paint=(35, 35, 38))
    tip = draft.at(0, 0, 0.72)
    draft.limb(draft.at(0, 0, 0.10), tip, (0.16, 0.03), (35, 105, 240))
    draft.limb(draft.at(0, 0, 0.34), draft.at(0, 0, 0.46), (0.105, 0.085), (235, 238, 240))
    draft.casts(draft.at(0, 0, 0.0), tip, 0.1)


def _leaves(draft: _Draft, centre: Points, radius: float, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = centre + directions * radius * rng.uniform(0.35, 1.0, (count, 1)) * (1.0, 1.0, 0.85)
    for point in points[np.argsort(-points[:, 1])]:  # far leaves first
        tone = 0.62 + 0.42 * (point[2] - centre[2]) / radius * 0.6 + float(rng.uniform(-0.08, 0.12))
        leaf: Colour = (58 + 14 * float(rng.random()), 122, 84 + 22 * float(rng.random()))
        size = radius * float(rng.uniform(0.20, 0.34))
        draft.disc(point, size, scaled(leaf, tone))
        draft.casts(point, _raised(point, 0.02), size)


def _tree(draft: _Draft) -> None:
    size = draft.prop.size
    trunk, fork = draft.at(0, 0, 0), draft.at(0.08, 0, 2.2 * size)
    draft.limb(trunk, fork, (0.17 * size, 0.11 * size), (52, 70, 88))
    draft.casts(trunk, fork, 0.14 * size)
    _leaves(draft, draft.at(0.05, 0, 3.3 * size), 1.45 * size, 70, round(draft.prop.place.x * 100) % 997)


def _bush(draft: _Draft) -> None:
    _leaves(
        draft, draft.at(0, 0, 0.32 * draft.prop.size), 0.5 * draft.prop.size, 26, round(draft.prop.place.x * 100) % 997
    )


_DRAW = {
    "barrel": _barrel, "bin": _bin, "bollard": _bollard, "boom": _boom, "booth": _booth, "bush": _bush, "cone": _cone,
    "crate": _crate, "lamp": _lamp, "pillar": _pillar, "sign": _sign, "tree": _tree, "wall": _wall,
}  # fmt: skip
