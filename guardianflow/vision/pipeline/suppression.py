"""The one non-maximum suppression: a model's raw output to its boxes, the same for every backend.

Keeps the same boxes as ``ultralytics.utils.nms.non_max_suppression`` (with torchvision), without torch: the
arithmetic is float32 in the same order, ties stay in the order of the anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError

__all__ = ["MAX_CANDIDATES", "SelectedBoxes", "check_output", "select_boxes", "select_image"]

MAX_CANDIDATES = 30_000
"""Boxes above the confidence that suppression looks at, the best; Ultralytics' ``max_nms``."""

_CLASS_STEP = 7680.0  # boxes of different classes are moved so far apart that they don't meet (Ultralytics' max_wh)
_PAIRS_AT_ONCE = 1 << 16  # of boxes compared in one go: their arrays stay in the cache
_MIN_BLOCK, _MAX_BLOCK = 8, 128

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False, slots=True)
class SelectedBoxes:
    """What is left of one image's raw output, the best first.

    Attributes:
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels of the model's input, not clipped.
        scores: float32 (n,).
        labels: int32 (n,), class ids.
        not_finite: Anchors left out because a score or a coordinate was NaN or infinite.
    """

    boxes: Floats
    scores: Floats
    labels: Ints
    not_finite: int = 0


def select_boxes(
    raw: Floats, *, confidence: float, iou: float = 0.7, max_det: int = 300, multi_label: bool = False,
    max_candidates: int = MAX_CANDIDATES,
) -> list[SelectedBoxes]:  # fmt: skip
    """The boxes of each image of a batch.

    Args:
        raw: float32, a raw head (B, 4 + classes, anchors) with boxes as x, y, width, height, or the output
            of an end-to-end model (B, N, 6) with x1, y1, x2, y2, score, label.
        confidence: Scores at or below it are left out.
        iou: Overlap above which the weaker box of the same class goes. An end-to-end model has no such boxes.
        max_det: Boxes kept per image, the best.
        multi_label: Whether a box may count for several classes, or for its best one only.
        max_candidates: Boxes that suppression looks at, the best of those above the confidence.

    Raises:
        InputError: The output has another shape.
    """
    check_output(raw)
    return [
        select_image(
            one, confidence=confidence, iou=iou, max_det=max_det, multi_label=multi_label, max_candidates=max_candidates
        )
        for one in raw
    ]


def select_image(
    raw: Floats, *, confidence: float, iou: float = 0.7, max_det: int = 300, multi_label: bool = False,
    max_candidates: int = MAX_CANDIDATES,
) -> SelectedBoxes:  # fmt: skip
    """As :func:`select_boxes` for one image: (4 + classes, anchors) or (N, 6)."""
    threshold = np.float32(confidence)
    if raw.shape[-1] == 6:
        return _select_end_to_end(raw, threshold, max_det)
    best = raw[4:].max(axis=0)
    candidates = np.flatnonzero(best > threshold)
    lost = int(np.isnan(best).sum()) if np.isnan(best.max(initial=0)) else 0  # NaN compares false
    boxes, scores, labels, infinite = _candidates(raw, candidates, best, threshold, multi_label=multi_label)
    lost += infinite
    order = np.argsort(-scores, kind="stable")[:max_candidates]
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    apart = boxes + (labels.astype(np.float32) * np.float32(_CLASS_STEP))[:, None]
    kept = _suppress(apart, iou, max_det)
    return SelectedBoxes(boxes[kept], scores[kept], labels[kept], lost)


def check_output(raw: Floats, images: int | None = None) -> None:
    """Refuse what is no output of a detector for so many images.

    Raises:
        InputError: It has another shape.
    """
    if raw.ndim != 3 or (raw.shape[-1] != 6 and raw.shape[1] < 5) or (images is not None and len(raw) != images):
        expected = "images" if images is None else str(images)
        raise InputError(
            f"a detector's output has the shape ({expected}, 4 + classes, anchors) or ({expected}, boxes, 6), "
            f"not {raw.shape}; export the model for detection, without post-processing in it"
        )


