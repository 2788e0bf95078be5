"""Tables of metrics as people's trainings write them, whole and cut at any byte."""

from __future__ import annotations

import csv
import itertools
import math
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap.metrics.csv_files import TableReader, read_csv_metrics
from guardianflow.exceptions import InputError

OLD_ULTRALYTICS = (
    "                  epoch,         train/box_loss,       metrics/mAP50(B),                 lr/pg0\n"
    "                      0,                 1.2500,                 0.1250,                  0.001\n"
    "                      1,                 1.0000,                 0.2500,                  0.002\n"
)
NEW_ULTRALYTICS = "epoch,time,train/box_loss,metrics/mAP50(B),lr/pg0\n1,3.5,1.25,0.125,0.001\n2,7.0,1.0,0.25,0.002\n"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    return {name: [point[:2] for point in points] for name, points in read_csv_metrics(path).metrics.items()}


def test_ultralytics_epochs_stand_as_the_version_counts_them(tmp_path: Path) -> None:
    old = read_csv_metrics(write(tmp_path, "old/results.csv", OLD_ULTRALYTICS))
    new = read_csv_metrics(write(tmp_path, "new/results.csv", NEW_ULTRALYTICS))
    assert old.metrics["metrics/mAP50_B"] == [(0, 0.125, None), (1, 0.25, None)]
    assert new.metrics["metrics/mAP50_B"] == [(1, 0.125, None), (2, 0.25, None)]
    assert "time" not in new.metrics
    assert old.remarks == new.remarks == ()


def test_lightnings_sparse_rows_give_each_metric_its_own_steps(tmp_path: Path) -> None:
    text = "epoch,step,train_loss,val_loss\n0,9,0.5,\n0,9,,0.75\n1,19,0.25,\n1,19,,0.5\n"
    history = read_csv_metrics(write(tmp_path, "version_0/metrics.csv", text))
    assert [point[:2] for point in history.metrics["train_loss"]] == [(9, 0.5), (19, 0.25)]
    assert [point[:2] for point in history.metrics["val_loss"]] == [(9, 0.75), (19, 0.5)]
    assert [point[1] for point in history.metrics["epoch"]] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "step;loss;note\n1;0.5;a\n2;0.25;b\n",
        "step\tloss\tnote\n1\t0.5\ta\n2\t0.25\tb\n",
        '\ufeff"step","loss","note"\r\n1,0.5,"a, b"\r\n2,0.25,"two\r\nlines"\r\n',
        "# written by hand\nstep,loss,note\n1,0.5,\n\n2,0.25,x\n",
        "# step,loss\n1,0.5\n2,0.25\n",
        "step;loss\n1;0,5\n2;0,25\n",
        "step, loss , note\n1, 0.5 , a\nbroken line\n2, 0.25 , b",
        "Step,loss\n1.0,0.5\n2.0,0.25\nTraceback (most recent call last),9\n",
        "step,loss\n1,0.5\nstep,loss\n2,0.25\n",
    ],
)
def test_delimiters_quotes_marks_and_comments_are_understood(tmp_path: Path, text: str) -> None:
    assert curves(write(tmp_path, "표 a.csv", text)) == {"loss": [(1, 0.5), (2, 0.25)]}


