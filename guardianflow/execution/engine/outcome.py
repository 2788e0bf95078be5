"""What became of a notebook: cells, events, the result, and the two errors that carry it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from guardianflow.exceptions import NotebookError, RunInterruptedError
from guardianflow.text.plain import plain

__all__ = [
    "CellError",
    "CellRecord",
    "CellStatus",
    "NotebookEvent",
    "NotebookFailedError",
    "NotebookInterruptedError",
    "NotebookResult",
    "NotebookStatus",
]

CellStatus = Literal["pending", "running", "completed", "failed"]
"""``metadata.papermill.status`` of a cell, as papermill names it."""

NotebookStatus = Literal["completed", "failed", "killed", "timeout", "interrupted", "terminated"]
"""How a notebook ended: a cell raised (failed), the kernel died (killed), the time limit was
reached (timeout), Ctrl-C (interrupted), SIGTERM or SIGHUP (terminated)."""


@dataclass(frozen=True)
class CellRecord:
    """One cell after the run.

    Attributes:
        index: Position in the executed notebook, counted before the error banner is put on top.
        status: What the saved file says of it.
        seconds: Wall-clock time, ``None`` for a cell that never began.
        rss_mb: Resident memory of the kernel process after the cell, in MB (10^6 bytes).
        execution_count: The number in ``In [n]``.
    """

    index: int
    status: CellStatus
    seconds: float | None
    rss_mb: float | None
    execution_count: int | None


@dataclass(frozen=True)
class CellError:
    """Why a notebook did not reach its end.

    Attributes:
        ename: Class name of the exception, for example ``"ZeroDivisionError"``.
        evalue: Its message.
        cell_index: The cell that ran, as in :class:`CellRecord`; ``None`` when no cell was running.
        traceback: The last lines of the traceback, without terminal colours.
    """

    ename: str
    evalue: str
    cell_index: int | None
    traceback: str


@dataclass(frozen=True)
class NotebookEvent:
    """Something that happened while a notebook ran.

    Attributes:
        kind: What happened; it says which of the other fields are set.
        cell_index: The cell (``cell-started``, ``cell-finished``, ``stream``).
        cells: How many cells the notebook has (``kernel-started``).
        pid: Process id of the kernel (``kernel-started``).
        status: How the cell ended (``cell-finished``).
        seconds: Wall-clock time of the cell (``cell-finished``).
        rss_mb: Memory of the kernel after the cell, in MB (``cell-finished``).
        stream: ``"stdout"`` or ``"stderr"`` (``stream``).
        text: What the cell printed (``stream``).
    """

    kind: Literal["kernel-started", "cell-started", "cell-finished", "stream"]
    cell_index: int | None = None
    cells: int | None = None
    pid: int | None = None
    status: CellStatus | None = None
    seconds: float | None = None
    rss_mb: float | None = None
    stream: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class NotebookResult:
    """The end of a notebook run.

    Attributes:
        notebook: The executed notebook.
        html: The page made of it, or ``None`` where none was wanted or it could not be made.
        status: How it ended.
        error: Why, unless it completed.
        cells: One record per cell.
        seconds: Wall-clock time, kernel start and shutdown included.
    """

    notebook: Path
    html: Path | None
    status: NotebookStatus
    error: CellError | None
    cells: tuple[CellRecord, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-plain form; paths as text."""
        return dict(plain(asdict(self)))


class NotebookFailedError(NotebookError):
    """A notebook failed, its kernel died or its time was up; ``result`` holds the evidence."""

    def __init__(self, message: str, result: NotebookResult) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result)


class NotebookInterruptedError(RunInterruptedError):
    """A notebook was stopped by a signal; ``result`` holds the evidence."""

    def __init__(self, message: str, result: NotebookResult, signum: int) -> None:
        super().__init__(message, signum=signum)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.result, self.signum)
