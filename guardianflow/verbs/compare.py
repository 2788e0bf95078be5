"""The verb that holds models against each other: compare."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from guardianflow.scenario.experiment_design import ComparisonScenario
from guardianflow.verbs.asked_options import Given, asks
from guardianflow.verbs.execution import execute_plan
from guardianflow.verbs.frame import Direct, Json, verb

__all__ = ["compare"]


@verb
@asks(ComparisonScenario)
def compare(
    subjects: Annotated[
        list[str],
        Argument(metavar="A B …", help="Run ids or models (models:/NAME/2); each is held against the first."),
    ],
    given: Given,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Say which model is better on the same images, by how much, and whether chance explains it."""
    from guardianflow.scenario.factory import plan_run

    execute_plan(plan_run("compare", subjects=subjects, **given), direct=direct, as_json=json)
