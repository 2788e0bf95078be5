"""Runs and failures in a notebook that a person executes: a real kernel, which may ask questions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.execution.executors import kernel_environment
from guardianflow.runs.run_records import RunRecord, RunRecords
from guardianflow.state.database import Database

SVG = "image/svg+xml"
PLOTLY = "application/vnd.plotly.v1+json"


@dataclass
class Shown:
    """What one cell has shown."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    @property
    def error(self) -> str:
        """The error's lines, without colours; empty where there is none."""
        found = [output for output in self.outputs if output["type"] == "error"]
        return "\n".join(found[0]["traceback"]).replace("\x1b[31m", "").replace("\x1b[39m", "") if found else ""

    def text(self) -> str:
        """All that is shown as text."""
        return "\n".join(
            str(output["data"].get("text/plain", "")) if "data" in output else output.get("text", "")
            for output in self.outputs
        )


class Notebook:
    """A kernel, driven as JupyterLab drives one."""

    def __init__(self, settings: Settings, folder: Path, **environment: str) -> None:
        from jupyter_client.manager import KernelManager

        # No threads that wait busily: tests share their cores.
        self._manager = KernelManager(transport="ipc", ip=str(folder / "k"))
        names = {**os.environ, **kernel_environment(settings), "GOMP_SPINCOUNT": "0", **environment}
        self._manager.start_kernel(env=names, cwd=str(folder))
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)

    def execute(
        self, source: str, *, answer: str = "", by_hand: bool = True, watch: Callable[[str], None] | None = None
    ) -> Shown:
        """Execute a cell; questions get the answer, and ``watch`` hears what is shown as it comes."""
        shown = Shown()

        def hear(message: dict[str, Any]) -> None:
            kind, content = message["header"]["msg_type"], message["content"]
            if kind in {"error", "stream", "display_data", "execute_result", "update_display_data"}:
                shown.outputs.append({"type": kind, **content})
                if watch:
                    watch(shown.text())

        def ask(message: dict[str, Any]) -> None:
            shown.questions.append(message["content"]["prompt"])
            self._client.input(answer)

        self._client.execute_interactive(
            source, allow_stdin=by_hand, output_hook=hear, stdin_hook=ask, timeout=300, store_history=True
        )
        return shown

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Settings:
    work_dir = tmp_path_factory.mktemp("by hand") / "작업"
    work_dir.mkdir()
    (work_dir / "mlflow.db").write_bytes(mlflow_sqlite_template.read_bytes())
    return Settings(work_dir=work_dir, actor="lee")


@pytest.fixture(scope="module")
def notebook(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    opened = Notebook(settings, tmp_path_factory.mktemp("nb"))
    opened.execute("import guardianflow as gf")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("gf.load_scenario('/nowhere.yaml')", "scenario /nowhere.yaml can't be read"),
        ("gf.TrainingRunner('a', 'yolo11n.yaml', 'x.yaml', epoch=1)", "no parameter 'epoch'; did you mean 'epochs'?"),
        ("gf.TrainingRunner('a', 'yolo11n.yaml', 'x.yaml').datset", "TrainingRunner has no 'datset'; did you mean"),
    ],
)
def test_an_expected_failure_is_a_sentence_and_the_traceback_comes_on_request(
    notebook: Notebook, source: str, sentence: str
) -> None:
    said = notebook.execute(source).error
    assert sentence in said
    assert said.splitlines()[1:] == ["(%tb shows the whole traceback)"]
    asked = notebook.execute("%tb").error
    assert "Traceback (most recent call last)" in asked
    assert sentence in asked
    recorded = notebook.execute(source, by_hand=False).error  # by papermill: nobody can ask later
    assert "Traceback (most recent call last)" in recorded


TRAINING = """
training = gf.TrainingRunner(
    "gate", "yolo11n.yaml", DATA, epochs=4, batch=8, imgsz=64, device="cpu", options={"plots": False}
)
"""
RUN = "result = None\nresult = training.run()\nresult"


