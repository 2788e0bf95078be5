"""OpenVINO: static shapes, latency and throughput hints, several requests at work at once."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.exceptions import InputError, ModelFileError
from guardianflow.vision.backends._base import (
    Backend,
    BackendInfo,
    BackendOptions,
    Ticket,
    check_images,
    check_open,
    check_turn,
    one_line,
)
from guardianflow.vision.backends.buffers import OutputBuffers, pad_batch, writable
from guardianflow.vision.backends.openvino_file import find_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["OpenVinoBackend"]

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8 lies in the graph; the rest stays fp32
_NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_COMPUTE = frozenset({"Convolution", "Deconvolution", "FullyConnected", "GroupConvolution", "MatMul"})


class OpenVinoBackend(Backend):
    """An OpenVINO model folder on the CPU or another device of OpenVINO.

    The graph is fixed to one batch size, which is the fastest form; a smaller batch is filled up with black
    images. The precision is always set: left alone, OpenVINO takes bfloat16 on many CPUs.

    Args:
        model: A folder with .xml and .bin.
        options: How to open it. ``hint="throughput"`` lets OpenVINO work on several batches at once; hand
            them over with :meth:`submit`.

    Raises:
        InputError: The device is unknown, or the graph doesn't take this size.
        ModelFileError: The folder is incomplete or damaged.
        MissingDependencyError: The package is missing.
    """

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        self._ov = require("openvino", extra="openvino")
        self._options = options
        graph = find_graph(model.path)
        core = self._ov.Core()
        device = _device_name(options.device, core.available_devices)
        try:
            network = core.read_model(str(graph))
        except Exception as error:
            raise ModelFileError(f"OpenVINO can't read {graph}: {one_line(error)}; export it again") from error
        compiled = self._compile(core, _with_size(network, model, options), device)
        count = options.requests or _optimal_requests(compiled, options.hint)
        self._free: deque[Any] = deque(compiled.create_infer_request() for _ in range(count))
        self._alone: Any = compiled.create_infer_request()  # for forward, beside whatever was submitted
        self._busy: deque[_Started] = deque()
        self._compiled: Any = compiled
        self._buffers = OutputBuffers()
        self._shape = tuple(compiled.output(0).shape)
        executed, computed = _computed_at(compiled)
        self._info = BackendInfo(
            backend="openvino",
            version=str(self._ov.__version__).partition("-")[0],
            device=f"{core.get_property(device, 'FULL_DEVICE_NAME')} ({device})",
            precision_asked=options.precision,
            precision_executed=executed,
            input_shape=tuple(compiled.input(0).shape),
            threads=int(_property(compiled, "INFERENCE_NUM_THREADS") or 0),
            requests=count,
            details={
                "hint": options.hint,
                "streams": str(_property(compiled, "NUM_STREAMS")),
                "precision hint": str(getattr(_property(compiled, "INFERENCE_PRECISION_HINT"), "to_string", str)()),
                "computed": computed,
                "partial batch": "padded",
            },
        )

    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output; see :class:`Backend`."""
        started = self._start(images, self._alone)
        self._alone.wait()
        return started.output[: started.images]

    def submit(self, images: NDArray[Any]) -> Ticket:
        """Start a batch; waits for the oldest one where all requests are at work."""
        check_open(self._compiled is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        if not self._free:
            oldest = next(item for item in self._busy if item.request is not None)
            oldest.request.wait()
            self._free.append(oldest.request)
            oldest.request = None
        self._busy.append(self._start(images, self._free.popleft()))
        return self._busy[-1].ticket

    def collect(self, ticket: Ticket) -> NDArray[Any]:
        """The output of a batch that was submitted; see :class:`Backend`."""
        check_open(self._compiled is not None)
        check_turn(ticket, self._busy[0].ticket if self._busy else None)
        started = self._busy.popleft()
        if started.request is not None:
            try:
                started.request.wait()
            finally:
                self._free.append(started.request)
        return started.output[: started.images]

    def close(self) -> None:
        """Wait for what is at work and let go of the model."""
        for started in self._busy:
            if started.request is not None:
                started.request.wait()
        self._busy.clear()
        self._free.clear()
        self._compiled = self._alone = None

    def _start(self, images: NDArray[Any], request: Any) -> _Started:
        check_open(self._compiled is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        filled = writable(pad_batch(images, self._shape[0]))
        output = self._buffers.take(self._shape)
        request.set_input_tensor(self._ov.Tensor(filled, shared_memory=True))
        request.set_output_tensor(self._ov.Tensor(output, shared_memory=True))
        request.start_async()
        self._submitted += 1
        return _Started(Ticket(self._submitted), len(images), filled, output, request)

    def _compile(self, core: Any, network: Any, device: str) -> Any:
        options = self._options
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": options.hint.upper(),
            "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        }
        if options.threads and device == "CPU":
            config["INFERENCE_NUM_THREADS"] = options.threads
        if options.requests:
            config["PERFORMANCE_HINT_NUM_REQUESTS"] = options.requests
        try:
            return core.compile_model(network, device, config)
        except Exception as error:
            raise InputError(f"OpenVINO can't compile the model for {device}: {one_line(error)}") from error


@dataclass
class _Started:
    """A batch at work: what it reads and writes is kept alive until it is collected."""

    ticket: Ticket
    images: int
    filled: NDArray[Any]
    output: NDArray[Any]
    request: Any


def _with_size(network: Any, model: ModelFile, options: BackendOptions) -> Any:
    """Fix the graph to one input size."""
    batch = model.batch or options.batch
    if batch < options.batch:
        raise InputError(f"model {model.path} takes batches of {batch}, not of {options.batch}; export it again")
    wanted = [batch, 3, options.imgsz, options.imgsz]
    try:
        if network.input(0).partial_shape.is_dynamic or list(network.input(0).shape) != wanted:
            network.reshape(wanted)
    except Exception as error:
        msg = f"model {model.path} doesn't take {wanted}: {one_line(error)}; export it for --imgsz {options.imgsz}"
        raise InputError(msg) from error
    return network


def _computed_at(compiled: Any) -> tuple[str, str]:
    """The precision of the convolutions and matrix products, as the compiled graph tells it.

    The one that most of them have; the rest is told beside it.
    """
    found: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        facts = operator.get_rt_info()
        if str(facts["layerType"].astype(str)) in _COMPUTE:
            kind = str(facts["runtimePrecision"].astype(str))
            found[_NAMES.get(kind, kind)] += 1
    if not found:
        return "unknown", "the runtime names no convolution"
    text = ", ".join(f"{count} in {kind}" for kind, count in found.most_common())
    return found.most_common(1)[0][0], f"convolutions and matrix products: {text}"


def _optimal_requests(compiled: Any, hint: str) -> int:
    return max(1, int(_property(compiled, "OPTIMAL_NUMBER_OF_INFER_REQUESTS") or 1)) if hint == "throughput" else 1


def _property(compiled: Any, name: str) -> Any:
    try:
        return compiled.get_property(name)
    except RuntimeError:  # each device has properties of its own
        return None


def _device_name(device: str, available: list[str]) -> str:
    """OpenVINO's name of a device: ``CPU``, ``GPU.0``, ``NPU``."""
    text = device.strip().upper()
    if text in {"", "CPU"}:
        return "CPU"
    if text in available:
        return text
    raise InputError(f"OpenVINO has no device {device!r} here; it has {', '.join(available)}. Use cpu")
