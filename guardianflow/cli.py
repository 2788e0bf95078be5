"""The command line: every verb parses, calls one function of the library, and shows what came of it.

Exit codes: 0 done · 1 the run failed · 2 bad usage or bad input · 3 refused by a gate or for lack
of rights · 130 ended by Ctrl-C · 143 ended by SIGTERM.
"""

from __future__ import annotations

import functools
import json as json_module
import logging
import os
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from guardianflow import __version__
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.option_values import absolute_if_file, key_values, moment_of, percent

__all__ = ["app", "main"]

Params = ParamSpec("Params")

app = typer.Typer(
    name="guardianflow",
    help="The life of a vision model: train, register, promote, roll back, watch. Every step is a notebook that ran.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(help="Runs: their state, and those whose process died.", no_args_is_help=True)
metrics_app = typer.Typer(help="Measurements in the metrics store.", invoke_without_command=True)
app.add_typer(runs_app, name="runs")
app.add_typer(metrics_app, name="metrics")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; messages go to stderr.")]
Experiment = Annotated[str, typer.Option("--experiment", "-e", help="Experiment name.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is kept in the ledger.")]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Registered model name.")]
RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="Run id, or the beginning of it.")]
Direct = Annotated[bool, typer.Option("--direct", help="Run in this process, without a notebook (for debugging).")]


class Listing(StrEnum):
    """What `list` can show."""

    EXPERIMENTS = "experiments"
    RUNS = "runs"
    MODELS = "models"
    VERSIONS = "versions"


def main() -> NoReturn:
    """Entry point of the ``guardianflow`` command."""
    logging.basicConfig(level=os.environ.get("GUARDIANFLOW_LOG", "WARNING").upper(), format="%(levelname)s %(message)s")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _verb(function: Callable[Params, None]) -> Callable[Params, None]:
    """Turn our errors into one sentence and an exit code, and with --json into a document too."""

    @functools.wraps(function)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except GuardianFlowError as error:
            _report(error, as_json=bool(kwargs.get("json")))
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return wrapped


def _report(error: GuardianFlowError, *, as_json: bool) -> None:
    from guardianflow.console import print_json, say

    say(f"error: {error}")
    if as_json:
        document: dict[str, Any] = {
            "error": {"type": type(error).__name__, "message": str(error)},
            "exit_code": error.exit_code,
        }
        result = getattr(error, "result", None)
        if result is not None:
            document["notebook"] = result.to_dict()
        print_json(document)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"guardianflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Nothing of its own: the options above apply to every verb."""


@app.command()
@_verb
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make the workspace in.")],
    json: Json = False,
) -> None:
    """Make a workspace: guardianflow.toml, scenarios/, notebooks/, .gitignore."""
    from guardianflow.console import print_json, say
    from guardianflow.workspace import create_workspace

    made = create_workspace(folder)
    if json:
        print_json(made.to_dict())
        return
    for path in made.created:
        say(f"made  {path}")
    for path in made.kept:
        say(f"kept  {path}")
    say(f"next: cd {shlex.quote(str(folder))} && guardianflow doctor")


@app.command()
@_verb
def doctor(json: Json = False) -> None:
    """Show every setting and where it came from, and check what the product needs."""
    from guardianflow.core.config import Settings
    from guardianflow.doctor import examine, render

    report = examine(Settings())
    if json:
        from guardianflow.console import print_json

        print_json(report.to_dict())
    else:
        render(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
@_verb
def demo(
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="Where the demo's runs go (default: the settings' work_dir).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Do everything anew instead of reusing an earlier demo.")
    ] = False,
    json: Json = False,
) -> None:
    """Train two small models on generated scenes, register, promote, roll back, promote again."""
    from guardianflow.console import print_json
    from guardianflow.core.config import Settings
    from guardianflow.demo import run_demo

    settings = Settings() if work_dir is None else Settings(work_dir=work_dir)
    story = run_demo(settings, fresh=fresh, quiet=json)
    if json:
        print_json(story)


