"""From a video to tracks: frames, detections of any backend, a tracker, and what came out of it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.preprocess import MOT_CLASSES
from guardianflow.evaluation.mot.sequences import Tracks
from guardianflow.exceptions import InputError
from guardianflow.vision.pipeline.frames import Frame, FrameSource
from guardianflow.vision.pipeline.stage_times import StageTimes
from guardianflow.vision.tracking.tracker import DEFAULT_FPS, DetectedBoxes, Tracker
from guardianflow.vision.tracking.tracker import Tracks as FrameTracks

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CLASS_NUMBERS",
    "TRACKING_CONFIDENCE",
    "Detector",
    "TrackCollector",
    "TrackingRecord",
    "numbers_of",
    "track_source",
]

TRACKING_CONFIDENCE = 0.1
"""Confidence to detect with where a tracker follows: ByteTrack and its kin also use weak boxes, down to this."""

CLASS_NUMBERS: Mapping[str, int] = {
    **{name: number for number, name in MOT_CLASSES.items()},
    "person": 1, "people": 1, "human": 1, "vehicle": 3, "bike": 4, "motorcycle": 5,
    "사람": 1, "보행자": 1, "차량": 3, "자동차": 3, "자전거": 4, "오토바이": 5,
}  # fmt: skip
"""MOTChallenge's class numbers by what models call those classes; our generated scenes use 1 and 3."""

_COLUMNS = ("frame", "id", "label", "score", "x1", "y1", "x2", "y2")
_SCHEMA = 1


class Detector(Protocol):
    """What :func:`track_source` needs of a pipeline."""

    @property
    def stages(self) -> StageTimes:
        """Times of the last ``detect``."""
        ...

    def detect(self, images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Any]:
        """Detections of each image, in order."""
        ...


