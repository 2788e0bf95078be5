"""ONNX Runtime: int8 as QDQ, fp16.

What is quantized to int8 are the layers with learned weights and what lies between them. The arithmetic
behind the last of them, which makes boxes of distributions and scores of logits, stays in fp32: one scale
for pixels (0 to 640) and scores (0 to 1) would round every score to 0.
"""

from __future__ import annotations

import contextlib
import io
import logging
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow._imports import require
from guardianflow.vision.backends.catalog import installed_version
from guardianflow.vision.backends.onnx_file import load_graph, save_onnx
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantizers._base import (
    QuantizationOptions,
    QuantizedModel,
    Quantizer,
    exported,
    needs_calibration,
)

if TYPE_CHECKING:
    from guardianflow.vision.quantizers.calibration import CalibrationSet

__all__ = ["OnnxRuntimeQuantizer", "count_nodes", "head_arithmetic", "quantize_onnx"]

log = logging.getLogger(__name__)

_CHUNK = 8  # images whose activations are in memory at once
# What passes on numbers without being the arithmetic that needs them exact.
_SHAPES = frozenset({"Shape", "Size", "ConstantOfShape", "Range"})
# QDQ around these keeps the tensors between two convolutions in int8.
_QUANTIZED_OPS = ("Conv", "Gemm", "Add", "Mul", "Sigmoid", "Concat", "MaxPool", "Resize", "Split", "Slice")


class OnnxRuntimeQuantizer(Quantizer):
    """Makes an ONNX file that the backend ``onnxruntime`` loads."""

    name = "onnxruntime"

    def quantize(
        self, model: ModelFile, calibration: CalibrationSet | None, options: QuantizationOptions, folder: Path
    ) -> QuantizedModel:
        """Quantize to int8, or convert to fp16; see :meth:`Quantizer.quantize`."""
        for package in ("onnx", "onnxruntime"):
            require(package, extra="onnx", purpose=f"{options.precision} for ONNX Runtime")
        source = exported(model, options, folder)
        target = folder / f"{model.path.stem or 'model'}-{options.precision}.onnx"
        folder.mkdir(parents=True, exist_ok=True)
        if options.precision == "int8":
            images = needs_calibration(options, calibration)
            facts = quantize_onnx(source.path, images, target, options)
        else:
            facts = _to_fp16(source.path, target)
        return QuantizedModel(read_model_file(target), facts)


def quantize_onnx(
    source: Path, calibration: CalibrationSet, target: Path, options: QuantizationOptions, *, symmetric: bool = False
) -> dict[str, Any]:
    """Write the int8 variant of an ONNX file.

    Args:
        source: The fp32 file.
        calibration: Images that show the range of the activations.
        target: The file to write; the ranges lie beside it as ``….ranges.json``.
        options: Method of calibration, scales per channel.
        symmetric: Signed activations around zero and biases in fp32, as TensorRT takes them.

    Returns:
        What was done.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    method = getattr(CalibrationMethod, {"minmax": "MinMax"}.get(options.calibration_method,
                                                                  options.calibration_method.capitalize()))  # fmt: skip
    prepared = _preprocessed(source, target.with_suffix(".prepared.onnx"))
    graph = load_graph(prepared)
    head = head_arithmetic(graph)
    excluded = sorted(head | _attention(graph))
    ranges = target.with_suffix(".ranges.json")
    ranges.unlink(missing_ok=True)
    _collect_ranges(prepared, calibration, method, ranges, symmetric=symmetric)
    reduce_range = not symmetric and saturates_without_vnni()
    with _without_chatter():
        quantize_static(
            str(prepared), str(target), None, quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED_OPS), per_channel=options.per_channel, reduce_range=reduce_range,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=excluded, calibrate_method=method, calibration_cache_path=ranges,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": not symmetric},
        )  # fmt: skip
    _keep_metadata(source, target)
    prepared.unlink()
    return {
        "tool": _tool(),
        "format": "QDQ",
        "calibration_method": options.calibration_method,
        "per_channel": options.per_channel,
        "reduce_range": reduce_range,
        "activations": "int8 symmetric" if symmetric else "uint8",
        "left_in_fp32": len(excluded),
        "head_arithmetic": len(head),
        **count_nodes(target),
    }


def head_arithmetic(model: Any) -> set[str]:
    """Names of the nodes behind the last layers with learned weights: what decodes boxes and scores.

    Found by walking from the outputs to the first convolutions, so it holds for every head and for every
    naming. A convolution with fixed weights (the expectation of the distribution, "DFL") is arithmetic, too.

    Args:
        model: An ``onnx.ModelProto`` whose nodes have names.
    """
    from onnx import numpy_helper

    makers = {output: node for node in model.graph.node for output in node.output}
    weights = {item.name: item for item in model.graph.initializer}
    found: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name in found or node.op_type in _SHAPES:
            continue
        if node.op_type in {"Conv", "Gemm"}:
            kernel = weights.get(node.input[1])
            if kernel is None or not _is_expectation(numpy_helper.to_array(kernel)):
                continue
        found.add(node.name)
        waiting += node.input
    return found


def count_nodes(file: Path) -> dict[str, int]:
    """How many convolutions an ONNX file has, and how many of them compute in int8.

    A convolution counts as int8 where its images and its weights both come from a DequantizeLinear.
    """
    graph = load_graph(file).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    int8 = [
        node for node in convolutions if all(makers.get(name) == "DequantizeLinear" for name in list(node.input)[:2])
    ]
    pairs = sum(node.op_type == "QuantizeLinear" for node in graph.node)
    return {"convolutions": len(convolutions), "int8_convolutions": len(int8), "quantize_nodes": pairs}


def saturates_without_vnni() -> bool:
    """Whether this CPU adds two products of 8 bits in 16: weights then get 7 bits, or sums are cut off.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When and why do I need
    to try U8U8?". x86 without VNNI does so; where the flags can't be read, 8 bits are used.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "vnni" not in flags and "amx_int8" not in flags


