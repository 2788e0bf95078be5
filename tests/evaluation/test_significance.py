"""The paired bootstrap: exact on each draw, honest about chance."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from guardianflow.evaluation.detection.evaluate import evaluate_detection
from guardianflow.evaluation.detection.matching import ALL_SIZES, match_record
from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.evaluation.significance import PairedComparison, Resampler, paired_bootstrap
from guardianflow.exceptions import InputError
from tests.evaluation.records import jittered, pycocotools_precision, random_record, record_of, records, resampled

ROOT = Path(__file__).resolve().parents[2]


def resampler(record: DetectionRecord) -> Resampler:
    return Resampler(match_record(record, sizes=ALL_SIZES), len(record.images))


def class_means(precision: np.ndarray) -> np.ndarray:
    """AP50-95 of each class out of COCO's array; NaN without labels."""
    means = precision[..., 0].mean(axis=(0, 1))
    return np.where(means < 0, np.nan, means)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(record=records())
def test_a_draw_of_each_image_once_is_the_plain_figure(record: DetectionRecord) -> None:
    drawn = resampler(record).precision(np.ones((len(record.images), 1), np.int32))
    np.testing.assert_allclose(drawn[:, 0], class_means(pycocotools_precision(record)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_is_what_pycocotools_says_of_the_drawn_images(seed: int) -> None:
    record = random_record(seed, images=10, crowd=0.15)
    random = np.random.default_rng(seed)
    draws = [random.integers(0, 10, 10) for _ in range(4)]
    counts = np.stack([np.bincount(draw, minlength=10) for draw in draws], axis=1).astype(np.int32)
    ours = resampler(record).precision(counts)
    for place, draw in enumerate(draws):
        theirs = class_means(pycocotools_precision(resampled(record, draw)))
        np.testing.assert_allclose(ours[:, place], theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("metric", ["map50", "map50_95"])
def test_the_figures_are_those_of_the_evaluation(metric: str) -> None:
    champion = random_record(2, images=30)
    candidate = jittered(champion, 1)
    compared = paired_bootstrap(candidate, champion, metric=metric, resamples=50)
    assert compared.candidate == pytest.approx(evaluate_detection(candidate).metrics()[metric], abs=1e-12)
    assert compared.champion == pytest.approx(evaluate_detection(champion).metrics()[metric], abs=1e-12)
    assert compared.difference == compared.candidate - compared.champion
    assert compared.low < compared.difference < compared.high
    for row, single in zip(compared.per_class, evaluate_detection(champion).per_class, strict=True):
        expected = single.ap50 if metric == "map50" else single.ap50_95
        assert row.champion == (None if expected is None else pytest.approx(expected, abs=1e-12))
        assert (row.low is None) == (expected is None)
    assert (compared.images, compared.resamples, compared.level) == (30, 50, 0.95)


def test_identical_records_differ_by_nothing() -> None:
    record = random_record(4, images=20)
    compared = paired_bootstrap(record, record, resamples=100)
    assert (compared.difference, compared.low, compared.high, compared.probability_better) == (0.0, 0.0, 0.0, 0.5)


def test_swapping_the_two_turns_the_sign() -> None:
    champion = random_record(5, images=20)
    candidate = jittered(champion, 3, score=0.3)
    one, other = (
        paired_bootstrap(candidate, champion, resamples=200),
        paired_bootstrap(champion, candidate, resamples=200),
    )
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert one.difference == -other.difference
    assert one.probability_better == pytest.approx(1 - other.probability_better)
    for left, right in zip(one.per_class, other.per_class, strict=True):
        if left.low is not None and right.high is not None:
            assert left.low == pytest.approx(-right.high, abs=1e-12)


def test_a_much_worse_model_is_worse_beyond_chance() -> None:
    champion = random_record(6, images=40)
    compared = paired_bootstrap(jittered(champion, 1, drop=0.6), champion, resamples=300)
    assert compared.high < 0
    assert compared.probability_better == 0.0


def test_the_seed_decides_and_the_number_drawn_at_once_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    champion = random_record(8, images=15)
    candidate = jittered(champion, 1)
    first = paired_bootstrap(candidate, champion, resamples=70, seed=1)
    assert first != paired_bootstrap(candidate, champion, resamples=70, seed=2)
    monkeypatch.setattr("guardianflow.evaluation.significance._CELLS_AT_ONCE", 1)
    assert paired_bootstrap(candidate, champion, resamples=70, seed=1) == first


def interval_coverage() -> Any:
    spec = importlib.util.spec_from_file_location("interval_coverage", ROOT / "benchmarks" / "interval_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """The benchmark in small: on 30 images of a population the percentiles alone hold the truth in 91 of 100."""
    simulation = interval_coverage()
    case = simulation.Case("30 images, one better", 30, gain=0.25, metric="map50")
    found = simulation.coverage(case, trials=200, images=3000, resamples=200)
    assert found.known > 0.03
    assert 0.93 <= found.held <= 0.97
    assert max(found.below, found.above) < 0.06


def test_a_draw_without_labels_says_nothing_instead_of_failing() -> None:
    record = record_of([(0, 0, 0, 0, 10, 10)], [(0, 0, 0.9, 0, 0, 10, 10)], images=3)
    compared = paired_bootstrap(record, dataclasses.replace(record), resamples=30)
    assert compared.difference == 0.0
    found_nothing = record_of([(0, 0, 0, 0, 10, 10)], [], images=3)
    compared = paired_bootstrap(found_nothing, record, resamples=30)
    assert compared.difference == pytest.approx(-1.0)


@pytest.mark.parametrize("images", [1, 3])
def test_a_single_labelled_image_proves_nothing(images: int) -> None:
    """Every draw of it is the same, which is no certainty."""
    record = record_of([(0, 0, 0, 0, 10, 10)], [(0, 0, 0.9, 0, 0, 10, 10)], images=images)
    found_nothing = record_of([(0, 0, 0, 0, 10, 10)], [], images=images)
    compared = paired_bootstrap(record, found_nothing, resamples=30)
    assert (compared.difference, compared.low, compared.high) == (pytest.approx(1.0), -1.0, 1.0)
    [row] = compared.per_class
    assert (row.low, row.high) == (-1.0, 1.0)


def test_a_class_on_one_image_proves_nothing_of_itself() -> None:
    truth = [(place, 0, 0, 0, 10, 10) for place in range(6)] + [(0, 1, 50, 50, 90, 90)]
    both = [(place, 0, 0.9, 0, 0, 10, 10) for place in range(6)]
    one = record_of(truth, [*both, (0, 1, 0.9, 50, 50, 90, 90)], images=6, classes=("often", "once"))
    compared = paired_bootstrap(one, record_of(truth, both, images=6, classes=("often", "once")), resamples=50)
    often, once = compared.per_class
    assert (often.low, often.high) == (0.0, 0.0)
    assert (once.difference, once.low, once.high) == (pytest.approx(1.0), -1.0, 1.0)
    assert compared.low < 0 < compared.difference


def changed(record: DetectionRecord, what: str) -> DetectionRecord:
    truth, images = record.truth, record.images
    if what == "classes":
        return dataclasses.replace(record, classes=("one", "two", "other"))
    if what == "image name":
        return dataclasses.replace(record, images=Images(("new.jpg", *images.names[1:]), images.width, images.height))
    if what == "more images":
        more = Images((*images.names, "x"), np.append(images.width, 9), np.append(images.height, 9))
        return dataclasses.replace(record, images=more)
    columns = {name: getattr(truth, name).copy() for name in ("image", "label", "box", "crowd", "area")}
    if what == "fewer labels":
        columns = {name: values[1:] for name, values in columns.items()}
    elif what == "box":
        columns["box"][3, 2] += 0.5
    else:
        columns["crowd"][3] = not columns["crowd"][3]
    return dataclasses.replace(record, truth=GroundTruth(**columns))


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("classes", "number 0 of the classes is 'one' here and 'class 0' there"),
        ("image name", "number 0 of the images is 'new.jpg' here and '0.jpg' there"),
        ("more images", "the candidate has 13 images, the champion 12"),
        ("fewer labels", "labelled boxes, the champion"),
        ("box", "the box of 1 labelled box.es. differs, first in '.*.jpg'"),
        ("crowd", "the crowd of 1 labelled box.es. differs"),
    ],
)
def test_records_of_different_data_are_refused(what: str, sentence: str) -> None:
    champion = random_record(0)
    with pytest.raises(InputError, match=sentence) as error:
        paired_bootstrap(changed(champion, what), champion, resamples=10)
    assert "Evaluate both on the same split" in str(error.value)


def test_an_option_out_of_range_is_refused() -> None:
    record = random_record(0)
    with pytest.raises(InputError, match="there are: map50, map50_95"):
        paired_bootstrap(record, record, metric="mota")
    with pytest.raises(InputError, match="resamples must be at least 1"):
        paired_bootstrap(record, record, resamples=0)
    with pytest.raises(InputError, match="level within 0–1"):
        paired_bootstrap(record, record, level=1.0)


def test_the_comparison_is_plain_json_and_its_table_is_escaped() -> None:
    record = dataclasses.replace(random_record(1), classes=("<b>", "적혈구", "x"))
    compared = paired_bootstrap(record, record, resamples=20)
    assert isinstance(compared, PairedComparison)
    assert compared.to_dict()["per_class"][0]["name"] == "<b>"
    page = compared._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "95% interval" in page


def test_memory_of_a_large_bootstrap_stays_bounded() -> None:
    import tracemalloc

    random = np.random.default_rng(0)
    count, images = 200_000, 500
    corner = random.uniform(0, 300, (count, 2))
    base = random_record(3, images=images, classes=1, per_image=8.0)
    predictions = Predictions(
        random.integers(0, images, count),
        np.zeros(count),
        random.random(count),
        np.concatenate([corner, corner + 30], 1),
    )
    record = dataclasses.replace(base, predictions=predictions)
    tracemalloc.start()
    paired_bootstrap(record, record, resamples=256, max_det=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
