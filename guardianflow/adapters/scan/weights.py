"""Files of weights, told by their ending and first bytes; none is ever loaded or unpickled."""

from __future__ import annotations

import re
from pathlib import Path

from guardianflow.adapters.scan.findings import FoundWeights
from guardianflow.adapters.scan.walk import SeenFolder, Skipped, file_size, read_start

__all__ = ["find_weights"]

_START = 1 << 16
_LFS = b"version https://git-lfs"
_ZIP = rb"PK\x03\x04"
_PICKLE = rb"\x80[\x02-\x05]"
# Ending → the format, and how such a file begins.
_FORMATS = {
    ending: (name, re.compile(start, re.DOTALL))
    for ending, name, start in (
        (".pt", "pytorch", _ZIP + rb"|" + _PICKLE),
        (".pth", "pytorch", _ZIP + rb"|" + _PICKLE),
        (".ckpt", "pytorch", _ZIP + rb"|" + _PICKLE),
        (".torchscript", "torchscript", _ZIP),
        # The tag of a field of ModelProto, commonly ir_version (8), producer_name, graph or opset_import.
        (".onnx", "onnx", rb"[\x08\x12\x1a\x3a\x42].{16}"),
        (".safetensors", "safetensors", rb".{4}\0{4}\{"),
        # TensorRT's own, or Ultralytics' with the length of its JSON in front.
        (".engine", "tensorrt", rb"[pf]trt|..[\0-\x0f]\0\{"),
        (".h5", "keras", rb"\x89HDF\r\n\x1a\n.*(model_weights|layer_names|keras_version|weight_names)"),
        (".keras", "keras", _ZIP),
        (".tflite", "tflite", rb".{4}TFL3"),
        (".pdparams", "paddle", _PICKLE),
        (".xml", "openvino", rb".{0,4000}<net "),
    )
}


def find_weights(folder: SeenFolder, name: str, skipped: Skipped) -> FoundWeights | None:
    """The weights in a file, if its ending and its first bytes agree that it holds some."""
    path = Path(name)
    if path.suffix.lower() not in _FORMATS:
        return None
    form, begins = _FORMATS[path.suffix.lower()]
    size, beside = file_size(folder.at(name)), 0
    if form == "openvino":
        beside = file_size(folder.at(f"{path.stem}.bin"))
    start = read_start(folder.at(name), _START) if beside >= 0 else b""
    if start.startswith(_LFS):
        skipped.add(folder.below(name), "Git LFS pointer; the weights themselves are not here")
    return FoundWeights(Path(folder.below(name)), form, size + beside) if begins.match(start) else None
