"""TensorRT engine files: the header that Ultralytics and we put in front of the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardianflow.exceptions import ModelFileError

__all__ = ["engine_offset", "read_engine_header", "write_engine"]

_MAX_HEADER = 4 << 20


def read_engine_header(path: Path) -> dict[str, Any]:
    """The metadata in front of an engine; empty where there is none.

    Raises:
        ModelFileError: The file can't be read.
    """
    return _split(path)[1]


def engine_offset(path: Path) -> int:
    """Where the engine itself begins, in bytes."""
    return _split(path)[0]


def write_engine(path: Path, engine: bytes, metadata: Mapping[str, Any]) -> None:
    """Write an engine behind its metadata: length as 4 bytes, little-endian, then JSON, as Ultralytics does."""
    header = json.dumps(dict(metadata)).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(4, "little", signed=True))
        file.write(header)
        file.write(engine)


def _split(path: Path) -> tuple[int, dict[str, Any]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(4), "little", signed=True)
            if not 0 < length <= min(size - 4, _MAX_HEADER):
                return 0, {}
            header = file.read(length)
    except OSError as error:
        msg = f"engine {path} can't be read ({error.strerror or error}); check the path and its rights"
        raise ModelFileError(msg) from error
    try:
        values = json.loads(header)
    except (ValueError, RecursionError):
        return 0, {}
    return (4 + length, values) if isinstance(values, dict) else (0, {})
