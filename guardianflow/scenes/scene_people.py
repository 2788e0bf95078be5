"""People of the generated scenes: how they look and how they walk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Colour
from guardianflow.scenes.scene_figures import Figure, Light, Placement, scaled

__all__ = ["PersonLook", "draw_person", "random_person"]

# Colours are BGR.
_SKIN: tuple[Colour, ...] = ((150, 180, 225), (120, 155, 205), (85, 115, 165), (55, 75, 110))
_HAIR: tuple[Colour, ...] = ((25, 25, 30), (30, 45, 70), (60, 90, 125), (110, 160, 190), (150, 150, 155))
_TOPS: tuple[Colour, ...] = (
    (45, 45, 200), (200, 90, 30), (70, 150, 50), (40, 170, 225), (150, 60, 130), (235, 235, 235),
    (60, 55, 55), (175, 160, 60), (110, 110, 120), (140, 120, 220), (90, 60, 30),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = (
    (90, 60, 40),
    (50, 45, 45),
    (110, 85, 60),
    (95, 120, 140),
    (60, 80, 70),
    (150, 150, 150),
)
_SHOES: tuple[Colour, ...] = ((30, 30, 30), (40, 60, 90), (230, 230, 230))
_HELMETS: tuple[Colour, ...] = ((40, 205, 245), (240, 240, 240), (200, 110, 30))
_VEST: tuple[Colour, ...] = ((40, 245, 205), (20, 120, 250))
_STRIPE: Colour = (225, 230, 230)


@dataclass(frozen=True)
class PersonLook:
    """Height in metres, build (1 is average) and colours; ``None`` where something isn't worn."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    vest: Colour | None = None
    helmet: Colour | None = None
    backpack: Colour | None = None
    coat: bool = False


def random_person(rng: np.random.Generator) -> PersonLook:
    """A person in everyday or site clothes."""

    def pick(colours: tuple[Colour, ...]) -> Colour:
        b, g, r = colours[int(rng.integers(len(colours)))]
        shift = rng.uniform(-18, 18, 3)
        return (b + float(shift[0]), g + float(shift[1]), r + float(shift[2]))

    works_here = rng.random() < 0.35
    return PersonLook(
        height=float(np.clip(rng.normal(1.74, 0.08), 1.55, 1.95)),
        build=float(rng.uniform(0.92, 1.25)),
        skin=pick(_SKIN),
        hair=pick(_HAIR),
        top=pick(_TOPS),
        trousers=pick(_TROUSERS),
        shoes=pick(_SHOES),
        vest=pick(_VEST) if works_here else None,
        helmet=pick(_HELMETS) if works_here and rng.random() < 0.8 else None,
        backpack=pick(_TOPS) if not works_here and rng.random() < 0.35 else None,
        coat=bool(not works_here and rng.random() < 0.25),
    )


def draw_person(
    look: PersonLook, place: Placement, gait: float, stride: float, light: Light, level: Colour = (1.0, 1.0, 1.0)
) -> Figure:
    """A person, standing or in mid-step.

    Args:
        look: Size and colours.
        place: Where the feet are and where the person is heading.
        gait: Phase of the step, in radians.
        stride: How far the legs swing, in radians; 0 stands still.
        light: Where the light comes from.
        level: How much light there is, by colour channel.

    Returns:
        The figure in painter's order.
    """
    body = _Body(look, place, gait, stride, light)
    figure = Figure(level)
    to_eye = np.array([-place.x, -place.y])
    left_is_near = float(to_eye @ body.left[:2]) > 0
    sees_back = float(to_eye @ body.forward[:2]) < 0
    near, far = (1, -1) if left_is_near else (-1, 1)
    body.arm(figure, far)
    body.leg(figure, far)
    body.leg(figure, near)
    if look.backpack and not sees_back:
        body.pack(figure)
    body.torso(figure)
    if look.backpack and sees_back:
        body.pack(figure)
    body.head(figure, sees_back=sees_back)
    body.arm(figure, near)
    return figure


