"""What a run is asked, declared once: the scenario of each kind of run, made of blocks.

A field's name, type, range, default and sentence stand here and nowhere else. Each carries its runner keyword and its
command-line option; the signatures of the runners, the notebooks' parameters, ``--help``, the YAML file and its JSON
Schema are made of it (see :mod:`guardianflow.scenario.fields`).
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from guardianflow.core.metrics import CATALOGUE
from guardianflow.scenario.fields import Asked, to_flat

__all__ = [
    "BaseScenario",
    "Dataset",
    "Env",
    "InferenceScenario",
    "Model",
    "QuantizationScenario",
    "RegistryScenario",
    "Site",
    "Task",
    "TrainingScenario",
    "WrapScenario",
]

STRIDE = 32  # of the coarsest feature map of the detectors that Ultralytics ships

_REQUIREMENT = re.compile(r"\s*([a-z]\w*)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*")


def _multiple_of_the_stride(value: int) -> int:
    if value % STRIDE:
        below = value - value % STRIDE
        raise ValueError(f"must be a multiple of {STRIDE}, such as {max(below, STRIDE)} or {below + STRIDE}")
    return value


def _split(value: object) -> object:
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


Imgsz = Annotated[int, Field(ge=0, le=8192), AfterValidator(_multiple_of_the_stride)]
Confidence = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Names = Annotated[list[str], BeforeValidator(_split)]
"""Names; a text is taken apart at its commas, as on a command line."""
Requirement = Annotated[str, AfterValidator(_readable_requirement)]
Mode = Literal["single_stream", "offline", "server"]


class Block(BaseModel):
    """A group of fields; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True)


class Site(Block):
    """Where the cameras hang: a tag of every run and figure, nothing more."""

    name: Annotated[str, Asked(option="--site", metavar="NAME")] = Field("", description="Name of the site.")
    cameras: Annotated[Names, Asked(option="--camera", metavar="NAME")] = Field(
        [], description="Cameras of the site that the data is from."
    )
    time_zone: Annotated[str, Asked(option=None), AfterValidator(_known_zone)] = Field(
        "", description="Time zone of the site, such as Asia/Seoul."
    )
    conditions: Annotated[Names, Asked(option=None)] = Field(
        [], description="What the pictures were taken in, such as night or rain."
    )

    @property
    def camera(self) -> str | None:
        """The camera that a figure is of; ``None`` where there are none or several."""
        return self.cameras[0] if len(self.cameras) == 1 else None


class Task(Block):
    """What the model is for, and what it must reach there."""

    kind: Annotated[Literal["detection", "tracking"], Asked(option=None)] = Field(
        "detection", description="detection or tracking."
    )
    classes: Annotated[Names, Asked(option=None)] = Field(
        [], description="Names of the classes that the data must have; none: as the data says."
    )
    requirements: Annotated[list[Requirement], Asked(option="--require", metavar="RULE")] = Field(
        [], description="What the figures must reach, such as 'map50 >= 0.75'."
    )


class Model(Block):
    """Which model, and what it is shown."""

    imgsz: Annotated[Imgsz, Asked()] = Field(0, description="Side of the square input, in pixels; 0: the model's own.")


class Env(Block):
    """What it runs on."""

    device: Annotated[str, Asked()] = Field("", description='"cpu", "0"; left out, the best one is chosen.')
    seed: Annotated[Seed, Asked()] = Field(0, description="Of everything random.")


class Dataset(Block):
    """Which images."""

    data_yaml: Annotated[str, Asked(option="--data", read="file")] = Field(
        "", description="A data.yaml: labelled images."
    )


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
    verb: ClassVar[str] = ""
    """The command that makes such a scenario."""
    usual_experiment: ClassVar[str] = ""
    """Experiment of a command line that names none; empty: it must name one."""

    schema_version: Literal[1] = 1
    kind: str
    experiment: Annotated[str, Asked(keyword="experiment_name", option="--experiment", short="-e")] = Field(
        min_length=1, description="Experiment in MLflow; created if it isn't there."
    )
    site: Annotated[Site, Asked(whole=True)] = Site()
    task: Annotated[Task, Asked(whole=True)] = Task()

    def flat(self) -> dict[str, Any]:
        """What a runner, a notebook and a record are given: keyword → value, in plain JSON types."""
        return to_flat(self)


