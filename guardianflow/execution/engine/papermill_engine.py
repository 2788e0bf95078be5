"""The papermill engine ``guardianflow``: truthful states, atomic writes, nothing left running.

papermill imports every engine that is declared as an entry point whenever it is imported, so this
module imports nothing heavy, and papermill itself not at all (which also avoids the circle).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from guardianflow.execution.engine.kernel_process import THIS_PYTHON, KernelWorkspace, check_kernel_name
from guardianflow.execution.engine.outcome import (
    CellRecord,
    NotebookFailedError,
    NotebookInterruptedError,
    NotebookResult,
)
from guardianflow.execution.engine.report import banner
from guardianflow.execution.engine.session import NotebookSession, SessionOptions
from guardianflow.text.printable import escape

__all__ = ["ENGINE_NAME", "GuardianFlowEngine", "raise_unless_completed", "register_engine"]

log = logging.getLogger(__name__)

ENGINE_NAME = "guardianflow"
_HEADLINES = {
    "failed": "The notebook failed",
    "killed": "The kernel of the notebook died",
    "timeout": "The notebook was stopped because its time was up",
    "interrupted": "The notebook was stopped by Ctrl-C (SIGINT)",
    "terminated": "The notebook was stopped by a signal to end (SIGTERM or SIGHUP)",
}
_ANCHOR = "papermill-error-cell"


def register_engine() -> None:
    """Make the engine known to papermill under :data:`ENGINE_NAME`."""
    from papermill.engines import papermill_engines

    papermill_engines.register(ENGINE_NAME, GuardianFlowEngine)


class GuardianFlowEngine:
    """What ``papermill.execute_notebook(engine_name="guardianflow")`` runs a notebook with.

    Works the same behind ``papermill IN OUT --engine guardianflow``; ``--execution-timeout`` counts
    for each cell there, as with papermill's own engine.
    """

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """The kernel asked for; without one, the running interpreter for a Python notebook."""
        declared = nb.metadata.get("kernelspec", {}).get("name")
        if name or cls.nb_language(nb) == "python" or not declared:
            return name or THIS_PYTHON
        return str(declared)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """The notebook's language; Python where it doesn't say."""
        declared = nb.metadata.get("language_info", {}).get("name") or nb.metadata.get("kernelspec", {}).get("language")
        return language or str(declared or "python")

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        *,
        session: NotebookSession | None = None,
        input_path: Any = None,
        progress_bar: bool | dict[str, Any] = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **client_options: Any,
    ) -> Any:
        """Run a notebook; papermill calls this.

        Raises:
            NotebookFailedError: The last state can't be written. Without a session also: the kernel
                died. (papermill itself raises for a cell's error.)
            NotebookInterruptedError: Without a session: Ctrl-C, SIGTERM or SIGHUP.
        """
        from guardianflow.execution.engine.notebook_client import NotebookClient, NotebookState

        check_kernel_name(kernel_name)
        ours = session is not None
        if session is None:
            template = Path(input_path).name if isinstance(input_path, str) else ""
            session = NotebookSession(SessionOptions(output=Path(output_path or ""), template=template))
        state = NotebookState(
            nb,
            session,
            output_path=str(session.options.output) if ours else output_path,
            log_output=log_output,
            progress_bar=progress_bar,
            autosave_cell_every=autosave_cell_every,
        )
        state.notebook_start()
        workspace = KernelWorkspace()
        try:
            with session.signals():
                client = NotebookClient(
                    state,
                    workspace,
                    kernel_name=kernel_name,
                    timeout=execution_timeout,
                    startup_timeout=start_timeout,
                    log_output=log_output,
                    **client_options,
                )
                session.run(lambda: _drive(client))
                # papermill puts its own banner on top for a cell's error when it drives.
                _finish(state, session, with_banner=ours)
        finally:
            workspace.close()
        if not ours and session.result is not None and session.result.status != "failed":
            raise_unless_completed(session.result, session.signum)
        return state.nb


def _drive(client: Any) -> None:
    """Run the client in this thread and leave no event loop behind."""
    from jupyter_core.utils import ensure_event_loop

    loop = ensure_event_loop()
    try:
        client.execute()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _finish(state: Any, session: NotebookSession, *, with_banner: bool) -> None:
    """Write down how it ended, in the notebook and in ``session.result``."""
    cells = tuple(_record(index, cell) for index, cell in enumerate(state.nb.cells))
    # A cell that ended the notebook on purpose, sys.exit(0), leaves pending cells and no error.
    reached_end = all(cell.status == "completed" for cell in cells)
    status = session.status(all_cells_ran=reached_end)
    session.result = NotebookResult(
        notebook=session.options.output,
        html=None,
        status=status,
        error=None if status == "completed" else session.reason_to_end(),
        cells=cells,
        seconds=session.seconds,
    )
    state.notebook_complete()
    state.nb.metadata["guardianflow"] |= {"status": status, "seconds": session.result.seconds}
    if status != "completed":
        state.nb.metadata.papermill["exception"] = True
        if with_banner or status != "failed":
            _add_banner(state.nb, session.result)
    try:
        state.write()
    except OSError as error:
        raise NotebookFailedError(
            f"the notebook ended as {status}, and its last state can't be written to {session.options.output} "
            f"({error.strerror or error}). Free space on the disk; an earlier state may lie there.",
            session.result,
        ) from error


def _record(index: int, cell: Any) -> CellRecord:
    measured = cell.metadata.get("guardianflow") or {}
    return CellRecord(
        index=index,
        status=cell.metadata.papermill["status"],
        seconds=measured.get("seconds"),
        rss_mb=measured.get("rss_mb"),
        execution_count=cell.get("execution_count"),
    )


def _add_banner(nb: Any, result: NotebookResult) -> None:
    """A cell on top that says what happened, and one before the cell where it did."""
    error = result.error
    where = "" if error is None or error.cell_index is None else _place(result, error.cell_index)
    why = "" if error is None else f"<br><code>{_line(error.ename)}: {_line(error.evalue)}</code>"
    if error is not None and error.cell_index is not None:
        nb.cells.insert(error.cell_index, banner("It stopped in this cell:", name=_ANCHOR))
    nb.cells.insert(0, banner(f"<b>{_HEADLINES[result.status]}</b>{where}.{why}"))


def _place(result: NotebookResult, index: int) -> str:
    count = result.cells[index].execution_count
    return f' in <a href="#{_ANCHOR}">In [{" " if count is None else count}]</a>'


def _line(text: str) -> str:
    return escape(_flat(text))


def _flat(text: str, limit: int = 500) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def raise_unless_completed(result: NotebookResult, signum: int | None) -> None:
    """Turn a result that is no success into the error that says so.

    Raises:
        NotebookFailedError: It failed, the kernel died or its time was up.
        NotebookInterruptedError: It was stopped by a signal.
    """
    if result.status == "completed":
        return
    error = result.error
    at = f" in cell {error.cell_index}" if error is not None and error.cell_index is not None else ""
    why = f": {error.ename}: {_flat(error.evalue)}" if error is not None else ""
    headline = _HEADLINES[result.status]
    message = f"{headline[0].lower()}{headline[1:]}{at}{why}. Read {result.notebook}"
    if result.status in ("interrupted", "terminated") and signum is not None:
        raise NotebookInterruptedError(message, result, signum)
    raise NotebookFailedError(message, result)
