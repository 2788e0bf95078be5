"""The damage report: what quantization cost, and whether a class was lost."""

from __future__ import annotations

import dataclasses
import json

import pytest

from guardianflow.evaluation.damage import damage_report
from guardianflow.evaluation.detection.records import DetectionRecord, Predictions
from guardianflow.exceptions import InputError
from tests.evaluation.records import jittered, random_record, record_of

CLASSES = ("적혈구", "<i>platelet</i>", "unused")


def original(images: int = 40) -> DetectionRecord:
    return dataclasses.replace(random_record(9, images=images, crowd=0.0, blur=0.03), classes=CLASSES)


def without_class(record: DetectionRecord, label: int) -> DetectionRecord:
    found = record.predictions
    kept = found.label != label
    predictions = Predictions(found.image[kept], found.label[kept], found.score[kept], found.box[kept])
    return dataclasses.replace(record, predictions=predictions)


def test_a_lost_class_fails_and_is_named_in_plain_words() -> None:
    report = damage_report(original(), without_class(original(), 1), resamples=200)
    assert not report.passed
    assert report.collapsed == (CLASSES[1],)
    assert report.reasons[0].startswith(f"class {CLASSES[1]!r} fell from AP 0.")
    assert report.verdict.startswith("Don't use the smaller model: it has lost most of its ability to find")
    kept, lost, unused = report.per_class
    assert (kept.change, kept.low, kept.high, kept.collapsed) == (0.0, 0.0, 0.0, False)
    assert lost.quantized == 0.0
    assert lost.high is not None
    assert lost.high < 0
    assert (unused.original, unused.change, unused.collapsed) == (None, None, False)


def test_the_same_model_passes_without_any_change() -> None:
    report = damage_report(original(), original(), resamples=100)
    assert report.passed
    assert report.reasons == report.collapsed == ()
    assert (report.agreement.share, report.agreement.lost, report.agreement.new) == (1.0, 0, 0)
    assert report.agreement.mean_iou == pytest.approx(1.0)
    assert (report.shift.mean, report.shift.low, report.shift.high) == (0.0, 0.0, 0.0)
    assert "as good as the original as far as these images can tell" in report.verdict
    assert "agree on 100% of the boxes" in report.verdict


def test_a_part_of_all_boxes_lost_is_worse_but_not_collapsed() -> None:
    report = damage_report(original(), jittered(original(), 1, score=0.0, drop=0.35), resamples=200)
    assert report.passed
    assert "worse than the original, and not by chance" in report.verdict


def test_a_loss_that_chance_can_explain_is_no_collapse() -> None:
    truth = [(0, 0, 0, 0, 9, 9), (1, 0, 0, 0, 9, 9), (2, 0, 0, 0, 9, 9)]
    seen = [(image, 0, 0.9, 0, 0, 9, 9) for image in range(3)]
    report = damage_report(record_of(truth, seen, images=3), record_of(truth, seen[:1], images=3), resamples=200)
    assert report.per_class[0].change == pytest.approx(-2 / 3, abs=0.01)
    assert report.passed
    assert damage_report(record_of(truth, seen, images=3), record_of(truth, [], images=3)).collapsed == ("cell",)


def test_a_class_that_was_hardly_found_before_cannot_collapse() -> None:
    truth = [(image, 0, 0, 0, 9, 9) for image in range(10)]
    wrong = [(image, 0, 0.9, 100 + 9 * place, 0, 109 + 9 * place, 9) for image in range(10) for place in range(30)]
    right = [(image, 0, 0.1, 0, 0, 9, 9) for image in range(10)]
    report = damage_report(record_of(truth, wrong + right, images=10), record_of(truth, wrong, images=10))
    assert report.per_class[0].original == pytest.approx(1 / 31, abs=0.01)
    assert report.per_class[0].quantized == 0.0
    assert report.passed


def test_agreement_counts_boxes_at_the_stated_confidence_and_the_shift_sees_those_that_fell_below() -> None:
    truth = [(0, 0, 0, 0, 10, 10)]
    before = [
        (0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.6, 50, 50, 60, 60), (0, 0, 0.1, 80, 80, 90, 90), (0, 1, 0.8, 0, 50, 9, 59),
    ]  # fmt: skip
    after = [
        (0, 0, 0.8, 0, 0, 10, 9), (0, 0, 0.2, 50, 50, 60, 60), (0, 0, 0.9, 80, 80, 90, 90), (0, 0, 0.8, 0, 50, 9, 59),
    ]  # fmt: skip
    classes = ("a", "b")
    report = damage_report(record_of(truth, before, classes=classes), record_of(truth, after, classes=classes))
    same = report.agreement
    assert (same.both, same.lost, same.new) == (1, 2, 2)  # another class is another box
    assert same.share == pytest.approx(2 / 6)
    assert same.mean_iou == pytest.approx(0.9)
    assert report.shift.boxes == 2
    assert report.shift.mean == pytest.approx((-0.1 - 0.4) / 2)


def test_a_model_that_shows_nothing_has_no_agreement_to_report() -> None:
    nothing = record_of([(0, 0, 0, 0, 10, 10)], [])
    report = damage_report(nothing, nothing, resamples=10)
    assert (report.agreement.share, report.agreement.mean_iou, report.shift.mean) == (None, None, None)
    assert "agree" not in report.verdict
    assert "both show 0 boxes" in report._repr_html_()


def test_the_report_is_plain_json_and_its_page_is_escaped() -> None:
    report = damage_report(original(), jittered(original(), 2), resamples=50)
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["comparison"]["per_class"][0]["name"] == "적혈구"
    assert again["passed"] is True
    page = damage_report(original(), without_class(original(), 1), resamples=50)._repr_html_()
    assert "<i>" not in page
    assert "&lt;i&gt;platelet&lt;/i&gt;" in page
    assert "<strong>Not passed.</strong>" in page


def test_an_option_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="collapse and confidence are shares"):
        damage_report(original(5), original(5), collapse=1.5)
