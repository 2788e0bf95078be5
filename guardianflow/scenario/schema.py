"""What a run is asked, declared once: the scenario of each kind of run, made of blocks.

A field's name, type, range, default and sentence stand here and nowhere else. Each carries its runner keyword and its
command-line option; the signatures of the runners, the notebooks' parameters, ``--help``, the YAML file and its JSON
Schema are made of it (see :mod:`guardianflow.scenario.fields`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from guardianflow.scenario.blocks import (
    STRIDE,
    BaseScenario,
    Block,
    Dataset,
    Env,
    Imgsz,
    Model,
    Names,
    Text,
    split_names,
)
from guardianflow.scenario.fields import asked

__all__ = [
    "InferenceScenario", "OptimizationScenario", "QuantizationScenario", "RegistryScenario", "TrainingScenario",
    "WrapScenario",
]  # fmt: skip

Confidence = Annotated[float, Field(gt=0, lt=1)]
Mode = Literal["single_stream", "offline", "server"]


# --- training ------------------------------------------------------------------------------------


class TrainingModel(Model):
    """What is trained."""

    architecture: Text = asked(
        ...,
        "Weights file, model YAML, a known name such as yolo11n.yaml, or models:/NAME@champion.",
        "--model",
        keyword="model_arch",
        read="model",
    )
    imgsz: Annotated[Imgsz, Field(ge=STRIDE)] = asked(640, "Side of the square input, in pixels.")
    new_head: bool = asked(False, "Start from weights of other classes.")


class TrainingEnv(Env):
    """What it is trained on."""

    device: str = asked("", '"cpu", "0", "0,1"; left out, the best one is chosen.')
    workers: int = asked(8, "Processes that load images.", ge=0, le=256)
    threads: int = asked(0, "CPU threads; 0: Ultralytics' choice, one core fewer than there are.", ge=0, le=4096)


class TrainingDataset(Dataset):
    """What it is trained with."""

    data_yaml: Text = asked(..., "An Ultralytics data.yaml.", "--data", read="file")
    allow_bad: float = asked(
        0.0,
        "Percentage of bad images that is left out instead of refused.",
        "--allow-bad N%",
        read="percent",
        ge=0,
        lt=100,
    )


class TrainingRun(Block):
    """How long, how, and what becomes of it."""

    epochs: int = asked(100, "Passes over the training split.", ge=1, le=100_000)
    batch: int = asked(16, "Images per step.", ge=1, le=65_536)
    patience: int = asked(100, "Epochs without improvement before stopping; 0 never stops.", ge=0)
    register_as: str = asked(
        "", "Register the best weights under this name and make them the candidate.", "--register-as NAME"
    )
    options: dict[str, Any] = asked(
        {}, "Further Ultralytics training options, such as mosaic=0.0.", "--set KEY=VALUE", read="pairs"
    )
    resume: str = asked("", "Go on with this interrupted run.", option=None)


class TrainingScenario(BaseScenario):
    """A training."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "model_arch", "data_yaml", "epochs", "batch", "imgsz", "device", "seed", "register_as",
    )  # fmt: skip

    kind: Literal["train"] = "train"
    model: TrainingModel
    dataset: TrainingDataset
    env: TrainingEnv = TrainingEnv()
    run: TrainingRun = TrainingRun()


# --- inference -----------------------------------------------------------------------------------


class MeasuredModel(Model):
    """What is measured, and which of its boxes count."""

    path: Text = asked(
        ..., "Model file or folder, run id, or models:/NAME@champion.", "--model", keyword="model_path", read="model"
    )
    confidence: Confidence = asked(0.25, "Operating confidence.")
    iou: float = asked(0.7, "Overlap above which the weaker box is dropped.", gt=0, le=1)
    max_det: int = asked(300, "Boxes kept per image.", ge=1, le=100_000)
    classes_by_number: bool = asked(False, "Class 0 is class 0, though model and data call it differently.")


class MeasuringEnv(Env):
    """What it is measured on."""

    precision: Names = asked([], "Such as fp32,int8; none: what the model is served at.")
    threads: int = asked(0, "CPU threads of the runtime; 0: its own choice.", ge=0, le=4096)
    memory_limit_mb: int = asked(
        0, "End a cell that takes more MB; 0: nine tenths of what is free.", "--memory-limit MB", ge=0
    )


