"""Reading a data.yaml: which folders and names it means, and every way in which it is refused."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest

from guardianflow.data.dataset import read_dataset
from guardianflow.exceptions import DatasetError


def test_reads_folders_names_and_root_of_a_path_with_blanks_and_korean_letters(make_dataset):
    data_yaml = make_dataset(splits=("train", "val", "test"))
    dataset = read_dataset(data_yaml)
    root = data_yaml.parent.resolve()
    assert dataset.names == ("person", "car")
    assert dataset.root == root
    assert dict(dataset.splits) == {name: (root / "images" / name,) for name in ("train", "val", "test")}
    assert [image.name for image in dataset.images("val")] == ["val_0.jpg", "val_1.jpg", "val_2.jpg"]
    assert dataset.label_path(dataset.images("val")[0]) == root / "labels" / "val" / "val_0.txt"


def test_entries_start_from_the_yaml_and_not_from_the_current_folder(make_dataset, tmp_path, monkeypatch):
    data_yaml = make_dataset()
    decoy = tmp_path / "elsewhere"
    (decoy / "images" / "train").mkdir(parents=True)
    monkeypatch.chdir(decoy)
    assert read_dataset(os.path.relpath(data_yaml)).images("train")[0].is_relative_to(data_yaml.parent.resolve())


def test_a_dataset_travels_to_a_worker_process(make_dataset):
    dataset = read_dataset(make_dataset())
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_path_may_lead_anywhere_relative_or_absolute(make_dataset, tmp_path):
    data_yaml = make_dataset()
    other = tmp_path / "configs"
    other.mkdir()
    for value in ("../현장 site", str(data_yaml.parent)):
        (other / "data.yaml").write_text(f"path: {value}\ntrain: images/train\nnames: [a]\n", encoding="utf-8")
        assert len(read_dataset(other / "data.yaml").images("train")) == 3


def test_split_may_be_lists_of_folders_and_text_files_and_counts_an_image_once(make_dataset):
    data_yaml = make_dataset(
        splits=("train", "val", "more"),
        yaml="train: [images/train, images/more, part.txt]\nvalidation: images/val\nnames: {0: a, 1: b}\n",
    )
    (data_yaml.parent / "part.txt").write_text("images/val/val_0.jpg\n./images/train/train_1.jpg\n\n")
    dataset = read_dataset(data_yaml)
    assert [image.name for image in dataset.images("train")] == [
        "more_0.jpg", "more_1.jpg", "more_2.jpg", "train_0.jpg", "train_1.jpg", "train_2.jpg", "val_0.jpg",
    ]  # fmt: skip
    assert len(dataset.images("val")) == 3


def test_list_lines_are_looked_for_beside_the_list_then_from_the_root(make_dataset):
    data_yaml = make_dataset(yaml="train: lists/train.txt\nval: images/val\nnames: [a]\n")
    lists = data_yaml.parent / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("images/train/train_0.jpg\n../images/train/train_1.jpg\n", encoding="utf-8-sig")
    images = read_dataset(data_yaml).images("train")
    assert [image.name for image in images] == ["train_0.jpg", "train_1.jpg"]
    assert all(image.is_file() for image in images)


def test_roboflow_form_of_a_path_that_climbs_is_read_as_meant(make_dataset):
    data_yaml = make_dataset(yaml="train: ../images/train\nval: ../images/val\ntest: ../images/test\nnames: [a]\n")
    dataset = read_dataset(data_yaml)
    assert len(dataset.images("train")) == 3
    assert "test" not in dataset.splits
    assert "images/test" in dataset.notes[0]


def test_hidden_files_and_other_endings_are_no_images_and_a_link_to_a_folder_above_ends(make_dataset):
    data_yaml = make_dataset(suffix=".PNG".lower())
    folder = data_yaml.parent / "images" / "train"
    (folder / "._train_0.png").write_bytes(b"mac")
    (folder / "Thumbs.db").write_bytes(b"win")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "x.JPG").write_bytes(b"")
    (folder / "deep" / "loop").symlink_to(folder)
    assert [image.name for image in read_dataset(data_yaml).images("train")] == [
        "x.JPG", "train_0.png", "train_1.png", "train_2.png",
    ]  # fmt: skip


def test_names_come_from_nc_alone_as_in_ultralytics(make_dataset):
    assert read_dataset(make_dataset(yaml="train: images/train\nnc: '3'\n")).names == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: {1: b, 0: a}", ("a", "b")),
        ("names: {'0': a, '1': b}", ("a", "b")),
        ("names: [사람, 車]\nnc: 2", ("사람", "車")),
        ("names: ['1', 'yes']\nnc: 2.0", ("1", "yes")),
    ],
)
def test_names_are_read_in_the_order_of_their_ids(make_dataset, names, expected):
    assert read_dataset(make_dataset(yaml=f"train: images/train\n{names}\n")).names == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "has no `names:`; add the class names"),
        ("names: []", "`names:` of .* is empty"),
        ("names: person", "must be a list or an {id: name} mapping"),
        ("names: [1, 2]", r"class name 0 of .* is 1 \(int\), not text; put it in quotes"),
        ("names: [yes, no]", r"is True \(bool\), not text"),
        ("names: [2024-01-02]", r"\(date\), not text"),
        ("names: [a, '  ']", "class name 1 .* must have 1 to 200 visible characters"),
        (r'names: [a, "b\u202e"]', r"visible characters, it is 'b\\u202e'"),
        (r'names: ["a\nb"]', "visible characters"),
        ("names: {0: a, 2: b}", "has 2 names and no id 1"),
        ("names: {1: a, 2: b}", "has 2 names and no id 0"),
        ("names: {-1: a, 0: b}", "has 2 names and no id 1"),
        ("names: {0: a, '0': b}", "must map each class id once"),
        ("names: {true: a, 0: b}", "must map each class id once"),
        ("names: {x: a}", "must map each class id once, .* it has the id 'x'"),
        ("names: [car, car]", "gives 'car' to the ids 0 and 1"),
        ("names: [a, b]\nnc: 3", "`nc: 3` of .* disagrees with its 2 `names:`"),
        ("names: [a]\nnc: many", "`nc:` of .* must be a whole number"),
        ("names: [a]\nnc: .nan", "`nc:` of .* must be a whole number"),
        ("names: [a]\nnc: 1.5", "`nc:` of .* must be a whole number"),
        ("nc: 1000000000000", "`nc:` of .* must be a whole number from 1 to 100000"),
        ("names: [a]\nchannels: RGB", "`channels:` of .* must be a whole number"),
        ("names: [a]\nkpt_shape: 17", "`kpt_shape:` of .* it is 17; write for example `kpt_shape: .17, 3.`"),
        ("names: [a]\nkpt_shape: [17, 4]", "`kpt_shape:` of .* must be how many keypoints a row has"),
        ("names: [a]\nkpt_shape: [0, 2]", "`kpt_shape:` of .* must be how many keypoints a row has"),
        ("names: [a]\nkpt_shape: [true, 2]", "`kpt_shape:` of .* must be how many keypoints a row has"),
    ],
)
def test_names_that_do_not_fit_are_refused(make_dataset, names, message):
    with pytest.raises(DatasetError, match=message):
        read_dataset(make_dataset(yaml=f"train: images/train\n{names}\n"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("", "names no images; add lines such as `train: images/train`"),
        ("train: 7", "must be a folder, a .txt list or a list of these, it holds 7"),
        ("train: [images/train, [x]]", "must be a folder"),
        ('train: "images\\0"', "must be a folder"),
        ("train: images/trian", "names .*images/trian, which doesn't exist; did you mean .*images/train[?]"),
        ("train: images/train\nval: nowhere.txt", "nowhere.txt, which doesn't exist; check the path"),
        ("train: data.yaml", "is neither a folder nor a .txt list"),
        ("train: ../other/images", "leads out of the dataset's root .*; set `path:`"),
        ("train: images/../../other/images", "leads out of the dataset's root"),
        ("train: ../../etc", "leads out of the dataset's root"),
        ("train: link/../images/train", "leads out of the dataset's root .*; set `path:`"),
        ("train: bad.txt", "line 2 of .*bad.txt leads out of the dataset .*secret.jpg.*; write the absolute path"),
        ("train: cp949.txt", "the image list .*cp949.txt is not UTF-8"),
        ("path: no/where\ntrain: images/train", "leads to .*no/where, which is no folder; write `path: .`"),
        ("path: [a]\ntrain: images/train", "`path:` of .* must be the folder"),
        ("path: images\ntrain: images/train", "it lies beside the data.yaml, so write `path: .`"),
        (f"train: {'x' * 300}", "which doesn't exist"),
        ("download: https://example.org/x.zip\ntrain: images/train", "`download:` entry, which would run code"),
    ],
)
def test_entries_that_lead_nowhere_or_out_are_refused_with_the_next_step(make_dataset, tmp_path, entries, message):
    data_yaml = make_dataset(yaml=f"{entries}\nnames: [a, b]\n")
    outside = tmp_path / "other"
    (outside / "images").mkdir(parents=True)
    (data_yaml.parent / "link").symlink_to(outside)
    (data_yaml.parent / "bad.txt").write_text("images/train/train_0.jpg\n../secret.jpg\n")
    (data_yaml.parent / "cp949.txt").write_bytes("images/현장.jpg".encode("cp949"))
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(data_yaml)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_roboflow_form_is_refused_where_two_folders_could_be_meant(make_dataset, tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    with pytest.raises(DatasetError, match="leads out of the dataset's root"):
        read_dataset(make_dataset(yaml="train: ../images/train\nnames: [a]\n"))


def test_an_absolute_entry_outside_the_root_is_taken_as_it_stands(make_dataset, tmp_path):
    images = make_dataset(name="store").parent / "images" / "train"
    (tmp_path / "data.yaml").write_text(f"train: '{images}'\nnames: [a]\n", encoding="utf-8")
    assert len(read_dataset(tmp_path / "data.yaml").images("train")) == 3


def test_missing_and_mistyped_files_are_named_with_the_nearest_one(make_dataset, tmp_path):
    data_yaml = make_dataset()
    with pytest.raises(DatasetError, match=r"no data.yaml at .*date.yaml; did you mean .*data.yaml\?"):
        read_dataset(data_yaml.with_name("date.yaml"))
    with pytest.raises(DatasetError, match=r"is a folder, not a data.yaml; pass .*data.yaml"):
        read_dataset(data_yaml.parent)
    with pytest.raises(DatasetError, match=r"there is no data.yaml at"):
        read_dataset(tmp_path / ("y" * 400))


def test_reading_opens_no_pipe_and_no_device(tmp_path):
    os.mkfifo(tmp_path / "data.yaml")
    with pytest.raises(DatasetError, match="is no regular file"):
        read_dataset(tmp_path / "data.yaml")
    with pytest.raises(DatasetError, match="is no regular file"):
        read_dataset("/dev/zero")


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_BOMB, "uses more than 8 aliases"),
        ("[" * 200_000, "is nested deeper than 32 levels"),
        ("{a: " * 100_000, "is nested deeper than 32 levels"),
        ("- " * 200_000, "is nested deeper than 32 levels"),
        ("? " * 200_000, "is nested deeper than 32 levels"),
        ("names: [" + "a," * 300_000 + "]", "has more than 100000 values"),
        ("#" * (1 << 20) + "\n", "is larger than 1024 KiB"),
        ("train: a\nval: b\ntrain: c\n", "gives the key 'train' twice, the second time in line 3; keep one of them"),
        ("names: {0: a, 0: b}", "gives the key 0 twice"),
        ("<<: {train: a}", "uses a merge key"),
        ("{[a]: b}", "uses a list or mapping as a key"),
        ("nc: " + "9" * 5000, "holds a number of 5000 characters"),
        ("nc: " + "1:" * 5000 + "1", "holds a number of"),
        ("x: !!python/object/apply:os.system ['touch pwned']", "is not valid YAML: could not determine a constructor"),
        ("train: 2024-99-99", "holds a value that YAML can't build"),
        ("names: [a\ntrain: b", "is not valid YAML: .* in line"),
        ("names: *nothing", "is not valid YAML: found undefined alias"),
        ("--- a\n--- b\n", "is not valid YAML"),
        ("just text", "must hold `key: value` lines .* it holds a str"),
        ("", "it holds nothing"),
        ("a: \x00", "is not valid YAML"),
    ],
)
def test_unsafe_or_broken_yaml_is_refused_within_seconds(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    data_yaml = tmp_path / "data.yaml"
    data_yaml.write_text(content, encoding="utf-8")
    started = time.perf_counter()
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(data_yaml)
    assert time.perf_counter() - started < 10
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900
    assert not (tmp_path / "pwned").exists()


def test_a_self_referring_list_of_names_is_refused_and_not_followed(make_dataset):
    with pytest.raises(DatasetError, match=r"class name 0 .* not text"):
        read_dataset(make_dataset(yaml="train: images/train\nnames: &n [*n]\n"))


def test_yaml_in_a_korean_code_page_is_refused_with_how_to_save_it(tmp_path):
    (tmp_path / "data.yaml").write_bytes("names: [사람]".encode("cp949"))
    with pytest.raises(DatasetError, match=r"is not UTF-8 .* save it again as UTF-8"):
        read_dataset(tmp_path / "data.yaml")


def test_file_names_that_try_to_deceive_a_terminal_are_shown_escaped(tmp_path):
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path / "\x1b[2Jx\u202e.yaml")
    assert "\\x1b[2Jx\\u202e.yaml" in str(caught.value)


def test_repr_html_escapes_what_comes_from_the_file(make_dataset):
    page = read_dataset(
        make_dataset(yaml="train: images/train\nnames: ['<img src=x onerror=alert(1)>']\n")
    )._repr_html_()
    assert "&lt;img src=x" in page
    assert "<img" not in page


def test_asking_for_a_split_that_is_not_there_lists_those_that_are(make_dataset):
    with pytest.raises(DatasetError, match="has no split 'test', it has: train, val; add a `test:` entry"):
        read_dataset(make_dataset()).images("test")


def test_to_dict_is_plain_data(make_dataset):
    shown = read_dataset(make_dataset()).to_dict()
    assert shown["names"] == ["person", "car"]
    assert Path(shown["splits"]["train"][0]).is_dir()