@app.command()
@_verb
def train(
    data: Annotated[str | None, typer.Option("--data", help="An Ultralytics data.yaml.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Weights file, model YAML, a known name such as yolo11n.yaml, or models:/NAME@champion."
        ),
    ] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Experiment name.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 100,
    batch: Annotated[int | None, typer.Option(help="Images per step.  [default: 16]", show_default=False)] = None,
    imgsz: Annotated[int, typer.Option(help="Side of the square input, in pixels.")] = 640,
    device: Annotated[str | None, typer.Option(help='"cpu", "0", "0,1"; left out, the best one is chosen.')] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes that load images.  [default: 8]", show_default=False)
    ] = None,
    patience: Annotated[int, typer.Option(help="Epochs without improvement before stopping; 0 never stops.")] = 100,
    register_as: Annotated[str, typer.Option("--register-as", metavar="NAME", help="Register the best weights.")] = "",
    allow_bad: Annotated[str, typer.Option("--allow-bad", metavar="N%", help="Leave out up to N% bad images.")] = "0",
    new_head: Annotated[bool, typer.Option("--new-head", help="Start from weights of other classes.")] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Further training option, such as mosaic=0.0."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN_ID", help="Go on with an interrupted run.")
    ] = None,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Train a detector: a run in MLflow, an executed notebook, weights, curves and samples."""
    from guardianflow.scenario.factory import plan_resume, plan_run

    if resume:
        changes = {"device": device, "batch": batch, "workers": workers}
        plan = plan_resume(_record(resume), **changes)
    else:
        _require({"--data": data, "--model": model, "--experiment": experiment})
        plan = plan_run(
            "train",
            experiment_name=experiment,
            model_arch=absolute_if_file(model or ""),
            data_yaml=str(Path(data or "").expanduser().absolute()),
            epochs=epochs,
            batch=16 if batch is None else batch,
            imgsz=imgsz,
            device=device or "",
            seed=seed,
            workers=8 if workers is None else workers,
            patience=patience,
            register_as=register_as,
            allow_bad=percent(allow_bad),
            new_head=new_head,
            options=key_values(options or []),
        )
    _execute(plan, direct=direct, as_json=json)


@app.command("run")
@_verb
def run_(
    again: Annotated[str | None, typer.Option("--again", metavar="RUN_ID", help="The run to repeat.")] = None,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Execute a recorded run once more, from its parameters, as a new run."""
    from guardianflow.scenario.factory import plan_again

    _require({"--again": again})
    _execute(plan_again(_record(again or "")), direct=direct, as_json=json)


@app.command()
@_verb
def register(
    name: ModelName,
    run: Annotated[str, typer.Option("--run", metavar="RUN_ID", help="The run whose weights are registered.")],
    artifact: Annotated[str, typer.Option("--artifact", help="Which of its artifacts.")] = "weights/best.pt",
    json: Json = False,
) -> None:
    """Register a run's weights as a new version and make it the candidate."""
    from guardianflow.core.registry import ModelRegistry

    version = ModelRegistry().register(name, _full_run_id(run), artifact=artifact)
    _show_version(version, f"{version.name} version {version.version} is the candidate", as_json=json)


@app.command()
@_verb
def promote(
    name: ModelName,
    version: Annotated[str | None, typer.Argument(help="Version; left out, the candidate.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote against the gate; needs --reason.")] = False,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Put a version in charge: it becomes the champion, the old champion the rollback."""
    from guardianflow.core.registry import ModelRegistry

    if force and not reason:
        raise InputError("--force needs --reason, so that the ledger says why")
    promoted = ModelRegistry().promote(name, version, force=force, reason=reason)
    _show_version(promoted, f"{promoted.name} version {promoted.version} is the champion", as_json=json)


@app.command()
@_verb
def rollback(name: ModelName, reason: Reason = None, json: Json = False) -> None:
    """Put the version before the champion back in charge."""
    from guardianflow.core.registry import ModelRegistry

    version = ModelRegistry().rollback(name, reason=reason)
    _show_version(version, f"{version.name} is back on version {version.version}", as_json=json)


@app.command()
@_verb
def reject(
    name: ModelName,
    version: Annotated[str, typer.Argument(help="Version.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")],
    json: Json = False,
) -> None:
    """Mark a version as not to be promoted."""
    from guardianflow.core.registry import ModelRegistry

    rejected = ModelRegistry().reject(name, version, reason=reason)
    _show_version(rejected, f"{rejected.name} version {rejected.version} is rejected", as_json=json)


@app.command()
@_verb
def delete(
    name: ModelName,
    version: Annotated[str, typer.Argument(help="Version; one that is champion, candidate or rollback is refused.")],
    json: Json = False,
) -> None:
    """Delete a version here and in MLflow; its run and its line in the ledger stay."""
    from guardianflow.core.registry import ModelRegistry

    deleted = ModelRegistry().delete(name, version)
    _show_version(deleted, f"{deleted.name} version {deleted.version} is deleted", as_json=json)


@app.command()
@_verb
def download(
    name: ModelName,
    version: Annotated[str, typer.Option("--version", help="Version or alias.")] = "champion",
    to: Annotated[Path | None, typer.Option("--to", metavar="PATH", help="File or folder to write to.")] = None,
    json: Json = False,
) -> None:
    """Fetch a version's file, checked by its hash; prints where it lies."""
    from guardianflow.console import print_json
    from guardianflow.core.registry import ModelRegistry

    path = ModelRegistry().download(name, version, to)
    if json:
        print_json({"name": name, "version": version, "path": str(path)})
    else:
        typer.echo(str(path))


@app.command("list")
@_verb
def list_(
    what: Annotated[Listing, typer.Argument(help="What to list.")] = Listing.RUNS,
    name: Annotated[str | None, typer.Argument(help="For versions: the model name.")] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Only runs of this experiment.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="Only runs with this status.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    json: Json = False,
) -> None:
    """List experiments, runs, models, or the versions of a model."""
    from guardianflow import listing
    from guardianflow.console import print_json, print_table
    from guardianflow.core.config import Settings

    if what is Listing.VERSIONS and not name:
        raise InputError("say which model: guardianflow list versions NAME (`guardianflow list models` shows them)")
    table = listing.TABLES[what.value](
        Settings(), listing.Filters(name=name, experiment=experiment, status=status, limit=limit)
    )
    if json:
        print_json({what.value: table.items})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


@app.command()
@_verb
def history(
    name: ModelName,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Who was champion at this time (ISO 8601)?")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many events.", min=1)] = None,
    json: Json = False,
) -> None:
    """Show a model's ledger: who changed what, when, why and on what evidence."""
    from guardianflow import listing
    from guardianflow.console import print_json, print_table, say
    from guardianflow.core.registry import ModelRegistry

    registry = ModelRegistry()
    if at:
        moment = moment_of(at)
        champion = registry.champion_at(name, moment)
        if json:
            print_json({"name": name, "at": moment.isoformat(), "champion": champion.to_dict() if champion else None})
        else:
            version = champion.version if champion else "none"
            say(f"champion of {name} at {moment:%Y-%m-%d %H:%M:%S %Z}: {version}")
        return
    table = listing.history_table(registry.history(name, limit=limit))
    if json:
        print_json({"name": name, "history": table.items})
    else:
        print_table(table.columns, table.rows, title=name, empty=table.empty)


