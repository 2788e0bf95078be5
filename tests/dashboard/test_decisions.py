"""What the optimizer page tells of alerts, advice and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guardianflow.dashboard.decisions import decisions
from guardianflow.dashboard.optimizer_page import alerts_html, done_html, headline, recommendation_html
from guardianflow.dashboard.recommendations import Recommendations
from tests.dashboard.site_scene import NOW, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.charge("1")
    made.labelled("harbour", 0.58, camera="gate", ago=60)
    made.evaluate(ago=48)
    return made


def applied(scene: Scene, *, about: str = "map50", **outcome: Any) -> None:
    """As if the advice had been applied ten hours ago."""
    item = scene.recommend(about=about)
    ended = NOW.replace(hour=5)
    values = {"state": "applied", "actor": "Kim", "decided": ended, "ended": ended, "version": "2", "outcome": outcome}
    Recommendations(scene.database).move(item.id, of=("open",), **values)
    scene.charge("2", ago=10)


def test_an_alert_and_its_advice_stand_with_their_evidence(scene: Scene) -> None:
    scene.recommend(dataset_changed=True, images_then={"train": 320, "val": 40}, images={"train": 512, "val": 64})
    found = decisions(scene.settings, NOW)
    assert headline(found, "en") == "1 alert fires. 1 recommendation waits for a decision."
    ((item, alert),) = found.advice
    page = recommendation_html(item, alert, NOW, "en")
    for words in (
        "Harbour · gate: accuracy (mAP50) 0.58, should be at least 0.75, since 2026-11-26 15:00 UTC (2 days ago)",
        "It was trained on 360 pictures, and there are 576 now",
        "the alert stands on 1 figure",
        "About 4 minutes, as long as run 4f1c2a7b took",
        "data_yaml: harbour/data.yaml",
    ):
        assert words in page
    assert "harbour · gate" in alerts_html(found, "en")


def test_unchanged_data_is_said_in_both_languages(scene: Scene) -> None:
    scene.recommend(dataset_changed=False, caveats=["the dataset is unchanged since it was trained"])
    ((item, alert),) = decisions(scene.settings, NOW).advice
    assert "little is to be expected" in recommendation_html(item, alert, NOW, "en")
    korean = recommendation_html(item, alert, NOW, "ko")
    assert "큰 효과는 기대하기 어렵습니다" in korean
    assert "the dataset is unchanged" not in korean


@pytest.mark.parametrize(
    ("after", "verdict", "words"),
    [
        (0.86, "helped", "It helped:</b> accuracy (mAP50) before 0.58 (1 figure), after 0.86 (1 figure)."),
        (0.66, "better", "Better, but not yet as it should be"),
        (0.51, "no_help", "It did not help"),
        (None, "too_few", "Can&#x27;t be said yet:</b> accuracy (mAP50) before 0.58 (1 figure); since then 0 figures"),
    ],
)
def test_whether_it_helped_is_told_from_figures_before_and_after(
    scene: Scene, after: float | None, verdict: str, words: str
) -> None:
    applied(scene, promoted=True, champion="2", said="version 2 is in charge")
    if after is not None:
        scene.labelled("harbour", after, camera="gate", version="2", ago=2)
        scene.labelled("harbour", 0.99, camera="quay", version="2", ago=1)  # another place says nothing here
    found = decisions(scene.settings, NOW)
    ((_, effect),) = found.done
    assert effect is not None
    assert effect.verdict == verdict
    page = done_html(found, "en")
    assert words in page
    assert "Version 2 is in charge now, instead of version 1." in page


def test_too_few_live_figures_leave_it_open(scene: Scene) -> None:
    scene.live("harbour", latency_ms_p95=44.0, ago=10.1)
    scene.evaluate(ago=10.4)
    scene.evaluate(ago=10.1)
    applied(scene, about="latency_ms_p95", promoted=True, champion="2")
    for count in (2, 3):
        for minute in range(count):
            scene.report("latency_ms_p95", 20.0, ago=9 - minute / 60 - count, version="2")
        ((_, effect),) = decisions(scene.settings, NOW).done
        assert effect is not None
        assert (effect.before, effect.before_count) == (44.0, 13)
        assert (effect.verdict, effect.after_count) == (("too_few", 2) if count == 2 else ("helped", 5))


def test_a_change_that_was_refused_or_dismissed_has_no_effect(scene: Scene) -> None:
    item = scene.recommend()
    Recommendations(scene.database).move(
        item.id,
        of=("open",),
        state="refused",
        actor="Kim",
        ended=NOW,
        outcome={"said": "the gate refused version 2: x"},
    )
    found = decisions(scene.settings, NOW)
    assert found.done[0][1] is None
    assert "The gate refused version 2: x" in done_html(found, "en")


def test_a_dead_store_is_one_sentence(tmp_path: Path) -> None:
    made = Scene(tmp_path)
    made.database.close()
    (tmp_path / "state.db").write_bytes(b"no database at all " * 500)
    found = decisions(made.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/./state.db"}), NOW)
    assert found.trouble
    assert found.alerts == ()
