"""COCO's JSON files, in and out: ground truth (``instances_*.json``) and results (``[{image_id, …}]``).

Format: https://cocodataset.org/#format-data and #format-results. Boxes there are x, y, width, height.
What a file does wrong is said with the entry's place in it; nothing is guessed and nothing dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection import DetectionResult, evaluate_detection
from guardianflow.evaluation.detections import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["evaluate_coco_files", "read_coco_record", "write_coco_files"]

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
    return evaluate_detection(
        record, confidence=confidence, max_det=max_det, match_iou=match_iou, evaluator=evaluator
    )  # fmt: skip


def read_coco_record(gt: str | Path, predictions: str | Path) -> DetectionRecord:
    """A ground-truth file and a results file as one record.

    Classes stand in the order of their ids, images in the order of theirs. No figure needs the size of an image:
    where the file gives none, 1 stands for it, and the fact ``images_without_size`` counts such images.

    Raises:
        NotFoundError: A file doesn't exist.
        InputError: A file is damaged or says something impossible; the message names the entry.
    """
    truth_path, found_path = Path(gt), Path(predictions)
    dataset = _read_json(truth_path)
    if not isinstance(dataset, dict) or not all(_is_rows(dataset.get(key)) for key in _TRUTH_LISTS):
        raise InputError(
            f"{truth_path} is no COCO ground truth: it needs the lists {', '.join(_TRUTH_LISTS)}. "
            "Results belong into the second file."
        )
    images, image_places = _images(truth_path, dataset["images"])
    classes, class_places = _classes(truth_path, dataset["categories"])
    results = _read_json(found_path)
    if not _is_rows(results):
        raise InputError(
            f"{found_path} is no COCO results file: it needs a list of {{image_id, category_id, bbox, score}}. "
            "Ground truth belongs into the first file."
        )
    return DetectionRecord(
        images=images,
        classes=classes,
        truth=_truth(_Rows(truth_path, "annotations", dataset["annotations"]), image_places, class_places),
        predictions=_found(_Rows(found_path, "results", results), image_places, class_places),
        facts={
            "ground_truth": truth_path.name,
            "results": found_path.name,
            "images_without_size": sum("width" not in row or "height" not in row for row in dataset["images"]),
        },
    )


def write_coco_files(record: DetectionRecord, gt: str | Path, predictions: str | Path) -> None:
    """Write a record as a ground-truth and a results file for other tools; ids count from 1."""
    images, truth, found = record.images, record.truth, record.predictions
    sizes = zip(images.names, images.width.tolist(), images.height.tolist(), strict=True)
    dataset = {
        "images": [
            {"id": place, "file_name": name, "width": width, "height": height}
            for place, (name, width, height) in enumerate(sizes, 1)
        ],
        "annotations": [
            {**row, "id": place, "area": area, "iscrowd": int(crowd)}
            for place, (row, area, crowd) in enumerate(
                zip(_entries(truth), truth.area.tolist(), truth.crowd.tolist(), strict=True), 1
            )
        ],
        "categories": [{"id": place, "name": name} for place, name in enumerate(record.classes, 1)],
    }
    results = [{**row, "score": score} for row, score in zip(_entries(found), found.score.tolist(), strict=True)]
    for path, content in ((gt, dataset), (predictions, results)):
        Path(path).write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")


_TRUTH_LISTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class _Rows:
    """The entries of one list, with what a message needs to name one of them."""

    path: Path
    what: str
    rows: Sequence[Mapping[str, Any]]

    def column(self, key: str, *, default: Any = None) -> list[Any]:
        """One value of each entry.

        Raises:
            InputError: An entry lacks it and there is no default.
        """
        if default is not None:
            return [row.get(key, default) for row in self.rows]
        try:
            return [row[key] for row in self.rows]
        except KeyError:
            place = next(place for place, row in enumerate(self.rows) if key not in row)
            raise self.wrong(place, f"lacks {key!r}", f"Add {key!r} to it") from None

    def numbers(self, key: str, values: Sequence[Any], width: int = 1) -> _Floats:
        """Values as float64 (n,), or (n, width).

        Raises:
            InputError: One is no finite number.
        """
        shape = (len(values), width) if width > 1 else (len(values),)
        if not _all_numbers(values, width):
            sound: Callable[[Any], bool] = _is_number if width == 1 else lambda value: _is_numbers(value, width)
            place = next(place for place, value in enumerate(values) if not sound(value))
            what = "a number" if width == 1 else f"{width} numbers"
            raise self.wrong(place, f"has {key} {values[place]!r:.80}, which is not {what}", "Correct or remove it")
        try:
            numbers = np.array(values, dtype=np.float64).reshape(shape)
        except OverflowError:
            raise InputError(f"{self.path}: {self.what} hold a {key} too large for a number. Correct it.") from None
        bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(values), width).all(axis=1))
        if len(bad):
            place = int(bad[0])
            raise self.wrong(place, f"has {key} {values[place]!r:.80}, which is not finite", "Correct or remove it")
        return numbers

    def places(self, key: str, known: Mapping[int, int], target: str) -> npt.NDArray[np.int32]:
        """Our places of ids of the ground truth.

        Raises:
            InputError: An id is unknown.
        """
        values = self.column(key)
        try:
            return np.array([known[value] for value in values], dtype=np.int32)
        except (KeyError, TypeError):
            place, value = next(
                (place, value) for place, value in enumerate(values) if not _is_id(value) or value not in known
            )
            some = ", ".join(str(item) for item in list(known)[:5]) + (" …" if len(known) > 5 else "")
            raise self.wrong(
                place, f"has {key} {value!r:.80}, which is not among the {target}",
                f"The ground truth has the ids {some or 'of none'}",
            ) from None  # fmt: skip

    def boxes(self) -> tuple[_Floats, _Floats]:
        """Corners (n, 4), and areas (n,) as COCO takes them: width times height.

        Raises:
            InputError: A box is not four finite numbers, or has a negative size.
        """
        values = self.column("bbox")
        numbers = self.numbers("bbox", values, 4)
        bad = np.flatnonzero((numbers[:, 2:] < 0).any(axis=1))
        if len(bad):
            place = int(bad[0])
            raise self.wrong(
                place, f"has bbox {values[place]}, with a negative width or height",
                "COCO's boxes are x, y, width, height; corners must be turned into that",
            )  # fmt: skip
        corners = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]], axis=1)
        return corners, numbers[:, 2] * numbers[:, 3]

    def wrong(self, place: int, problem: str, remedy: str) -> InputError:
        """The error for one entry."""
        return InputError(f"{self.path}: entry {place} of {self.what} {problem}. {remedy}.")


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


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _all_numbers(values: Sequence[Any], width: int) -> bool:
    """As :func:`_is_number` or :func:`_is_numbers` of each, without a call for each: files hold millions."""
    if width > 1:
        if not set(map(type, values)) <= {list} or not set(map(len, values)) <= {width}:
            return False
        return set(map(type, chain.from_iterable(values))) <= {int, float}
    return set(map(type, values)) <= {int, float}


def _is_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(_is_number(item) for item in value)


def _by_id(rows: _Rows) -> list[int]:
    """The places of entries in the order of their ids; each id once."""
    ids = rows.column("id")
    seen: dict[int, int] = {}
    for place, value in enumerate(ids):
        if not _is_id(value):
            raise rows.wrong(place, f"has id {value!r:.80}", "An id must be a whole number")
        if value in seen:
            raise rows.wrong(place, f"has id {value}, as entry {seen[value]} has", "An id may stand only once")
        seen[value] = place
    return [seen[value] for value in sorted(seen)]


def _images(path: Path, entries: list[dict[str, Any]]) -> tuple[Images, dict[int, int]]:
    rows = _Rows(path, "images", entries)
    order = _by_id(rows)
    sizes = {}
    for key in ("width", "height"):
        values = rows.numbers(key, rows.column(key, default=_NO_SIZE))
        bad = np.flatnonzero((values < 1) | (values > 2**31 - 1))
        if len(bad):
            raise rows.wrong(int(bad[0]), f"has {key} {values[bad[0]]:g}", "A size is at least 1 pixel")
        sizes[key] = values[order].astype(np.int32)
    names = [str(entries[place].get("file_name", entries[place]["id"])) for place in order]
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    places = {entries[place]["id"]: row for row, place in enumerate(order)}
    unique = [  # the ids tell images of the same file apart
        name if counts[name] == 1 else f"{name} (id {image})" for name, image in zip(names, places, strict=True)
    ]
    return Images(tuple(unique), sizes["width"], sizes["height"]), places


def _classes(path: Path, entries: list[dict[str, Any]]) -> tuple[tuple[str, ...], dict[int, int]]:
    rows = _Rows(path, "categories", entries)
    order = _by_id(rows)
    names = rows.column("name")
    return tuple(str(names[place]) for place in order), {
        entries[place]["id"]: row for row, place in enumerate(order)
    }  # fmt: skip


def _truth(rows: _Rows, images: Mapping[int, int], classes: Mapping[int, int]) -> GroundTruth:
    if any("id" in row for row in rows.rows):
        _by_id(rows)
    corners, areas = rows.boxes()
    given = [row.get("area") for row in rows.rows]
    filled = [own if value is None else value for value, own in zip(given, areas.tolist(), strict=True)]
    area = rows.numbers("area", filled)
    if len(area) and area.min() < 0:
        raise rows.wrong(int(area.argmin()), f"has area {area.min():g}", "An area is at least 0")
    crowd = rows.numbers(
        "iscrowd", [int(value) if value in (True, False) else value for value in rows.column("iscrowd", default=0)]
    )
    return GroundTruth(
        image=rows.places("image_id", images, "images"),
        label=rows.places("category_id", classes, "categories"),
        box=corners, crowd=crowd != 0, area=area,
    )  # fmt: skip


def _found(rows: _Rows, images: Mapping[int, int], classes: Mapping[int, int]) -> Predictions:
    corners, _ = rows.boxes()
    score = rows.numbers("score", rows.column("score"))
    image, label = rows.places("image_id", images, "images"), rows.places("category_id", classes, "categories")
    table = np.column_stack([image, label, score, corners])
    walk = np.lexsort(table.T)  # stable: of equal entries the later one is named
    repeated = walk[1:][(table[walk[1:]] == table[walk[:-1]]).all(axis=1)]
    if len(repeated):
        again = int(repeated.min())
        raise rows.wrong(
            again, "repeats an earlier entry in every figure",
            "Was the file joined twice? Each prediction may stand once",
        )  # fmt: skip
    return Predictions(image=image, label=label, score=score, box=corners)


def _entries(boxes: GroundTruth | Predictions) -> list[dict[str, Any]]:
    bounds = np.concatenate([boxes.box[:, :2], boxes.box[:, 2:] - boxes.box[:, :2]], axis=1)
    return [
        {"image_id": image + 1, "category_id": label + 1, "bbox": box}
        for image, label, box in zip(boxes.image.tolist(), boxes.label.tolist(), bounds.tolist(), strict=True)
    ]
