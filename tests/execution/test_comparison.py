"""Comparisons: who is better and by how much, what can't be compared, and what stands beside the sentence."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow import compare, open_run
from guardianflow.cli import app
from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, ParameterError
from guardianflow.execution.comparison import ComparisonResult, ComparisonRunner
from guardianflow.execution.executors import LocalExecutor
from guardianflow.files.content import measure
from guardianflow.files.run_folder import RESULT_FILE, write_json
from guardianflow.registry.evaluations import Evaluations
from guardianflow.runs.run_records import RunRecords
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.factory import plan_run
from guardianflow.scenario.file import load_scenario
from guardianflow.state.database import Database
from tests.registry.evidence_world import MACHINE, evaluate
from tests.trainings import tiny_runner
from tests.vision.backends.small_models import weights

_numbers = itertools.count(1)


class World:
    """Runs whose evaluations were kept, as good or bad as a test wants them."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.evaluations = Evaluations(settings)

    def run(self, kind: str = "train", **parameters: Any) -> TrackedRun:
        asked = {"experiment_name": "gate", "data_yaml": "/data/my site/data.yaml", **parameters}
        with TrackedRun.start(self.settings, experiment="gate", kind=kind, parameters=asked) as run:
            return run

    def seen(self, run_id: str, skill: Any, *, sha256: str = "", **options: Any) -> str:
        """An evaluation of a run's model; returns the model's hash."""
        number = next(_numbers)
        sha256 = sha256 or f"{number:064x}"
        evaluate(self.evaluations, sha256, self.folder / f"seen {number}", skill, run_id=run_id, **options)
        return sha256

    def trained(self, skill: Any, *, parameters: Mapping[str, Any] | None = None, **options: Any) -> str:
        """A training whose weights were evaluated; returns its run's id."""
        run = self.run(**(parameters or {}))
        self.seen(run.run_id, skill, **options)
        return run.run_id

    def version(self, skill: Any, name: str = "문 gate") -> str:
        """A registered version with evidence; returns its URI."""
        run = self.run()
        place = shutil.copy(weights(seed=next(_numbers)), run.folder / "best.pt")
        with TrackedRun.attach(self.settings, run.run_id) as again:
            again.log_artifact(Path(place), "weights")
            again.flush(timeout_s=60)
        version = ModelRegistry(self.settings).register(name, run.run_id)
        self.seen(run.run_id, skill, sha256=version.sha256)
        return version.uri

    def compare(self, *subjects: str, **options: Any) -> ComparisonResult:
        options = {"resamples": 200, **options}
        return ComparisonRunner(list(subjects), experiment_name="다름", settings=self.settings, **options).run()

    def runs(self) -> list[str]:
        return [record.kind for record in RunRecords(Database.open(self.settings.database_url)).list()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> World:
    """One for all tests: each takes runs and models of its own."""
    folder = tmp_path_factory.mktemp("비교 compare")
    (folder / "work").mkdir()
    shutil.copyfile(mlflow_sqlite_template, folder / "work" / "mlflow.db")
    return World(Settings(work_dir=folder / "work", actor="kim", gate="off"), folder)


# --- the sentence ---------------------------------------------------------------------------------


def test_a_better_model_is_called_better_and_by_how_much(world: World) -> None:
    one, other = world.trained(0.6), world.trained(0.9)
    result = world.compare(one, other)
    [row] = result.comparisons
    assert row["outcome"] == "better"
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert result.verdict == (
        f"B (run {other[:12]}) is better than A (run {one[:12]}): mAP50-95 +{row['difference']:.3f} "
        f"(95% interval +{row['low']:.3f} to +{row['high']:.3f}) on 40 images"
    )
    assert "is worse than A" in world.compare(other, one).verdict
    page = result._repr_html_()
    assert page.index("B is better than A") < page.index("mAP50-95") < page.index("finds")
    found = {each["name"]: each["found"] for each in result.subjects}
    assert found["B"]["labelled"] == 240
    assert found["A"]["found"] < found["B"]["found"] <= 240
    assert f"B finds {found['B']['found']} and A {found['A']['found']}" in page


def test_two_that_differ_by_chance_show_no_difference(world: World) -> None:
    one = world.trained(0.8, seed=1, parameters={"seed": 0, "epochs": 3})
    other = world.trained(0.8, seed=2, parameters={"seed": 1, "epochs": 3})
    result = world.compare(one, other)
    assert result.comparisons[0]["outcome"] == "none"
    assert result.verdict.startswith(
        f"no difference is shown between the trainings of B (run {other[:12]}) and A (run {one[:12]}), which are alike "
        "but for their seed; as a model B is as good as A: mAP50-95 "
    )
    assert any("are the same training but for its seed" in text for text in result.remarks)
    assert result.verdict.endswith("on 40 images")
    assert "<b>B and A are the same training but for its seed" in result._repr_html_()
    assert any(text.startswith("40 images show a difference from about 0.") for text in result.remarks)
    assert result.subjects[1]["differs"] == ["seed 0 → 1"]
    assert result.next_steps().commands() == [("Compare once more", f"guardianflow run --again {result.run_id}")]


def test_what_two_seeds_differ_by_is_chance_of_the_training_however_sure_the_images_are(world: World) -> None:
    one = world.trained(0.6, parameters={"seed": 0, "epochs": 3})
    other = world.trained(0.9, parameters={"seed": 1, "epochs": 3})
    for subjects, word in (((one, other), "better"), ((other, one), "worse")):
        result = world.compare(*subjects)
        [row] = result.comparisons
        assert row["low"] * row["high"] > 0
        assert row["outcome"] == "none"
        assert result.verdict.startswith("no difference is shown between the trainings of B")
        assert f"as a model B is {word} than A" in result.verdict
        assert f"As a model B is {word} than A" in result._repr_html_()


def test_the_metric_that_decides_can_be_chosen(world: World) -> None:
    one, other = world.trained(0.6), world.trained(0.9)
    result = world.compare(one, other, metric="map50")
    assert ": mAP50 +" in result.verdict
    assert result.table.columns[2] == "mAP50"
    assert result.subjects[1]["figures"]["map50"] == pytest.approx(result.comparisons[0]["candidate"])


def test_several_are_held_against_the_first_and_hold_together(world: World) -> None:
    runs = [world.trained(0.6), world.trained(0.9), world.trained(0.6, seed=3)]
    result = world.compare(*runs)
    assert [row["name"] for row in result.subjects] == ["A", "B", "C"]
    assert [row["level"] for row in result.comparisons] == [0.975, 0.975]
    first, second = result.verdict.split("; ")
    assert first.startswith("B (run ")
    assert "(97.5% interval" in first
    assert "no difference is shown between C" in second
    alone = world.compare(*runs[:2]).comparisons[0]
    wide = result.comparisons[0]
    assert wide["high"] - wide["low"] > alone["high"] - alone["low"]
    assert len(result.table.rows) == 3


def test_a_result_comes_back_from_its_file(world: World) -> None:
    result = world.compare(world.trained(0.6), world.trained(0.9))
    again = ComparisonResult.load(result.folder)
    assert again.to_dict() == result.to_dict() == json.loads((result.folder / RESULT_FILE).read_text(encoding="utf-8"))
    assert again._repr_html_() == result._repr_html_()
    assert result.metrics["B/change"] == result.comparisons[0]["difference"]
    assert [trace.name for trace in result.plot_curves().data][:2] == [
        f"{row['name']} · {row['label']}" for row in result.subjects
    ]
    assert "all classes" in result.plot_classes().layout.yaxis.ticktext[-1]


# --- who is compared ------------------------------------------------------------------------------


def test_versions_are_compared_as_they_are_served(world: World) -> None:
    first, second = world.version(0.6), world.version(0.9)
    assert (first, second) == ("models:/문 gate/1", "models:/문 gate/2")
    result = world.compare("models:/문 gate/1", "문 gate@candidate")  # the short form means nothing else
    assert result.verdict.startswith(f"B ({second}) is better than A ({first})")
    assert result.next_steps().commands()[0][1] == "guardianflow promote '문 gate' 2"


def test_a_benchmark_stands_for_its_cells_and_a_file_for_its_weights(world: World, tmp_path: Path) -> None:
    cells = [world.run("cell"), world.run("cell")]
    benchmark = world.run("infer")
    write_json(benchmark.folder / RESULT_FILE, {"cells": [{"run_id": cell.run_id} for cell in (*cells, cells[0])]})
    world.seen(cells[0].run_id, 0.9, backend="openvino", precision="int8")
    world.seen(cells[1].run_id, 0.8, backend="torch")
    file = tmp_path / "둘째.pt"
    file.write_bytes(b"weights of another")
    world.seen("elsewhere", 0.6, sha256=measure(file).sha256)
    result = world.compare(str(file), benchmark.run_id)
    assert [row["label"] for row in result.subjects] == ["둘째.pt", f"run {benchmark.run_id[:12]}"]
    assert result.subjects[1]["backend"] == "openvino", "the first cell"
    assert any("of 2 evaluations of B" in text for text in result.remarks)
    assert any("B was evaluated by openvino int8 at 320 px, A by torch fp32" in text for text in result.remarks)
    assert world.compare(str(file), cells[1].run_id).subjects[1]["backend"] == "torch"


def test_a_quantization_stands_for_what_it_made(world: World) -> None:
    run, base = world.run("quantize"), world.trained(0.9)
    evaluate_as(world, run.run_id, 0.9, "evaluation/original")
    evaluate_as(world, run.run_id, 0.5, "evaluation/quantized")
    assert "is worse than A" in world.compare(base, run.run_id).verdict


def evaluate_as(world: World, run_id: str, skill: float, artifact: str) -> None:
    from guardianflow.registry.evaluations import evaluation_row
    from tests.registry.evidence_world import record_of

    number = next(_numbers)
    record = record_of(skill, model_sha256=f"{number:064x}")
    folder = record.save(world.folder / f"seen {number}")
    world.evaluations.record(
        evaluation_row(record, folder, run_id=run_id, metrics={}, artifact=artifact, machine=MACHINE)
    )


def test_of_several_evaluations_the_newest_in_common_is_taken(world: World) -> None:
    one, other = world.run(), world.run()
    sha256 = world.seen(one.run_id, 0.9)
    world.seen("later", 0.3, sha256=sha256, images=20)
    world.seen("last", 0.5, sha256=sha256, backend="openvino")  # not as it was trained
    world.seen(other.run_id, 0.6)
    result = world.compare(one.run_id, other.run_id)
    assert result.dataset["images"] == 40
    assert [row["run_id"] for row in result.subjects] == [one.run_id, other.run_id]
    assert any(f"of 2 evaluations of A (run {one.run_id[:12]}) that of run {one.run_id[:12]}" in text
               for text in result.remarks)  # fmt: skip


# --- what can't be compared -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said", "asked"),
    [
        ({"dataset_fingerprint": "e" * 64}, "the data differ (dataset eeeeeeeeeeee against ffffffffffff)", ""),
        ({"split": "test"}, "split test against val", ""),
        ({"images": 20}, "20 images against 40", ""),
        ({"truth_seed": 2}, "the images or their labels differ, though both are 40", ""),
        ({"max_det": 100}, "max_det 100 against 300", ""),
        ({"iou": 0.5}, "NMS at an overlap of 0.5 against 0.7", ""),
        ({"confidence_floor": 0.1}, "boxes from a confidence of 0.1 against 0.001", "both alike"),
    ],
)
def test_apples_and_pears_are_refused_with_the_command_that_makes_them_alike(
    world: World, changes: dict[str, Any], said: str, asked: str
) -> None:
    one, other = world.trained(0.6), world.trained(0.9, **changes)
    before = world.runs()
    with pytest.raises(InputError) as caught:
        world.compare(one, other)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith(f"B (run {other[:12]}) can't be compared with A (run {one[:12]}): {said}; evaluate ")
    assert (
        f"`guardianflow infer --model {other} --backends torch --precision fp32 --imgsz 320 "
        "--data '/data/my site/data.yaml'`" in message
    )
    assert ("both alike" in message) == bool(asked)
    assert "\n" not in message
    assert world.runs() == before, "no run was made"


