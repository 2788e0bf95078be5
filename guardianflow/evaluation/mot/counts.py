"""HOTA, CLEAR and Identity of one sequence and class, counted over the flat list of overlapping pairs.

Equal to trackeval 1.3.0 to 1e-9, with four differences on purpose:

- Frag: a frame with labelled boxes but no predicted box interrupts a track. trackeval skips such a frame.
- False positives a frame: a sequence in which one side is empty keeps its frames. trackeval counts none.
- Frames of several classes of one sequence are the same frames. trackeval's box-averaged combination adds them up.
- A sequence without labelled boxes has the MOTA, MODA and MLR that the formulas give it. trackeval sets them to
  0, 0 and 1 for the sequence, and follows the formulas in the combination.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.figures import ALPHAS, Clear, Hota, Identity, MotFigures
from guardianflow.evaluation.mot.pairs import EPS, Frames, Mask, Pairs, assign, frame_slices, solve_frame
from guardianflow.evaluation.mot.sequences import Floats, Ints, compact

__all__ = ["Scene", "count_scene"]

_STAY = 1000.0  # trackeval's weight of going on with the predicted track of the frame before
_DENSE = 4_000_000  # cells of a matrix that may be solved as one


@dataclass(frozen=True, eq=False)
class Scene:
    """One class of one sequence, ready to be counted.

    Attributes:
        length: Frames of the sequence, those without boxes too.
        frames: Where each frame's boxes lie.
        gt_id: (n,) identity of each labelled box, any numbers.
        tracker_id: (p,) identity of each predicted box, any numbers.
        pairs: The boxes that overlap.
    """

    length: int
    frames: Frames
    gt_id: Ints
    tracker_id: Ints
    pairs: Pairs

    def among(self, gt_rows: Ints, tracker_rows: Ints) -> Scene:
        """The same scene with these boxes only, by row."""
        counts = (len(self.gt_id), len(self.tracker_id))
        if (len(gt_rows), len(tracker_rows)) == counts:
            return self
        return Scene(
            self.length,
            self.frames.among(gt_rows, tracker_rows),
            self.gt_id[gt_rows],
            self.tracker_id[tracker_rows],
            self.pairs.among(gt_rows, tracker_rows, *counts),
        )


@dataclass(frozen=True, eq=False)
class _Tracks:
    """Identities numbered 0, 1, …, how many boxes each has, and the pairs of identities that ever overlap."""

    gt_id: Ints
    tracker_id: Ints
    gt_boxes: Ints
    tracker_boxes: Ints
    couple: Ints
    couple_gt: Ints
    couple_tracker: Ints


def count_scene(scene: Scene, *, match_iou: float) -> MotFigures:
    """All figures of one sequence and class.

    Args:
        scene: Its boxes and their overlaps.
        match_iou: IoU from which CLEAR and Identity take a pair for a match; HOTA has its own thresholds.
    """
    tracks = _number(scene)
    return MotFigures(
        hota=_hota(scene, tracks),
        clear=_clear(scene, tracks, match_iou),
        identity=_identity(scene, tracks, match_iou),
        gt_boxes=len(scene.gt_id),
        gt_tracks=len(tracks.gt_boxes),
        tracker_boxes=len(scene.tracker_id),
        tracker_tracks=len(tracks.tracker_boxes),
    )


def _number(scene: Scene) -> _Tracks:
    gts, gt_id = compact(scene.gt_id)
    trackers, tracker_id = compact(scene.tracker_id)
    keys = gt_id[scene.pairs.gt] * trackers + tracker_id[scene.pairs.tracker]
    couples, couple = compact(keys)
    key_of = np.zeros(couples, np.int64)
    key_of[couple] = keys
    return _Tracks(
        gt_id,
        tracker_id,
        np.bincount(gt_id, minlength=gts),
        np.bincount(tracker_id, minlength=trackers),
        couple,
        key_of // max(trackers, 1),
        key_of % max(trackers, 1),
    )


def _hota(scene: Scene, tracks: _Tracks) -> Hota:
    chosen = np.flatnonzero(assign(scene.pairs, _alignment(scene, tracks) * scene.pairs.iou, scene.frames))
    iou, couple = scene.pairs.iou[chosen], tracks.couple[chosen]
    levels, couples = len(ALPHAS), len(tracks.couple_gt)
    level = np.searchsorted(ALPHAS - EPS, iou, side="right")  # so many thresholds does the pair reach
    tp = _reached(np.bincount(level, minlength=levels + 1))
    iou_sum = _reached(np.bincount(level, weights=iou, minlength=levels + 1))
    # Matches of each couple by threshold; a couple that never matched adds nothing to the sums below.
    number, couple = compact(couple)
    keep = np.zeros(number, np.int64)
    keep[couple] = tracks.couple[chosen] if couples else 0
    table = np.bincount(couple * (levels + 1) + level, minlength=number * (levels + 1))
    matches = _reached(table.reshape(number, levels + 1))
    gt_boxes = tracks.gt_boxes[tracks.couple_gt[keep]][:, None]
    tracker_boxes = tracks.tracker_boxes[tracks.couple_tracker[keep]][:, None]
    squares, per_match = matches * matches, np.maximum(1, tp)
    return Hota.of(
        tp=tp,
        fn=len(scene.gt_id) - tp,
        fp=len(scene.tracker_id) - tp,
        assa=(squares / np.maximum(1, gt_boxes + tracker_boxes - matches)).sum(axis=0) / per_match,
        assre=(squares / np.maximum(1, gt_boxes)).sum(axis=0) / per_match,
        asspr=(squares / np.maximum(1, tracker_boxes)).sum(axis=0) / per_match,
        iou_sum=iou_sum,
    )


def _reached(by_level: npt.NDArray[np.generic]) -> Floats:
    """(…, 20) by the number of thresholds reached → (…, 19) by threshold: all that reach it."""
    sums: Floats = np.cumsum(by_level[..., ::-1], axis=-1)[..., ::-1][..., 1:].astype(np.float64)
    return sums


def _alignment(scene: Scene, tracks: _Tracks) -> Floats:
    """(k,) how well the two tracks of each pair go together over the whole sequence, 0–1."""
    pairs, iou = scene.pairs, scene.pairs.iou
    by_tracker = np.bincount(pairs.tracker, weights=iou, minlength=len(scene.tracker_id))
    by_gt = np.bincount(pairs.gt, weights=iou, minlength=len(scene.gt_id))
    around = by_tracker[pairs.tracker] + by_gt[pairs.gt] - iou
    share = np.divide(iou, around, out=np.zeros_like(iou), where=around > EPS)
    together = np.bincount(tracks.couple, weights=share, minlength=len(tracks.couple_gt))
    boxes = tracks.gt_boxes[tracks.couple_gt] + tracks.tracker_boxes[tracks.couple_tracker]
    aligned: Floats = (together / (boxes - together))[tracks.couple]
    return aligned


def _clear(scene: Scene, tracks: _Tracks, match_iou: float) -> Clear:
    pairs = scene.pairs.take(scene.pairs.iou >= match_iou - EPS)
    chosen = _continued(pairs, scene, tracks)
    matched = pairs.take(chosen)
    gt = tracks.gt_id[matched.gt]
    boxes, hits = tracks.gt_boxes, np.bincount(gt, minlength=len(tracks.gt_boxes))
    ratio = hits / np.maximum(1, boxes)
    mt = int(np.count_nonzero(ratio > 0.8))
    pt = int(np.count_nonzero(ratio >= 0.2)) - mt
    # One labelled track after the other, each by time.
    order = np.argsort(gt, kind="stable")
    same = np.diff(gt[order]) == 0
    switched = np.diff(tracks.tracker_id[matched.tracker][order]) != 0
    labelled = np.cumsum(np.diff(scene.frames.gt_start) > 0)
    apart = np.diff(labelled[scene.frames.gt[matched.gt][order]]) > 1
    return Clear.of(
        frames=scene.length,
        tp=len(matched),
        fn=len(scene.gt_id) - len(matched),
        fp=len(scene.tracker_id) - len(matched),
        idsw=int(np.count_nonzero(same & switched)),
        mt=mt,
        pt=pt,
        ml=len(boxes) - mt - pt,
        frag=int(np.count_nonzero(same & apart)),
        motp_sum=float(matched.iou.sum()),
    )


def _continued(pairs: Pairs, scene: Scene, tracks: _Tracks) -> Mask:
    """CLEAR's matches: whoever was matched in the frame before stays together; the rest is matched by IoU.

    A pair whose boxes have no other candidate is a match whatever came before; only the frames with a choice are
    walked through in order.
    """
    frames = scene.frames
    gt_degree = np.bincount(pairs.gt, minlength=len(scene.gt_id))
    tracker_degree = np.bincount(pairs.tracker, minlength=len(scene.tracker_id))
    chosen: Mask = (gt_degree[pairs.gt] == 1) & (tracker_degree[pairs.tracker] == 1)
    begin = _pair_starts(pairs, frames)
    before = _frame_before(frames)
    pair_gt, pair_tracker = tracks.gt_id[pairs.gt], tracks.tracker_id[pairs.tracker]
    last = np.full(len(tracks.gt_boxes), -1)
    for part, frame in frame_slices(pairs, frames, np.flatnonzero(~chosen)):
        old = slice(begin[before[frame]], begin[before[frame] + 1]) if before[frame] >= 0 else slice(0, 0)
        held = pair_gt[old][chosen[old]]
        last[held] = pair_tracker[old][chosen[old]]
        weight = _STAY * (last[pair_gt[part]] == pair_tracker[part]) + pairs.iou[part]
        last[held] = -1
        chosen[part] = solve_frame(pairs.take(part), weight, frames, frame)
    return chosen


def _pair_starts(pairs: Pairs, frames: Frames) -> Ints:
    """(frames + 1,) first pair of each frame."""
    return np.searchsorted(pairs.gt, frames.gt_start)


def _frame_before(frames: Frames) -> Ints:
    """The last earlier frame with boxes of both sides, -1 where there is none: what trackeval remembers."""
    both = (np.diff(frames.gt_start) > 0) & (np.diff(frames.tracker_start) > 0)
    latest = np.maximum.accumulate(np.where(both, np.arange(len(both)), -1))
    return np.concatenate([[-1], latest[:-1]]) if len(latest) else latest


def _identity(scene: Scene, tracks: _Tracks, match_iou: float) -> Identity:
    hits = np.bincount(tracks.couple[scene.pairs.iou >= match_iou], minlength=len(tracks.couple_gt))
    met = hits > 0
    idtp = _best_total(tracks.couple_gt[met], tracks.couple_tracker[met], hits[met])
    return Identity.of(idtp=idtp, idfn=len(scene.gt_id) - idtp, idfp=len(scene.tracker_id) - idtp)


def _best_total(row: Ints, column: Ints, worth: Ints) -> int:
    """The largest total that pairing each row with one column at most can reach."""
    if not len(worth):
        return 0
    (rows, row), (columns, column) = compact(row), compact(column)
    if rows * columns <= _DENSE:
        from scipy.optimize import linear_sum_assignment

        matrix = np.zeros((rows, columns))
        matrix[row, column] = worth
        return int(matrix[linear_sum_assignment(matrix, maximize=True)].sum())
    return _best_total_sparse(row, column, worth, rows, columns)


def _best_total_sparse(row: Ints, column: Ints, worth: Ints, rows: int, columns: int) -> int:
    """As above for many thousands of tracks: memory grows with the couples that met, not with all there could be.

    Each row also has a column of its own that is worth nothing, so that a full matching exists.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    own = np.arange(rows)
    above = int(worth.max()) + 1
    cost = np.concatenate([above - worth, np.full(rows, above)]).astype(np.float64)
    place = (np.concatenate([row, own]), np.concatenate([column, columns + own]))
    graph = csr_array((cost, place), shape=(rows, columns + rows))
    matched = min_weight_full_bipartite_matching(graph)
    return int(above * rows - graph[matched].sum())
