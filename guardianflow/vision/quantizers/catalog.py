"""Which quantizers there are, what each makes and what it needs; no runtime is imported to list them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from guardianflow._imports import is_installed
from guardianflow._plugins import Registry
from guardianflow.exceptions import InputError, MissingDependencyError
from guardianflow.vision.quantizers._base import Quantizer

__all__ = ["QUANTIZERS", "QuantizerSpec", "find_quantizer", "missing_packages"]


@dataclass(frozen=True)
class QuantizerSpec:
    """One quantizer as the catalogue knows it.

    Attributes:
        name: Of the quantizer, and of the backend that serves what it makes.
        title: For people.
        precisions: Precision → the packages that making it takes.
        extra: The extra of this project that brings them.
        entry: ``"module:Class"`` of the :class:`Quantizer`.
        note: What to know before one asks for it.
        accuracy_aware: Precisions for which it keeps a greatest drop of accuracy.
    """

    name: str
    title: str
    precisions: dict[str, tuple[str, ...]]
    extra: str
    entry: str
    note: str = ""
    accuracy_aware: tuple[str, ...] = ()

    def make(self) -> Quantizer:
        """The quantizer itself; its runtime is imported when it works."""
        module, _, name = self.entry.partition(":")
        return cast(Quantizer, getattr(import_module(module), name)())


_HERE = "guardianflow.vision.quantizers"

ONNXRUNTIME = QuantizerSpec(
    "onnxruntime",
    "ONNX Runtime",
    {"int8": ("onnx", "onnxruntime"), "fp16": ("onnx", "onnxruntime")},
    "onnx",
    f"{_HERE}.onnxruntime:OnnxRuntimeQuantizer",
    "int8 as QDQ; fp16 gains on GPUs, a CPU computes it in fp32",
)
OPENVINO = QuantizerSpec(
    "openvino",
    "OpenVINO with NNCF",
    {"int8": ("openvino", "nncf", "onnx"), "fp16": ("openvino", "onnx")},
    "openvino",
    f"{_HERE}.openvino:OpenVinoQuantizer",
    "int8, also with a greatest drop of accuracy; fp16 halves the file, the CPU computes as its hint says",
    ("int8",),
)
TENSORRT = QuantizerSpec(
    "tensorrt",
    "TensorRT",
    {"int8": ("tensorrt", "onnx", "onnxruntime"), "fp16": ("tensorrt", "onnx")},
    "tensorrt",
    f"{_HERE}.tensorrt:TensorRtQuantizer",
    "needs an NVIDIA GPU; the engine serves on GPUs of its own kind only",
)
TORCH = QuantizerSpec(
    "torch",
    "PyTorch",
    {"fp16": ("torch",), "bf16": ("torch",)},
    "",
    f"{_HERE}.torch:TorchQuantizer",
    "gains on GPUs; most CPUs compute it no faster than fp32",
)

QUANTIZERS: Registry[QuantizerSpec] = Registry(
    "quantizer",
    {name.lower(): f"{_HERE}.catalog:{name}" for name in ("ONNXRUNTIME", "OPENVINO", "TENSORRT", "TORCH")},
    group="guardianflow.quantizers",
)
"""Name of a quantizer → its :class:`QuantizerSpec`. Other packages add theirs through the entry-point group."""


def find_quantizer(backend: str, precision: str, *, max_drop: float = 0.0) -> QuantizerSpec:
    """The quantizer that makes a variant for a backend.

    Args:
        backend: Its name.
        precision: What it is to make.
        max_drop: Greatest drop of accuracy that it is to keep; 0: none.

    Raises:
        NotFoundError: No such quantizer.
        InputError: It makes no such precision, or can't keep a drop of accuracy.
        MissingDependencyError: A package that it takes is not installed; the message names the extra.
    """
    spec = QUANTIZERS.get(backend)
    if precision not in spec.precisions:
        others = [name for name in QUANTIZERS if precision in QUANTIZERS.get(name).precisions]
        hint = f"; {precision} is made by {' and '.join(others)}" if others else ""
        raise InputError(f"{spec.title} is quantized to {' or '.join(spec.precisions)}, not to {precision!r}{hint}")
    if max_drop and precision not in spec.accuracy_aware:
        able = ", ".join(f"{name} {kind}" for name in QUANTIZERS for kind in QUANTIZERS.get(name).accuracy_aware)
        msg = f"{backend} {precision} can't keep a greatest drop of accuracy ({max_drop:g}); this can: {able}"
        raise InputError(msg)
    missing = missing_packages(spec, precision)
    if missing:
        what = f"guardianflow[{spec.extra}]" if spec.extra else "guardianflow"
        raise MissingDependencyError(
            f"{precision} for {spec.title} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            f"not installed. Install with: pip install '{what}'"
        )
    return spec


def missing_packages(spec: QuantizerSpec, precision: str) -> tuple[str, ...]:
    """What making this precision takes and isn't installed; nothing is imported."""
    return tuple(name for name in spec.precisions[precision] if not is_installed(name))
