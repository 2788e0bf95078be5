"""Which track followed which labelled object, and when it changed: CLEAR's identity switches, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from guardianflow.evaluation.mot.sequences import Sequence, Tracks
from guardianflow.vision.samples import box_iou

__all__ = ["FollowedSpan", "followed_spans"]

_STAY = 1000.0  # worth of staying together: more than any sum of overlaps
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class FollowedSpan:
    """A stretch in which one track followed one labelled object; the object may be missed within it.

    Attributes:
        label: Class number of the object.
        object: Its labelled identity.
        track: The track's identity.
        first: First frame, counted from 0.
        last: Last frame.
    """

    label: int
    object: int
    track: int
    first: int
    last: int


def followed_spans(sequence: Sequence, *, match_iou: float = 0.5) -> list[FollowedSpan]:
    """Who followed whom, by object and time: each span after an object's first is one identity switch of CLEAR.

    Matches are made as CLEAR MOT makes them (Bernardin and Stiefelhagen 2008): each class on its own, at an
    overlap of ``match_iou``, and whoever was together in the frame before stays together.
    """
    spans = []
    for label in sequence.labels():
        gt = sequence.gt.take(sequence.gt.label == label)
        found = sequence.tracker.take(sequence.tracker.label == label)
        open_spans: dict[int, FollowedSpan] = {}
        for frame, thing, track in _matches(gt, found, match_iou):
            span = open_spans.get(thing)
            begun = span.first if span is not None and span.track == track else frame
            if span is not None and span.track != track:
                spans.append(span)
            open_spans[thing] = FollowedSpan(label, thing, track, begun, frame)
        spans += open_spans.values()
    return sorted(spans, key=lambda span: (span.label, span.object, span.first))


def _matches(gt: Tracks, found: Tracks, match_iou: float) -> Iterator[tuple[int, int, int]]:
    """Frame, object and track of each match."""
    from scipy.optimize import linear_sum_assignment

    before: dict[int, int] = {}
    for frame in np.intersect1d(gt.frame, found.frame).tolist():
        ours, theirs = gt.take(gt.frame == frame), found.take(found.frame == frame)
        overlap = box_iou(ours.box, theirs.box)
        stays = np.array([[before.get(thing) == track for track in theirs.id.tolist()] for thing in ours.id.tolist()])
        worth = np.where(overlap >= match_iou - _EPS, overlap + _STAY * stays, 0.0)
        rows, columns = linear_sum_assignment(worth, maximize=True)
        kept = worth[rows, columns] > 0
        before = dict(zip(ours.id[rows[kept]].tolist(), theirs.id[columns[kept]].tolist(), strict=True))
        yield from ((frame, thing, track) for thing, track in before.items())
