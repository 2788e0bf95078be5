"""Day, night and fog: the light, the air and the sensor of a generated scene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Array, Camera, Colour
from guardianflow.scenes.scene_figures import Light, Placement

__all__ = [
    "CONDITIONS",
    "Beam",
    "Condition",
    "Exposure",
    "beam_light",
    "expose",
    "lamp_light",
    "random_exposure",
    "random_light",
]

_LAMP_REACH = 3.4  # metres at which a street lamp's light has fallen to a half
_BEAM_LENGTH, _BEAM_SPREAD = 10.0, 0.34  # metres, and half width gained per metre
_BEAM_COLOUR = np.array([0.62, 0.78, 0.85], np.float32)


@dataclass(frozen=True)
class Condition:
    """What weather and hour do to a picture. Colours are BGR.

    Attributes:
        level: Light on everything, by channel; 1 is daylight.
        sky: Colour at the zenith and at the horizon.
        air: Colour of the haze.
        haze: Extinction per metre: contrast falls by exp(-haze · distance).
        ambient: Share of light that reaches a face turned away from the sun.
        shadow: Range of the darkness of cast shadows.
        lamps: Whether street lamps and vehicle lights are on.
        grain: Sensor noise relative to daylight.
        blur: Gaussian blur of the optics, in pixels at 640.
    """

    level: Colour
    sky: tuple[Colour, Colour]
    air: Colour
    haze: float
    ambient: float
    shadow: tuple[float, float]
    lamps: bool
    grain: float
    blur: float


CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "day": Condition(
            level=(1.14, 1.14, 1.15),
            sky=((225, 190, 150), (240, 228, 214)),
            air=(228, 216, 204),
            haze=0.0035,
            ambient=0.60,
            shadow=(0.30, 0.58),
            lamps=False,
            grain=1.0,
            blur=0.6,
        ),
        "fog": Condition(
            level=(0.93, 0.92, 0.90),
            sky=((205, 205, 204), (208, 208, 207)),
            air=(206, 206, 205),
            haze=0.042,
            ambient=0.84,
            shadow=(0.0, 0.0),
            lamps=False,
            grain=1.2,
            blur=0.9,
        ),
        "night": Condition(
            level=(0.40, 0.33, 0.30),
            sky=((38, 24, 18), (62, 44, 36)),
            air=(48, 36, 30),
            haze=0.004,
            ambient=0.72,
            shadow=(0.0, 0.0),
            lamps=True,
            grain=1.9,
            blur=0.8,
        ),
    }
)
"""Condition name → condition."""


@dataclass(frozen=True)
class Exposure:
    """How one image is taken: gain, colour cast and strength of its shadows."""

    gain: float
    cast: Colour


@dataclass(frozen=True)
class Beam:
    """The headlights of one vehicle: the middle of its front bumper and its heading."""

    place: Placement

    def on(self, x: float, y: float) -> float:
        """Share of the beam that reaches a ground position, 0–1."""
        cos, sin = math.cos(self.place.heading), math.sin(self.place.heading)
        dx, dy = x - self.place.x, y - self.place.y
        ahead, aside = dx * cos + dy * sin, -dx * sin + dy * cos
        if not 0.3 < ahead < _BEAM_LENGTH:
            return 0.0
        width = 0.7 + _BEAM_SPREAD * ahead
        return (1 - ahead / _BEAM_LENGTH) * math.exp(-((aside / width) ** 2))

    def paint(self, camera: Camera, mask: Array) -> None:
        """Add its pool of light to a map at half the image's resolution."""
        half = camera.imgsz / mask.shape[1]
        for reach, strength in ((_BEAM_LENGTH, 0.16), (6.5, 0.28), (3.5, 0.45)):
            width = 0.7 + _BEAM_SPREAD * reach
            local = np.array(
                [(0.1, 0.6, 0), (reach, width, 0), (reach * 1.12, 0, 0), (reach, -width, 0), (0.1, -0.6, 0)]
            )
            seen = camera.project(self.place.to_world(local))[:, :2] / half
            layer = np.zeros_like(mask)
            fixed = np.rint(np.clip(seen, -4000, 4000) * 16).astype(np.int32)
            cv2.fillPoly(layer, [fixed], strength, cv2.LINE_8, 4)
            mask += layer


def random_light(rng: np.random.Generator, condition: Condition) -> Light:
    """The sun of one image or clip; it stands behind the camera or to its side."""
    elevation, azimuth = rng.uniform(0.6, 1.05), rng.uniform(-math.pi * 0.95, -math.pi * 0.05)
    darkness = float(rng.uniform(*condition.shadow))
    sun = (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation))
    return Light(sun, condition.ambient, darkness, condition.lamps)


def random_exposure(rng: np.random.Generator) -> Exposure:
    """Gain and colour cast of one image or clip."""
    warm = float(rng.uniform(-0.05, 0.05))
    return Exposure(float(rng.uniform(0.86, 1.10)), (1 - warm, 1.0, 1 + warm))


def lamp_light(x: Array | float, y: Array | float, lamps: tuple[tuple[float, float], ...]) -> Array:
    """Light of the street lamps at ground positions, 0 to about 1."""
    total = np.zeros(np.shape(x), np.float32)
    for lamp_x, lamp_y in lamps:
        square = (np.asarray(x, np.float32) - lamp_x) ** 2 + (np.asarray(y, np.float32) - lamp_y) ** 2
        total += 0.75 / (1 + square / _LAMP_REACH**2) ** 1.5
    return total


def beam_light(camera: Camera, beams: list[Beam]) -> Array:
    """Light of all headlights on the ground, ``(imgsz, imgsz, 3)``."""
    half = np.zeros((camera.imgsz // 2, camera.imgsz // 2), np.float32)
    for beam in beams:
        beam.paint(camera, half)
    soft = cv2.GaussianBlur(half, (0, 0), camera.imgsz / 160)
    full = cv2.resize(soft, (camera.imgsz, camera.imgsz), interpolation=cv2.INTER_LINEAR)
    light: Array = full[..., None] * _BEAM_COLOUR
    return light


def expose(
    image: Array, rng: np.random.Generator, condition: Condition, exposure: Exposure, *, noise: float
) -> NDArray[np.uint8]:
    """What the sensor makes of the light: blur, gain, colour cast, vignette and noise.

    Args:
        image: ``(h, w, 3)`` BGR, 0–255.
        rng: Source of the noise.
        condition: Optics and grain.
        exposure: Gain and cast.
        noise: Standard deviation in grey levels by daylight.

    Returns:
        ``(h, w, 3)`` BGR, 8 bit.
    """
    height, width = image.shape[:2]
    image = cv2.GaussianBlur(image, (0, 0), max(condition.blur * width / 640, 0.3))
    away = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2 + np.linspace(-1, 1, width, dtype=np.float32) ** 2
    gain = np.array(exposure.cast, np.float32) * exposure.gain
    image = image * (1 - 0.09 * away)[..., None] * gain
    if noise > 0:
        sigma = noise * condition.grain
        grain = rng.standard_normal((height, width), np.float32) * np.float32(sigma)
        # Mostly brightness, some colour: each channel adds the same grain from another place.
        for channel, shift in enumerate((17, 29, 43)):
            image[..., channel] += grain + 0.4 * np.roll(grain, shift, axis=channel % 2)
    taken: NDArray[np.uint8] = np.clip(image + 0.5, 0, 255).astype(np.uint8)
    return taken
