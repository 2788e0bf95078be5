"""How figures went: which lines there are, which moved, and that a gap stays a gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.dashboard.start_page import start_content
from guardianflow.dashboard.trends import trends
from guardianflow.dashboard.trends_page import headline, lines_html
from tests.dashboard.site_scene import NOW, Scene

HOSTILE = '<img src=x onerror=alert(1)> "it\'s"'
PAGES = ("start", "fleet", "optimizer", "trends", "registry")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A harbour that fell six days ago, a mill that stays, with a week without figures; a yard measured once."""
    made = Scene(tmp_path)
    for days in range(28, 0, -2):
        wobble = 0.01 * (days % 3)
        made.labelled("harbour", (0.58 if days < 7 else 0.86) + wobble, camera="gate", ago=24 * days)
        if not 10 < days < 18:
            made.labelled("mill", 0.84 + wobble, ago=24 * days)
    made.labelled("yard", 0.9)
    return made


def test_what_fell_is_said_first(scene: Scene) -> None:
    found = trends(scene.settings, NOW)
    assert [(line.site, line.moved, found.worse(line)) for line in found.lines] == [
        ("harbour", -1, True), ("mill", 0, None), ("yard", 0, None),
    ]  # fmt: skip
    said = headline(found, "en")
    assert said.startswith("Harbour · gate: accuracy (mAP50) fell from 0.8")
    assert said.endswith("; nothing else moved; too few figures at 1 place.")
    assert "하락" in headline(found, "ko")


def test_latency_that_rises_is_worse(scene: Scene) -> None:
    for hours in range(40):
        scene.report("latency_ms_p95", 20.0 if hours > 20 else 40.0, ago=hours * 10)
    found = trends(scene.settings, NOW, metric="latency_ms_p95")
    assert [(line.site, line.moved, found.worse(line)) for line in found.lines] == [("harbour", 1, True)]


def test_a_gap_is_not_joined(scene: Scene) -> None:
    found = trends(scene.settings, NOW, site="mill")
    path = lines_html(found, "en").split('<path d="')[1].split('"')[0]
    assert path.count("M") == 2
    assert path.count("L") == len(found.lines[0].values) - 2


def test_what_is_not_there_gives_way(scene: Scene) -> None:
    found = trends(scene.settings, NOW, metric="no such figure", model="nobody", site="nowhere")
    assert (found.metric, len(found.lines)) == ("map50", 3)
    short = trends(scene.settings, NOW, site="mill", span_s=86_400)
    assert headline(short, "en") == "Accuracy (mAP50): nothing was measured in the last 24 hours."
    assert "Choose a longer time" in lines_html(short, "en")


def test_names_are_text(scene: Scene) -> None:
    scene.labelled(HOSTILE, 0.5, camera=HOSTILE)
    html = lines_html(trends(scene.settings, NOW), "en")
    html += start_content(scene.settings, pages=PAGES, language="en", links={}, now=NOW)
    assert "&lt;img src=x" in html
    assert "<img" not in html


def test_the_start_page_tells_of_every_page(scene: Scene) -> None:
    links = {name: f"{name}.ipynb" for name in PAGES}
    scene.charge("3")
    html = start_content(scene.settings, pages=PAGES, language="en", links=links, now=NOW)
    for said in ("No alert is open.", "fell from 0.8", "Model guard, version 3 in charge.", '<a href="trends.ipynb">'):
        assert said in html


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    settings = Scene(tmp_path).settings
    assert headline(trends(settings, NOW), "en") == "No site has sent any figures yet."
    html = start_content(settings, pages=PAGES, language="en", links={}, now=NOW)
    assert "docs/SITES.md" in html
    assert "No model is registered yet." in html


def test_a_dead_store_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all " * 500)
    dead = Settings(work_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/state.db")
    assert "be read at the moment" in headline(trends(dead, NOW), "en")
    html = start_content(dead, pages=PAGES, language="en", links={}, now=NOW)
    assert "Look again in a few minutes" in html
    assert "Alerts and advice" in html  # the way to the other pages stays
