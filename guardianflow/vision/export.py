"""The file that a backend loads, made from the one there is, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.exceptions import GuardianFlowError, InputError, RunFailedError
from guardianflow.files.content import measure
from guardianflow.files.process_lock import process_lock
from guardianflow.vision.backends._base import one_line
from guardianflow.vision.backends.catalog import BACKENDS, check_precision, check_side, installed_version
from guardianflow.vision.backends.onnx_file import OPSET
from guardianflow.vision.model_artifacts import ModelFile, plain_metadata, read_model_file

__all__ = ["export_metadata", "prepare_model"]

_REVISION = 1
"""Counts up when an export comes out differently; older ones in a cache are made again then."""

_LOCK_SECONDS = 3600.0  # a TensorRT engine takes minutes
_MAKERS = ("onnx", "onnxruntime-gpu", "onnxruntime", "onnxslim", "openvino", "tensorrt", "torch", "ultralytics")


@dataclass(frozen=True)
class _Wish:
    """What an export is to be."""

    precision: str
    imgsz: int
    batch: int
    log_file: Path


def prepare_model(
    model: ModelFile, *, backend: str, precision: str, imgsz: int, folder: Path, batch: int | None = None
) -> ModelFile:
    """The file that a backend loads: the model itself, or an export of it.

    Exports are kept under ``folder`` by the content of the model and everything they depend on. They are
    written whole or not at all, one at a time; a process that waits for another one takes its result. Nothing is
    written beside the model. An export holds no non-maximum suppression; ONNX files and OpenVINO folders take any
    batch.

    Args:
        model: What there is.
        backend: Name in the catalogue.
        precision: What it is to compute at.
        imgsz: Side of the square input, in pixels.
        folder: Where exports are kept.
        batch: Most images in one call, for formats that fix it (a TensorRT engine); default 1.

    Raises:
        NotFoundError: There is no such backend.
        InputError: No such file can be made from this one; the message says what can.
        MissingDependencyError: The package that makes it is missing.
        RunFailedError: The exporter failed; the message names its log.
    """
    spec = BACKENDS.get(backend)
    check_precision(spec, model, precision)
    if model.format in spec.formats:
        return model
    target = spec.formats[0]
    if (model.format, target) not in _STEPS:
        if (model.format, "onnx") not in _STEPS or ("onnx", target) not in _STEPS:
            raise InputError(
                f"no {target} file for backend {backend!r} can be made from {model.path} ({model.format}); pass the .pt"
            )
        model = prepare_model(model, backend="onnxruntime", precision="fp32", imgsz=imgsz, folder=folder)
    check_side(model, imgsz)
    key = {
        "model": model.sha256,
        "to": target,
        "imgsz": imgsz,
        "precision": precision if precision == "fp16" and target in {"openvino", "tensorrt"} else "",
        "batch": (batch or 1) if target == "tensorrt" else 0,
        "opset": OPSET,
        "revision": _REVISION,
        "made by": {name: number for name in _MAKERS if (number := installed_version(name))},
    }
    return _kept(model, key, folder, _STEPS[model.format, target])


def export_metadata(model: ModelFile, *, imgsz: int, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an export of a model says of itself, under Ultralytics' keys.

    Args:
        model: The model.
        imgsz: Side that it is exported for.
        known: What the file that it was made from says; kept where it isn't about the form.
    """
    kept = plain_metadata(known or {})
    arguments = kept.get("args")
    return {
        **kept,
        "task": "detect",
        "stride": model.stride,
        "batch": 1,
        "imgsz": [imgsz, imgsz],
        "names": dict(enumerate(model.names)),
        "channels": 3,
        "end2end": model.end_to_end,
        "args": {**(arguments if isinstance(arguments, dict) else {}), "dynamic": True},
    }


