"""PyTorch: fused weights on a CPU or an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import InputError
from guardianflow.machine.system import usable_cores
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import Backend, BackendInfo, BackendOptions, check_images, check_open
from guardianflow.vision.backends.buffers import writable
from guardianflow.vision.model_files import load_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["TorchBackend", "device_name"]

_TIMED_CALLS = 7
_LEAST_GAIN = 0.97  # compiling must take off at least 3 % to be worth its seconds


class TorchBackend(Backend):
    """Ultralytics' weights in PyTorch, batch norms folded into the convolutions.

    On a CPU the weights lie in channels-last order, which is several times as fast there. The head turns
    its figures into pixels in float32 at any precision: bfloat16 has steps of 4 pixels at 640.
    float32 means float32: NVIDIA's shorter TF32 is off.

    Args:
        model: A ``.pt`` file.
        options: How to open it; ``compiled=None`` compiles on a GPU and keeps what is faster.

    Raises:
        InputError: The precision can't be had on this device.
        ModelFileError: The weights can't be loaded safely.
    """

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        import_ultralytics()
        import torch

        self._options = options
        self._device = torch.device(device_name(options.device))
        _check_precision(options.precision, self._device)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[options.precision]
        self._threads_before = torch.get_num_threads()
        # Ultralytics sets OMP_NUM_THREADS=1 when it is imported before torch; other runtimes take all cores.
        torch.set_num_threads(options.threads or usable_cores())
        self._model: Any = _prepared(load_weights(model.path), self._device, self._dtype)
        self._compiled: Callable[..., Any] | None = None
        try:
            executed, convolutions = self._look_at_convolutions()
            self._compiled, said = self._maybe_compiled()
        except BaseException:
            self.close()
            raise
        self._info = BackendInfo(
            backend="torch",
            version=str(torch.__version__),
            device=_described(self._device),
            precision_asked=options.precision,
            precision_executed=executed,
            input_shape=(0, 3, options.imgsz, options.imgsz),
            threads=torch.get_num_threads(),
            requests=1,
            details={
                "compiled": said,
                "convolutions": convolutions,
                "memory order": _memory_order(self._model),
                **_native_kernels(self._device, options.precision),
            },
        )

    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output; see :class:`Backend`."""
        check_open(self._model is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        whole = len(images) == self._options.batch  # another size would be compiled again
        return self._run(images, self._compiled if whole and self._compiled else self._model)

    def close(self) -> None:
        """Let go of the weights and of the GPU's memory."""
        if self._model is None:
            return
        import torch

        self._model = self._compiled = None
        torch.set_num_threads(self._threads_before)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, images: NDArray[Any], model: Callable[..., Any]) -> NDArray[Any]:
        import torch

        batch = torch.from_numpy(writable(images))  # shares the memory
        with torch.inference_mode(), self._without_tf32():
            output = model(batch.to(self._device, self._dtype))
            first = output[0] if isinstance(output, (list, tuple)) else output
            result: NDArray[Any] = first.float().contiguous().cpu().numpy()
        return result

    def _without_tf32(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        if self._device.type != "cuda":
            return contextlib.nullcontext()
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # type: ignore[no-any-return]

    def _grey(self) -> NDArray[Any]:
        import numpy as np

        side = self._options.imgsz
        return np.full((self._options.batch, 3, side, side), 0.5, np.float32)

    def _look_at_convolutions(self) -> tuple[str, str]:
        """What the convolutions of one pass give out, the decoding in the head left aside."""
        import torch

        seen: Counter[str] = Counter()

        def note(_module: object, _inputs: object, output: Any) -> None:
            seen[str(output.dtype).removeprefix("torch.")] += 1

        handles = [
            module.register_forward_hook(note)
            for name, module in self._model.named_modules()
            if isinstance(module, torch.nn.Conv2d) and ".dfl." not in name
        ]
        try:
            self._run(self._grey(), self._model)
        finally:
            for handle in handles:
                handle.remove()
        names = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
        kind = seen.most_common(1)[0][0] if seen else "unknown"
        return names.get(kind, kind), ", ".join(f"{count} in {names.get(kind, kind)}" for kind, count in seen.items())

    def _maybe_compiled(self) -> tuple[Callable[..., Any] | None, str]:
        """The compiled model where it is wanted and faster, and what is to be said about it."""
        wanted = self._options.compiled
        if wanted is False or (wanted is None and self._device.type != "cuda"):
            return None, "no"
        import torch

        images = self._grey()
        try:
            compiled = torch.compile(self._model, dynamic=False)
            self._run(images, compiled)
            slow, fast = self._median_s(images, self._model), self._median_s(images, compiled)
        except Exception as error:  # noqa: BLE001 - no compiler, no kernel: the model itself still runs
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            return None, f"no, it can't be compiled here: {reason}"
        said = f"{fast * 1e3:.2f} ms, as written {slow * 1e3:.2f} ms"
        if wanted is None and fast > slow * _LEAST_GAIN:
            return None, f"no, it wins nothing: {said}"
        return compiled, f"yes: {said}"

    def _median_s(self, images: NDArray[Any], model: Callable[..., Any]) -> float:
        times = []
        for _ in range(_TIMED_CALLS + 2):
            began = time.perf_counter()
            self._run(images, model)
            times.append(time.perf_counter() - began)
        return sorted(times[2:])[_TIMED_CALLS // 2]


def _prepared(model: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    import torch

    model = model.eval().float().fuse(verbose=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model = model.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    if dtype != torch.float32:
        _decode_in_float32(model.model[-1])
    return model


def _decode_in_float32(head: Any) -> None:
    """Let the head turn its figures into pixels in float32."""
    import torch

    if isinstance(getattr(head, "dfl", None), torch.nn.Module):
        head.dfl.float()
    decode = type(head)._inference  # noqa: SLF001 - the border between convolutions and arithmetic

    def in_float32(self: Any, figures: dict[str, Any]) -> Any:
        return decode(self, {name: _as_float(value) for name, value in figures.items()})

    head._inference = MethodType(in_float32, head)  # noqa: SLF001


def _as_float(value: Any) -> Any:
    return [item.float() for item in value] if isinstance(value, list) else value.float()


def _check_precision(precision: str, device: torch.device) -> None:
    import torch

    if precision not in {"fp32", "bf16", "fp16"}:
        msg = f"torch can't compute at {precision!r}; use fp32, bf16 or fp16, or quantize for another backend"
        raise InputError(msg)
    if precision == "fp16" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_fp16_supported():  # noqa: SLF001
        raise InputError(
            "torch has no fp16 kernels for this CPU: it would convert back and forth, ten times slower than fp32; "
            "use bf16 or fp32, or a GPU"
        )


def _native_kernels(device: torch.device, precision: str) -> dict[str, str]:
    import torch

    if device.type == "cpu" and precision == "bf16":
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        return {"bf16 kernels": "this CPU's own" if native else "emulated: this CPU has none"}
    return {"tf32": "off"} if device.type == "cuda" and precision == "fp32" else {}


def _memory_order(model: torch.nn.Module) -> str:
    import torch

    weights = [item for item in model.parameters() if item.dim() == 4 and min(item.shape[1:3]) > 1]
    last = bool(weights) and all(item.is_contiguous(memory_format=torch.channels_last) for item in weights)
    return "channels last" if last else "channels first"


def device_name(device: str) -> str:
    """Torch's name of a device.

    Raises:
        InputError: A GPU that isn't there.
    """
    import torch

    text = device.strip().lower()
    if not text:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    name = f"cuda:{text}" if text.isdigit() else text
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {device!r} asks for a GPU, but PyTorch sees none; use cpu, or check the driver")
    return "cuda:0" if name == "cuda" else name


def _described(device: torch.device) -> str:
    import torch

    return f"{torch.cuda.getdevice_name(device)} ({device})" if device.type == "cuda" else "CPU"
