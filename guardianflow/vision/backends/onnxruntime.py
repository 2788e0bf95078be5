"""ONNX Runtime: CPU, CUDA and TensorRT providers, outputs written straight into buffers."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.exceptions import InputError, ModelFileError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.vision.backends._base import Backend, BackendInfo, BackendOptions, check_images, check_open, one_line
from guardianflow.vision.backends.buffers import OutputBuffers, pad_batch
from guardianflow.vision.backends.nvidia import driver_problem, gpu_index
from guardianflow.vision.backends.onnx_file import compute_precisions, load_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["OnnxRuntimeBackend", "TensorrtProviderBackend"]

_SILENT = 4
_TITLES = {"CPUExecutionProvider": "CPU", "CUDAExecutionProvider": "CUDA", "TensorrtExecutionProvider": "TensorRT"}


class OnnxRuntimeBackend(Backend):
    """An ONNX file in ONNX Runtime.

    onnxruntime-gpu lists its GPU providers on machines without a GPU and goes on with the CPU where one
    can't be loaded; here that is an error.

    Args:
        model: An ``.onnx`` file.
        options: How to open it.

    Raises:
        InputError: The device can't be used, or the graph doesn't take this size.
        ModelFileError: The runtime refuses the graph.
        MissingDependencyError: The package is missing.
    """

    name = "onnxruntime"
    gpu_provider = "CUDAExecutionProvider"
    needs_gpu = False

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        self._ort = require("onnxruntime", extra="onnx")
        self._ort.set_default_logger_severity(_SILENT)
        graph = load_graph(model.path)  # refuses weights in other files, which the runtime would follow
        self._options = options
        self._fixed = model.batch
        if 0 < model.batch < options.batch:
            msg = f"model {model.path} takes batches of {model.batch}, not of {options.batch}; export it again"
            raise InputError(msg)
        provider = self._choose(options.device)
        with ScratchFolder("onnxruntime") as folder:
            optimised = folder / "optimised.onnx" if model.precision != "fp32" else None
            self._session: Any = self._open(model, provider, optimised)
            active = self._session.get_providers()[0]
            executed, computed = self._read_back(model, optimised, active)
        del graph
        self._buffers = OutputBuffers()
        self._binding: Any = self._session.io_binding()
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._output_shape = self._try_out(model)
        threads = self._session.get_session_options().intra_op_num_threads
        self._info = BackendInfo(
            backend=self.name,
            version=str(self._ort.__version__),
            device=_TITLES.get(active, active),
            precision_asked=options.precision,
            precision_executed=executed,
            input_shape=(self._fixed, 3, options.imgsz, options.imgsz),
            threads=threads,
            requests=1,
            details={
                "providers": ", ".join(self._session.get_providers()),
                "computed": computed,
                **({"partial batch": "padded"} if self._fixed else {}),
            },
        )

    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output; see :class:`Backend`."""
        check_open(self._session is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        return self._run(images)[: len(images)]

    def close(self) -> None:
        """Let go of the session."""
        self._session = self._binding = None

    def _run(self, images: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        if self._fixed:
            images = pad_batch(images, self._fixed)
        if self._input.type != "tensor(float)" or self._output.type != "tensor(float)":
            given = images.astype(np.float16) if self._input.type == "tensor(float16)" else images
            converted: NDArray[Any] = self._session.run([self._output.name], {self._input.name: given})[0]
            return np.ascontiguousarray(converted, np.float32)
        output = self._buffers.take((len(images), *self._output_shape))
        binding = self._binding
        binding.bind_input(self._input.name, "cpu", 0, np.float32, images.shape, images.ctypes.data)
        binding.bind_output(self._output.name, "cpu", 0, np.float32, output.shape, output.ctypes.data)
        self._session.run_with_iobinding(binding)
        return output

    def _choose(self, device: str) -> tuple[str, dict[str, Any]]:
        index = gpu_index(device)
        if index is None and self.needs_gpu:
            msg = f"backend {self.name!r} needs an NVIDIA GPU, and device {device!r} was asked; use device 0"
            raise InputError(msg)
        problem = driver_problem()
        if index is None or (problem and not device and not self.needs_gpu):
            return "CPUExecutionProvider", {}
        known = self._ort.get_available_providers()
        if problem or self.gpu_provider not in known:
            reason = problem or f"this onnxruntime has {', '.join(known)}; install onnxruntime-gpu"
            raise InputError(f"{self.name} can't use the GPU: {reason}")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            self._ort.preload_dlls()  # CUDA and cuDNN out of the nvidia packages; it prints what it doesn't find
        return self.gpu_provider, self._provider_options(index)

    def _provider_options(self, index: int) -> dict[str, Any]:
        return {"device_id": index, "use_tf32": 0}  # fp32 means fp32

    def _open(self, model: ModelFile, provider: tuple[str, dict[str, Any]], optimised: Path | None) -> Any:
        options = self._ort.SessionOptions()
        options.log_severity_level = _SILENT
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self._options.threads
        options.inter_op_num_threads = 1
        if optimised and provider[0] != "TensorrtExecutionProvider":  # compiled parts can't be written
            options.optimized_model_filepath = str(optimised)
        providers = [provider] if provider[0] == "CPUExecutionProvider" else [provider, "CPUExecutionProvider"]
        try:
            session = self._ort.InferenceSession(str(model.path), options, providers=providers)
        except Exception as error:
            raise ModelFileError(f"onnxruntime can't open {model.path}: {one_line(error)}; export it again") from error
        if provider[0] not in session.get_providers():
            if not self._options.device and not self.needs_gpu:
                return session  # nobody asked for the GPU; `info` says what is active
            raise InputError(
                f"{self.name} was asked for {_TITLES[provider[0]]} and got {', '.join(session.get_providers())}: its "
                "libraries can't be loaded; install CUDA and cuDNN with pip install 'onnxruntime-gpu[cuda,cudnn]', "
                "or use device cpu"
            )
        return session

    def _read_back(self, model: ModelFile, optimised: Path | None, active: str) -> tuple[str, str]:
        """The precision of the convolutions in the graph that the runtime made for this device."""
        if active == "TensorrtExecutionProvider":
            return self._options.precision, "not told by TensorRT; as asked"
        if optimised is None:
            return "fp32", "every operator in fp32, as the file has it"
        found = compute_precisions(load_graph(optimised))
        if not found:
            return model.precision, "no convolution in the graph"
        text = ", ".join(f"{count} in {kind}" for kind, count in found.most_common())
        return found.most_common(1)[0][0], f"convolutions and matrix products: {text}"

    def _try_out(self, model: ModelFile) -> tuple[int, ...]:
        """Shape of the output for one image, from a first pass."""
        import numpy as np

        side = self._options.imgsz
        kind = np.float16 if self._input.type == "tensor(float16)" else np.float32
        grey = np.full((self._fixed or self._options.batch, 3, side, side), 0.5, kind)
        try:
            output = self._session.run([self._output.name], {self._input.name: grey})[0]
        except Exception as error:
            msg = f"model {model.path} doesn't take {grey.shape}: {one_line(error)}; export it for --imgsz {side}"
            raise InputError(msg) from error
        return tuple(output.shape[1:])


class TensorrtProviderBackend(OnnxRuntimeBackend):
    """An ONNX file in ONNX Runtime, computed by TensorRT."""

    name = "onnxruntime-tensorrt"
    gpu_provider = "TensorrtExecutionProvider"
    needs_gpu = True

    def _provider_options(self, index: int) -> dict[str, Any]:
        return {
            "device_id": index,
            "trt_fp16_enable": self._options.precision == "fp16",
            "trt_int8_enable": self._options.precision == "int8",
        }
