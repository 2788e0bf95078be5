"""Real trainings on a CPU: the same seed, the same weights; nothing outside the run is touched."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardianflow.exceptions import RunFailedError
from guardianflow.vision.model_files import load_weights
from guardianflow.vision.training.epochs import EpochReport, TrainingOutcome, catalogue_metrics
from guardianflow.vision.training.training import read_checkpoint_epoch, train_detector, validate_weights
from tests.trainings import ODD, Trained, copy_data, folder_digest, tiny_job


class Diary:
    """An observer that writes down what it is told."""

    def __init__(self, *, last: int = 0) -> None:
        self.last = last
        self.starts: list[tuple[int, int]] = []
        self.epochs: list[EpochReport] = []
        self.batches: list[tuple[int, int]] = []

    def on_start(self, first_epoch: int, epochs: int) -> None:
        self.starts.append((first_epoch, epochs))

    def on_settings(self, used: Mapping[str, object]) -> None:
        self.settings = used

    def on_batch(self, done: int, total: int) -> None:
        self.batches.append((done, total))

    def on_epoch(self, report: EpochReport) -> bool:
        self.epochs.append(report)
        return report.epoch == self.last


def tensors(weights: Path) -> Mapping[str, object]:
    return load_weights(weights).state_dict()


def same_tensors(first: Path, second: Path) -> bool:
    import torch

    ours, theirs = tensors(first), tensors(second)
    assert list(ours) == list(theirs)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def seed_0(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingOutcome, Diary]:
    diary = Diary()
    return train_detector(tiny_job(tiny_data, tmp_path_factory.mktemp("seed0")), diary), diary


def test_a_training_ends_in_order_after_the_epoch_that_its_observer_names(tiny_data: Path, tmp_path: Path) -> None:
    diary = Diary(last=2)
    outcome = train_detector(tiny_job(tiny_data, tmp_path, epochs=5), diary)
    assert [report.epoch for report in diary.epochs] == [1, 2]
    assert outcome.epochs_run == 2
    assert outcome.best.is_file()
    assert outcome.metrics["map50"] >= 0  # the best weights were validated


def test_same_seed_gives_the_same_weights_and_figures_and_another_seed_others(
    seed_0: tuple[TrainingOutcome, Diary], tiny_data: Path, tmp_path: Path
) -> None:
    first, diary = seed_0
    again_diary, other_diary = Diary(), Diary()
    again = train_detector(tiny_job(tiny_data, tmp_path / "again"), again_diary)
    other = train_detector(tiny_job(tiny_data, tmp_path / "other", seed=1), other_diary)
    assert same_tensors(first.best, again.best)
    assert first.metrics == again.metrics
    assert diary.epochs[0].losses == again_diary.epochs[0].losses
    assert not same_tensors(first.best, other.best)
    assert diary.epochs[0].losses != other_diary.epochs[0].losses


def test_weights_are_those_that_ultralytics_alone_would_have_trained(
    seed_0: tuple[TrainingOutcome, Diary], tiny_data: Path, tmp_path: Path
) -> None:
    import ultralytics
    from ultralytics.utils import SETTINGS

    before = SETTINGS["mlflow"]
    dict.__setitem__(SETTINGS, "mlflow", False)
    try:
        ultralytics.YOLO("yolo11n.yaml").train(
            data=str(copy_data(tiny_data, tmp_path / "data")), epochs=1, batch=8, imgsz=64, device="cpu", seed=0,
            plots=False, project=str(tmp_path), name="plain", verbose=False,
        )  # fmt: skip
    finally:
        dict.__setitem__(SETTINGS, "mlflow", before)
    assert same_tensors(seed_0[0].best, tmp_path / "plain" / "weights" / "best.pt")


def test_observer_is_told_of_the_start_every_batch_and_every_epoch(seed_0: tuple[TrainingOutcome, Diary]) -> None:
    _, diary = seed_0
    assert diary.starts == [(1, 1)]
    assert diary.batches == [(1, 2), (2, 2)]
    (report,) = diary.epochs
    assert (report.epoch, report.epochs) == (1, 1)
    assert {"train/box_loss", "val/box_loss", "train/cls_loss", "val/dfl_loss"} <= set(report.losses)
    assert set(report.learning_rates) >= {"lr/pg0"}
    assert set(report.metrics) == {"map50", "map50_95", "precision", "recall", "f1"}
    assert report.images_per_s is not None
    assert report.images_per_s > 16 / report.seconds  # the validation's time isn't counted as training


def test_weights_validated_alone_have_the_figures_of_the_trainings_end(trained: Trained, tmp_path: Path) -> None:
    job = tiny_job(trained.data_yaml, tmp_path, epochs=2)
    metrics, per_class = validate_weights(trained.result.best, job)
    for name, value in metrics.items():
        assert value == pytest.approx(trained.result.metrics[name], abs=1e-6), name
    assert [row["name"] for row in per_class] == [row["name"] for row in trained.result.per_class]
    assert [row["boxes"] for row in per_class] == [row["boxes"] for row in trained.result.per_class]


def test_checkpoint_of_a_finished_training_has_no_epoch_to_resume_from(trained: Trained) -> None:
    assert read_checkpoint_epoch(trained.result.last) is None


def write_picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_images_of_every_kind_in_fewer_than_a_batch_are_trained_on(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pictures = {
        "grey.png": chance.integers(0, 255, (40, 50), np.uint8),
        "alpha.png": chance.integers(0, 255, (33, 90, 4), np.uint8),
        "deep.png": chance.integers(0, 65535, (64, 64)).astype(np.uint16),
        "odd.jpg": chance.integers(0, 255, (101, 37, 3), np.uint8),
        "wide.bmp": chance.integers(0, 255, (16, 200, 3), np.uint8),
    }
    for name, pixels in pictures.items():
        write_picture(tmp_path / "images" / "train" / name, pixels)
    write_picture(tmp_path / "images" / "val" / "one.png", pictures["odd.jpg"])
    for image in (tmp_path / "images").rglob("*.*"):
        label = tmp_path / "labels" / image.parent.name / f"{image.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n" + ("1 0.3 0.3 0.2 0.2\n" if image.parent.name == "train" else ""))
    data_yaml = tmp_path / "data.yaml"
    data_yaml.write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [a, b]\n")
    before = folder_digest(tmp_path / "images")
    diary = Diary()
    outcome = train_detector(tiny_job(data_yaml, tmp_path / "run", batch=64), diary)
    assert diary.batches == [(1, 1)]
    seen, unseen = outcome.per_class
    assert (seen["boxes"], unseen["boxes"]) == (1, 0)
    assert seen["map50"] is not None
    assert [unseen[name] for name in ("precision", "recall", "map50", "map50_95")] == [None] * 4
    assert folder_digest(tmp_path / "images") == before


def test_jpeg_with_a_tail_is_not_rewritten_in_place(tiny_data: Path, tmp_path: Path) -> None:
    data_yaml = copy_data(tiny_data, tmp_path / "data")
    image = next((data_yaml.parent / "images" / "train").glob("*.jpg"))
    image.write_bytes(image.read_bytes() + b"tail")
    before = folder_digest(data_yaml.parent)
    train_detector(tiny_job(data_yaml, tmp_path / "run"), Diary())
    assert folder_digest(data_yaml.parent) == before


def test_label_cache_that_came_with_a_dataset_is_never_unpickled(tiny_data: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch '{tmp_path / 'ran'}'",)

    data_yaml = copy_data(tiny_data, tmp_path / "data")
    for split in ("train", "val"):
        with (data_yaml.parent / "labels" / f"{split}.cache").open("wb") as file:
            np.save(file, np.array(Payload(), dtype=object), allow_pickle=True)
    train_detector(tiny_job(data_yaml, tmp_path / "run"), Diary())
    assert not (tmp_path / "ran").exists()


def test_training_that_runs_out_of_its_time_stops_early_with_weights(tiny_data: Path, tmp_path: Path) -> None:
    diary = Diary()
    job = tiny_job(tiny_data, tmp_path, epochs=500, options={"plots": False, "time": 2 / 3600})
    outcome = train_detector(job, diary)
    assert outcome.best.is_file()
    assert 0 < len(diary.epochs) < 500
    assert diary.epochs[-1].epochs < 500  # the goal shrinks to what fits


def test_failure_of_ultralytics_is_one_sentence_with_the_log(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "gone.yaml", tmp_path)
    with pytest.raises(RunFailedError, match=r"could not train: .*gone\.yaml.*Its log: .*training\.log"):
        train_detector(job, Diary())


def test_single_value_per_channel_is_explained(tiny_data: Path, tmp_path: Path) -> None:
    job = tiny_job(tiny_data, tmp_path, imgsz=32, batch=15)  # 16 images: one is left over
    with pytest.raises(RunFailedError, match=r"last batch of an epoch holds one image"):
        train_detector(job, Diary())


def test_f1_is_the_harmonic_mean_and_absent_without_its_parts() -> None:
    metrics = {"metrics/precision(B)": 0.5, "metrics/recall(B)": 0.25, "metrics/mAP50(B)": 0.3, "fitness": 1.0}
    assert catalogue_metrics(metrics) == {"precision": 0.5, "recall": 0.25, "map50": 0.3, "f1": pytest.approx(1 / 3)}
    assert catalogue_metrics({}) == {}
    assert catalogue_metrics({"metrics/precision(B)": 0.0, "metrics/recall(B)": 0.0})["f1"] == 0.0


ALONE = """
import json, os, socket, sys
hosts = []
really = socket.getaddrinfo
def noted(host, *rest, **named):
    hosts.append(str(host))
    return really(host, *rest, **named)

