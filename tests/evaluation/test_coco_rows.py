"""COCO files as people have them: scored as pycocotools scores the same figures written cleanly, and said."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow.verbs.evaluation import eval_app
from tests.evaluation.records import coco_dicts, random_record

Rows = list[dict[str, Any]]
Document = dict[str, Any]


@pytest.fixture
def clean() -> tuple[Document, Rows]:
    """Ids from 1, and files whose names have other numbers."""
    dataset, results = coco_dicts(random_record(4, images=12, classes=4, crowd=0.1))
    for row in dataset["images"] + dataset["categories"]:
        row["id"] += 1
    for row in dataset["annotations"] + results:
        row["image_id"] += 1
        row["category_id"] += 1
    for row in dataset["images"]:
        row["file_name"] = f"site a/cam_{row['id']:03}.jpg"
    return dataset, results


def pycocotools_of(dataset: Document, results: Rows) -> tuple[float, ...]:
    """AP, AP50, and AP of small, medium and large boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(float(evaluation.stats[place]) for place in (0, 1, 3, 4, 5))


@pytest.fixture
def score(tmp_path: Path) -> Callable[[Any, Any], dict[str, Any]]:
    """``eval detection --json`` of two documents; each remark stands on stderr, too."""

    def run(dataset: Any, results: Any) -> dict[str, Any]:
        for name, content in (("gt.json", dataset), ("found.json", results)):
            (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        paths = [str(tmp_path / name) for name in ("gt.json", "found.json")]
        answer = CliRunner().invoke(eval_app, ["detection", *paths, "--max-det", "100", "--json"])
        document: dict[str, Any] = json.loads(answer.stdout)
        for remark in document.get("remarks", ()):
            assert f"note      {remark}" in answer.stderr
        return document

    return run


def figures(document: dict[str, Any]) -> tuple[float, ...]:
    sizes = (document["by_size"][size]["ap50_95"] for size in ("small", "medium", "large"))
    return (document["map50_95"], document["map50"], *(-1 if size is None else size for size in sizes))


def each(rows: Rows, key: str, change: Callable[[Any], Any], *, every: int = 1) -> None:
    for row in rows[::every]:
        row[key] = change(row[key])


def by_file(change: Callable[[Path], Any]) -> Callable[[Document, Rows], None]:
    def run(dataset: Document, results: Rows) -> None:
        names = {row["id"]: Path(row["file_name"]) for row in dataset["images"]}
        each(results, "image_id", lambda value: change(names[value]))

    return run


def text_ids(dataset: Document, results: Rows) -> None:
    each(dataset["images"], "id", lambda value: f"{value:05}")
    each(dataset["annotations"], "image_id", str)


AS_WRITTEN: dict[str, tuple[Callable[[Document, Rows], Any], str]] = {
    "text image_id": (lambda _, found: each(found, "image_id", str), "image_id of {n} results is written otherwise"),
    "text category_id": (lambda _, found: each(found, "category_id", str), "category_id of {n} results is written oth"),
    "padded image_id": (lambda _, found: each(found, "image_id", "{:012}".format), "image_id of {n} results is writ"),
    "text ids of images": (text_ids, "image_id of {n} results is written otherwise"),
    "float image_id": (lambda _, found: each(found, "image_id", float), "image_id of {n} results is written like 1.0"),
    "float ids of images": (lambda gt, _: each(gt["images"], "id", float), "id of 12 images is written like 1.0"),
    "stems": (by_file(lambda path: path.stem), "image_id of {n} results holds names of images, not their ids"),
    "file names": (by_file(lambda path: path.name), "image_id of {n} results holds names of images"),
    "whole paths": (by_file(str), "image_id of {n} results holds names of images"),
    "class names": (
        lambda _, found: each(found, "category_id", lambda value: f"class {value - 1}"),
        "category_id of {n} results holds names of categories",
    ),
    "ids of annotations repeat": (
        lambda gt, _: each(gt["annotations"], "id", lambda value: value // 2),
        "annotations have the id of an earlier one; no figure depends on it",
    ),
    "no ids of annotations": (lambda gt, _: [row.pop("id") for row in gt["annotations"]], ""),
    "an image twice": (lambda gt, _: gt["images"].append(gt["images"][3]), "1 of 13 images repeat an earlier one"),
    "a class twice": (lambda gt, _: gt["categories"].append(gt["categories"][0]), "1 of 5 categories repeat an"),
    "iscrowd null": (
        lambda gt, _: each(gt["annotations"], "iscrowd", lambda value: value or None),
        "is null and was read as 0",
    ),
    "iscrowd text": (lambda gt, _: each(gt["annotations"], "iscrowd", str), "iscrowd of {g} annotations is text"),
    "score text": (lambda _, found: each(found, "score", repr), "score of {n} results is text"),
    "some numbers text": (
        lambda _, found: each(found, "bbox", lambda box: [repr(box[0]), *box[1:]], every=2),
        "results is text and was read as a number",
    ),
    "area null": (lambda gt, _: each(gt["annotations"], "area", lambda _value: None), ""),
    "an entry without a box": (
        lambda gt, found: [
            rows.append({**rows[0], "bbox": box}) for rows, box in ((found, []), (gt["annotations"], None))
        ],
        "1 results have an empty bbox and are left out",
    ),
    "classes without a name": (lambda gt, _: [row.pop("name") for row in gt["categories"]], "4 categories have no na"),
    "images without a size": (lambda gt, _: [row.update(width=None, height=0) for row in gt["images"]], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", AS_WRITTEN)
def test_what_is_plain_is_read_and_said(score, clean, name) -> None:
    change, remark = AS_WRITTEN[name]
    dataset, results = copy.deepcopy(clean)
    change(dataset, results)
    document = score(dataset, results)
    assert figures(document) == pytest.approx(pycocotools_of(*clean), abs=1e-9)
    assert 0.1 < document["map50"] < 0.95
    remark = remark.format(n=len(clean[1]), g=len(clean[0]["annotations"]))
    assert any(remark in said for said in document["remarks"]) if remark else not document["remarks"]


AS_PYCOCOTOOLS: dict[str, tuple[Callable[[Document, Rows], Any], str]] = {
    "predictions twice": (lambda _, found: found.extend(found[:5]), "5 results repeat an earlier one"),
    "labels twice": (
        lambda gt, _: gt["annotations"].extend({**row, "id": 900 + row["id"]} for row in gt["annotations"][:3]),
        "3 annotations repeat an earlier one",
    ),
    "a prediction without size": (
        lambda _, found: found.extend({**row, "bbox": [*row["bbox"][:2], 0, 9], "score": 1} for row in found[:9]),
        "9 results have a bbox without width or height",
    ),
    "a label without size": (
        lambda gt, _: [row.update(bbox=[5, 5, 9, 0], area=0) for row in gt["annotations"][:4]],
        "4 annotations have a bbox without width or height",
    ),
    "a class of nobody": (
        lambda _, found: [row.update(category_id=77) for row in found[:6]],
        "6 results have a category_id that no entry of categories has (77); they are left out",
    ),
    "labels of other images": (
        lambda gt, _: gt["annotations"].append({**gt["annotations"][0], "image_id": 500, "id": 999}),
        "1 annotations have a image_id that no entry of images has (500)",
    ),
    "images without labels": (
        lambda gt, _: gt["images"].extend({**gt["images"][0], "id": 50 + n, "file_name": f"x{n}"} for n in range(3)),
        "",
    ),
    "scores in percent": (lambda _, found: each(found, "score", lambda value: 100 * value), "scores lie outside 0–1"),
}


@pytest.mark.parametrize("name", AS_PYCOCOTOOLS)
def test_what_pycocotools_scores_is_scored_alike(score, clean, name) -> None:
    change, remark = AS_PYCOCOTOOLS[name]
    dataset, results = clean
    before = pycocotools_of(dataset, results)
    change(dataset, results)
    document = score(dataset, results)
    theirs = pycocotools_of(dataset, results)
    assert figures(document) == pytest.approx(theirs, abs=1e-9)
    assert (theirs == before) == (name in ("labels of other images", "images without labels", "scores in percent"))
    assert any(remark in said for said in document["remarks"]) if remark else not document["remarks"]


def test_a_document_with_annotations_is_read_as_a_list(score, clean) -> None:
    dataset, results = clean
    document = score(dataset, {"images": dataset["images"], "annotations": results})
    assert figures(document) == pytest.approx(pycocotools_of(dataset, results), abs=1e-9)
    assert document["remarks"] == [
        f"found.json: a document and no list; the {len(results)} annotations in it were read."
    ]
    other = [{**row, "id": 13 - row["id"]} for row in dataset["images"]]
    refused = score(dataset, {"images": other, "annotations": results})["error"]["message"]
    assert "its own images call id 12 'site a/cam_001.jpg', in the ground truth it is 'site a/cam_012.jpg'" in refused
    assert "is no COCO results file" in score(dataset, dataset)["error"]["message"]


HIGHER = "all of them would be with ids higher by one (0, 1, 2, 3 against 1, 2, 3, 4). Add 1 to each category_id"
LOWER = "all of them would be with ids lower by one (2, 3, 4, 5 against 1, 2, 3, 4). Take 1 off each category_id"
IMAGES = "has image_id 0, which is not among the images; all of them would be with ids higher by one"
LABELS = (
    "of annotations has category_id 0, which is not among the categories; all of them would be with ids higher by one"
)


@pytest.mark.parametrize(
    ("side", "key", "by", "sentence"),
    [
        ("results", "category_id", -1, HIGHER),
        ("results", "category_id", 1, LOWER),
        ("results", "image_id", -1, IMAGES),
        ("annotations", "category_id", -1, LABELS),
    ],
)
def test_ids_shifted_by_one_are_refused(score, clean, side, key, by, sentence) -> None:
    dataset, results = clean
    each(results if side == "results" else dataset["annotations"], key, lambda value: value + by)
    assert sentence in score(dataset, results)["error"]["message"]


def test_classes_shifted_among_known_ones_are_said(score, clean) -> None:
    dataset, results = clean
    dataset["categories"].insert(0, {"id": 0, "name": "all"})
    labelled = {row["category_id"] for row in dataset["annotations"]}
    shifted = [{**row, "category_id": row["category_id"] - 1} for row in results if row["category_id"] in labelled]
    document = score(dataset, shifted)
    assert "every category predicted stands one below a labelled one" in document["remarks"][0]
    assert figures(document) == pytest.approx(pycocotools_of(dataset, shifted), abs=1e-9)


def test_numbers_that_are_ids_and_other_files_names_are_said(score, clean) -> None:
    dataset, results = clean
    for row in dataset["images"]:
        row["file_name"] = f"{13 - row['id']:04}.jpg"
    stems = [{**row, "image_id": 13 - row["image_id"]} for row in results]
    theirs = pycocotools_of(dataset, results)
    taken = score(dataset, results)
    assert figures(taken) == pytest.approx(theirs, abs=1e-9)
    assert "image_id of the results fits ids and names of different images alike" in taken["remarks"][0]
    told = score(dataset, [{**row, "file_name": f"{row['image_id']:04}.jpg"} for row in stems])
    assert figures(told) == pytest.approx(theirs, abs=1e-9)
    assert "file_name tells that it holds names" in told["remarks"][0]


def test_numeric_file_names_are_found_where_ids_are_others(score, clean) -> None:
    dataset, results = clean
    for row in dataset["images"]:
        row["file_name"] = f"{700 + row['id']:08}.jpg"
    theirs = pycocotools_of(dataset, results)
    document = score(dataset, [{**row, "image_id": 700 + row["image_id"]} for row in results])
    assert figures(document) == pytest.approx(theirs, abs=1e-9)
    assert "holds names of images" in document["remarks"][0]


def test_names_of_two_images_and_unknown_images_are_refused(score, clean) -> None:
    dataset, results = clean
    dataset["images"][1]["file_name"] = "site b/cam_001.jpg"
    by_file(lambda path: path.name)(dataset, results)
    assert "has image_id 'cam_001.jpg', which is not among the images" in score(dataset, results)["error"]["message"]
    each(results, "image_id", lambda _: "elsewhere")
    message = score(dataset, results)["error"]["message"]
    assert "entry 0 of results has image_id 'elsewhere', which is not among the images. The ground truth has" in message


@pytest.mark.parametrize("side", ["gt", "found"])
def test_shares_of_the_image_against_pixels_are_refused(score, clean, side) -> None:
    dataset, results = clean
    each(dataset["annotations"] if side == "gt" else results, "bbox", lambda box: [value / 1000 for value in box])
    message = score(dataset, results)["error"]["message"]
    assert f"{side}.json: all " in message
    assert "boxes lie within 0–1, as shares of the image" in message


def test_corners_and_boxes_that_meet_nothing_are_said(score, clean) -> None:
    dataset, results = clean
    large = [{**row, "bbox": [400, 300, 100, 100]} for row in results]
    corners = [{**row, "bbox": [400, 300, 500, 400]} for row in large]
    said = score(dataset, corners)["remarks"]
    assert any("boxes reach beyond their image, and each could be x1, y1, x2, y2" in remark for remark in said)
    assert "no prediction meets a labelled box of its class." in said[-1]
    assert not any("x1, y1, x2, y2" in remark for remark in score(dataset, large)["remarks"])
