"""A run's own folder: its name, and files in it that are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from guardianflow.exceptions import NotFoundError

__all__ = ["RESULT_FILE", "folder_name", "read_result", "write_json", "write_text"]

RESULT_FILE = "result.json"
"""What a run hands back, in its folder."""

_MAX_FOLDER = 120  # bytes; file systems end at 255, and Windows counts the whole path
_PLAIN = "-_~+,=&()"
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def folder_name(name: str) -> str:
    """A folder name that any file system takes; two different names never share one."""
    encoded = "".join(_encoded(name, place) for place in range(len(name)))
    if encoded.split(".")[0].casefold() in _DEVICES:  # Windows keeps these for devices
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded.encode()) <= _MAX_FOLDER:
        return encoded
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return encoded.encode()[: _MAX_FOLDER - 13].decode(errors="ignore") + "-" + digest


def _encoded(name: str, place: int) -> str:
    char = name[place]
    inside = 0 < place < len(name) - 1
    if char.isalnum() or char in _PLAIN or (char in ". " and inside):
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode())


def read_result(folder: Path) -> dict[str, Any]:
    """What a finished run handed back, as plain JSON types.

    Raises:
        NotFoundError: The run left no result.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        raise NotFoundError(f"there is no result in {folder}; the run did not finish")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file whole or not at all."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=2, default=str))


def write_text(path: Path, text: str) -> Path:
    """Write a text file whole or not at all: after a crash the old content is there, or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex[:16]}.part")
    try:
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return path
