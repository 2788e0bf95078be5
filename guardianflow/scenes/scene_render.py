"""One frame of a generated scene: movers and props laid over the stage, and the truth about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Array, Sprite
from guardianflow.scenes.scene_figures import Figure, Light
from guardianflow.scenes.scene_light import Beam, Exposure, beam_light, expose
from guardianflow.scenes.scene_motion import Mover
from guardianflow.scenes.scene_people import PersonLook, draw_person
from guardianflow.scenes.scene_stage import Stage, StandingProp, blend
from guardianflow.scenes.scene_vehicles import VehicleLook, draw_vehicle

__all__ = ["Frame", "Seen", "render_frame"]

Box = tuple[int, int, int, int]
_NOBODY = -1
_CONTACT = 0.5  # darkness right under a mover


@dataclass(frozen=True)
class Seen:
    """One mover as it is seen in one frame.

    Attributes:
        identity: The mover's.
        label: ``"person"`` or ``"vehicle"``.
        box: Left, top, right, bottom of its visible pixels, in pixel edges; ``None`` when hidden.
        whole: The same as if nothing stood before it, clipped to the image.
        visibility: Visible share of its silhouette, 0–1; what lies beyond the image counts as hidden.
    """

    identity: int
    label: str
    box: Box | None
    whole: Box
    visibility: float


@dataclass(frozen=True)
class Frame:
    """``image`` is ``(imgsz, imgsz, 3)`` BGR, 8 bit; ``seen`` lists the movers in it."""

    image: NDArray[np.uint8]
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class _Layer:
    """Something to lay over the stage: its ground corners decide what is before what."""

    corners: tuple[tuple[float, float], ...]
    sprite: Sprite
    mover: int

    @property
    def distance(self) -> float:
        return sum(y for _, y in self.corners) / len(self.corners)


def render_frame(
    stage: Stage,
    movers: Sequence[Mover],
    clutter: Sequence[StandingProp],
    light: Light,
    exposure: Exposure,
    rng: np.random.Generator,
    *,
    frame: int = 0,
    noise: float = 3.0,
) -> Frame:
    """Draw one frame.

    Args:
        stage: The empty site.
        movers: Who is there.
        clutter: Small things that lie about.
        light: The sun, or none.
        exposure: How the image is taken.
        rng: Source of the noise alone.
        frame: Which of the movers' frames.
        noise: Standard deviation of the sensor's noise in grey levels, by daylight.

    Returns:
        The image, and every mover that has at least one pixel in it or would have, were nothing
        standing before it.
    """
    present = [mover for mover in movers if mover.present[frame]]
    beams = _beams(present, frame) if light.lamps else []
    figures = [_figure(stage, mover, frame, light, beams) for mover in present]
    props = [*stage.props, *clutter]
    image = _shaded(stage, present, figures, props, light, frame)
    if beams:
        image += stage.ground * beam_light(stage.camera, beams)
    layers = [_prop_layer(item) for item in props]
    for number, (mover, figure) in enumerate(zip(present, figures, strict=True)):
        place = mover.place(frame)
        sprite = stage.hazed(figure.draw(stage.camera), place.x, place.y)
        layers.append(_Layer(tuple(mover.footprint(frame)), sprite, number))
    owner = np.full(image.shape[:2], _NOBODY, np.int16)
    for layer in _far_to_near(layers):
        blend(image, layer.sprite)
        clip = layer.sprite.clip(stage.camera.imgsz)
        if clip is not None:
            rows, columns, patch_rows, patch_columns = clip
            owner[rows, columns][layer.sprite.covered[patch_rows, patch_columns]] = layer.mover
    if light.lamps:
        _glow(image, stage, figures, owner)
        for item in stage.props:
            _glow(image, stage, [item.figure], None)
    sprites = [layer.sprite for layer in layers if layer.mover != _NOBODY]
    seen = [_observe(mover, sprite, owner == i) for i, (mover, sprite) in enumerate(zip(present, sprites, strict=True))]
    final = expose(image, rng, stage.condition, exposure, noise=noise)
    return Frame(final, tuple(item for item in seen if item is not None))


def _figure(stage: Stage, mover: Mover, frame: int, light: Light, beams: list[Beam]) -> Figure:
    place = mover.place(frame)
    b, g, r = stage.level(place.x, place.y)
    extra = 0.7 * max((beam.on(place.x, place.y) for beam in beams), default=0.0)
    level = (b + extra * 0.85, g + extra * 0.95, r + extra)
    if isinstance(mover.look, PersonLook):
        return draw_person(mover.look, place, float(mover.gait[frame]), mover.stride, light, level)
    return draw_vehicle(mover.look, place, stage.camera, replace(light, lamps=light.lamps and not mover.parked), level)


def _beams(movers: list[Mover], frame: int) -> list[Beam]:
    beams = []
    for mover in movers:
        if isinstance(mover.look, VehicleLook) and not mover.parked:
            place = mover.place(frame)
            nose = mover.look.shape.length / 2
            front = (place.x + nose * math.cos(place.heading), place.y + nose * math.sin(place.heading))
            beams.append(Beam(type(place)(*front, place.heading)))
    return beams


def _shaded(
    stage: Stage, movers: list[Mover], figures: list[Figure], props: list[StandingProp], light: Light, frame: int
) -> Array:
    """The stage with the shadows of everything that stands on it."""
    size = stage.camera.imgsz
    contact = np.zeros((size, size), np.uint8)
    for mover in movers:
        corners = np.array([(x, y, 0.0) for x, y in mover.footprint(frame)])
        uv = np.rint((stage.camera.project(corners)[:, :2] - 0.5).clip(-8000, 8000) * 16).astype(np.int32)
        cv2.fillConvexPoly(contact, uv, 255, cv2.LINE_AA, 4)
    dark = cv2.GaussianBlur(contact, (0, 0), size / 200).astype(np.float32) * (_CONTACT / 255)
    if light.shadow > 0:
        mask = np.zeros((size, size), np.uint8)
        for figure in (*figures, *(item.figure for item in props)):
            figure.cast(stage.camera, light, mask)
        soft = cv2.GaussianBlur(mask, (0, 0), max(size / 500, 0.5)).astype(np.float32)
        dark = np.maximum(dark, soft * (light.shadow / 255))
    shaded: Array = stage.image * (1 - dark * stage.is_ground)[..., None]
    return shaded


def _prop_layer(item: StandingProp) -> _Layer:
    half_length, half_width = (1.5, 0.18) if item.prop.kind == "wall" else (0.25, 0.25)
    corners = item.prop.place.rectangle(half_length, half_width)
    return _Layer(tuple(corners), item.sprite, _NOBODY)


def _far_to_near(layers: list[_Layer]) -> list[_Layer]:
    """Painter's order: where two overlap in the image, the line between their footprints decides."""
    waiting = sorted(layers, key=lambda layer: -layer.distance)
    before: dict[int, set[int]] = {id(layer): set() for layer in waiting}
    for i, one in enumerate(waiting):
        for other in waiting[i + 1 :]:
            if (one.mover == _NOBODY and other.mover == _NOBODY) or not _overlap(one.sprite, other.sprite):
                continue
            near, far = (one, other) if _is_nearer(one.corners, other.corners) else (other, one)
            before[id(near)].add(id(far))
    ordered: list[_Layer] = []
    while waiting:
        done = {id(layer) for layer in ordered}
        ready = next((layer for layer in waiting if before[id(layer)] <= done), waiting[0])
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _overlap(one: Sprite, other: Sprite) -> bool:
    height, width = (int(side) for side in one.alpha.shape)
    other_height, other_width = (int(side) for side in other.alpha.shape)
    return (
        one.left < other.left + other_width
        and other.left < one.left + width
        and one.top < other.top + other_height
        and other.top < one.top + height
    )


