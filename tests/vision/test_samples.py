"""What a model sees on some images, and how large boxes are to it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardianflow.data.dataset import read_dataset
from guardianflow.data.labels import read_labels
from guardianflow.vision.samples import box_sizes, label_boxes, match_boxes, sample_predictions
from tests.trainings import Trained


def test_matching_is_one_to_one_and_takes_the_best_overlap() -> None:
    truth = np.array([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 3.0, 1.0]])
    predicted = np.array([[0.0, 0.0, 1.0, 0.9], [0.0, 0.0, 1.0, 1.0], [2.4, 0.0, 3.4, 1.0], [2.1, 0.0, 3.1, 1.0]])
    # The first takes the label; the exact one comes too late. IoU 0.6/1.4 is not enough, 0.9/1.1 is.
    assert match_boxes(truth, predicted) == [(0, 0), (1, 3)]
    assert match_boxes(truth, predicted[:0]) == []
    assert match_boxes(truth[:0], predicted) == []


def test_labels_are_read_as_corners_and_polygons_as_their_boxes(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeff1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.3 0.1 0.2 0.6\n", encoding="utf-8")
    classes, boxes = label_boxes(read_labels(file, classes=2))
    assert classes == [1, 0]
    np.testing.assert_allclose(boxes, [[0.4, 0.3, 0.6, 0.7], [0.1, 0.1, 0.3, 0.6]])
    assert label_boxes(read_labels(tmp_path / "none.txt", classes=2))[1].shape == (0, 4)


def test_samples_show_every_label_once_as_found_or_missed(trained: Trained) -> None:
    dataset = read_dataset(trained.data_yaml)
    samples = sample_predictions(trained.result.best, dataset, count=3, imgsz=64, device="cpu")
    assert len(samples) == 3
    for sample in samples:
        classes, _ = label_boxes(dataset.read_labels(dataset.root / sample["name"]))
        assert sum(box["kind"] in {"found", "missed"} for box in sample["boxes"]) == len(classes)
        assert {box["name"] for box in sample["boxes"]} <= set(dataset.names)
        with Image.open(io.BytesIO(base64.b64decode(sample["jpeg"]))) as picture:
            assert picture.size == (sample["width"], sample["height"]) == (96, 96)


def test_images_that_cant_be_used_are_not_shown(trained: Trained) -> None:
    dataset = read_dataset(trained.data_yaml)
    first, *rest = dataset.images("val")
    samples = sample_predictions(trained.result.best, dataset, count=9, imgsz=64, device="cpu", exclude=[first])
    assert {sample["name"] for sample in samples} == {dataset.relative_name(image) for image in rest}


def test_box_sizes_are_in_pixels_of_the_models_input(tmp_path: Path) -> None:
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [a, b]\n")
    # 100 x 50 pixels of an image that is halved to fit 100 pixels
    assert box_sizes(read_dataset(tmp_path / "data.yaml"), imgsz=100) == [("b", pytest.approx(50), pytest.approx(25))]
