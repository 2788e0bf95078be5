"""The verb batch: many scenario files, one progress over all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from guardianflow.console import err, note_column, print_json, print_table, say
from guardianflow.verbs.execution import headline, say_notes
from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.core.config import Settings
    from guardianflow.execution.batch import Batch, BatchRow

__all__ = ["AtOnce", "Executor", "RayAddress", "batch"]

AtOnce = Annotated[int, Option("--at-once", metavar="N", min=1, help="How many run at the same time.")]
Executor = Annotated[str, Option("--executor", metavar="NAME", help="local, or ray: a job each on a Ray cluster.")]
RayAddress = Annotated[
    str, Option("--address", metavar="URL", help="Of the Ray cluster's dashboard, such as http://HEAD:8265.")
]

_POLL_S = 0.5


@verb
def batch(
    places: Annotated[list[Path], Argument(metavar="FOLDER|FILE…", help="Scenario files, or folders of them.")],
    changes: Annotated[
        list[str] | None, Option("--set", metavar="FIELD=VALUE", help="Change of each scenario, such as run.epochs=3.")
    ] = None,
    at_once: AtOnce = 1,
    executor: Executor = "local",
    address: RayAddress = "",
    json: Json = False,
) -> None:
    """Execute many scenario files; all are read before the first begins, and one that fails holds up no other."""
    from guardianflow.core.config import Settings
    from guardianflow.execution.batch import Batch

    settings, asked = Settings(), Batch.read(places, changes or ())
    with _watching(asked, settings) as tell:
        asked.run(settings, executor=executor, at_once=at_once, address=address, on_change=tell.changed)
    remarks = [
        f"{row.file}: {text}" for row in asked.rows if row.outcome for text in row.outcome.result.get("remarks", ())
    ]
    say_notes(remarks, rest="--json and the pages list all")
    if json:
        print_json({**asked.to_dict(), "remarks": remarks})
    else:
        _show(asked)
    if asked.exit_code:
        raise Exit(asked.exit_code)


def _show(done: Batch) -> None:
    rows = [
        (str(row.file), row.plan.kind, row.plan.experiment_name, row.status, _figures(row), _seconds(row), row.run_id)
        for row in done.rows
    ]
    columns = ("file", "kind", "experiment", "status", "figures", "time", "run")
    said = ", ".join(f"{count} {status}" for status in ("finished", "failed", "refused", "cancelled")
                     if (count := done.count(status)))  # fmt: skip
    print_table(columns, rows, title=f"{len(rows)} scenarios · {said} · {done.seconds:.0f} s")
    for row in done.rows:
        if row.error is not None:
            say(f"{row.status}  {row.file}: {row.error}")


def _figures(row: BatchRow) -> str:
    return headline(row.outcome.result) if row.outcome else ""


def _seconds(row: BatchRow) -> str:
    return f"{row.outcome.seconds:.0f} s" if row.outcome else ""


class _Watch:
    """Shows how far all of them are: a bar with what runs now, or a line each time that something changes."""

    def __init__(self, rows: Sequence[BatchRow], settings: Settings) -> None:
        self._rows = rows
        self._settings = settings
        self._turn = threading.Lock()
        self.draws = err().is_terminal
        self.stop = threading.Event()

    def changed(self, row: BatchRow) -> None:
        """A run has begun or ended; told in any thread."""
        if self.draws:
            return
        done = sum(each.status not in {"waiting", "running"} for each in self._rows)
        with self._turn:
            say(f"  {done}/{len(self._rows)} · {row.status} · {row.file}{f' · run {row.run_id}' if row.run_id else ''}")

    def draw(self) -> None:
        """Draw the bar until :attr:`stop`."""
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.fields[done]}/{task.total:.0f}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            note_column("note"),
        )  # fmt: skip
        with Progress(*columns, console=err(), transient=True) as progress:
            task = progress.add_task("", total=len(self._rows), done=0, note="")
            while not self.stop.wait(_POLL_S):
                ended = sum(row.status not in {"waiting", "running"} for row in self._rows)
                states = {row: self._state(row) for row in list(self._rows) if row.status == "running"}
                known = [state for state in states.values() if state.get("total")]
                parts = sum(min(1.0, (state["done"] + state.get("part", 0)) / state["total"]) for state in known)
                note = " · ".join(_line(row, state) for row, state in states.items())
                progress.update(task, completed=ended + parts, done=ended, note=note)

    def _state(self, row: BatchRow) -> Mapping[str, Any]:
        from guardianflow.runs.run_records import RunRecords
        from guardianflow.state.database import Database

        try:
            state: Mapping[str, Any] = RunRecords(Database.open(self._settings.database_url)).get(row.run_id).progress
        except Exception:  # noqa: BLE001 - a bar that can't be drawn must not end a run
            return {}
        return state


def _line(row: BatchRow, state: Mapping[str, Any]) -> str:
    return f"{row.file.name} {state['unit']} {state['done']}/{state['total']}" if state else row.file.name


@contextmanager
def _watching(asked: Batch, settings: Settings) -> Iterator[_Watch]:
    watch = _Watch(asked.rows, settings)
    thread = threading.Thread(target=watch.draw, daemon=True) if watch.draws else None
    if thread:
        thread.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        if thread:
            thread.join(5)
