"""What a runner may be asked, as a schema: names, types, ranges, defaults."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from guardianflow.exceptions import ParameterError

__all__ = ["RegistryParameters", "RunParameters", "TrainingParameters", "parse_parameters"]


STRIDE = 32  # of the coarsest feature map of the detectors that Ultralytics ships


class RunParameters(BaseModel):
    """What every run is asked.

    Attributes:
        experiment_name: Experiment in MLflow; created if it isn't there.
        run_id: Filled in by whoever executes the notebook: the run that it made and will end.
            Left empty, the runner makes a run and ends it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())

    experiment_name: str
    run_id: str = ""

    def identity(self) -> dict[str, Any]:
        """What was asked, without the run it was asked in: what a repeated run is given again."""
        return self.model_dump(mode="json", exclude={"run_id"})


class TrainingParameters(RunParameters):
    """What a training is asked.

    Attributes:
        model_arch: Weights file, model YAML, a name that Ultralytics knows, or ``models:/NAME@champion``.
        data_yaml: The dataset.
        epochs: Passes over the training split.
        batch: Images per step.
        imgsz: Side of the square input, in pixels; a multiple of 32.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``, ``"0,1"``.
        seed: Of everything random.
        workers: Processes that load images (a CPU training loads in its own).
        patience: Epochs without improvement after which training stops; 0 never stops.
        register_as: Register the best weights under this model name and make them the candidate.
        allow_bad: Percentage of bad images that is left out instead of refused.
        new_head: Start from weights of other classes; their last layers are trained anew.
        options: Further Ultralytics training arguments, such as ``{"mosaic": 0.0}``.
        resume: Go on with this interrupted run.
    """

    model_arch: str
    data_yaml: str
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    batch: Annotated[int, Field(ge=1, le=65_536)] = 16
    imgsz: Annotated[int, Field(ge=32, le=8192)] = 640
    device: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    workers: Annotated[int, Field(ge=0, le=256)] = 8
    patience: Annotated[int, Field(ge=0)] = 100
    register_as: str = ""
    allow_bad: Annotated[float, Field(ge=0, lt=100)] = 0.0
    new_head: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    resume: str = ""

    @field_validator("imgsz")
    @classmethod
    def _fits_the_stride(cls, value: int) -> int:
        if value % STRIDE:
            below = value - value % STRIDE
            raise ValueError(f"must be a multiple of {STRIDE}, such as {max(below, STRIDE)} or {below + STRIDE}")
        return value


class RegistryParameters(RunParameters):
    """What a change in the registry is asked.

    Attributes:
        action: What to do.
        model_name: The registered model.
        version: Version to promote or reject; left out, the candidate is promoted.
        source_run_id: The run whose weights are registered.
        reason: Why; it is kept in the ledger.
        force: Promote against the gate; needs a reason.
    """

    action: Literal["register", "promote", "rollback", "reject"]
    model_name: str
    version: str = ""
    source_run_id: str = ""
    reason: str = ""
    force: bool = False

    @model_validator(mode="after")
    def _complete(self) -> RegistryParameters:
        needed = {"register": ("source_run_id",), "reject": ("version", "reason")}.get(self.action, ())
        missing = [name for name in (*needed, *(("reason",) if self.force else ())) if not getattr(self, name)]
        if missing:
            raise ValueError(f"to {self.action}, {' and '.join(missing)} must be given")
        return self


P = TypeVar("P", bound=RunParameters)


def parse_parameters(schema: type[P], values: dict[str, Any]) -> P:
    """Check values against a schema.

    Raises:
        ParameterError: One sentence that names the parameter, its value and the rule, and for an
            unknown name the nearest known one.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        item = error.errors()[0]
        raise ParameterError(_explain(schema, item)) from error


def _explain(schema: type[RunParameters], item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, schema.model_fields, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(schema.model_fields))}"
        return f"there is no parameter {name!r}; {hint}"
    if item["type"] == "missing":
        return f"parameter {name!r} is missing; give it a value"
    rule = item["msg"].removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    return f"parameter {name} = {item.get('input')!r} is not allowed: {rule}"
