"""The way back: the champion before this one, tried before it is put in charge again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from guardianflow._plugins import Registry
from guardianflow.exceptions import ConflictError, GuardianFlowError, RefusedError
from guardianflow.registry.ledger import Change, Ledger, Move
from guardianflow.registry.model_records import ModelState, ModelVersion
from guardianflow.registry.version_files import VersionFiles
from guardianflow.text.command_lines import command

__all__ = ["PREFLIGHTS", "Preflight", "Rollback"]

Preflight: TypeAlias = Callable[[Path], None]

PREFLIGHTS: Registry[Preflight] = Registry("preflight", {"inference": "guardianflow.vision.preflight:check_loads"})
"""What a rollback asks of its target's file before it puts it in charge. Raises where it isn't fit."""


class _MovedError(Exception):
    """The champion is no longer the one that the target was checked beside."""


class Rollback:
    """Puts the champion before this one back in charge, if it still works.

    Args:
        ledger: The authority.
        files: Must still have the version as it was registered.
        preflight: What the file is asked: a function that raises, or a name from :data:`PREFLIGHTS`.
        actor: Who rolls back.
    """

    def __init__(self, ledger: Ledger, files: VersionFiles, *, preflight: Preflight | str, actor: str) -> None:
        self._ledger = ledger
        self._files = files
        self._preflight = preflight
        self._actor = actor

    def roll_back(self, seen: ModelState, *, reason: str | None) -> tuple[Move, str]:
        """Move it, and tell which version is in charge then.

        Raises:
            RefusedError: There is nothing to roll back to, or its trial failed.
            ConflictError: Somebody else moved the champion meanwhile.
        """
        name = seen.name
        if seen.rollback is None:
            raise RefusedError(self._nothing_behind(seen))
        target = self._ledger.version(name, seen.rollback)
        self._check_fit(target, champion=seen.champion)

        def decide(state: ModelState, _: object) -> Change:
            if (state.champion, state.rollback) != (seen.champion, seen.rollback):
                raise _MovedError
            evidence = {"displaced": seen.champion, "preflight": {"sha256": target.sha256, "passed": True}}
            return Change(target.version, state.rolled_back(), evidence=evidence)

        try:
            return self._ledger.move(name, "rollback", decide, actor=self._actor, reason=reason), target.version
        except _MovedError as error:
            now = self._ledger.state(name)
            raise ConflictError(
                f"model {name!r} was moved by somebody else while version {target.version} was being checked: the "
                f"champion was {seen.champion} and is {now.champion} now, and nothing was rolled back. Look at "
                f"`{command('history', name)}` and decide again."
            ) from error

    def _check_fit(self, target: ModelVersion, *, champion: str | None) -> None:
        preflight = PREFLIGHTS.get(self._preflight) if isinstance(self._preflight, str) else self._preflight
        refusal = f"{target.name!r} was not rolled back to version {target.version}; champion stays {champion}: "
        try:
            preflight(self._files.require(target))
        except GuardianFlowError as error:
            raise type(error)(refusal + str(error)) from error
        except Exception as error:
            raise RefusedError(f"{refusal}its trial failed ({type(error).__name__}: {error})") from error

    def _nothing_behind(self, state: ModelState) -> str:
        last = next((event for event in self._ledger.history(state.name) if event.action != "register"), None)
        if last is not None and last.action == "rollback":
            done = f"it was rolled back to version {last.version} at {last.time:%Y-%m-%d %H:%M:%S} UTC by {last.actor}"
        else:
            done = f"its champion is {state.champion or 'none'}, with no champion before it"
        return (
            f"model {state.name!r} has nothing to roll back to: {done}. Promote the version you want: "
            f"`{command('list', 'versions', state.name)}` shows them."
        )
