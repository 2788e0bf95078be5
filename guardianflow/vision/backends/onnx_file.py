"""ONNX files: what they say of themselves, and how one is made from torch weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.exceptions import ModelFileError
from guardianflow.vision.backends.graph_facts import GraphFacts

if TYPE_CHECKING:
    import onnx

__all__ = ["INTEGER_OPS", "OPSET", "compute_precisions", "load_graph", "read_onnx", "save_onnx"]

OPSET = 17
"""One for all exports: every runtime here has all of its operators, and onnxruntime quantizes it."""

INTEGER_OPS = frozenset({
    "ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QGemm",
    "QLinearConv", "QLinearMatMul",
})  # fmt: skip
_FLOAT_OPS = frozenset({"Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"})
_QUANTIZED = INTEGER_OPS | {"QuantizeLinear", "DequantizeLinear"}


def load_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file that holds all of itself.

    Raises:
        ModelFileError: Damaged, or with weights in other files: their content has no part in the model's hash,
            and their path may lead anywhere.
        MissingDependencyError: ``onnx`` is missing.
    """
    onnx = require("onnx", extra="onnx", purpose="reading ONNX models")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise ModelFileError(_damaged(path, f"{type(error).__name__}: {error}")) from error
    if not model.graph.input or not model.graph.output:
        raise ModelFileError(_damaged(path, "it holds no graph"))
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            raise ModelFileError(
                f"ONNX model {path} keeps weights in another file ({where[:200]!r}), which is not followed: a model "
                "must be one file; save it again with onnx.save(onnx.load(path), path, save_as_external_data=False)"
            )
    return model


def read_onnx(path: Path) -> GraphFacts:
    """What an ONNX file says of itself.

    Raises:
        ModelFileError: See :func:`load_graph`.
        MissingDependencyError: ``onnx`` is missing.
    """
    model = load_graph(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    return GraphFacts(
        metadata={item.key: item.value for item in model.metadata_props},
        inputs=tuple(_shape(item) for item in model.graph.input if item.name not in constants),
        outputs=tuple(_shape(item) for item in model.graph.output),
        precision=_stored_precision(model),
    )


def compute_precisions(model: onnx.ModelProto) -> Counter[str]:
    """How many convolutions and matrix products of an optimised graph are computed at which precision.

    A quantized or half-precision file may well be computed in float32: a runtime puts casts or
    dequantizations in front of the operators that it has no such kernels for.
    """
    graph = model.graph
    types = {item.name: item.type.tensor_type.elem_type for item in (*graph.value_info, *graph.input)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast":
            types[node.output[0]] = next(item.i for item in node.attribute if item.name == "to")
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in INTEGER_OPS:
            found["int8"] += 1
        elif node.op_type in _FLOAT_OPS:
            found[_name_of(types.get(node.input[1], 1))] += 1
    return found


def save_onnx(model: onnx.ModelProto, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a graph with metadata as one file.

    Args:
        model: The graph.
        path: Where to.
        metadata: Replaces what the graph held; values are written as text, as Ultralytics does.
    """
    onnx = require("onnx", extra="onnx", purpose="writing ONNX models")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    onnx.save(model, str(path))


def _stored_precision(model: onnx.ModelProto) -> str:
    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        return "int8"
    sizes: Counter[int] = Counter()
    for tensor in _tensors(model):
        size = 1
        for side in tensor.dims:
            size *= side
        sizes[tensor.data_type] += size
    floats = {kind: size for kind, size in sizes.items() if kind in {1, 10, 16}}
    return _name_of(max(floats, key=lambda kind: floats[kind])) if floats else "fp32"


def _name_of(kind: int) -> str:
    return {1: "fp32", 10: "fp16", 16: "bf16", 2: "int8", 3: "int8"}.get(kind, "fp32")


def _shape(item: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(max(0, side.dim_value) for side in item.type.tensor_type.shape.dim)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in a model: weights, constants inside nodes, in subgraphs, functions and training parts."""
    graphs = [model.graph]
    for part in model.training_info:
        graphs += [part.initialization, part.algorithm]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                yield from (sparse.values, sparse.indices)
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _damaged(path: Path, reason: str) -> str:
    text = " ".join(reason.split())[:200]
    return f"ONNX model {path} can't be read ({text}); the file may be cut off: copy or export it again"