def _candidates(
    raw: Floats, candidates: Places, best: Floats, threshold: np.float32, *, multi_label: bool
) -> tuple[Floats, Floats, Ints, int]:
    """Corners, scores and labels of what is above the threshold, by anchor and then by class."""
    rows = raw[:, candidates].T  # (n, 4 + classes)
    finite = np.isfinite(rows[:, :4]).all(axis=1) & np.isfinite(best[candidates])
    infinite = len(candidates) - int(np.count_nonzero(finite))
    if infinite:
        rows = rows[finite]
    half = rows[:, 2:4] / np.float32(2)
    boxes = np.concatenate((rows[:, :2] - half, rows[:, :2] + half), axis=1)
    classes = rows[:, 4:]
    if multi_label and classes.shape[1] > 1:
        place, label = np.nonzero(classes > threshold)
        return boxes[place], classes[place, label], label.astype(np.int32), infinite
    label = classes.argmax(axis=1)
    return boxes, classes[np.arange(len(label)), label], label.astype(np.int32), infinite


def _select_end_to_end(raw: Floats, threshold: np.float32, max_det: int) -> SelectedBoxes:
    finite = np.isfinite(raw).all(axis=1)
    rows = raw[finite & (raw[:, 4] > threshold)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")[:max_det]]
    lost = len(raw) - int(np.count_nonzero(finite))
    return SelectedBoxes(rows[:, :4].copy(), rows[:, 4].copy(), rows[:, 5].astype(np.int32), lost)


def _suppress(boxes: Floats, iou: float, max_det: int) -> Places:
    """Places of the boxes to keep: greedy, each drops the later ones that it overlaps by more than ``iou``.

    Works on blocks: within a block one by one, then all that it keeps against the rest at once.

    Args:
        boxes: (n, 4) corners, the best first.
        iou: The threshold.
        max_det: Ends as soon as so many are kept.
    """
    limit = _as_float32_limit(iou)
    corners = np.ascontiguousarray(boxes.T)
    areas = (corners[2] - corners[0]) * (corners[3] - corners[1])
    alive = np.arange(len(boxes))
    kept: list[Places] = []
    wanted = max_det
    while len(alive) and wanted > 0:
        block = min(max(_PAIRS_AT_ONCE // len(alive), _MIN_BLOCK), _MAX_BLOCK, len(alive))
        mine, rest = alive[:block], alive[block:]
        mine = mine[_survivors(_overlaps(corners, areas, mine, mine, limit))][:wanted]
        kept.append(mine)
        wanted -= len(mine)
        if len(rest) and wanted > 0:
            rest = rest[~_overlaps(corners, areas, mine, rest, limit).any(axis=0)]
        alive = rest
    return np.concatenate(kept) if kept else alive


def _survivors(overlap: npt.NDArray[np.bool_]) -> Places:
    """Places kept within a block whose boxes overlap as the (n, n) table says; the earlier box wins."""
    dropped = np.zeros(len(overlap), bool)
    overlapping = np.count_nonzero(overlap, axis=1) > np.diagonal(overlap)  # with another than itself
    for place in np.flatnonzero(overlapping):
        if not dropped[place]:
            dropped[place + 1 :] |= overlap[place, place + 1 :]
    return np.flatnonzero(~dropped)


def _overlaps(
    corners: Floats, areas: Floats, first: Places, second: Places, limit: np.float32
) -> npt.NDArray[np.bool_]:
    """Which of ``first`` (rows) and ``second`` (columns) overlap by more than the limit."""
    ones, others = corners[:, first][:, :, None], corners[:, second][:, None, :]
    shared = np.minimum(ones[2], others[2])
    shared -= np.maximum(ones[0], others[0])
    np.maximum(shared, np.float32(0), out=shared)
    high = np.minimum(ones[3], others[3])
    high -= np.maximum(ones[1], others[1])
    np.maximum(high, np.float32(0), out=high)
    shared *= high
    both = np.add(areas[first][:, None], areas[second][None, :], out=high)
    both -= shared
    with np.errstate(divide="ignore", invalid="ignore"):  # boxes without an area overlap nothing
        shared /= both
    return np.asarray(shared > limit)


def _as_float32_limit(value: float) -> np.float32:
    """The largest float32 not above the value: comparing with it is comparing with the value itself."""
    rounded = np.float32(value)
    return np.nextafter(rounded, np.float32(-1)) if float(rounded) > value else rounded
