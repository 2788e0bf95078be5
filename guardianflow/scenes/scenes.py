"""Generated site scenes: a labelled dataset, or a clip with tracked ground truth, from a seed.

A gate or a car park seen by a fixed camera; people and vehicles that hide each other, cast shadows
and come and go; day, night or fog. They serve demos, tests and benchmarks on machines without data:
what a model scores on them says nothing about a real site.

The same configuration gives the same bytes on one machine and one set of package versions, however
many workers draw.
"""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import InputError, InvalidNameError
from guardianflow.scenes.scene_config import CONDITION_NAMES, SITE_NAMES, SceneConfig, require_one_of, require_within

if TYPE_CHECKING:
    from guardianflow.scenes.scene_render import Frame

__all__ = [
    "CONDITION_NAMES",
    "LABELS",
    "MOT_CLASSES",
    "SITE_NAMES",
    "SceneClip",
    "SceneConfig",
    "SceneDataset",
    "generate_clip",
    "generate_images",
]

LABELS = ("person", "vehicle")
"""Class names by class id, as in the dataset's labels."""
MOT_CLASSES: Mapping[str, int] = {"person": 1, "vehicle": 3}
"""MOTChallenge's own class numbers: 1 is a pedestrian, 3 a car."""

Progress = Callable[[int, int], None]

_GENERATOR = 1  # raise it whenever the same configuration would give other pictures
_IMAGES, _CLIP, _CLIP_NOISE = 0, 1, 2  # streams of chance under one seed
_SMALLEST_SIDE = 3  # pixels; a sliver thinner than this is not labelled
_SPLITS: Mapping[str, float] = {"train": 0.8, "val": 0.2}


@dataclass(frozen=True)
class SceneDataset:
    """A generated dataset in Ultralytics' layout.

    Attributes:
        folder: Where it lies.
        data_yaml: What a training is given.
        images: Number of images in each split.
        boxes: Number of labelled objects over all splits.
        reused: Whether it was there already.
    """

    folder: Path
    data_yaml: Path
    images: Mapping[str, int]
    boxes: int
    reused: bool


@dataclass(frozen=True)
class SceneClip:
    """A generated clip in MOTChallenge's layout.

    Attributes:
        folder: Where it lies; its name is the sequence's name.
        images: Folder of the frames, ``000001.jpg`` and so on.
        ground_truth: ``gt/gt.txt``.
        seqinfo: ``seqinfo.ini``.
        frames: Number of frames.
        fps: Frames a second.
        tracks: Number of movers.
        boxes: Number of rows in the ground truth.
        reused: Whether it was there already.
    """

    folder: Path
    images: Path
    ground_truth: Path
    seqinfo: Path
    frames: int
    fps: int
    tracks: int
    boxes: int
    reused: bool


