"""What keeps tracking from being perfect: the detector or the tracker.

The tracker is run again on the labelled boxes, as a perfect detector would have found them. What it still loses is
its own; what it gains by them is what the detector cost:

    1 - HOTA  =  (1 - HOTA of the tracker on labelled boxes)  +  (HOTA on labelled boxes - HOTA)
                  the tracker's part                              the detector's part

The first part is an upper bound of what a better tracker brings with this data, the second of what a better
detector brings with this tracker. The parts are no more than that: both depend on each other, and the detector's
part can be negative where a tracker takes labelled boxes worse than detected ones (labelled boxes of hidden objects
cross each other). The oracle runs of TrackEval's HOTA paper (Luiten et al., IJCV 2021, section 5) are the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.evaluate import evaluate_mot
from guardianflow.exceptions import InputError
from guardianflow.vision.tracking.run import TrackCollector
from guardianflow.vision.tracking.tracker import DEFAULT_FPS, Tracker

if TYPE_CHECKING:
    from guardianflow.evaluation.mot.figures import MotFigures
    from guardianflow.evaluation.mot.sequences import Tracks
    from guardianflow.vision.pipeline.frames import FrameSource
    from guardianflow.vision.tracking.truth import TrackingEvaluation

__all__ = ["HotaLoss", "split_hota_loss"]


@dataclass(frozen=True)
class HotaLoss:
    """What is lost on the way to a HOTA of 1, and by whom; fractions.

    Attributes:
        tracker: Name of the tracker.
        hota: With the detector's boxes.
        deta: Detection part of it.
        assa: Association part of it.
        hota_oracle: With the labelled boxes in the detector's place.
        deta_oracle: Detection part of that.
        assa_oracle: Association part of that.
    """

    tracker: str
    hota: float
    deta: float
    assa: float
    hota_oracle: float
    deta_oracle: float
    assa_oracle: float

    @property
    def tracker_loss(self) -> float:
        """What the tracker loses on perfect boxes."""
        return 1.0 - self.hota_oracle

    @property
    def detector_loss(self) -> float:
        """What the detector's boxes cost on top; negative where the tracker does better with them."""
        return self.hota_oracle - self.hota

    @property
    def sentence(self) -> str:
        """The split in plain words."""
        lost = 1.0 - self.hota
        if lost < 0.005:
            return f"HOTA is {self.hota:.2f}: nothing to speak of is lost."
        if self.detector_loss < 0:
            return (
                f"HOTA is {self.hota:.2f}. On perfect boxes {self.tracker} reaches {self.hota_oracle:.2f}, less than "
                "on the detector's: all of the loss is the tracker's."
            )
        who = "the detector" if self.detector_loss > self.tracker_loss else self.tracker
        return (
            f"HOTA is {self.hota:.2f}; {lost:.2f} is lost: {self.detector_loss:.2f} by the detector and "
            f"{self.tracker_loss:.2f} by {self.tracker}, which reaches {self.hota_oracle:.2f} on perfect boxes. "
            f"There is more to gain from {who}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the parts and the sentence."""
        return {
            **asdict(self),
            "tracker_loss": self.tracker_loss, "detector_loss": self.detector_loss, "sentence": self.sentence,
        }  # fmt: skip


def split_hota_loss(
    evaluation: TrackingEvaluation, *, tracker: str, options: Mapping[str, Any] | None = None,
    frame_rate: float = DEFAULT_FPS, source: FrameSource | None = None,
) -> HotaLoss:  # fmt: skip
    """Run a tracker again on the labelled boxes and tell the two losses apart.

    Args:
        evaluation: Of the tracks with the detector's boxes.
        tracker: The same that made them.
        options: The same.
        frame_rate: The same.
        source: The frames, for trackers that look at them (camera motion); without it they don't.

    Raises:
        InputError: Nothing is labelled.
    """
    truth = evaluation.sequence.gt
    if evaluation.preprocess != "none":  # the kits score pedestrians that aren't marked as hidden
        truth = truth.take((truth.label == 1) & (truth.confidence != 0))
    if not len(truth):
        raise InputError(f"nothing is labelled in {evaluation.sequence.name}; there is no perfect detector to follow.")
    follower, collected = Tracker(tracker, frame_rate=frame_rate, options=options), TrackCollector()
    images = _images(source, evaluation.sequence.frames)
    for boxes, image in zip(_oracle(truth, evaluation.sequence.frames), images, strict=False):
        collected.add(follower.update(boxes, image))
    perfect = replace(evaluation.sequence, tracker=collected.tracks())
    with_labels = evaluate_mot([perfect], preprocess=evaluation.preprocess).combined
    ours, theirs = _hota(evaluation.result.combined), _hota(with_labels)
    return HotaLoss(tracker, *ours, *theirs)


def _images(source: FrameSource | None, frames: int) -> Iterator[npt.NDArray[np.uint8] | None]:
    if source is not None:
        for frame in source:
            yield frame.image
            frames -= 1
    for _ in range(frames):
        yield None


def _oracle(truth: Tracks, frames: int) -> Iterator[Any]:
    rows = truth.by_frame()
    starts = np.searchsorted(rows.frame, np.arange(frames + 1))
    for first, last in pairwise(starts.tolist()):
        count = last - first
        yield SimpleNamespace(
            boxes=rows.box[first:last].astype(np.float32),
            scores=np.ones(count, np.float32),
            labels=rows.label[first:last].astype(np.int32),
        )


def _hota(figures: MotFigures) -> tuple[float, float, float]:
    if figures.hota is None:
        raise InputError("the loss is split by HOTA, which this evaluator doesn't have; use evaluator='guardianflow'.")
    return float(figures.hota.hota.mean()), float(figures.hota.deta.mean()), float(figures.hota.assa.mean())
