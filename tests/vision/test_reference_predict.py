"""Ultralytics' own predict as a peer: it must be theirs, with their boxes, and nothing of ours in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guardianflow.exceptions import ModelFileError
from guardianflow.files.content import measure
from guardianflow.vision.benchmark.cell_process import run_cell
from guardianflow.vision.benchmark.cell_results import REFERENCE, CellSpec
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.pipeline.pipeline import PipelineConfig
from tests.trainings import write_tiny_data


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    from guardianflow.vision._ultralytics import import_ultralytics

    path = tmp_path_factory.mktemp("weights") / "random.pt"
    import_ultralytics().YOLO("yolo11n.yaml").save(path)
    return path


@pytest.fixture(scope="module")
def data_yaml(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("reference") / "data", images=12)


@pytest.fixture
def peer(weights):
    from guardianflow.vision.benchmark.reference_predict import UltralyticsPredict

    # Random weights are sure of nothing: a confidence this low leaves boxes to compare.
    config = PipelineConfig(imgsz=64, confidence=1e-5, batch=2, max_det=20)
    with UltralyticsPredict(weights, config=config, device="cpu", threads=1) as peer:
        yield peer


def test_its_boxes_are_those_of_predict(peer, weights, data_yaml):
    from guardianflow.vision._ultralytics import import_ultralytics

    image = min((data_yaml.parent / "images" / "train").iterdir())
    found, row = peer.detect_one(image)
    model = import_ultralytics().YOLO(str(weights))
    plain = model.predict(str(image), imgsz=64, conf=1e-5, iou=0.7, max_det=20, verbose=False, device="cpu")[0]
    assert len(found) == len(plain.boxes) > 0
    assert np.allclose(found.boxes, plain.boxes.xyxy.numpy(), atol=1e-3)
    assert np.allclose(found.scores, plain.boxes.conf.numpy(), atol=1e-6)
    assert (found.width, found.height) == plain.orig_shape[::-1]
    assert min(row.preprocess, row.forward, row.postprocess) > 0


def test_many_images_are_batched_by_itself(peer, data_yaml):
    images = sorted((data_yaml.parent / "images" / "train").iterdir())[:7]
    found = list(peer.detect(iter(images)))
    assert [detections.source for detections in found] == images
    assert peer.stages.images == 7
    assert peer.stages.wall_s > 0
    assert len(list(peer.detect([np.zeros((40, 60, 3), np.uint8)] * 3))) == 3


def test_it_says_what_ran_and_an_image_that_is_none_is_an_error(peer, tmp_path):
    broken = tmp_path / "a.jpg"
    broken.write_bytes(b"no image")
    found, _ = peer.detect_one(broken)
    assert found.error
    peer.detect_one(np.zeros((40, 60, 3), np.uint8))
    info = peer.info
    assert (info.backend, info.precision_executed, info.threads, info.device) == (REFERENCE, "fp32", 1, "cpu")


def test_damaged_weights_are_refused_in_a_sentence(tmp_path):
    from guardianflow.vision.benchmark.reference_predict import UltralyticsPredict

    path = tmp_path / "bad.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(ModelFileError, match="bad"):
        UltralyticsPredict(path, config=PipelineConfig())


def test_a_cell_of_it_is_measured_like_any_other(weights, data_yaml, tmp_path):
    model = ModelFile(
        weights, "torch", tuple(map(str, range(80))), 64, 32, False, "fp32", measure(weights).sha256, 5.0, True, 0
    )
    spec = CellSpec(
        model=model, backend=REFERENCE, folder=str(tmp_path / "peer"), data_yaml=str(data_yaml), imgsz=64,
        modes=("single_stream", "offline"), seconds=0.1, repeats=1, extras=False, device="cpu", threads=1,
    )  # fmt: skip
    result = run_cell(spec, timeout_s=120)
    assert result.status == "ok", result.reason
    assert result.backend.backend == REFERENCE
    assert result.mode("single_stream").latency.p50 > 0
    assert result.mode("offline").throughput_fps > 0
    assert not result.detection  # it is there for its speed
