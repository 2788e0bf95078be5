"""Bad input through the command line: one sentence, exit code 2, and no run afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.exceptions import ModelFileError
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from guardianflow.vision.model_files import find_model, load_weights
from tests.trainings import Trained, copy_data, write_tiny_data


@dataclass
class Site:
    """A user's folder with a dataset that can be broken, and a work folder."""

    folder: Path
    data_yaml: Path
    settings: Settings

    def train(
        self, *changes: str, data: Path | None = None, model: str = "yolo11n.yaml", name: str = "site"
    ) -> list[str]:
        """The words of a `train` command."""
        return [
            "train", "--data", str(data or self.data_yaml), "--model", model, "--experiment", name,
            "--epochs", "1", "--imgsz", "64", "--device", "cpu", "--direct", "--set", "plots=false", *changes,
        ]  # fmt: skip

    def refuse(self, words: list[str], *parts: str) -> str:
        """Run the command and hold its refusal to the rules; returns the sentence."""
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, (done.stdout, done.stderr, done.exception)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert lines[-1].startswith("error: "), done.stderr
        sentence = lines[-1].removeprefix("error: ")
        for part in parts:
            assert part in sentence, sentence
        assert "Traceback" not in done.stderr
        self.has_no_run()
        return sentence

    def has_no_run(self) -> None:
        assert RunRecords(Database.open(self.settings.database_url)).list() == []
        with sqlite3.connect(self.settings.work_dir / "mlflow.db") as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert not (self.settings.work_dir / "runs").exists()

    def write_yaml(self, text: str) -> Path:
        self.data_yaml.write_text(text, encoding="utf-8")
        return self.data_yaml

    def a_file(self, folder: str) -> Path:
        return min((self.data_yaml.parent / folder).iterdir())


