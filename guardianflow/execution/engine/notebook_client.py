"""The notebook as it runs: papermill's client and its record of states, told to be truthful.

papermill notes a failed cell and leaves the rest pending. When the kernel dies, the time is up or
Ctrl-C comes, it marks every cell completed. Here whatever ends a cell is written down before
anything else happens, and no cell changes its state because the notebook ended.

Importing this module imports papermill (2–3 s): import it inside functions only.
"""

from __future__ import annotations

import logging
import re
import signal
import time
from pathlib import Path
from typing import Any, cast

import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import write_ipynb

from guardianflow import __version__
from guardianflow.exceptions import InputError
from guardianflow.execution.engine.kernel_process import KernelWorkspace, kernel_specs
from guardianflow.execution.engine.outcome import CellError, CellStatus, NotebookEvent
from guardianflow.execution.engine.session import NotebookSession
from guardianflow.files.run_folder import write_text
from guardianflow.processes.keeper import kept

__all__ = ["NotebookClient", "NotebookState", "write_notebook"]

log = logging.getLogger(__name__)

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRACEBACK_LINES = 25
# A busy machine may need long to deliver the last output of a cell; 4 s, the default, fails such runs.
_OUTPUT_TIMEOUT_S = 120


def write_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook, see :func:`~guardianflow.files.run_folder.write_text`."""
    write_text(path, nbformat.writes(notebook) + "\n")


def plain_traceback(lines: list[str]) -> str:
    """The end of a traceback as IPython sends it, without colours."""
    text = _ANSI.sub("", "\n".join(lines))
    return "\n".join(text.splitlines()[-_TRACEBACK_LINES:])


class NotebookState(NotebookExecutionManager):  # type: ignore[misc, unused-ignore]
    """papermill's record of a run in the notebook's metadata, written atomically."""

    def __init__(self, nb: Any, session: NotebookSession, **options: Any) -> None:
        super().__init__(nb, **options)
        self.session = session
        self._saved = False

    def save(self, **_: Any) -> None:
        """Write the notebook as it stands.

        The first write must work. A later one that fails is logged and made up for by the next: a
        disk that is full for a minute must not end a training. The last write is the engine's.
        """
        try:
            self.write()
            self._saved = True
        except OSError as error:
            if not self._saved:
                raise InputError(
                    f"the notebook can't be written to {self.session.options.output} ({error.strerror or error}). "
                    "Nothing was started. Choose a folder that can be written, or free space on the disk."
                ) from error
            log.warning("the notebook can't be written now (%s); the next write is tried", error.strerror or error)
        self.last_save_time = self.now()

    def write(self) -> None:
        """Write the notebook as it stands; errors come through."""
        target = str(self.output_path or "")
        if "://" in target or target == "-":
            write_ipynb(self.nb, target)  # papermill's command line with a remote target
        elif target:
            write_notebook(self.nb, Path(target))

    def notebook_start(self, **_: Any) -> None:
        """Mark everything pending and write the notebook for the first time."""
        options = self.session.options
        self.nb.metadata["guardianflow"] = {
            "template": options.template,
            "template_sha256": options.template_sha256,
            "status": "running",
            "seconds": None,
            "guardianflow_version": __version__,
        }
        if not isinstance(self.nb.metadata.papermill.get("input_path"), str):
            # papermill was handed a notebook, not a file, and would write it whole into its metadata.
            self.nb.metadata.papermill["input_path"] = options.template
            self.nb.metadata.papermill["output_path"] = options.output.name
        for cell in self.nb.cells:
            cell.metadata.pop("guardianflow", None)
        super().notebook_start()

    def notebook_complete(self, **_: Any) -> None:
        """Close the record; the cells keep the state they have. Doesn't write."""
        self.end_time = self.now()
        record = self.nb.metadata.papermill
        record["end_time"] = self.end_time.isoformat()
        record["duration"] = self.session.seconds
        if self.session.error is not None:
            record["exception"] = True
        self.complete_pbar()
        self.cleanup_pbar()