def _kept(
    model: ModelFile, key: Mapping[str, Any], folder: Path, make: Callable[[ModelFile, Path, _Wish], Path]
) -> ModelFile:
    """An export out of the cache, made now where there is none."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    place = folder / f"{model.sha256[:12]}-{digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with process_lock(folder / ".exports.lock", timeout_s=_LOCK_SECONDS, what="the folder of exports"):
        found = _whole(place)
        if found is not None:
            return found
        for left in folder.glob(f".{'[0-9a-f]' * 12}.part"):  # of exports that were killed: we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        draft = folder / f".{secrets.token_hex(6)}.part"
        draft.mkdir()
        try:
            wish = _Wish(str(key["precision"]), int(key["imgsz"]), int(key["batch"]), folder / f"{place.name}.log")
            made = _run(make, model, draft, wish)
            record = {"file": made.name, "sha256": measure(made).sha256, **key}
            (draft / "export.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            if place.is_symlink() or place.is_file():
                raise InputError(f"{place} is no folder of ours, and exports are kept there. Move it away.")
            if place.exists():
                shutil.rmtree(place)
            os.replace(draft, place)  # noqa: PTH105 - the atomic one, by its name
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return read_model_file(place / made.name)


def _whole(place: Path) -> ModelFile | None:
    """A kept export, if it is as it was written."""
    try:
        record = json.loads((place / "export.json").read_text(encoding="utf-8"))
        found = read_model_file(place / record["file"])
    except (OSError, ValueError, KeyError, GuardianFlowError):
        return None
    return found if found.sha256 == record["sha256"] else None


def _run(make: Callable[[ModelFile, Path, _Wish], Path], model: ModelFile, draft: Path, wish: _Wish) -> Path:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing may warn of is told by the outputs' comparison
            return make(model, draft, wish)
    except GuardianFlowError:
        raise
    except Exception as error:
        raise RunFailedError(f"{model.path} can't be exported: {one_line(error)}. The log: {wish.log_file}") from error


def _to_onnx(model: ModelFile, draft: Path, wish: _Wish) -> Path:
    from guardianflow.vision.backends.onnx_file import load_graph, save_onnx

    path = _ultralytics_export(
        model, draft, wish, kind="onnx", opset=OPSET, simplify=bool(installed_version("onnxslim"))
    )
    graph = load_graph(path)
    known = {item.key: item.value for item in graph.metadata_props}
    save_onnx(graph, path, export_metadata(model, imgsz=wish.imgsz, known=known))
    return path


def _to_torchscript(model: ModelFile, draft: Path, wish: _Wish) -> Path:
    return _ultralytics_export(model, draft, wish, kind="torchscript")


def _to_openvino(model: ModelFile, draft: Path, wish: _Wish) -> Path:
    from guardianflow.vision.backends.onnx_file import read_onnx
    from guardianflow.vision.backends.openvino_file import convert_onnx

    folder = draft / "model_openvino_model"  # the ending by which Ultralytics knows the format
    known = read_onnx(model.path).metadata
    metadata = export_metadata(model, imgsz=wish.imgsz, known=known)
    convert_onnx(model.path, folder, metadata, halves=wish.precision == "fp16")
    return folder


def _to_engine(model: ModelFile, draft: Path, wish: _Wish) -> Path:
    from guardianflow.vision.backends.onnx_file import read_onnx
    from guardianflow.vision.backends.tensorrt import build_engine

    path = draft / "model.engine"
    metadata = export_metadata(model, imgsz=wish.imgsz, known=read_onnx(model.path).metadata)
    metadata = {**metadata, "batch": wish.batch, "args": {**metadata["args"], "quantize": _bits(wish.precision)}}
    build_engine(model.path, path, metadata, precision=wish.precision, imgsz=wish.imgsz, batch=wish.batch)
    return path


def _ultralytics_export(model: ModelFile, draft: Path, wish: _Wish, *, kind: str, **options: Any) -> Path:
    """Run Ultralytics' exporter on weights loaded safely; it writes into ``draft`` alone."""
    from guardianflow.vision._ultralytics import import_ultralytics, quiet
    from guardianflow.vision.model_files import load_weights

    import_ultralytics()
    from ultralytics.engine import exporter

    weights: Any = load_weights(model.path)
    weights.pt_path = str(draft / "model.pt")  # it writes beside this path, which needn't exist
    asked = {"format": kind, "imgsz": wish.imgsz, "device": "cpu", "dynamic": True, "nms": False, **options}
    settings = exporter.SETTINGS
    exporter.SETTINGS = dict(settings)  # it would write to the user's settings file
    try:
        with quiet(wish.log_file):
            made = exporter.Exporter(overrides=asked)(weights)
    finally:
        exporter.SETTINGS = settings
    return Path(made)


def _bits(precision: str) -> int | None:
    return {"fp16": 16, "int8": 8}.get(precision)


_STEPS: dict[tuple[str, str], Callable[[ModelFile, Path, _Wish], Path]] = {
    ("torch", "onnx"): _to_onnx,
    ("torch", "torchscript"): _to_torchscript,
    ("onnx", "openvino"): _to_openvino,
    ("onnx", "tensorrt"): _to_engine,
}
