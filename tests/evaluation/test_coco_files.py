"""COCO's files in and out, and records on disk: what is read is what was written, and damage is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from guardianflow.evaluation.detection import record_files
from guardianflow.evaluation.detection.coco_files import evaluate_coco_files, read_coco_record
from guardianflow.evaluation.detection.evaluate import evaluate_detection
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.exceptions import InputError, NotFoundError
from tests.evaluation.records import coco_dicts, pycocotools_precision, random_record, record_of

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd" / "coco_val.json"


def write(folder: Path, dataset: Any, results: Any) -> tuple[Path, Path]:
    gt, found = folder / "정답 gt.json", folder / "found.json"
    gt.write_text(json.dumps(dataset), encoding="utf-8")
    found.write_text(json.dumps(results), encoding="utf-8")
    return gt, found


def test_the_figures_of_files_are_those_of_pycocotools(tmp_path: Path) -> None:
    record = random_record(1, images=20, classes=4, crowd=0.1)
    result = evaluate_coco_files(*write(tmp_path, *coco_dicts(record)), max_det=100)
    theirs = pycocotools_precision(record, max_det=100)[..., 0]
    assert result.map50_95 == pytest.approx(theirs[theirs > -1].mean(), abs=1e-9)
    assert result.map50 == pytest.approx(theirs[0][theirs[0] > -1].mean(), abs=1e-9)
    assert result.max_det == 100


def test_ids_may_be_any_numbers_and_entries_stand_in_any_order(tmp_path: Path) -> None:
    record = random_record(2, images=8, classes=3)
    dataset, results = coco_dicts(record)
    expected = evaluate_coco_files(*write(tmp_path, dataset, results)).to_dict()
    for row in dataset["images"] + dataset["categories"]:
        row["id"] = row["id"] * 1_000_003 + 2**40
    for row in dataset["annotations"] + results:
        row["image_id"] = row["image_id"] * 1_000_003 + 2**40
        row["category_id"] = row["category_id"] * 1_000_003 + 2**40
    for rows in dataset.values():
        rows.reverse()
    paths = write(tmp_path, dataset, results)
    assert evaluate_coco_files(*paths).to_dict() == expected
    again = read_coco_record(*paths)
    assert again.images.names == record.images.names
    np.testing.assert_array_equal(np.sort(again.truth.image), np.sort(record.truth.image))


def test_a_record_written_as_coco_files_reads_back(tmp_path: Path) -> None:
    record = random_record(3, images=9, classes=2, whole_pixels=True)
    again = read_coco_record(*write(tmp_path, *coco_dicts(record)))
    assert again.images.names == record.images.names
    assert again.classes == record.classes
    for name in ("image", "label", "box", "crowd", "area"):
        np.testing.assert_array_equal(getattr(again.truth, name), getattr(record.truth, name))
    for name in ("image", "label", "box", "score"):
        np.testing.assert_array_equal(getattr(again.predictions, name), getattr(record.predictions, name))


def test_images_of_the_same_file_name_and_without_a_size_are_told_apart(tmp_path: Path) -> None:
    dataset, results = coco_dicts(record_of([(0, 0, 0, 0, 9, 9)], [], images=2))
    for row in dataset["images"]:
        row["file_name"] = "frame.jpg"
        del row["width"]
    record = read_coco_record(*write(tmp_path, dataset, results))
    assert record.images.names == ("frame.jpg (id 0)", "frame.jpg (id 1)")
    assert record.facts["images_without_size"] == 2


@pytest.mark.skipif(not BCCD.is_file(), reason="the real photographs' labels are not in this checkout")
def test_the_labels_of_the_real_photographs_found_exactly_score_one(tmp_path: Path) -> None:
    dataset = json.loads(BCCD.read_text(encoding="utf-8"))
    results = [{key: row[key] for key in ("image_id", "category_id", "bbox")} for row in dataset["annotations"]]
    unique = {json.dumps(row): {**row, "score": 0.9} for row in results}
    found = tmp_path / "found.json"
    found.write_text(json.dumps(list(unique.values())), encoding="utf-8")
    assert evaluate_coco_files(BCCD, found).map50_95 > 0.99


NO_DATASET = "is no COCO ground truth: it needs the lists images, annotations, categories"


@pytest.mark.parametrize(
    ("where", "change", "sentence"),
    [
        ("gt", [], NO_DATASET),
        ("gt", {"images": []}, NO_DATASET),
        ("gt", {"images": [1], "annotations": [], "categories": []}, NO_DATASET),
        ("found", {"annotations": []}, "is no COCO results file"),
        ("found", {"bbox": [1, 2, 3]}, "entry 1 of results has bbox .1, 2, 3., which is not 4 numbers"),
        ("found", {"bbox": "box"}, "entry 1 of results has bbox 'box'"),
        ("found", {"bbox": [0, 0, "9px", 9]}, "which is not 4 numbers"),
        ("found", {"bbox": [9, 9, -3, 4]}, "entry 1 of results has bbox .9, 9, -3, 4., with a negative width"),
        ("found", {"bbox": [0, 0, float("nan"), 9]}, "entry 1 of results has bbox .*nan.* not finite"),
        ("found", {"bbox": [0, 0, 10**400, 9]}, "too large for a number"),
        ("found", {"score": float("inf")}, "entry 1 of results has score inf, which is not finite"),
        ("found", {"score": None}, "entry 1 of results has score None, which is not a number"),
        ("found", {"score": True}, "has score True, which is not a number"),
        ("found", {"image_id": 77}, "entry 1 of results has image_id 77, which is not among the images. The .* 0, 1"),
        ("found", {"image_id": [0]}, "has image_id .0.. An id must be a whole number, or text"),
        ("found", {"image_id": True}, "has image_id True. An id must be a whole number, or text"),
        ("found", {"category_id": 0.5}, "has category_id 0.5. An id must be a whole number, or text"),
        ("gt", {"bbox": [0, 0, -1, 1]}, "entry 1 of annotations has bbox"),
        ("gt", {"area": -4}, "entry 1 of annotations has area -4"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, where: str, change: Any, sentence: str) -> None:
    truth, seen = [(0, 0, 0, 0, 9, 9), (1, 0, 5, 5, 9, 9)], [(0, 0, 0.9, 0, 0, 9, 9), (1, 0, 0.8, 5, 5, 9, 9)]
    dataset, results = coco_dicts(record_of(truth, seen, images=2))
    parts = {"gt": dataset, "found": results}
    if isinstance(change, dict) and not set(change) & {"images", "annotations"}:
        (results if where == "found" else dataset["annotations"])[1].update(change)
    else:
        parts[where] = change
    with pytest.raises(InputError, match=sentence):
        evaluate_coco_files(*write(tmp_path, parts["gt"], parts["found"]))


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_value_is_named(tmp_path: Path, key: str) -> None:
    dataset, results = coco_dicts(record_of([(0, 0, 0, 0, 9, 9)], [(0, 0, 0.9, 0, 0, 9, 9)]))
    del results[0][key]
    with pytest.raises(InputError, match=f"entry 0 of results lacks '{key}'"):
        evaluate_coco_files(*write(tmp_path, dataset, results))


def test_ids_that_images_or_classes_of_other_names_share_are_refused(tmp_path: Path) -> None:
    seen = [(0, 0, 0.9, 0, 0, 9, 9), (1, 0, 0.8, 5, 5, 9, 9)]
    dataset, results = coco_dicts(record_of([(0, 0, 0, 0, 9, 9)], seen, images=2, classes=("a", "b")))
    for key in ("images", "categories"):
        broken = copy.deepcopy(dataset)
        broken[key][1]["id"] = broken[key][0]["id"]
        with pytest.raises(InputError, match=f"entry 1 of {key} has id 0, as entry 0 has"):
            evaluate_coco_files(*write(tmp_path, broken, results))


def test_a_file_that_is_cut_off_or_absent_is_named(tmp_path: Path) -> None:
    dataset, results = coco_dicts(random_record(1))
    gt, found = write(tmp_path, dataset, results)
    whole = found.read_text(encoding="utf-8")
    found.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(InputError, match=r"found.json is no sound JSON: .* Was it copied whole"):
        evaluate_coco_files(gt, found)
    found.write_bytes(b"[" * 100_000)
    with pytest.raises(InputError, match="is no sound JSON"):
        evaluate_coco_files(gt, found)
    with pytest.raises(NotFoundError, match=r"no file at .*none.json"):
        evaluate_coco_files(gt, tmp_path / "none.json")


def test_a_record_on_disk_reads_back_whole(tmp_path: Path) -> None:
    record = random_record(5, images=20, crowd=0.2)
    folder = record.save(tmp_path / "기록 1" / "record")
    again = DetectionRecord.load(folder)
    assert again.images.names == record.images.names
    for table in ("truth", "predictions"):
        for name, values in vars(getattr(record, table)).items():
            np.testing.assert_array_equal(getattr(getattr(again, table), name), values)
    assert evaluate_detection(again).to_dict() == evaluate_detection(record).to_dict()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["record"]


def test_facts_and_names_of_any_language_are_kept(tmp_path: Path) -> None:
    plain = record_of([(0, 0, 0, 0, 9, 9)], [(0, 0, 0.9, 0, 0, 9, 9)])
    record = DetectionRecord(
        Images(("사진 <1>.jpg",), plain.images.width, plain.images.height),
        ("적혈구",), plain.truth, plain.predictions, {"imgsz": 320, "backend": "torch", "list": [1, None, "é"]},
    )  # fmt: skip
    again = DetectionRecord.load(record.save(tmp_path / "r"))
    assert (again.images.names, again.classes, dict(again.facts)) == (
        ("사진 <1>.jpg",),
        ("적혈구",),
        dict(record.facts),
    )


def test_a_record_without_any_box_reads_back(tmp_path: Path) -> None:
    again = DetectionRecord.load(record_of([], [], images=3).save(tmp_path / "r"))
    assert (len(again.images), len(again.truth), len(again.predictions)) == (3, 0, 0)


def test_predictions_on_disk_say_what_they_met(tmp_path: Path) -> None:
    truth = [(0, 0, 0, 0, 10, 10), (0, 0, 50, 50, 90, 90, True)]
    found = [(0, 0, 0.3, 0, 0, 10, 9), (0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 55, 55, 60, 60)]
    folder = record_of(truth, found).save(tmp_path / "r")
    table = pyarrow.parquet.read_table(folder / "predictions.parquet").to_pydict()
    assert table["outcome"] == ["wrong", "right", "not counted"]
    assert table["truth"] == [-1, 0, 1]
    assert table["truth_iou"] == [0.0, 1.0, 1.0]


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full_disk(path: Path, columns: Any) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.touch()

    monkeypatch.setattr(record_files, "_write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        random_record(1).save(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_and_facts_that_are_no_json_are_refused(tmp_path: Path) -> None:
    record = random_record(1)
    folder = record.save(tmp_path / "r")
    with pytest.raises(InputError, match="is written to a new folder"):
        record.save(folder)
    odd = DetectionRecord(record.images, record.classes, record.truth, record.predictions, {"path": Path("x")})
    with pytest.raises(InputError, match="must be plain JSON"):
        odd.save(tmp_path / "odd")
    nameless = DetectionRecord(
        Images(("\udcff.jpg",), [9], [9]), (), random_record(0, images=1, per_image=0).truth,
        random_record(0, images=1, per_image=0, imagined=0).predictions,
    )  # fmt: skip
    with pytest.raises(InputError, match="names in a record must be text"):
        nameless.save(tmp_path / "nameless")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("name", ["images.parquet", "truth.parquet", "predictions.parquet", "facts.json"])
def test_a_damaged_record_names_the_file(tmp_path: Path, name: str) -> None:
    folder = random_record(1).save(tmp_path / "r")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{name} is no sound"):
        DetectionRecord.load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"the record lacks {name}"):
        DetectionRecord.load(folder)


def test_a_record_of_another_version_or_with_impossible_figures_is_refused(tmp_path: Path) -> None:
    folder = random_record(1).save(tmp_path / "r")
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    table = pyarrow.parquet.read_table(folder / "predictions.parquet")
    changed = table.set_column(table.column_names.index("label"), "label", [[99] * len(table)])
    pyarrow.parquet.write_table(changed, folder / "predictions.parquet")
    with pytest.raises(InputError, match=r"the record in .* is damaged: predictions: label must lie in 0–2"):
        DetectionRecord.load(folder)
    pyarrow.parquet.write_table(table.drop_columns(["score"]), folder / "predictions.parquet")
    with pytest.raises(InputError, match=r"predictions.parquet lacks the column.s. score"):
        DetectionRecord.load(folder)
    (folder / "facts.json").write_text(json.dumps({**facts, "version": 99}), encoding="utf-8")
    with pytest.raises(InputError, match="is of version 99; this GuardianFlow reads 1"):
        DetectionRecord.load(folder)
    with pytest.raises(NotFoundError, match="no record of detections"):
        DetectionRecord.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Images(("a", "a"), [1, 1], [1, 1]), "'a' comes twice"),
        (lambda: Images(("a",), [0], [1]), "width must be at least 1 pixel; 'a' has 0"),
        (lambda: Images(("a",), [1, 2], [1]), "images: width must have shape"),
        (lambda: Predictions([0], [0], [np.nan], [[0, 0, 1, 1]]), "score of a prediction must be a finite number"),
        (lambda: Predictions([0], [0], [0.5], [[5, 0, 1, 1]]), "x1 ≤ x2"),
        (lambda: Predictions([0], [0], [0.5], [[0, 0, np.inf, 1]]), "four finite numbers"),
        (lambda: Predictions([0], ["x"], [0.5], [[0, 0, 1, 1]]), "predictions: label must be numbers"),
        (lambda: GroundTruth([0], [0], [[0, 0, 1, 1]], [False], [-1.0]), "at least 0"),
        (lambda: record_of([(5, 0, 0, 0, 1, 1)], []), "truth: image must lie in 0–0; entry 0 has 5"),
        (lambda: record_of([], [(0, 1, 0.5, 0, 0, 1, 1)]), "predictions: label must lie in 0–0"),
    ],
)
def test_a_record_cannot_hold_what_is_impossible(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()


def test_the_arrays_of_a_record_cannot_be_changed_but_the_callers_can() -> None:
    score = np.array([0.5])
    predictions = Predictions(np.array([0]), np.array([0]), score, np.array([[0.0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="read-only"):
        predictions.score[0] = 1.0
    score[0] = 0.6
