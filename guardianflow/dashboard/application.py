"""Carrying a recommendation out: its run, the evidence that the gate needs, the gate, the promotion.

Each step is recorded when it is done, so a process that was killed is followed by one that goes on from there. Whoever
calls this holds the recommendation's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from guardianflow._kernel import in_a_kernel
from guardianflow.core.config import Settings
from guardianflow.core.metrics import NullSink
from guardianflow.core.registry import ModelRegistry, ModelVersion
from guardianflow.dashboard.actions._base import ACTIONS, data_of, result_of
from guardianflow.dashboard.recommendations import Recommendation, Recommendations, State
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RefusedError, RunInterruptedError
from guardianflow.execution.executors import LocalExecutor, make_runner
from guardianflow.registry.evaluations import Evaluations
from guardianflow.registry.evidence_search import EvidenceSearch
from guardianflow.registry.model_records import ModelEvent
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import KINDS, plan_resume, plan_run
from guardianflow.state.database import Database

__all__ = ["Application", "Step"]

log = logging.getLogger(__name__)

Step = Callable[[str], None]
_MEASURED_S = 1.0


@dataclass(frozen=True)
class _Ending:
    """The state it ends in, and what came of it."""

    state: str
    outcome: Mapping[str, Any]


def _ending(state: str, said: str, **outcome: Any) -> _Ending:
    return _Ending(state, {"said": said, **outcome})


class Application:
    """Carries out one recommendation that was claimed.

    Args:
        recommendation: In state ``applying``.
        database: Where the recommendation is.
        settings: Where everything else is. Runs and ledger name who claimed it.
        clock: What time it is.
        on_step: Told what is done now.
        on_run: Told the record of the run as soon as it exists.
    """

    def __init__(
        self,
        recommendation: Recommendation,
        *,
        database: Database,
        settings: Settings,
        clock: Callable[[], datetime],
        on_step: Step | None = None,
        on_run: Callable[[RunRecord], None] | None = None,
    ) -> None:
        actor = recommendation.actor or settings.actor
        self._it = recommendation
        self._settings = settings.model_copy(update={"actor": actor})
        self._database = database
        self._rows = Recommendations(self._database)
        self._registry = ModelRegistry(self._settings, actor=actor)
        self._clock = clock
        self._on_step = on_step or (lambda _: None)
        self._on_run = on_run or (lambda _: None)
        self._runs: dict[str, str] = dict(recommendation.outcome.get("runs", {}))

    def carry_out(self) -> Recommendation:
        """Do what is left to do; the recommendation as it then stands.

        Raises:
            RunInterruptedError: A signal ended it; applied again, it goes on.
        """
        endings = {"version": self._new_version, "figures": self._figures, "change": self._change}
        try:
            ending = self._overtaken() or endings[ACTIONS.get(self._it.action).yields]()
        except (RunInterruptedError, KeyboardInterrupt):
            raise
        except RefusedError as error:
            ending = _ending(State.REFUSED, str(error), reasons=[str(error)])
        except GuardianFlowError as error:
            log.warning("recommendation %d failed: %s", self._it.id, error)
            ending = _ending(State.FAILED, str(error))
        except Exception as error:
            self._end(_ending(State.FAILED, f"{type(error).__name__}: {error}"))
            raise
        self._end(ending)
        return self._rows.get(self._it.id)

    # --- what it ends in --------------------------------------------------------------------------

    def _new_version(self) -> _Ending:
        """A candidate: judged, and promoted where the gate and the rights allow it."""
        event = self._done_before("promote")
        if event is not None:
            return self._promoted(str(event.version))
        result = self._run("run", self._plan())
        candidate = self._candidate(result)
        self._save(version=candidate.version)
        self._measure_champion(candidate)
        self._on_step("the gate judges")
        model = self._it.model
        verdict = self._registry.judge(model, candidate.version)
        if not verdict.passed:
            said = f"the gate refused version {candidate.version}: {'; '.join(verdict.reasons)}"
            return _ending(State.REFUSED, said, reasons=list(verdict.reasons), verdict=verdict.to_dict())
        if not self._it.may_promote:
            said = (
                f"version {candidate.version} is ready and the gate lets it pass; somebody who may promote must decide"
            )
            return _ending(State.WAITING, said, verdict=verdict.to_dict())
        self._registry.promote(model, candidate.version, reason=self._reason, evidence=self._grounds())
        return self._promoted(candidate.version, verdict=verdict.to_dict())

    def _figures(self) -> _Ending:
        """A benchmark: what serves most images a second; nothing is promoted."""
        cells = self._run("run", self._plan()).get("cells", [])
        rows = [row for row in cells if row["status"] == "ok" and "throughput_fps" in row["metrics"]]
        if not rows:
            return _ending(State.FAILED, "no batch size could be measured")
        speeds = {int(row["batch"]): float(row["metrics"]["throughput_fps"]) for row in rows}
        noise = max(float(row.get("noise", {}).get("throughput_fps") or 0) for row in rows)
        best, first = max(speeds, key=lambda batch: speeds[batch]), min(speeds)
        gain = speeds[best] / speeds[first] - 1
        said = f"no larger batch serves more images a second than {first} does ({speeds[first]:.1f} ± {noise:.0%})"
        if gain > noise:
            said = (
                f"a batch of {best} serves most: {speeds[best]:.1f} images a second, {gain:+.0%} against a batch of "
                f"{first}; set it where the model is served"
            )
        return _ending(State.APPLIED, said, promoted=False, throughput_fps={str(key): speeds[key] for key in speeds})

    def _change(self) -> _Ending:
        """A rollback, which the registry itself checks."""
        if self._done_before("rollback") is None:
            if not self._it.may_promote:
                return _ending(State.WAITING, "to roll back, somebody who may promote must decide")
            self._run("run", self._plan(reason=self._reason))
        champion = self._registry.get(self._it.model).version
        self._save(version=champion)
        return self._promoted(champion)

    def _promoted(self, version: str, **more: Any) -> _Ending:
        was = self._it.facts.get("champion")
        said = f"version {version} is in charge of {self._it.model} now, instead of version {was}"
        return _ending(State.APPLIED, said, promoted=True, champion=version, **more)

    # --- steps ------------------------------------------------------------------------------------

    def _overtaken(self) -> _Ending | None:
        """What was advised of another champion is no longer advice."""
        if self._it.run_id is not None:
            return None
        known, now = self._it.facts.get("champion"), self._registry.get(self._it.model).version
        if known == now or self._done_before("promote") or self._done_before("rollback"):
            return None
        why = f"it was advised of version {known}, and version {now} is in charge of {self._it.model} now"
        self._save(reason=why)
        return _ending(State.WITHDRAWN, why)

    def _done_before(self, action: str) -> ModelEvent | None:
        """The ledger's line of this recommendation, where an earlier process came so far."""
        head = f"recommendation {self._it.id}: "
        history = self._registry.history(self._it.model)
        return next((line for line in history if line.action == action and (line.reason or "").startswith(head)), None)

    def _plan(self, **changes: Any) -> RunPlan:
        kind = KINDS.get(str(self._it.scenario["kind"]))
        plan = RunPlan(kind.scenario.model_validate(dict(self._it.scenario)))
        return plan_run(plan.kind, **{**plan.parameters, **changes}) if changes else plan

    def _run(self, name: str, plan: RunPlan) -> Mapping[str, Any]:
        """The result of the recommendation's own run: of the one that is recorded, else of one that is executed now."""
        seen = self._recorded()
        if seen is not None and seen.status == RunStatus.FINISHED:
            return result_of(seen)
        self._on_step(f"run: {plan.kind}")

        def keep(record: RunRecord) -> None:
            self._runs[name] = record.run_id
            self._save(run_id=record.run_id)
            self._on_run(record)

        executor = LocalExecutor(self._settings, on_run=keep)
        if seen is not None and KINDS.get(seen.kind).resumable:
            try:
                return executor.execute(plan_resume(seen)).result
            except InputError as error:  # nothing to go on from
                log.info("run %s is not resumed: %s", seen.run_id, error)
        if seen is not None:
            plan = replace(plan, again_of=seen.run_id)
        return executor.execute(plan).result

    def _recorded(self) -> RunRecord | None:
        if self._it.run_id is None:
            return None
        try:
            return RunRecords(self._database).get(self._it.run_id)
        except NotFoundError:
            return None

    def _candidate(self, result: Mapping[str, Any]) -> ModelVersion:
        """The version that the run registered; a training's weights are registered now where they weren't."""
        run_id = str(result.get("run_id") or self._runs["run"])
        for version in self._registry.list_versions(self._it.model):
            if version.run_id == run_id:
                return version
        if self._it.scenario["kind"] == "train":
            return self._registry.register(self._it.model, run_id)
        raise NotFoundError(f"run {run_id} registered no version of {self._it.model!r}; its page says why")

    def _measure_champion(self, candidate: ModelVersion) -> None:
        """See the champion on the candidate's images, where that was never done: without it no gate can judge."""
        champion = self._registry.get(self._it.model)
        search = EvidenceSearch(self._settings, Evaluations(self._settings))
        seen = search.common(candidate, None).candidate
        record = RunRecords(self._database).get(candidate.run_id)
        missing = candidate.version != champion.version and search.common(candidate, champion).champion is None
        if not missing or seen is None or not data_of(record):
            return  # what is missing still, the gate says
        self._on_step(f"measure champion {champion.version} on the candidate's images")
        served = champion.serving
        plan = plan_run(
            "infer",
            experiment_name=record.experiment,
            model_path=champion.uri,
            data_yaml=data_of(record),
            split=seen.split,
            backends=[served.backend],
            precision=[served.precision],
            imgsz=served.imgsz,
            iou=seen.protocol.get("iou"),
            max_det=seen.protocol.get("max_det"),
            modes=["single_stream"],
            seconds=_MEASURED_S,
        )
        # No sink: it is evidence for the gate, and no figure of a site.
        runner = make_runner(plan, settings=self._settings, sink=NullSink())
        runner.shows_progress = in_a_kernel()
        measured = runner.run()
        self._runs["champion measured"] = measured.run_id
        self._save()

    # --- the row ----------------------------------------------------------------------------------

    @property
    def _reason(self) -> str:
        facts = self._it.facts
        return f"recommendation {self._it.id}: {self._it.action} because {facts.get('when')} ({facts.get('why')})"[
            :2000
        ]

    def _grounds(self) -> dict[str, Any]:
        return {"recommendation": self._it.id, "alert": self._it.alert_id, "runs": dict(self._runs)}

    def _save(self, **values: Any) -> None:
        outcome = {**self._it.outcome, "runs": dict(self._runs)}
        self._rows.move(self._it.id, of=(State.APPLYING,), outcome=outcome, **values)

    def _end(self, ending: _Ending) -> None:
        ended = None if ending.state == State.WAITING else self._clock()
        content = {**ending.outcome, "runs": dict(self._runs)}
        self._rows.move(self._it.id, of=(State.APPLYING,), state=ending.state, ended=ended, outcome=content)