# --- training ------------------------------------------------------------------------------------


class TrainingModel(Model):
    """What is trained."""

    architecture: Annotated[str, Asked(keyword="model_arch", option="--model", read="model")] = Field(
        min_length=1,
        description="Weights file, model YAML, a known name such as yolo11n.yaml, or models:/NAME@champion.",
    )
    imgsz: Annotated[Imgsz, Field(ge=STRIDE), Asked()] = Field(640, description="Side of the square input, in pixels.")
    new_head: Annotated[bool, Asked()] = Field(False, description="Start from weights of other classes.")


class TrainingEnv(Env):
    """What it is trained on."""

    device: Annotated[str, Asked()] = Field("", description='"cpu", "0", "0,1"; left out, the best one is chosen.')
    workers: Annotated[int, Field(ge=0, le=256), Asked()] = Field(8, description="Processes that load images.")


class TrainingDataset(Dataset):
    """What it is trained with."""

    data_yaml: Annotated[str, Asked(option="--data", read="file")] = Field(
        min_length=1, description="An Ultralytics data.yaml."
    )
    allow_bad: Annotated[float, Field(ge=0, lt=100), Asked(read="percent", metavar="N%")] = Field(
        0.0, description="Percentage of bad images that is left out instead of refused."
    )


class TrainingRun(Block):
    """How long, how, and what becomes of it."""

    epochs: Annotated[int, Field(ge=1, le=100_000), Asked()] = Field(100, description="Passes over the training split.")
    batch: Annotated[int, Field(ge=1, le=65_536), Asked()] = Field(16, description="Images per step.")
    patience: Annotated[int, Field(ge=0), Asked()] = Field(
        100, description="Epochs without improvement before stopping; 0 never stops."
    )
    register_as: Annotated[str, Asked(metavar="NAME")] = Field(
        "", description="Register the best weights under this name and make them the candidate."
    )
    options: Annotated[dict[str, Any], Asked(option="--set", read="pairs", metavar="KEY=VALUE")] = Field(
        {}, description="Further Ultralytics training options, such as mosaic=0.0."
    )
    resume: Annotated[str, Asked(option=None)] = Field("", description="Go on with this interrupted run.")


