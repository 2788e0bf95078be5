"""Model files that can be served: what one is, read without running anything in it."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from guardianflow.exceptions import ModelFileError
from guardianflow.files.content import measure
from guardianflow.vision.backends.graph_facts import GraphFacts
from guardianflow.vision.model_parts import require_whole
from guardianflow.vision.output_layouts import END_TO_END, Claim, keypoints_in, layout_of, layout_of_head

__all__ = ["ModelFile", "model_format", "plain_metadata", "read_model_file"]

DEFAULT_SIDE = 640
DEFAULT_STRIDE = 32
MAX_METADATA = 1 << 20
"""Characters of a metadata value that is still parsed; 10,000 classes have a quarter of it."""

_FILES = {
    ".pt": "torch", "_qnn.onnx": "qnn", ".onnx": "onnx", ".engine": "tensorrt", ".torchscript": "torchscript",
    "_edgetpu.tflite": "edgetpu", ".tflite": "litert", ".mnn": "mnn", ".pb": "pb",
}  # fmt: skip
_FOLDERS = {
    "_openvino_model": "openvino", "_ncnn_model": "ncnn", "_saved_model": "saved_model", "_paddle_model": "paddle",
    ".mlpackage": "coreml", ".aimodel": "coreai", "_rknn_model": "rknn", "_imx_model": "imx",
    "_executorch_model": "executorch", "_axelera_model": "axelera", "_deepx_model": "deepx", "_hailo_model": "hailo",
    "_ascend_model": "ascend", "_xilinx_model": "xilinx",
}  # fmt: skip


@dataclass(frozen=True)
class ModelFile:
    """A model file or folder and what it says of itself.

    Attributes:
        path: The file; a folder for OpenVINO.
        format: ``torch`` (.pt), ``onnx``, ``openvino``, ``tensorrt`` (.engine), or another one that
            Ultralytics' AutoBackend loads (``torchscript``, ``ncnn``, …).
        names: Class names by class id.
        imgsz: Side it was trained or exported with, in pixels; 640 where it doesn't say.
        stride: The side of an input must be a multiple of this.
        end_to_end: The model selects its boxes itself: its output is (B, N, 6), and no NMS follows.
        precision: Of the stored weights: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
        sha256: Of the content, as the registry measures it.
        size_mb: Millions of bytes.
        dynamic: Takes batches of any size.
        batch: The one batch size it takes; 0 where it takes any.
        form_known: The file tells the shape of its output, and what it says of itself agrees with it.
        names_made_up: It names no classes; they are numbered by the rows of its output.
        remarks: What was found out of order and decided, in sentences.
    """

    path: Path
    format: str
    names: tuple[str, ...]
    imgsz: int
    stride: int
    end_to_end: bool
    precision: str
    sha256: str
    size_mb: float
    dynamic: bool
    batch: int
    form_known: bool = True
    names_made_up: bool = False
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        lists = {"names": list(self.names), "remarks": list(self.remarks)}
        return {**asdict(self), "path": str(self.path), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelFile:
        """What :meth:`to_dict` made."""
        tuples = {name: tuple(values.get(name, ())) for name in ("names", "remarks")}
        return cls(**{**values, "path": Path(values["path"]), **tuples})


def read_model_file(path: Path) -> ModelFile:
    """Read what a model file says of itself, without running anything in it.

    What it says and the shape of its output are held against each other, see
    :mod:`~guardianflow.vision.output_layouts`. A YOLO head that names no classes has them numbered: ``class0``,
    ``class1`` …

    Args:
        path: A file (.pt, .onnx, .engine, …) or a folder (OpenVINO, NCNN, …).

    Raises:
        ModelFileError: Missing, incomplete, damaged, of another task, in contradiction to itself, or holding what is
            not followed (links, weights in other files).
        MissingDependencyError: The package that reads this format is missing.
    """
    if not path.exists():
        raise ModelFileError(f"there is no model file {path}; check the path")
    kind = model_format(path)
    require_whole(path, kind)
    if kind == "torch":
        return _read_torch(path)
    facts = _graph_facts(path, kind)
    metadata = plain_metadata(facts.metadata)
    _check_task(path, metadata)
    names = _names(path, metadata)
    claim = Claim(names, 0, _selects_itself(metadata), keypoints_in(metadata), str(metadata.get("head") or ""))
    if len(facts.outputs) > 1:
        layout_of(path, facts.outputs, claim)
    shape = _input_shape(path, facts, metadata)
    side = shape[2] or _side(path, metadata.get("imgsz")) or DEFAULT_SIDE
    layout = layout_of(path, facts.outputs, replace(claim, side=shape[2]))
    numbered = names is None and layout is not END_TO_END
    return _model_file(
        path,
        kind,
        names=_numbered(path, facts) if numbered else names or (),
        imgsz=side,
        stride=_whole(metadata.get("stride"), DEFAULT_STRIDE),
        end_to_end=layout is END_TO_END,
        precision=facts.precision,
        batch=shape[0],
        form_known=any(any(one[1:]) for one in facts.outputs),
        names_made_up=numbered,
        remarks=tuple(_remarks(path, metadata, facts, numbered=numbered)),
    )


def model_format(path: Path) -> str:
    """The format of a model by its name.

    Raises:
        ModelFileError: No known one.
    """
    name = path.name.lower()
    if path.is_dir():
        if any(path.glob("*.xml")):
            return "openvino"
        known = next((kind for suffix, kind in _FOLDERS.items() if name.endswith(suffix)), None)
    else:
        known = next((kind for suffix, kind in _FILES.items() if name.endswith(suffix)), None)
    if known is None:
        raise ModelFileError(
            f"model {path} has a form that is not known; pass a .pt, .onnx or .engine file, an OpenVINO folder, or "
            f"one of {', '.join([*_FILES, *_FOLDERS])}"
        )
    return known


def _read_torch(path: Path) -> ModelFile:
    from guardianflow.vision.model_files import class_names, load_checkpoint

    model, checkpoint = load_checkpoint(path)
    _check_task(path, {"task": getattr(model, "task", "detect")})
    names, head = class_names(model), model.model[-1]
    known = layout_of_head(type(head).__name__) is not None
    rows = ((0, 4 + int(head.nc), 0),) if hasattr(head, "nc") else ()
    layout_of(path, rows, Claim(names, head=type(head).__name__ if known else ""))
    arguments = checkpoint.get("train_args")
    side = arguments.get("imgsz") if isinstance(arguments, dict) else None
    return _model_file(
        path,
        "torch",
        names=names,
        imgsz=_side(path, side) or DEFAULT_SIDE,
        stride=int(max(model.stride)),
        end_to_end=bool(getattr(model, "end2end", False)),
        precision=_stored_precision(path, max(item.numel() for item in model.parameters())),
        batch=0,
    )


def _stored_precision(path: Path, largest: int) -> str:
    """Whether the weights lie in the file as halves, which loading makes float32 of.

    Args:
        path: A file that was loaded, so it is no bomb.
        largest: Elements of the largest weight; its bytes are one entry of the archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {item.file_size for item in archive.infolist()}
    except (zipfile.BadZipFile, OSError):  # torch's format before 1.6
        return "fp32"
    return "fp16" if 2 * largest in sizes else "fp32"


