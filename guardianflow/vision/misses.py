"""The images on which a model did worst, with what it found, missed and imagined: what to look at first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from guardianflow.data.dataset import Dataset
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.plots.predictions import SampleImage
from guardianflow.vision.pipeline.decoding import decode_image
from guardianflow.vision.samples import compare_boxes, thumbnail

__all__ = ["worst_images"]


def worst_images(
    record: DetectionRecord, dataset: Dataset, *, split: str = "val", count: int = 6, confidence: float = 0.25
) -> list[SampleImage]:
    """The images with the most mistakes, the worst first; those without a mistake are left out.

    A mistake is a labelled object without a prediction of its class that overlaps it by half, or a
    prediction without such an object. Misses count double: nobody sees what a camera didn't report.
    No inference is needed: the predictions are those of the benchmark.

    Args:
        record: What the model saw.
        dataset: Where the images are.
        split: Which split the record is of.
        count: How many images at most.
        confidence: Predictions below are left out.
    """
    files = {dataset.relative_name(image): image for image in dataset.images(split)}
    sure = record.predictions.score >= confidence
    rated: list[tuple[int, int, SampleImage]] = []
    for index in _most_suspicious(record, sure, limit=20 * count):
        name = record.images.names[index]
        if name not in files:
            continue
        sample = _compared(record, index, sure, record.classes)
        mistakes = sum({"missed": 2, "imagined": 1}.get(box["kind"], 0) for box in sample["boxes"])
        if mistakes:
            rated.append((-mistakes, index, sample))
    worst = [sample for _, _, sample in sorted(rated, key=lambda item: item[:2])[:count]]
    return [{**sample, "jpeg": thumbnail(decode_image(files[sample["name"]]))} for sample in worst]


def _most_suspicious(record: DetectionRecord, sure: npt.NDArray[np.bool_], *, limit: int) -> Sequence[int]:
    """Images whose number of labels differs most from that of predictions come first; matching is for them alone."""
    images = len(record.images.names)
    classes = max(len(record.classes), 1)

    def counts(image: npt.NDArray[np.int32], label: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        keys = image.astype(np.int64) * classes + np.clip(label, 0, classes - 1)
        return np.bincount(keys, minlength=images * classes).reshape(images, classes)

    truth, predictions = record.truth, record.predictions
    labelled = counts(truth.image[~truth.crowd], truth.label[~truth.crowd])
    found = counts(predictions.image[sure], predictions.label[sure])
    apart = np.abs(labelled - found).sum(axis=1)
    order = np.lexsort((-(labelled + found).sum(axis=1), -apart))
    return [int(index) for index in order[:limit]]


def _compared(record: DetectionRecord, index: int, sure: npt.NDArray[np.bool_], names: Sequence[str]) -> SampleImage:
    truth, predictions = record.truth, record.predictions
    width, height = int(record.images.width[index]), int(record.images.height[index])
    scale = np.array([width, height, width, height], dtype=float)
    ours = (truth.image == index) & ~truth.crowd
    theirs = (predictions.image == index) & sure
    boxes = compare_boxes(
        names,
        truth.label[ours],
        truth.box[ours] / scale,
        predictions.label[theirs],
        predictions.box[theirs] / scale,
        predictions.score[theirs],
    )
    return SampleImage(name=record.images.names[index], width=width, height=height, jpeg="", boxes=boxes)
