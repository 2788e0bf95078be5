"""What was taken with a remark is said where people and programs look: on the terminal and in --json."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.data.dataset import check_dataset, read_dataset
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.runners.inference.result import cell_remarks
from guardianflow.runners.training.result import TrainingResult
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.runs.mlflow_runs import make_client
from guardianflow.views.result_page import remarks_html
from guardianflow.vision.model_files import load_checkpoint
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


def assert_recorded_as_it_was(document: dict[str, Any]) -> None:
    """Of lr0=0.5, which optimizer=auto passes over, and three frozen layers."""
    settings = Settings()
    run = make_client(settings).get_run(document["run_id"])
    assert run.data.params["options.freeze"] == "[0, 1, 2]"
    assert "options.lr0" not in run.data.params
    assert run.data.tags["guardianflow.options_without_effect"] == "lr0=0.5"
    weights, _ = load_checkpoint(Path(document["folder"]) / "training" / "weights" / "last.pt")
    frozen = [name for name, _ in weights.named_parameters() if name.startswith(("model.0.", "model.1.", "model.2."))]
    args = load_yaml_mapping(Path(document["folder"]) / "training" / "args.yaml", what="args.yaml")
    assert args["freeze"] == [0, 1, 2]
    used = document["used"]
    assert {name: run.data.params[f"used.{name}"] for name in used} == {name: str(used[name]) for name in used}
    assert used == {
        "optimizer": "AdamW", "lr0": 0.001667, "momentum": 0.9, "batch": 8, "imgsz": 64, "workers": 0, "device": "cpu",
        "amp": False, "frozen": len(frozen) + 1,  # and the layer that turns distributions into boxes
    }  # fmt: skip


def test_a_training_says_what_it_took_before_it_begins_and_in_json(odd_data: Path) -> None:
    words = ["train", "--data", str(odd_data), "--model", "yolo11n.yaml", "-e", "odd", "--epochs", "1", "--batch", "8",
             "--imgsz", "64", "--device", "cpu", "--set", "plots=false", "--set", "lr0=.5", "--set", "freeze=0,1,2",
             "--direct", "--json"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    said = notes(done.stderr)
    assert any("option lr0=0.5 has no effect: optimizer=auto chooses" in text for text in said)
    document = json.loads(done.stdout)
    assert document["remarks"] == said
    assert any("label files with polygons, trained on as boxes: 1; the first, " in text for text in said)
    assert any("label files with duplicate rows: 2" in text for text in said)
    assert any("images without a label file: 1; the first, " in text for text in said)
    assert_recorded_as_it_was(document)
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


TWO_TRAININGS = "epoch,loss,acc\n1,9,9\n2,9,9\n1,0.5,0.5\n2,0,43,0,81\n3,0.25\n4,0.25,0.75\n"


def test_an_import_says_what_it_left_out_on_the_terminal_and_in_json(workplace: Path) -> None:
    run = workplace / "runs" / "학습 1"
    run.mkdir(parents=True)
    (run / "args.yaml").write_text("task: detect\nmode: train\nepochs: 4\n", encoding="utf-8")
    text = TWO_TRAININGS.replace("loss,acc", "train/box_loss,metrics/mAP50(B)")
    (run / "results.csv").write_text(text + "text,1,1\n5,0.2", encoding="utf-8")
    done = CliRunner().invoke(app, ["scan", str(workplace / "runs"), "--import-runs", "--json"])
    assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
    (row,) = json.loads(done.stdout)["imported"]["imported"]
    assert row["metrics"]["train/box_loss"] == 0.25
    assert row["remarks"] == [
        "2 trainings stand in it, the epoch starts over at line 4: the last one is the run",
        "row with more cells than the header's 3 left out, perhaps for a decimal comma: line 5",
        "row with fewer cells than the header's 3 left out: line 6",
        "row without a number where the step should stand left out: line 8",
        "last row, cut off, left out: line 9",
    ]
    shown = notes(done.stderr)
    assert shown[:4] == [f"학습 1: {text}" for text in row["remarks"][:4]]
    assert shown[4:] == ["and 1 more; --json lists all"]


def test_a_wrapped_script_that_failed_has_its_remarks_on_the_terminal_and_in_json(workplace: Path) -> None:
    script = f"from pathlib import Path\nPath('log.csv').write_text({TWO_TRAININGS!r})\nraise SystemExit(3)\n"
    (workplace / "train.py").write_text(script, encoding="utf-8")
    done = CliRunner().invoke(app, ["wrap", "train.py", "--direct", "--json"])
    assert done.exit_code == 1, (done.stdout, done.stderr, done.exception)
    document = json.loads(done.stdout)["script"]
    assert document["histories"]["loss"] == [[1, 0.5], [4, 0.25]]
    assert notes(done.stderr) == document["remarks"]
    assert any("log.csv: 2 trainings stand in it" in text for text in document["remarks"])


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


def test_a_training_from_weights_with_other_names_says_so(odd_data: Path, trained: Trained, workplace: Path) -> None:
    runner = TrainingRunner(
        "odd", trained.result.best, odd_data, imgsz=64, device="cpu", settings=Settings(work_dir=workplace / "work")
    )
    runner.check()
    assert (
        "the weights call their classes otherwise than the data ('사람', now 'person'; '차량 vehicle', now 'vehicle'); "
        "the training begins with what they know, class by class"
    ) in runner.remarks