import ultralytics                      # whoever imports it first ...
socket.getaddrinfo = noted
from ultralytics.models.yolo.detect import DetectionTrainer
from guardianflow import TrainingRunner

data, = sys.argv[1:]
result = TrainingRunner("시험", "yolo11n.yaml", data, 1, 8, 64, "cpu").run()
ours = list(hosts)  # what follows is the user's own
theirs = DetectionTrainer(overrides=dict(model="yolo11n.yaml", data=data, epochs=1, device="cpu",
                                         project=os.environ["PROJECT"], plots=False))
modules = {c.__module__ for c in theirs.callbacks["on_fit_epoch_end"]}
print(json.dumps({"hosts": ours, "theirs": sorted(modules), "settings": ultralytics.utils.SETTINGS["mlflow"],
                  "check_font": ultralytics.utils.plotting.check_font.__module__}))
"""


def test_a_training_leaves_data_settings_current_folder_and_the_users_own_trainings_alone(
    trained: Trained, tmp_path: Path
) -> None:
    here, config = tmp_path / "here", tmp_path / "config"
    here.mkdir()
    config.mkdir()
    data_yaml = copy_data(trained.data_yaml, tmp_path / ODD)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        "YOLO_CONFIG_DIR": str(config),
        "GUARDIANFLOW_WORK_DIR": str(tmp_path / "work"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PROJECT": str(tmp_path / "theirs"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    quiet = {**environment, "YOLO_VERBOSE": "false"}
    subprocess.run([sys.executable, "-c", "import ultralytics"], env=quiet, check=True, capture_output=True)
    settings_file = next(config.rglob("settings.json"))
    text = (
        settings_file.read_text().replace('"mlflow": false', '"mlflow": true').replace('"sync": true', '"sync": false')
    )
    settings_file.write_text(text)
    assert '"mlflow": true' in text
    data_before = folder_digest(data_yaml.parent)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(data_yaml)], env=quiet, cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert folder_digest(data_yaml.parent) == data_before
    assert settings_file.read_text() == text
    assert list(here.iterdir()) == []
    assert set(seen["hosts"]) <= {"localhost", "127.0.0.1", "::1"}  # Korean names, and no font is fetched
    assert "ultralytics.utils.callbacks.mlflow" in seen["theirs"]
    assert seen["settings"] is True
    assert seen["check_font"] == "ultralytics.utils.checks"


def test_pictures_are_drawn_with_korean_class_names(trained: Trained) -> None:
    names = {path.name for path in trained.result.pictures}
    assert {"results.png", "confusion_matrix.png", "labels.jpg", "val_batch0_pred.jpg", "train_batch0.jpg"} <= names
    assert "BoxPR_curve.png" in names


@pytest.mark.parametrize("name", ["$$", "$\\frac{a}$", "a_{b}^c $ $", "\\alpha"])
def test_a_class_name_is_no_formula_in_ultralytics_own_drawings(tmp_path: Path, name: str) -> None:
    from ultralytics.utils.metrics import ConfusionMatrix, plot_pr_curve

    from guardianflow.vision.training._isolation import isolated

    with isolated():
        ConfusionMatrix(names={0: name, 1: "b"}).plot(save_dir=str(tmp_path))
        curve = np.linspace(1, 0, 10)
        plot_pr_curve(np.linspace(0, 1, 10), [curve, curve], np.zeros((2, 10)), tmp_path / "pr.png", {0: name, 1: "b"})
    assert {path.name for path in tmp_path.iterdir()} >= {"confusion_matrix_normalized.png", "pr.png"}


def test_every_epoch_has_finite_losses(trained: Trained) -> None:
    losses = [row["train/box_loss"] + row["train/cls_loss"] + row["train/dfl_loss"] for row in trained.result.history]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
