"""What a training says of its labels, links and lists before it begins: refused with exit code 2, or counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.runners.training.runner import TrainingRunner
from tests.data.conftest import write_dataset

ROW_OF_A_TRACKER = "0 0.5 0.5 0.3 0.2 0.87 1\n"


@pytest.fixture
def data_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    return write_dataset(tmp_path / "site", yaml="train: train.txt\nval: images/val\nnames: [person, car]\n")


def write_list(data_yaml: Path, *more: str) -> None:
    names = [f"images/train/train_{index}.jpg" for index in range(3)]
    data_yaml.with_name("train.txt").write_text("".join(f"{name}\n" for name in (*names, *more)))


def test_rows_and_lines_that_cant_be_told_end_with_2_and_no_run(data_yaml: Path, tmp_path: Path) -> None:
    words = ["train", "--data", str(data_yaml), "--model", "yolo11n.yaml", "-e", "odd", "--direct"]
    write_list(data_yaml, "images/train/train_3 0 0.5")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "train.txt names no image file: 'images/train/train_3 0 0.5'; write the path of one image a line" in said
    write_list(data_yaml)
    label = data_yaml.parent / "labels" / "train" / "train_1.txt"
    label.write_text(ROW_OF_A_TRACKER)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert f"labels/train/train_1.txt: line 1: '{ROW_OF_A_TRACKER.strip()}' may be a polygon, or a box with" in said
    assert not (tmp_path / "work" / "runs").exists()


def test_what_is_taken_or_left_out_is_remarked_and_counted(data_yaml: Path, tmp_path: Path) -> None:
    images = data_yaml.parent / "images"
    for name in ("a.jfif", "b.jfif"):
        (images / "train" / name).write_bytes(b"x")
    (images / "val").rename(tmp_path / "val")
    (images / "val").symlink_to(tmp_path / "val")
    write_list(data_yaml, "images/train/a.jfif", "images/train/b.jfif", "# the end", '"images/train/train_0.jpg"')
    runner = TrainingRunner(
        "odd", model_arch="yolo11n.yaml", data_yaml=str(data_yaml), settings=Settings(work_dir=tmp_path / "work")
    )
    runner.check()
    assert list(runner.remarks) == [
        (
            "data: lines of image lists that name no image: 2; the first, train.txt:4: 'images/train/a.jfif' is left "
            "out: training doesn't read .jfif; it is a JPEG, rename it to .jpg"
        ),
        (
            "data: image folders and lists that are links, read along the path as written: 1; the first, images/val: "
            f"it leads to {tmp_path}/val; its labels are looked for along the path as written, in labels/val"
        ),
        "data: 1 of the 4 names in the split 'train' repeat an image; each counts once",
        "data: comment lines of image lists: 1; the first, train.txt:6: '# the end' is left out",
        (
            "data: lines of image lists read otherwise than they are written: 1; the first, train.txt:7: "
            "'\"images/train/train_0.jpg\"' is read as images/train/train_0.jpg"
        ),
    ]