def test_invalid_utf8_spoils_only_its_own_cell(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", b"step,loss,acc\n1,0.5,0.1\n2,\xff\xfe,0.2\n3,0.25,0.3\n")
    assert curves(path) == {"loss": [(1, 0.5), (3, 0.25)], "acc": [(1, 0.1), (2, 0.2), (3, 0.3)]}


def test_nan_and_infinity_are_values_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    points = curves(write(tmp_path, "log.csv", "step,loss\n1,nan\n2,\n3,inf\n4,-inf\n5,NA\n6,1_000\n"))["loss"]
    assert math.isnan(points[0][1])
    assert points[1:] == [(3, math.inf), (4, -math.inf)]


def test_a_step_that_starts_over_each_epoch_goes_on_counting(tmp_path: Path) -> None:
    text = "epoch,iter,loss\n1,10,1\n1,20,2\n2,10,3\n2,20,4\n3,10,5\n"
    assert curves(write(tmp_path, "a.csv", text))["loss"] == [(10, 1), (20, 2), (30, 3), (40, 4), (50, 5)]
    text = "epoch,step,loss\n0,0,1\n0,1,2\n1,0,3\n1,1,4\n"
    assert curves(write(tmp_path, "b.csv", text))["loss"] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    text = "epoch,iter,loss\n1,10,1\n2,10,2\n"
    assert curves(write(tmp_path, "c.csv", text))["loss"] == [(10, 1), (20, 2)]


def test_a_step_that_counts_through_all_epochs_stays(tmp_path: Path) -> None:
    text = "epoch,step,loss\n0,10,1\n1,10,2\n1,20,3\n"
    assert curves(write(tmp_path, "a.csv", text))["loss"] == [(10, 1), (10, 2), (20, 3)]
    text = "epoch,global_step,loss\n0,10,1\n1,5,2\n"
    assert curves(write(tmp_path, "b.csv", text))["loss"] == [(10, 1), (5, 2)]


def test_shares_of_an_epoch_are_no_steps(tmp_path: Path) -> None:
    assert curves(write(tmp_path, "a.csv", "epoch,loss\n0.1,1\n0.2,2\n0.3,3\n"))["loss"] == [(0, 1), (1, 2), (2, 3)]


def test_other_columns_below_a_second_header_are_read_by_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "epoch,loss\n1,0.5\nepoch,acc,loss\n2,0.9,0.4\n")
    assert curves(path) == {"loss": [(1, 0.5), (2, 0.4)], "acc": [(2, 0.9)]}


def remarks(path: Path) -> str:
    return "; ".join(read_csv_metrics(path).remarks)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("results.csv", NEW_ULTRALYTICS + "1,3.0,0.75,0.5,0.001\n", 4),
        ("results.csv", NEW_ULTRALYTICS + NEW_ULTRALYTICS[:-24].replace("1.25", "0.75"), 5),
        ("log.csv", "epoch,train/box_loss\n1,9\n2,9\n3,9\n1,8\n2,8\n1,0.75\n", 5),
        ("log.csv", "epoch,train/box_loss\n1,9\nepoch,acc,train/box_loss\n1,0.9,0.75\n", 4),
        ("metrics.csv", "step,epoch,train/box_loss\n9,0,9\n19,1,9\n9,0,0.75\n", 4),
        ("log.csv", "epoch,iter,train/box_loss\n1,10,9\n2,10,9\n1,10,0.75\n", 4),
        ("log.csv", "step,train/box_loss\n100,9\n200,9\n100,0.75\n", 4),
        ("log.csv", "epoch,train/box_loss\n0.5,9\n1.0,9\n0.5,0.75\n", 4),
    ],
)  # fmt: skip
def test_of_two_trainings_in_one_file_the_last_is_the_run(tmp_path: Path, name: str, text: str, line: int) -> None:
    path = write(tmp_path, name, text)
    assert [value for _, value in curves(path)["train/box_loss"]] == [0.75]
    assert f"starts over at line{'s' if text.count('1,8') else ''} {line}" in remarks(path)
    assert "the last one is the run" in remarks(path)


def test_epochs_that_a_resumed_training_had_twice_count_as_they_were_the_second_time(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "epoch,loss\n1,5\n2,4\n3,3\n4,2\n2,0.5\n3,0.25\n")
    assert curves(path) == {"loss": [(1, 5), (2, 0.5), (3, 0.25)]}  # epoch 4 was given up
    assert "the epoch goes back at line 6" in remarks(path)
    path = write(
        tmp_path, "b.csv", "epoch,iter,loss\n1,10,1\n1,20,2\n2,10,3\n2,20,4\n3,10,9\n2,10,30\n2,20,40\n3,10,5\n"
    )
    assert curves(path)["loss"] == [(10, 1), (20, 2), (30, 30), (40, 40), (50, 5)]


def test_steps_that_come_out_of_order_lose_no_point(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "step,loss\n1,5\n10,4\n8,3\n9,2\n11,1\n10,0.5\n12,0\n")
    assert curves(path)["loss"] == [(1, 5), (8, 3), (9, 2), (11, 1), (10, 0.5), (12, 0)]
    assert "the step goes back at lines 4, 7" in remarks(path)