def test_the_command_asks_for_the_rules_of_the_first(world: World) -> None:
    one = world.trained(0.6, split="test", max_det=100, iou=0.5, parameters={"images": 40})
    other = world.trained(0.9)
    with pytest.raises(InputError) as caught:
        world.compare(one, other)
    assert "--split test --iou 0.5 --max-det 100 --images 40`" in str(caught.value)


def test_every_model_that_is_apart_is_named(world: World) -> None:
    runs = [world.trained(0.6), world.trained(0.9), world.trained(0.9, split="test"), world.trained(0.9, images=9)]
    with pytest.raises(InputError, match=r"C \(run \w+\) can't .*split test.*; D \(run \w+\) can't .* 9 images"):
        world.compare(*runs)


def test_what_was_never_evaluated_or_on_its_own_training_images_is_refused(world: World) -> None:
    one = world.trained(0.9)
    learned = world.trained(0.9, split="train")
    with pytest.raises(InputError, match=r"B .* was evaluated only on the images that it was trained on; make it: `"):
        world.compare(one, learned)
    cell = world.run("cell").run_id
    with pytest.raises(InputError, match=r"B .* was never evaluated with its predictions kept; make it: `guardian"):
        world.compare(one, cell)
    with pytest.raises(NotFoundError, match="left no model"):
        world.compare(one, world.run().run_id)