@pytest.fixture
def site(tiny_data: Path, tmp_path: Path, training_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Site:
    data_yaml = copy_data(tiny_data, tmp_path / "현장 data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(training_settings.work_dir))
    return Site(tmp_path, data_yaml, training_settings)


# ---- the data ----------------------------------------------------------------------------------------


def test_missing_data_yaml_names_the_nearest_one(site: Site) -> None:
    missing = site.data_yaml.with_name("dota.yaml")
    site.refuse(site.train(data=missing), str(missing), f"did you mean {site.data_yaml}?")


def test_yaml_bomb_is_refused_before_it_unfolds(site: Site) -> None:
    lines = ['a0: &a0 ["x","x","x","x","x","x","x","x","x"]']
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    sentence = site.refuse(site.train(data=site.write_yaml("\n".join(lines))), str(site.data_yaml))
    assert "alias" in sentence


def test_download_key_is_refused(site: Site) -> None:
    text = site.data_yaml.read_text(encoding="utf-8") + "download: import os; os.system('touch ran')\n"
    site.refuse(site.train(data=site.write_yaml(text)), "`download:`", "remove that line")
    assert not (site.folder / "ran").exists()


def test_path_that_leads_out_is_refused(site: Site) -> None:
    site.write_yaml("train: ../../etc\nval: images/val\nnames: [a, b]\n")
    site.refuse(site.train(), "../../etc", "leads out of the dataset's root")


def test_class_id_beyond_the_names_is_named_with_its_file(site: Site) -> None:
    label = site.a_file("labels/train")
    label.write_text("7 0.5 0.5 0.2 0.2\n")
    site.refuse(site.train(), label.name, "class id 7", "--allow-bad")


def test_empty_split_is_refused(site: Site) -> None:
    shutil.rmtree(site.data_yaml.parent / "images" / "val")
    (site.data_yaml.parent / "images" / "val").mkdir()
    site.refuse(site.train(), "'val' has no images")


def test_dataset_without_any_image_is_refused(site: Site) -> None:
    for image in (site.data_yaml.parent / "images").rglob("*.jpg"):
        image.unlink()
    site.refuse(site.train(), "'train' has no images")


def test_corrupt_image_is_refused_and_left_out_where_that_was_allowed(site: Site) -> None:
    broken = site.a_file("images/train")
    broken.write_bytes(broken.read_bytes()[:200])
    site.refuse(site.train(), broken.name, "1 image of 20 (5 %) can't be used", "--allow-bad 5")
    site.refuse(site.train("--allow-bad", "4%"), "more than the 4 % allowed")
    done = CliRunner().invoke(app, [*site.train("--allow-bad", "5%"), "--json"])
    assert done.exit_code == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["dataset"]["images"] == {"train": 15, "val": 4}
    facts = json.loads((Path(outcome["folder"]) / "dataset.json").read_text(encoding="utf-8"))
    assert facts["bad_images"] == [str(broken)]
    assert "15 train" in (Path(outcome["folder"]) / "training.log").read_text(encoding="utf-8")


# ---- the model ---------------------------------------------------------------------------------------


def test_unknown_model_names_near_ones(site: Site) -> None:
    site.refuse(site.train(model="yolo11q.yaml"), "no model 'yolo11q.yaml'", "a known name such as yolo11")
    site.refuse(site.train(model="gone/best.pt"), "no weights file gone/best.pt")
    site.refuse(site.train(model="yolo11n-seg.yaml"), "not for detection")


def test_weights_of_another_class_count_are_refused(site: Site, trained: Trained) -> None:
    data_yaml = write_tiny_data(site.folder / "three", images=10, names=("a", "b", "c"))
    words = site.train(data=data_yaml, model=str(trained.result.best))
    site.refuse(words, str(trained.result.best), "2 classes", "the data has 3", "--new-head")


def test_pretrained_weights_offline_say_what_to_pass_instead(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import ultralytics.utils

    monkeypatch.setattr(ultralytics.utils, "ONLINE", False)
    monkeypatch.setitem(vars(ultralytics.utils.SETTINGS), "weights_dir", str(site.folder))
    site.refuse(site.train(model="yolo11x.pt"), "offline", "--model yolo11x.yaml")


def test_data_yaml_given_as_a_model_is_refused(site: Site) -> None:
    site.refuse(site.train(model=str(site.data_yaml)), "lacks backbone and head")


def test_model_yaml_runs_no_code_through_its_activation(site: Site) -> None:
    model = site.folder / "mine.yaml"
    model.write_text(
        "nc: 2\nactivation: __import__('os').system('touch ran')\n"
        "backbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
    )
    site.refuse(site.train(model=str(model)), str(model), "can't be built")
    assert not (site.folder / "ran").exists()


def test_file_that_is_no_weights_is_refused(site: Site) -> None:
    picture = site.a_file("images/val")
    site.refuse(site.train(model=str(picture)), "no .pt weights file and no model YAML")
    renamed = site.folder / "best.pt"
    shutil.copyfile(picture, renamed)
    site.refuse(site.train(model=str(renamed)), str(renamed))


def test_cut_off_weights_are_refused(site: Site, trained: Trained) -> None:
    cut = site.folder / "cut.pt"
    cut.write_bytes(trained.result.best.read_bytes()[:100_000])
    site.refuse(site.train(model=str(cut)), str(cut), "can't be read", "cut off")


# ---- the rest of the command -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["--imgsz", "300"], ["imgsz = 300", "multiple of 32", "288 or 320"]),
        (["--epochs", "0"], ["epochs = 0"]),
        (["--batch", "0"], ["batch = 0"]),
        (["--seed", "-1"], ["seed = -1"]),
        (["--device", "gpu7"], ["device 'gpu7'", "use cpu"]),
        (["--device", "99"], ["GPU 99"]),
        (["--set", "mosiac=0.5"], ["'mosiac'", "did you mean 'mosaic'"]),
        (["--set", "mosaic=much"], ["mosaic='much'"]),
        (["--set", "epochs=5"], ["'epochs'", "option of its own"]),
        (["--set", "project=/tmp"], ["'project'", "folder of its own"]),
        (["--set", "cache=disk"], ["cache='disk'", "cache=ram"]),
        (["--set", "val=false"], ["'val'", "every epoch is validated"]),
        (["--set", "optimizer=Fast"], ["optimizer='Fast'", "AdamW"]),
        (["--set", "mosaic"], ["KEY=VALUE"]),
        (["--set", "lr0="], ["KEY=VALUE", "lr0="]),
        (["--set", "lr0=0.1", "--set", "lr0=0.2"], ["lr0 twice", "0.1", "0.2"]),
        (["--set", "lr0=0,5"], ["lr0=[0, 5]", "a decimal fraction has a point: 0.5"]),
        (["--set", "mosaic=true"], ["mosaic=True", "takes a number"]),
        (["--set", "lr0=nan"], ["lr0='nan'", "takes a number"]),
        (["--set", "close_mosaic=2.5"], ["close_mosaic=2.5", "takes a whole number"]),
        (["--set", "cos_lr=2"], ["cos_lr=2", "takes true, false"]),
        (["--set", "cache=yess"], ["cache='yess'", "true, false, ram"]),
        (["--set", "compile=fast"], ["compile='fast'", "reduce-overhead"]),
        (["--set", "optimizer=none"], ["optimizer=None", "AdamW"]),
        (["--set", "freeze=true"], ["freeze=True", "such as 0,1,2"]),
        (["--set", "freeze=-1"], ["freeze=-1", "number of layers"]),
        (["--set", "freeze=0,50"], ["freeze=[0, 50]", "the layers 0 to 23", "no layer 50"]),
        (["--set", "freeze=0-9"], ["freeze=['0-9']", "no layer '0-9'"]),
        (["--set", "freeze=24"], ["freeze=24", "none would be left to train"]),
        (["--register-as", "a/b"], ["model name 'a/b'", "'/'"]),
        (["--allow-bad", "many"], ["--allow-bad", "'many'"]),
    ],
)
def test_options_that_cant_be_are_refused(site: Site, changes: list[str], parts: list[str]) -> None:
    site.refuse(site.train(*changes), *parts)


@pytest.mark.parametrize(
    ("name", "part"),
    [("gate\x1b[31m", "U+001B"), ("gate\u202egpj", "U+202E"), ("a" * 300, "300 characters"), ("  ", "empty")],
)
def test_experiment_names_that_hide_something_are_refused(site: Site, name: str, part: str) -> None:
    sentence = site.refuse(site.train(name=name), "experiment name", part)
    assert name.strip() == "" or name not in sentence or name.isascii()


def test_work_folder_with_an_apostrophe_is_refused_where_ultralytics_would_lose_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(site.folder / "O'Brien"))
    done = CliRunner().invoke(app, site.train())
    assert done.exit_code == 2
    assert "apostrophe" in done.stderr
    assert "GUARDIANFLOW_WORK_DIR" in done.stderr


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda site: site.train(data=site.data_yaml.with_name("gone.yaml")), "gone.yaml"),
        (lambda site: [*site.train("--epochs", "0"), "--json"], "epochs = 0"),
    ],
)
def test_real_process_ends_with_two_and_one_sentence(site: Site, make: Callable[[Site], list[str]], part: str) -> None:
    entry = [sys.executable, "-c", "from guardianflow.cli import main; main()"]
    words = [word for word in make(site) if word != "--direct"]  # as users call it: checked before any kernel
    done = subprocess.run([*entry, *words], capture_output=True, text=True, check=False, cwd=site.folder)
    assert done.returncode == 2, done.stderr
    assert part in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    if "--json" in words:
        assert json.loads(done.stdout)["exit_code"] == 2
    site.has_no_run()


