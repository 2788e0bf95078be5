"""Small records for the tests of detection figures, and the same data as pycocotools takes it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions


def record_of(
    truth: list[tuple[Any, ...]], found: list[tuple[Any, ...]], *, images: int = 1, classes: tuple[str, ...] = ("cell",)
) -> DetectionRecord:
    """A record from rows: truth (image, label, corners[, crowd]), found (image, label, score, corners)."""
    box = np.array([row[2:6] for row in truth], float).reshape(-1, 4)
    return DetectionRecord(
        images=Images(tuple(f"{place}.jpg" for place in range(images)), np.full(images, 640), np.full(images, 480)),
        classes=classes,
        truth=GroundTruth(
            np.array([row[0] for row in truth]), np.array([row[1] for row in truth]), box,
            np.array([len(row) > 6 and bool(row[6]) for row in truth]), (box[:, 2:] - box[:, :2]).prod(axis=1),
        ),
        predictions=Predictions(
            np.array([row[0] for row in found]), np.array([row[1] for row in found]),
            np.array([row[2] for row in found]), np.array([row[3:7] for row in found], float),
        ),
    )  # fmt: skip


def random_record(
    seed: int, *, images: int = 12, classes: int = 3, per_image: float = 6.0, imagined: float = 6.0,
    blur: float = 0.08, crowd: float = 0.05, ties: bool = False, whole_pixels: bool = False,
) -> DetectionRecord:  # fmt: skip
    """Labelled boxes of all sizes, predictions near them and elsewhere; some images and classes stay empty."""
    random = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), random.poisson(per_image, images) * (random.random(images) < 0.8))
    label = random.integers(0, max(classes - 1, 1), len(image))  # the last class has no labels
    size = np.exp(random.normal(3.8, 1.0, (len(image), 2))).clip(3, 300)
    corner = random.uniform(0, 200, (len(image), 2))
    near = np.repeat(np.arange(len(image)), random.poisson(1.6, len(image)))
    moved = corner[near] + random.normal(0, blur, (len(near), 2)) * size[near]
    scaled = size[near] * np.exp(random.normal(0, blur, (len(near), 2)))
    elsewhere = random.poisson(imagined, images).sum()
    found_image = np.concatenate([image[near], random.integers(0, images, elsewhere)])
    guessed = np.where(random.random(len(near)) < 0.9, label[near], random.integers(0, classes, len(near)))
    found_label = np.concatenate([guessed, random.integers(0, classes, elsewhere)])
    start = np.concatenate([moved, random.uniform(0, 250, (elsewhere, 2))])
    extent = np.concatenate([scaled, np.exp(random.normal(3.8, 1.0, (elsewhere, 2))).clip(3, 300)])
    box, found_box = np.concatenate([corner, corner + size], 1), np.concatenate([start, start + extent], 1)
    if whole_pixels:
        box, found_box = np.round(box / 8) * 8, np.round(found_box / 8) * 8
    score = random.random(len(found_image))
    mixed = random.permutation(len(found_image))
    return DetectionRecord(
        images=Images(tuple(f"{place}.jpg" for place in range(images)), np.full(images, 640), np.full(images, 480)),
        classes=tuple(f"class {place}" for place in range(classes)),
        truth=GroundTruth(image, label, box, random.random(len(image)) < crowd, (box[:, 2:] - box[:, :2]).prod(axis=1)),
        predictions=Predictions(
            found_image[mixed],
            found_label[mixed],
            np.round(score, 1)[mixed] if ties else score[mixed],
            found_box[mixed],
        ),
    )


def jittered(record: DetectionRecord, seed: int, *, score: float = 0.1, drop: float = 0.0) -> DetectionRecord:
    """The same images seen by a slightly different model."""
    random = np.random.default_rng(seed)
    found = record.predictions
    kept = random.random(len(found)) >= drop
    scores = np.clip(found.score + random.normal(0, score, len(found)), 0, 1)
    predictions = Predictions(found.image[kept], found.label[kept], scores[kept], found.box[kept])
    return dataclasses.replace(record, predictions=predictions)


def resampled(record: DetectionRecord, draw: npt.NDArray[np.int64]) -> DetectionRecord:
    """The record of the drawn images, each time a copy of its own, as if evaluated from the start."""
    draw = np.sort(draw)
    truth, found = record.truth, record.predictions
    rows = [np.flatnonzero(truth.image == image) for image in draw]
    seen = [np.flatnonzero(found.image == image) for image in draw]
    row, one = np.concatenate(rows), np.concatenate(seen)
    return DetectionRecord(
        images=Images(
            tuple(f"{place}.jpg" for place in range(len(draw))), record.images.width[draw], record.images.height[draw]
        ),
        classes=record.classes,
        truth=GroundTruth(
            np.repeat(np.arange(len(draw)), [len(part) for part in rows]),
            truth.label[row], truth.box[row], truth.crowd[row], truth.area[row],
        ),
        predictions=Predictions(
            np.repeat(np.arange(len(draw)), [len(part) for part in seen]),
            found.label[one], found.score[one], found.box[one],
        ),
    )  # fmt: skip


def coco_dicts(record: DetectionRecord) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results as COCO's JSON holds them; ids of images and classes are our places."""

    def bounds(box: npt.NDArray[np.float64]) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    truth, found = record.truth, record.predictions
    annotations = [
        {"id": row + 1, "image_id": int(truth.image[row]), "category_id": int(truth.label[row]),
         "bbox": bounds(truth.box[row]), "area": float(truth.area[row]), "iscrowd": int(truth.crowd[row])}
        for row in range(len(truth))
    ]  # fmt: skip
    results = [
        {"image_id": int(found.image[row]), "category_id": int(found.label[row]), "bbox": bounds(found.box[row]),
         "score": float(found.score[row])}
        for row in range(len(found))
    ]  # fmt: skip
    images = [
        {"id": place, "file_name": name, "width": int(record.images.width[place]),
         "height": int(record.images.height[place])}
        for place, name in enumerate(record.images.names)
    ]  # fmt: skip
    categories = [{"id": place, "name": name} for place, name in enumerate(record.classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def pycocotools_precision(record: DetectionRecord, *, max_det: int = 300) -> npt.NDArray[np.float64]:
    """(thresholds, 101, classes, sizes) by pycocotools itself."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset, results = coco_dicts(record)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        found = COCO()
        areas = [{"area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0} for row in results]
        rows = [{**row, **area, "id": place} for place, (row, area) in enumerate(zip(results, areas, strict=True), 1)]
        found.dataset = {**dataset, "annotations": rows}
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.maxDets = [max_det]
        evaluation.params.imgIds = list(range(len(record.images)))
        evaluation.params.catIds = list(range(len(record.classes)))
        evaluation.evaluate()
        evaluation.accumulate()
    precision: npt.NDArray[np.float64] = evaluation.eval["precision"][..., 0]
    return precision


def records() -> st.SearchStrategy[DetectionRecord]:
    """Records of every sort: empty images, classes without labels, crowds, ties, boxes on a grid."""
    return st.builds(
        random_record,
        st.integers(0, 2**32 - 1),
        images=st.integers(1, 15),
        classes=st.integers(1, 5),
        per_image=st.sampled_from([0.0, 0.5, 3.0, 12.0]),
        imagined=st.sampled_from([0.0, 2.0, 20.0]),
        blur=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
        crowd=st.sampled_from([0.0, 0.1, 0.9]),
        ties=st.booleans(),
        whole_pixels=st.booleans(),
    )
