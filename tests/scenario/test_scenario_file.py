"""Scenario files as users write them: the line of each fault, changes on the command line, and the way back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from guardianflow.cli import app
from guardianflow.exceptions import InputError
from guardianflow.scenario.fields import to_yaml
from guardianflow.scenario.file import json_schema, load_scenario, new_scenario
from guardianflow.scenario.schema import InferenceScenario, TrainingScenario

GOOD = """\
# 우리 현장
schema_version: 1
kind: train
experiment: gate
site:
  name: 북문
  cameras: [c1, c2]
  time_zone: Asia/Seoul
task:
  requirements: [map50 >= 0.75, latency_ms_p95<=30]
model:
  architecture: yolo11n.yaml
  imgsz: 320
dataset:
  data_yaml: 데이터/data.yaml
env: {device: 0, seed: 3}
run:
  epochs: 5
  options: {mosaic: 0.0}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(text: str = GOOD, *changes: tuple[str, str]) -> Path:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "시나리오 dir" / "a b.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_a_file_becomes_the_scenario_that_it_says(write: Any) -> None:
    path = write()
    scenario = load_scenario(path)
    assert isinstance(scenario, TrainingScenario)
    assert scenario.site.name == "북문"
    assert scenario.task.requirements == ["map50 >= 0.75", "latency_ms_p95 <= 30"]
    assert scenario.env.device == "0"  # a number where a word is asked for
    assert scenario.dataset.data_yaml == str(path.parent / "데이터" / "data.yaml")  # from the file's own folder
    assert scenario.model.architecture == "yolo11n.yaml"  # a known name, no file
    changed = load_scenario(path, ["model.imgsz=640", "run.options.mosaic=1.0", "env.device=cpu", "site.cameras=c9"])
    assert isinstance(changed, TrainingScenario)
    assert (changed.model.imgsz, changed.env.device, changed.run.options) == (640, "cpu", {"mosaic": 1.0})
    assert changed.site.cameras == ["c9"]


