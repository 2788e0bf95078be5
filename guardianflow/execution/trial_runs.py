"""What the process that executes a trial does: it enters the trial's study, reports to it, and leaves its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, RunFailedError
from guardianflow.execution.studies import Studies, Study
from guardianflow.files.run_folder import write_json
from guardianflow.runners.training.pruning import TRIAL_FILE
from guardianflow.scenario.experiment_design import Trial

if TYPE_CHECKING:
    from guardianflow.runs.tracking import TrackedRun

__all__ = ["enter_trial", "keep_outcome", "reporter_of"]

log = logging.getLogger(__name__)


def enter_trial(settings: Settings, trial: Trial, run: TrackedRun) -> None:
    """Note the run of a trial in its study, and leave in its folder what its training must know.

    Raises:
        RunFailedError: The study isn't here, or the trial is executed by another sweep.
    """
    study = _study_of(settings, trial.study)
    with study.lock():
        study.enter(trial, run.run_id)
    known = {"study": trial.study, "number": trial.number, "metric": study.scenario.sweep.metric}
    write_json(run.folder / TRIAL_FILE, known)


def keep_outcome(settings: Settings, trial: Trial, result: Mapping[str, Any]) -> None:
    """Leave in the study what a trial's run hands back, before the run ends."""
    metrics = {name: value for name, value in result.get("metrics", {}).items() if isinstance(value, int | float)}
    pruned = result.get("stopped_by") == "pruner"
    outcome = {"metrics": metrics, "pruned": pruned, "epochs": len(result.get("history", ()))}
    study = _study_of(settings, trial.study)
    with study.lock():
        study.keep_outcome(trial.number, outcome)


def reporter_of(settings: Settings, trial: Mapping[str, Any]) -> Callable[[int, float], bool]:
    """``report(epoch, value) -> stop`` for the training of a trial; a study that is away stops nothing.

    Args:
        settings: Where the study is.
        trial: What :func:`enter_trial` left.
    """
    study: Study | None = None

    def report(epoch: int, value: float) -> bool:
        nonlocal study
        try:
            study = study or Studies(settings).get(trial["study"])
            return study.report(trial["number"], epoch, value)
        except Exception as error:  # noqa: BLE001 - a training must not end over this
            log.warning("study %s can't be told of epoch %d (%s); the training goes on", trial["study"], epoch, error)
            return False

    return report


def _study_of(settings: Settings, name: str) -> Study:
    try:
        return Studies(settings).get(name)
    except GuardianFlowError as error:
        raise RunFailedError(
            f"the study of this trial can't be reached from here ({error}); every machine that executes trials needs "
            "the same GUARDIANFLOW_DATABASE_URL, or the same work folder"
        ) from error
