"""The files that a run made or changed: those that match a glob, with their sha256.

Changed means another size or time, or another file in its place. Two runs at once in one folder can't be told apart:
each finds what the other made in its time.

Links to folders are never entered, links to files only where they end inside the root. What is no regular file is
never opened.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import NamedTuple, TypedDict

from guardianflow.exceptions import InputError
from guardianflow.files.content import hash_file
from guardianflow.text.units import file_size

__all__ = ["DEFAULT_PATTERNS", "Artifact", "ArtifactReport", "ArtifactWatch", "LeftOut", "any_of", "walk"]

DEFAULT_PATTERNS = (
    "**/*.pt", "**/*.pth", "**/*.ckpt", "**/*.safetensors", "**/*.onnx", "**/*.onnx.data", "**/*.onnx_data",
    "**/*.engine", "**/*.keras", "**/*.h5",
    "**/*.tflite", "**/*.pkl", "**/*.joblib", "**/*_openvino_model", "**/*_saved_model", "**/*.mlpackage",
    "**/args.yaml", "**/hparams.yaml", "**/*results*.csv", "**/*metrics*.csv", "**/*.csv", "**/*metrics*.json",
    "**/*results*.json", "**/events.out.tfevents.*", "**/*.png", "**/*.svg", "**/*_batch*.jpg",
)  # fmt: skip
"""Weights, what was measured, and figures, in this order: where there is too much, the last are left out."""

_MOST_ENTRIES = 1_000_000
_MOST_FILES = 1_000
_MOST_BYTES = 5_000_000_000
_MOST_LEFT_OUT = 500
_MOST_STARS = 6  # of one pattern; each one more multiplies the time that a hostile one takes
_NO_MARK = (0, 0, 0, 0)
_NOT_ENTERED = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", "site-packages", "dist-packages", ".tox",
    ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".cache", "mlruns", "mlartifacts",
    "wandb",
})  # fmt: skip


class Artifact(TypedDict):
    """A file that a run made or changed: its name from the root, with ``/``; ``new``: it wasn't there before."""

    name: str
    size: int
    sha256: str
    new: bool


class LeftOut(TypedDict):
    """Something that matched and was not taken, and why."""

    name: str
    reason: str


class ArtifactReport(NamedTuple):
    """What a run left; ``artifacts`` are in the order of the patterns, then of the names."""

    artifacts: Sequence[Artifact] = ()
    left_out: Sequence[LeftOut] = ()


class _Match(NamedTuple):
    order: int
    name: str
    mark: tuple[int, ...]  # differs as soon as somebody wrote to the file, or put another one in its place
    problem: str

    @property
    def size(self) -> int:
        return self.mark[2]


class ArtifactWatch:
    """Watches a folder for what a run makes in it.

    Args:
        root: The folder.
        patterns: Globs relative to it, see :func:`any_of`.
        skip: Folders that are not looked into, besides environments, caches and version control.

    Raises:
        InputError: A pattern is empty, too long, or leads out of ``root``.
    """

    def __init__(self, root: Path, patterns: Sequence[str], *, skip: Sequence[Path] = ()) -> None:
        self._root = os.path.realpath(root)
        self._wanted = any_of(patterns)
        self._named = {name for pattern in patterns for name in pattern.split("/")}
        plain = [re.split(r"[*?[\\]", pattern.removeprefix("./"))[0] for pattern in patterns]
        self._heads = ["".join(text.rpartition("/")[:2]) for text in plain]  # the folders that they begin with
        self._skip = {os.path.realpath(path) for path in skip}
        self._before: dict[str, tuple[int, ...]] = {}
        self._began_ns = 0
        self._cut = False  # whether the last walk didn't see everything

    def before(self) -> None:
        """Remember what is there already; to be called right before the run."""
        self._before = {match.name: match.mark for match in self._matches()}
        self._began_ns = time.time_ns() if self._cut else 0

    def matching(self, *, limit: int = 1_000) -> list[str]:
        """The names of files that match right now, in order."""
        return sorted(islice((match.name for match in self._matches() if not match.problem), limit))

    def collect(self) -> ArtifactReport:
        """The files that were made or changed since :meth:`before`, at most 1,000 and 5 GB of them."""
        if not os.path.isdir(self._root):  # noqa: PTH112 - never raises
            return ArtifactReport((), [LeftOut(name=".", reason="the folder is no longer there")])
        artifacts: list[Artifact] = []
        left_out: list[LeftOut] = []
        room = _MOST_BYTES
        for match in sorted(self._matches()):
            if self._is_old(match):
                continue
            digest, reason = "", match.problem or _too_much(match, len(artifacts), room)
            if not reason:
                digest, reason = self._hashed(match)
            if reason:
                left_out.append(LeftOut(name=match.name.encode("utf-8", "replace").decode(), reason=reason))
                continue
            new = match.name not in self._before
            artifacts.append(Artifact(name=match.name, size=match.size, sha256=digest, new=new))
            room -= match.size
        if len(left_out) > _MOST_LEFT_OUT:
            left_out[_MOST_LEFT_OUT:] = [LeftOut(name="…", reason=f"and {len(left_out) - _MOST_LEFT_OUT:,} more")]
        if self._cut:
            reason = f"the folder has more than {_MOST_ENTRIES:,} entries; the rest was not seen"
            left_out.insert(0, LeftOut(name=".", reason=reason))
        return ArtifactReport(artifacts, left_out)

    def _is_old(self, match: _Match) -> bool:
        known = self._before.get(match.name)
        # Where there was too much to see before, the time of its last change must do.
        return known == match.mark if known is not None else match.mark[3] < self._began_ns

    def _matches(self) -> Iterator[_Match]:
        entries, self._cut = 0, False
        for inside, folders, files in walk(self._root, skip=self._skip, named=self._named):
            folders[:] = [name for name in folders if self._may_hold(f"{inside}{name}/")]
            entries += len(files) + 1
            if entries > _MOST_ENTRIES:
                self._cut = True
                return
            for file in files:
                found = self._wanted.match(inside + file)
                if found is not None and (match := self._match(found.lastindex or 0, inside + file)) is not None:
                    yield match

    def _may_hold(self, folder: str) -> bool:
        return any(folder.startswith(head) or head.startswith(folder) for head in self._heads)

    def _match(self, order: int, name: str) -> _Match | None:
        path = Path(self._root, name)
        linked = path.is_symlink()
        if linked and not Path(os.path.realpath(path)).is_relative_to(self._root):
            return _Match(order, name, _NO_MARK, "a link that leads out of the folder")
        try:
            status = path.stat()
        except OSError:
            return _Match(order, name, _NO_MARK, "a link that leads nowhere") if linked else None
        problem = "" if stat.S_ISREG(status.st_mode) else "no regular file"
        if not problem and any("\ud800" <= sign <= "\udfff" for sign in name):
            problem = "its name is no UTF-8"
        return _Match(order, name, _mark(status), problem)

    def _hashed(self, match: _Match) -> tuple[str, str]:
        """The sha256, or why there is none."""
        path = Path(self._root, match.name)
        try:
            digest = hash_file(path)
            return (digest, "") if _mark(path.stat()) == match.mark else ("", "it was still being written")
        except OSError as error:
            return "", f"it can't be read: {error.strerror or error}"


