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
from functools import cached_property
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


class Training(NamedTuple):
    """A run, with what others of the same training add to it; and those others."""

    run: FinishedRun
    others: tuple[FinishedRun, ...] = ()


def trainings(runs: Sequence[FinishedRun]) -> list[Training]:
    """The runs, those of one training together: at the place of the first, as the one that holds the most."""
    curves = [_Curves(run) for run in runs]
    places: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(curves):
        for key in each.keys:
            places.setdefault(key, []).append(place)
    free = set(range(len(runs)))
    found: list[tuple[int, Training]] = []
    for place in sorted(free, key=lambda place: _rank(runs[place])):
        if place not in free:
            continue
        free.discard(place)
        others: list[int] = []
        near = {other for key in curves[place].keys for other in places[key]} & free
        for other in sorted(near, key=lambda other: (_apart(runs[place], runs[other]), other)):
            loggers = {_logger(runs[one]) for one in (place, *others)}
            if _logger(runs[other]) not in loggers and curves[place].are(curves[other]):
                others.append(other)
        free.difference_update(others)
        found.append((min(place, *others, place), _together(runs[place], [runs[other] for other in others])))
    return [training for _, training in sorted(found, key=lambda pair: pair[0])]


class _Curves:
    """A run's figures under names without signs: ``metrics/mAP50(B)`` and ``metrics/mAP50B`` are one."""

    def __init__(self, run: FinishedRun) -> None:
        self._run = run

    @cached_property
    def values(self) -> dict[str, dict[int, float]]:
        """Plain name → step → its last value, in order of the steps."""
        return {
            plain(name): dict(sorted({step: value for step, value, _ in points}.items()))
            for name, points in self._run.history.items()
        }

    @cached_property
    def keys(self) -> list[tuple[str, str]]:
        """What runs of one training have in common, as far as rounding lets them."""
        ends = ((name, values[max(values)]) for name, values in self.values.items() if values)
        return [(name, f"{value:.2e}") for name, value in ends if math.isfinite(value) and not value.is_integer()]

    def are(self, other: _Curves) -> bool:
        """Whether what both name has the same figures."""
        shared = self.values.keys() & other.values.keys()
        agreeing = [name for name in shared if _agree(self.values[name], other.values[name])]
        different = {f"{value:.3e}" for name in agreeing for value in self.values[name].values()}
        return len(different) >= _FEWEST and len(agreeing) >= _SHARE * len(shared)


def plain(name: str) -> str:
    """A metric's name without capitals and signs."""
    return _LETTERS.sub("", name.lower())


def _agree(one: dict[int, float], other: dict[int, float]) -> bool:
    """The same curve, wherever its steps begin; or the same values at the steps that both have."""
    if len(one) == len(other):
        pairs: Iterable[tuple[float, float]] = zip(one.values(), other.values(), strict=True)
        return all(_close(*pair) for pair in pairs)
    steps = one.keys() & other.keys()
    return len(steps) >= _FEWEST and all(_close(one[step], other[step]) for step in steps)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))


def _logger(run: FinishedRun) -> str:
    """What wrote it. Lightning's loggers write folders of their own: a table is one's, event files are another's."""
    table = run.kind == "lightning" and any(path.name == "metrics.csv" for path in run.artifacts)
    return f"{run.kind} table" if table else run.kind


def _rank(run: FinishedRun) -> tuple[bool, int, str]:
    kind = _PREFERRED.index(run.kind) if run.kind in _PREFERRED else len(_PREFERRED)
    return (run.weights is None, kind, run.digest)


def _apart(one: FinishedRun, other: FinishedRun) -> float:
    """Seconds between their beginnings: of several that fit, the nearest is meant."""
    if one.started is None or other.started is None:
        return math.inf
    return abs((one.started - other.started).total_seconds())


def _together(run: FinishedRun, others: Sequence[FinishedRun]) -> Training:
    history, parameters, remarks = dict(run.history), dict(run.parameters), list(run.remarks)
    for other in others:
        known = {plain(name) for name in history}
        more = {name: points for name, points in other.history.items() if plain(name) not in known}
        asked = {name: value for name, value in other.parameters.items() if name not in parameters}
        history |= more
        parameters |= asked
        remarks.append(
            f"{printable(other.path)} ({other.kind} {printable(other.name)}) describes the same training and is no run "
            f"of its own; taken from there: {len(more)} metrics, {len(asked)} parameters"
        )
    merged = replace(run, history=history, parameters=parameters, remarks=tuple(remarks)) if others else run
    return Training(merged, tuple(others))
