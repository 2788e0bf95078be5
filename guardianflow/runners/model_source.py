"""What a model argument stands for: a file, a run, or a registered version; found, and where it comes from.

``infer`` and ``quant`` take the same three forms, so that a benchmark can be asked of whatever there is.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry, ModelVersion
from guardianflow.exceptions import GuardianFlowError, NotFoundError
from guardianflow.files.content import measure
from guardianflow.files.run_folder import RESULT_FILE
from guardianflow.runs.run_records import RunRecord, RunRecords
from guardianflow.state.database import Database

__all__ = ["FoundModel", "find_model_source"]

DATASET_FILE = "dataset.json"

_RUN_ID = re.compile(r"^[0-9a-f]{6,32}$")


@dataclass(frozen=True)
class FoundModel:
    """A model on this machine, and where it comes from.

    Attributes:
        spec: What was asked for.
        path: The file or folder.
        run_id: The run that made it, where that is known.
        model_name: Its registered name.
        version: Its registered version.
        data_yaml: The dataset it was trained on, where its run recorded one.
        fingerprint: That dataset's fingerprint.
        backend: What serves the registered version; empty for other models.
        precision: What that backend is asked for; likewise.
        imgsz: Side of its input in pixels as it is served; 0 for other models and where the file says it.
    """

    spec: str
    path: Path
    run_id: str = ""
    model_name: str = ""
    version: str = ""
    data_yaml: str = ""
    fingerprint: str = ""
    backend: str = ""
    precision: str = ""
    imgsz: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "path": str(self.path)}


def find_model_source(spec: str, settings: Settings) -> FoundModel:
    """Find what a model argument stands for.

    Args:
        spec: A file or folder, a run id (or the beginning of one), ``models:/NAME@alias`` or ``models:/NAME/3``.
        settings: Where runs and models are.

    Raises:
        NotFoundError: No such run, model or version, or its file is gone.
        InputError: It is none of these.
        HashMismatchError: The registered file was changed.
        TrackingUnavailableError: MLflow is needed and doesn't answer.
    """
    if spec.startswith("models:/"):
        return _of_version(spec, settings)
    path = Path(spec).expanduser()
    if path.exists():
        return FoundModel(spec, path.absolute())
    if _RUN_ID.match(spec):
        return _of_run(spec, settings)
    raise NotFoundError(
        f"there is no model {spec!r}: pass a model file or folder that exists, a run id "
        "(`guardianflow list runs`), or models:/NAME@champion"
    )


def _of_version(uri: str, settings: Settings) -> FoundModel:
    registry = ModelRegistry(settings)
    version = registry.find(uri)
    found = FoundModel(
        uri,
        registry.download(version.name, version.version),
        run_id=version.run_id,
        model_name=version.name,
        version=version.version,
        fingerprint=version.dataset_fingerprint or "",
        backend=version.serving.backend,
        precision=version.serving.precision,
        imgsz=version.serving.imgsz,
    )
    try:
        record = RunRecords(Database.open(settings.database_url)).get(version.run_id)
    except NotFoundError:
        return found  # registered from a run that others logged
    return _with_data(found, record)


def _of_run(run_id: str, settings: Settings) -> FoundModel:
    record = RunRecords(Database.open(settings.database_url)).get(run_id)
    record.require_files()
    path = _file_of(record) or _artifact_of(record, settings)
    version = _registered_from(record.run_id, path, settings)
    found = FoundModel(run_id, path, run_id=record.run_id)
    if version is not None:
        found = replace(found, model_name=version.name, version=version.version)
    return _with_data(found, record)


def _with_data(found: FoundModel, record: RunRecord) -> FoundModel:
    facts = _read(record.folder / DATASET_FILE)
    return replace(
        found,
        data_yaml=str(facts.get("data_yaml") or record.parameters.get("data_yaml") or ""),
        fingerprint=found.fingerprint or str(facts.get("fingerprint") or ""),
    )


def _file_of(record: RunRecord) -> Path | None:
    """What the run left in its folder: the best weights of a training, or the artifact that its result names."""
    result = _read(record.folder / RESULT_FILE)
    places = [record.folder / "training" / "weights" / "best.pt"]
    if result.get("model_file"):
        places.append(record.folder / str(result["model_file"]))
    inside = record.folder.resolve()
    return next((place for place in places if place.exists() and place.resolve().is_relative_to(inside)), None)


def _artifact_of(record: RunRecord, settings: Settings) -> Path:
    from guardianflow.registry.mlflow_registry import MlflowRegistry

    try:
        with MlflowRegistry(settings).artifact(record.run_id, "weights/best.pt") as path:
            kept = settings.work_dir / "cache" / "models" / record.run_id / path.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_name(f".{secrets.token_hex(6)}.part")
            shutil.copyfile(path, draft)
            return draft.replace(kept)
    except NotFoundError as error:
        raise NotFoundError(
            f"run {record.run_id} ({record.kind}, {record.status.lower()}) left no model: neither its folder "
            f"{record.folder} nor MLflow has weights/best.pt; name a finished training or quantization"
        ) from error


def _registered_from(run_id: str, path: Path, settings: Settings) -> ModelVersion | None:
    """The version that a run's file was registered as; none for a file that was changed since."""
    registry = ModelRegistry(settings)
    found = [
        version
        for state in registry.list_models()
        for version in registry.list_versions(state.name)
        if version.run_id == run_id
    ]
    sha256 = measure(path).sha256 if found else ""
    return next((version for version in found if version.sha256 == sha256), None)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, GuardianFlowError):
        return {}
    return content if isinstance(content, dict) else {}
