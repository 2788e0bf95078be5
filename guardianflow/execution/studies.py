"""Studies: the trials of sweeps, shared by all processes that execute them; who has which, and what came of it.

Optuna keeps them, by ask and tell: in ``<work_dir>/studies.db``, or in a PostgreSQL schema of their own (its table
``alembic_version`` would be MLflow's in a common one). Optuna's own heartbeat fails living trials and forgets those
that died, so it is not used: a trial belongs to the run of the sweep that claimed it, and what became of it is what its
run record says.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState as OptunaState

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.exceptions import InputError, NotFoundError, RunFailedError
from guardianflow.execution.study_storage import open_storage
from guardianflow.execution.trials import TrialRow, TrialState, row_of
from guardianflow.scenario.experiment_design import STARTUP_TRIALS, Dimension, SweepScenario, Trial
from guardianflow.state.database import Database

__all__ = ["Studies", "Study"]

log = logging.getLogger(__name__)

_LOCK_SECONDS = 120.0
_FREE = {
    "sweep": {"study", "trials", "at_once", "executor", "address"},
    "run": {"register_as"},
    "dataset": {"data_yaml"},
}
"""What may differ when a study goes on; the data's content may not."""
_DATA = "the fingerprint of dataset.data_yaml"
_MEDIAN_STARTUP = 3
_HALVING_FACTOR = 3
_RUNGS = 2


