"""How often the interval of a comparison holds the truth, by simulation.

    python benchmarks/interval_coverage.py [--trials 1000] [--short]

Two made-up detectors look at a population of 10,000 images, on which the difference of their mAP is known. Images
differ in how hard they are and objects in how easy, for both detectors alike, so that the pairing matters as it does
with real models. Samples are drawn from the population, each is compared as ``guardianflow compare`` does it, and
counted is in how many the 95 % interval holds the known difference; and, where the two are as good as equal, how often
one is called better. Goal: 93 to 97 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.detection.records import DetectionRecord, GroundTruth, Images, Predictions
from guardianflow.evaluation.significance import paired_bootstrap

POPULATION = 10_000
CELLS = {"red": 3.0, "white": 1.0, "platelet": 1.0}
RARE = {"person": 3.0, "vehicle": 2.0, "forklift": 0.08}
"""Classes → objects an image."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One situation: how many images, which classes, how far the detectors are apart."""

    name: str
    images: int
    gain: float = 0.0
    classes: str = "cells"
    metric: str = "map50_95"


CASES = (
    Case("87 images, equally good", 87),
    Case("87 images, one better", 87, gain=0.25),
    Case("87 images, one better, mAP50", 87, gain=0.25, metric="map50"),
    Case("30 images, one better", 30, gain=0.25),
    Case("300 images, equally good, mAP50", 300, metric="map50"),
    Case("87 images, a class on 7, mAP50", 87, gain=0.25, classes="rare", metric="map50"),
    Case("300 images, a class on 23, mAP50", 300, gain=0.25, classes="rare", metric="map50"),
)


def population(
    images: int, classes: Mapping[str, float], gains: Sequence[float], *, seed: int = 0
) -> list[DetectionRecord]:
    """What detectors see of the same images, one record each; ``gains`` says how far each is ahead."""
    random = np.random.default_rng(seed)
    ease = random.normal(0, 0.6, images)
    crowded = random.gamma(4, 0.25, images)
    counts = [random.poisson(rate * crowded) for rate in classes.values()]
    image = np.concatenate([np.repeat(np.arange(images), count) for count in counts])
    label = np.repeat(np.arange(len(counts)), [count.sum() for count in counts])
    size = np.exp(random.normal(3.8, 0.5, (len(image), 2))).clip(12, 200)
    corner = np.stack([random.uniform(0, 560, len(image)), random.uniform(0, 400, len(image))], axis=1)
    truth = GroundTruth(
        image, label, np.concatenate([corner, corner + size], 1), np.zeros(len(image), bool), size.prod(axis=1)
    )
    names = Images(tuple(f"{place}.jpg" for place in range(images)), np.full(images, 640), np.full(images, 480))
    shared = 0.9 + ease[image] + random.normal(0, 0.6, len(image))
    ghost = np.repeat(np.arange(images), random.poisson(3 * np.exp(-0.5 * ease)))
    ghosts = _Ghosts(
        ghost, random.integers(0, len(counts), len(ghost)), random.normal(-1.2, 0.8, len(ghost)),
        np.stack([random.uniform(0, 560, len(ghost)), random.uniform(0, 400, len(ghost))], axis=1),
        np.exp(random.normal(3.8, 0.5, (len(ghost), 2))).clip(12, 200),
    )  # fmt: skip
    return [
        DetectionRecord(names, tuple(classes), truth, _seen(truth, shared + gain, ghosts, random)) for gain in gains
    ]


@dataclass(frozen=True)
class _Ghosts:
    """What looks like an object and is none: each detector falls for some of them."""

    image: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    look: _Floats
    corner: _Floats
    size: _Floats


def _seen(truth: GroundTruth, shared: _Floats, ghosts: _Ghosts, random: np.random.Generator) -> Predictions:
    sure = shared + random.normal(0, 0.5, len(shared))
    found = sure > -0.4
    size = truth.box[:, 2:] - truth.box[:, :2]
    blur = (0.07 * np.exp(-0.25 * sure))[:, None]
    middle = (truth.box[:, 2:] + truth.box[:, :2]) / 2 + random.normal(0, 1, size.shape) * blur * size
    half = size * np.exp(random.normal(0, 1, size.shape) * blur) / 2
    look = ghosts.look + random.normal(0, 0.5, len(ghosts.look))
    fell = look > -1.4
    start = ghosts.corner[fell]
    return Predictions(
        np.concatenate([truth.image[found], ghosts.image[fell]]),
        np.concatenate([truth.label[found], ghosts.label[fell]]),
        1 / (1 + np.exp(-np.concatenate([sure[found] + random.normal(0, 0.4, int(found.sum())), look[fell]]))),
        np.concatenate([np.concatenate([middle - half, middle + half], 1)[found],
                        np.concatenate([start, start + ghosts.size[fell]], 1)]),
    )  # fmt: skip


