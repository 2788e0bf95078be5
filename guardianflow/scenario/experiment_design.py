"""What shall be run, as data: a single run, a sweep over a space of values, a comparison; and the plans made of it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_serializer, model_validator

from guardianflow.scenario.blocks import BaseScenario, Block, Names
from guardianflow.scenario.fields import asked, explain, leaf_fields
from guardianflow.scenario.schema import TrainingScenario

__all__ = [
    "ComparisonConfig", "ComparisonScenario", "Dimension", "ExperimentDesign", "RunPlan", "SweepConfig",
    "SweepScenario", "Trial", "plan", "trial_plan",
]  # fmt: skip

STARTUP_TRIALS = 10
"""So many trials are drawn at random before TPE has something to go by."""

_MOST_TRIALS = 10_000
_NOT_SEARCHED = {("run", "register_as"), ("run", "resume")}
_MEASURED = ("map50", "map50_95", "precision", "recall", "f1", "train_seconds", "train_images_per_s", "model_size_mb")
"""What every training measures, so that a trial can be held against it."""


class ExperimentDesign(Enum):
    """How many runs a scenario asks for, and why."""

    SINGLE = "single"
    SWEEP = "sweep"
    COMPARISON = "comparison"

    @classmethod
    def of(cls, scenario: BaseScenario) -> ExperimentDesign:
        """The design of a scenario."""
        return {"sweep": cls.SWEEP, "compare": cls.COMPARISON}.get(scenario.kind, cls.SINGLE)


@dataclass(frozen=True)
class Trial:
    """Which trial of which study a run is.

    Attributes:
        study: Name of the study.
        number: Of the trial, from 0.
        parent: The run in MLflow that all trials of the study lie below.
        sweep: The run of the sweep that had it executed; a study may have had several.
    """

    study: str
    number: int
    parent: str = ""
    sweep: str = ""


@dataclass(frozen=True)
class RunPlan:
    """One run that is to be executed.

    Attributes:
        scenario: What is asked, every value checked.
        again_of: The run that this plan repeats.
        resume: The interrupted run that this plan goes on with.
        trial: The trial of a study that the run is.
    """

    scenario: BaseScenario
    again_of: str | None = None
    resume: str | None = None
    trial: Trial | None = None

    @property
    def kind(self) -> str:
        """Name of the kind, see :mod:`guardianflow.scenario.factory`."""
        return self.scenario.kind

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """What its runner is asked, in the flat form."""
        return self.scenario.flat()

    @property
    def experiment_name(self) -> str:
        """The experiment that the run belongs to."""
        return self.scenario.experiment


# --- sweeps --------------------------------------------------------------------------------------


class Dimension(Block):
    """One field's values: a list of them, or a range of numbers."""

    values: list[Any] = Field(default_factory=list)
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.values) == (self.low is not None or self.high is not None):
            raise ValueError("is no range: give a list of values, or low and high")
        if self.values:
            if self.step is not None or self.log:
                raise ValueError("is a list of values, which has no step and no log")
            if any(value in self.values[:place] for place, value in enumerate(self.values)):
                raise ValueError("names a value twice")
            return self
        if self.low is None or self.high is None or not self.low < self.high or not math.isfinite(self.high):
            raise ValueError(f"is no range: low ({self.low}) must lie below high ({self.high})")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("can't be log: low must be above 0, and there is no step")
        return self

    @model_serializer
    def _as_written(self) -> Any:
        given = {name: getattr(self, name) for name in ("low", "high", "step", "log")}
        return self.values or {name: value for name, value in given.items() if value is not None and value is not False}

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole ones."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step or 1, int)

    @property
    def examples(self) -> Sequence[Any]:
        """The values that show whether all are allowed: all of a list; of a range its ends and some between."""
        source = random.Random(0)  # noqa: S311 - no secret is made of it
        return self.values or (self.low, self.high, *(self.draw(source) for _ in range(8)))

    @property
    def size(self) -> int | None:
        """How many values there are; ``None``: any number between two."""
        if self.values:
            return len(self.values)
        step = self.step or (1 if self.whole else None)
        return None if step is None or self.log else math.floor((self._span + step * 1e-9) / step) + 1

    @property
    def _span(self) -> float:
        return float(self.high or 0) - float(self.low or 0)

    def grid(self) -> Iterator[Any]:
        """Its values in order; only where there is a number of them."""
        if self.values:
            yield from self.values
            return
        step = self.step or 1
        for place in range(self.size or 0):
            value = (self.low or 0) + place * step
            yield value if self.whole else round(value, 12)

    def draw(self, source: random.Random) -> Any:
        """A value by chance, all alike."""
        if self.size is not None:
            place = source.randrange(self.size)
            return next(itertools.islice(self.grid(), place, None))
        low, high = float(self.low or 0), float(self.high or 0)
        value = math.exp(source.uniform(math.log(low), math.log(high))) if self.log else source.uniform(low, high)
        value = min(max(value, low), high)
        return round(value) if self.whole else value


