"""Which boxes of a raw output are kept: the same that Ultralytics keeps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision  # noqa: F401 - Ultralytics' suppression uses it where it is loaded; the other path sorts unstably
from hypothesis import given, settings
from hypothesis import strategies as st

from guardianflow.exceptions import InputError
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.pipeline.suppression import SelectedBoxes, select_boxes, select_image

Floats = npt.NDArray[np.float32]


def random_head(seed: int, *, classes: int, anchors: int, images: int = 1, crowding: float = 0.3) -> Floats:
    """Boxes that overlap in clusters, as around real objects; many scores are equal."""
    rng = np.random.default_rng(seed)
    raw = np.empty((images, 4 + classes, anchors), np.float32)
    centres = rng.uniform(0, 640, (max(int(anchors * crowding), 1), 4))
    chosen = centres[rng.integers(0, len(centres), images * anchors)].reshape(images, anchors, 4)
    raw[:, :4] = (chosen + rng.normal(0, 4, chosen.shape)).transpose(0, 2, 1)
    raw[:, 2:4] = np.abs(raw[:, 2:4]) / 4 + 1
    raw[:, 4:] = np.round(rng.beta(0.4, 3, (images, classes, anchors)), 3)
    return raw


def theirs(raw: Floats, **options: Any) -> list[Floats]:
    import_ultralytics()
    from ultralytics.utils.nms import non_max_suppression

    kept = non_max_suppression(torch.from_numpy(raw.copy()), max_time_img=60.0, **options)
    return [np.asarray(rows.numpy(), np.float32) for rows in kept]


def assert_same(ours: SelectedBoxes, rows: Floats) -> None:
    np.testing.assert_array_equal(ours.labels, rows[:, 5].astype(int))
    np.testing.assert_array_equal(ours.scores, rows[:, 4])
    np.testing.assert_array_equal(ours.boxes, rows[:, :4])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([1, 2, 3, 20]),
    anchors=st.integers(1, 700),
    crowding=st.sampled_from([0.01, 0.1, 0.5]),
    confidence=st.sampled_from([0.001, 0.25, 0.9]),
    iou=st.sampled_from([0.0, 0.45, 0.7, 1.0]),
    max_det=st.sampled_from([1, 10, 300]),
    multi_label=st.booleans(),
)
def test_the_same_boxes_are_kept_as_by_ultralytics(
    seed: int, classes: int, anchors: int, crowding: float, confidence: float, iou: float, max_det: int,
    multi_label: bool,
) -> None:  # fmt: skip
    raw = random_head(seed, classes=classes, anchors=anchors, images=2, crowding=crowding)
    expected = theirs(raw, conf_thres=confidence, iou_thres=iou, max_det=max_det, multi_label=multi_label)
    found = select_boxes(raw, confidence=confidence, iou=iou, max_det=max_det, multi_label=multi_label)
    for ours, rows in zip(found, expected, strict=True):
        assert_same(ours, rows)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_full_size_output_of_80_classes_gives_the_same_boxes(multi_label: bool) -> None:
    raw = random_head(3, classes=80, anchors=8400, crowding=0.02)
    raw[:, 4:] *= np.random.default_rng(4).random(raw[:, 4:].shape, np.float32)  # unequal scores: the cap has no ties
    (rows,) = theirs(raw, conf_thres=0.2, iou_thres=0.7, multi_label=multi_label)
    (ours,) = select_boxes(raw, confidence=0.2, multi_label=multi_label)
    assert len(ours.scores) == 300
    assert_same(ours, rows)


def test_boxes_of_different_classes_dont_drop_each_other() -> None:
    raw = np.zeros((1, 6, 2), np.float32)
    raw[0, :4] = np.array([50, 50, 20, 20])[:, None]
    raw[0, 4, 0], raw[0, 5, 1] = 0.9, 0.8
    (found,) = select_boxes(raw, confidence=0.1)
    assert found.labels.tolist() == [0, 1]
    raw[0, 4:] = [[0.9, 0.8], [0, 0]]
    (found,) = select_boxes(raw, confidence=0.1)
    np.testing.assert_array_equal(found.boxes, [[40, 40, 60, 60]])


def test_a_box_counts_for_several_classes_only_where_asked() -> None:
    raw = np.array([50, 50, 20, 20, 0.6, 0.7], np.float32).reshape(1, 6, 1)
    raw = np.concatenate([raw, np.zeros_like(raw)], axis=2)
    assert select_boxes(raw, confidence=0.1)[0].labels.tolist() == [1]
    assert select_boxes(raw, confidence=0.1, multi_label=True)[0].labels.tolist() == [1, 0]


def test_the_number_of_candidates_is_capped_to_the_best() -> None:
    raw = random_head(1, classes=1, anchors=500, crowding=1.0)
    raw[0, :2] = np.arange(500) * 1000.0  # nothing overlaps
    best = np.sort(raw[0, 4])[::-1][:20]
    found = select_image(raw[0], confidence=0.0, max_candidates=20)
    np.testing.assert_array_equal(found.scores, best)


def test_an_end_to_end_output_is_only_filtered_and_capped() -> None:
    rows = np.array(
        [[0, 0, 10, 10, 0.9, 2], [0, 0, 10, 10, 0.8, 2], [5, 5, 6, 6, 0.5, 0], [1, 1, 2, 2, 0.1, 1]], np.float32
    )
    (found,) = select_boxes(rows[None], confidence=0.25, max_det=300)
    assert_same(found, theirs(rows[None], conf_thres=0.25)[0])
    assert found.labels.tolist() == [2, 2, 0]
    assert len(select_boxes(rows[None], confidence=0.25, max_det=1)[0].scores) == 1


def test_values_that_are_no_numbers_are_left_out_and_counted() -> None:
    raw = random_head(2, classes=3, anchors=40, crowding=1.0)
    raw[0, :2] = np.arange(40) * 1000.0
    raw[0, 4:] = 0.5
    raw[0, 5, 3] = np.nan  # a score
    raw[0, 6, 4] = np.inf
    raw[0, 0, 5] = np.nan  # a coordinate of a box above the confidence
    found = select_image(raw[0], confidence=0.25)
    assert len(found.scores) == 37
    assert found.not_finite == 3
    assert np.isfinite(found.boxes).all()
    rows = np.array([[0, 0, 1, 1, np.nan, 0], [0, 0, 1, 1, 0.5, 0]], np.float32)
    found = select_image(rows, confidence=0.25)
    assert (len(found.scores), found.not_finite) == (1, 1)


def test_an_output_without_boxes_gives_empty_arrays() -> None:
    raw = np.zeros((2, 7, 100), np.float32)
    for found in select_boxes(raw, confidence=0.001, multi_label=True):
        assert found.boxes.shape == (0, 4)
        assert (found.scores.dtype, found.labels.dtype) == (np.float32, np.int32)
    assert len(select_boxes(raw[:, :, :0].reshape(2, 7, 0)[:, :, :0], confidence=0.5)) == 2


@pytest.mark.parametrize("shape", [(7, 100), (1, 4, 100), (1, 2, 7, 100)])
def test_an_output_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="has the shape"):
        select_boxes(np.zeros(shape, np.float32), confidence=0.5)


def test_the_worst_output_still_ends_soon() -> None:
    raw = random_head(5, classes=80, anchors=8400, crowding=1.0)
    raw[0, 4:] = np.random.default_rng(0).uniform(0.5, 1, raw[0, 4:].shape)  # everything above the confidence
    began = time.process_time()
    found = select_image(raw[0], confidence=0.001, multi_label=True)
    assert len(found.scores) == 300
    assert time.process_time() - began < 5
