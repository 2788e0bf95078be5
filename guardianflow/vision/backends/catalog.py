"""Which inference backends there are, what they can do, and why one can't be used here.

Nothing here imports a runtime: a table of backends must not cost the seconds that loading them takes,
nor fail where one of them is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from guardianflow._imports import is_installed
from guardianflow._plugins import Registry
from guardianflow.exceptions import InputError, MissingDependencyError
from guardianflow.vision.backends._base import Backend, BackendOptions
from guardianflow.vision.backends.nvidia import driver_problem

if TYPE_CHECKING:
    from guardianflow.vision.model_artifacts import ModelFile

__all__ = [
    "BACKENDS",
    "Availability",
    "BackendSpec",
    "availability",
    "check_precision",
    "check_side",
    "check_suits",
    "installed_version",
    "open_backend",
]


@dataclass(frozen=True)
class BackendSpec:
    """A backend, described without loading it.

    Attributes:
        name: As ``--backends`` takes it.
        title: As a person reads it.
        precisions: What it can be asked to compute at.
        devices: ``cpu``, ``cuda``; further ones in OpenVINO's own names.
        formats: Of the model files that it loads; see :class:`~guardianflow.vision.model_artifacts.ModelFile`.
        extra: The extra of this project that brings it; empty where nothing has to be installed.
        module: ``"module:class"`` of the backend.
        packages: Modules that must be there.
        distributions: Names under which the runtime's version is found, the first installed one counts.
        stored: Precisions that must lie in the file: the runtime can't make them out of another file.
        made: Precisions at which a file for it can be made out of another format without calibration.
        needs_gpu: Nothing goes without an NVIDIA GPU.
    """

    name: str
    title: str
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    formats: tuple[str, ...]
    extra: str
    module: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...]
    stored: tuple[str, ...] = ()
    made: tuple[str, ...] = ("fp32",)
    needs_gpu: bool = False


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here.

    Attributes:
        ok: It can.
        reason: Why not, and what to do; empty where it can.
        version: Of the runtime; empty where it isn't installed.
    """

    ok: bool
    reason: str = ""
    version: str = ""


TORCH = BackendSpec(
    "torch", "PyTorch", ("fp32", "bf16", "fp16"), ("cpu", "cuda"), ("torch",), "",
    "guardianflow.vision.backends.torch:TorchBackend", ("torch", "ultralytics"), ("torch",),
)  # fmt: skip
ONNXRUNTIME = BackendSpec(
    "onnxruntime", "ONNX Runtime", ("fp32", "fp16", "int8"), ("cpu", "cuda"), ("onnx",), "onnx",
    "guardianflow.vision.backends.onnxruntime:OnnxRuntimeBackend", ("onnxruntime", "onnx"),
    ("onnxruntime-gpu", "onnxruntime"), stored=("fp32", "fp16", "int8"),
)  # fmt: skip
ONNXRUNTIME_TENSORRT = BackendSpec(
    "onnxruntime-tensorrt", "ONNX Runtime with TensorRT", ("fp32", "fp16", "int8"), ("cuda",), ("onnx",),
    "onnx,tensorrt", "guardianflow.vision.backends.onnxruntime:TensorrtProviderBackend",
    ("onnxruntime", "onnx", "tensorrt"), ("onnxruntime-gpu",), stored=("int8",), made=("fp32", "fp16"), needs_gpu=True,
)  # fmt: skip
OPENVINO = BackendSpec(
    "openvino", "OpenVINO", ("fp32", "bf16", "fp16", "int8"), ("cpu", "gpu", "npu"), ("openvino",), "openvino",
    "guardianflow.vision.backends.openvino:OpenVinoBackend", ("openvino",), ("openvino",), stored=("int8",),
    made=("fp32", "bf16", "fp16"),
)  # fmt: skip
TENSORRT = BackendSpec(
    "tensorrt", "TensorRT", ("fp32", "fp16", "int8"), ("cuda",), ("tensorrt",), "tensorrt",
    "guardianflow.vision.backends.tensorrt:TensorRtBackend", ("tensorrt", "torch"), ("tensorrt",),
    stored=("fp32", "fp16", "int8"), made=("fp32", "fp16"), needs_gpu=True,
)  # fmt: skip
ULTRALYTICS = BackendSpec(
    "ultralytics", "Ultralytics AutoBackend", ("fp32", "fp16", "int8"), ("cpu", "cuda"),
    ("torchscript", "ncnn", "mnn", "litert", "edgetpu", "saved_model", "pb", "paddle", "coreml", "coreai", "rknn",
     "imx", "executorch", "axelera", "deepx", "qnn", "hailo", "ascend", "xilinx"),
    "", "guardianflow.vision.backends.ultralytics:UltralyticsBackend", ("ultralytics",), ("ultralytics",),
    stored=("int8",), made=("fp32", "fp16"),
)  # fmt: skip

