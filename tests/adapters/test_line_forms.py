"""Every row of the table of known lines is read as its own example says, and none spoils another."""

from __future__ import annotations

import time

import pytest

from guardianflow.adapters.wrap.metrics.line_forms import LINE_FORMS, LineForm
from guardianflow.adapters.wrap.metrics.lines import MetricLines


def read(text: str, forms: tuple[LineForm, ...] = LINE_FORMS) -> tuple[tuple[str, float, int | None], ...]:
    lines = MetricLines(forms=forms)
    return tuple((found.name, found.value, found.step) for found in lines.feed(text.encode()) + lines.close())


def name_of(form: LineForm) -> str:
    return form.name


@pytest.mark.parametrize("form", LINE_FORMS, ids=name_of)
def test_a_known_line_gives_the_figures_of_its_row(form) -> None:
    assert read(form.example) == form.figures


@pytest.mark.parametrize("form", LINE_FORMS, ids=name_of)
def test_no_row_is_idle(form) -> None:
    others = tuple(other for other in LINE_FORMS if other is not form)
    assert read(form.example, others) != form.figures


def test_what_was_read_before_changes_no_figure() -> None:
    lines = MetricLines()
    for form in LINE_FORMS:  # one stream: what is kept of the lines of one row must not spoil those of another
        for _ in range(2):
            found = lines.feed(form.example.encode() + b"\n" * 2)
            assert [(each.name, each.value) for each in found] == [figure[:2] for figure in form.figures]


@pytest.mark.parametrize("form", LINE_FORMS, ids=name_of)
def test_a_row_goes_by_where_digits_stand_and_not_by_which(form) -> None:
    seven = form.example.translate(str.maketrans("12345689", "7" * 8)).replace("@7", "@0").replace("=7.77", "=0.77")
    assert [name.translate(str.maketrans("0123456789", "7" * 10)) for name, *_ in read(seven)] or not form.figures


@pytest.mark.parametrize(
    "piece",
    ["7", " ", "loss", "(", '{"', " {'", "epoch 1 ", "| ", "a=", "=True", "http", "1%|", "step ", ": 1", "Train: 1 "],
)
def test_no_line_takes_long(piece) -> None:
    ends = ["", "://", " (1)", "%| = : { | Epoch( maxDets= macro avg accuracy .py: it [ True"]
    lines = [
        (start + piece * 10_000)[:9_900] + end for start in ("", "| ", "epoch 3 ", "{'a': ", "loss ") for end in ends
    ]
    begin = time.process_time()
    read("\n".join(lines))
    assert time.process_time() - begin < 1
