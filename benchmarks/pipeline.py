"""What a detection costs besides the forward pass: our pipeline beside Ultralytics' predictor.

    python benchmarks/pipeline.py [--weights best.pt --images FOLDER] [--classes 80] [--repeats 7] [--short]

Both get the same decoded 640x480 photographs and the same raw outputs. Theirs is timed around
`DetectionPredictor.preprocess` and `.postprocess` alone; ours is the whole `Pipeline.detect_one` with a
backend that hands out the stored output, loop and bookkeeping included. They take turns, pass by pass over
the images: torch's threads spin for a while after each call, and would burden whoever comes right after.

Ultralytics has two suppressions: torchvision's where something has imported torchvision (`predict` on a .pt
has), else a loop of its own. And it has two shapes: the square (rect=False), for which the raw
outputs are the same, and its default for a .pt file, 640x480 (a quarter fewer pixels and anchors than the
square). The goal, at most half of its time, is held against its fastest: torchvision on the square.

Without --weights the outputs are made up: 15 objects with 12 anchors above 0.25 each and a tail above 0.001
in a tenth of all anchors. With --weights they are the model's, and the wall clock of both from file to
detection with the same torch forward is shown, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision  # noqa: F401 - see `own_suppression`

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import Backend, BackendInfo, BackendOptions
from guardianflow.vision.pipeline.decoding import decode_image
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

GOAL = 0.5
FASTEST = "theirs, square, torchvision"
ANCHORS = 84 / 64**2  # per pixel: strides 8, 16 and 32


class Stored(Backend):
    """Hands out one stored output."""

    def __init__(self) -> None:
        super().__init__()
        self.output = np.zeros((1, 5, 1), np.float32)

    @property
    def info(self) -> BackendInfo:
        return BackendInfo("stored", "", "memory", "fp32", "fp32", (0, 3, 0, 0), 0, 1)

    def forward(self, images: np.ndarray) -> np.ndarray:  # noqa: ARG002 - its answer is stored
        return self.output

    def close(self) -> None:
        pass


def photographs(folder: Path | None, count: int) -> list[np.ndarray]:
    """640x480 images: from a folder, or smooth noise."""
    if folder is not None:
        images = [decode_image(path) for path in sorted(folder.iterdir())[:count]]
        return [cv2.resize(image, (640, 480)) for image in images]
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (640, 480)) for _ in range(count)]


def made_up(height: int, width: int, classes: int, seed: int) -> np.ndarray:
    """A raw head as a trained model gives it: (1, 4 + classes, anchors)."""
    rng = np.random.default_rng(seed)
    anchors = int(height * width * ANCHORS)
    raw = np.zeros((1, 4 + classes, anchors), np.float32)
    raw[0, :4] = rng.uniform(20, min(height, width), (4, anchors))
    raw[0, 4:] = rng.uniform(0, 0.0009, (classes, anchors))
    tail = rng.choice(anchors, anchors // 10, replace=False)
    raw[0, 4 + rng.integers(0, classes, len(tail)), tail] = rng.beta(0.3, 8, len(tail))
    for _ in range(15):
        near = rng.choice(anchors, 12, replace=False)
        box = np.array([*rng.uniform(50, min(height, width) - 50, 2), *rng.uniform(20, 100, 2)])
        raw[0, :4, near] = box + rng.normal(0, 2, (12, 4))
        raw[0, 4 + rng.integers(0, classes), near] = rng.uniform(0.3, 0.9, 12)
    return raw


def predictor(weights: Path | None, imgsz: int, confidence: float, *, rect: bool) -> Any:
    """Ultralytics' predictor, ready for `preprocess` and `postprocess`."""
    ultralytics = import_ultralytics()
    from ultralytics.models.yolo.detect import DetectionPredictor

    options = {"imgsz": imgsz, "conf": confidence, "iou": 0.7, "max_det": 300, "rect": rect, "device": "cpu"}
    made = DetectionPredictor(overrides={**options, "save": False, "verbose": False})
    made.setup_model(ultralytics.YOLO(str(weights or "yolo11n.yaml")).model, verbose=False)
    made.imgsz = [imgsz, imgsz]
    return made


@contextlib.contextmanager
def own_suppression() -> Iterator[None]:
    """Ultralytics looks in `sys.modules` for torchvision; without it, it takes its own loop."""
    module = sys.modules.pop("torchvision")
    try:
        yield
    finally:
        sys.modules["torchvision"] = module


def milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def raw_outputs(made: Any, images: list[np.ndarray], weights: Path | None, classes: int) -> list[np.ndarray]:
    """What the model makes of the predictor's own input, or what stands for it."""
    outputs = []
    with torch.inference_mode():
        for place, image in enumerate(images):
            tensor = made.preprocess([image])
            if weights is None:
                outputs.append(made_up(*tensor.shape[2:], classes, place))
            else:
                output = made.model(tensor)
                outputs.append((output[0] if isinstance(output, (list, tuple)) else output).numpy().copy())
    return outputs


