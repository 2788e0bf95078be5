"""One inference with a model file, to know that it works before it is put in charge."""

from __future__ import annotations

from pathlib import Path

from guardianflow.exceptions import GuardianFlowError, ModelFileError
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import open_backend, serving_backend
from guardianflow.vision.model_artifacts import ModelFile, read_model_file

__all__ = ["check_loads"]

_SIDE = 64


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
        msg = f"model {path} gives figures that are no numbers (NaN or infinite)"
        raise ModelFileError(msg)
    _check_shape(model, output.shape)


def _precision(model: ModelFile) -> str:
    return "fp32" if model.format in {"torch", "openvino"} and model.precision != "int8" else model.precision


def _check_shape(model: ModelFile, shape: tuple[int, ...]) -> None:
    wanted = len(shape) == 3 and (shape[2] == 6 if model.end_to_end else shape[1] == 4 + len(model.names))
    if not wanted:
        form = "(1, N, 6)" if model.end_to_end else f"(1, {4 + len(model.names)}, anchors)"
        msg = f"model {model.path} gives an output of the shape {shape} where a detector of its classes gives {form}"
        raise ModelFileError(msg)
