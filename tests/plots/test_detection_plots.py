"""The data behind the pictures of detection figures, and that each picture can be drawn."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from guardianflow.evaluation.damage import damage_report
from guardianflow.evaluation.detection.evaluate import DetectionResult, evaluate_detection
from guardianflow.evaluation.significance import paired_bootstrap
from guardianflow.exceptions import NotFoundError
from guardianflow.plots.detection import (
    confidence_lines,
    confusion_cells,
    plot_confidence,
    plot_confusion,
    plot_precision_recall,
    precision_recall_lines,
)
from guardianflow.plots.detection_classes import (
    class_changes,
    class_scores,
    plot_class_changes,
    plot_class_scores,
    plot_sizes,
    size_bars,
)
from tests.evaluation.records import jittered, random_record, record_of

NAMES = ("적혈구", "<b>bold</b>", "unused")


def evaluated(classes: int = 3) -> DetectionResult:
    record = random_record(1, images=20, classes=classes)
    names = NAMES if classes == 3 else record.classes
    return evaluate_detection(dataclasses.replace(record, classes=names), confidence=0.4)


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
    result = evaluated().to_dict()
    scores = class_scores(result["per_class"])
    assert scores.labels[0] == "unused (0 boxes)"
    assert scores.ap50_95[0] is None
    assert scores.ap50_95[1] < scores.ap50_95[2]
    assert plot_class_scores(scores).data[0].text[0] == "not labelled"
    bars = size_bars(result["by_size"])
    assert [label.split(",")[0] for label in bars.labels] == ["large", "medium", "small"]
    assert "up to 32² px" in bars.labels[2]


def test_class_changes_say_what_is_more_than_chance() -> None:
    rows = [
        {"name": "same", "change": 0.01, "low": -0.02, "high": 0.04},
        {"name": "lost", "change": -0.4, "low": -0.5, "high": -0.3},
        {"name": "unused", "change": None, "low": None, "high": None},
        {"name": "found", "change": 0.2, "low": 0.1, "high": 0.3},
    ]
    changes = class_changes(rows)
    assert changes.labels == ("lost", "same", "found")
    assert changes.kind == ("worse", "may be chance", "better")
    figure = plot_class_changes(changes)
    assert {trace.name: list(trace.x) for trace in figure.data} == {
        "worse": [-0.4], "may be chance": [0.01], "better": [0.2],
    }  # fmt: skip
    assert list(figure.data[0].error_x.array) == pytest.approx([0.1])


def test_rows_of_a_damage_report_and_of_a_comparison_can_be_drawn() -> None:
    champion = random_record(2, images=15)
    candidate = jittered(champion, 1)
    damage = class_changes(damage_report(champion, candidate, resamples=20).to_dict()["per_class"])
    compared = class_changes(paired_bootstrap(candidate, champion, resamples=20).to_dict()["per_class"])
    assert damage == compared
    assert len(damage.labels) == 2


PICTURES: list[Callable[[DetectionResult, str], Any]] = [
    lambda result, theme: plot_precision_recall(precision_recall_lines(result.curves()), theme=theme),
    lambda result, theme: plot_confidence(confidence_lines(result.curves()), theme=theme),
    lambda result, theme: plot_confusion(
        confusion_cells(result.curves()["names"], result.confusion.tolist()), theme=theme
    ),
    lambda result, theme: plot_class_scores(class_scores(result.to_dict()["per_class"]), theme=theme),
    lambda result, theme: plot_sizes(size_bars(result.to_dict()["by_size"]), theme=theme),
    lambda result, theme: plot_class_changes(class_changes([]), theme=theme),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_is_drawn_for_few_many_and_no_predictions(
    picture: Callable[[DetectionResult, str], Any], theme: str
) -> None:
    nothing = evaluate_detection(record_of([(0, 0, 0, 0, 9, 9)], []))
    for result in (evaluated(), evaluated(classes=40), nothing):
        figure = picture(result, theme)
        assert json.loads(figure.to_json())["layout"]["height"] > 100
        assert (figure.layout.paper_bgcolor == "#15191E") == (theme == "dark")


def test_an_unknown_theme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="there are: light, dark"):
        plot_sizes(size_bars({}), theme="sepia")
