"""A small dataset that is written per test, and the real photographs where they are at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

_REAL_DATA = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
_HOW_TO_GET_IT = (
    f"the real photographs are not at {_REAL_DATA}/bccd; "
    f"set GUARDIANFLOW_REAL_DATA to a folder that holds bccd/data.yaml"
)
ROW = "0 0.5 0.5 0.25 0.25\n"


def write_image(file: Path, *, seed: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A noise image that differs by seed; its content is real enough for every decoder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    done, encoded = cv2.imencode(file.suffix, pixels)
    assert done
    file.write_bytes(encoded.tobytes())
    return file


def write_dataset(
    root: Path,
    *,
    splits: Sequence[str] = ("train", "val"),
    images: int = 3,
    yaml: str | None = None,
    suffix: str = ".jpg",
) -> Path:
    """A dataset of two classes with one box an image; returns its data.yaml."""
    for number, split in enumerate(splits):
        for index in range(images):
            image = root / "images" / split / f"{split}_{index}{suffix}"
            write_image(image, seed=1000 * number + index)
            label = root / "labels" / split / f"{split}_{index}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(ROW)
    data_yaml = root / "data.yaml"
    entries = "".join(f"{split}: images/{split}\n" for split in splits)
    data_yaml.write_text(yaml if yaml is not None else f"path: .\n{entries}names: [person, car]\n", encoding="utf-8")
    return data_yaml


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small dataset below a folder with a blank and Korean letters in its name."""

    def make(name: str = "현장 site", **options: object) -> Path:
        return write_dataset(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture
def bccd() -> Path:
    """The data.yaml of 364 real photographs of blood cells; never written to."""
    data_yaml = _REAL_DATA / "bccd" / "data.yaml"
    if not data_yaml.is_file():
        pytest.skip(_HOW_TO_GET_IT)
    return data_yaml


@pytest.fixture
def bccd_copy(bccd: Path, tmp_path: Path) -> Path:
    """A writable copy of the real photographs."""
    target = tmp_path / "혈구 blood cells"
    shutil.copytree(bccd.parent, target, copy_function=shutil.copyfile)
    return target / "data.yaml"
