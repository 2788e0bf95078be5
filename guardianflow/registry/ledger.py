"""The authority over a model's aliases: one row a model, moved by compare-and-set, and its ledger.

MLflow can set one alias at a time, so two promotions at once, or a kill between two calls, lose the
old champion there. Here a move is one transaction: the row goes from generation ``n`` to ``n + 1``
only if it is still at ``n``, and the ledger gets the line that says who, why and on what evidence.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from guardianflow.exceptions import ConflictError, NotFoundError, TrackingUnavailableError
from guardianflow.registry.model_records import ALIASES, ModelEvent, ModelState, ModelVersion
from guardianflow.state.database import Database
from guardianflow.state.tables import model_events, model_states, model_versions
from guardianflow.text.command_lines import command
from guardianflow.vision.serving import Serving

__all__ = ["DELETING", "Change", "Ledger", "Move", "Needed"]

_ATTEMPTS = 200
_COMES_BACK_S = 30.0  # how long a server that went away is waited for, to be asked whether a move stands
DELETING = "deleting"


@dataclass(frozen=True)
class Change:
    """What a move does.

    Attributes:
        version: The version it is about.
        state: The aliases afterwards.
        status: New status of that version.
        added: Versions to enter, with the state in one transaction.
        evidence: What the ledger shall keep.
    """

    version: str
    state: ModelState
    status: str | None = None
    added: Sequence[ModelVersion] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """State before and after; the same where nothing had to change.

    Attributes:
        before: The state that was found.
        after: The state that was written.
        version: The version that was moved, as it stands afterwards; ``None`` where nothing had to change.
    """

    before: ModelState
    after: ModelState
    version: ModelVersion | None = None

    @property
    def changed(self) -> bool:
        """Whether anything changed."""
        return self.before.gen != self.after.gen


Decide = Callable[[ModelState, Callable[[str], ModelVersion]], Change | None]


@dataclass(frozen=True)
class Needed:
    """What versions need.

    Attributes:
        runs: The runs that their files are of, and those that they were made from.
        sha256: The hashes of their files.
    """

    runs: frozenset[str]
    sha256: frozenset[str]


class _LostRaceError(Exception):
    """Somebody else moved the row between our read and our write."""


class Ledger:
    """Reads and moves model states in the state database.

    Args:
        url: The state database. Connections are per process, so a ledger survives a fork.
        clock: What time it is, time-zone aware.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime]) -> None:
        self._url = url
        self._clock = clock

    @property
    def database(self) -> Database:
        """The state database, opened in this process."""
        return Database.open(self._url)

    def move(
        self,
        name: str,
        action: str,
        decide: Decide,
        *,
        actor: str,
        reason: str | None = None,
    ) -> Move:
        """Take a model's state from one generation to the next, or leave it.

        Args:
            name: Model name.
            action: What the ledger shall call it.
            decide: Gets the current state and a look-up of versions; returns the change, or
                ``None`` where nothing is to change. It may raise. It runs again when somebody else
                was faster, so it must have no side effects.
            actor: Who moves it.
            reason: Why.

        Raises:
            ConflictError: Others were faster, again and again.
            TrackingUnavailableError: The database went away, and nothing was moved; or it stays away, and the message
                says that nobody knows.
        """
        for _ in range(_ATTEMPTS):
            moved = None
            try:
                with self.database.write() as connection:
                    before = _read_state(connection, name)
                    change = decide(before, partial(_read_version, connection, before))
                    if change is None:
                        return Move(before, before)
                    moved = self._apply(connection, before, change, action=action, actor=actor, reason=reason)
            except TrackingUnavailableError:
                if moved is None or not self._was_kept(moved, action, actor):
                    raise
                return moved
            except (_LostRaceError, sa.exc.IntegrityError, ConflictError):
                # Apart from each other, so that the next tries don't meet again.
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - no secret depends on it
            else:
                return moved
        raise ConflictError(f"model {name!r} is being moved by others all the time; {action} gave up. Try again.")

    def _apply(
        self, connection: Connection, before: ModelState, change: Change, *, action: str, actor: str, reason: str | None
    ) -> Move:
        # Two hosts' clocks may differ; a ledger that runs backwards could not say who was champion when.
        now = max(self._clock(), before.updated)
        after = replace(change.state, gen=before.gen + 1, updated=now)
        _compare_and_set(connection, before, after)
        for version in change.added:
            connection.execute(model_versions.insert().values(_version_row(version)))
        if change.status is not None:
            match = (model_versions.c.name == before.name) & (model_versions.c.version == change.version)
            connection.execute(model_versions.update().where(match).values(status=change.status))
        connection.execute(
            model_events.insert().values(
                name=before.name,
                gen=after.gen,
                action=action,
                version=change.version,
                **{alias: getattr(after, alias) for alias in ALIASES},
                actor=actor,
                reason=reason,
                evidence=dict(change.evidence),
                time=now,
            )
        )
        return Move(before, after, _find_version(connection, after, change.version))

    def _was_kept(self, move: Move, action: str, actor: str) -> bool:
        """Whether a move stands whose transaction was ending as the server went away."""
        event = model_events.c
        ours = (event.name == move.after.name) & (event.gen == move.after.gen) & (event.time == move.after.updated)
        query = sa.select(sa.func.count()).where(ours, event.action == action, event.actor == actor)
        deadline = time.monotonic() + _COMES_BACK_S
        while True:
            try:
                with self.database.read() as connection:
                    return bool(connection.execute(query).scalar())
            except TrackingUnavailableError as error:
                if time.monotonic() > deadline:
                    raise TrackingUnavailableError(
                        f"the state database went away while it was told to {action} model {move.after.name!r}, and "
                        f"does not come back, so nobody knows whether it was done; once it answers, "
                        f"`{command('history', move.after.name)}` tells. {error}"
                    ) from error
            time.sleep(0.2)

    def state(self, name: str) -> ModelState:
        """A model's state; generation 0 where there is no such model."""
        with self.database.read() as connection:
            return _read_state(connection, name)

    def states(self) -> list[ModelState]:
        """Every model's state, by name."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(model_states).order_by(model_states.c.name)).mappings()
            return [ModelState(**row) for row in rows]

    def version(self, name: str, version: str) -> ModelVersion:
        """One version, deleted or not.

        Raises:
            NotFoundError: There is none of that number; the message lists what there is.
        """
        with self.database.read() as connection:
            return _read_version(connection, _read_state(connection, name), version)

    def versions(self, name: str, *, include_deleted: bool = False) -> list[ModelVersion]:
        """A model's versions, newest first."""
        with self.database.read() as connection:
            state = _read_state(connection, name)
            rows = connection.execute(sa.select(model_versions).where(model_versions.c.name == name)).mappings()
            found = [_version(row, state) for row in rows]
        found.sort(key=lambda item: int(item.version), reverse=True)
        return [item for item in found if include_deleted or item.status != "deleted"]

    def needed(self) -> Needed:
        """What all versions that aren't deleted need."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(model_versions)).mappings().all()
        runs = {(row["name"], row["version"]): row["run_id"] for row in rows}
        alive = [row for row in rows if row["status"] != "deleted"]
        made_from = [
            run_id for row in alive for run_id in (row["parent_run"], runs.get((row["name"], row["parent_version"])))
        ]
        needed = {row["run_id"] for row in alive}.union(filter(None, made_from))
        return Needed(frozenset(needed), frozenset(row["sha256"] for row in alive))

    def half_deleted(self, name: str) -> list[str]:
        """Versions that are deleted here but perhaps not yet in MLflow."""
        query = sa.select(model_versions.c.version).where(
            model_versions.c.name == name, model_versions.c.status == DELETING
        )
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def finish_deletion(self, name: str, version: str) -> None:
        """MLflow doesn't have the version any more."""
        match = (model_versions.c.name == name) & (model_versions.c.version == version)
        with self.database.write() as connection:
            connection.execute(
                model_versions.update().where(match, model_versions.c.status == DELETING).values(status="deleted")
            )

    def history(self, name: str, *, limit: int | None = None, until: datetime | None = None) -> list[ModelEvent]:
        """The ledger of a model up to a moment, newest first."""
        query = sa.select(model_events).where(model_events.c.name == name).order_by(model_events.c.gen.desc())
        if until is not None:
            query = query.where(model_events.c.time <= until)
        with self.database.read() as connection:
            rows = connection.execute(query.limit(limit)).mappings()
            return [ModelEvent(**{key: value for key, value in row.items() if key != "id"}) for row in rows]


