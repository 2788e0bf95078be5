"""Where two models disagree: what one finds, misses or imagines and the other doesn't, image by image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from guardianflow.data.dataset import read_dataset
from guardianflow.evaluation.detection.records import DetectionRecord, Images
from guardianflow.plots.predictions import PairGallery
from guardianflow.vision.disagreements import find_disagreement, most_disputed
from tests.evaluation.records import jittered, random_record, record_of

CLASSES = ("사람", "<b>")
CROWD = (1, 0, 200, 200, 260, 260, True)
TRUTH = [(0, 0, 10, 10, 60, 60), (0, 1, 100, 10, 160, 60), (1, 0, 10, 10, 60, 60), CROWD]
BOTH = [(0, 0, 0.9, 10, 10, 60, 60)]
GHOST = (1, 0, 0.8, 300, 300, 360, 360)


def pair() -> tuple[DetectionRecord, DetectionRecord]:
    """On image 0 only the second finds the object of class 1; on image 1 each imagines something, once the same."""
    first = [*BOTH, GHOST, (1, 1, 0.7, 10, 10, 60, 60), (2, 0, 0.2, 0, 0, 9, 9), (1, 0, 0.9, 205, 205, 255, 255)]
    second = [*BOTH, (0, 1, 0.5, 100, 12, 160, 60), (1, 0, 0.6, 302, 300, 362, 360)]
    one, other = (record_of(TRUTH, found, images=3, classes=CLASSES) for found in (first, second))
    return one, other


def test_each_is_counted_against_the_labels_and_against_the_other() -> None:
    found = find_disagreement(*pair())
    assert found.found() == (
        {"labelled": 3, "found": 1, "imagined": 2},
        {"labelled": 3, "found": 2, "imagined": 1},
    )
    # Image 0: an object that one misses, double. Image 1: the box of class 1; the ghost is shared, the crowd is none.
    assert found.by_image().tolist() == [2, 1, 0]
    assert find_disagreement(*pair(), confidence=0.1).by_image().tolist() == [2, 1, 1]


def test_the_worst_image_comes_first_and_only_what_differs_is_bright() -> None:
    images = most_disputed(find_disagreement(*pair()), None, split="val")
    assert [image["name"] for image in images] == ["0.jpg", "1.jpg"]
    bright = [[(box["kind"], box["name"]) for box in side if not box["shared"]] for side in images[0]["sides"]]
    assert bright == [[("missed", "<b>")], [("found", "<b>")]]
    assert [box["kind"] for box in images[0]["sides"][0]].count("labelled") == 2
    shared = [(box["kind"], box["shared"]) for box in images[1]["sides"][1]]
    assert shared == [("imagined", True), ("missed", True), ("labelled", True)]
    assert [(box["kind"], box["shared"]) for box in images[1]["sides"][0]][:2] == [
        ("imagined", True),
        ("imagined", False),
    ]


def test_two_that_see_the_same_have_nothing_to_show() -> None:
    record, _ = pair()
    found = find_disagreement(record, record)
    assert most_disputed(found, None, split="val") == []
    assert "the two show the same on every image" in repr(PairGallery(("A", "B"), [], 0.25))


def test_swapping_the_two_swaps_their_counts() -> None:
    one = random_record(2, images=20)
    other = jittered(one, 1, score=0.3, drop=0.2)
    there, back = find_disagreement(one, other), find_disagreement(other, one)
    assert there.found() == back.found()[::-1]
    assert there.found()[0]["found"] > there.found()[1]["found"] > 0
    disputed = [int((each.sides[0].met != each.sides[1].met).sum()) for each in (there, back)]
    assert disputed[0] == disputed[1] > 0


def test_the_photographs_stand_behind_the_boxes_where_they_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "images" / "val").mkdir(parents=True)
    for name, side in (("0.jpg", 64), ("1.jpg", 32)):
        cv2.imwrite(str(tmp_path / "images" / "val" / name), np.full((side, 64, 3), 90, np.uint8))
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: images/val\nval: images/val\nnames: {0: a, 1: b}\n", encoding="utf-8")
    names = Images(tuple(f"images/val/{place}.jpg" for place in range(3)), np.full(3, 64), np.full(3, 64))
    one, other = (dataclasses.replace(record, images=names) for record in pair())
    images = most_disputed(find_disagreement(one, other), read_dataset(yaml), split="val")
    assert [bool(image["jpeg"]) for image in images] == [True, False], "the second has another size now"
    gallery = PairGallery(("A", "B"), images, 0.25)
    assert "the photograph is not on this machine, or was changed since" in repr(gallery)
    assert "B finds 1 that the other misses" in repr(gallery)
    assert "A imagines 1 of its own" in repr(gallery)
    sheet = cv2.imdecode(np.frombuffer(gallery._repr_jpeg_() or b"", np.uint8), cv2.IMREAD_GRAYSCALE)
    assert (np.abs(sheet.astype(int) - 90) < 8).mean() > 0.2, "both sides of the first stand on the photograph"
