"""Routes of alerts and recommendations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from guardianflow.dashboard.alerts import AlertEngine, AlertRules
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.dashboard.keys import Key
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.dashboard.routes.access import needs, settings_of

__all__ = ["NO_RULES", "router"]

NO_RULES = AlertRules(rules=())
"""What only looks at alerts and advice works beside a faulty rules file, too."""

router = APIRouter(prefix="/api", tags=["alerts and recommendations"])

Operator = Annotated[Key, needs("operator")]
Number = Annotated[int, Path(alias="id", ge=1, lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=1_000)]

_ALERT: dict[str, Any] = {
    "id": 12, "rule": "map50-low", "metric": "map50", "model": "gate", "site": "harbour", "camera": "cam-1",
    "state": "firing", "value": 0.61, "since": "2026-05-01T08:00:00+00:00", "fired": "2026-05-01T08:00:00+00:00",
    "facts": {"when": "map50 < 0.75", "version": "3"},
}  # fmt: skip
_RECOMMENDATION: dict[str, Any] = {
    "id": 4, "alert_id": 12, "action": "retrain", "model": "gate", "site": "harbour", "camera": "cam-1",
    "state": "open", "facts": {"why": "the dataset now holds night scenes"}, "cost": {"seconds": 5400},
    "created": "2026-05-01T08:01:00+00:00",
}  # fmt: skip


class Alerts(BaseModel):
    """Alerts, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"alerts": [_ALERT]}})
    alerts: list[dict[str, Any]]


class RecommendationsList(BaseModel):
    """Recommendations, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"recommendations": [_RECOMMENDATION]}})
    recommendations: list[dict[str, Any]]


class Advice(BaseModel):
    """A recommendation, and where it stands."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": {**_RECOMMENDATION, "state": "applying"}})
    id: int
    state: str


class Dismissal(BaseModel):
    """Why a recommendation is not followed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "the lens was cleaned"}})
    reason: str = Field(min_length=1, max_length=2_000)


@router.get("/metrics/alerts", dependencies=[needs("viewer")])
@router.get("/alerts", dependencies=[needs("viewer")])
def alerts(
    request: Request,
    state: Literal["pending", "firing", "resolved"] | None = None,
    model: str | None = None,
    site: str | None = None,
    limit: Limit = 100,
) -> Alerts:
    """Alerts that are open, and what became of earlier ones."""
    engine = AlertEngine(MetricsStore(settings_of(request).database_url), NO_RULES)
    found = engine.list(state=state, model=model, site=site, limit=limit)
    return Alerts(alerts=[alert.to_dict() for alert in found])


@router.get("/recommendations", dependencies=[needs("viewer")])
def recommendations(request: Request, state: str | None = None, limit: Limit = 100) -> RecommendationsList:
    """What is advised, on which evidence, and what was done."""
    found = AutoOptimizer(rules=NO_RULES, settings=settings_of(request)).list(state, limit=limit)
    return RecommendationsList(recommendations=[item.to_dict() for item in found])


@router.post("/recommendations/{id}/apply", status_code=202)
def apply(request: Request, number: Number, key: Operator) -> Advice:
    """Begin to carry a recommendation out; what comes of it stands in the list. Only a promoter's may promote."""
    optimizer = AutoOptimizer(settings=settings_of(request))
    return Advice(**optimizer.start(number, actor=key.name, may_promote=key.may("promoter")).to_dict())


@router.post("/recommendations/{id}/dismiss")
def dismiss(request: Request, number: Number, key: Operator, asked: Dismissal) -> Advice:
    """Say no to a recommendation."""
    optimizer = AutoOptimizer(rules=NO_RULES, settings=settings_of(request))
    return Advice(**optimizer.dismiss(number, actor=key.name, reason=asked.reason).to_dict())
