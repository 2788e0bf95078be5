"""Verbs about registered models: register, promote, rollback, reject, delete, download, history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, echo

from guardianflow.console import print_json, print_table, say
from guardianflow.exceptions import InputError, RefusedError
from guardianflow.text.option_values import moment_of
from guardianflow.verbs.frame import Json, ModelName, Reason, full_run_id, verb

__all__ = ["delete", "download", "history", "promote", "register", "reject", "rollback"]


@verb
def register(
    name: ModelName,
    run: Annotated[str, Option("--run", metavar="RUN_ID", help="The run whose weights are registered.")],
    artifact: Annotated[str, Option("--artifact", help="Which of its artifacts.")] = "weights/best.pt",
    json: Json = False,
) -> None:
    """Register a run's weights as a new version and make it the candidate."""
    from guardianflow.core.registry import ModelRegistry

    version = ModelRegistry().register(name, full_run_id(run), artifact=artifact)
    _show_version(version, f"{version.name} version {version.version} is the candidate", as_json=json)


@verb
def promote(
    name: ModelName,
    version: Annotated[str | None, Argument(help="Version; left out, the candidate.")] = None,
    force: Annotated[bool, Option("--force", help="Promote against the gate; needs --reason.")] = False,
    reason: Reason = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Show what the gate says, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Put a version in charge, if the gate lets it: it becomes the champion, the old champion the rollback."""
    from guardianflow.core.registry import ModelRegistry

    if dry_run:
        _show_verdict(ModelRegistry().judge(name, version), as_json=json)
        return
    if force and not reason:
        raise InputError("--force needs --reason, so that the ledger says why")
    promoted = ModelRegistry().promote(name, version, force=force, reason=reason)
    _show_version(promoted, f"{promoted.name} version {promoted.version} is the champion", as_json=json)


@verb
def rollback(name: ModelName, reason: Reason = None, json: Json = False) -> None:
    """Put the version before the champion back in charge."""
    from guardianflow.core.registry import ModelRegistry

    version = ModelRegistry().rollback(name, reason=reason)
    _show_version(version, f"{version.name} is back on version {version.version}", as_json=json)


@verb
def reject(
    name: ModelName,
    version: Annotated[str, Argument(help="Version.")],
    reason: Annotated[str, Option("--reason", help="Why; it is kept in the ledger.")],
    json: Json = False,
) -> None:
    """Mark a version as not to be promoted."""
    from guardianflow.core.registry import ModelRegistry

    rejected = ModelRegistry().reject(name, version, reason=reason)
    _show_version(rejected, f"{rejected.name} version {rejected.version} is rejected", as_json=json)


@verb
def delete(
    name: ModelName,
    version: Annotated[str, Argument(help="Version; one that is champion, candidate or rollback is refused.")],
    json: Json = False,
) -> None:
    """Delete a version here and in MLflow; its run and its line in the ledger stay."""
    from guardianflow.core.registry import ModelRegistry

    deleted = ModelRegistry().delete(name, version)
    _show_version(deleted, f"{deleted.name} version {deleted.version} is deleted", as_json=json)


@verb
def download(
    name: ModelName,
    version: Annotated[str, Option("--version", help="Version or alias.")] = "champion",
    to: Annotated[Path | None, Option("--to", metavar="PATH", help="File or folder to write to.")] = None,
    json: Json = False,
) -> None:
    """Fetch a version's file, checked by its hash; prints where it lies (--json: and what serves it)."""
    from guardianflow.core.registry import ModelRegistry

    registry = ModelRegistry()
    found = registry.get(name, version)
    path = registry.download(name, found.version, to)
    if json:
        print_json(found.served_from(path).to_dict())
    else:
        echo(str(path))


@verb
def history(
    name: ModelName,
    at: Annotated[str | None, Option("--at", metavar="TIME", help="Who was champion at this time (ISO 8601)?")] = None,
    limit: Annotated[int | None, Option(help="At most so many events.", min=1)] = None,
    json: Json = False,
) -> None:
    """Show a model's ledger: who changed what, when, why and on what evidence."""
    from guardianflow import listing
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


def _show_version(version: Any, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(version.to_dict())
    else:
        say(sentence)


def _show_verdict(verdict: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(verdict.to_dict())
    else:
        rows = [(check.name, check.outcome, check.text) for check in verdict.checks]
        print_table(("check", "outcome", "what was found"), rows)
        say(f"{verdict.sentence}; nothing was changed")
    if not verdict.passed:
        raise Exit(RefusedError.exit_code)