@dataclass(frozen=True, eq=False)
class TrackingRecord:
    """The tracks of one sequence and how they came to be.

    Attributes:
        source: Name of the sequence.
        tracker: Name of the tracker.
        options: All its options, as they were.
        classes: The model's class names by label.
        frames: Frames gone through, those that couldn't be read included.
        fps: Frames a second of the source.
        width: Of the frames, in pixels.
        height: As width.
        tracks: All boxes; frames counted from 0, labels are the model's.
        stages: Milliseconds by stage, one entry a frame that could be read.
        note: What was out of the ordinary, in sentences; or empty.
        facts: Further plain JSON (model, backend …).
    """

    source: str
    tracker: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    frames: int
    fps: float
    width: int
    height: int
    tracks: Tracks
    stages: StageTimes = field(default_factory=StageTimes)
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identities(self) -> int:
        """How many tracks there are."""
        return len(np.unique(self.tracks.id))

    def save(self, folder: Path | str) -> Path:
        """Write ``tracks.parquet``, ``tracking.json`` and the tracks in MOTChallenge's form, ``<source>.txt``.

        In the text file frames count from 1. Classes have MOTChallenge's numbers there (:data:`CLASS_NUMBERS`) where
        each that occurs has one, so that the file scores as the record does; else they count from 1.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from guardianflow.evaluation.mot.files import write_mot_tracks

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        one = self.tracks
        columns = dict(zip(_COLUMNS, (one.frame, one.id, one.label, one.confidence, *one.box.T), strict=True))
        pq.write_table(pa.table(columns), folder / "tracks.parquet")
        numbers, label = numbers_of(self.classes, CLASS_NUMBERS), one.label + 1
        known = {place: numbers.get(place) for place in np.unique(one.label).tolist()}
        if None not in known.values() and len(set(known.values())) == len(known):
            label = np.array([numbers[place] for place in one.label.tolist()], np.int64)
        write_mot_tracks(folder / f"{self.source}.txt", replace(one, label=label))
        document = {"version": _SCHEMA, **self.to_dict()}
        (folder / "tracking.json").write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> TrackingRecord:
        """Read what :meth:`save` wrote; without the single times of the stages.

        Raises:
            InputError: The files are missing or of another version.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = Path(folder)
        try:
            document = json.loads((folder / "tracking.json").read_text(encoding="utf-8"))
            table = pq.read_table(folder / "tracks.parquet")
            column = {name: table.column(name).to_numpy() for name in _COLUMNS}
            if document["version"] != _SCHEMA:
                raise InputError(f"{folder} was written by another version ({document['version']!r}). Track again.")
            kept = ("source", "tracker", "options", "frames", "fps", "width", "height", "note", "facts")
            values = {name: document[name] for name in kept}
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowInvalid) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{folder} holds no tracking that can be read ({error}). Track again.") from error
        box = np.stack([column[name] for name in _COLUMNS[4:]], axis=1) if table.num_rows else np.zeros((0, 4))
        tracks = Tracks(
            frame=column["frame"], id=column["id"], box=box, label=column["label"], confidence=column["score"]
        )
        return cls(**values, classes=tuple(document["classes"]), tracks=tracks)

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain JSON; the boxes are in the Parquet file."""
        return {
            "source": self.source, "tracker": self.tracker, "options": dict(self.options),
            "classes": list(self.classes), "frames": self.frames, "fps": self.fps, "width": self.width,
            "height": self.height, "boxes": len(self.tracks), "identities": self.identities,
            "times": self.stages.to_dict(), "note": self.note, "facts": dict(self.facts),
        }  # fmt: skip


def numbers_of(classes: Sequence[str], known: Mapping[str, int]) -> dict[int, int]:
    """Label of the model → number in the truth, for the classes that are known there by name."""
    lowered = {name.lower(): number for name, number in known.items()}
    return {label: lowered[name.lower()] for label, name in enumerate(classes) if name.lower() in lowered}


class TrackCollector:
    """Gathers the tracks of single frames into the flat arrays of a sequence."""

    def __init__(self) -> None:
        self._parts: list[FrameTracks] = []

    def add(self, tracks: FrameTracks) -> None:
        """The tracks of the next frame."""
        self._parts.append(tracks)

    def tracks(self) -> Tracks:
        """All so far; boxes whose estimate has no size or is no number are left out."""
        if not self._parts:
            return Tracks.empty()
        box = np.concatenate([part.boxes for part in self._parts]).astype(np.float64)
        whole = np.isfinite(box).all(axis=1) & (box[:, 2:] > box[:, :2]).all(axis=1)
        everything = Tracks(
            frame=np.repeat([part.frame - 1 for part in self._parts], [len(part) for part in self._parts])[whole],
            id=np.concatenate([part.ids for part in self._parts])[whole],
            box=box[whole],
            label=np.concatenate([part.labels for part in self._parts])[whole],
            confidence=np.concatenate([part.scores for part in self._parts])[whole],
        )
        return everything if len(everything) else Tracks.empty()


def track_source(
    pipeline: Detector, source: FrameSource, *, tracker: str = "bytetrack", options: Mapping[str, Any] | None = None,
    frame_rate: float = DEFAULT_FPS, classes: Sequence[str] = (), limit: int | None = None,
    facts: Mapping[str, Any] | None = None, progress: Callable[[int, int | None], None] | None = None,
) -> TrackingRecord:  # fmt: skip
    """Track what a pipeline detects in a source.

    A frame that can't be read keeps its place: time passes for the tracker, and nothing is detected in it.
    A video that ends early gives the tracks up to there; the record's ``note`` says so.

    Args:
        pipeline: Detects; give it a low confidence (:data:`TRACKING_CONFIDENCE`) and one label a box.
        source: From :func:`guardianflow.vision.pipeline.frames.open_source`.
        tracker: One of :data:`guardianflow.vision.tracking.tracker.TRACKERS`.
        options: Of the tracker.
        frame_rate: How long lost tracks are kept follows from it; see :class:`Tracker`. The default is what
            ``yolo track`` does with any video; ``source.fps`` keeps them for the same time at each frame rate.
        classes: Class names by label.
        limit: Track so many frames at most.
        facts: Plain JSON to keep with the record.
        progress: Called with (frames done, frames in all or ``None``).

    Raises:
        NotFoundError: No such tracker.
        InputError: An option that it doesn't have.
    """
    follower = Tracker(tracker, frame_rate=frame_rate, options=options)
    collected, readable = TrackCollector(), []
    waiting: deque[Frame] = deque()

    def images() -> Iterator[npt.NDArray[np.uint8]]:
        # The pipeline reads ahead, perhaps in another thread: what it took and has not answered yet waits.
        for frame in source if limit is None else islice(source, limit):
            waiting.append(frame)
            if frame.image is not None:
                yield frame.image

    def step(frame: Frame, found: DetectedBoxes | None) -> None:
        collected.add(follower.update(found, frame.image))
        readable.append(frame.image is not None)
        if progress is not None:
            progress(follower.frame, source.frames)

    for found in pipeline.detect(images()):
        while (frame := waiting.popleft()).image is None:
            step(frame, None)
        step(frame, found)
    while waiting:
        step(waiting.popleft(), None)
    remarks = [f"{text} ({count} frames)" for text, count in follower.warnings.items()]
    return TrackingRecord(
        source=source.name, tracker=tracker, options=dict(follower.options), classes=tuple(classes),
        frames=follower.frame, fps=source.fps, width=source.width, height=source.height,
        tracks=collected.tracks(), stages=pipeline.stages.with_tracking(follower.times[np.array(readable, bool)]),
        note=" ".join(part for part in (source.note, *remarks) if part), facts=dict(facts or {}),
    )  # fmt: skip
