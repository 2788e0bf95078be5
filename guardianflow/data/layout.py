"""What a dataset is: its classes, its splits, and where images and their labels lie.

The rules are Ultralytics' own, so that what is checked here is what gets trained: images are found
below a folder at any depth, hidden files apart; the label of ``…/images/x/a.jpg`` is
``…/labels/x/a.txt``, the last folder named ``images`` being the one that changes.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from guardianflow.data.printable import printable
from guardianflow.exceptions import DatasetError

__all__ = [
    "IMAGE_SUFFIXES",
    "SPLITS",
    "Dataset",
    "exists",
    "is_below",
    "is_image_name",
    "label_path",
    "read_image_list",
    "walk_images",
]

SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg",
        ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
"""File endings that Ultralytics reads as images, in lower case (``ultralytics.data.utils.IMG_FORMATS``)."""

_MAX_LIST_BYTES = 64 << 20


@dataclass(frozen=True)
class Dataset:
    """An object-detection dataset as its data.yaml describes it. Nothing is opened yet.

    Attributes:
        yaml_path: The data.yaml, absolute.
        root: The folder that relative entries start from, with links resolved.
        names: Class names; the position is the class id.
        splits: ``"train"``, ``"val"``, ``"test"`` → folders of images, or .txt lists of images. Absolute.
        channels: Image channels the model is to see (3 unless the data.yaml says otherwise).
        notes: What was passed over while reading, for example a ``test`` folder that isn't there.
    """

    yaml_path: Path
    root: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    channels: int = 3
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", MappingProxyType({name: tuple(self.splits[name]) for name in self.splits}))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping can't be pickled, and a dataset travels to worker processes.
        return (
            type(self),
            (self.yaml_path, self.root, self.names, dict(self.splits), self.channels, self.notes),
        )

    def images(self, split: str) -> list[Path]:
        """The images of a split, each once, in the order of their paths.

        Files named in a .txt list are returned whether they exist or not; the check reports them.

        Raises:
            DatasetError: No such split, or a .txt list that can't be read or leads out of the dataset.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise DatasetError(
                f"{printable(self.yaml_path)} has no split {split!r}, it has: {known}; add a `{split}:` entry to it"
            )
        found: set[str] = set()
        for source in self.splits[split]:
            found.update(walk_images(source) if source.is_dir() else read_image_list(source, root=self.root))
        return [Path(name) for name in sorted(found)]

    def label_path(self, image: Path) -> Path:
        """Where the label file of an image belongs (see :func:`label_path`)."""
        return label_path(image)

    def relative_name(self, file: Path) -> str:
        """A file's name for people and fingerprints: from the root where it lies below it, with ``/``."""
        text = os.fspath(file)
        prefix = _as_prefix(self.root)
        return text[len(prefix) :].replace(os.sep, "/") if text.startswith(prefix) else text

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {
            "yaml_path": str(self.yaml_path),
            "root": str(self.root),
            "names": list(self.names),
            "splits": {name: [str(source) for source in sources] for name, sources in self.splits.items()},
            "channels": self.channels,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td>"
            f"<td>{'<br>'.join(html.escape(printable(self.relative_name(source))) for source in sources)}</td></tr>"
            for name, sources in self.splits.items()
        )
        names = html.escape(", ".join(self.names[:20]) + (" …" if len(self.names) > 20 else ""))
        return (
            f"<p><b>{html.escape(printable(self.yaml_path))}</b><br>{len(self.names)} classes: {names}</p>"
            f"<table><tr><th>split</th><th>images in</th></tr>{rows}</table>"
        )


def label_path(image: Path) -> Path:
    """The label file of an image: the last folder ``images`` becomes ``labels``, the ending ``.txt``.

    The rule of ``ultralytics.data.utils.img2label_paths``. Without a folder of that name the label lies
    beside the image.
    """
    before, found, after = os.fspath(image).rpartition(f"{os.sep}images{os.sep}")
    text = f"{before}{os.sep}labels{os.sep}{after}" if found else after
    return Path(text.rsplit(".", 1)[0] + ".txt")


def is_image_name(name: str) -> bool:
    """Whether Ultralytics takes a file of this name for an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def walk_images(folder: Path) -> Iterator[str]:
    """Images below a folder at any depth, hidden files and folders left out, links to folders followed."""
    open_folders: list[tuple[str, tuple[str, ...]]] = [(os.fspath(folder), (os.path.realpath(folder),))]
    while open_folders:
        here, ancestors = open_folders.pop()
        with _scan(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in ancestors:  # a link back up would never end
                        open_folders.append((entry.path, (*ancestors, real)))
                elif is_image_name(entry.name):
                    yield entry.path


def _scan(folder: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise DatasetError(
            f"the folder {printable(folder)} can't be read ({error.strerror}); check its rights"
        ) from error


def read_image_list(file: Path, *, root: Path) -> list[str]:
    """The images that a .txt list names, one a line, as absolute paths.

    A relative line is looked for beside the list first, then from the dataset's root. (Ultralytics
    takes a line without ``./`` from the current folder; what a run reads must not depend on that.)

    Raises:
        DatasetError: The list is too large or no UTF-8, or a relative line climbs out of the dataset.
    """
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
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [
        _listed_image(line, number, file, root) for number, line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES
    ]


def _listed_image(line: str, number: int, file: Path, root: Path) -> str:
    if "\0" in line:
        raise DatasetError(f"line {number} of {printable(file)} holds a zero byte; save the list again as plain text")
    if Path(line).is_absolute():
        return os.path.normpath(line)
    beside = os.path.normpath(file.parent / line)
    below_root = os.path.normpath(root / line)
    chosen = beside
    if not line.startswith("./") and not exists(beside) and exists(below_root):
        chosen = below_root
    if not (is_below(chosen, root) or is_below(chosen, file.parent)):
        raise DatasetError(
            f"line {number} of {printable(file)} leads out of the dataset ({printable(line)}); "
            f"write the absolute path, or set `path:` in the data.yaml to a folder above both"
        )
    return chosen


def is_below(path: str | Path, folder: str | Path) -> bool:
    """Whether a normalised absolute path is a folder or lies in it, by its text alone."""
    return _as_prefix(path).startswith(_as_prefix(folder))


def exists(path: str | Path) -> bool:
    """Whether something lies there; a name that the system finds too long is not there, and no crash."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _as_prefix(folder: str | Path) -> str:
    return os.fspath(folder).rstrip(os.sep) + os.sep
