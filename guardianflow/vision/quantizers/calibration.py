"""The images that show a quantizer how large the activations get: drawn from the training split, by a seed.

Not from the images of the comparison: what a model is judged on must not have shaped it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.data.dataset import Dataset
from guardianflow.exceptions import DatasetError, InputError
from guardianflow.text.printable import printable
from guardianflow.vision.pipeline.decoding import decode_image
from guardianflow.vision.pipeline.letterbox import PADDING, letterbox

__all__ = ["CalibrationSet", "SkippedImage", "draw_calibration_set"]

log = logging.getLogger(__name__)

_VERSION = "guardianflow-calibration-1"


@dataclass(frozen=True)
class SkippedImage:
    """An image that was drawn and can't be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class CalibrationSet:
    """Training images as the pipeline will feed them. Pixels are decoded when they are asked for.

    Attributes:
        images: The files.
        names: Their names within the dataset.
        digests: sha256 of their bytes.
        imgsz: Side of the square input, in pixels.
        seed: Of the draw.
        split: Where they were drawn from.
        available: How many images that split has.
        classes: Class name → on how many of the images it is labelled.
        skipped: What was drawn and couldn't be used.
    """

    images: tuple[Path, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    imgsz: int
    seed: int
    split: str
    available: int
    classes: dict[str, int]
    skipped: tuple[SkippedImage, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """sha256 over the images' content in order, how they are prepared, and the seed."""
        said = {
            "version": _VERSION,
            "images": self.digests,
            "letterbox": {"imgsz": self.imgsz, "padding": PADDING, "order": "RGB", "range": [0, 1]},
            "seed": self.seed,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def tensors(self, start: int = 0, stop: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """The images one by one, each (1, 3, S, S), RGB from 0 to 1, letterboxed as the pipeline does.

        One image is in memory at a time. The array is the caller's.

        Raises:
            InputError: A file can't be read any more.
        """
        for image in self.images[start:stop]:
            tensor, _ = letterbox(decode_image(image), self.imgsz)
            yield np.ascontiguousarray(tensor)[None]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: what goes into ``calibration.json``."""
        return {
            "fingerprint": self.fingerprint,
            "count": len(self),
            "available": self.available,
            "split": self.split,
            "seed": self.seed,
            "imgsz": self.imgsz,
            "classes": dict(self.classes),
            "images": [{"name": name, "sha256": digest} for name, digest in zip(self.names, self.digests, strict=True)],
            "skipped": [{"name": item.name, "reason": item.reason} for item in self.skipped],
        }


def draw_calibration_set(
    dataset: Dataset, *, imgsz: int, count: int = 128, seed: int = 0, split: str = "train"
) -> CalibrationSet:
    """Draw calibration images: at least one of each class where there is one, the rest at random.

    Args:
        dataset: Where the images and labels are.
        imgsz: Side of the model's square input, in pixels.
        count: How many; fewer where the split has fewer.
        seed: The same seed draws the same images.
        split: Where from; not the split that the model is judged on.

    Raises:
        DatasetError: The split is not there, is empty, or has no image that can be read.
    """
    available = dataset.images(split)
    if not available:
        raise DatasetError(
            f"the split {split!r} of {printable(dataset.yaml_path)} holds no images, and calibration images are "
            "drawn from it; add training images, or name another data.yaml (--data)"
        )
    labelled = [_classes_of(dataset, image) for image in available]
    order = _drawing_order(labelled, count, random.Random(seed))  # noqa: S311 - a draw of pictures
    chosen: list[tuple[Path, str, frozenset[int]]] = []
    skipped: list[SkippedImage] = []
    for place in order:
        if len(chosen) == count:
            break
        image = available[place]
        try:
            chosen.append((image, _digest_of_readable(image), labelled[place]))
        except (InputError, OSError) as error:
            skipped.append(SkippedImage(dataset.relative_name(image), " ".join(str(error).split())[:300]))
    for item in skipped:
        log.warning("calibration image %s was skipped: %s", printable(item.name), item.reason)
    if not chosen:
        msg = f"none of the {len(available)} images of the split {split!r} can be read ({skipped[0].reason})"
        raise DatasetError(msg)
    seen = Counter(label for _, _, labels in chosen for label in labels)
    return CalibrationSet(
        images=tuple(image for image, _, _ in chosen),
        names=tuple(dataset.relative_name(image) for image, _, _ in chosen),
        digests=tuple(digest for _, digest, _ in chosen),
        imgsz=imgsz,
        seed=seed,
        split=split,
        available=len(available),
        classes={name: seen[index] for index, name in enumerate(dataset.names)},
        skipped=tuple(skipped),
    )


def _classes_of(dataset: Dataset, image: Path) -> frozenset[int]:
    labels = dataset.read_labels(image)
    return frozenset(labels.boxes if labels else ())  # what can't be read, the check of the dataset names


def _drawing_order(labelled: Sequence[frozenset[int]], count: int, draw: random.Random) -> list[int]:
    """All images by chance, but one of each class first, the rarest class before the others."""
    order = list(range(len(labelled)))
    draw.shuffle(order)
    share = Counter(label for labels in labelled for label in labels)
    first: list[int] = []
    covered: set[int] = set()
    for label in sorted(share, key=lambda item: (share[item], item)):
        if label in covered or len(first) == count:
            continue
        place = next(place for place in order if label in labelled[place])
        first.append(place)
        covered |= labelled[place]
    taken = set(first)
    return first + [place for place in order if place not in taken]


def _digest_of_readable(image: Path) -> str:
    decode_image(image)
    return hashlib.sha256(image.read_bytes()).hexdigest()
