"""Tiny ONNX files that have a detector's form; nothing in them detects anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

Shape = Sequence[int | str]


def detector(
    path: Path,
    *,
    shape: Shape = ("b", 3, 64, 64),
    output: Shape | Sequence[Shape] = ("b", 7, 84),
    metadata: Mapping[str, str] | None = None,
    weight: Any = None,
    outputs: int = 1,
) -> Path:
    """Write one.

    Args:
        path: Where to.
        shape: Of the input; text: any size.
        output: Of the output; a list of shapes: of each.
        metadata: As Ultralytics writes it, values as text.
        weight: An initializer.
        outputs: So many alike.
    """
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = [output] * outputs if not isinstance(output[0], (list, tuple)) else list(output)
    nodes = [helper.make_node("Identity", ["images"], [f"output{number}"]) for number in range(len(shapes))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(f"output{number}", kind, each) for number, each in enumerate(shapes)],
        initializer=[weight] if weight is not None else [],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path


def with_weights_beside(path: Path, *, names: str = "{0: 'a', 1: 'b', 2: 'c'}") -> Path:
    """A detector whose one weight lies in ``<path>.data``, as torch's exporter leaves larger models."""
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [400], b"\1" * 1600, raw=True)
    model = onnx.load(detector(path, weight=weight, metadata={"names": names}))
    onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def working(path: Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """A detector of three classes at 64 px that runs: what it gives are the picture's first pixels."""
    helper, kind = onnx.helper, onnx.TensorProto
    pixels = 7 * 84
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"], axis=1),
        helper.make_node("Gather", ["flat", "first"], ["some"], axis=1),
        helper.make_node("Reshape", ["some", "shape"], ["output0"]),
    ]
    constants = [
        helper.make_tensor("first", kind.INT64, [pixels], list(range(pixels))),
        helper.make_tensor("shape", kind.INT64, [3], [-1, 7, 84]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", kind.FLOAT, ("b", 3, 64, 64))],
        [helper.make_tensor_value_info("output0", kind.FLOAT, ("b", 7, 84))], initializer=constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path
