"""Alerts on a real store, SQLite and PostgreSQL: when they begin and end, whose figures count, what noise does."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from guardianflow.core.config import sqlite_url
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.alerts import Alert, AlertEngine, AlertRule, AlertRules, Phase
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.registry.ledger import Change, Ledger

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY_S = 86_400.0
LOW = AlertRule("low", "map50", "<", 0.75, "inference", window_s=30 * DAY_S, advise=("retrain",))
SLOW = AlertRule(
    "slow", "latency_ms_p95", ">", 30, "service", statistic="p50", at_least=3, for_s=600, keep_firing_for_s=600
)
GONE = AlertRule("gone", "silent", ">", 7200, "service", window_s=30 * DAY_S)


def after(**span: float) -> datetime:
    return NOW + timedelta(**span)


@pytest.fixture
def store(database_url):
    return MetricsStore(database_url, clock=lambda: NOW)


@pytest.fixture
def quick_store(tmp_path):
    return MetricsStore(sqlite_url(tmp_path / "state.db"), clock=lambda: NOW)


def engine(store, *rules):
    return AlertEngine(store, AlertRules(rules=rules), clock=lambda: NOW)


def figure(metric, value, time, *, source="inference", model="person", site="gate", camera="c1", version=None):
    return MetricRecord(time, metric, value, source=source, model=model, site=site, camera=camera, version=version)


def put(store, metric, value, time=NOW, **labels):
    store.save_metrics([figure(metric, value, time, **labels)])


def live(store, value, *, since, until, step_s=60, **labels):
    """Latencies, one a minute."""
    times = [since + timedelta(seconds=step) for step in range(0, int((until - since).total_seconds()), step_s)]
    store.save_metrics([figure("latency_ms_p95", value, time, source="service", **labels) for time in times])


def crown(store, version, name="person"):
    """Another champion, in the real ledger."""
    ledger = Ledger(store.database.engine.url.render_as_string(hide_password=False), clock=lambda: NOW)
    ledger.move(name, "promote", lambda before, _: Change(version, replace(before, champion=version)), actor="kim")


def said(alerts: list[Alert]):
    return [(alert.rule, alert.state, alert.ended_by) for alert in alerts]


# --- the life of an alert, on both databases ------------------------------------------------------


def test_a_low_figure_fires_at_once_and_says_whose_and_why(store):
    put(store, "map50", 0.6, version="2")
    (alert,) = engine(store, LOW).evaluate(after(minutes=1))

    assert (alert.state, alert.value, alert.series) == ("firing", 0.6, ("person", "gate", "c1"))
    assert (alert.since, alert.fired, alert.last_true) == (after(minutes=1),) * 3
    assert dict(alert.facts) == {
        "when": "map50 < 0.75", "source": "inference", "statistic": "last", "window_s": 30 * DAY_S, "figures": 1,
        "invalid": 0, "last_seen": "2026-05-01T00:00:00+00:00", "version": "2",
    }  # fmt: skip
    assert alert.to_dict()["fired"] == "2026-05-01T00:01:00+00:00"


def test_it_stays_one_alert_however_often_it_is_evaluated_and_a_new_one_after_it_ended(store):
    put(store, "map50", 0.6)
    watch = engine(store, LOW)
    first = [watch.evaluate(after(minutes=minute))[0].id for minute in range(5)]
    put(store, "map50", 0.8, after(hours=1))
    ended = watch.evaluate(after(hours=1))
    put(store, "map50", 0.5, after(hours=2))
    again = watch.evaluate(after(hours=2))

    assert len(set(first)) == 1
    assert said(ended) == [("low", "resolved", "recovered")]
    assert (ended[0].value, ended[0].resolved, ended[0].last_true) == (0.6, after(hours=1), after(minutes=4))
    assert said(again) == [("low", "firing", None)]
    assert again[0].id != first[0]
    assert [alert.id for alert in watch.list()] == [again[0].id, first[0]], "the history keeps both"


def test_a_pending_alert_that_clears_leaves_no_trace(store):
    watch = engine(store, SLOW)
    live(store, 50, since=NOW, until=after(minutes=5))
    pending = watch.evaluate(after(minutes=5))
    live(store, 10, since=after(minutes=5), until=after(minutes=20))

    assert said(pending) == [("slow", "pending", None)]
    assert watch.evaluate(after(minutes=20)) == watch.list() == []


def test_for_and_keep_firing_for_count_from_check_to_check(store):
    watch = engine(store, replace(SLOW, window_s=300))
    live(store, 50, since=NOW, until=after(minutes=30))
    live(store, 10, since=after(minutes=30), until=after(minutes=60))
    states = {}
    for minute in range(3, 60):
        found = watch.evaluate(after(minutes=minute))
        states[minute] = found[0].state if found else "inactive"

    # true from 3 on (3 figures), for 10 min; the median of 5 min is low again at 33, the first of 10 min of keeping
    changes = [(minute, state) for minute, state in states.items() if states.get(minute - 1) != state]
    assert changes == [(3, "pending"), (13, "firing"), (42, "resolved"), (43, "inactive")]
    (alert,) = watch.list()
    assert (alert.clear_since, alert.ended_by) == (after(minutes=32), "recovered")


def test_series_are_apart_by_model_site_and_camera(store):
    for model, site, camera in (("person", "gate", "c1"), ("person", "gate", "c2"), ("person", "yard", None)):
        put(store, "map50", 0.6, model=model, site=site, camera=camera)
    put(store, "map50", 0.9, model="car")
    put(store, "map50", 0.1, model=None, site=None, camera=None)
    put(store, "map50", 0.1, source="training", site="lab")

    assert sorted((alert.site, alert.camera) for alert in engine(store, LOW).evaluate(NOW)) == [
        ("gate", "c1"), ("gate", "c2"), ("yard", None),
    ]  # fmt: skip


# --- whose figures count --------------------------------------------------------------------------


def test_only_the_champions_figures_count_where_they_name_a_version(store):
    crown(store, "1")
    put(store, "map50", 0.9, version="1")
    put(store, "map50", 0.2, after(minutes=1), version="2")
    put(store, "map50", 0.2, after(minutes=1), version="7", model="car")
    put(store, "map50", 0.3, model="truck", version=None)
    crown(store, "4", "truck")

    found = engine(store, LOW).evaluate(after(minutes=2))
    assert [(alert.model, alert.facts["version"]) for alert in found] == [("car", "7"), ("truck", None)]


def test_a_new_champion_ends_the_alert_about_the_old_one_at_once(store):
    crown(store, "1")
    put(store, "map50", 0.6, version="1")
    watch = engine(store, replace(LOW, keep_firing_for_s=DAY_S))
    watch.evaluate(NOW)
    crown(store, "2")

    assert said(watch.evaluate(after(minutes=1))) == [("low", "resolved", "new_champion")]
    assert watch.evaluate(after(minutes=2)) == []


def test_a_new_champion_that_is_no_better_has_an_alert_of_its_own(store):
    crown(store, "1")
    put(store, "map50", 0.6, version="1")
    watch = engine(store, LOW)
    watch.evaluate(NOW)
    crown(store, "2")
    put(store, "map50", 0.5, after(minutes=1), version="2")

    found = watch.evaluate(after(minutes=1))
    assert [(alert.state, alert.ended_by, alert.facts["version"]) for alert in found] == [
        ("resolved", "new_champion", "1"), ("firing", None, "2"),
    ]  # fmt: skip


# --- unknown and silent ---------------------------------------------------------------------------


def test_too_few_figures_are_unknown_and_said(store):
    live(store, 90, since=NOW, until=after(minutes=2))
    put(store, "latency_ms_p95", float("nan"), after(minutes=2), source="service")
    watch = engine(store, SLOW)

    assert watch.evaluate(after(minutes=3)) == []
    (remark,) = watch.remarks
    assert remark == (
        "rule slow: unknown of person at gate, camera c1: 2 figures and 1 that are no numbers within 1h, "
        "the rule needs 3"
    )


def test_a_rule_that_no_figure_answers_is_said(store):
    watch = engine(store, LOW, GONE)
    watch.evaluate(NOW)

    assert watch.remarks == (
        "rule low: no series has figures of map50 (source inference) within 30d",
        "rule gone: no series has figures (source service) within 30d",
    )


def test_figures_that_stop_do_not_mean_recovered(store):
    live(store, 50, since=NOW, until=after(minutes=30))
    watch = engine(store, SLOW)
    for minute in (10, 25, 80, 95, 110):
        last = watch.evaluate(after(minutes=minute))

    assert said(last) == [("slow", "resolved", "no_figures")]


def test_figures_that_are_no_numbers_do_not_mean_recovered(store):
    rule = replace(LOW, window_s=3600)
    put(store, "map50", 0.6)
    watch = engine(store, rule)
    watch.evaluate(NOW)
    put(store, "map50", float("nan"), after(hours=2))

    assert said(watch.evaluate(after(hours=2))) == [("low", "resolved", "no_figures")]


def test_a_silent_camera_is_named_until_it_reports_again_and_nothing_is_advised(store):
    live(store, 10, since=NOW, until=after(minutes=3), camera="c1")
    live(store, 10, since=NOW, until=after(hours=5), step_s=1800, camera="c2")
    watch = engine(store, GONE, LOW, SLOW)
    at_two_hours = watch.evaluate(after(minutes=122))
    (silent,) = watch.evaluate(after(hours=3))
    put(store, "latency_ms_p95", float("nan"), after(hours=4), source="service", camera="c1")

    assert at_two_hours == [], "two hours after the last figure it is not silent yet"
    assert (silent.rule, silent.metric, silent.camera, silent.state) == ("gone", "silent", "c1", "firing")
    assert (silent.value, silent.facts["last_seen"]) == (178 * 60, "2026-05-01T00:02:00+00:00")
    assert GONE.advise == ()
    assert said(watch.evaluate(after(hours=4))) == [("gone", "resolved", "recovered")]


def test_a_camera_that_serves_an_older_version_is_not_silent(store):
    crown(store, "2")
    live(store, 90, since=NOW, until=after(minutes=30), version="1")

    assert engine(store, GONE, SLOW).evaluate(after(minutes=30)) == []


def test_a_series_that_is_long_gone_is_forgotten(store):
    live(store, 10, since=NOW, until=after(minutes=1))
    watch = engine(store, GONE)
    watch.evaluate(after(days=1))

    assert said(watch.evaluate(after(days=31))) == [("gone", "resolved", "no_figures")]


# --- rules that change ----------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [(), (replace(LOW, metric="recall"),), (replace(LOW, source="service"),)])
def test_an_alert_ends_with_its_rule(store, rules):
    put(store, "map50", 0.6)
    engine(store, LOW).evaluate(NOW)
    watch = engine(store, *rules)

    assert said(watch.evaluate(after(minutes=1))) == [("low", "resolved", "rule_removed")]
    assert watch.remarks[-1].startswith("ended because their rule is gone from the rules: alert ")


def test_another_bound_goes_on_with_the_alert(store):
    put(store, "map50", 0.6)
    (alert,) = engine(store, LOW).evaluate(NOW)
    (same,) = engine(store, replace(LOW, bound=0.7)).evaluate(after(minutes=1))

    assert (same.id, same.facts["when"]) == (alert.id, "map50 < 0.7")


# --- asking and acknowledging ---------------------------------------------------------------------


def test_alerts_are_listed_newest_first_and_by_state_model_and_site(store):
    for hour, site in enumerate(("a", "b", "c")):
        put(store, "map50", 0.6, site=site)
        engine(store, LOW).evaluate(after(hours=hour))
    put(store, "map50", 0.9, after(hours=4), site="b")
    watch = engine(store, LOW)
    watch.evaluate(after(hours=4))

    assert [alert.site for alert in watch.list()] == ["c", "b", "a"]
    assert [alert.site for alert in watch.list(limit=1)] == ["c"]
    assert [alert.site for alert in watch.list(state="resolved")] == ["b"]
    assert [alert.site for alert in watch.list(site="a", model="person")] == ["a"]
    assert [alert.site for alert in watch.open()] == ["a", "c"]
    with pytest.raises(InputError, match="pending, firing or resolved"):
        watch.list(state="open")
    with pytest.raises(NotFoundError, match="alerts list"):
        watch.get(99)


def test_the_first_acknowledgement_stands_and_the_alert_goes_on(store):
    put(store, "map50", 0.6)
    watch = engine(store, LOW)
    (alert,) = watch.evaluate(NOW)
    watch.ack(alert.id, actor="kim", reason="the night lamp is broken")
    second = watch.ack(alert.id, actor="lee", reason="mine")
    (still,) = watch.evaluate(after(minutes=1))

    assert (second.acked, second.acked_by, second.ack_reason) == (NOW, "kim", "the night lamp is broken")
    assert (still.id, still.state, still.acked_by) == (alert.id, "firing", "kim")


def test_what_cannot_be_acknowledged_says_why(store):
    put(store, "map50", 0.6)
    (alert,) = engine(store, LOW).evaluate(NOW)
    watch = engine(store)
    with pytest.raises(InputError, match="needs an actor and a reason"):
        watch.ack(alert.id, actor="kim", reason=" ")
    with pytest.raises(NotFoundError, match="no alert 99"):
        watch.ack(99, actor="kim", reason="x")
    watch.evaluate(NOW)
    with pytest.raises(InputError, match=r"has ended \(rule_removed\)"):
        watch.ack(alert.id, actor="kim", reason="x")


def test_alerts_are_read_and_evaluated_without_the_heavy_packages(quick_store):
    put(quick_store, "map50", 0.6)
    script = WORKER + "print([name for name in ('mlflow', 'pandas', 'torch') if name in sys.modules])"
    url = quick_store.database.engine.url.render_as_string()
    done = subprocess.run(
        [sys.executable, "-c", script, url, NOW.isoformat()], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "[]\n"


# --- several at once ------------------------------------------------------------------------------

WORKER = """
import sys
from datetime import datetime
from tests.dashboard.test_alerts import LOW, engine
from guardianflow.dashboard.metrics_store import MetricsStore
for _ in range(2):
    engine(MetricsStore(sys.argv[1]), LOW).evaluate(datetime.fromisoformat(sys.argv[2]))
