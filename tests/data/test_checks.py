"""The check of a dataset: what it finds, what it counts, and when a run may start."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from guardianflow.data.dataset import check_dataset, read_dataset, require_usable
from guardianflow.data.images import probe_image
from guardianflow.data.report import KINDS
from guardianflow.exceptions import DatasetError, ParameterError
from tests.data.conftest import ROW, write_image
from tests.data.ultralytics_reader import rejects_images


def check(data_yaml: Path, **options):
    return check_dataset(read_dataset(data_yaml), **options)


def found(report) -> set[tuple[str, str]]:
    return {(problem.kind, problem.file) for problem in report.problems}


def test_a_good_dataset_has_counts_and_no_problems(make_dataset):
    report = check(make_dataset())
    assert report.problems == ()
    assert report.ok()
    assert report.splits["train"].to_dict() == {
        "images": 3, "labelled": 3, "background": 0, "bad": 0, "boxes": 3,
        "boxes_per_class": {"person": 3, "car": 0},
    }  # fmt: skip
    assert report.summary() == "6 images (train 3, val 3), 6 boxes; all of them usable"
    require_usable(report)


def test_truncated_image_is_bad_named_and_refused_with_the_next_step(make_dataset):
    data_yaml = make_dataset()
    image = data_yaml.parent / "images" / "val" / "val_1.jpg"
    image.write_bytes(image.read_bytes()[:-40])
    report = check(data_yaml)
    assert found(report) == {("corrupt-image", "images/val/val_1.jpg")}
    assert report.bad_images == (image.resolve(),)
    assert report.splits["val"].bad == 1
    with pytest.raises(DatasetError) as caught:
        require_usable(report)
    message = str(caught.value)
    assert "1 image of 6 (16.7 %) can't be used, the first is images/val/val_1.jpg: it can't be decoded" in message
    assert message.endswith("or leave them out with --allow-bad 16.7")
    assert "\n" not in message
    require_usable(report, allow_bad=16.7)
    assert check(data_yaml, allow_bad=20).ok()
    with pytest.raises(DatasetError, match="more than the 10 % allowed"):
        require_usable(report, allow_bad=10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", "it is no image, it starts with '<html>404</h'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "can't be decoded"),
        (b"GIF89a" + b"\0" * 64, "it is no image"),
    ],
)
def test_files_that_are_no_images_say_what_they_are(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    probed = probe_image(tmp_path / "a.jpg")
    assert probed.kind == "corrupt-image"
    assert message in probed.detail


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".jp2"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 1.0])
def test_truncation_is_seen_in_every_format_that_is_cut(tmp_path, suffix, kept):
    image = write_image(tmp_path / f"a{suffix}", seed=3, size=(120, 160))
    content = image.read_bytes()
    image.write_bytes(content[: int(len(content) * kept)])
    probed = probe_image(image)
    assert probed.kind == (None if kept == 1.0 else "corrupt-image"), probed.detail


def test_no_image_passes_that_ultralytics_drops(tmp_path):
    folder = tmp_path / "images"
    samples = [write_image(folder / f"good{suffix}", seed=1) for suffix in (".jpg", ".png", ".bmp", ".webp", ".tif")]
    samples.append(write_image(folder / "small.png", seed=2, size=(9, 40)))
    for name, content in (("empty.jpg", b""), ("text.png", b"hello"), ("half.png", samples[1].read_bytes()[:200])):
        (folder / name).write_bytes(content)
        samples.append(folder / name)
    gif = folder / "gif.jpg"
    from PIL import Image

    Image.new("RGB", (32, 32)).save(gif, format="GIF")
    samples.append(gif)
    ours = [probe_image(image).kind for image in samples]
    theirs = rejects_images(samples, config=tmp_path / "config")
    assert [bool(kind) for kind in ours] == [bool(why) for why in theirs] == [False] * 5 + [True] * 5


def test_a_jpeg_with_bytes_after_its_end_is_a_warning_because_ultralytics_rewrites_it(make_dataset, tmp_path):
    data_yaml = make_dataset()
    image = data_yaml.parent / "images" / "train" / "train_0.jpg"
    image.write_bytes(image.read_bytes() + b"camera trailer")
    before = image.read_bytes()
    report = check(data_yaml)
    assert found(report) == {("jpeg-tail", "images/train/train_0.jpg")}
    assert report.ok()
    assert image.read_bytes() == before
    assert rejects_images([image], config=tmp_path / "config") == [None]
    assert image.read_bytes() != before


def test_label_defects_make_their_image_bad_and_name_the_label_file(make_dataset):
    data_yaml = make_dataset()
    labels = data_yaml.parent / "labels" / "train"
    (labels / "train_0.txt").write_text("2 .5 .5 .1 .1\n")
    (labels / "train_1.txt").write_text(ROW + ROW)
    report = check(data_yaml)
    assert found(report) == {("class-id", "labels/train/train_0.txt"), ("duplicate-row", "labels/train/train_1.txt")}
    assert [image.name for image in report.bad_images] == ["train_0.jpg"]
    assert report.splits["train"].boxes == 2
    assert "warning: 1 label files with duplicate rows (first: labels/train/train_1.txt)" in report.summary()


def test_images_without_labels_are_background_and_labels_without_images_are_noted(make_dataset):
    data_yaml = make_dataset()
    labels = data_yaml.parent / "labels" / "train"
    (labels / "train_0.txt").rename(labels / "orphan.txt")
    (labels / "train_1.txt").write_text("")
    (labels / "classes.txt").write_text("person\ncar\n")
    report = check(data_yaml)
    assert found(report) == {("background", "images/train/train_0.jpg"), ("orphan-label", "labels/train/orphan.txt")}
    assert (report.splits["train"].labelled, report.splits["train"].background) == (1, 2)
    assert report.ok()


def test_a_label_of_another_split_in_the_same_folder_is_no_orphan(make_dataset):
    data_yaml = make_dataset(splits=("train",), yaml="train: images/train\nval: val.txt\nnames: [a]\n")
    (data_yaml.parent / "val.txt").write_text("images/train/train_0.jpg\n")
    assert found(check(data_yaml)) == {("leak", "images/train/train_0.jpg")}


def test_a_split_without_any_label_is_an_error_that_no_percentage_makes_good(make_dataset):
    data_yaml = make_dataset()
    (data_yaml.parent / "labels").rename(data_yaml.parent / "lables")
    report = check(data_yaml, allow_bad=100)
    assert not report.ok()
    message = (
        r"'train' has no box on its 3 usable images \(3 lack a label file\); "
        r"put the labels where they are looked for, .* labels/train/train_0.txt"
    )
    with pytest.raises(DatasetError, match=message):
        require_usable(report, allow_bad=100)


def test_empty_and_unnamed_splits_are_errors(make_dataset):
    data_yaml = make_dataset(splits=("train",), yaml="train: images/train\nval: images/val\nnames: [a]\n")
    (data_yaml.parent / "images" / "val").mkdir()
    with pytest.raises(DatasetError, match="the split 'val' has no images in images/val; put images there"):
        require_usable(check(data_yaml), allow_bad=100)
    with pytest.raises(DatasetError, match="the split 'test' is not named; add a line such as `test: images/test`"):
        require_usable(check(data_yaml, splits=("train", "test")))


def test_a_split_whose_images_are_all_bad_is_an_error_and_names_the_first(make_dataset):
    data_yaml = make_dataset()
    for label in (data_yaml.parent / "labels" / "val").iterdir():
        label.write_text("9 .5 .5 .1 .1")
    message = (
        r"none of the 3 images of the split 'val' can be used, the first is "
        r"labels/val/val_0.txt: line 1: class id 9 is beyond"
    )
    with pytest.raises(DatasetError, match=message):
        require_usable(check(data_yaml), allow_bad=100)


def test_the_same_image_in_two_splits_is_a_leak_and_twice_in_one_a_note(make_dataset):
    data_yaml = make_dataset()
    root = data_yaml.parent / "images"
    content = (root / "train" / "train_0.jpg").read_bytes()
    (root / "val" / "copy.jpg").write_bytes(content)
    (root / "train" / "again.jpg").write_bytes(content)
    report = check(data_yaml)
    assert {
        (problem.kind, problem.severity, problem.split) for problem in report.problems if "same image" in str(problem)
    } == {
        ("leak", "warning", "val"),
        ("duplicate-image", "note", "train"),
    }
    assert report.ok()


def with_rows(data_yaml: Path, rows: Sequence[str]) -> Path:
    """The dataset with these rows as the labels of its images, in turn."""
    for label, row in zip(sorted((data_yaml.parent / "labels").rglob("*.txt")), itertools.cycle(rows), strict=False):
        label.write_text(f"{row}\n")
    return data_yaml


def test_a_pose_dataset_without_kpt_shape_is_refused_however_loosely_its_points_lie(make_dataset):
    """Half of the box is filled: too little for one row alone, enough where all rows are like that."""
    loose = ["0 .5 .5 .2 .4 .45 .4 .55 .4 .5 .5 .5 .6", "1 .4 .5 .2 .4 .35 .4 .45 .4 .4 .5 .4 .6"]
    data_yaml = with_rows(make_dataset(), loose)
    report = check(data_yaml, allow_bad=100)
    assert [problem.kind for problem in report.fatal] == ["no-polygons"]
    with pytest.raises(DatasetError, match=r"each of the 6 rows of more than 5 columns has 13 .*`kpt_shape: \[4, 2\]`"):
        require_usable(report)
    with data_yaml.open("a") as stream:
        stream.write("kpt_shape: [4, 2]\n")
    report = check(data_yaml)
    assert report.ok()
    assert report.counts == {"keypoints": 6}
    assert report.splits["train"].boxes_per_class == {"person": 2, "car": 1}


def test_rows_that_may_be_boxes_with_two_numbers_behind_them_are_a_warning(make_dataset):
    unsure = with_rows(make_dataset("unsure"), ["0 .5 .5 .2 .4 .91 .83", "1 .4 .6 .2 .2 .77 .95"])
    (problem,) = check(unsure).of_severity("warning")
    assert problem.kind == "box-or-polygon"
    assert "each of the 6 rows of more than 5 columns has 7 and is read as a polygon" in str(problem)
    outlines = ["0 .5 .5 .2 .4 .91 .83", "1 .4 .6 .5 .7 .4 .8 .3 .7"]  # of several lengths, as outlines are
    assert check(with_rows(make_dataset("outlines"), outlines)).counts == {"polygons": 6}


def test_images_that_share_a_label_file_are_named(make_dataset):
    data_yaml = make_dataset()
    write_image(data_yaml.parent / "images" / "train" / "train_0.png", seed=77)
    assert found(check(data_yaml)) == {("shared-label", "images/train/train_0.png")}


def test_images_listed_and_missing_are_bad(make_dataset):
    data_yaml = make_dataset(yaml="train: train.txt\nval: images/val\nnames: [a]\n")
    (data_yaml.parent / "train.txt").write_text("images/train/train_0.jpg\nimages/train/gone.jpg\n")
    report = check(data_yaml, allow_bad=50)
    assert ("missing-image", "images/train/gone.jpg") in found(report)
    assert [image.name for image in report.bad_images] == ["gone.jpg"]


def test_a_link_out_of_the_dataset_is_shown(make_dataset, tmp_path):
    data_yaml = make_dataset()
    secret = write_image(tmp_path / "private" / "x.jpg", seed=5)
    (data_yaml.parent / "images" / "train" / "link.jpg").symlink_to(secret)
    (data_yaml.parent / "labels" / "train" / "link.txt").write_text(ROW)
    report = check(data_yaml)
    assert found(report) == {("outside-root", "images/train/link.jpg")}


def test_an_undecodable_file_name_is_bad_and_the_report_still_json(make_dataset):
    data_yaml = make_dataset()
    folder = os.fsencode(data_yaml.parent / "images" / "train")
    os.rename(folder + b"/train_0.jpg", folder + b"/\xff\x1b[31m.jpg")  # noqa: PTH104 - a name of bytes
    report = check(data_yaml)
    assert "file-name" in report.counts
    text = json.dumps(report.to_dict(), ensure_ascii=False)
    assert text.encode("utf-8")
    assert "\x1b" not in report.summary()
    assert "\x1b" not in report._repr_html_()


def test_report_is_capped_plain_data_and_escaped_html(make_dataset):
    data_yaml = make_dataset(images=8, yaml="train: images/train\nval: images/val\nnames: ['<script>', b]\n")
    for label in (data_yaml.parent / "labels" / "train").iterdir():
        label.write_text("<script> .5 .5 .1 .1")
    shown = check(data_yaml).to_dict(limit=3)
    assert len(shown["problems"]) == len(shown["bad_images"]) == 3
    assert (shown["problems_total"], shown["bad_images_total"], shown["ok"]) == (9, 8, False)
    assert json.loads(json.dumps(shown)) == shown
    page = check(data_yaml)._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


@pytest.mark.parametrize("percent", [-1, 101, float("nan"), "5", True])
def test_allow_bad_is_a_percentage(make_dataset, percent):
    with pytest.raises(ParameterError, match="allow_bad must be a percentage from 0 to 100"):
        check(make_dataset(), allow_bad=percent)


def test_progress_reaches_the_number_of_images_and_order_does_not_depend_on_threads(make_dataset):
    data_yaml = make_dataset(images=40)
    for name in ("train_7.jpg", "train_31.jpg"):
        (data_yaml.parent / "images" / "train" / name).write_bytes(b"x")
    seen = []
    one = check(data_yaml, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (80, 80)
    assert one == check(data_yaml, workers=4)


def test_notes_of_the_data_yaml_reach_the_report(make_dataset):
    report = check(make_dataset(yaml="train: images/train\nval: images/val\ntest: images/test\nnames: [a]\n"))
    assert [problem.kind for problem in report.problems] == ["passed-over"]
    assert report.ok()


def test_every_kind_has_a_severity_and_a_description():
    assert {severity for severity, _ in KINDS.values()} == {"error", "warning", "note"}


def test_images_of_every_bit_depth_and_colour_that_cameras_write_pass(tmp_path):
    rng = np.random.default_rng(0)
    for name, pixels in (
        ("grey.png", rng.integers(0, 255, (40, 40), dtype=np.uint8)),
        ("deep.png", rng.integers(0, 65535, (40, 40), dtype=np.uint16)),
        ("alpha.png", rng.integers(0, 255, (40, 40, 4), dtype=np.uint8)),
        ("grey.jpg", rng.integers(0, 255, (40, 40), dtype=np.uint8)),
    ):
        assert cv2.imwrite(str(tmp_path / name), pixels)
        assert probe_image(tmp_path / name).kind is None


def test_the_real_photographs_pass_quickly(bccd):
    dataset = read_dataset(bccd)
    started = time.perf_counter()
    report = check_dataset(dataset, splits=("train", "val", "test"))
    seconds = time.perf_counter() - started
    assert report.ok()
    assert {split: counts.images for split, counts in report.splits.items()} == {"train": 205, "val": 87, "test": 72}
    assert sum(counts.boxes for counts in report.splits.values()) == 4886
    assert report.bad_images == ()
    assert seconds < 10  # 0.7 s on two idle cores


def test_damage_to_real_photographs_is_found_file_by_file(bccd_copy):
    root = bccd_copy.parent
    images = sorted((root / "images" / "train").iterdir())
    images[3].write_bytes(images[3].read_bytes()[:5000])
    (root / "labels" / "train" / f"{images[5].stem}.txt").write_text("3 .5 .5 .1 .1\n")
    (root / "images" / "val" / "stolen.jpg").write_bytes(images[9].read_bytes())
    report = check(bccd_copy)
    assert set(report.bad_images) == {images[3].resolve(), images[5].resolve()}
    assert report.counts == {"corrupt-image": 1, "class-id": 1, "leak": 1, "background": 1}
    assert report.bad_percent == pytest.approx(100 * 2 / 293)
