"""Verbs that set up and run: init, doctor, demo, train, run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from guardianflow.text.option_values import absolute_if_file, key_values, percent
from guardianflow.verbs.execution import execute_plan
from guardianflow.verbs.frame import Direct, Json, record_of, require, verb

__all__ = ["demo", "doctor", "init", "run", "train"]


@verb
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make the workspace in.")],
    json: Json = False,
) -> None:
    """Make a workspace: guardianflow.toml, scenarios/, notebooks/, .gitignore."""
    from guardianflow.console import print_json, say
    from guardianflow.text.command_lines import program
    from guardianflow.workspace import create_workspace

    made = create_workspace(folder)
    if json:
        print_json(made.to_dict())
        return
    for path in made.created:
        say(f"made  {path}")
    for path in made.kept:
        say(f"kept  {path}")
    say(f"next: cd {shlex.quote(str(folder))} && {program('guardianflow', anywhere=True)} doctor")


@verb
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


@verb
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


@verb
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
        plan = plan_resume(record_of(resume), **changes)
    else:
        require({"--data": data, "--model": model, "--experiment": experiment})
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
    execute_plan(plan, direct=direct, as_json=json)


@verb
def run(
    again: Annotated[str | None, typer.Option("--again", metavar="RUN_ID", help="The run to repeat.")] = None,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Execute a recorded run once more, from its parameters, as a new run."""
    from guardianflow.scenario.factory import plan_again

    require({"--again": again})
    execute_plan(plan_again(record_of(again or "")), direct=direct, as_json=json)
