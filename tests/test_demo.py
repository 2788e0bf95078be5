"""The demo's story, with less training: its steps, its notebooks, its second run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.demo import DEMO_MODEL, DemoRecipe, _Demo, _Story, run_demo
from guardianflow.exceptions import RunFailedError

SMALL = DemoRecipe(images=24, imgsz=64, batch=8, weak_epochs=1, better_epochs=2, min_map50=0.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_tells_its_story_and_reuses_it(
    tmp_path: Path, mlflow_sqlite_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(work_dir=tmp_path / "데모 demo", gate="off")  # so little training convinces no gate
    settings.work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, settings.work_dir / "mlflow.db")

    story = run_demo(settings, recipe=SMALL)

    said = capsys.readouterr().err
    assert all(f"[{number}/10]" in said for number in range(1, 11))
    lasts = [line for line in said.splitlines() if re.match(r"  (epoch|cell|step) (\d+)/\2 ", line)]
    assert {line.split()[0] for line in lasts} == {"epoch", "cell", "step"}
    assert not any("·  ·" in line for line in lasts)
    assert [event["action"] for event in reversed(story["history"])][:7] == [
        "register", "promote", "register", "promote", "rollback", "promote", "register",
    ]  # fmt: skip
    registry = ModelRegistry(settings)
    passed = registry.get(DEMO_MODEL, "champion").version == "3"  # two epochs teach nothing: the gate has its own view
    assert story["champion"]["version"] == ("3" if passed else "2")
    assert registry.get(DEMO_MODEL, "rollback").version == ("2" if passed else "1")
    assert registry.get(DEMO_MODEL, "3").serving.backend == "openvino"
    pages = [step["html"] for step in story["steps"] if "html" in step]
    assert len(pages) == 9
    assert all(Path(page).is_file() for page in pages)

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
    assert "reused" in again["steps"][0]["result"]
    assert "reused" in again["steps"][1]["result"]
    assert "reused" in again["steps"][3]["result"]
    assert "reused" in again["steps"][7]["result"]
    assert "reused" in again["steps"][8]["result"]

    with pytest.raises(RunFailedError, match=r"below 1\.1"):
        run_demo(settings, recipe=DemoRecipe(**{**SMALL.__dict__, "min_map50": 1.1}), quiet=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demos_first_champion_finds_something_and_leaves_room_for_a_better_one(
    tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "mlflow.db")
    demo = _Demo(Settings(work_dir=tmp_path), _Story(say=print, total=2), DemoRecipe(), fresh=True)
    data = demo.scenes()[1]["data_yaml"]
    _, facts = demo.training(data, DemoRecipe().weak_epochs, drawn=False)
    assert 0.15 <= facts["metrics"]["map50"] <= 0.55
