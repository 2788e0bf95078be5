"""What ``.gitignore`` files leave out, level by level, as git reads them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guardianflow.adapters.scan.bytes import joined, read_start

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["IgnoreRules", "rules_above"]

_MAX_BYTES = 1 << 20
_MAX_PATTERNS = 5_000
_MAX_STARS = 6  # each one more multiplies the time that a hostile pattern takes
_MAX_PATTERN = 1_000
_MAX_LEVELS = 64
_STARS = re.compile(r"\*+")


@dataclass(frozen=True)
class _Level:
    """One ``.gitignore``: its folder (absolute, with a slash at the end) and its patterns."""

    folder: str
    spec: GitIgnoreSpec


class IgnoreRules:
    """The ``.gitignore`` files that hold in a folder, the nearest last.

    Args:
        levels: Of the folders above, the nearest last.
    """

    def __init__(self, levels: tuple[_Level, ...] = ()) -> None:
        self._levels = levels

    def __bool__(self) -> bool:
        return bool(self._levels)

    def within(self, folder: str) -> IgnoreRules:
        """The rules inside a folder: these, and those of its own ``.gitignore`` where it has one."""
        spec = _read_spec(joined(folder, ".gitignore"))
        return IgnoreRules((*self._levels, _Level(joined(folder, ""), spec))) if spec else self

    def ignores(self, path: str, *, is_folder: bool = False) -> bool:
        """Whether git would leave this out; the folders above it are taken not to be ignored.

        Args:
            path: Absolute.
            is_folder: Patterns that end with a slash hold for folders only.
        """
        for level in reversed(self._levels):  # the nearest file that says anything decides
            inside = path[len(level.folder) :] + ("/" if is_folder else "")
            verdict = level.spec.check_file(inside).include
            if verdict is not None:
                return bool(verdict)
        return False


def rules_above(root: str) -> IgnoreRules:
    """The rules that hold for a folder from those above it in the same git repository.

    Where they ignore the folder itself they say nothing: a person who asks for an ignored folder wants it read.
    """
    chain = [root]
    while not os.path.lexists(joined(chain[-1], ".git")):
        parent = os.fspath(Path(chain[-1]).parent)
        if parent == chain[-1] or len(chain) > _MAX_LEVELS:
            return IgnoreRules()
        chain.append(parent)
    rules = IgnoreRules()
    for folder in reversed(chain[1:]):
        if rules.ignores(folder, is_folder=True):
            return IgnoreRules()
        rules = rules.within(folder)
    return IgnoreRules() if rules.ignores(root, is_folder=True) else rules


def _read_spec(file: str) -> GitIgnoreSpec | None:
    content = read_start(file, _MAX_BYTES)
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines()[:_MAX_PATTERNS]
    kept = [line for line in lines if line.strip() and not line.startswith("#") and _is_readable(line)]
    if not kept:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(kept)
    except ValueError:  # one bad pattern; git passes over it alone, and so do we
        return GitIgnoreSpec.from_lines([line for line in kept if _compiles(line)])


def _is_readable(pattern: str) -> bool:
    return len(pattern) <= _MAX_PATTERN and len(_STARS.findall(pattern)) <= _MAX_STARS


def _compiles(pattern: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([pattern])
    except ValueError:
        return False
    return True
