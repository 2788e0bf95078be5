"""The contract of an action: it looks at an alert and says from evidence alone whether it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from guardianflow._plugins import Registry
from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, NotFoundError
from guardianflow.files.run_folder import RESULT_FILE
from guardianflow.registry.model_records import ModelEvent, ModelState, ModelVersion
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.state.database import Database

if TYPE_CHECKING:
    from guardianflow.dashboard.alerts import Alert, AlertRule
    from guardianflow.dashboard.metrics_store import MetricsStore

__all__ = ["ACTIONS", "Action", "Proposal", "Situation", "Unfit"]


@dataclass(frozen=True)
class Situation:
    """What an action may look at.

    Attributes:
        alert: The alert that fires.
        rule: Its rule.
        state: Who holds which alias of the model.
        champion: The version in charge.
        versions: All versions, newest first.
        history: The model's ledger, newest first.
        store: The measurements.
        settings: Where the runs are.
        now: The moment that is looked at.
    """

    alert: Alert
    rule: AlertRule
    state: ModelState
    champion: ModelVersion
    versions: Sequence[ModelVersion]
    history: Sequence[ModelEvent]
    store: MetricsStore
    settings: Settings
    now: datetime

    @property
    def model(self) -> str:
        """The model's name."""
        return self.state.name

    @property
    def place(self) -> str:
        """Where, as a sentence names it; empty for figures without a site."""
        site, camera = self.alert.site, self.alert.camera
        return " of ".join(part for part in (camera and f"camera {camera}", site and f"site {site}") if part)

    def version(self, number: str) -> ModelVersion | None:
        """One of the model's versions."""
        return next((version for version in self.versions if version.version == number), None)

    def record(self, run_id: str | None) -> RunRecord | None:
        """Our record of a run, if it ran here."""
        try:
            return RunRecords(Database.open(self.settings.database_url)).get(run_id) if run_id else None
        except NotFoundError:
            return None

    def training(self) -> RunRecord | None:
        """The training that the champion comes from, through the version that it was made of."""
        record = self.record(self.champion.run_id)
        if record is not None and record.kind == "train":
            return record
        made_from = self.record(self.champion.serving.parent_run)
        return made_from if made_from is not None and made_from.kind == "train" else record

    def like_it(self, kind: str) -> RunRecord | None:
        """The last finished run of a kind, for what another one would cost."""
        records = RunRecords(Database.open(self.settings.database_url))
        return next(iter(records.list(kind=kind, status=RunStatus.FINISHED, limit=1)), None)


@dataclass(frozen=True)
class Proposal:
    """What an action advises.

    Attributes:
        scenario: The exact scenario that would run.
        why: Why this action, in a sentence.
        facts: The evidence.
        caveats: What speaks against hoping for much, a sentence each.
        like: A run that took as long as this one will.
    """

    scenario: BaseScenario
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    caveats: Sequence[str] = ()
    like: RunRecord | None = None

    def cost(self) -> dict[str, Any]:
        """What it will take."""
        like = self.like
        seconds = None if like is None or like.ended is None else round((like.ended - like.started).total_seconds(), 1)
        return {"kind": self.scenario.kind, "seconds": seconds, "based_on": like.run_id if like else None}

    def content(self) -> dict[str, Any]:
        """The scenario as a file has it, without what is as usual."""
        return {"kind": self.scenario.kind, **self.scenario.model_dump(mode="json", exclude_defaults=True)}


@dataclass(frozen=True)
class Unfit:
    """Why an action doesn't fit, in a sentence without its subject: ``"version 3 is int8 already"``."""

    why: str


class Action(Protocol):
    """One thing that can be done about an alert.

    Attributes:
        yields: What running its scenario gives: ``"version"`` (a candidate, which the gate judges), ``"figures"``
            (nothing is promoted) or ``"change"`` (of the champion, by the run itself).
    """

    yields: str

    def propose(self, situation: Situation) -> Proposal | Unfit:
        """Say whether it fits, from evidence alone; nothing is changed."""


ACTIONS: Registry[Action] = Registry(
    "action",
    {
        "retrain": "guardianflow.dashboard.actions.retrain:ACTION",
        "quantize": "guardianflow.dashboard.actions.quantize:ACTION",
        "raise_batch": "guardianflow.dashboard.actions.raise_batch:ACTION",
        "roll_back": "guardianflow.dashboard.actions.roll_back:ACTION",
    },
    group="guardianflow.actions",
)


def data_of(record: RunRecord) -> str:
    """The data.yaml that a run was given; empty where it was given none."""
    return str(record.parameters.get("data_yaml") or "")


def result_of(record: RunRecord) -> Mapping[str, Any]:
    """What a run left as its result; empty where it left none that can be read."""
    try:
        content = json.loads((record.folder / RESULT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, GuardianFlowError):
        return {}
    return content if isinstance(content, dict) else {}
