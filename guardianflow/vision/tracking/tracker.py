"""Ultralytics' multi-object trackers, fed with the detections of any backend."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from guardianflow._imports import is_installed
from guardianflow._plugins import Registry
from guardianflow.exceptions import InputError, MissingDependencyError
from guardianflow.vision._ultralytics import import_ultralytics, package_folder

__all__ = ["TRACKERS", "DetectedBoxes", "Tracker", "TrackerSpec", "Tracks", "tracker_options"]

DEFAULT_FPS = 30.0
"""The frame rate that the trackers' own ``track_buffer`` is meant for."""

_MAX_BUFFER = 100_000
_CAMERA_MOTION = ("none", "sparseOptFlow", "orb", "sift", "ecc")
_APPEARANCE = ("with_reid", "model")
_AT_LEAST_ONE = ("delta_t", "min_track_len")

# Trackers of other packages may count their ids in a class attribute that all of them share.
_shared_count = threading.Lock()


class DetectedBoxes(Protocol):
    """What a tracker is given of a frame; ``ImageDetections`` of the pipeline is one.

    Attributes:
        boxes: (n, 4), x1 y1 x2 y2 in pixels of the original image.
        scores: (n,), 0–1.
        labels: (n,), class ids.
    """

    @property
    def boxes(self) -> npt.NDArray[Any]: ...  # noqa: D102 - said above
    @property
    def scores(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def labels(self) -> npt.NDArray[Any]: ...  # noqa: D102


@dataclass(frozen=True)
class TrackerSpec:
    """A tracker that can be chosen by name.

    Attributes:
        name: As users write it.
        title: As its authors write it, with where it was published.
        target: ``"module:Class"`` with Ultralytics' interface: ``Class(args)``, ``update(results, img)``.
        config: YAML file of its options: a path, or a file's name among Ultralytics' own.
    """

    name: str
    title: str
    target: str
    config: str


TRACKERS: Registry[TrackerSpec] = Registry("tracker", {}, group="guardianflow.trackers")
"""Name → :class:`TrackerSpec`."""

for _spec in (
    TrackerSpec(
        "bytetrack", "ByteTrack (Zhang et al., ECCV 2022)",
        "ultralytics.trackers.byte_tracker:BYTETracker", "bytetrack.yaml",
    ),
    TrackerSpec(
        "botsort", "BoT-SORT (Aharon et al., 2022)",
        "ultralytics.trackers.bot_sort:BOTSORT", "botsort.yaml",
    ),
    TrackerSpec(
        "ocsort", "OC-SORT (Cao et al., CVPR 2023)",
        "ultralytics.trackers.oc_sort:OCSORT", "ocsort.yaml",
    ),
    TrackerSpec(
        "deepocsort", "Deep OC-SORT (Maggiolino et al., ICIP 2023), without appearance",
        "ultralytics.trackers.deep_oc_sort:DeepOCSORT", "deepocsort.yaml",
    ),
    TrackerSpec(
        "fasttrack", "FastTracker (2025), made for occlusions",
        "ultralytics.trackers.fast_tracker:FASTTracker", "fasttrack.yaml",
    ),
    TrackerSpec(
        "tracktrack", "TrackTrack (Shim et al., CVPR 2025)",
        "ultralytics.trackers.track_tracker:TRACKTRACK", "tracktrack.yaml",
    ),
):  # fmt: skip
    TRACKERS.register(_spec.name, _spec)


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks seen in one frame, in the order of their ids.

    Attributes:
        frame: Counted from 1.
        ids: int64 (n,), from 1; an id stands for one object of one sequence.
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels of the original image: the tracker's own estimate, which
            may reach over the image's edge.
        scores: float32 (n,), of the detections behind them.
        labels: int32 (n,), of the detections behind them.
        detections: int32 (n,), index of the detection behind each.
    """

    frame: int
    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    detections: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)


class Tracker:
    """Gives the objects of one sequence their ids, frame by frame.

    Nothing is random and nothing is shared: the same frames give the same tracks, and two trackers at work
    in turns don't touch each other's ids. Appearance models (ReID) stay off: their features don't come with
    a backend's detections, and no weights are fetched. Tracks are matched across classes, as Ultralytics does.

    Args:
        name: One of :data:`TRACKERS`.
        frame_rate: Frames a second. A lost track is kept for ``track_buffer`` frames, a figure meant for 30
            a second: other rates keep it for the same time, unless ``options`` names the frames.
        options: Entries of the tracker's YAML file to change; see :func:`tracker_options`.

    Raises:
        NotFoundError: No tracker of that name; the message lists the known ones.
        InputError: An option that it doesn't have, or a value out of range.
        MissingDependencyError: This Ultralytics doesn't bring it.
    """

    def __init__(self, name: str, *, frame_rate: float = DEFAULT_FPS, options: Mapping[str, Any] | None = None) -> None:
        self.spec = TRACKERS.get(name)
        self.options = _checked_options(self.spec, dict(options or {}), frame_rate)
        self._class = _tracker_class(self.spec)
        self.reset()

    @property
    def name(self) -> str:
        """The tracker's name in :data:`TRACKERS`."""
        return self.spec.name

    @property
    def frame(self) -> int:
        """Frames seen since the sequence began."""
        return len(self._times)

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Milliseconds that each frame took, in order."""
        return np.asarray(self._times, dtype=np.float64)

    @property
    def warnings(self) -> Mapping[str, int]:
        """What the tracker complained of, and how often; such as camera motion that it couldn't estimate."""
        return dict(self._complaints.counts)

    def reset(self) -> None:
        """Begin a new sequence: no tracks, ids from 1."""
        self._times: list[float] = []
        self._complaints = _Complaints()
        self._shape: tuple[int, ...] | None = None
        self._count = 0
        with self._own_count():
            self._tracker = self._class(SimpleNamespace(**self.options))

    def update(self, detections: DetectedBoxes | None, image: npt.NDArray[np.uint8] | None = None) -> Tracks:
        """The tracks of the next frame.

        Args:
            detections: Of this frame; ``None`` for a frame that couldn't be read. Time passes all the same.
                Boxes without an area or with figures that are none are left out.
            image: BGR (H, W, 3): trackers that estimate camera motion look at it. Without it they don't.

        Returns:
            The tracks that a detection of this frame belongs to. Some trackers show a new object from its
            second or third frame on.
        """
        began = time.perf_counter()
        kept, rows = _usable(detections)
        boxes = _boxes_class()(rows, _shape_of(image))
        if image is not None and self._shape not in (None, image.shape):
            self._forget_the_last_image()  # of another size: there is no motion between the two
        self._shape = self._shape if image is None else image.shape
        found = self._advance(boxes, image)
        self._times.append((time.perf_counter() - began) * 1000)
        found = found[np.argsort(found[:, 4], kind="stable")]
        return Tracks(
            frame=self.frame,
            ids=found[:, 4].astype(np.int64),
            boxes=found[:, :4].astype(np.float32),
            scores=found[:, 5].astype(np.float32),
            labels=found[:, 6].astype(np.int32),
            detections=kept[found[:, 7].astype(np.int64)],
        )

    def _advance(self, boxes: Any, image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
        with self._own_count(), self._complaints.heard():
            found = self._tracker.update(boxes, image)
        return np.asarray(found, dtype=np.float32).reshape(-1, 8)

    @contextlib.contextmanager
    def _own_count(self) -> Iterator[None]:
        from ultralytics.trackers.basetrack import BaseTrack

        with _shared_count:
            others, BaseTrack._count = BaseTrack._count, self._count  # noqa: SLF001 - the count that all share
            try:
                yield
            finally:
                self._count, BaseTrack._count = BaseTrack._count, others  # noqa: SLF001

    def _forget_the_last_image(self) -> None:
        motion = getattr(self._tracker, "gmc", None)
        if motion is not None:
            motion.reset_params()


def tracker_options(name: str) -> dict[str, Any]:
    """The options of a tracker with their default values, as its YAML file has them.

    Raises:
        NotFoundError: No tracker of that name; the message lists the known ones.
    """
    defaults = _defaults(TRACKERS.get(name).config)
    return {key: value for key, value in defaults.items() if key not in (*_APPEARANCE, "tracker_type")}


def _checked_options(spec: TrackerSpec, options: dict[str, Any], frame_rate: float) -> dict[str, Any]:
    if isinstance(frame_rate, bool) or not 0 < float(frame_rate) <= 1000:
        raise InputError(f"frame_rate must lie above 0 and at most at 1000 a second, not {frame_rate!r}.")
    if options.get("with_reid"):
        raise InputError(
            f"with_reid can't be used: appearance features don't come with a backend's detections. "
            f"Leave it out, or take another of {', '.join(TRACKERS.names())}."
        )
    defaults = _defaults(spec.config)
    known = tracker_options(spec.name)
    for key, value in options.items():
        if key in _APPEARANCE:
            continue
        if key not in known:
            raise InputError(f"{spec.name} has no option {key!r}. It has: {', '.join(sorted(known))}.")
        options[key] = _checked_value(spec.name, key, value, known[key])
    if "track_buffer" in defaults and "track_buffer" not in options:
        options["track_buffer"] = max(1, round(defaults["track_buffer"] * float(frame_rate) / DEFAULT_FPS))
    return {**defaults, **options, "with_reid": False, "model": "auto"}


def _checked_value(tracker: str, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        allowed, fits = "true or false", isinstance(value, bool)
    elif key == "gmc_method":
        allowed, fits = f"one of {', '.join(_CAMERA_MOTION)}", value in _CAMERA_MOTION
    elif isinstance(default, int):
        least = 1 if key in _AT_LEAST_ONE else 0
        whole = isinstance(value, int) and not isinstance(value, bool)
        allowed, fits = f"a whole number, {least}–{_MAX_BUFFER}", whole and least <= value <= _MAX_BUFFER
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        top = 10.0 if key.startswith("enlarge") else 1.0
        allowed, fits = f"a number, 0–{top:g}", number and 0 <= value <= top
    if not fits:
        raise InputError(f"{key} of {tracker} must be {allowed}, not {value!r}. Its default is {default!r}.")
    return value


@lru_cache(maxsize=32)
def _read_config(config: str) -> Mapping[str, Any]:
    import yaml

    path = Path(config)
    if path.name == config:
        path = package_folder() / "cfg" / "trackers" / config
    if not path.is_file():
        raise MissingDependencyError(
            f"this Ultralytics has no {path.name}. Upgrade it: pip install -U ultralytics, or choose another tracker."
        )
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _defaults(config: str) -> dict[str, Any]:
    return dict(_read_config(config))


def _tracker_class(spec: TrackerSpec) -> Any:
    import_ultralytics()
    if not is_installed("lap"):  # Ultralytics would install it by itself
        raise MissingDependencyError(
            "lap is needed to assign boxes to tracks. Install it with: pip install 'lap>=0.5.12'"
        )
    module, _, name = spec.target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"{spec.name} can't be loaded from {spec.target} ({error}). Upgrade it: pip install -U ultralytics"
        ) from error


def _boxes_class() -> Any:
    from ultralytics.engine.results import Boxes

    return Boxes


def _usable(detections: DetectedBoxes | None) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Which detections have an area, and their rows x1 y1 x2 y2 score label."""
    if detections is None or len(detections.scores) == 0:
        return np.zeros(0, np.int32), np.zeros((0, 6), np.float32)
    columns = (detections.boxes, detections.scores[:, None], detections.labels[:, None])
    rows = np.concatenate(columns, axis=1).astype(np.float32)
    whole = np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    return np.flatnonzero(whole).astype(np.int32), np.ascontiguousarray(rows[whole])


def _shape_of(image: npt.NDArray[np.uint8] | None) -> tuple[int, int]:
    return (1, 1) if image is None else (image.shape[0], image.shape[1])


class _Complaints(logging.Filter):
    """Keeps what a tracker would print in every frame off the screen, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self._thread: int | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True  # somebody else's training
        message = record.getMessage()[:200]
        if message in self.counts or len(self.counts) < 20:
            self.counts[message] = self.counts.get(message, 0) + 1
        return False

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        from ultralytics.utils import LOGGER

        self._thread = threading.get_ident()
        LOGGER.addFilter(self)
        try:
            yield
        finally:
            LOGGER.removeFilter(self)
