"""What a model says of itself and the shape of its output: held against each other, and called by their names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from guardianflow.exceptions import ModelFileError
from guardianflow.runners.inference.runner import InferenceRunner
from guardianflow.runners.quantization.runner import QuantizationRunner
from guardianflow.vision.model_artifacts import read_model_file
from guardianflow.vision.model_files import load_checkpoint
from guardianflow.vision.output_layouts import LAYOUTS, Claim, layout_of
from guardianflow.vision.preflight import check_loads, check_usable
from tests.small_onnx import detector
from tests.vision.backends.small_models import exported, weights

ONE, TWO, THREE = "{0: 'cap'}", "{0: 'cap', 1: 'vest'}", "{0: 'a', 1: 'b', 2: 'c'}"
OURS = {"end2end": "False", "task": "detect"}


@pytest.mark.parametrize(
    ("form", "names", "side", "end_to_end"),
    [
        ((1, 6, 84), TWO, 64, False),
        ((1, 5, 8400), ONE, 640, False),
        (("b", 84, 84), str(dict(enumerate(map(str, range(80))))), 64, False),  # as many rows as anchors
        (("b", 6, "n"), TWO, "s", False),
        ((1, 7, 340), THREE, 64 * 2, False),  # four levels (P2)
        ((1, 7, 100), THREE, 64, False),  # levels of its own; the rows say it
        ((1, 300, 6), THREE, 640, True),
        ((1, 300, 6), ONE, 640, True),
    ],
)
def test_what_is_unambiguous_is_taken(
    tmp_path: Path, form: tuple[int, ...], names: str, side: int | str, end_to_end: bool
) -> None:
    found = read_model_file(
        detector(tmp_path / "m.onnx", shape=("b", 3, side, side), output=form, metadata={"names": names})
    )
    assert found.end_to_end is end_to_end
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("form", "metadata", "side", "says"),
    [
        ((1, 252, 7), {"names": TWO}, 64, r"names 2 classes \(cap, vest\); its output has the shape \(1, 252, 7\): "),
        ((1, 252, 7), {"names": TWO}, 64, r"YOLOv5, YOLOv7 or YOLOX with an objectness of 2 classes, \(B, boxes, 5"),
        ((1, 25200, 6), {"names": ONE}, 640, "with an objectness of 1 class"),
        ((1, 25200, 6), {}, 640, "names no classes; .* with an objectness of 1 class"),
        ((1, 8400, 7), {"names": TWO}, 640, "YOLOX with an objectness of 2 classes"),
        (("b", "n", 7), {"names": TWO}, "s", "with an objectness of 2 classes"),
        ((1, 84, 6), {"names": TWO}, 64, "whose last two axes are exchanged of 2 classes"),
        ((1, 300, 6), {"names": TWO, **OURS}, 640, "form of RT-DETR of 2 classes"),
        ((1, 300, 7), {"names": THREE}, 640, "form of RT-DETR of 3 classes"),
        ((1, 7, 84), {"names": TWO, "head": "RTDETRDecoder"}, 64, "its head is RTDETRDecoder; .* RT-DETR"),
        ([(1, 300, 4), (1, 300, 91)], {}, 640, "gives 2 outputs, .* a DETR or YOLO-NAS, boxes"),
        ([(1, 8400, 4), (1, 8400, 2)], {"names": TWO}, 640, "YOLO-NAS"),
        ([(1, 300), (1, 300, 4), (1, 300)], {}, 640, "3 outputs, .* suppression in it .* apart"),
        ([(1, 1), (1, 100, 4), (1, 100), (1, 100)], {"names": TWO}, 640, "TensorRT's plug-in"),
        (("n", 7), {"names": TWO}, 640, "YOLOv7 with its suppression in it"),
        ([(1, 3, 8, 8, 7), (1, 3, 4, 4, 7), (1, 3, 2, 2, 7)], {"names": TWO}, 64, "before its decoding"),
        ([(1, 252, 7), (1, 3, 8, 8, 7), (1, 3, 4, 4, 7), (1, 3, 2, 2, 7)], {"names": TWO}, 64, "before its decoding"),
        ([(1, 66, 8, 8), (1, 66, 4, 4), (1, 66, 2, 2)], {"names": TWO}, 64, "before its decoding"),
        ([(1, 38, 84), (1, 32, 16, 16)], {"names": TWO}, 64, "an instance segmentation"),
        ((1, 56, 84), {"names": ONE}, 64, "a pose model"),
        ((1, 300, 57), {"names": ONE, "end2end": "True"}, 64, "a pose model"),
        ((1, 6, 84), {"names": TWO, "kpt_shape": "[17, 3]"}, 64, "says that it has keypoints; .* a pose model"),
        ((1, 7, 84), {"names": TWO}, 64, "oriented boxes .*, or a YOLO head .* of 3 classes"),
        ((1, 300, 7), {"names": TWO, "end2end": "True"}, 64, "oriented boxes"),
        ((1, 1000), {}, 224, "a classification"),
        ((1, 19, 64, 64), {}, 64, "a map of the whole image"),
        ((1, 5, 8400), {"names": TWO}, 640, r"a YOLO head \(YOLOv8 and later\) of 1 class"),
        ((1, 84, 8400), {"names": TWO}, 640, "YOLO head .* of 80 classes"),
        ((1, 6, 84), {"names": TWO, "end2end": "True"}, 64, "says that it selects its boxes itself; .* YOLO head"),
        ((1, 6, 84), {"names": TWO, "args": "{'nms': True}"}, 64, "says that it selects its boxes .* YOLO head"),
        ((1, 300, 6), {"names": THREE, **OURS}, 64, "does not select its boxes .* form of a model that selects"),
        ((1, 9, 11), {"names": TWO}, 64, "no form of a detector that is known, where a detector of its 2 classes"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_is_another_form_is_called_by_its_name(
    tmp_path: Path, form: tuple[int, ...], metadata: dict[str, str], side: int | str, says: str
) -> None:
    path = detector(tmp_path / "m.onnx", shape=(1, 3, side, side), output=form, metadata=metadata)
    with pytest.raises(ModelFileError, match=says) as caught:
        read_model_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("metadata", [{}, {"names": TWO}])
def test_six_columns_alone_make_no_end_to_end_model(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = detector(tmp_path / "m.onnx", output=("b", 300, 6), metadata=metadata)
    with pytest.raises(ModelFileError, match=r"can't be told apart.*selects its boxes itself.*RT-DETR of 2.*end2end"):
        read_model_file(path)
    said = {**metadata, "end2end": "True"}
    assert read_model_file(detector(tmp_path / "m.onnx", output=("b", 300, 6), metadata=said)).end_to_end


def test_sizes_that_differ_from_the_graphs_are_remarked_and_the_graph_decides(tmp_path: Path) -> None:
    said = {"names": THREE, "imgsz": "[640, 640]", "batch": "1"}
    found = read_model_file(detector(tmp_path / "m.onnx", shape=(4, 3, 64, 64), output=(4, 7, 84), metadata=said))
    assert (found.imgsz, found.batch) == (64, 4)
    assert found.remarks == (
        "model m.onnx says imgsz 640, its input takes 64 and nothing else; 64 is used",
        "model m.onnx says batch 1, its input takes 4 and nothing else; 4 is used",
    )


def test_every_layout_that_is_not_used_says_what_to_do() -> None:
    assert [layout.name for layout in LAYOUTS if layout.used] == [LAYOUTS[0].name, LAYOUTS[1].name]
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_an_openvino_folder_is_held_against_its_names(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported("openvino").path, tmp_path / "m_openvino_model"))
    text = (folder / "metadata.yaml").read_text(encoding="utf-8")
    (folder / "metadata.yaml").write_text(text.replace("  2: ", "  2: x\n  3: "), encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"names 4 classes .* YOLO head .* of 3 classes"):
        read_model_file(folder)


def test_torch_weights_are_held_against_their_names(tmp_path: Path) -> None:
    model, checkpoint = load_checkpoint(weights())
    model.names = {0: "a", 1: "b"}
    torch.save({**checkpoint, "model": model}, tmp_path / "two.pt")
    with pytest.raises(ModelFileError, match=r"names 2 classes \(a, b\).* of 3 classes"):
        read_model_file(tmp_path / "two.pt")


class Alike(torch.nn.Module):
    """Gives an output of YOLOv5's form."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros((images.shape[0], 252, 7))


