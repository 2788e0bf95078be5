"""Model files by their content: what they hash to, and copies that can't be mixed up."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from guardianflow.core.model_records import ModelVersion
from guardianflow.exceptions import HashMismatchError, InputError

__all__ = ["Measured", "ModelCache", "check_content", "legal_artifact", "measure"]

_CHUNK = 1 << 20


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
        return Measured(_hash_file(path), path.stat().st_size)
    digest, size = hashlib.sha256(), 0
    for item in sorted((item for item in path.rglob("*") if item.is_file()), key=lambda item: item.as_posix()):
        digest.update(f"{item.relative_to(path).as_posix()}\0{_hash_file(item)}\n".encode())
        size += item.stat().st_size
    return Measured(digest.hexdigest(), size)


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_content(path: Path, version: ModelVersion) -> None:
    """Make sure that a file is the one that was registered.

    Raises:
        HashMismatchError: It is another one.
    """
    found = measure(path)
    if found.sha256 != version.sha256:
        raise HashMismatchError(
            f"the file of {version.name!r} version {version.version} was changed after it was registered: {path} has "
            f"sha256 {found.sha256[:16]}… ({found.size_bytes} bytes), registered was {version.sha256[:16]}… "
            f"({version.size_bytes} bytes). Bring the file back, or register the run again as a new version."
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
        if path.exists() and measure(path).sha256 == version.sha256:
            return path
        return None

    def keep(self, source: Path, version: ModelVersion) -> Path:
        """Take a copy of a version's file, checked by its hash, whole or not at all.

        Raises:
            HashMismatchError: It is not the file that was registered.
        """
        return copy_checked(source, self._path(version), version)

    def _path(self, version: ModelVersion) -> Path:
        return self._folder / version.sha256 / PurePosixPath(version.artifact).name


def copy_checked(source: Path, target: Path, version: ModelVersion) -> Path:
    """Copy a version's file to a place of its own, checked by its hash, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{secrets.token_hex(6)}.part")
    try:
        if source.is_dir():
            shutil.copytree(source, draft)
        else:
            shutil.copyfile(source, draft)
        check_content(draft, version)
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(draft, target)  # noqa: PTH105 - the atomic one, by its name
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
    return target
