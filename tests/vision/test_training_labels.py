"""The boxes that a training sees are those that the check counted and that an evaluation scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guardianflow.data.dataset import check_dataset, read_dataset, write_resolved_yaml
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.samples import label_boxes

import_ultralytics()

from ultralytics.cfg import DEFAULT_CFG, get_cfg  # noqa: E402
from ultralytics.data.build import build_yolo_dataset  # noqa: E402
from ultralytics.data.dataset import YOLODataset  # noqa: E402
from ultralytics.data.utils import check_det_dataset, verify_image_label  # noqa: E402

from guardianflow.vision.training._isolation import isolated  # noqa: E402
from guardianflow.vision.training._labels import read_checked_labels  # noqa: E402

BOX = "1 0.5 0.5 0.25 0.5"
POSE = f"{BOX} 0.5 0.4 0.6 0.6 0.4 0.6 0.5 0.7"
OUTLINE = "0 0.25 0.25 0.75 0.25 0.75 0.5 0.5 0.625 0.25 0.5"


def write_images(folder: Path, rows: dict[str, str | None]) -> Path:
    """Images with a label file each (``None``: none) in folders of images; returns that of the images."""
    chance = np.random.default_rng(0)
    for name, text in rows.items():
        image = folder / "images" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 255, (40, 60, 3), np.uint8)).save(image)
        if text is not None:
            label = folder / "labels" / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text, encoding="utf-8")
    return folder / "images"


def trained_on(data_yaml: Path, run: Path) -> list[dict[str, Any]]:
    """What the training's own reader makes of a dataset, image by image."""
    resolved = write_resolved_yaml(read_dataset(data_yaml), run / "data.yaml")
    with isolated():
        data = check_det_dataset(str(resolved), autodownload=False)
        return list(YOLODataset(data["train"], data=data, task="detect", imgsz=64, augment=False).labels)


@pytest.mark.parametrize("extra", ["", "kpt_shape: [4, 2]\n"], ids=["boxes and polygons", "keypoints"])
def test_training_check_and_evaluation_see_the_same_boxes_along_a_link(tmp_path: Path, extra: str) -> None:
    rows: dict[str, str | None] = {
        "background": None, "empty": "\n", "box": f"{BOX}\n0 0.1 0.1 0.1 0.1\n", "twice": f"{BOX}\n{BOX}\n",
        "long": f"{POSE}\n" if extra else f"{OUTLINE}\n",
    }  # fmt: skip
    images = write_images(tmp_path / "store", dict.fromkeys(rows, "0 0.9 0.9 0.1 0.1\n"))
    write_images(tmp_path / "mine", rows)
    for image in (tmp_path / "mine" / "images").iterdir():
        image.unlink()
    (tmp_path / "mine" / "images").rmdir()
    (tmp_path / "mine" / "images").symlink_to(images)
    data_yaml = tmp_path / "mine" / "data.yaml"
    data_yaml.write_text(f"train: images\nval: images\nnames: [a, b]\n{extra}")
    dataset = read_dataset(data_yaml)
    seen = trained_on(data_yaml, tmp_path / "run")
    assert [Path(each["im_file"]) for each in seen] == dataset.images("train")
    for each in seen:
        classes, corners = label_boxes(dataset.read_labels(Path(each["im_file"])))
        assert each["cls"][:, 0].tolist() == classes
        centre, size = each["bboxes"][:, :2], each["bboxes"][:, 2:]
        np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), corners, atol=1e-6)
    report = check_dataset(dataset)
    assert report.splits["train"].boxes_per_class == ({"a": 1, "b": 3} if extra else {"a": 2, "b": 2})
    assert sum(len(each["cls"]) for each in seen) == report.splits["train"].boxes
    (long,) = (each for each in seen if "long" in each["im_file"])
    np.testing.assert_allclose(long["bboxes"], [[0.5, 0.5, 0.25, 0.5] if extra else [0.5, 0.4375, 0.5, 0.375]])


def test_ordinary_labels_are_handed_over_as_ultralytics_would_read_them(tmp_path: Path) -> None:
    texts = {
        "box": f"{BOX}\n0 0.1 0.2 0.1 0.1\n",
        "outline": f"{OUTLINE}\n{OUTLINE.replace('0.625', '0.7')}\n",
        "no": "",
    }
    images = write_images(tmp_path, {**texts, "none": None})
    for name in (*texts, "none"):
        label = tmp_path / "labels" / f"{name}.txt"
        arguments = (str(images / f"{name}.png"), str(label), "", False, 2, 0, 0, False)
        ours, theirs = read_checked_labels(arguments), verify_image_label(arguments)
        for mine, other in zip(ours[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(mine, other)
        assert tuple(ours[4:]) == tuple(theirs[4:])


def test_rows_that_the_check_refuses_leave_the_image_out_of_a_training_too(tmp_path: Path) -> None:
    images = write_images(
        tmp_path, {"track": "0 0.5 0.5 0.3 0.2 0.87 1\n", "gone": f"{BOX}\n", "many": "7 .5 .5 .1 .1"}
    )
    (images / "gone.png").unlink()
    for name, why in (("track", "may be a polygon, or a box"), ("gone", "No such file"), ("many", "class id 7")):
        arguments = (str(images / f"{name}.png"), str(tmp_path / "labels" / f"{name}.txt"), "", False, 2, 0, 0, False)
        image, *_, left_out, message = read_checked_labels(arguments)
        assert (image, left_out) == (None, 1)
        assert why in message
    one_class = (str(images / "many.png"), str(tmp_path / "labels" / "many.txt"), "", False, 1, 0, 0, True)
    assert read_checked_labels(one_class)[1].tolist() == [[7, 0.5, 0.5, pytest.approx(0.1), pytest.approx(0.1)]]


@pytest.mark.parametrize("cache", [None, "ram"])
def test_a_training_sees_the_images_and_not_what_lies_beside_them(tmp_path: Path, cache: str | None) -> None:
    images = write_images(tmp_path / "site", {"a": f"{BOX}\n", "b": f"{BOX}\n"})
    np.save(images / "a.npy", np.full((40, 60, 3), 255, np.uint8))  # other pixels, newer than the image
    (images / "b.npy").write_bytes(b"broken: Ultralytics would delete it")
    before = {file.name: file.read_bytes() for file in images.iterdir()}
    data_yaml = tmp_path / "site" / "data.yaml"
    data_yaml.write_text("train: images\nval: images\nnames: [a, b]\n")
    resolved = write_resolved_yaml(read_dataset(data_yaml), tmp_path / "run" / "data.yaml")
    with isolated():
        data = check_det_dataset(str(resolved), autodownload=False)
        cfg = get_cfg(DEFAULT_CFG, {"imgsz": 60, "task": "detect", "cache": cache})
        dataset = build_yolo_dataset(cfg, data["train"], 2, data, mode="val")
        for place, file in enumerate(dataset.im_files):
            pixels = np.asarray(Image.open(file))[..., ::-1]
            np.testing.assert_array_equal(dataset.load_image(place)[0], pixels)
    assert {file.name: file.read_bytes() for file in images.iterdir()} == before
