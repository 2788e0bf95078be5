"""TensorRT: engines built for one GPU, fed through torch's GPU memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.exceptions import InputError, ModelFileError, RunFailedError
from guardianflow.vision.backends._base import Backend, BackendInfo, BackendOptions, check_images, check_open
from guardianflow.vision.backends.buffers import pad_batch, writable
from guardianflow.vision.backends.engine_file import engine_offset, write_engine
from guardianflow.vision.backends.nvidia import driver_problem, gpu_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["TensorRtBackend", "build_engine"]


class TensorRtBackend(Backend):
    """An engine file on the GPU that it was built for.

    Args:
        model: An ``.engine`` file, with or without Ultralytics' header.
        options: How to open it.

    Raises:
        InputError: No GPU, or the engine was built for smaller batches or another size.
        ModelFileError: It was built by another version of TensorRT or for another GPU.
        MissingDependencyError: The package is missing.
    """

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        index = gpu_index(options.device)
        if index is None or (problem := driver_problem()):
            reason = f"device {options.device!r} was asked" if index is None else problem
            raise InputError(f"tensorrt needs an NVIDIA GPU: {reason}")
        trt = require("tensorrt", extra="tensorrt")
        import torch

        self._options = options
        self._device = torch.device(f"cuda:{index}")
        self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.device(self._device):
            self._engine: Any = _load(trt, model.path)
            self._context: Any = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._input = inputs[0]
        self._output = next(name for name in names if name not in inputs)
        self._fixed = self._check_size(model, options)
        self._types = {name: _torch_type(trt, self._engine.get_tensor_dtype(name)) for name in names}
        executed, computed = _layer_precisions(trt, self._engine, model.precision)
        self._info = BackendInfo(
            backend="tensorrt",
            version=str(trt.__version__),
            device=f"{torch.cuda.get_device_name(self._device)} ({self._device})",
            precision_asked=options.precision,
            precision_executed=executed,
            input_shape=(self._fixed, 3, options.imgsz, options.imgsz),
            threads=0,
            requests=1,
            details={"computed": computed, **({"partial batch": "padded"} if self._fixed else {})},
        )

    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output; see :class:`Backend`."""
        import torch

        check_open(self._engine is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        filled = pad_batch(images, self._fixed) if self._fixed else images
        source = torch.from_numpy(writable(filled))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            batch = source.to(self._device, self._types[self._input]).contiguous()
            self._context.set_input_shape(self._input, tuple(batch.shape))
            shape = tuple(self._context.get_tensor_shape(self._output))
            output = torch.empty(shape, dtype=self._types[self._output], device=self._device)
            self._context.set_tensor_address(self._input, batch.data_ptr())
            self._context.set_tensor_address(self._output, output.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RunFailedError(f"TensorRT refused to run a batch of {len(images)}; its messages say why")
            result: NDArray[Any] = output.float().cpu().numpy()
        return result[: len(images)]

    def close(self) -> None:
        """Let go of the engine and of the GPU's memory."""
        if self._engine is None:
            return
        import torch

        self._context = self._engine = None
        torch.cuda.empty_cache()

    def _check_size(self, model: ModelFile, options: BackendOptions) -> int:
        """The batch size that the engine is fixed to; 0 where it takes any up to its largest."""
        shape = tuple(self._engine.get_tensor_shape(self._input))
        most = shape if -1 not in shape else tuple(self._engine.get_tensor_profile_shape(self._input, 0)[2])
        sides = {side for side in shape[2:] if side > 0}
        if options.batch > most[0] or (sides and sides != {options.imgsz}) or options.imgsz > most[2]:
            raise InputError(
                f"engine {model.path} takes up to {most[0]} images of {most[2]} pixels, and {options.batch} of "
                f"{options.imgsz} were asked; build it again"
            )
        return int(shape[0]) if shape[0] > 0 else 0


def build_engine(
    source: Path, target: Path, metadata: Mapping[str, Any], *, precision: str, imgsz: int, batch: int
) -> None:
    """Build an engine for this machine's GPU from an ONNX file, with a header that Ultralytics reads.

    Args:
        source: The ONNX file; for int8 one with QDQ nodes.
        target: The engine file to write.
        metadata: Its header.
        precision: ``fp32``, ``fp16`` or ``int8``.
        imgsz: Side of the input, in pixels.
        batch: Most images in one call.

    Raises:
        InputError: No GPU, or this TensorRT can't make that precision from this file.
        RunFailedError: TensorRT couldn't build it.
        MissingDependencyError: The package is missing.
    """
    if problem := driver_problem():
        raise InputError(f"a TensorRT engine is built on the GPU that runs it: {problem}")
    trt = require("tensorrt", extra="tensorrt")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source)):
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))[:300]
        raise RunFailedError(f"TensorRT can't read {source}: {reasons}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the precision can be read back
    _set_precision(trt, config, precision)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        sizes = [(size, 3, imgsz, imgsz) for size in (1, batch, batch)]
        profile.set_shape(network.get_input(number).name, *sizes)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RunFailedError(f"TensorRT could not build an engine from {source}; its messages say why")
    write_engine(target, bytes(engine), metadata)


def _set_precision(trt: Any, config: Any, precision: str) -> None:
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
    if precision == "fp32":
        return
    if not hasattr(trt.BuilderFlag, "FP16"):  # from version 11 on, the graph's own types rule
        if precision == "fp16":
            msg = f"TensorRT {trt.__version__} takes fp16 from the ONNX file; convert that first (onnxruntime, fp16)"
            raise InputError(msg)
        return
    config.set_flag(trt.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)


def _load(trt: Any, path: Path) -> Any:
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    with path.open("rb") as file:
        file.seek(engine_offset(path))
        engine = runtime.deserialize_cuda_engine(file.read())
    if engine is None:
        raise ModelFileError(
            f"engine {path} can't be loaded by TensorRT {trt.__version__} on this GPU; engines belong to one "
            "version and one kind of GPU: build it here again"
        )
    return engine


def _layer_precisions(trt: Any, engine: Any, stored: str) -> tuple[str, str]:
    """The precision that most of the convolutions give out, from the engine's own description of its layers."""
    import json
    from collections import Counter

    names = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "Int8": "int8"}
    found: Counter[str] = Counter()
    try:
        text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        for layer in json.loads(text).get("Layers", []):
            if isinstance(layer, dict) and "conv" in str(layer.get("LayerType", "")).lower():
                form = str(layer["Inputs"][0].get("Format/Datatype", ""))
                found[next((name for word, name in names.items() if word.lower() in form.lower()), form)] += 1
    except (ValueError, KeyError, IndexError, AttributeError):
        found.clear()
    if not found:
        return stored, "not told by the engine; as it was built"
    return found.most_common(1)[0][0], ", ".join(f"{count} convolutions in {kind}" for kind, count in found.items())


def _torch_type(trt: Any, kind: Any) -> Any:
    import torch

    return torch.float16 if kind == trt.DataType.HALF else torch.float32