def _is_nearer(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> bool:
    """Whether a convex footprint lies on the camera's side of a line between it and another."""
    for corners, rest, sign in ((one, other, True), (other, one, False)):
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            # Corners run anticlockwise, so the outside of an edge is on its right.
            def outside(x: float, y: float, x0: float = x0, y0: float = y0, x1: float = x1, y1: float = y1) -> bool:
                return (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) < 1e-9

            if all(outside(x, y) for x, y in rest):
                return (not outside(0.0, 0.0)) is sign
    return min(y for _, y in one) < min(y for _, y in other)


def _observe(mover: Mover, sprite: Sprite, mask: NDArray[np.bool_]) -> Seen | None:
    covered = sprite.covered
    clip = sprite.clip(mask.shape[0])
    total = int(covered.sum())
    if clip is None or not total:
        return None
    rows, columns, patch_rows, patch_columns = clip
    whole = _bounds(covered[patch_rows, patch_columns], columns.start, rows.start)
    if whole is None:
        return None
    visible = mask[rows, columns]
    box = _bounds(visible, columns.start, rows.start)
    return Seen(mover.identity, mover.label, box, whole, float(visible.sum()) / total)


def _bounds(mask: NDArray[np.bool_], left: int, top: int) -> Box | None:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _glow(image: Array, stage: Stage, figures: Sequence[Figure], owner: NDArray[np.int16] | None) -> None:
    """Add the halo of every lamp that is in sight."""
    size = stage.camera.imgsz
    for number, figure in enumerate(figures):
        for points, colour, reach in figure.lamps:
            for u, v, depth in stage.camera.project(points):
                column, row = int(u), int(v)
                if not (0 <= column < size and 0 <= row < size):
                    continue
                if owner is not None and owner[row, column] != number:
                    continue
                radius = max(int(reach * stage.camera.focal_px / depth), 2)
                y0, y1 = max(row - radius, 0), min(row + radius + 1, size)
                x0, x1 = max(column - radius, 0), min(column + radius + 1, size)
                away = np.hypot(np.arange(x0, x1) - u, (np.arange(y0, y1) - v)[:, None]) / radius
                halo = np.clip(1 - away, 0, 1) ** 2.5
                image[y0:y1, x0:x1] += (halo[..., None] * np.array(colour)).astype(np.float32)
