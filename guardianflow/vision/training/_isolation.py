"""Keeps a training inside its run folder: what Ultralytics would read, write or fetch elsewhere, replaced.

Left alone, Ultralytics unpickles and writes ``labels.cache`` beside the user's labels, rewrites JPEGs
with a cut-off end in place, asks the network for a font whenever a class name isn't ASCII, and logs to
an MLflow of its own. It also reads label rows by rules that differ from version to version, trains on an
``image.npy`` that lies beside an image instead of the image, and deletes one that it can't read. The replacements hold
while one of our trainers works; the user's own trainings in the same process are as they were.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import ultralytics.data.build as build_module
import ultralytics.data.dataset as dataset_module
import ultralytics.data.utils as data_utils
import ultralytics.models.yolo.detect.train as train_module
import ultralytics.models.yolo.detect.val as val_module
import ultralytics.utils as utils_module
import ultralytics.utils.plotting as plotting_module
from PIL import Image
from ultralytics.data.utils import exif_size

from guardianflow.plots.font import curve_families, font_file
from guardianflow.vision.training._labels import read_checked_labels

__all__ = ["isolated"]

# Ultralytics would log to an MLflow of its own, and takes 4 s to import Ray Tune for nothing.
_FOREIGN = {"mlflow": False, "raytune": False}

_Replacement = tuple[MutableMapping[str, Any], str, Any]

_NO_FILE = Path(os.devnull) / "image.npy"

_lock = threading.Lock()
_depth = 0
_originals: list[_Replacement] = []


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Replace, inside the block, what would reach out of the run; blocks may nest and overlap."""
    global _depth  # noqa: PLW0603 - the modules that are changed are global too
    with _lock:
        if _depth == 0:
            for names, name, replacement in _replacements():
                _originals.append((names, name, names[name]))
                names[name] = replacement
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                while _originals:
                    names, name, original = _originals.pop()
                    names[name] = original


def _replacements() -> list[_Replacement]:
    return [
        (vars(utils_module), "SETTINGS", {**utils_module.SETTINGS, **_FOREIGN}),
        (vars(data_utils), "check_image", _read_shape),
        (vars(data_utils), "check_font", lambda *_args, **_kwargs: None),
        (vars(build_module), "YOLODataset", _ImagesThemselves),
        (vars(dataset_module), "verify_image_label", read_checked_labels),
        (vars(dataset_module), "load_dataset_cache_file", _no_cache),
        (vars(dataset_module), "save_dataset_cache_file", _keep_in_memory),
        (vars(plotting_module), "check_font", lambda *_args, **_kwargs: font_file()),
        # Its thread would ask for the font, and write the picture, when the block is long left.
        (vars(train_module), "plot_images", partial(plotting_module.plot_images, threaded=False)),
        (vars(val_module), "plot_images", partial(plotting_module.plot_images, threaded=False)),
        (mpl.rcParams, "font.family", curve_families()),
        (mpl.rcParams, "text.parse_math", False),  # a class name with two dollar signs is no formula
    ]


def _read_shape(im_file: str) -> tuple[str, tuple[int, int]]:
    """Ultralytics' ``check_image`` without the repair: the dataset's check has decoded every image before."""
    with Image.open(im_file) as image:
        width, height = exif_size(image)
    if min(width, height) < 10:
        raise ValueError(f"image size {(height, width)} <10 pixels")
    return "", (height, width)


class _ImagesThemselves(dataset_module.YOLODataset):  # type: ignore[misc]
    """A dataset of the images that were checked, whatever else lies beside them."""

    @property
    def npy_files(self) -> list[Path]:
        """Where Ultralytics looks for pixels before it opens the image: nowhere."""
        return [_NO_FILE] * self.ni

    @npy_files.setter
    def npy_files(self, _files: list[Path]) -> None:
        pass


def _no_cache(path: Path) -> dict[str, Any]:
    raise FileNotFoundError(path)


def _keep_in_memory(_prefix: str, _path: Path, cache: dict[str, Any], version: str) -> None:
    cache["version"] = version