def test_a_training_without_evidence_is_found_once_it_was_made(world: World) -> None:
    one, bare = world.trained(0.6), world.run()
    file = bare.folder / "training" / "weights" / "best.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    with pytest.raises(InputError, match=f"never evaluated .*`guardianflow infer --model {bare.run_id} --data '/data"):
        world.compare(one, bare.run_id)
    world.seen("a benchmark", 0.9, sha256=measure(file).sha256)
    assert "B (run" in world.compare(one, bare.run_id).verdict


def test_one_and_the_same_is_no_comparison(world: World) -> None:
    uri, run = world.version(0.9, "alone"), world.trained(0.9)
    for subjects in ([uri, uri.replace("/1", "@candidate")], [run, run[:12]]):
        with pytest.raises(InputError, match=r"B \(.*\) and A \(.*\) are one and the same evaluation \(run "):
            world.compare(*subjects)
    for subjects in ([run], [run, run]):
        with pytest.raises(ParameterError, match="must name two models or more, each once"):
            world.compare(*subjects)


@pytest.mark.parametrize("subject", ["nothing.pt", "models:/nobody/1", "deadbeef0000", "models:/no version", "a b\n"])
def test_what_is_no_model_is_refused_in_one_sentence(world: World, subject: str) -> None:
    with pytest.raises(GuardianFlowError) as caught:
        world.compare(world.trained(0.9), subject)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_predictions_that_are_gone_are_named_before_any_run(world: World) -> None:
    one, other = world.trained(0.6), world.trained(0.9)
    [row] = world.evaluations.find(run_id=other)
    shutil.rmtree(row.folder)
    before = world.runs()
    with pytest.raises(NotFoundError, match="can't be read: its folder"):
        world.compare(one, other)
    assert world.runs() == before


# --- beside the sentence --------------------------------------------------------------------------


def test_speeds_stand_there_only_where_both_were_timed_alike(world: World) -> None:
    runs = [world.trained(skill, metrics={"latency_ms_p50": ms}) for skill, ms in ((0.6, 20.0), (0.9, 12.5))]
    result = world.compare(*runs)
    assert [row["latency_ms_p50"] for row in result.subjects] == [20.0, 12.5]
    assert "12.5 ms" in result.table.rows[1]
    other = {**MACHINE, "cpu": "another"}
    elsewhere = world.trained(0.9, metrics={"latency_ms_p50": 2.0}, machine=other)
    result = world.compare(runs[0], elsewhere)
    assert [row["latency_ms_p50"] for row in result.subjects] == [None, None]
    assert "one image" not in result.table.columns
    assert any("timed under other conditions (cpu=another against one)" in text for text in result.remarks)
    result = world.compare(runs[0], world.trained(0.9))
    assert any("speeds are not compared: B was never timed" in text for text in result.remarks)


def test_the_task_is_held_against_every_model(world: World) -> None:
    runs = [world.trained(0.3), world.trained(0.9)]
    result = world.compare(*runs, task={"requirements": ["map50 >= 0.5"]})
    assert [text for text in result.remarks if "map50 >= 0.5" in text] == [
        f"A: the requirement map50 >= 0.5 is not met: map50 is {result.subjects[0]['figures']['map50']:.4g}"
    ]
    with pytest.raises(InputError, match="the task names the class bicycle"):
        world.compare(*runs, task={"classes": ["bicycle"]})


def test_one_call_compares_and_an_earlier_comparison_is_opened_by_its_id(world: World) -> None:
    result = compare(world.trained(0.6), world.trained(0.9), settings=world.settings)
    assert result.comparisons[0]["outcome"] == "better"
    opened = open_run(result.run_id[:8], settings=world.settings)
    assert isinstance(opened.result, ComparisonResult)
    assert opened.result.verdict == result.verdict
    assert result.verdict in repr(opened)


def test_a_class_on_few_images_is_remarked(world: World) -> None:
    runs = [world.trained(skill, images=9) for skill in (0.5, 0.9)]
    remarks = world.compare(*runs).remarks
    assert "class forklift is on 9 images only: its interval says little" in remarks


def test_names_of_people_are_escaped_on_the_page(world: World, tmp_path: Path) -> None:
    file = tmp_path / "<b>x.pt"
    file.write_bytes(b"weights")
    world.seen("r", 0.9, sha256=measure(file).sha256)
    page = world.compare(world.trained(0.6), str(file))._repr_html_()
    assert "<b>x" not in page
    assert "&lt;b&gt;x.pt" in page


# --- the doors ------------------------------------------------------------------------------------


def call(world: World, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(world.settings.work_dir))
    return CliRunner().invoke(app, ["compare", *words])


def test_the_command_line_says_the_sentence_the_table_and_the_notes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = world.trained(0.6), world.trained(0.9, imgsz=640)
    shown = call(world, monkeypatch, one, other, "--metric", "map50", "--resamples", "100", "--direct")
    assert shown.exit_code == 0, shown.output
    assert f"B (run {other[:12]}) is better than A (run {one[:12]}): mAP50 +" in shown.stderr
    assert "note      B was evaluated by torch fp32 at 640 px, A by torch fp32 at 320 px" in shown.stderr
    assert "no difference shown" not in shown.stdout
    assert "against A" in shown.stdout
    asked = call(world, monkeypatch, one, other, "--resamples", "100", "--direct", "--json")
    document = json.loads(asked.stdout)
    assert [row["outcome"] for row in document["comparisons"]] == ["better"]
    assert document["verdict"].startswith("B (run ")
    assert any("at 640 px" in text for text in document["remarks"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{one}", "{apart}"), "can't be compared with A"),
        (("{one}",), "must name two models or more, each once"),
        (("{one}", "nothing"), "there is no model 'nothing' to compare: name a run id"),
        (("{one}", "{apart}", "--metric", "mota"), "metric = 'mota' is not allowed"),
        (("{one}", "{apart}", "--resamples", "5"), "resamples = 5 is not allowed"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    world: World, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    named = {"one": world.trained(0.6), "apart": world.trained(0.9, split="test")}
    shown = call(world, monkeypatch, *(word.format(**named) for word in words), "--direct")
    assert shown.exit_code == 2
    [line] = [text for text in shown.stderr.splitlines() if text]
    assert line.startswith("error: ")
    assert said in line


def test_it_runs_as_a_notebook_with_photographs_and_again_from_its_scenario(
    tiny_data: Path, tmp_path: Path, mlflow_sqlite_template: Path
) -> None:
    """Two seeds of one real training: chance, and the page says so."""
    (tmp_path / "work").mkdir()
    shutil.copyfile(mlflow_sqlite_template, tmp_path / "work" / "mlflow.db")
    settings = Settings(work_dir=tmp_path / "work")
    seeds = [tiny_runner(tiny_data, settings, seed=seed).run().run_id for seed in (0, 1)]
    outcome = LocalExecutor(settings).execute(plan_run("compare", experiment_name="다름", subjects=seeds))
    assert outcome.result["comparisons"][0]["outcome"] == "none"
    assert outcome.result["verdict"].startswith("no difference is shown between the trainings of B (run")
    assert any("the same training but for its seed" in text for text in outcome.result["remarks"])
    assert outcome.html is not None
    page = outcome.html.read_text(encoding="utf-8")
    assert page.index("No difference is shown between the trainings of B and A") < page.index("Plotly.newPlot")
    scenario = load_scenario(outcome.folder / "scenario.yaml")
    assert scenario.flat() == plan_run("compare", experiment_name="다름", subjects=seeds).parameters