class TrainingScenario(BaseScenario):
    """A training."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "model_arch", "data_yaml", "epochs", "batch", "imgsz", "device", "seed", "register_as",
    )  # fmt: skip
    verb: ClassVar[str] = "train"

    kind: Literal["train"] = "train"
    model: TrainingModel
    dataset: TrainingDataset
    env: TrainingEnv = TrainingEnv()
    run: TrainingRun = TrainingRun()


# --- inference -----------------------------------------------------------------------------------


class MeasuredModel(Model):
    """What is measured, and which of its boxes count."""

    path: Annotated[str, Asked(keyword="model_path", option="--model", read="model")] = Field(
        min_length=1, description="Model file or folder, run id, or models:/NAME@champion."
    )
    confidence: Annotated[Confidence, Asked()] = Field(0.25, description="Operating confidence.")
    iou: Annotated[float, Field(gt=0, le=1), Asked()] = Field(
        0.7, description="Overlap above which the weaker box is dropped."
    )
    max_det: Annotated[int, Field(ge=1, le=100_000), Asked()] = Field(300, description="Boxes kept per image.")
    classes_by_number: Annotated[bool, Asked()] = Field(
        False, description="Class 0 is class 0, though model and data call it differently."
    )


class MeasuringEnv(Env):
    """What it is measured on."""

    precision: Annotated[Names, Asked()] = Field(
        [], description="Such as fp32,int8; none: what the model is served at."
    )
    threads: Annotated[int, Field(ge=0, le=4096), Asked()] = Field(
        0, description="CPU threads of the runtime; 0: its own choice."
    )
    memory_limit_mb: Annotated[int, Field(ge=0), Asked(option="--memory-limit", metavar="MB")] = Field(
        0, description="End a cell that takes more MB; 0: nine tenths of what is free."
    )


class MeasuredDataset(Dataset):
    """Which images it is measured on."""

    split: Annotated[str, Asked()] = Field("val", description="Split of the dataset.")
    source: Annotated[str, Asked(read="file")] = Field(
        "", description="Video file, folder of images or MOT sequence, for tracking."
    )
    images: Annotated[int, Field(ge=0), Asked()] = Field(0, description="Score so many images at most; 0: all.")


class MeasuringRun(Block):
    """What is measured, how long."""

    backends: Annotated[Names, Asked()] = Field(
        [], description="Such as torch,onnxruntime,openvino; none: the one that serves the model."
    )
    batch_sizes: Annotated[
        list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(_split), Field(min_length=1), Asked()
    ] = Field([1], description="Images per forward pass.")
    modes: Annotated[list[Mode], BeforeValidator(_split), Field(min_length=1), Asked()] = Field(
        ["single_stream", "offline"],
        description="Of single_stream (latency), offline (throughput), server (Poisson arrivals).",
    )
    tracker: Annotated[str, Asked()] = Field("", description="Such as bytetrack; needs a source.")
    seconds: Annotated[float, Field(gt=0, le=86_400), Asked()] = Field(
        3.0, description="Least measured time of one repetition."
    )
    repeats: Annotated[int, Field(ge=1, le=100), Asked()] = Field(
        3, description="Repetitions; their spread is the noise."
    )
    target_rate: Annotated[float, Field(ge=0), Asked(option="--rate")] = Field(
        0.0, description="Server mode: arrivals per second; 0: 70 % of what it does back to back."
    )
    latency_bound_ms: Annotated[float, Field(ge=0), Asked(option="--latency-bound", metavar="MS")] = Field(
        0.0, description="Server mode: bound of the 99th percentile, in ms; 0: none."
    )
    cell_timeout_s: Annotated[float, Field(gt=0), Asked(option="--cell-timeout", metavar="SECONDS")] = Field(
        3600.0, description="End a cell after so many seconds."
    )


class InferenceScenario(BaseScenario):
    """A benchmark: one model on every combination of backend, precision and batch size."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "model_path", "data_yaml", "batch_sizes", "backends", "precision", "tracker",
    )  # fmt: skip
    verb: ClassVar[str] = "infer"
    usual_experiment: ClassVar[str] = "benchmarks"

    kind: Literal["infer"] = "infer"
    model: MeasuredModel
    dataset: MeasuredDataset = MeasuredDataset()
    env: MeasuringEnv = MeasuringEnv()
    run: MeasuringRun = MeasuringRun()

    @model_validator(mode="after")
    def _has_something_to_look_at(self) -> Self:
        if not self.dataset.data_yaml and not self.dataset.source:
            raise ValueError("data_yaml (labelled images) or source (a video or a sequence) must be given")
        if self.run.tracker and not self.dataset.source:
            raise ValueError("a tracker needs source: a video file, a folder of images or a MOT sequence")
        if self.task.kind == "tracking" and not self.run.tracker:
            raise ValueError("a tracking task needs tracker (such as bytetrack) and source")
        return self


# --- quantization --------------------------------------------------------------------------------


