"""One training that several loggers or folders describe, found again by its figures.

A training of Ultralytics that was logged to MLflow as well, or Lightning's tables beside its event files, is one run.
Two runs are one training where they come from different kinds of loggers and what both name has the same figures.
Two folders of one kind are two trainings, though they may be equal to the last digit: somebody ran it twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from guardianflow.adapters.finished_runs.folders import FinishedRun
from guardianflow.text.printable import printable

__all__ = ["Training", "trainings"]

_FEWEST = 3
"""Different figures that must agree; fewer may do so by chance."""
_SHARE = 0.9
_CLOSE = 1e-4  # relative: event files hold 32 bits, tables five digits
_PREFERRED = ("ultralytics", "yolov5", "lightning", "tensorboard", "mlflow")
_LETTERS = re.compile(r"[^a-z0-9]")
_Curves = dict[str, dict[int, float]]
"""Name without signs (``metrics/mAP50(B)`` and ``metrics/mAP50B`` are one) → step → its last value."""


class Training(NamedTuple):
    """A run, with what others of the same training add to it; and those others."""

    run: FinishedRun
    others: tuple[FinishedRun, ...] = ()

    @property
    def all(self) -> tuple[FinishedRun, ...]:
        """The run and the others."""
        return (self.run, *self.others)


def trainings(runs: Sequence[FinishedRun]) -> list[Training]:
    """The runs, those of one training together: at the place of the first, as the one that holds the most."""
    curves = [_curves(run) for run in runs]
    ends = [_ends(each) for each in curves]
    places: dict[tuple[str, str], list[int]] = {}
    for place, keys in enumerate(ends):
        for key in keys:
            places.setdefault(key, []).append(place)
    free = set(range(len(runs)))
    found: dict[int, Training] = {}
    for place in sorted(free, key=lambda place: _rank(runs[place])):
        if place not in free:
            continue
        same = [place]
        near = {other for key in ends[place] for other in places[key]} & free - {place}
        for other in sorted(near, key=lambda other: (_apart(runs[place], runs[other]), other)):
            loggers = {_logger(runs[one]) for one in same}
            if _logger(runs[other]) not in loggers and _are_one(curves[place], curves[other]):
                same.append(other)
        free.difference_update(same)
        found[min(same)] = _together(runs[place], [runs[other] for other in same[1:]])
    return [found[place] for place in sorted(found)]


def _plain(name: str) -> str:
    return _LETTERS.sub("", name.lower())


def _curves(run: FinishedRun) -> _Curves:
    return {
        _plain(name): dict(sorted({step: value for step, value, _ in points}.items()))
        for name, points in run.history.items()
    }


def _ends(curves: _Curves) -> list[tuple[str, str]]:
    """What runs of one training have in common, as far as rounding lets them."""
    ends = ((name, values[max(values)]) for name, values in curves.items() if values)
    return [(name, f"{value:.2e}") for name, value in ends if math.isfinite(value) and not value.is_integer()]


def _are_one(one: _Curves, other: _Curves) -> bool:
    """Whether what both name has the same figures."""
    shared = one.keys() & other.keys()
    agreeing = [name for name in shared if _agree(one[name], other[name])]
    different = {f"{value:.3e}" for name in agreeing for value in one[name].values()}
    return len(different) >= _FEWEST and len(agreeing) >= _SHARE * len(shared)


def _agree(one: dict[int, float], other: dict[int, float]) -> bool:
    """The same curve, wherever its steps begin; or the same values at the steps that both have."""
    steps = one.keys() & other.keys()
    pairs: Iterable[tuple[float, float]] = ((one[step], other[step]) for step in steps)
    if len(one) == len(other):
        pairs = zip(one.values(), other.values(), strict=True)
    elif len(steps) < _FEWEST:
        return False
    return all(math.isclose(*pair, rel_tol=_CLOSE, abs_tol=1e-9) or all(map(math.isnan, pair)) for pair in pairs)


def _logger(run: FinishedRun) -> str:
    """What wrote it. Lightning's loggers write folders of their own: a table is one's, event files are another's."""
    table = run.kind == "lightning" and any(path.name == "metrics.csv" for path in run.artifacts)
    return f"{run.kind} table" if table else run.kind


def _rank(run: FinishedRun) -> tuple[bool, int, str]:
    return (run.weights is None, (*_PREFERRED, run.kind).index(run.kind), run.digest)


def _apart(one: FinishedRun, other: FinishedRun) -> float:
    """Seconds between their beginnings: of several that fit, the nearest is meant."""
    if one.started is None or other.started is None:
        return math.inf
    return abs((one.started - other.started).total_seconds())


def _together(run: FinishedRun, others: Sequence[FinishedRun]) -> Training:
    history, parameters, remarks = dict(run.history), dict(run.parameters), list(run.remarks)
    for other in others:
        known = set(map(_plain, history))
        more = {name: points for name, points in other.history.items() if _plain(name) not in known}
        asked = {name: value for name, value in other.parameters.items() if name not in parameters}
        history |= more
        parameters |= asked
        remarks.append(
            f"{printable(other.path)} ({other.kind} {printable(other.name)}) describes the same training and is no run "
            f"of its own; taken from there: {len(more)} metrics, {len(asked)} parameters"
        )
    merged = replace(run, history=history, parameters=parameters, remarks=tuple(remarks))
    return Training(merged, tuple(others))
