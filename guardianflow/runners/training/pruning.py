"""Whom a training asks after each epoch whether it is still worth it: the sweep that it is a trial of."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from guardianflow.core.config import Settings

if TYPE_CHECKING:
    from guardianflow.vision.training.epochs import EpochReport

__all__ = ["TRIAL_FILE", "Prune", "pruner_of"]

TRIAL_FILE = "trial.json"
"""In a trial's folder: its study, its number, and the metric that its sweep goes by."""

_REPORTER = "guardianflow.execution.trial_runs:reporter_of"  # imported when there is a trial, as runners are

Prune: TypeAlias = "Callable[[EpochReport], bool]"


def pruner_of(folder: Path, settings: Settings) -> Prune:
    """What is asked after each epoch of the training in a run's folder; it says whether the training ends there."""
    path = folder / TRIAL_FILE
    if not path.is_file():
        return lambda _: False
    trial = json.loads(path.read_text(encoding="utf-8"))
    module, _, name = _REPORTER.partition(":")
    report: Callable[[int, float], bool] = getattr(import_module(module), name)(settings, trial)
    metric = trial["metric"]
    return lambda epoch: metric in epoch.metrics and report(epoch.epoch, epoch.metrics[metric])