class MeasuredDataset(Dataset):
    """Which images it is measured on."""

    split: str = asked("val", "Split of the dataset.")
    source: str = asked("", "Video file, folder of images or MOT sequence, for tracking.", read="file")
    images: int = asked(0, "Score so many images at most; 0: all.", ge=0)


class MeasuringRun(Block):
    """What is measured, how long."""

    backends: Names = asked([], "Such as torch,onnxruntime,openvino; none: the one that serves the model.")
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], BeforeValidator(split_names)] = asked(
        [1], "Images per forward pass.", min_length=1
    )
    modes: Annotated[list[Mode], BeforeValidator(split_names)] = asked(
        ["single_stream", "offline"],
        "Of single_stream (latency), offline (throughput), server (Poisson arrivals).",
        min_length=1,
    )
    tracker: str = asked("", "Such as bytetrack; needs a source.")
    seconds: float = asked(3.0, "Least measured time of one repetition.", gt=0, le=86_400)
    repeats: int = asked(3, "Repetitions; their spread is the noise.", ge=1, le=100)
    target_rate: float = asked(
        0.0, "Server mode: arrivals per second; 0: 70 % of what it does back to back.", "--rate", ge=0
    )
    latency_bound_ms: float = asked(
        0.0, "Server mode: bound of the 99th percentile, in ms; 0: none.", "--latency-bound MS", ge=0
    )
    cell_timeout_s: float = asked(3600.0, "End a cell after so many seconds.", "--cell-timeout SECONDS", gt=0)


class InferenceScenario(BaseScenario):
    """A benchmark: one model on every combination of backend, precision and batch size."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "model_path", "data_yaml", "batch_sizes", "backends", "precision", "tracker",
    )  # fmt: skip
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

    source: Text = asked(
        ..., "Run id, models:/NAME@champion, or a weights file.", "--source", keyword="source_run_id", read="model"
    )
    confidence: Confidence = asked(0.25, "Operating confidence.")
    max_det: int = asked(300, "Boxes kept per image.", ge=1, le=100_000)
    classes_by_number: bool = asked(False, "Class 0 is class 0, though model and data call it differently.")


class QuantizationEnv(Env):
    """What it is made for."""

    precision: Literal["int8", "fp16", "bf16"] = asked("int8", "int8, fp16 or bf16.")


class QuantizationDataset(Dataset):
    """Which images calibrate and compare."""

    data_yaml: str = asked("", "A data.yaml; left out, what the source was trained on.", "--data", read="file")
    split: str = asked("val", "Where original and quantized model are compared.")


class QuantizationRun(Block):
    """How it is made smaller, and what it may cost."""

    backend: str = asked("openvino", "openvino, onnxruntime, tensorrt or torch.")
    calibration_images: int = asked(128, "Training images to calibrate with.", ge=1, le=100_000)
    calibration_method: Literal["minmax", "entropy", "percentile"] = asked(
        "minmax", "How activations are ranged: minmax, entropy or percentile."
    )
    per_channel: bool = asked(True, "One scale a channel of the weights.")
    max_drop: float = asked(0.0, "Accuracy-aware: greatest loss of mAP50-95; 0: plain.", ge=0, lt=1)
    collapse: float = asked(0.5, "A class that loses more than this share of its AP fails it.", gt=0, le=1)
    register_as: str = asked(
        "", "Register the variant under this name; left out: the source's own model name.", "--register-as NAME"
    )
    seconds: float = asked(3.0, "Least measured time of one repetition.", gt=0, le=86_400)
    repeats: int = asked(3, "Repetitions; their spread is the noise.", ge=1, le=100)
    allow_damage: bool = asked(False, "Register it even where the damage report fails it.")


class QuantizationScenario(BaseScenario):
    """A quantization: a model made smaller, beside the original on the same images."""

    positional: ClassVar[tuple[str, ...]] = ("experiment_name", "source_run_id", "backend", "precision", "data_yaml")
    usual_experiment: ClassVar[str] = "quantization"

    kind: Literal["quantize"] = "quantize"
    model: QuantizedModel
    dataset: QuantizationDataset = QuantizationDataset()
    env: QuantizationEnv = QuantizationEnv()
    run: QuantizationRun = QuantizationRun()


# --- wrapped scripts -----------------------------------------------------------------------------


class WrappedModel(Block):
    """Which of the script's files is the model."""

    pattern: str = asked(
        "", "Which artifact is the model; left out: the weights it made.", "--model GLOB", keyword="model_pattern"
    )


