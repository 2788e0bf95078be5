"""Benchmarks as runs: real cells of real runtimes on a model of seconds, what is kept, and what goes wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import InputError, ModelFileError, NotFoundError, ParameterError, RunFailedError
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runners.inference.result import InferenceResult
from guardianflow.runners.inference.runner import InferenceRunner
from guardianflow.runners.model_source import find_model_source
from guardianflow.runners.quantization.runner import QuantizationRunner
from guardianflow.runners.training.runner import Database
from guardianflow.runs.mlflow_runs import make_client
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.scenario.factory import plan_again
from tests.small_onnx import detector
from tests.trainings import ListSink, Trained, copy_data

QUICK = {"seconds": 0.05, "repeats": 2, "device": "cpu"}


class Measured:
    """One benchmark that several tests look at."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.sink = ListSink()
        runner = InferenceRunner(
            "재기 bench", trained.result.run_id, trained.data_yaml, (2, 1), ("torch", "openvino"), ("fp32", "bf16x"),
            settings=trained.settings, sink=self.sink, **QUICK,
        )  # fmt: skip
        self.result = runner.run()
        self.client = make_client(trained.settings)


@pytest.fixture(scope="module")
def measured(trained: Trained) -> Measured:
    return Measured(trained)


def test_every_combination_is_a_cell_and_what_cannot_be_is_named(measured: Measured) -> None:
    cells = {(row["backend"], row["batch"], row["mode"]) for row in measured.result.cells}
    assert cells == {
        (backend, batch, mode)
        for backend in ("torch", "openvino")
        for batch in (1, 2)
        for mode in ("single_stream", "offline")
    }
    assert all(row["status"] == "ok" for row in measured.result.cells), measured.result.verdict
    assert [row["label"] for row in measured.result.left_out] == ["torch bf16x", "openvino bf16x"]


def test_runtimes_agree_and_say_what_they_really_ran(measured: Measured) -> None:
    scored = [row["detection"]["map50_95"] for row in measured.result.cells if row["detection"]]
    assert len(scored) == 2
    assert max(scored) - min(scored) <= 0.002
    assert {row["precision_executed"] for row in measured.result.cells} == {"fp32"}


