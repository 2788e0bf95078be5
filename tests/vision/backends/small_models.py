"""Small detectors with random weights that tell images apart, made once for all tests of a session."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import ModelFile, read_model_file

IMGSZ = 64
NAMES = {0: "사람", 1: 'it\'s a "car"', 2: "None"}


@cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="모델 models "))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def weights(architecture: str = "yolo11n", *, end_to_end: bool = False, seed: int = 0) -> Path:
    """A .pt file; its figures differ from anchor to anchor and from image to image."""
    path = scratch() / f"{architecture}-{end_to_end}-{seed}.pt"
    if path.exists():  # asked for in other words
        return path
    from guardianflow.vision._ultralytics import import_ultralytics

    ultralytics = import_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    model = DetectionModel(f"{architecture}.yaml", nc=len(NAMES), verbose=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momentum = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():  # activations of a sensible size: the statistics of a few images
        model.train()(torch.rand(8, 3, 8, 8).repeat_interleave(IMGSZ // 8, 2).repeat_interleave(IMGSZ // 8, 3))
    for norm in norms:
        norm.momentum = momentum[norm]
    model.eval()
    with torch.no_grad():
        head = model.model[-1]
        for branch in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
            for level in branch:
                level[-1].weight.mul_(3)
                level[-1].bias.fill_(-1)
    model.names = dict(NAMES)
    if end_to_end:
        model.end2end = True
    wrapper = ultralytics.YOLO(f"{architecture}.yaml")
    wrapper.model = model
    wrapper.save(path)
    return path


@cache
def model_file(architecture: str = "yolo11n", *, end_to_end: bool = False) -> ModelFile:
    return read_model_file(weights(architecture, end_to_end=end_to_end))


@cache
def exported(
    backend: str, *, precision: str = "fp32", architecture: str = "yolo11n", end_to_end: bool = False
) -> ModelFile:
    return prepare_model(
        model_file(architecture, end_to_end=end_to_end),
        backend=backend,
        precision=precision,
        imgsz=IMGSZ,
        folder=scratch() / "내보내기 exports",
    )


def images(count: int = 2, seed: int = 3) -> NDArray[Any]:
    """Blocks of colour under some noise: what the weights' statistics are made for."""
    chance = np.random.default_rng(seed)
    blocks = chance.random((count, 3, 8, 8)).repeat(IMGSZ // 8, 2).repeat(IMGSZ // 8, 3)
    return np.ascontiguousarray(blocks * 0.9 + chance.random(blocks.shape) * 0.1, np.float32)
