"""The contract suite over every backend that this machine has."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np
import pytest

from guardianflow.testing.backend_suite import BackendSuite
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import availability, open_backend
from guardianflow.vision.backends.nvidia import driver_problem
from tests.vision.backends.small_models import IMGSZ, exported, weights


@cache
def plain_torch(architecture="yolo11n", end_to_end=False):
    """Ultralytics' own model, not fused, in its own memory order."""
    from guardianflow.vision.model_files import load_weights

    return load_weights(weights(architecture, end_to_end=end_to_end)).eval()


class Suite(BackendSuite):
    imgsz = IMGSZ
    name = "torch"
    precision = "fp32"
    architecture = "yolo11n"
    options: ClassVar = {"threads": 1}  # two threads that share a busy core wait for each other

    @pytest.fixture(scope="class")
    def open_backend(self):
        model = exported(
            self.name, precision=self.precision, architecture=self.architecture, end_to_end=self.end_to_end
        )

        def open_it(**options):
            asked = BackendOptions(precision=self.precision, imgsz=self.imgsz, device="cpu", **self.options, **options)
            return open_backend(model, backend=self.name, options=asked)

        return open_it

    @pytest.fixture(scope="class")
    def reference(self):
        import torch

        def run(images):
            with torch.inference_mode():
                return plain_torch(self.architecture, self.end_to_end)(torch.from_numpy(images))[0].numpy()

        return run


class TestTorch(Suite):
    pass


class TestTorchBf16(Suite):
    precision = executed = "bf16"
    box_tolerance = 5.0  # of boxes up to 500 pixels wide
    score_tolerance = 0.06


class TestOnnxRuntime(Suite):
    name = "onnxruntime"


class TestOpenVino(Suite):
    name = "openvino"


class TestOpenVinoThroughput(Suite):
    name = "openvino"
    options: ClassVar = {"hint": "throughput", "requests": 3, "threads": 2}


class TestUltralytics(Suite):
    name = "ultralytics"


class EndToEnd(Suite):
    end_to_end = True
    architecture = "yolo26n"


class TestTorchEndToEnd(EndToEnd):
    pass


class TestOnnxRuntimeEndToEnd(EndToEnd):
    name = "onnxruntime"


class TestOpenVinoEndToEnd(EndToEnd):
    name = "openvino"


class Gpu(Suite):
    options: ClassVar = {"device": "0"}
    box_tolerance = 0.05

    @pytest.fixture(scope="class", autouse=True)
    def nvidia_gpu(self):
        """Skips, and says so, where there is no GPU."""
        problem = driver_problem()
        if problem:
            pytest.skip(f"{problem}; run `pytest -m gpu` on a machine that has a GPU")

    @pytest.fixture(scope="class")
    def open_backend(self):
        found = availability(self.name)
        if not found.ok:
            pytest.skip(found.reason)
        model = exported(self.name, precision=self.precision)
        return lambda **options: open_backend(
            model, backend=self.name,
            options=BackendOptions(precision=self.precision, imgsz=self.imgsz, **self.options, **options),
        )  # fmt: skip


@pytest.mark.gpu
class TestTorchCuda(Gpu):
    pass


@pytest.mark.gpu
class TestTorchCudaFp16(Gpu):
    precision = executed = "fp16"
    box_tolerance, score_tolerance = 0.5, 0.02


@pytest.mark.gpu
class TestOnnxRuntimeCuda(Gpu):
    name = "onnxruntime"


@pytest.mark.gpu
class TestTensorRt(Gpu):
    name = "tensorrt"


def test_the_suite_notices_a_backend_that_swaps_images():
    expected = np.arange(2 * 7 * 10, dtype=np.float32).reshape(2, 7, 10)
    with pytest.raises(AssertionError):
        Suite().check(expected[::-1].copy(), expected)
