"""Well, unwell, unknown: what the fleet page says of a site, and that it never says more than is known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.dashboard.alerts import AlertRules
from guardianflow.dashboard.fleet import Fleet, fleet
from guardianflow.dashboard.recommendations import Recommendations
from guardianflow.dashboard.site_states import SiteState
from tests.dashboard.site_scene import NOW, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.charge("1")
    return made


def look(scene: Scene) -> Fleet:
    found = fleet(scene.settings, scene.now)
    assert not found.trouble
    return found


def only(scene: Scene) -> SiteState:
    (site,) = look(scene).sites
    return site


def kinds(site: SiteState) -> list[str]:
    return [reason.kind for reason in site.reasons]


def test_a_site_that_is_measured_and_reports_is_well(scene: Scene) -> None:
    scene.labelled("harbour", 0.86, camera="gate", ago=30)
    scene.labelled("harbour", 0.85, camera="gate", ago=5)
    scene.live("harbour")
    site = only(scene)
    assert (site.state, kinds(site)) == ("well", ["well"])
    assert site.since == NOW - timedelta(hours=30)
    figures = [figure.metric for figure in site.cameras[0].figures]
    assert figures == ["map50", "latency_ms_p95", "throughput_fps", "gpu_util"]
    page = look(scene).to_html()
    assert "The one site is well." in page
    assert "Accuracy (mAP50) 0.85, as it should be (at least 0.75)." in page


def test_an_alert_makes_a_site_unwell_with_the_reason_and_since_when(scene: Scene) -> None:
    scene.labelled("harbour", 0.58, camera="gate", ago=50)
    scene.live("harbour")
    scene.evaluate(ago=48)
    site = only(scene)
    assert (site.state, site.since) == ("unwell", NOW - timedelta(hours=48))
    assert site.reasons[0].facts == {"metric": "map50", "value": 0.58, "op": "<", "limit": 0.75}
    page = look(scene).to_html()
    assert "accuracy (mAP50) 0.58, should be at least 0.75" in page.lower().replace("map50", "mAP50")
    assert "None yet; `guardianflow optimize` looks for what may help" in page
    assert "Traceback" not in page


def test_a_silent_camera_is_named_and_its_site_is_unknown(scene: Scene) -> None:
    for camera in ("gate", "quay"):
        scene.labelled("harbour", 0.9, camera=camera)
    scene.live("harbour", camera="gate")
    scene.live("harbour", camera="quay", ago=7)
    site = only(scene)
    assert (site.state, kinds(site), site.since) == ("unknown", ["silent"], NOW - timedelta(hours=7))
    assert site.reasons[0].camera == "quay"
    assert [(camera.camera, camera.state) for camera in site.cameras] == [("quay", "unknown"), ("gate", "well")]
    assert [item.kind for item in site.advice] == ["silent"]
    assert "Camera quay: nothing heard since 2026-11-28 08:00 UTC (7 hours ago)." in look(scene).to_html()


def test_silence_is_seen_without_any_rule_about_it(scene: Scene) -> None:
    (scene.settings.work_dir).mkdir()
    rules = "rules: [{name: low, when: map50 < 0.75, source: inference, window: 30d}]\n"
    (scene.settings.work_dir / "alerts.yaml").write_text(rules)
    scene.labelled("harbour", 0.9)
    scene.live("harbour", ago=3)
    assert kinds(only(scene)) == ["silent"]


@pytest.mark.parametrize("latency", [20.0, 31.0])
def test_live_figures_alone_are_never_well(scene: Scene, latency: float) -> None:
    scene.live("harbour", latency_ms_p95=latency)
    scene.evaluate(ago=0.2)
    site = only(scene)
    assert site.state == ("unwell" if latency > 30 else "unknown")
    assert "not_measured" in kinds(site)
    assert "measure" in [item.kind for item in site.advice]


def test_an_old_measurement_is_not_known_any_more(scene: Scene) -> None:
    scene.labelled("harbour", 0.9, ago=31 * 24)
    assert (only(scene).state, kinds(only(scene))) == ("unknown", ["measured_long_ago"])


def test_another_versions_figures_say_nothing(scene: Scene) -> None:
    scene.labelled("harbour", 0.6, camera="gate", ago=60)
    scene.evaluate(ago=50)
    scene.charge("2")
    scene.live("harbour", version="2")
    site = only(scene)
    assert (site.state, kinds(site)) == ("unknown", ["new_version"])
    assert site.models == {"guard": "2"}
    scene.labelled("harbour", 0.91, camera="gate", version="2", ago=0.1)
    assert only(scene).state == "well"
    assert only(scene).since == NOW  # its alert ended with the version


def test_a_figure_below_the_bound_is_not_well_before_the_alert_fires(scene: Scene) -> None:
    scene.settings.work_dir.mkdir()
    text = "rules: [{name: low, when: map50 < 0.75, source: inference, window: 30d, for: 2d}]\n"
    (scene.settings.work_dir / "alerts.yaml").write_text(text)
    scene.labelled("harbour", 0.6)
    site = only(scene)
    assert (site.state, kinds(site)) == ("unknown", ["pending"])


def test_the_sites_sample_counts_for_each_camera(scene: Scene) -> None:
    scene.labelled("harbour", 0.9)
    scene.live("harbour", camera="gate")
    scene.live("harbour", camera="quay")
    assert [(camera.camera, camera.state) for camera in only(scene).cameras] == [("gate", "well"), ("quay", "well")]
    scene.labelled("harbour", 0.5, ago=0)
    assert {camera.state for camera in only(scene).cameras} == {"unwell"}
    assert kinds(only(scene)) == ["broken"]


def test_spare_power_is_worth_a_note_and_makes_nothing_unwell(scene: Scene) -> None:
    scene.labelled("harbour", 0.9, camera="gate")
    scene.live("harbour", gpu_util=20.0)
    scene.evaluate(ago=0.6)
    site = only(scene)
    assert site.state == "well"
    assert [note.kind for note in site.cameras[0].notes] == ["idle"]


def test_figures_that_name_no_model_are_those_of_the_sites_only_model(scene: Scene) -> None:
    scene.labelled("harbour", 0.9, camera="gate")
    scene.live("harbour", model=None, version=None)
    (camera,) = only(scene).cameras
    assert (camera.model, camera.state) == ("guard", "well")


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("open", "open", "Train the model again on its pictures as they are now."),
        ("applying", "applying", "Being done now: train the model again"),
        ("waiting", "waiting", "somebody who may promote must decide"),
        ("refused", "refused", "the new version was no better, so the old one stays"),
        ("failed", "failed", "Was tried and did not work"),
    ],
)
def test_what_is_advised_follows_the_recommendation(scene: Scene, state: str, kind: str, words: str) -> None:
    scene.labelled("harbour", 0.58, camera="gate")
    scene.evaluate()
    item = scene.recommend()
    Recommendations(scene.database).move(item.id, of=("open",), state=state)
    assert [(each.kind, each.action) for each in only(scene).advice] == [(kind, "retrain")]
    assert words in look(scene).to_html()


def test_the_header_sums_up_and_the_worst_come_first(scene: Scene) -> None:
    for name, value in (("a-well", 0.9), ("b-bad", 0.5), ("c-well", 0.8)):
        scene.labelled(name, value)
    scene.live("d-unmeasured")
    found = look(scene)
    assert [site.site for site in found.sites] == ["b-bad", "d-unmeasured", "a-well", "c-well"]
    assert "1 of 4 sites is unwell, 1 unknown, the rest well." in found.to_html()
    korean = found.to_html("ko")
    assert "현장 4곳 중 이상 1곳, 알 수 없음 1곳, 나머지 정상." in korean
    assert 'lang="ko"' in korean


def test_the_trend_keeps_gaps_and_marks_what_breaks_the_rule(scene: Scene) -> None:
    for ago, value in ((200, 0.9), (150, 0.88), (10, 0.6)):
        scene.labelled("harbour", value, ago=ago)
    trend = only(scene).trend
    assert trend is not None
    values = [value for _, value in trend.points if value is not None]
    assert (values, trend.limit) == ([0.9, 0.88, 0.6], 0.75)
    assert len(trend.points) > 3
    assert look(scene).to_html().count('<span class="bad"') == 1


def test_no_site_yet_says_what_to_do(scene: Scene) -> None:
    found = look(scene)
    assert found.sites == ()
    assert "No site has sent any figures yet." in found.to_html()
    assert "docs/SITES.md" in found.to_html()


def test_an_alert_without_a_site_is_not_lost(scene: Scene) -> None:
    scene.labelled(None, 0.4)
    page = look(scene).to_html()
    assert "Alerts that name no site" in page
    assert "Accuracy (mAP50) 0.4" in page


@pytest.mark.parametrize("broken", ["a file that is no database", "a server that is not there", "bad rules"])
def test_a_dead_store_is_one_sentence(tmp_path: Path, broken: str) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    (tmp_path / "work").mkdir()
    if broken == "a file that is no database":
        (tmp_path / "state.db").write_bytes(b"no database at all " * 500)
    elif broken == "bad rules":
        (tmp_path / "work" / "alerts.yaml").write_text("rules: [{name: x, when: map50 ~ 3}]")
    else:
        pytest.importorskip("psycopg")
        url = "postgresql://gf:topsecret@127.0.0.1:9/gf"
    found = fleet(Settings(work_dir=tmp_path / "work", database_url=url), NOW)
    page = found.to_html()
    assert found.trouble
    assert "The figures can&#x27;t be read at the moment, so nothing is known here." in page
    assert "topsecret" not in page
    assert "Traceback" not in page
    assert ">well<" not in page


def test_names_from_outside_are_text(scene: Scene) -> None:
    scene.labelled("<img src=x onerror=alert(1)>", 0.9, camera="</b><script>alert(2)</script>")
    page = look(scene).to_html()
    assert "<script" not in page
    assert "<img" not in page


def test_it_is_plain_data(scene: Scene) -> None:
    import json

    scene.labelled("harbour", 0.9)
    assert json.loads(json.dumps(look(scene).to_dict()))["sites"][0]["state"] == "well"


def test_other_rules_can_be_asked(scene: Scene) -> None:
    scene.labelled("harbour", 0.8)
    rules = AlertRules.load(settings=scene.settings)
    assert fleet(scene.settings, scene.now, rules=rules).sites[0].state == "well"
