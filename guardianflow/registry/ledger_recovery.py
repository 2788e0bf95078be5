"""A model whose ledger was lost: taken up as MLflow shows it, before MLflow's aliases are made equal to nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from guardianflow.exceptions import NotFoundError
from guardianflow.files.content import measure
from guardianflow.registry.evidence import finite_metrics
from guardianflow.registry.ledger import Change, Ledger
from guardianflow.registry.mlflow_registry import ARTIFACT_TAG, FINGERPRINT_TAG, SHA256_TAG, MlflowRegistry
from guardianflow.registry.model_records import ALIASES, ModelVersion
from guardianflow.vision.serving import Serving

__all__ = ["take_up"]

log = logging.getLogger(__name__)


def take_up(name: str, ledger: Ledger, mlflow: MlflowRegistry, *, actor: str) -> None:
    """Enter again what MLflow still knows of a model that the ledger doesn't: its versions and who holds which alias.

    Only what carries our tags is taken, and only where an alias of ours is set: without one, the model never got
    into a ledger. Why versions were promoted, and which were rejected, is lost.

    Args:
        name: Model name; the caller holds the lock of its versions.
        ledger: Where it is entered; nothing is done where it knows the model.
        mlflow: What is known.
        actor: Who takes it up.

    Raises:
        TrackingUnavailableError: MLflow doesn't answer.
    """
    if ledger.state(name).gen:
        return
    try:
        aliases = mlflow.aliases(name)
    except NotFoundError:
        return
    ours = {str(item.version): item for item in mlflow.versions(name) if {SHA256_TAG, ARTIFACT_TAG} <= set(item.tags)}
    held: dict[str, Any] = {alias: version for alias in ALIASES if (version := aliases.get(alias)) in ours}
    if held.get("rollback") == held.get("champion"):
        held.pop("rollback", None)
    if not held:
        return
    numbers = sorted(ours, key=int)
    found = [_version(name, ours[number], mlflow) for number in numbers]
    evidence = {"taken up from": "MLflow", "versions": numbers}
    ledger.move(
        name,
        "register",
        lambda state, _: None if state.gen else Change(numbers[-1], replace(state, **held), None, found, evidence),
        actor=actor,
        reason="the ledger knew nothing of this model",
    )
    said = ", ".join(f"@{alias} is {version}" for alias, version in held.items())
    log.warning(
        "the ledger knew nothing of model %r, which GuardianFlow had registered: taken up from MLflow were versions %s "
        "(%s). Its history, reasons and rejections are lost. If there is a copy of the state database, stop here and "
        "put it back.", name, ", ".join(numbers), said,
    )  # fmt: skip


def _version(name: str, found: Any, mlflow: MlflowRegistry) -> ModelVersion:
    tags: Mapping[str, str] = found.tags
    size, metrics, run_tags = 0, {}, {}
    try:
        run = mlflow.run(found.run_id)
        metrics, run_tags = dict(run.data.metrics), dict(run.data.tags)
        with mlflow.artifact(found.run_id, tags[ARTIFACT_TAG]) as path:
            size = measure(path).size_bytes
    except NotFoundError as error:
        log.warning("version %s of model %r has lost its run or file: %s", found.version, name, error)
    return ModelVersion(
        name=name,
        version=str(found.version),
        run_id=found.run_id or "",
        artifact=tags[ARTIFACT_TAG],
        sha256=tags[SHA256_TAG],
        size_bytes=size,
        dataset_fingerprint=run_tags.get(FINGERPRINT_TAG),
        metrics=finite_metrics(metrics),
        status="ready",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        created_by="unknown",
        serving=Serving.of_tags(tags),
    )
