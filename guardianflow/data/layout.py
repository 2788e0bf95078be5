"""What a dataset is: its classes, its splits, and where the labels of its images lie.

The rule is Ultralytics' own, so that what is checked here is what gets trained: the label of ``…/images/x/a.jpg``
is ``…/labels/x/a.txt``, the last folder named ``images`` being the one that changes. It holds for the path as
written: where a folder of images is a link, its labels lie beside the link.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from guardianflow.data.image_listing import ImageListing, list_file, list_folder
from guardianflow.data.labels import ParsedLabels, read_labels
from guardianflow.data.paths import as_prefix
from guardianflow.exceptions import DatasetError
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import Row
from guardianflow.text.printable import escape, printable

__all__ = ["SPLITS", "Dataset", "label_path"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset(Row):
    """An object-detection dataset as its data.yaml describes it. Nothing is opened yet.

    Attributes:
        yaml_path: The data.yaml, absolute.
        root: The folder that relative entries start from, as written: links are kept.
        names: Class names; the position is the class id.
        splits: ``"train"``, ``"val"``, ``"test"`` → folders of images, or .txt lists of images. Absolute.
        channels: Image channels the model is to see (3 unless the data.yaml says otherwise).
        keypoints: ``kpt_shape``: how many keypoints stand behind each box, and of how many numbers each.
        notes: What was passed over while reading, for example a ``test`` folder that isn't there.
    """

    yaml_path: Path
    root: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    channels: int = 3
    keypoints: tuple[int, int] | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", Frozen({name: tuple(self.splits[name]) for name in self.splits}))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping can't be pickled, and a dataset travels to worker processes.
        values = {**vars(self), "splits": dict(self.splits)}
        return type(self), tuple(values[each.name] for each in fields(self))

    def images(self, split: str) -> list[Path]:
        """The images of a split, each once, in the order of their paths (see :meth:`listing`)."""
        return [Path(image) for image in self.listing(split).images]

    def listing(self, split: str) -> ImageListing:
        """The images of a split, each once, in the order of their paths, and what was passed over or read otherwise.

        Files named in a .txt list are returned whether they exist or not; the check reports them.

        Raises:
            DatasetError: No such split, or a .txt list that can't be read or has a line that names nothing.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise DatasetError(
                f"{printable(self.yaml_path)} has no split {split!r}, it has: {known}; add a `{split}:` entry to it"
            )
        whole = ImageListing()
        for source in self.splits[split]:
            part = list_folder(source) if source.is_dir() else list_file(source, root=self.root)
            whole.images += part.images
            whole.remarks += part.remarks
        return ImageListing(sorted(set(whole.images)), whole.remarks, len(whole.images) - len(set(whole.images)))

    def label_path(self, image: Path) -> Path:
        """Where the label file of an image belongs (see :func:`label_path`)."""
        return label_path(image)

    def read_labels(self, image: Path) -> ParsedLabels | None:
        """The labels of an image, as check, training and evaluation take them; ``None`` where there is no file."""
        return read_labels(label_path(image), classes=len(self.names), keypoints=self.keypoints)

    def relative_name(self, file: Path) -> str:
        """A file's name for people and fingerprints: from the root where it lies below it, with ``/``."""
        text = os.fspath(file)
        prefix = as_prefix(self.root)
        return text[len(prefix) :].replace(os.sep, "/") if text.startswith(prefix) else text

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            f"<td>{'<br>'.join(escape(printable(self.relative_name(source))) for source in sources)}</td></tr>"
            for name, sources in self.splits.items()
        )
        names = escape(", ".join(self.names[:20]) + (" …" if len(self.names) > 20 else ""))
        return (
            f"<p><b>{escape(printable(self.yaml_path))}</b><br>{len(self.names)} classes: {names}</p>"
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
