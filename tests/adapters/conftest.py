"""Fixtures of the tests of what people already have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from guardianflow.core.config import Settings

_REAL_DATA = Path(os.environ.get("GUARDIANFLOW_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


@pytest.fixture(scope="session")
def some_photographs() -> Callable[[Path, int], Path]:
    """Copies some of the real photographs into a folder and returns its data.yaml: Ultralytics writes beside labels."""
    source = _REAL_DATA / "bccd"
    if not (source / "data.yaml").is_file():
        pytest.skip(
            f"no real photographs at {source}; set GUARDIANFLOW_REAL_DATA to a folder that holds bccd/data.yaml"
        )

    def copy(target: Path, count: int) -> Path:
        names = yaml.safe_load((source / "data.yaml").read_text(encoding="utf-8"))["names"]
        for split in ("train", "val"):
            for image in sorted((source / "images" / split).iterdir())[:count]:
                label = source / "labels" / split / f"{image.stem}.txt"
                for path in (image, label):
                    place = target / path.relative_to(source)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place)
        content = {"path": str(target), "train": "images/train", "val": "images/val", "names": names}
        (target / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return target / "data.yaml"

    return copy


@pytest.fixture
def settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    work = tmp_path / "작업 work"
    work.mkdir()
    (work / "mlflow.db").write_bytes(mlflow_sqlite_template.read_bytes())
    return Settings(work_dir=work, gate="off")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "사람의 scripts"
    place.mkdir()
    return place
