"""Image files as pixels: as Ultralytics reads them, and one sentence where they can't be read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from guardianflow.exceptions import InputError
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.pipeline.decoding import ImageError, as_bgr, decode_image


def photo(seed: int = 0, *, mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 4), np.uint8)
    return Image.fromarray(small, "RGBA").resize(size, Image.Resampling.BICUBIC).convert(mode)


def theirs(path: Path) -> npt.NDArray[np.uint8]:
    import_ultralytics()
    from ultralytics.utils.patches import imread

    found = imread(str(path))
    assert found is not None
    return found


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif", "jp2"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_files_are_read_as_ultralytics_reads_them(suffix: str, mode: str, tmp_path: Path) -> None:
    if suffix in {"jpg", "jp2"} and mode in {"RGBA", "P"}:
        mode = "RGB"
    path = tmp_path / f"한글 폴더 사진.{suffix}"
    photo(mode=mode).save(path)
    pixels = decode_image(path)
    assert (pixels.dtype, pixels.shape, pixels.flags.c_contiguous) == (np.uint8, (40, 60, 3), True)
    np.testing.assert_array_equal(pixels, theirs(path))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_16_bits_the_high_byte_stays(suffix: str, channels: int, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 1 << 16, (40, 60, channels), np.uint16)
    path = tmp_path / f"deep.{suffix}"
    path.write_bytes(cv2.imencode(f".{suffix}", deep)[1].tobytes())
    pixels = decode_image(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, theirs(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_turns_the_image_upright(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[274] = orientation
    photo().save(path, exif=exif)
    pixels = decode_image(path)
    assert pixels.shape == ((60, 40, 3) if orientation >= 5 else (40, 60, 3))
    np.testing.assert_array_equal(pixels, theirs(path))


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    photo(size=(300, 200)).save(stream, kind, **options)
    return stream.getvalue()


def jpeg_with_thumbnail() -> bytes:
    """Holds the end mark of a whole JPEG within its header."""
    exif = Image.Exif()
    exif[0x9286] = encoded("JPEG")[:30_000]  # a user comment
    return encoded("JPEG", exif=exif)


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"no image at all", "can't be decoded"),
        ("cut.jpg", encoded("JPEG")[:-500], "cut off"),
        ("cut-with-thumbnail.jpg", jpeg_with_thumbnail()[:-500], "cut off"),
        ("cut.png", encoded("PNG")[:-500], "cut off"),
        ("cut.webp", encoded("WEBP")[:-200], "can't be decoded"),
        ("start.jpg", b"\xff\xd8\xff", "can't be decoded"),
        ("start.png", b"\x89PNG\r\n\x1a\n", "can't be decoded"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_what_is_wrong(name: str, content: bytes, rule: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rule) as caught:
        decode_image(path)
    assert name in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_a_whole_jpeg_with_a_thumbnail_or_bytes_behind_it_is_taken(tmp_path: Path) -> None:
    for content in (jpeg_with_thumbnail(), encoded("JPEG") + b"\0" * 100):
        (tmp_path / "a.jpg").write_bytes(content)
        assert decode_image(tmp_path / "a.jpg").shape == (200, 300, 3)


@pytest.mark.parametrize("where", ["none.jpg", ".", "nul\0.jpg", "x" * 300 + ".jpg"])
def test_what_is_no_file_is_named(where: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image file|can't be read"):
        decode_image(tmp_path / where)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_small_file_that_claims_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    huge = {
        "bomb.png": png_that_claims(40_000, 40_000),
        "bomb.jpg": encoded("JPEG").replace(struct.pack(">HH", 200, 300), struct.pack(">HH", 60_000, 60_000), 1),
    }
    for name, content in huge.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="may have 178,956,970 pixels"):
            decode_image(tmp_path / name)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_pixels_become_bgr(shape: tuple[int, ...]) -> None:
    given = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = as_bgr(given)
    assert found.shape == (4, 5, 3)
    np.testing.assert_array_equal(found[..., 0], given if given.ndim == 2 else given[..., 0])
    np.testing.assert_array_equal(as_bgr(given.astype(np.uint16) << 8), found)


@pytest.mark.parametrize("pixels", [np.zeros((4, 5, 2), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_pixels_of_another_kind_are_refused(pixels: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ImageError, match="uint8 of shape"):
        as_bgr(pixels)
