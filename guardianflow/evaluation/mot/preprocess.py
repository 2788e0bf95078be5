"""Which boxes of a sequence are scored, as the benchmarks' own kits decide it.

``none`` scores every class apart and drops only the labelled boxes that are marked as not to be scored. MOTChallenge
(MOT16, MOT17, MOT20) and KITTI first match all predictions with the ground truth at IoU 0.5 and drop those that found
something nobody has to find: reflections, people on vehicles, vans, heavily occluded cars. The rules are trackeval's
datasets `mot_challenge_2d_box` and `kitti_2d_box`, which follow the kits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from guardianflow.evaluation.mot.counts import Scene
from guardianflow.evaluation.mot.pairs import EPS, Mask, assign, share_inside
from guardianflow.evaluation.mot.sequences import Ints, Sequence, Tracks
from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["KITTI_CLASSES", "MOT_CLASSES", "PREPROCESS", "Preprocess", "drop_unmarked", "preprocess_named"]

MOT_CLASSES: Mapping[int, str] = MappingProxyType(
    {
        1: "pedestrian", 2: "person_on_vehicle", 3: "car", 4: "bicycle", 5: "motorbike", 6: "non_mot_vehicle",
        7: "static_person", 8: "distractor", 9: "occluder", 10: "occluder_on_ground", 11: "occluder_full",
        12: "reflection", 13: "crowd",
    }
)  # fmt: skip
"""MOTChallenge's class numbers."""

KITTI_CLASSES: Mapping[int, str] = MappingProxyType(
    {1: "car", 2: "van", 3: "truck", 4: "pedestrian", 5: "person", 6: "cyclist", 7: "tram", 8: "misc"}
)
"""KITTI's classes, numbered as trackeval numbers them; ``person`` sits."""

_MATCH_IOU = 0.5
_PEDESTRIAN = 1
_KITTI_MAX_OCCLUSION = 2
_KITTI_MAX_TRUNCATION = 0
_KITTI_MIN_HEIGHT = 25  # pixels
_KITTI_DISTRACTORS = {1: 2, 4: 5}  # car: van, pedestrian: sitting person

Kept = tuple[Mask, Mask]
"""Which ground-truth boxes and which predicted boxes are scored."""


@dataclass(frozen=True)
class Preprocess:
    """One kit's rules.

    Attributes:
        name: As the command line knows it.
        classes: Names of the classes that it scores; ``None``: whatever occurs.
        keep: Sequence, its boxes and overlaps, class number → the boxes that are scored.
    """

    name: str
    classes: Mapping[int, str] | None
    keep: Callable[[Sequence, Scene, int], Kept]

    def chosen(self, sequence: Sequence, classes: Many[str | int] | None) -> dict[int, str]:
        """Class numbers to score in a sequence, with their names.

        Raises:
            NotFoundError: The kit doesn't score that class.
            InputError: The sequence's classes are those of another dataset.
        """
        if self.classes is None:
            known = {label: sequence.class_name(label) for label in {*sequence.labels(), *sequence.class_names}}
            if classes is None:
                return {label: known[label] for label in sequence.labels()}
            return {label: name for label, name in known.items() if {name, label, str(label)} & set(classes)}
        self._check_numbers(sequence)
        if classes is None:
            return dict(self.classes)
        scored = {label: name for label, name in self.classes.items() if {name, label, str(label)} & set(classes)}
        unknown = set(classes) - {*scored, *scored.values(), *map(str, scored)}
        if unknown:
            listed = ", ".join(f"{label} {name}" for label, name in self.classes.items())
            raise NotFoundError(f"{self.name} scores no class {', '.join(map(str, unknown))}; it scores: {listed}")
        return scored

    def _check_numbers(self, sequence: Sequence) -> None:
        for label, name in (self.classes or {}).items():
            if sequence.class_names and sequence.class_names.get(label) != name:
                raise InputError(
                    f"{self.name} calls class {label} {name!r}; in sequence {sequence.name!r} it is "
                    f"{sequence.class_name(label)!r}. Choose the preprocessing of the dataset that the files come from."
                )


def drop_unmarked(gt: Tracks) -> Tracks:
    """Labelled boxes without those that MOTChallenge marks as not to be scored: 0 in column 7.

    A prediction on one of them counts as too many, as in the kit.
    """
    kept = gt.confidence != 0
    count = int(np.count_nonzero(~kept))
    if not count:
        return gt
    return gt.take(kept).noting(f"{count} labelled box{'es are' if count > 1 else ' is'} marked as not to be scored.")


