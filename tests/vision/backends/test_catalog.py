"""The catalogue of backends: listed without loading any, honest about what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from guardianflow.exceptions import InputError, MissingDependencyError, NotFoundError
from guardianflow.vision.backends import catalog, nvidia
from guardianflow.vision.backends._base import BackendOptions
from guardianflow.vision.backends.catalog import BACKENDS, availability, open_backend, serving_backend
from tests.vision.backends.small_models import IMGSZ, exported, model_file

NAMES = ["onnxruntime", "onnxruntime-tensorrt", "openvino", "tensorrt", "torch", "ultralytics"]


def test_listing_loads_no_runtime():
    code = """
import json, sys
from guardianflow.vision.backends.catalog import BACKENDS, availability
names = [name for name in BACKENDS if availability(name)]
from guardianflow.doctor.machine import check_backends
check_backends(None)
print(json.dumps([names, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)

    assert names == NAMES
    assert {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "ultralytics", "numpy"} & set(loaded) == set()


def test_a_spec_says_what_a_backend_can_and_which_extra_brings_it():
    spec, state = BACKENDS.get("openvino"), availability("openvino")

    assert state.ok
    assert state.version.startswith("20")
    assert spec.precisions == ("fp32", "bf16", "fp16", "int8")
    assert spec.extra == "openvino"


def test_every_backend_can_be_opened_by_its_module():
    from importlib import import_module

    for name in BACKENDS:
        module, _, attribute = BACKENDS.get(name).module.partition(":")
        assert hasattr(import_module(module), attribute), name


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(
        BACKENDS._entries, "openvino", replace(catalog.OPENVINO, packages=("openvino_that_nobody_has",))
    )

    assert "guardianflow[openvino]" in availability("openvino").reason
    with pytest.raises(MissingDependencyError, match=r"guardianflow\[openvino\]"):
        open_backend(exported("openvino"), backend="openvino", options=BackendOptions(imgsz=IMGSZ))


def test_without_a_driver_nothing_that_needs_a_gpu_is_offered(monkeypatch):
    monkeypatch.setattr(nvidia, "_SIGNS", ())
    monkeypatch.setitem(BACKENDS._entries, "tensorrt", replace(catalog.TENSORRT, packages=("json",)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert "no NVIDIA driver" in availability("tensorrt").reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES hides" in availability("tensorrt").reason


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(NotFoundError, match=r"Did you mean 'openvino'\? Known: onnxruntime"):
        open_backend(model_file(), backend="openvinno", options=BackendOptions(imgsz=IMGSZ))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "can't compute at 'int4'; it can at fp32, bf16, fp16"),
        ({"precision": "int8"}, "can't compute at 'int8'"),
        ({"imgsz": 100}, "no multiple of the model's stride 32; use 96"),
        ({"imgsz": 0}, "use 32"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"threads": -1}, "threads"),
        ({"hint": "fast"}, "latency or throughput"),
        ({"device": "cuda:0"}, "PyTorch sees none"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    import torch

    if torch.cuda.is_available() and "device" in options:
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=message):
        open_backend(model_file(), backend="torch", options=BackendOptions(**{"imgsz": IMGSZ, **options}))


def test_a_file_of_another_backend_is_refused_by_name():
    with pytest.raises(InputError, match=r"loads onnx, and .* is torch; .* prepare_model"):
        open_backend(model_file(), backend="onnxruntime", options=BackendOptions(imgsz=IMGSZ))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("torch", "torch"), ("onnx", "onnxruntime"), ("openvino", "openvino"), ("tensorrt", "tensorrt"),
     ("ncnn", "ultralytics")],
)  # fmt: skip
def test_each_format_is_served_by_one_backend(kind, name):
    assert serving_backend(replace(model_file(), format=kind)) == name
