"""What the command line shows: tables, progress, JSON. Data goes to stdout, everything else to stderr.

Whatever it shows may have been written by others, so nothing but our own colours and bars reaches the terminal as a
control sequence. With ``--json`` the text is exact, for JSON has an escape for each of its characters.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from guardianflow.text.command_lines import typed
from guardianflow.text.printable import in_json, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn

    from guardianflow.core.config import Settings
    from guardianflow.runs.run_records import RunRecord

__all__ = [
    "ProgressWatch",
    "ago",
    "err",
    "log_to_stderr",
    "note_column",
    "out",
    "print_json",
    "print_lines",
    "print_table",
    "progress_line",
    "put",
    "say",
]

POLL_S = 0.5
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def out() -> Console:
    """The console for data."""
    from rich.console import Console

    return Console(highlight=False)


def err() -> Console:
    """The console for messages and progress."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A message for people, on stderr; its commands can be typed here."""
    err().print(typed(visible(text)), markup=False, soft_wrap=True)


def put(text: str) -> None:
    """A line of data on stdout, as it is but for what is invisible."""
    out().print(visible(text), markup=False, soft_wrap=True)


def log_to_stderr() -> None:
    """Show what is logged, and what other packages warn of: a line each, with commands that can be typed here."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=os.environ.get("GUARDIANFLOW_LOG", "WARNING").upper(), handlers=[handler])
    logging.captureWarnings(True)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return typed(visible(super().formatMessage(record).strip(), kept="\t"))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        return visible(super().formatException(ei))


def print_json(value: Any) -> None:
    """One JSON document on stdout; what was remarked on the way stands in its ``remarks``."""
    from guardianflow.text.remarks import made_remarks

    remarks = made_remarks()
    if remarks and isinstance(value, dict):
        value = {**value, "remarks": [*value.get("remarks", ()), *remarks]}
    sys.stdout.write(in_json(json.dumps(value, ensure_ascii=False, indent=2, default=str)) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", empty: str = "") -> None:
    """A table on stdout, or the sentence that says what to do when there is nothing to show."""
    if not rows:
        say(empty or "nothing to show")
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(visible(column)), overflow="fold", justify="left")
    for row in rows:
        table.add_row(*(Text("" if cell is None else typed(visible(cell))) for cell in row))
    console = out()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a file or a pipe has no edge to wrap at
    if title:
        console.print(Text(visible(title), style="bold"))
    console.print(table)


def print_lines(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and what belongs to them on stdout, nothing cut or broken: what stands there may be a command."""
    console = out()
    for name, text in pairs:
        console.print(visible(f"{name:<38}  {text}"), markup=False, soft_wrap=True)


def ago(moment: datetime | None, now: datetime) -> str:
    """``"3 min ago"``."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


def progress_line(state: Mapping[str, Any], *, seconds: float) -> str:
    """Where a run stands, in one line; what there is nothing to say of leaves no gap."""
    parts = (f"{state['unit']} {state['done']}/{state['total']}", state["note"], f"{seconds:.0f} s")
    return " · ".join(part for part in parts if part)


def note_column(name: str) -> ProgressColumn:
    """A column of a progress bar that shows a field of its task as text: what stands there may be of a script."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Note(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(visible(task.fields[name], kept=""))

    return Note()


class ProgressWatch:
    """Shows where a run stands while it is executed elsewhere (in a kernel): a bar, or lines.

    Args:
        settings: Where the run's record is.
        quiet: Show nothing.
        label: What the bar is called.
    """

    def __init__(self, settings: Settings, *, quiet: bool = False, label: str = "") -> None:
        self._settings = settings
        self._quiet = quiet
        self._label = label
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, record: RunRecord) -> None:
        """Begin to follow a run; given to the executor as ``on_run``."""
        if self._quiet:
            return
        say(f"run {record.run_id} · {record.folder}")
        self._thread = threading.Thread(target=self._follow, args=(record.run_id,), daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self) -> Iterator[ProgressWatch]:
        """Stop following at the end of the block."""
        try:
            yield self
        finally:
            self._stop.set()
            if self._thread is not None:
                self._thread.join(5)

    def _follow(self, run_id: str) -> None:
        from guardianflow.runs.run_records import RunRecords
        from guardianflow.state.database import Database

        records = RunRecords(Database.open(self._settings.database_url))
        console = err()
        if console.is_terminal:
            self._draw_bar(records, run_id, console)
        else:
            self._print_lines(records, run_id)

    def _draw_bar(self, records: Any, run_id: str, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        columns = (note_column("unit"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), note_column("note"))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, note="", unit=self._label or "starting the kernel")
            while not self._stop.wait(POLL_S):
                state = self._read(records, run_id)
                if state:
                    progress.update(
                        task, completed=state["done"] + state.get("part", 0), total=state["total"], note=state["note"],
                        unit=self._label or f"{state['unit']}s",
                    )  # fmt: skip

    def _print_lines(self, records: Any, run_id: str) -> None:
        seen, began, stopped = 0, time.monotonic(), False
        while not stopped:
            stopped = self._stop.wait(POLL_S)  # what was reached last is read once more
            state = self._read(records, run_id)
            if state and state["done"] > seen:
                seen = state["done"]
                say(f"  {progress_line(state, seconds=time.monotonic() - began)}")

    @staticmethod
    def _read(records: Any, run_id: str) -> Mapping[str, Any]:
        try:
            progress: Mapping[str, Any] = records.get(run_id).progress
        except Exception:  # noqa: BLE001 - a bar that can't be drawn must not end a run
            return {}
        return progress
