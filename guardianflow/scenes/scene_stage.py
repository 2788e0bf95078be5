"""The empty site: ground, buildings and props under one condition, rendered once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from guardianflow.scenes.scene_camera import Array, Camera, Colour, Sprite
from guardianflow.scenes.scene_figures import Figure, Light, Placement, Solid, add_solid
from guardianflow.scenes.scene_light import CONDITIONS, Condition, lamp_light
from guardianflow.scenes.scene_props import Prop, draw_prop
from guardianflow.scenes.scene_sites import SITES, Site

__all__ = ["Stage", "StandingProp", "blend", "build_stage"]

_LAMP_COLOUR = np.array([0.50, 0.72, 0.86], np.float32)
_TEXTURE = 512
_DEFAULT_SUN = (-0.45, -0.55, 0.70)


@dataclass(frozen=True)
class StandingProp:
    """A prop with its drawing, kept for every image."""

    prop: Prop
    figure: Figure
    sprite: Sprite


@dataclass(frozen=True)
class Stage:
    """An empty site as its camera sees it.

    Attributes:
        camera: The camera.
        site: Where things and movers are.
        condition: Light and air.
        image: ``(imgsz, imgsz, 3)`` BGR 0–255 without props, haze included.
        ground: Reflectance of the ground, seen through the haze: what added light adds to the image.
        is_ground: ``(imgsz, imgsz)``, 1 where shadows fall on the ground, 0 on buildings and sky.
        props: What stands around.
    """

    camera: Camera
    site: Site
    condition: Condition
    image: Array
    ground: Array
    is_ground: Array
    props: tuple[StandingProp, ...]

    def level(self, x: float, y: float) -> Colour:
        """Light that reaches something at a ground position, by channel."""
        base = np.array(self.condition.level, np.float32)
        if self.condition.lamps:
            base = base + lamp_light(x, y, self.site.lamps) * _LAMP_COLOUR
        return float(base[0]), float(base[1]), float(base[2])

    def hazed(self, sprite: Sprite, x: float, y: float) -> Sprite:
        """A sprite as it looks through the air between."""
        distance = float(self.camera.project(np.array([[x, y, 0.8]]))[0, 2])
        clear = float(np.exp(-self.condition.haze * distance))
        air = np.array(self.condition.air, np.float32) * (1 - clear)
        return Sprite(sprite.left, sprite.top, sprite.colour * clear + sprite.alpha[..., None] * air, sprite.alpha)

    def stand(self, prop: Prop, light: Light) -> StandingProp:
        """Draw a prop where it stands."""
        level = self.level(prop.place.x, prop.place.y)
        figure = draw_prop(prop, self.camera, light, level)
        return StandingProp(prop, figure, self.hazed(figure.draw(self.camera), prop.place.x, prop.place.y))


def blend(image: Array, sprite: Sprite) -> None:
    """Lay a sprite over an image, in place."""
    clip = sprite.clip(image.shape[0])
    if clip is None:
        return
    rows, columns, patch_rows, patch_columns = clip
    alpha = sprite.alpha[patch_rows, patch_columns, None]
    image[rows, columns] = image[rows, columns] * (1 - alpha) + sprite.colour[patch_rows, patch_columns]


@lru_cache(maxsize=8)
def build_stage(site: str, condition: str, imgsz: int) -> Stage:
    """Render the empty site.

    Args:
        site: A name of :data:`~guardianflow.scenes.scene_sites.SITES`.
        condition: A name of :data:`~guardianflow.scenes.scene_light.CONDITIONS`.
        imgsz: Width and height in pixels.

    Returns:
        The stage; the same object for the same arguments.
    """
    camera, place, air = Camera(imgsz), SITES[site], CONDITIONS[condition]
    light = Light(_DEFAULT_SUN, air.ambient, 0.0, air.lamps)
    x, y, depth = camera.ground_of_pixels()
    albedo = _ground(camera, place)
    on_ground = np.isfinite(depth)
    sky = _sky(camera, air)
    brightness = np.broadcast_to(np.array(air.level, np.float32), albedo.shape).copy()
    if air.lamps:
        brightness += lamp_light(x, y, place.lamps)[..., None] * _LAMP_COLOUR
    clear = np.exp(-air.haze * np.where(on_ground, depth, 1e4))[..., None].astype(np.float32)
    haze = np.array(air.air, np.float32)
    image = np.where(on_ground[..., None], albedo * brightness * clear + haze * (1 - clear), sky).astype(np.float32)
    stage = Stage(camera, place, air, image, albedo * clear, on_ground.astype(np.float32), ())
    for solid, where in place.facades:
        sprite = _facade(stage, light, solid, where)
        blend(image, sprite)
        hidden = np.zeros((imgsz, imgsz, 3), np.float32)
        blend(hidden, Sprite(sprite.left, sprite.top, np.repeat(sprite.alpha[..., None], 3, axis=2), sprite.alpha))
        stage.ground[...] *= 1 - hidden
        stage.is_ground[...] *= 1 - hidden[..., 0]
    props = tuple(stage.stand(prop, light) for prop in place.props)
    return Stage(camera, place, air, image, stage.ground, stage.is_ground, props)


def _facade(stage: Stage, light: Light, solid: Solid, where: Placement) -> Sprite:
    figure = Figure(stage.level(where.x, where.y))
    add_solid(figure, solid, where, stage.camera, light)
    return stage.hazed(figure.draw(stage.camera), where.x, where.y)


def _sky(camera: Camera, condition: Condition) -> Array:
    zenith, horizon = (np.array(colour, np.float32) for colour in condition.sky)
    share = np.linspace(0, 1, max(camera.imgsz // 12, 2), dtype=np.float32)
    share = np.pad(share, (0, camera.imgsz - len(share)), constant_values=1.0)[:, None, None]
    return np.broadcast_to(zenith * (1 - share) + horizon * share, (camera.imgsz, camera.imgsz, 3)).astype(np.float32)


def _ground(camera: Camera, site: Site) -> Array:
    """Reflectance of the ground as seen, times 255, with its texture."""
    samples = 2
    size = camera.imgsz * samples
    paint = np.zeros((size, size, 3), np.float32)
    rough = np.zeros((size, size), np.float32)
    for area in site.areas:
        corners = np.array([(x, y, 0.0) for x, y in area.corners])
        seen = camera.project(corners)[:, :2] * samples - 0.5
        fixed = np.rint(np.clip(seen, -30_000, 30_000) * 16).astype(np.int32)
        cv2.fillPoly(paint, [fixed], area.colour, cv2.LINE_8, 4)
        cv2.fillPoly(rough, [fixed], area.rough, cv2.LINE_8, 4)
    textured = paint + (rough * _texture(camera, samples))[..., None]
    shrunk = cv2.resize(textured, (camera.imgsz, camera.imgsz), interpolation=cv2.INTER_AREA)
    albedo: Array = np.clip(shrunk, 0, 255).astype(np.float32)
    return albedo


def _texture(camera: Camera, samples: int) -> Array:
    """Grain, patches and stains of the ground, fixed to the world, about ±1."""
    rng = np.random.default_rng(20240229)
    x, y, depth = camera.ground_of_pixels(samples)
    near = np.clip(11.0 / np.maximum(depth, 1.0), 0.0, 1.0)
    total = np.zeros_like(x)
    for metres, strength in ((0.04, 0.9), (0.35, 0.55), (2.6, 0.9), (7.0, 0.7)):
        tile = np.pad(rng.standard_normal((_TEXTURE, _TEXTURE), np.float32), 8, mode="wrap")
        noise = cv2.GaussianBlur(tile, (0, 0), 1.2)[8:-8, 8:-8]
        noise /= float(noise.std())
        columns, rows = np.mod(x / metres, _TEXTURE).astype(np.float32), np.mod(y / metres, _TEXTURE).astype(np.float32)
        octave = cv2.remap(noise, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        # Fine grain far away is finer than a pixel and would only flicker.
        total += octave * strength * (near if metres < 1 else 1.0)
    return total.astype(np.float32)
