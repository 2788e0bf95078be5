"""Scripts that people already have, wrapped unmodified: what a person would expect to find in the run afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from guardianflow import GenericWrapper, ModelRegistry, Settings, WrapResult
from guardianflow.adapters.wrap.results import OutputTail
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.exceptions import InputError, InvalidNameError, ParameterError, ScriptFailedError
from guardianflow.files.content import measure
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database
from tests.small_onnx import detector, with_weights_beside

SCRIPTS = Path(__file__).with_name("wrapped")


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def wrapped(settings: Settings, folder: Path, path: Path | str, *args: str, **options: Any) -> WrapResult:
    return GenericWrapper("people", path, folder, list(args), settings=settings, **options).run()


def in_mlflow(settings: Settings, run_id: str) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The run, and each metric's points."""
    from guardianflow.runs.mlflow_runs import make_client

    client = make_client(settings)
    run = client.get_run(run_id)
    points = {name: [(p.step, p.value) for p in client.get_metric_history(run_id, name)] for name in run.data.metrics}
    return run, points


def files_in_mlflow(settings: Settings, run_id: str, place: str) -> set[str]:
    from guardianflow.runs.mlflow_runs import make_client

    return {Path(item.path).name for item in make_client(settings).list_artifacts(run_id, place)}


# --- 1. what teams have ---------------------------------------------------------------------------------------------


def test_a_plain_torch_loop_with_argparse(settings: Settings, folder: Path) -> None:
    path = folder / "train.py"
    path.write_bytes((SCRIPTS / "torch_loop.py").read_bytes())
    result = wrapped(settings, folder, path, "--epochs", "4", "--lr", "0.05")
    assert result.ok, result.output
    assert result.parameters["epochs"] == 4
    assert result.parameters["lr"] == 0.05
    assert result.parameters["momentum"] == 0.9  # a default, which nobody typed
    run, points = in_mlflow(settings, result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "4"
    assert run.data.params["momentum"] == "0.9"
    said = [
        line.split() for line in (result.folder / "stdout.log").read_text().splitlines() if line.startswith("epoch")
    ]
    assert [(step, f"{value:.6f}") for step, value in points["loss"]] == [
        (int(words[1]), words[2].removeprefix("loss=")) for words in said
    ]
    assert len(points["loss"]) == 4
    assert [row["name"] for row in result.artifacts] == ["out/model.pt"]
    assert files_in_mlflow(settings, result.run_id, "artifacts/out") == {"model.pt"}
    assert {"stdout.log", "stderr.log"} <= files_in_mlflow(settings, result.run_id, "output")
    assert {"train.py", "environment.json"} <= files_in_mlflow(settings, result.run_id, "source")
    assert points["wall_seconds"][0][1] > 0
    assert points["peak_rss_mb"][0][1] > 50  # torch was in it


def test_a_click_script(settings: Settings, folder: Path) -> None:
    path = folder / "cli.py"
    path.write_bytes((SCRIPTS / "click_script.py").read_bytes())
    result = wrapped(settings, folder, path, "--rounds", "3", "data set")
    assert result.ok, result.output
    assert result.parameters["rounds"] == 3
    assert result.parameters["rate"] == 0.5
    assert result.parameters["source"] == "data set"
    _, points = in_mlflow(settings, result.run_id)
    assert points["accuracy"] == [(1, 0.5), (2, 0.75), (3, 0.875)]


def test_a_lightning_style_csv_logger(settings: Settings, folder: Path) -> None:
    path = folder / "fit.py"
    path.write_bytes((SCRIPTS / "csv_logger.py").read_bytes())
    result = wrapped(settings, folder, path)
    assert result.ok, result.output
    _, points = in_mlflow(settings, result.run_id)
    assert [step for step, _ in points["train_loss"]] == [0, 10, 20]
    assert points["val_acc"] == [(9, 0.4), (19, 0.6), (29, 0.8)]
    assert "lightning_logs/version_0/metrics.csv" in {row["name"] for row in result.artifacts}


def test_a_notebooks_parameter_that_its_cells_replace_is_refused_before_any_run(
    settings: Settings, folder: Path
) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("lr = 0.1"), nbformat.v4.new_code_cell("print(f'lr={lr}')")]
    path = folder / "plain.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(InputError, match=r"lr=0.01 would not be used: .* code cell 1, line 1 \(`lr = 0.1`\)"):
        wrapped(settings, folder, path, "--lr", "0.01")
    assert RunRecords(Database.open(settings.database_url)).list() == []