class WrapEnv(Block):
    """What the script runs in."""

    python: str = asked("", "Interpreter of Python scripts; left out: this one.", "--python PATH")
    environment_allowed: list[str] = asked(
        [], "Let only these variables (globs, and PATH and the like) reach the script; none: all.", "--env KEY"
    )
    memory_mb: float = asked(
        0.0, "Most memory of the script and all it starts, in MB; 0: no limit.", "--memory-mb MB", ge=0
    )


class WrapRun(Block):
    """What is run, and what of it is kept."""

    script_path: Text = asked(
        ..., "A Python file, notebook, shell script or program; with module, a module's dotted name.", option=None
    )
    working_dir: str = asked("", "Folder that it runs in; left out: the current one.", "--working-dir -C DIR")
    args: list[str] = asked([], "The script's own arguments, word by word.", option=None)
    module: bool = asked(False, "The script is a module, as in python -m.", "--module -m")
    artifact_patterns: list[str] = asked([], "Files to keep; none: weights, figures and tables.", "--artifact -a GLOB")
    metric_patterns: list[str] = asked(
        [], r"Metrics in the output, such as 'loss: (?P<loss>[\d.]+)'.", "--metric REGEX"
    )
    metric_files: list[str] = asked(
        [], "CSV files that hold metrics, beside those that are known by their names.", "--metric-file GLOB"
    )
    automatic_metrics: bool = asked(True, "Take 'name: value' and the like from the output, too.", "--auto-metrics")
    constants: bool = asked(False, "Take module-level constants for parameters.")
    buffered: bool = asked(False, "Leave Python's output buffered: less overhead, figures come late.")
    timeout_s: float = asked(0.0, "Longest time, in seconds; 0: no limit.", "--timeout SECONDS", ge=0)
    register_as: str = asked("", "Register the model that it makes.", "--register-as NAME")
    experiments_file: str = asked(
        "", "The experiments.yaml whose entry is run; its last run is noted there.", option=None
    )
    entry: str = asked("", "Name of that entry.", option=None)


class WrapScenario(BaseScenario):
    """A script of somebody's, run as it is."""

    positional: ClassVar[tuple[str, ...]] = (
        "experiment_name", "script_path", "working_dir", "args", "artifact_patterns",
    )  # fmt: skip

    kind: Literal["wrap"] = "wrap"
    model: WrappedModel = WrappedModel()
    env: WrapEnv = WrapEnv()
    run: WrapRun


# --- registry ------------------------------------------------------------------------------------


class RegistryRun(Block):
    """What is changed in the registry, and why."""

    action: Literal["register", "promote", "rollback", "reject"] = asked(..., "register, promote, rollback or reject.")
    model_name: Text = asked(..., "The registered model.")
    version: str = asked("", "Version to promote or reject; left out, the candidate is promoted.")
    source_run_id: str = asked("", "The run whose weights are registered.")
    reason: str = asked("", "Why; it is kept in the ledger.")
    force: bool = asked(False, "Promote against the gate; needs a reason.")


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


# --- optimization --------------------------------------------------------------------------------


class OptimizationRun(Block):
    """Which recommendation is carried out."""

    recommendation: int = asked(
        0, "Number of the recommendation to apply; 0: look at the rules only.", option=None, ge=0
    )


class OptimizationScenario(BaseScenario):
    """A look at the alert rules, or a recommendation carried out, as a notebook."""

    positional: ClassVar[tuple[str, ...]] = ("experiment_name", "recommendation")
    usual_experiment: ClassVar[str] = "optimization"

    kind: Literal["optimize"] = "optimize"
    run: OptimizationRun = OptimizationRun()
