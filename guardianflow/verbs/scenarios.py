"""Verbs about scenario files and recorded runs: run, scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer, echo

from guardianflow.console import print_json, print_table, say
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.verbs.execution import execute_plan
from guardianflow.verbs.frame import Direct, Json, record_of, verb

__all__ = ["run", "scenario_app"]


@verb
def run(
    file: Annotated[
        Path | None, Argument(metavar="[FILE]", help="A scenario file; `guardianflow scenario new` makes one.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        Option("--set", metavar="FIELD=VALUE", help="Change of the scenario, such as model.imgsz=320."),
    ] = None,
    again: Annotated[str | None, Option("--again", metavar="RUN_ID", help="The run to repeat.")] = None,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Execute a scenario file, or a recorded run once more as a new run."""
    from guardianflow.scenario.experiment_design import RunPlan
    from guardianflow.scenario.factory import plan_again
    from guardianflow.scenario.file import load_scenario

    if (file is None) == (again is None) or (changes and again):
        raise InputError(
            "say what to run: guardianflow run FILE [--set FIELD=VALUE], or guardianflow run --again RUN_ID"
        )
    plan = plan_again(record_of(again or "")) if file is None else RunPlan(load_scenario(file, changes or ()))
    execute_plan(plan, direct=direct, as_json=json)


scenario_app = Typer(name="scenario", help="Scenario files: what a run is asked, in blocks.", no_args_is_help=True)


@scenario_app.command("new")
@verb
def new(
    kind: Annotated[str, Argument(metavar="KIND", help="train, infer, quantize, wrap, sweep or compare.")],
    json: Json = False,
) -> None:
    """Print a scenario to begin with: every field with its default and a sentence."""
    from guardianflow.scenario.file import new_scenario

    text = new_scenario(kind)
    if json:
        print_json({"kind": kind, "scenario": text})
    else:
        echo(text, nl=False)


@scenario_app.command("check")
@verb
def check(files: Annotated[list[Path], Argument(metavar="FILE…", help="Scenario files.")], json: Json = False) -> None:
    """Check scenario files: names, types, units; nothing is run."""
    from guardianflow.scenario.file import load_scenario

    found: list[dict[str, str]] = []
    for file in files:
        try:
            found.append({"file": str(file), "kind": load_scenario(file).kind, "error": ""})
        except GuardianFlowError as error:
            found.append({"file": str(file), "kind": "", "error": str(error)})
    if json:
        print_json({"files": found})
    for row in found if not json else ():
        say((row["error"] and f"error: {row['error']}") or f"ok     {row['file']} · {row['kind']}")
    if any(row["error"] for row in found):
        raise Exit(2)


@scenario_app.command("show")
@verb
def show(
    file: Annotated[Path, Argument(metavar="FILE", help="A scenario file.")],
    changes: Annotated[list[str] | None, Option("--set", metavar="FIELD=VALUE", help="Change of the scenario.")] = None,
    json: Json = False,
) -> None:
    """Show a scenario with every default filled in."""
    from guardianflow.scenario.fields import leaf_fields
    from guardianflow.scenario.file import load_scenario

    scenario = load_scenario(file, changes or ())
    whole = scenario.model_dump(mode="json")
    if json:
        print_json(whole)
        return
    rows = []
    for field in leaf_fields(type(scenario)):
        value: Any = whole
        for name in field.path:
            value = value[name]
        rows.append((".".join(field.path), value, field.info.description))
    print_table(("field", "value", "what it is"), rows, title=f"{file} · {scenario.kind}")


@scenario_app.command("schema")
@verb
def schema(json: Json = False) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from guardianflow.scenario.file import json_schema

    del json  # it is JSON either way
    print_json(json_schema())