class Studies:
    """The studies of a state database.

    Args:
        settings: Which database; beside the embedded one they lie in a file of their own.

    Raises:
        ConfigError: The file can't be read.
        SchemaTooNewError: A newer Optuna has written it.
        TrackingUnavailableError: The database doesn't answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database.open(settings.database_url)
        self._storage = open_storage(settings)

    def names(self) -> list[str]:
        """All of them, the newest first."""
        found = self._storage.get_all_studies()
        return [study.study_name for study in reversed(found) if "scenario" in study.user_attrs]

    def get(self, name: str) -> Study:
        """One study.

        Raises:
            NotFoundError: There is none of that name.
        """
        found = self._find(name)
        if found is None:
            known = ", ".join(self.names()[:10]) or "none yet; `guardianflow sweep FILE` makes one"
            raise NotFoundError(f"there is no study {name!r} here; known: {known}")
        return found

    def require_same_design(self, scenario: SweepScenario, data: str) -> None:
        """Check that a sweep may go on with the study that it names, if there is one.

        Args:
            scenario: The sweep.
            data: Fingerprint of its data.

        Raises:
            InputError: The study has another design; the first field that differs is named.
        """
        known = self._find(scenario.study)
        if known is not None:
            _require_same(known, scenario, data)

    def begin(self, scenario: SweepScenario, *, data: str, sweep: str) -> Study:
        """The study of a sweep, made where there is none yet.

        Args:
            scenario: The sweep.
            data: Fingerprint of its data.
            sweep: Run of the sweep; of the first one it becomes the parent of all trials.

        Raises:
            InputError: The study has another design.
        """
        self._storage = open_storage(self._settings, makes=True)
        with self._database.lock(_lock_of(scenario.study), timeout_s=_LOCK_SECONDS):
            known = self._find(scenario.study)
            if known is not None:
                _require_same(known, scenario, data)
                return known
            made = optuna.create_study(
                storage=self._storage, study_name=scenario.study, direction="maximize", load_if_exists=True
            )
            made.set_user_attr("data", data)
            made.set_user_attr("parent", sweep)
            made.set_user_attr("scenario", scenario.model_dump(mode="json"))  # last: with it, the study is whole
            return self.get(scenario.study)

    def _find(self, name: str) -> Study | None:
        try:
            found = optuna.load_study(study_name=name, storage=self._storage, sampler=optuna.samplers.RandomSampler())
        except KeyError:
            return None
        return Study(found, self._storage, self._database) if "scenario" in found.user_attrs else None


class Study:
    """One study. What changes it is called inside of :meth:`lock`, but for :meth:`report`.

    Attributes:
        name: Its name.
        scenario: The sweep that began it.
        data: Fingerprint of its data.
        parent: The run that all its trials lie below.
    """

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, database: Database) -> None:
        kept = study.user_attrs
        self.name = study.study_name
        self.scenario = SweepScenario.model_validate(kept["scenario"])
        self.data = str(kept["data"])
        self.parent = str(kept["parent"])
        self._study = study
        self._storage = storage
        self._database = database
        study.pruner = _pruner(self.scenario)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time asks, claims or tells."""
        with self._database.lock(_lock_of(self.name), timeout_s=_LOCK_SECONDS):
            yield

    @property
    def registered(self) -> Mapping[str, str]:
        """Run → version of those that were registered."""
        return dict(self._study.user_attrs.get("registered", {}))

    def note_registered(self, run_id: str, uri: str) -> None:
        """Keep which version a run became."""
        self._study.set_user_attr("registered", {**self.registered, run_id: uri})

    def rows(self) -> list[TrialRow]:
        """All trials by number, but for failed ones that were tried again."""
        rows = [row_of(trial) for trial in self._study.get_trials(deepcopy=False)]
        repeated = {row.again_of for row in rows}
        return [row for row in rows if row.number not in repeated]

    def row(self, number: int) -> TrialRow:
        """One trial."""
        return row_of(self._storage.get_trial(self._id(number)))

    def ask(self, point: Mapping[str, Any] | None, *, sweep: str, again_of: int | None = None) -> TrialRow:
        """A new trial, claimed.

        Args:
            point: Where it is; ``None``: where TPE says.
            sweep: Run of the sweep that claims it.
            again_of: The failed trial that it repeats.
        """
        trials = self._study.get_trials(deepcopy=False)
        if point is not None and not any(trial.state == OptunaState.WAITING for trial in trials):
            fixed = {name: _choice(value) for name, value in point.items()}
            self._study.enqueue_trial(fixed, user_attrs=None if again_of is None else {"again_of": again_of})
        self._study.sampler = self._sampler(len(trials))
        return self._claim(self._study.ask(), sweep)

    def claim(self, number: int, *, sweep: str) -> TrialRow:
        """A trial whose process died, taken over."""
        self._study.sampler = self._sampler(number)
        return self._claim(self._trial(number), sweep)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Who chooses a trial's values: by its number, so that it is the same whoever asks."""
        seed = (self.scenario.env.seed * 100_003 + number) % 2**32
        return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)

    def _claim(self, trial: optuna.Trial, sweep: str) -> TrialRow:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            space = self.scenario.sweep.space
            point = {name: _suggest(trial, name, dimension) for name, dimension in space.items()}
        trial.set_user_attr("point", point)
        trial.set_user_attr("sweep", sweep)
        return self.row(trial.number)

    def enter(self, trial: Trial, run_id: str) -> None:
        """Note the run that executes a trial.

        Raises:
            RunFailedError: The trial has ended, or another sweep has it executed by now.
        """
        row = self.row(trial.number)
        if row.ended or row.sweep != trial.sweep:
            by = f"has {row.state}" if row.ended else f"is executed by sweep {row.sweep}"
            raise RunFailedError(f"trial {trial.number} of study {self.name!r} {by}; this run is not needed")
        self._storage.set_trial_user_attr(self._id(trial.number), "run", run_id)

    def keep_outcome(self, number: int, outcome: Mapping[str, Any]) -> None:
        """What a trial's run hands back, for whoever tells it."""
        self._storage.set_trial_user_attr(self._id(number), "outcome", dict(outcome))

    def tell(self, row: TrialRow) -> None:
        """End a trial whose run finished with what that left; ended before, it stays as it is."""
        if self.row(row.number).ended:
            return
        metrics = row.outcome.get("metrics", {})
        value = metrics.get(self.scenario.sweep.metric, math.nan)
        if not math.isfinite(value):
            self.fail(row.number, f"its training measured no {self.scenario.sweep.metric}")
            return
        trial = self._trial(row.number)
        for rule in self.scenario.task.requirements:
            with contextlib.suppress(ValueError):  # nan: not known
                trial.set_constraint(rule, _excess(rule, metrics))
        if row.outcome.get("pruned"):
            self._study.tell(row.number, state=OptunaState.PRUNED)
        else:
            self._study.tell(row.number, value)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that failed; ended before, it stays as it is."""
        if not self.row(number).ended:
            self._storage.set_trial_user_attr(self._id(number), "reason", mask_secrets(reason)[:2000])
            self._study.tell(number, state=OptunaState.FAIL)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a trial's figure after an epoch; ``True`` where it should end there."""
        trial = self._trial(number)
        trial.report(value, epoch)
        return self.scenario.sweep.pruner != "none" and trial.should_prune()

    def importance(self) -> dict[str, float]:
        """Which share of the differences each field explains; empty where there are none, or too few trials."""
        if len({row.value for row in self.rows() if row.state == TrialState.FINISHED}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return {
                    name: float(share) for name, share in optuna.importance.get_param_importances(self._study).items()
                }
            except (ValueError, RuntimeError) as error:
                log.debug("no importance of fields: %s", error)
                return {}

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return int(self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self._study, self._id(number))


def _lock_of(name: str) -> str:
    return f"study {name}"


# --- designs --------------------------------------------------------------------------------------


def _require_same(study: Study, scenario: SweepScenario, data: str) -> None:
    old, new = _design(study.scenario, study.data), _design(scenario, data)
    for name in [*new, *old]:
        if old.get(name) != new.get(name):
            was, now = ("not set" if design.get(name) is None else design[name] for design in (old, new))
            raise InputError(
                f"study {study.name!r} has another design: {name} was {was}, here it is {now}; put it back, or begin "
                "another study: --set sweep.study=NAME"
            )


def _design(scenario: SweepScenario, data: str) -> dict[str, Any]:
    given = scenario.model_dump(mode="json", exclude={"site": True, **_FREE})
    return {**dict(_leaves(given, ())), _DATA: data[:12]}


def _leaves(value: Any, path: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield ".".join(path), value


# --- between our values and Optuna's ---------------------------------------------------------------


def _choice(value: Any) -> Any:
    """A value as Optuna takes it for a choice."""
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """The value of a field at a trial: the one that it has, or a new one."""
    if dimension.values:
        choices = [_choice(value) for value in dimension.values]
        return dimension.values[choices.index(trial.suggest_categorical(name, choices))]
    low, high = dimension.low or 0, dimension.high or 0
    if dimension.step is not None:
        high = low + ((dimension.size or 1) - 1) * dimension.step  # the last one that the steps reach
    if dimension.whole:
        return trial.suggest_int(name, int(low), int(high), step=int(dimension.step or 1), log=dimension.log)
    found = trial.suggest_float(name, low, high, step=dimension.step, log=dimension.log)
    return round(found, 12) if dimension.step else found


def _excess(rule: str, metrics: Mapping[str, float]) -> float:
    """By how much a figure breaks a rule; 0 or less where it keeps it."""
    name, sign, bound = rule.split()
    value = metrics.get(name, math.nan)
    return float(bound) - value if sign.startswith(">") else value - float(bound)


def _pruner(scenario: SweepScenario) -> optuna.pruners.BasePruner:
    epochs = scenario.run.epochs
    if scenario.sweep.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=_MEDIAN_STARTUP, n_warmup_steps=max(1, epochs // 10))
    if scenario.sweep.pruner == "halving":
        first = max(1, epochs // _HALVING_FACTOR**_RUNGS)
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=_HALVING_FACTOR)
    return optuna.pruners.NopPruner()