def _is_expectation(kernel: npt.NDArray[Any]) -> bool:
    return kernel.shape[0] == 1 and np.array_equal(kernel.ravel(), np.arange(kernel.size))


def _attention(model: Any) -> set[str]:
    """The soft maximum of attention, and the products with it, are no good in 8 bits."""
    return {node.name for node in model.graph.node if node.op_type in {"MatMul", "Softmax"}}


def _preprocessed(source: Path, target: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _without_chatter():
        # Symbolic inference gives up on the anchors' shapes, which depend on the input; the ranges need none.
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    return target


class _Reader:
    """Calibration images as ONNX Runtime asks for them."""

    def __init__(self, name: str, tensors: Iterator[npt.NDArray[np.float32]]) -> None:
        self._name = name
        self._tensors = tensors

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next image, or ``None`` after the last."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def _collect_ranges(model: Path, calibration: CalibrationSet, method: Any, target: Path, *, symmetric: bool) -> None:
    """Run the images through the model a few at a time: histograms need all their activations in memory."""
    from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data

    augmented = target.with_suffix(".augmented.onnx")
    with _without_chatter():
        calibrator = create_calibrator(
            model, list(_QUANTIZED_OPS), augmented_model_path=str(augmented), calibrate_method=method,
            extra_options={"symmetric": symmetric},
        )  # fmt: skip
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        name = calibrator.infer_session.get_inputs()[0].name
        for start in range(0, len(calibration), _CHUNK):
            calibrator.collect_data(_Reader(name, calibration.tensors(start, start + _CHUNK)))
        save_tensors_data(calibrator.compute_data(), target)
    calibrator.infer_session = None  # Windows keeps an open file
    augmented.unlink()


def _to_fp16(source: Path, target: Path) -> dict[str, Any]:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = load_graph(source)
    # fp16 counts in halves from 1024 on and in whole numbers from 2048: boxes are made in fp32.
    head = sorted(head_arithmetic(model))
    with _without_chatter():
        small = convert_float_to_float16(model, keep_io_types=True, node_block_list=head)
    _without_round_trips(small)
    onnx.save(small, str(target))
    _keep_metadata(source, target)
    return {
        "tool": _tool(),
        "format": "fp16 weights, fp32 in and out",
        "head_arithmetic": len(head),
        "left_in_fp32": len(head),
        "convolutions": count_nodes(target)["convolutions"],
    }


def _without_round_trips(model: Any) -> None:
    """Let what the head hands on stay in fp32.

    The converter casts every result of a node that stays in fp32 to fp16, and back where the next one takes
    it: the bits would be lost all the same. It also writes one and the same cast once for each consumer, which
    no runtime loads.
    """
    from onnx import TensorProto

    graph = model.graph
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}
    wide = {name for name, node in casts.items() if node.attribute[0].i == TensorProto.FLOAT}
    exact = {
        name: casts[casts[name].input[0]].input[0]
        for name in wide
        if casts[name].input[0] in casts and casts[casts[name].input[0]].attribute[0].i == TensorProto.FLOAT16
    }
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = exact.get(name, name)
    seen: set[str] = set()
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and (node.output[0] in seen or node.output[0] not in used):
            continue
        seen.add(node.output[0])
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _keep_metadata(source: Path, target: Path) -> None:
    """Class names, side and stride go along: they are what makes the file a detector."""
    properties = {item.key: item.value for item in load_graph(source).metadata_props}
    draft = target.with_suffix(".part")
    save_onnx(load_graph(target), draft, properties)
    draft.replace(target)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """ONNX Runtime prints and warns through the root logger while it quantizes."""
    root = logging.getLogger()
    level, spoken = root.level, io.StringIO()
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(spoken):
            yield
    finally:
        root.setLevel(level)
        for line in spoken.getvalue().splitlines():
            log.debug("onnxruntime: %s", line)


def _tool() -> str:
    version = installed_version("onnxruntime") or installed_version("onnxruntime-gpu")
    return f"onnxruntime {version or 'of unknown version'}"
