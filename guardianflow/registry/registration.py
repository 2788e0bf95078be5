"""How a file of a run becomes a version: measured, entered in MLflow and in the ledger, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from guardianflow._plugins import Registry
from guardianflow.exceptions import NotFoundError
from guardianflow.files.content import Measured, measure
from guardianflow.registry.evidence import finite_metrics, legal_text
from guardianflow.registry.ledger import Change, Ledger, Move
from guardianflow.registry.ledger_recovery import take_up
from guardianflow.registry.mlflow_registry import ARTIFACT_TAG, FINGERPRINT_TAG, SHA256_TAG, MlflowRegistry
from guardianflow.registry.mlmodel import MLmodel
from guardianflow.registry.model_cache import legal_artifact
from guardianflow.registry.model_records import ModelVersion
from guardianflow.runs.run_records import RunRecords, files_lock
from guardianflow.vision.serving import Serving

__all__ = ["ADMISSIONS", "Admission", "Registration"]

log = logging.getLogger(__name__)

Admission: TypeAlias = Callable[[Path, Serving | None], Serving]

ADMISSIONS: Registry[Admission] = Registry("admission", {"reading": "guardianflow.vision.preflight:serving_of"})
"""What is asked of a file before it becomes a version: how it is served. Raises where it can't be used."""


class Registration:
    """Enters model files as versions.

    Args:
        ledger: The authority.
        mlflow: Where the runs are, and where versions are shown.
        admission: What each file is asked: a function that raises, or a name from :data:`ADMISSIONS`.
        actor: Who enters them.
        clock: What time it is.
    """

    def __init__(
        self,
        ledger: Ledger,
        mlflow: MlflowRegistry,
        *,
        admission: Admission | str,
        actor: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._mlflow = mlflow
        self._admission = admission
        self._actor = actor
        self._clock = clock

    def enter(
        self,
        name: str,
        run_id: str,
        *,
        artifact: str,
        metrics: Mapping[str, float] | None,
        dataset_fingerprint: str | None,
        serving: Serving | None,
    ) -> tuple[ModelVersion, Move | None]:
        """The version of a file, and the move that entered it; no move where it was entered before."""
        artifact = legal_artifact(artifact)
        self._require_files(run_id)
        run = self._mlflow.run(run_id)
        with self._mlflow.artifact(run_id, artifact) as path:
            content = measure(path)
            admission = ADMISSIONS.get(self._admission) if isinstance(self._admission, str) else self._admission
            served = admission(path, serving)
        if serving is None:
            served = replace(served, imgsz=_trained_at(run.data.params))
        figures = finite_metrics(run.data.metrics if metrics is None else metrics)
        fingerprint = legal_text(
            dataset_fingerprint or run.data.tags.get(FINGERPRINT_TAG), "dataset fingerprint", most=64
        )
        lock = self._ledger.database.lock
        with lock(f"the versions of model {name!r}"), lock(files_lock(run_id)):
            self._require_files(run_id)
            take_up(name, self._ledger, self._mlflow, actor=self._actor)
            known = self._registered(name, run_id, artifact, content, serving)
            if known is not None:
                return known, None
            version = ModelVersion(
                name=name,
                version=self._number(name, run_id, artifact, content, served),
                run_id=run_id,
                artifact=artifact,
                sha256=content.sha256,
                size_bytes=content.size_bytes,
                dataset_fingerprint=fingerprint,
                metrics=figures,
                status="ready",
                created=self._clock(),
                created_by=self._actor,
                serving=served,
            )
            evidence = {"run_id": run_id, "artifact": artifact, "sha256": content.sha256}
            move = self._ledger.move(
                name,
                "register",
                lambda state, _: Change(version.version, state.nominated(version.version), None, (version,), evidence),
                actor=self._actor,
            )
        return version, move

    def _require_files(self, run_id: str) -> None:
        try:
            record = RunRecords(self._ledger.database).get(run_id)
        except NotFoundError:
            return  # a run that others logged
        record.require_files()

    def _registered(
        self, name: str, run_id: str, artifact: str, content: Measured, serving: Serving | None
    ) -> ModelVersion | None:
        wanted = (run_id, artifact, content.sha256)
        for item in self._ledger.versions(name):
            if (item.run_id, item.artifact, item.sha256) == wanted and serving in (None, item.serving):
                return item
        return None

    def _number(self, name: str, run_id: str, artifact: str, content: Measured, serving: Serving) -> str:
        """A version in MLflow: one that a killed registration left behind, or a new one."""
        taken = {item.version for item in self._ledger.versions(name, include_deleted=True)}
        wanted = {ARTIFACT_TAG: artifact, SHA256_TAG: content.sha256, **serving.tags()}
        for number, tags in self._mlflow.versions_of_run(name, run_id):
            if number not in taken and wanted.items() <= tags.items():
                return number
        mlmodel = MLmodel.of(run_id, artifact, content, serving)
        while (number := self._mlflow.create_version(name, run_id, mlmodel, tags=wanted)) in taken:
            # Somebody deleted the whole model in MLflow, which then counts from 1 again. A number
            # that our ledger knows must not come to mean another file.
            log.warning("version %s of model %r was taken already; MLflow counts anew", number, name)
            self._mlflow.delete_version(name, number)
        return number


def _trained_at(params: Mapping[str, Any]) -> int:
    """The image size that a training logged; 0 where there is none."""
    value = str(params.get("imgsz", ""))
    return int(value) if value.isdigit() and int(value) <= 8192 else 0
