"""The command line with a training that takes no time: the same way through plan, executor, kernel and run.

Started as ``python -m tests.execution.fake_training train --set then=hang …``; ``FAKE_TEMPLATE`` is where
its template notebook goes. What happens after step 2 is the option ``then``.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError
from guardianflow.files.run_folder import RESULT_FILE, write_json
from guardianflow.runners._base import Runner
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.fields import flat_fields
from guardianflow.scenario.schema import TrainingScenario

TEMPLATES = Path(__file__).resolve().parents[2] / "notebooks" / "templates"


class FakeTraining(Runner[TrainingScenario, dict[str, Any]]):
    asks = TrainingScenario

    def check(self) -> None:
        if self.scenario.run.options.get("then") == "nonsense":
            raise InputError("then = 'nonsense' is no behaviour; choose another")

    def work(self, run: TrackedRun) -> dict[str, Any]:
        asked = self.scenario
        run.log_params(asked.flat())
        for step in range(1, asked.run.epochs + 1):
            run.log_metrics({"loss": 1 / step}, step=step)
            run.set_progress(step, asked.run.epochs, unit="epoch")
            time.sleep(asked.run.options.get("pause", 0.02))
            if step == 2:
                run.flush(timeout_s=60)  # what a SIGKILL finds unsent in memory is lost
                self._behave(str(asked.run.options.get("then", "")))
        weights = run.folder / "weights.bin"
        weights.write_bytes(b"w" * 1000)
        run.log_artifact(weights, "weights")
        result = {"metrics": {"map50": 0.5}, "model_uri": f"runs:/{run.run_id}/weights/weights.bin"}
        write_json(run.folder / RESULT_FILE, result)
        write_json(
            run.folder / "seen.json", {"cwd": str(Path.cwd()), "data_exists": Path(asked.dataset.data_yaml).exists()}
        )
        return result

    @staticmethod
    def _behave(then: str) -> None:
        if then == "raise":
            raise RuntimeError("the loss is no number")
        if then == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if then == "deaf":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if then in ("hang", "deaf"):
            time.sleep(600)


def write_template(path: Path) -> Path:
    """The real template's parameters cell, then the fake training, then a cell behind it."""
    import nbformat

    real = nbformat.read(TEMPLATES / "train.ipynb", as_version=4)
    parameters = next(cell for cell in real.cells if "parameters" in cell.metadata.get("tags", ()))
    names = [*flat_fields(TrainingScenario), "run_id"]
    call = (
        "from tests.execution.fake_training import FakeTraining\n"
        f"FakeTraining({', '.join(f'{name}={name}' for name in names)}).run()"
    )
    cells = [parameters, nbformat.v4.new_code_cell(call), nbformat.v4.new_code_cell("'the end'")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=real.metadata), path)
    return path


def use_fake_training(template: Path) -> None:
    """Let ``train`` mean the fake one, in this process."""
    from guardianflow.scenario.factory import KINDS, Kind

    fake = Kind(
        "train", TrainingScenario, "tests.execution.fake_training:FakeTraining", resumable=True, template=template
    )
    KINDS.register("train", fake, replace=True)


if __name__ == "__main__":
    from guardianflow.cli import main

    use_fake_training(write_template(Path(os.environ["FAKE_TEMPLATE"])))
    main()
