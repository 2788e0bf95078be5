"""Image files to pixels, the way Ultralytics' training reads them, and no worse than a plain error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["MAX_PIXELS", "ImageError", "as_bgr", "decode_image"]

MAX_PIXELS = 178_956_970
"""Larger images are refused before they are decoded; where Pillow takes one for a decompression bomb."""

_MAX_BYTES = 1 << 30
_ONLY_PILLOW = (".avif", ".heic", ".heif")
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"

Pixels = npt.NDArray[np.uint8]


class ImageError(InputError):
    """An image can't be decoded, or is no image; the message names the file."""


def decode_image(path: str | Path) -> Pixels:
    """An image file as BGR pixels, turned upright by its EXIF orientation.

    The rules are those of ``ultralytics.utils.patches.imread``: OpenCV decodes, Pillow where OpenCV can't
    (AVIF, HEIC); grey becomes BGR, alpha is dropped, of 16 bits the high byte stays, of several pages the
    first. Other than there a JPEG or PNG that was cut off is an error: its lower part would be made up.

    Args:
        path: May hold any characters.

    Returns:
        uint8 (H, W, 3), C-contiguous.

    Raises:
        ImageError: Missing, unreadable, too large, cut off or no image.
    """
    import cv2

    path = Path(path)
    content = _read(path)
    try:
        _check_header(content, path)
        pixels = _decode(content, path.suffix.lower())
    except ImageError:
        raise
    except (cv2.error, MemoryError, OSError, SyntaxError, ValueError) as error:  # Pillow's readers raise the last three
        raise _undecodable(path, printable(str(error).strip().splitlines()[-1:] or type(error).__name__)) from error
    if pixels is None or not pixels.size:
        raise _undecodable(path, "no decoder takes its content")
    return as_bgr(pixels, name=str(path))


def as_bgr(pixels: npt.NDArray[Any], *, name: str = "the pixels") -> Pixels:
    """Pixels as uint8 (H, W, 3) in C order: grey is repeated, alpha dropped, of 16 bits the high byte stays.

    Args:
        pixels: uint8 or uint16, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), BGR.
        name: What the message calls them.

    Raises:
        ImageError: Another type or shape.
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise ImageError(_wrong_pixels(name, pixels))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    channels = pixels.shape[2]
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    elif channels == 4:
        pixels = pixels[..., :3]
    elif channels != 3:
        raise ImageError(_wrong_pixels(name, pixels))
    return np.ascontiguousarray(pixels)


def _wrong_pixels(name: str, pixels: npt.NDArray[Any]) -> str:
    return (
        f"an image must be uint8 of shape (height, width, 3), {printable(name)} is {pixels.dtype} of shape "
        f"{pixels.shape}; convert it to 8-bit BGR"
    )


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"there is no image file {printable(path)}; check the path")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ImageError(
                f"an image file may have {_MAX_BYTES >> 30} GiB, {printable(path)} has {size:,} bytes; make it smaller"
            )
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"the image {printable(path)} can't be read ({reason}); check its rights") from error
    if not content:
        raise ImageError(f"the image {printable(path)} is empty; copy it again")
    return content


def _undecodable(path: Path, why: object) -> ImageError:
    return ImageError(f"the image {printable(path)} can't be decoded ({why}); replace it, or leave it out")


def _check_header(content: bytes, path: Path) -> None:
    """Refuse what is too large or cut off before a decoder takes memory for it."""
    if content.startswith(_JPEG):
        size, after = _jpeg_size(content)
        whole = content.rfind(_JPEG_END, after) >= 0  # the scan's own bytes never hold the mark
    elif content.startswith(_PNG):
        size, whole = _png_size(content), content.rfind(_PNG_END) >= 0
    else:
        size, whole = _size_by_pillow(content), True
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"an image may have {MAX_PIXELS:,} pixels, {printable(path)} has {size[0]} x {size[1]}; make it smaller"
        )
    if not whole:
        raise _undecodable(path, "it is cut off before its end")


def _jpeg_size(content: bytes) -> tuple[tuple[int, int], int]:
    """Width and height from the frame header, and where the search for the end may begin."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # fill bytes
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(content[place + 5 : place + 7], "big")
            return (int.from_bytes(content[place + 7 : place + 9], "big"), height), place
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return (0, 0), 2


def _png_size(content: bytes) -> tuple[int, int]:
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def _size_by_pillow(content: bytes) -> tuple[int, int]:
    """Width and height; (0, 0) where Pillow doesn't know the format, and OpenCV's own limit holds."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except Image.DecompressionBombError:
        return MAX_PIXELS + 1, 1
    except Exception:  # noqa: BLE001 - a reader's own error; whether it is an image is the decoder's to say
        return 0, 0


def _decode(content: bytes, suffix: str) -> npt.NDArray[Any] | None:
    import cv2

    data = np.frombuffer(content, np.uint8)
    if suffix in (".tif", ".tiff"):
        found, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
        if found and pages[0].ndim == 3:
            return np.asarray(pages[0][..., :3])
    if suffix in _ONLY_PILLOW:
        pixels = _decode_by_pillow(content)
        if pixels is not None:
            return pixels
    decoded: npt.NDArray[Any] | None = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return decoded


def _decode_by_pillow(content: bytes) -> Pixels | None:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1]
    except UnidentifiedImageError:
        return None
