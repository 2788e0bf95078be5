"""An engineer's day in JupyterLab, as ``make lab`` opens it in a checkout, in two browsers at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.runs.run_records import RunRecord, RunRecords
from guardianflow.state.database import Database
from tests.browser.conftest import START
from tests.checkouts import copy_checkout, git, its_environment
from tests.trainings import ODD

pytest.importorskip("jupyterlab", reason="JupyterLab is missing: pip install 'guardianflow[lab]'")
pytestmark = pytest.mark.slow

MODEL = "gate"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOTEBOOK = "window.jupyterapp.shell.currentWidget.content"


class Lab:
    """JupyterLab in a checkout of its own."""

    def __init__(self, folder: Path, mlflow_template: Path) -> None:
        self.checkout = copy_checkout(folder / ODD)
        self.work = self.checkout / "guardianflow-work"
        self.work.mkdir()
        shutil.copyfile(mlflow_template, self.work / "mlflow.db")
        (folder / "config").mkdir()
        (folder / "config/jupyter_lab_config.json").write_text('{"LabApp": {"expose_app_in_browser": true}}')
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, "lab", "--json", "--port", "0"],
            stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=self.checkout,
            env=its_environment(
                self.checkout, JUPYTER_CONFIG_DIR=str(folder / "config"), JUPYTER_RUNTIME_DIR=str(folder / "runtime"),
                PATH=os.defpath, GUARDIANFLOW_ACTOR="Kim",
            ),
        )  # fmt: skip
        assert self.process.stdout is not None
        said = json.loads("".join(iter(self.process.stdout.readline, "}\n")) + "}")
        assert Path(said["folder"]) == self.work
        self.url: str = said["url"]
        self.origin = self.url.partition("/lab/")[0]
        self.settings = Settings(work_dir=self.work)

    def runs(self) -> list[RunRecord]:
        return RunRecords(Database.open(self.settings.database_url)).list()

    def stop(self) -> None:
        """End it as somebody who closes the terminal does; nothing of it is left."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        assert any("ipykernel" in " ".join(each.cmdline()) for each in started)
        self.process.send_signal(signal.SIGHUP)
        with self.process:
            assert self.process.wait(60) == 0
        assert psutil.wait_procs(started, timeout=10)[1] == []


class Person:
    """Somebody at a browser of their own."""

    def __init__(self, browser: Any, lab: Lab) -> None:
        self.page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.lab = lab

    def open(self, notebook: str) -> None:
        """A notebook that lies in the workspace, once its kernel is ready."""
        self.page.goto(self.lab.url.replace("00_start_here.ipynb", notebook))
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status == 'idle'",
            timeout=90_000,
        )

    def do(self, command: str) -> None:
        """A command of JupyterLab's menus; returns when it is done."""
        self.page.evaluate("name => window.jupyterapp.commands.execute(name).then(() => null)", command)

    def write(self, cell: int, code: str) -> None:
        """Type over what stands in a cell."""
        self.page.evaluate(f"cell => {{ {NOTEBOOK}.activeCellIndex = cell; {NOTEBOOK}.mode = 'edit'; }}", cell)
        editor = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell.jp-mod-active .cm-content")
        editor.click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def start(self, cell: int) -> None:
        """Run a cell; see :meth:`outcome`."""
        self.page.evaluate(
            f"cell => {{ {NOTEBOOK}.activeCellIndex = cell; "
            "window.ran = window.jupyterapp.commands.execute('notebook:run-cell').then(() => null); }",
            cell,
        )

    def outcome(self, cell: int) -> str:
        """What a cell shows in the end, types of pictures included."""
        self.page.evaluate("() => window.ran")
        outputs = self.page.evaluate(f"cell => {NOTEBOOK}.model.cells.get(cell).toJSON().outputs", cell)
        return ANSI.sub("", json.dumps(outputs, ensure_ascii=False))

    def run(self, cell: int) -> str:
        self.start(cell)
        return self.outcome(cell)

    def run_new(self, code: str) -> str:
        """Type a cell below all others, and run it."""
        last = self.page.evaluate(f"{NOTEBOOK}.activeCellIndex = {NOTEBOOK}.model.cells.length - 1")
        self.do("notebook:insert-cell-below")
        self.write(last + 1, code)
        return self.run(last + 1)

    def cells(self) -> dict[str, int]:
        """Id of a cell → its place."""
        ids = self.page.evaluate(f"{NOTEBOOK}.model.sharedModel.cells.map(cell => cell.id)")
        return {name: place for place, name in enumerate(ids)}

    def decide(self, button: str, why: str) -> None:
        """Press a button of the registry panel, with a reason."""
        field = self.page.locator(".gf-decide input[type=text]").first
        field.fill(why)
        field.press("Tab")
        self.page.get_by_role("button", name=button).click()

    def sees(self, text: str) -> None:
        """It stands there now, or soon."""
        self.page.get_by_text(text).first.wait_for(timeout=60_000)


