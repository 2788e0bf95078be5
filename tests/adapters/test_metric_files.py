"""What a folder's metric files gain while a script runs: found, read as they grow, each point once."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.tensorboard import SummaryWriter

from guardianflow.adapters.wrap.metrics.files import GrowingFiles
from guardianflow.adapters.wrap.metrics.measurement import Measurement
from guardianflow.exceptions import InputError


def watch(root: Path, *, since: float | None = None, **options: object) -> GrowingFiles:
    return GrowingFiles(root, since=time.time() if since is None else since, **options)


def poll(files: GrowingFiles) -> list[Measurement]:
    """A poll that walks, as the first one after five seconds does."""
    files._next_walk = 0.0
    return files.poll()


def rest(files: GrowingFiles) -> list[Measurement]:
    return [found for batch in files.close() for found in batch]


def points(measurements: Iterable[Measurement]) -> list[tuple[str, int | None, float]]:
    return [(item.name, item.step, item.value) for item in measurements]


def append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def age(path: Path, seconds: float = 100) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


class CSVLogger:
    """Writes as Lightning's does: the whole table again at each save, with new columns as they come up."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.csv"
        self.rows: list[dict[str, float]] = []

    def log(self, **row: float) -> None:
        self.rows.append(row)

    def save(self) -> None:
        names: dict[str, None] = {}
        for row in self.rows:
            names.update(dict.fromkeys(row))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=sorted(names))
            writer.writeheader()
            writer.writerows(self.rows)


