"""What quantizers make: really int8, still a detector, close to the original, and silent towards the network."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from guardianflow.data.dataset import read_dataset
from guardianflow.exceptions import InputError, MissingDependencyError, NotFoundError
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import Backend, BackendOptions
from guardianflow.vision.backends.catalog import BACKENDS, open_backend
from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantizers import catalog
from guardianflow.vision.quantizers._base import QuantizationOptions, QuantizedModel
from guardianflow.vision.quantizers.calibration import CalibrationSet, draw_calibration_set
from guardianflow.vision.quantizers.catalog import QUANTIZERS, find_quantizer
from tests.trainings import ODD, write_tiny_data

SIDE = 64


@dataclass(frozen=True)
class World:
    """A random model, its calibration images, and where things are written."""

    model: ModelFile
    calibration: CalibrationSet
    folder: Path

    def make(self, backend: str, precision: str, **changes: object) -> QuantizedModel:
        """A variant; exports are shared by all tests of the session."""
        options = QuantizationOptions(
            precision=precision,
            imgsz=SIDE,
            exports=self.folder / "exports",
            **changes,  # type: ignore[arg-type]
        )
        name = "-".join([backend, precision, *map(str, changes.values())])[:60]
        return (
            find_quantizer(backend, precision)
            .make()
            .quantize(self.model, self.calibration, options, self.folder / name)
        )

    def output(self, model: ModelFile, backend: str, precision: str) -> npt.NDArray[np.float32]:
        """What a model says of the calibration images."""
        options = BackendOptions(precision=precision, device="cpu", batch=1, imgsz=SIDE, threads=1)
        with open_backend(model, backend=backend, options=options) as opened:
            return np.concatenate([opened.forward(tensor) for tensor in self.calibration.tensors(0, 4)])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    import torch

    folder = tmp_path_factory.mktemp("quantizers") / ODD
    data = write_tiny_data(folder / "data", images=12)
    torch.manual_seed(0)
    weights = folder / "무작위 random.pt"
    import_ultralytics().YOLO("yolo11n.yaml").save(weights)
    calibration = draw_calibration_set(read_dataset(data), imgsz=SIDE, count=8)
    return World(read_model_file(weights), calibration, folder)


@pytest.fixture(scope="module")
def original(world: World) -> npt.NDArray[np.float32]:
    return world.output(world.model, "torch", "fp32")


def correlation(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Of the boxes: scores of a random model are all alike."""
    return float(np.corrcoef(one[:, :4].ravel(), other[:, :4].ravel())[0, 1])


