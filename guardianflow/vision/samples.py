"""What a model sees on some labelled images: found, missed and imagined objects.

A person looks at this; the figures of a benchmark are made elsewhere.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.data.dataset import Dataset
from guardianflow.data.labels import ParsedLabels
from guardianflow.plots.predictions import SampleBox, SampleImage
from guardianflow.vision._ultralytics import import_ultralytics

__all__ = ["box_iou", "box_sizes", "compare_boxes", "label_boxes", "match_boxes", "sample_predictions", "thumbnail"]

MATCH_IOU = 0.5
THUMBNAIL_PX = 480

Boxes = npt.NDArray[np.float64]


def sample_predictions(
    weights: Path, dataset: Dataset, *, split: str = "val", count: int = 6, imgsz: int = 640,
    confidence: float = 0.25, seed: int = 0, device: str = "", exclude: Collection[Path] = (),
) -> list[SampleImage]:  # fmt: skip
    """Run a model on some labelled images and compare box by box.

    Args:
        weights: A ``.pt`` file.
        dataset: Where the images and labels are.
        split: Which split.
        count: How many images, drawn by ``seed`` among those with labels.
        imgsz: Side of the model's input, in pixels.
        confidence: Predictions below are left out.
        seed: Of the draw.
        device: As for training.
        exclude: Images to leave out, such as those that can't be used.
    """
    import cv2

    ultralytics = import_ultralytics()
    chosen = _choose(dataset, split, count, seed, set(exclude))
    model = ultralytics.YOLO(str(weights))
    samples = []
    for image, classes, truth in chosen:
        pixels = cv2.imdecode(np.fromfile(image, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            continue
        height, width = pixels.shape[:2]
        result = model.predict(pixels, imgsz=imgsz, conf=confidence, verbose=False, device=device or None)[0]
        found = result.boxes
        corners = found.xyxy.cpu().numpy().astype(float) / np.array([width, height, width, height])
        boxes = compare_boxes(
            dataset.names, classes, truth, found.cls.cpu().numpy().astype(int), corners, found.conf.cpu().numpy()
        )
        name, jpeg = dataset.relative_name(image), thumbnail(pixels)
        samples.append(SampleImage(name=name, width=width, height=height, jpeg=jpeg, boxes=boxes))
    return samples


def box_sizes(
    dataset: Dataset, split: str = "train", *, imgsz: int = 640, images: int = 300, seed: int = 0,
    exclude: Collection[Path] = (),
) -> list[tuple[str, float, float]]:  # fmt: skip
    """Class, width and height of the boxes on some images, in pixels of a square model input.

    Args:
        dataset: Where the images and labels are.
        split: Which split.
        imgsz: Side of the model's input; images are scaled to fit it with their shape kept.
        images: How many images, drawn by ``seed`` among those with labels.
        seed: Of the draw.
        exclude: Images to leave out.
    """
    from PIL import Image

    sizes = []
    for image, classes, boxes in _choose(dataset, split, images, seed, set(exclude)):
        with Image.open(image) as opened:
            width, height = opened.size
        scale = imgsz / max(width, height)
        sides = (boxes[:, 2:] - boxes[:, :2]) * np.array([width, height]) * scale
        sizes += [(dataset.names[index], float(w), float(h)) for index, (w, h) in zip(classes, sides, strict=True)]
    return sizes


def match_boxes(truth: Boxes, predicted: Boxes, *, iou: float = MATCH_IOU) -> list[tuple[int, int]]:
    """Pairs (label, prediction): each prediction in turn takes the free label it overlaps most.

    Args:
        truth: Corners, shape (n, 4).
        predicted: Corners, shape (m, 4), the most confident first.
        iou: Overlap (intersection over union) that a pair needs.
    """
    pairs: list[tuple[int, int]] = []
    free = set(range(len(truth)))
    overlaps = box_iou(truth, predicted)
    for place in range(len(predicted)):
        best = max(free, key=lambda index: overlaps[index, place], default=None)
        if best is not None and overlaps[best, place] >= iou:
            pairs.append((best, place))
            free.discard(best)
    return pairs


def label_boxes(labels: ParsedLabels | None) -> tuple[list[int], Boxes]:
    """Class ids and corners (fractions, shape (n, 4)) of labels; polygons as the boxes around them."""
    rows = labels.rows if labels else ()
    boxes = np.array([row[1:5] for row in rows], dtype=float).reshape(-1, 4)
    half = boxes[:, 2:] / 2
    return [row.class_id for row in rows], np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _choose(
    dataset: Dataset, split: str, count: int, seed: int, exclude: set[Path]
) -> list[tuple[Path, list[int], Boxes]]:
    images = [image for image in dataset.images(split) if image not in exclude]
    random.Random(seed).shuffle(images)  # noqa: S311 - a draw of pictures to look at
    chosen: list[tuple[Path, list[int], Boxes]] = []
    for image in images:
        if len(chosen) == count:
            break
        labels = dataset.read_labels(image)
        if labels and labels.rows and not labels.errors:
            chosen.append((image, *label_boxes(labels)))
    return chosen


def compare_boxes(
    names: Sequence[str], classes: npt.ArrayLike, truth: Boxes, found: npt.NDArray[Any], corners: Boxes,
    confidence: npt.NDArray[Any],
) -> list[SampleBox]:  # fmt: skip
    """What was found, missed and imagined on one image.

    Args:
        names: Class names by id.
        classes: Class ids of the labels, (n,).
        truth: Corners of the labels as fractions of width and height, (n, 4).
        found: Class ids of the predictions, (m,).
        corners: Their corners, likewise, (m, 4).
        confidence: Their confidence, (m,).
    """
    boxes: list[SampleBox] = []
    labelled = np.asarray(classes, dtype=int)
    for index, name in enumerate(names):
        ours = np.flatnonzero(labelled == index)
        theirs = np.flatnonzero(found == index)
        theirs = theirs[np.argsort(-confidence[theirs], kind="stable")]
        pairs = match_boxes(truth[ours], corners[theirs])
        right = {place for _, place in pairs}
        matched = {label for label, _ in pairs}
        boxes += [
            _box("found" if place in right else "imagined", name, corners[at], float(confidence[at]))
            for place, at in enumerate(theirs)
        ]
        boxes += [_box("missed", name, truth[at], None) for place, at in enumerate(ours) if place not in matched]
    return boxes


def _box(kind: str, name: str, corners: Boxes, confidence: float | None) -> SampleBox:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return SampleBox(kind=kind, name=name, x1=x1, y1=y1, x2=x2, y2=y2, confidence=confidence)


def box_iou(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union of corners (n, 4) and (m, 4): (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_first = (first[:, 2:] - first[:, :2]).prod(axis=1)
    area_second = (second[:, 2:] - second[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(area_first[:, None] + area_second[None, :] - shared, 1e-12))


def thumbnail(pixels: npt.NDArray[Any]) -> str:
    """A JPEG of at most 480 px a side, in base64; ``pixels`` are BGR, (H, W, 3)."""
    import cv2

    scale = THUMBNAIL_PX / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(content.tobytes()).decode("ascii")
