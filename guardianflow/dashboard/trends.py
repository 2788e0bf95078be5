"""How a figure went over time, place by place: lines with their gaps, and which of them moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import CATALOGUE, Direction
from guardianflow.dashboard.alert_rules import AlertRules
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.site_figures import ACCURACY, LABELLED, LIVE
from guardianflow.exceptions import GuardianFlowError
from guardianflow.state.tables import metric_records

__all__ = ["SPANS", "USUAL_SPAN_S", "Line", "Trends", "trends"]

_DAY = 86_400
SPANS = tuple(days * _DAY for days in (1, 7, 30, 90, 365))
"""Time spans that are offered, in seconds."""
USUAL_SPAN_S = 30 * _DAY
_POINTS, _LEAST = 60, 4
_TICK = timedelta(microseconds=1)
_STEPS, _SHARE = 3.0, 0.02  # so many usual steps from bucket to bucket, and so large a share of the value, is a move


@dataclass(frozen=True)
class Line:
    """A figure at one place.

    Attributes:
        model: The model that it is of.
        site: Where.
        camera: Which camera; ``None`` for the whole site.
        points: Start and mean of each time bucket, ``None`` where nothing was measured.
    """

    model: str | None
    site: str | None
    camera: str | None
    points: tuple[tuple[datetime, float | None], ...]

    @property
    def values(self) -> list[float]:
        """What was measured, in order."""
        return [value for _, value in self.points if value is not None]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The medians of its first and of its last quarter; ``None`` with fewer than four figures."""
        values = self.values
        quarter = max(1, len(values) // 4)
        return (median(values[:quarter]), median(values[-quarter:])) if len(values) >= _LEAST else None

    @property
    def moved(self) -> int:
        """Whether it rose (1) or fell (-1) by more than it wobbles, else 0."""
        if self.ends is None:
            return 0
        before, after = self.ends
        wobble = median(abs(one - other) for one, other in zip(self.values, self.values[1:], strict=False))
        if abs(after - before) <= max(_STEPS * wobble, _SHARE * max(abs(before), abs(after))):
            return 0
        return 1 if after > before else -1


@dataclass(frozen=True)
class Trends:
    """One figure at all places that were asked for.

    Attributes:
        now: The moment that is looked at.
        span_s: How far back.
        metric: Which figure; empty where there is none.
        lines: The places that moved for the worse first, then by name.
        metrics: Figures that can be chosen; so models and sites.
        models: See there.
        sites: See there.
        op: How a rule holds the figure against :attr:`limit`; empty without one.
        limit: The rule's bound.
        trouble: What stands against reading.
    """

    now: datetime
    span_s: float = USUAL_SPAN_S
    metric: str = ""
    lines: tuple[Line, ...] = ()
    metrics: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    op: str = ""
    limit: float | None = None
    trouble: str = ""

    def worse(self, line: Line) -> bool | None:
        """Whether a line moved for the worse; ``None`` where it didn't move, or neither way is better."""
        spec = CATALOGUE.get(self.metric)
        if not line.moved or spec is None or spec.direction is Direction.NEITHER:
            return None
        return (line.moved < 0) == (spec.direction is Direction.HIGHER)


def trends(
    settings: Settings | None = None,
    now: datetime | None = None,
    *,
    metric: str = "",
    model: str = "",
    site: str = "",
    span_s: float = USUAL_SPAN_S,
) -> Trends:
    """How a figure went; what can't be read is said, not raised.

    Args:
        settings: Where the figures are. Default: the environment's.
        now: The moment that is looked at. Default: now.
        metric: Which figure; one that isn't there gives way to the accuracy, or to the first there is.
        model: Of this model alone.
        site: At this site alone.
        span_s: How far back, in seconds.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    try:
        settings = settings or Settings()
        store = MetricsStore(settings.database_url)
        known = _choices(store)
        metrics = tuple(known.sources)
        if not metrics:
            return Trends(moment, span_s)
        chosen = metric if metric in metrics else ACCURACY if ACCURACY in metrics else metrics[0]
        rule = next((rule for rule in AlertRules.load(settings=settings).rules if rule.metric == chosen), None)
        found = Trends(
            moment, span_s, chosen, (), metrics, known.models, known.sites,
            rule.op if rule else "", rule.bound if rule else None,
        )  # fmt: skip
        where = {"source": known.sources[chosen]}
        where |= {"model": model} if model in known.models else {}
        where |= {"site": site} if site in known.sites else {}
        lines = _lines(store, chosen, moment - timedelta(seconds=span_s), moment, where)
        return replace(found, lines=tuple(sorted(lines, key=lambda line: not found.worse(line))))
    except GuardianFlowError as error:
        return Trends(moment, span_s, trouble=mask_secrets(str(error)))


@dataclass(frozen=True)
class _Choices:
    """What can be chosen, and whether a metric's figures are live ones: they aren't mixed with those of benchmarks."""

    sources: Mapping[str, str]
    models: tuple[str, ...]
    sites: tuple[str, ...]


def _choices(store: MetricsStore) -> _Choices:
    """Of figures that were measured at a place or of a registered model."""
    table = metric_records.c
    query = sa.select(table.metric, table.source, table.model, table.site)
    with store.database.read() as connection:
        rows = list(connection.execute(query.where(table.source.in_((LABELLED, LIVE))).distinct()))
    known = [row for row in rows if row.metric in CATALOGUE and (row.model or row.site)]
    live = {row.metric for row in known if row.source == LIVE}
    metrics = sorted({row.metric for row in known}, key=list(CATALOGUE).index)
    return _Choices(
        {metric: LIVE if metric in live else LABELLED for metric in metrics},
        _names(row.model for row in known),
        _names(row.site for row in known),
    )


def _names(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))


def _lines(
    store: MetricsStore, metric: str, start: datetime, end: datetime, where: Mapping[str, Any]
) -> Sequence[Line]:
    frame = store.trend(
        metric, by=("model", "site", "camera"), points=_POINTS, start=start, end=end + _TICK, **where
    )  # fmt: skip
    found: dict[tuple[str | None, ...], list[tuple[datetime, float | None]]] = {}
    for row in frame.to_dict("records"):
        place = tuple(str(row[name]) if isinstance(row[name], str) else None for name in ("site", "camera", "model"))
        value = float(row["mean"]) if row["count"] else None
        found.setdefault(place, []).append((row["time"].to_pydatetime(), value))
    return [
        Line(model, site, camera, tuple(points))
        for (site, camera, model), points in sorted(found.items(), key=lambda item: tuple(map(str, item[0])))
    ]
