"""The pages as widgets: what they import, what they show, what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ipywidgets", reason="ipywidgets is missing: pip install 'guardianflow[dashboard]'")

from guardianflow.dashboard.recommendations import Recommendations
from guardianflow.widgets.fleet import FleetPanel
from guardianflow.widgets.optimizer import OptimizerPanel
from tests.dashboard.site_scene import Scene

HEAVY = ("torch", "mlflow", "ultralytics", "plotly", "cv2", "fastapi", "papermill")
LOOK = """
import sys
from pathlib import Path
from guardianflow.core.config import Settings
from guardianflow import ComparisonView, FleetPanel, OptimizerPanel, RegistryPanel, RunMonitor
from guardianflow.widgets.start import StartPanel
from guardianflow.widgets.trends import TrendsPanel

settings = Settings(language="en", work_dir=Path(sys.argv[1]) / "work", database_url=f"sqlite:///{sys.argv[1]}/state.db")
fleet, optimizer, registry = FleetPanel(settings), OptimizerPanel(settings), RegistryPanel(settings=settings)
compare, runs = ComparisonView(settings=settings), RunMonitor(settings=settings)
for panel in (registry, compare, runs):
    panel._tick.beat = 1
assert "harbour" in fleet.children[0].value and "unwell" in fleet.children[0].value
assert "1 recommendation waits" in optimizer.children[0].value
assert "guard: version 1 is in charge." in registry.children[0].value
start, trends = StartPanel(settings), TrendsPanel(settings)
assert "guard, version 1 in charge" in start.children[0].value
assert "too few figures" in trends.children[0].value
print(",".join(sorted(name for name in sys.modules if "." not in name)))
"""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    from datetime import UTC, datetime

    made = Scene(tmp_path, datetime.now(UTC))
    made.charge("1")
    made.labelled("harbour", 0.58, camera="gate")
    made.live("harbour")
    made.evaluate()
    made.recommend()
    return made


def panel(scene: Scene) -> OptimizerPanel:
    return OptimizerPanel(scene.settings, language="en")


def said(made: OptimizerPanel) -> str:
    return str(made._said.value)


def test_reading_imports_nothing_heavy(scene: Scene, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOOK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.strip().split(",")
    assert [name for name in HEAVY if name in loaded] == []


def test_a_page_that_is_drawn_again_shows_what_is_new(scene: Scene) -> None:
    made = FleetPanel(scene.settings, language="en")
    before = made.children[0].value
    scene.labelled("mill", 0.9)
    made._tick.beat = 1
    assert "mill" not in before
    assert "1 of 2 sites is unwell, the rest well." in made.children[0].value


def test_what_is_being_typed_stays_while_nothing_changes(scene: Scene) -> None:
    made = panel(scene)
    cards = made._advice.children
    made._tick.beat = 1
    assert made._advice.children is cards
    Recommendations(scene.database).move(1, of=("open",), state="waiting", outcome={"said": "version 2 is ready"})
    made._tick.beat = 2
    assert made._advice.children is not cards
    assert "version 2 is ready" in made._advice.children[0].children[0].value.lower()


@pytest.mark.parametrize(
    ("role", "state"), [("", "open"), ("viewer", "open"), ("ingester", "open"), ("operator", "dismissed")]
)
@pytest.mark.usefixtures("served")
def test_the_role_is_asked_at_the_moment_of_the_decision(scene: Scene, role: str, state: str) -> None:
    made = panel(scene)
    made._key.value = scene.key(role) if role else ""
    _, dismiss, why = made._advice.children[0].children[1].children
    why.value = "the lamp is being mended"
    dismiss.click()
    assert Recommendations(scene.database).get(1).state == state


@pytest.mark.usefixtures("served")
def test_a_key_that_was_revoked_meanwhile_decides_nothing(scene: Scene) -> None:
    made = panel(scene)
    made._key.value = scene.key("operator")
    assert "Kim operator, operator" in made._holder.value
    scene.revoke("Kim operator")
    _, dismiss, why = made._advice.children[0].children[1].children
    why.value = "no"
    dismiss.click()
    assert "Type a key first" in said(made)
    assert Recommendations(scene.database).get(1).state == "open"


@pytest.mark.usefixtures("served")
def test_a_dismissal_without_a_reason_is_refused_in_a_sentence(scene: Scene) -> None:
    made = panel(scene)
    made._key.value = scene.key("operator")
    made._advice.children[0].children[1].children[1].click()
    assert "a dismissal must say why" in said(made)


def test_in_a_notebook_the_owner_decides_under_the_name_of_the_settings(scene: Scene) -> None:
    made = panel(scene)
    assert "under the name tests" in made._holder.value
    assert [type(part).__name__ for part in made.key_row.children] == ["HTML"]  # there is no key to type
    _, dismiss, why = made._advice.children[0].children[1].children
    why.value = "the lamp is being mended"
    dismiss.click()
    found = Recommendations(scene.database).get(1)
    assert (found.state, found.actor) == ("dismissed", "tests")


def test_a_dead_store_is_one_sentence_and_nothing_to_press(tmp_path: Path) -> None:
    made = Scene(tmp_path)
    made.database.close()
    (tmp_path / "state.db").write_bytes(b"no database at all " * 500)
    settings = made.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/./state.db"})
    for page in (FleetPanel(settings, language="en"), OptimizerPanel(settings, language="en")):
        assert "The figures can&#x27;t be read at the moment" in page.children[0].value
        assert len(page.children) == 2  # the text, and what counts the time


def test_the_setting_of_the_language_goes_before_the_browsers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_ACCEPT_LANGUAGE", "ko-KR,ko;q=0.9")
    assert FleetPanel(scene.settings).language == "ko"
    assert FleetPanel(scene.settings.model_copy(update={"language": "en"})).language == "en"


def test_where_the_extra_is_missing_its_name_is_said() -> None:
    code = "import sys; sys.modules['ipywidgets'] = None\nimport guardianflow\nguardianflow.RegistryPanel"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert "Install it with: pip install 'guardianflow[lab]'" in done.stderr
