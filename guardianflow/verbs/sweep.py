"""Verbs about sweeps: sweep, study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer, echo

from guardianflow.console import print_json, print_table, say
from guardianflow.exceptions import InputError
from guardianflow.verbs.execution import Remarks, execute_plan
from guardianflow.verbs.frame import Direct, Json, verb

__all__ = ["study_app", "sweep"]


@verb
def sweep(
    file: Annotated[
        Path, Argument(metavar="FILE", help="A scenario of kind sweep: `guardianflow scenario new sweep`.")
    ],
    changes: Annotated[
        list[str] | None,
        Option("--set", metavar="FIELD=VALUE", help="Change of the scenario, such as sweep.trials=40."),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Check all, show the trials and how long they take.")] = False,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Train again and again with other values, end hopeless trials early, keep the best."""
    from guardianflow.scenario.experiment_design import RunPlan, SweepScenario
    from guardianflow.scenario.file import load_scenario

    scenario = load_scenario(file, changes or ())
    if not isinstance(scenario, SweepScenario):
        raise InputError(f"{file} is a scenario of kind {scenario.kind}; run it: guardianflow run {file}")
    if dry_run:
        _show_plans(scenario, as_json=json)
    else:
        execute_plan(RunPlan(scenario), direct=direct, as_json=json)


def _show_plans(scenario: Any, *, as_json: bool) -> None:
    from guardianflow.execution.sweep import SweepRunner
    from guardianflow.scenario.experiment_design import plan

    runner = SweepRunner(scenario)
    runner.check()
    Remarks().show(runner.remarks)
    plans, guess, ended = plan(scenario), runner.estimate(), runner.ended
    if as_json:
        print_json(
            {
                "study": scenario.study,
                "trials": scenario.trials,
                "points": [dict(point) for _, point in zip(plans, scenario.known_points(), strict=False)],
                "chosen_later": scenario.trials - len(plans),
                "ended": ended,
                "estimate": {**guess.to_dict(), "sentence": guess.sentence()},
                "remarks": list(runner.remarks),
            }
        )
        return
    table = runner.look()
    title = (
        f"{scenario.study} · {scenario.trials} trials by {scenario.sweep.sampler}, pruned by {scenario.sweep.pruner}"
    )
    print_table(table.columns, table.rows, title=title)
    if ended:
        say(f"study     {ended} trials have ended already")
    say(f"time      {guess.sentence()}")
    if scenario.sweep.pruner != "none" and guess.seconds is not None:
        say("          trials that are ended early make it less")


study_app = Typer(name="study", help="Studies: what sweeps have tried, and what came of it.", no_args_is_help=True)


@study_app.command("list")
@verb
def list_(json: Json = False) -> None:
    """List studies with their trials and the best of them."""
    from guardianflow.core.config import Settings
    from guardianflow.execution.studies import Studies
    from guardianflow.execution.sweep_result import study_line

    studies = Studies(Settings())
    lines = [study_line(studies.get(name)) for name in studies.names()]
    if json:
        print_json({"studies": lines})
        return
    columns = ("study", "trials", "finished", "pruned", "failed", "metric", "best", "best trial")
    rows = [[line[name.replace(" ", "_")] for name in columns] for line in lines]
    print_table(columns, rows, empty="no study yet; `guardianflow sweep FILE` makes one")


@study_app.command("show")
@verb
def show(name: Annotated[str, Argument(metavar="NAME", help="Name of the study.")], json: Json = False) -> None:
    """Show the trials of a study."""
    from guardianflow.core.config import Settings
    from guardianflow.execution.studies import Studies
    from guardianflow.execution.sweep_result import study_line, trial_lines
    from guardianflow.scenario.fields import to_yaml

    study = Studies(Settings()).get(name)
    line, trials = study_line(study), [row.to_dict() for row in study.rows()]
    if json:
        scenario = study.scenario.model_dump(mode="json", exclude_defaults=True)
        print_json({**line, "importance": study.importance(), "rows": trials, "scenario": scenario})
        return
    columns, rows = trial_lines(trials, str(line["metric"]))
    print_table(columns, rows, title=f"{name} · {line['trials']} trials", empty="no trial yet")
    if line["best_trial"] is not None:
        say(f"best      trial {line['best_trial']}: {line['metric']} {line['best']}")
    echo(f"\n{to_yaml(study.scenario)}", nl=False)
