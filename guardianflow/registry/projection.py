"""MLflow's aliases as the picture of our ledger, drawn again until both agree.

A picture can be wrong for a while: a process died between our move and MLflow's, MLflow was down, or
somebody moved an alias by hand in MLflow's pages. Drawing it is idempotent, one process at a time
for each model, and goes on until the ledger stood still while it was drawn, so that a slow drawer
can't leave an old picture over a newer one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from guardianflow.exceptions import NotFoundError
from guardianflow.registry.ledger import Ledger
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.registry.model_records import ALIASES, ModelState

__all__ = ["AliasProjection", "Projected"]

log = logging.getLogger(__name__)

_ROUNDS = 100


@dataclass(frozen=True)
class Projected:
    """What MLflow shows now.

    Attributes:
        state: The state it shows.
        lost: Alias → version, where MLflow no longer has that version.
    """

    state: ModelState
    lost: dict[str, str]


class AliasProjection:
    """Keeps MLflow's aliases equal to the ledger.

    Args:
        ledger: The authority.
        mlflow: Where it is shown.
    """

    def __init__(self, ledger: Ledger, mlflow: MlflowRegistry) -> None:
        self._ledger = ledger
        self._mlflow = mlflow

    def reconcile(self, name: str, *, before: ModelState | None = None) -> Projected:
        """Make MLflow show the ledger.

        Args:
            name: Model name.
            before: The state before a move of the caller's own: MLflow may still show that one,
                which is nothing to warn of.

        Raises:
            NotFoundError: MLflow no longer has the model.
            ConflictError: Another process held the model's lock for too long.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        if before is None and self._agrees(state := self._ledger.state(name)):
            return Projected(state, {})
        lost: dict[str, str] = {}
        with self._ledger.database.lock(f"the aliases of model {name!r}"):
            for _ in range(_ROUNDS):
                state = self._ledger.state(name)
                lost = self._draw(state, before)
                if self._ledger.state(name).gen == state.gen:
                    return Projected(state, lost)
                before = state
        log.warning("model %r is moved faster than MLflow's aliases can follow; the next call goes on", name)
        return Projected(state, lost)

    def _agrees(self, state: ModelState) -> bool:
        shown = self._mlflow.aliases(state.name)
        return all(shown.get(alias) == getattr(state, alias) for alias in ALIASES) and not self._ledger.half_deleted(
            state.name
        )

    def _draw(self, state: ModelState, before: ModelState | None) -> dict[str, str]:
        name = state.name
        for version in self._ledger.half_deleted(name):
            self._mlflow.delete_version(name, version)
            self._ledger.finish_deletion(name, version)
        shown = self._mlflow.aliases(name)
        wrong = {alias: shown.get(alias) for alias in ALIASES if shown.get(alias) != getattr(state, alias)}
        self._report(state, before, wrong)
        for alias, holder in wrong.items():
            # First away with what would make champion and rollback the same version for a moment.
            if holder is not None and (getattr(state, alias) is None or _clashes(alias, holder, state)):
                self._mlflow.delete_alias(name, alias)
        lost = {}
        for alias in ALIASES:
            version = getattr(state, alias)
            if alias in wrong and version is not None and not self._set(name, alias, version):
                lost[alias] = version
        return lost

    def _set(self, name: str, alias: str, version: str) -> bool:
        try:
            self._mlflow.set_alias(name, alias, version)
        except NotFoundError as error:
            log.warning("@%s can't be shown in MLflow: %s", alias, error)
            self._mlflow.delete_alias(name, alias)
            return False
        return True

    def _report(self, state: ModelState, before: ModelState | None, wrong: dict[str, str | None]) -> None:
        for alias, holder in wrong.items():
            if before is not None and self._was_recently(before, alias, holder):
                continue
            log.warning(
                "@%s of model %r was %s in MLflow and is %s in the ledger: put back. Somebody changed it outside of "
                "GuardianFlow, or a move was interrupted on its way there.",
                alias, state.name, holder or "not set", getattr(state, alias) or "not set",
            )  # fmt: skip

    def _was_recently(self, before: ModelState, alias: str, holder: str | None) -> bool:
        if holder == getattr(before, alias):
            return True
        # Several moves at once: MLflow may still show the state before the other one's.
        return any(getattr(event, alias) == holder for event in self._ledger.history(before.name, limit=20))


def _clashes(alias: str, holder: str, state: ModelState) -> bool:
    return alias != "champion" and holder == state.champion
