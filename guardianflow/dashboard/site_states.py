"""What the fleet page knows of a site: plain facts, from which sentences are made in any language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from guardianflow.text.frozen import Frozen

__all__ = ["Advice", "CameraState", "Figure", "Reason", "SiteState", "State", "Trend", "plain"]


class State(StrEnum):
    """How a site or a camera is."""

    UNWELL = "unwell"
    UNKNOWN = "unknown"
    WELL = "well"


WORST_FIRST = (State.UNWELL, State.UNKNOWN, State.WELL)


@dataclass(frozen=True)
class Figure:
    """The newest value of a metric.

    Attributes:
        metric: Its name.
        value: In the metric's unit.
        time: When it was measured.
        source: ``"inference"``: on labelled pictures; ``"service"``: live.
        count: How many figures it is made of.
    """

    metric: str
    value: float
    time: datetime
    source: str
    count: int = 1


@dataclass(frozen=True)
class Reason:
    """Why a state is what it is.

    Attributes:
        kind: The message ``why.KIND`` says it.
        facts: ``metric``, ``value``, ``op``, ``limit``, ``last_seen``, ``time``, ``version`` …, as the kind needs them.
        camera: Whose; ``None`` for the whole site.
    """

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    camera: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", Frozen(self.facts))


@dataclass(frozen=True)
class Advice:
    """What to do.

    Attributes:
        kind: The message ``advice.KIND`` says it.
        action: Name of the recommended action; empty where a person must act.
        recommendation: Its number.
        actor: Who decided.
        reason: Why that person said no.
    """

    kind: str
    action: str = ""
    recommendation: int | None = None
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Trend:
    """How a metric went: the mean of each time bucket, ``None`` where nothing was measured.

    Attributes:
        metric: Its name.
        points: Start and mean of each bucket.
        span_s: How far back it goes.
        op: How the value is held against :attr:`limit` by the rule; empty without a rule.
        limit: The rule's bound.
    """

    metric: str
    points: tuple[tuple[datetime, float | None], ...]
    span_s: float
    op: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class CameraState:
    """How a camera is.

    Attributes:
        camera: Its name; ``None`` for figures of the whole site.
        model: The model that watches it.
        state: How it is.
        reasons: Why, the weightiest first.
        notes: What is worth knowing and makes nothing unwell.
        since: Since when.
        figures: The newest ones.
        last_seen: When it last sent a live figure.
    """

    camera: str | None
    model: str | None
    state: State
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...] = ()
    since: datetime | None = None
    figures: tuple[Figure, ...] = ()
    last_seen: datetime | None = None


@dataclass(frozen=True)
class SiteState:
    """How a site is: as its worst camera.

    Attributes:
        site: Its name.
        state: How it is.
        reasons: Why, the weightiest first.
        since: Since when.
        advice: What to do.
        models: Model → its version in charge, or ``None``.
        cameras: Its cameras, the worst first.
        trend: A picture of what matters most, where there is one.
    """

    site: str
    state: State
    reasons: tuple[Reason, ...]
    since: datetime | None
    advice: tuple[Advice, ...]
    models: Mapping[str, str | None]
    cameras: tuple[CameraState, ...]
    trend: Trend | None = None


def plain(value: Any) -> Any:
    """The facts as plain JSON types."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
