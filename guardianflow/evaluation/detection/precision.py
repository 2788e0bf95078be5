"""Average precision as COCO defines it, from matches or through faster-coco-eval.

Source: ``pycocotools.cocoeval.COCOeval.accumulate``. Precision is read at 101 recall values (0.00, 0.01 … 1.00),
each time as the best precision at that recall or a higher one; their mean is the average precision (AP).

Both ways give the same array to the last bits. Ours is the default because it takes arrays as they are; the
library is fed one Python object a box, which takes most of its time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.matching import IOU_THRESHOLDS, SIZES

if TYPE_CHECKING:
    from guardianflow.evaluation.detection.matching import Matches
    from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Predictions

__all__ = ["RECALLS", "average", "library_precision", "precision_at_recalls"]

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recall values at which precision is read."""

_Floats = npt.NDArray[np.float64]


def precision_at_recalls(matches: Matches) -> _Floats:
    """Precision at the 101 recall values.

    Args:
        matches: Of all predictions.

    Returns:
        float64 (thresholds, 101, classes, sizes); -1 where a class has no labelled box that counts.
    """
    thresholds, classes, sizes = len(matches.thresholds), len(matches.start) - 1, len(matches.sizes)
    precision = np.full((thresholds, len(RECALLS), classes, sizes), -1.0)
    for size in range(sizes):
        labelled = matches.wanted[size] > 0
        precision[:, :, labelled, size] = 0.0
        for threshold in range(thresholds):
            bit = matches.bit(size, threshold)
            right = np.flatnonzero(matches.right & bit)
            counted = np.concatenate([[0], np.cumsum((matches.aside & bit) == 0)])
            bounds = np.searchsorted(right, matches.start)
            for label in np.flatnonzero(np.diff(bounds)).tolist():
                places = right[bounds[label] : bounds[label + 1]]
                seen = counted[places + 1] - counted[matches.start[label]]
                precision[threshold, :, label, size] = _read_off(seen, int(matches.wanted[size, label]))
    return precision


def _read_off(seen: npt.NDArray[np.int64], wanted: int) -> _Floats:
    """Precision at the recall values, from the number of predictions seen up to each right one.

    Between right predictions precision only falls, so that these alone decide the best one to the right.
    """
    right = np.arange(1, len(seen) + 1)
    best = np.maximum.accumulate((right / (seen + np.spacing(1)))[::-1])[::-1]
    place = np.searchsorted(right / wanted, RECALLS, side="left")
    return np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0.0)


def average(precision: _Floats) -> float | None:
    """Mean of what is there: entries of classes without labelled boxes (-1) are left out; ``None`` if all are."""
    there = precision[precision > -1]
    return float(there.mean()) if there.size else None


def library_precision(record: DetectionRecord, *, max_det: int = 300) -> _Floats:
    """The same array from faster-coco-eval's C++ core, an implementation of other people.

    Args:
        record: Truth and predictions.
        max_det: So many predictions of an image and class count.

    Returns:
        As :func:`precision_at_recalls` over COCO's thresholds and sizes.
    """
    import faster_coco_eval as library

    quiet: dict[str, Any] = {"print_function": lambda *_: None}
    truth, predictions = library.COCO(**quiet), library.COCO(**quiet)
    images = [
        {"id": place, "width": int(width), "height": int(height)}
        for place, (width, height) in enumerate(zip(record.images.width, record.images.height, strict=True))
    ]
    categories = [{"id": place, "name": name} for place, name in enumerate(record.classes)]
    crowd, area = record.truth.crowd.tolist(), record.truth.area.tolist()
    labelled = [
        {**row, "iscrowd": int(crowd[place]), "area": area[place]} for place, row in enumerate(_rows(record.truth))
    ]
    score = record.predictions.score.tolist()
    found = [
        {**row, "score": score[place], "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        for place, row in enumerate(_rows(record.predictions))
    ]
    for table, rows in ((truth, labelled), (predictions, found)):
        table.dataset = {"images": images, "categories": categories, "annotations": rows}
        table.createIndex()
    evaluation = library.COCOeval_faster(truth, predictions, "bbox", **quiet)
    evaluation.params.maxDets = [max_det]
    evaluation.params.areaRng = [list(bounds) for bounds in SIZES.values()]
    evaluation.params.areaRngLbl = list(SIZES)
    evaluation.params.iouThrs = np.array(IOU_THRESHOLDS)
    evaluation.params.imgIds, evaluation.params.catIds = list(range(len(images))), list(range(len(categories)))
    evaluation.evaluate()
    evaluation.accumulate()
    precision: _Floats = np.asarray(evaluation.eval["precision"])[..., -1]
    return precision


def _rows(boxes: GroundTruth | Predictions) -> list[dict[str, Any]]:
    """COCO's entries of a table: x, y, width, height; ids from 1, since 0 stands for none."""
    sizes = np.concatenate([boxes.box[:, :2], boxes.box[:, 2:] - boxes.box[:, :2]], axis=1)
    return [
        {"id": place, "image_id": image, "category_id": label, "bbox": box}
        for place, (image, label, box) in enumerate(
            zip(boxes.image.tolist(), boxes.label.tolist(), sizes.tolist(), strict=True), start=1
        )
    ]