def generate_images(
    target: Path | str,
    *,
    images: int = 500,
    config: SceneConfig | None = None,
    splits: Mapping[str, float] = _SPLITS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SceneDataset:
    """Make a dataset for detection: images, YOLO labels and a ``data.yaml``.

    Every image is drawn anew from the seed and its number, so no two splits share one. Boxes are
    tight around the visible pixels of each mover, without its shadow.

    Args:
        target: Folder to make. When it holds the same dataset already, that is used.
        images: Number of images over all splits, at least one a split.
        config: What they look like; default :class:`SceneConfig`.
        splits: Split name (``train``, ``val``, ``test``) → share; shares add up to 1.
        workers: Threads; default is the number of usable CPUs, at most 8.
        progress: Called with (images done, images in all).

    Returns:
        Where the dataset lies and what is in it.

    Raises:
        InputError: A value is out of range, or ``target`` holds something else, which is never
            overwritten.
    """
    from guardianflow.scenes.scene_output import publish

    config, target = config or SceneConfig(), Path(target)
    counts = _split_counts(images, splits)
    recipe = {"generator": _GENERATOR, "kind": "images", "config": asdict(config), "splits": counts}

    def build(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
        return _write_images(folder, counts, config, _workers(workers), progress)

    manifest, reused = publish(target, recipe, build)
    return SceneDataset(target, target / "data.yaml", counts, manifest.facts["boxes"], reused)


def generate_clip(
    target: Path | str,
    *,
    frames: int = 150,
    fps: int = 15,
    config: SceneConfig | None = None,
    name: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SceneClip:
    """Make a clip for tracking: frames and ground truth under ``target/name``.

    Rows of ``gt.txt`` are ``frame, id, left, top, width, height, conf, class, visibility``. Boxes
    are those of the whole silhouette, clipped to the image, as MOTChallenge has them; pixels are
    counted from 0. ``conf`` is 0, which evaluation ignores, where less than
    ``config.min_visibility`` is visible. A mover keeps its id while it is hidden.

    Args:
        target: Folder that holds the sequence's folder.
        frames: Number of frames, 2–100000.
        fps: Frames a second, 1–240.
        config: What it looks like; default :class:`SceneConfig`.
        name: Sequence name; default ``<site>-<condition>-<seed>``.
        workers: Threads; default is the number of usable CPUs, at most 8.
        progress: Called with (frames done, frames in all).

    Returns:
        Where the clip lies and what is in it.

    Raises:
        InputError: A value is out of range, or ``target/name`` holds something else.
        InvalidNameError: ``name`` can't be a folder's name.
    """
    from guardianflow.scenes.scene_output import publish

    config = config or SceneConfig()
    require_within("frames", frames, 2, 100_000, whole=True)
    require_within("fps", fps, 1, 240, whole=True)
    name = _sequence_name(f"{config.site}-{config.condition}-{config.seed}" if name is None else name)
    folder = Path(target) / name
    recipe = {
        "generator": _GENERATOR, "kind": "clip", "config": asdict(config), "frames": frames, "fps": fps, "name": name,
    }  # fmt: skip

    def build(staging: Path) -> tuple[dict[str, str], dict[str, int]]:
        return _write_clip(staging, name, config, frames=frames, fps=fps, workers=_workers(workers), progress=progress)

    manifest, reused = publish(folder, recipe, build)
    return SceneClip(
        folder,
        folder / "img1",
        folder / "gt" / "gt.txt",
        folder / "seqinfo.ini",
        frames,
        fps,
        manifest.facts["tracks"],
        manifest.facts["boxes"],
        reused,
    )


@dataclass
class _Writer:
    """Writes files under one folder and remembers their hashes."""

    folder: Path
    hashes: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.hashes[name] = hashlib.sha256(content).hexdigest()


def _write_images(
    folder: Path, counts: Mapping[str, int], config: SceneConfig, workers: int, progress: Progress | None
) -> tuple[dict[str, str], dict[str, int]]:
    from guardianflow.scenes.scene_stage import build_stage

    build_stage(config.site, config.condition, config.imgsz)  # once, before the threads want it
    writer = _Writer(folder)
    jobs = [split for split, count in counts.items() for _ in range(count)]

    def draw(index: int) -> int:
        frame = _draw_image(config, index)
        rows = _yolo_rows(frame, config)
        stem = f"{jobs[index]}/{index:06d}"
        writer.write(f"images/{stem}.jpg", _jpeg(frame, config))
        writer.write(f"labels/{stem}.txt", "".join(rows).encode())
        return len(rows)

    boxes = sum(_run(draw, len(jobs), workers, progress))
    writer.write("data.yaml", _data_yaml(counts).encode())
    return writer.hashes, {"images": len(jobs), "boxes": boxes}


def _draw_image(config: SceneConfig, index: int) -> Frame:
    import numpy as np

    from guardianflow.scenes.scene_light import random_exposure, random_light
    from guardianflow.scenes.scene_motion import place_clutter, populate
    from guardianflow.scenes.scene_render import render_frame
    from guardianflow.scenes.scene_stage import build_stage

    stage = build_stage(config.site, config.condition, config.imgsz)
    rng = np.random.default_rng([config.seed, _IMAGES, index])
    light, exposure = random_light(rng, stage.condition), random_exposure(rng)
    movers = populate(rng, stage.site, stage.camera, people=config.people, vehicles=config.vehicles)
    clutter = [stage.stand(prop, light) for prop in place_clutter(rng, stage.site, movers, pieces=config.clutter)]
    return render_frame(stage, movers, clutter, light, exposure, rng, noise=config.noise)


def _write_clip(
    folder: Path, name: str, config: SceneConfig, *, frames: int, fps: int, workers: int, progress: Progress | None
) -> tuple[dict[str, str], dict[str, int]]:
    import numpy as np

    from guardianflow.scenes.scene_light import random_exposure, random_light
    from guardianflow.scenes.scene_motion import place_clutter, populate
    from guardianflow.scenes.scene_render import render_frame
    from guardianflow.scenes.scene_stage import build_stage

    stage = build_stage(config.site, config.condition, config.imgsz)
    rng = np.random.default_rng([config.seed, _CLIP])
    light, exposure = random_light(rng, stage.condition), random_exposure(rng)
    movers = populate(
        rng, stage.site, stage.camera, people=config.people, vehicles=config.vehicles, frames=frames, fps=fps
    )
    clutter = [stage.stand(prop, light) for prop in place_clutter(rng, stage.site, movers, pieces=config.clutter)]
    writer = _Writer(folder)

    def draw(index: int) -> list[tuple[int, str]]:
        noise = np.random.default_rng([config.seed, _CLIP_NOISE, index])
        shot = render_frame(stage, movers, clutter, light, exposure, noise, frame=index, noise=config.noise)
        writer.write(f"img1/{index + 1:06d}.jpg", _jpeg(shot, config))
        return _mot_rows(shot, index + 1, config)

    rows = [row for part in _run(draw, frames, workers, progress) for row in part]
    writer.write("gt/gt.txt", "".join(text for _, text in rows).encode())
    writer.write("seqinfo.ini", _seqinfo(name, frames, fps, config).encode())
    return writer.hashes, {"frames": frames, "boxes": len(rows), "tracks": len({identity for identity, _ in rows})}


def _run(job: Callable[[int], Any], count: int, workers: int, progress: Progress | None) -> Iterable[Any]:
    """Run numbered jobs in threads (OpenCV and numpy let go of the interpreter lock), in order."""
    results = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scenes")
    try:
        for done, result in enumerate(pool.map(job, range(count)), start=1):
            results.append(result)
            if progress is not None:
                progress(done, count)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results


def _jpeg(frame: Frame, config: SceneConfig) -> bytes:
    import cv2

    # imencode, not imwrite: the latter can't open some paths beyond ASCII on Windows.
    _, coded = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality])
    return bytes(coded)


def _yolo_rows(frame: Frame, config: SceneConfig) -> list[str]:
    rows, size = [], config.imgsz
    for seen in frame.seen:
        if seen.box is None or seen.visibility < config.min_visibility:
            continue
        left, top, right, bottom = seen.box
        if min(right - left, bottom - top) < _SMALLEST_SIDE:
            continue
        values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        rows.append(f"{LABELS.index(seen.label)} " + " ".join(f"{value / size:.6f}" for value in values) + "\n")
    return rows


def _mot_rows(frame: Frame, number: int, config: SceneConfig) -> list[tuple[int, str]]:
    rows = []
    for seen in frame.seen:
        left, top, right, bottom = seen.whole
        counts = int(seen.box is not None and seen.visibility >= config.min_visibility)
        row = f"{number},{seen.identity},{left},{top},{right - left},{bottom - top},{counts}"
        rows.append((seen.identity, f"{row},{MOT_CLASSES[seen.label]},{seen.visibility:.4f}\n"))
    return rows


def _data_yaml(counts: Mapping[str, int]) -> str:
    # No `path:` key: Ultralytics then counts from this file's folder. `path: .` would be the cwd.
    lines = [f"# Generated site scenes; {len(LABELS)} classes. Paths count from this file's folder."]
    lines += [f"{split}: images/{split}" for split in counts]
    lines += ["names:", *(f"  {number}: {label}" for number, label in enumerate(LABELS))]
    return "\n".join(lines) + "\n"


def _seqinfo(name: str, frames: int, fps: int, config: SceneConfig) -> str:
    return (
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate={fps}\nseqLength={frames}\n"
        f"imWidth={config.imgsz}\nimHeight={config.imgsz}\nimExt=.jpg\n"
    )


def _split_counts(images: int, splits: Mapping[str, float]) -> dict[str, int]:
    require_within("images", images, 2, 1_000_000, whole=True)
    for split, share in splits.items():
        require_one_of("split", split, ("train", "val", "test"))
        require_within(f"the share of split {split}", share, 0, 1)
    if not {"train", "val"} <= set(splits) or not math.isclose(sum(splits.values()), 1.0, abs_tol=1e-6):
        raise InputError(
            f"splits must name train and val and add up to 1, not {dict(splits)!r}. Try {dict(_SPLITS)!r}."
        )
    if images < len(splits):
        raise InputError(f"images must be at least one a split ({len(splits)}), not {images}. Ask for more images.")
    counts = {split: max(1, math.floor(images * share + 1e-9)) for split, share in splits.items()}
    largest = max(counts, key=lambda split: counts[split])
    counts[largest] += images - sum(counts.values())
    return counts


def _workers(workers: int | None) -> int:
    if workers is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, 8)
    require_within("workers", workers, 1, 256, whole=True)
    return workers


def _sequence_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    forbidden = {"/", "\\", ":", "*", "?", '"', "<", ">", "|"}
    bad = [c for c in name if c in forbidden or unicodedata.category(c).startswith("C")]
    if bad or name.strip(" .") != name or not 1 <= len(name.encode()) <= 150:
        raise InvalidNameError(
            f"a clip's name must be a plain folder name of 1–150 bytes without / \\ : * ? \" < > | or control "
            f"characters, and not begin or end with a dot or space; {name!r} is not. Try 'gate-day'."
        )
    return name
