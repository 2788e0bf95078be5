"""The file of alert rules: what it may say, and what is said of a fault in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.dashboard.alerts import AlertRule, AlertRules, OptimizerLimits
from guardianflow.exceptions import InputError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "ALERTS.md"
DAY_S = 86_400.0


def load(tmp_path: Path, text: str) -> AlertRules:
    file = tmp_path / "규칙.yaml"
    file.write_text(text, encoding="utf-8")
    return AlertRules.load(file)


def one_rule(**lines: str) -> str:
    """A rule that is right, with the lines of a test in it; an empty one is left out."""
    usual = {"name": "low", "when": "map50 < 0.75", "source": "inference"} | {
        key.rstrip("_"): value for key, value in lines.items()
    }
    return "rules:\n  - " + "\n    ".join(f"{key}: {value}" for key, value in usual.items() if value) + "\n"


def test_the_shipped_rules_are_those_that_were_promised(tmp_path):
    rules = AlertRules.load(settings=Settings(work_dir=tmp_path))

    assert [(rule.when, rule.source) for rule in rules.rules] == [
        ("map50 < 0.75", "inference"), ("latency_ms_p95 > 30", "service"), ("gpu_util < 50", "service"),
        ("silent", "service"),
    ]  # fmt: skip
    assert rules.get("silent") == AlertRule("silent", "silent", ">", 7200.0, "service", window_s=30 * DAY_S)
    assert rules.remarks == ()
    assert rules.limits == OptimizerLimits(cooldown_s=DAY_S, daily_budget=3)
    assert rules.text.startswith("# The alert rules that hold where")


def test_the_example_of_the_guide_is_a_rules_file(tmp_path):
    (example,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    rules = load(tmp_path, example)

    assert [rule.name for rule in rules.rules] == ["night-map50-low", "slow", "gone"]
    assert rules.remarks == ()
    assert rules.get("slow") == AlertRule(
        "slow", "latency_ms_p95", ">", 30.0, "service", statistic="p50", window_s=3600.0, at_least=5, for_s=600.0,
        keep_firing_for_s=600.0, advise=("roll_back", "quantize"),
    )  # fmt: skip


def test_the_guide_names_every_key_and_the_default_that_holds(tmp_path):
    table = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| `?(.*?)`? \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    without = {key: value for key, value in table.items() if value not in {"must be given", "none"}}
    written = {key: value for key, value in without.items() if not key.startswith("optimizer") and key != "remember"}

    assert load(tmp_path, one_rule()).rules == load(tmp_path, one_rule(**written)).rules
    assert set(table) - {"optimizer.cooldown", "optimizer.daily_budget"} == {
        "name", "when", "source", "statistic", "window", "at_least", "for", "keep_firing_for", "advise", "after",
        "remember",
    }  # fmt: skip
    limits = f"rules: []\noptimizer:\n  cooldown: {table['optimizer.cooldown']}\n"
    assert load(tmp_path, limits + f"  daily_budget: {table['optimizer.daily_budget']}\n").limits == OptimizerLimits()


def test_the_work_folders_own_file_comes_first(tmp_path):
    (tmp_path / "alerts.yaml").write_text(one_rule(name="mine"), encoding="utf-8")

    assert [rule.name for rule in AlertRules.load(settings=Settings(work_dir=tmp_path)).rules] == ["mine"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("'0'", 0), ("0s", 0), ("90s", 90), ("1h30m", 5400), ("7d", 7 * DAY_S)]
)
def test_durations_have_prometheus_form(tmp_path, text, seconds):
    (rule,) = load(tmp_path, one_rule(for_=text)).rules
    assert rule.for_s == seconds


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">="])
def test_a_sentence_holds_at_and_around_its_bound_as_its_sign_says(tmp_path, sign):
    (rule,) = load(tmp_path, one_rule(when=f"'idsw {sign} 5'")).rules
    assert [rule.holds(value) for value in (4, 5, 6)] == ["<" in sign, "=" in sign, ">" in sign]


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ({"for_": "10"}, 5, "for must be a duration such as 90s, 10m, 1h30m or 7d; there stands 10"),
        ({"for_": "ten minutes"}, 5, "there stands 'ten minutes'"),
        ({"for_": "-5m"}, 5, "there stands '-5m'"),
        ({"for_": "yes"}, 5, "there stands True"),
        ({"for_": "9999d"}, 5, "there stands '9999d'"),
        ({"for_": "[]"}, 5, r"there stands \[\]"),
        ({"window": "0"}, 5, "window must be a duration"),
        ({"after": "2h"}, 5, "there is no such key here"),
        ({"keep_fireing_for": "1h"}, 5, "did you mean keep_firing_for"),
        ({"source": ""}, 2, "source is missing"),
        ({"source": "7"}, 4, "text in quotes; there stands 7"),
        ({"name": "no"}, 2, "name must be text"),
        ({"name": "a/b"}, 2, "rule name 'a/b' holds '/'"),
        ({"when": "map50 under 0.75"}, 3, "when must be a metric, one of < <= > >= and a number"),
        ({"when": "map50 < high"}, 3, "there stands 'map50 < high'"),
        ({"when": "map50 < nan"}, 3, "there stands 'map50 < nan'"),
        ({"when": "map50 == 0.75"}, 3, "when must be a metric"),
        ({"when": "mAP50(B) < 0.75"}, 3, "when must be a metric"),
        ({"when": "map50 < 75"}, 3, "map50 is a fraction of 0-1; write 0.75 for 75 %"),
        ({"when": ""}, 2, "when is missing"),
        ({"statistic": "median"}, 5, "statistic must be one of last, mean, p50"),
        ({"at_least": "0"}, 5, "at_least must be a whole number of at least 1; there stands 0"),
        ({"at_least": "true"}, 5, "there stands True"),
        ({"advise": "retrain"}, 5, r"advise must be a list of actions such as \[roll_back, retrain\]"),
        ({"advise": "[retrain, retrain]"}, 5, "names an action twice"),
        ({"when": "silent"}, 2, "after must be a duration"),
        ({"when": "silent", "after": "2h", "for_": "1m"}, 6, "no such key here"),
        ({"when": "silent", "after": "2h", "advise": "[retrain]"}, 6, "no such key here"),
        ({"when": "silent", "after": "2d", "remember": "1d"}, 5, "shorter than remember; there stands '2d'"),
    ],
)
def test_a_fault_is_refused_with_its_file_and_line(tmp_path, lines, line, says):
    with pytest.raises(InputError, match=rf"규칙\.yaml:{line}: .*{says}"):
        load(tmp_path, one_rule(**lines))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules:\n", r":1: rules must be a list of rules.*there stands nothing"),
        ("optimizer: {}\n", r":1: rules must be a list"),
        ("rules: {a: 1}\n", r":1: rules must be a list"),
        ("rules: [map50]\n", r":1: a rule holds lines such as `name: …`; there stands 'map50'"),
        (one_rule() + "limits: 3\n", r":5: there is no such key here.*known: rules, optimizer"),
        (one_rule() + "optimizer: 3\n", r":5: it must hold lines such as `cooldown: …`; there stands 3"),
        (one_rule() + "optimizer:\n  cooldown: 3\n", r":6: cooldown must be a duration"),
        (one_rule() + "optimizer:\n  daily_budget: -1\n", r":6: daily_budget must be a whole number of at least 0"),
        (one_rule() + "  - {name: low, when: silent, after: 1h, source: x}\n", r":5: the rule of line 2 has that name"),
        ("", "rules file .*must hold `key: value` lines, it holds nothing"),
        ("rules: [\n", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_rules_file_is_refused(tmp_path, text, says):
    with pytest.raises(InputError, match=rf"규칙\.yaml.*{says}|{says}"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("mpa50 < 0.75", "mpa50 is no metric of ours; did you mean map50?"),
        ("map50 > 0.75", "fires while the figure is good: of map50, higher is better"),
        ("latency_ms_p95 < 30", "fires while the figure is good: of latency_ms_p95, lower is better"),
        ("gpu_util < 0.5", "gpu_util is a percentage of 0-100, and the bound is 0.5 %"),
    ],
)
def test_what_is_seldom_meant_is_taken_and_remarked(tmp_path, when, says):
    rules = load(tmp_path, one_rule(when=when))

    assert len(rules.rules) == 1
    (remark,) = rules.remarks
    assert says in remark


def test_no_rule_at_all_is_remarked(tmp_path):
    assert "holds no rule" in load(tmp_path, "rules: []\n").remarks[0]