def test_what_is_written_back_is_the_same_scenario(write: Any, tmp_path: Path) -> None:
    scenario = load_scenario(write())
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(scenario), encoding="utf-8")
    assert load_scenario(again) == scenario
    assert "patience" not in again.read_text(encoding="utf-8")  # as usual


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("  imgsz: 320", "  imgz: 320"), ":13: there is no 'model.imgz'; did you mean 'model.imgsz'?"),
        (("  imgsz: 320", "  imgsz: 321"), ":13: model.imgsz = 321 is not allowed: must be a multiple of 32"),
        (
            ("  imgsz: 320", "  imgsz: 320px"),
            ":13: model.imgsz = '320px' is not allowed: input should be a valid integer",
        ),
        (("  epochs: 5", "  epochs: [5]"), ":18: run.epochs = [5] is not allowed"),
        (
            ("kind: train", "kind: trian"),
            ":3: kind must be one of train, infer, quantize, wrap, registry, optimize, sweep, compare, it is 'trian'",
        ),
        (("experiment: gate\n", ""), ":1: experiment is missing; give it a value"),
        (("model:\n", "modle:\n"), ":11: there is no 'modle'; did you mean 'model'?"),
        (
            ("  architecture:", "  architectur:"),
            ":12: there is no 'model.architectur'; did you mean 'model.architecture'",
        ),
        (
            ("dataset:\n  data_yaml: 데이터/data.yaml\n", ""),
            ":1: dataset is missing; `guardianflow scenario new train`",
        ),
        (("site:", "sites:"), ":5: there is no 'sites'; did you mean 'site'?"),
        (
            ("map50 >= 0.75", "map5 >= 0.75"),
            ":10: task.requirements = 'map5 >= 0.75' at 0 is not allowed: names no metric",
        ),
        (("Asia/Seoul", "Seoul"), ":8: site.time_zone = 'Seoul' is not allowed: is no time zone"),
        (("  epochs: 5", "  epochs: 5\n  epochs: 6"), "gives the key 'epochs' twice, the second time in line 19"),
        (("schema_version: 1", "schema_version: 2"), ":2: schema_version"),
        (("model:\n", "model: 3\nmodel2:\n"), "model"),
    ],
)
def test_a_fault_is_one_sentence_with_its_line(write: Any, change: tuple[str, str], sentence: str) -> None:
    path = write(GOOD, change)
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert sentence in str(caught.value)
    assert "a b.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.imgz=320", "--set: there is no 'model.imgz'; did you mean 'model.imgsz'?"),
        ("model.imgsz", "--set takes FIELD=VALUE, such as model.imgsz=320, not 'model.imgsz'"),
        ("experiment.x=3", "--set experiment.x: experiment is no block of fields"),
        ("run.epochs=0", "--set: run.epochs = 0 is not allowed"),
    ],
)
def test_a_wrong_change_is_told_from_a_wrong_file(write: Any, override: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(write(), [override])
    assert sentence in str(caught.value)


@pytest.mark.parametrize("kind", ["train", "infer", "quantize", "wrap", "registry", "optimize"])
def test_a_new_scenario_holds_every_field_and_is_valid(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.yaml"
    path.write_text(new_scenario(kind).replace("CHANGE-ME", "promote"), encoding="utf-8")
    changes = ["dataset.data_yaml=d.yaml"] if kind == "infer" else []
    scenario = load_scenario(path, changes)
    shown = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert shown.keys() == set(scenario.model_dump())


def test_a_scenario_of_a_cell_is_that_of_a_benchmark() -> None:
    assert yaml.safe_load(new_scenario("cell"))["kind"] == "infer"


def test_every_kind_stands_in_the_schema_for_editors() -> None:
    schema = json_schema()
    kinds = {"train", "infer", "quantize", "wrap", "registry", "optimize", "sweep", "compare"}
    assert set(schema["discriminator"]["mapping"]) == kinds
    field = schema["$defs"]["TrainingRun"]["properties"]["epochs"]
    assert (field["default"], field["minimum"], field["description"]) == (100, 1, "Passes over the training split.")


def call(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def test_the_verbs_of_scenarios(write: Any, tmp_path: Path) -> None:
    good = write()
    bad = tmp_path / "bad.yaml"
    bad.write_text(GOOD.replace("imgsz: 320", "imgsz: 1"), encoding="utf-8")
    done = call("scenario", "check", str(good), str(bad), code=2)
    assert "ok" in done.stderr
    assert f"error: {bad}:13: model.imgsz = 1 is not allowed" in done.stderr
    assert [row["kind"] for row in json.loads(call("scenario", "check", str(good), "--json").stdout)["files"]] == [
        "train"
    ]
    shown = json.loads(call("scenario", "show", str(good), "--set", "run.epochs=9", "--json").stdout)
    assert (shown["run"]["epochs"], shown["run"]["patience"]) == (9, 100)
    assert "model.imgsz" in call("scenario", "show", str(good)).stdout
    assert json.loads(call("scenario", "schema").stdout)["title"] == "GuardianFlow scenario"
    (tmp_path / "new.yaml").write_text(call("scenario", "new", "train").stdout, encoding="utf-8")
    assert load_scenario(tmp_path / "new.yaml").kind == "train"
    assert (
        "there is no kind of run named 'trian'. Did you mean 'train'?"
        in call("scenario", "new", "trian", code=2).stderr
    )
    assert "say what to run" in call("run", code=2).stderr
    assert "say what to run" in call("run", str(good), "--again", "x", code=2).stderr
    assert ":13: model.imgsz = 1" in call("run", str(bad), code=2).stderr


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_sqlite_template: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("GUARDIANFLOW_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "work" / "mlflow.db")
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(*words: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(call(*words, "--json").stdout)
    return document


@pytest.mark.slow
def test_options_and_a_file_of_the_same_content_give_the_same_run(workplace: Path, tiny_data: Path) -> None:
    from guardianflow.core.config import Settings
    from guardianflow.runs.mlflow_runs import make_client
    from guardianflow.vision.model_files import load_checkpoint

    (workplace / "s.yaml").write_text(
        f"schema_version: 1\nkind: train\nexperiment: same\nsite: {{name: gate}}\n"
        f"task: {{requirements: [map50 >= 0.99]}}\nmodel: {{architecture: yolo11n.yaml, imgsz: 64}}\n"
        f"dataset: {{data_yaml: {tiny_data}}}\nenv: {{device: cpu}}\n"
        "run: {epochs: 1, batch: 8, options: {plots: false}}\n",
        encoding="utf-8",
    )
    by_options = trained(
        "train", "--data", str(tiny_data), "--model", "yolo11n.yaml", "-e", "same", "--imgsz", "64", "--device", "cpu",
        "--epochs", "1", "--batch", "8", "--set", "plots=false", "--site", "gate", "--require", "map50 >= 0.99",
    )  # fmt: skip
    by_file = trained("run", "s.yaml")
    kept = Path(by_file["folder"]) / "scenario.yaml"
    assert kept.read_text(encoding="utf-8") == (Path(by_options["folder"]) / "scenario.yaml").read_text(
        encoding="utf-8"
    )
    assert load_scenario(kept) == load_scenario(workplace / "s.yaml")
    client = make_client(Settings())
    runs = [client.get_run(done["run_id"]).data for done in (by_options, by_file)]
    assert runs[0].params == runs[1].params
    assert runs[0].tags["guardianflow.site"] == runs[1].tags["guardianflow.site"] == "gate"
    assert any("the requirement map50 >= 0.99 is not met" in text for text in by_file["remarks"])
    one, other = (
        load_checkpoint(Path(done["folder"]) / "training" / "weights" / "best.pt")[0].state_dict()
        for done in (by_options, by_file)
    )
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one)
    cells = [
        [cell["source"] for cell in json.loads(Path(done["notebook"]).read_text(encoding="utf-8"))["cells"]]
        for done in (by_options, by_file)
    ]
    text = json.dumps(cells[0]).replace(by_options["run_id"], by_file["run_id"])
    assert json.loads(text) == cells[1]


@pytest.mark.slow
def test_stock_papermill_runs_a_template_without_our_command(workplace: Path, tiny_data: Path) -> None:
    import subprocess
    import sys

    template = Path(__file__).resolve().parents[2] / "notebooks" / "templates" / "train.ipynb"
    words = ["-p", "data_yaml", str(tiny_data), "-p", "epochs", "1", "-p", "imgsz", "64", "-p", "batch", "8", "-p",
             "device", "cpu", "-p", "experiment_name", "stock", "-y", "options: {plots: false}"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(template), str(workplace / "out.ipynb"), *words],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    runs = sorted((workplace / "work" / "runs" / "stock").iterdir())
    assert (runs[0] / "result.json").is_file()
    assert isinstance(load_scenario(runs[0] / "scenario.yaml"), TrainingScenario)


def test_a_tracking_task_needs_a_tracker(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "schema_version: 1\nkind: infer\nexperiment: x\ntask: {kind: tracking}\nmodel: {path: m.pt}\n"
        "dataset: {source: clip.mp4}\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="a tracking task needs tracker"):
        load_scenario(path)
    assert isinstance(load_scenario(path, ["run.tracker=bytetrack"]), InferenceScenario)