def test_a_table_that_another_process_writes_is_handed_out_row_by_row(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        with open("results.csv", "w") as file:
            file.write("epoch,time,train/box_loss,metrics/mAP50(B)\\n")
            for epoch in range(1, 41):
                for piece in (f"{epoch},", f"{epoch * 2.5},{1 / epoch}", f",{epoch / 100}", "\\n"):
                    file.write(piece); file.flush(); time.sleep(0.005)
        """
    )
    files = watch(tmp_path)
    found: list[Measurement] = []
    polls = 0
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as process:
        while process.poll() is None:
            fresh = poll(files)
            polls += bool(fresh)
            found += fresh
            time.sleep(0.01)
    found += rest(files)
    assert points(found) == [
        point
        for epoch in range(1, 41)
        for point in (("train/box_loss", epoch, 1 / epoch), ("metrics/mAP50_B", epoch, epoch / 100))
    ]
    assert polls > 1


def test_what_a_second_training_in_the_same_file_gives_is_told_apart(tmp_path: Path) -> None:
    files = watch(tmp_path)
    append(tmp_path / "log.csv", "epoch,loss\n1,9\n2,9\n1,5\n2,4\n")
    assert points(poll(files)) == [("loss", 1, 5), ("loss", 2, 4)]  # the first was over before anything was handed out
    assert files.started_over() == set()
    append(tmp_path / "log.csv", "1,0.5\n1,2,3\n")
    assert points(poll(files)) == [("loss", 1, 0.5)]
    assert files.started_over() == {"loss"}
    assert files.remarks == (
        "log.csv: 3 trainings stand in it, the epoch starts over at lines 4, 6: the last one is the run",
        "log.csv: row with more cells than the header's 2 left out, perhaps for a decimal comma: line 7",
    )


def test_a_training_that_stood_there_before_is_no_first_one_of_the_scripts(tmp_path: Path) -> None:
    append(tmp_path / "log.csv", "epoch,loss\n1,9\n2,9\n")
    age(tmp_path / "log.csv")
    files = watch(tmp_path)
    append(tmp_path / "log.csv", "1,0.5\n")
    assert points(poll(files) + rest(files)) == [("loss", 1, 0.5)]
    assert files.started_over() == set()


def test_a_partial_last_line_waits_and_close_takes_it_if_it_is_whole(tmp_path: Path) -> None:
    files = watch(tmp_path)
    append(tmp_path / "a.csv", "step,loss\n1,0.5\n2,0.2")
    assert points(poll(files)) == [("loss", 1, 0.5)]
    append(tmp_path / "a.csv", "5\n3,0.125")
    assert points(poll(files)) == [("loss", 2, 0.25)]
    assert points(rest(files)) == [("loss", 3, 0.125)]


def test_lightnings_rewritten_table_repeats_nothing_when_it_gains_rows_and_columns(tmp_path: Path) -> None:
    files, logger = watch(tmp_path), CSVLogger(tmp_path / "lightning_logs" / "version_0")
    found = []
    for epoch in range(5):
        logger.log(epoch=epoch, step=epoch * 10 + 9, train_loss=1 / (epoch + 1))
        logger.save()
        found += poll(files)
        if epoch >= 2:  # a column that comes up late changes the header and every row
            logger.log(epoch=epoch, step=epoch * 10 + 9, val_loss=2 / (epoch + 1), acc=math.nan)
            logger.save()
            found += poll(files)
    found += rest(files)
    assert [point for point in points(found) if point[0] == "train_loss"] == [
        ("train_loss", epoch * 10 + 9, 1 / (epoch + 1)) for epoch in range(5)
    ]
    assert [point for point in points(found) if point[0] == "val_loss"] == [
        ("val_loss", epoch * 10 + 9, 2 / (epoch + 1)) for epoch in range(2, 5)
    ]
    assert [item.step for item in found if item.name == "acc"] == [29, 39, 49]


def test_lightnings_table_seen_half_written_repeats_nothing(tmp_path: Path) -> None:
    files, logger = watch(tmp_path), CSVLogger(tmp_path)
    for step in range(50):
        logger.log(step=step, loss=step / 100)
    logger.save()
    found = poll(files)
    whole = logger.path.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole)):
        logger.path.write_bytes(whole[:size])
        found += poll(files)
    found += rest(files)
    assert points(found) == [("loss", step, step / 100) for step in range(50)]


def test_a_replaced_file_gives_only_what_changed(tmp_path: Path) -> None:
    path, other = tmp_path / "log.csv", tmp_path / "log.csv.tmp"
    files = watch(tmp_path)
    path.write_text("step,loss,acc\n1,0.5,0.1\n2,0.25,nan\n")
    assert len(poll(files)) == 4
    other.write_text("step,loss,acc\n1,0.5,0.2\n2,0.25,nan\n3,0.125,0.3\n")
    other.replace(path)
    assert points(poll(files)) == [("acc", 1, 0.2), ("loss", 3, 0.125), ("acc", 3, 0.3)]
    path.write_text("step,loss,acc\n1,9,0.2\n")
    assert points(poll(files)) == [("loss", 1, 9)]


def test_a_header_that_changes_names_its_own_columns(tmp_path: Path) -> None:
    files = watch(tmp_path)
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n")
    found = poll(files)
    (tmp_path / "log.csv").write_text("step,acc,loss\n1,0.9,0.5\n2,0.95,0.25\n")
    found += poll(files)
    assert points(found) == [("loss", 1, 0.5), ("acc", 1, 0.9), ("acc", 2, 0.95), ("loss", 2, 0.25)]


def test_of_a_file_that_was_there_only_appended_rows_count(tmp_path: Path) -> None:
    for name in ("steps.csv", "history.csv", "still.csv"):
        (tmp_path / name).write_text({"history.csv": "loss\n0.5\n0.25\n"}.get(name, "step,loss\n1,0.5\n2,0.25\n"))
        age(tmp_path / name)
    files = watch(tmp_path)
    assert poll(files) == []
    append(tmp_path / "history.csv", "0.125\n")
    append(tmp_path / "steps.csv", "3,0.125\n")
    found = poll(files) + poll(files)
    assert sorted(points(found)) == [("loss", 2, 0.125), ("steps/loss", 3, 0.125)]


def test_a_file_that_was_there_and_is_written_anew_is_this_runs(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("epoch,lr/pg0,loss\n1,0.1,0.5\n2,0.1,0.25\n")
    age(path)
    files = watch(tmp_path)
    path.write_text("epoch,lr/pg0,loss\n1,0.1,0.75\n2,0.1,0.25\n3,0.1,0.125\n")
    assert {point for point in points(poll(files)) if point[0] == "loss"} == {
        ("loss", 1, 0.75), ("loss", 2, 0.25), ("loss", 3, 0.125)
    }  # fmt: skip


def test_a_file_brought_in_with_an_old_date_is_no_metric_of_this_run(tmp_path: Path) -> None:
    files = watch(tmp_path)
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n")
    age(tmp_path / "log.csv")
    assert poll(files) == []


def test_two_tables_with_the_same_columns_are_kept_apart(tmp_path: Path) -> None:
    files = watch(tmp_path)
    text = "epoch,lr/pg0,metrics/mAP50(B)\n1,0.1,0.5\n"
    for folder in ("runs/a", "runs/b", "other/b", "runs/실험 1"):
        append(tmp_path / folder / "results.csv", text)
    append(tmp_path / "c" / "train.csv", "epoch,loss\n1,0.5\n")
    append(tmp_path / "c" / "val.csv", "epoch,loss,only_here\n1,0.25,1\n")
    names = {item.name for item in poll(files)}
    maps = {name.removesuffix("metrics/mAP50_B") for name in names if name.endswith("metrics/mAP50_B")}
    assert maps >= {"", "a/", "b/"}
    assert len(maps) == 4  # letters that MLflow doesn't take leave a trace of six signs
    assert {"loss", "val/loss", "val/only_here"} <= names


def test_events_of_torch_are_handed_out_as_they_are_written(tmp_path: Path) -> None:
    files = watch(tmp_path)
    found = []
    with SummaryWriter(str(tmp_path / "runs" / "exp")) as writer:
        for step in range(5):
            writer.add_scalar("loss/train", step / 2, step)
            writer.flush()
            fresh = poll(files)
            assert len(fresh) == 1
            found += fresh
    found += rest(files)
    assert points(found) == [("loss/train", step, step / 2) for step in range(5)]
    assert files.remarks == ()


def test_event_folders_are_kept_apart_and_a_tables_name_is_the_tables(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    files = watch(tmp_path)
    append(tmp_path / "version_0" / "metrics.csv", "step,loss\n1,0.5\n")
    for folder in ("version_0", "x/one", "x/two"):
        with SummaryWriter(str(tmp_path / folder)) as writer:
            writer.add_scalar("loss", 0.5, 1)
            writer.add_scalar("acc", 0.25, 1)
    found = points(poll(files) + rest(files))
    assert sorted(found) == [
        ("acc", 1, 0.25), ("loss", 1, 0.5), ("one/acc", 1, 0.25), ("one/loss", 1, 0.5), ("two/acc", 1, 0.25),
        ("two/loss", 1, 0.5),
    ]  # fmt: skip


def test_a_damaged_event_file_keeps_what_came_before_and_says_where(tmp_path: Path) -> None:
    files = watch(tmp_path)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 0.5, 1)
    path = next(tmp_path.glob("events*"))
    with path.open("ab") as file:
        file.write(b"\xff" * 64)
    assert points(poll(files) + rest(files)) == [("loss", 1, 0.5)]
    assert any("byte" in remark and path.name in remark for remark in files.remarks)


def test_without_tensorboard_one_remark_names_the_extra(tmp_path: Path) -> None:
    for name in "ab":
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("loss", 0.5, 1)
    append(tmp_path / "log.csv", "step,acc\n1,0.5\n")
    code = textwrap.dedent(
        f"""
        import sys; sys.modules["tensorboard"] = None
        from pathlib import Path
        from guardianflow.adapters.wrap.metrics.files import GrowingFiles
        files = GrowingFiles(Path({str(tmp_path)!r}), since=0)
        assert [item.name for item in files.poll() + files.poll() + sum(files.close(), [])] == ["acc"]
        assert len(files.remarks) == 1 and "guardianflow[tensorboard]" in files.remarks[0], files.remarks
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_of_predictions_is_no_metric_unless_a_pattern_names_it(tmp_path: Path) -> None:
    text = "image,score\n" + "".join(f"{number}.jpg,{number / 10}\n" for number in range(10))
    append(tmp_path / "out" / "predictions.csv", text)
    append(tmp_path / "out" / "scores.txt", "loss\n0.5\n")
    assert rest(watch(tmp_path, since=0)) == []
    found = rest(watch(tmp_path, since=0, patterns=["out/*.txt", "pred*.csv"]))
    assert len(found) == 11
    for pattern in ("/etc/*.csv", "../x.csv", ""):
        with pytest.raises(InputError, match="inside the working folder"):
            watch(tmp_path, patterns=[pattern])


def test_a_million_predictions_cost_next_to_nothing(tmp_path: Path) -> None:
    with (tmp_path / "predictions.csv").open("w") as file:
        file.write("image,score\n" + "000001.jpg,0.123456\n" * 1_000_000)
    files = watch(tmp_path, since=0)
    began = time.process_time()
    assert poll(files) + rest(files) == []
    assert time.process_time() - began < 0.5
    assert files.remarks == ()


def test_at_most_fifty_files_are_watched_and_the_rest_is_said(tmp_path: Path) -> None:
    for number in range(60):
        append(tmp_path / f"{number:02}" / "log.csv", f"step,loss{number}\n1,0.5\n")
    files = watch(tmp_path, since=0)
    assert len(rest(files)) == 50
    assert any("10 more" in remark for remark in files.remarks)


def test_of_very_many_rows_at_the_end_each_is_read_piece_by_piece(tmp_path: Path) -> None:
    with (tmp_path / "log.csv").open("w") as file:
        file.write("step,loss,note\n" + "".join(f"{step},0.5,{'x' * 40}\n" for step in range(10_000)))
    batches = [batch for batch in watch(tmp_path, since=0).close() if batch]
    assert len(batches) > 1
    assert [item.step for batch in batches for item in batch] == list(range(10_000))


def test_links_pipes_hidden_folders_and_environments_are_passed_by(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    append(outside / "log.csv", "step,secret\n1,0.5\n")
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "log.csv").symlink_to(outside / "log.csv")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "metrics.csv")
    for folder in (".git", ".venv/x", "node_modules/y", "a/site-packages", "__pycache__"):
        append(root / folder / "log.csv", "step,hidden\n1,0.5\n")
    append(root / "한글 폴더" / "log.csv", "step,loss\n1,0.5\n")
    (root / "deep").joinpath(*"123456789").mkdir(parents=True)
    append(root.joinpath("deep", *"123456789") / "log.csv", "step,deep\n1,0.5\n")
    assert points(rest(watch(root, since=0))) == [("loss", 1, 0.5)]


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    append(tmp_path / "outside.csv", "step,loss\n1,0.5\n2,0.125\n")
    root = tmp_path / "root"
    append(root / "log.csv", "step,loss\n1,0.5\n")
    files = watch(root, since=0)
    assert len(poll(files)) == 1
    (root / "log.csv").unlink()
    (root / "log.csv").symlink_to(tmp_path / "outside.csv")
    assert poll(files) + rest(files) == []


