"""Verbs that work on a model: train, infer, quant."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from guardianflow.exceptions import InputError
from guardianflow.scenario.schema import InferenceScenario, QuantizationScenario, TrainingScenario
from guardianflow.verbs.asked_options import Given, asks
from guardianflow.verbs.execution import execute_plan
from guardianflow.verbs.frame import Direct, Json, record_of, require, verb

__all__ = ["infer", "quant", "train"]


@verb
@asks(TrainingScenario)
def train(
    given: Given,
    resume: Annotated[str | None, Option("--resume", metavar="RUN_ID", help="Go on with an interrupted run.")] = None,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Train a detector: a run in MLflow, an executed notebook, weights, curves and samples."""
    from guardianflow.scenario.factory import plan_resume, plan_run

    if resume:
        plan = plan_resume(record_of(resume), **given)
    else:
        require({"--data": "data_yaml", "--model": "model_arch", "--experiment": "experiment_name"}, given)
        plan = plan_run("train", **given)
    execute_plan(plan, direct=direct, as_json=json)


@verb
@asks(InferenceScenario)
def infer(given: Given, direct: Direct = False, json: Json = False) -> None:
    """Benchmark a model: accuracy, latency, throughput and memory on each runtime."""
    from guardianflow.scenario.factory import plan_run

    require({"--model": "model_path"}, given)
    if not given.get("data_yaml") and not given.get("source"):
        raise InputError("--data (labelled images) or --source (a video or a sequence) must be given")
    execute_plan(plan_run("infer", **given), direct=direct, as_json=json)


@verb
@asks(QuantizationScenario)
def quant(given: Given, direct: Direct = False, json: Json = False) -> None:
    """Quantize a model, compare it with the original on the same images, and register it."""
    from guardianflow.scenario.factory import plan_run

    require({"--source": "source_run_id"}, given)
    execute_plan(plan_run("quantize", **given), direct=direct, as_json=json)
