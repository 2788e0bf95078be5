"""Tracks held against the labelled tracks of their sequence, with or without regard to classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.agreement import counted_from, in_pixels
from guardianflow.evaluation.mot.evaluate import MotResult, evaluate_mot
from guardianflow.evaluation.mot.files import mot_tracks, read_mot_table
from guardianflow.evaluation.mot.preprocess import MOT_CLASSES, drop_unmarked
from guardianflow.evaluation.mot.sequences import Sequence, Tracks, compact
from guardianflow.exceptions import InputError
from guardianflow.vision.pipeline.frames import FrameSource
from guardianflow.vision.tracking.run import CLASS_NUMBERS, TrackingRecord, numbers_of

__all__ = ["CLASS_NUMBERS", "TrackingEvaluation", "evaluate_tracking", "read_truth"]

_OBJECT = {1: "object"}


@dataclass(frozen=True, eq=False)
class TrackingEvaluation:
    """How good the tracks of a sequence are.

    Attributes:
        result: The figures.
        sequence: What was compared: labelled and found tracks, classes by MOTChallenge's numbers (or all 1).
        preprocess: Whose rules chose the boxes.
        class_aware: Whether a box must have the right class to count; else any object is an object.
        note: How classes were treated, what was left out, and what looks wrong, in sentences.
    """

    result: MotResult
    sequence: Sequence
    preprocess: str
    class_aware: bool
    note: str

    def metrics(self) -> dict[str, float]:
        """The figures by the names of the metrics catalogue."""
        return self.result.metrics()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**self.result.to_dict(), "class_aware": self.class_aware, "note": self.note}


def read_truth(source: FrameSource) -> Tracks:
    """The labelled tracks of a source, all rows, in pixels of its frames.

    Raises:
        InputError: It has none, or the file breaks a rule.
    """
    if source.ground_truth is None:
        raise InputError(f"{source.name} has no labelled tracks (gt/gt.txt in a folder with seqinfo.ini).")
    table = read_mot_table(source.ground_truth, ground_truth=True)
    truth = mot_tracks(table, ground_truth=True, first=counted_from(table))
    return in_pixels(truth, (source.width, source.height), table.path.name)


def evaluate_tracking(
    record: TrackingRecord, truth: Tracks, *, class_aware: bool | None = None,
    class_numbers: Mapping[str, int] | None = None, preprocess: str = "none", match_iou: float = 0.5,
) -> TrackingEvaluation:  # fmt: skip
    """Compare the tracks of a sequence with the labelled ones.

    Without a kit's preprocessing, labelled boxes with confidence 0 (MOTChallenge's mark for "not to be scored":
    hidden objects) are left out, and a box found on one of them counts as too many, as in the kit. Labelled
    frames beyond those that were tracked are left out, too.

    Args:
        record: What was tracked.
        truth: From :func:`read_truth`; classes by MOTChallenge's numbers.
        class_aware: Whether classes count; default: if each labelled class is one of the model's by name.
        class_numbers: Class name of the model → number in the truth; default :data:`CLASS_NUMBERS`.
        preprocess: ``"none"``, ``"mot17"``, ``"mot20"``.
        match_iou: For CLEAR and Identity.

    Raises:
        InputError: Classes should count and none of the model's is known in the truth; a kit of other classes.
    """
    _check_kit(preprocess, class_aware)
    truth, found = _within(truth, record.frames), record.tracks
    if preprocess == "none":
        truth = drop_unmarked(truth)
    numbers = numbers_of(record.classes, class_numbers or CLASS_NUMBERS)
    labelled, named = set(truth.label.tolist()), set(numbers.values())
    aware = (preprocess != "none" or labelled <= named) if class_aware is None else class_aware
    if aware and not named:
        raise InputError(
            f"none of the model's classes ({', '.join(record.classes) or 'no names'}) is known in the ground truth. "
            "Give class_numbers, or class_aware=False."
        )
    if aware:
        found = _renumber(found, numbers, {1} if preprocess != "none" else named)
        if not truth.named and len(found):
            truth = truth.noting("The labelled tracks name no classes; they count as pedestrians, as in MOTChallenge.")
        names = _names(record.classes, numbers) if preprocess == "none" else dict(MOT_CLASSES)
    else:
        truth, found, names = _one_class(truth), _one_class(found), _OBJECT
        truth = truth.noting("Classes are left out of account: any object is an object.")
    sequence = Sequence(record.source, record.frames, truth, found, class_names=names)
    result = evaluate_mot([sequence], preprocess=preprocess, match_iou=match_iou)
    sentences = ("A box must have the right class to count.",) if aware else ()
    return TrackingEvaluation(result, sequence, preprocess, aware, " ".join((*sentences, *result.remarks)))


def _within(truth: Tracks, frames: int) -> Tracks:
    """The labelled boxes of the frames that were tracked."""
    kept = truth.frame < frames
    beyond = int(np.count_nonzero(~kept))
    said = (f"{beyond} labelled boxes lie in frames that weren't tracked and are left out.",) if beyond else ()
    return truth.take(kept).noting(*said)


def _check_kit(preprocess: str, class_aware: bool | None) -> None:
    if preprocess == "kitti":
        raise InputError("KITTI numbers its classes otherwise than MOTChallenge. Write KITTI files, then: eval mot.")
    if preprocess != "none" and class_aware is False:
        raise InputError(f"{preprocess} scores pedestrians only: classes count. Take preprocess='none' without them.")


def _names(classes: tuple[str, ...], numbers: Mapping[int, int]) -> dict[int, str]:
    """Number in the truth → the first of the model's names for it."""
    return {number: classes[label] for label, number in sorted(numbers.items(), reverse=True)}


def _renumber(found: Tracks, numbers: Mapping[int, int], kept: set[int]) -> Tracks:
    """Boxes with the numbers of the truth; those of other classes are left out, and counted."""
    table = np.full(int(found.label.max(initial=0)) + 1, -1, np.int64)
    for label, number in numbers.items():
        if label < len(table) and number in kept:
            table[label] = number
    labels: npt.NDArray[np.int64] = table[found.label]
    rows = np.flatnonzero(labels >= 0)
    renumbered = replace(found.take(rows), label=labels[rows]) if len(rows) else Tracks.empty()
    if len(rows) == len(found):
        return renumbered
    return renumbered.noting(
        f"{len(found) - len(rows)} boxes of classes that the ground truth doesn't know are left out."
    )


def _one_class(tracks: Tracks) -> Tracks:
    """All boxes as class 1; ids that stood for another object in each class become different ones."""
    if not len(tracks):
        return tracks
    at_once = tracks.frame * (int(tracks.id.max()) - int(tracks.id.min()) + 1) + tracks.id
    identity = tracks.id
    if len(np.unique(at_once)) < len(at_once):
        classes, label = compact(tracks.label)
        identity = compact(tracks.id)[1] * classes + label + 1
    return replace(tracks, id=identity, label=np.ones(len(tracks), np.int64))
