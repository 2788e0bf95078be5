"""Which boxes overlap, and which of them belong together: flat lists instead of a matrix a frame.

Most pairs of a frame need no assignment problem. A pair is certain when it weighs more than the best other
pair of its ground-truth box and the best other pair of its predicted box together: whoever left it out could swap
it in and gain. Only a frame that still holds a doubt afterwards is solved, whole and once, by the Hungarian method,
so that ties fall as they do in trackeval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.sequences import Floats, Ints

__all__ = ["EPS", "Frames", "Pairs", "assign", "find_pairs", "frame_slices", "share_inside", "solve_frame"]

EPS = float(np.finfo(np.float64).eps)

_CHUNK = 1 << 17  # pairs looked at together: small enough for the processor's cache
_CERTAIN = 1 + 1e-12  # nearer than this is a tie, and ties are the Hungarian method's to break

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Frames:
    """Where the boxes of each frame lie in arrays that are sorted by frame.

    Only frames with at least one box are counted here, so a sequence may be as long as it likes.

    Attributes:
        gt: (n,) number of the frame of each ground-truth box, 0 … count-1.
        tracker: (p,) the same for each predicted box.
        gt_start: (count + 1,) first ground-truth box of each frame.
        tracker_start: (count + 1,) first predicted box of each frame.
        known: (count,) what those frames are called in the sequence.
    """

    gt: Ints
    tracker: Ints
    gt_start: Ints
    tracker_start: Ints
    known: Ints

    @classmethod
    def of(cls, gt_frame: Ints, tracker_frame: Ints) -> Frames:
        """Number the frames of two ascending columns together."""
        new = [np.concatenate([[True], np.diff(column) > 0])[: len(column)] for column in (gt_frame, tracker_frame)]
        known = np.union1d(gt_frame[new[0]], tracker_frame[new[1]])
        return cls._counted(np.searchsorted(known, gt_frame), np.searchsorted(known, tracker_frame), known)

    @classmethod
    def _counted(cls, gt: Ints, tracker: Ints, known: Ints) -> Frames:
        edges = np.arange(len(known) + 1)
        return cls(gt, tracker, np.searchsorted(gt, edges), np.searchsorted(tracker, edges), known)

    def among(self, gt_rows: Ints, tracker_rows: Ints) -> Frames:
        """The same frames with these boxes only."""
        return self._counted(self.gt[gt_rows], self.tracker[tracker_rows], self.known)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Overlapping boxes of the same frame, by ascending ground-truth box, then predicted box.

    Attributes:
        gt: (k,) row of the ground-truth box.
        tracker: (k,) row of the predicted box.
        iou: (k,) their intersection over union, above 0.
    """

    gt: Rows
    tracker: Rows
    iou: Floats

    def __len__(self) -> int:
        return len(self.gt)

    def take(self, rows: npt.NDArray[Any] | slice) -> Pairs:
        """These pairs, by mask or by index."""
        return Pairs(self.gt[rows], self.tracker[rows], self.iou[rows])

    def among(self, gt_rows: Ints, tracker_rows: Ints, gt_count: int, tracker_count: int) -> Pairs:
        """The pairs between boxes that are kept, counted by their new rows."""
        gt_map, tracker_map = np.full(gt_count, -1, np.int32), np.full(tracker_count, -1, np.int32)
        gt_map[gt_rows] = np.arange(len(gt_rows))
        tracker_map[tracker_rows] = np.arange(len(tracker_rows))
        gt, tracker = gt_map[self.gt], tracker_map[self.tracker]
        kept = (gt >= 0) & (tracker >= 0)
        return Pairs(gt[kept], tracker[kept], self.iou[kept])


