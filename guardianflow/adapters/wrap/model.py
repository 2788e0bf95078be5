"""The model that a wrapped script made: which of its files that is, and its way into the registry."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from guardianflow.adapters.wrap.artifacts import Artifact, any_of
from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, ModelFileError
from guardianflow.runs.tracking import TrackedRun
from guardianflow.text.command_lines import command

__all__ = ["model_among", "register_model", "whole_model"]

_UPLOAD_S = 60.0
_WEIGHTS = (".pt", ".pth", ".onnx", ".safetensors", ".ckpt", ".engine", ".keras", ".h5", ".tflite")


def model_among(folder: Path, artifacts: Sequence[Artifact], pattern: str) -> Path | None:
    """Which of the files is the model: of those that match, the one called best, else the newest.

    Args:
        folder: Where they lie.
        artifacts: What a script made.
        pattern: Glob of the model; empty: any weights.
    """
    wanted = any_of([pattern] if pattern else [f"**/*{ending}" for ending in _WEIGHTS])
    found = [folder / row["name"] for row in artifacts if wanted.match(row["name"])]
    best = [path for path in found if "best" in path.stem.lower()]
    return max(best or found, key=lambda path: (path.stat().st_mtime, path), default=None)


def whole_model(folder: Path, found: Path) -> Path:
    """The model that a file is a part of: the file itself, or the folder that is one (OpenVINO, SavedModel, …)."""
    from guardianflow.vision.model_artifacts import model_format

    if found.suffix.lower() not in _WEIGHTS:
        for path in found.parents:
            if path == folder:
                break
            with contextlib.suppress(ModelFileError):
                model_format(path)
                return path
    return found


def register_model(
    run: TrackedRun, settings: Settings, name: str, model: Path, where: str, metrics: Mapping[str, float]
) -> tuple[str, str]:
    """Register what :func:`whole_model` found, kept in the run as ``where``, if a benchmark would take it.

    Returns:
        Its URI, and why it wasn't registered; one of the two is empty.
    """
    from guardianflow.core.registry import ModelRegistry
    from guardianflow.vision.preflight import serving_of

    again = command("register", name, "--run", run.run_id, "--artifact", where)
    try:
        serving_of(model)  # of the file that the user knows; the registry asks it of the run's copy
    except GuardianFlowError as error:
        return "", f"{name!r} was not registered: {error}"
    if not run.flush(timeout_s=_UPLOAD_S):
        return "", f"MLflow did not take the model yet, so {name!r} was not registered; later: {again}"
    try:
        return ModelRegistry(settings).register(name, run.run_id, artifact=where, metrics=metrics).uri, ""
    except ModelFileError as error:
        return "", f"{name!r} was not registered, for not all of it was kept ({error}); name the rest with --artifact"
    except GuardianFlowError as error:
        return "", f"{name!r} was not registered ({error}); later: {again}"
