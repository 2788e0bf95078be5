"""Which files a scan looks at: every folder once, no link followed, environments and vendored code left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.adapters.scan.findings import SkippedFile
from guardianflow.adapters.wrap.metrics.growing_file import open_regular

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["SeenFolder", "Skipped", "file_size", "read_start", "walk_folders"]

_LISTED = 200  # names kept of what was skipped; the counts have no cap
_NAMED_FOLDERS = {
    name: reason
    for reason, names in {
        "version control": ".git .hg .svn .bzr",
        "Python environment": ".venv site-packages dist-packages .tox .nox .conda",
        "installed packages": "node_modules bower_components",
        "cache": "__pycache__ .ipynb_checkpoints .mypy_cache .pytest_cache .ruff_cache .eggs .cache",
        "vendored code": "vendor vendored _vendor _vendored third_party thirdparty 3rdparty",
    }.items()
    for name in names.split()
}
_WORK_DATABASE = "guardianflow.db"
_MAX_RULES_BYTES = 1 << 20
_MAX_PATTERNS = 5_000
_MAX_PATTERN = 1_000
_MAX_STARS = 6  # in one pattern; each one more multiplies the time that a hostile one takes

Rules = tuple[tuple[str, "GitIgnoreSpec"], ...]
"""The ``.gitignore`` files that hold in a folder, the nearest last: the folder of each, and its patterns."""


class Skipped:
    """Keeps what was not looked at: all of it counted, the first named."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[SkippedFile] = []

    def add(self, path: str, reason: str) -> None:
        """One more thing that was not looked at, by its path below the root."""
        self.counts[reason] += 1
        if len(self.listed) < _LISTED:
            self.listed.append(SkippedFile(path, reason))


@dataclass
class SeenFolder:
    """One folder of the walk.

    Attributes:
        path: Absolute.
        relative: Below the root, with ``/``; empty for the root.
        rules: The ``.gitignore`` files that hold in it.
        ignored: Whether it, or a folder above it, is gitignored.
        in_run: Set by who walks, before going on: this belongs to a finished run, and so does all below.
        files: Names of the regular files, sorted.
        folders: Names of the folders in it that are no links, sorted; also those that won't be entered.
    """

    path: str
    relative: str = ""
    rules: Rules = field(default=(), repr=False)
    ignored: bool = False
    in_run: bool = False
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.rpartition(os.sep)[2]

    def at(self, name: str) -> str:
        """The absolute path of something in it."""
        return os.path.join(self.path, name)  # noqa: PTH118 - a scan joins too many to make a Path of each

    def below(self, name: str) -> str:
        """A file's path below the root."""
        return f"{self.relative}/{name}" if self.relative else name

    def ignores(self, name: str) -> bool:
        """Whether git would leave out something in it; the name of a folder ends with ``/``."""
        return self.ignored or _ignored(self.rules, self.at(name))


def walk_folders(root: str, skipped: Skipped, *, include_ignored: bool = False) -> Iterator[SeenFolder]:
    """Every folder below the root that may hold something of the user's, parents before children, by name.

    Links are never followed: what one leads to inside the root is met in its own place.

    Args:
        root: Absolute, links resolved. It is entered whatever its name is.
        skipped: Takes what was left out.
        include_ignored: Take nothing for ignored.
    """
    waiting = [SeenFolder(root, rules=() if include_ignored else _rules_above(root))]
    while waiting:
        folder = waiting.pop()
        _look_into(folder, root, skipped)
        if folder.relative and (reason := _whole_reason(folder)):
            skipped.add(folder.relative, reason)
            continue
        if ".gitignore" in folder.files and not include_ignored:
            folder.rules = _rules_in(folder.path, folder.rules)
        yield folder
        for name in reversed(folder.folders):
            if reason := _NAMED_FOLDERS.get(name.lower(), ""):
                skipped.add(folder.below(name), reason)
            else:
                ignored = folder.ignores(f"{name}/")
                waiting.append(
                    SeenFolder(folder.at(name), folder.below(name), folder.rules, ignored, in_run=folder.in_run)
                )


def _look_into(folder: SeenFolder, root: str, skipped: Skipped) -> None:
    """Sort what lies in a folder; nothing is opened."""
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    inside = Path(os.path.realpath(entry.path)).is_relative_to(root)
                    where = "to another place in" if inside else "out of"
                    skipped.add(folder.below(entry.name), f"link {where} the folder")
                elif entry.is_dir(follow_symlinks=False):
                    folder.folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    folder.files.append(entry.name)
                else:
                    skipped.add(folder.below(entry.name), "no regular file (a device, pipe or socket)")
    except OSError as error:
        skipped.add(folder.relative or ".", f"folder can't be read ({error.strerror or error})")
    folder.files.sort()
    folder.folders.sort()


def _whole_reason(folder: SeenFolder) -> str:
    """Why a folder is passed over with all that is in it; empty where it isn't."""
    if "pyvenv.cfg" in folder.files or "conda-meta" in folder.folders:
        return "Python environment"
    return "working folder of GuardianFlow" if _WORK_DATABASE in folder.files else ""


def _ignored(rules: Rules, path: str) -> bool:
    """Whether git would leave out a path; the folders above it are taken not to be ignored."""
    for folder, spec in reversed(rules):  # the nearest file that says anything decides
        verdict = spec.check_file(path[len(folder) :].lstrip("/")).include
        if verdict is not None:
            return bool(verdict)
    return False


def _rules_above(root: str) -> Rules:
    """The rules that hold for a folder from those above it in the same git repository.

    Where they ignore the folder itself they say nothing: a person who asks for an ignored folder wants it read.
    """
    above = list(Path(root).parents)
    home = next((place for place, folder in enumerate([Path(root), *above]) if os.path.lexists(folder / ".git")), 0)
    chain = [*reversed(above[:home]), Path(root)]
    rules: Rules = ()
    for folder, inside in pairwise(chain):
        rules = _rules_in(str(folder), rules)
        if _ignored(rules, f"{inside}/"):
            return ()
    return rules


def _rules_in(folder: str, rules: Rules) -> Rules:
    """The rules inside a folder: those from above, and its own ``.gitignore`` with the patterns that git can read."""
    from pathspec import GitIgnoreSpec

    content = read_start(f"{folder}/.gitignore", _MAX_RULES_BYTES)
    patterns: list[Any] = []
    for line in content.decode("utf-8-sig", "surrogateescape").splitlines()[:_MAX_PATTERNS]:
        if len(line) <= _MAX_PATTERN and line.replace("**", "*").count("*") <= _MAX_STARS:
            with suppress(ValueError):
                patterns += GitIgnoreSpec.from_lines([line]).patterns
    return (*rules, (folder, GitIgnoreSpec(patterns)))


def read_start(path: str, length: int) -> bytes:
    """Up to ``length`` bytes of a regular file, without waiting for a pipe; empty where it can't be read."""
    try:
        with open_regular(Path(path)) as stream:
            return stream.read(length)
    except (OSError, ValueError):
        return b""


def file_size(path: str) -> int:
    """The size of a regular file in bytes; -1 where it is none, or isn't there."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1
