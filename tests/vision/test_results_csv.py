"""The table of a training whose epochs no callback saw."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from guardianflow.vision.training.epochs import EpochReport
from guardianflow.vision.training.results_csv import follow_results, read_results
from tests.trainings import Trained

HEAD = (
    "epoch,time,train/box_loss,metrics/precision(B),metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),"
    "val/box_loss,lr/pg0\n"
)


def row(epoch: int, clock: float, map50: float = 0.5) -> str:
    return f"{epoch},{clock},1.5,0.8,0.4,{map50},0.25,1.75,0.001\n"


def test_a_row_becomes_a_report_under_the_catalogues_names(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 10.0) + row(2, 17.5))
    first, second = read_results(path, 30)
    assert first.metrics == {
        "precision": 0.8, "recall": 0.4, "map50": 0.5, "map50_95": 0.25, "f1": pytest.approx(0.64 / 1.2),
    }  # fmt: skip
    assert first.losses == {"train/box_loss": 1.5, "val/box_loss": 1.75}
    assert first.learning_rates == {"lr/pg0": 0.001}
    assert (first.seconds, second.seconds) == (10.0, 7.5)
    assert (second.epoch, second.epochs, second.images_per_s) == (2, 30, None)
    assert "train_images_per_s" not in second.to_dict()


def test_the_clock_that_a_resumed_training_starts_again_gives_no_negative_seconds(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 100.0) + row(2, 8.0) + row(3, 15.0))
    assert [report.seconds for report in read_results(path, 3)] == [100.0, 8.0, 7.0]


def test_an_epoch_trained_twice_counts_as_it_was_the_last_time(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 10.0) + row(2, 20.0, map50=0.1) + row(2, 5.0, map50=0.9))
    assert [(report.epoch, report.metrics["map50"]) for report in read_results(path, 2)] == [(1, 0.5), (2, 0.9)]


def test_of_two_trainings_in_one_table_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    first = HEAD + "".join(row(epoch, 10.0 * epoch, map50=0.1) for epoch in (1, 2, 3))
    path.write_text(first + row(1, 4.0) + row(2, 8.0))
    assert [(report.epoch, report.metrics["map50"], report.seconds) for report in read_results(path, 3)] == [
        (1, 0.5, 4.0),
        (2, 0.5, 4.0),
    ]
    path.write_text(first + row(2, 5.0))  # resumed after the first epoch; the third was given up
    assert [(report.epoch, report.metrics["map50"]) for report in read_results(path, 3)] == [(1, 0.1), (2, 0.5)]


def test_rows_are_read_by_the_header_above_them_and_shifted_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + "1,3,0,1.5,0.8,0.4,0.5,0.25,1.75,0.001\n2,1.5\n" + "metrics/mAP50(B),epoch\n0.75,1\n")
    assert [(report.epoch, report.metrics) for report in read_results(path, 3)] == [(1, {"map50": 0.75})]


def test_a_row_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 10.0) + "2,20.0,1.")
    assert [report.epoch for report in read_results(path, 2)] == [1]
    path.write_text(HEAD + row(1, 10.0) + "rubbish\n" + ",,,\n" + row(3, 30.0))
    assert [report.epoch for report in read_results(path, 3)] == [1, 3]
    assert read_results(tmp_path / "none.csv", 3) == []


def test_the_table_agrees_with_what_the_callbacks_said(trained: Trained) -> None:
    reports = read_results(trained.result.best.parent.parent / "results.csv", 2)
    assert [report.epoch for report in reports] == [1, 2]
    for report, told in zip(reports, trained.result.history, strict=True):
        for name, value in {**report.metrics, **report.losses, **report.learning_rates}.items():
            assert value == pytest.approx(told[name], rel=1e-3, abs=1e-5), name


def test_each_new_row_is_told_once_while_another_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guardianflow.vision.training.results_csv.POLL_S", 0.02)
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 1.0) + row(2, 2.0))
    told: list[int] = []
    with follow_results(path, 5, lambda report: told.append(report.epoch), after=1):
        deadline = time.monotonic() + 5
        while told != [2] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == [2]
        with path.open("a") as file:
            file.write(row(3, 3.0))
    assert told == [2, 3]


def test_what_the_listener_raises_ends_the_block(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(HEAD + row(1, 1.0) + row(2, 2.0))
    calls: list[int] = []

    def refuse(report: EpochReport) -> None:
        calls.append(report.epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), follow_results(path, 5, refuse):
        pass
    assert calls == [1]
