"""What a training replaces in Ultralytics, and gives back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from guardianflow.vision._ultralytics import import_ultralytics

import_ultralytics()

import ultralytics.data.utils as data_utils  # noqa: E402
import ultralytics.utils as utils_module  # noqa: E402
import ultralytics.utils.plotting as plotting_module  # noqa: E402

from guardianflow.vision.training._isolation import isolated  # noqa: E402


def test_replacements_hold_inside_the_block_only_however_blocks_overlap() -> None:
    original = data_utils.check_image
    entered, leave = threading.Event(), threading.Event()

    def other_training() -> None:
        with isolated():
            entered.set()
            leave.wait(5)

    thread = threading.Thread(target=other_training)
    with contextlib.suppress(KeyError), isolated():
        thread.start()
        entered.wait(5)
        assert data_utils.check_image is not original
        raise KeyError  # a training that fails gives back as well
    assert data_utils.check_image is not original  # the other training still works
    leave.set()
    thread.join()
    assert data_utils.check_image is original
    assert plotting_module.check_font.__module__ == "ultralytics.utils.checks"


def test_a_training_logs_to_no_mlflow_and_no_ray_of_ultralytics(tiny_data: Path, tmp_path: Path) -> None:
    from guardianflow.vision.training._trainer import IsolatedTrainer

    settings = dict(utils_module.SETTINGS)
    asked = {"model": "yolo11n.yaml", "data": str(tiny_data), "device": "cpu", "project": str(tmp_path)}
    trainer = IsolatedTrainer(overrides=asked)
    homes = {callback.__module__ for callbacks in trainer.callbacks.values() for callback in callbacks}
    assert not {f"ultralytics.utils.callbacks.{name}" for name in ("mlflow", "raytune")} & homes
    assert dict(utils_module.SETTINGS) == settings


def test_stdout_stays_clean_on_a_machine_that_never_saw_ultralytics(tmp_path: Path) -> None:
    code = "from guardianflow.vision._ultralytics import import_ultralytics as load; load()"
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "설정 new")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "Ultralytics" in done.stderr  # it did greet: the test sees a first start