"""


def test_several_processes_and_threads_make_one_alert_of_a_series(store, database_url):
    for camera in range(20):
        put(store, "map50", 0.6, camera=f"c{camera}")
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, database_url, NOW.isoformat()], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: engine(store, LOW).evaluate(NOW), range(4)))
    errors = [worker.communicate(timeout=120)[1] for worker in workers]

    assert [worker.returncode for worker in workers] == [0, 0], errors
    assert len(engine(store, LOW).list()) == 20


# --- noise ----------------------------------------------------------------------------------------


def test_a_month_of_noise_fires_nothing_with_the_shipped_rules(quick_store, tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path))
    random.seed(18)
    records = []
    for minute in range(0, 30 * 24 * 60, 10):
        time, labels = after(minutes=minute), {"model": "person", "site": "gate", "camera": "c1"}
        figures = {"latency_ms_p95": 20 * random.lognormvariate(0, 0.25), "gpu_util": random.gauss(70, 15)}
        records += [MetricRecord(time, name, value, source="service", **labels) for name, value in figures.items()]
        if minute % 60 == 0:
            records.append(MetricRecord(time, "map50", random.gauss(0.80, 0.01), source="inference", **labels))
    quick_store.save_metrics(records)
    watch = AlertEngine(quick_store)
    slow = [record.value > 30 for record in records if record.metric == "latency_ms_p95"]
    for hour in range(1, 30 * 24, 3):
        watch.evaluate(after(hours=hour))

    assert sum(slow) > 100, "single figures do cross the bound"
    assert watch.list() == []
    for minute in range(0, 120, 10):  # the same rules do see it when it is no noise
        put(quick_store, "latency_ms_p95", 45, after(days=30, minutes=minute), source="service")
    for minute in (60, 75):
        found = watch.evaluate(after(days=30, minutes=minute))
    assert said(found) == [("latency-high", "firing", None)]


# --- the state machine, by hand -------------------------------------------------------------------

TABLES = [  # one letter a minute: what the rule says → - inactive, p pending, F firing
    (0, 0, "..x..", "--F--"),
    (2, 0, "xx.xxx.", "pp-ppF-"),
    (0, 2, ".x....", "-FFF--"),
    (0, 2, "x.x...", "FFFFF-"),
    (2, 3, "xxx...x..", "ppFFFFFFF"),
    (1, 1, "xx..xx", "pFF-pF"),
    (3, 2, "xx..xxxxx...", "pp--pppFFFF-"),
]


def walked(for_min, keep_min, truth):
    phase, states = None, ""
    for minute, sign in enumerate(truth):
        phase = Phase.after(
            phase, sign == "x", after(minutes=minute), for_s=60 * for_min, keep_firing_for_s=60 * keep_min
        )
        states += "-" if phase is None else "p" if phase.fired is None else "F"
    return states


@pytest.mark.parametrize(("for_min", "keep_min", "truth", "states"), TABLES)
def test_phases_go_as_the_table_says(for_min, keep_min, truth, states):
    assert walked(for_min, keep_min, truth) == states


def test_phases_go_as_prometheus_has_them(tmp_path):
    """Fifty random histories, each minute of each held against promtool's evaluation of the same rule."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt-get install prometheus (2.42 or newer)")
    random.seed(4)
    rules, series, samples = [], [], {minute: [] for minute in range(40)}
    for case in range(50):
        wait, keep = random.choice((0, 1, 3, 7)), random.choice((0, 1, 2, 5))
        truth = "".join(random.choices("x.", weights=(2, 1), k=len(samples)))
        for minute, letter in enumerate(walked(wait, keep, truth)):
            if letter != "-":
                state = {"p": "pending", "F": "firing"}[letter]
                labels = f'ALERTS{{alertname="a{case}", alertstate="{state}"}}'
                samples[minute].append({"labels": labels, "value": 1})
        rules.append({"alert": f"a{case}", "expr": f"m{case} > 0", "for": f"{wait}m", "keep_firing_for": f"{keep}m"})
        series.append({"series": f"m{case}", "values": " ".join("1" if sign == "x" else "0" for sign in truth)})
    expected = [
        {"expr": "ALERTS", "eval_time": f"{minute}m", "exp_samples": found} for minute, found in samples.items()
    ]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    documents = {
        "rules.json": {"groups": [{"name": "all", "rules": rules}]},
        "test.json": {"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": [test]},
    }
    for name, document in documents.items():
        (tmp_path / name).write_text(json.dumps(document))
    done = subprocess.run(
        [promtool, "test", "rules", "test.json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[:2000] + done.stderr[:2000]
    assert sum(len(found) for found in samples.values()) > 500
