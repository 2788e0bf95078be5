"""The verb that looks through what people already have: scan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from guardianflow.console import err, print_json, print_table, say
from guardianflow.text.command_lines import command
from guardianflow.verbs.execution import Remarks, say_notes
from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.adapters.scan.findings import ScanReport

__all__ = ["scan"]

_REGISTRY_FILE = "experiments.yaml"
_SHOWN = 40
_NOTES = 4


@verb
def scan(
    folder: Annotated[Path, Argument(metavar="DIR", help="What to look through; nothing in it is run.")],
    write: Annotated[
        Path | None,
        Option("--write", metavar="FILE", help="Add what is found to this experiments.yaml; your edits stay."),
    ] = None,
    import_runs: Annotated[
        bool, Option("--import-runs", help="Bring finished runs into MLflow and the metrics store.")
    ] = False,
    experiment: Annotated[str, Option("--experiment", "-e", help="With --import-runs: into this experiment.")] = "",
    min_score: Annotated[float, Option("--min-score", help="Least score of a script, 0 to 1.")] = 0.5,
    include_ignored: Annotated[
        bool, Option("--include-ignored", help="Look at what .gitignore leaves out, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Find training scripts, datasets, weights and finished runs by reading, never by running."""
    from guardianflow.adapters.scan.scan import scan_folder

    with _counting("files") as count:
        report = scan_folder(folder, include_ignored=include_ignored, min_score=min_score, on_progress=count)
    document: dict[str, Any] = {"scan": report.to_dict()}
    if not json:
        _show_scan(report)
    if write is not None:
        document["experiments"] = _write_entries(write, report, quiet=json)
    if import_runs:
        document["imported"] = _import(report, experiment, quiet=json)
    if json:
        print_json(document)


@contextmanager
def _counting(unit: str) -> Iterator[Any]:
    """A number that grows on the terminal while something is looked through."""
    console = err()
    if not console.is_terminal:
        yield None
        return
    with console.status(f"0 {unit}") as status:
        yield lambda count: status.update(f"{count:,} {unit}")


def _show_scan(report: ScanReport) -> None:
    for title, columns, rows in report.tables():
        if rows or title == "Scripts":
            print_table(columns, rows[:_SHOWN], title=title, empty="no training script was found")
        if len(rows) > _SHOWN:
            say(f"and {len(rows) - _SHOWN} more; --json lists all")
    say(f"{report.files:,} files in {report.folders:,} folders, {report.seconds:.1f} s; nothing was run")


def _write_entries(path: Path, report: ScanReport, *, quiet: bool) -> dict[str, Any]:
    from guardianflow.adapters.experiment_registry import ExperimentRegistry

    update = ExperimentRegistry(path).enter(report)
    if not quiet:
        say(f"{path}: {len(update.added)} added, {len(update.missing)} missing, {len(update.unchanged)} as they were")
        for script, reason in update.left_out:
            say(f"left out   {script}: {reason}")
        Remarks().show(update.remarks)
        if update.added:
            where = [] if path == Path(_REGISTRY_FILE) else ["--experiments", str(path)]
            say(f"next: {command('wrap', '--experiment', update.added[0], *where, '--dry-run')}")
    return update.to_dict()


def _import(report: ScanReport, experiment: str, *, quiet: bool) -> dict[str, Any]:
    from guardianflow.adapters.finished_runs.run_import import import_runs
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.metrics_store import MetricsStore

    settings = Settings()
    with _counting("findings") as count:
        on_progress = None if count is None else lambda number, _total: count(number)
        done = import_runs(
            report,
            settings=settings,
            sink=MetricsStore(settings.database_url),
            experiment=experiment,
            on_progress=on_progress,
        )
    if not quiet:
        rows = [(row.kind, row.name, row.run_id, row.epochs, str(row.path)) for row in done.imported]
        print_table(("kind", "run", "run id", "epochs", "folder"), rows, title="Imported", empty="no new run to import")
        say(done.summary())
    for row in done.imported[:_SHOWN]:
        say_notes([f"{row.name}: {text}" for text in row.remarks], most=_NOTES, rest="--json lists all")
    if not quiet:
        for path, reason in done.failed:
            say(f"failed  {path}: {reason}")
        for row in done.imported[:1]:
            say(f"next: {row.register_command or f'guardianflow metrics --run {row.run_id}'}")
    return done.to_dict()
