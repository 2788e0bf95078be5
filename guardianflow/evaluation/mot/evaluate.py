"""How good a tracker is: HOTA, CLEAR and Identity over sequences and classes.

    result = evaluate_mot(read_mot_folder(gt, predictions), preprocess="mot17")
    result.metrics()["hota"]

Conventions, where the field has several: mostly tracked is more than 80% of a track's boxes (MOTChallenge's kit;
motmetrics takes 80% too); MOTP is the mean IoU of the matches, 1 being best (motmetrics gives the mean distance);
identities are counted in each sequence on its own. Where the figures differ from trackeval's, and why, stands in
:mod:`guardianflow.evaluation.mot.counts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from guardianflow._plugins import Registry
from guardianflow.core.metrics import CATALOGUE
from guardianflow.evaluation.mot.counts import Scene, count_scene
from guardianflow.evaluation.mot.figures import ALPHAS, Clear, Hota, Identity, MotFigures
from guardianflow.evaluation.mot.pairs import Frames, Pairs, find_pairs
from guardianflow.evaluation.mot.preprocess import PREPROCESS, Preprocess, drop_unmarked, preprocess_named
from guardianflow.evaluation.mot.sequences import Sequence, Tracks
from guardianflow.evaluation.tables import html_table
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import plain
from guardianflow.text.printable import escape

__all__ = [
    "ALPHAS",
    "EVALUATORS",
    "PREPROCESS",
    "Clear",
    "Hota",
    "Identity",
    "MotFigures",
    "MotResult",
    "Sequence",
    "Tracks",
    "evaluate_mot",
]


_BY_CELL = frozenset({"cells", "accumulators"})


class Evaluator(Protocol):
    """Counts one class of one sequence; the second value is the accumulator it did it with, or ``None``."""

    def __call__(self, scene: Scene, *, match_iou: float) -> tuple[MotFigures, Any]:
        """The figures of a scene."""


def _count(scene: Scene, *, match_iou: float) -> tuple[MotFigures, None]:
    return count_scene(scene, match_iou=match_iou), None


EVALUATORS: Registry[Evaluator] = Registry(
    "MOT evaluator",
    {
        "guardianflow": "guardianflow.evaluation.mot.evaluate:_count",
        "motmetrics": "guardianflow.evaluation.mot.motmetrics:count_with_motmetrics",
    },
)
"""Who counts: our own code, or the motmetrics package."""


@dataclass(frozen=True, eq=False)
class MotResult:
    """The figures of a tracker.

    Attributes:
        combined: Over all sequences and classes, every box counting the same.
        class_averaged: Over all sequences, every class counting the same; one without any box counts nothing.
        per_sequence: By sequence, over its classes.
        per_class: By class, over all sequences.
        cells: By sequence and class.
        preprocess: Whose rules chose the boxes.
        evaluator: Who counted.
        match_iou: IoU of a match in CLEAR and Identity.
        remarks: What was taken otherwise than it stands, and what looks wrong, in sentences.
        accumulators: With ``evaluator="motmetrics"``: its ``MOTAccumulator`` by sequence and class; else empty.
    """

    combined: MotFigures
    class_averaged: MotFigures
    per_sequence: Mapping[str, MotFigures]
    per_class: Mapping[str, MotFigures]
    cells: Mapping[tuple[str, str], MotFigures]
    preprocess: str
    evaluator: str
    match_iou: float
    accumulators: Mapping[tuple[str, str], Any]
    remarks: tuple[str, ...] = ()

    def metrics(self) -> dict[str, float]:
        """The combined figures by the names of the metrics catalogue."""
        return self.combined.metrics()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "metrics": self.metrics(),
            **{each.name: plain(getattr(self, each.name)) for each in fields(self) if each.name not in _BY_CELL},
            "cells": [
                {"sequence": sequence, "class": label, **figures.to_dict()}
                for (sequence, label), figures in self.cells.items()
            ],
        }

    def rows(self) -> list[tuple[str, MotFigures]]:
        """What a table shows: the sequences, the classes where there are several, and all together."""
        rows = list(self.per_sequence.items()) if len(self.per_sequence) > 1 or len(self.per_class) == 1 else []
        if len(self.per_class) > 1:
            rows += [(f"class {name}", figures) for name, figures in self.per_class.items()]
            rows.append(("mean of the classes", self.class_averaged))
        return rows if len(rows) == 1 else [*rows, ("all", self.combined)]

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column titles and rows, as text; fractions in percent with one decimal."""
        names = tuple(self.metrics())
        body = [(title, *(_shown(name, figures.metrics()[name]) for name in names)) for title, figures in self.rows()]
        return ("", *(name.upper() if name != "frag" else "Frag" for name in names)), body

    def _repr_html_(self) -> str:
        titles, body = self.table()
        note = f"preprocessing {self.preprocess}, counted by {self.evaluator}, match at IoU {self.match_iou:g}"
        said = "".join(f"<p>{escape(remark)}</p>" for remark in self.remarks)
        return f"<p>{escape(note)}; fractions in %</p>{html_table(titles, body)}{said}"


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.1f}" if CATALOGUE[name].unit == "fraction" else f"{value:,.0f}"


