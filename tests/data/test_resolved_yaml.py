"""The data.yaml written for Ultralytics: read by the real one, from any folder, with the same images."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from guardianflow.data.dataset import check_dataset, read_dataset, write_resolved_yaml
from guardianflow.exceptions import DatasetError
from tests.data.ultralytics_reader import read_datasets


def expected(dataset, exclude=()):
    return {
        split: [
            [str(image) for image in dataset.images(split) if image not in exclude],
            [str(dataset.label_path(image)) for image in dataset.images(split) if image not in exclude],
        ]
        for split in dataset.splits
    }


def test_ultralytics_reads_the_same_images_and_labels_from_any_current_folder(make_dataset, tmp_path):
    data_yaml = make_dataset(
        splits=("train", "val", "test", "b[1] &"),
        yaml="train: [images/train, 'images/b[1] &']\nval: val.txt\ntest: images/test\nnames: ['a: b', '#1']\n",
    )
    (data_yaml.parent / "val.txt").write_text("images/val/val_1.jpg\n./images/val/val_0.jpg\n")
    dataset = read_dataset(data_yaml)
    bad = dataset.images("test")[:1]
    whole = write_resolved_yaml(dataset, tmp_path / "실행 run" / "data.yaml")
    less = write_resolved_yaml(dataset, tmp_path / "run2" / "less.yaml", exclude=bad)
    decoy = tmp_path / "decoy"
    (decoy / "images" / "val").mkdir(parents=True)
    answers = read_datasets([(whole, decoy), (whole, data_yaml.parent), (less, Path("/"))], config=tmp_path / "config")
    assert answers[0] == answers[1]
    assert answers[0]["names"] == ["a: b", "#1"]
    assert answers[0]["splits"] == expected(dataset)
    assert answers[2]["splits"] == expected(dataset, bad)
    assert len(answers[2]["splits"]["test"][0]) == 2


def test_reading_it_back_gives_the_same_images_and_facts(make_dataset, tmp_path):
    entries = "train: images/train\nval: images/val\nnames: [사람, car]\nchannels: 1\nkpt_shape: [4, 2]\n"
    dataset = read_dataset(make_dataset(yaml=entries))
    again = read_dataset(write_resolved_yaml(dataset, tmp_path / "run" / "data.yaml"))
    assert (again.root, again.names, again.channels, again.keypoints) == (
        dataset.root, ("사람", "car"), 1, (4, 2),
    )  # fmt: skip
    assert [again.images(split) for split in again.splits] == [dataset.images(split) for split in ("train", "val")]


def test_what_is_left_out_is_in_no_list_and_a_test_split_without_images_is_not_written(make_dataset, tmp_path):
    data_yaml = make_dataset(yaml="train: images/train\nval: images/val\ntest: images/test\nnames: [a]\n")
    (data_yaml.parent / "images" / "test").mkdir()
    dataset = read_dataset(data_yaml)
    excluded = dataset.images("val")[1]
    again = read_dataset(write_resolved_yaml(dataset, tmp_path / "run.yaml", exclude=[excluded]))
    assert list(again.splits) == ["train", "val"]
    assert again.images("train") == dataset.images("train")
    assert excluded not in again.images("val")
    assert len(again.images("val")) == 2


def test_bad_images_of_a_check_are_left_out_and_the_rest_is_good(make_dataset, tmp_path):
    data_yaml = make_dataset()
    for split in ("train", "val"):
        (data_yaml.parent / "images" / split / f"{split}_0.jpg").write_bytes(b"broken")
    dataset = read_dataset(data_yaml)
    report = check_dataset(dataset, allow_bad=50)
    again = read_dataset(write_resolved_yaml(dataset, tmp_path / "run.yaml", exclude=report.bad_images))
    assert check_dataset(again).ok(allow_bad=0)
    assert check_dataset(again).images == 4


def test_leaving_out_everything_is_refused(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset())
    with pytest.raises(DatasetError, match=r"no image of the split 'val' .* is left after leaving out 3"):
        write_resolved_yaml(dataset, tmp_path / "run.yaml", exclude=dataset.images("val"))


def test_names_that_a_list_cannot_hold_are_refused_unless_left_out(make_dataset, tmp_path):
    data_yaml = make_dataset()
    folder = data_yaml.parent / "images" / "train"
    (folder / "train_0.jpg").rename(folder / "two\nlines.jpg")
    dataset = read_dataset(data_yaml)
    with pytest.raises(DatasetError, match=r"two\\nlines.jpg' holds control characters"):
        write_resolved_yaml(dataset, tmp_path / "run.yaml", exclude=[folder.resolve() / "train_1.jpg"])
    report = check_dataset(dataset, allow_bad=50)
    assert (
        len(read_dataset(write_resolved_yaml(dataset, tmp_path / "r.yaml", exclude=report.bad_images)).images("train"))
        == 2
    )


def test_written_whole_with_the_rights_of_an_ordinary_file_and_nothing_beside_it(make_dataset, tmp_path):
    target = tmp_path / "run" / "data.yaml"
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    for _ in range(2):
        assert write_resolved_yaml(read_dataset(make_dataset()), target) == target
    written = {item.name for item in target.parent.iterdir()}
    assert written == {"data.yaml", "data-train.txt", "data-val.txt"}
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_ultralytics_reads_the_real_photographs_as_we_do(bccd, tmp_path):
    dataset = read_dataset(bccd)
    target = write_resolved_yaml(dataset, tmp_path / "run" / "data.yaml")
    (answer,) = read_datasets([(target, tmp_path)], config=tmp_path / "config")
    assert answer["splits"] == expected(dataset)
    assert answer["names"] == ["RBC", "WBC", "Platelets"]