def _listed(value: object) -> object:
    """``[8, 16]`` as a dimension."""
    return {"values": value} if isinstance(value, list) else value


def _not_empty(space: dict[str, Dimension]) -> dict[str, Dimension]:
    if not space:
        raise ValueError("names no field to search; give one, such as model.imgsz: [320, 640]")
    return space


Space = Annotated[dict[str, Annotated[Dimension, BeforeValidator(_listed)]], AfterValidator(_not_empty)]


class SweepConfig(Block):
    """Which values are tried, how many times, and how."""

    study: str = asked("", "Name of the study: whoever names it again goes on with it; left out: the experiment's.")
    space: Space = asked(
        ...,
        "Field → its values: a list, or low, high and, if you like, step or log: true.",
        option=None,
    )
    metric: Literal["map50_95", "map50", "precision", "recall"] = asked(
        "map50_95", "What the best trial has most of, on the validation split."
    )
    sampler: Literal["tpe", "random", "grid"] = asked("tpe", "Who chooses the values: tpe, random or grid.")
    pruner: Literal["median", "halving", "none"] = asked(
        "median", "Who ends hopeless trials early: median, halving or none."
    )
    trials: int = asked(20, "Trials in all; a grid has as many as it has points.", ge=1, le=_MOST_TRIALS)
    at_once: int = asked(1, "Trials at the same time.", ge=1, le=256)
    executor: Literal["local", "ray"] = asked("local", "Where they run: local, or ray: an existing cluster.")
    address: str = asked("", "Of the cluster's dashboard, such as http://127.0.0.1:8265.")


