"""One inference with a model file, to know that it works before it is put in charge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from guardianflow.exceptions import GuardianFlowError, ModelFileError
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import check_suits, open_backend, serving_backend
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.output_layouts import Claim, layout_of
from guardianflow.vision.serving import Serving

__all__ = ["check_loads", "check_usable", "serving_of"]

_SIDE = 64


def check_usable(path: Path) -> ModelFile:
    """What is asked of a model file before it is measured, quantized or registered.

    It is read, and what it says of itself is held against the shape of its output. Where only its runtime can tell
    that shape (TorchScript, engines), it is loaded and run once, if that runtime is here.

    Args:
        path: A model file or folder.

    Raises:
        ModelFileError: It can't be used.
        MissingDependencyError: The package that reads this format is missing.
    """
    model = read_model_file(path)
    if model.form_known:
        return model
    try:
        check_loads(path)
    except ModelFileError:
        raise
    except GuardianFlowError as error:
        said = f"model {path.name} tells no shape of its output, and it could not be tried here: {error}"
        return replace(model, remarks=(*model.remarks, said))
    return model


def serving_of(path: Path, asked: Serving | None = None) -> Serving:
    """How a model file is served, after the same check that a benchmark of it makes.

    Args:
        path: A model file or folder.
        asked: How it is to be served; default: as its content says.

    Raises:
        ModelFileError: It can't be used.
        InputError: It can't be served as asked.
        MissingDependencyError: The package that reads this format is missing.
    """
    model = check_usable(path)
    if asked is None:
        return Serving(serving_backend(model), _precision(model), format=model.format)
    check_suits(model, backend=asked.backend, precision=asked.precision)
    return asked


def check_loads(path: Path) -> None:
    """Load a model file with the backend that serves it, and run it once on a grey image.

    Args:
        path: Weights, an ONNX file, an OpenVINO folder, a TensorRT engine or another export.

    Raises:
        ModelFileError: It can't be loaded, fails, or gives figures that are no numbers.
        MissingDependencyError: The runtime that serves it isn't installed here.
    """
    import numpy as np

    model = read_model_file(path)
    side = model.stride * max(1, _SIDE // model.stride) if model.dynamic and model.format == "torch" else model.imgsz
    options = BackendOptions(
        precision=_precision(model), device="" if model.format == "tensorrt" else "cpu", imgsz=side, compiled=False
    )
    try:
        with open_backend(model, backend=serving_backend(model), options=options) as backend:
            output = backend.forward(np.full((1, 3, side, side), 0.5, np.float32))
    except GuardianFlowError:
        raise
    except Exception as error:
        msg = f"model {path} can be read, but fails on an image: {' '.join(str(error).split())[:200]}"
        raise ModelFileError(msg) from error
    if not np.isfinite(output).all():
        raise ModelFileError(f"model {path} gives figures that are no numbers (NaN or infinite)")
    claim = Claim(model.names, side, end_to_end=model.end_to_end)
    layout_of(path, (tuple(output.shape),), claim)


def _precision(model: ModelFile) -> str:
    return "fp32" if model.format in {"torch", "openvino"} and model.precision != "int8" else model.precision
