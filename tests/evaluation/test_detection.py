"""Detection figures: equal to pycocotools on anything, and what they say on cases worked out by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardianflow.evaluation.detection import matching as detection_matching
from guardianflow.evaluation.detection.evaluate import evaluate_detection
from guardianflow.evaluation.detection.matching import match_at, match_record
from guardianflow.evaluation.detection.precision import library_precision, precision_at_recalls
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.exceptions import InputError
from tests.evaluation.records import pycocotools_precision, random_record, record_of, records

EXAMPLES = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(record=records(), max_det=st.sampled_from([1, 3, 300]))
def test_precision_equals_pycocotools_and_faster_coco_eval(record: DetectionRecord, max_det: int) -> None:
    ours = precision_at_recalls(match_record(record, max_det=max_det))
    theirs = pycocotools_precision(record, max_det=max_det)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(library_precision(record, max_det=max_det), theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("second", [(0, 0, 10, 10), (10, 0, 20, 10)])
def test_of_two_boxes_with_the_same_iou_the_later_is_taken_as_pycocotools_does(second: tuple[int, ...]) -> None:
    truth = [(0, 0, 0, 0, 10, 10), (0, 0, 10, 0, 20, 10)]
    record = record_of(truth, [(0, 0, 0.9, 0, 0, 20, 10), (0, 0, 0.8, *second)])
    ours = precision_at_recalls(match_record(record))
    np.testing.assert_array_equal(ours, pycocotools_precision(record))
    assert match_at(record).truth.tolist() == ([1, 0] if second[0] == 0 else [1, -1])


def test_matching_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    record = random_record(3, images=20, classes=4, crowd=0.2)
    whole = match_record(record)
    monkeypatch.setattr(detection_matching, "_PAIRS_AT_ONCE", 5)
    pieces = match_record(record)
    for name in ("right", "aside", "met_truth", "met_iou"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))


def test_the_two_evaluators_agree_and_the_result_says_who_it_was() -> None:
    record = random_record(7, images=30, classes=4)
    ours, library = evaluate_detection(record), evaluate_detection(record, evaluator="faster-coco-eval")
    assert ours.metrics() == pytest.approx(library.metrics(), abs=1e-12)
    assert (ours.evaluator, library.evaluator) == ("guardianflow", "faster-coco-eval")
    assert 0 < ours.map50_95 < ours.map50 < 1


def test_figures_of_a_case_worked_out_by_hand() -> None:
    # Two cells; found: one exactly, one twice (the second time too much), one imagined.
    truth = [(0, 0, 0, 0, 10, 10), (0, 0, 50, 50, 60, 60), (1, 1, 0, 0, 10, 10)]
    found = [
        (0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 50, 50, 60, 60), (0, 0, 0.7, 50, 50, 60, 59),
        (0, 0, 0.2, 90, 90, 99, 99), (1, 0, 0.6, 0, 0, 10, 10),
    ]  # fmt: skip
    result = evaluate_detection(record_of(truth, found, images=2, classes=("cell", "platelet", "none")))
    cell, platelet, none = result.per_class
    assert (cell.boxes, cell.images, cell.predictions) == (2, 1, 4)
    assert cell.ap50 == cell.ap50_95 == pytest.approx(1.0)  # what comes after the last right one costs nothing
    assert (cell.precision, cell.recall, cell.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (cell.best_f1, cell.best_confidence) == (1.0, 0.8)
    assert (platelet.ap50, platelet.precision, platelet.recall, platelet.f1) == (0.0, None, 0.0, 0.0)
    assert (none.ap50, none.ap50_95, none.precision, none.recall, none.best_f1) == (None, None, None, None, None)
    assert (result.precision, result.recall, result.f1) == (0.25, 0.5, pytest.approx(1 / 3))
    assert result.map50 == 0.5
    # platelet taken for cell; two cells found; one cell predicted again; the one at 0.2 is left out.
    assert result.confusion.tolist() == [[2, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert 0.7 < result.best_f1_confidence <= 0.8


def test_a_prediction_in_a_crowd_is_neither_right_nor_wrong() -> None:
    truth = [(0, 0, 0, 0, 10, 10), (0, 0, 100, 100, 300, 300, True)]
    found = [(0, 0, 0.9, 110, 110, 120, 120), (0, 0, 0.8, 150, 150, 160, 160), (0, 0, 0.5, 0, 0, 10, 10)]
    record = record_of(truth, found)
    result = evaluate_detection(record)
    assert (result.boxes, result.precision, result.recall, result.map50) == (1, 1.0, 1.0, pytest.approx(1.0))
    assert result.confusion.tolist() == [[1, 0], [0, 0]]
    assert match_at(record).outcome.tolist() == [2, 2, 1]


def test_size_buckets_are_of_the_original_image_and_include_their_bounds() -> None:
    truth = [(0, 0, 0, 0, 32, 32), (0, 0, 100, 0, 200, 100)]
    result = evaluate_detection(record_of(truth, [(0, 0, 0.9, 0, 0, 32, 32)]))
    assert {name: (row.boxes, row.ap50) for name, row in result.by_size.items()} == {
        "small": (1, pytest.approx(1.0)), "medium": (1, pytest.approx(1.0)), "large": (1, 0.0),
    }  # fmt: skip
    assert evaluate_detection(record_of(truth[:1], [])).by_size["large"].ap50_95 is None


def test_a_prediction_at_the_stated_confidence_is_kept() -> None:
    record = record_of([(0, 0, 0, 0, 10, 10)], [(0, 0, 0.25, 0, 0, 10, 10)])
    assert evaluate_detection(record, confidence=0.25).recall == 1.0
    assert evaluate_detection(record, confidence=0.2501).recall == 0.0


def test_match_iou_decides_precision_and_confusion_but_not_ap() -> None:
    record = record_of([(0, 0, 0, 0, 10, 10)], [(0, 0, 0.9, 0, 0, 10, 6)])
    strict, usual = evaluate_detection(record, match_iou=0.7), evaluate_detection(record)
    assert (usual.recall, strict.recall) == (1.0, 0.0)
    assert strict.map50 == usual.map50 == pytest.approx(1.0)
    assert strict.confusion.tolist() == [[0, 1], [1, 0]]


def test_no_prediction_at_all_gives_zeros() -> None:
    result = evaluate_detection(record_of([(0, 0, 0, 0, 10, 10)], []))
    assert result.metrics() == {"map50": 0.0, "map50_95": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert result.best_f1 == 0.0
    assert result.per_class[0].best_confidence is None
    assert result.confusion.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize("truth", [[], [(0, 0, 0, 0, 10, 10, True)]])
def test_without_a_label_there_is_no_figure(truth: list[tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="at least one labelled box that is no crowd; the 1 image"):
        evaluate_detection(record_of(truth, [(0, 0, 0.9, 0, 0, 1, 1)]))


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ({"confidence": 1.5}, "confidence must lie in 0–1"),
        ({"confidence": float("nan")}, "confidence must lie"),
        ({"match_iou": 0.0}, "match_iou must lie above 0"),
        ({"max_det": 0}, "max_det must be at least 1"),
        ({"evaluator": "pycoco"}, "there are: guardianflow, faster-coco-eval"),
    ],
)
def test_an_option_out_of_range_is_refused(option: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        evaluate_detection(record_of([(0, 0, 0, 0, 10, 10)], []), **option)


@EXAMPLES
@given(record=records(), confidence=st.sampled_from([0.0, 0.3, 0.7]))
def test_curves_table_and_confusion_matrix_tell_the_same(record: DetectionRecord, confidence: float) -> None:
    if record.truth.crowd.all():
        return
    result = evaluate_detection(record, confidence=confidence)
    curves, count = result.confidence_curves, len(record.classes)
    place = round(confidence * 1000)
    assert curves.mean_recall[place] == pytest.approx(result.recall, abs=1e-12)
    assert curves.mean_precision[place] == pytest.approx(result.precision, abs=1e-12)
    assert curves.mean_f1[place] == pytest.approx(result.f1, abs=1e-12)
    assert curves.mean_f1.max() == result.best_f1
    assert result.confusion[:-1].sum() == result.boxes
    for label, row in enumerate(result.per_class):
        if row.recall is not None:
            assert result.confusion[label, label] == round(row.recall * row.boxes)
        assert result.confusion[:, label].sum() == row.predictions
        if row.f1 is not None and row.best_f1 is not None:
            assert row.best_f1 >= np.nanmax(curves.f1[label]) - 1e-12
            if row.best_confidence is not None:
                again = evaluate_detection(record, confidence=row.best_confidence).per_class[label]
                assert again.f1 == pytest.approx(row.best_f1, abs=1e-12)
    assert result.pr_curves.mean[0.5].mean() == pytest.approx(result.map50, abs=1e-12)
    assert result.pr_curves.by_iou[0.75].shape == (count, 101)


def test_the_result_is_plain_json_and_its_table_is_escaped() -> None:
    record = dataclasses.replace(random_record(1), classes=("<script>", "적혈구 & co", 'a"b'))
    result = evaluate_detection(record)
    again = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert again["per_class"][1]["name"] == "적혈구 & co"
    assert again["map50"] == result.map50
    page = result._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "적혈구 &amp; co" in page
