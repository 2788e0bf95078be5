"""The boxes of generated scenes against silhouettes found in other ways than the renderer's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from guardianflow.scenes.scene_camera import Camera
from guardianflow.scenes.scene_config import CONDITION_NAMES, SITE_NAMES
from guardianflow.scenes.scene_figures import Light, Placement
from guardianflow.scenes.scene_light import CONDITIONS, Exposure, random_light
from guardianflow.scenes.scene_motion import Mover, populate
from guardianflow.scenes.scene_people import PersonLook, draw_person
from guardianflow.scenes.scene_render import Frame, Seen, render_frame
from guardianflow.scenes.scene_sites import SITES
from guardianflow.scenes.scene_stage import build_stage
from guardianflow.scenes.scene_vehicles import MODELS, VehicleLook, draw_vehicle

SIZE = 320
PLAIN = Exposure(1.0, (1.0, 1.0, 1.0))
NOON = Light((-0.3, -0.4, 0.87), 0.6, 0.0, lamps=False)


@cache
def crowd(site: str, seed: int) -> tuple[Mover, ...]:
    rng = np.random.default_rng(seed)
    return tuple(populate(rng, SITES[site], Camera(SIZE), people=(4, 6), vehicles=(3, 5)))


def shoot(site: str, movers: tuple[Mover, ...], *, condition: str = "day", light: Light = NOON) -> Frame:
    stage = build_stage(site, condition, SIZE)
    return render_frame(stage, movers, [], light, PLAIN, np.random.default_rng(0), noise=0)


def find(frame: Frame, mover: Mover) -> Seen:
    return next(seen for seen in frame.seen if seen.identity == mover.identity)


def painted(mover: Mover, grey: float) -> Mover:
    colour = (grey, grey, grey)
    if isinstance(mover.look, VehicleLook):
        return replace(mover, look=replace(mover.look, paint=colour, box=colour))
    bare = replace(mover.look, vest=None, helmet=None, backpack=None)
    flat = replace(bare, skin=colour, hair=colour, top=colour, trousers=colour, shoes=colour)
    return replace(mover, look=flat)


def changed_pixels(site: str, movers: tuple[Mover, ...], chosen: Mover) -> tuple[NDArray[np.bool_], Seen]:
    """Where the image changes when one mover is painted black, then white: its visible pixels."""
    shots = []
    for grey in (0.0, 255.0):
        repainted = tuple(painted(m, grey) if m is chosen else m for m in movers)
        shots.append(shoot(site, repainted))
    difference = np.abs(shots[0].image.astype(int) - shots[1].image.astype(int)).max(axis=2)
    changed = difference > 75
    # Along the edge of what stands before it a lone half-covered pixel may shine through: nobody's.
    neighbours = cv2.blur(changed.astype(np.float32), (3, 3)) * 9 - changed
    return changed & (neighbours > 0.5), find(shots[0], chosen)


def bounds(mask: NDArray[np.bool_], *, least: int = 1) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the rows and columns with at least so many pixels."""
    rows, columns = np.flatnonzero(mask.sum(axis=1) >= least), np.flatnonzero(mask.sum(axis=0) >= least)
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("site", SITE_NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_person_box_is_tight_around_the_pixels_that_change_with_its_clothes(site: str, seed: int) -> None:
    movers = crowd(site, seed)
    checked = 0
    for mover in movers:
        if mover.label != "person":
            continue
        mask, seen = changed_pixels(site, movers, mover)
        if seen.box is None or seen.visibility < 0.1:
            continue
        np.testing.assert_allclose(seen.box, bounds(mask), atol=1)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("site", SITE_NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_vehicle_box_is_tight_around_the_pixels_that_change_with_its_paint(site: str, seed: int) -> None:
    movers = crowd(site, seed)
    checked = 0
    for mover in movers:
        if mover.label != "vehicle":
            continue
        mask, seen = changed_pixels(site, movers, mover)
        if seen.box is None or seen.visibility < 0.6:
            continue
        # A level edge of what stands before it lets a line of half-covered pixels shine through.
        left, top, right, bottom = bounds(mask, least=2)
        # Tyres, bumpers and glass keep their colours: below the sills the paint can't tell.
        np.testing.assert_allclose(seen.box[:3], (left, top, right), atol=2)
        assert bottom <= seen.box[3] + 1
        checked += 1
    assert checked >= 1


@pytest.mark.parametrize("site", SITE_NAMES)
@pytest.mark.parametrize("seed", [4, 5])
def test_whole_box_agrees_with_a_drawing_four_times_as_large(site: str, seed: int) -> None:
    movers, large = crowd(site, seed), Camera(SIZE * 4)
    frame = shoot(site, movers)
    assert len(frame.seen) >= 4
    for mover in movers:
        place = mover.place(0)
        if isinstance(mover.look, PersonLook):
            figure = draw_person(mover.look, place, float(mover.gait[0]), mover.stride, NOON)
        else:
            figure = draw_vehicle(mover.look, place, large, NOON)
        sprite = figure.draw(large)
        image = np.zeros((large.imgsz, large.imgsz), bool)
        rows, columns, patch_rows, patch_columns = sprite.clip(large.imgsz) or pytest.fail("outside the image")
        image[rows, columns] = sprite.alpha[patch_rows, patch_columns] > 0.5
        np.testing.assert_allclose(find(frame, mover).whole, np.array(bounds(image)) / 4, atol=1.0)


def test_alone_and_inside_the_image_a_mover_is_all_visible() -> None:
    mover = next(m for m in crowd("car_park", 1) if m.label == "person")
    state = np.array([[1.0, 13.0, 0.4]])
    seen = find(shoot("car_park", (replace(mover, path=state),)), mover)
    assert seen.visibility == 1.0
    assert seen.box == seen.whole


def test_of_two_in_one_line_of_sight_the_nearer_hides_the_farther() -> None:
    person = next(m for m in crowd("car_park", 1) if m.label == "person")
    near = replace(person, identity=1, path=np.array([[0.0, 12.0, 0.4]]))
    far = replace(person, identity=2, path=np.array([[0.0, 13.0, 0.4]]))
    for movers in ((near, far), (far, near)):
        frame = shoot("car_park", movers)
        assert find(frame, near).visibility == 1.0
        assert find(frame, far).visibility < 0.7


def test_a_person_before_the_front_of_a_slanting_truck_is_not_hidden_by_it() -> None:
    """Sorting by the distance of the centres gets this wrong: the truck's centre is nearer."""
    some = crowd("gate", 1)[0]
    truck = replace(
        some, identity=1, label="vehicle", look=VehicleLook("truck", (90, 90, 90)), path=np.array([[-1.0, 13.0, 0.75]])
    )
    person = replace(
        next(m for m in crowd("gate", 1) if m.label == "person"), identity=2, path=np.array([[2.6, 13.9, 0.0]])
    )
    assert find(shoot("gate", (truck, person)), person).visibility > 0.95


def test_what_lies_beyond_the_image_counts_as_hidden() -> None:
    mover = replace(crowd("car_park", 1)[0], label="vehicle", look=VehicleLook("sedan", (90, 90, 90)))
    camera = Camera(SIZE)
    edge = 13.2 * 0.5 / camera.focal
    seen = find(shoot("car_park", (replace(mover, path=np.array([[-edge, 12.6, 0.0]])),)), mover)
    assert seen.whole[0] == 0
    assert 0.2 < seen.visibility < 0.8


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("heading", [0.0, 0.8, 1.57, 2.6, -1.9])
def test_vehicle_is_as_large_in_the_image_as_its_size_says(model: str, heading: float) -> None:
    camera, place = Camera(640), Placement(0.5, 15.0, heading)
    shape = MODELS[model]
    sprite = draw_vehicle(VehicleLook(model, (120, 120, 120)), place, camera, NOON).draw(camera)
    left, top, right, bottom = bounds(sprite.alpha > 0.5)
    height = max(shape.roof, shape.cargo[2] if shape.cargo else 0.0)
    half_length, half_width = shape.length / 2, shape.width / 2
    corners = [(a, b, c) for a in (-half_length, half_length) for b in (-half_width, half_width) for c in (0, height)]
    seen = camera.project(place.to_world(np.array(corners)))[:, :2]
    (u0, v0), (u1, v1) = seen.min(axis=0), seen.max(axis=0)
    # Never outside its bounding block, and it fills most of it.
    assert left + sprite.left >= u0 - 1.5
    assert top + sprite.top >= v0 - 1.5
    assert right + sprite.left <= u1 + 1.5
    assert bottom + sprite.top <= v1 + 1.5
    assert (right - left) > 0.85 * (u1 - u0)
    assert (bottom - top) > 0.7 * (v1 - v0)


def test_shadow_darkens_the_ground_and_is_no_part_of_the_box() -> None:
    mover = replace(next(m for m in crowd("car_park", 1) if m.label == "person"), path=np.array([[0.0, 13.5, 0.0]]))
    low_sun = Light((-0.8, -0.1, 0.59), 0.6, 0.6, lamps=False)
    lit, shaded = shoot("car_park", (mover,)), shoot("car_park", (mover,), light=low_sun)
    assert find(lit, mover).box == find(shaded, mover).box
    _, _, right, bottom = find(lit, mover).whole
    beside = (slice(bottom - 8, bottom), slice(right + 4, right + 12))
    assert shaded.image[beside].mean() < 0.75 * lit.image[beside].mean()


@pytest.mark.parametrize("condition", CONDITION_NAMES)
def test_truth_does_not_depend_on_the_weather(condition: str) -> None:
    movers = crowd("gate", 2)
    light = random_light(np.random.default_rng(1), CONDITIONS[condition])
    assert shoot("gate", movers, condition=condition, light=light).seen == shoot("gate", movers).seen