def test_each_figure_has_its_noise_and_each_stage_its_time(measured: Measured) -> None:
    single = next(row for row in measured.result.cells if row["mode"] == "single_stream" and row["batch"] == 1)
    assert {"latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "throughput_fps"} <= single["metrics"].keys()
    assert single["noise"]["latency_ms_p50"] >= 0
    assert {"decode", "preprocess", "forward", "postprocess"} <= single["stages"].keys()
    assert sum(stage["p50"] for stage in single["stages"].values()) <= 1.5 * single["metrics"]["latency_ms_p50"]


def test_each_cell_is_a_child_run_with_its_figures_and_files(measured: Measured) -> None:
    children = {row["run_id"] for row in measured.result.cells}
    assert len(children) == 4
    for child in children:
        run = measured.client.get_run(child)
        assert run.data.tags["mlflow.parentRunId"] == measured.result.run_id
        assert run.info.status == RunStatus.FINISHED
        assert run.data.params["precision_executed"] == "fp32"
        assert run.data.metrics["latency_ms_p50"] > 0
        assert {"result.json", "cell.log"} <= {item.path for item in measured.client.list_artifacts(child)}


def test_predictions_are_kept_for_the_gate_and_figures_in_the_store(measured: Measured) -> None:
    index = Evaluations(measured.trained.settings)
    model = find_model_source(measured.trained.result.run_id, measured.trained.settings)
    ours = {measured.result.run_id, *(row["run_id"] for row in measured.result.cells)}  # others measure the model, too
    found = [row for row in index.find(fingerprint=model.fingerprint) if row.run_id in ours]
    rows = [row for row in found if row.backend == "openvino"]
    assert len(rows) == 1
    assert rows[0].metrics["latency_ms_p50"] > 0
    assert len(index.load(rows[0]).images) == 4
    stored = {(record.metric, record.tags["mode"]) for record in measured.sink.records.values()}
    assert {("map50_95", "single_stream"), ("throughput_fps", "offline")} <= stored
    assert {record.source for record in measured.sink.records.values()} == {"inference"}


def test_the_result_can_be_read_back_and_shown(measured: Measured) -> None:
    folder = measured.result.folder
    again = InferenceResult.load(folder)
    assert again.to_dict() == measured.result.to_dict()
    json.dumps(again.to_dict(), allow_nan=False)
    page = again._repr_html_()
    assert "openvino" in page
    assert "±" in page
    for figure in (again.plot_latency(), again.plot_stages(), again.plot_quality(), again.plot_throughput()):
        assert figure.data
    assert again.plot_curves().data
    for figure in (again.plot_confusion(), again.plot_confidence(), again.plot_classes(), again.plot_sizes()):
        assert figure.data
    assert [name for name, _, _ in again.show_endurance().rows()] == ["torch fp32 · batch 1", "openvino fp32 · batch 1"]
    assert "of rest" in again.show_endurance()._repr_html_()
    assert again.show_misses()._repr_jpeg_()


def test_a_cell_can_be_measured_again_by_itself(measured: Measured) -> None:
    records = RunRecords(Database.open(measured.trained.settings.database_url))
    child = records.get(measured.result.cells[-1]["run_id"])
    plan = plan_again(child)
    assert plan.kind == "infer"
    assert (plan.parameters["backends"], plan.parameters["batch_sizes"]) == (["openvino"], [2])


def test_a_cell_that_takes_too_much_memory_leaves_the_others_whole(trained: Trained) -> None:
    result = InferenceRunner(
        "bench", trained.result.best, trained.data_yaml, (1,), ("torch", "openvino"), modes=["offline"],
        settings=trained.settings, sink=ListSink(), memory_limit_mb=420, **QUICK,
    ).run()  # fmt: skip
    state = {row["backend"]: row["status"] for row in result.cells}
    assert state == {"torch": "out_of_memory", "openvino": "ok"}
    assert "1 of 2 cells did not run: torch fp32 (out_of_memory)" in result.verdict
    lost = next(row for row in result.cells if row["backend"] == "torch")
    assert make_client(trained.settings).get_run(lost["run_id"]).info.status == RunStatus.FAILED


def test_when_no_cell_runs_the_run_failed_and_says_why(trained: Trained) -> None:
    runner = InferenceRunner(
        "bench", trained.result.best, trained.data_yaml, (1,), ("torch",), settings=trained.settings, sink=ListSink(),
        memory_limit_mb=60, **QUICK,
    )  # fmt: skip
    with pytest.raises(RunFailedError, match="no cell of the benchmark could be measured"):
        runner.run()
    records = RunRecords(Database.open(trained.settings.database_url))
    last = records.list(kind="infer", limit=1)[0]
    assert last.status == RunStatus.FAILED
    assert InferenceResult.load(last.folder).cells[0]["status"] == "out_of_memory"


def test_a_corrupt_image_in_the_middle_is_left_out_and_named(trained: Trained, tmp_path: Path) -> None:
    data_yaml = copy_data(trained.data_yaml, tmp_path / "data")
    broken = sorted((tmp_path / "data" / "images" / "val").iterdir())[1]
    broken.write_bytes(b"\xff\xd8 no picture")
    result = InferenceRunner(
        "bench", trained.result.best, data_yaml, (1,), ("openvino",), modes=["offline"], settings=trained.settings,
        sink=ListSink(), **QUICK,
    ).run()  # fmt: skip
    row = result.cells[0]
    assert row["status"] == "ok"
    assert any(broken.name in warning for warning in row["warnings"]), row["warnings"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"backends": ("tensorboard",)}, NotFoundError, "there is no .*backend.* named 'tensorboard'"),
        ({"model_path": "nowhere.pt"}, NotFoundError, "there is no model 'nowhere.pt'"),
        ({"precision": ("int3",)}, InputError, "no backend can run what was asked"),
        ({"split": "test"}, InputError, "test"),
        ({"source": "no/such/video.mp4", "tracker": "bytetrack"}, NotFoundError, "there is no source"),
        ({"device": "cuda:7"}, InputError, "cuda:7"),
        ({"batch_sizes": (0,)}, ParameterError, "batch_sizes"),
        ({"modes": ["latency"]}, ParameterError, "modes"),
        ({"data_yaml": ""}, ParameterError, "data_yaml .* or source"),
        ({"speed": 3}, ParameterError, "there is no parameter 'speed'"),
    ],
)
def test_bad_input_is_one_sentence_and_no_run(trained: Trained, change: dict, error: type, words: str) -> None:
    records = RunRecords(Database.open(trained.settings.database_url))
    before = len(records.list(limit=1000))
    asked = {
        "experiment_name": "bench", "model_path": trained.result.best, "data_yaml": trained.data_yaml, **QUICK, **change
    }  # fmt: skip
    with pytest.raises(error, match=words) as caught:
        InferenceRunner(settings=trained.settings, sink=ListSink(), **asked).run()
    assert "\n" not in str(caught.value)
    assert len(records.list(limit=1000)) == before


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("{0: person}", "knows 2 classes .*, the data .* has 1"),
        ("{0: 차량 vehicle, 1: 사람}", r"the same classes in another order .*'사람' is 0 and 1\)"),
        ("{0: helmet, 1: 사람}", r"in another order .*'사람' is 0 and 1\)"),
        (
            "{0: helmet, 1: vest}",
            "names its classes 사람, 차량 vehicle, the data .* helmet, vest; .* --classes-by-number",
        ),
        ("{0: helmet, 1: 차량 vehicle}", "names its classes 사람, 차량 vehicle, the data .* helmet, 차량 vehicle"),
    ],
)
def test_a_model_with_other_classes_than_the_data_is_refused(
    trained: Trained, tmp_path: Path, names: str, words: str
) -> None:
    data_yaml = named_anew(trained, tmp_path, names)
    for runner in (InferenceRunner, QuantizationRunner):
        options = {"backend": "onnxruntime"} if runner is QuantizationRunner else {}
        with pytest.raises(ModelFileError, match=words):
            runner("bench", trained.result.best, data_yaml=data_yaml, settings=trained.settings, **options).check()