def test_torchscript_is_tried_for_only_running_tells_its_form(tmp_path: Path) -> None:
    said = (
        '{"names": {"0": "cap", "1": "vest"}, "task": "detect", "imgsz": [64, 64], "stride": 32, "batch": 1, '
        '"args": {"dynamic": true}}'
    )
    path = tmp_path / "five.torchscript"
    torch.jit.script(Alike()).save(str(path), _extra_files={"config.txt": said})
    assert read_model_file(path).names == ("cap", "vest")
    for check in (check_usable, check_loads):
        with pytest.raises(ModelFileError, match="YOLOv5, YOLOv7 or YOLOX with an objectness of 2 classes"):
            check(path)


def test_a_shape_without_sizes_says_nothing() -> None:
    claim = Claim(("a",), 640)
    assert layout_of(Path("m"), ((0, 0, 0),), claim) is layout_of(Path("m"), (), claim) is LAYOUTS[0]


def test_a_benchmark_and_a_quantization_refuse_before_anything_is_made(
    tmp_path: Path, tiny_data: Path, training_settings: object
) -> None:
    path = detector(tmp_path / "m.onnx", output=(1, 252, 7), metadata={"names": TWO})
    for runner in (
        InferenceRunner("e", path, tiny_data, settings=training_settings),  # type: ignore[arg-type]
        QuantizationRunner("e", path, "onnxruntime", "int8", tiny_data, settings=training_settings),  # type: ignore[arg-type]
    ):
        with pytest.raises(ModelFileError, match="with an objectness of 2 classes"):
            runner.run()
    assert not list(Path(training_settings.work_dir).glob("runs/*/*"))  # type: ignore[attr-defined]
