"""The comparison view: what it says of two models, what it offers, and that it only reads."""

from __future__ import annotations

from html import unescape

from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from guardianflow.widgets.comparison_view import ComparisonView
from tests.registry.registry_world import World
from tests.widgets.conftest import Enter

HOSTILE = 'compared <img src=x onerror="alert(1)"> \'"'


def shown(made: ComparisonView) -> ComparisonView:
    made._tick.beat += 1
    return made


def test_it_says_which_is_better_and_draws_it_without_a_run(world: World, enter: Enter) -> None:
    first, second = enter(HOSTILE, 0.5, promoted=True), enter(HOSTILE, 0.9)
    made = ComparisonView([first.uri, second.uri], world.settings, language="en")
    assert "Being compared" in made._found.value  # the page is there before the seconds that it takes
    shown(made)
    html = made._found.value
    assert "B is better than A" in html
    assert all(text in unescape(html) for text in ("95% interval", "12 images", f"A: {first.uri}", "onnxruntime"))
    assert "<img" not in html
    assert made._row not in made.children
    assert [len(card.children) for card in made._plots.children] == [1, 1]
    assert RunRecords(Database.open(world.settings.database_url)).list() == []
    plots = made._plots.children
    assert shown(made)._plots.children is plots  # nothing new to compare: what is open stays


def test_on_a_page_the_models_are_chosen(world: World, enter: Enter) -> None:
    uris = [enter(HOSTILE, skill).uri for skill in (0.5, 0.9)]
    made = ComparisonView(settings=world.settings, language="en")
    assert made._row in made.children
    offered = dict(made._choices[1].options)
    assert set(uris) <= set(offered.values())
    shown(made)
    for choice, uri in zip(made._choices, uris, strict=False):
        choice.value = uri
    assert f"B: {uris[1]} · A: {uris[0]}" in unescape(made._found.value)
    made._choices[1].value = ""
    assert "Choose two models" in made._found.value
    assert len(made._plots.children) == 0


def test_what_cannot_be_compared_is_said_with_the_way_out(world: World, enter: Enter) -> None:
    made = shown(ComparisonView([enter(HOSTILE, 0.5).uri, "models:/nobody/1"], world.settings, language="en"))
    assert "there is no model named 'nobody'" in unescape(made._found.value)