@pytest.mark.slow
def test_a_notebook(settings: Settings, folder: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    first = nbformat.v4.new_code_cell("rounds = 1\nname = 'x'")
    first.metadata["tags"] = ["parameters"]
    notebook.cells = [
        first,
        nbformat.v4.new_code_cell("for i in range(rounds):\n    print(f'step {i}: loss={1/(i+1)}')"),
    ]
    path = folder / "실험 nb.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    result = wrapped(settings, folder, path, "rounds=3")
    assert result.ok, result.output
    assert result.kind == "notebook"
    assert result.parameters["rounds"] == 3
    assert result.parameters["name"] == "x"
    _, points = in_mlflow(settings, result.run_id)
    assert [step for step, _ in points["loss"]] == [0, 1, 2]
    assert path.read_bytes() == before
    assert "executed.ipynb" in files_in_mlflow(settings, result.run_id, "output")


def test_a_shell_script(settings: Settings, folder: Path) -> None:
    path = script(
        folder, "go.sh", 'for i in 1 2 3; do echo "epoch $i: score: 0.$i"; done\necho "$1" > "result $1.csv"\n'
    )
    result = wrapped(settings, folder, path, "x; rm -rf /", artifact_patterns=["*.csv"])
    assert result.kind == "shell"
    _, points = in_mlflow(settings, result.run_id)
    assert points["score"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert not result.ok, "a file name with a slash in it can't be written; the word reached the script as it is"


def test_a_script_that_logs_to_mlflow_itself(settings: Settings, folder: Path) -> None:
    path = folder / "own.py"
    path.write_bytes((SCRIPTS / "own_mlflow.py").read_bytes())
    result = wrapped(settings, folder, path)
    assert result.ok, result.output
    assert len(result.adopted) == 1
    child, points = in_mlflow(settings, result.adopted[0]["run_id"])
    assert child.data.tags["mlflow.parentRunId"] == result.run_id
    assert points["loss"] == [(0, 1.0), (1, 0.5), (2, 0.25)]
    _, own = in_mlflow(settings, result.run_id)
    assert "loss" not in own, "its figures stand once, in its own run"


def test_an_inherited_run_is_neither_continued_nor_ended(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guardianflow.runs.mlflow_runs import make_client

    client = make_client(settings)
    theirs = client.create_run(client.create_experiment("theirs"), run_name="theirs").info
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    monkeypatch.setenv("MLFLOW_RUN_NAME", "theirs")
    path = folder / "own.py"
    path.write_bytes((SCRIPTS / "own_mlflow.py").read_bytes())
    result = wrapped(settings, folder, path)
    assert result.ok, result.output
    foreign, points = in_mlflow(settings, theirs.run_id)
    assert (foreign.info.status, foreign.info.run_name, foreign.data.params, points) == ("RUNNING", "theirs", {}, {})
    run, _ = in_mlflow(settings, result.run_id)
    (child,) = result.adopted
    assert theirs.run_id not in {result.run_id, child["run_id"]}
    assert (run.info.run_name == "theirs", child["name"]) == (False, "mine")
    kept, points = in_mlflow(settings, child["run_id"])
    assert kept.info.experiment_id == run.info.experiment_id
    assert len(points["loss"]) == 3
    assert any("MLFLOW_RUN_ID" in text and "was set aside" in text for text in result.remarks)
    assert any("MLFLOW_EXPERIMENT_ID='0' was set aside" in text for text in result.remarks)


def test_a_module_of_a_package(settings: Settings, folder: Path) -> None:
    package = folder / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    script(package, "part.py", "VALUE = 2.5\n")
    script(package, "train.py", "from .part import VALUE\nprint(f'loss={VALUE}')\n")
    result = wrapped(settings, folder, "pkg.train", module=True)
    assert result.ok, result.output
    assert result.metrics["loss"] == 2.5


@pytest.mark.slow
def test_ultralytics_own_command_on_real_photographs(
    settings: Settings, folder: Path, some_photographs: Callable[[Path, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # Ultralytics would write into its own package
    data = some_photographs(folder / "data", 16)
    words = ["detect", "train", f"data={data}", "model=yolo11n.yaml", "epochs=2", "imgsz=64", "batch=8", "workers=0"]
    result = wrapped(
        settings, folder, "yolo", *words, f"project={folder / 'runs'}", "name=cells", "device=cpu", register_as="cells"
    )
    assert result.ok, result.output
    assert result.kind == "binary"
    assert result.parameters["epochs"] == 2
    assert str(result.parameters["imgsz"]) == "64"
    _, points = in_mlflow(settings, result.run_id)
    import csv

    with next(folder.glob("runs/**/results.csv")).open() as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    assert points["train/box_loss"] == [
        (int(row["epoch"]), pytest.approx(float(row["train/box_loss"]))) for row in rows
    ]
    assert len(points["metrics/mAP50_B"]) == 2
    names = {Path(row["name"]).name for row in result.artifacts}
    assert {"best.pt", "last.pt", "results.csv"} <= names
    assert result.model == "models:/cells/1"
    assert ModelRegistry(settings).get("cells", 1).run_id == result.run_id


# --- 2. what scripts do ---------------------------------------------------------------------------------------------


def test_a_script_that_exits_with_3(settings: Settings, folder: Path) -> None:
    path = script(folder, "three.py", "import sys\nprint('loss=0.5')\nsys.stderr.write('no data\\n')\nsys.exit(3)\n")
    result = wrapped(settings, folder, path)
    assert (result.exit_code, result.status, result.ok) == (3, "FAILED", False)
    assert "3" in result.reason
    assert result.metrics["loss"] == 0.5
    run, _ = in_mlflow(settings, result.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["guardianflow.exit_code"] == "3"
    with pytest.raises(ScriptFailedError, match="no data"):
        result.require_success()
    assert RunRecords(Database.open(settings.database_url)).get(result.run_id).status == "FAILED"


def test_a_script_that_dies_by_a_signal(settings: Settings, folder: Path) -> None:
    path = script(folder, "dies.py", "import os, signal\nprint('loss=1')\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    result = wrapped(settings, folder, path)
    assert (result.exit_code, result.signal, result.status) == (None, "SIGSEGV", "FAILED")
    run, _ = in_mlflow(settings, result.run_id)
    assert run.data.tags["guardianflow.signal"] == "SIGSEGV"


def test_a_script_that_never_ends(settings: Settings, folder: Path) -> None:
    path = script(folder, "never.py", "import time\nprint('step 1: loss=3')\nwhile True: time.sleep(1)\n")
    began = time.monotonic()
    result = wrapped(settings, folder, path, timeout_s=1.0)
    assert time.monotonic() - began < 30
    assert (result.stopped, result.status) == ("timeout", "FAILED")
    assert result.metrics["loss"] == 3


def test_a_script_that_deletes_its_working_folder(settings: Settings, folder: Path) -> None:
    path = script(folder, "gone.py", "import os, shutil\nshutil.rmtree(os.getcwd())\nprint('loss=2')\n")
    result = wrapped(settings, folder, path)
    assert result.ok, result.reason
    assert result.metrics["loss"] == 2
    assert not result.artifacts


def test_a_secret_that_is_printed_is_in_nothing_that_is_kept(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "s3cr3t-value-of-the-service")
    path = script(
        folder,
        "talks.py",
        "import os\nAPI_KEY = 'sk-in-the-source-1234567890'\nprint('API_KEY=hunter2hunter2')\n"
        "print('I use', os.environ['MY_SERVICE_TOKEN'])\nprint('loss=1')\n",
    )
    result = wrapped(settings, folder, path, constants=True)
    assert result.ok, result.output
    kept = [file for file in settings.work_dir.rglob("*") if file.is_file()]
    assert len(kept) > 5
    for secret in (b"hunter2hunter2", b"s3cr3t-value-of-the-service", b"sk-in-the-source-1234567890"):
        assert [file for file in kept if secret in file.read_bytes()] == []


def test_invalid_utf8_and_no_newline(settings: Settings, folder: Path) -> None:
    path = script(folder, "raw.py", "import os\nos.write(1, b'\\xff\\xfe loss: 0.25 \\xc3')\n")
    result = wrapped(settings, folder, path)
    assert result.ok
    assert result.metrics["loss"] == 0.25
    json.dumps(result.to_dict())


def test_what_outlives_the_script_is_ended(settings: Settings, folder: Path) -> None:
    mark = f"gf-mark-{os.getpid()}-{time.time_ns()}"
    path = script(
        folder,
        "fork.py",
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('loss=1')\n",
    )
    result = wrapped(settings, folder, path, mark)
    assert result.ok, result.reason
    assert any("outlived" in remark for remark in result.remarks)
    assert [p.pid for p in psutil.process_iter() if mark in " ".join(_cmdline(p))] == []


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


# --- what is kept and what is not -----------------------------------------------------------------------------------


def test_results_outside_of_the_working_folder_are_pointed_to(settings: Settings, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere runs"
    other.mkdir()
    path = script(folder, "t.py", f"print('Results saved to \\x1b[1m{other}\\x1b[0m')\n")
    result = wrapped(settings, folder, path)
    assert [remark for remark in result.remarks if str(other) in remark and "--working-dir" in remark]
    inside = wrapped(settings, folder, script(folder, "in.py", f"print('saved to {folder}')\n"))
    assert not [remark for remark in inside.remarks if "--working-dir" in remark]


def test_only_files_of_this_run_are_kept(settings: Settings, folder: Path) -> None:
    (folder / "old.csv").write_text("a\n1\n")
    path = script(folder, "make.py", "open('new.csv', 'w').write('a\\n2\\n')\n")
    result = wrapped(settings, folder, path, artifact_patterns=["*.csv"])
    assert [(row["name"], row["new"]) for row in result.artifacts] == [("new.csv", True)]
    assert len(result.artifacts[0]["sha256"]) == 64


def copying(folder: Path, *names: str) -> Path:
    """A script that makes these files and folders by copying them out of the folder ``source`` beside its own."""
    text = "import shutil\nfrom pathlib import Path\n" + "".join(
        f"s = Path({str(folder.parent / 'source' / name)!r})\n"
        f"shutil.copytree(s, {name!r}) if s.is_dir() else shutil.copy(s, {name!r})\n"
        for name in names
    )
    return script(folder, "w.py", text)


@pytest.fixture
def source(folder: Path) -> Path:
    place = folder.parent / "source"
    place.mkdir()
    return place


def test_the_model_that_it_makes_is_registered(settings: Settings, folder: Path, source: Path) -> None:
    best = detector(source / "w_best.onnx", metadata={"names": "{0: 'a', 1: 'b', 2: 'c'}"})
    detector(source / "z.onnx")
    path = copying(folder, "w_best.onnx", "z.onnx")
    result = wrapped(settings, folder, path, register_as="made", model_pattern="*.onnx")
    assert result.model == "models:/made/1", result.remarks
    assert ModelRegistry(settings).download("made", 1).read_bytes() == best.read_bytes()


def test_a_model_whose_weights_lie_beside_it_is_not_registered_and_both_files_are_kept(
    settings: Settings, folder: Path, source: Path
) -> None:
    with_weights_beside(source / "m.onnx")
    result = wrapped(settings, folder, copying(folder, "m.onnx", "m.onnx.data"), register_as="made")
    assert result.ok
    assert [row["name"] for row in result.artifacts] == ["m.onnx", "m.onnx.data"]
    assert result.model == f"runs:/{result.run_id}/artifacts/m.onnx"
    assert ModelRegistry(settings).list_models() == []
    said = next(remark for remark in result.remarks if "not registered" in remark)
    assert f"ONNX model {folder / 'm.onnx'} keeps weights in another file ('m.onnx.data')" in said
    assert "save_as_external_data=False" in said
    assert said in result.to_dict()["remarks"]


def test_what_was_not_registered_stands_on_the_terminal_and_in_json(
    settings: Settings, folder: Path, source: Path
) -> None:
    with_weights_beside(source / "m.onnx")
    copying(folder, "m.onnx")
    done = command(settings, folder, "wrap", "w.py", "--register-as", "made", "--json", "--direct")
    (said,) = [remark for remark in json.loads(done.stdout)["remarks"] if "not registered" in remark]
    assert f"note      {said}" in done.stderr
    assert "later: guardianflow register" not in done.stderr, "it would be refused again"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("best.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        ("best.onnx", b"", "is empty"),
        ("last.pth", b"\x80\x02}q\x00.", "form that is not known"),
        ("m_saved_model/saved_model.pb", b"\x08\x01", "m_saved_model lacks its weights or graph"),
    ],
)
def test_what_a_benchmark_would_refuse_is_not_registered(
    settings: Settings, folder: Path, name: str, content: bytes, says: str
) -> None:
    text = f"import pathlib\np = pathlib.Path({name!r})\np.parent.mkdir(exist_ok=True)\np.write_bytes({content!r})\n"
    result = wrapped(settings, folder, script(folder, "w.py", text), register_as="made", model_pattern=name)
    assert any("'made' was not registered" in remark and says in remark for remark in result.remarks), result.remarks
    assert ModelRegistry(settings).list_models() == []


def test_a_model_that_is_a_folder_is_registered_whole(settings: Settings, folder: Path, source: Path) -> None:
    from tests.vision.backends.small_models import exported

    place = Path(shutil.copytree(exported("openvino").path, source / "m_openvino_model"))
    path = copying(folder, "m_openvino_model")
    result = wrapped(settings, folder, path, register_as="made", model_pattern="**/*.xml")
    assert result.model == "models:/made/1", result.remarks
    version = ModelRegistry(settings).get("made", 1)
    assert (version.artifact, version.serving.backend) == ("artifacts/m_openvino_model", "openvino")
    assert version.sha256 == measure(place).sha256
    (folder / "w.py").write_text((folder / "w.py").read_text() + "open('m_openvino_model/model.xml', 'a').write(' ')\n")
    shutil.rmtree(folder / "m_openvino_model")
    part = wrapped(settings, folder, path, register_as="part", model_pattern="**/*.xml", artifact_patterns=["**/*.xml"])
    assert any("not all of it was kept" in remark and "--artifact" in remark for remark in part.remarks), part.remarks


def test_a_script_that_fails_registers_nothing(settings: Settings, folder: Path) -> None:
    path = script(folder, "w.py", "open('w_best.onnx', 'wb').write(b'x')\nraise SystemExit(1)\n")
    result = wrapped(settings, folder, path, register_as="made")
    assert not result.model.startswith("models:/")
    assert ModelRegistry(settings).list_models() == []


def test_the_same_code_arguments_and_data_are_known_again(settings: Settings, folder: Path) -> None:
    script(folder, "part.py", "X = 1\n")
    (folder / "data.txt").write_text("1")
    path = script(folder, "train.py", "import part, sys\nprint(open(sys.argv[1]).read())\n")

    def again(*args: str) -> bool:
        wrapper = GenericWrapper("people", path, folder, list(args), settings=settings)
        return wrapper.already_done() is not None

    assert not again("data.txt")
    wrapped(settings, folder, path, "data.txt")
    assert again("data.txt")
    assert not again("part.py")
    (folder / "data.txt").write_text("2")
    assert not again("data.txt")
    (folder / "data.txt").write_text("1")
    assert again("data.txt")
    (folder / "part.py").write_text("X = 2\n")
    assert not again("data.txt")


def test_runs_kept_beside_the_script_are_no_part_of_it(
    folder: Path, source: Path, mlflow_sqlite_template: Path
) -> None:
    work = folder / "guardianflow-work"
    work.mkdir()
    (work / "mlflow.db").write_bytes(mlflow_sqlite_template.read_bytes())
    beside = Settings(work_dir=work, gate="off")
    detector(source / "w.onnx", metadata={"names": "{0: 'a', 1: 'b', 2: 'c'}"})
    path = copying(folder, "w.onnx")
    first = wrapped(beside, folder, path)
    assert GenericWrapper("people", path, folder, settings=beside).already_done() is not None
    again = wrapped(beside, folder, path, register_as="same")
    assert [row["sha256"] for row in again.artifacts] == [row["sha256"] for row in first.artifacts]
    assert again.model == "models:/same/1", again.remarks


def test_code_and_data_are_hashed_once_where_it_was_asked_whether_the_run_is_needed(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    path = script(folder, "once.py", "print('loss: 1')\n")
    asked = GenericWrapper("people", path, folder, settings=settings)
    assert asked.already_done() is None
    left = tmp_path / "run"
    GenericWrapper.of(asked.scenario, settings=settings).hand_over(left)
    assert json.loads((left / "identity.json").read_text(encoding="utf-8"))["digest"] == asked.identity()
    asked.hand_over(tmp_path / "other")  # handed over once; another run looks anew
    assert not (tmp_path / "other" / "identity.json").exists()


def test_a_failed_run_is_needed_again(settings: Settings, folder: Path) -> None:
    path = script(folder, "no.py", "raise SystemExit(1)\n")
    wrapped(settings, folder, path)
    assert GenericWrapper("people", path, folder, settings=settings).already_done() is None


def test_a_preview_runs_nothing(settings: Settings, folder: Path) -> None:
    path = script(
        folder,
        "train.py",
        "import argparse\nopen('ran', 'w')\n"
        "p = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n",
    )
    sample = script(folder, "old.log", "epoch 1: loss=0.5\nepoch 2: loss=0.4\n")
    wrapper = GenericWrapper("people", path, folder, ["--lr", "0.2"], settings=settings)
    preview = wrapper.preview(sample)
    assert not (folder / "ran").exists()
    assert preview.parameters["lr"] == 0.2
    assert preview.origins["lr"] == "command line"
    assert [(row["metric"], row["points"], row["last"]) for row in preview.metrics] == [("loss", 2, 0.4)]
    assert not list((settings.work_dir / "runs").glob("*")) if (settings.work_dir / "runs").exists() else True
    assert "&lt;" not in preview._repr_html_()


def test_where_nothing_was_found_lines_and_a_pattern_that_fits_are_shown(settings: Settings, folder: Path) -> None:
    text = "for n in range(1, 4):\n    print('round', n, '> error ~', 1 / n, '| token=hunter22222')\n"
    path = script(folder, "talk.py", text)
    result = wrapped(settings, folder, path)
    remark = next(remark for remark in result.remarks if "no metrics were found" in remark)
    assert "round 1 > error ~ 1.0" in remark
    assert "round 3 > error" in remark
    assert "hunter22222" not in remark
    pattern = remark.split("--metric '")[1].split("'")[0]
    assert result.to_dict()["metrics"].get("error") is None
    again = wrapped(settings, folder, path, metric_patterns=[pattern])
    assert in_mlflow(settings, again.run_id)[1]["error"] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    sample = GenericWrapper("people", path, folder, settings=settings).preview(result.folder / "stdout.log")
    assert pattern in " ".join(sample.remarks)


def test_points_reach_the_store_too(settings: Settings, folder: Path) -> None:
    path = script(folder, "t.py", "for i in range(3): print(f'step {i}: loss={1 / (i + 1):.3f}')\n")
    result = wrapped(settings, folder, path)
    frame = MetricsStore(settings.database_url).query_metrics(metric="loss")
    assert sorted(frame["value"]) == [0.333, 0.5, 1.0]
    assert set(frame["run_id"]) == {result.run_id}


def test_only_the_variables_that_are_let_through_reach_it(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LET_THROUGH", "1")
    monkeypatch.setenv("KEPT_BACK", "1")
    path = script(
        folder,
        "env.py",
        "import os\nprint(f\"let={int('LET_THROUGH' in os.environ)} kept={int('KEPT_BACK' in os.environ)}\")\n",
    )
    result = wrapped(settings, folder, path, environment_allowed=["LET_*"])
    assert (result.metrics["let"], result.metrics["kept"]) == (1, 0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"script_path": "nothing.py"}, InputError, "nothing.py"),
        ({"working_dir": "no such folder"}, InputError, "no such folder"),
        ({"artifact_patterns": ["../*.pt"]}, InputError, r"\.\."),
        ({"metric_patterns": ["("]}, InputError, r"\("),
        ({"experiment_name": "a/b"}, InvalidNameError, "a/b"),
        ({"timeout_s": -1}, ParameterError, "timeout_s"),
    ],
)
def test_bad_input_is_one_sentence_and_makes_no_run(
    settings: Settings, folder: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    script(folder, "ok.py", "print(1)\n")
    asked: dict[str, Any] = {"experiment_name": "e", "script_path": "ok.py", "working_dir": folder, **options}
    with pytest.raises(error, match=words):
        GenericWrapper(**asked, settings=settings).run()
    assert RunRecords(Database.open(settings.database_url)).list() == []


def test_a_result_is_shown_and_read_back_whole(settings: Settings, folder: Path) -> None:
    path = script(folder, "t.py", "print('<b>loss=1</b> loss=2')\n")
    result = wrapped(settings, folder, path)
    assert WrapResult.from_dict(json.loads(json.dumps(result.to_dict()))).to_dict() == json.loads(
        json.dumps(result.to_dict())
    )
    page = result._repr_html_() + result.show_artifacts()._repr_html_()
    assert result.run_id in page
    assert "<b>loss" not in OutputTail(result.output, result.folder)._repr_html_().replace("<b>stdout", "")


# --- through the command line ---------------------------------------------------------------------------------------


def command(settings: Settings, folder: Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(settings.work_dir)}
    return subprocess.run(
        [_program(), *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip


def _program() -> str:
    return str(Path(sys.executable).with_name("guardianflow"))


@pytest.mark.slow
def test_the_command_shows_the_script_while_it_runs_and_leaves_a_notebook(settings: Settings, folder: Path) -> None:
    script(
        folder,
        "t.py",
        "import sys\nfor i in range(3): print(f'step {i}: loss={i}')\nprint('to stderr', file=sys.stderr)\n",
    )
    done = command(settings, folder, "wrap", "t.py", "-e", "cmd", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "FINISHED"
    assert document["exit_code"] == 0
    assert document["metrics"]["loss"] == 2
    assert "step 2: loss=2" in done.stderr
    assert "to stderr" in done.stderr
    notebook = nbformat.read(document["notebook"], as_version=4)
    assert all(cell.get("execution_count") for cell in notebook.cells if cell.cell_type == "code")
    again = command(settings, folder, "wrap", "t.py", "-e", "cmd", "--needed", "--json")
    assert json.loads(again.stdout) == {
        "needed": False, "run_id": document["run_id"], "status": "FINISHED", "experiment": "cmd",
    }  # fmt: skip


def test_what_python_raised_is_the_reason_and_no_colour_is_in_what_is_shown(settings: Settings, folder: Path) -> None:
    script(
        folder,
        "f.py",
        "import atexit, sys\n"
        "atexit.register(lambda: print('see you', file=sys.stderr))\n"
        "print('10%\\r90%\\r\\033[K100%\\n\\033[34mblue\\033[0m', flush=True)\n"
        "raise RuntimeError('no such dataset')\n",
    )
    result = GenericWrapper("e", "f.py", folder, settings=settings).run()
    assert result.reason == "it ended with exit code 1: RuntimeError: no such dataset"
    assert result.output["stdout"].splitlines() == ["100%", "blue"]
    assert result.output["stderr"].splitlines()[-1] == "see you"


@pytest.mark.slow
def test_the_command_says_how_the_script_failed(settings: Settings, folder: Path) -> None:
    script(folder, "f.py", "import sys\nprint('loss=1')\nsys.stderr.write('out of luck\\n')\nsys.exit(3)\n")
    done = command(settings, folder, "wrap", "f.py", "-e", "cmd", "--json", "--", "--never", "mind")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["script"]["exit_code"] == 3
    assert document["script"]["metrics"]["loss"] == 1
    assert "out of luck" in done.stderr
    record = RunRecords(Database.open(settings.database_url)).get(document["script"]["run_id"])
    assert record.status == "FAILED"
    page = (record.folder / "wrap.html").read_text(encoding="utf-8")
    assert "out of luck" in page


def test_a_dry_run_of_the_command(settings: Settings, folder: Path) -> None:
    script(folder, "t.py", "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=0.1)\n")
    done = command(settings, folder, "wrap", "t.py", "--dry-run", "--json", "--", "--lr", "3")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == {"lr": "3"} or json.loads(done.stdout)["parameters"] == {"lr": 3}


def test_a_command_without_a_script_says_what_to_type(settings: Settings, folder: Path) -> None:
    done = command(settings, folder, "wrap")
    assert done.returncode == 2
    assert "wrap train.py" in done.stderr