def any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """One expression for all globs; ``lastindex`` of a match says which of them it was, the first one first.

    ``*`` and ``?`` stay within one name, ``**`` stands for any number of folders, ``[…]`` is a class of signs. Braces
    are plain signs. A pattern that names a folder means all that lies in it.

    Raises:
        InputError: A pattern is empty, too long, or leads out of the folder that it counts from.
    """
    from pathspec import PathSpec

    lines = [f"/{_checked(pattern)}" for pattern in patterns]
    try:
        found = PathSpec.from_lines("gitignore", lines).patterns
    except (ValueError, re.error) as error:
        raise InputError(f"an artifact pattern can't be read ({error}); give one such as runs/**/*.pt") from None
    return re.compile("|".join(f"({one.regex.pattern})" for one in found if one.regex is not None))


def _checked(pattern: str) -> str:
    names = pattern.split("/")
    if pattern.startswith(("/", "~")) or ".." in names or PureWindowsPath(pattern).drive:
        raise InputError(
            f"artifact pattern {pattern!r} leads out of the working folder; patterns count from there, such as "
            "runs/**/*.pt"
        )
    plain = "/".join(name for name in names if name not in {"", "."})
    if not plain.strip() or "\0" in plain:
        raise InputError(f"artifact pattern {pattern!r} names no file; give one such as runs/**/*.pt")
    if len(re.findall(r"\*+", plain)) > _MOST_STARS or len(plain) > 1_000:
        raise InputError(
            f"artifact pattern {pattern[:100]!r} has more than {_MOST_STARS} `*` or 1,000 signs; shorten it"
        )
    return plain


def walk(
    root: str, *, skip: Collection[str] = (), named: Collection[str] = ()
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each folder's path below the root, with a slash at its end, its folders and its files, in a fixed order.

    Environments, caches, version control and what other loggers keep are not entered, and no link. Whoever takes a
    folder out of the list keeps it from being entered.

    Args:
        root: An absolute path.
        skip: Folders that are not entered either.
        named: Names of folders that are entered all the same.
    """
    for place, folders, files in os.walk(root):
        if "pyvenv.cfg" in files and place != root:
            folders.clear()
            continue
        wanted = (name for name in folders if name not in _NOT_ENTERED or name in named)
        folders[:] = sorted(name for name in wanted if os.path.join(place, name) not in skip)  # noqa: PTH118 - quick
        inside = place[len(root) :].strip(os.sep).replace(os.sep, "/")
        yield f"{inside}/" if inside else "", folders, sorted(files)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _too_much(match: _Match, files: int, room: int) -> str:
    if files >= _MOST_FILES:
        return f"more than {_MOST_FILES:,} files"
    if match.size > room:
        return f"with its {match.size:,} bytes, all files would have more than {file_size(_MOST_BYTES)}"
    return ""
