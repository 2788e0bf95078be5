"""One hash that says which data a run saw, wherever the folder lies and whatever wrote it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.data.checks import in_threads
from guardianflow.data.images import file_digest, image_digest
from guardianflow.data.layout import Dataset, label_path
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import Row

__all__ = ["DatasetFingerprint", "fingerprint_dataset"]

_VERSION = "guardianflow-dataset-1"


@dataclass(frozen=True)
class DatasetFingerprint(Row):
    """Which data it was.

    Attributes:
        total: sha256 in hex over the class names and all splits.
        splits: Split → sha256 in hex over its images and labels and the class names.
    """

    total: str
    splits: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", Frozen(self.splits))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.total, dict(self.splits))

    def __str__(self) -> str:
        return self.total


def fingerprint_dataset(
    dataset: Dataset, *, splits: Sequence[str] | None = None, workers: int | None = None
) -> DatasetFingerprint:
    """Hash the content of a dataset.

    It covers the class names, and per split the name below the root, the bytes and the label bytes of every image. Any
    change of these changes it. Where the folder lies, file times, the order of entries in the
    data.yaml and the Unicode form of names (NFC or NFD) don't.

    Args:
        dataset: From :func:`guardianflow.data.dataset.read_dataset`.
        splits: The splits to cover; default: all that it has.
        workers: Threads; default: one a core, at most 8.

    Raises:
        DatasetError: No such split, or a .txt list or a folder can't be read.
    """
    names: list[Any] = [_normal(name) for name in dataset.names]
    if dataset.keypoints:  # the same rows then mean other boxes
        names.append(list(dataset.keypoints))
    by_split = {}
    for split in dataset.splits if splits is None else splits:
        rows = in_threads(lambda image: _image_row(dataset, image), dataset.images(split), workers=workers)
        by_split[split] = _digest([_VERSION, names, sorted(rows)])
    total = _digest([_VERSION, names, sorted(by_split.items())])
    return DatasetFingerprint(total=total, splits=by_split)


def _image_row(dataset: Dataset, image: Path) -> tuple[str, str, str]:
    name = dataset.relative_name(image)
    if Path(name).is_absolute():
        name = _name_outside_root(dataset, image)
    return _normal(name), image_digest(image), file_digest(label_path(image))


def _name_outside_root(dataset: Dataset, image: Path) -> str:
    """From the split's folder where the image lies below one, else its bare name: never where that folder lies."""
    for sources in dataset.splits.values():
        for source in sources:
            if source.is_dir() and image.is_relative_to(source):
                return image.relative_to(source).as_posix()
    return image.name


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _digest(content: list[Any]) -> str:
    # ASCII escapes keep undecodable bytes of file names apart, and JSON's quotes keep names apart.
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode("ascii")).hexdigest()
