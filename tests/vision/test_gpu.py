"""On a machine with an NVIDIA GPU: it is found, trained on, and its figures are logged."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError
from guardianflow.machine.system import get_gpu_metrics
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.scenes.scenes import SceneConfig, generate_images
from guardianflow.vision.devices import check_device

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def nvidia_gpu() -> None:
    """Skips, and says so, where PyTorch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no NVIDIA GPU; run `pytest -m gpu` on a machine that has one")


def test_the_driver_is_asked_for_figures() -> None:
    gpu = get_gpu_metrics()[0]
    assert gpu.gpu_mem_total_mb is not None
    assert gpu.gpu_mem_total_mb > 1000
    assert gpu.gpu_util is not None
    assert 0 <= gpu.gpu_util <= 100


def test_a_gpu_that_is_not_there_is_refused() -> None:
    check_device("0")
    with pytest.raises(InputError, match="asks for GPU 99"):
        check_device("99")


def test_a_training_on_the_gpu_logs_its_memory(tmp_path: Path) -> None:
    data = generate_images(tmp_path / "scenes", images=16, config=SceneConfig(imgsz=96))
    settings = Settings(work_dir=tmp_path / "work")
    result = TrainingRunner(
        "gpu", "yolo11n.yaml", data.data_yaml, epochs=1, batch=4, imgsz=64, device="0", workers=2, settings=settings
    ).run()
    assert result.metrics["peak_gpu_mem_mb"] > 10
    assert result.metrics["gpu_mem_mb"] > 10