def test_a_folder_that_vanishes_and_comes_back_crashes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    append(root / "log.csv", "step,loss\n1,0.5\n")
    files = watch(root, since=0)
    assert len(poll(files)) == 1
    shutil.rmtree(root)
    assert poll(files) == []
    append(root / "log.csv", "step,loss\n1,0.5\n2,0.25\n")
    assert points(poll(files)) == [("loss", 2, 0.25)]
    shutil.rmtree(root)
    assert rest(files) == []


def test_a_folder_of_very_many_entries_is_not_walked_whole(tmp_path: Path) -> None:
    many = tmp_path / "a_pictures"
    many.mkdir()
    for number in range(4_050):
        (many / f"{number}.jpg").touch()
    append(tmp_path / "runs" / "x" / "log.csv", "step,loss\n1,0.5\n")
    files = watch(tmp_path, since=0)
    assert len(rest(files)) == 1
    assert any("too large" in remark for remark in files.remarks)


def test_a_poll_of_files_that_did_not_change_reads_none(tmp_path: Path) -> None:
    for number in range(50):
        append(tmp_path / f"{number:02}" / "log.csv", f"step,loss{number}\n1,0.5\n")
    files = watch(tmp_path, since=0)
    assert len(files.poll()) == 50
    opened: list[object] = []
    sys.addaudithook(lambda event, args: opened.append(args) if event == "open" and "log.csv" in str(args) else None)
    began = time.process_time()
    for _ in range(20):
        assert files.poll() == []
    assert opened == []
    assert (time.process_time() - began) / 20 < 0.02


