"""The labels that a training sees: those that the check of the dataset has read, in the form that Ultralytics takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ultralytics.data.utils as data_utils

from guardianflow.data.labels import LabelRow, read_labels

__all__ = ["read_checked_labels"]

_ultralytics_own: Callable[[Any], tuple[Any, ...] | list[Any]] = data_utils.verify_image_label


def read_checked_labels(arguments: tuple[str, str, str, bool, int, int, int, bool]) -> tuple[Any, ...] | list[Any]:
    """What Ultralytics' ``verify_image_label`` returns, with the rows as :func:`read_labels` takes them.

    Args:
        arguments: Image, label file, prefix of messages, whether keypoints are trained on, number of classes,
            keypoints a row, numbers a keypoint, whether all classes count as one.
    """
    image, label, prefix, pose, classes, count, dimensions, one_class = arguments
    if pose:  # no training of ours
        return _ultralytics_own(arguments)
    try:
        _, shape = data_utils.check_image(image)
        parsed = read_labels(
            Path(label), classes=1 << 31 if one_class else classes, keypoints=(count, dimensions) if count else None
        )
    except Exception as error:  # noqa: BLE001 - as Ultralytics does: the image is left out, whatever is wrong with it
        return _left_out(image, prefix, str(error))
    if parsed is not None and parsed.errors:
        return _left_out(image, prefix, parsed.errors[0].detail)
    rows = parsed.rows if parsed else ()
    found = parsed is not None
    return image, _boxes(rows), shape, _segments(rows), None, int(not found), int(found), int(found and not rows), 0, ""


def _left_out(image: str, prefix: str, why: str) -> list[Any]:
    return [None, None, None, None, None, 0, 0, 0, 1, f"{prefix}{image}: ignoring corrupt image/label: {why}"]


def _boxes(rows: tuple[LabelRow, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Class, centre and size, (n, 5)."""
    return np.array([row[:5] for row in rows], dtype=np.float32).reshape(-1, 5)


def _segments(rows: tuple[LabelRow, ...]) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """The polygons, (k, 2) each, which turn and shear with the image in training."""
    return [np.array(row.polygon, dtype=np.float32).reshape(-1, 2) for row in rows if row.polygon]