def test_a_last_test_at_epoch_0_is_no_second_training(tmp_path: Path) -> None:
    path = write(tmp_path, "metrics.csv", "epoch,step,train_loss,test_acc\n0,9,0.5,\n1,19,0.25,\n0,0,,0.9\n")
    assert curves(path)["train_loss"] == [(9, 0.5), (19, 0.25)]
    assert curves(path)["test_acc"] == [(0, 0.9)]


def test_rows_whose_cells_are_not_the_headers_are_left_out_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "epoch,loss,acc\n1,0,43,0,81\n2,0.5,0.75\n3,0.4\n4,0,40,0,82\n5,0.3,0.")
    assert curves(path) == {"loss": [(2, 0.5), (5, 0.3)], "acc": [(2, 0.75), (5, 0)]}
    assert read_csv_metrics(path).remarks == (
        "2 × row with more cells than the header's 3 left out, perhaps for a decimal comma: lines 2, 5",
        "row with fewer cells than the header's 3 left out: line 4",
    )
    path = write(tmp_path, "b.csv", "epoch,loss,acc\n1,0.5,0.5\nTraceback,0,0\n2,0.2")
    assert curves(path) == {"loss": [(1, 0.5)], "acc": [(1, 0.5)]}
    assert "row without a number where the step should stand left out: line 3" in remarks(path)
    assert "last row, cut off, left out: line 4" in remarks(path)


def test_a_comma_at_the_end_of_header_or_rows_shifts_nothing(tmp_path: Path) -> None:
    for text in ("epoch,loss\n1,0.5,\n2,0.25,\n", "epoch,loss,\n1,0.5\n2,0.25\n"):
        assert read_csv_metrics(write(tmp_path, "a.csv", text)).remarks == ()
        assert curves(tmp_path / "a.csv") == {"loss": [(1, 0.5), (2, 0.25)]}


@pytest.mark.parametrize(
    "text", ["epoch;loss\n1,0;0,5\n2,0;1,234\n", "epoch\tloss\n1\t0,5\n2\t1,234\n", 'epoch,loss\n1,"0,5"\n2,"1,234"\n']
)
def test_decimal_commas_are_read_where_they_can_mean_nothing_else(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.csv", text)
    expected = [(1, 0.5), (2, 1.234)] if ";" in text else [(1, 0.5)]  # elsewhere 1,234 may be a thousand
    assert curves(path)["loss"] == expected


def test_columns_whose_legal_names_are_equal_stay_apart(tmp_path: Path) -> None:
    assert len(curves(write(tmp_path, "k.csv", "epoch,손실,정확도\n1,0.5,0.75\n"))) == 2
    path = write(tmp_path, "a.csv", "epoch,a(b),a_b\n1,0.5,0.75\n")
    assert curves(path) == {"a_b": [(1, 0.5)], "a_b_2": [(1, 0.75)]}


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{step},0.5,x\n" for step in range(2, 100))
    text = f'step,loss,note\n1,0.25,"never closed\n{rows}'
    assert [step for step, _ in curves(write(tmp_path, "a.csv", text))["loss"]] == list(range(1, 100))
    assert len(TableReader("a.csv").feed(text.encode())) == 99  # not only once the file is closed


def test_a_last_line_cut_in_a_number_is_not_trusted(tmp_path: Path) -> None:
    assert curves(write(tmp_path, "a.csv", "step,loss,acc\n1,0.5,0.5\n2,0.2"))["loss"] == [(1, 0.5)]
    assert curves(write(tmp_path, "a.csv", "step,loss,acc\n1,0.5,0.5\n2,0.25,1"))["loss"] == [(1, 0.5), (2, 0.25)]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("", "no figures"),
        ("step,loss\n", "no figures"),
        ("1,2,3\n4,5,6\n", "no header"),
        ("epoch\n1\n", "no column of figures"),
        (b"\xff\xfes\0t\0e\0p\0,\0l\0\n\0001\0,\0002\0\n\0", ""),
        (b"\0" * 100_000 + b"\n" + b"x" * 100_000, ""),
    ],
)
def test_what_is_no_table_of_metrics_gives_none_and_a_reason(tmp_path: Path, text: str | bytes, remark: str) -> None:
    history = read_csv_metrics(write(tmp_path, "a.csv", text))
    assert not history.metrics
    assert any(remark in item for item in history.remarks)