def _graph_facts(path: Path, kind: str) -> GraphFacts:
    if kind == "onnx":
        from guardianflow.vision.backends.onnx_file import read_onnx

        return read_onnx(path)
    if kind == "openvino":
        from guardianflow.vision.backends.openvino_file import read_openvino

        return read_openvino(path)
    if kind == "tensorrt":
        from guardianflow.vision.backends.engine_file import read_engine_header

        metadata: Mapping[str, Any] = read_engine_header(path)
    else:
        from guardianflow.vision.backends.ultralytics import read_metadata

        metadata = read_metadata(path)
    return GraphFacts(metadata, (), (), _precision_by_arguments(metadata))


def _precision_by_arguments(metadata: Mapping[str, Any]) -> str:
    """What Ultralytics' exporter was asked; older ones wrote ``half`` and ``int8``."""
    arguments = _arguments(plain_metadata(metadata))
    asked = str(arguments.get("quantize"))
    if arguments.get("int8") or asked in {"8", "w8a16"}:
        return "int8"
    return "fp16" if arguments.get("half") or asked == "16" else "fp32"


def _model_file(path: Path, kind: str, *, batch: int, **facts: Any) -> ModelFile:
    content = measure(path)
    size_mb = content.size_bytes / 1e6
    return ModelFile(path, kind, sha256=content.sha256, size_mb=size_mb, dynamic=batch == 0, batch=batch, **facts)