class QuantizedModel(Model):
    """What is made smaller."""

    source: Annotated[str, Asked(keyword="source_run_id", option="--source", read="model")] = Field(
        min_length=1, description="Run id, models:/NAME@champion, or a weights file."
    )
    confidence: Annotated[Confidence, Asked()] = Field(0.25, description="Operating confidence.")
    max_det: Annotated[int, Field(ge=1, le=100_000), Asked()] = Field(300, description="Boxes kept per image.")
    classes_by_number: Annotated[bool, Asked()] = Field(
        False, description="Class 0 is class 0, though model and data call it differently."
    )


class QuantizationEnv(Env):
    """What it is made for."""

    precision: Annotated[Literal["int8", "fp16", "bf16"], Asked()] = Field("int8", description="int8, fp16 or bf16.")


class QuantizationDataset(Dataset):
    """Which images calibrate and compare."""

    data_yaml: Annotated[str, Asked(option="--data", read="file")] = Field(
        "", description="A data.yaml; left out, what the source was trained on."
    )
    split: Annotated[str, Asked()] = Field("val", description="Where original and quantized model are compared.")


class QuantizationRun(Block):
    """How it is made smaller, and what it may cost."""

    backend: Annotated[str, Asked()] = Field("openvino", description="openvino, onnxruntime, tensorrt or torch.")
    calibration_images: Annotated[int, Field(ge=1, le=100_000), Asked()] = Field(
        128, description="Training images to calibrate with."
    )
    calibration_method: Annotated[Literal["minmax", "entropy", "percentile"], Asked()] = Field(
        "minmax", description="How activations are ranged: minmax, entropy or percentile."
    )
    per_channel: Annotated[bool, Asked()] = Field(True, description="One scale a channel of the weights.")
    max_drop: Annotated[float, Field(ge=0, lt=1), Asked()] = Field(
        0.0, description="Accuracy-aware: greatest loss of mAP50-95; 0: plain."
    )
    collapse: Annotated[float, Field(gt=0, le=1), Asked()] = Field(
        0.5, description="A class that loses more than this share of its AP fails it."
    )
    register_as: Annotated[str, Asked(metavar="NAME")] = Field(
        "", description="Register the variant under this name; left out: the source's own model name."
    )
    seconds: Annotated[float, Field(gt=0, le=86_400), Asked()] = Field(
        3.0, description="Least measured time of one repetition."
    )
    repeats: Annotated[int, Field(ge=1, le=100), Asked()] = Field(
        3, description="Repetitions; their spread is the noise."
    )
    allow_damage: Annotated[bool, Asked()] = Field(
        False, description="Register it even where the damage report fails it."
    )


class QuantizationScenario(BaseScenario):
    """A quantization: a model made smaller, beside the original on the same images."""

    positional: ClassVar[tuple[str, ...]] = ("experiment_name", "source_run_id", "backend", "precision", "data_yaml")
    verb: ClassVar[str] = "quant"
    usual_experiment: ClassVar[str] = "quantization"

    kind: Literal["quantize"] = "quantize"
    model: QuantizedModel
    dataset: QuantizationDataset = QuantizationDataset()
    env: QuantizationEnv = QuantizationEnv()
    run: QuantizationRun = QuantizationRun()


# --- wrapped scripts -----------------------------------------------------------------------------


class WrappedModel(Block):
    """Which of the script's files is the model."""

    pattern: Annotated[str, Asked(keyword="model_pattern", option="--model", metavar="GLOB")] = Field(
        "", description="Which artifact is the model; left out: the weights it made."
    )


class WrapEnv(Block):
    """What the script runs in."""

    python: Annotated[str, Asked(metavar="PATH")] = Field(
        "", description="Interpreter of Python scripts; left out: this one."
    )
    environment_allowed: Annotated[list[str], Asked(option="--env", metavar="KEY")] = Field(
        [], description="Let only these variables (globs, and PATH and the like) reach the script; none: all."
    )
    memory_mb: Annotated[float, Field(ge=0), Asked(metavar="MB")] = Field(
        0.0, description="Most memory of the script and all it starts, in MB; 0: no limit."
    )


