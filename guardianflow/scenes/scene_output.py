"""Folders of generated files: complete or absent, recognised when they exist, never overwritten.

A folder is built beside its target under a hidden name and renamed when it is whole, so a killed
run leaves no half-written target. Its manifest says from what it was made and holds the sha256 of
every file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from guardianflow.exceptions import InputError

__all__ = ["MANIFEST", "Manifest", "publish"]

MANIFEST = "scenes.json"
_FORMAT = "guardianflow-scenes"
_STAGING = ".partial-"


@dataclass(frozen=True)
class Manifest:
    """What a generated folder holds.

    Attributes:
        recipe: Everything the files follow from; the same recipe gives the same bytes.
        facts: Counts that are worth knowing without reading the files.
        files: Relative POSIX path → sha256.
    """

    recipe: Mapping[str, Any]
    facts: Mapping[str, int]
    files: Mapping[str, str]

    @property
    def config_hash(self) -> str:
        """sha256 of the recipe."""
        return hashlib.sha256(_canonical(self.recipe)).hexdigest()

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        document = {
            "format": _FORMAT,
            "config_hash": self.config_hash,
            "recipe": dict(self.recipe),
            "facts": dict(self.facts),
            "files": dict(sorted(self.files.items())),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (folder / MANIFEST).write_bytes(text.encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest in a folder; ``None`` where there is none that this code wrote."""
        try:
            document = json.loads((folder / MANIFEST).read_bytes())
            if document["format"] != _FORMAT:
                return None
            return cls(dict(document["recipe"]), dict(document["facts"]), dict(document["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def publish(
    target: Path, recipe: Mapping[str, Any], build: Callable[[Path], tuple[dict[str, str], dict[str, int]]]
) -> tuple[Manifest, bool]:
    """Make ``target`` hold what a recipe says, or find that it does already.

    Args:
        target: Folder to make; its parents are made too.
        recipe: Everything the files follow from, JSON-able.
        build: Writes the files into the folder it is given; returns their hashes by relative path,
            and the facts.

    Returns:
        The manifest, and whether everything was there already.

    Raises:
        InputError: ``target`` holds something else, or files of this recipe that were changed
            since; nothing in it is touched.
    """
    recipe = json.loads(_canonical(recipe))
    missing = _missing(target, recipe)
    if missing is not None and not missing[1]:
        return missing[0], True
    with _staging(target) as staging:
        files, facts = build(staging)
        manifest = Manifest(recipe, facts, files)
        manifest.write(staging)
        if missing is None and _rename(staging, target):
            return manifest, False
        _fill_in(staging, target, recipe)
    return manifest, False


def _missing(target: Path, recipe: Mapping[str, Any]) -> tuple[Manifest, list[str]] | None:
    """The manifest of an existing folder and the files it lacks; ``None`` when the place is free."""
    if not os.path.lexists(target):
        return None
    if target.is_symlink():
        raise InputError(f"{target} is a link; generated scenes need a folder of their own. Name what it leads to.")
    if not target.is_dir():
        raise InputError(f"{target} is a file; generated scenes need a folder of their own. Choose another name.")
    if not any(target.iterdir()):
        return None
    manifest = Manifest.read(target)
    if manifest is None:
        raise InputError(
            f"{target} holds files that are no generated scenes, and they are never overwritten. Choose another folder."
        )
    if manifest.recipe != recipe:
        theirs = _difference(manifest.recipe, recipe)
        raise InputError(
            f"{target} holds scenes of another configuration ({theirs}). Choose another folder, or delete it."
        )
    lacking = []
    for name, digest in manifest.files.items():
        try:
            content = (target / name).read_bytes()
        except FileNotFoundError:
            lacking.append(name)
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(
                f"{target / name} was changed since it was generated, and is not overwritten. "
                "Choose another folder, or delete the file to have it generated again."
            )
    return manifest, lacking


def _fill_in(staging: Path, target: Path, recipe: Mapping[str, Any]) -> None:
    """Move in what the target lacks: files were deleted, or another process was faster."""
    found = _missing(target, recipe)
    for name in found[1] if found else []:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(target / name)


def _rename(staging: Path, target: Path) -> bool:
    with contextlib.suppress(OSError):
        target.rmdir()  # an empty folder may be in the way
    try:
        staging.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    return True


@contextlib.contextmanager
def _staging(target: Path) -> Any:
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    prefix = f".{target.name}{_STAGING}{host}-"
    folder = target.parent / f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent, prefix)
        folder.mkdir()
    except OSError as error:
        raise InputError(f"{target} can't be made ({error.strerror}). Choose a folder that can be written.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what killed processes of this machine have left behind."""
    for leftover in parent.iterdir():
        if leftover.name.startswith(prefix):
            pid = leftover.name.removeprefix(prefix).partition("-")[0]
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(leftover, ignore_errors=True)


def _canonical(recipe: Mapping[str, Any]) -> bytes:
    return json.dumps(recipe, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str = "") -> str:
    parts = []
    for key in sorted({*theirs, *ours}):
        one, other = theirs.get(key), ours.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            if one != other:
                parts.append(_difference(one, other, f"{where}{key}."))
        elif one != other:
            parts.append(f"{where}{key} is {one!r}, not {other!r}")
    return ", ".join(parts)
