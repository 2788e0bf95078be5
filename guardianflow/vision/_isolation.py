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
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ultralytics.data.build as build_module
import ultralytics.data.dataset as dataset_module
import ultralytics.data.utils as data_utils
import ultralytics.utils.plotting as plotting_module
from PIL import Image
from ultralytics.data.utils import exif_size

from guardianflow.vision._training_labels import read_checked_labels

__all__ = ["is_foreign_tracker", "isolated", "local_font"]

_FOREIGN_TRACKERS = ("ultralytics.utils.callbacks.mlflow",)
_UNICODE_FONTS = (
    "Noto Sans CJK", "NotoSansCJK", "NanumGothic", "Malgun", "AppleSDGothic", "AppleGothic", "Arial Unicode",
    "Noto Serif CJK", "NotoSerifCJK", "DejaVu Sans",
)  # fmt: skip

_NO_FILE = Path(os.devnull) / "image.npy"

_lock = threading.Lock()
_depth = 0
_originals: list[tuple[ModuleType, str, Any]] = []


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Replace, inside the block, what would reach out of the run; blocks may nest and overlap."""
    global _depth  # noqa: PLW0603 - the modules that are changed are global too
    with _lock:
        if _depth == 0:
            _let_curves_show_any_script()
            for module, name, replacement in _replacements():
                _originals.append((module, name, getattr(module, name)))
                setattr(module, name, replacement)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                while _originals:
                    module, name, original = _originals.pop()
                    setattr(module, name, original)


def is_foreign_tracker(callback: Callable[..., Any]) -> bool:
    """Whether a callback would log the training somewhere else than where our run is."""
    return getattr(callback, "__module__", "") in _FOREIGN_TRACKERS


def local_font(font: str = "Arial.ttf") -> str:
    """A font file of this machine, for text of any script where it has one; nothing is downloaded.

    Raises:
        FileNotFoundError: There is none; Pillow's built-in font is used then.
    """
    from ultralytics.utils import USER_CONFIG_DIR

    own = Path(USER_CONFIG_DIR) / Path(font).name
    return str(own) if own.is_file() else str(font_entry(font).fname)


def font_entry(font: str) -> Any:
    """The entry in matplotlib's list of installed fonts that does for a wanted one.

    Raises:
        FileNotFoundError: There is none.
    """
    from matplotlib import font_manager

    wanted = _UNICODE_FONTS if "Unicode" in str(font) else (Path(font).stem, "DejaVu Sans")
    known = font_manager.fontManager.ttflist
    for name in wanted:
        for entry in known:
            if (name in entry.name or name in Path(entry.fname).name) and Path(entry.fname).is_file():
                return entry
    msg = f"no font like {font} on this machine"
    raise FileNotFoundError(msg)


def _replacements() -> list[tuple[ModuleType, str, Any]]:
    return [
        (data_utils, "check_image", _read_shape),
        (data_utils, "check_font", lambda *_args, **_kwargs: None),
        (build_module, "YOLODataset", _ImagesThemselves),
        (dataset_module, "verify_image_label", read_checked_labels),
        (dataset_module, "load_dataset_cache_file", _no_cache),
        (dataset_module, "save_dataset_cache_file", _keep_in_memory),
        (plotting_module, "check_font", local_font),
    ]


def _let_curves_show_any_script() -> None:
    """Give matplotlib a font to fall back on; it takes one glyph after another from the list."""
    import matplotlib as mpl

    families = mpl.rcParams["font.family"]
    with contextlib.suppress(FileNotFoundError):
        name = font_entry("Arial.Unicode.ttf").name
        if name not in families:
            mpl.rcParams["font.family"] = [*families, name]


def _read_shape(im_file: str) -> tuple[str, tuple[int, int]]:
    """Ultralytics' ``check_image`` without the repair: the dataset's check has decoded every image before."""
    with Image.open(im_file) as image:
        width, height = exif_size(image)
    if min(width, height) < 10:
        msg = f"image size {(height, width)} <10 pixels"
        raise ValueError(msg)
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
