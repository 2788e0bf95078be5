"""Whether the server lives, whether it can answer, and its figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from guardianflow import __version__
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.alerts import AlertEngine
from guardianflow.dashboard.keys import Keys
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.routes.access import needs, settings_of
from guardianflow.dashboard.routes.advice import NO_RULES
from guardianflow.state.database import Database

__all__ = ["router"]

router = APIRouter(tags=["health"])

_LABELS = ("model", "version", "site", "camera", "source")
_OF_ALERT = ("id", "rule", "state", "model", "site", "camera")
_FRESH = timedelta(days=1)


@router.get("/api/health")
def health() -> dict[str, str]:
    """The process answers; asks nothing else."""
    return {"status": "alive", "version": __version__}


@router.get("/api/ready")
def ready(request: Request) -> dict[str, str]:
    """The state database answers; 503 where it doesn't."""
    Keys(Database.open(settings_of(request).database_url)).any()
    return {"status": "ready"}


@router.get("/metrics", dependencies=[needs("viewer")], response_class=PlainTextResponse)
def prometheus(request: Request) -> PlainTextResponse:
    """The last day's figures, open alerts and champions, as Prometheus reads them."""
    settings = settings_of(request)
    store = MetricsStore(settings.database_url)
    rows = store.summary(by=_LABELS, start=datetime.now(UTC) - _FRESH).to_dict("records")
    rows = [row for row in rows if row["count"]]
    figures = [({"metric": row["metric"], **{name: row[name] for name in _LABELS}}, row) for row in rows]
    alerts = AlertEngine(store, NO_RULES).open()
    states = [state for state in ModelRegistry(settings).list_models() if state.champion]
    gauges = {
        "figure": ("Last value within a day", [(labels, row["last"]) for labels, row in figures]),
        "figure_time_seconds": (
            "When it was measured",
            [(labels, row["last_time"].timestamp()) for labels, row in figures],
        ),
        "alert": ("An open alert", [({name: getattr(alert, name) for name in _OF_ALERT}, 1) for alert in alerts]),
        "champion": ("The version in charge", [({"model": s.name, "version": s.champion}, 1) for s in states]),
    }
    text = "".join(line for name, (meaning, samples) in gauges.items() for line in _gauge(name, meaning, samples))
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _gauge(name: str, meaning: str, samples: Iterable[tuple[Mapping[str, Any], float]]) -> Iterator[str]:
    yield f"# HELP guardianflow_{name} {meaning}\n# TYPE guardianflow_{name} gauge\n"
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items() if text is not None)
        yield f"guardianflow_{name}{{{shown}}} {float(value)!r}\n"


def _escaped(text: object) -> str:
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