_HERE = "guardianflow.vision.backends.catalog"
BACKENDS: Registry[BackendSpec] = Registry(
    "backend",
    {
        name.lower().replace("_", "-"): f"{_HERE}:{name}"
        for name in ("TORCH", "ONNXRUNTIME", "ONNXRUNTIME_TENSORRT", "OPENVINO", "TENSORRT", "ULTRALYTICS")
    },
    group="guardianflow.backends",
)
"""All backends by name; another package adds a :class:`BackendSpec` through the entry-point group."""


def availability(name: str) -> Availability:
    """Whether a backend can be used on this machine, without loading it.

    Raises:
        NotFoundError: There is no backend of that name.
    """
    spec = BACKENDS.get(name)
    found = next((number for item in spec.distributions if (number := installed_version(item))), "")
    missing = [package for package in spec.packages if not is_installed(package)]
    if missing:
        bring = f"pip install 'guardianflow[{spec.extra}]' brings it" if spec.extra else "install GuardianFlow again"
        return Availability(False, f"{', '.join(missing)} not installed; {bring}", found)
    if spec.needs_gpu and (problem := driver_problem()):
        return Availability(False, f"needs an NVIDIA GPU: {problem}", found)
    return Availability(True, "", found)


def serving_backend(model: ModelFile) -> str:
    """The backend that loads a model file as it is.

    Raises:
        InputError: None does.
    """
    for name in sorted(BACKENDS.names(), key=lambda name: (BACKENDS.get(name).needs_gpu, name)):
        if model.format in BACKENDS.get(name).formats:
            return name
    raise InputError(f"no backend loads {model.path} ({model.format}); known: {', '.join(BACKENDS.names())}")


def check_suits(model: ModelFile, *, backend: str, precision: str) -> None:
    """Refuse a model file that a backend doesn't load, or can't run at a precision.

    Raises:
        NotFoundError: There is no such backend.
        InputError: It doesn't suit; the message says what would.
    """
    spec = BACKENDS.get(backend)
    check_precision(spec, model, precision)
    if model.format not in spec.formats:
        raise InputError(
            f"backend {backend!r} loads {', '.join(spec.formats)}, and {model.path} is {model.format}; "
            "make the file that it loads with prepare_model"
        )


def check_precision(spec: BackendSpec, model: ModelFile, precision: str) -> None:
    """Refuse a precision that a backend doesn't have, or that can't be had from a file.

    Raises:
        InputError: Says which would do.
    """
    if precision not in spec.precisions:
        msg = f"backend {spec.name!r} can't compute at {precision!r}; it can at {', '.join(spec.precisions)}"
        raise InputError(msg)
    if model.precision == "int8" and precision != "int8":
        raise InputError(f"{model.path} is quantized to int8 and can't be run at {precision!r}; ask for int8")
    if model.format in spec.formats:
        lacking = precision in spec.stored and precision != model.precision
    else:
        as_it_is = model.format != "torch" and precision == model.precision  # weights are exported in fp32
        lacking = precision not in spec.made and not as_it_is
    if lacking:
        raise InputError(
            f"{spec.name} runs {precision} from a file of that precision, and {model.path} is none; make one with: "
            f"guardianflow quant --backend {spec.name.partition('-')[0]} --precision {precision}"
        )


def open_backend(model: ModelFile, *, backend: str, options: BackendOptions) -> Backend:
    """Load a model into a runtime.

    Args:
        model: A file that this backend loads; ``prepare_model`` makes one.
        backend: Name in :data:`BACKENDS`.
        options: How to open it.

    Raises:
        NotFoundError: There is no such backend.
        InputError: The file, the device, the size or the precision doesn't suit.
        ModelFileError: The runtime refuses the file.
        MissingDependencyError: The runtime isn't installed.
    """
    spec = BACKENDS.get(backend)
    check_suits(model, backend=backend, precision=options.precision)
    _check_options(model, options)
    state = availability(backend)
    if not state.ok:
        raise MissingDependencyError(f"backend {backend!r} can't be used here: {state.reason}")
    module, _, attribute = spec.module.partition(":")
    opener: Callable[[ModelFile, BackendOptions], Backend] = getattr(import_module(module), attribute)
    return opener(model, options)


def _check_options(model: ModelFile, options: BackendOptions) -> None:
    if options.batch < 1 or options.threads < 0 or options.requests < 0:
        raise InputError(
            f"batch must be at least 1, threads and requests at least 0; they are {options.batch}, {options.threads} "
            f"and {options.requests}"
        )
    if options.hint not in {"latency", "throughput"}:
        raise InputError(f"hint must be latency or throughput, it is {options.hint!r}")
    check_side(model, options.imgsz)


def check_side(model: ModelFile, imgsz: int) -> None:
    """Refuse a side of the input that the model's stride doesn't divide.

    Raises:
        InputError: Says the nearest that would do.
    """
    if imgsz < model.stride or imgsz % model.stride:
        near = max(model.stride, round(imgsz / model.stride) * model.stride)
        raise InputError(f"imgsz {imgsz} is no multiple of the model's stride {model.stride}; use {near}")


def installed_version(distribution: str) -> str:
    """The version of an installed distribution; empty where it isn't."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
