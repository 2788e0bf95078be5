"""The fingerprint: the same for the same content wherever it lies, another after any change."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from guardianflow.data.dataset import check_dataset, fingerprint_dataset, read_dataset, write_resolved_yaml
from tests.data.conftest import ROW, write_image


def fingerprint(data_yaml: Path):
    return fingerprint_dataset(read_dataset(data_yaml))


def test_is_a_sha256_for_the_whole_and_for_each_split(make_dataset):
    result = fingerprint(make_dataset())
    assert set(result.splits) == {"train", "val"}
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in (result.total, *result.splits.values()))
    assert str(result) == result.total
    assert pickle.loads(pickle.dumps(result)) == result


def test_does_not_depend_on_place_time_threads_current_folder_or_order_of_entries(make_dataset, tmp_path, monkeypatch):
    data_yaml = make_dataset()
    first = fingerprint(data_yaml)
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(data_yaml.parent, moved)
    os.utime(moved / "images" / "train" / "train_0.jpg", (1, 1))
    (moved / "data.yaml").write_text("val: images/val\nnames: {1: car, 0: person}\ntrain: images/train\n")
    monkeypatch.chdir(moved)
    assert fingerprint(Path("data.yaml")) == first
    assert fingerprint_dataset(read_dataset("data.yaml"), workers=1) == first


def test_folder_and_list_of_the_same_images_are_the_same_data(make_dataset):
    data_yaml = make_dataset()
    first = fingerprint(data_yaml)
    (data_yaml.parent / "t.txt").write_text("".join(f"images/train/train_{i}.jpg\n" for i in (2, 0, 1)))
    data_yaml.write_text("train: t.txt\nval: images/val\nnames: [person, car]\n")
    assert fingerprint(data_yaml) == first


def test_resolved_yaml_of_everything_is_the_same_data_and_of_less_another(make_dataset, tmp_path):
    data_yaml = make_dataset()
    dataset = read_dataset(data_yaml)
    assert fingerprint(write_resolved_yaml(dataset, tmp_path / "a" / "data.yaml")) == fingerprint(data_yaml)
    less = write_resolved_yaml(dataset, tmp_path / "b" / "data.yaml", exclude=dataset.images("train")[:1])
    changed = fingerprint(less)
    assert changed.total != fingerprint(data_yaml).total
    assert changed.splits["val"] == fingerprint(data_yaml).splits["val"]


def test_korean_names_in_either_unicode_form_are_the_same_data(tmp_path):
    results = []
    for form in ("NFC", "NFD"):
        root = tmp_path / form
        name = unicodedata.normalize(form, "현장")
        write_image(root / "images" / f"{name}.png", seed=1)
        (root / "labels").mkdir()
        (root / "labels" / f"{name}.txt").write_text(ROW)
        class_name = unicodedata.normalize(form, "사람")
        (root / "data.yaml").write_text(f"train: images\nnames: [{class_name}]\n", encoding="utf-8")
        results.append(fingerprint(root / "data.yaml"))
    assert results[0] == results[1]


def _flip_a_byte(root: Path) -> None:
    image = root / "images" / "train" / "train_1.jpg"
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "change",
    [
        _flip_a_byte,
        lambda root: (root / "labels" / "train" / "train_0.txt").write_text(ROW + "1 .5 .5 .1 .1\n"),
        lambda root: (root / "labels" / "train" / "train_0.txt").unlink(),
        lambda root: (root / "images" / "train" / "train_0.jpg").rename(root / "images" / "train" / "x.jpg"),
        lambda root: (root / "images" / "train" / "train_0.jpg").unlink(),
        lambda root: shutil.copy(root / "images" / "train" / "train_0.jpg", root / "images" / "train" / "x.jpg"),
        lambda root: (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [person, bus]\n"),
        lambda root: (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [car, person]\n"),
        lambda root: (root / "data.yaml").write_text("train: images/val\nval: images/train\nnames: [person, car]\n"),
    ],
    ids=["image byte", "label", "label gone", "renamed", "image gone", "image more", "name", "name order", "swap"],
)
def test_any_change_of_content_changes_it(make_dataset, change):
    data_yaml = make_dataset()
    before = fingerprint(data_yaml)
    change(data_yaml.parent)
    after = fingerprint(data_yaml)
    assert after.total != before.total
    assert after.splits["train"] != before.splits["train"]


def test_labels_swapped_between_two_images_change_it(make_dataset):
    data_yaml = make_dataset()
    labels = data_yaml.parent / "labels" / "train"
    (labels / "train_0.txt").write_text("1 .5 .5 .1 .1\n")
    before = fingerprint(data_yaml).total
    (labels / "train_0.txt").write_text(ROW)
    (labels / "train_1.txt").write_text("1 .5 .5 .1 .1\n")
    assert fingerprint(data_yaml).total != before


def test_images_outside_the_root_do_not_depend_on_where_they_lie(make_dataset, tmp_path):
    results = []
    for name in ("one", "two"):
        images = make_dataset(name=name).parent / "images" / "train"
        data_yaml = tmp_path / f"cfg-{name}" / "data.yaml"
        data_yaml.parent.mkdir()
        data_yaml.write_text(f"train: {images}\nnames: [a]\n")
        results.append(fingerprint(data_yaml))
    assert results[0] == results[1]


def test_real_photographs_keep_their_fingerprint_when_copied(bccd, bccd_copy):
    assert fingerprint(bccd) == fingerprint(bccd_copy)


def test_kpt_shape_changes_it_for_the_same_rows_are_other_boxes_then(make_dataset):
    plain = read_dataset(make_dataset("plain"))
    pose = make_dataset("pose")
    with pose.open("a") as stream:
        stream.write("kpt_shape: [4, 2]\n")
    assert fingerprint_dataset(read_dataset(pose)) != fingerprint_dataset(plain)


def test_an_image_that_has_not_changed_is_read_once_by_all_processes_of_a_run(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    from guardianflow.data import images as known

    dataset = read_dataset(make_dataset())
    image = dataset.images("train")[0]
    for each in (*dataset.images("train"), *dataset.images("val")):
        os.utime(each, (1e9, 1e9))  # long ago: no further write can hide in the same tick of the clock
    assert check_dataset(dataset).bad_images == ()
    whole = fingerprint_dataset(dataset).total
    content = image.read_bytes()
    image.write_bytes(b"\0" * len(content))
    os.utime(image, (1e9, 1e9))  # as if it had not been touched: it is not opened
    assert check_dataset(dataset).bad_images == ()
    assert fingerprint_dataset(dataset).total == whole
    known.hand_over(tmp_path / "seen.json")
    script = (
        "import sys; from pathlib import Path; from guardianflow.data.images import probe_image, take_over\n"
        "take_over(Path(sys.argv[1])); print(probe_image(Path(sys.argv[2])).kind)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "seen.json"), str(image)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "None\n"
    os.utime(image, (1e9 + 1, 1e9 + 1))
    assert check_dataset(dataset).bad_images == (image,)
    assert fingerprint_dataset(dataset).total != whole
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "corrupt-image\n"
    known.take_over(tmp_path / "nothing.json")
    (tmp_path / "broken.json").write_text('{"a": 3}')
    known.take_over(tmp_path / "broken.json")
