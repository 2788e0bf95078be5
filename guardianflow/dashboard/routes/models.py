"""Routes of the model registry: who is in charge, who was, and the two moves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.keys import Key
from guardianflow.dashboard.routes.access import needs, settings_of

__all__ = ["router"]

router = APIRouter(prefix="/api/models", tags=["models"])

Promoter = Annotated[Key, needs("promoter")]

_MODEL: dict[str, Any] = {
    "name": "gate", "champion": "3", "candidate": None, "rollback": "2", "moves": 7,
    "updated": "2026-05-01T08:00:00+00:00",
}  # fmt: skip
_EVENT: dict[str, Any] = {
    "name": "gate", "gen": 7, "action": "promote", "version": "3", "champion": "3", "candidate": None,
    "rollback": "2", "actor": "kim", "reason": "sees the night gate", "evidence": {},
    "time": "2026-05-01T08:00:00+00:00",
}  # fmt: skip


class Models(BaseModel):
    """Registered models."""

    model_config = ConfigDict(json_schema_extra={"example": {"models": [_MODEL]}})
    models: list[dict[str, Any]]


class History(BaseModel):
    """A model's ledger, the newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "gate", "history": [_EVENT]}})
    name: str
    history: list[dict[str, Any]]


class Version(BaseModel):
    """A version of a model, as the registry has it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"example": {"name": "gate", "version": "3", "aliases": ["champion"], "status": "ready"}},
    )
    name: str
    version: str
    aliases: list[str]


class Promotion(BaseModel):
    """Which version, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"version": "3", "reason": "sees the night gate"}}
    )
    version: str | None = Field(None, description="Its number; left out, the candidate.")
    reason: str | None = Field(None, max_length=2_000, description="Why, for the ledger.")


class Rollback(BaseModel):
    """Why the champion before this one is put back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "misses people at night"}})
    reason: str | None = Field(None, max_length=2_000, description="Why, for the ledger.")


@router.get("", dependencies=[needs("viewer")])
def models(request: Request) -> Models:
    """Every model with the holders of its aliases."""
    return Models(models=[state.to_dict() for state in ModelRegistry(settings_of(request)).list_models()])


@router.get("/{name}/history", dependencies=[needs("viewer")])
def history(request: Request, name: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> History:
    """Who changed what, when, why and on what evidence."""
    events = ModelRegistry(settings_of(request)).history(name, limit=limit)
    return History(name=name, history=[event.to_dict() for event in events])


@router.post("/{name}/promote")
def promote(request: Request, name: str, key: Promoter, asked: Promotion | None = None) -> Version:
    """Put a version in charge, if the gate lets it; the key's name goes into the ledger."""
    registry = ModelRegistry(settings_of(request), actor=key.name)
    return Version(**registry.promote(name, **_given(asked)).to_dict())


@router.post("/{name}/rollback")
def rollback(request: Request, name: str, key: Promoter, asked: Rollback | None = None) -> Version:
    """Put the champion before this one back in charge; the key's name goes into the ledger."""
    registry = ModelRegistry(settings_of(request), actor=key.name)
    return Version(**registry.rollback(name, **_given(asked)).to_dict())


def _given(asked: BaseModel | None) -> dict[str, Any]:
    return {} if asked is None else asked.model_dump()
