"""What the terminal shows while a run is executed elsewhere: no gap, no last line lost."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest

from guardianflow.console import ProgressWatch, progress_line
from guardianflow.core.config import Settings
from guardianflow.runners.quantization.steps import STEPS, Steps
from guardianflow.runs.tracking import TrackedRun


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "mlflow.db")
    return Settings(work_dir=tmp_path)


@pytest.mark.parametrize(
    ("unit", "note", "line"),
    [
        ("epoch", "mAP50 0.71", "epoch 3/3 · mAP50 0.71 · 12 s"),
        ("cell", "", "cell 3/3 · 12 s"),
        ("step", "now: compare: 2 of 8", "step 3/3 · now: compare: 2 of 8 · 12 s"),
    ],
)
def test_a_progress_line_has_no_gap(unit: str, note: str, line: str) -> None:
    assert progress_line({"done": 3, "total": 3, "unit": unit, "note": note}, seconds=12.3) == line


class Bar:
    """The part of tqdm's bar that the steps use."""

    def update(self) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...


@pytest.mark.parametrize("terminal", [False, True])
def test_the_last_line_of_a_quantization_is_shown_whole(
    terminal: bool, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    with TrackedRun.start(settings, experiment="a", kind="quantize", parameters={}) as run:
        with ProgressWatch(settings).watching() as watch:
            watch.start(run.record)
            steps = Steps(run, Bar())
            steps()
            steps()
            deadline = time.monotonic() + 10
            while run.record.progress.get("done") != 1 and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1.2)  # two looks at it
            for _ in STEPS[1:]:
                steps()
            while run.record.progress["done"] != len(STEPS) and time.monotonic() < deadline:
                time.sleep(0.05)
        shown = capsys.readouterr().err
    if terminal:
        assert "now: quantize" in shown
        return
    lines = [line.strip() for line in shown.splitlines()[1:]]
    assert re.fullmatch(r"step 1/7 · now: quantize · \d+ s", lines[0])
    assert re.fullmatch(r"step 7/7 · \d+ s", lines[-1])