def _compare_and_set(connection: Connection, before: ModelState, after: ModelState) -> None:
    values = {alias: getattr(after, alias) for alias in ALIASES} | {"updated": after.updated}
    if before.gen == 0:
        connection.execute(model_states.insert().values(name=after.name, gen=1, **values))
        return
    match = (model_states.c.name == before.name) & (model_states.c.gen == before.gen)
    done = connection.execute(model_states.update().where(match).values(gen=model_states.c.gen + 1, **values))
    if done.rowcount != 1:
        raise _LostRaceError


def _read_state(connection: Connection, name: str) -> ModelState:
    row = connection.execute(sa.select(model_states).where(model_states.c.name == name)).mappings().one_or_none()
    return ModelState(name) if row is None else ModelState(**row)


def _find_version(connection: Connection, state: ModelState, version: str) -> ModelVersion | None:
    match = (model_versions.c.name == state.name) & (model_versions.c.version == version)
    row = connection.execute(sa.select(model_versions).where(match)).mappings().one_or_none()
    return None if row is None else _version(row, state)


def _read_version(connection: Connection, state: ModelState, version: str) -> ModelVersion:
    if found := _find_version(connection, state, version):
        return found
    known = connection.execute(sa.select(model_versions.c.version).where(model_versions.c.name == state.name)).scalars()
    listed = ", ".join(sorted(known, key=int)) or "none"
    raise NotFoundError(
        f"model {state.name!r} has no version {version!r}; known: {listed}. "
        "`guardianflow register` enters the model of a run."
    )


def _version(row: Mapping[Any, Any], state: ModelState) -> ModelVersion:
    values = dict(row)
    if values["status"] == DELETING:  # how far MLflow is, is nobody's business
        values["status"] = "deleted"
    serving = Serving(**{field.name: values.pop(field.name) for field in fields(Serving)})
    return ModelVersion(**values, aliases=state.aliases_of(row["version"]), serving=serving)


def _version_row(version: ModelVersion) -> dict[str, Any]:
    served = version.serving.to_dict()
    row = {name: getattr(version, name) for column in model_versions.columns if (name := column.name) not in served}
    return row | served | {"metrics": dict(version.metrics)}
