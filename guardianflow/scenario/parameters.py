"""What a runner may be asked, as a schema: names, types, ranges, defaults."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from guardianflow.exceptions import ParameterError

__all__ = [
    "InferenceParameters",
    "QuantizationParameters",
    "RegistryParameters",
    "RunParameters",
    "TrainingParameters",
    "WrapParameters",
    "parse_parameters",
]


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
        return _multiple_of_the_stride(value)


def _multiple_of_the_stride(value: int) -> int:
    if value % STRIDE:
        below = value - value % STRIDE
        raise ValueError(f"must be a multiple of {STRIDE}, such as {max(below, STRIDE)} or {below + STRIDE}")
    return value


Imgsz = Annotated[int, Field(ge=0, le=8192), AfterValidator(_multiple_of_the_stride)]
"""Side of the square input in pixels; 0 takes what the model was trained with."""

Confidence = Annotated[float, Field(gt=0, lt=1)]

Mode = Literal["single_stream", "offline", "server"]
_MODES: tuple[Mode, ...] = ("single_stream", "offline")


class InferenceParameters(RunParameters):
    """What a benchmark is asked: one model, measured on every combination of the lists below.

    Attributes:
        model_path: A model file or folder, a run id, or ``models:/NAME@champion``.
        data_yaml: A labelled dataset: accuracy is measured on it. May be empty where ``source`` is given.
        source: Video file, folder of images or MOT sequence folder: tracking is measured on it.
        split: Which split of the dataset.
        backends: Names from the catalogue of backends; none: the one that serves the model.
        precision: What to run them at, such as ``fp32``; none: what the model is served at. Combinations that
            a backend can't do are left out of the matrix and named.
        batch_sizes: Images per forward pass.
        modes: ``single_stream`` (latency), ``offline`` (throughput), ``server`` (Poisson arrivals).
        device: ``""`` chooses; else ``"cpu"``, ``"0"``.
        imgsz: Side of the square input, in pixels; 0 takes the model's own.
        confidence: Operating confidence of precision, recall and F1, and of what is timed.
        iou: Overlap above which non-maximum suppression drops the weaker box.
        max_det: Boxes kept per image.
        tracker: Tracker for ``source``, such as ``bytetrack``; empty: no tracking.
        images: Measure on so many images at most, drawn by the seed; 0: all.
        seconds: Least measured time of one repetition.
        repeats: Repetitions; their spread is the noise floor.
        target_rate: Arrivals per second in server mode; 0 takes 70 % of what it does back to back.
        latency_bound_ms: Bound of the 99th percentile in server mode; 0: none is stated.
        threads: CPU threads of the runtime; 0 leaves it the choice.
        memory_limit_mb: A cell that takes more is ended and reported; 0: nine tenths of what is free.
        cell_timeout_s: A cell that takes longer is ended and reported.
        classes_by_number: Model and data may call their classes differently: they are compared by number.
        seed: Of the draw of images and of the arrivals.
    """

    model_path: str
    data_yaml: str = ""
    source: str = ""
    split: str = "val"
    backends: list[str] = Field(default_factory=list)
    precision: list[str] = Field(default_factory=list)
    batch_sizes: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(default_factory=lambda: [1], min_length=1)
    modes: list[Mode] = Field(default_factory=lambda: list(_MODES), min_length=1)
    device: str = ""
    imgsz: Imgsz = 0
    confidence: Confidence = 0.25
    iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    max_det: Annotated[int, Field(ge=1, le=100_000)] = 300
    tracker: str = ""
    images: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 3.0
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    target_rate: Annotated[float, Field(ge=0)] = 0.0
    latency_bound_ms: Annotated[float, Field(ge=0)] = 0.0
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    memory_limit_mb: Annotated[int, Field(ge=0)] = 0
    cell_timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    classes_by_number: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _has_something_to_look_at(self) -> InferenceParameters:
        if not self.data_yaml and not self.source:
            raise ValueError("data_yaml (labelled images) or source (a video or a sequence) must be given")
        if self.tracker and not self.source:
            raise ValueError("a tracker needs source: a video file, a folder of images or a MOT sequence")
        return self


class QuantizationParameters(RunParameters):
    """What a quantization is asked.

    Attributes:
        source_run_id: Run whose weights are made smaller, or ``models:/NAME@champion``, or a weights file.
        backend: Which quantizer: ``onnxruntime``, ``openvino``, ``tensorrt`` or ``torch``.
        precision: ``int8``, ``fp16`` or ``bf16``.
        data_yaml: Where the calibration images (training split) and the images of the comparison are;
            empty: the dataset that the source was trained on.
        split: Where original and quantized model are compared.
        imgsz: Side of the square input, in pixels; 0 takes the model's own.
        calibration_images: How many training images are drawn.
        calibration_method: How activations are ranged: ``minmax``, ``entropy`` or ``percentile``.
        per_channel: One scale a channel of the weights instead of one a tensor.
        max_drop: Accuracy-aware quantization: the greatest loss of mAP50-95 allowed; layers go back to
            full precision until it holds. 0: plain post-training quantization.
        collapse: A class that loses more than this share of its AP fails the damage report.
        confidence: Operating confidence of the comparison.
        max_det: Boxes kept per image.
        register_as: Model name to register the variant under; empty: the source's own, if it has one.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``.
        seconds: Least measured time of one repetition of the timings.
        repeats: Repetitions; their spread is the noise floor.
        allow_damage: Register the variant even where the damage report fails it.
        classes_by_number: Model and data may call their classes differently: they are compared by number.
        seed: Of the draw of the calibration set and of the bootstrap.
    """

    source_run_id: str
    backend: str = "openvino"
    precision: Literal["int8", "fp16", "bf16"] = "int8"
    data_yaml: str = ""
    split: str = "val"
    imgsz: Imgsz = 0
    calibration_images: Annotated[int, Field(ge=1, le=100_000)] = 128
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"
    per_channel: bool = True
    max_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    collapse: Annotated[float, Field(gt=0, le=1)] = 0.5
    confidence: Confidence = 0.25
    max_det: Annotated[int, Field(ge=1, le=100_000)] = 300
    register_as: str = ""
    device: str = ""
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 3.0
    repeats: Annotated[int, Field(ge=1, le=100)] = 3
    allow_damage: bool = False
    classes_by_number: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


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


class WrapParameters(RunParameters):
    """What wrapping a script is asked.

    Attributes:
        script_path: A Python file, notebook, shell script or program; with ``module`` a module's dotted name.
        working_dir: Folder that it runs in, and that its files are looked for in; empty: the current one.
        args: The script's own arguments, word by word.
        artifact_patterns: Globs below ``working_dir`` of what is kept; none: weights, figures and tables.
        module: ``script_path`` names a module, as in ``python -m``.
        python: Interpreter of Python scripts; empty: the one that GuardianFlow runs in.
        metric_patterns: Regular expressions with named groups, looked for in each line of output.
        metric_files: Globs of CSV files that hold metrics, beside those that are known by their names.
        automatic_metrics: Take ``name: value`` and the like from the output, too.
        constants: Take the script's module-level constants for parameters.
        buffered: Leave Python's buffering of its output as it is; figures then come late.
        timeout_s: Longest time, in seconds; 0: no limit.
        memory_mb: Most memory of the script and all it starts, in MB (10^6 bytes); 0: no limit.
        environment_allowed: Names of variables (globs) that reach the script; none: all.
        register_as: Register the model that it makes under this name.
        model_pattern: Which artifact is the model; empty: the weights it made.
        experiments_file: Where the entry that is run is written down; its last run is noted there.
        entry: Name of that entry.
    """

    script_path: Annotated[str, Field(min_length=1)]
    working_dir: str = ""
    args: list[str] = Field(default_factory=list)
    artifact_patterns: list[str] = Field(default_factory=list)
    module: bool = False
    python: str = ""
    metric_patterns: list[str] = Field(default_factory=list)
    metric_files: list[str] = Field(default_factory=list)
    automatic_metrics: bool = True
    constants: bool = False
    buffered: bool = False
    timeout_s: Annotated[float, Field(ge=0)] = 0.0
    memory_mb: Annotated[float, Field(ge=0)] = 0.0
    environment_allowed: list[str] = Field(default_factory=list)
    register_as: str = ""
    model_pattern: str = ""
    experiments_file: str = ""
    entry: str = ""


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
