"""How long an evaluation of detections takes: ours beside pycocotools' and faster-coco-eval's own.

    python benchmarks/detection_evaluation.py [--images 5000] [--classes 80] [--repeats 3] [--short]

All three get the same COCO-like data (made up: 7 objects and about 100 predictions an image), with the same
sizes and 300 predictions an image and class, and give the same average precision; that is checked. Each gets the
data in its own form beforehand: arrays for us, indexed dicts for the others. Timed is ``evaluate`` and
``accumulate``; for ours the matching and the averages ("AP") and, beyond what the others give, everything else as
well (curves, confusion matrix, F1: "all figures"). The ways take turns. Goal: "AP" in at most a 20th of
pycocotools' time.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from guardianflow.evaluation.detection.evaluate import evaluate_detection
from guardianflow.evaluation.detection.matching import match_record
from guardianflow.evaluation.detection.precision import precision_at_recalls
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.evaluation.significance import paired_bootstrap

MAX_DET = 300
GOAL = 20.0


def coco_like(images: int, classes: int, seed: int = 0) -> DetectionRecord:
    """Made-up labels and predictions: a few classes an image, boxes of all sizes, 1% crowds."""
    random = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), random.poisson(7, images))
    palette = random.integers(0, classes, (images, 3))
    label = palette[image, random.integers(0, 3, len(image))]
    size = np.exp(random.normal(4, 1, (len(image), 2))).clip(4, 400)
    corner = random.uniform(0, 240, (len(image), 2))
    near = np.repeat(np.arange(len(image)), random.poisson(4, len(image)))
    start = corner[near] + random.normal(0, 0.1, (len(near), 2)) * size[near]
    extent = size[near] * np.exp(random.normal(0, 0.15, (len(near), 2)))
    guess = np.where(random.random(len(near)) < 0.8, label[near], random.integers(0, classes, len(near)))
    stray = np.repeat(np.arange(images), random.poisson(70, images))
    stray_size = np.exp(random.normal(4, 1, (len(stray), 2))).clip(4, 400)
    stray_start = random.uniform(0, 240, (len(stray), 2))
    in_palette = random.random(len(stray)) < 0.5
    stray_label = np.where(
        in_palette, palette[stray, random.integers(0, 3, len(stray))], random.integers(0, classes, len(stray))
    )
    mixed = random.permutation(len(near) + len(stray))
    score = np.concatenate([random.random(len(near)), random.random(len(stray)) / 2])
    box = np.concatenate([
        np.concatenate([start, start + extent], 1), np.concatenate([stray_start, stray_start + stray_size], 1)
    ])  # fmt: skip
    side = np.full(images, 640)
    return DetectionRecord(
        images=Images(tuple(f"{place:06}.jpg" for place in range(images)), side, side),
        classes=tuple(f"class {place}" for place in range(classes)),
        truth=GroundTruth(
            image, label, np.concatenate([corner, corner + size], 1), random.random(len(image)) < 0.01, size.prod(1)
        ),
        predictions=Predictions(
            np.concatenate([image[near], stray])[mixed], np.concatenate([guess, stray_label])[mixed], score[mixed],
            box[mixed],
        ),
    )  # fmt: skip


def indexed(record: DetectionRecord, library: Any) -> tuple[Any, Any]:
    """The record as two indexed COCO objects of a library."""
    categories = [{"id": place, "name": name} for place, name in enumerate(record.classes)]
    images = [{"id": place, "width": 640, "height": 640} for place in range(len(record.images))]
    tables = []
    for boxes in (record.truth, record.predictions):
        extent = boxes.box[:, 2:] - boxes.box[:, :2]
        bounds = np.concatenate([boxes.box[:, :2], extent], axis=1)
        rows = [
            {"id": place, "image_id": image, "category_id": label, "bbox": bound, "area": area, "iscrowd": 0}
            for place, (image, label, bound, area) in enumerate(
                zip(boxes.image.tolist(), boxes.label.tolist(), bounds.tolist(), extent.prod(1).tolist(), strict=True),
                1,
            )
        ]
        if isinstance(boxes, GroundTruth):
            for row, crowd in zip(rows, boxes.crowd.tolist(), strict=True):
                row["iscrowd"] = int(crowd)
        else:
            for row, score in zip(rows, boxes.score.tolist(), strict=True):
                row["score"] = score
        table = library()
        table.dataset = {"images": images, "categories": categories, "annotations": rows}
        table.createIndex()
        tables.append(table)
    return tables[0], tables[1]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock time of one go, and what it gave; what it prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        value = work()
        return time.perf_counter() - began, value


def library_way(record: DetectionRecord, coco: Any, evaluation: Any) -> Callable[[], Any]:
    """Evaluate and accumulate in a library, over COCO's sizes and thresholds."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = indexed(record, coco)

    def run() -> Any:
        asked = evaluation(truth, found, "bbox")
        asked.params.maxDets = [MAX_DET]
        asked.evaluate()
        asked.accumulate()
        return asked.eval["precision"][..., -1]

    return run


def main() -> None:
    import faster_coco_eval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="500 images, no bootstrap of 1,000 draws")
    options = parser.parse_args()
    record = coco_like(500 if options.short else options.images, options.classes)
    ways: dict[str, Callable[[], Any]] = {
        "ours, AP": lambda: precision_at_recalls(match_record(record, max_det=MAX_DET)),
        "ours, all figures": lambda: evaluate_detection(record, max_det=MAX_DET),
        "faster-coco-eval": library_way(record, faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
        "pycocotools": library_way(record, COCO, COCOeval),
    }
    print(
        f"{len(record.images):,} images, {options.classes} classes, {len(record.truth):,} labelled boxes, "
        f"{len(record.predictions):,} predictions; median of {options.repeats}, taking turns; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    times: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            taken, found[name] = seconds(way)
            times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(
            f"  {name:18} {value:8.3f} s   ({min(times[name]):.3f}–{max(times[name]):.3f})"
            f"   pycocotools / this: {medians['pycocotools'] / value:6.1f}"
        )
    gaps = [np.abs(found["ours, AP"] - found[name]).max() for name in ("faster-coco-eval", "pycocotools")]
    print(f"largest difference of any precision: {gaps[0]:.1e} to faster-coco-eval, {gaps[1]:.1e} to pycocotools")
    ratio = medians["pycocotools"] / medians["ours, AP"]
    print(f"ratio {ratio:.1f}   goal ≥ {GOAL:g}   {'met' if ratio >= GOAL else 'MISSED'}")
    draws = 50 if options.short else 1000
    taken, _ = seconds(lambda: paired_bootstrap(record, record, resamples=draws))
    small = coco_like(87, 3)
    quick, _ = seconds(lambda: paired_bootstrap(small, small, resamples=1000))
    print(f"paired bootstrap: {draws:,} draws of these images {taken:.1f} s; 1,000 draws of 87 images with "
          f"{len(small.predictions):,} predictions {quick:.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