def until(there: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := there():
            return found
        time.sleep(0.1)
    raise AssertionError("it didn't come")


@pytest.fixture
def lab(tmp_path: Path, mlflow_sqlite_template: Path) -> Iterator[Lab]:
    made = Lab(tmp_path, mlflow_sqlite_template)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def parameters(data: Path, **changes: Any) -> str:
    asked = {
        "experiment_name": MODEL, "model_arch": "yolo11n.yaml", "data_yaml": str(data), "epochs": 2, "batch": 8,
        "imgsz": 64, "device": "cpu", "seed": 0, "register_as": MODEL, "site": {}, "task": {}, "new_head": False,
        "allow_bad": 0.0, "workers": 0, "threads": 0, "patience": 100, "options": {"plots": False}, "resume": "",
        "run_id": "",
    }  # fmt: skip
    return "\n".join(f"{name} = {value!r}" for name, value in (asked | changes).items())


@pytest.mark.timeout(600)
def test_a_day_from_the_first_training_to_the_way_back(lab: Lab, browser: Any, tiny_data: Path) -> None:
    kim = Person(browser, lab)
    kim.open("notebooks/train.ipynb")
    at = kim.cells()

    def train(**changes: Any) -> None:
        kim.write(at["parameters"], parameters(tiny_data, **changes))
        kim.run(at["parameters"])
        said = kim.run(at["read-data"])
        assert '"output_type": "error"' not in said, said
        kim.start(at["train"])

    # A training is interrupted after its first epoch, and goes on in the same run.
    train(epochs=6)
    until(lambda: list(lab.settings.runs_dir.rglob("last.pt")))
    kim.do("notebook:interrupt-kernel")
    said = kim.outcome(at["train"])
    (first,) = lab.runs()
    assert first.status == "KILLED", said
    assert "Traceback" not in said
    assert first.run_id in said, "the sentence says which run can go on"
    train(epochs=6, resume=first.run_id)
    assert "mAP50" in kim.outcome(at["train"])
    assert [(run.run_id, run.status) for run in lab.runs()] == [(first.run_id, "FINISHED")]
    train(seed=1)
    kim.outcome(at["train"])
    second = next(run for run in lab.runs() if run.run_id != first.run_id)

    # The command that the notebook prints finds what was made by hand.
    assert second.run_id[:8] in kim.run_new("!guardianflow list runs")
    kim.do("docmanager:save")

    # Two people at the registry see each other's moves.
    registry = ModelRegistry(lab.settings)
    panel = f"from guardianflow.widgets.registry_panel import RegistryPanel\nRegistryPanel({MODEL!r})"
    lee = Person(browser, lab)
    lee.open("notebooks/registry.ipynb")
    for person in (kim, lee):
        person.run_new(panel)
    kim.run_new(f"from guardianflow import ModelRegistry\nModelRegistry().promote({MODEL!r}, 1, reason='the first')")
    kim.decide("Promote version 2", "looks better")
    kim.page.locator(".gf-told", has_text="neither better").wait_for(timeout=60_000)
    kim.decide("Promote 2 against the gate", "to try the way back")
    lee.sees("to try the way back")
    lee.decide("Roll back to version 1", "misses trucks")
    kim.sees("misses trucks")

    # Boxes from the champion, and two runs held against each other.
    image = min(tiny_data.parent.glob("images/val/*"))
    boxes = (
        f"from guardianflow import load_champion\nload_champion({MODEL!r}).predict({str(image)!r}, confidence=0.001)"
    )
    assert "image/jpeg" in kim.run_new(boxes)
    said = kim.run_new(f"from guardianflow import compare\ncompare({first.run_id!r}, {second.run_id!r})")
    assert "the same 4 images" in said, said
    for person in (kim, lee):
        person.do("docmanager:save")

    # What was done by hand is kept with its run: text, cells as they were executed, what they showed.
    (asked_first,) = (
        cell.source
        for cell in nbformat.read(first.folder / "train.ipynb", as_version=4).cells
        if "parameters" in cell.metadata.get("tags", ())
    )
    assert "epochs = 6" in asked_first
    cells = {cell.get("id"): cell for cell in nbformat.read(second.folder / "train.ipynb", as_version=4).cells}
    assert list(cells)[: len(at)] == list(at)
    assert (cells["title"].cell_type, "seed = 1" in cells["parameters"].source) == ("markdown", True)
    assert "Training of gate" in cells["train"].outputs[-1].data["text/html"]
    until(lambda: "Training of gate" in (second.folder / "train.html").read_text(encoding="utf-8"))

    lab.stop()
    moves = [(event.action, event.version, event.actor, event.reason) for event in reversed(registry.history(MODEL))]
    assert moves == [
        ("register", "1", "Kim", None), ("register", "2", "Kim", None), ("promote", "1", "Kim", "the first"),
        ("promote", "2", "Kim", "to try the way back"), ("rollback", "1", "Kim", "misses trucks"),
    ]  # fmt: skip
    assert [(run.kind, run.status) for run in lab.runs()] == [("compare", "FINISHED"), *[("train", "FINISHED")] * 2]
    assert list(lab.checkout.rglob("guardianflow-work")) == [lab.work]
    assert git(lab.checkout, "status", "--porcelain") == ""
    assert "epochs = 2" in (lab.work / "notebooks/train.ipynb").read_text(encoding="utf-8")
    asked = {url for person in (kim, lee) for url in person.asked}
    assert {url for url in asked if not url.startswith((lab.origin, "data:", "blob:"))} == set()