ROWS = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from(["", "nan", "0.5", "-1", "inf", "x"]), st.floats(width=16).map(str)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 1000), rewritten=st.booleans())
def test_a_file_grown_at_any_bytes_gives_the_points_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]], seed: int, rewritten: bool
) -> None:
    data = ("step,loss,acc\n" + "".join(f"{number},{row[1]},{row[2]}\n" for number, row in enumerate(rows))).encode()
    root, chance = tmp_path_factory.mktemp("grown"), random.Random(seed)
    (root / "whole").mkdir()
    (root / "whole" / "a.csv").write_bytes(data)
    expected = rest(watch(root / "whole", since=0))
    files, found, size = watch(root / "whole", since=0), [], 0
    path = root / "whole" / "a.csv"
    path.write_bytes(b"")
    while size < len(data):
        size = min(len(data), size + chance.randint(1, 40))
        if rewritten:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        with path.open("wb" if rewritten else "ab") as file:
            file.write(data[:size] if rewritten else data[path.stat().st_size : size])
        found += poll(files)
    found += rest(files)
    assert repr(points(found)) == repr(points(expected))


def test_a_copy_in_a_folder_that_is_skipped_is_no_second_source(tmp_path: Path) -> None:
    for folder in ("runs/a", "guardianflow-work/artifacts/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "results.csv").write_text("epoch,loss\n1,0.5\n")
    files = GrowingFiles(tmp_path, since=0, skip=[tmp_path / "guardianflow-work"])
    assert [(found.name, found.value) for found in rest(files)] == [("loss", 0.5)]