class SweepScenario(TrainingScenario):
    """A sweep: one training again and again, each time with other values."""

    positional: ClassVar[tuple[str, ...]] = ("experiment_name", "model_arch", "data_yaml", "space")

    kind: Literal["sweep"] = "sweep"  # type: ignore[assignment]
    sweep: SweepConfig

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.sweep.study or self.experiment

    @model_validator(mode="after")
    def _is_a_sweep(self) -> Self:
        if self.run.resume:
            raise ValueError("run.resume is of a single training; a sweep goes on when its study is named again")
        if self.sweep.address and self.sweep.executor != "ray":
            raise ValueError("sweep.address names a cluster, and sweep.executor is local; set sweep.executor to ray")
        for rule in self.task.requirements:
            if rule.split()[0] not in _MEASURED:
                raise ValueError(
                    f"task.requirements: a training doesn't measure what {rule} asks for, only {', '.join(_MEASURED)}; "
                    "leave it to `guardianflow infer`"
                )
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        known = {field.path: field for field in leaf_fields(TrainingScenario)}
        for name, dimension in self.sweep.space.items():
            path = tuple(name.split("."))
            if path in _NOT_SEARCHED or (path not in known and path[:2] != ("run", "options")):
                fields = ", ".join(".".join(path) for path in known if path not in _NOT_SEARCHED)
                raise ValueError(
                    f"sweep.space: {name} is no field that can be searched; there are {fields}, run.options.…"
                )
            for value in dimension.examples:
                try:
                    self.at({name: value})
                except ValueError as error:
                    raise ValueError(f"sweep.space: {error}") from None
        points = self.points
        if self.sweep.sampler == "grid":
            free = [name for name, dimension in self.sweep.space.items() if dimension.size is None]
            if free:
                raise ValueError(f"sweep.space: a grid needs a step or a list of values for {', '.join(free)}")
            if points > self.sweep.trials:
                raise ValueError(
                    f"the grid has {points:,} points, and sweep.trials is {self.sweep.trials}; "
                    "leave values out, allow more trials, or take sampler: random"
                )
        return self

    @property
    def points(self) -> int:
        """How many points a grid over the space has."""
        return math.prod(dimension.size or 1 for dimension in self.sweep.space.values())

    @property
    def trials(self) -> int:
        """How many trials there are to be."""
        return self.points if self.sweep.sampler == "grid" else self.sweep.trials

    def known_points(self) -> Iterator[Mapping[str, Any]]:
        """The points that are known before the first result, in order: field → value."""
        space = self.sweep.space
        if self.sweep.sampler == "grid":
            for values in itertools.product(*(dimension.grid() for dimension in space.values())):
                yield dict(zip(space, values, strict=True))
            return
        source = random.Random(self.env.seed)  # noqa: S311 - no secret is made of it
        known = self.trials if self.sweep.sampler == "random" else min(self.trials, STARTUP_TRIALS)
        for _ in range(known):
            yield {name: dimension.draw(source) for name, dimension in space.items()}

    def at(self, point: Mapping[str, Any]) -> TrainingScenario:
        """The training at a point of the space; it registers nothing.

        Raises:
            ValueError: A value is not allowed there.
        """
        asked = self.model_dump(exclude={"kind", "sweep"})
        for name, value in point.items():
            block = asked
            *outer, last = name.split(".")
            for part in outer:
                block = block[part]
            block[last] = value
        asked["run"]["register_as"] = ""
        try:
            return TrainingScenario.model_validate(asked)
        except ValidationError as error:
            raise ValueError(explain(TrainingScenario, error, lambda field: ".".join(field.path))) from None


# --- comparisons ---------------------------------------------------------------------------------


def _two_or_more(names: list[str]) -> list[str]:
    if len(set(names)) < max(2, len(names)):
        raise ValueError("must name two models or more, each once")
    return names


class ComparisonConfig(Block):
    """What is compared, and by which figure."""

    subjects: Annotated[Names, AfterValidator(_two_or_more)] = asked(
        ...,
        "Run ids, or models such as models:/NAME/2 and models:/NAME@champion; each is held against the first.",
        option=None,
    )
    metric: Literal["map50_95", "map50"] = asked("map50_95", "The figure that decides.")
    resamples: int = asked(1000, "Draws of the bootstrap.", ge=100, le=100_000)


class ComparisonScenario(BaseScenario):
    """A comparison: what was seen of two or more models on the same images, held against each other."""

    positional: ClassVar[tuple[str, ...]] = ("subjects",)
    usual_experiment: ClassVar[str] = "comparisons"

    kind: Literal["compare"] = "compare"
    compare: ComparisonConfig


# --- plans ---------------------------------------------------------------------------------------


def plan(scenario: BaseScenario) -> list[RunPlan]:
    """The runs that a scenario asks for, as far as they are known before the first of them has a result.

    A sweep gives its trials: all of a grid or of a random search, of TPE those that it begins with.
    """
    if not isinstance(scenario, SweepScenario):
        return [RunPlan(scenario)]
    return [trial_plan(scenario, number, point) for number, point in enumerate(scenario.known_points())]


def trial_plan(
    scenario: SweepScenario, number: int, point: Mapping[str, Any], *, parent: str = "", sweep: str = ""
) -> RunPlan:
    """One trial of a sweep: the training at a point of the space."""
    return RunPlan(scenario.at(point), trial=Trial(scenario.study, number, parent, sweep))
