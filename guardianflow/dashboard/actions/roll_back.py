"""Roll back: the champion before this one, where it was well and this one is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from guardianflow.dashboard.actions._base import Proposal, Situation, Unfit
from guardianflow.registry.model_records import ModelEvent
from guardianflow.scenario.factory import plan_run

__all__ = ["ACTION"]


class RollBack:
    """Fits where the champion changed of late, and the version before was well in the same place."""

    yields = "change"

    def propose(self, situation: Situation) -> Proposal | Unfit:
        """The rollback, with the figures of the version that would come back."""
        before, rule = situation.state.rollback, situation.rule
        if before is None:
            return Unfit("there is no version to roll back to")
        change = _last_change(situation)
        if change is None or change.time < situation.now - timedelta(seconds=rule.window_s):
            return Unfit(f"version {situation.champion.version} has been in charge for longer than the rule looks back")
        figures = _figures(situation, before)
        if not figures["count"]:
            return Unfit(f"nothing is known of {rule.metric} of version {before} there")
        if rule.holds(figures["p50"]):
            return Unfit(f"version {before} was no better: {rule.metric} was {figures['p50']:.4g} there")
        scenario = plan_run(
            "registry",
            experiment_name="optimization",
            action="rollback",
            model_name=situation.model,
            reason=f"{rule.metric} is {situation.alert.value:.4g}, with version {before} it was {figures['p50']:.4g}",
        ).scenario
        facts = {"rollback": before, "champion_since": change.time.isoformat(), "figures_before": figures}
        why = (
            f"it began after version {situation.champion.version} was put in charge on {change.time:%Y-%m-%d %H:%M} "
            f"UTC; with version {before}, {rule.metric} was {figures['p50']:.4g} there"
        )
        return Proposal(scenario, why, facts, like=None)


def _last_change(situation: Situation) -> ModelEvent | None:
    """The move that put the champion in charge."""
    champion = situation.champion.version
    moves = [event for event in situation.history if event.action in {"promote", "rollback"}]
    return next((event for event in moves if event.champion == champion), None)


def _figures(situation: Situation, version: str) -> dict[str, Any]:
    """Median and number of the figures of a version, in the place of the alert, over a window before now."""
    alert, rule = situation.alert, situation.rule
    frame = situation.store.query_metrics(
        metric=rule.metric, model=situation.model, version=version, site=alert.site, camera=alert.camera,
        source=rule.source, start=situation.now - 2 * timedelta(seconds=rule.window_s), end=situation.now,
    )  # fmt: skip
    here = frame if alert.site else frame[frame["site"].isna()]
    here = here if alert.camera else here[here["camera"].isna()]
    count = len(here)
    return {"count": count, "p50": float(here["value"].median()) if count else None}


ACTION = RollBack()
