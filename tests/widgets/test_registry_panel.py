"""The registry panel: what it shows, what the gate says in it, and who may move a champion with it."""

from __future__ import annotations

from html import unescape
from itertools import count
from typing import Any

import pytest

from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.keys import Keys
from guardianflow.state.database import Database
from guardianflow.widgets.registry_panel import RegistryPanel
from tests.registry.registry_world import World
from tests.widgets.conftest import Enter

_NUMBER = count(1)
HOSTILE = '<img src=x onerror="alert(1)"> \'"'


@pytest.fixture
def name() -> str:
    return f"gate {next(_NUMBER)}"


@pytest.fixture
def worse(enter: Enter, name: str) -> str:
    """A model of three versions: the second in charge, the third waits and is worse."""
    enter(name, 0.6, promoted=True)
    enter(name, 0.9, promoted=True)
    enter(name, 0.6)
    return name


def panel(world: World, name: str | None, **settings: Any) -> RegistryPanel:
    made = RegistryPanel(name, world.settings.model_copy(update=settings), language="en")
    made._tick.beat = 1
    return made


def key_of(world: World, role: str) -> str:
    return Keys(Database.open(world.settings.database_url)).create(f"Kim {role} {next(_NUMBER)}", role, by="tests")[1]


def said(made: RegistryPanel) -> str:
    return unescape(made._said.value)


def offered(made: RegistryPanel) -> list[str]:
    return [button.description for button in made._moves.children[1:]]


def _state(world: World, name: str) -> Any:
    return next(state for state in ModelRegistry(world.settings).list_models() if state.name == name)


def test_it_shows_versions_evidence_and_the_gates_reasons(world: World, worse: str) -> None:
    made = RegistryPanel(worse, world.settings, language="en")
    assert "being asked" in made._gate.value  # the page is there before the seconds that a judgement takes
    made._tick.beat = 1
    assert f"{worse}: version 2 is in charge. Version 3 waits for a decision." in made._top.value
    shown = made._versions.value
    assert all(text in shown for text in ("3 versions", "0.90", "12 ms", "15.5 ms", "onnxruntime fp32", "way back"))
    assert "Version 3 is refused." in made._gate.value
    assert made._gate.value.index("perhaps by more than") < made._gate.value.index("passed")  # what stands in the way
    assert "reason of" in made._ledger.value
    assert offered(made) == ["Promote version 3", "Promote 3 against the gate", "Roll back to version 1"]


def test_the_owner_of_a_notebook_is_refused_by_the_gate_forces_and_rolls_back(world: World, worse: str) -> None:
    made = panel(world, worse)
    made._promote.click()
    assert "Say why first" in said(made)
    made._why.value = "it looks good"
    made._promote.click()
    assert "was not promoted; champion stays 2" in said(made)
    assert (made._why.value, _state(world, worse).champion) == ("it looks good", "2")  # what was typed stays
    made._why.value = "the night shift <b>needs</b> it"
    made._force.click()
    assert f"Version 3 of {worse} is in charge now, put there by kim." in said(made)
    assert made._why.value == ""
    event = ModelRegistry(world.settings).history(worse)[0]
    assert (event.actor, event.reason, event.evidence["forced"]) == ("kim", "the night shift <b>needs</b> it", True)
    assert "the night shift &lt;b&gt;needs" in made._ledger.value
    assert "against the gate" in made._ledger.value
    made._why.value = "misses people"
    made._back.click()
    assert "Version 2 of" in said(made)
    assert _state(world, worse).champion == "2"
    assert "Roll back to version" not in " ".join(offered(made))


def test_panels_see_each_others_moves_and_keep_what_is_typed(world: World, enter: Enter, name: str) -> None:
    enter(name, 0.6, promoted=True)
    enter(name, 0.9)
    one, other = panel(world, name), panel(world, name)
    other._why.value = "half a rea"
    one._why.value = "better"
    one._promote.click()
    parts = other.children
    other._tick.beat = 2
    assert "version 2 is in charge" in other._top.value
    assert other._why.value == "half a rea"
    assert set(parts) == set(other.children)  # nothing that somebody is typing into was made anew


def test_only_whom_the_settings_name_may_force(world: World, worse: str) -> None:
    made = panel(world, worse, gate_override_actors=["somebody else"])
    assert "Promote 3 against the gate" not in offered(made)
    made._why.value = "all the same"
    made._force.click()  # a button that isn't shown can be pressed by a message made by hand
    assert "may not force a promotion; somebody else may" in said(made)
    assert _state(world, worse).champion == "2"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("role", ["", "viewer", "ingester", "operator", "promoter"])
def test_on_a_page_the_keys_role_decides(world: World, enter: Enter, name: str, role: str) -> None:
    enter(name, 0.6, promoted=True)
    enter(name, 0.9)
    made = panel(world, name)
    made._key.value = key_of(world, role) if role else ""
    made._why.value = "better"
    made._promote.click()
    made._back.click()
    assert _state(world, name).champion == ("2" if role == "promoter" else "1")
    if role == "promoter":
        assert ModelRegistry(world.settings).history(name)[0].actor.startswith("Kim promoter")
    else:
        assert ("Type a key first" if not role else "this needs the role promoter") in said(made)


@pytest.mark.usefixtures("served")
def test_a_key_that_was_revoked_meanwhile_moves_nothing(world: World, worse: str) -> None:
    made = panel(world, worse)
    made._key.value = key_of(world, "promoter")
    assert "Promote 3 against the gate" not in offered(made)
    made.draw()
    assert "Promote 3 against the gate" in offered(made)
    keys = Keys(Database.open(world.settings.database_url))
    keys.revoke(keys.list()[-1].name)
    made._why.value = "now or never"
    for button in (made._promote, made._force, made._back):
        button.click()
        assert "Type a key first" in said(made)
    assert _state(world, worse).champion == "2"


def test_names_and_reasons_are_text(world: World, enter: Enter) -> None:
    enter(HOSTILE, 0.6, promoted=True)
    ModelRegistry(world.settings, actor=HOSTILE).reject(HOSTILE, enter(HOSTILE, 0.7).version, reason=HOSTILE)
    made = panel(world, HOSTILE)
    html = "".join(part.value for part in (made._top, made._versions, made._gate, made._ledger))
    assert "<img" not in html
    assert html.count("&lt;img") >= 3
    assert ">rejected<" in made._versions.value


def test_without_a_name_it_is_chosen_on_the_page(world: World, enter: Enter, name: str) -> None:
    enter(name, 0.6, promoted=True)
    made = panel(world, None)
    assert name in dict(made._models.options)
    made._models.value = name
    assert f"{name}: version 1 is in charge." in made._top.value
    assert "already; nothing would change" in made._gate.value


def test_a_model_that_is_not_there_is_said(world: World) -> None:
    made = panel(world, f"no such {HOSTILE}")
    assert "There is no model no such &lt;img" in made._top.value
    assert made._promote not in made.children
