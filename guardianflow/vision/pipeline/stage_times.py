"""How long the stages of a detection took: the row of one image, and the columns of many."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["STAGES", "StageRow", "StageTimes"]

STAGES = ("decode", "preprocess", "forward", "postprocess", "tracking")

Milliseconds = npt.NDArray[np.float64]


def _no_times() -> Milliseconds:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class StageRow:
    """Stages of one image, in milliseconds.

    Attributes:
        decode: From the file to pixels, the source's own ``next()`` included; 0 for pixels already there.
        preprocess: Letterbox, to floats in 0–1.
        forward: The batch's time on the device divided by its images. From its submission, or from the
            result before it where that came later, to its own result: no time is counted twice.
        postprocess: Non-maximum suppression and the way back to the image's pixels.
        tracking: Filled in by who tracks.
    """

    decode: float = 0.0
    preprocess: float = 0.0
    forward: float = 0.0
    postprocess: float = 0.0
    tracking: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the stages: what one image alone takes, nothing overlapped."""
        return self.decode + self.preprocess + self.forward + self.postprocess + self.tracking


@dataclass(frozen=True, eq=False)
class StageTimes:
    """Stages of many images, one entry an image, in milliseconds; see :class:`StageRow`.

    Decoding and pre-processing run in threads of their own while the device works, and an asynchronous
    device works while results are post-processed: the stages' sum may be more than the wall clock.
    An image that can't be decoded has a row, too, with zero where it didn't come.

    Attributes:
        wall_s: Seconds from the first request for a result to the last, what was done with the results
            in between included.
    """

    decode: Milliseconds = field(default_factory=_no_times)
    preprocess: Milliseconds = field(default_factory=_no_times)
    forward: Milliseconds = field(default_factory=_no_times)
    postprocess: Milliseconds = field(default_factory=_no_times)
    tracking: Milliseconds = field(default_factory=_no_times)
    wall_s: float = 0.0

    @classmethod
    def from_rows(cls, rows: Iterable[StageRow], *, wall_s: float) -> StageTimes:
        """Columns of the rows."""
        table = np.array([dataclasses.astuple(row) for row in rows], dtype=float).reshape(-1, len(STAGES))
        columns = {name: np.ascontiguousarray(table[:, place]) for place, name in enumerate(STAGES)}
        return cls(**columns, wall_s=wall_s)

    @property
    def images(self) -> int:
        """How many images."""
        return len(self.forward)

    @property
    def per_second(self) -> float:
        """Images per second of wall clock."""
        return self.images / self.wall_s if self.wall_s > 0 else 0.0

    def with_tracking(self, tracking: npt.ArrayLike, *, wall_s: float | None = None) -> StageTimes:
        """The same with the tracker's milliseconds, one an image."""
        column = np.asarray(tracking, dtype=float)
        if column.shape != self.forward.shape:
            raise ValueError(f"tracking needs one time an image: {self.images} images, {column.shape} given")
        return dataclasses.replace(self, tracking=column, wall_s=self.wall_s if wall_s is None else wall_s)

    def to_dict(self) -> dict[str, Any]:
        """Median, p95 and mean of every stage with any time in it, as plain JSON."""
        stages = {}
        for name in STAGES:
            column: Milliseconds = getattr(self, name)
            if column.any():
                median, p95 = np.percentile(column, (50, 95))
                stages[name] = {"p50_ms": float(median), "p95_ms": float(p95), "mean_ms": float(column.mean())}
        return {"images": self.images, "wall_s": self.wall_s, "images_per_s": self.per_second, "stages": stages}
