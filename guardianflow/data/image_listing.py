"""Which images a folder or a .txt list names, and what in it is passed over or read otherwise than it stands.

Images are found as Ultralytics finds them: below a folder at any depth, hidden files apart, by the ending of their
names. What it passes over in silence, a ``.jfif`` or a line that names no image, is named here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from guardianflow.data.paths import as_written, exists, is_below
from guardianflow.exceptions import DatasetError
from guardianflow.text.printable import printable

__all__ = ["IMAGE_SUFFIXES", "ImageListing", "ListingRemark", "list_file", "list_folder"]

IMAGE_SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg",
        ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
"""File endings that Ultralytics reads as images, in lower case (``ultralytics.data.utils.IMG_FORMATS``)."""

_JPEG_SUFFIXES = frozenset({".jfi", ".jfif", ".jif", ".jpe", ".pjp", ".pjpeg"})
_COMPANIONS = frozenset(
    {".cache", ".csv", ".db", ".html", ".ini", ".json", ".log", ".md", ".npy", ".txt", ".xml", ".yaml", ".yml"}
)
"""Endings of what lies beside images and is none: labels, annotations, notes, thumbnails."""

_MAX_LIST_BYTES = 64 << 20


@dataclass(frozen=True)
class ListingRemark:
    """One file or line that was passed over, or read otherwise than it stands.

    Attributes:
        kind: A key of :data:`KINDS <guardianflow.data.report.KINDS>`.
        file: The file, or the list that the line stands in; absolute.
        detail: What became of it, and what to do, in a clause.
        line: Number of the line; 0 for a file.
    """

    kind: str
    file: Path
    detail: str
    line: int = 0


@dataclass
class ImageListing:
    """Images, as absolute paths; what was passed over; and how many names only repeated an image."""

    images: list[str] = field(default_factory=list)
    remarks: list[ListingRemark] = field(default_factory=list)
    repeated: int = 0


def list_folder(folder: Path) -> ImageListing:
    """Images below a folder at any depth, hidden files and folders left out, links to folders followed.

    Raises:
        DatasetError: A folder can't be read.
    """
    listing = ImageListing()
    open_folders: list[tuple[str, tuple[str, ...]]] = [(os.fspath(folder), (os.path.realpath(folder),))]
    while open_folders:
        here, ancestors = open_folders.pop()
        with _scan(here) as entries:
            for entry in entries:
                if entry.is_dir() and not entry.name.startswith("."):
                    real = os.path.realpath(entry.path)
                    if real not in ancestors:  # a link back up would never end
                        open_folders.append((entry.path, (*ancestors, real)))
                elif _is_image_name(entry.name) and not entry.name.startswith("."):
                    listing.images.append(entry.path)
                elif why := _why_passed_over(entry):
                    listing.remarks.append(ListingRemark("unread-file", Path(entry.path), why))
    return listing


def _scan(folder: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise DatasetError(
            f"the folder {printable(folder)} can't be read ({error.strerror}); check its rights"
        ) from error


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _why_passed_over(entry: os.DirEntry[str]) -> str:
    """Why something in a folder of images is no image; empty where nobody would take it for one."""
    if not entry.name.startswith("."):
        return "" if Path(entry.name).suffix.lower() in _COMPANIONS else _why_no_image(entry.name)
    if entry.is_dir():
        return "a folder whose name begins with a dot is left out, with all that is in it; rename it to use it"
    if _is_image_name(entry.name) and not entry.name.startswith("._"):  # ._a.jpg: what macOS leaves on other disks
        return "a name that begins with a dot is left out; rename the file to use it"
    return ""


def _why_no_image(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if not suffix:
        return "a name without an ending is left out; if it is an image, add .jpg or .png to the name"
    if suffix in _JPEG_SUFFIXES:
        return f"training doesn't read {suffix}; it is a JPEG, rename it to .jpg"
    return f"training doesn't read {printable(suffix, longest=20)}; convert it to .jpg or .png to use it"


def list_file(file: Path, *, root: Path) -> ImageListing:
    r"""The images that a .txt list names, one a line.

    A relative line is looked for beside the list first, then from the dataset's root. (Ultralytics
    takes a line without ``./`` from the current folder; what a run reads must not depend on that.) Where nothing
    lies there, the line is tried without its quotes, with ``/`` for ``\`` and with the home folder for ``~``.

    Raises:
        DatasetError: The list is too large or no UTF-8, or a line climbs out of the dataset or names nothing.
    """
    listing = ImageListing()
    for number, line in enumerate(_read_text(file).splitlines(), start=1):
        if line.strip():
            _list_line(line.strip(), number, file, root, listing)
    return listing


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_LIST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(
            f"the image list {printable(file)} can't be read ({error.strerror}); check the path and its rights"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"the image list {printable(file)} is not UTF-8 (byte {error.start}); save it again as UTF-8"
        ) from None
    if len(content) > _MAX_LIST_BYTES:
        raise DatasetError(
            f"the image list {printable(file)} is larger than {_MAX_LIST_BYTES >> 20} MiB; split it into several"
        )
    return text


def _list_line(line: str, number: int, file: Path, root: Path, listing: ImageListing) -> None:
    where = f"line {number} of {printable(file)}"
    if "\0" in line:
        raise DatasetError(f"{where} holds a zero byte; save the list again as plain UTF-8 text")
    place = _place(line, where, file, root)
    if _is_image_name(line) and (Path(line).is_absolute() or exists(place)):
        listing.images.append(place)
        return
    other = _other_spelling(line)
    if other != line and _is_image_name(other) and exists(other_place := _place(other, where, file, root)):
        listing.images.append(other_place)
        listing.remarks.append(ListingRemark("line-spelling", file, f"{_quoted(line)} is read as {other}", number))
    elif exists(place) and not Path(place).is_dir():
        why = _why_no_image(line)
        listing.remarks.append(ListingRemark("unread-line", file, f"{_quoted(line)} is left out: {why}", number))
    elif line.startswith("#"):
        listing.remarks.append(ListingRemark("comment-line", file, f"{_quoted(line)} is left out", number))
    elif _is_image_name(line) and "://" not in line:
        listing.images.append(place)  # named and not there: the check says so
    else:
        raise DatasetError(f"{where} names no image file: {_quoted(line)}; {_next_step(line, place)}")


def _place(line: str, where: str, file: Path, root: Path) -> str:
    if Path(line).is_absolute():
        return as_written(line)
    chosen = as_written(file.parent / line)
    if not line.startswith("./") and not exists(chosen) and exists(from_root := as_written(root / line)):
        chosen = from_root
    if not (is_below(chosen, root) or is_below(chosen, file.parent)):
        raise DatasetError(
            f"{where} leads out of the dataset ({printable(line)}); "
            f"write the absolute path, or set `path:` in the data.yaml to a folder above both"
        )
    return chosen


def _other_spelling(line: str) -> str:
    if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'":
        line = line[1:-1]
    line = line.replace("\\", "/")
    return os.fspath(Path(line).expanduser()) if line.startswith("~/") else line


def _next_step(line: str, place: str) -> str:
    if "://" in line:
        return "fetch the image and write the path of the file"
    if exists(place):
        return "a folder is named in the data.yaml, not in a list"
    return "write the path of one image a line and nothing behind it, boxes belong in the image's label file"


def _quoted(line: str) -> str:
    return f"'{printable(line, longest=80)}'"
