"""Sweeps: the trials of a study executed, until all of them have ended, whoever else executes some of them."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RunFailedError
from guardianflow.execution.estimate import Estimate, estimate
from guardianflow.execution.pool import Pool, make_pool
from guardianflow.execution.reaping import REASON, reap_runs
from guardianflow.execution.studies import Studies, Study
from guardianflow.execution.sweep_result import SweepResult, best_of, plans_table
from guardianflow.execution.trials import TrialRow, TrialState
from guardianflow.runners._base import RESULT_FILE, Runner
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.experiment_design import RunPlan, SweepScenario, plan, trial_plan
from guardianflow.scenario.factory import plan_resume
from guardianflow.state.database import Database
from guardianflow.text.command_lines import command
from guardianflow.text.names import validate_name
from guardianflow.text.progress_bar import progress_bar
from guardianflow.views.result_page import Table, format_metric

if TYPE_CHECKING:
    from guardianflow.execution.executors import RunOutcome

__all__ = ["SweepResult", "SweepRunner"]

log = logging.getLogger(__name__)

POLL_S = 2.0
_ATTEMPTS = 3
_SAME_FAILURES = 3
_ID = re.compile(r"\b[0-9a-f]{32}\b")


class SweepRunner(Runner[SweepScenario, SweepResult]):
    """Train again and again with other values, end hopeless trials early, and say what is best.

    Killed in the middle and started again, a sweep goes on with its study; so does a second process beside the first.

    Example:
        >>> result = SweepRunner(load_scenario("sweep.yaml")).run()  # doctest: +SKIP
        >>> result.best["point"]  # doctest: +SKIP
        {'run.options.lr0': 0.013}

    Raises:
        ParameterError: A value is out of range.
    """

    asks = SweepScenario

    _fingerprint = ""

    def check(self) -> None:
        """Check the names, the data, the values that are tried, the study and the cluster; nothing is changed."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        validate_name(asked.study, "study name")
        if asked.run.register_as:
            validate_name(asked.run.register_as, "model name")
        remarks: dict[str, None] = {}
        for number, point in enumerate(_points_to_check(asked)):
            training = TrainingRunner.of(asked.at(point), settings=self.settings)
            training.check()
            remarks.update(dict.fromkeys(training.remarks))
            if number == 0:
                self._fingerprint = training.fingerprint
        self.remarks = (*remarks, *_remarks_on(asked))
        Studies(self.settings).require_same_design(asked, self._fingerprint)
        if asked.sweep.executor != "local":
            with self._pool():
                pass

    def look(self) -> Table:
        """The trials that are known before the first result."""
        return plans_table(self.scenario, plan(self.scenario))

    @property
    def ended(self) -> int:
        """How many trials of the study have ended already."""
        try:
            return sum(row.ended for row in Studies(self.settings).get(self.scenario.study).rows())
        except NotFoundError:
            return 0

    def estimate(self) -> Estimate:
        """How long what is left of it will take if no trial is ended early."""
        asked = self.scenario
        found = estimate(plan(asked), self.settings, count=asked.trials, at_once=asked.sweep.at_once)
        left = max(asked.trials - self.ended, 0)
        return replace(found, seconds=found.seconds and found.seconds * left / asked.trials)

    def work(self, run: TrackedRun) -> SweepResult:
        """Execute trials until all have ended.

        Raises:
            RunFailedError: The first trials all failed for the same reason.
        """
        asked = self.scenario
        run.log_params(asked.flat())
        study = Studies(self.settings).begin(asked, data=self._fingerprint, sweep=run.run_id)
        run.set_tags({"guardianflow.study": study.name})
        bar = progress_bar(asked.trials, desc="trials", unit="trial", shown=self.shows_progress)

        def show(rows: list[TrialRow]) -> None:
            done = sum(row.ended for row in rows)
            note = _standing(rows, asked)
            run.set_progress(done, max(asked.trials, done), unit="trial", note=note)
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        try:
            with self._pool() as pool:
                _Conductor(self.settings, asked, study, run.run_id, pool, show).conduct()
        finally:
            bar.close()
        result = self._result(run, study)
        run.log_metrics(result.metrics)
        run.log_artifact(write_json(run.folder / RESULT_FILE, result.to_dict()))
        return result

    def _pool(self) -> Pool:
        asked = self.scenario.sweep
        return make_pool(self.settings, executor=asked.executor, at_once=asked.at_once, address=asked.address)

    def _result(self, run: TrackedRun, study: Study) -> SweepResult:
        asked, rows = self.scenario, study.rows()
        best = best_of(rows, asked.task.requirements)
        model, said = self._registered(study, best)
        return SweepResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            study=study.name,
            metric=asked.sweep.metric,
            trials=[row.to_dict() for row in rows],
            best=best.to_dict() if best else {},
            epochs=sum(study.scenario.at(row.point).run.epochs for row in rows if row.point),
            importance=study.importance(),
            requirements=list(asked.task.requirements),
            model=model,
            parent=study.parent,
            remarks=(*self.remarks, *said),
            tracking_uri=mask_secrets(self.settings.mlflow_tracking_uri),
        )

    def _registered(self, study: Study, best: TrialRow | None) -> tuple[str, tuple[str, ...]]:
        """What to load the best model by, and what is to be remarked; registered once, where that was asked."""
        name = self.scenario.run.register_as
        if best is None:
            return "", (f"{name!r} was not registered: no trial may be called the best",) if name else ()
        uri = f"runs:/{best.run_id}/weights/best.pt"
        if not name:
            return uri, ()
        with study.lock():
            if best.run_id in study.registered:
                return study.registered[best.run_id], ()
            try:
                uri = ModelRegistry(self.settings).register(name, best.run_id, metrics=best.metrics).uri
            except GuardianFlowError as error:
                later = command("register", name, "--run", best.run_id)
                return uri, (f"{name!r} was not registered ({error}); later: {later}",)
            study.note_registered(best.run_id, uri)
        return uri, ()


