"""Verbs that measure and make smaller: infer, quant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardianflow.exceptions import InputError
from guardianflow.text.option_values import absolute_if_file, listed, listed_numbers
from guardianflow.verbs.execution import execute_plan
from guardianflow.verbs.frame import Direct, Json, require, verb

__all__ = ["infer", "quant"]

ClassesByNumber = Annotated[
    bool,
    typer.Option("--classes-by-number", help="Class 0 is class 0, though model and data call it differently."),
]


@verb
def infer(
    model: Annotated[
        str | None, typer.Option("--model", help="Model file or folder, run id, or models:/NAME@champion.")
    ] = None,
    data: Annotated[str, typer.Option("--data", help="A data.yaml: labelled images to score.")] = "",
    source: Annotated[
        str, typer.Option("--source", help="Video file, folder of images or MOT sequence, for tracking.")
    ] = "",
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Experiment name.")] = "benchmarks",
    backends: Annotated[
        str, typer.Option(help="Such as torch,onnxruntime,openvino; left out, the one that serves the model.")
    ] = "",
    precision: Annotated[str, typer.Option(help="Such as fp32,int8; left out, what it is served at.")] = "",
    batch_sizes: Annotated[str, typer.Option("--batch-sizes", help="Images per forward pass.")] = "1",
    modes: Annotated[str, typer.Option(help="Of single_stream, offline, server.")] = "single_stream,offline",
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "val",
    device: Annotated[str, typer.Option(help='"cpu", "0"; left out, the best one is chosen.')] = "",
    imgsz: Annotated[int, typer.Option(help="Side of the square input, in pixels; 0: the model's own.")] = 0,
    confidence: Annotated[float, typer.Option(help="Operating confidence.")] = 0.25,
    iou: Annotated[float, typer.Option(help="Overlap above which the weaker box is dropped.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="Boxes kept per image.")] = 300,
    tracker: Annotated[str, typer.Option(help="Such as bytetrack; needs --source.")] = "",
    images: Annotated[int, typer.Option(help="Score so many images at most; 0: all.")] = 0,
    seconds: Annotated[float, typer.Option(help="Least measured time of one repetition.")] = 3.0,
    repeats: Annotated[int, typer.Option(help="Repetitions; their spread is the noise.")] = 3,
    target_rate: Annotated[float, typer.Option("--rate", help="Server mode: arrivals per second.")] = 0.0,
    latency_bound: Annotated[
        float, typer.Option("--latency-bound", help="Server mode: bound of the 99th percentile, in ms.")
    ] = 0.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the runtime; 0: its own choice.")] = 0,
    memory_limit: Annotated[
        int, typer.Option("--memory-limit", help="End a cell that takes more MB; 0: nine tenths of what is free.")
    ] = 0,
    cell_timeout: Annotated[float, typer.Option("--cell-timeout", help="End a cell after so many seconds.")] = 3600.0,
    classes_by_number: ClassesByNumber = False,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of arrivals.")] = 0,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Benchmark a model: accuracy, latency, throughput and memory on each runtime."""
    from guardianflow.scenario.factory import plan_run

    require({"--model": model})
    if not data and not source:
        raise InputError("--data (labelled images) or --source (a video or a sequence) must be given")
    plan = plan_run(
        "infer",
        experiment_name=experiment,
        model_path=absolute_if_file(model or ""),
        data_yaml=_absolute(data),
        source=_absolute(source),
        split=split,
        backends=listed(backends),
        precision=listed(precision),
        batch_sizes=listed_numbers(batch_sizes, "--batch-sizes"),
        modes=listed(modes),
        device=device,
        imgsz=imgsz,
        confidence=confidence,
        iou=iou,
        max_det=max_det,
        tracker=tracker,
        images=images,
        seconds=seconds,
        repeats=repeats,
        target_rate=target_rate,
        latency_bound_ms=latency_bound,
        threads=threads,
        memory_limit_mb=memory_limit,
        cell_timeout_s=cell_timeout,
        classes_by_number=classes_by_number,
        seed=seed,
    )
    execute_plan(plan, direct=direct, as_json=json)


@verb
def quant(
    source: Annotated[
        str | None, typer.Option("--source", help="Run id, models:/NAME@champion, or a weights file.")
    ] = None,
    backend: Annotated[str, typer.Option(help="openvino, onnxruntime, tensorrt or torch.")] = "openvino",
    precision: Annotated[str, typer.Option(help="int8, fp16 or bf16.")] = "int8",
    data: Annotated[str, typer.Option("--data", help="A data.yaml; left out, what the source was trained on.")] = "",
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Experiment name.")] = "quantization",
    split: Annotated[str, typer.Option(help="Where original and quantized model are compared.")] = "val",
    imgsz: Annotated[int, typer.Option(help="Side of the square input, in pixels; 0: the model's own.")] = 0,
    calibration_images: Annotated[
        int, typer.Option("--calibration-images", help="Training images to calibrate with.")
    ] = 128,
    calibration_method: Annotated[
        str, typer.Option("--calibration-method", help="minmax, entropy or percentile.")
    ] = "minmax",
    per_channel: Annotated[bool, typer.Option(help="One scale a channel of the weights.")] = True,
    max_drop: Annotated[
        float, typer.Option("--max-drop", help="Accuracy-aware: greatest loss of mAP50-95; 0: plain.")
    ] = 0.0,
    collapse: Annotated[float, typer.Option(help="A class that loses more than this share of its AP fails it.")] = 0.5,
    confidence: Annotated[float, typer.Option(help="Operating confidence.")] = 0.25,
    max_det: Annotated[int, typer.Option("--max-det", help="Boxes kept per image.")] = 300,
    register_as: Annotated[
        str, typer.Option("--register-as", metavar="NAME", help="Left out: the source's own model name.")
    ] = "",
    device: Annotated[str, typer.Option(help='"cpu", "0"; left out, the best one is chosen.')] = "",
    seconds: Annotated[float, typer.Option(help="Least measured time of one repetition.")] = 3.0,
    repeats: Annotated[int, typer.Option(help="Repetitions; their spread is the noise.")] = 3,
    allow_damage: Annotated[
        bool, typer.Option("--allow-damage", help="Register it even where the damage report fails it.")
    ] = False,
    classes_by_number: ClassesByNumber = False,
    seed: Annotated[int, typer.Option(help="Of the calibration set and the bootstrap.")] = 0,
    direct: Direct = False,
    json: Json = False,
) -> None:
    """Quantize a model, compare it with the original on the same images, and register it."""
    from guardianflow.scenario.factory import plan_run

    require({"--source": source})
    plan = plan_run(
        "quantize",
        experiment_name=experiment,
        source_run_id=absolute_if_file(source or ""),
        backend=backend,
        precision=precision,
        data_yaml=_absolute(data),
        split=split,
        imgsz=imgsz,
        calibration_images=calibration_images,
        calibration_method=calibration_method,
        per_channel=per_channel,
        max_drop=max_drop,
        collapse=collapse,
        confidence=confidence,
        max_det=max_det,
        register_as=register_as,
        device=device,
        seconds=seconds,
        repeats=repeats,
        allow_damage=allow_damage,
        classes_by_number=classes_by_number,
        seed=seed,
    )
    execute_plan(plan, direct=direct, as_json=json)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
