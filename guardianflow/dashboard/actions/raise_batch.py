"""Raise the batch: measure whether the champion serves more images a second when it gets several at once."""

from __future__ import annotations

from guardianflow.dashboard.actions._base import Proposal, Situation, Unfit, data_of
from guardianflow.exceptions import GuardianFlowError
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.factory import plan_run
from guardianflow.state.database import Database

__all__ = ["ACTION"]

_FACTORS = (1, 2, 4)


class RaiseBatch:
    """Fits wherever there is data to measure the champion with; nothing is promoted."""

    yields = "figures"

    def propose(self, situation: Situation) -> Proposal | Unfit:
        """The champion's benchmark at its batch size, twice and four times that."""
        champion, record = situation.champion, situation.training()
        if record is None or not data_of(record):
            return Unfit(f"nothing says what data version {champion.version} was trained on, to measure it with")
        batch = _last_batch(situation)
        sizes = [batch * factor for factor in _FACTORS]
        try:
            scenario = plan_run(
                "infer",
                experiment_name=record.experiment,
                model_path=champion.uri,
                data_yaml=data_of(record),
                batch_sizes=sizes,
                backends=[champion.serving.backend],
                precision=[champion.serving.precision],
                imgsz=champion.serving.imgsz,
                modes=["offline"],
            ).scenario
        except GuardianFlowError as error:
            return Unfit(f"version {champion.version} can't be measured: {error}")
        why = f"the processor waits; batches of {sizes[1]} or {sizes[2]} images may serve more of them a second"
        return Proposal(scenario, why, {"batch": batch, "batch_sizes": sizes}, like=situation.like_it("infer"))


def _last_batch(situation: Situation) -> int:
    """The smallest batch that the champion was last measured at; 1 where it never was."""
    records = RunRecords(Database.open(situation.settings.database_url))
    for record in records.list(kind="infer", status=RunStatus.FINISHED):
        if record.parameters.get("model_path") in (situation.champion.uri, f"models:/{situation.model}@champion"):
            return min(int(size) for size in record.parameters.get("batch_sizes") or [1])
    return 1


ACTION = RaiseBatch()