def evaluate_mot(
    sequences: Iterable[Sequence],
    *,
    classes: Many[str | int] | None = None,
    preprocess: str = "none",
    evaluator: str = "guardianflow",
    match_iou: float = 0.5,
) -> MotResult:
    """Score a tracker on one or more sequences.

    Args:
        sequences: Ground truth and result of each; may be a generator, then one is in memory at a time.
        classes: Names or numbers of the classes to score; all that occur when left out, or those of the kit.
        preprocess: Whose rules choose the boxes: ``"none"``, ``"mot17"``, ``"mot20"`` or ``"kitti"``.
        evaluator: ``"guardianflow"``, or ``"motmetrics"`` for that package's figures and accumulators. It has no
            HOTA; it keeps a match as long as the two boxes overlap enough, across frames in which either was absent;
            it calls a track mostly tracked from 80% on; and it counts a fragmentation only where the labelled track
            is present and missed.
        match_iou: IoU from which CLEAR and Identity take two boxes for a match, 0–1.

    Raises:
        InputError: No sequence, a name twice, or boxes that the kit doesn't allow.
        NotFoundError: An unknown class, preprocessing or evaluator.
        MissingDependencyError: motmetrics is asked for and absent.
    """
    if not 0 < match_iou <= 1:
        raise InputError(f"match_iou lies above 0 and goes up to 1; got {match_iou}")
    kit, count = preprocess_named(preprocess), EVALUATORS.get(evaluator)
    cells: dict[tuple[str, str], tuple[MotFigures, Any]] = {}
    lengths: dict[str, int] = {}
    known: set[str | int] = set()
    remarks: dict[str, list[str]] = {}
    for given in sequences:
        sequence = replace(given, gt=drop_unmarked(given.gt)) if kit.classes is None else given
        if sequence.name in lengths:
            raise InputError(f"each sequence is scored once; {sequence.name!r} came twice")
        lengths[sequence.name] = sequence.frames
        scene = _scene(sequence)
        names = kit.chosen(sequence, classes)
        for label, name in names.items():
            gt, tracker = kit.keep(sequence, scene, label)
            part = scene.among(np.flatnonzero(gt), np.flatnonzero(tracker))
            cells[sequence.name, name] = count(part, match_iou=match_iou)
            known |= {label, name, str(label)}
        remarks[sequence.name] = _remarks(kit, sequence, scene, names)
    if not lengths:
        raise InputError("there is no sequence to score; hand over at least one")
    missing = [str(wanted) for wanted in classes or () if wanted not in known]
    if missing:
        raise NotFoundError(f"no sequence has a class {', '.join(missing)}; scored otherwise: {_names(known)}")
    result = _result(cells, lengths, count, preprocess=preprocess, evaluator=evaluator, match_iou=match_iou)
    return replace(result, remarks=_gathered(remarks))


