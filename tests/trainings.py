"""Real trainings, as small as they get: a data set of a few scenes, and one training that many tests look at."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricRecord, SaveReport
from guardianflow.runners.training.result import TrainingResult
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.scenes.scenes import SceneConfig, generate_images
from guardianflow.vision.training.training import TrainingJob

ODD = "현장 [1] #2 100%"
"""A name with what breaks careless code: a blank, Korean letters, and signs of globs, URLs and formats."""
NAMES = ("사람", "차량 vehicle")


def write_tiny_data(folder: Path, *, images: int = 20, names: Iterable[str] = ("person", "vehicle")) -> Path:
    """A dataset of small scenes with class names of one's own; returns its data.yaml.

    It has no ``path:``, for which Ultralytics and we both take the folder that it lies in.
    """
    scenes = generate_images(folder, images=images, config=SceneConfig(imgsz=96, people=(1, 2), vehicles=(1, 2)))
    listed = "".join(f"  {index}: {name}\n" for index, name in enumerate(names))
    scenes.data_yaml.write_text(f"train: images/train\nval: images/val\nnames:\n{listed}", encoding="utf-8")
    return scenes.data_yaml


def copy_data(data_yaml: Path, target: Path) -> Path:
    """A writable copy; returns its data.yaml."""
    shutil.copytree(data_yaml.parent, target)
    return target / data_yaml.name


def folder_digest(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder with its content's hash and its time: what "untouched" means."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def tiny_job(data_yaml: Path, folder: Path, **changes: Any) -> TrainingJob:
    """A training of seconds, without pictures."""
    values: dict[str, Any] = {
        "model": "yolo11n.yaml",
        "data_yaml": data_yaml,
        "folder": folder / "training",
        "log_file": folder / "training.log",
        "epochs": 1,
        "batch": 8,
        "imgsz": 64,
        "device": "cpu",
        "options": {"plots": False},
    }
    return TrainingJob(**{**values, **changes})


def tiny_runner(data_yaml: Path, settings: Settings, **changes: Any) -> TrainingRunner:
    """A runner for a training of seconds."""
    values: dict[str, Any] = {"epochs": 1, "batch": 8, "imgsz": 64, "device": "cpu", "options": {"plots": False}}
    return TrainingRunner("시험 trial", "yolo11n.yaml", data_yaml, settings=settings, **{**values, **changes})


class ListSink:
    """A sink that keeps what it gets, by event, as a store does."""

    def __init__(self) -> None:
        self.records: dict[str, MetricRecord] = {}

    def save_metrics(self, records: Iterable[MetricRecord]) -> SaveReport:
        stored = duplicates = 0
        for record in records:
            duplicates += record.event_id in self.records
            stored += record.event_id not in self.records
            self.records.setdefault(record.event_id, record)
        return SaveReport(stored=stored, duplicates=duplicates)

    def figures(self, stage: str) -> dict[str, float]:
        """Metric → value of one epoch, or of ``"final"``."""
        return {item.metric: item.value for item in self.records.values() if item.tags["epoch"] == stage}


@dataclass(frozen=True)
class Trained:
    """The training that many tests look at."""

    data_yaml: Path
    settings: Settings
    result: TrainingResult
    sink: ListSink
    data_before: Mapping[str, tuple[str, int]] = field(repr=False)


def train_for_all(root: Path, mlflow_template: Path) -> Trained:
    """Two epochs with everything on, in folders with odd names and with Korean classes."""
    data_yaml = write_tiny_data(root / ODD / "data", names=NAMES)
    before = folder_digest(data_yaml.parent)
    work_dir = root / ODD / "work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_template, work_dir / "mlflow.db")
    settings = Settings(work_dir=work_dir)
    sink = ListSink()
    runner = TrainingRunner("시험 trial", "yolo11n.yaml", data_yaml, 2, 8, 64, "cpu", 0, settings=settings, sink=sink)
    return Trained(data_yaml, settings, runner.run(), sink, before)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 16 training and 4 validation scenes; read only."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Trained:
    """One finished training, made once for the session."""
    return train_for_all(tmp_path_factory.mktemp("trained"), mlflow_sqlite_template)


@pytest.fixture
def training_settings(tmp_path: Path, mlflow_sqlite_template: Path) -> Settings:
    """Settings of a work folder of the test's own, with MLflow's tables made already."""
    work_dir = tmp_path / "작업 work"
    work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, work_dir / "mlflow.db")
    return Settings(work_dir=work_dir)
