"""Lists and folders of images: every line and file is an image, or is named and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardianflow.data.dataset import check_dataset, read_dataset
from guardianflow.exceptions import DatasetError
from tests.data.conftest import write_image


@pytest.fixture
def listed(make_dataset):
    """A dataset whose train split is train.txt; returns the list."""
    return make_dataset(yaml="train: train.txt\nval: images/val\nnames: [a]\n").parent / "train.txt"


def report_of(listing: Path, content: str | bytes):
    listing.write_bytes(content if isinstance(content, bytes) else content.encode())
    return check_dataset(read_dataset(listing.with_name("data.yaml")))


def remarks(report) -> list[tuple[str, str, str]]:
    return [(problem.kind, problem.severity, problem.file) for problem in report.problems]


def test_lines_that_name_no_image_are_counted_with_their_number_and_the_next_step(listed):
    folder = listed.parent / "images" / "train"
    (folder / "train_1.jpg").rename(folder / "train_1.jfif")
    (folder / "clip.mp4").write_bytes(b"\0")
    (folder / "plain").write_bytes(b"\0")
    names = ["train_0.jpg", "train_1.jfif", "train_2.jpg", "clip.mp4", "plain"]
    report = report_of(listed, "".join(f"images/train/{name}\n" for name in names))
    assert report.splits["train"].images == 2
    assert report.ok()
    unread = [problem for problem in report.problems if problem.kind == "unread-line"]
    assert [(problem.severity, problem.file) for problem in unread] == [
        ("warning", "train.txt:2"), ("warning", "train.txt:4"), ("warning", "train.txt:5"),
    ]  # fmt: skip
    assert unread[0].detail == (
        "'images/train/train_1.jfif' is left out: training doesn't read .jfif; it is a JPEG, rename it to .jpg"
    )
    assert "training doesn't read .mp4; convert it" in unread[1].detail
    assert "without an ending" in unread[2].detail
    assert "warning: 3 lines of image lists that name no image (first: train.txt:2)" in report.summary()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/train/train_1", "line 2 of .*train.txt names no image file: 'images/train/train_1'; write the path"),
        ("images/train/train_1.jpg 0 0.5 0.5 0.1 0.1", r"line 2 .* 0.1'; write the path of one image a line"),
        ("images/train/train_1.jpg 10,20,30,40,0", "line 2 .*; write the path of one image a line"),
        ("images/train/train_1.jpg,", "line 2 .*; write the path of one image a line"),
        ("filename", "line 2 .* names no image file: 'filename'"),
        ("images/train", "line 2 .* 'images/train'; a folder is named in the data.yaml"),
        ("https://example.org/a.jpg", "line 2 .* 'https://example.org/a.jpg'; fetch the image"),
        ('"../../secret.jpg"', r"line 2 .* leads out of the dataset \(../../secret.jpg\)"),
        ("../../secret.jpg", "line 2 .* leads out of the dataset .*; write the absolute path"),
    ],
)
def test_lines_that_cant_be_told_are_refused_before_anything_starts(listed, line, message):
    listed.write_text(f"images/train/train_0.jpg\n{line}\n")
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(listed.with_name("data.yaml"))
    assert caught.value.exit_code == 2


def test_lists_in_utf_16_are_refused_with_how_to_save_them(listed):
    for encoding, message in (("utf-16", "is not UTF-8"), ("utf-16-le", "line 1 of .* holds a zero byte; save")):
        listed.write_bytes("images/train/train_0.jpg\n".encode(encoding))
        with pytest.raises(DatasetError, match=message):
            read_dataset(listed.with_name("data.yaml"))


def test_quotes_backslashes_and_the_home_folder_are_read_and_counted(listed, monkeypatch):
    monkeypatch.setenv("HOME", str(listed.parent))
    lines = ['"images/train/train_0.jpg"', "images\\train\\train_1.jpg", "'~/images/train/train_2.jpg'"]
    report = report_of(listed, "\r\n".join(lines))
    assert report.splits["train"].labelled == 3
    assert remarks(report) == [("line-spelling", "note", f"train.txt:{number}") for number in (1, 2, 3)]
    assert report.problems[1].detail == r"'images\\train\\train_1.jpg' is read as images/train/train_1.jpg".replace(
        r"\\", "\\"
    )


def test_a_file_whose_name_has_quotes_or_a_hash_is_taken_as_it_is_called(listed):
    names = ("'0'.jpg", "#1.jpg", "a\\b.jpg")
    for seed, name in enumerate(names):
        write_image(listed.parent / name, seed=100 + seed)
    report = report_of(listed, "\n".join(names))
    assert {kind for kind, *_ in remarks(report)} == {"background", "no-labels"}
    assert report.splits["train"].images == 3


def test_comments_are_left_out_and_counted_and_blank_lines_are_nothing(listed):
    report = report_of(listed, "# the good ones\n\n  \nimages/train/train_0.jpg\n# images/train/train_1.jpg\n")
    assert remarks(report) == [("comment-line", "note", "train.txt:1"), ("comment-line", "note", "train.txt:5")]
    assert report.splits["train"].images == 1


def test_images_named_again_are_counted_over_the_whole_split(make_dataset):
    data_yaml = make_dataset(yaml="train: [images/train, train.txt]\nval: images/val\nnames: [a]\n")
    report = report_of(data_yaml.with_name("train.txt"), "images/train/train_0.jpg\nimages/train/../train/train_0.jpg")
    assert remarks(report) == [("named-again", "note", "")]
    assert str(report.problems[0]) == "2 of the 5 names in the split 'train' repeat an image; each counts once"


def test_endings_in_capitals_are_images_and_a_missing_one_is_bad(listed):
    folder = listed.parent / "images" / "train"
    (folder / "train_0.jpg").rename(folder / "train_0.JPG")
    report = report_of(listed, "images/train/train_0.JPG\nimages/train/gone.JPEG\n")
    assert report.splits["train"].images == 2
    assert [image.name for image in report.bad_images] == ["gone.JPEG"]


def test_files_in_a_folder_that_training_doesnt_read_are_counted_and_companions_are_not(make_dataset):
    data_yaml = make_dataset()
    folder = data_yaml.parent / "images" / "train"
    for name in ("b.jfif", "c.gif", "d.MOV", "e", ".hidden.jpg", "._train_0.jpg", "Thumbs.db", "f.xml", "g.txt"):
        (folder / name).write_bytes(b"x")
    (folder / ".old").mkdir()
    report = check_dataset(read_dataset(data_yaml))
    assert {problem.file.removeprefix("images/train/") for problem in report.problems} == {
        "b.jfif", "c.gif", "d.MOV", "e", ".hidden.jpg", ".old",
    }  # fmt: skip
    assert report.counts == {"unread-file": 6}
    detail = {problem.file: problem.detail for problem in report.problems}
    assert detail["images/train/b.jfif"] == "training doesn't read .jfif; it is a JPEG, rename it to .jpg"
    assert "rename the file to use it" in detail["images/train/.hidden.jpg"]
    assert report.splits["train"].images == 3
    assert report.ok()
