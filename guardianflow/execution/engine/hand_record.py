"""The record of a run that a person makes in a notebook: what was executed, kept with the run as notebook and page.

A kernel can't have its notebook saved: that is the browser's to do. So the cells that were executed, and what they
showed, are taken from the kernel itself; their order and the text between them from the file, as it was saved last.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow import __version__
from guardianflow.exceptions import ipython_shell
from guardianflow.execution.engine.report import page_of
from guardianflow.execution.engine.signing import sign
from guardianflow.files.run_folder import write_text
from guardianflow.runs.delivery import Operation
from guardianflow.runs.mlflow_runs import MlflowRuns
from guardianflow.runs.tracking import TrackedRun

__all__ = ["begin", "follow"]

log = logging.getLogger(__name__)

_CALM_S = 2.0
"""So long after the last cell the page is made."""


@dataclass
class _Cell:
    """A cell as it was executed last."""

    source: str
    count: int
    outputs: list[dict[str, Any]] = field(default_factory=list)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Outputs that may be changed later, by their id."""


@dataclass(frozen=True)
class _Place:
    """A run that is recorded; what was executed before it stays as it was then."""

    run: TrackedRun
    notebook: Path
    made_in: int
    before: dict[str, _Cell]


class _Recorder:
    """Hears what this kernel executes, and writes it beside the runs that were begun in it last."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cells: dict[str, _Cell] = {}
        self._places: list[_Place] = []
        self._timer: threading.Timer | None = None
        self._earlier = list(shell.user_ns.get("In", ()))[1 : shell.execution_count]
        asked = shell.get_parent()  # of the cell that runs now
        self._begin(asked["content"].get("code", ""), asked.get("metadata", {}).get("cellId"))
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._after)
        for part in (shell.display_pub, shell.displayhook):
            if hasattr(part, "register_hook"):
                part.register_hook(self._hear)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if getattr(stream, "echo", self) is None:
                stream.echo = _Echo(self, name)
        atexit.register(self._finish)

    def follow(self, run: TrackedRun, kind: str) -> None:
        """Keep what is executed from now on with this run, until a later cell begins another one."""
        now = self._shell.execution_count
        self._places = [place for place in self._places if place.made_in == now]
        self._places.append(_Place(run, run.folder / f"{kind}.ipynb", now, dict(self._cells)))

    def hear(self, output: dict[str, Any]) -> None:
        """The cell that runs now shows something."""
        outputs = next(reversed(self._cells.values())).outputs
        if output["output_type"] == "stream" and outputs and outputs[-1].get("name") == output["name"]:
            outputs[-1]["text"] += output["text"]
        else:
            outputs.append(output)

    # ---- what IPython tells ----------------------------------------------------------------------

    def _begin(self, source: str, name: str | None) -> None:
        count = self._shell.execution_count
        self._cells.pop(name or "", None)  # executed again: the last time counts
        self._cells[name or f"executed-{count}"] = _Cell(source, count)

    def _before(self, info: Any) -> None:
        if info.store_history and not info.silent:
            self._begin(info.raw_cell, info.cell_id)

    def _hear(self, message: dict[str, Any]) -> dict[str, Any]:
        kind, content = message["header"]["msg_type"], message["content"]
        name = content.get("transient", {}).get("display_id")
        if kind == "update_display_data":
            for cell in self._cells.values():
                if name in cell.shown:
                    cell.shown[name].update(data=content["data"], metadata=content["metadata"])
        elif kind in {"display_data", "execute_result"}:
            output = {key: content[key] for key in ("data", "metadata", "execution_count") if key in content}
            shown = {"output_type": kind, **output}
            self.hear(shown)
            if name:
                next(reversed(self._cells.values())).shown[name] = shown
        return message

    def _after(self, result: Any) -> None:
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            lines = list(getattr(self._shell, "_last_traceback", None) or [])
            said = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
            self.hear({"output_type": "error", **said})
        if not self._places:
            return
        try:
            self._write()
        except Exception as problem:  # noqa: BLE001 - the run has ended well; IPython would show a wall
            log.warning("the notebook is not kept with its run (%s: %s)", type(problem).__name__, problem)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(_CALM_S, self._finish)
        self._timer.daemon = True
        self._timer.start()

    # ---- what is kept ----------------------------------------------------------------------------

    def _write(self) -> None:
        import nbformat

        for place in self._places:
            write_text(place.notebook, nbformat.writes(self._document(place)) + "\n")

    def _finish(self) -> None:
        """Page, signature and MLflow's copies, when nothing was executed for a while."""
        timer, self._timer = self._timer, None
        if timer is None:
            return
        for place in list(self._places):
            page = page_of(place.notebook)
            sign(place.notebook)
            mlflow = MlflowRuns(place.run.settings)
            try:
                for path in filter(None, (place.notebook, page)):
                    mlflow.send(Operation("artifact", place.run.run_id, {"path": str(path), "folder": "notebook"}))
            except Exception as error:  # noqa: BLE001 - they lie in the run's folder all the same
                log.debug("MLflow has no copy of %s: %s", place.notebook, error)

    def _document(self, place: _Place) -> Any:
        import nbformat

        file = _saved_notebook(self._shell)
        document = nbformat.v4.new_notebook(metadata={} if file is None else file.metadata)
        after = {name: cell for name, cell in self._cells.items() if name not in place.before}
        cells = {**place.before, **after}
        earlier = [_Cell(source, count) for count, source in enumerate(self._earlier, 1)]
        if file is None:
            document.cells = [_node(cell) for cell in (*earlier, *cells.values())]
        else:
            document.cells = list(_cells_in(file, cells, earlier, place.run.record.parameters))
        document.metadata["guardianflow"] = {"by_hand": True, "guardianflow_version": __version__}
        return document


