"""Datasets with links in them: labels are those of the path as written, in the check and in what Ultralytics reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from guardianflow.data.dataset import check_dataset, fingerprint_dataset, read_dataset, write_resolved_yaml
from guardianflow.exceptions import DatasetError
from tests.data.conftest import ROW, write_dataset
from tests.data.ultralytics_reader import read_datasets

FOREIGN = "1 0.1 0.1 0.1 0.1\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder with labels of its own and a link to the images of another dataset, whose labels say something else."""
    store = write_dataset(tmp_path / "store").parent
    for label in (store / "labels").rglob("*.txt"):
        label.write_text(FOREIGN)
    folder = tmp_path / "mine"
    shutil.copytree(store / "labels", folder / "labels")
    for label in (folder / "labels").rglob("*.txt"):
        label.write_text(ROW)
    (folder / "images").symlink_to(store / "images")
    return folder


def rows_of_train(data_yaml: Path) -> set[str]:
    dataset = read_dataset(data_yaml)
    return {dataset.label_path(image).read_text() for image in dataset.images("train")}


FORMS = {
    "relative": ("mine", "train: images/train\nval: images/val\n"),
    "absolute": ("mine", "train: {mine}/images/train\nval: {mine}/images/val\n"),
    "root above": ("mine", "path: ..\ntrain: mine/images/train\nval: mine/images/val\n"),
    "linked root": ("shortcut", "train: images/train\nval: images/val\n"),
    "path through a link": ("store", "path: ../shortcut\ntrain: images/train\nval: images/val\n"),
    "list": ("mine", "train: train.txt\nval: images/val\n"),
}


def test_labels_of_a_linked_folder_lie_beside_the_link_for_us_and_for_ultralytics(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(mine)
    (tmp_path / "store" / "images" / "train" / "loop").symlink_to(tmp_path / "store" / "images" / "train")
    (mine / "train.txt").write_text("images/train/train_0.jpg\nimages/train/train_1.jpg\nimages/train/train_2.jpg\n")
    expected, requests = [], []
    for form, (folder, entries) in FORMS.items():
        data_yaml = tmp_path / folder / f"{form}.yaml"
        data_yaml.write_text(f"{entries.format(mine=mine)}names: [person, car]\n")
        assert rows_of_train(data_yaml) == {ROW}, form
        dataset = read_dataset(data_yaml)
        report = check_dataset(dataset)
        assert report.ok()
        assert report.splits["train"].boxes_per_class == {"person": 3, "car": 0}, form
        remark = next(str(problem) for problem in report.problems if problem.kind == "linked-folder")
        assert f"it leads to {tmp_path}/store/images/" in remark
        assert "its labels are looked for along the path as written, in " in remark
        requests.append((write_resolved_yaml(dataset, tmp_path / "run" / form / "data.yaml"), tmp_path))
        expected.append([str(dataset.label_path(image)) for image in dataset.images("train")])
    answers = read_datasets(requests, config=tmp_path / "config")
    assert [answer["splits"]["train"][1] for answer in answers] == expected
    assert [len(labels) for labels in expected] == [3] * len(FORMS)  # a link back up gives no image twice


def test_a_link_to_a_folder_inside_the_dataset_and_linked_images_keep_their_labels(mine: Path, tmp_path: Path) -> None:
    (mine / "images").unlink()
    shutil.copytree(tmp_path / "store" / "images", mine / "all" / "images")
    shutil.copytree(tmp_path / "store" / "labels", mine / "all" / "labels")  # the foreign ones
    (mine / "images").mkdir()
    (mine / "images" / "train").symlink_to(Path("../all/images/train"))
    (mine / "images" / "val").mkdir()
    for index in range(3):
        (mine / "images" / "val" / f"val_{index}.jpg").symlink_to(mine / "all" / "images" / "val" / f"val_{index}.jpg")
    (mine / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [person, car]\n")
    assert rows_of_train(mine / "data.yaml") == {ROW}
    report = check_dataset(read_dataset(mine / "data.yaml"))
    assert [(problem.kind, problem.file) for problem in report.problems] == [("linked-folder", "images/train")]
    assert report.splits["val"].boxes_per_class == {"person": 3, "car": 0}


def test_a_dataset_reached_through_a_link_is_the_same_data_without_a_word(tmp_path: Path) -> None:
    data_yaml = write_dataset(tmp_path / "store")
    (tmp_path / "images").mkdir()
    shortcut = tmp_path / "images" / "site"  # labels are sought below the last folder called images, not this one
    shortcut.symlink_to(data_yaml.parent)
    through = read_dataset(shortcut / "data.yaml")
    assert check_dataset(through).problems == ()
    assert fingerprint_dataset(through) == fingerprint_dataset(read_dataset(data_yaml))


def test_a_linked_root_whose_target_lies_below_a_folder_called_images(tmp_path: Path) -> None:
    """Beside the images, as there is no folder called images on the way; in the target's path there is one."""
    root = tmp_path / "images" / "site42"
    write_dataset(root)
    for split in ("train", "val"):
        shutil.copytree(root / "images" / split, root / split)
        shutil.copytree(root / "labels" / split, tmp_path / "labels" / "site42" / split)
        for label in (tmp_path / "labels" / "site42" / split).iterdir():
            label.write_text(FOREIGN)
        for label in (root / "labels" / split).iterdir():
            shutil.copy(label, root / split)
    (root / "data.yaml").write_text("train: train\nval: val\nnames: [person, car]\n")
    (tmp_path / "site").symlink_to(root)
    assert rows_of_train(tmp_path / "site" / "data.yaml") == {ROW}


def test_dots_behind_a_link_lead_where_the_system_takes_them(mine: Path, tmp_path: Path) -> None:
    (mine / "deep" / "er").mkdir(parents=True)
    shutil.copytree(tmp_path / "store" / "images", mine / "deep" / "images")
    shutil.copytree(mine / "labels", mine / "deep" / "labels")
    (mine / "link").symlink_to(mine / "deep" / "er")
    (mine / "data.yaml").write_text("train: link/../images/train\nval: link/../images/val\nnames: [person, car]\n")
    dataset = read_dataset(mine / "data.yaml")
    assert dataset.splits["train"] == (mine / "deep" / "images" / "train",)
    assert rows_of_train(mine / "data.yaml") == {ROW}
    (mine / "link").unlink()
    (mine / "link").symlink_to(tmp_path / "store" / "labels")
    with pytest.raises(DatasetError, match=r"leads out of the dataset's root"):
        read_dataset(mine / "data.yaml")


def test_relative_lines_of_a_linked_list_are_looked_for_beside_the_link(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / "train.txt").write_text("images/train/train_0.jpg\n")
    (mine / "train.txt").symlink_to(tmp_path / "store" / "train.txt")
    (mine / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [person, car]\n")
    assert rows_of_train(mine / "data.yaml") == {ROW}
    problems = check_dataset(read_dataset(mine / "data.yaml")).problems
    assert any("its lines are looked for along the path as written" in problem.detail for problem in problems)


def test_without_labels_beside_the_link_it_says_where_they_were_looked_for(mine: Path) -> None:
    shutil.rmtree(mine / "labels")
    (mine / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [person, car]\n")
    report = check_dataset(read_dataset(mine / "data.yaml"))
    assert "put the labels where they are looked for, the first at labels/train/train_0.txt" in str(report.fatal[0])
