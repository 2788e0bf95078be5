"""The blocks that every scenario is made of: site, task, model, env, dataset, and what their values must be."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from guardianflow.core.metrics import CATALOGUE
from guardianflow.scenario.fields import Asked, asked, to_flat
from guardianflow.text.frozen import Frozen

__all__ = [
    "STRIDE", "BaseScenario", "Block", "Dataset", "Env", "Imgsz", "Model", "Names", "Site", "Task", "Text",
    "split_names",
]  # fmt: skip

STRIDE = 32  # of the coarsest feature map of the detectors that Ultralytics ships

_REQUIREMENT = re.compile(r"\s*([a-z]\w*)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")


def _multiple_of_the_stride(value: int) -> int:
    if value % STRIDE:
        below = max(value - value % STRIDE, STRIDE)
        raise ValueError(f"must be a multiple of {STRIDE}, such as {below} or {below + STRIDE}")
    return value


def split_names(value: object) -> object:
    """A text taken apart at its commas; a list as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _known_zone(value: str) -> str:
    if value:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise ValueError("is no time zone; write it as Asia/Seoul or UTC") from None
    return value


def _readable_requirement(value: str) -> str:
    found = _REQUIREMENT.fullmatch(value)
    if not found:
        raise ValueError("is no requirement; write it as map50 >= 0.75 or latency_ms_p95 <= 30")
    if found[1] not in CATALOGUE:
        close = difflib.get_close_matches(found[1], CATALOGUE, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(CATALOGUE))}"
        raise ValueError(f"names no metric of ours; {hint}")
    float(found[3])
    return f"{found[1]} {found[2]} {float(found[3]):g}"


def _possible_together(rules: list[str]) -> list[str]:
    """Refuse rules that no figure can meet: alone, or beside each other."""
    for place, rule in enumerate(rules):
        for others in ([], *([other] for other in rules[:place])):
            if not _can_hold([*others, rule]):
                why = "can't both hold" if others else "can't hold: it is a fraction, and 1 is the most"
                raise ValueError(f"{' and '.join([*others, rule])} {why}; correct one, or leave it out")
    return rules


def _can_hold(rules: Sequence[str]) -> bool:
    parts = [rule.split() for rule in rules]
    if len({name for name, _, _ in parts}) > 1:
        return True
    most = 1.0 if CATALOGUE[parts[0][0]].unit == "fraction" else math.inf
    low = max([(-math.inf, False), *((float(bound), sign == ">") for _, sign, bound in parts if sign[0] == ">")])
    high = min([(most, True), *((float(bound), sign == "<=") for _, sign, bound in parts if sign[0] == "<")])
    return low[0] < high[0] or (low[0] == high[0] and not low[1] and high[1])


Imgsz = Annotated[int, Field(ge=0, le=8192), AfterValidator(_multiple_of_the_stride)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[list[str], BeforeValidator(split_names)]
"""Names; a text is taken apart at its commas, as on a command line."""
Requirement = Annotated[str, AfterValidator(_readable_requirement)]


class Block(BaseModel):
    """A group of fields; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True)

    def __dir__(self) -> list[str]:  # completion shows our names, not pydantic's
        return sorted({*super().__dir__()} - {*dir(BaseModel)})


class Site(Block):
    """Where the cameras hang: a tag of every run and figure, nothing more."""

    name: str = asked("", "Name of the site.", "--site NAME")
    cameras: Names = asked([], "Cameras of the site that the data is from.", "--camera NAME")
    time_zone: Annotated[str, AfterValidator(_known_zone)] = asked(
        "", "Time zone of the site, such as Asia/Seoul.", option=None
    )
    conditions: Names = asked([], "What the pictures were taken in, such as night or rain.", option=None)

    @property
    def camera(self) -> str | None:
        """The camera that a figure is of; ``None`` where there are none or several."""
        return self.cameras[0] if len(self.cameras) == 1 else None


class Task(Block):
    """What the model is for, and what it must reach there."""

    kind: Literal["detection", "tracking"] = asked("detection", "detection or tracking.", option=None)
    classes: Names = asked([], "Names of the classes that the data must have; none: as the data says.", option=None)
    requirements: Annotated[list[Requirement], AfterValidator(_possible_together)] = asked(
        [], "What the figures must reach, such as 'map50 >= 0.75'.", "--require RULE"
    )


class Model(Block):
    """Which model, and what it is shown."""

    imgsz: Imgsz = asked(0, "Side of the square input, in pixels; 0: the model's own.")


class Env(Block):
    """What it runs on."""

    device: str = asked("", '"cpu", "0"; left out, the best one is chosen.')
    seed: int = asked(0, "Of everything random.", ge=0, lt=2**31)


class Dataset(Block):
    """Which images."""

    data_yaml: str = asked("", "A data.yaml: labelled images.", "--data", read="file")


class BaseScenario(Block):
    """One run: what it is asked, in blocks.

    Attributes:
        schema_version: Of the form of this file.
        kind: Kind of run, which is the name of its template notebook.
        experiment: Experiment in MLflow; created if it isn't there.
        site: Where the cameras hang.
        task: What the model is for.
    """

    positional: ClassVar[tuple[str, ...]] = ("experiment_name",)
    """Runner keywords that may be given by position, in this order."""
    usual_experiment: ClassVar[str] = ""
    """Experiment of a command line that names none; empty: it must name one."""

    schema_version: Literal[1] = 1
    kind: str
    experiment: Text = asked(
        ..., "Experiment in MLflow; created if it isn't there.", "--experiment -e", keyword="experiment_name"
    )
    site: Annotated[Site, Asked(whole=True)] = Site()
    task: Annotated[Task, Asked(whole=True)] = Task()

    def _repr_html_(self) -> str:
        return Frozen(self.flat())._repr_html_()

    def flat(self) -> dict[str, Any]:
        """What a runner, a notebook and a record are given: keyword → value, in plain JSON types."""
        return to_flat(self)
