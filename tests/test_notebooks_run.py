"""Every page's notebook and the start notebook run from top to bottom, cell by cell, as nbval runs them.

The templates need data and a run: they are executed where their kinds of run are tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardianflow.execution.executors import kernel_environment
from tests.dashboard.site_scene import Scene

pytest.importorskip("nbval", reason="nbval is missing: make setup")

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
REPORTS = sorted((NOTEBOOKS / "reports").glob("*.ipynb"))
START = NOTEBOOKS / "00_start_here.ipynb"


def run(scene: Scene, *notebooks: Path) -> str:
    """What nbval says of them; their outputs aren't compared, there are none in the repository."""
    words = ["pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=240", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *words, "-c", os.devnull, "-q", "-rf", *map(str, notebooks)],
        env={**os.environ, **kernel_environment(scene.settings)}, cwd=notebooks[0].parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path, datetime.now(UTC))
    made.charge("1")
    made.labelled("harbour", 0.58, camera="gate")
    return made


def test_every_page_runs_and_a_cell_that_fails_is_told(scene: Scene, tmp_path: Path) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text(
        (NOTEBOOKS / "reports" / "start.ipynb").read_text(encoding="utf-8").replace("Panel()", "Panel(nothing)")
    )
    assert f"1 failed, {len(REPORTS)} passed" in run(scene, *REPORTS, broken)


@pytest.mark.slow
def test_the_start_notebook_runs(scene: Scene, tmp_path: Path) -> None:
    copy = Path(shutil.copy(START, tmp_path))
    said = run(scene, copy)
    assert " passed" in said, said
    assert " failed" not in said, said