def _points_to_check(asked: SweepScenario) -> Iterator[Mapping[str, Any]]:
    """The first point, and it with each other value whose use the scenario alone can't judge: names, files, options."""
    first = next(asked.known_points())
    yield first
    for name, dimension in asked.sweep.space.items():
        named = [value for value in dimension.values if not isinstance(value, int | float)]
        tried = dimension.values or (dimension.low, dimension.high)
        numbers = [value for value in tried if isinstance(value, int | float)]
        ends = (min(numbers), max(numbers)) if numbers and name.startswith("run.options.") else ()
        for value in (*named, *ends):
            if value != first[name]:
                yield {**first, name: value}


def _remarks_on(asked: SweepScenario) -> list[str]:
    sizes = [dimension.size for dimension in asked.sweep.space.values()]
    if asked.sweep.sampler != "grid" and None not in sizes and asked.points < asked.trials:
        return [f"the space has {asked.points} points and there are {asked.trials} trials, so some are tried again"]
    return []


def _standing(rows: list[TrialRow], asked: SweepScenario) -> str:
    """Where a sweep stands, in some words."""
    best = best_of(rows, asked.task.requirements)
    said = [f"best {format_metric(asked.sweep.metric, best.value)} (trial {best.number})"] if best else []
    for state in (TrialState.PRUNED, TrialState.FAILED):
        number = sum(row.state == state for row in rows)
        said += [f"{number} {state}"] if number else []
    return ", ".join(said)


