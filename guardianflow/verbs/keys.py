"""Verbs about the keys of the API and the pages: keys create, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.dashboard.keys import Keys

__all__ = ["keys_app"]

keys_app = typer.Typer(
    name="keys", help="Keys for the API and the pages: who may read, report, operate, promote.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who holds it; the ledger names it.")]


def _keys() -> Keys:
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.keys import Keys
    from guardianflow.state.database import Database

    return Keys(Database.open(Settings().database_url))


@keys_app.command("create")
@verb
def create(
    name: Name,
    role: Annotated[
        str, typer.Option("--role", help="viewer, ingester, operator or promoter; each may what those before it may.")
    ],
    json: Json = False,
) -> None:
    """Make a key and print it: on stdout, this once."""
    from guardianflow.console import print_json, say
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.keys import ROLES

    key, token = _keys().create(name, role, by=Settings().actor)
    if json:
        print_json({**key.to_dict(), "token": token})
        return
    say(f"key {key.name} is {key.role}: {ROLES[key.role]}. Keep it now; it can't be shown again:")
    typer.echo(token)


@keys_app.command("list")
@verb
def list_(json: Json = False) -> None:
    """Show every key, without its secret."""
    from guardianflow import listing
    from guardianflow.console import print_json, print_table

    table = listing.keys_table(_keys().list())
    if json:
        print_json({"keys": table.items})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


@keys_app.command("revoke")
@verb
def revoke(name: Name, json: Json = False) -> None:
    """Make a key open nothing from now on; its name stays for the ledger."""
    from guardianflow.console import print_json, say

    keys = _keys()
    key = keys.revoke(name)
    if json:
        print_json(key.to_dict())
        return
    say(f"key {key.name} is revoked")
    if all(other.revoked for other in keys.list()):
        say("no valid key is left: the API answers nobody until `guardianflow keys create` makes one")
