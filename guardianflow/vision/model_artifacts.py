"""Model files that can be served: what one is, read without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["ModelFile", "read_model_file"]


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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "path": str(self.path), "names": list(self.names)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelFile:
        """What :meth:`to_dict` made."""
        return cls(**{**values, "path": Path(values["path"]), "names": tuple(values["names"])})


def read_model_file(path: Path) -> ModelFile:
    """Read what a model file says of itself, safely.

    Raises:
        ModelFileError: Missing, damaged, of another task, or holding what must not be followed (links,
            weights in other files).
    """
    raise NotImplementedError(path)
