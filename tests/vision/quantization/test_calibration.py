"""The draw of calibration images: reproducible, of every class, and no stumbling over what can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guardianflow.data.dataset import read_dataset
from guardianflow.exceptions import DatasetError
from guardianflow.vision.pipeline.decoding import decode_image
from guardianflow.vision.pipeline.letterbox import letterbox
from guardianflow.vision.quantizers.calibration import draw_calibration_set
from tests.trainings import ODD, copy_data


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    return copy_data(tiny_data, tmp_path / ODD)


def train_images(data: Path) -> list[Path]:
    return read_dataset(data).images("train")


def test_the_same_seed_draws_the_same_images_and_another_seed_others(data: Path) -> None:
    dataset = read_dataset(data)
    one, again, other = (draw_calibration_set(dataset, imgsz=64, count=6, seed=seed) for seed in (0, 0, 1))
    assert one.names == again.names
    assert one.fingerprint == again.fingerprint
    assert other.names != one.names
    assert other.fingerprint != one.fingerprint


def test_the_fingerprint_follows_the_pixels_and_how_they_are_prepared(data: Path) -> None:
    dataset = read_dataset(data)
    before = draw_calibration_set(dataset, imgsz=64, count=6)
    assert draw_calibration_set(dataset, imgsz=96, count=6).fingerprint != before.fingerprint
    changed = before.images[0]
    changed.write_bytes(next(image for image in train_images(data) if image not in before.images).read_bytes())
    after = draw_calibration_set(dataset, imgsz=64, count=6)
    assert after.names == before.names
    assert after.fingerprint != before.fingerprint


def test_images_come_from_the_training_split_alone_and_no_more_than_there_are(data: Path) -> None:
    drawn = draw_calibration_set(read_dataset(data), imgsz=64, count=1000)
    assert sorted(drawn.images) == train_images(data)
    assert len(drawn) == drawn.available == len(set(drawn.images))


def test_a_class_on_one_image_is_drawn_even_where_few_are(data: Path) -> None:
    dataset = read_dataset(data)
    images = dataset.images("train")
    for image in images:
        dataset.label_path(image).write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    rare = images[-1]
    dataset.label_path(rare).write_text("1 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    for seed in range(5):
        drawn = draw_calibration_set(dataset, imgsz=64, count=2, seed=seed)
        assert rare in drawn.images
        assert drawn.classes == {"person": 1, "vehicle": 1}


def test_images_are_letterboxed_as_the_pipeline_does(data: Path) -> None:
    drawn = draw_calibration_set(read_dataset(data), imgsz=96, count=2)
    tensors = list(drawn.tensors())
    assert [tensor.shape for tensor in tensors] == [(1, 3, 96, 96)] * 2
    expected, _ = letterbox(decode_image(drawn.images[0]), 96)
    np.testing.assert_array_equal(tensors[0][0], expected)


def test_an_image_that_cannot_be_decoded_is_skipped_and_named(data: Path) -> None:
    images = train_images(data)
    images[0].write_bytes(b"no image at all")
    drawn = draw_calibration_set(read_dataset(data), imgsz=64, count=len(images))
    assert len(drawn) == len(images) - 1
    assert [item.name for item in drawn.skipped] == [read_dataset(data).relative_name(images[0])]
    assert drawn.skipped[0].reason
    assert len(list(drawn.tensors())) == len(drawn)


def test_a_training_split_without_images_is_refused_with_the_next_step(data: Path) -> None:
    for image in train_images(data):
        image.unlink()
    with pytest.raises(DatasetError, match=r"holds no images.*--data"):
        draw_calibration_set(read_dataset(data), imgsz=64)


def test_a_training_split_without_a_readable_image_is_refused(data: Path) -> None:
    for image in train_images(data):
        image.write_bytes(b"")
    with pytest.raises(DatasetError, match="can be read"):
        draw_calibration_set(read_dataset(data), imgsz=64)
