"""What a model consists of on disk: all of it is there, and it is the model itself and no stand-in for it."""

from __future__ import annotations

from pathlib import Path

from guardianflow.exceptions import ModelFileError

__all__ = ["refuse_links", "require_whole"]

_PARTS = {
    "ascend": ("*.om",), "axelera": ("*.axm",), "coreml": ("Manifest.json", "*.mlmodel"), "deepx": ("*.dxnn",),
    "executorch": ("*.pte",), "hailo": ("*.hef",), "imx": ("*.onnx",), "ncnn": ("*.param", "*.bin"),
    "openvino": ("*.xml", "*.bin"), "paddle": ("*.pdiparams",), "rknn": ("*.rknn",),
    "saved_model": ("saved_model.pb", "variables.index", "variables.data-*"),
}  # fmt: skip
"""What a folder must hold, at any depth, by the format of the model."""

_STAND_INS = (
    (b"version https://git-lfs", "is a pointer of Git LFS and not the file itself; run `git lfs pull` first"),
    (b"/annex/objects/", "is a pointer of git-annex and not the file itself; run `git annex get` first"),
    (b"<!doctype html", "is a web page, as a failed download leaves one; download the model again"),
    (b"<html", "is a web page, as a failed download leaves one; download the model again"),
)  # fmt: skip
_HEAD = 64


def require_whole(path: Path, kind: str) -> None:
    """Refuse a model that lacks a part, or whose parts are empty, links, or stand-ins for files that lie elsewhere.

    Args:
        path: A file or folder that exists.
        kind: Its format; see :class:`~guardianflow.vision.model_artifacts.ModelFile`.

    Raises:
        ModelFileError: Names the part and the next step.
    """
    if path.is_file():
        if path.name == "saved_model.pb":
            msg = f"{path} is one part of a SavedModel; pass the folder with all of it: {path.absolute().parent}"
            raise ModelFileError(msg)
        _require_content(path)
        return
    refuse_links(path)
    files = [item for item in path.rglob("*") if item.is_file()]
    for pattern in _PARTS.get(kind, ()):
        parts = [item for item in files if item.match(pattern)]
        if not parts:
            msg = f"{kind} model {path} lacks its weights or graph (no {pattern} is in it); copy the whole folder"
            raise ModelFileError(msg)
        for part in parts:
            _require_content(part)


def refuse_links(folder: Path) -> None:
    """Refuse a model folder with links: what they lead to has no part in the folder's hash.

    Raises:
        ModelFileError: Names the first link.
    """
    for item in folder.rglob("*"):
        if item.is_symlink():
            msg = f"model {folder} holds a link ({item.name}), which is not followed; put the file itself there"
            raise ModelFileError(msg)


def _require_content(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).lower().lstrip()
        size = path.stat().st_size
    except OSError as error:
        msg = f"model file {path} can't be read ({error.strerror or error}); check its rights"
        raise ModelFileError(msg) from error
    if not size:
        raise ModelFileError(f"model file {path} is empty; copy or export it again")
    for beginning, what in _STAND_INS:
        if head.startswith(beginning):
            raise ModelFileError(f"model file {path} ({size} bytes) {what}")