class _Body:
    """The joints of one posture, and the parts drawn between them."""

    def __init__(self, look: PersonLook, place: Placement, gait: float, stride: float, light: Light) -> None:
        self.look, self.gait, self.stride = look, gait, stride
        cos, sin = math.cos(place.heading), math.sin(place.heading)
        self.forward = np.array([cos, sin, 0.0])
        self.left = np.array([-sin, cos, 0.0])
        self.up = np.array([0.0, 0.0, 1.0])
        self.ground = np.array([place.x, place.y, 0.0])
        self.legs = {side: self._leg_joints(side) for side in (-1, 1)}
        lowest = min(joints[2][2] for joints in self.legs.values()) - 0.045 * look.height
        self.drop = np.array([0.0, 0.0, lowest])
        # Half the torso's width as the camera sees it: shoulders are wider than the chest is deep.
        self.half_width = 0.135 * look.build * math.hypot(self.left[0], 0.62 * self.forward[0]) * look.height
        self.shade = 0.62 + 0.38 * light.on(np.array([0.0, -0.6, 0.8]))

    def leg(self, figure: Figure, side: int) -> None:
        """Thigh, shin and shoe of one side (1 is left)."""
        h = self.look.height
        hip, knee, ankle = (joint - self.drop for joint in self.legs[side])
        colour = scaled(self.look.trousers, self.shade * (1.0 if side > 0 else 0.88))
        toe = ankle + self.forward * 0.085 * h - self.up * 0.02 * h
        self._limb(figure, ankle - self.up * 0.015 * h, toe, (0.028, 0.024), scaled(self.look.shoes, self.shade))
        self._limb(figure, knee, ankle, (0.042, 0.030), colour)
        self._limb(figure, hip, knee, (0.062, 0.045), colour)

    def arm(self, figure: Figure, side: int) -> None:
        """Sleeve, forearm and hand of one side (1 is left)."""
        h = self.look.height
        swing = -0.8 * self.stride * math.sin(self.gait) * side
        shoulder = self._at(0.80) + self.left * side * 0.125 * self.look.build * h
        elbow = shoulder + self._swung(swing, 0.165 * h) + self.left * side * 0.015 * h
        hand = elbow + self._swung(swing + 0.25 + 0.3 * self.stride, 0.15 * h)
        sleeve = scaled(self.look.top, self.shade * 0.9)
        self._limb(figure, hand, hand + (hand - elbow) * 0.15, (0.024, 0.022), scaled(self.look.skin, self.shade))
        self._limb(figure, elbow, hand, (0.031, 0.025), sleeve)
        self._limb(figure, shoulder, elbow, (0.042, 0.034), sleeve)

    def torso(self, figure: Figure) -> None:
        """Jacket or coat, with the vest over it."""
        colour = scaled(self.look.vest or self.look.top, self.shade)
        hem = 0.38 if self.look.coat else 0.50
        outline = [(0.845, 0.42), (0.82, 0.92), (0.76, 1.0), (0.64, 0.84), (0.54, 0.86), (hem, 0.95)]
        figure.face(self._outline(outline), colour)
        figure.face(self._outline([(0.82, 0.2), (0.76, 0.98), (hem, 0.95)], right_only=True), scaled(colour, 0.86))
        if self.look.vest:
            for height in (0.60, 0.70):
                band = self._outline([(height + 0.014, 0.9), (height - 0.014, 0.9)])
                figure.face(band, scaled(_STRIPE, self.shade))
        figure.casters.append((np.stack([self._at(0.80), self._at(0.52)]), 0.11 * self.look.height))

    def pack(self, figure: Figure) -> None:
        """A backpack."""
        h = self.look.height
        back = self.forward * 0.10 * h
        colour = scaled(self.look.backpack or self.look.top, self.shade * 0.9)
        self._limb(figure, self._at(0.76) - back, self._at(0.60) - back, (0.075, 0.085), colour)

    def head(self, figure: Figure, *, sees_back: bool) -> None:
        """Neck, face, hair or helmet."""
        h, look = self.look.height, self.look
        skin = scaled(look.skin, self.shade)
        self._limb(figure, self._at(0.84), self._at(0.89), (0.032, 0.032), skin)
        crown, chin = self._at(0.945), self._at(0.915)
        hair = scaled(look.helmet or look.hair, self.shade)
        face = chin if sees_back else chin + self.forward * 0.012 * h
        self._limb(figure, chin, crown, (0.054, 0.060), hair)
        if not sees_back:
            self._limb(figure, face - self.up * 0.004 * h, face + self.up * 0.012 * h, (0.046, 0.050), skin)
        if look.helmet:
            self._limb(figure, crown, crown + self.up * 0.012 * h, (0.066, 0.054), hair)
            rim = self.forward * 0.05 * h
            self._limb(figure, crown - rim * 0.4, crown + rim, (0.022, 0.016), scaled(hair, 0.85))

    def _leg_joints(self, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        h = self.look.height
        swing = self.stride * math.sin(self.gait) * side
        lift = max(0.0, math.cos(self.gait) * side)  # the leg that comes forward bends its knee
        hip = self.ground + self.up * 0.51 * h + self.left * side * 0.055 * h
        knee = hip + self._swung(swing, 0.245 * h)
        ankle = knee + self._swung(swing - self.stride * 1.5 * lift - 0.05, 0.235 * h)
        return hip, knee, ankle

    def _swung(self, angle: float, length: float) -> NDArray[np.float64]:
        """A bone hanging down, swung forward by an angle."""
        return self.forward * math.sin(angle) * length - self.up * math.cos(angle) * length

    def _at(self, share: float) -> NDArray[np.float64]:
        """A point of the body's axis, by its share of the height."""
        lean = self.forward * 0.10 * self.stride * (share - 0.5) * self.look.height
        point: NDArray[np.float64] = self.ground + self.up * share * self.look.height + lean - self.drop
        return point

    def _outline(self, rows: list[tuple[float, float]], *, right_only: bool = False) -> NDArray[np.float64]:
        """A polygon facing the camera from (height, half width) rows."""
        right = np.array([self.half_width, 0.0, 0.0])
        one = [self._at(height) + right * width for height, width in rows]
        inner = 0.35 if right_only else -1.0
        other = [self._at(height) + right * width * inner for height, width in reversed(rows)]
        return np.array(one + other)

    def _limb(
        self,
        figure: Figure,
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        radii: tuple[float, float],
        colour: Colour,
    ) -> None:
        size = self.look.height * self.look.build**0.5
        figure.limb(start, end, (radii[0] * size, radii[1] * size), colour)
        figure.casters.append((np.stack([start, end]), radii[0] * size))