class _Echo:
    """Gets what is printed, too."""

    def __init__(self, recorder: _Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name

    def read(self) -> str:
        """Nothing; ipykernel asks for the name."""
        return ""

    def write(self, text: str) -> None:
        """Take what is printed."""
        self._recorder.hear({"output_type": "stream", "name": self._name, "text": text})

    def flush(self) -> None:
        """Nothing waits."""


def _cells_in(
    file: Any, cells: Mapping[str, _Cell], earlier: Sequence[_Cell], parameters: Mapping[str, Any]
) -> Iterator[Any]:
    """The file's cells, with what was executed; then those that it doesn't hold yet.

    What was executed before the recording began is known by its source alone: it stands before the first cell that is
    known, unless the file has it. The parameters are those that the run was asked.
    """
    saved, old = {cell.source for cell in file.cells}, {cell.source for cell in earlier}
    # A cell of parameters is in the file, and gets those of the run.
    unsaved = [cell for cell in earlier if cell.source not in saved and "run_id" not in cell.source]
    for cell in file.cells:
        done = cells.get(cell.get("id", ""))
        if done is not None:
            yield from map(_node, unsaved)
            unsaved = []
            cell.update(source=done.source, execution_count=done.count, outputs=_nodes(done.outputs))
        elif "parameters" in cell.metadata.get("tags", ()) and "run_id" in cell.source:
            lines = [f"{name} = {value!r}" for name, value in parameters.items()]
            cell.update(source="\n".join(lines), execution_count=None, outputs=[])
        elif cell.cell_type == "code" and cell.source not in old:
            cell.update(execution_count=None, outputs=[])  # of another day
        yield cell
    known = {cell.get("id") for cell in file.cells}
    yield from (_node(cell) for name, cell in cells.items() if name not in known)


def _node(cell: _Cell) -> Any:
    import nbformat

    return nbformat.v4.new_code_cell(cell.source, execution_count=cell.count, outputs=_nodes(cell.outputs))


def _nodes(outputs: list[dict[str, Any]]) -> list[Any]:
    import nbformat

    return [nbformat.from_dict(output) for output in outputs]


def _saved_notebook(shell: Any) -> Any:
    """The kernel's notebook as it was saved last; ``None`` where nobody says which it is."""
    import nbformat

    named = shell.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME", "")
    try:
        return nbformat.read(named, as_version=4) if str(named).endswith(".ipynb") else None
    except Exception as error:  # noqa: BLE001 - it was renamed, or is being written
        log.debug("%s can't be read: %s", named, error)
        return None


_recorders: list[_Recorder] = []


def begin() -> None:
    """From this cell on, remember what this kernel executes."""
    if not _recorders:
        _recorders.append(_Recorder(ipython_shell()))


def follow(run: TrackedRun, kind: str) -> None:
    """Keep this kernel's notebook with a run that is made in it by hand."""
    begin()
    _recorders[0].follow(run, kind)
