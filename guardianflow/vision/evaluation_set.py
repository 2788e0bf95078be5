"""What a model sees on the labelled images of a dataset, as a record that later comparisons need no model for."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.data.dataset import Dataset
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.exceptions import InputError
from guardianflow.vision.pipeline.pipeline import ImageDetections, Pipeline
from guardianflow.vision.samples import label_boxes

__all__ = ["choose_images", "collect_record"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, slots=True)
class _Labelled:
    """An image and its labels: class ids (n,) and corners as fractions (n, 4)."""

    image: Path
    labels: npt.NDArray[np.int32]
    corners: npt.NDArray[np.float64]


def choose_images(dataset: Dataset, split: str, *, count: int = 0, seed: int = 0) -> list[Path]:
    """Images of a split to evaluate on, in the order of their paths.

    Args:
        dataset: Where they are.
        split: Which split.
        count: So many at most, drawn by the seed; 0: all.
        seed: Of the draw.
    """
    images = dataset.images(split)
    if count and count < len(images):
        images = sorted(random.Random(seed).sample(images, count))  # noqa: S311 - a draw of pictures
    return images


def collect_record(
    pipeline: Pipeline, dataset: Dataset, split: str, *, fingerprint: str, images: Sequence[Path] | None = None,
    progress: Progress | None = None, facts: Mapping[str, Any] | None = None,
) -> DetectionRecord:  # fmt: skip
    """Run a pipeline over labelled images and keep what it saw beside what there was.

    Images that can't be decoded, or whose labels can't be used, are left out of truth and predictions alike
    and named in the facts. Duplicate label rows count once and polygons as the boxes around them, as in
    training. An image without a label file is one without objects.

    Args:
        pipeline: Configured for an evaluation: confidence 0.001, several labels a box.
        dataset: Where the images and labels are.
        split: Which split.
        fingerprint: Of the dataset, for the facts.
        images: Only these of the split; ``None``: all.
        progress: Called after each image with how many are done, and of how many.
        facts: Further ones, such as ``model_sha256``.

    Raises:
        InputError: No image is left, or the model gave a class that the dataset doesn't have.
        DatasetError: No such split.
    """
    chosen = list(dataset.images(split) if images is None else images)
    labelled, unusable = _read_all(dataset, chosen)
    skipped = len(chosen) - len(labelled)
    seen: list[tuple[_Labelled, ImageDetections]] = []
    unreadable: dict[str, str] = {}
    for found in pipeline.detect(one.image for one in labelled):
        truth = labelled[found.index]
        if found.error is None:
            _require_known_classes(found, dataset, truth.image)
            seen.append((truth, found))
        else:
            unreadable[dataset.relative_name(truth.image)] = found.error
        if progress is not None:
            progress(skipped + found.index + 1, len(chosen))
    if not seen:
        raise InputError(_nothing_left(split, len(chosen), {**unusable, **unreadable}))
    return DetectionRecord(
        images=Images(
            names=tuple(dataset.relative_name(truth.image) for truth, _ in seen),
            width=np.array([found.width for _, found in seen], np.int32),
            height=np.array([found.height for _, found in seen], np.int32),
        ),
        classes=dataset.names,
        truth=_truth(seen),
        predictions=_predictions(seen),
        facts={
            "dataset_fingerprint": fingerprint,
            "split": split,
            **_pipeline_facts(pipeline),
            "images": len(seen),
            "unreadable": unreadable,
            "unusable_labels": unusable,
            **(facts or {}),
        },
    )


def _read_all(dataset: Dataset, images: Sequence[Path]) -> tuple[list[_Labelled], dict[str, str]]:
    labelled, unusable = [], {}
    for image in images:
        labels = dataset.read_labels(image)
        if labels and labels.errors:
            unusable[dataset.relative_name(image)] = labels.errors[0].detail
        else:
            classes, corners = label_boxes(labels)
            labelled.append(_Labelled(image, np.array(classes, np.int32), corners))
    return labelled, unusable


def _require_known_classes(found: ImageDetections, dataset: Dataset, image: Path) -> None:
    if len(found) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(dataset.names):
        wrong = next(int(label) for label in found.labels if not 0 <= label < len(dataset.names))
        raise InputError(
            f"the model and the dataset must have the same classes: on {dataset.relative_name(image)} the model found "
            f"class {wrong}, the dataset has {len(dataset.names)} (0 to {len(dataset.names) - 1}); "
            "choose the data that the model was trained for"
        )


def _nothing_left(split: str, count: int, reasons: Mapping[str, str]) -> str:
    first = next((f"; the first, {name}: {reason}" for name, reason in reasons.items()), "")
    return f"an evaluation needs an image: of the {count} of split {split!r} none can be used{first}"


def _pipeline_facts(pipeline: Pipeline) -> dict[str, Any]:
    config, info = pipeline.config, pipeline.backend.info
    return {
        "confidence_floor": config.confidence,
        "iou": config.iou,
        "max_det": config.max_det,
        "multi_label": config.multi_label,
        "imgsz": config.imgsz,
        "batch": config.batch,
        "backend": info.backend,
        "backend_version": info.version,
        "device": info.device,
        "precision": info.precision_executed,
        "precision_asked": info.precision_asked,
        "not_finite": pipeline.not_finite,
    }


def _truth(seen: Sequence[tuple[_Labelled, ImageDetections]]) -> GroundTruth:
    """Labels in pixels of their images. YOLO's labels know no crowds; the area is the box's."""
    image, label, box = _columns([truth.labels for truth, _ in seen], [_in_pixels(*pair) for pair in seen])
    sides = box[:, 2:] - box[:, :2]
    return GroundTruth(image, label, box, np.zeros(len(label), bool), sides[:, 0] * sides[:, 1])


def _predictions(seen: Sequence[tuple[_Labelled, ImageDetections]]) -> Predictions:
    image, label, box = _columns([found.labels for _, found in seen], [found.boxes for _, found in seen])
    return Predictions(image, label, np.concatenate([found.scores for _, found in seen]).astype(np.float64), box)


def _in_pixels(truth: _Labelled, found: ImageDetections) -> npt.NDArray[np.float64]:
    return np.asarray(truth.corners * (found.width, found.height, found.width, found.height))


def _columns(
    labels: Sequence[npt.NDArray[np.int32]], boxes: Sequence[npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Flat columns of what each image has: which image, class ids, corners."""
    image = np.repeat(np.arange(len(labels), dtype=np.int32), [len(each) for each in labels])
    return image, np.concatenate(labels).astype(np.int32), np.concatenate(boxes).astype(np.float64)