class WrapRun(Block):
    """What is run, and what of it is kept."""

    script_path: Annotated[str, Field(min_length=1), Asked(option=None)] = Field(
        description="A Python file, notebook, shell script or program; with module, a module's dotted name."
    )
    working_dir: Annotated[str, Asked(short="-C", metavar="DIR")] = Field(
        "", description="Folder that it runs in; left out: the current one."
    )
    args: Annotated[list[str], Asked(option=None)] = Field([], description="The script's own arguments, word by word.")
    module: Annotated[bool, Asked(short="-m")] = Field(False, description="The script is a module, as in python -m.")
    artifact_patterns: Annotated[list[str], Asked(option="--artifact", short="-a", metavar="GLOB")] = Field(
        [], description="Files to keep; none: weights, figures and tables."
    )
    metric_patterns: Annotated[list[str], Asked(option="--metric", metavar="REGEX")] = Field(
        [], description=r"Metrics in the output, such as 'loss: (?P<loss>[\d.]+)'."
    )
    metric_files: Annotated[list[str], Asked(option="--metric-file", metavar="GLOB")] = Field(
        [], description="CSV files that hold metrics, beside those that are known by their names."
    )
    automatic_metrics: Annotated[bool, Asked(option="--auto-metrics")] = Field(
        True, description="Take 'name: value' and the like from the output, too."
    )
    constants: Annotated[bool, Asked()] = Field(False, description="Take module-level constants for parameters.")
    buffered: Annotated[bool, Asked()] = Field(
        False, description="Leave Python's output buffered: less overhead, figures come late."
    )
    timeout_s: Annotated[float, Field(ge=0), Asked(option="--timeout", metavar="SECONDS")] = Field(
        0.0, description="Longest time, in seconds; 0: no limit."
    )
    register_as: Annotated[str, Asked(metavar="NAME")] = Field("", description="Register the model that it makes.")
    experiments_file: Annotated[str, Asked(option=None)] = Field(
        "", description="The experiments.yaml whose entry is run; its last run is noted there."
    )
    entry: Annotated[str, Asked(option=None)] = Field("", description="Name of that entry.")


class WrapScenario(BaseScenario):
    """A script of somebody's, run as it is."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "script_path", "working_dir", "args", "artifact_patterns",
    )  # fmt: skip
    verb: ClassVar[str] = "wrap"

    kind: Literal["wrap"] = "wrap"
    model: WrappedModel = WrappedModel()
    env: WrapEnv = WrapEnv()
    run: WrapRun


# --- registry ------------------------------------------------------------------------------------


class RegistryRun(Block):
    """What is changed in the registry, and why."""

    action: Annotated[Literal["register", "promote", "rollback", "reject"], Asked()] = Field(
        description="register, promote, rollback or reject."
    )
    model_name: Annotated[str, Field(min_length=1), Asked()] = Field(description="The registered model.")
    version: Annotated[str, Asked()] = Field(
        "", description="Version to promote or reject; left out, the candidate is promoted."
    )
    source_run_id: Annotated[str, Asked()] = Field("", description="The run whose weights are registered.")
    reason: Annotated[str, Asked()] = Field("", description="Why; it is kept in the ledger.")
    force: Annotated[bool, Asked()] = Field(False, description="Promote against the gate; needs a reason.")


class RegistryScenario(BaseScenario):
    """A change in the registry, as a notebook."""

    positional: ClassVar[tuple[str, ...]] = ("experiment_name", "action", "model_name")

    kind: Literal["registry"] = "registry"
    run: RegistryRun

    @model_validator(mode="after")
    def _complete(self) -> Self:
        asked = self.run
        needed = {"register": ("source_run_id",), "reject": ("version", "reason")}.get(asked.action, ())
        missing = [name for name in (*needed, *(("reason",) if asked.force else ())) if not getattr(asked, name)]
        if missing:
            raise ValueError(f"to {asked.action}, {' and '.join(missing)} must be given")
        return self
