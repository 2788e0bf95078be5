"""A small scene whose objects are known: what the tests of tracking are fed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from guardianflow.evaluation.mot.sequences import Tracks
from guardianflow.vision.pipeline.stage_times import StageRow, StageTimes


@dataclass
class Found:
    """Detections of one frame."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def nothing() -> Found:
    return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


def found(*boxes: tuple[float, float, float, float], score: float = 0.9, label: int = 0) -> Found:
    count = len(boxes)
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.full(count, score), np.full(count, label))


def walkers(frames: int = 60, *, noise: float = 0.0, seed: int = 0) -> list[Found]:
    """One walks right, one left; the first is hidden from frame 25 to 32."""
    rng = np.random.default_rng(seed)
    scene = []
    for frame in range(frames):
        boxes = [
            (20.0 + 3 * frame, 40.0, 50.0 + 3 * frame, 110.0),
            (280.0 - 3 * frame, 140.0, 310.0 - 3 * frame, 210.0),
        ]
        seen = boxes[1:] if 25 <= frame <= 32 else boxes
        scene.append(found(*(tuple(np.array(box) + rng.normal(0, noise, 4)) for box in seen)))
    return scene


def truth_of(scene: list[Found]) -> Tracks:
    """Labelled tracks of :func:`walkers` without noise: 1 walks in the upper half, 2 in the lower; class 1."""
    frame = np.repeat(np.arange(len(scene)), [len(part.scores) for part in scene])
    box = np.concatenate([part.boxes for part in scene]).astype(float)
    return Tracks(frame=frame, id=np.where(box[:, 1] < 120, 1, 2), box=box)


@dataclass
class Replay:
    """A pipeline that finds what it is told to, in order."""

    scene: list[Found]
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def stages(self) -> StageTimes:
        return StageTimes.from_rows([StageRow(forward=1.0)] * len(self.shapes), wall_s=1.0)

    def detect(self, images: Iterable[Any]) -> Iterator[Found]:
        for place, image in enumerate(images):
            self.shapes.append(image.shape)
            yield self.scene[place]


def picture(number: int, *, width: int = 320, height: int = 240) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    cv2.rectangle(image, (20 + 3 * number, 40), (50 + 3 * number, 110), (30, 200, 240), -1)
    return image


def write_images(folder: Path, numbers: Iterable[int], *, name: str = "{:06d}.jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / name.format(number)).write_bytes(cv2.imencode(".jpg", picture(number))[1].tobytes())
    return folder


def write_video(file: Path, frames: int, *, fps: float = 20.0) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), fps, (320, 240))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(picture(number))
    writer.release()
    return file


def cut_video(file: Path, target: Path, *, keep: float) -> Path:
    """The same video with its later pictures' bytes gone: its index still names all of them."""
    content = bytearray(file.read_bytes())
    start, size = content.index(b"mdat"), len(content)
    end = start - 4 + int.from_bytes(content[start - 4 : start], "big")
    first = start + 4 + int((min(end, size) - start) * keep)
    content[first:end] = bytes(end - first)
    target.write_bytes(bytes(content))
    return target
