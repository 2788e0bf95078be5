"""Files of weights, told by their ending and first bytes; none is ever loaded or unpickled."""

from __future__ import annotations

from pathlib import Path

from guardianflow.adapters.scan.bytes import file_size, read_start
from guardianflow.adapters.scan.findings import FoundWeights
from guardianflow.adapters.scan.walk import SeenFolder, Skipped

__all__ = ["WEIGHT_ENDINGS", "find_weights"]

_START = 1 << 16
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LFS = b"version https://git-lfs"


def _is_pickle(start: bytes) -> bool:
    return start[:1] == b"\x80" and start[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}


def _is_pytorch(start: bytes) -> bool:
    return start.startswith(_ZIP) or _is_pickle(start)


def _is_onnx(start: bytes) -> bool:
    # A protobuf: the tag of a field of ModelProto, commonly ir_version (8), producer_name, graph or opset_import.
    return start[:1] in {b"\x08", b"\x12", b"\x1a", b"\x3a", b"\x42"} and len(start) > 16


def _is_safetensors(start: bytes) -> bool:
    return 2 <= int.from_bytes(start[:8], "little") <= 100_000_000 and start[8:9] == b"{"


def _is_engine(start: bytes) -> bool:
    # TensorRT's own, or Ultralytics' with the length of its JSON in front.
    length = int.from_bytes(start[:4], "little")
    return start[:4] in {b"ptrt", b"ftrt"} or (start[4:5] == b"{" and 2 <= length < 1_000_000)


def _is_keras_h5(start: bytes) -> bool:
    if not start.startswith(_HDF5):
        return False
    return any(word in start for word in (b"model_weights", b"layer_names", b"keras_version", b"weight_names"))


def _is_openvino(start: bytes) -> bool:
    return b"<net " in start[:4096]


# Ending → the format, and what its first bytes must be.
_FORMATS = {
    ".pt": ("pytorch", _is_pytorch),
    ".pth": ("pytorch", _is_pytorch),
    ".ckpt": ("pytorch", _is_pytorch),
    ".torchscript": ("torchscript", _is_pytorch),
    ".onnx": ("onnx", _is_onnx),
    ".safetensors": ("safetensors", _is_safetensors),
    ".engine": ("tensorrt", _is_engine),
    ".h5": ("keras", _is_keras_h5),
    ".keras": ("keras", lambda start: start.startswith(_ZIP)),
    ".tflite": ("tflite", lambda start: start[4:8] == b"TFL3"),
    ".pdparams": ("paddle", _is_pickle),
    ".xml": ("openvino", _is_openvino),
}
WEIGHT_ENDINGS = frozenset(_FORMATS)


def find_weights(folder: SeenFolder, name: str, skipped: Skipped) -> FoundWeights | None:
    """The weights in a file, if its ending and its first bytes agree that it holds some."""
    stem, dot, ending = name.rpartition(".")
    ending = dot + ending.lower()
    if ending not in _FORMATS:
        return None
    path = folder.at(name)
    beside = 0
    if ending == ".xml":
        beside = file_size(folder.at(f"{stem}.bin"))
        if beside < 0:
            return None
    kind, fits = _FORMATS[ending]
    size = file_size(path)
    start = read_start(path, _START if ending == ".h5" else 4096)
    if start.startswith(_LFS):
        skipped.add(folder.below(name), "Git LFS pointer; the weights themselves are not here")
        return None
    if size <= 0 or not fits(start):
        return None
    return FoundWeights(Path(folder.below(name)), kind, size + max(beside, 0))
