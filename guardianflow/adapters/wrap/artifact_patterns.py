"""Globs that say which files of a run are kept: checked, and matched folder by folder.

``*`` and ``?`` stay within one name, ``**`` stands for any number of folders, ``[…]`` is a class of signs and also
stands for itself (``run[1].csv``). Braces are plain signs. A pattern that names a folder means all that lies in it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath

from guardianflow.exceptions import InputError

__all__ = ["DEFAULT_PATTERNS", "Patterns", "Places"]

DEFAULT_PATTERNS = (
    "**/*.pt", "**/*.pth", "**/*.ckpt", "**/*.safetensors", "**/*.onnx", "**/*.onnx.data", "**/*.onnx_data",
    "**/*.engine", "**/*.keras", "**/*.h5",
    "**/*.tflite", "**/*.pkl", "**/*.joblib", "**/*_openvino_model", "**/*_saved_model", "**/*.mlpackage",
    "**/args.yaml", "**/hparams.yaml", "**/*results*.csv", "**/*metrics*.csv", "**/*.csv", "**/*metrics*.json",
    "**/*results*.json", "**/events.out.tfevents.*", "**/*.png", "**/*.svg", "**/*_batch*.jpg",
)  # fmt: skip
"""Weights, what was measured, and figures, in this order: where there is too much, the last are left out."""

Places = tuple[frozenset[int], ...]
"""Where each pattern stands after the names of some folders."""

_ALL_BELOW = -1


@dataclass(frozen=True)
class _Part:
    text: str

    @property
    def any_folders(self) -> bool:
        return self.text == "**"

    def matches(self, name: str) -> bool:
        return self.text == name or _matcher(self.text).match(name) is not None


@lru_cache(maxsize=1_000)
def _matcher(text: str) -> re.Pattern[str]:
    try:
        plain = fnmatch.translate(text)
        literal = fnmatch.translate(re.sub(r"\[", "[[]", text)) if "[" in text else plain
        return re.compile(plain if literal == plain else f"{plain}|{_renamed(literal)}")
    except re.error:
        return re.compile(re.escape(text) + r"\Z")


def _renamed(pattern: str) -> str:
    """Before Python 3.12, fnmatch names the groups of a pattern; two patterns must not share a name."""
    return re.sub(r"\(\?P(<|=)g(\d)", r"(?P\1h\2", pattern)


class Patterns:
    """Some globs, all relative to one folder.

    Args:
        patterns: The globs, with ``/`` between names.

    Raises:
        InputError: One is empty, absolute, or leads out of the folder.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._parts = tuple(_parts(pattern) for pattern in patterns)
        self.start: Places = tuple(_reached(parts, {0}) for parts in self._parts)
        self._literal = {part.text for parts in self._parts for part in parts}

    def names(self, name: str) -> bool:
        """Whether a pattern has this very name as one of its parts."""
        return name in self._literal

    def enter(self, places: Places, folder: str) -> Places | None:
        """Where the patterns stand below a folder of this name; ``None`` where nothing below it can match."""
        below = tuple(self._below(parts, place, folder) for parts, place in zip(self._parts, places, strict=True))
        return below if any(below) else None

    def order(self, places: Places, name: str) -> int | None:
        """The number of the first pattern that a file of this name matches; ``None`` if there is none."""
        for number, (parts, place) in enumerate(zip(self._parts, places, strict=True)):
            if _ALL_BELOW in place or len(parts) in _step(parts, place, name):
                return number
        return None

    def _below(self, parts: Sequence[_Part], place: frozenset[int], folder: str) -> frozenset[int]:
        if _ALL_BELOW in place:
            return place
        reached = _step(parts, place, folder)
        if len(parts) in reached and parts[-1].text not in {"*", "**"}:
            return frozenset({_ALL_BELOW})
        return reached - {len(parts)}


def _step(parts: Sequence[_Part], place: frozenset[int], name: str) -> frozenset[int]:
    after = set()
    for number in place:
        if number >= len(parts) or number < 0:
            continue
        if parts[number].any_folders:
            after.add(number)
        elif parts[number].matches(name):
            after.add(number + 1)
    return _reached(parts, after)


def _reached(parts: Sequence[_Part], places: set[int]) -> frozenset[int]:
    """With the places that are reached where `**` stands for no folder at all."""
    found = set(places)
    for number in sorted(places):
        place = number
        while place < len(parts) and parts[place].any_folders:
            place += 1
            found.add(place)
    return frozenset(found)


def _parts(pattern: str) -> tuple[_Part, ...]:
    if not pattern.strip() or "\0" in pattern:
        raise InputError(f"artifact pattern {pattern!r} is empty; give one such as runs/**/*.pt")
    if PurePosixPath(pattern).is_absolute() or PureWindowsPath(pattern).drive or pattern.startswith("~"):
        raise InputError(
            f"artifact pattern {pattern!r} is absolute; patterns count from the working folder, such as runs/**/*.pt"
        )
    names = [name for name in pattern.split("/") if name not in {"", "."}]
    if ".." in names:
        raise InputError(f"artifact pattern {pattern!r} leads out of the working folder; leave out the `..`")
    if not names:
        raise InputError(f"artifact pattern {pattern!r} names no file; give one such as runs/**/*.pt")
    if pattern.endswith("/") and names[-1] != "**":
        names.append("**")
    once = [name for place, name in enumerate(names) if name != "**" or names[place - 1 : place] != ["**"]]
    return tuple(_Part(name) for name in once)
