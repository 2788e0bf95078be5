"""`guardianflow metrics`: questions to the store, as typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.metrics_store import MetricsStore

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two sites, two versions and an hour without figures."""
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "작업 work"))
    monkeypatch.chdir(tmp_path)
    MetricsStore(Settings().database_url).save_metrics(
        MetricRecord(
            NOON + timedelta(minutes=10 * step), "map50", 0.9 - 0.2 * version, site=site, model="gate",
            version=str(version), source="inference",
        )
        for site in ("정문", "yard")
        for version in (1, 2)
        for step in range(18)
        if not 6 <= step < 12
    )  # fmt: skip
    return tmp_path


def call(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["metrics", *words])
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    return result.stdout if code == 0 else result.output


def test_a_summary_names_what_tells_groups_apart(filled: Path) -> None:
    document = json.loads(call("summary", "--site", "정문", "--json"))
    shown = call("summary")

    assert [(row["version"], row["count"], round(row["mean"], 3)) for row in document["rows"]] == [
        ("1", 12, 0.7), ("2", 12, 0.5),
    ]  # fmt: skip
    assert "정문" in shown
    assert "camera" not in shown
    assert "0.700" in shown


def test_a_trend_shows_its_gap(filled: Path) -> None:
    document = json.loads(call("trend", "map50", "--version", "2", "--points", "3", "--json"))

    assert document["bucket_s"] == 3600
    assert [(row["count"], row["p95"]) for row in document["rows"]] == [(12, 0.5), (0, None), (12, 0.5)]
    assert "2026" in call("trend", "map50", "--by", "site")


def test_a_comparison_holds_the_others_against_the_baseline(filled: Path) -> None:
    result = CliRunner().invoke(app, ["metrics", "compare", "map50", "--baseline", "1"])
    assert "-0.200" in result.stdout
    assert "0.714×" in result.stdout
    assert "better: higher" in result.stderr
    assert "there is: 1, 2" in call("compare", "map50", "--baseline", "3", code=2)


def test_an_export_can_be_read_by_pandas(filled: Path) -> None:
    document = json.loads(call("export", "내 figures.parquet", "--site", "yard", "--json"))

    assert document["rows"] == 24
    assert set(pd.read_parquet(filled / "내 figures.parquet")["site"]) == {"yard"}
    assert "can't be written" in call("export", "nowhere/x.parquet", code=2)


def test_nothing_measured_is_a_sentence(filled: Path) -> None:
    result = CliRunner().invoke(app, ["metrics", "summary", "--model", "nobody"])

    assert "no measurement fits" in result.output
    assert json.loads(call("trend", "nothing", "--json"))["rows"] == []
