"""Copies of model files by their content, which can't be mixed up."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from guardianflow.exceptions import GuardianFlowError, HashMismatchError, InputError
from guardianflow.files.content import measure, members
from guardianflow.registry.model_records import ModelVersion

__all__ = ["ModelCache", "check_content", "hand_out", "legal_artifact"]


def check_content(path: Path, version: ModelVersion, *, source: Path | None = None) -> None:
    """Make sure that a file is the one that was registered.

    Args:
        path: The file.
        version: What was registered.
        source: Where the file was copied from, which the message names then.

    Raises:
        HashMismatchError: It is another one.
    """
    found = measure(path)
    if found.sha256 != version.sha256:
        raise HashMismatchError(
            f"the file of {version.name!r} version {version.version} was changed after it was registered: "
            f"{source or path} has sha256 {found.sha256[:16]}… ({found.size_bytes} bytes), registered was "
            f"{version.sha256[:16]}… ({version.size_bytes} bytes). Bring the file back, or register the run again as a "
            "new version."
        )


def legal_artifact(artifact: str) -> str:
    """A path within a run's artifacts, in its plain form.

    Raises:
        InputError: It is absolute, leaves its root, or holds a control character.
    """
    path = PurePosixPath(artifact)
    if not artifact or path.is_absolute() or ".." in path.parts or "\\" in artifact or not artifact.isprintable():
        raise InputError(
            f"artifact {artifact!r} must be a relative path within the run's artifacts, such as 'weights/best.pt'"
        )
    if not path.parts:
        raise InputError(f"artifact {artifact!r} names no file; pass a path such as 'weights/best.pt'")
    return str(path)


class ModelCache:
    """Copies of model files, one folder for each content: ``<folder>/<sha256>/<file name>``.

    Whoever works with a model (an export writes files beside its weights) works on such a copy,
    never in the artifact store.

    Args:
        folder: Where the copies lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, version: ModelVersion) -> Path | None:
        """The copy of a version's file, if it is there and unchanged."""
        path = self._path(version)
        if path.exists() and not path.is_symlink() and measure(path).sha256 == version.sha256:
            return path
        return None

    def keep(self, source: Path, version: ModelVersion) -> Path:
        """Take a copy of a version's file, checked by its hash, whole or not at all.

        Raises:
            HashMismatchError: The source is not the file that was registered.
        """
        kept = self.find(version)
        if kept is not None:
            check_content(source, version)
            return kept
        path = self._path(version)
        with _draft(source, path, version) as draft:
            _put(draft, path)
        return path

    def _path(self, version: ModelVersion) -> Path:
        return self._folder / version.sha256 / PurePosixPath(version.artifact).name


def hand_out(source: Path, target: Path, version: ModelVersion, *, known: Collection[str]) -> Path:
    """Copy a version's file to a place of the user's, checked by its hash, whole or not at all.

    What stands there already is replaced only where it is itself a registered file, so that nothing is lost.

    Args:
        source: The copy on this machine.
        target: The place.
        version: What is copied.
        known: The hashes of the files that may be replaced.

    Raises:
        InputError: Something else stands there, or nothing can be written there.
        HashMismatchError: The source is not the file that was registered.
    """
    try:
        if os.path.lexists(target) and _is_there(source, target, version, known):
            return target
        with _draft(source, target, version) as draft:
            _put(draft, target)
    except GuardianFlowError:
        raise
    except OSError as error:
        raise InputError(
            f"{target} can't be written ({error.strerror or error}). Name a place that you may write, or make room."
        ) from error
    return target


def _is_there(source: Path, target: Path, version: ModelVersion, known: Collection[str]) -> bool:
    """Whether a place holds what shall be put there; raises where it holds what must not be replaced."""
    if target.is_symlink():
        stands = "a link"
    elif target.is_dir() != source.is_dir():
        stands = "a folder" if target.is_dir() else "a file"
    else:
        found = measure(target)
        if found.sha256 == version.sha256:
            return True
        if found.sha256 in known:
            return False
        stands = f"another {'folder' if target.is_dir() else 'file'} (sha256 {found.sha256[:16]}…)"
    raise InputError(
        f"version {version.version} of {version.name!r} is not written to {target}: {stands} is there already that is "
        "no version of this model, and it is not replaced. Name another place, or move it away."
    )


@contextlib.contextmanager
def _draft(source: Path, target: Path, version: ModelVersion) -> Iterator[Path]:
    """A copy beside its target; what is hashed is the copy, which nobody else writes to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        _copy(source, draft)
        check_content(draft, version, source=source)
        yield draft
    finally:
        _remove(draft)


def _copy(source: Path, draft: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, draft)
        return
    draft.mkdir()
    for item in members(source):
        place = draft / item.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(item, place)


def _put(draft: Path, target: Path) -> None:
    """Rename a draft to its target; a folder there, which can't be renamed over, goes aside first."""
    if target.is_symlink():
        raise InputError(f"{target} is a link, and what it leads to isn't ours to replace. Move the link away.")
    if not target.is_dir():
        os.replace(draft, target)  # noqa: PTH105 - the atomic one, by its name
        return
    aside = target.with_name(f".{secrets.token_hex(6)}.part")
    target.rename(aside)
    try:
        draft.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
