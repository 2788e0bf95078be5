"""The panels in a real browser: visitors see each other's promotion, a bad name stays text, nothing comes from afar."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.keys import Keys
from guardianflow.registry.evaluations import Evaluations
from guardianflow.state.database import Database
from tests.browser.conftest import WAIT_MS, Pages, width_of
from tests.registry.evidence_world import evaluate
from tests.registry.registry_world import World

NAME = 'gate <img src=x onerror="alert(1)"> \'"'


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Iterator[Pages]:
    """The pages of a workspace with a model of two versions, the better one not yet in charge."""
    pytest.importorskip("voila", reason="voila is missing: pip install 'guardianflow[dashboard]'")
    folder = tmp_path_factory.mktemp("모델 models")
    shutil.copy(mlflow_sqlite_template, folder / "mlflow.db")
    world = World(folder, mlflow_uri=f"sqlite:///{folder}/mlflow.db", database_url=f"sqlite:///{folder}/state.db")
    for number, skill in enumerate((0.6, 0.9)):
        found = world.registry().register(NAME, world.run(), metrics={"map50": skill})
        evaluate(Evaluations(world.settings), found.sha256, folder / f"evidence {number}", skill, images=12)
        if not number:
            world.registry().promote(NAME, reason=NAME)
    served = Pages(world)
    yield served
    assert served.stop() == 0


def test_two_visitors_see_each_others_promotion(panels: Pages, look: Any) -> None:
    settings = panels.scene.settings
    one = look(panels.page("registry"), selector="text=Version 2 may be promoted.")
    other = look(panels.page("registry"), width=390, selector="text=Version 2 may be promoted.")
    assert width_of(other) == (390, 390)
    other.fill("input[type=text]", "I am still typing")

    one.fill(".gf-decide input", "sees more")
    one.press(".gf-decide input", "Tab")
    one.click("text=Promote version 2")
    one.wait_for_selector("text=Type a key first")
    one.fill(
        "input[type=password]", Keys(Database.open(settings.database_url)).create("Kim", "promoter", by="tests")[1]
    )
    one.press("input[type=password]", "Tab")
    one.wait_for_selector("text=Kim, promoter")
    one.click("text=Promote version 2")
    one.wait_for_selector("text=is in charge now, put there by Kim.", timeout=WAIT_MS)
    event = ModelRegistry(settings).history(NAME)[0]
    assert (event.action, event.version, event.actor, event.reason) == ("promote", "2", "Kim", "sees more")

    other.wait_for_selector("h1:has-text('version 2 is in charge.')", timeout=WAIT_MS)
    assert other.input_value(".gf-decide input") == "I am still typing"
    assert NAME in other.inner_text("h1")
    assert look.strange == []


def test_the_comparison_is_drawn(panels: Pages, look: Any) -> None:
    page = look(panels.page("compare"), selector=".js-plotly-plot .xtick")
    text = page.inner_text(".gf-page")
    assert "A is better than B" in text or "B is worse than A" in text or "B is better than A" in text
    page.wait_for_function("document.querySelector('.js-plotly-plot').clientWidth > 780")  # it fills its place
    assert width_of(page) == (1400, 1400)
    assert look.strange == []