# ---- weights that want to run code -------------------------------------------------------------------


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.target}'",)


def as_zip(path: Path, target: Path) -> None:
    """What torch.save writes today, with the payload as the whole content."""
    torch.save(Payload(target), path)


def as_legacy(path: Path, target: Path) -> None:
    torch.save(Payload(target), path, _use_new_zipfile_serialization=False)


def as_bare_pickle(path: Path, target: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Payload(target)}))


def as_nested(path: Path, target: Path) -> None:
    state = {
        "epoch": 1,
        "ema": None,
        "train_args": {"imgsz": 64},
        "optimizer": {"state": [1, {"deep": Payload(target)}]},
    }
    torch.save(state, path)


def as_patched(path: Path, target: Path) -> None:
    """A good zip whose data.pkl was exchanged afterwards."""
    torch.save({"model": None}, path)
    with zipfile.ZipFile(path) as archive:
        content = {item: archive.read(item) for item in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, pickle.dumps(Payload(target), 2) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("make", [as_zip, as_legacy, as_bare_pickle, as_nested, as_patched])
def test_weights_that_want_to_run_code_are_refused_before_they_do(
    site: Site, make: Callable[[Path, Path], None]
) -> None:
    weights, target = site.folder / "evil.pt", site.folder / "ran"
    make(weights, target)
    site.refuse(site.train(model=str(weights)), str(weights), "refused before anything in them ran")
    with pytest.raises(ModelFileError):
        load_weights(weights)
    assert not target.exists()
    with contextlib.suppress(RuntimeError):
        torch.load(weights, weights_only=False)  # the payload is a real one
    assert target.exists()


def test_weights_are_loaded_safely_where_ultralytics_was_imported_before_us(site: Site) -> None:
    weights, target = site.folder / "evil.pt", site.folder / "ran"
    as_nested(weights, target)
    script = (
        "import sys, ultralytics\n"
        "from ultralytics.nn import tasks\n"
        "assert not tasks.SAFE_LOAD\n"
        "from guardianflow.exceptions import ModelFileError\n"
        "from guardianflow.vision.model_files import find_model\n"
        "try:\n"
        "    find_model(sys.argv[1], classes=['a'])\n"
        "except ModelFileError as error:\n"
        "    print(error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ULTRALYTICS_SAFE_LOAD"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(weights)], env=environment, capture_output=True, text=True, check=False
    )
    assert "refused before anything in them ran" in done.stdout, done.stderr
    assert not target.exists()


def test_own_weights_pass_the_same_door(trained: Trained) -> None:
    source = find_model(str(trained.result.best), classes=("x", "y"))
    assert (source.kind, source.classes) == ("weights", ("사람", "차량 vehicle"))
