"""What was taken with a remark is said where people and programs look: on the terminal and in --json."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.inference_results import cell_remarks
from guardianflow.core.results import TrainingResult, remarks_html
from guardianflow.data.dataset import check_dataset, read_dataset
from tests.trainings import Trained, copy_data


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_sqlite_template: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "work" / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def odd_data(tiny_data: Path, workplace: Path) -> Path:
    """A dataset with three oddities: a polygon, a duplicate row, and an image that isn't labelled."""
    data_yaml = copy_data(tiny_data, workplace / "데이터 data")
    train, val = (sorted((data_yaml.parent / "labels" / split).glob("*.txt")) for split in ("train", "val"))
    train[0].write_text("0 0.2 0.2 0.6 0.2 0.6 0.8\n", encoding="utf-8")
    for file in (train[1], val[0]):
        row = file.read_text(encoding="utf-8").splitlines()[0]
        file.write_text(f"{row}\n{row}\n", encoding="utf-8")
    val[1].unlink()
    return data_yaml


def notes(stderr: str) -> list[str]:
    return [line.removeprefix("note      ") for line in stderr.splitlines() if line.startswith("note ")]


def test_a_training_says_what_it_took_before_it_begins_and_in_json(odd_data: Path) -> None:
    words = ["train", "--data", str(odd_data), "--model", "yolo11n.yaml", "-e", "odd", "--epochs", "1", "--batch", "8",
             "--imgsz", "64", "--device", "cpu", "--set", "plots=false", "--direct", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    said = notes(done.stderr)
    document = json.loads(done.stdout)
    assert document["remarks"] == said
    assert any("label files with polygons, trained on as boxes: 1; the first, " in text for text in said)
    assert any("label files with duplicate rows: 2" in text for text in said)
    assert any("images without a label file: 1; the first, " in text for text in said)
    first_note, first_epoch = done.stderr.find("note "), done.stderr.find("1/1")
    assert first_note < first_epoch or first_epoch < 0
    assert (
        "duplicate rows"
        in TrainingResult.from_dict(  # the page, too
            json.loads(Path(document["folder"], "result.json").read_text(encoding="utf-8"))
        )._repr_html_()
    )


def test_a_benchmark_says_what_it_leaves_out_before_it_begins_and_in_json(odd_data: Path, trained: Trained) -> None:
    bad = max((odd_data.parent / "labels" / "val").glob("*.txt"))
    bad.write_text("0 0.5 0.5 0.2\n", encoding="utf-8")
    odd_data.write_text(trained.data_yaml.read_text(encoding="utf-8"), encoding="utf-8")  # the model's class names
    words = ["infer", "--model", str(trained.result.best), "--data", str(odd_data), "--device", "cpu", "--seconds",
             "0.05", "--repeats", "1", "--modes", "single_stream", "--direct", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    document = json.loads(done.stdout)
    said = notes(done.stderr)
    assert document["remarks"] == said
    assert any(f", left out: 1; the first, labels/val/{bad.name}: line 1: 4 columns" in text for text in said)
    assert any("torch fp32: images left out of the evaluation: 1" in text for text in document["remarks"])


def test_a_remark_of_several_cells_is_said_once() -> None:
    rows = [{"label": "torch", "warnings": ["slow"]}, {"label": "openvino", "warnings": ["slow", "odd"]}]
    assert cell_remarks(rows) == ("torch, openvino: slow", "openvino: odd")


def test_remarks_are_escaped_on_the_page() -> None:
    assert remarks_html([]) == ""
    html = remarks_html(["a <img src=x> \u202e"])
    assert "<img" not in html
    assert "\u202e" not in html


def test_clean_data_needs_no_remark(trained: Trained) -> None:
    assert check_dataset(read_dataset(trained.data_yaml)).remarks() == ()
    assert trained.result.remarks == ()
