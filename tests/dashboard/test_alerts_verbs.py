"""`guardianflow alerts`: list, check, ack, as typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.metrics_store import MetricsStore


@pytest.fixture
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose night camera is bad, and one that fell silent five hours ago."""
    folder = tmp_path / "작업 work"
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(folder))
    monkeypatch.setenv("GUARDIANFLOW_ACTOR", "kim")
    monkeypatch.chdir(tmp_path)
    now = datetime.now(UTC)
    MetricsStore(Settings().database_url).save_metrics(
        [
            MetricRecord(now, "map50", 0.61, model="person", site="정문", camera="night", source="inference"),
            MetricRecord(now - timedelta(hours=5), "gpu_util", 70, model="person", site="yard", source="service"),
        ]
    )
    return folder


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["alerts", *words])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result


def test_check_list_and_ack_go_together(work_dir: Path) -> None:
    assert "guardianflow alerts check` holds" in call("list").stderr
    shown = call("check")
    found = json.loads(call("check", "--json").stdout)
    known = json.loads(call("ack", "1", "--reason", "lamp ordered", "--json").stdout)
    listed = json.loads(call("list", "--site", "정문", "--json").stdout)

    assert [(item["rule"], item["state"], item["site"], item["camera"]) for item in found["alerts"]] == [
        ("map50-low", "firing", "정문", "night"), ("silent", "firing", "yard", None),
    ]  # fmt: skip
    for text in ("map50 < 0.75", "0.61", "정문", "night", "last seen"):
        assert text in shown.stdout
    note = "rule latency-high: no series has figures of latency_ms_p95 (source service) within 1h"
    assert f"note      {note}" in shown.stderr
    assert note in found["remarks"]
    assert (known["acked_by"], known["ack_reason"]) == ("kim", "lamp ordered")
    assert [item["acked_by"] for item in listed["alerts"]] == ["kim"]


def test_a_faulty_rules_file_stops_the_check_and_not_the_looking(work_dir: Path) -> None:
    call("check")
    (work_dir / "alerts.yaml").write_text("rules:\n  - name: x\n    when: map50 < 75\n", encoding="utf-8")

    assert "alerts.yaml:3: map50 is a fraction of 0-1" in call("check", code=2).stderr
    assert "map50-low" in call("list").stdout
    assert "is known to kim" in call("ack", "1", "--reason", "seen").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ack", "7", "--reason", "x"), "there is no alert 7"),
        (("ack", "1", "--reason", " "), "needs an actor and a reason"),
        (("list", "--state", "open"), "pending, firing or resolved"),
        (("ack", "1"), "--reason"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(work_dir: Path, words: tuple[str, ...], says: str) -> None:
    assert says in call(*words, code=2).stderr
