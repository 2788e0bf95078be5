"""Three generated sites, day and night: what the model is trained on, each camera's labelled sample, and live service.

The scenes are generated and the times of the live figures are invented. The figures are not: each is what the model
gave and took on these scenes on this machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from guardianflow import __version__
from guardianflow.core.metrics import MetricRecord
from guardianflow.core.registry import ModelVersion
from guardianflow.files.run_folder import write_text
from guardianflow.files.scratch import ScratchFolder
from guardianflow.scenes.scenes import SceneConfig, generate_images

if TYPE_CHECKING:
    from guardianflow.vision.pipeline.pipeline import Pipeline

__all__ = ["SILENT_CAMERA", "VIEWS", "DemoSites", "View", "picture_of", "service_figures"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_BEFORE = tuple(timedelta(minutes=minutes) for minutes in (*range(360, 60, -30), *range(60, 0, -10)))
_SILENT_FOR = timedelta(hours=3)
_IMAGES_A_REPORT = 3


@dataclass(frozen=True)
class View:
    """A camera of a site, by day or by night, and the scenes that stand for it."""

    site: str
    camera: str
    condition: str
    scene: str
    seed: int


VIEWS = (
    View("main gate", "gate-1", "day", "gate", 101),
    View("south gate", "gate-2", "day", "gate", 102),
    View("car park", "lot-1", "day", "car_park", 103),
    View("car park", "lot-1", "night", "car_park", 104),
)
"""In the order in which they are measured: the car park's night comes last."""

SILENT_CAMERA = "gate-2"


@dataclass(frozen=True)
class DemoSites:
    """Scenes of the demo below one folder.

    Attributes:
        root: The folder.
        images: Scenes to train on by day, half of each kind of site, a fifth of them for validation; two
            fifths as many by night.
        sample: Labelled scenes of each camera, four fifths of which it is measured on.
        seed: Of the training scenes.
    """

    root: Path
    images: int
    sample: int
    seed: int

    @property
    def data_yaml(self) -> Path:
        """What the demo's models are trained on; it grows when the night scenes are labelled."""
        return self.root / "data.yaml"

    def draw(self) -> str:
        """The training scenes by day and the samples; in words, what there is."""
        made = [self._training(scene, "day") for scene in ("gate", "car_park")]
        for view in VIEWS:
            generate_images(
                self.sample_of(view).parent,
                images=self.sample,
                config=SceneConfig(site=view.scene, condition=view.condition, seed=view.seed),
                splits={"train": 0.2, "val": 0.8},
            )
        self._list([name for name, _ in made])  # the night joins later, in every demo
        return f"{sum(count for _, count in made)} images to train on, {len(VIEWS)} samples of {self.sample * 4 // 5}"

    def label_the_night(self) -> str:
        """Night scenes of the car park join the training data; in words, what that makes of it."""
        name, count = self._training("car_park", "night")
        days = [self._training(scene, "day") for scene in ("gate", "car_park")]
        self._list([*(day for day, _ in days), name])
        return f"{count} labelled night scenes joined the {sum(count for _, count in days)} by day"

    def sample_of(self, view: View) -> Path:
        """The data.yaml of a camera's labelled sample."""
        return self.root / f"{view.camera}-{view.condition}-{__version__}-{self.sample}" / "data.yaml"

    def _training(self, scene: str, condition: str) -> tuple[str, int]:
        count = self.images // 2 if condition == "day" else self.images * 2 // 5
        name = f"{scene}-{condition}-{__version__}-{count}-{self.seed}"
        made = generate_images(
            self.root / name, images=count, config=SceneConfig(site=scene, condition=condition, seed=self.seed)
        )
        return name, sum(made.images.values())

    def _list(self, names: Sequence[str]) -> None:
        splits = {split: [f"{name}/images/{split}" for name in names] for split in ("train", "val")}
        lines = [f"{split}: [{', '.join(folders)}]" for split, folders in splits.items()]
        write_text(self.data_yaml, "\n".join([*lines, "names: {0: person, 1: vehicle}", ""]))


def service_figures(
    version: ModelVersion, model_file: Path, sites: DemoSites, *, imgsz: int, now: datetime, live: bool
) -> Iterator[MetricRecord]:
    """What a served version would report: it runs on each camera's scenes, and what that takes is what is told.

    Args:
        version: The version that serves.
        model_file: Its file here.
        sites: Where the scenes are.
        imgsz: Side of its input, in pixels.
        now: When the last report is made.
        live: A report a second until now; else some over six hours, of which one camera, which goes silent, misses
            the last three.
    """
    from guardianflow.vision.backends._base import BackendOptions
    from guardianflow.vision.backends.catalog import open_backend
    from guardianflow.vision.model_artifacts import read_model_file
    from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

    served = version.serving
    options = BackendOptions(precision=served.precision, imgsz=imgsz, compiled=False)
    ages = tuple(timedelta(seconds=step) for step in range(5, -1, -1)) if live else _BEFORE
    with open_backend(read_model_file(model_file), backend=served.backend, options=options) as backend:
        pipeline = Pipeline(backend, PipelineConfig(imgsz=imgsz, confidence=0.25, read_ahead=0))
        for view in VIEWS[:3]:
            pictures = cycle(sorted((sites.sample_of(view).parent / "images" / "val").iterdir()))
            _report(pipeline, pictures)  # the first ones warm up
            silent = view.camera == SILENT_CAMERA
            for age in ages:
                if silent and (live or age < _SILENT_FOR):
                    continue
                for metric, value in _report(pipeline, pictures).items():
                    yield MetricRecord(
                        now - age, metric, value, model=version.name, version=version.version, site=view.site,
                        camera=view.camera, task="detection", source="service", tags={"demo": "invented time"},
                    )  # fmt: skip


def _report(pipeline: Pipeline, pictures: Iterator[Path]) -> dict[str, float]:
    found = [pipeline.detect_one(next(pictures)) for _ in range(_IMAGES_A_REPORT)]
    times = sorted(row.total for _, row in found)
    scores = [float(score) for detections, _ in found for score in detections.scores]
    figures = {
        "latency_ms_p95": statistics.quantiles(times, n=20, method="inclusive")[-1],
        "objects_per_image": sum(len(detections) for detections, _ in found) / len(found),
    }
    return {**figures, "confidence_mean": statistics.fmean(scores)} if scores else figures


def picture_of(page: Path) -> Path | None:
    """A page as a PNG beside it, drawn by the browser that is here; ``None`` where none is, or it fails."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        return None
    picture = page.with_suffix(".png")
    with ScratchFolder("browser") as profile:
        flags = [
            "--headless",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-sync",
        ]
        flags += ["--disable-component-update", f"--user-data-dir={profile}", "--window-size=1400,640"]
        flags += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # it refuses root else
        words = [browser, *flags, f"--screenshot={picture}", page.as_uri()]
        try:
            subprocess.run(words, capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
    return picture if picture.is_file() else None
