"""How a registered version is served: by which backend, at which precision, and what it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError

__all__ = ["ServedModel", "Serving"]

_WORD = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")
_TAG = "guardianflow.{}"


@dataclass(frozen=True)
class Serving:
    """What a server must know of a version besides its file.

    Attributes:
        backend: Name from the catalogue of backends, such as ``"openvino"``.
        precision: What that backend is asked for, such as ``"fp32"`` or ``"int8"``.
        imgsz: Side of the square input in pixels; 0: the model file's own.
        format: Format of the file: ``"torch"``, ``"onnx"``, ``"openvino"``, ``"tensorrt"``.
        parent_version: The version of the same model that this one was made from.
        parent_run: The run whose weights this one was made from.

    Raises:
        InputError: A word or the size can't be one.
    """

    backend: str = "torch"
    precision: str = "fp32"
    imgsz: int = 0
    format: str = "torch"
    parent_version: str | None = None
    parent_run: str | None = None

    def __post_init__(self) -> None:
        for name in ("backend", "precision", "format"):
            if not _WORD.fullmatch(getattr(self, name)):
                raise InputError(
                    f"{name} {getattr(self, name)!r} must be a short word in lower case, such as 'openvino' or 'int8'"
                )
        if not 0 <= self.imgsz <= 8192:
            raise InputError(f"imgsz {self.imgsz} must be between 0 (the model's own) and 8192 pixels")
        for name in ("parent_version", "parent_run"):
            value = getattr(self, name)
            if value is not None and not (0 < len(value) <= 64 and value.isprintable()):
                raise InputError(f"{name} {value!r} must be an id of at most 64 characters")

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Serving:
        """What :meth:`tags` made."""
        said: dict[str, Any] = {
            field.name: tags[tag] for field in fields(cls) if (tag := _TAG.format(field.name)) in tags
        }
        return cls(**said | {"imgsz": int(said.get("imgsz", 0))})

    @property
    def conditions(self) -> str:
        """``openvino int8 at 320 px``, as messages say it."""
        size = f" at {self.imgsz} px" if self.imgsz else ""
        return f"{self.backend} {self.precision}{size}"

    def tags(self) -> dict[str, str]:
        """The same as tags of MLflow; what isn't known is left out."""
        return {_TAG.format(name): str(value) for name, value in asdict(self).items() if value not in (None, 0)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class ServedModel:
    """A version on this machine, ready to be opened by its backend.

    Attributes:
        name: Model name.
        version: Its number.
        uri: ``models:/NAME/3``.
        path: The file or folder, checked by its hash.
        backend: Backend to open it with; ``precision``, ``imgsz`` and ``format`` as in :class:`Serving`.
        precision: See ``backend``.
        imgsz: See ``backend``.
        format: See ``backend``.
        sha256: Of the file.
    """

    name: str
    version: str
    uri: str
    path: Path
    backend: str
    precision: str
    imgsz: int
    format: str
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "path": str(self.path)}