def test_onnxruntime_int8_computes_every_learned_convolution_in_int8(
    world: World, original: npt.NDArray[np.float32]
) -> None:
    made = world.make("onnxruntime", "int8")
    assert made.model.precision == "int8"
    assert made.facts["int8_convolutions"] == made.facts["convolutions"] - 1  # all but the fixed one of the head
    assert made.facts["head_arithmetic"] > 20
    assert made.model.size_mb < 0.4 * read_model_file(fp32(world, "onnxruntime").path).size_mb
    assert correlation(original, world.output(made.model, "onnxruntime", "int8")) > 0.999


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_onnxruntime_ranges_by_histogram_a_few_images_at_a_time(
    world: World, original: npt.NDArray[np.float32], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardianflow.vision.quantizers import onnxruntime

    monkeypatch.setattr(onnxruntime, "_CHUNK", 3)
    made = world.make("onnxruntime", "int8", calibration_method=method)
    assert made.facts["calibration_method"] == method
    assert correlation(original, world.output(made.model, "onnxruntime", "int8")) > 0.99


def test_one_scale_a_tensor_makes_another_graph_than_one_a_channel(world: World) -> None:
    from guardianflow.vision.backends.onnx_file import load_graph

    made = world.make("onnxruntime", "int8", per_channel=False)
    scales = [item for item in load_graph(made.model.path).graph.initializer if item.name.endswith("weight_scale")]
    assert scales
    assert all(np.prod(item.dims) == 1 for item in scales)


def test_symmetric_ranges_are_what_tensorrt_takes(world: World) -> None:
    from onnx import numpy_helper

    from guardianflow.vision.backends.onnx_file import load_graph
    from guardianflow.vision.quantizers.onnxruntime import quantize_onnx

    source, target = fp32(world, "onnxruntime"), world.folder / "symmetric.onnx"
    quantize_onnx(source.path, world.calibration, target, QuantizationOptions(imgsz=SIDE), symmetric=True)
    graph = load_graph(target).graph
    zeros = [numpy_helper.to_array(item) for item in graph.initializer if item.name.endswith("zero_point")]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def test_openvino_int8_is_int8_and_close_to_the_original(world: World, original: npt.NDArray[np.float32]) -> None:
    made = world.make("openvino", "int8")
    assert made.model.precision == "int8"
    assert made.facts["int8_convolutions"] >= 0.9 * made.facts["convolutions"]
    assert correlation(original, world.output(made.model, "openvino", "int8")) > 0.99
    assert made.model.names == world.model.names
    assert (made.model.path / "metadata.yaml").is_file()


def test_openvino_keeps_the_drop_that_was_allowed_by_asking_the_judge(world: World) -> None:
    asked: list[Backend] = []

    def judge(backend: Backend) -> float:
        asked.append(backend)
        tensor = next(world.calibration.tensors())
        assert backend.forward(tensor).shape[1] == 4 + len(world.model.names)
        return 0.5

    made = world.make("openvino", "int8", max_drop=0.01, accuracy=judge)
    assert len(asked) >= 2  # the original and the quantized model
    assert made.facts["judged"] == [0.5] * len(asked)
    assert made.facts["max_drop"] == 0.01


@pytest.mark.parametrize(
    ("backend", "precision"), [("openvino", "fp16"), ("onnxruntime", "fp16"), ("torch", "fp16"), ("torch", "bf16")]
)
def test_half_weights_reload_and_see_what_the_original_sees(
    world: World, original: npt.NDArray[np.float32], backend: str, precision: str
) -> None:
    made = world.make(backend, precision)
    assert made.model.names == world.model.names
    assert made.model.size_mb < 0.6 * fp32(world, "onnxruntime").size_mb
    served = "fp32" if backend == "torch" else precision  # a CPU may lack the half types of torch
    assert correlation(original, world.output(made.model, backend, served)) > 0.999


def test_ultralytics_loads_what_was_quantized(world: World) -> None:
    yolo = import_ultralytics().YOLO(str(world.make("onnxruntime", "int8").model.path), task="detect")
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert len(yolo.predict(pixels, imgsz=SIDE, verbose=False, device="cpu")) == 1


def test_int8_without_calibration_images_is_refused(world: World) -> None:
    for backend in ("onnxruntime", "openvino"):
        quantizer = find_quantizer(backend, "int8").make()
        options = QuantizationOptions(imgsz=SIDE, exports=world.folder / "exports")
        with pytest.raises(InputError, match="needs calibration images"):
            quantizer.quantize(world.model, None, options, world.folder / "none")


def test_each_quantizer_makes_what_a_backend_of_its_name_serves() -> None:
    assert {"onnxruntime", "openvino", "tensorrt", "torch"} <= set(QUANTIZERS)
    for name in ("onnxruntime", "openvino", "tensorrt", "torch"):
        spec = QUANTIZERS.get(name)
        assert spec.name == name == spec.make().name
        assert set(spec.precisions) <= set(BACKENDS.get(name).precisions)


def test_a_backend_or_precision_that_is_not_made_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'openvino'"):
        find_quantizer("openvin", "int8")
    with pytest.raises(InputError, match="int8 or fp16, not to 'bf16'; bf16 is made by torch"):
        find_quantizer("openvino", "bf16")
    with pytest.raises(InputError, match="openvino int8"):
        find_quantizer("onnxruntime", "int8", max_drop=0.01)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "is_installed", lambda name: name != "nncf")
    with pytest.raises(MissingDependencyError, match=r"nncf.*guardianflow\[openvino\]"):
        find_quantizer("openvino", "int8")


def test_nncf_sends_nothing_even_where_others_imported_it_before() -> None:
    program = """
import socket, sys
opened = []
socket.socket.connect = lambda self, address: opened.append(address)
import nncf
from guardianflow.vision.quantizers.openvino import import_nncf
import_nncf()
from nncf.telemetry.decorator import telemetry
telemetry.send_event("nncf", "x", "y")
telemetry.start_session("nncf")
kind = type(getattr(telemetry, "_impl", telemetry)).__name__
print(kind, opened)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["MagicMock", "[]"]


def fp32(world: World, backend: str) -> ModelFile:
    """The export that a variant is made from."""
    return prepare_model(
        world.model, backend=backend, precision="fp32", imgsz=SIDE, folder=world.folder / "exports"
    )  # fmt: skip
