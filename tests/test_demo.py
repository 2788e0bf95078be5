"""The demo's story, with less training: its steps, its notebooks, its second run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.demo import DEMO_MODEL, DemoRecipe, run_demo
from guardianflow.demo.sites import DemoSites
from guardianflow.exceptions import RunFailedError

SMALL = DemoRecipe(images=24, sample=10, imgsz=64, batch=8, epochs=2, min_map50=0.0, backends=("torch",), seconds=0.1)

SITES = ["main gate", "south gate", "car park"]


def test_each_demo_begins_by_day_and_the_night_joins_later(tmp_path: Path) -> None:
    sites = DemoSites(tmp_path, images=20, sample=10, seed=1)
    sites.draw()
    by_day = sites.data_yaml.read_text(encoding="utf-8")
    assert "night" not in by_day
    sites.label_the_night()
    assert "car_park-night" in sites.data_yaml.read_text(encoding="utf-8")
    sites.draw()
    assert sites.data_yaml.read_text(encoding="utf-8") == by_day


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_tells_its_story_and_reuses_it(
    tmp_path: Path, mlflow_sqlite_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(work_dir=tmp_path / "데모 demo", gate="off")  # so little training convinces no gate
    settings.work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, settings.work_dir / "mlflow.db")

    story = run_demo(settings, recipe=SMALL)

    said = capsys.readouterr().err
    assert all(f"[{number}/14]" in said for number in range(1, 15))
    lasts = [line for line in said.splitlines() if re.match(r"  (epoch|cell|step) (\d+)/\2 ", line)]
    assert {line.split()[0] for line in lasts} == {"epoch", "cell", "step"}
    assert not any("·  ·" in line for line in lasts)
    assert [(event["action"], event["version"]) for event in reversed(story["history"])] == [
        ("register", "1"), ("promote", "1"), ("register", "2"), ("promote", "2"), ("rollback", "1"), ("register", "3"),
        ("promote", "3"),
    ]  # fmt: skip
    registry = ModelRegistry(settings)
    assert registry.get(DEMO_MODEL, "2").serving.backend == "openvino"
    assert story["champion"]["version"] == "3"  # two epochs teach nothing, and the gate is off: the loop still closes
    assert story["history"][0]["reason"].startswith("recommendation ")
    pages = [step["html"] for step in story["steps"] if "html" in step]
    assert len(pages) == 8
    assert all(Path(page).is_file() for page in pages)
    assert_the_loop_is_told_truly(settings)

    for name, shown in (
        ("all runs", "quantize"),
        ("the versions", "champion"),
    ):  # typed as they stand, at a shell that knows nothing of us
        bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
        done = subprocess.run(["sh", "-c", story["look"][name]], env=bare, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
    server = shlex.split(story["look"]["MLflow's own pages"])
    assert Path(server[0]).name == "mlflow"
    assert server[-1] == settings.mlflow_tracking_uri

    again = run_demo(settings, recipe=SMALL, quiet=True)
    assert ["reused" in again["steps"][number]["result"] for number in (1, 3, 4, 11)] == [True] * 4
    assert again["champion"]["version"] == "3"

    with pytest.raises(RunFailedError, match=r"below 1\.1"):
        run_demo(settings, recipe=DemoRecipe(**{**SMALL.__dict__, "min_map50": 1.1}), quiet=True)


def assert_the_loop_is_told_truly(settings: Settings) -> None:
    """Figures of three sites by version, one camera that went silent, one advice applied, a page that says so."""
    store = MetricsStore(settings.database_url)
    seen = store.summary(metric="map50", source="inference", by=("site", "camera", "version"), site=SITES)
    assert {(row.site, row.version) for row in seen.itertuples()} == {(site, n) for site in SITES for n in ("1", "3")}
    live = store.query_metrics(metric="latency_ms_p95", source="service")
    assert (live["value"] > 0).all()
    assert live["value"].nunique() > len(live) * 0.9  # measured, each one
    last = live.groupby("camera")["time"].max()
    assert last["gate-1"] - last["gate-2"] > timedelta(hours=2.9)
    done = AutoOptimizer(settings=settings).list("applied")
    assert [(item.action, item.site, item.facts["dataset_changed"]) for item in done] == [("retrain", "car park", True)]
    page = (settings.work_dir / "demo" / "fleet.html").read_text(encoding="utf-8")
    assert all(site in page for site in SITES)
    assert "nothing heard since" in page.lower()
