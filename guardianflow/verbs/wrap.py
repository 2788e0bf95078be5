"""The verb that runs what people already have: wrap."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Context, Option, Typer
from typer.core import TyperCommand

from guardianflow.console import print_json, print_table, say
from guardianflow.exceptions import (
    GuardianFlowError,
    InputError,
    RunFailedError,
    RunInterruptedError,
    ScriptFailedError,
)
from guardianflow.scenario.schema import WrapScenario
from guardianflow.verbs.asked_options import Given, asks
from guardianflow.verbs.execution import execute_plan, say_notes
from guardianflow.verbs.frame import Direct, Json, verb

if TYPE_CHECKING:
    from guardianflow.adapters.generic_wrapper import GenericWrapper
    from guardianflow.adapters.wrap.preview import WrapPreview
    from guardianflow.runs.run_records import RunRecord

__all__ = ["wrap_app"]

_SCRIPT_ARGS = "guardianflow.script_args"
_REGISTRY_FILE = "experiments.yaml"

wrap_app = Typer()


class WrapCommand(TyperCommand):
    """A command whose words after ``--`` belong to somebody else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set the script's own words aside."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_SCRIPT_ARGS] = args[place + 1 :]
        parsed: list[str] = super().parse_args(ctx, args[:place])
        return parsed


@wrap_app.command("wrap", cls=WrapCommand)
@verb
@asks(WrapScenario)
def wrap(
    context: Context,
    given: Given,
    script: Annotated[
        str | None, Argument(metavar="[SCRIPT]", help="A Python file, notebook, shell script or program.")
    ] = None,
    needed: Annotated[
        bool, Option("--needed", help="Skip it where the same code, arguments and data ended well before.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what would be run and kept; run nothing.")] = False,
    sample: Annotated[
        Path | None, Option("--sample", metavar="LOG", help="With --dry-run: look for metrics in this log.")
    ] = None,
    experiments: Annotated[
        Path,
        Option("--experiments", metavar="FILE", help="Without SCRIPT: where the entry that --experiment names is."),
    ] = Path(_REGISTRY_FILE),
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Run a script of yours as it is, as a tracked run; its own arguments follow after --."""
    from guardianflow.core.config import Settings
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
    wrapper: Any = make_runner(plan, settings=Settings())
    if dry_run:
        _show_preview(wrapper.preview(sample), as_json=json)
        return
    if needed and _done_before(wrapper, as_json=json):
        return
    _execute(plan, direct=direct, as_json=json)


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
        before = {name: os.environ[name] for name in live.environment if name in os.environ}
        os.environ.update(live.environment)
        try:
            yield
        finally:
            for name in live.environment:
                os.environ.pop(name, None)
            os.environ.update(before)


def _raise_with_result(error: RunFailedError, begun: list[RunRecord]) -> None:
    """The script's own end instead of the notebook's, where the run wrote it down."""
    from guardianflow.adapters.wrap.results import WrapResult
    from guardianflow.files.run_folder import read_result

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
    wrapper.check()
    done = wrapper.already_done()
    if done is None:
        return False
    say(f"not needed: run {done.run_id} of {done.started:%Y-%m-%d %H:%M} UTC did the same and ended well")
    if as_json:
        print_json({"needed": False, "run_id": done.run_id, "status": done.status, "experiment": done.experiment})
    return True


def _show_preview(preview: WrapPreview, *, as_json: bool) -> None:
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
