"""A notebook whose writer was killed: what it says is put right.

The engine writes the file at every cell, so a killed process leaves a valid notebook in which a cell
is ``running`` for ever. That cell failed; those after it never began.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from guardianflow.execution.engine.report import banner, page_of
from guardianflow.execution.engine.signing import sign
from guardianflow.files.run_folder import write_text
from guardianflow.text.printable import escape

__all__ = ["repair_notebook"]

log = logging.getLogger(__name__)

_ERROR = "ProcessDied"


def repair_notebook(path: Path, reason: str) -> list[Path]:
    """Put the states of a notebook's cells right whose process is gone; one that ended is left alone.

    Args:
        path: The executed notebook.
        reason: What happened, as the notebook shall say it.

    Returns:
        The files that were written: the notebook and its page; none where nothing was wrong, or where
        the file can't be read (the log says so).
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # noqa: BLE001 - nbformat raises what its validators raise
        log.warning("%s can't be read and stays as it is: %s", path, error)
        return []
    if notebook.metadata.get("guardianflow", {}).get("status", "running") != "running":
        return []
    stopped = [cell for cell in notebook.cells if _status(cell) == "running"]
    for cell in stopped:
        _mark_failed(cell, reason)
    notebook.metadata.setdefault("papermill", {})["exception"] = True
    notebook.metadata.setdefault("guardianflow", {})["status"] = "killed"
    notebook.cells.insert(0, banner(f"<b>The run was cut off</b>: {escape(reason)}."))
    try:
        write_text(path, nbformat.writes(notebook) + "\n")
    except OSError as error:
        log.warning("%s can't be repaired: %s", path, error.strerror or error)
        return []
    sign(path)
    page = page_of(path)
    return [path, page] if page else [path]


def _status(cell: Any) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", ""))


def _mark_failed(cell: Any, reason: str) -> None:
    import nbformat

    cell.metadata.papermill["status"] = "failed"
    cell.metadata.papermill["exception"] = True
    if cell.cell_type == "code":
        error = nbformat.v4.new_output("error", ename=_ERROR, evalue=reason, traceback=[f"{_ERROR}: {reason}"])
        cell.setdefault("outputs", []).append(error)
