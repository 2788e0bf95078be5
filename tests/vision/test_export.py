"""Exports: whole or not there, made once, beside nothing of the user's, and loaded by Ultralytics, too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from guardianflow.exceptions import InputError, RunFailedError
from guardianflow.files.process_lock import process_lock
from guardianflow.vision import export
from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import read_model_file
from tests.vision.backends.small_models import IMGSZ, NAMES, exported, images, model_file, weights

ROOT = Path(__file__).resolve().parents[2]


def prepare(model, folder, backend="onnxruntime", precision="fp32", imgsz=IMGSZ, **options):
    return prepare_model(model, backend=backend, precision=precision, imgsz=imgsz, folder=folder, **options)


@pytest.fixture
def kept(tmp_path):
    """A folder that holds an ONNX export already, without the seconds of making it."""
    folder = tmp_path / "캐시 of exports"
    shutil.copytree(exported("onnxruntime").path.parent, folder / exported("onnxruntime").path.parent.name)
    return folder


def no_exporter(*_args, **_kwargs):
    raise AssertionError("it was exported again")


def test_weights_are_their_own_file_for_torch(tmp_path):
    assert prepare(model_file(), tmp_path / "e", "torch") is model_file()
    assert not (tmp_path / "e").exists()


def test_an_onnx_export_is_one_file_of_known_form():
    graph = onnx.load(exported("onnxruntime").path)
    metadata = {item.key: item.value for item in graph.metadata_props}
    sides = [side.dim_param or side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim]

    assert sides == ["batch", 3, "height", "width"]
    assert [item.version for item in graph.opset_import if item.domain == ""] == [export.OPSET]
    assert "NonMaxSuppression" not in {node.op_type for node in graph.graph.node}
    assert metadata["names"] == str(NAMES)
    assert metadata["imgsz"] == f"[{IMGSZ}, {IMGSZ}]"
    assert metadata["end2end"] == "False"


def test_a_second_time_nothing_is_made_and_nothing_else_lies_around(kept, monkeypatch):
    monkeypatch.setattr(export, "_ultralytics_export", no_exporter)
    before = set(weights().parent.iterdir())
    found = prepare(model_file(), kept)

    assert found.sha256 == exported("onnxruntime").sha256
    assert sorted(path.name for path in kept.iterdir()) == [".exports.lock", found.path.parent.name]
    assert set(weights().parent.iterdir()) == before


def test_another_size_is_another_export(kept, monkeypatch):
    monkeypatch.setattr(export, "_ultralytics_export", no_exporter)
    with pytest.raises(RunFailedError, match="exported again"):
        prepare(model_file(), kept, imgsz=96)
    with pytest.raises(InputError, match="no multiple of the model's stride 32; use 96"):
        prepare(model_file(), kept, imgsz=90)


@pytest.mark.parametrize("damage", ["cut", "changed", "no record"])
def test_a_damaged_export_is_made_again(kept, monkeypatch, damage):
    monkeypatch.setattr(export, "_ultralytics_export", lambda *_args, **_kwargs: copied(_args[1]))
    path = next(kept.rglob("model.onnx"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "changed":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1  # amid the weights: it loads as before
        path.write_bytes(content)
    else:
        (path.parent / "export.json").unlink()
    found = prepare(model_file(), kept)

    assert found.names == tuple(NAMES.values())
    assert json.loads((found.path.parent / "export.json").read_text())["sha256"] == found.sha256
    assert found.sha256 == exported("onnxruntime").sha256


def copied(draft):
    target = draft / "model.onnx"
    shutil.copy(exported("onnxruntime").path, target)
    return target


def test_an_exporter_that_fails_leaves_nothing_but_its_log(tmp_path, monkeypatch):
    def fails(model, draft, wish, **_options):
        (draft / "model.onnx").write_bytes(b"half")
        wish.log_file.write_text("why")
        raise ValueError("unsupported\noperator")

    monkeypatch.setattr(export, "_ultralytics_export", fails)
    with pytest.raises(RunFailedError, match=r"can't be exported: unsupported operator\. The log: .*\.log") as caught:
        prepare(model_file(), tmp_path)
    log = Path(str(caught.value).rpartition("The log: ")[2])

    assert log.read_text() == "why"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".exports.lock", log.name]


def test_onnx_and_openvino_exports_give_what_the_weights_give_in_ultralytics_too():
    from guardianflow.vision._ultralytics import import_ultralytics

    import_ultralytics()
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    from guardianflow.vision.model_files import load_weights

    batch = torch.from_numpy(images(3))
    with torch.inference_mode():
        expected = load_weights(weights()).eval()(batch)[0].numpy()
        for backend in ("onnxruntime", "openvino", "ultralytics"):
            theirs = AutoBackend(str(exported(backend).path), device=torch.device("cpu"), verbose=False)
            output = theirs(batch)
            output = output[0] if isinstance(output, list) else output

            assert theirs.names == NAMES
            # Ultralytics leaves OpenVINO the choice of the precision, which is bf16 on many CPUs.
            difference = np.abs(output.numpy()[:, :4] - expected[:, :4])
            assert difference.mean() < (1 if backend == "openvino" else 1e-3)
            assert theirs.stride == 32


def test_a_bare_onnx_file_becomes_an_openvino_folder(tmp_path):
    graph = onnx.load(exported("onnxruntime").path)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "이름 없는.onnx")
    model = read_model_file(tmp_path / "이름 없는.onnx")
    found = prepare(replace(model, names=("가", "b b", "c")), tmp_path / "e", "openvino")

    assert found.names == ("가", "b b", "c")
    assert read_model_file(found.path) == found


def test_halves_are_stored_for_fp16_only():
    full, half = exported("openvino"), exported("openvino", precision="fp16")

    assert (full.precision, half.precision) == ("fp32", "fp16")
    assert half.size_mb < 0.6 * full.size_mb
    assert exported("openvino", precision="bf16") == full


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("onnxruntime", "fp16", "guardianflow quant --backend onnxruntime --precision fp16"),
        ("onnxruntime", "int8", "guardianflow quant --backend onnxruntime --precision int8"),
        ("openvino", "int8", "guardianflow quant --backend openvino --precision int8"),
        ("torch", "int8", "can't compute at 'int8'"),
        ("tensorrt", "fp16", "NVIDIA|tensorrt"),
    ],
)
def test_what_has_to_be_quantized_first_says_so(kept, backend, precision, message):
    with pytest.raises((InputError, ImportError), match=message):
        prepare(model_file(), kept, backend, precision)


def test_no_weights_come_out_of_a_graph(tmp_path):
    with pytest.raises(InputError, match=r"no torch file for backend 'torch' can be made .* pass the \.pt"):
        prepare(exported("onnxruntime"), tmp_path, "torch")
    with pytest.raises(InputError, match="int8 and can't be run at 'fp32'"):
        prepare(replace(exported("onnxruntime"), precision="int8"), tmp_path, "openvino")


def test_ultralytics_settings_stay_as_they_were(tmp_path):
    from guardianflow.vision._ultralytics import import_ultralytics

    import_ultralytics()
    from ultralytics.engine import exporter
    from ultralytics.utils import SETTINGS

    before, threads = dict(SETTINGS), os.environ.get("CUDA_VISIBLE_DEVICES")
    exported("ultralytics")

    assert exporter.SETTINGS is SETTINGS
    assert dict(SETTINGS) == before
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == threads


# --- several processes

WORKER = """
import sys
from pathlib import Path
from guardianflow.vision.export import prepare_model
from guardianflow.vision.model_artifacts import read_model_file
model = read_model_file(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
found = prepare_model(model, backend="onnxruntime", precision="fp32", imgsz=32, folder=Path(sys.argv[2]))
print(found.sha256, found.path.stat().st_mtime_ns, flush=True)
"""


def worker(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(weights()), str(folder)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_one_killed_amid_its_export_leaves_nothing_and_two_at_once_make_one(tmp_path):
    folder = tmp_path / "함께 exports"
    victim = worker(folder)
    victim.stdin.write("go\n")
    victim.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*.part/*.onnx")) and time.monotonic() < deadline:
        time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    left = list(folder.glob(".*.part"))
    assert left, "it was killed too late to prove anything"

    pair = [worker(folder), worker(folder)]
    answers = {process.communicate("go\n", timeout=120)[0].strip() for process in pair}

    assert len(answers) == 1, "both export, or one fails"
    assert not list(folder.glob(".*.part"))
    assert len(list(folder.glob("*/export.json"))) == 1


def test_who_waits_for_another_one_takes_its_result(kept, monkeypatch):
    monkeypatch.setattr(export, "_ultralytics_export", no_exporter)
    monkeypatch.setattr(export, "_LOCK_SECONDS", 0.1)
    with process_lock(kept / ".exports.lock", timeout_s=1, what="a test"), pytest.raises(Exception, match="lock"):
        prepare(model_file(), kept)
    assert prepare(model_file(), kept).format == "onnx"
