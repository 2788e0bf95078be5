"""Model files by their content: what a file or a folder of files hashes to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "hash_file", "measure", "members"]


@dataclass(frozen=True)
class Measured:
    """Content of a model file or folder.

    Attributes:
        sha256: Of the file's bytes; of a folder, of the sorted list of its files and their hashes.
        size_bytes: Of all of it.
    """

    sha256: str
    size_bytes: int


def measure(path: Path) -> Measured:
    """Hash a model file, or a model folder (as OpenVINO writes one)."""
    if path.is_file():
        return Measured(hash_file(path), path.stat().st_size)
    digest, size = hashlib.sha256(), 0
    for item in members(path):
        digest.update(f"{item.relative_to(path).as_posix()}\0{hash_file(item)}\n".encode())
        size += item.stat().st_size
    return Measured(digest.hexdigest(), size)


def members(folder: Path) -> list[Path]:
    """The files of a model folder; what a link to another folder holds is none of it."""
    return sorted((item for item in folder.rglob("*") if item.is_file()), key=lambda item: item.as_posix())


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