def _check_task(path: Path, metadata: Mapping[str, Any]) -> None:
    task = metadata.get("task") or "detect"
    if task != "detect":
        raise ModelFileError(f"model {path} is for the task {str(task)[:40]!r}; a detection model is needed")


def _input_shape(path: Path, facts: GraphFacts, metadata: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """(batch, 3, side, side) with 0 where any size fits."""
    if not facts.inputs:
        dynamic = bool(_arguments(metadata).get("dynamic"))
        side = _side(path, metadata.get("imgsz")) or 0
        return (0 if dynamic else _whole(metadata.get("batch"), 1)), 3, side, side
    shape = facts.inputs[0]
    if len(facts.inputs) != 1 or len(shape) != 4 or shape[1] not in {0, 3}:
        msg = f"model {path} takes {list(facts.inputs)}; a detector takes one batch of RGB images (B, 3, side, side)"
        raise ModelFileError(msg)
    if shape[2] != shape[3]:
        msg = f"model {path} takes images of {shape[3]}×{shape[2]} pixels; only square inputs are used: export it again"
        raise ModelFileError(msg)
    return shape[0], 3, shape[2], shape[3]


def _selects_itself(metadata: Mapping[str, Any]) -> bool | None:
    """What it says of that; ``None`` where it says nothing."""
    if metadata.get("end2end") or _arguments(metadata).get("nms"):
        return True
    return False if "end2end" in metadata else None


def _arguments(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Ultralytics' exporter was asked."""
    arguments = metadata.get("args")
    return arguments if isinstance(arguments, dict) else {}


def _remarks(path: Path, metadata: Mapping[str, Any], facts: GraphFacts, *, numbered: bool) -> Iterator[str]:
    """Where the metadata and the graph differ in what the graph decides."""
    if numbered:
        yield f"model {path.name} names no classes; the rows of its output are numbered: class0, class1 …"
    for name, axis in (("imgsz", 2), ("batch", 0)):
        said = _side(path, metadata.get(name)) if name == "imgsz" else _whole(metadata.get(name), 0)
        taken = facts.inputs[0][axis] if facts.inputs else 0
        if said and taken and said != taken:
            yield f"model {path.name} says {name} {said}, its input takes {taken} and nothing else; {taken} is used"


def _names(path: Path, metadata: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names by class id; ``None`` where there are none."""
    names = metadata.get("names")
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        return None
    try:
        by_id = {int(key): str(name) for key, name in names.items()}
    except (TypeError, ValueError):
        by_id = {}
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        raise ModelFileError(f"model {path} names its classes in a form that is not known; export it again")
    return tuple(by_id[number] for number in range(len(by_id)))


def _numbered(path: Path, facts: GraphFacts) -> tuple[str, ...]:
    count = facts.outputs[0][1] - 4 if facts.outputs else 0
    if count < 1:
        msg = f"model {path} doesn't say how many classes it knows; export it again with Ultralytics' metadata"
        raise ModelFileError(msg)
    return tuple(f"class{number}" for number in range(count))


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with its values as Python has them: an ONNX file keeps all of them as text."""
    return {key: _plain(value) for key, value in metadata.items()}


def _plain(value: object) -> Any:
    """A value as Python; in ONNX metadata everything is text, and a class may well be called ``None``."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if len(text) > MAX_METADATA or not text.startswith(("{", "[", "(", "True", "False")):
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value


def _side(path: Path, value: Any) -> int | None:
    """The side of a square, from ``640``, ``"640"`` or ``[640, 640]``."""
    sides = list(value) if isinstance(value, (list, tuple)) else [value]
    try:
        numbers = {int(side) for side in sides if side is not None}
    except (TypeError, ValueError):
        return None
    if len(numbers) > 1:
        msg = f"model {path} takes images of {value} pixels; only square inputs are used: export it again"
        raise ModelFileError(msg)
    return next(iter(numbers), None)


def _whole(value: Any, default: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return default
    return number if number > 0 else default
