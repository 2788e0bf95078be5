"""What becomes a version: nothing that a benchmark would refuse, and served as its content says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import InputError, ModelFileError
from guardianflow.runners.inference.runner import InferenceRunner
from guardianflow.vision.serving import Serving
from tests.registry.registry_world import World
from tests.small_onnx import detector, with_weights_beside
from tests.vision.backends.small_models import exported, weights

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def registry(sqlite_world: World) -> ModelRegistry:
    return sqlite_world.registry(admission="reading")


def run_with(world: World, path: Path) -> str:
    """A run with this file or folder as its artifact, under its own name."""
    run_id = world.run()
    if path.is_dir():
        world.client.log_artifacts(run_id, str(path), path.name)
    else:
        world.client.log_artifact(run_id, str(path))
    return run_id


def written(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def cut_off(folder: Path) -> Path:
    whole = exported("onnxruntime").path.read_bytes()
    return written("cut.onnx", whole[: len(whole) // 2])(folder)


def spoilt(name: str, kind: str, spoil: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A model folder of which a part was spoilt."""

    def make(folder: Path) -> Path:
        place = folder / name
        if kind == "openvino":
            shutil.copytree(exported("openvino").path, place)
        else:
            place.mkdir()
        spoil(place)
        return place

    return make


def halve(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "weights beside": (lambda folder: with_weights_beside(folder / "m.onnx"), r"another file \('m.onnx.data'\)"),
    "lfs pt": (written("best.pt", POINTER), "pointer of Git LFS and not the file itself; run `git lfs pull`"),
    "lfs onnx": (written("best.onnx", POINTER), "pointer of Git LFS"),
    "annex": (written("best.onnx", "/annex/objects/SHA256E-s1--ab.onnx\n"), "pointer of git-annex"),
    "web page": (written("best.pt", "\n<!DOCTYPE html><title>404</title>"), "is a web page"),
    "empty pt": (written("best.pt", b""), "is empty"),
    "empty torchscript": (written("best.torchscript", b""), "is empty"),
    "cut off": (cut_off, "can't be read"),
    "state": (written("model.safetensors", b"\x08\0\0\0\0\0\0\0{}      "), "form that is not known"),
    "another form": (lambda folder: detector(folder / "m.onnx", output=(1, 252, 7)), "with an objectness"),
    "saved_model.pb": (written("saved_model.pb", b"\x08\x01"), "one part of a SavedModel; pass the folder"),
    "openvino without weights": (
        spoilt("m_openvino_model", "openvino", lambda folder: next(folder.glob("*.bin")).unlink()), "lacks its weights"
    ),
    "openvino xml alone": (written("m.xml", "<net/>"), "form that is not known; pass .* an OpenVINO folder"),
    "openvino cut off": (
        spoilt("m_openvino_model", "openvino", lambda folder: halve(next(folder.glob("*.bin")))), "cut off; copy them"
    ),
    "openvino pointer": (
        spoilt("m_openvino_model", "openvino", written("model.bin", POINTER)),
        "model.bin .* pointer of Git LFS",
    ),
    "saved model without variables": (
        spoilt("m_saved_model", "tf", written("saved_model.pb", b"\x08")),
        "lacks its weights or graph \\(no variables.index",
    ),
    "ncnn without weights": (
        spoilt("m_ncnn_model", "ncnn", written("m.ncnn.param", b"7767517")), r"no \*.bin is in it"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_a_benchmark_refuses_is_not_registered(
    sqlite_world: World, registry: ModelRegistry, tmp_path: Path, case: str
) -> None:
    make, says = UNUSABLE[case]
    path = make(tmp_path)
    with pytest.raises(ModelFileError, match=says) as caught:
        registry.register("못쓸 unusable", run_with(sqlite_world, path), artifact=path.name)
    assert "\n" not in str(caught.value)
    assert "못쓸 unusable" not in [state.name for state in registry.list_models()]
    assert "못쓸 unusable" not in [model.name for model in sqlite_world.client.search_registered_models()]
    with pytest.raises(ModelFileError, match=says):
        InferenceRunner("e", path, source=str(tmp_path), settings=sqlite_world.settings).check()


@pytest.mark.parametrize(
    ("backend", "serving"),
    [
        ("torch", Serving()),
        ("onnxruntime", Serving("onnxruntime", format="onnx")),
        ("openvino", Serving("openvino", format="openvino")),
        ("ultralytics", Serving("ultralytics", format="torchscript")),
    ],
)
def test_a_version_is_served_as_its_content_says(
    sqlite_world: World, registry: ModelRegistry, tmp_path: Path, backend: str, serving: Serving
) -> None:
    path = exported(backend).path
    name = f"형식 {backend}"
    version = registry.register(name, run_with(sqlite_world, path), artifact=path.name)
    assert version.serving == serving
    InferenceRunner("e", f"models:/{name}/1", source=str(tmp_path), settings=sqlite_world.settings).check()


def test_a_quantized_file_is_served_as_int8_and_not_as_its_name_says(
    sqlite_world: World, registry: ModelRegistry, tmp_path: Path
) -> None:
    model = onnx.load(detector(tmp_path / "m.onnx"))
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["images", "images"], ["unused"]))
    onnx.save(model, str(tmp_path / "m.onnx"))
    run_id = run_with(sqlite_world, tmp_path / "m.onnx")
    assert registry.register("여덟 int8", run_id, artifact="m.onnx").serving.precision == "int8"
    with pytest.raises(InputError, match="quantized to int8 and can't be run at 'fp32'"):
        registry.register("여덟 int8", run_id, artifact="m.onnx", serving=Serving("onnxruntime", format="onnx"))


def test_weights_that_are_served_by_a_backend_that_does_not_load_them_are_refused(
    sqlite_world: World, registry: ModelRegistry
) -> None:
    run_id = run_with(sqlite_world, weights())
    with pytest.raises(InputError, match="backend 'onnxruntime' loads onnx"):
        registry.register("틀린 wrong", run_id, artifact=weights().name, serving=Serving("onnxruntime"))
