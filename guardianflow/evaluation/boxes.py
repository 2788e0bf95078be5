"""What can be told of boxes alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["are_shares"]

_OUTSIDE = 0.5  # of the image's size: so far may a normalised box reach beyond the edge


def are_shares(box: npt.NDArray[np.float64]) -> bool:
    """Whether boxes (n, 4), x1, y1, x2, y2, lie within an image of size 1, and so can't be in pixels."""
    if not len(box) or (box == np.floor(box)).all():
        return False
    inside = (box >= -_OUTSIDE).all() and (box <= 1 + _OUTSIDE).all()
    return bool(inside and (box[:, 2:] - box[:, :2] <= 1).all())