def _touching(frame: Ints, start: Ints, boxes: Floats, others: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Rows of boxes and of others in the same frame that overlap in x and y, a chunk at a time."""
    first, count = start[frame], start[frame + 1] - start[frame]
    ends = np.cumsum(count)
    x1, y1, x2, y2 = (np.ascontiguousarray(column) for column in boxes.T)
    ox1, oy1, ox2, oy2 = (np.ascontiguousarray(column) for column in others.T)
    row, done = 0, 0
    while row < len(frame):
        stop = max(int(np.searchsorted(ends, done + _CHUNK, side="right")), row + 1)
        many = count[row:stop]
        total = int(ends[stop - 1]) - done
        shift = first[row:stop] - (ends[row:stop] - many - done)
        other = np.arange(total) + np.repeat(shift, many)
        beside = (ox1[other] < np.repeat(x2[row:stop], many)) & (ox2[other] > np.repeat(x1[row:stop], many))
        place = np.flatnonzero(beside)
        mine = np.searchsorted(ends[row:stop] - done, place, side="right") + row
        other = other[place]
        above = (oy1[other] < y2[mine]) & (oy2[other] > y1[mine])
        yield mine[above], other[above]
        row, done = stop, int(ends[stop - 1])


def _intersection(boxes: Floats, others: Floats) -> Floats:
    size = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    product: Floats = np.maximum(size[:, 0], 0) * np.maximum(size[:, 1], 0)
    return product


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area


def find_pairs(frames: Frames, gt: Floats, tracker: Floats) -> Pairs:
    """All pairs of boxes of the same frame with an intersection over union above 0.

    Boxes without area overlap nothing, as in trackeval.

    Args:
        frames: Which boxes stand in the same frame.
        gt: (n, 4) x1, y1, x2, y2 by ascending frame.
        tracker: (p, 4) the same.
    """
    gt_area, tracker_area = _area(gt), _area(tracker)
    parts: list[tuple[Rows, Rows, Floats]] = []
    for mine, other in _touching(frames.gt, frames.tracker_start, gt, tracker):
        inner = _intersection(gt[mine], tracker[other])
        own, its = gt_area[mine], tracker_area[other]
        union = own + its - inner
        real = (own > EPS) & (its > EPS) & (union > EPS)
        iou = np.divide(inner, union, out=np.zeros_like(inner), where=real)
        kept = iou > 0
        parts.append((mine[kept].astype(np.int32), other[kept].astype(np.int32), iou[kept]))
    if not parts:
        return Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def share_inside(frame: Ints, boxes: Floats, region_frame: Ints, regions: Floats) -> Floats:
    """(n,) the largest share of each box's area that lies in one region of its frame, 0–1.

    Args:
        frame: (n,) ascending.
        boxes: (n, 4) x1, y1, x2, y2.
        region_frame: (r,) frame of each region.
        regions: (r, 4) x1, y1, x2, y2.
    """
    order = np.argsort(region_frame, kind="stable")
    frames = Frames.of(frame, region_frame[order])
    share, area, regions = np.zeros(len(boxes)), _area(boxes), regions[order]
    for mine, other in _touching(frames.gt, frames.tracker_start, boxes, regions):
        inner, own = _intersection(boxes[mine], regions[other]), area[mine]
        np.maximum.at(share, mine, np.divide(inner, own, out=np.zeros_like(inner), where=own > EPS))
    return share


def assign(pairs: Pairs, weight: Floats, frames: Frames) -> Mask:
    """The pairs of each frame's maximum-weight matching.

    Args:
        pairs: Candidates.
        weight: (k,) what a pair is worth; a pair of 0 is none.
        frames: Where the boxes of each frame lie.

    Returns:
        (k,) whether each pair is chosen.
    """
    chosen = np.zeros(len(pairs), np.bool_)
    gt_count, tracker_count = len(frames.gt), len(frames.tracker)
    left = np.flatnonzero(weight > 0)
    while len(left):
        sure = _certain(pairs.gt[left], pairs.tracker[left], weight[left], gt_count, tracker_count)
        if not sure.any():
            break
        settled = left[sure]
        chosen[settled] = True
        gt_done, tracker_done = np.zeros(gt_count, np.bool_), np.zeros(tracker_count, np.bool_)
        gt_done[pairs.gt[settled]] = True
        tracker_done[pairs.tracker[settled]] = True
        left = left[~gt_done[pairs.gt[left]] & ~tracker_done[pairs.tracker[left]]]
    for part, frame in frame_slices(pairs, frames, left):
        chosen[part] = solve_frame(pairs.take(part), weight[part], frames, frame)
    return chosen


def _certain(gt: Rows, tracker: Rows, weight: Floats, gt_count: int, tracker_count: int) -> Mask:
    """Pairs that weigh more than the best others of both their boxes together."""
    best, other = zip(_best_two(gt, weight, gt_count), _best_two(tracker, weight, tracker_count), strict=True)
    top = (weight == best[0][gt]) & (weight == best[1][tracker])
    sure: Mask = top & (weight > (other[0][gt] + other[1][tracker]) * _CERTAIN)
    return sure


def _best_two(box: Rows, weight: Floats, count: int) -> tuple[Floats, Floats]:
    """The best and the second-best weight of each box; twice the best where two share it."""
    best, second = np.zeros(count), np.zeros(count)
    np.maximum.at(best, box, weight)
    is_best = weight == best[box]
    np.maximum.at(second, box[~is_best], weight[~is_best])
    shared = np.bincount(box[is_best], minlength=count) > 1
    second[shared] = best[shared]
    return best, second


def frame_slices(pairs: Pairs, frames: Frames, rows: Ints) -> Iterator[tuple[slice, int]]:
    """The frames that these pairs stand in, ascending, each with the slice of all its pairs."""
    found = np.unique(frames.gt[pairs.gt[rows]])
    begins = np.searchsorted(pairs.gt, frames.gt_start[found])
    ends = np.searchsorted(pairs.gt, frames.gt_start[found + 1])
    for frame, begin, end in zip(found.tolist(), begins.tolist(), ends.tolist(), strict=True):
        yield slice(begin, end), frame


def solve_frame(pairs: Pairs, weight: Floats, frames: Frames, frame: int) -> Mask:
    """The maximum-weight matching of one frame's pairs by the Hungarian method."""
    from scipy.optimize import linear_sum_assignment

    gt_first, tracker_first = int(frames.gt_start[frame]), int(frames.tracker_start[frame])
    matrix = np.zeros(
        (int(frames.gt_start[frame + 1]) - gt_first, int(frames.tracker_start[frame + 1]) - tracker_first)
    )
    row, column = pairs.gt - gt_first, pairs.tracker - tracker_first
    matrix[row, column] = weight
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    partner = np.full(len(matrix), -1)
    partner[rows] = columns
    chosen: Mask = (partner[row] == column) & (weight > 0)
    return chosen