class _Conductor:
    """Asks, claims, executes and tells trials until none is left."""

    def __init__(
        self,
        settings: Settings,
        asked: SweepScenario,
        study: Study,
        sweep: str,
        pool: Pool,
        show: Callable[[list[TrialRow]], None],
    ) -> None:
        self._settings = settings
        self._asked = asked
        self._study = study
        self._sweep = sweep
        self._pool = pool
        self._show = show
        self._records = RunRecords(Database.open(settings.database_url))
        self._known = list(asked.known_points())
        self._flying: dict[int, tuple[RunPlan, Future[RunOutcome]]] = {}
        self._attempts: dict[int, int] = {}
        self._anew: set[int] = set()
        self._ends: list[str] = []
        self._before: set[int] = set()
        self._orphans: list[tuple[TrialRow, RunRecord | None]] = []

    def conduct(self) -> None:
        """Until all have ended."""
        reap_runs(self._settings)  # what a sweep that was killed left behind
        with self._study.lock():
            self._before = {row.number for row in self._study.rows() if row.state == TrialState.FAILED}
        while True:
            with self._study.lock():
                self._settle()
                self._look_after_others()
                self._stop_where_all_fail()
                begun = list(self._begin())
                rows = self._study.rows()
            for number, each in begun:
                self._flying[number] = each, self._pool.submit(each)
            self._show(rows)
            if not self._flying and len(rows) >= self._asked.trials and all(row.ended for row in rows):
                return
            self._wait()

    def _wait(self) -> None:
        flying = [future for _, future in self._flying.values()]
        if flying:
            wait(flying, timeout=POLL_S, return_when=FIRST_COMPLETED)
        else:  # others have the rest
            time.sleep(POLL_S)

    def _settle(self) -> None:
        """Tell of those that have ended."""
        for number in [number for number, (_, future) in self._flying.items() if future.done()]:
            plan, future = self._flying.pop(number)
            row, error = self._study.row(number), future.exception()
            if error is None:
                self._study.tell(row)
                self._ends.append("")
                continue
            if not isinstance(error, GuardianFlowError):
                raise error
            self._attempts[number] = self._attempts.get(number, 0) + 1
            if isinstance(error, InputError) and plan.resume:  # it died before there was anything to go on with
                self._anew.add(number)
            elif isinstance(error, InputError) or self._attempts[number] >= _ATTEMPTS:
                self._fail(number, str(error))

    def _look_after_others(self) -> None:
        """Tell of the trials whose runs ended without us; what nobody executes any more is begun again later."""
        self._orphans = []
        for row in self._study.rows():
            if row.state != TrialState.RUNNING or row.number in self._flying:
                continue
            record = self._record(row.run_id)
            if record is not None and record.status == RunStatus.FINISHED:
                self._study.tell(row)
            elif self._is_left_alone(row, record):
                continue
            elif record is not None and record.status == RunStatus.FAILED and record.reason != REASON:
                self._fail(row.number, record.reason or "it failed without a reason")
            else:
                self._orphans.append((row, record))

    def _is_left_alone(self, row: TrialRow, record: RunRecord | None) -> bool:
        """Whether somebody executes it, or will see to it."""
        if record is not None and self._lives(record):
            return True
        sweep = self._record(row.sweep)
        return row.sweep != self._sweep and sweep is not None and self._lives(sweep)

    def _begin(self) -> Iterator[tuple[int, RunPlan]]:
        """What fills the free slots: first trials that nobody executes any more, then new ones."""
        rows = self._study.rows()
        for _ in range(self._pool.slots - len(self._flying)):
            if self._orphans:
                row, record = self._orphans.pop(0)
                yield row.number, self._plan(self._study.claim(row.number, sweep=self._sweep), record)
                continue
            retried = next((row for row in rows if row.number in self._before), None)
            if retried is not None:
                self._before.discard(retried.number)
                row = self._study.ask(retried.point, sweep=self._sweep, again_of=retried.number)
            elif len(rows) < self._asked.trials or any(row.state == TrialState.WAITING for row in rows):
                point = self._known[len(rows)] if len(rows) < len(self._known) else None
                row = self._study.ask(point, sweep=self._sweep)
            else:
                return
            rows = self._study.rows()
            yield row.number, self._plan(row, None)

    def _plan(self, row: TrialRow, record: RunRecord | None) -> RunPlan:
        anew = trial_plan(self._asked, row.number, row.point, parent=self._study.parent, sweep=self._sweep)
        if record is None or row.number in self._anew:
            self._anew.discard(row.number)
            return anew
        return replace(plan_resume(record), trial=anew.trial)

    def _fail(self, number: int, reason: str) -> None:
        log.warning("trial %d failed: %s", number, reason)
        self._study.fail(number, reason)
        self._ends.append(reason)

    def _stop_where_all_fail(self) -> None:
        first = {_ID.sub("…", reason) for reason in self._ends[:_SAME_FAILURES]}
        if len(self._ends) >= _SAME_FAILURES and len(first) == 1 and first != {""}:
            raise RunFailedError(f"the first {_SAME_FAILURES} trials all failed: {self._ends[0]}")

    def _record(self, run_id: str) -> RunRecord | None:
        try:
            return self._records.get(run_id) if run_id else None
        except NotFoundError:
            return None

    def _lives(self, record: RunRecord) -> bool:
        return record.status == RunStatus.RUNNING and record.owner.lives(record.heartbeat, self._records.now())
