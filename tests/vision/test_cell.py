"""Cells in processes of their own: what they answer, and what is said of one that dies. Real processes throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from guardianflow.data.dataset import read_dataset
from guardianflow.data.fingerprint import fingerprint_dataset
from guardianflow.evaluation.detection.records import DetectionRecord
from guardianflow.exceptions import HashMismatchError, InputError
from guardianflow.processes.process_watch import memory_limit
from guardianflow.scenes.scenes import SceneConfig, generate_clip
from guardianflow.vision.benchmark.cell import classify
from guardianflow.vision.benchmark.cell_process import run_cell
from guardianflow.vision.benchmark.cell_results import CellProgress, CellResult, CellSpec
from guardianflow.vision.benchmark.cell_work import measure_cell, timing_images
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.tracking.run import TrackingRecord
from tests.trainings import write_tiny_data
from tests.vision.backends.small_models import weights

PROGRAM = Path(__file__).with_name("cell_programs.py")
MODEL = ModelFile(Path("none.pt"), "torch", ("a", "b"), 64, 32, False, "fp32", "0" * 64, 5.0, True, 0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("그림 pictures")
    for number in range(3):
        content = cv2.imencode(".png", np.full((40, 60, 3), 40 * number, np.uint8))[1]
        (folder / f"{number}.png").write_bytes(content.tobytes())
    return folder


@pytest.fixture
def spec(tmp_path, pictures) -> CellSpec:
    return CellSpec(
        model=MODEL, backend="fake", folder=str(tmp_path / "cell 1"), source=str(pictures), imgsz=64,
        modes=("single_stream",), seconds=0.05, repeats=2, extras=False, evaluate=False,
    )  # fmt: skip


def run(spec: CellSpec, kind: str, **options) -> CellResult:
    return run_cell(spec, program=(sys.executable, str(PROGRAM), *kind.split()), **{"timeout_s": 60, **options})


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_cell_answers_with_figures_latencies_and_what_it_cost(spec):
    steps: list[CellProgress] = []
    result = run(replace(spec, modes=("single_stream", "offline", "server")), "good", on_progress=steps.append)
    assert (result.status, result.reason) == ("ok", "")
    assert [mode.mode for mode in result.modes] == ["single_stream", "server", "offline"]
    single = result.mode("single_stream")
    assert 2.0 <= single.latency.p50 < 20.0
    assert len(single.latencies_ms) == single.latency.count
    assert result.precision_executed == "fp32"
    assert result.first_inference_ms > 2.0
    assert result.load_s >= 0
    assert result.start_s > 0.05
    assert result.peak_rss_mb > 20
    assert result.seconds > result.start_s
    assert [step.step for step in steps][:2] == ["load", "single_stream"]
    assert steps[-1] == CellProgress("offline", 2, 2)
    again = CellResult.load(Path(spec.folder))
    assert again.metrics() == result.metrics()
    assert {"latency_ms_p50", "throughput_fps", "rss_mb", "cpu_util", "model_size_mb"} <= set(result.metrics())
    assert result.metrics()["throughput_fps"] == result.mode("offline").throughput_fps


@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("abort", "crashed", "SIGABRT"),
        ("abort-for-memory", "out_of_memory", "ran out of memory"),
        ("killed", "out_of_memory", "SIGKILL"),
        ("cuda", "out_of_memory", "CUDA out of memory"),
        ("memory", "out_of_memory", "ran out of memory"),
        ("raises", "failed", "RuntimeError: the kernel of layer 7 is missing"),
        ("missing", "unavailable", "the fake runtime is not installed"),
        ("quits", "failed", "without a result"),
        ("exits", "failed", "no more"),
    ],
)
def test_a_cell_that_dies_says_how(spec, kind, status, word):
    result = run(spec, kind)
    assert result.status == status
    assert word in result.reason
    assert result.modes == ()
    assert Path(result.log).is_file()
    assert CellResult.load(Path(spec.folder)).status == status


def test_the_log_of_a_crash_holds_the_stack(spec):
    result = run(spec, "segfault")
    text = Path(result.log).read_text()
    assert "Segmentation fault" in text
    assert "cell_programs.py" in text
    assert result.failed_in == "load"


def test_a_cell_that_takes_too_much_memory_is_ended_before_the_machine_is_full(spec):
    began = time.monotonic()
    result = run(spec, "hungry", memory_limit_mb=500)
    assert result.status == "out_of_memory"
    assert "500 MB" in result.reason
    assert 500 < result.peak_rss_mb < 2500
    assert time.monotonic() - began < 30


def test_what_its_children_take_counts_and_they_end_with_it(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(spec, "hungry-child", memory_limit_mb=300)
    assert result.status == "out_of_memory"
    assert not alive(int((tmp_path / "child.pid").read_text()))


def test_what_a_cell_leaves_running_ends_with_it(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(spec, "leaves-child").ok
    assert not alive(int((tmp_path / "child.pid").read_text()))


def test_a_cell_ends_when_the_wait_for_it_is_interrupted(spec):
    """Who started it lives on, as a notebook does after Ctrl-C."""
    cells: list[psutil.Process] = []
    others = {child.pid for child in psutil.Process().children()}  # servers of other tests

    def interrupt(_: CellProgress) -> None:
        cells.extend(child for child in psutil.Process().children() if child.pid not in others)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, "deaf", on_progress=interrupt)
    assert cells
    assert not any(alive(cell.pid) for cell in cells)


def test_a_cell_that_takes_too_long_is_ended_even_if_it_does_not_listen(spec):
    result = run(spec, "deaf", timeout_s=3)
    assert result.status == "timeout"
    assert "3 s" in result.reason
    assert result.failed_in == "load"
    assert result.seconds < 20


def test_a_model_that_was_swapped_after_it_was_hashed_gives_no_figures(spec):
    model = read_model_file(weights())
    asked = replace(spec, model=model, backend="torch")
    found = CellResult(asked, "ok")
    measure_cell(found, report=Silent(), model=model)
    assert len(found.modes) == 1
    with pytest.raises(HashMismatchError, match="was changed while it was being measured"):
        measure_cell(found := CellResult(asked, "ok"), report=Silent(), model=replace(model, sha256="0" * 64))
    assert found.modes == ()


class Silent:
    def __call__(self, step: str, done: int = 0, total: int = 0, text: str = "") -> None:
        pass

    def often(self, step: str, done: int, total: int) -> None:
        pass


def test_modes_that_were_measured_before_an_exception_are_kept(spec):
    """No clock waits as long as this rate asks: that cell has failed, and its first mode is in it."""
    work = replace(spec, modes=("single_stream", "server"), rate=1e-300)
    result = run(work, "good")
    assert (result.status, result.failed_in) == ("failed", "server")
    assert [mode.mode for mode in result.modes] == ["single_stream"]
    assert len(result.modes[0].latencies_ms)


def test_a_crash_after_the_result_is_a_warning(spec, monkeypatch):
    monkeypatch.setenv("CRASH_AT_EXIT", "1")
    result = run(spec, "good")
    assert result.status == "ok"
    assert result.modes
    assert any("SIGSEGV" in warning for warning in result.warnings)


def test_an_old_result_does_not_pass_for_that_of_a_crash(spec):
    assert run(spec, "good").ok
    result = run(spec, "segfault")
    assert result.status == "crashed"
    assert not list(Path(spec.folder).glob("latencies_*"))


def test_a_matrix_goes_on_after_a_crash(spec, tmp_path):
    kinds = ["good", "segfault", "good"]
    results = [run(replace(spec, folder=str(tmp_path / f"{number}")), kind) for number, kind in enumerate(kinds)]
    assert [result.status for result in results] == ["ok", "crashed", "ok"]


def test_accuracy_is_measured_on_the_labelled_images_and_the_predictions_are_kept(spec, tmp_path):
    data_yaml = write_tiny_data(tmp_path / "data", images=10)
    picture = min((tmp_path / "data" / "images" / "val").iterdir())
    picture.write_bytes(b"no picture")
    work = replace(spec, data_yaml=str(data_yaml), source="", evaluate=True, modes=("offline",), batch=2)
    result = run(work, "sees")
    assert result.status == "ok", result.reason
    assert set(result.detection) == {"map50", "map50_95", "precision", "recall", "f1"}
    assert result.metrics()["map50"] == result.detection["map50"]
    assert result.detection_details["confidence"] == spec.confidence
    record = DetectionRecord.load(result.evaluation_folder)
    assert len(record.predictions.image) == len(record.images) > 0
    assert record.facts["model_sha256"] == MODEL.sha256
    assert record.facts["dataset_fingerprint"] == fingerprint_dataset(read_dataset(data_yaml)).total
    assert any(picture.name in warning for warning in result.warnings)
    assert result.mode("offline").failed_images > 0
    nothing = run(work, "good")  # zero detections are a figure, too
    assert (nothing.status, nothing.detection["map50"]) == ("ok", 0.0)


def test_a_part_of_the_images_is_the_same_for_timing_and_for_accuracy(spec, tmp_path):
    data_yaml = write_tiny_data(tmp_path / "data", images=20)
    work = replace(spec, data_yaml=str(data_yaml), split="train", images=3, seed=7, evaluate=True)
    files = timing_images(work)
    assert len(files) == 3
    assert files == timing_images(replace(work, backend="another"))
    assert files != timing_images(replace(work, seed=8))
    record = DetectionRecord.load(run(work, "good").evaluation_folder)
    assert [Path(name).name for name in record.images.names] == [file.name for file in files]


def test_a_source_is_tracked_and_shown_and_an_early_end_is_told(spec, tmp_path):
    video, random = tmp_path / "cut.avi", np.random.default_rng(1)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for _ in range(20):
        writer.write(random.integers(0, 255, (64, 96, 3), np.uint8))
    writer.release()
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    result = run(replace(spec, source=str(video), tracker="bytetrack", modes=()), "sees")
    assert result.status == "ok", result.reason
    facts = result.tracking
    assert 3 < facts["frames"] < 20
    assert facts["identities"] == 1
    assert "bytetrack followed 1 object" in facts["verdict"]
    assert "early" in facts["note"] or "could" in facts["note"]
    assert facts["note"] in result.warnings
    assert (Path(spec.folder) / "clip.webp").read_bytes()[:4] == b"RIFF"
    assert TrackingRecord.load(Path(spec.folder) / "tracking").identities == 1
    assert {"decode", "forward", "tracking"} <= set(facts["times"]["stages"])


def test_what_the_labelled_tracks_leave_open_is_among_the_warnings(spec, tmp_path):
    clip = generate_clip(tmp_path, frames=6, fps=10, config=SceneConfig(seed=3, imgsz=96))
    truth = clip.folder / "gt" / "gt.txt"
    rows = np.loadtxt(truth, delimiter=",", ndmin=2)
    rows[0, 6], rows[:, 2:6] = 0, rows[:, 2:6] / 96
    np.savetxt(truth, rows, delimiter=",", fmt="%.8g")
    result = run(replace(spec, source=str(clip.folder), tracker="bytetrack", modes=()), "sees")
    assert result.status == "ok", result.reason
    remarks = result.tracking["evaluation"]["remarks"]
    assert any("were scaled to 96×96 pixels" in text for text in remarks)
    assert any("marked as not to be scored" in text for text in remarks)
    assert all(text in " ".join(result.warnings) for text in remarks)


def _start_parent(spec: CellSpec, kind: str) -> subprocess.Popen:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from guardianflow.vision.benchmark.cell_process import run_cell\n"
        "from guardianflow.vision.benchmark.cell_results import CellSpec\n"
        "run_cell(CellSpec.from_dict(json.loads(sys.argv[2])), program=(sys.executable, sys.argv[3], sys.argv[4]))\n"
    )
    root = str(PROGRAM.parents[2])
    words = [sys.executable, "-c", code, root, json.dumps(spec.to_dict()), str(PROGRAM), kind]
    return subprocess.Popen(words, stderr=subprocess.PIPE)


def _wait_for_cell(parent: subprocess.Popen, folder: Path) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        progress = folder / "progress.jsonl"
        if progress.is_file() and '"load"' in progress.read_text():
            return psutil.Process(parent.pid).children(recursive=True)[-1]  # below its keeper
        time.sleep(0.05)
    pytest.fail("the cell did not start")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_cell_ends_with_who_started_it(spec, how):
    parent = _start_parent(spec, "deaf")
    cell = _wait_for_cell(parent, Path(spec.folder))
    parent.send_signal(how)
    parent.communicate(timeout=30)
    psutil.wait_procs([cell], timeout=10)
    assert not alive(cell.pid)
    assert parent.returncode != 0


def test_a_backend_that_is_not_installed_is_unavailable_before_anything_is_exported(spec):
    from guardianflow.vision.backends.catalog import availability

    missing = availability("tensorrt")
    if missing.ok:
        pytest.skip("TensorRT works here; the test needs a backend that doesn't")
    result = run_cell(replace(spec, backend="tensorrt"), timeout_s=60)
    assert result.status == "unavailable"
    assert result.reason == missing.reason
    assert result.failed_in == "prepare"


def test_a_backend_that_nobody_knows_fails_by_its_name(spec):
    result = run_cell(replace(spec, backend="nonsense"), timeout_s=60)
    assert result.status == "failed"
    assert "no backend named 'nonsense'" in result.reason


def test_a_cell_is_data_and_names_no_code(spec):
    result = run_cell(replace(spec, backend="os:system"), timeout_s=60)
    assert result.status == "failed"
    assert "no backend named" in result.reason
    with pytest.raises(InputError, match="has no 'program'"):
        CellSpec.from_dict({**spec.to_dict(), "program": "x"})
    assert CellSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_what_a_cell_cannot_be_asked_is_refused(spec):
    with pytest.raises(InputError, match="known: single_stream"):
        replace(spec, modes=("nothing",))
    with pytest.raises(InputError, match="at least 1"):
        replace(spec, batch=0)
    with pytest.raises(InputError, match="needs images"):
        replace(spec, source="")
    with pytest.raises(InputError, match="timeout"):
        run_cell(spec, timeout_s=0)


def test_no_image_that_can_be_read_fails_the_cell_by_a_sentence(spec, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"not an image")
    result = run(replace(spec, source=str(folder)), "good")
    assert result.status == "failed"
    assert result.modes == ()


def test_the_memory_limit_is_what_was_asked_or_a_share_of_what_is_left():
    assert memory_limit(123) == 123
    assert 0 < memory_limit() <= psutil.virtual_memory().total * 0.9 / 1e6


@pytest.mark.parametrize(
    "text",
    ["[ONNXRuntimeError] Failed to allocate memory for requested buffer", "std::bad_alloc", "CUDA out of memory"],
)
def test_runtimes_say_in_their_own_words_that_memory_ran_out(text):
    assert classify(RuntimeError(text))[0] == "out_of_memory"
    assert classify(RuntimeError("something else"))[0] == "failed"


def test_a_cell_is_the_first_that_the_system_ends_when_memory_runs_out(spec):
    if sys.platform != "linux":
        pytest.skip("the OOM killer is Linux's")
    parent = _start_parent(spec, "deaf")
    cell = _wait_for_cell(parent, Path(spec.folder))
    try:
        assert Path(f"/proc/{cell.pid}/oom_score_adj").read_text().strip() == "1000"
        assert os.getpgid(cell.pid) != os.getpgid(parent.pid)  # Ctrl-C in a terminal doesn't reach it
    finally:
        parent.send_signal(signal.SIGINT)
        parent.communicate(timeout=30)
