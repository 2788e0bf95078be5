"""A state database with sites in it: figures through the store, a champion in the ledger, no training."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.alerts import AlertEngine, AlertRules
from guardianflow.dashboard.keys import Keys
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.recommendations import Recommendation, Recommendations
from guardianflow.state.tables import model_states

NOW = datetime(2026, 11, 28, 15, 0, tzinfo=UTC)
LIVE = {"latency_ms_p95": 21.4, "throughput_fps": 31.2, "gpu_util": 64.0}


class Scene:
    """Sites of one model, ``guard``."""

    def __init__(self, folder: Path, now: datetime = NOW, *, url: str = "") -> None:
        self.now = now
        url = url or f"sqlite:///{folder}/state.db"
        self.settings = Settings(work_dir=folder / "work", database_url=url, actor="tests")
        self.store = MetricsStore(self.settings.database_url)
        self.database = self.store.database

    def charge(self, version: str, *, model: str = "guard", ago: float = 0.0) -> None:
        """Put a version in charge."""
        values = {"gen": 1, "champion": version, "updated": self.now - timedelta(hours=ago)}
        with self.database.write() as connection:
            connection.execute(sa.delete(model_states).where(model_states.c.name == model))
            connection.execute(sa.insert(model_states).values(name=model, **values))

    def labelled(
        self, site: str | None, value: float, *, camera: str | None = None, ago: float = 1.0, version: str | None = "1"
    ) -> None:
        """What ``infer`` measured on labelled pictures, so many hours ago."""
        place: dict[str, Any] = {"site": site, "camera": camera, "version": version}
        self.store.save_metrics([self._record("map50", value, ago, source="inference", **place)])

    def live(
        self,
        site: str,
        *,
        camera: str = "gate",
        ago: float = 0.05,
        version: str | None = "1",
        model: str | None = "guard",
        **figures: float,
    ) -> None:
        """What a served model reported, every five minutes for 70 minutes; the newest so many hours ago."""
        place: dict[str, Any] = {"site": site, "camera": camera, "version": version, "model": model}
        self.store.save_metrics(
            self._record(metric, value, ago + minute / 60, source="service", **place)
            for metric, value in {**LIVE, **figures}.items()
            for minute in range(0, 75, 5)
        )

    def report(self, metric: str, value: float, *, ago: float, version: str = "1") -> None:
        """One live figure of the gate of the harbour."""
        place = {"site": "harbour", "camera": "gate", "version": version}
        self.store.save_metrics([self._record(metric, value, ago, source="service", **place)])

    def _record(self, metric: str, value: float, ago: float, **labels: Any) -> MetricRecord:
        time = self.now - timedelta(hours=ago)
        return MetricRecord(time=time, metric=metric, value=value, **{"model": "guard", **labels})

    def evaluate(self, *, ago: float = 0.0) -> None:
        """Evaluate the shipped rules at a moment."""
        AlertEngine(self.store, AlertRules.load(settings=self.settings)).evaluate(self.now - timedelta(hours=ago))

    def recommend(self, action: str = "retrain", *, about: str = "map50", **facts: Any) -> Recommendation:
        """Advise something about an open alert; applied for real it finds no model and is withdrawn."""
        opened = AlertEngine(self.store, AlertRules.load(settings=self.settings)).open()
        alert = next(alert for alert in opened if alert.metric == about)
        known = {
            "rule": alert.rule, "when": alert.facts["when"], "metric": alert.metric, "value": alert.value,
            "since": alert.since.isoformat(), "champion": "1", "why": "the same training can be repeated",
            "caveats": [], **facts,
        }  # fmt: skip
        scenario: Mapping[str, Any] = {
            "kind": "train", "experiment_name": "harbour", "model": {"arch": "yolo11n"},
            "dataset": {"data_yaml": "harbour/data.yaml"}, "run": {"epochs": 40, "register_as": "guard"},
        }  # fmt: skip
        rows = Recommendations(self.database)
        rows.add(
            alert_id=alert.id, action=action, model="guard", site=alert.site, camera=alert.camera, facts=known,
            cost={"kind": "train", "seconds": 260.0, "based_on": "4f1c2a7b9d"}, scenario=scenario, created=self.now,
        )  # fmt: skip
        return rows.list()[0]

    def key(self, role: str) -> str:
        """The token of a new key."""
        return Keys(self.database).create(f"Kim {role}", role, by="tests")[1]

    def revoke(self, name: str) -> None:
        """Make a key open nothing."""
        Keys(self.database).revoke(name)