@pytest.mark.parametrize(
    ("names", "asked", "words"),
    [
        ("{0: 사람, 1: 차량_Vehicle}", {}, "write some class names differently .*they are taken for the same"),
        ("{0: \u1109\u1161\u1105\u1161\u11b7, 1: 차량 vehicle}", {}, "write some class names differently"),
        ("{0: helmet, 1: vest}", {"classes_by_number": True}, "'사람' against 'helmet'.* compared by number, as asked"),
    ],
)
def test_names_that_mean_the_same_or_were_said_to_are_taken_and_remarked(
    trained: Trained, tmp_path: Path, names: str, asked: dict, words: str
) -> None:
    data_yaml = named_anew(trained, tmp_path, names)
    for runner in (
        InferenceRunner("bench", trained.result.best, data_yaml, settings=trained.settings, **asked),
        QuantizationRunner(
            "bench", trained.result.best, "onnxruntime", data_yaml=data_yaml, settings=trained.settings, **asked
        ),
    ):
        runner.check()
        assert len([said for said in runner.remarks if re.search(words, said)]) == 1, runner.remarks


def test_the_same_names_in_another_order_are_refused_even_by_number(trained: Trained, tmp_path: Path) -> None:
    data_yaml = named_anew(trained, tmp_path, "{0: 차량 vehicle, 1: 사람}")
    asked = {"settings": trained.settings, "classes_by_number": True}
    with pytest.raises(ModelFileError, match="another order"):
        InferenceRunner("bench", trained.result.best, data_yaml, **asked).check()


def test_a_model_without_names_is_compared_by_number_only_where_that_was_asked(
    trained: Trained, tmp_path: Path
) -> None:
    nameless = detector(tmp_path / "m.onnx", output=("b", 6, 84))
    with pytest.raises(ModelFileError, match=r"names no classes, the data .* --classes-by-number"):
        InferenceRunner("bench", nameless, trained.data_yaml, settings=trained.settings).check()
    runner = InferenceRunner(
        "bench", nameless, trained.data_yaml, settings=trained.settings, classes_by_number=True
    )  # fmt: skip
    runner.check()
    assert "names no classes; the rows of its output are numbered" in runner.remarks[0]


def named_anew(trained: Trained, folder: Path, names: str) -> Path:
    """The data of the training under other names."""
    data_yaml = copy_data(trained.data_yaml, folder / "data")
    data_yaml.write_text(f"train: images/train\nval: images/val\nnames: {names}\n", encoding="utf-8")
    return data_yaml


def test_a_model_is_found_by_file_run_and_registered_version(trained: Trained) -> None:
    settings, run_id = trained.settings, trained.result.run_id
    of_run = find_model_source(run_id[:10], settings)
    assert (of_run.path, of_run.run_id) == (trained.result.best, run_id)
    assert of_run.data_yaml == str(trained.data_yaml)
    assert find_model_source(str(trained.result.best), settings).path == trained.result.best
    version = ModelRegistry(settings).register("찾기 find", run_id)
    found = find_model_source("models:/찾기 find@candidate", settings)
    assert (found.model_name, found.version, found.run_id) == (version.name, version.version, run_id)
    assert (found.backend, found.precision) == ("torch", "fp32")
    assert found.fingerprint == of_run.fingerprint
    with pytest.raises(NotFoundError, match=r"no model 'beef00'|no run"):
        find_model_source("beef00", settings)
    with pytest.raises(InputError, match="must read models:/NAME@champion"):
        find_model_source("models:/a/b/c", settings)


def test_an_empty_result_is_still_a_page() -> None:
    nothing = InferenceResult(run_id="0", experiment="x", status="FINISHED", model={}, folder=Path("nowhere"))
    assert "Nothing was measured." in nothing._repr_html_()
    assert "No labelled images" in nothing.plot_curves()._repr_html_()  # type: ignore[union-attr]
    assert "No source was tracked" in nothing.show_tracking()._repr_html_()
    assert "No clip was made" in nothing.show_clip()._repr_html_()  # type: ignore[union-attr]