class Sampler:
    """Draws samples of a population: the same images of both records."""

    def __init__(self, records: Sequence[DetectionRecord]) -> None:
        self._records = records
        self._truth = _by_image(records[0].truth.image, len(records[0].images))
        self._found = [_by_image(record.predictions.image, len(record.images)) for record in records]

    def sample(self, images: npt.NDArray[np.int64]) -> list[DetectionRecord]:
        """The records of these images alone."""
        whole, place = self._records[0], np.arange(len(images))
        rows, many = _rows(self._truth, images)
        names = Images(
            tuple(whole.images.names[one] for one in images), whole.images.width[images], whole.images.height[images]
        )
        truth = GroundTruth(
            np.repeat(place, many), whole.truth.label[rows], whole.truth.box[rows], whole.truth.crowd[rows],
            whole.truth.area[rows],
        )  # fmt: skip
        parts = []
        for record, index in zip(self._records, self._found, strict=True):
            rows, many = _rows(index, images)
            found = record.predictions
            seen = Predictions(np.repeat(place, many), found.label[rows], found.score[rows], found.box[rows])
            parts.append(DetectionRecord(names, whole.classes, truth, seen))
        return parts


def _by_image(image: npt.NDArray[np.int32], images: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    order = np.argsort(image, kind="stable")
    return order, np.searchsorted(image[order], np.arange(images + 1))


def _rows(
    index: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]], images: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    order, start = index
    parts = [order[start[one] : start[one + 1]] for one in images]
    return np.concatenate(parts), np.array([len(part) for part in parts])


@dataclass(frozen=True)
class Coverage:
    """What the trials of a case gave.

    Attributes:
        known: The difference on the population.
        held: Share of the trials whose interval holds it.
        below: Share whose interval lies wholly below it.
        above: Share whose interval lies wholly above it.
        claimed: Share that claims a difference.
        width: Mean width of the interval.
    """

    known: float
    held: float
    below: float
    above: float
    claimed: float
    width: float


def coverage(case: Case, *, trials: int, images: int = POPULATION, resamples: int = 1000, seed: int = 0) -> Coverage:
    """Compare ``trials`` samples of a population whose difference is known."""
    classes = {"cells": CELLS, "rare": RARE}[case.classes]
    records = population(images, classes, (case.gain, 0.0), seed=seed)
    known = paired_bootstrap(*records, metric=case.metric, resamples=1).difference
    sampler, random = Sampler(records), np.random.default_rng(seed + 1)
    ends = np.empty((trials, 2))
    for trial in range(trials):
        drawn = random.choice(images, case.images, replace=False)
        found = paired_bootstrap(*sampler.sample(drawn), metric=case.metric, resamples=resamples, seed=trial)
        ends[trial] = found.low, found.high
    low, high = ends.T
    return Coverage(
        known=known, held=float(((low <= known) & (known <= high)).mean()), below=float((high < known).mean()),
        above=float((low > known).mean()), claimed=float(((low > 0) | (high < 0)).mean()),
        width=float((high - low).mean()),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--short", action="store_true", help="50 trials of 200 draws: shows that it runs, no figure")
    options = parser.parse_args()
    trials, resamples = (50, 200) if options.short else (options.trials, options.resamples)
    print(f"{trials:,} trials of {resamples:,} draws a case; load average {os.getloadavg()[0]:.1f}")
    print(f"{'case':38} {'known':>8} {'holds it':>9} {'below':>7} {'above':>7} {'claims':>7} {'width':>7}")
    missed = 0
    for case in CASES:
        began = time.perf_counter()
        found = coverage(case, trials=trials, resamples=resamples)
        missed += not 0.93 <= found.held <= 0.97
        print(
            f"{case.name:38} {found.known:+8.4f} {found.held:9.1%} {found.below:7.1%} {found.above:7.1%} "
            f"{found.claimed:7.1%} {found.width:7.4f}   {time.perf_counter() - began:.0f} s"
        )
    print(f"goal 93–97 %   {'met' if not missed else f'MISSED in {missed} of {len(CASES)} cases'}")


if __name__ == "__main__":
    main()