def _matched(scene: Scene) -> tuple[Ints, Ints]:
    """Rows of the ground truth and of the predictions that go together at IoU 0.5."""
    pairs = scene.pairs.take(scene.pairs.iou >= _MATCH_IOU - EPS)
    found = pairs.take(assign(pairs, pairs.iou, scene.frames))
    return found.gt.astype(np.int64), found.tracker.astype(np.int64)


def _keep_class(sequence: Sequence, scene: Scene, label: int) -> Kept:
    del scene
    return sequence.gt.label == label, sequence.tracker.label == label


def _motchallenge(*distractors: int) -> Callable[[Sequence, Scene, int], Kept]:
    def keep(sequence: Sequence, scene: Scene, label: int) -> Kept:
        _check_motchallenge(sequence)
        gt, tracker = _matched(scene)
        kept = np.ones(len(sequence.tracker), np.bool_)
        kept[tracker[np.isin(sequence.gt.label[gt], distractors)]] = False
        return (sequence.gt.label == label) & (sequence.gt.confidence.astype(np.int64) != 0), kept

    return keep


def _check_motchallenge(sequence: Sequence) -> None:
    labels = set(sequence.gt.label.tolist())
    if not labels <= set(MOT_CLASSES):
        wrong = ", ".join(map(str, sorted(labels - set(MOT_CLASSES))))
        raise InputError(
            f"MOTChallenge's ground truth has the classes 1 to 13; sequence {sequence.name!r} has {wrong}. "
            "Use --preprocess none for other data."
        )
    highest = int(sequence.tracker.label.max(initial=_PEDESTRIAN))
    if highest > _PEDESTRIAN:
        raise InputError(
            f"MOTChallenge scores pedestrians (class 1) only; the result of {sequence.name!r} has class {highest}. "
            "Leave those boxes out, or use --preprocess none."
        )


def _keep_kitti(sequence: Sequence, scene: Scene, label: int) -> Kept:
    gt, tracker = sequence.gt, sequence.tracker
    occluded = np.zeros(len(gt), np.bool_) if gt.occlusion is None else gt.occlusion > _KITTI_MAX_OCCLUSION
    if gt.truncation is not None:
        occluded = occluded | (gt.truncation > _KITTI_MAX_TRUNCATION)
    distractor = gt.label == _KITTI_DISTRACTORS[label]
    own = tracker.label == label
    gt_rows, tracker_rows = np.flatnonzero((gt.label == label) | distractor), np.flatnonzero(own)
    gt_hit, hit = _matched(scene.among(gt_rows, tracker_rows))
    gt_hit, hit = gt_rows[gt_hit], tracker_rows[hit]
    kept = own.copy()
    kept[hit[distractor[gt_hit] | occluded[gt_hit]]] = False
    alone = own.copy()
    alone[hit] = False
    height = tracker.box[:, 3] - tracker.box[:, 1]
    inside = share_inside(tracker.frame, tracker.box, sequence.ignore_frame, sequence.ignore_box)
    kept[alone & ((height <= _KITTI_MIN_HEIGHT + EPS) | (inside > _MATCH_IOU + EPS))] = False
    return (gt.label == label) & ~occluded, kept


_PEDESTRIANS = MappingProxyType({_PEDESTRIAN: MOT_CLASSES[_PEDESTRIAN]})
PREPROCESS: Mapping[str, Preprocess] = MappingProxyType(
    {
        "none": Preprocess("none", None, _keep_class),
        "mot17": Preprocess("mot17", _PEDESTRIANS, _motchallenge(2, 7, 8, 12)),
        "mot20": Preprocess("mot20", _PEDESTRIANS, _motchallenge(2, 6, 7, 8, 12)),
        "kitti": Preprocess("kitti", MappingProxyType({1: "car", 4: "pedestrian"}), _keep_kitti),
    }
)
"""Kits by name; MOT16 has the rules of MOT17."""


def preprocess_named(name: str) -> Preprocess:
    """The kit of that name.

    Raises:
        NotFoundError: Names those that exist.
    """
    if name not in PREPROCESS:
        raise NotFoundError(f"there is no preprocessing named {name!r}; known: {', '.join(PREPROCESS)}")
    return PREPROCESS[name]
