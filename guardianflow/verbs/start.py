"""Verbs that a newcomer runs first: init, doctor, demo."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from guardianflow.console import print_json, say
from guardianflow.text.command_lines import program
from guardianflow.verbs.frame import Json, verb

__all__ = ["demo", "doctor", "init"]


@verb
def init(
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder to make the workspace in.")], json: Json = False
) -> None:
    """Make a workspace: guardianflow.toml, scenarios/, notebooks/, .gitignore."""
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
def doctor(
    trust: Annotated[
        bool,
        Option("--trust", help="First agree to the servers that this folder's files name: your logins may go there."),
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting and where it came from, and check what the product needs."""
    from guardianflow.core.agreements import agree
    from guardianflow.core.config import Settings
    from guardianflow.doctor import examine, render

    settings = Settings()
    for named in settings.named_servers() if trust else ():
        agree(named)
        say(f"agreed: {named.file} may have {named.variable} = {named.server}")
    report = examine(settings)
    if json:
        print_json(report.to_dict())
    else:
        render(report)
    if not report.ok:
        raise Exit(1)


@verb
def demo(
    work_dir: Annotated[
        Path | None, Option("--work-dir", help="Where the demo's runs go (default: the settings' work_dir).")
    ] = None,
    fresh: Annotated[bool, Option("--fresh", help="Do everything anew instead of reusing an earlier demo.")] = False,
    json: Json = False,
) -> None:
    """Train a small model on generated scenes, promote, quantize, roll back; watch three sites, and improve it."""
    from guardianflow.core.config import Settings
    from guardianflow.demo import run_demo

    settings = Settings() if work_dir is None else Settings(work_dir=work_dir)
    story = run_demo(settings, fresh=fresh, quiet=json)
    if json:
        print_json(story)
