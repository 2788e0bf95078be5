"""A scan of a folder as teams have them: what it finds, what it leaves out, and that nothing brings it down."""

from __future__ import annotations

import json
import os
import pickle
import resource
import sqlite3
import struct
import subprocess
import sys
import sysconfig
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from guardianflow.adapters.scan import findings
from guardianflow.adapters.scan.findings import FoundScript, Reason, ScanReport
from guardianflow.adapters.scan.scan import scan_folder
from guardianflow.exceptions import InputError

TRAIN = 'from ultralytics import YOLO\n\nif __name__ == "__main__":\n    YOLO("yolo11n.pt").train(data="bccd.yaml")\n'
DATASET = "path: ../bccd\ntrain: images/train\nval: images/val\nnames: [RBC, WBC, Platelets]\n"
EVENTS = "events.out.tfevents.1700000000.host.1.0"


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def zipped(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


def weights_of(root: Path) -> dict[str, str]:
    return {found.path.as_posix(): found.format for found in scan_folder(root).weights}


def runs_of(root: Path) -> dict[str, str]:
    return {found.path.as_posix(): found.kind for found in scan_folder(root).runs}


def test_weights_are_told_by_ending_and_first_bytes(tmp_path):
    put(tmp_path, {
        "old.PTH": b"\x80\x02\x8a\nl\xfc\x9cF\xf9", "site.pth": "import sys\n", "empty.pt": b"",
        "m.onnx": b"\x08\x08\x12\x07pytorch" + bytes(20), "notes.onnx": "not a model at all",
        "m.safetensors": struct.pack("<Q", 40) + b'{"__metadata__":{}}',
        "m.h5": b"\x89HDF\r\n\x1a\n" + b"..model_weights..",
        "table.h5": b"\x89HDF\r\n\x1a\n" + b"pandas_type", "m.tflite": b"\x1c\0\0\0TFL3", "m.pdparams": b"\x80\x04\x95",
        "t.engine": struct.pack("<I", 30) + b'{"description": "x"}', "words.engine": "the engine",
        "ir/m.xml": '<?xml version="1.0"?>\n<net name="m" version="11">', "ir/m.bin": bytes(100),
        "feed.xml": "<rss/>", "alone.xml": "<net name='m'>",
        "lfs.pt": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    })  # fmt: skip
    zipped(tmp_path / "best.pt")
    zipped(tmp_path / "epoch=1.ckpt")
    zipped(tmp_path / "m.keras")
    assert weights_of(tmp_path) == {
        "old.PTH": "pytorch", "best.pt": "pytorch", "epoch=1.ckpt": "pytorch", "m.keras": "keras", "m.onnx": "onnx",
        "m.safetensors": "safetensors", "m.h5": "keras", "m.tflite": "tflite", "m.pdparams": "paddle",
        "t.engine": "tensorrt", "ir/m.xml": "openvino",
    }  # fmt: skip
    report = scan_folder(tmp_path)
    assert report.skipped_counts == {"Git LFS pointer; the weights themselves are not here": 1}
    assert next(found for found in report.weights if found.format == "openvino").size > 100


def test_finished_runs_of_every_kind_are_found_once(tmp_path):
    put(tmp_path, {
        "runs/detect/train/args.yaml": "task: detect\nmode: train\n",
        "runs/detect/train/results.csv": "epoch,time\n1,2\n",
        "runs/detect/train/weights/.keep": "", f"runs/detect/train/{EVENTS}": b"x",
        "runs/detect/predict/x.jpg": b"x",
        "lightning_logs/version_0/hparams.yaml": "{}", "lightning_logs/version_0/metrics.csv": "epoch,step\n",
        f"lightning_logs/version_1/{EVENTS}": b"x", "tb/net/version_3/metrics.csv": "epoch\n",
        "csv_only/metrics.csv": "epoch\n",
        f"logs/a/{EVENTS}": b"x", f"logs/b/{EVENTS}": b"x", f"logs/b/1700000000.12/{EVENTS}": b"x",
        "mlruns/0/meta.yaml": "artifact_location: x\nexperiment_id: '0'\n",
        "mlruns/0/abc/meta.yaml": "run_id: abc\n", "mlruns/0/abc/artifacts/args.yaml": "task: detect\n",
        "mlruns/0/abc/artifacts/results.csv": "epoch\n", f"mlruns/0/abc/artifacts/{EVENTS}": b"x",
        "digits/0/a.png": b"x", "other/mlflow.db": "no database",
    })  # fmt: skip
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    database.close()
    assert runs_of(tmp_path) == {
        "runs/detect/train": "ultralytics", "lightning_logs/version_0": "lightning",
        "lightning_logs/version_1": "lightning", "tb/net/version_3": "lightning", "logs/a": "tensorboard",
        "logs/b": "tensorboard", "mlruns": "mlflow", "mlflow.db": "mlflow",
    }  # fmt: skip


def test_a_run_says_why_it_is_one(tmp_path):
    put(tmp_path, {"exp/args.yaml": "task: detect\n", "exp/results.csv": "epoch,a\n", "exp/weights/x": ""})
    (run,) = scan_folder(tmp_path).runs
    assert (run.name, run.reason) == ("exp", "args.yaml and results.csv lie together")


def test_dataset_yamls_are_found_and_others_are_not(tmp_path):
    put(tmp_path, {
        "한글 data.yaml": DATASET, "dict.yml": "train: [a, b]\nval: c\nnames: {0: x, 1: y}\n",
        "count.yaml": "train: a\nval: b\nnc: 80\n", "model.yaml": "nc: 80\nbackbone: []\n",
        "hydra.yaml": "train: {epochs: 3}\nval: true\npath: x\n", "compose.yaml": "services: {}\n",
        "twice.yaml": "train: a\nval: b\nnames: [x]\nnames: [y]\n", "bomb.yaml": "train: &a [x]\nnames: " + "[" * 5000,
    })  # fmt: skip
    report = scan_folder(tmp_path)
    found = {dataset.path.as_posix(): dataset.classes for dataset in report.datasets}
    assert found == {"한글 data.yaml": 3, "dict.yml": 2, "count.yaml": 80}
    assert report.skipped_counts == {"looks like a dataset YAML, but can't be read safely": 2}


def test_weights_and_runs_are_found_in_ignored_folders_and_scripts_are_not(tmp_path):
    put(tmp_path, {
        ".gitignore": "runs/\n*.pt\nscratch/\n", "train.py": TRAIN, "scratch/train.py": TRAIN,
        "scratch/d.yaml": DATASET,
        "runs/train/args.yaml": "task: detect\n", "runs/train/results.csv": "epoch\n",
    })  # fmt: skip
    zipped(tmp_path / "runs/train/weights/best.pt")
    report = scan_folder(tmp_path)
    assert [script.path.as_posix() for script in report.scripts] == ["train.py"]
    assert report.datasets == ()
    assert [run.path.as_posix() for run in report.runs] == ["runs/train"]
    assert [weights.path.as_posix() for weights in report.weights] == ["runs/train/weights/best.pt"]
    everything = scan_folder(tmp_path, include_ignored=True)
    assert [script.path.as_posix() for script in everything.scripts] == ["scratch/train.py", "train.py"]
    assert len(everything.datasets) == 1


def test_scripts_are_sorted_by_score_then_path_and_twice_the_same(tmp_path):
    plain = TRAIN.replace('if __name__ == "__main__":\n    ', "")
    put(tmp_path, {"b/train.py": TRAIN, "a/train.py": TRAIN, "c/start.py": plain, "한글/학습.py": plain})
    report = scan_folder(tmp_path)
    names = [script.path.as_posix() for script in report.scripts]
    assert names == ["a/train.py", "b/train.py", "c/start.py", "한글/학습.py"]
    assert scan_folder(tmp_path) == report


def test_a_higher_min_score_keeps_less(tmp_path):
    put(tmp_path, {"start.py": TRAIN.replace('if __name__ == "__main__":\n    ', "")})
    (script,) = scan_folder(tmp_path, min_score=0.0).scripts
    assert scan_folder(tmp_path, min_score=script.score).scripts
    assert not scan_folder(tmp_path, min_score=script.score + 0.01).scripts


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_min_score_outside_zero_to_one_is_refused(tmp_path, score):
    with pytest.raises(InputError, match=r"from 0 to 1.*leave it out"):
        scan_folder(tmp_path, min_score=score)


def test_a_file_or_nothing_instead_of_a_folder_is_refused_with_the_next_step(tmp_path):
    put(tmp_path, {"train.py": TRAIN})
    with pytest.raises(InputError, match="is a file; pass its folder"):
        scan_folder(tmp_path / "train.py")
    with pytest.raises(InputError, match=r"No such file.*pass a folder that is there"):
        scan_folder(tmp_path / "gone")
    with pytest.raises(InputError, match="pass a folder"):
        scan_folder("a\0b")


def test_an_empty_folder_is_a_report_with_nothing_in_it(tmp_path):
    report = scan_folder(tmp_path)
    assert report.to_dict()["scripts"] == []
    assert report.summary().startswith("0 scripts, 0 datasets, 0 weights files, 0 finished runs among 0 files in 1 ")
    assert report.skipped_sentence() == ""


def test_large_and_broken_files_are_counted_and_passed_over(tmp_path):
    put(tmp_path, {
        "big.py": b"import torch\n" + b"x = 1\n" * 400_000, "broken.ipynb": "{not json torch .fit(",
        "list.ipynb": '["import torch", ".fit("]', "train.py": TRAIN,
        "r.ipynb": '{"cells": [], "metadata": {"language_info": {"name": "R"}}, "x": "torch .fit("}',
        "deep.ipynb": '{"torch .fit(":' + "[" * 200_000,
        "latin.py": "# é\nimport torch\nmodel.fit(\n".encode("latin-1"),
    })  # fmt: skip
    with (tmp_path / "huge.ipynb").open("wb") as stream:
        stream.truncate(51_000_000)
    report = scan_folder(tmp_path)
    assert [script.path.as_posix() for script in report.scripts] == ["train.py"]
    assert report.skipped_counts == {
        "script over 2 MB": 1, "notebook over 50 MB": 1, "script that can't be read as Python 3": 1,
        "notebook that can't be read as Python 3": 3,
    }  # fmt: skip
    assert "1 × script over 2 MB" in report.skipped_sentence()


class _Payload:
    """Whoever unpickles this makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_is_found_is_run(tmp_path):
    trap = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
    put(tmp_path, {"train.py": trap + TRAIN, "pkg/__init__.py": trap, "conftest.py": trap, "torch.py": trap})
    put(tmp_path, {"best.pt": pickle.dumps(_Payload(str(tmp_path / "ran")))})
    report = scan_folder(tmp_path)
    assert len(report.scripts) == len(report.weights) == 1
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    "filling",
    [b"a" * 1_900_000, b"(" * 1_900_000, b" " * 1_900_000, (b"train" * 390 + b"\n") * 950, b"model.fit\n" * 60_000],
    ids=["word", "brackets", "blanks", "long lines", "many lines"],
)
def test_two_megabytes_made_to_be_slow_are_not(tmp_path, filling):
    head = b"import torch\nmodel.train()\n"
    cell = {"cell_type": "code", "source": (head + filling).decode()}
    put(tmp_path, {"a.py": head + filling, "b.ipynb": json.dumps({"cells": [cell]})})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    scan_folder(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 20


def test_progress_is_told_seldom_and_ends_with_all_files(tmp_path):
    put(tmp_path, {f"{number}/{number}.py": TRAIN for number in range(60)})
    told: list[int] = []
    report = scan_folder(tmp_path, on_progress=told.append)
    assert told[-1] == report.files == 60
    assert told == sorted(told)
    assert len(told) <= 3 + 11 * report.seconds


def test_the_report_is_plain_json_even_with_names_that_are_no_unicode(tmp_path):
    put(tmp_path, {"train.py": TRAIN, "bccd.yaml": DATASET})
    (tmp_path / os.fsdecode(b"bad\xff")).mkdir()
    put(tmp_path / os.fsdecode(b"bad\xff"), {"train.py": TRAIN})
    data = scan_folder(tmp_path).to_dict()
    assert json.loads(json.dumps(data, ensure_ascii=False).encode()) == data
    assert [script["path"] for script in data["scripts"]] == ["bad\\udcff/train.py", "train.py"]
    assert data["datasets"][0]["classes"] == 3
    assert data["root"] == str(tmp_path)


def test_declared_parameters_come_along(tmp_path):
    parser = "    parser = argparse.ArgumentParser()\n    parser.add_argument('--lr')\n"
    put(tmp_path, {"train.py": f"import argparse\n{TRAIN}{parser}"})
    (script,) = scan_folder(tmp_path).scripts
    assert script.declared is not None
    assert [parameter.name for parameter in script.declared.parameters] == ["lr"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_page_escapes_every_name_and_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    put(tmp_path, {f"{evil}/train.py": TRAIN.replace("bccd", evil.replace(" ", "")), f"{evil}.yaml": DATASET})
    put(tmp_path, {f"{evil}x/args.yaml": "task: a\n", f"{evil}x/results.csv": "epoch\n", "\u202egnp.yaml": DATASET})
    zipped(tmp_path / f"{evil}.pt")
    page = _Tags()
    page.feed(scan_folder(tmp_path)._repr_html_())
    assert set(page.tags) <= {"b", "br", "h4", "p", "table", "td", "th", "tr"}
    assert page.text.count(evil) == 4
    assert "\u202e" not in page.text


def test_a_long_list_is_cut_in_the_page_and_says_so():
    script = FoundScript(Path("a.py"), findings.TRAINING, "torch", 0.9, (Reason("x", 0.9, 3),))
    page = ScanReport(Path("/x"), scripts=(script,) * 130)._repr_html_()
    assert page.count("<tr>") == 101
    assert "… and 30 more" in page


def test_importing_the_scan_is_light():
    code = (
        "import sys, guardianflow.adapters.scan.scan, guardianflow.adapters.scan.findings\n"
        "heavy = {'pandas', 'numpy', 'mlflow', 'papermill', 'torch', 'ultralytics', 'pathspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_this_environments_packages_are_scanned_within_a_minute_and_500_mb():
    code = (
        "import sys, json, pathlib\n"
        "from guardianflow.adapters.scan.scan import scan_folder\n"
        "report = scan_folder(sys.argv[1]).to_dict()\n"
        # Not ru_maxrss: that of a child begins with what its parent held when it forked.
        "lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "report['peak'] = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "print(json.dumps(report))\n"
    )
    packages = sysconfig.get_paths()["purelib"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, packages], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout)
    scripts = {script["path"]: script for script in report["scripts"]}
    assert report["files"] > 10_000
    assert report["peak"] < 500 * 1024
    # Processor time: another test's load must not fail this one.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    entry = scripts["ultralytics/cfg/__init__.py"]
    assert (entry["role"], entry["framework"]) == ("training", "ultralytics")
    assert any("starts it" in reason["text"] for reason in entry["reasons"])
    assert not any("reading it failed" in reason for reason in report["skipped_counts"])