@runs_app.command("reap")
@_verb
def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False, json: Json = False
) -> None:
    """End the runs whose process died, and send what MLflow missed."""
    from guardianflow.console import print_json, say
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


@runs_app.command("show")
@_verb
def show(run_id: RunId, json: Json = False) -> None:
    """Show one run: state, parameters, files."""
    from guardianflow.console import print_json, print_table

    record = _record(run_id)
    if json:
        print_json(record.to_dict())
        return
    rows = [
        (key, json_module.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)
        for key, value in record.to_dict().items()
        if value not in (None, {}, "")
    ]
    print_table(("run", record.run_id), rows)


def _query(
    context: typer.Context,
    metric: Annotated[list[str] | None, typer.Option("--metric", "-m", help="Metric name; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Registered model name.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Site name.")] = None,
    experiment: Annotated[str | None, typer.Option("--experiment", "-e", help="Experiment name.")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Run id.")] = None,
    start: Annotated[str | None, typer.Option("--start", metavar="TIME", help="From this time on (ISO 8601).")] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Before this time (ISO 8601).")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 50,
    invalid: Annotated[bool, typer.Option("--invalid", help="Show values that are no numbers, too.")] = False,
    json: Json = False,
) -> None:
    """Query the metrics store."""
    if context.invoked_subcommand is not None:
        return
    from guardianflow import listing
    from guardianflow.console import print_json, print_table
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.metrics_store import MetricsStore

    frame = MetricsStore(Settings().database_url).query_metrics(
        metric=metric,
        model=model,
        site=site,
        experiment=experiment,
        run_id=_full_run_id(run) if run else None,
        start=moment_of(start) if start else None,
        end=moment_of(end) if end else None,
        limit=limit,
        include_invalid=invalid,
    )
    table = listing.metrics_table(frame)
    if json:
        print_json({"metrics": table.items})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


metrics_app.callback(invoke_without_command=True)(_verb(_query))
metrics_app.command("query")(_verb(_query))


def _execute(plan: Any, *, direct: bool, as_json: bool) -> None:
    from guardianflow.console import ProgressWatch, print_json
    from guardianflow.core.config import Settings
    from guardianflow.execution.executors import LocalExecutor
    from guardianflow.listing import show_outcome

    settings = Settings()
    with ProgressWatch(settings).watching() as watch:
        outcome = LocalExecutor(settings, direct=direct, on_run=watch.start).execute(plan)
    if as_json:
        print_json(outcome.to_dict())
    else:
        show_outcome(outcome)


def _show_version(version: Any, sentence: str, *, as_json: bool) -> None:
    from guardianflow.console import print_json, say

    if as_json:
        print_json(version.to_dict())
    else:
        say(sentence)


def _record(run_id: str) -> Any:
    from guardianflow.core.runner import find_run

    return find_run(run_id)


def _full_run_id(run_id: str) -> str:
    """Runs of ours may be named by the beginning of their id; other ids are passed on as they are."""
    from guardianflow.exceptions import NotFoundError

    try:
        return str(_record(run_id).run_id)
    except NotFoundError:
        return run_id


def _require(options: dict[str, str | None]) -> None:
    missing = [name for name, value in options.items() if not value]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given; --help shows how")
