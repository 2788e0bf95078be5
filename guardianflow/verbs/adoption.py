"""Verbs for what people already have: wrap a script, scan a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from guardianflow.exceptions import GuardianFlowError, InputError, RunFailedError, RunInterruptedError
from guardianflow.scenario.schema import WrapScenario
from guardianflow.text.units import file_size
from guardianflow.verbs.asked_options import Given, asks
from guardianflow.verbs.frame import Direct, Json, verb

if TYPE_CHECKING:
    from guardianflow.adapters.generic_wrapper import GenericWrapper
    from guardianflow.adapters.scan.findings import ScanReport
    from guardianflow.adapters.wrap.preview import WrapPreview
    from guardianflow.runs.run_records import RunRecord

__all__ = ["WrapCommand", "scan", "wrap"]

_SCRIPT_ARGS = "guardianflow.script_args"
_REGISTRY_FILE = "experiments.yaml"
_SHOWN = 40
_NOTES = 4


class WrapCommand(TyperCommand):
    """A command whose words after ``--`` belong to somebody else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set the script's own words aside."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_SCRIPT_ARGS] = args[place + 1 :]
        parsed: list[str] = super().parse_args(ctx, args[:place])
        return parsed


@verb
@asks(WrapScenario)
def wrap(
    context: typer.Context,
    given: Given,
    script: Annotated[
        str | None, typer.Argument(metavar="[SCRIPT]", help="A Python file, notebook, shell script or program.")
    ] = None,
    needed: Annotated[
        bool, typer.Option("--needed", help="Skip it where the same code, arguments and data ended well before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run and kept; run nothing.")] = False,
    sample: Annotated[
        Path | None, typer.Option("--sample", metavar="LOG", help="With --dry-run: look for metrics in this log.")
    ] = None,
    experiments: Annotated[
        Path,
        typer.Option(
            "--experiments", metavar="FILE", help="Without SCRIPT: where the entry that --experiment names is."
        ),
    ] = Path(_REGISTRY_FILE),
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Run a script of yours as it is, as a tracked run; its own arguments follow after --."""
    from guardianflow.execution.executors import make_runner
    from guardianflow.scenario.factory import plan_run

    words: list[str] = context.meta.get(_SCRIPT_ARGS, [])
    if script:
        folder = Path(given.get("working_dir", "")).expanduser().absolute()
        name = given.get("experiment_name") or Path(script).stem
        asked = {**given, "experiment_name": name, "script_path": script, "working_dir": str(folder), "args": words}
    else:
        asked = {**given, **_of_entry(experiments, words, given)}
    if sample is not None and not dry_run:
        raise InputError("--sample belongs to --dry-run; to take metrics from files while it runs use --metric-file")
    plan = plan_run("wrap", **asked)
    wrapper: Any = make_runner(plan, settings=_settings())
    if dry_run:
        _show_preview(wrapper.preview(sample), as_json=json)
        return
    if needed and _done_before(wrapper, as_json=json):
        return
    _execute(plan, direct=direct, as_json=json)


def _settings() -> Any:
    from guardianflow.core.config import Settings

    return Settings()


def _of_entry(path: Path, words: list[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of experiments.yaml asks for.

    Raises:
        InputError: Neither a script nor an entry was named.
        NotFoundError: No such entry.
    """
    from guardianflow.adapters.experiment_registry import ExperimentRegistry

    name = given.get("experiment_name")
    if not name:
        raise InputError(
            "say what to run: guardianflow wrap train.py -- ARGS, or --experiment NAME for an entry of experiments.yaml"
        )
    registry = ExperimentRegistry(path)
    entry = registry.get(name)
    where = registry.paths(entry)
    return {
        "experiment_name": entry.name,
        "script_path": where.script,
        "working_dir": str(where.working_dir),
        "args": [*entry.args, *words],
        "module": entry.module,
        "artifact_patterns": given.get("artifact_patterns") or list(entry.outputs),
        "experiments_file": str(registry.path),
        "entry": entry.name,
    }


def _execute(plan: Any, *, direct: bool, as_json: bool) -> None:
    """Execute the plan with the script's output on the terminal; show what is known of a script that failed.

    Raises:
        ScriptFailedError: It ended badly.
    """
    from guardianflow.console import say
    from guardianflow.verbs.execution import execute_plan

    begun: list[RunRecord] = []

    def note(record: RunRecord) -> None:
        begun.append(record)
        say(f"run {record.run_id} · {record.folder}")

    try:
        with _live_output(as_json=as_json):
            execute_plan(plan, direct=direct, as_json=as_json, draws_bar=False, on_run=note)
    except RunInterruptedError:
        raise
    except RunFailedError as error:
        _raise_with_result(error, begun)


@contextmanager
def _live_output(*, as_json: bool) -> Iterator[None]:
    """The script's output on this terminal while it runs; with --json, all of it on stderr."""
    from guardianflow.processes.supervision.live_output import LiveOutput

    with LiveOutput(sys.stderr.buffer if as_json else sys.stdout.buffer, sys.stderr.buffer) as live:
        before = {name: os.environ.get(name) for name in live.environment}
        os.environ.update(live.environment)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _raise_with_result(error: RunFailedError, begun: list[RunRecord]) -> None:
    """The script's own end instead of the notebook's, where the run wrote it down."""
    from guardianflow.adapters.wrap.results import WrapResult
    from guardianflow.console import say
    from guardianflow.exceptions import ScriptFailedError
    from guardianflow.files.run_folder import read_result
    from guardianflow.verbs.execution import say_notes

    try:
        result = WrapResult.from_dict(read_result(begun[0].folder))
    except (IndexError, KeyError, TypeError, ValueError, GuardianFlowError):
        raise error from None
    if result.ok:
        raise error
    say_notes(result.remarks)
    page = begun[0].folder / "wrap.html"
    if page.is_file():
        say(f"page      {page}")
    raise ScriptFailedError(f"run {result.run_id}: {result.reason}", result=result) from error


def _done_before(wrapper: GenericWrapper, *, as_json: bool) -> bool:
    """Whether the same was done before; if so, that run is shown."""
    from guardianflow.console import print_json, say

    wrapper.check()
    done = wrapper.already_done()
    if done is None:
        return False
    say(f"not needed: run {done.run_id} of {done.started:%Y-%m-%d %H:%M} UTC did the same and ended well")
    if as_json:
        print_json({"needed": False, "run_id": done.run_id, "status": done.status, "experiment": done.experiment})
    return True


def _show_preview(preview: WrapPreview, *, as_json: bool) -> None:
    from guardianflow.console import print_json, print_table, say

    if as_json:
        print_json(preview.to_dict())
        return
    say(f"would run  {preview.command}")
    say(f"in         {preview.working_dir}")
    rows = [(name, str(value), preview.origins.get(name, "")) for name, value in preview.parameters.items()]
    print_table(("parameter", "value", "from"), rows, title="Parameters", empty="no parameters found in its text")
    if preview.sampled:
        columns = ("metric", "points", "first", "last", "last_step")
        found = [tuple(_short(row[name]) for name in columns) for row in preview.metrics]
        print_table(columns, found, title=f"Metrics in {preview.sampled}", empty="no metric was found in the sample")
    else:
        say("metrics    give --sample LOG to see what would be taken from the output")
    say(f"artifacts  new or changed files that match {', '.join(preview.artifact_patterns[:6])} …")
    for name in preview.artifacts[:10]:
        say(f"           matches now: {name}")
    if preview.logs_itself:
        say("mlflow     it logs to MLflow itself; its runs become children of this one")
    if preview.already_done:
        say(f"done       run {preview.already_done} did the same and ended well (--needed would skip it)")
    for remark in preview.remarks:
        say(f"note       {remark}")


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@verb
def scan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What to look through; nothing in it is run.")],
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Add what is found to this experiments.yaml; your edits stay."),
    ] = None,
    import_runs: Annotated[
        bool, typer.Option("--import-runs", help="Bring finished runs into MLflow and the metrics store.")
    ] = False,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="With --import-runs: into this experiment.")
    ] = "",
    min_score: Annotated[float, typer.Option("--min-score", help="Least score of a script, 0 to 1.")] = 0.5,
    include_ignored: Annotated[
        bool, typer.Option("--include-ignored", help="Look at what .gitignore leaves out, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Find training scripts, datasets, weights and finished runs by reading, never by running."""
    from guardianflow.adapters.scan.scan import scan_folder
    from guardianflow.console import print_json

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
    from guardianflow.console import err

    console = err()
    if not console.is_terminal:
        yield None
        return
    with console.status(f"0 {unit}") as status:
        yield lambda count: status.update(f"{count:,} {unit}")


def _show_scan(report: ScanReport) -> None:
    from guardianflow.console import print_table, say

    rows = [
        (
            f"{found.score:.2f}",
            found.role,
            found.framework,
            str(found.path),
            "; ".join(r.text for r in found.reasons[:3]),
        )
        for found in report.scripts[:_SHOWN]
    ]
    print_table(
        ("score", "role", "framework", "script", "why"), rows, title="Scripts", empty="no training script was found"
    )
    data = [(str(found.path), str(found.classes)) for found in report.datasets[:_SHOWN]]
    weights = [(str(found.path), found.format, file_size(found.size)) for found in report.weights[:_SHOWN]]
    runs = [(found.kind, str(found.path)) for found in report.runs[:_SHOWN]]
    for title, columns, shown in (
        ("Datasets", ("file", "classes"), data),
        ("Weights", ("file", "format", "size"), weights),
        ("Finished runs", ("kind", "folder"), runs),
    ):
        if shown:
            print_table(columns, shown, title=title)
    for thing, found in (("scripts", report.scripts), ("weights", report.weights), ("runs", report.runs)):
        if len(found) > _SHOWN:
            say(f"and {len(found) - _SHOWN} more {thing}; --json lists all")
    say(f"{report.files:,} files in {report.folders:,} folders, {report.seconds:.1f} s; nothing was run")


def _write_entries(path: Path, report: ScanReport, *, quiet: bool) -> dict[str, Any]:
    from guardianflow.adapters.experiment_registry import ExperimentRegistry
    from guardianflow.console import say
    from guardianflow.text.command_lines import command
    from guardianflow.verbs.execution import Remarks

    update = ExperimentRegistry(path).enter(report)
    if not quiet:
        say(f"{path}: {len(update.added)} added, {len(update.missing)} missing, {len(update.unchanged)} as they were")
        for script, reason in update.left_out:
            say(f"left out   {script}: {reason}")
        Remarks().show(update.remarks)
        if update.added:
            where = [] if path == Path(_REGISTRY_FILE) else ["--experiments", str(path)]
            say(f"next: {command('wrap', '--experiment', update.added[0], *where, '--dry-run')}")
    result: dict[str, Any] = update.to_dict()
    return result


def _import(report: ScanReport, experiment: str, *, quiet: bool) -> dict[str, Any]:
    from guardianflow.adapters.finished_runs.run_import import import_runs
    from guardianflow.console import print_table, say
    from guardianflow.dashboard.metrics_store import MetricsStore
    from guardianflow.verbs.execution import say_notes

    settings = _settings()
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
    result: dict[str, Any] = done.to_dict()
    return result
