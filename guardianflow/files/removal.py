"""What lies below a folder, measured and removed: no link is followed, nothing outside is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

__all__ = ["folder_inside", "remove_inside", "size_inside"]


def folder_inside(root: Path, place: Path) -> Path | None:
    """A folder below a root, as it really lies; ``None`` where it isn't below, isn't there or a link leads to it."""
    try:
        real = root.resolve() / place.absolute().relative_to(root.absolute())
    except ValueError:
        return None
    return real if ".." not in real.parts and real.resolve() == real and real.is_dir() else None


def size_inside(root: Path, place: Path) -> int | None:
    """Bytes of the files in a folder below a root; ``None`` where :func:`folder_inside` finds none."""
    folder = folder_inside(root, place)
    if folder is None:
        return None
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # somebody removes it just now
                total += Path(parent, name).lstat().st_size
    return total


def remove_inside(root: Path, place: Path) -> None:
    """Remove a folder below a root with all that is in it; links go, what they lead to stays.

    Raises:
        OSError: Something of it can't be removed; what could be is gone.
    """
    folder = folder_inside(root, place)
    if folder is not None:
        shutil.rmtree(folder)
