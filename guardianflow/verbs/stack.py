"""Verbs about the team's stack: stack init, up, check, down."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.stack.compose import Stack
    from guardianflow.stack.keeper import Seen

__all__ = ["stack_app"]

stack_app = typer.Typer(
    name="stack",
    help="The team's stack: PostgreSQL, SeaweedFS, MLflow, API and pages, without Docker, from docker-compose.yml.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder of docker-compose.yml and .env.")]
Target = Annotated[Path, typer.Argument(metavar="BACKUP", help="The folder of the backup.")]
_COLUMNS = ("service", "state", "port", "process", "restarts", "note")


@stack_app.command("init")
@verb
def init(folder: Folder = Path(), json: Json = False) -> None:
    """Make docker-compose.yml where it is missing, and .env with new passwords."""
    from guardianflow.console import print_json, say
    from guardianflow.stack.preparing import init_stack
    from guardianflow.text.command_lines import command

    written = init_stack(folder)
    if json:
        print_json({"written": [str(path) for path in written]})
        return
    for path in written:
        say(f"wrote     {path}")
    secret = f"the passwords are in {folder / '.env'}; nobody else can read it, git ignores it"
    say(secret if written else "nothing was missing")
    say(f"start it  {command('stack', 'up', *_elsewhere(folder))}   (with Docker, there: docker compose up -d --build)")


@stack_app.command("up")
@verb
def up(
    folder: Folder = Path(),
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="How long to wait for all.", min=1)] = 300,
    json: Json = False,
) -> None:
    """Start the services that don't run, and wait until each is well; they go on until `stack down`."""
    from guardianflow.console import print_json, print_table, say
    from guardianflow.stack.compose import read_stack
    from guardianflow.stack.native import up as start

    stack = read_stack(folder)

    def tell(row: Seen) -> None:
        say(f"{row.name:<10}{row.state}{f': {row.note}' if row.note else ''}")

    seen = start(stack, timeout_s=timeout, on_change=tell)
    if json:
        print_json({"services": [row.to_dict() for row in seen]})
        return
    print_table(_COLUMNS, _rows(seen))
    for line in _doors(stack, folder):
        say(line)


@stack_app.command("check")
@verb
def check(folder: Folder = Path(), json: Json = False) -> None:
    """Walk the running stack, with Docker or without: a run, its artifact, a promotion, a figure, a page, each door."""
    from guardianflow.console import print_json, print_table, say
    from guardianflow.stack.check import Step, check_stack
    from guardianflow.stack.compose import read_stack

    def tell(step: Step) -> None:
        say(f"{'ok  ' if step.ok else 'FAIL'}  {step.name}")

    steps = check_stack(read_stack(folder), on_step=tell)
    if json:
        print_json({"ok": all(step.ok for step in steps), "steps": [step.to_dict() for step in steps]})
    else:
        rows = [("ok" if step.ok else "FAIL", step.name, f"{step.seconds:.1f} s", step.said) for step in steps]
        print_table(("", "what was tried", "time", "what was seen"), rows)
    if not all(step.ok for step in steps):
        raise typer.Exit(1)


@stack_app.command("down")
@verb
def down(folder: Folder = Path(), json: Json = False) -> None:
    """End every service; what they have stored stays."""
    from guardianflow.console import print_json, say
    from guardianflow.stack.compose import read_stack
    from guardianflow.stack.native import down as stop

    stack = read_stack(folder)
    killed = stop(stack)
    if json:
        print_json({"killed": killed})
    else:
        say(f"the stack is down{f'; {killed} processes had outlived it and were ended' if killed else ''}; "
            f"what it stored is in {stack.home}")  # fmt: skip


@stack_app.command("backup")
@verb
def backup(target: Target, folder: Folder = Path(), json: Json = False) -> None:
    """Copy databases and artifacts of the running stack; into an earlier backup: what is new."""
    from guardianflow.console import print_json, say
    from guardianflow.stack.backup import back_up
    from guardianflow.stack.compose import read_stack
    from guardianflow.text.units import file_size

    with _counted(json) as count:
        copied = back_up(read_stack(folder), target, on_object=count)
    if json:
        print_json(copied.to_dict())
        return
    say(f"{copied.folder}: three databases and {copied.objects} objects, {file_size(copied.size_bytes)}; "
        f"{copied.new} objects were fetched now")  # fmt: skip
    say("the passwords are not in it: keep .env, too, in a safe place")


@stack_app.command("restore")
@verb
def restore(target: Target, folder: Folder = Path(), json: Json = False) -> None:
    """Fill an empty, running stack from a backup."""
    from guardianflow.console import print_json, say
    from guardianflow.stack.backup import restore as fill
    from guardianflow.stack.compose import read_stack

    with _counted(json) as count:
        copied = fill(read_stack(folder), target, on_object=count)
    if json:
        print_json(copied.to_dict())
    else:
        say(f"restored {copied.objects} objects and three databases of {copied.folder}")


@stack_app.command("secrets", hidden=True)
@verb
def secrets(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """A step of docker-compose.yml: certificates, and MLflow's login file."""
    from guardianflow.console import say
    from guardianflow.stack.preparing import make_secrets

    for path in make_secrets(folder):
        say(f"wrote {path}")


@stack_app.command("prepare", hidden=True)
@verb
def prepare() -> None:
    """A step of docker-compose.yml: databases, roles, the bucket, our tables."""
    from guardianflow.console import say
    from guardianflow.stack.preparing import prepare as make

    for line in make() or ["nothing was missing"]:
        say(line)


@contextlib.contextmanager
def _counted(json: bool) -> Iterator[Callable[[int], None] | None]:
    """How many objects were copied so far, on a line that renews itself, where somebody looks."""
    if json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("databases …") as line:
        yield lambda count: line.update(f"{count} objects …")


def _rows(seen: list[Seen]) -> list[tuple[object, ...]]:
    return [
        (row.name, row.state, ", ".join(map(str, row.ports)), row.pid or "", row.restarts or "", row.note)
        for row in seen
    ]


def _doors(stack: Stack, folder: Path) -> list[str]:
    from guardianflow.text.command_lines import command

    host, values, secrets = stack.host, stack.environment, folder / ".env"
    check = command("stack", "check", *_elsewhere(folder))
    return [
        f"the pages   http://{host}:{values['PAGES_PORT']}/?token=…   (GUARDIANFLOW_PAGES_TOKEN in {secrets})",
        f"MLflow      http://{host}:{values['MLFLOW_PORT']}   (MLFLOW_TRACKING_USERNAME and …_PASSWORD in {secrets})",
        f"the API     http://{host}:{values['API_PORT']}/api/health   (keys: STACK_OWNER_KEY in {secrets})",
        f"every guardianflow command in {secrets.absolute().parent} uses the stack now; look at it: {check}",
    ]


def _elsewhere(folder: Path) -> list[str]:
    """What a command says of a stack that isn't the current folder's."""
    return [] if folder.resolve() == Path.cwd() else [str(folder)]
