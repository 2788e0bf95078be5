"""Paths as they are written: absolute, with the links in them kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["as_prefix", "as_written", "exists", "is_below"]


def as_written(path: str | Path) -> str:
    """An absolute path without ``..``, its links kept; ``..`` behind a link leads where the system takes it."""
    parts = Path(path).absolute().parts
    if os.pardir not in parts:
        return os.fspath(Path(*parts))
    place = Path(parts[0])
    for part in parts[1:]:
        if part == os.pardir:
            place = Path(os.path.realpath(place)).parent if place.is_symlink() else place.parent
        else:
            place /= part
    return os.fspath(place)


def is_below(path: str | Path, folder: str | Path) -> bool:
    """Whether a normalised absolute path is a folder or lies in it, by its text alone."""
    return as_prefix(path).startswith(as_prefix(folder))


def exists(path: str | Path) -> bool:
    """Whether something lies there; a name that the system finds too long is not there, and no crash."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def as_prefix(folder: str | Path) -> str:
    """A folder's path with one separator at its end."""
    return os.fspath(folder).rstrip(os.sep) + os.sep
