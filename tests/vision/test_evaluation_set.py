"""What a model sees on labelled images: truth and predictions of the same images, in the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from guardianflow.data.dataset import Dataset, read_dataset
from guardianflow.evaluation.detection.evaluate import evaluate_detection
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.exceptions import DatasetError, InputError
from guardianflow.vision.evaluation_set import choose_images, collect_record
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig
from tests.vision.painted import SIDE, PaintedBackend, painted

WHERE_IT_LOOKS = "0.5 0.5 0.25 0.125"
"""The box of the painted backend on a square image, as a label."""


def make_dataset(
    folder: Path, labels: dict[str, tuple[int, str | None]], *, size: tuple[int, int] = (64, 64)
) -> Dataset:
    """Images of a shade with a label file each; ``None``: none."""
    for name in ("images/val", "labels/val"):
        (folder / name).mkdir(parents=True)
    for name, (shade, text) in labels.items():
        image = painted(shade, width=size[0], height=size[1])
        (folder / "images/val" / f"{name}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        if text is not None:
            (folder / "labels/val" / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "data.yaml").write_text(
        "train: images/val\nval: images/val\nnames: [null_a, 차량, c]\n", encoding="utf-8"
    )
    return read_dataset(folder / "data.yaml")


def collect(dataset: Dataset, backend: PaintedBackend | None = None, **changes: Any) -> DetectionRecord:
    run = Pipeline(backend or PaintedBackend(), PipelineConfig(imgsz=SIDE, batch=2))
    return collect_record(run, dataset, "val", fingerprint="f1", **changes)


def test_truth_and_predictions_are_in_pixels_of_the_original_image(tmp_path: Path) -> None:
    labels = {"가 1": (200, f"2 {WHERE_IT_LOOKS}\n"), "b": (100, f"1 {WHERE_IT_LOOKS}\n0 0.1 0.1 0.2 0.2\n")}
    record = collect(make_dataset(tmp_path / "데이터", labels, size=(640, 640)))
    assert record.images.names == ("images/val/b.png", "images/val/가 1.png")
    assert record.images.width.tolist() == [640, 640]
    assert record.classes == ("null_a", "차량", "c")
    assert record.truth.image.tolist() == [0, 0, 1]
    assert record.truth.label.tolist() == [1, 0, 2]
    np.testing.assert_allclose(record.truth.box, [[240, 280, 400, 360], [0, 0, 128, 128], [240, 280, 400, 360]])
    np.testing.assert_allclose(record.truth.area, [160 * 80, 128 * 128, 160 * 80])
    assert not record.truth.crowd.any()
    assert record.predictions.image.tolist() == [0, 1]
    assert record.predictions.label.tolist() == [100 % 3, 200 % 3]
    np.testing.assert_allclose(record.predictions.box, [[240, 280, 400, 360]] * 2)
    np.testing.assert_allclose(record.predictions.score, [100 / 255, 200 / 255], rtol=1e-6)


def test_a_model_that_is_right_has_full_marks_and_one_that_sees_nothing_has_none(tmp_path: Path) -> None:
    labels = {str(shade): (shade, f"{shade % 3} {WHERE_IT_LOOKS}\n") for shade in (100, 101, 102, 200)}
    dataset = make_dataset(tmp_path, labels)
    assert evaluate_detection(collect(dataset)).map50_95 == pytest.approx(1)
    blind = collect(make_dataset(tmp_path / "dark", {"a": (0, f"0 {WHERE_IT_LOOKS}\n"), "b": (0, "")}))
    assert len(blind.predictions) == 0
    assert blind.predictions.box.shape == (0, 4)
    assert evaluate_detection(blind).map50 == 0


def test_images_that_cant_be_used_are_left_out_of_both_sides_and_named(tmp_path: Path) -> None:
    good = f"0 {WHERE_IT_LOOKS}\n"
    names = {"a": (99, good), "b": (99, good), "c": (99, "9 0.5 0.5 0.1 0.1\n"), "d": (102, good), "e": (99, "x")}
    dataset = make_dataset(tmp_path, names)
    broken = tmp_path / "images/val/b.png"
    broken.write_bytes(broken.read_bytes()[:50])
    calls: list[tuple[int, int]] = []
    record = collect(dataset, progress=lambda done, total: calls.append((done, total)))
    assert record.images.names == ("images/val/a.png", "images/val/d.png")
    assert record.truth.image.tolist() == record.predictions.image.tolist() == [0, 1]
    assert list(record.facts["unreadable"]) == ["images/val/b.png"]
    assert "cut off" in record.facts["unreadable"]["images/val/b.png"]
    assert sorted(record.facts["unusable_labels"]) == ["images/val/c.png", "images/val/e.png"]
    assert calls == [(3, 5), (4, 5), (5, 5)]


def test_labels_are_taken_as_in_training(tmp_path: Path) -> None:
    labels = {
        "background": (99, None),
        "empty": (99, "\n"),
        "polygon": (99, "1 0.1 0.1 0.3 0.1 0.2 0.6\n"),
        "twice": (99, "2 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n2 0.5 0.5 0.2 0.2\n"),
    }
    record = collect(make_dataset(tmp_path, labels, size=(100, 100)))
    assert record.truth.image.tolist() == [2, 3, 3]
    assert record.truth.label.tolist() == [1, 2, 0]
    np.testing.assert_allclose(record.truth.box[0], [10, 10, 30, 60])


def test_the_facts_say_how_it_was_evaluated_and_survive_a_file(tmp_path: Path) -> None:
    record = collect(make_dataset(tmp_path / "data", {"a": (99, "")}), facts={"model_sha256": "abc"})
    expected = {
        "dataset_fingerprint": "f1", "split": "val", "confidence_floor": 0.001, "iou": 0.7, "max_det": 300,
        "multi_label": True, "imgsz": SIDE, "backend": "painted", "precision": "fp32", "model_sha256": "abc",
        "images": 1, "unreadable": {},
    }  # fmt: skip
    assert {name: record.facts[name] for name in expected} == expected
    again = DetectionRecord.load(record.save(tmp_path / "record"))
    assert dict(again.facts) == dict(record.facts)
    np.testing.assert_array_equal(again.predictions.box, record.predictions.box)


def test_only_the_chosen_images_are_looked_at(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {str(place): (99, "") for place in range(10)})
    chosen = choose_images(dataset, "val", count=4, seed=1)
    assert chosen == sorted(chosen) == choose_images(dataset, "val", count=4, seed=1)
    assert chosen != choose_images(dataset, "val", count=4, seed=2)
    assert choose_images(dataset, "val") == choose_images(dataset, "val", count=99) == dataset.images("val")
    assert collect(dataset, images=chosen).images.names == tuple(map(dataset.relative_name, chosen))


class _ManyClasses(PaintedBackend):
    def forward(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        raw = super().forward(images)
        return np.concatenate([raw, raw[:, 4:]], axis=1)


def test_a_class_that_the_data_doesnt_have_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": (99, "")})
    with pytest.raises(InputError, match="must have the same classes"):
        collect(dataset, _ManyClasses())


def test_without_a_usable_image_there_is_no_record(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, {"a": (99, "9 9 9 9 9\n")})
    with pytest.raises(InputError, match=r"images/val/a\.png"):
        collect(dataset)
    with pytest.raises(DatasetError, match="test"):
        collect_record(Pipeline(PaintedBackend()), dataset, "test", fingerprint="")
