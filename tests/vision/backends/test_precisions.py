"""What a backend says it computes at is what the runtime says, not what was asked."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from guardianflow.exceptions import InputError
from guardianflow.machine.system import usable_cores
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import open_backend
from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import read_model_file
from tests.vision.backends.small_models import IMGSZ, exported, images, model_file, scratch


def opened(model, backend, **options):
    asked = {"imgsz": IMGSZ, "device": "cpu", "batch": 2, **options}
    return open_backend(model, backend=backend, options=BackendOptions(**asked))


@cache
def half_onnx():
    import onnx
    from onnxruntime.transformers import float16

    source = exported("onnxruntime")
    path = scratch() / "half.onnx"
    onnx.save(float16.convert_float_to_float16(onnx.load(source.path), keep_io_types=True), path)
    return read_model_file(path)


@cache
def quantized_onnx(*, fused):
    """int8 with QDQ nodes; left unfused by signed activations, onnxruntime's default, on this kind of CPU."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self._left = [{"images": images(1)}, {"images": images(1)[:, :, ::-1].copy()}]

        def get_next(self):
            return self._left.pop() if self._left else None

    source = exported("onnxruntime")
    path = scratch() / f"int8-{fused}.onnx"
    kind = QuantType.QUInt8 if fused else QuantType.QInt8
    quantize_static(str(source.path), str(path), Reader(), activation_type=kind)
    return read_model_file(path)


def test_half_precision_weights_are_computed_in_fp32_by_onnxruntime_on_a_cpu():
    with opened(half_onnx(), "onnxruntime", precision="fp16") as backend:
        assert backend.info.precision_asked == "fp16"
        assert backend.info.precision_executed == "fp32"
        assert np.isfinite(backend.forward(images())).all()


@pytest.mark.parametrize(("fused", "executed"), [(True, "int8"), (False, "fp32")])
def test_quantized_weights_are_computed_as_the_optimised_graph_says(fused, executed):
    with opened(quantized_onnx(fused=fused), "onnxruntime", precision="int8") as backend:
        assert backend.info.precision_executed == executed
        assert f"in {executed}" in backend.info.details["computed"]


def test_openvino_computes_a_quantized_file_in_int8():
    model = prepare_model(
        quantized_onnx(fused=True), backend="openvino", precision="int8", imgsz=IMGSZ, folder=scratch() / "e"
    )
    assert (model.format, model.precision) == ("openvino", "int8")
    with opened(model, "openvino", precision="int8") as backend:
        assert backend.info.precision_executed == "int8"


def test_openvino_is_never_left_to_choose_the_precision():
    with opened(exported("openvino"), "openvino", precision="fp32") as backend:
        assert backend.info.precision_executed == "fp32"
        exact = backend.forward(images())
    with opened(exported("openvino"), "openvino", precision="bf16") as backend:
        coarse = backend.forward(images())
        said = backend.info.precision_executed

    assert (said == "bf16") == (np.abs(exact - coarse).max() > 1e-2)  # a CPU without bf16 says fp32


def test_openvino_says_which_precision_it_takes_for_fp16():
    with opened(exported("openvino", precision="fp16"), "openvino", precision="fp16") as backend:
        assert backend.info.precision_asked == "fp16"
        assert backend.info.precision_executed in {"fp16", "bf16", "fp32"}
        assert backend.info.precision_executed in backend.info.details["computed"]


def test_openvino_tells_hint_streams_and_requests():
    with opened(exported("openvino"), "openvino", hint="throughput") as backend:
        assert backend.info.details["hint"] == "throughput"
        assert backend.info.requests >= 1
    with opened(exported("openvino"), "openvino", hint="latency", threads=1, requests=2) as backend:
        assert (backend.info.requests, backend.info.threads) == (2, 1)


def test_torch_takes_fp16_on_a_cpu_with_such_kernels_alone():
    import torch

    if torch.ops.mkldnn._is_mkldnn_fp16_supported():
        with opened(model_file(), "torch", precision="fp16") as backend:
            assert backend.info.device == "CPU"
    else:
        with pytest.raises(InputError, match="use bf16 or fp32"):
            opened(model_file(), "torch", precision="fp16")


def test_torch_decodes_boxes_in_float32_at_any_precision():
    with opened(model_file(), "torch", precision="bf16", threads=1) as backend:
        boxes = backend.forward(images())[:, :4]
    assert len(np.unique(boxes)) > 0.9 * boxes.size  # bfloat16 has 256 values between 32 and 8192


def test_torch_takes_all_cores_and_puts_the_number_back():
    import torch

    torch.set_num_threads(1)
    with opened(model_file(), "torch") as backend:
        assert backend.info.threads == torch.get_num_threads() == usable_cores()
    assert torch.get_num_threads() == 1
    with opened(model_file(), "torch", threads=1) as backend:
        assert backend.info.threads == 1


def test_torch_goes_on_as_written_where_it_can_not_compile(monkeypatch):
    import torch

    def no_compiler(*_args, **_kwargs):
        raise RuntimeError("no C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with opened(model_file(), "torch", threads=1, compiled=True) as backend:
        assert backend.info.details["compiled"] == "no, it can't be compiled here: no C++ compiler"
        assert np.isfinite(backend.forward(images())).all()


def test_a_compiled_model_serves_whole_batches_and_says_what_it_won(monkeypatch):
    import torch

    calls = []

    def compiler(model, **_kwargs):
        return lambda batch: (calls.append(len(batch)), model(batch))[1]

    monkeypatch.setattr(torch, "compile", compiler)
    with opened(model_file(), "torch", threads=1, compiled=True) as backend:
        assert backend.info.details["compiled"].startswith("yes: ")
        calls.clear()
        backend.forward(images(1))
        backend.forward(images(2))
    assert calls == [2]


def test_onnxruntime_asked_for_a_gpu_never_falls_back_in_silence(monkeypatch):
    from guardianflow.vision.backends import onnxruntime as module

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(InputError, match="can't use the GPU: CUDA_VISIBLE_DEVICES hides every GPU"):
        opened(exported("onnxruntime"), "onnxruntime", device="0")
    monkeypatch.setattr(module, "driver_problem", lambda: "")  # a driver, and libraries that can't be loaded
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime is built without CUDA")
    with pytest.raises(InputError, match="asked for CUDA and got CPUExecutionProvider"):
        opened(exported("onnxruntime"), "onnxruntime", device="cuda:0")
    with opened(exported("onnxruntime"), "onnxruntime", device="") as backend:
        assert backend.info.device == "CPU"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_device_that_is_unknown_is_named(backend):
    with pytest.raises(InputError, match="tpu"):
        opened(exported(backend), backend, device="tpu")


def test_a_file_of_one_batch_size_pads_smaller_batches_and_refuses_larger_ones(tmp_path):
    import onnx

    graph = onnx.load(exported("onnxruntime").path)
    for side, size in zip(graph.graph.input[0].type.tensor_type.shape.dim, (2, 3, IMGSZ, IMGSZ), strict=True):
        side.dim_value = size
    onnx.save(graph, tmp_path / "two.onnx")
    model = read_model_file(tmp_path / "two.onnx")

    assert (model.batch, model.dynamic) == (2, False)
    with opened(model, "onnxruntime") as backend:
        whole = backend.forward(images(2))
        assert np.array_equal(backend.forward(images(2)[:1]), whole[:1])
        assert backend.info.details["partial batch"] == "padded"
    with pytest.raises(InputError, match="batches of 2, not of 3"):
        opened(model, "onnxruntime", batch=3)
    with pytest.raises(InputError, match="doesn't take"):
        opened(model, "onnxruntime", imgsz=96)
