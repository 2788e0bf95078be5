"""What the store knows of the sites at a moment: figures on labelled pictures, live figures, who reported when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.site_states import Figure, Trend
from guardianflow.state.tables import metric_records, model_states

__all__ = ["ACCURACY", "LABELLED", "LIVE", "Part", "SiteFigures", "newest"]

ACCURACY, LABELLED, LIVE = "map50", "inference", "service"
_SHOWN_LIVE = ("latency_ms_p95", "throughput_fps", "gpu_util")
_LIVE_WINDOW, _LIVE_REMEMBERED = timedelta(hours=1), timedelta(days=30)
_LABELLED_REMEMBERED = timedelta(days=365)
_LIVE_TREND, _LABELLED_TREND = timedelta(days=1), timedelta(days=30)
_TICK = timedelta(microseconds=1)
_BARS, _LEAST_BARS = 30, 2


@dataclass(frozen=True, order=True)
class Part:
    """What is watched: a camera (empty: the whole site) of a site, by a model (empty: it is not named)."""

    site: str
    camera: str = ""
    model: str = ""


class SiteFigures:
    """Figures of the versions in charge, and those that name no version.

    Args:
        store: Where they are.
        now: The moment that is looked at; later figures don't count.

    Attributes:
        champions: Model → its version in charge and when the model was last changed.
        labelled: The newest accuracy of each part.
        live: The medians of the last hour.
        seen: When each part last sent a live figure, whatever its version.
        measured: When each part was first measured.
    """

    def __init__(self, store: MetricsStore, now: datetime) -> None:
        self._store, self._now = store, now
        with store.database.read() as connection:
            query = sa.select(model_states.c.name, model_states.c.champion, model_states.c.updated)
            self.champions: dict[str, tuple[str | None, datetime]] = {
                name: (champion, updated) for name, champion, updated in connection.execute(query)
            }
        back = now - _LABELLED_REMEMBERED
        self.labelled = self._figures([ACCURACY], LABELLED, "last", back)
        self.live = self._figures(_SHOWN_LIVE, LIVE, "p50", now - _LIVE_WINDOW)
        time = metric_records.c.time
        last, first = sa.func.max(time, type_=time.type), sa.func.min(time, type_=time.type)
        self.seen = self._times(last, LIVE, now - _LIVE_REMEMBERED)
        self.measured = self._times(first, LABELLED, back, metric_records.c.metric == ACCURACY, _in_charge())

    def champion(self, model: str) -> str | None:
        """The version in charge of a model."""
        return self.champions.get(model, (None, self._now))[0]

    def parts(self) -> set[Part]:
        """Everything that has figures."""
        return {part for part, _ in (*self.labelled, *self.live)} | set(self.seen)

    def trend(self, metric: str, source: str, *, site: str, camera: str = "") -> Trend | None:
        """How a metric went at a place; ``None`` where that is no picture yet."""
        back = _LABELLED_TREND if source == LABELLED else _LIVE_TREND
        where: dict[str, Any] = {"site": site, "source": source, **({"camera": camera} if camera else {})}
        frame = self._store.trend(metric, points=_BARS, start=self._now - back, end=self._now + _TICK, **where)
        points = tuple(
            (row["time"].to_pydatetime(), float(row["mean"]) if row["count"] else None)
            for row in frame.to_dict("records")
        )
        if sum(value is not None for _, value in points) < _LEAST_BARS:
            return None
        return Trend(metric, points, back.total_seconds())

    def _figures(self, metrics: Sequence[str], source: str, which: str, start: datetime) -> list[tuple[Part, Figure]]:
        frame = self._store.summary(metric=metrics, source=source, start=start, end=self._now + _TICK)
        found = []
        for row in frame.to_dict("records"):
            in_charge = self.champion(row["model"] or "")
            if not row["site"] or not row["count"] or (row["version"] and in_charge not in (None, row["version"])):
                continue
            time = row["last_time"].to_pydatetime()
            figure = Figure(row["metric"], float(row[which]), time, source, int(row["count"]))
            found.append((_part(row["site"], row["camera"], row["model"]), figure))
        return sorted(found, key=lambda each: metrics.index(each[1].metric))

    def _times(
        self, which: sa.ColumnElement[Any], source: str, start: datetime, *where: sa.ColumnElement[bool]
    ) -> dict[Part, datetime]:
        table = metric_records.c
        labels = (table.site, table.camera, table.model)
        query = sa.select(*labels, which).where(table.source == source, table.site.is_not(None), *where)
        query = query.where(table.time >= start, table.time <= self._now).group_by(*labels)
        with self._store.database.read() as connection:
            return {_part(site, camera, model): time for site, camera, model, time in connection.execute(query)}


def _in_charge() -> sa.ColumnElement[bool]:
    table = metric_records.c
    champion = sa.select(model_states.c.champion).where(model_states.c.name == table.model).scalar_subquery()
    return sa.or_(table.version.is_(None), table.version == sa.func.coalesce(champion, table.version))


def _part(site: str, camera: str | None, model: str | None) -> Part:
    return Part(site, camera or "", model or "")


def newest(figures: Iterable[Figure]) -> Figure | None:
    """The newest of some figures."""
    return max(figures, key=lambda figure: figure.time, default=None)
