"""Retrain: repeat the champion's training on its dataset as it now stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guardianflow.dashboard.actions._base import Proposal, Situation, Unfit, data_of, result_of
from guardianflow.data.dataset import fingerprint_dataset, read_dataset
from guardianflow.exceptions import GuardianFlowError
from guardianflow.runs.run_records import RunRecord
from guardianflow.scenario.factory import plan_run

__all__ = ["ACTION"]


_UNCHANGED = (
    "the dataset is unchanged since it was trained, so little is to be expected of training again; add labelled images "
    "of what goes wrong first"
)


class Retrain:
    """Fits wherever the champion was trained here and its dataset is still there."""

    yields = "version"

    def propose(self, situation: Situation) -> Proposal | Unfit:
        """The champion's own scenario; says whether its data has changed since."""
        record = situation.training()
        if record is None:
            return Unfit(f"the run of version {situation.champion.version} is not known here, so it can't be repeated")
        if record.kind != "train":
            return Unfit(
                f"version {situation.champion.version} was made by a run of kind {record.kind}; repeat it by hand: "
                f"guardianflow run --again {record.run_id}"
            )
        try:
            data = _data_now(Path(data_of(record)))
            values = {**record.parameters, "register_as": situation.model, "resume": ""}
            scenario = plan_run("train", **values).scenario
        except (GuardianFlowError, OSError) as error:
            return Unfit(f"training run {record.run_id} can't be repeated: {error}")
        facts = {**_then(situation, record), **data}
        facts["dataset_changed"] = None if not facts["trained_on"] else facts["trained_on"] != facts["fingerprint"]
        return Proposal(scenario, _why(facts), facts, _caveats(facts), like=record)


def _data_now(data_yaml: Path) -> dict[str, Any]:
    dataset = read_dataset(data_yaml)
    return {
        "data_yaml": str(data_yaml),
        "fingerprint": fingerprint_dataset(dataset).total,
        "images": {split: len(dataset.images(split)) for split in dataset.splits},
    }


def _then(situation: Situation, record: RunRecord) -> dict[str, Any]:
    trained = next((version for version in situation.versions if version.run_id == record.run_id), situation.champion)
    seen = result_of(record).get("dataset", {})
    return {
        "trained_run": record.run_id,
        "trained_on": trained.dataset_fingerprint or seen.get("fingerprint") or "",
        "images_then": dict(seen.get("images", {})),
        "figures_then": {name: trained.metrics[name] for name in ("map50", "map50_95") if name in trained.metrics},
    }


def _why(facts: dict[str, Any]) -> str:
    if facts["dataset_changed"]:
        then, now = sum(facts["images_then"].values()), sum(facts["images"].values())
        grown = f": {then} images then, {now} now" if then and then != now else ""
        return f"its dataset has changed since it was trained{grown}; the same training may learn what it lacks"
    return "the same training can be repeated on its dataset"


def _caveats(facts: dict[str, Any]) -> list[str]:
    if facts["dataset_changed"] is None:
        return ["what data it was trained on is not recorded, so whether the dataset has changed can't be said"]
    if not facts["dataset_changed"]:
        return [_UNCHANGED]
    return []


ACTION = Retrain()
