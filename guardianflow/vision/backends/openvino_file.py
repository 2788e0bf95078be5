"""OpenVINO model folders: what they say of themselves, and how one is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import yaml

from guardianflow._imports import require
from guardianflow.exceptions import DatasetError, ModelFileError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.vision.backends.graph_facts import GraphFacts
from guardianflow.vision.model_parts import refuse_links

__all__ = ["convert_onnx", "find_graph", "read_openvino", "write_openvino"]

_MAX_XML_BYTES = 256 << 20
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


def find_graph(folder: Path) -> Path:
    """The .xml of a model folder, whose weights lie beside it.

    Raises:
        ModelFileError: There isn't exactly one, its weights are missing, or a link leads out of the folder.
    """
    graphs = sorted(folder.glob("*.xml"))
    if len(graphs) != 1:
        msg = f"OpenVINO model {folder} must hold exactly one .xml file, it holds {len(graphs)}; export it again"
        raise ModelFileError(msg)
    weights = graphs[0].with_suffix(".bin")
    if not weights.is_file():
        raise ModelFileError(f"OpenVINO model {folder} lacks its weights {weights.name}; copy the whole folder")
    refuse_links(folder)
    return graphs[0]


def read_openvino(folder: Path) -> GraphFacts:
    """What an OpenVINO model folder says of itself.

    Raises:
        ModelFileError: Incomplete, damaged, or with links.
    """
    graph = find_graph(folder)
    scan = _scan(graph)
    _require_weights(graph.with_suffix(".bin"), scan.weights_end)
    metadata: dict[str, Any] = {"names": scan.labels} if scan.labels else {}
    sidecar = folder / "metadata.yaml"
    if sidecar.exists():
        try:
            metadata = {str(key): value for key, value in load_yaml_mapping(sidecar, what="metadata.yaml").items()}
        except DatasetError as error:
            raise ModelFileError(str(error)) from error
    return GraphFacts(metadata, tuple(scan.inputs), tuple(scan.outputs), scan.precision())


def convert_onnx(source: Path, folder: Path, metadata: Mapping[str, Any], *, halves: bool) -> None:
    """Make an OpenVINO model folder from an ONNX file, in the form that Ultralytics loads, too.

    Args:
        source: The ONNX file.
        folder: Made; holds ``model.xml``, ``model.bin`` and ``metadata.yaml``.
        metadata: For ``metadata.yaml``; plain values.
        halves: Store the weights as fp16.

    Raises:
        MissingDependencyError: ``openvino`` is missing.
    """
    openvino = require("openvino", extra="openvino")
    # read_model, not convert_model: the latter asks the network to count it.
    network = openvino.Core().read_model(str(source))
    write_openvino(network, folder, metadata, halves=halves)


def write_openvino(network: Any, folder: Path, metadata: Mapping[str, Any], *, halves: bool) -> None:
    """Write a network of OpenVINO's as a model folder; see :func:`convert_onnx`."""
    openvino = require("openvino", extra="openvino")
    folder.mkdir(parents=True, exist_ok=True)
    labels = [str(name).replace(" ", "_") for name in dict(metadata.get("names", {})).values()]
    for key, value in (("model_type", "YOLO"), ("labels", labels), ("resize_type", "fit_to_window_letterbox")):
        network.set_rt_info(value, ["model_info", key])
    openvino.save_model(network, str(folder / "model.xml"), compress_to_fp16=halves)
    text = yaml.safe_dump(dict(metadata), allow_unicode=True, sort_keys=False)
    (folder / "metadata.yaml").write_text(text, encoding="utf-8")


@dataclass
class _Scan:
    """What is collected while the XML streams by."""

    inputs: list[tuple[int, ...]] = field(default_factory=list)
    outputs: list[tuple[int, ...]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    constants: Counter[str] = field(default_factory=Counter)
    quantized: bool = False
    weights_end: int = 0
    _layer: str = ""
    _dims: list[int] | None = None
    _text: str = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._text = ""
        if tag == "layer":
            self._layer = attributes.get("type", "")
            self.quantized |= self._layer == "FakeQuantize"
        elif tag == "data" and self._layer == "Parameter":
            self.inputs.append(_sides(attributes.get("shape", "")))
        elif tag == "data" and self._layer == "Const":
            size = int(attributes.get("size", 0))
            self.constants[attributes.get("element_type", "")] += size
            self.weights_end = max(self.weights_end, int(attributes.get("offset", 0)) + size)
        elif tag == "port" and self._layer == "Result":
            self._dims = []
        elif tag == "labels" and attributes.get("value"):
            self.labels = attributes["value"].split()

    def end(self, tag: str) -> None:
        if tag == "dim" and self._dims is not None:
            self._dims.append(max(0, int(self._text)))
        elif tag == "port" and self._dims is not None:
            self.outputs.append(tuple(self._dims))
            self._dims = None

    def text(self, text: str) -> None:
        self._text += text

    def precision(self) -> str:
        if self.quantized:
            return "int8"
        floats = {kind: size for kind, size in self.constants.items() if kind in _PRECISIONS}
        return _PRECISIONS[max(floats, key=lambda kind: floats[kind])] if floats else "fp32"


def _scan(path: Path) -> _Scan:
    scan = _Scan()
    parser = expat.ParserCreate()
    parser.StartElementHandler = scan.start
    parser.EndElementHandler = scan.end
    parser.CharacterDataHandler = scan.text
    parser.EntityDeclHandler = _refuse_entity
    try:
        if path.stat().st_size > _MAX_XML_BYTES:
            raise ValueError("it is larger than any graph")
        with path.open("rb") as file:
            parser.ParseFile(file)
        if not scan.inputs or not scan.outputs:
            raise ValueError("it holds no graph")
    except (expat.ExpatError, OSError, ValueError) as error:
        msg = f"OpenVINO model {path} can't be read ({error}); the file may be cut off: copy or export it again"
        raise ModelFileError(msg) from error
    return scan


def _require_weights(weights: Path, needed: int) -> None:
    size = weights.stat().st_size
    if size < needed:
        msg = f"OpenVINO weights {weights} have {size} bytes and their graph needs {needed}: cut off; copy them again"
        raise ModelFileError(msg)


def _refuse_entity(*_: object) -> None:
    raise ValueError("it defines entities, which no exporter does")


def _sides(text: str) -> tuple[int, ...]:
    """``"?,3,640,640"`` → (0, 3, 640, 640); a range such as ``1..8`` is any size."""
    return tuple(int(side) if side.strip().isdigit() else 0 for side in text.split(",")) if text else ()
