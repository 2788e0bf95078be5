"""A training that takes no time and is as good as its values say, for sweeps under test.

The further from ``lr0 = 0.01`` the worse it is. It goes on after its last epoch when it is resumed, and asks its sweep
after each whether to go on. ``FAKE_PAUSE`` is how many seconds an epoch takes; while there is no file ``FAKE_MENDED``,
it fails.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.files.run_folder import RESULT_FILE, write_json
from guardianflow.runners._base import Runner
from guardianflow.runners.training.pruning import pruner_of
from guardianflow.runs.run_records import RunRecords
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.factory import KINDS, Kind
from guardianflow.scenario.fields import flat_fields
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.state.database import Database
from guardianflow.vision.training.epochs import EpochReport

TEMPLATES = Path(__file__).resolve().parents[2] / "notebooks" / "templates"


class FakeTrial(Runner[TrainingScenario, dict[str, Any]]):
    asks = TrainingScenario

    def check(self) -> None:
        resume = self.scenario.run.resume
        if resume and not _weights(RunRecords(Database.open(self.settings.database_url)).get(resume).folder).exists():
            raise InputError(f"run {resume} ended before its first epoch was saved")

    def work(self, run: TrackedRun) -> dict[str, Any]:
        asked, history = self.scenario, []
        stop, prune = "", pruner_of(run.folder, self.settings)
        last = _weights(run.folder)
        done = int(last.read_text()) if last.exists() else 0
        for epoch in range(1, asked.run.epochs + 1):
            metrics = figures(asked, epoch)
            history.append({"epoch": epoch, **metrics})
            if epoch <= done:
                continue
            time.sleep(float(os.environ.get("FAKE_PAUSE", "0")))
            report = EpochReport(epoch, asked.run.epochs, {}, {}, metrics, 0.0, None)
            stop = "pruner" if prune(report) and epoch < asked.run.epochs else ""
            last.parent.mkdir(parents=True, exist_ok=True)
            last.write_text(str(epoch))
            run.set_progress(epoch, asked.run.epochs, unit="epoch")
            mended = os.environ.get("FAKE_MENDED")
            if mended and not Path(mended).exists():
                raise RuntimeError("the loss is no number")
            if stop:
                break
        result = {"metrics": history[-1], "history": history, "stopped_by": stop, "model_uri": ""}
        write_json(run.folder / RESULT_FILE, result)
        return result


def figures(asked: TrainingScenario, epoch: int) -> dict[str, float]:
    """What such a training measures after an epoch."""
    lr0 = float(asked.run.options.get("lr0", 0.01))
    value = max(0.0, 0.9 - 0.3 * abs(math.log10(lr0) + 2)) * epoch / asked.run.epochs
    return {"map50": value, "map50_95": value / 2, "precision": value, "recall": value, "train_seconds": 1.0}


def _weights(folder: Path) -> Path:
    return folder / "training" / "weights" / "last.pt"


def fake_kind(template: Path | None) -> Kind:
    return Kind("train", TrainingScenario, "tests.execution.fake_trials:FakeTrial", resumable=True, template=template)


def use_fake_trials(template: str) -> None:
    """Let ``train`` mean the fake one, in this process."""
    KINDS.register("train", fake_kind(Path(template)), replace=True)


def write_template(path: Path) -> Path:
    """The real template's parameters cell, then the fake training."""
    import nbformat

    real = nbformat.read(TEMPLATES / "train.ipynb", as_version=4)
    parameters = next(cell for cell in real.cells if "parameters" in cell.metadata.get("tags", ()))
    names = [*flat_fields(TrainingScenario), "run_id"]
    call = (
        "from tests.execution.fake_trials import FakeTrial\n"
        f"FakeTrial({', '.join(f'{name}={name}' for name in names)}).run()"
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(call)]), path)
    return path