def test_what_cant_be_read_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("missing.csv", ".", "pipe.csv"):
        with pytest.raises(InputError, match="check the path"):
            read_csv_metrics(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "header", "taken"),
    [
        ("predictions.csv", "image,score", False),
        ("history.csv", "loss,acc", True),
        ("Training_Log.CSV", "loss,acc", True),
        ("scores.csv", "Epoch,score", True),
        ("scores.csv", "trainer/global_step,score", True),
    ],
)
def test_a_table_without_steps_is_taken_by_its_name_only(name: str, header: str, taken: bool) -> None:
    reader = TableReader(name)
    rows = reader.feed(f"{header}\n1,0.5\n2,0.25\n".encode())
    assert (len(rows) >= 2, not reader.refused) == (taken, taken)


def test_an_overlong_line_is_passed_over_in_bounded_memory() -> None:
    reader = TableReader("log.csv")
    rows = reader.feed(b"step,loss\n1,0.5\n")
    for _ in range(50):
        rows += reader.feed(b"9" * 10_000)
    assert len(reader._rest) < 100_000
    rows += reader.feed(b"\n2,0.25\n")
    assert [(row.step, row.value) for row in rows] == [(1, 0.5), (2, 0.25)]


CELLS = st.one_of(
    st.integers(-5, 10**6).map(str),
    st.floats().map(str),
    st.sampled_from(["", "nan", "a", '"', '"a,b"', '"a\nb"', "0,5", "é", "\ufeff", "step", "epoch", " 1 ", "\r", "#"]),
)
LINES = st.lists(CELLS, min_size=1, max_size=5).flatmap(
    lambda cells: st.sampled_from(",;\t").map(lambda d: d.join(cells))
)
TABLES = st.tuples(
    st.sampled_from(["", "\ufeff", "# a,b\n", "epoch,loss,acc\n", 'step;"lo;ss"\n', "step\tx\n", '"step","a\nb"\n']),
    st.lists(LINES, max_size=30),
    st.sampled_from(["\n", "\r\n"]),
).map(lambda parts: (parts[0] + parts[2].join(parts[1])).encode())


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(TABLES, st.binary(max_size=300)), cuts=st.lists(st.integers(0, 2000), max_size=40))
@example(data=OLD_ULTRALYTICS.encode(), cuts=list(range(0, 400, 3)))
@example(data=b'step,loss,note\n1,0.5,"a\n2,3,b\n' + b"3,1,c\n" * 30, cuts=list(range(200)))
def test_a_table_cut_at_any_bytes_gives_the_rows_of_the_whole(data: bytes, cuts: list[int]) -> None:
    whole, grown = TableReader("log.csv", named=True), TableReader("log.csv", named=True)
    expected = whole.feed(data) + whole.close()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    found = [row for start, end in itertools.pairwise(borders) for row in grown.feed(data[start:end])]
    assert repr(found + grown.close()) == repr(expected)
    assert (grown.refused, grown.remarks) == (whole.refused, whole.remarks)


NAMES = st.text("abcdefgh/_ ", min_size=1, max_size=8).map(str.strip).filter(bool)


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(NAMES, min_size=1, max_size=5, unique=True).filter(
        lambda names: not {"step", "date"} & set(names) and all(name.strip("_ /") for name in names)
    ),
    rows=st.lists(st.lists(st.floats(width=32), min_size=5, max_size=5), min_size=1, max_size=20),
    delimiter=st.sampled_from(",;\t"),
)
def test_what_the_csv_module_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], rows: list[list[float]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("t") / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["step", *names])
        writer.writerows([step, *row[: len(names)]] for step, row in enumerate(rows))
    history = read_csv_metrics(path)
    found = [[point[1] for point in points] for points in history.metrics.values()]
    assert repr(found) == repr([[row[column] for row in rows] for column in range(len(names))])
