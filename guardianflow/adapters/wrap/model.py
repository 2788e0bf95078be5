"""The model that a wrapped script made: which of its files that is, and its way into the registry."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from guardianflow.adapters.wrap.artifacts import Artifact
from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, ModelFileError
from guardianflow.runs.tracking import TrackedRun
from guardianflow.text.command_lines import command

__all__ = ["model_among", "register_model", "whole_model"]

_UPLOAD_S = 60.0
_WEIGHTS = (".pt", ".pth", ".onnx", ".safetensors", ".ckpt", ".engine", ".keras", ".h5", ".tflite")


def model_among(artifacts: Sequence[Artifact], pattern: str) -> Artifact | None:
    """Which of the files is the model: of those that match, the one called best, else the newest.

    Args:
        artifacts: What a script made.
        pattern: Glob of the model; empty: any weights.
    """
    from pathspec import PathSpec

    if pattern:
        spec = PathSpec.from_lines("gitwildmatch", ["/" + pattern.lstrip("/")])
        found = [row for row in artifacts if spec.match_file(row.name)]
    else:
        found = [row for row in artifacts if row.path.suffix.lower() in _WEIGHTS]
    if not found:
        return None
    best = [row for row in found if "best" in row.path.stem.lower()]
    return max(best or found, key=lambda row: (_changed(row.path), row.name))


def whole_model(found: Artifact) -> tuple[Path, str]:
    """The model that a file is a part of: the file itself, or the folder that is one (OpenVINO, SavedModel, …).

    Returns:
        Where it lies, and its name relative to the script's folder.
    """
    from guardianflow.vision.model_artifacts import model_format

    if found.path.suffix.lower() not in _WEIGHTS:
        for path, place in zip(found.path.parents, PurePosixPath(found.name).parents[:-1], strict=False):
            with contextlib.suppress(ModelFileError):
                model_format(path)
                return path, place.as_posix()
    return found.path, found.name


def register_model(
    run: TrackedRun, settings: Settings, name: str, model: tuple[Path, str], *, metrics: Mapping[str, float]
) -> tuple[str, str]:
    """Register what :func:`whole_model` found, if a benchmark would take it.

    Returns:
        Its URI, and why it wasn't registered; one of the two is empty.
    """
    from guardianflow.core.registry import ModelRegistry
    from guardianflow.vision.preflight import serving_of

    path, place = model
    where = f"artifacts/{place}"
    again = command("register", name, "--run", run.run_id, "--artifact", where)
    try:
        serving_of(path)  # of the file that the user knows; the registry asks it of the run's copy
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


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
