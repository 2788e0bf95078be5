"""The data behind the pictures of a training, and that each picture can be drawn."""

from __future__ import annotations

import io
import math
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image, ImageColor

from guardianflow.plots.dataset import dataset_figures, plot_dataset
from guardianflow.plots.detection_classes import ScoreRow, class_scores, plot_scores
from guardianflow.plots.palette import BLUE, VERMILION
from guardianflow.plots.predictions import PredictionGallery, prediction_counts
from guardianflow.plots.training import plot_training, sketch_training, training_curves

HISTORY = [
    {"epoch": 1, "map50": 0.1, "map50_95": 0.05, "train/box_loss": 2.0, "val/box_loss": 2.5},
    {"epoch": 2, "map50": 0.4, "map50_95": 0.2, "train/box_loss": 1.5, "val/box_loss": 2.0},
    {"epoch": 3, "map50": 0.5, "map50_95": 0.2, "train/box_loss": 1.2},
]


def test_curves_hold_every_series_and_mark_the_first_best_epoch() -> None:
    curves = training_curves(HISTORY)
    assert curves.epochs == (1, 2, 3)
    assert curves.quality["mAP50"] == (0.1, 0.4, 0.5)
    assert curves.best_epoch == 2
    train, val = curves.losses["box loss"]
    assert train == (2.0, 1.5, 1.2)
    assert val[:2] == (2.5, 2.0)
    assert math.isnan(val[2])


@pytest.mark.parametrize("history", [[], HISTORY[:1], HISTORY, [{**HISTORY[0], "epoch": n} for n in range(1, 40)]])
def test_curves_of_any_length_are_drawn(history: list[dict[str, float]]) -> None:
    figure = plot_training(training_curves(history))
    for trace in figure.data:
        assert len(trace.x) == len(history)
    if 0 < len(history) <= 12:
        assert figure.layout.xaxis.dtick == 1  # there is no epoch 1.5
        assert all("markers" in trace.mode for trace in figure.data)


def test_class_bars_stand_from_weak_to_strong_and_those_without_labels_have_no_bar() -> None:
    rows = [ScoreRow("car", 1200, 0.9, 0.7), ScoreRow("<b>", 3, 0.2, 0.1), ScoreRow("bus", 0, None, None)]
    bars = class_scores(rows)
    assert bars.labels == ("bus (0 boxes)", "&lt;b&gt; (3 boxes)", "car (1,200 boxes)")
    assert bars.ap50 == (None, 0.2, 0.9)
    figure = plot_scores(bars)
    assert figure.data[0].text[0] == "not labelled"
    assert plot_scores(class_scores([])).data[0].x == ()


def test_dataset_figures_count_classes_and_small_boxes() -> None:
    counts = {"train": {"a": 10, "b": 90}, "val": {"a": 1, "b": 0}}
    sizes = [("a", 4.0, 30.0), ("b", 20.0, 20.0), ("b", 8.0, 7.9), ("b", 8.0, 8.0)]
    figures = dataset_figures(counts, sizes, imgsz=320)
    assert figures.classes == ("a", "b")
    assert figures.boxes == {"train": (10, 90), "val": (1, 0)}
    assert figures.sizes["b"] == ((20.0, 8.0, 8.0), (20.0, 7.9, 8.0))
    assert figures.small == 0.5
    figure = plot_dataset(figures)
    assert "50% with a side under 8 px" in figure.layout.annotations[1].text


def test_dataset_of_many_classes_shows_the_most_frequent() -> None:
    figures = dataset_figures({"train": {f"c{n}": n for n in range(100)}}, [], imgsz=64)
    assert len(figures.classes) == 30
    assert figures.classes[-1] == "c99"
    assert figures.left_out == 70
    assert "70 rarer classes not shown" in plot_dataset(figures).layout.annotations[0].text


SAMPLE = {
    "name": "<script>.jpg", "width": 320, "height": 160, "jpeg": "",
    "boxes": [
        {"kind": "found", "name": "<i>", "x1": 0.1, "y1": 0.5, "x2": 0.2, "y2": 0.75, "confidence": 0.5},
        {"kind": "missed", "name": "사람", "x1": 0, "y1": 0, "x2": 1, "y2": 1, "confidence": None},
    ],
}  # fmt: skip


def seen(gallery: PredictionGallery) -> Any:
    return np.asarray(Image.open(io.BytesIO(gallery._repr_jpeg_() or b""))).astype(int)


def near(pixels: Any, colour: str) -> Any:
    return np.abs(pixels - ImageColor.getrgb(colour)).max(axis=2) < 40


def test_a_gallery_is_one_picture_with_each_kind_in_its_colour() -> None:
    both, found = seen(PredictionGallery([SAMPLE])), seen(PredictionGallery([SAMPLE | {"boxes": SAMPLE["boxes"][:1]}]))
    legend = 40
    assert near(both[legend:], BLUE).sum() > 100
    assert near(both[legend:], VERMILION).sum() > 400
    assert not near(found[legend:], VERMILION).any()
    assert prediction_counts([SAMPLE]) == {"found": 1, "imagined": 0, "missed": 1}
    assert repr(PredictionGallery([SAMPLE])) == "1 found, 0 imagined, 1 missed in <script>.jpg"


def test_korean_class_names_are_drawn_as_letters() -> None:
    names = [SAMPLE | {"boxes": [SAMPLE["boxes"][1] | {"name": name}]} for name in ("가", "힣", "가")]
    one, other, again = (seen(PredictionGallery([sample])) for sample in names)
    assert not np.array_equal(one, other), "letters that a font lacks are all the same empty box"
    assert np.array_equal(one, again)


def test_a_gallery_without_images_says_so() -> None:
    nothing = PredictionGallery([])
    assert repr(nothing) == "No labelled images to show."
    assert nothing._repr_jpeg_() is None


def test_a_sketch_is_a_whole_picture_whatever_is_missing() -> None:
    few = {"epoch": 1.0, "map50": float("nan"), "train/box_loss": 2.0}
    for history in ([], [few], [few, {"epoch": 2.0, "map50": 0.5, "map50_95": 0.25, "val/box_loss": 1.0}]):
        picture = ET.fromstring(sketch_training(training_curves(history)))
        lines = [line.get("points", "") for line in picture.iter("{http://www.w3.org/2000/svg}polyline")]
        assert "nan" not in "".join(lines)
        assert any(lines) == bool(history)