def contest(
    weights: Path | None, images: list[np.ndarray], *, imgsz: int, confidence: float, classes: int, repeats: int
) -> dict[str, tuple[float, float, float]]:
    """Name → median over the images of each repeat: its median, lowest and highest, in ms."""
    square = predictor(weights, imgsz, confidence, rect=False)
    rect = predictor(weights, imgsz, confidence, rect=True)
    outputs = {id(made): raw_outputs(made, images, weights, classes) for made in (square, rect)}
    config = PipelineConfig(imgsz=imgsz, confidence=confidence, multi_label=False, read_ahead=0)
    stored = Stored()
    ours = Pipeline(stored, config)

    def theirs(made: Any, place: int) -> Callable[[], object]:
        made.batch = (["image.jpg"], [images[place]], [""])
        preds = torch.from_numpy(outputs[id(made)][place].copy())

        def act() -> object:
            with torch.inference_mode():
                return made.postprocess(preds, made.preprocess([images[place]]), [images[place]])

        return act

    def mine(place: int) -> Callable[[], object]:
        stored.output = outputs[id(square)][place]
        return lambda: ours.detect_one(images[place])

    def own_loop(made: Any, place: int) -> Callable[[], object]:
        act = theirs(made, place)

        def without() -> object:
            with own_suppression():
                return act()

        return without

    contestants: dict[str, Callable[[int], Callable[[], object]]] = {
        "ours": mine,
        FASTEST: partial(theirs, square),
        "theirs, 640x480, torchvision": partial(theirs, rect),
        "theirs, square, own loop": partial(own_loop, square),
        "theirs, 640x480, own loop": partial(own_loop, rect),
    }
    medians: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        for name, prepare in contestants.items():
            times = [milliseconds(prepare(place)) for place in range(len(images))]
            if repeat:  # the first is the warm-up
                medians.setdefault(name, []).append(statistics.median(times))
    return {name: (statistics.median(values), min(values), max(values)) for name, values in medians.items()}


def end_to_end(weights: Path, images: list[np.ndarray], *, imgsz: int, repeats: int) -> None:
    """Images per second from JPEG to detections, the same torch forward in both."""
    from guardianflow.vision.backends.catalog import open_backend
    from guardianflow.vision.model_artifacts import read_model_file

    model = import_ultralytics().YOLO(str(weights))
    options = {"imgsz": imgsz, "conf": 0.25, "rect": False, "device": "cpu", "verbose": False, "stream": True}
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{place:04}.jpg" for place in range(len(images))]
        for file, image in zip(files, images, strict=True):
            cv2.imwrite(str(file), image)
        opened = BackendOptions(device="cpu", imgsz=imgsz)
        with open_backend(read_model_file(weights), backend="torch", options=opened) as backend:
            ours = Pipeline(backend, PipelineConfig(imgsz=imgsz, confidence=0.25, multi_label=False))
            for repeat in range(repeats + 1):
                mine = milliseconds(lambda: list(ours.detect(files)))
                yours = milliseconds(lambda: list(model.predict(folder, **options)))
                if repeat:
                    rates["ours"].append(len(files) * 1000 / mine)
                    rates["theirs"].append(len(files) * 1000 / yours)
    stages = ours.stages.to_dict()["stages"]
    print(f"end to end at {imgsz}, confidence 0.25, torch on the CPU, images per second:")
    for name, values in rates.items():
        print(f"  {name:30} {statistics.median(values):8.1f}   ({min(values):.1f}–{max(values):.1f})")
    print("  ours by stage, p50 ms:", ", ".join(f"{name} {figures['p50_ms']:.2f}" for name, figures in stages.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a trained .pt: its outputs instead of made-up ones")
    parser.add_argument("--images", type=Path, help="folder of photographs; each is brought to 640x480")
    parser.add_argument("--classes", type=int, default=80, help="of the made-up outputs")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--short", action="store_true", help="few images and repeats: to see that it runs")
    asked = parser.parse_args()
    count, repeats = (6, 2) if asked.short else (asked.count, asked.repeats)
    images = photographs(asked.images, count)
    print(f"{len(images)} images, {repeats} repeats, ms per image; load average {os.getloadavg()[0]:.1f}")
    missed = False
    for imgsz in (640, 320):
        for confidence in (0.25, 0.001):
            found = contest(
                asked.weights, images, imgsz=imgsz, confidence=confidence, classes=asked.classes, repeats=repeats
            )
            print(f"imgsz {imgsz}, confidence {confidence}")
            for name, (median, low, high) in found.items():
                ratio = found["ours"][0] / median
                goal = ""
                if name == FASTEST:
                    goal = f"   goal ≤ {GOAL}: {'met' if ratio <= GOAL else 'MISSED'}"
                    missed |= ratio > GOAL
                shown = "" if name == "ours" else f"   ours / theirs {ratio:.2f}{goal}"
                print(f"  {name:30} {median:8.3f}   ({low:.3f}–{high:.3f}){shown}")
    if asked.weights is not None:
        for imgsz in (640, 320):
            end_to_end(asked.weights, images, imgsz=imgsz, repeats=2 if asked.short else 3)
    print("goal missed somewhere" if missed else "goal met everywhere")


if __name__ == "__main__":
    main()
