"""What a model file says of itself is read safely, in every format."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from guardianflow.exceptions import ModelFileError
from guardianflow.files.content import measure
from guardianflow.vision.backends.engine_file import engine_offset, write_engine
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.preflight import check_loads
from tests.small_onnx import detector
from tests.vision.backends.small_models import IMGSZ, NAMES, exported, model_file, weights

CLASSES = tuple(NAMES.values())


def test_torch_weights_tell_classes_side_stride_and_precision():
    found = read_model_file(weights())

    assert (found.format, found.names, found.stride, found.end_to_end) == ("torch", CLASSES, 32, False)
    assert (found.imgsz, found.precision, found.dynamic, found.batch) == (640, "fp16", True, 0)
    assert found.sha256 == measure(weights()).sha256
    assert ModelFile.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "ultralytics"])
def test_an_export_tells_the_same_as_the_weights(backend):
    found = exported(backend)

    assert read_model_file(found.path) == found
    assert (found.names, found.stride, found.imgsz, found.dynamic) == (CLASSES, 32, IMGSZ, True)
    assert (found.end_to_end, found.precision) == (False, "fp32")
    assert found.sha256 == measure(found.path).sha256


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_an_end_to_end_model_is_known_in_every_format(backend):
    assert exported(backend, architecture="yolo26n", end_to_end=True).end_to_end


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino", "ultralytics"])
def test_the_preflight_runs_every_format_with_the_backend_that_serves_it(backend):
    check_loads(exported(backend).path)


def test_the_preflight_finds_figures_that_are_no_numbers(tmp_path):
    graph = onnx.load(exported("onnxruntime").path)
    weight = max(graph.graph.initializer, key=lambda item: len(item.raw_data))
    weight.raw_data = np.full(len(weight.raw_data) // 4, np.nan, np.float32).tobytes()
    onnx.save(graph, tmp_path / "nan.onnx")
    with pytest.raises(ModelFileError, match="no numbers"):
        check_loads(tmp_path / "nan.onnx")


def test_the_preflight_finds_an_output_of_another_form(tmp_path):
    with pytest.raises(ModelFileError, match=r"shape \(1, 3, 64, 64\)"):
        check_loads(detector(tmp_path / "m.onnx", metadata={"names": "{0: 'a', 1: 'b', 2: 'c'}"}))


# --- ONNX without, with odd and with hostile metadata


def test_without_metadata_classes_are_numbered_and_the_side_is_the_graphs(tmp_path):
    found = read_model_file(detector(tmp_path / "a.onnx", shape=(2, 3, 96, 96), output=(2, 9, 189)))

    assert found.names == ("class0", "class1", "class2", "class3", "class4")
    assert (found.imgsz, found.stride, found.batch, found.dynamic, found.end_to_end) == (96, 32, 2, False, False)
    assert found.names_made_up
    assert found.remarks == ("model a.onnx names no classes; the rows of its output are numbered: class0, class1 …",)


def test_nms_inside_the_graph_makes_it_end_to_end(tmp_path):
    metadata = {"names": "{0: 'a', 1: 'b'}", "args": "{'nms': True}", "end2end": "False"}
    assert read_model_file(detector(tmp_path / "a.onnx", output=("b", 300, 6), metadata=metadata)).end_to_end


def test_metadata_is_data_and_is_never_run(tmp_path):
    marker = tmp_path / "ran"
    names = f"{{0: __import__('pathlib').Path({str(marker)!r}).touch()}}"
    found = read_model_file(detector(tmp_path / "a.onnx", metadata={"names": names}))

    assert not marker.exists()
    assert found.names == ("class0", "class1", "class2")


@pytest.mark.parametrize("names", ["{0: 'a'" * 200_000, "[" * 100_000, "{" * 5000, "-" * 100_000, "{1: 'a', 3: 'b'}"])
def test_names_that_would_hang_or_crash_a_parser_are_one_sentence_or_nothing(tmp_path, names):
    path = detector(tmp_path / "a.onnx", metadata={"names": names})
    if names.startswith("{1"):
        with pytest.raises(ModelFileError, match="names its classes"):
            read_model_file(path)
    else:
        assert read_model_file(path).names == ("class0", "class1", "class2")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"metadata": {"task": "segment"}}, "task 'segment'"),
        ({"shape": ("b", 3, 384, 640)}, "640×384 pixels; only square"),
        ({"shape": ("b", 1, 64, 64)}, "batch of RGB images"),
        ({"shape": ("b", 3)}, "batch of RGB images"),
        ({"outputs": 2}, "gives 2 outputs"),
        ({"output": ("b", "n", "m")}, "doesn't say how many classes"),
        ({"metadata": {"imgsz": "[384, 640]"}, "shape": ("b", 3, "h", "w")}, "only square"),
    ],
)
def test_what_is_no_square_detector_is_refused(tmp_path, form, message):
    with pytest.raises(ModelFileError, match=message):
        read_model_file(detector(tmp_path / "a.onnx", **form))


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/passwd", "weights.bin", "link.bin"])
def test_weights_in_another_file_are_not_followed(tmp_path, where):
    (tmp_path / "weights.bin").write_bytes(b"\0" * 64)
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], b"\0" * 16, raw=True)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=where)
    for place in ("initializer", "constant"):
        path = detector(tmp_path / f"{place}.onnx", weight=weight if place == "initializer" else None)
        if place == "constant":
            model = onnx.load(path)
            model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=weight))
            path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match=r"keeps weights in another file \('.*not followed"):
            read_model_file(path)


# --- damaged and foreign files


@pytest.mark.parametrize("content", [b"", b"not a model", os.urandom(4096)], ids=["empty", "text", "noise"])
@pytest.mark.parametrize("name", ["a.pt", "a.onnx"])
def test_a_file_that_is_no_model_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_model_file(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_off_export_is_one_sentence(tmp_path):
    whole = exported("onnxruntime").path.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="can't be read"):
        read_model_file(tmp_path / "cut.onnx")


def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path):
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("bad/data.pkl", pickle.dumps({"model": Payload()}))
        archive.writestr("bad/version", "3\n")
    with pytest.raises(ModelFileError):
        read_model_file(tmp_path / "bad.pt")
    assert not marker.exists()


def test_a_missing_or_unknown_file_is_named(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ModelFileError, match="there is no model file"):
        read_model_file(tmp_path / "b.onnx")
    with pytest.raises(ModelFileError, match=r"form that is not known; pass a \.pt"):
        read_model_file(tmp_path / "a.txt")


# --- OpenVINO folders


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(exported("openvino").path, tmp_path / "내 모델_openvino_model"))


def test_a_folder_without_metadata_takes_names_from_the_graph(folder):
    (folder / "metadata.yaml").unlink()
    found = read_model_file(folder)

    assert found.names == tuple(name.replace(" ", "_") for name in CLASSES)
    assert found.dynamic


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.bin").unlink(), "lacks its weights"),
        (lambda folder: shutil.copy(folder / "model.xml", folder / "other.xml"), "exactly one .xml"),
        (lambda folder: (folder / "model.xml").write_bytes(b"<net"), "can't be read"),
        (lambda folder: (folder / "model.xml").write_text("<net/>"), "holds no graph"),
        (
            lambda folder: (folder / "model.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
            "defines entities",
        ),
        (lambda folder: (folder / "metadata.yaml").write_text("a: &x [1]\n<<: *x"), "metadata.yaml"),
        (lambda folder: (folder / "extra").symlink_to("/etc/passwd"), r"link \(extra\)"),
    ],
)
def test_a_spoilt_folder_is_one_sentence(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ModelFileError, match=message):
        read_model_file(folder)


# --- engines


def test_an_engines_header_is_read_and_the_engine_follows_it(tmp_path):
    metadata = {"names": NAMES, "imgsz": [96, 96], "stride": 32, "batch": 8, "task": "detect", "end2end": False,
                "args": {"dynamic": True, "quantize": 16}}  # fmt: skip
    path = tmp_path / "a.engine"
    write_engine(path, b"ENGINE", metadata)
    found = read_model_file(path)

    assert path.read_bytes()[engine_offset(path) :] == b"ENGINE"
    assert (found.format, found.names, found.imgsz) == ("tensorrt", CLASSES, 96)
    assert (found.precision, found.dynamic) == ("fp16", True)
    from ultralytics.nn.backends.base import BaseBackend

    assert BaseBackend.read_metadata(path)["imgsz"] == [96, 96]


@pytest.mark.parametrize("header", [b"\xff\xff\xff\x7f{}", b"\x02\0\0\0[]x", b"\x05\0\0\0{'a':", b"\0\0\0\0", b"\x01"])
def test_an_engine_without_a_header_says_that_it_knows_no_classes(tmp_path, header):
    (tmp_path / "a.engine").write_bytes(header)
    with pytest.raises(ModelFileError, match="how many classes"):
        read_model_file(tmp_path / "a.engine")


def test_the_model_of_the_tests_is_the_one_that_was_read():
    assert model_file().path == weights()
