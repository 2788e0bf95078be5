"""Verbs that look things up: list, runs."""

from __future__ import annotations

import json as json_module
import sys
from enum import StrEnum
from typing import Annotated

from typer import Argument, Option, Typer

from guardianflow.console import print_json, print_table, say
from guardianflow.exceptions import InputError
from guardianflow.verbs.frame import Json, RunId, record_of, verb

__all__ = ["list_", "runs_app"]


runs_app = Typer(name="runs", help="Runs: their state, and those whose process died.", no_args_is_help=True)


class Listing(StrEnum):
    """What `list` can show."""

    EXPERIMENTS = "experiments"
    RUNS = "runs"
    MODELS = "models"
    VERSIONS = "versions"


@verb
def list_(
    what: Annotated[Listing, Argument(help="What to list.")] = Listing.RUNS,
    name: Annotated[str | None, Argument(help="For versions: the model name.")] = None,
    experiment: Annotated[str | None, Option("--experiment", "-e", help="Only runs of this experiment.")] = None,
    status: Annotated[str | None, Option("--status", help="Only runs with this status.")] = None,
    limit: Annotated[int, Option(help="At most so many.", min=1)] = 50,
    cells: Annotated[bool, Option("--cells", help="Show the cells of benchmarks, too.")] = False,
    json: Json = False,
) -> None:
    """List experiments, runs, models, or the versions of a model."""
    from guardianflow import listing
    from guardianflow.core.config import Settings

    if what is Listing.VERSIONS and not name:
        raise InputError("say which model: guardianflow list versions NAME (`guardianflow list models` shows them)")
    table = listing.TABLES[what.value](
        Settings(), listing.Filters(name=name, experiment=experiment, status=status, limit=limit, cells=cells)
    )
    if json:
        print_json({what.value: table.items, **({"remarks": list(table.remarks)} if table.remarks else {})})
    else:
        print_table(table.columns, table.rows, empty=table.empty)
    for remark in table.remarks:
        say(f"note      {remark}")


@runs_app.command("reap")
@verb
def reap(dry_run: Annotated[bool, Option("--dry-run", help="Only say which.")] = False, json: Json = False) -> None:
    """End the runs whose process died, and send what MLflow missed."""
    from guardianflow.core.config import Settings
    from guardianflow.execution.reaping import reap_runs

    report = reap_runs(Settings(), dry_run=dry_run)
    if json:
        print_json(report.to_dict())
        return
    for record in report.ended:
        say(f"{'would end' if dry_run else 'ended'} {record.run_id} · {record.kind} · {record.experiment}")
    for sentence in report.sentences():
        say(sentence)


@runs_app.command("prune")
@verb
def prune(
    yes: Annotated[bool, Option("--yes", help="Do it; without, it is only shown.")] = False,
    days: Annotated[float, Option(help="Keep interrupted runs that can go on for so many days.", min=0)] = 14,
    json: Json = False,
) -> None:
    """Remove weights and other files of runs that no version and no evidence needs; what tells of a run stays."""
    from guardianflow.core.config import Settings
    from guardianflow.execution.run_pruning import prune_runs
    from guardianflow.text.units import file_size

    shown = sys.stderr.isatty() and not json
    report = prune_runs(Settings(), dry_run=not yes, resumable_days=days, shows_progress=shown)
    if json:
        print_json(report.to_dict())
        return
    rows = [
        (row["kind"], row["what"], row["runs"], file_size(row["folder"]), file_size(row["artifacts"]))
        for row in report.by_kind()
    ]
    if rows:
        print_table(("kind", "what", "runs", "in their folders", "in MLflow"), rows)
    for sentence in report.sentences():
        say(sentence)


@runs_app.command("show")
@verb
def show(run_id: RunId, json: Json = False) -> None:
    """Show one run: state, parameters, files."""
    record = record_of(run_id)
    if json:
        print_json(record.to_dict())
        return
    rows = [
        (key, json_module.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)
        for key, value in record.to_dict().items()
        if value not in (None, {}, "")
    ]
    print_table(("run", record.run_id), rows)
