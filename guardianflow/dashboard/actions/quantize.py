"""Quantize: the champion in int8, smaller and faster."""

from __future__ import annotations

from guardianflow._imports import is_installed
from guardianflow.dashboard.actions._base import Proposal, Situation, Unfit, data_of
from guardianflow.exceptions import GuardianFlowError
from guardianflow.scenario.factory import plan_run

__all__ = ["ACTION"]

_NEEDED = ("openvino", "nncf")


class Quantize:
    """Fits where the champion is not int8 yet and its training is known."""

    yields = "version"

    def propose(self, situation: Situation) -> Proposal | Unfit:
        """An int8 variant, calibrated and compared on the data that the champion was trained on."""
        champion, record = situation.champion, situation.training()
        served = champion.serving
        if served.precision != "fp32":
            return Unfit(f"version {champion.version} is {served.precision} already")
        if missing := [name for name in _NEEDED if not is_installed(name)]:
            return Unfit(f"{' and '.join(missing)} is not installed here: pip install 'guardianflow[openvino]'")
        if record is None or not data_of(record):
            return Unfit(f"nothing says what data version {champion.version} was trained on, to calibrate with")
        try:
            scenario = plan_run(
                "quantize",
                experiment_name=record.experiment,
                source_run_id=champion.uri,
                data_yaml=data_of(record),
                register_as=situation.model,
                site=record.parameters.get("site"),
            ).scenario
        except GuardianFlowError as error:
            return Unfit(f"version {champion.version} can't be quantized: {error}")
        facts = {"served_by": served.backend, "precision": served.precision, "size_mb": champion.size_bytes / 1e6}
        why = f"it is served as {served.precision} on {served.backend}; int8 on openvino takes less time and space"
        return Proposal(scenario, why, facts, like=situation.like_it("quantize"))


ACTION = Quantize()
