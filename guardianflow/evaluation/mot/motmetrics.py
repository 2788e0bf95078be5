"""The motmetrics package as the counter, for those who compare with figures made by it or use its accumulator.

Its figures are its own: it keeps a match from frame to frame for as long as the boxes overlap enough, also across
frames in which one of them was absent; it calls a track mostly tracked from 80% on (MOTChallenge: above 80%); and it
counts a fragmentation where a labelled track is present and missed between two matches. It has no HOTA.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from guardianflow._imports import require
from guardianflow.evaluation.mot.counts import Scene
from guardianflow.evaluation.mot.figures import Clear, Identity, MotFigures

__all__ = ["accumulate", "count_with_motmetrics"]

_COUNTS = {
    "tp": "num_detections", "fn": "num_misses", "fp": "num_false_positives", "idsw": "num_switches",
    "mt": "mostly_tracked", "pt": "partially_tracked", "ml": "mostly_lost", "frag": "num_fragmentations",
    "idtp": "idtp", "idfn": "idfn", "idfp": "idfp",
}  # fmt: skip
"""Our name → motmetrics' name."""


def accumulate(scene: Scene, *, match_iou: float = 0.5) -> Any:
    """A ``motmetrics.MOTAccumulator`` with every frame of the sequence, counted from 0.

    The distance is 1 - IoU, made here: motmetrics 1.4.0's own ``iou_matrix`` fails with numpy 2.

    Raises:
        MissingDependencyError: motmetrics is absent.
    """
    motmetrics = require("motmetrics", extra="motmetrics", purpose="evaluator='motmetrics'")
    accumulator = motmetrics.MOTAccumulator(auto_id=False)
    frames, pairs = scene.frames, scene.pairs.take(scene.pairs.iou >= match_iou)
    starts = np.searchsorted(pairs.gt, frames.gt_start)
    number = {frame: place for place, frame in enumerate(frames.known.tolist())}
    for frame in range(scene.length):
        place = number.get(frame)
        if place is None:
            accumulator.update([], [], np.zeros((0, 0)), frameid=frame)
            continue
        gt, tracker = (slice(start[place], start[place + 1]) for start in (frames.gt_start, frames.tracker_start))
        part = slice(starts[place], starts[place + 1])
        distance = np.full((gt.stop - gt.start, tracker.stop - tracker.start), np.nan)
        distance[pairs.gt[part] - gt.start, pairs.tracker[part] - tracker.start] = 1 - pairs.iou[part]
        accumulator.update(scene.gt_id[gt], scene.tracker_id[tracker], distance, frameid=frame)
    return accumulator


def count_with_motmetrics(scene: Scene, *, match_iou: float) -> tuple[MotFigures, Any]:
    """The figures of motmetrics for one sequence and class, without HOTA, and the accumulator behind them.

    Raises:
        MissingDependencyError: motmetrics is absent.
    """
    accumulator = accumulate(scene, match_iou=match_iou)
    counts = dict.fromkeys(_COUNTS, 0)
    mean_distance = 0.0
    if len(scene.gt_id) and len(scene.tracker_id):
        motmetrics = require("motmetrics", extra="motmetrics")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pandas tells motmetrics what will change; it is not the caller's
            found = motmetrics.metrics.create().compute(
                accumulator, metrics=[*_COUNTS.values(), "motp"], return_dataframe=False
            )
        counts = {name: int(found[theirs]) for name, theirs in _COUNTS.items()}
        mean_distance = float(found["motp"]) if counts["tp"] else 0.0
    else:  # it divides by nothing here, and its matrix of identities is empty
        counts |= {"fn": len(scene.gt_id), "fp": len(scene.tracker_id), "ml": len(np.unique(scene.gt_id))}
        counts |= {"idfn": len(scene.gt_id), "idfp": len(scene.tracker_id)}
    figures = MotFigures(
        hota=None,
        clear=Clear.of(
            frames=scene.length,
            motp_sum=(1 - mean_distance) * counts["tp"],
            **{name: counts[name] for name in ("tp", "fn", "fp", "idsw", "mt", "pt", "ml", "frag")},
        ),
        identity=Identity.of(**{name: counts[name] for name in ("idtp", "idfn", "idfp")}),
        gt_boxes=len(scene.gt_id),
        gt_tracks=len(np.unique(scene.gt_id)),
        tracker_boxes=len(scene.tracker_id),
        tracker_tracks=len(np.unique(scene.tracker_id)),
    )
    return figures, accumulator