class NotebookClient(PapermillNotebookClient):  # type: ignore[misc, unused-ignore]
    """papermill's client, driving one kernel for a :class:`NotebookSession`."""

    def __init__(self, state: NotebookState, workspace: KernelWorkspace, **options: Any) -> None:
        super().__init__(state, coalesce_streams=True, iopub_timeout=_OUTPUT_TIMEOUT_S, log=log, **options)
        self.session = state.session
        self.workspace = workspace
        self._current: int | None = None

    def create_kernel_manager(self) -> Any:
        """A kernel manager on private sockets, for the interpreter that runs now unless told otherwise.

        What it starts has a keeper before it.
        """

        class Kept(self.kernel_manager_class):  # type: ignore[misc, name-defined, unused-ignore]
            def format_kernel_cmd(self, *arguments: Any, **options: Any) -> list[str]:
                return kept(super().format_kernel_cmd(*arguments, **options))

        self.km = Kept(
            kernel_name=self.kernel_name,
            kernel_spec_manager=kernel_specs(self.kernel_name),
            log=log,
            config=self.config,
            **self.workspace.manager_options(),
        )
        return self.km

    def execute(self, **_: Any) -> Any:
        """Run the cells one by one until the end, a failure or a stop."""
        options = self.session.options
        self.reset_execution_trackers()
        with self.workspace.log_path.open("wb") as output:
            try:
                # What the process writes past its cells (a fault handler, C libraries) must not reach our stdout.
                with self.setup_kernel(
                    env=self.session.processes.environment(options.environment),
                    cwd=str(options.cwd or Path.cwd()),
                    stdout=output,
                    stderr=output,
                ):
                    self._read_language()
                    self.session.kernel_ready()
                    self.papermill_execute_cells()
                    self.set_widgets_metadata()
                    self.session.closing()
                    self.session.processes.note()
            except Exception as error:  # noqa: BLE001 - whatever it is, the notebook must say it
                self._note_failure_outside_cells(error)
            finally:
                self.session.closing()
                self.session.processes.sweep()
        return self.nb

    def start_new_kernel(self, **options: Any) -> None:
        """Start the kernel and report its process."""
        super().start_new_kernel(**options)
        provisioner = getattr(self.km, "provisioner", None)
        self.session.kernel_started(getattr(provisioner, "pid", None), len(self.nb.cells))

    def papermill_execute_cells(self) -> None:
        """Run the cells; write down how each one ended."""
        for index, cell in enumerate(self.nb.cells):
            if not self.session.may_start_cell(index):
                break
            if not self._run_cell(cell, index):
                break

    def process_message(self, *arguments: Any, **options: Any) -> Any:
        """Take one message of the kernel; hand on what is printed."""
        message, cell = arguments[0], arguments[1]
        if message["msg_type"] == "execute_input":
            self.session.cell_is_executing()
        output = super().process_message(*arguments, **options)
        if output is not None and output.output_type == "stream":
            self.session.emit(
                NotebookEvent("stream", cell_index=self._current, stream=output.name, text="".join(output.text))
            )
            _fold_progress(cell.outputs)
        return output

    def _read_language(self) -> None:
        reply = self.wait_for_reply(self.kc.kernel_info())
        if reply is not None:
            self.nb.metadata["language_info"] = reply["content"]["language_info"]

    def _run_cell(self, cell: Any, index: int) -> bool:
        """Run one cell; ``True`` when the next one may follow."""
        begin = time.monotonic()
        self._current = index
        go_on = True
        try:
            self.nb_man.cell_start(cell, index)
            self.session.emit(NotebookEvent("cell-started", cell_index=index))
            self.execute_cell(cell, index)
        except CellExecutionError:
            go_on = False
            self._note_raised(cell, index)
        except (DeadKernelError, CellTimeoutError) as error:
            go_on = False
            self._note_stopped(cell, index, error)
        except BaseException as error:
            self._note_stopped(cell, index, error)
            raise
        finally:
            self._close_cell(cell, index, time.monotonic() - begin)
        return go_on

    def _close_cell(self, cell: Any, index: int, seconds: float) -> None:
        rss_mb = self.session.processes.rss_mb()
        cell.metadata["guardianflow"] = {"seconds": round(seconds, 3), "rss_mb": rss_mb}
        self.session.processes.note()
        self.nb_man.cell_complete(cell, cell_index=index)
        status = cast(CellStatus, cell.metadata.papermill["status"])
        self.session.cell_ended(
            NotebookEvent("cell-finished", cell_index=index, status=status, seconds=round(seconds, 3), rss_mb=rss_mb)
        )
        self._current = None

    def _note_raised(self, cell: Any, index: int) -> None:
        errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        last = errors[-1] if errors else None
        if last is not None and last.ename == "SystemExit" and last.evalue in ("", "0", "None"):
            return  # sys.exit(0): the author ended the notebook here, as papermill sees it too
        self.nb_man.cell_exception(cell, cell_index=index)
        self.session.error = CellError(
            ename=last.ename if last else "CellExecutionError",
            evalue=last.evalue if last else "",
            cell_index=index,
            traceback=plain_traceback(last.traceback) if last else "",
        )

    def _note_stopped(self, cell: Any, index: int, error: BaseException) -> None:
        """The cell did not end by itself: write an error output that says what happened."""
        self.nb_man.cell_exception(cell, cell_index=index)
        self.session.kernel_died = isinstance(error, DeadKernelError)
        self.session.cell_timed_out = isinstance(error, CellTimeoutError)
        name = type(error).__name__
        said = self._death() if self.session.kernel_died else str(error).strip().splitlines()[0]
        tail = self.workspace.log_tail() if self.session.kernel_died else ""
        self.session.error = CellError(ename=name, evalue=said, cell_index=index, traceback=tail)
        cell.setdefault("outputs", []).append(
            nbformat.v4.new_output("error", ename=name, evalue=said, traceback=[f"{name}: {said}", *tail.splitlines()])
        )

    def _note_failure_outside_cells(self, error: Exception) -> None:
        if self.session.error is not None:  # a consequence of what is written down already
            log.debug("after the failure", exc_info=error)
            return
        log.debug("the kernel failed outside of any cell", exc_info=error)
        self.session.error = CellError(
            ename=type(error).__name__,
            evalue=f"the kernel did not start or stopped answering: {error}",
            cell_index=None,
            traceback=self.workspace.log_tail(),
        )

    def _death(self) -> str:
        if self.session.stop_reason is not None:
            return "the kernel did not end within the time it was given and was stopped"
        process = getattr(getattr(self.km, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is None:
            return "the kernel process has gone"
        if code >= 0:
            return f"the kernel process ended by itself with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ", as it happens when the memory runs out" if name == "SIGKILL" else ""
        return f"the kernel process was ended by {name}{hint}"


def _fold_progress(outputs: list[Any]) -> None:
    """Let a progress bar that rewrites its line replace the old line, not pile up.

    A training of hours redraws its bar some hundred thousand times; the notebook is written while
    it runs.
    """
    if len(outputs) < 2:
        return
    before, new = outputs[-2:]
    if before.output_type != "stream" or before.name != new.name or not new.text.startswith("\r"):
        return
    before.text = before.text[: before.text.rfind("\n") + 1] + new.text[new.text.rfind("\r", 0, _line_end(new.text)) :]
    outputs.pop()


def _line_end(text: str) -> int:
    end = text.find("\n")
    return len(text) if end < 0 else end