def _gathered(remarks: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Each sentence once, after the names of its sequences where there are several."""
    places: dict[str, list[str]] = {}
    for name, sentences in remarks.items():
        for sentence in sentences:
            places.setdefault(sentence, []).append(name)
    if len(remarks) == 1:
        return tuple(places)
    return tuple(f"{', '.join(names)}: {sentence}" for sentence, names in places.items())


def _remarks(kit: Preprocess, sequence: Sequence, scene: Scene, names: Mapping[int, str]) -> list[str]:
    """What there is to say of one sequence: by whoever read it, and of what was found in it."""
    said = [*sequence.gt.remarks, *sequence.tracker.remarks, *sequence.remarks]
    marks = np.abs(sequence.gt.confidence)
    if kit.classes is not None and (between := int(((marks > 0) & (marks < 1)).sum())):
        said.append(
            f"{between} labelled boxes have a mark between 0 and 1 (column 7), which {kit.name} takes for 0: not to be "
            "scored."
        )
    return said + _suspicions(sequence, scene, names)


def _suspicions(sequence: Sequence, scene: Scene, names: Mapping[int, str]) -> list[str]:
    """A sentence where boxes of these classes don't meet for a reason that is seldom the tracker's fault."""
    gt, tracker = sequence.gt, sequence.tracker
    if not (np.isin(gt.label, list(names)).any() and np.isin(tracker.label, list(names)).any()):
        return []
    if not len(scene.pairs):
        spans = f"labelled: {_extent(gt)}; result: {_extent(tracker)}"
        asked = "Are frames counted alike, and boxes of the same form and image size?"
        return [f"no box of the result touches a labelled one ({spans}). {asked}"]
    if (corners := _met_as_corners(scene, gt, tracker)) is not None:
        as_written = f"{_met(scene.pairs):,} as width and height, which they should be"
        fit = f"{corners:,} boxes of the result meet a labelled one if columns 5 and 6 are the right and lower edge"
        return [f"{fit}, and {as_written}. Write width and height."]
    if (gt.label[scene.pairs.gt] == tracker.label[scene.pairs.tracker]).any() or len(names) < 2:
        return []
    return ["boxes of the result touch labelled ones, but never one of the same class. Are classes numbered alike?"]


def _met(pairs: Pairs) -> int:
    return len(np.unique(pairs.tracker[pairs.iou >= 0.5]))


def _met_as_corners(scene: Scene, gt: Tracks, tracker: Tracks) -> int | None:
    """How many boxes would meet a labelled one if sizes were corners; ``None`` unless that is more."""
    corners = np.concatenate([tracker.box[:, :2], tracker.box[:, 2:] - tracker.box[:, :2]], axis=1)
    if not (corners[:, 2:] > corners[:, :2]).all():
        return None
    met = _met(find_pairs(scene.frames, gt.box, corners))
    return met if met > 2 * _met(scene.pairs) else None


def _extent(tracks: Tracks) -> str:
    (left, top), (right, bottom) = tracks.box[:, :2].min(axis=0), tracks.box[:, 2:].max(axis=0)
    first, last = int(tracks.frame.min()) + 1, int(tracks.frame.max()) + 1
    return f"frames {first}–{last}, x {left:.5g}–{right:.5g}, y {top:.5g}–{bottom:.5g}"


def _names(known: set[str | int]) -> str:
    return ", ".join(sorted(name for name in known if isinstance(name, str))) or "none"


def _scene(sequence: Sequence) -> Scene:
    gt, tracker = sequence.gt, sequence.tracker
    frames = Frames.of(gt.frame, tracker.frame)
    return Scene(sequence.frames, frames, gt.id, tracker.id, find_pairs(frames, gt.box, tracker.box))


def _result(
    cells: dict[tuple[str, str], tuple[MotFigures, Any]], lengths: Mapping[str, int], count: Evaluator, *,
    preprocess: str, evaluator: str, match_iou: float,
) -> MotResult:  # fmt: skip
    names = list(dict.fromkeys(name for _, name in cells)) or ["–"]
    for sequence, length in lengths.items():  # a class that doesn't occur in a sequence is nothing in its frames
        for name in names:
            if (sequence, name) not in cells:
                empty = _scene(Sequence(sequence, length, Tracks.empty(), Tracks.empty()))
                cells[sequence, name] = count(empty, match_iou=match_iou)
    figures = {(sequence, name): cells[sequence, name][0] for sequence in lengths for name in names}
    per_class = {name: MotFigures.combined([figures[sequence, name] for sequence in lengths]) for name in names}
    per_sequence = {
        sequence: MotFigures.combined([figures[sequence, name] for name in names], same_frames=True)
        for sequence in lengths
    }
    return MotResult(
        combined=MotFigures.combined(list(per_class.values()), same_frames=True),
        class_averaged=MotFigures.averaged(
            [each for each in per_class.values() if each.gt_boxes + each.tracker_boxes] or list(per_class.values())
        ),
        per_sequence=Frozen(per_sequence),
        per_class=Frozen(per_class),
        cells=Frozen(figures),
        preprocess=preprocess,
        evaluator=evaluator,
        match_iou=match_iou,
        accumulators=Frozen({key: cells[key][1] for key in figures if cells[key][1] is not None}),
    )
