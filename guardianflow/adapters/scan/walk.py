"""Which files a scan looks at: every folder once, no link followed, environments and vendored code left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from guardianflow.adapters.scan.bytes import joined
from guardianflow.adapters.scan.findings import SkippedFile
from guardianflow.adapters.scan.ignore import IgnoreRules, rules_above

__all__ = ["SeenFolder", "Skipped", "walk_folders"]

_LISTED = 200  # names kept of what was skipped; the counts have no cap
_NAMED_FOLDERS = {
    **dict.fromkeys((".git", ".hg", ".svn", ".bzr"), "version control"),
    **dict.fromkeys((".venv", "site-packages", "dist-packages", ".tox", ".nox", ".conda"), "Python environment"),
    **dict.fromkeys(("node_modules", "bower_components"), "installed packages"),
    **dict.fromkeys(
        ("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".eggs", ".cache"),
        "cache",
    ),
    **dict.fromkeys(
        ("vendor", "vendored", "_vendor", "_vendored", "third_party", "thirdparty", "3rdparty"), "vendored code"
    ),
}
_WORK_DATABASE = "guardianflow.db"


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
        files: Names of the regular files, sorted.
        folders: Names of the folders in it that are no links, sorted; also those that won't be entered.
        ignored: Whether it, or a folder above it, is gitignored.
        in_run: Set by who walks, before going on: this belongs to a finished run, and so does all below.
    """

    path: str
    relative: str
    files: list[str]
    folders: list[str]
    ignored: bool = False
    in_run: bool = False
    rules: IgnoreRules = field(default_factory=IgnoreRules, repr=False)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.rpartition(os.sep)[2]

    def at(self, name: str) -> str:
        """The absolute path of something in it."""
        return joined(self.path, name)

    def ignores(self, name: str) -> bool:
        """Whether git would leave this file out."""
        return self.ignored or (bool(self.rules) and self.rules.ignores(self.at(name)))

    def below(self, name: str) -> str:
        """A file's path below the root."""
        return f"{self.relative}/{name}" if self.relative else name


@dataclass(frozen=True)
class _Open:
    path: str
    relative: str
    ignored: bool
    in_run: bool
    rules: IgnoreRules


def walk_folders(root: str, skipped: Skipped, *, include_ignored: bool = False) -> Iterator[SeenFolder]:
    """Every folder below the root that may hold something of the user's, parents before children, by name.

    Links are never followed: one that leads out is skipped, and what one leads to inside is met in its own place.

    Args:
        root: Absolute, links resolved. It is entered whatever its name is.
        skipped: Takes what was left out.
        include_ignored: Take nothing for ignored.
    """
    above = IgnoreRules() if include_ignored else rules_above(root)
    waiting = [_Open(root, "", False, False, above)]
    while waiting:
        here = waiting.pop()
        folder = _look_into(here, root, skipped)
        if folder is None:
            continue
        if here.relative and (reason := _whole_reason(folder)):
            skipped.add(here.relative, reason)
            continue
        if not include_ignored and not here.ignored and ".gitignore" in folder.files:
            folder.rules = here.rules.within(here.path)
        yield folder
        waiting.extend(reversed(list(_children(folder, skipped, include_ignored=include_ignored))))


def _children(folder: SeenFolder, skipped: Skipped, *, include_ignored: bool) -> Iterator[_Open]:
    for name in folder.folders:
        relative = folder.below(name)
        if reason := _NAMED_FOLDERS.get(name.lower()):
            skipped.add(relative, reason)
            continue
        path = folder.at(name)
        ignored = folder.ignored or (
            not include_ignored and bool(folder.rules) and folder.rules.ignores(path, is_folder=True)
        )
        yield _Open(path, relative, ignored, folder.in_run, folder.rules)


def _look_into(here: _Open, root: str, skipped: Skipped) -> SeenFolder | None:
    folder = SeenFolder(here.path, here.relative, [], [], here.ignored, here.in_run, here.rules)
    try:
        with os.scandir(here.path) as entries:
            for entry in entries:
                _sort_in(entry, folder, root, skipped)
    except OSError as error:
        skipped.add(here.relative or ".", f"folder can't be read ({error.strerror or error})")
        if not folder.files and not folder.folders:
            return None
    folder.files.sort()
    folder.folders.sort()
    return folder


def _sort_in(entry: os.DirEntry[str], folder: SeenFolder, root: str, skipped: Skipped) -> None:
    """Put one entry where it belongs; nothing is opened."""
    try:
        if entry.is_symlink():
            skipped.add(folder.below(entry.name), _link_reason(entry.path, root))
        elif entry.is_dir(follow_symlinks=False):
            folder.folders.append(entry.name)
        elif entry.is_file(follow_symlinks=False):
            folder.files.append(entry.name)
        else:
            skipped.add(folder.below(entry.name), "no regular file (a device, pipe or socket)")
    except OSError as error:
        skipped.add(folder.below(entry.name), f"can't be read ({error.strerror or error})")


def _link_reason(path: str, root: str) -> str:
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, RuntimeError):  # a loop, or a link to nothing
        return "link that leads nowhere"
    if os.path.commonpath((real, root)) == root:
        return "link to another place in the folder"
    return "link out of the folder"


def _whole_reason(folder: SeenFolder) -> str:
    """Why a folder is passed over with all that is in it; empty where it isn't."""
    if "pyvenv.cfg" in folder.files or "conda-meta" in folder.folders:
        return "Python environment"
    if _WORK_DATABASE in folder.files:
        return "working folder of GuardianFlow"
    return ""
