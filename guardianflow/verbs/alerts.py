"""Verbs about alerts: alerts list, check, ack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from guardianflow.verbs.frame import Json, verb

if TYPE_CHECKING:
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.alerts import Alert, AlertEngine

__all__ = ["alerts_app"]

alerts_app = typer.Typer(
    name="alerts",
    help="Alerts: which model, site and camera breaks a rule of alerts.yaml, since when.",
    no_args_is_help=True,
)

_NOTES = 20


def _engine(settings: Settings, *, judging: bool = False) -> AlertEngine:
    """What only looks at alerts needs no rules: it works beside a faulty rules file, too."""
    from guardianflow.dashboard.alerts import AlertEngine, AlertRules
    from guardianflow.dashboard.metrics_store import MetricsStore

    rules = AlertRules.load(settings=settings) if judging else AlertRules(rules=())
    return AlertEngine(MetricsStore(settings.database_url), rules)


def _show(found: Sequence[Alert], *, as_json: bool, remarks: Sequence[str] = (), empty: str) -> None:
    from guardianflow import listing
    from guardianflow.console import print_json, print_table
    from guardianflow.verbs.execution import say_notes

    table = listing.alerts_table(found, empty=empty)
    say_notes(remarks, most=_NOTES, rest="--json lists all")
    if as_json:
        print_json({"alerts": table.items, "remarks": list(remarks)})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


@alerts_app.command("list")
@verb
def list_(
    state: Annotated[str | None, typer.Option("--state", help="Only those: pending, firing or resolved.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Registered model name.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Site name.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 50,
    json: Json = False,
) -> None:
    """Show alerts as the last check found them, the newest first."""
    from guardianflow.core.config import Settings

    found = _engine(Settings()).list(state=state, model=model, site=site, limit=limit)
    empty = "no alert fits; `guardianflow alerts check` holds the figures against the rules now"
    _show(found, as_json=json, empty=empty)


@alerts_app.command("check")
@verb
def check(json: Json = False) -> None:
    """Hold the figures against the rules now; show what is open and what has just ended."""
    from guardianflow.core.config import Settings

    engine = _engine(Settings(), judging=True)
    found = engine.evaluate()
    empty = "no alert; what the rules could not tell is noted above"
    _show(found, as_json=json, remarks=engine.remarks, empty=empty if engine.remarks else "no alert")


@alerts_app.command("ack")
@verb
def ack(
    alert: Annotated[int, typer.Argument(metavar="ID", help="Number of the alert.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, or what is being done; it is kept.")],
    json: Json = False,
) -> None:
    """Say that an alert is known; it goes on, and the first acknowledgement stands."""
    from guardianflow.console import print_json, say
    from guardianflow.core.config import Settings

    settings = Settings()
    known = _engine(settings).ack(alert, actor=settings.actor, reason=reason)
    if json:
        print_json(known.to_dict())
    else:
        say(f"alert {known.id} is known to {known.acked_by}: {known.ack_reason}")
