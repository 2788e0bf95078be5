"""Recommendations: what is advised because of an alert, one row each, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from guardianflow.exceptions import NotFoundError
from guardianflow.state.database import Database, alerts, recommendations
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import Row
from guardianflow.views.result_page import Rows

__all__ = ["DECIDABLE", "Recommendation", "Recommendations", "State"]


class State:
    """Where a recommendation stands."""

    OPEN = "open"
    APPLYING = "applying"
    APPLIED = "applied"
    REFUSED = "refused"
    """The gate said no; ``outcome`` has its reasons."""
    WAITING = "waiting"
    """A candidate is ready, and somebody who may promote must decide."""
    FAILED = "failed"
    DISMISSED = "dismissed"
    WITHDRAWN = "withdrawn"
    """What it was advised for is over: its alert ended, or the champion changed."""


DECIDABLE = (State.OPEN, State.WAITING, State.FAILED)
"""States in which somebody may apply or dismiss it."""


@dataclass(frozen=True)
class Recommendation(Row):
    """One piece of advice, with its evidence.

    Attributes:
        id: Its number.
        alert_id: The alert that it is about; an alert has one recommendation at most.
        action: Name of the action, see :data:`guardianflow.dashboard.actions._base.ACTIONS`.
        model: Registered model.
        site: Site of the alert.
        camera: Camera of the alert.
        state: See :class:`State`.
        facts: On which evidence. Always: ``rule``, ``when``, ``metric``, ``value``, ``since``, ``champion``,
            ``why`` (a sentence) and ``caveats`` (sentences); further ones an action.
        cost: What it will take: ``seconds`` (``None``: nothing like it ran before), ``based_on`` (that run), ``runs``.
        scenario: The exact scenario that applying it runs, as a scenario file has it.
        created: When it was made, UTC.
        actor: Who decided.
        may_promote: Whether that person may put a version in charge.
        reason: Why it was dismissed or withdrawn.
        decided: When.
        run_id: The run that carries it out.
        version: The version that came of it.
        ended: When it was carried out, refused, dismissed or withdrawn.
        outcome: What came of it: ``said`` (a sentence), ``reasons`` of a gate, ``runs`` (name → run id), ``verdict``,
            ``promoted`` (whether the champion changed), ``champion`` afterwards.
    """

    id: int
    alert_id: int
    action: str
    model: str
    site: str | None
    camera: str | None
    state: str
    facts: Mapping[str, Any]
    cost: Mapping[str, Any]
    scenario: Mapping[str, Any]
    created: datetime
    actor: str | None = None
    may_promote: bool | None = None
    reason: str | None = None
    decided: datetime | None = None
    run_id: str | None = None
    version: str | None = None
    ended: datetime | None = None
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("facts", "cost", "scenario", "outcome"):
            object.__setattr__(self, name, Frozen(getattr(self, name)))

    def shown(self) -> dict[str, str]:
        """What a list of advice shows of it."""
        return {
            "number": str(self.id),
            "state": self.state,
            "action": self.action,
            "model": self.model,
            "site": self.site or "",
            "camera": self.camera or "",
            "why": str(self.facts.get("why", "")),
            "what came of it": str(self.outcome.get("said") or self.reason or ""),
            "made": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }


class Recommendations:
    """The rows of recommendations in the state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, **values: Any) -> bool:
        """Enter one; ``False`` where its alert has one already."""
        try:
            with self._database.write() as connection:
                connection.execute(recommendations.insert().values(state=State.OPEN, outcome={}, **values))
        except sa.exc.IntegrityError:
            return False
        return True

    def list(self, *, states: Collection[str] = (), limit: int = 200) -> Rows[Recommendation]:
        """The newest first; of these states only, where some are given."""
        table = recommendations.c
        query = sa.select(recommendations).order_by(table.id.desc()).limit(limit)
        if states:
            query = query.where(table.state.in_(states))
        with self._database.read() as connection:
            return Rows(Recommendation(**row) for row in connection.execute(query).mappings())

    def get(self, number: int) -> Recommendation:
        """One of them.

        Raises:
            NotFoundError: There is none of that number.
        """
        query = sa.select(recommendations).where(recommendations.c.id == number)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no recommendation {number}; `guardianflow optimize` shows what there is")
        return Recommendation(**row)

    def alerts_with_one(self, numbers: Collection[int]) -> set[int]:
        """Which of these alerts have a recommendation, whatever became of it."""
        query = sa.select(recommendations.c.alert_id).where(recommendations.c.alert_id.in_(list(numbers)))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def of_ended_alerts(self) -> Sequence[tuple[int, str]]:
        """Open recommendations whose alert is over: number, and how the alert ended."""
        query = (
            sa.select(recommendations.c.id, alerts.c.ended_by)
            .join(alerts, alerts.c.id == recommendations.c.alert_id)
            .where(recommendations.c.state == State.OPEN, alerts.c.state == "resolved")
        )
        with self._database.read() as connection:
            return [(row.id, row.ended_by or "recovered") for row in connection.execute(query)]

    def decided_since(self, moment: datetime) -> Sequence[Recommendation]:
        """Those that somebody applied since a moment, the newest first."""
        table = recommendations.c
        states = (State.APPLYING, State.APPLIED, State.REFUSED, State.WAITING, State.FAILED)
        query = sa.select(recommendations).where(table.decided >= moment, table.state.in_(states))
        with self._database.read() as connection:
            return [
                Recommendation(**row) for row in connection.execute(query.order_by(table.decided.desc())).mappings()
            ]

    def move(self, number: int, *, of: Collection[str], **values: Any) -> bool:
        """Change a row that is in one of these states; ``False`` where it is in none of them."""
        table = recommendations
        change = table.update().where(table.c.id == number, table.c.state.in_(list(of))).values(**values)
        with self._database.write() as connection:
            return connection.execute(change).rowcount == 1