def test_an_interrupted_training_says_how_to_go_on_and_goes_on(
    notebook: Notebook, settings: Settings, tiny_data: Path
) -> None:
    notebook.execute(f"DATA = {str(tiny_data)!r}\nresult = 'of another run'\n{TRAINING}")
    sent: list[str] = []

    def interrupt(seen: str) -> None:
        if "epoch 1/4 · mAP50" in seen and not sent:
            sent.append(seen)
            notebook.interrupt()

    stopped = notebook.execute(RUN, watch=interrupt)
    record = RunRecords(Database.open(settings.database_url)).list()[0]
    lines = [str(output["data"]["text/plain"]) for output in stopped.outputs if "data" in output]
    assert lines[0] == "looking at what is asked …"
    assert lines[1] == f"run {record.run_id} of gate · {record.folder}"  # before there is a model
    assert "building the model" in lines[3]
    assert any("epoch 1/4 · batch 1 of 2" in line for line in lines)
    assert (record.status, 1 <= record.progress["done"] < 4) == ("KILLED", True)
    assert stopped.error.splitlines()[1:] == ["(%tb shows the whole traceback)"]
    assert f'result = TrainingRunner.resuming("{record.run_id}").run()' in stopped.error
    assert notebook.execute("result").outputs == []

    resumed = notebook.execute(f'result = gf.TrainingRunner.resuming("{record.run_id}").run()\nresult.status')
    assert resumed.outputs[-1]["data"]["text/plain"] == "'FINISHED'"
    pictures = [output for output in resumed.outputs if {SVG, PLOTLY} & set(output.get("data", ()))]
    assert len({output["transient"]["display_id"] for output in pictures}) == 1
    assert [SVG in output["data"] for output in pictures] == [True] * (len(pictures) - 1) + [False]
    assert "epoch 2</text>" in pictures[0]["data"][SVG]
    assert pictures[-1]["data"][PLOTLY]["data"][0]["name"] == "mAP50"
    assert len(RunRecords(Database.open(settings.database_url)).list()) == 1
    # One notebook goes on: what follows is about the training that was resumed.
    check_that_the_same_training_again_is_asked_for(notebook, settings)
    check_that_a_run_by_hand_keeps_what_was_executed(notebook, settings)
    check_that_a_change_of_the_registry_is_judged_and_asked_for(notebook, settings)


def check_that_the_same_training_again_is_asked_for(notebook: Notebook, settings: Settings) -> None:
    runs = RunRecords(Database.open(settings.database_url)).list(status="FINISHED")
    said = notebook.execute(RUN, answer="n")
    assert said.questions == [f"{question_of(runs[0])} (y/n) "]
    assert "Nothing was begun." in said.error
    assert notebook.execute("result").outputs == []
    assert [run.run_id for run in RunRecords(Database.open(settings.database_url)).list()] == [runs[0].run_id]


def question_of(run: RunRecord) -> str:
    return (
        f"Run {run.run_id[:12]} of {run.started:%Y-%m-%d %H:%M} UTC trained exactly this; "
        f'guardianflow.open_run("{run.run_id[:12]}") shows it. Train it once more?'
    )


def check_that_a_run_by_hand_keeps_what_was_executed(notebook: Notebook, settings: Settings) -> None:
    (run,) = RunRecords(Database.open(settings.database_url)).list()
    notebook.execute("print('seen', 'twice')\ngf.Site(name='<b>gate</b>')")
    assert run.notebook is not None
    cells = nbformat.read(run.notebook, as_version=4).cells
    assert any(cell.source == "import guardianflow as gf" for cell in cells)  # before there was a runner
    resumed = next(cell for cell in cells if "resuming" in cell.source)
    shown = [output.data.get("text/plain", "") for output in resumed.outputs if "data" in output]
    assert len(shown) == 4  # the run, the bar as it was last, the curve, the value
    assert "100%" in shown[1]
    assert [output.output_type for output in cells[-1].outputs] == ["stream", "execute_result"]
    page = run.folder / "train.html"
    deadline = time.monotonic() + 60
    while not (page.exists() and "seen twice" in page.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "seen twice" in page.read_text(encoding="utf-8")


def check_that_a_change_of_the_registry_is_judged_and_asked_for(notebook: Notebook, settings: Settings) -> None:
    (run,) = RunRecords(Database.open(settings.database_url)).list()
    ModelRegistry(settings).register("cam", run.run_id)
    change = "from guardianflow.core.runner import RegistryRunner\n"
    change += "RegistryRunner('gate', 'promote', 'cam', reason='first').run()"
    said = notebook.execute(change, answer="n")
    assert said.questions == ["Promote cam? The gate lets it pass. (y/n) "]
    assert "Nothing was begun." in said.error
    assert ModelRegistry(settings).list_versions("cam")[0].aliases == ("candidate",)
    assert notebook.execute(change, by_hand=False).error == ""  # by papermill: what was asked is done
    assert ModelRegistry(settings).list_versions("cam")[0].aliases == ("champion",)


def test_a_property_that_fails_itself_says_so() -> None:
    from guardianflow.text.nearest_names import NearestNames

    class Broken(NearestNames):
        @property
        def name(self) -> str:
            return "x".nope  # type: ignore[attr-defined,no-any-return]

    with pytest.raises(AttributeError, match="'str' object has no attribute 'nope'"):
        print(Broken().name)
    assert not hasattr(Broken(), "other")
