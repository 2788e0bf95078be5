"""What a result says, in words and as a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guardianflow.runners.training.result import TrainingResult
from guardianflow.runners.training.verdict import training_verdict
from guardianflow.views.result_page import format_metric, run_link

RESULT = TrainingResult(
    run_id="0123456789abcdef0123456789abcdef",
    experiment="<img src=x onerror=alert(1)>",
    status="FINISHED",
    metrics={"map50": 0.81234, "precision": 0.8, "recall": 0.78, "model_size_mb": 5.4, "cpu_util": 63.0},
    model="models:/gate & door/3",
    folder=Path("/work/runs/a <b>"),
    best=Path("/work/best.pt"),
    last=Path("/work/last.pt"),
    per_class=[{"name": "car", "recall": 0.9}, {"name": "person", "recall": 0.62}],
)


@pytest.mark.parametrize(
    ("recall", "precision", "sentence"),
    [
        (0.78, 0.8, "Finds 8 of 10 objects; 1 in 5 of its boxes is wrong."),
        (0.97, 0.999, "Finds 97 of 100 objects; hardly any of its boxes is wrong."),
        (1.0, 1.0, "Finds all objects; hardly any of its boxes is wrong."),
        (0.02, 0.3, "Finds 2 of 100 objects; 7 of 10 of its boxes are wrong."),
        (0.5, 0.5, "Finds 5 of 10 objects; 1 in 2 of its boxes is wrong."),
        (0.0, 0.0, "Finds next to nothing yet: train longer, or look at the labels and the image size."),
    ],
)
def test_verdict_says_recall_and_precision_in_plain_words(recall: float, precision: float, sentence: str) -> None:
    assert training_verdict({"recall": recall, "precision": precision}) == sentence


def test_verdict_names_a_class_that_is_clearly_weaker_and_those_nobody_judged() -> None:
    rows = [{"name": "car", "recall": 0.9}, {"name": "person", "recall": 0.31}, {"name": "bus", "recall": None}]
    verdict = training_verdict({"recall": 0.6, "precision": 0.9}, rows)
    assert "Weakest class: person (finds 3 of 10)." in verdict
    assert "no validation image shows it: bus." in verdict
    level = [{"name": "car", "recall": 0.6}, {"name": "person", "recall": 0.55}]
    assert "Weakest" not in training_verdict({"recall": 0.575, "precision": 0.9}, level)


def test_verdict_says_when_training_ended_early() -> None:
    history = [{"epoch": 1, "map50_95": 0.1}, {"epoch": 2, "map50_95": 0.3}, {"epoch": 3, "map50_95": 0.2}]
    good = {"recall": 0.6, "precision": 0.9}
    assert "Stopped after 3 of 100 epochs; the best was epoch 2." in training_verdict(good, (), history, epochs=100)
    assert "Stopped" not in training_verdict(good, (), history, epochs=3)


def test_page_of_a_result_leads_with_the_verdict_and_escapes_names() -> None:
    page = RESULT._repr_html_()
    assert page.index("Finds 8 of 10 objects") < page.index("map50")
    assert "0.812" in page
    assert "<img" not in page
    assert "gate &amp; door" in page
    assert "a &lt;b&gt;" in page


def test_next_steps_are_commands_that_a_shell_reads_as_meant() -> None:
    commands = dict(RESULT.next_steps().commands())
    assert commands["Put it in charge"] == "guardianflow promote 'gate & door'"
    unregistered = dict(replace(RESULT, model="runs:/x/weights/best.pt").next_steps().commands())
    assert unregistered["Register it"].endswith(f"--run {RESULT.run_id}")


def test_next_steps_stand_as_cells_of_public_names_too() -> None:
    quoted = replace(RESULT, model='models:/it\'s "<img src=x onerror=alert(1)>"/3')
    steps = [*RESULT.next_steps().steps, *replace(RESULT, model="runs:/x/best.pt").next_steps().steps]
    cells = [step.cell for step in [*steps, *quoted.next_steps().steps] if step.cell]
    assert "from guardianflow import ModelRegistry\nModelRegistry().promote('gate & door')" in cells
    for cell in cells:
        imported, expression = cell.splitlines()
        exec(imported, {})
        compile(expression, "a cell", "eval")
    assert "<img" not in quoted.next_steps()._repr_html_()


def test_result_survives_the_way_through_json() -> None:
    again = TrainingResult.from_dict(RESULT.to_dict())
    assert again.to_dict() == RESULT.to_dict()
    assert again.verdict == RESULT.verdict
    assert RESULT.to_dict()["model_uri"] == RESULT.model_uri == RESULT.model


def test_run_is_a_link_only_where_mlflow_serves_pages() -> None:
    assert (
        run_link("https://mlflow.example/", "abc") == '<a href="https://mlflow.example/#/runs/abc"><code>abc</code></a>'
    )
    assert run_link("sqlite:////tmp/x.db", "abc") == "<code>abc</code>"
    assert "javascript" not in run_link("javascript:alert(1)", "abc")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("map50", 0.5741, "0.574"),
        ("latency_ms_p95", 12.34, "12.3 ms"),
        ("rss_mb", 1234.5, "1,234 MB"),
        ("cpu_util", 63.0, "63.0 %"),
        ("idsw", 1200.0, "1,200"),
        ("map50", None, "–"),
        ("map50", float("nan"), "–"),
        ("of a user", 0.5, "0.500"),
    ],
)
def test_figures_are_written_as_a_person_reads_them(name: str, value: float | None, text: str) -> None:
    assert format_metric(name, value) == text
