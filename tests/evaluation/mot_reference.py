"""trackeval as the reference: the same boxes in its form, and its figures in our names."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from trackeval.datasets._base_dataset import _BaseDataset
from trackeval.metrics import CLEAR, HOTA, Identity

from guardianflow.evaluation.mot.evaluate import MotFigures
from guardianflow.evaluation.mot.sequences import Sequence, Tracks

HOTA_NAMES = {
    "tp": "HOTA_TP", "fn": "HOTA_FN", "fp": "HOTA_FP", "deta": "DetA", "assa": "AssA", "detre": "DetRe",
    "detpr": "DetPr", "assre": "AssRe", "asspr": "AssPr", "loca": "LocA", "hota": "HOTA", "owta": "OWTA",
    "hotaloca_0": "HOTALocA(0)",
}  # fmt: skip
CLEAR_NAMES = {
    "frames": "CLR_Frames", "tp": "CLR_TP", "fn": "CLR_FN", "fp": "CLR_FP", "idsw": "IDSW", "mt": "MT", "pt": "PT",
    "ml": "ML", "frag": "Frag", "motp_sum": "MOTP_sum", "mota": "MOTA", "motp": "MOTP", "moda": "MODA",
    "smota": "sMOTA", "motal": "MOTAL", "recall": "CLR_Re", "precision": "CLR_Pr", "f1": "CLR_F1", "mtr": "MTR",
    "ptr": "PTR", "mlr": "MLR", "fp_per_frame": "FP_per_frame",
}  # fmt: skip
IDENTITY_NAMES = {"idtp": "IDTP", "idfn": "IDFN", "idfp": "IDFP", "idf1": "IDF1", "idr": "IDR", "idp": "IDP"}


def metrics() -> tuple[Any, Any, Any]:
    quiet = {"PRINT_CONFIG": False}
    return HOTA(), CLEAR(quiet), Identity(quiet)


def per_frame(tracks: Tracks, frames: int) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Identities (numbered 0, 1, …) and boxes, a list entry a frame."""
    known, number = np.unique(tracks.id, return_inverse=True)
    rows = [np.flatnonzero(tracks.frame == frame) for frame in range(frames)]
    return [number[row] for row in rows], [tracks.box[row] for row in rows], len(known)


def data_of(sequence: Sequence) -> dict[str, Any]:
    gt_ids, gt_boxes, gts = per_frame(sequence.gt, sequence.frames)
    tracker_ids, tracker_boxes, trackers = per_frame(sequence.tracker, sequence.frames)
    return {
        "num_timesteps": sequence.frames,
        "num_gt_ids": gts,
        "num_tracker_ids": trackers,
        "num_gt_dets": len(sequence.gt),
        "num_tracker_dets": len(sequence.tracker),
        "gt_ids": gt_ids,
        "tracker_ids": tracker_ids,
        "similarity_scores": [
            _BaseDataset._calculate_box_ious(a, b, box_format="x0y0x1y1")
            for a, b in zip(gt_boxes, tracker_boxes, strict=True)
        ],
        "seq": sequence.name,
    }


def figures_of(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    with redirect_stdout(io.StringIO()):
        return {metric.get_name(): metric.eval_sequence(data) for metric in metrics()}


def combine(parts: list[dict[str, dict[str, Any]]], how: str) -> dict[str, dict[str, Any]]:
    """``how`` is one of trackeval's combine_sequences, combine_classes_det_averaged, …_class_averaged."""
    return {
        metric.get_name(): getattr(metric, how)({str(i): part[metric.get_name()] for i, part in enumerate(parts)})
        for metric in metrics()
    }


def differences(ours: MotFigures, theirs: dict[str, dict[str, Any]], *, skip: set[str] = frozenset()) -> list[str]:
    """Figures that aren't equal to 1e-9."""
    found = []
    for group, names, values in (
        (ours.hota, HOTA_NAMES, theirs["HOTA"]),
        (ours.clear, CLEAR_NAMES, theirs["CLEAR"]),
        (ours.identity, IDENTITY_NAMES, theirs["Identity"]),
    ):
        for name, their_name in names.items():
            mine, reference = getattr(group, name), values[their_name]
            if name not in skip and not np.allclose(mine, reference, rtol=0, atol=1e-9):
                found.append(f"{name}: {mine} is not {reference}")
    return found
