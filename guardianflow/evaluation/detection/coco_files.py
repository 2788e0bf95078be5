"""COCO's JSON files: ground truth (``instances_*.json``) and results (``[{image_id, …}]``).

Format: https://cocodataset.org/#format-data and #format-results. Boxes there are x, y, width, height.
What pycocotools scores is scored alike, with a remark where it isn't written as it should be; what can't be told is
refused with the entry's place in the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.boxes import are_shares
from guardianflow.evaluation.detection.coco_rows import Known, Rows
from guardianflow.evaluation.detection.evaluate import DetectionResult, evaluate_detection
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["evaluate_coco_files", "read_coco_record"]

_MOST_BYTES = 4 * 1024**3
_MOST_BOXES = 50_000_000
_NO_SIZE = 1
_Floats = npt.NDArray[np.float64]


def evaluate_coco_files(
    gt: str | Path, predictions: str | Path, *, confidence: float = 0.25, max_det: int = 300, match_iou: float = 0.5,
    evaluator: str = "guardianflow",
) -> DetectionResult:  # fmt: skip
    """All detection figures of a results file against a ground-truth file.

    Args:
        gt: COCO ground truth.
        predictions: COCO results of any model.
        confidence: For precision, recall and F1.
        max_det: So many predictions of an image and class count; 100 gives COCO's own figures.
        match_iou: From this IoU on a prediction is right, for precision, recall and F1.
        evaluator: Who works out the average precision.

    Raises:
        NotFoundError: A file doesn't exist.
        InputError: A file is damaged or says something impossible, or nothing is labelled.
    """
    record = read_coco_record(gt, predictions)
    result = evaluate_detection(
        record, confidence=confidence, max_det=max_det, match_iou=match_iou, evaluator=evaluator
    )  # fmt: skip
    if result.map50 or not len(record.predictions):
        return result
    nothing = (
        "no prediction meets a labelled box of its class. Are images, classes and boxes of both files counted alike?"
    )
    return replace(result, remarks=(*result.remarks, nothing))


def read_coco_record(gt: str | Path, predictions: str | Path) -> DetectionRecord:
    """A ground-truth file and a results file as one record.

    Classes stand in the order of their ids, images in the order of theirs. No figure needs the size of an image:
    where the file gives none, 1 stands for it, and the fact ``images_without_size`` counts such images. The fact
    ``remarks`` lists what was read otherwise than it stands.

    Raises:
        NotFoundError: A file doesn't exist.
        InputError: A file is damaged or says something impossible; the message names the entry.
    """
    truth_path, found_path = Path(gt), Path(predictions)
    dataset, remarks = _read_json(truth_path), list[str]()
    if not isinstance(dataset, dict) or not all(_is_rows(dataset.get(key)) for key in _TRUTH_LISTS):
        raise InputError(
            f"{truth_path} is no COCO ground truth: it needs the lists {', '.join(_TRUTH_LISTS)}. "
            "Results belong into the second file."
        )
    images, known_images, without_size = _images(Rows(truth_path, "images", dataset["images"], remarks))
    classes, known_classes = _classes(Rows(truth_path, "categories", dataset["categories"], remarks))
    results = Rows(found_path, "results", _results(found_path, dataset, remarks), remarks)
    truth = _truth(Rows(truth_path, "annotations", dataset["annotations"], remarks), known_images, known_classes)
    found = _found(results, known_images, known_classes)
    _check_units(truth, found, truth_path, found_path, remarks)
    remarks += _suspicions(truth, found, images, found_path.name)
    return DetectionRecord(
        images=images,
        classes=classes,
        truth=truth,
        predictions=found,
        facts={
            "ground_truth": truth_path.name,
            "results": found_path.name,
            "images_without_size": without_size,
            "remarks": remarks,
        },
    )


_TRUTH_LISTS = ("images", "annotations", "categories")


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise NotFoundError(f"no file at {path}; give the path of a COCO JSON file")
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(f"a COCO file may hold 4 GiB; {path} has {size / 1024**3:.1f} GiB. Split it by images.")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no sound JSON: {error}. Was it copied whole?") from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}. Check the file and its rights.") from error


def _is_rows(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    if len(value) > _MOST_BOXES:
        raise InputError(f"a COCO list may hold {_MOST_BOXES:,} entries, not {len(value):,}. Split it by images.")
    return all(isinstance(row, dict) for row in value)


def _results(path: Path, dataset: Mapping[str, Any], remarks: list[str]) -> list[Mapping[str, Any]]:
    """The list of results; a document with an ``annotations`` list is taken for it.

    Raises:
        InputError: There is none, or the document gives ids another meaning than the ground truth.
    """
    results = _read_json(path)
    if isinstance(results, dict) and any("score" in row for row in _own(results, "annotations")):
        for target, name in (("images", "file_name"), ("categories", "name")):
            own, known = (
                {str(row.get("id")): row.get(name) for row in rows} for rows in (_own(results, target), dataset[target])
            )
            odd = [one for one, called in own.items() if called is not None and known.get(one, called) != called]
            if odd:
                raise InputError(
                    f"{path}: its own {target} call id {odd[0]} {own[odd[0]]!r}, in the ground truth it is "
                    f"{known[odd[0]]!r}. Number both alike, or leave {target} out of the results."
                )
        remarks.append(
            f"{path.name}: a document and no list; the {len(results['annotations'])} annotations in it were read."
        )
        results = results["annotations"]
    if not _is_rows(results):
        raise InputError(
            f"{path} is no COCO results file: it needs a list of {{image_id, category_id, bbox, score}}. "
            "Ground truth belongs into the first file."
        )
    rows: list[Mapping[str, Any]] = results
    return rows


def _own(document: Mapping[str, Any], target: str) -> list[dict[str, Any]]:
    rows = document.get(target)
    return rows if _is_rows(rows) and rows is not None else []


def _images(rows: Rows) -> tuple[Images, Known, int]:
    """The images by their ids, how files name them, and how many have no size."""
    order, ids = rows.by_id("file_name")
    rows = Rows(rows.path, rows.what, [rows.rows[place] for place in order], rows.remarks, order)
    sizes = {}
    for key in ("width", "height"):
        values = rows.numbers(key, [row.get(key) or _NO_SIZE for row in rows.rows])
        bad = np.flatnonzero((values < 1) | (values > 2**31 - 1))
        if len(bad):
            raise rows.wrong(int(bad[0]), f"has {key} {values[bad[0]]:g}", "A size is at least 1 pixel")
        sizes[key] = values.astype(np.int32)
    files = [str(row.get("file_name") or "") for row in rows.rows]
    names = [name or str(image) for name, image in zip(files, ids, strict=True)]
    counts = Counter(names)
    unique = [  # the ids tell images of the same file apart
        name if counts[name] == 1 else f"{name} (id {image})" for name, image in zip(names, ids, strict=True)
    ]
    without_size = sum(not (row.get("width") and row.get("height")) for row in rows.rows)
    return Images(tuple(unique), sizes["width"], sizes["height"]), Known.images(ids, files), without_size


def _classes(rows: Rows) -> tuple[tuple[str, ...], Known]:
    order, ids = rows.by_id("name")
    nameless = sum(rows.rows[place].get("name") is None for place in order)
    if nameless:
        rows.note(f"{nameless} categories have no name and are called by their id.")
    given = [rows.rows[place].get("name") for place in order]
    names = tuple(str(one if name is None else name) for name, one in zip(given, ids, strict=True))
    return names, Known.classes(ids, names)


def _truth(rows: Rows, images: Known, classes: Known) -> GroundTruth:
    counts = Counter(str(row["id"]) for row in rows.rows if "id" in row)
    if (again := counts.total() - len(counts)) > 0:
        rows.note(f"{again} annotations have the id of an earlier one; no figure depends on it, and each box counts.")
    rows = rows.with_boxes()
    image, label, rows = _known(rows, images, classes)
    corners, areas = rows.boxes()
    given = [row.get("area") for row in rows.rows]
    filled = [own if value is None else value for value, own in zip(given, areas.tolist(), strict=True)]
    area = rows.numbers("area", filled)
    if len(area) and area.min() < 0:
        raise rows.wrong(int(area.argmin()), f"has area {area.min():g}", "An area is at least 0")
    marks = rows.column("iscrowd", default=0)
    if unmarked := sum(value is None for value in marks):
        rows.note(f"iscrowd of {unmarked} annotations is null and was read as 0.")
    crowd = rows.numbers("iscrowd", [int(value or 0) if value in (None, True, False) else value for value in marks])
    _count_repeats(rows, "box", np.column_stack([image, label, corners]))
    return GroundTruth(image=image, label=label, box=corners, crowd=crowd != 0, area=area)


def _found(rows: Rows, images: Known, classes: Known) -> Predictions:
    rows = rows.with_boxes()
    image, label, rows = _known(rows, images, classes, foreign=True)
    corners, _ = rows.boxes()
    score = rows.numbers("score", rows.column("score"))
    if beyond := int(((score < 0) | (score > 1)).sum()):
        rows.note(
            f"{beyond} scores lie outside 0–1, the highest is {score.max():g}; average precision takes them as they "
            "are, precision and recall at a confidence mean little."
        )
    _count_repeats(rows, "score", np.column_stack([image, label, score, corners]))
    return Predictions(image=image, label=label, score=score, box=corners)


def _known(
    rows: Rows, images: Known, classes: Known, *, foreign: bool = False
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Rows]:
    """Image and class of each entry; entries of others are left out, as pycocotools does.

    Raises:
        InputError: All ids are off by one, or a predicted image isn't known.
    """
    image = images.places(rows, "image_id", foreign=foreign)
    label = classes.places(rows, "category_id", foreign=foreign)
    for place, key, target in ((image, "image_id", "images"), (label, "category_id", "categories")):
        if strays := int((place < 0).sum()):
            odd = rows.rows[int((place < 0).argmax())][key]
            rows.note(
                f"{strays} {rows.what} have a {key} that no entry of {target} has ({odd!r:.40}); they are left out."
            )
    kept = (image >= 0) & (label >= 0)
    return image[kept], label[kept], rows.keep(kept.tolist())


def _count_repeats(rows: Rows, last: str, table: _Floats) -> None:
    walk = np.lexsort(table.T)
    again = int((table[walk[1:]] == table[walk[:-1]]).all(axis=1).sum())
    if again:
        rows.note(f"{again} {rows.what} repeat an earlier one up to the {last}; each counts, as in pycocotools.")


def _check_units(truth: GroundTruth, found: Predictions, gt: Path, predictions: Path, remarks: list[str]) -> None:
    """Boxes of both files in pixels, or of both in shares of the image."""
    shares = [are_shares(truth.box), are_shares(found.box)]
    if all(shares):
        remarks.append(
            "both files hold boxes as shares of the image (all within 0–1); the sizes small to large mean nothing."
        )
    elif any(shares) and len(truth) and len(found):
        path, count = (gt, len(truth)) if shares[0] else (predictions, len(found))
        raise InputError(
            f"{path}: all {count} boxes lie within 0–1, as shares of the image, and those of the other file in pixels. "
            "COCO's boxes are x, y, width, height in pixels: multiply by the image's width and height."
        )


def _suspicions(truth: GroundTruth, found: Predictions, images: Images, name: str) -> list[str]:
    """What the format allows and hardly anybody means."""
    said = []
    labelled, seen = set(truth.label.tolist()), set(found.label.tolist())
    for by, way in ((1, "below"), (-1, "above")):
        if not seen <= labelled and {label + by for label in seen} <= labelled:
            said.append(f"{name}: every category predicted stands one {way} a labelled one. Do both files count alike?")
    edges = np.stack([images.width, images.height], axis=1)[found.image]
    size = found.box[:, 2:] - found.box[:, :2]
    beyond = (found.box[:, 2:] > edges + 1).any(axis=1)
    if (edges > _NO_SIZE).all() and (size > found.box[:, :2]).all() and beyond.sum() > len(found) / 2:
        said.append(
            f"{name}: {int(beyond.sum())} of {len(found)} boxes reach beyond their image, and each could be x1, y1, "
            "x2, y2; it was read as x, y, width, height, as COCO has it."
        )
    return said
