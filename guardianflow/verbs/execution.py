"""How a verb executes a plan, and what it says of the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guardianflow.console import ProgressWatch, print_json, print_table, say
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    from guardianflow.execution.executors import RunOutcome
    from guardianflow.runs.run_records import RunRecord

__all__ = ["Remarks", "execute_plan", "headline", "say_notes"]

_HEADLINE = (
    "map50", "map50_95", "precision", "recall", "hota", "latency_ms_p50", "latency_ms_p95", "throughput_fps",
    "model_size_mb", "wall_seconds", "cpu_seconds", "peak_rss_mb",
)  # fmt: skip
_OWN = 12
_IN_A_LINE = 2
_REMARKS = 12


def execute_plan(
    plan: Any, *, direct: bool, as_json: bool, draws_bar: bool = True, on_run: Callable[[RunRecord], None] | None = None
) -> None:
    """Execute a plan with progress on stderr, and show the outcome or print it as JSON.

    Args:
        plan: What to execute.
        direct: Without a notebook.
        as_json: Print the outcome as one JSON document.
        draws_bar: Show where the run stands. ``False`` where the run has an output of its own.
        on_run: Told the record of the run as soon as there is one.
    """
    from guardianflow.core.config import Settings
    from guardianflow.execution.executors import LocalExecutor

    settings = Settings()
    with ProgressWatch(settings, quiet=direct or not draws_bar).watching() as watch:  # a direct run draws its own bar

        def begin(record: RunRecord) -> None:
            watch.start(record)
            if on_run is not None:
                on_run(record)

        remarks = Remarks()
        outcome = LocalExecutor(settings, direct=direct, on_run=begin, on_remarks=remarks.show).execute(plan)
    remarks.show(outcome.result.get("remarks", ()))
    if as_json:
        print_json(outcome.to_dict())
    else:
        _show_outcome(outcome)


class Remarks:
    """Remarks on the terminal, each once and a few at most: those of the check before the run, the others after it."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, remarks: Sequence[str]) -> None:
        """Show those that were not shown yet."""
        new = [text for text in dict.fromkeys(remarks) if text not in self._shown]
        self._shown.update(new)
        say_notes(new)


def say_notes(remarks: Sequence[str], *, most: int = _REMARKS, rest: str = "--json and the page list all") -> None:
    """Remarks on the terminal, a line each and so many at most; ``rest`` says where the others are."""
    for text in remarks[:most]:
        say(f"note      {printable(text, longest=1000)}")
    if len(remarks) > most:
        say(f"note      and {len(remarks) - most} more; {rest}")


def headline(result: Mapping[str, Any]) -> str:
    """The first figures of a run's result, in a line."""
    from guardianflow.views.result_page import format_metric

    names = _headline_names(result)[:_IN_A_LINE]
    return " · ".join(f"{name} {format_metric(name, result['metrics'][name])}" for name in names)


def _headline_names(result: Mapping[str, Any]) -> list[str]:
    own = [name for name in result.get("histories", ()) if name not in _HEADLINE]  # of a wrapped script
    return [name for name in (*own[:_OWN], *_HEADLINE) if name in result.get("metrics", {})]


def _show_outcome(outcome: RunOutcome) -> None:
    """What a person wants to know after a run."""
    from guardianflow.views.result_page import format_metric

    metrics = outcome.result.get("metrics", {})
    cells = outcome.result.get("cells")
    if cells:
        from guardianflow.runners.inference.result import cell_columns, cell_line

        print_table(cell_columns(), [cell_line(row) for row in cells], title=f"{outcome.experiment} · {outcome.kind}")
    if outcome.result.get("trials"):
        from guardianflow.execution.sweep_result import trial_lines

        columns, lines = trial_lines(outcome.result["trials"], str(outcome.result["metric"]))
        print_table(columns, lines, title=f"{outcome.experiment} · {outcome.kind}")
    title = f"{outcome.experiment} · {outcome.kind} · {outcome.status.lower()}"
    table = outcome.result.get("table")
    if table:
        print_table(table["columns"], table["rows"], title=title)
    else:
        rows = [(name, format_metric(name, metrics[name])) for name in _headline_names(outcome.result)]
        print_table(("metric", "value"), rows, title=title)
    if outcome.result.get("verdict"):
        say(str(outcome.result["verdict"]))
    say(f"run       {outcome.run_id}")
    if outcome.result.get("model_uri"):
        say(f"model     {outcome.result['model_uri']}")
    if outcome.html or outcome.notebook:
        say(f"notebook  {outcome.notebook}")
        say(f"page      {outcome.html}")
