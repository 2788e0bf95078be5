"""Whether an image file is whole, and readable by the two libraries that a training reads it with."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import astuple, dataclass
from pathlib import Path

from guardianflow.files.run_folder import write_json
from guardianflow.text.printable import printable

__all__ = ["MIN_SIDE", "ProbedImage", "file_digest", "hand_over", "image_digest", "probe_image", "take_over"]

MIN_SIDE = 10
"""Ultralytics drops images with a side shorter than this, in pixels."""

_MAX_PIXELS = 178_956_970  # where Pillow refuses an image as a decompression bomb
_MAX_BYTES = 1 << 30
_MOST_KNOWN = 500_000
_TICK_NS = 2_000_000_000
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_SIGNATURES = (_JPEG_START, b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_FORMATS = frozenset({"AVIF", "BMP", "DNG", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP"})
_ONLY_PILLOW = frozenset({".avif", ".heic", ".heif"})


@dataclass(frozen=True)
class ProbedImage:
    """What became of reading one image.

    Attributes:
        sha256: Of the file's bytes; empty where they couldn't be read.
        kind: Kind of the defect, or ``None`` for a good image.
        detail: What is wrong, in a clause.
    """

    sha256: str = ""
    kind: str | None = None
    detail: str = ""


_State = tuple[int, int, int]
_known: dict[str, tuple[_State, ProbedImage]] = {}
"""Images that were probed and have not changed since: path → inode, size and time of change, and what was found."""


def probe_image(file: Path) -> ProbedImage:
    """Decode an image as far as it takes to know that it is whole; one that hasn't changed since is not read again.

    JPEGs are decoded at an eighth of their size, which still reads every byte. Pillow tells a cut-off
    file from a whole one in every version; OpenCV is asked too, because it is what loads the image in training.
    """
    before = _state_of(file)
    known = _known.get(str(file))
    if known is not None and known[0] == before:
        return known[1]
    probed = _probe(file)
    # What was written a moment ago may be written once more within the same tick of the file system's clock.
    settled = before is not None and before == _state_of(file) and time.time_ns() - before[2] > _TICK_NS
    if before is not None and settled and len(_known) < _MOST_KNOWN:
        _known[str(file)] = before, probed
    return probed


def image_digest(file: Path) -> str:
    """sha256 of an image's bytes; of one that was probed and hasn't changed since, without reading it again."""
    known = _known.get(str(file))
    if known is not None and known[0] == _state_of(file):
        return known[1].sha256
    return file_digest(file)


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes; empty where there is no file."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ""


def hand_over(path: Path) -> None:
    """Write down what is known of images, for another process of the same run (:func:`take_over`)."""
    if _known:
        write_json(path, {name: [*state, *astuple(probed)] for name, (state, probed) in _known.items()})


def take_over(path: Path) -> None:
    """Know what another process of the same run knew; where nothing can be read, nothing is known."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for name, (inode, size, changed, *probed) in rows.items():
            _known.setdefault(name, ((inode, size, changed), ProbedImage(*probed)))
    except (OSError, ValueError, TypeError, AttributeError):
        return


def _state_of(file: Path) -> _State | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _probe(file: Path) -> ProbedImage:
    try:
        if not file.is_file():
            return ProbedImage(kind="missing-image", detail="there is no such file")
        if file.stat().st_size > _MAX_BYTES:
            return ProbedImage(kind="image-size", detail=f"the file is larger than {_MAX_BYTES >> 30} GiB")
        content = file.read_bytes()
    except OSError as error:
        return ProbedImage(kind="corrupt-image", detail=f"the file can't be read ({error.strerror})")
    digest = hashlib.sha256(content).hexdigest()
    if not _has_image_signature(content):
        return ProbedImage(digest, "corrupt-image", _describe_start(content))
    kind, detail = _decode(content, file.suffix.lower())
    return ProbedImage(digest, kind, detail)


def _has_image_signature(content: bytes) -> bool:
    return (
        content.startswith(_SIGNATURES)
        or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
        or content[4:8] == b"ftyp"  # AVIF and HEIF
    )


def _describe_start(content: bytes) -> str:
    if not content:
        return "the file is empty"
    if content.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image (run: git lfs pull)"
    start = printable(ascii(content[:12].decode("latin-1")))
    return f"it is no image, it starts with {start}"


def _decode(content: bytes, suffix: str) -> tuple[str | None, str]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                return "image-size", f"{width}x{height} pixels are more than {_MAX_PIXELS:,}"
            if min(width, height) < MIN_SIDE:
                return "image-size", f"{width}x{height} pixels, each side must have {MIN_SIDE}"
            if image.format not in _FORMATS:
                return "corrupt-image", f"{image.format} images can't be trained on"
            image.draft(None, (max(width // 8, 1), max(height // 8, 1)))
            image.load()
            is_jpeg = image.format == "JPEG"
    except Image.DecompressionBombError:
        return "image-size", f"it has more than {_MAX_PIXELS:,} pixels"
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever their format's reader raises
        return "corrupt-image", f"it can't be decoded ({printable(error)})"
    if suffix not in _ONLY_PILLOW and not _opencv_reads(content):
        return "corrupt-image", "OpenCV can't decode it, which loads the images in training"
    if is_jpeg and not content.endswith(_JPEG_END):
        return "jpeg-tail", "bytes follow the end of the JPEG, and Ultralytics would rewrite the file in place"
    return None, ""


def _opencv_reads(content: bytes) -> bool:
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except cv2.error:
        return False
    return image is not None
