"""The square that a model sees: to the bit what Ultralytics makes of the same image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.pipeline.letterbox import Letterboxer, Placement, letterbox

Pixels = npt.NDArray[np.uint8]


def picture(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def theirs(image: Pixels, imgsz: int) -> npt.NDArray[Any]:
    """Ultralytics' letterbox, then the conversion of its predictor."""
    import_ultralytics()
    from ultralytics.data.augment import LetterBox

    square = LetterBox((imgsz, imgsz), auto=False, scaleup=True, center=True)(image=image)
    tensor = torch.from_numpy(square).unsqueeze(0).permute(0, 3, 1, 2).contiguous().flip(1)
    return np.asarray(tensor.float().div_(255).numpy()[0])


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([32, 96, 320, 641]))
@example(1, 700, 320)
@example(700, 1, 320)
@example(1, 1, 96)
@example(320, 320, 320)
@example(640, 480, 320)
@example(333, 500, 641)
def test_every_size_gives_the_values_of_ultralytics_to_the_bit(width: int, height: int, imgsz: int) -> None:
    image = picture(width, height)
    square, placed = letterbox(image, imgsz)
    np.testing.assert_array_equal(square, theirs(image, imgsz))
    assert (placed.width, placed.height, placed.imgsz) == (width, height, imgsz)


def test_a_buffer_used_again_holds_nothing_of_the_image_before() -> None:
    writer = Letterboxer(96)
    out = np.full((3, 96, 96), np.nan, np.float32)
    before: Placement | None = None
    for seed, (width, height) in enumerate([(50, 96), (96, 50), (96, 50), (96, 96), (96, 51), (20, 200), (10, 100)]):
        image = picture(width, height, seed)
        before = writer.write(image, out, before=before)
        np.testing.assert_array_equal(out, theirs(image, 96))


def test_writing_leaves_the_image_and_its_neighbours_alone() -> None:
    image = picture(64, 48)
    copy = image.copy()
    batch = np.full((3, 3, 64, 64), -1, np.float32)
    Letterboxer(64).write(image, batch[1])
    np.testing.assert_array_equal(image, copy)
    assert (batch[[0, 2]] == -1).all()


def test_views_that_arent_in_c_order_are_taken() -> None:
    image = picture(90, 60)[:, ::-1]
    np.testing.assert_array_equal(letterbox(image, 96)[0], theirs(np.ascontiguousarray(image), 96))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([32, 320, 640]))
def test_boxes_come_back_as_ultralytics_scales_them(width: int, height: int, imgsz: int) -> None:
    import_ultralytics()
    from ultralytics.utils.ops import scale_boxes

    boxes = np.random.default_rng(width * height).uniform(-20, imgsz + 20, (30, 4)).astype(np.float32)
    found = Placement.of(width, height, imgsz).to_image(boxes)
    expected = scale_boxes((imgsz, imgsz), torch.from_numpy(boxes.copy()), (height, width)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= [width, height, width, height]).all()


def test_a_box_goes_there_and_back() -> None:
    placed = Placement.of(640, 480, 320)
    assert (placed.left, placed.top, placed.inner_width, placed.inner_height) == (0, 40, 320, 240)
    assert placed.scale == pytest.approx(0.5)
    square = np.array([[5, 50, 150, 240]], np.float32)
    np.testing.assert_array_equal(placed.to_image(square), [[10, 20, 300, 400]])
