"""What is read from the folders that finished runs left: Ultralytics, Lightning, TensorBoard, MLflow's stores."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from guardianflow.adapters.finished_runs.folders import (
    RUN_FOLDERS,
    FinishedRun,
    UnreadableRun,
    kept_files,
    read_finished_runs,
)
from guardianflow.adapters.finished_runs.mlflow_stores import read_mlflow_store
from guardianflow.adapters.scan.findings import FoundRun
from guardianflow.adapters.scan.scan import scan_folder
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError

DETECT = [
    "train/box_loss",
    "train/cls_loss",
    "train/dfl_loss",
    "metrics/precision(B)",
    "metrics/recall(B)",
    "metrics/mAP50(B)",
    "metrics/mAP50-95(B)",
    "val/box_loss",
    "val/cls_loss",
    "val/dfl_loss",
    "lr/pg0",
    "lr/pg1",
    "lr/pg2",
]
CLASSIFY = ["train/loss", "metrics/accuracy_top1", "metrics/accuracy_top5", "val/loss", "lr/pg0"]


def figure(epoch: int, column: int, seed: int) -> float:
    return round(math.sin(epoch * 0.37 + column + seed * 0.11) * 0.4 + 0.5, 5)


def write_results(
    file: Path, epochs: int, *, columns: Sequence[str] = DETECT, seed: int = 0, first: int = 1, time: bool = True
) -> None:
    """A results.csv as Ultralytics' `save_metrics` writes it."""
    lines = [",".join(["epoch", *(["time"] if time else []), *columns])]
    for epoch in range(first, first + epochs):
        values = [epoch, *([epoch * 7.25] if time else [])]
        values += [figure(epoch, place, seed) for place in range(len(columns))]
        lines.append(",".join(f"{value:.6g}" for value in values))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_ultralytics(
    folder: Path, *, epochs: int = 3, asked: int = 3, seed: int = 0, task: str = "detect",
    columns: Sequence[str] = DETECT, settings: Mapping[str, object] | None = None, plot: bool = True,
) -> Path:  # fmt: skip
    """A run's folder as `yolo train` leaves it."""
    (folder / "weights").mkdir(parents=True)
    values: dict[str, object] = {
        "task": task, "mode": "train", "model": "yolo11n.pt", "data": "coco8.yaml", "epochs": asked, "time": "null",
        "patience": 100, "batch": 16, "imgsz": 640, "device": "cpu", "project": "null", "name": folder.name,
        "seed": seed, "lr0": 0.01, "save_dir": str(folder), **(settings or {}),
    }  # fmt: skip
    text = "".join(f"{key}: {value}\n" for key, value in values.items())
    (folder / "args.yaml").write_text(text, encoding="utf-8")
    if epochs:
        write_results(folder / "results.csv", epochs, columns=columns, seed=seed)
    (folder / "weights" / "best.pt").write_bytes(b"PK\x03\x04 best" + bytes([seed]) * 64)
    (folder / "weights" / "last.pt").write_bytes(b"PK\x03\x04 last" + bytes([seed]) * 64)
    (folder / "labels.jpg").write_bytes(b"\xff\xd8\xff\xe0 picture")
    if plot:
        (folder / "results.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def write_events(folder: Path, scalars: Mapping[str, Sequence[float]], *, begun: float = 1_700_000_000.0) -> Path:
    """An event file as TensorBoard's own writer makes it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"events.out.tfevents.{int(begun)}.host.1.0"
    with file.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(wall_time=begun, file_version="brain.Event:2").SerializeToString())
        for name, values in scalars.items():
            for step, value in enumerate(values):
                summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                writer.write(Event(wall_time=begun + step, step=step, summary=summary).SerializeToString())
    return file


def write_lightning(folder: Path, *, epochs: int = 3, hparams: str = "lr: 0.01\nmax_epochs: 3\n") -> Path:
    """What Lightning's CSVLogger leaves: a row for training figures, another for validation, each with gaps."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hparams.yaml").write_text(hparams, encoding="utf-8")
    rows = ["epoch,step,train_loss,val_loss"]
    for epoch in range(epochs):
        step = epoch * 10 + 9
        rows += [f"{epoch},{step},{1 / (epoch + 1):.6f},", f"{epoch},{step},,{2 / (epoch + 1):.6f}"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "checkpoints" / "epoch=2-step=30.ckpt").write_bytes(b"PK\x03\x04")
    return folder


def write_mlflow(uri: str) -> tuple[str, str]:
    """A parent and a nested run, written by MLflow itself; returns their ids."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("현장 [A]/B", tags={})
    ids = []
    for name in ("parent", "child"):
        tags = {"mlflow.user": "alice", "team": "gate"}
        if ids:
            tags["mlflow.parentRunId"] = ids[0]
        run_id = client.create_run(experiment, start_time=1_700_000_000_000, run_name=name, tags=tags).info.run_id
        client.log_param(run_id, "lr", "0.1")
        client.log_param(run_id, "db.password", "hunter2")
        for step in range(3):
            client.log_metric(run_id, "train/loss", 1 / (step + 1), timestamp=1_700_000_000_000 + step, step=step)
        client.log_metric(run_id, "broken", float("nan"), timestamp=1_700_000_000_000, step=0)
        client.set_terminated(run_id, "FINISHED" if ids else "FAILED", end_time=1_700_000_009_000)
        ids.append(run_id)
    return ids[0], ids[1]


def test_runs_nested_in_each_other_come_parents_first_whenever_they_began(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    told = [("0", "", 30), ("1", "0", 20), ("2", "1", 10), ("7", "8", 0), ("8", "7", 0)]  # the last two: a ring
    for name, parent, start in told:
        run = store / "1" / name / "tags"
        run.mkdir(parents=True)
        facts = f"run_id: '{name}'\nstart_time: {start}\nlifecycle_stage: active\nstatus: 3\n"
        (run.parent / "meta.yaml").write_text(facts, encoding="utf-8")
        if parent:
            (run / "mlflow.parentRunId").write_text(parent, encoding="utf-8")
    (store / "1" / "meta.yaml").write_text("experiment_id: '1'\nname: a\nlifecycle_stage: active\n", encoding="utf-8")
    order = [run.source_id for run in read_mlflow_store(store, tmp_path) if isinstance(run, FinishedRun)]
    assert sorted(order) == ["0", "1", "2", "7", "8"]
    assert [name for name in order if name in "012"] == ["0", "1", "2"]


@pytest.fixture
def file_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, tuple[str, str]]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = tmp_path / "옛 실험" / "mlruns"
    folder.mkdir(parents=True)
    return folder, write_mlflow(folder.as_uri())


@pytest.fixture
def database(tmp_path: Path, mlflow_sqlite_template: Path) -> tuple[Path, tuple[str, str]]:
    folder = tmp_path / "옛 실험"
    folder.mkdir()
    path = folder / "mlflow.db"
    shutil.copyfile(mlflow_sqlite_template, path)
    return path, write_mlflow(f"sqlite:///{path}")


def found(path: Path, kind: str) -> FoundRun:
    return FoundRun(Path(path.name), kind, path.name)


def read(path: Path, kind: str) -> FinishedRun:
    (run,) = read_finished_runs(found(path, kind), path.parent)
    assert isinstance(run, FinishedRun)
    return run


def read_all(path: Path, root: Path | None = None) -> list[FinishedRun]:
    base = root or path.parent
    runs = list(read_finished_runs(FoundRun(path.relative_to(base), "mlflow", path.name), base))
    assert not [run for run in runs if isinstance(run, UnreadableRun)]
    return [run for run in runs if isinstance(run, FinishedRun)]


def folder_content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestYolov5:
    def test_a_run_of_yolov5_has_its_parameters_its_curve_and_its_weights(self, tmp_path: Path) -> None:
        folder = write_yolov5(tmp_path / "exp")

        run = read(folder, "yolov5")

        rows = [
            [cell.strip() for cell in line.split(",")] for line in (folder / "results.csv").read_text().splitlines()
        ]
        place = rows[0].index("metrics/mAP_0.5")
        curve = [(int(row[0]), float(row[place])) for row in rows[1:]]
        assert [(step, value) for step, value, _ in run.history["metrics/mAP_0.5"]] == curve
        assert [(step, value) for step, value, _ in run.history["map50"]] == curve
        assert {"map50_95", "precision", "recall", "f1", "train/obj_loss", "x/lr0"} <= set(run.history)
        assert "epoch_seconds" not in run.history  # nothing tells the time
        assert (run.parameters["batch_size"], run.parameters["lr0"], run.parameters["mosaic"]) == (16, 0.01, 1.0)
        assert run.parameters["hyp"] == "data/hyp.yaml"
        assert (run.status, run.epochs, run.asked_epochs, run.task) == ("FINISHED", 3, 3, "detection")
        assert run.weights == folder / "weights" / "best.pt"
        assert {"opt.yaml", "hyp.yaml", "results.csv"} <= {path.name for path in run.artifacts}
        assert run.experiment == "train"

    def test_a_run_of_yolov7_has_the_figures_of_its_table_without_names(self, tmp_path: Path) -> None:
        folder = write_yolov5(tmp_path / "yolov7", table=YOLOV7)

        run = read(folder, "yolov5")

        assert [step for step, _, _ in run.history["map50"]] == [0, 1, 2]
        assert run.last["map50"] == 0.623
        assert run.last["train/total_loss"] == 0.0733
        assert run.last["val/cls_loss"] == 0.0133
        assert (run.status, run.epochs, run.asked_epochs, run.task) == ("FINISHED", 3, 3, "detection")
        assert "1 line(s) of results.txt are no row of figures and are left out" in run.remarks

    def test_what_is_damaged_is_remarked_and_the_rest_is_there(self, tmp_path: Path) -> None:
        folder = write_yolov5(tmp_path / "exp")
        (folder / "hyp.yaml").write_text("lr0: !!python/object/apply:os.system ['true']\n")
        (folder / "results.csv").write_bytes(b"\xff\x00")
        (folder / "results.txt").write_text(YOLOV7)

        run = read(folder, "yolov5")

        assert run.parameters["batch_size"] == 16
        assert run.last["map50"] == 0.623
        assert run.parameters["lr0"] == ["true"]  # as text: no object is built
        assert any("results.csv" in remark for remark in run.remarks)

    @pytest.mark.parametrize("table", ["results.csv", "results.txt"])
    def test_the_scan_knows_it_and_takes_nothing_below_it_for_another(self, tmp_path: Path, table: str) -> None:
        folder = write_yolov5(tmp_path / "runs" / "train" / "exp", table="" if table == "results.csv" else YOLOV7)
        (folder / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"x")

        runs = scan_folder(tmp_path).runs

        assert [(run.kind, run.path.as_posix()) for run in runs] == [("yolov5", "runs/train/exp")]
        assert table in runs[0].reason


YOLOV7 = """\
       0/2     7.51G   0.0411    0.0211    0.0111    0.0733        55       640    0.401     0.501     0.601     0.301    0.0511    0.0211    0.0111
       1/2     7.51G   0.0411    0.0211    0.0111    0.0733        55       640    0.402     0.502     0.602     0.302    0.0512    0.0212    0.0112
not a row
       2/2     7.51G   0.0411    0.0211    0.0111    0.0733        55       640    0.403     0.503     0.623     0.303    0.0513    0.0213    0.0133
"""  # noqa: E501


def write_yolov5(folder: Path, *, table: str = "") -> Path:
    """A run's folder as YOLOv5's `train.py` leaves it; with ``table`` as older ones and YOLOv7's do."""
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").write_bytes(b"PK\x03\x04 best")
    (folder / "opt.yaml").write_text(
        "weights: yolov5s.pt\ndata: data/coco128.yaml\nhyp: data/hyp.yaml\nepochs: 3\nbatch_size: 16\nimgsz: 640\n"
        "project: runs/train\nname: exp\nsave_dir: runs/train/exp\n"
    )
    (folder / "hyp.yaml").write_text("lr0: 0.01\nmosaic: 1.0\n")
    if table:
        (folder / "results.txt").write_text(table)
        return folder
    figures = ["precision", "recall", "mAP_0.5", "mAP_0.5:0.95"]
    losses = ["box_loss", "obj_loss", "cls_loss"]
    names = [
        "epoch",
        *(f"train/{n}" for n in losses),
        *(f"metrics/{n}" for n in figures),
        *(f"val/{n}" for n in losses),
    ]
    names.append("x/lr0")
    lines = [",".join(f"{name:>20}" for name in names)]
    lines += [
        ",".join(f"{value:>20.5g}" for value in (epoch, *(figure(epoch, column, 0) for column in range(11))))
        for epoch in range(3)
    ]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    return folder


class TestUltralytics:
    def test_the_curves_are_those_of_results_csv_under_its_names_and_the_catalogues(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "학습 1", epochs=4, asked=4)

        run = read(folder, "ultralytics")

        rows = list(csv.DictReader((folder / "results.csv").read_text(encoding="utf-8").splitlines()))
        assert [(step, value) for step, value, _ in run.history["train/box_loss"]] == [
            (int(row["epoch"]), float(row["train/box_loss"])) for row in rows
        ]
        curve = [(int(row["epoch"]), float(row["metrics/mAP50(B)"])) for row in rows]
        assert [(step, value) for step, value, _ in run.history["metrics/mAP50_B"]] == curve
        assert [(step, value) for step, value, _ in run.history["map50"]] == curve
        assert {"map50_95", "precision", "recall", "f1", "epoch_seconds", "lr/pg2"} <= set(run.history)
        assert [value for _, value, _ in run.history["epoch_seconds"]] == [7.25] * 4
        assert (run.status, run.epochs, run.asked_epochs, run.task) == ("FINISHED", 4, 4, "detection")
        assert run.last["map50"] == curve[-1][1]

    def test_settings_times_and_files_are_kept(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "train", epochs=3)
        os.utime(folder / "results.csv", (1_700_000_100, 1_700_000_100))

        run = read(folder, "ultralytics")

        assert run.parameters["imgsz"] == 640
        assert run.parameters["lr0"] == 0.01
        assert run.ended is not None
        assert run.started is not None
        assert run.ended.timestamp() == 1_700_000_100
        assert run.started.timestamp() == pytest.approx(1_700_000_100 - 3 * 7.25)
        first = run.history["map50"][0][2]
        assert first == pytest.approx((1_700_000_100 - 2 * 7.25) * 1000, abs=2)
        names = [run.artifact_name(path) for path in run.artifacts]
        assert names[:2] == ["weights/best.pt", "weights/last.pt"]
        assert {"args.yaml", "results.csv", "results.png", "labels.jpg"} <= set(names)
        assert run.weights == folder / "weights" / "best.pt"

    @pytest.mark.parametrize(
        ("epochs", "changes", "plot", "status", "remark"),
        [
            (0, {}, False, "FAILED", "before its first figure"),
            (2, {}, False, "KILLED", "2 of 5 epochs"),
            (2, {}, True, "FINISHED", "stopped by itself"),
            (5, {}, False, "FINISHED", ""),
        ],
    )
    def test_how_it_ended_is_said_as_far_as_the_files_know(
        self, tmp_path: Path, epochs: int, changes: dict[str, object], plot: bool, status: str, remark: str
    ) -> None:
        folder = write_ultralytics(tmp_path / "train", epochs=epochs, asked=5, settings=changes, plot=plot)

        run = read(folder, "ultralytics")

        assert (run.status, run.epochs) == (status, epochs)
        assert remark in "; ".join(run.remarks)

    def test_other_tasks_have_the_figures_of_theirs(self, tmp_path: Path) -> None:
        masks = [f"metrics/{name}({head})" for head in "BM" for name in ("precision", "recall", "mAP50", "mAP50-95")]
        segment = read(write_ultralytics(tmp_path / "seg", task="segment", columns=masks), "ultralytics")
        classify = read(write_ultralytics(tmp_path / "cls", task="classify", columns=CLASSIFY), "ultralytics")

        assert {"metrics/mAP50_M", "metrics/mAP50_B", "map50"} <= set(segment.history)
        assert {"metrics/accuracy_top1", "train/loss"} <= set(classify.history)
        assert "map50" not in classify.history
        assert (segment.task, classify.task) == ("segmentation", "classification")

    def test_old_tables_with_blanks_epochs_from_0_and_no_time_are_read(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "yolov5", epochs=0, asked=3)
        write_results(folder / "results.csv", 3, first=0, time=False)
        text = (folder / "results.csv").read_text(encoding="utf-8").replace(",", ",    ")
        (folder / "results.csv").write_text("   " + text, encoding="utf-8")

        run = read(folder, "ultralytics")

        assert [step for step, _, _ in run.history["map50"]] == [0, 1, 2]
        assert run.status == "FINISHED"

    def test_a_line_that_was_cut_off_is_left_out(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "train", epochs=2, asked=3)
        with (folder / "results.csv").open("a", encoding="utf-8") as file:
            file.write("3,21.75,0.1")

        assert read(folder, "ultralytics").epochs == 2

    def test_a_training_that_went_on_after_a_crash_has_each_epoch_once(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "train", epochs=2)
        rows = (folder / "results.csv").read_text(encoding="utf-8").splitlines()
        again = rows[2].split(",")
        again[2] = "0.99999"
        (folder / "results.csv").write_text("\n".join([*rows, ",".join(again)]) + "\n", encoding="utf-8")

        run = read(folder, "ultralytics")

        assert [step for step, _, _ in run.history["train/box_loss"]] == [1, 2]
        assert run.history["train/box_loss"][-1][1] == 0.99999

    @pytest.mark.parametrize(
        "content",
        [b"", b"\xff\xfe\x00bad", b"[" * 5000, b"- a\n- b\n",
         b"!!python/object/apply:os.system ['touch /tmp/q/owned']\n"],
    )  # fmt: skip
    def test_settings_that_cant_be_read_are_a_remark_beside_the_curves(self, tmp_path: Path, content: bytes) -> None:
        folder = write_ultralytics(tmp_path / "train")
        (folder / "args.yaml").write_bytes(content)

        run = read(folder, "ultralytics")

        assert run.parameters == {}
        assert run.epochs == 3
        assert any("args.yaml" in remark for remark in run.remarks)

    @pytest.mark.parametrize("content", [b"", b"epoch,time\n", b"\x00\x01\x02" * 99, b"no table at all", b"\xff" * 300])
    def test_a_table_that_cant_be_read_leaves_the_settings(self, tmp_path: Path, content: bytes) -> None:
        folder = write_ultralytics(tmp_path / "train", epochs=0)
        (folder / "results.csv").write_bytes(content)

        run = read(folder, "ultralytics")

        assert (run.epochs, run.status) == (0, "FAILED")
        assert run.parameters["imgsz"] == 640

    def test_links_out_of_the_folder_are_not_followed(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.yaml"
        secret.write_text("key: 1\n", encoding="utf-8")
        folder = write_ultralytics(tmp_path / "root" / "train")
        (folder / "stolen.yaml").symlink_to(secret)
        (folder / "ring").symlink_to(folder)
        (folder / "weights" / "alias.pt").symlink_to(folder / "weights" / "best.pt")

        run = read(folder, "ultralytics")

        names = {run.artifact_name(path) for path in run.artifacts}
        assert "stolen.yaml" not in names
        assert not any(name.startswith("ring") for name in names)
        assert "weights/alias.pt" in names
        assert any("lead out" in remark for remark in run.remarks)

    def test_a_folder_without_either_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()

        with pytest.raises(InputError, match=r"nothing that can be read of args.yaml, results.csv"):
            read(tmp_path / "empty", "ultralytics")

    def test_the_digest_goes_by_content_and_the_stem_stays_while_it_grows(self, tmp_path: Path) -> None:
        folder = write_ultralytics(tmp_path / "a", epochs=2)
        before = read(folder, "ultralytics")
        shutil.copytree(folder, tmp_path / "copy")
        write_results(folder / "results.csv", 3)
        grown = read(folder, "ultralytics")

        assert read(tmp_path / "copy", "ultralytics").digest == before.digest
        assert grown.digest != before.digest
        assert grown.stem == before.stem


class TestLightning:
    def test_hyperparameters_figures_and_checkpoints(self, tmp_path: Path) -> None:
        folder = write_lightning(tmp_path / "lightning_logs" / "version_0")

        run = read(folder, "lightning")

        assert run.parameters == {"lr": 0.01, "max_epochs": 3}
        assert [(step, value) for step, value, _ in run.history["val_loss"]] == [
            (9, 2.0), (19, 1.0), (29, 0.666667)
        ]  # fmt: skip
        assert (run.experiment, run.name, run.epochs, run.status) == ("lightning_logs", "version_0", 3, "FINISHED")
        assert run.weights is not None
        assert run.artifact_name(run.weights) == "checkpoints/epoch=2-step=30.ckpt"

    def test_the_tensorboard_logger_writes_events(self, tmp_path: Path) -> None:
        folder = tmp_path / "version_3"
        write_events(folder, {"val_loss": [1.0, 0.5], "epoch": [0, 1]})
        (folder / "hparams.yaml").write_text("{}\n", encoding="utf-8")

        run = read(folder, "lightning")

        assert [value for _, value, _ in run.history["val_loss"]] == [1.0, 0.5]
        assert run.epochs == 2
        assert run.parameters == {}
        assert run.started is not None
        assert run.started.timestamp() == 1_700_000_000

    def test_objects_in_hparams_are_never_built(self, tmp_path: Path) -> None:
        hparams = f"model: !!python/object/apply:os.mkdir [{tmp_path}/made]\nlr: 0.1\n"
        folder = write_lightning(tmp_path / "version_0", hparams=hparams)

        run = read(folder, "lightning")

        assert run.parameters == {"model": [f"{tmp_path}/made"], "lr": 0.1}
        assert run.epochs == 3
        assert not (tmp_path / "made").exists()


class TestTensorBoard:
    def test_scalars_by_step_with_their_times(self, tmp_path: Path) -> None:
        file = write_events(tmp_path / "실행 1", {"loss/train": [3.0, 2.0, 1.0]})

        run = read(file.parent, "tensorboard")

        assert run.history["loss/train"] == [
            (0, 3.0, 1_700_000_000_000), (1, 2.0, 1_700_000_001_000), (2, 1.0, 1_700_000_002_000)
        ]  # fmt: skip
        assert [run.artifact_name(path) for path in run.artifacts] == [file.name]

    def test_several_event_files_are_one_run_and_a_damaged_one_is_told(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        write_events(folder, {"loss": [2.0]})
        later = write_events(folder, {"loss": [2.0, 1.0]}, begun=1_700_000_500.0)
        later.write_bytes(later.read_bytes()[:-5])

        run = read(folder, "tensorboard")

        assert [value for _, value, _ in run.history["loss"]] == [2.0, 2.0]
        assert any("cut off" in remark for remark in run.remarks)

    def test_no_event_at_all_is_refused(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "events.out.tfevents.1.host").write_bytes(b"\x00garbage" * 20)

        with pytest.raises(InputError, match="nothing that can be read"):
            read(folder, "tensorboard")


class TestMlflowStores:
    def test_a_file_store_gives_its_runs_parents_first(self, file_store: tuple[Path, tuple[str, str]]) -> None:
        folder, (parent, child) = file_store

        runs = read_all(folder)

        assert [run.source_id for run in runs] == [parent, child]
        assert [run.status for run in runs] == ["FAILED", "FINISHED"]
        assert runs[1].parent_id == parent
        assert runs[0].experiment == "현장 [A]/B"
        assert runs[0].history["train/loss"] == [
            (0, 1.0, 1_700_000_000_000), (1, 0.5, 1_700_000_000_001), (2, 1 / 3, 1_700_000_000_002)
        ]  # fmt: skip
        assert math.isnan(runs[0].history["broken"][0][1])
        assert runs[0].parameters["lr"] == "0.1"
        assert runs[0].tags.get("team") == "gate"
        assert "mlflow.user" not in runs[0].tags

    def test_a_database_says_the_same_and_not_a_byte_of_it_changes(
        self, database: tuple[Path, tuple[str, str]]
    ) -> None:
        path, (parent, child) = database
        before = folder_content(path.parent)

        runs = read_all(path)

        assert [run.source_id for run in runs] == [parent, child]
        assert [run.name for run in runs] == ["parent", "child"]
        assert [step for step, _, _ in runs[0].history["train/loss"]] == [0, 1, 2]
        assert math.isnan(runs[0].history["broken"][0][1])
        assert runs[0].ended is not None
        assert runs[0].ended.timestamp() == 1_700_000_009
        assert folder_content(path.parent) == before

    def test_what_another_process_has_not_checkpointed_yet_is_read_from_a_copy(
        self, database: tuple[Path, tuple[str, str]], tmp_path: Path
    ) -> None:
        path, (parent, _) = database
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("INSERT INTO params (key, value, run_uuid) VALUES ('late', 'yes', ?)", (parent,))
            connection.commit()
            before = folder_content(path.parent)
            assert any(name.endswith("-wal") for name in before)

            runs = read_all(path)

            assert runs[0].parameters["late"] == "yes"
            assert folder_content(path.parent) == before
        connection.close()

    def test_deleted_runs_stay_deleted(self, file_store: tuple[Path, tuple[str, str]]) -> None:
        from mlflow import MlflowClient

        folder, (parent, child) = file_store
        MlflowClient(folder.as_uri()).delete_run(child)

        assert [run.source_id for run in read_all(folder)] == [parent]

    def test_an_old_schema_is_enough(self, tmp_path: Path) -> None:
        path = tmp_path / "mlflow.db"
        with sqlite3.connect(path) as connection:
            connection.executescript(
                "CREATE TABLE experiments (experiment_id INTEGER, name TEXT);"
                "CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER, status TEXT, start_time BIGINT);"
                "CREATE TABLE metrics (key TEXT, value REAL, timestamp BIGINT, run_uuid TEXT);"
                "INSERT INTO experiments VALUES (0, 'Default');"
                "INSERT INTO runs VALUES ('abc', 0, 'RUNNING', 1600000000000);"
                "INSERT INTO metrics VALUES ('loss', 2, 1600000000002, 'abc'), ('loss', 3, 1600000000001, 'abc');"
            )
        connection.close()

        (run,) = read_all(path)

        assert run.status == "KILLED"
        assert "RUNNING" in run.remarks[0]
        assert [value for _, value, _ in run.history["loss"]] == [3.0, 2.0]

    def test_a_view_in_place_of_a_table_is_not_asked(self, tmp_path: Path) -> None:
        path = tmp_path / "mlflow.db"
        with sqlite3.connect(path) as connection:
            endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS run_uuid FROM n"
            connection.executescript(f"CREATE TABLE experiments (name TEXT); CREATE VIEW runs AS {endless};")
        connection.close()

        with pytest.raises(InputError, match="no tables"):
            read_all(path)

    @pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\xff" * 5000])
    def test_a_broken_database_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "mlflow.db"
        path.write_bytes(content)

        with pytest.raises(InputError, match="MLflow"):
            read_all(path)

    def test_a_run_that_cant_be_read_stops_no_other(self, file_store: tuple[Path, tuple[str, str]]) -> None:
        folder, (parent, child) = file_store
        next(folder.rglob(f"{child}/meta.yaml")).write_bytes(b"a: [\n")
        next(folder.rglob(f"{parent}/metrics/train/loss")).write_bytes(
            b"1 2\nrubbish\n\xff\xfe 3 4\n1700000000000 7 8\n"
        )

        runs = list(read_finished_runs(found(folder, "mlflow"), folder.parent))

        assert [type(run) for run in runs] == [UnreadableRun, FinishedRun]
        read_run = runs[1]
        assert isinstance(read_run, FinishedRun)
        assert (8, 7.0, 1_700_000_000_000) in read_run.history["train/loss"]
        assert any("damaged" in remark for remark in read_run.remarks)

    def test_artifacts_count_where_they_lie_in_the_scanned_folder(
        self, file_store: tuple[Path, tuple[str, str]]
    ) -> None:
        folder, (parent, _) = file_store
        place = next(folder.rglob(parent)) / "artifacts"
        (place / "weights").mkdir(parents=True, exist_ok=True)
        (place / "weights" / "best.pt").write_bytes(b"PK")
        moved = folder.parent / "umgezogen"
        folder.rename(moved)

        runs = read_all(moved)

        assert [runs[0].artifact_name(path) for path in runs[0].artifacts] == ["weights/best.pt"]

    def test_artifacts_elsewhere_are_left_there(self, file_store: tuple[Path, tuple[str, str]], tmp_path: Path) -> None:
        folder, (parent, _) = file_store
        outside = tmp_path / "etc" / parent
        outside.mkdir(parents=True)
        (outside / "passwd.txt").write_text("x", encoding="utf-8")
        meta = next(folder.rglob(f"{parent}/meta.yaml"))
        text = meta.read_text(encoding="utf-8")
        lines = [f"artifact_uri: {outside.as_uri()}" if x.startswith("artifact_uri") else x for x in text.splitlines()]
        meta.write_text("\n".join(lines), encoding="utf-8")
        shutil.rmtree(meta.parent / "artifacts", ignore_errors=True)

        run = read_all(folder)[0]

        assert run.artifacts == ()
        assert any("left where they are" in remark for remark in run.remarks)


def test_a_run_outside_of_the_scanned_folder_is_refused(tmp_path: Path) -> None:
    write_ultralytics(tmp_path / "outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "outside")

    for path in (Path("link"), Path("../outside")):
        with pytest.raises(InputError, match="leads out of"):
            list(read_finished_runs(FoundRun(path, "ultralytics", "x"), root))


def test_a_folder_that_has_gone_and_an_unknown_kind_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no longer there"):
        read(tmp_path / "gone", "ultralytics")
    with pytest.raises(NotFoundError, match="wandb"):
        read(tmp_path, "wandb")


def test_every_kind_of_the_scan_has_a_reader() -> None:
    from guardianflow.adapters.scan.findings import RUN_KINDS

    assert set(RUN_KINDS) <= set(RUN_FOLDERS)


def test_a_folder_of_very_many_files_keeps_the_important_ones(tmp_path: Path) -> None:
    folder = write_ultralytics(tmp_path / "train")
    for number in range(300):
        (folder / f"aaa{number}.jpg").write_bytes(b"x")

    kept, remarks = kept_files(folder)

    assert len(kept) == 200
    assert {"best.pt", "args.yaml", "results.csv"} <= {path.name for path in kept}
    assert any("left out" in remark for remark in remarks)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root can be refused no file")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    folder = write_ultralytics(tmp_path / "train")
    (folder / "results.csv").chmod(0)

    with pytest.raises(GuardianFlowError, match=r"results\.csv"):
        read(folder, "ultralytics")
