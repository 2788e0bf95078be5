"""The data behind the pictures of detection figures, and that each picture can be drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from guardianflow.evaluation.detection.evaluate import DetectionResult, evaluate_detection
from guardianflow.plots.detection import (
    confidence_lines,
    confusion_cells,
    plot_confidence,
    plot_confusion,
    plot_precision_recall,
    precision_recall_lines,
)
from guardianflow.plots.detection_classes import (
    ScoreRow,
    class_scores,
    plot_scores,
    size_scores,
)
from tests.evaluation.records import random_record, record_of

NAMES = ("적혈구", "<b>bold</b>", "unused")


def evaluated(classes: int = 3) -> DetectionResult:
    record = random_record(1, images=20, classes=classes)
    names = NAMES if classes == 3 else record.classes
    return evaluate_detection(dataclasses.replace(record, classes=names), confidence=0.4)


def score_rows(rows: Iterable[Any]) -> list[ScoreRow]:
    return [ScoreRow(row.name, row.boxes, row.ap50, row.ap50_95) for row in rows]


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


def test_precision_recall_labels_carry_the_average_precision_and_unlabelled_classes_have_no_line() -> None:
    result = evaluated()
    plot = precision_recall_lines(plain(result.curves()))
    assert list(plot.panels) == ["0.5", "0.75"]
    mean, classes = plot.panels["0.5"]
    assert mean.label == f"all classes {result.map50:.2f}"
    assert [line.label for line in classes] == [
        f"적혈구 {result.per_class[0].ap50:.2f}",
        f"&lt;b&gt;bold&lt;/b&gt; {result.per_class[1].ap50:.2f}",  # plotly would take it for markup
    ]
    assert len(plot.recall) == len(mean.values) == 101
    figure = plot_precision_recall(plot)
    assert [axis.title.text for axis in figure.select_xaxes()] == ["recall: share of objects found"] * 2
    assert figure.data[2].name == mean.label


def test_more_classes_than_colours_stand_faint_behind_the_mean() -> None:
    figure = plot_precision_recall(precision_recall_lines(evaluated(classes=12).curves()))
    assert sum(bool(trace.showlegend is not False) for trace in figure.data) == 2
    assert figure.data[11].name.endswith("(grey: each of 11)")


def test_confidence_lines_mark_the_stated_and_the_best_confidence() -> None:
    result = evaluated()
    plot = confidence_lines(plain(result.curves()))
    assert (plot.stated, plot.best) == (0.4, result.best_f1_confidence)
    precision, recall, f1 = plot.means
    place = plot.confidence.index(0.4)
    assert recall.values[place] == pytest.approx(result.recall, abs=1e-4)
    assert precision.values[place] == pytest.approx(result.precision, abs=1e-4)
    assert f1.values[place] == pytest.approx(result.f1, abs=1e-4)
    assert [line.label for line in plot.f1[1]] == ["적혈구", "&lt;b&gt;bold&lt;/b&gt;"]
    texts = [note.text for note in plot_confidence(plot).layout.annotations]
    assert texts[2:] == [f"best F1 {plot.best:.2f}", "stated 0.4"]


def test_confusion_shares_are_of_the_row_and_at_the_bottom_of_the_column() -> None:
    plot = confusion_cells(["a", "b"], [[8, 0, 2], [1, 0, 0], [4, 0, 0]])
    assert plot.true == ("a", "b", "nothing there")
    assert plot.predicted == ("a", "b", "not found")
    assert plot.shares[0] == (0.8, 0.0, 0.2)
    assert plot.shares[1] == (1.0, 0.0, 0.0)
    assert plot.shares[2] == (4 / 13, None, 0.0)
    assert confusion_cells(["a"], [[0, 0], [0, 0]]).shares == ((None, None), (None, None))
    figure = plot_confusion(plot)
    assert [list(row) for row in figure.data[0].text] == [["8", "", "2"], ["1", "", ""], ["4", "", ""]]


def test_class_and_size_bars_stand_in_order_with_their_boxes() -> None:
    result = evaluated()
    scores = class_scores(score_rows(result.per_class))
    assert scores.labels[0] == "unused (0 boxes)"
    assert scores.ap50_95[0] is None
    assert scores.ap50_95[1] < scores.ap50_95[2]
    assert plot_scores(scores).data[0].text[0] == "not labelled"
    bars = size_scores(score_rows(result.by_size.values()))
    assert [label.split(",")[0] for label in bars.labels] == ["large", "medium", "small"]
    assert "up to 32² px" in bars.labels[2]


PICTURES: list[Callable[[DetectionResult, str], Any]] = [
    lambda result: plot_precision_recall(precision_recall_lines(result.curves())),
    lambda result: plot_confidence(confidence_lines(result.curves())),
    lambda result: plot_confusion(confusion_cells(result.curves()["names"], result.confusion.tolist())),
    lambda result: plot_scores(class_scores(score_rows(result.per_class))),
    lambda result: plot_scores(size_scores(score_rows(result.by_size.values()))),
]


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_is_drawn_for_few_many_and_no_predictions(
    picture: Callable[[DetectionResult], Any],
) -> None:
    nothing = evaluate_detection(record_of([(0, 0, 0, 0, 9, 9)], []))
    for result in (evaluated(), evaluated(classes=40), nothing):
        figure = picture(result)
        assert json.loads(figure.to_json())["layout"]["height"] > 100
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)", "the page shows through, light or dark"
