"""Designs: what a sweep's file may say, one sentence where it may not, and the plans that follow from it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.exceptions import InputError
from guardianflow.scenario.experiment_design import ExperimentDesign, RunPlan, SweepScenario, plan
from guardianflow.scenario.fields import to_yaml
from guardianflow.scenario.file import load_scenario, new_scenario

GOOD = """\
kind: sweep
experiment: gate
task:
  requirements: [map50 >= 0.3]
model:
  architecture: yolo11n.yaml
  imgsz: 64
dataset:
  data_yaml: data.yaml
run:
  epochs: 3
sweep:
  trials: 12
  sampler: random
  space:
    run.options.lr0: {low: 0.001, high: 0.1, log: true}
    run.batch: [8, 16]
"""
SPACE = "    run.options.lr0: {low: 0.001, high: 0.1, log: true}\n    run.batch: [8, 16]\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(*changes: tuple[str, str]) -> Path:
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "스윕 sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_a_file_becomes_the_plans_that_it_says(write: Any) -> None:
    scenario = load_scenario(write())
    assert isinstance(scenario, SweepScenario)
    assert ExperimentDesign.of(scenario) is ExperimentDesign.SWEEP
    plans = plan(scenario)
    assert [item.trial.number for item in plans if item.trial] == list(range(12))
    assert {item.kind for item in plans} == {"train"}
    assert {item.parameters["batch"] for item in plans} == {8, 16}
    assert all(0.001 <= item.parameters["options"]["lr0"] <= 0.1 for item in plans)
    assert [item.parameters for item in plan(scenario)] == [item.parameters for item in plans]  # pure
    longer = load_scenario(write(), ["sweep.trials=20"])
    assert [item.parameters for item in plan(longer)][:12] == [item.parameters for item in plans]
    single = scenario.at({"run.batch": 4})
    assert plan(single) == [RunPlan(single)]
    assert ExperimentDesign.of(single) is ExperimentDesign.SINGLE


def test_what_is_written_back_is_the_same_sweep(write: Any, tmp_path: Path) -> None:
    scenario = load_scenario(write())
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(scenario), encoding="utf-8")
    assert load_scenario(again) == scenario
    assert "kind: sweep" in new_scenario("sweep")


def test_values_that_are_files_start_from_the_folder_of_the_scenario(write: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    space = "    dataset.data_yaml: [a/data.yaml, b/data.yaml]\n    model.architecture: [mine.yaml, yolo11n.yaml]\n"
    scenario = load_scenario(write((SPACE, space)))
    assert isinstance(scenario, SweepScenario)
    assert scenario.sweep.space["dataset.data_yaml"].values == [
        str(tmp_path / "a/data.yaml"),
        str(tmp_path / "b/data.yaml"),
    ]
    assert scenario.sweep.space["model.architecture"].values == [str(tmp_path / "mine.yaml"), "yolo11n.yaml"]


BAD = {
    "unknown field": (("  trials: 12", "  trails: 12"), "there is no 'sweep.trails'; did you mean 'sweep.trials'?"),
    "unknown field of the space": (("run.batch: [8", "run.bach: [8"), "run.bach is no field that can be searched"),
    "field that is not searched": (("run.batch: [8, 16]", "run.resume: [a]"), "run.resume is no field that can be"),
    "empty space": ((f"  space:\n{SPACE}", "  space: {}\n"), "sweep.space = {} is not allowed: names no field to"),
    "no space": ((f"  space:\n{SPACE}", ""), "sweep.space is missing"),
    "space without content": ((SPACE, ""), "sweep.space = None is not allowed"),
    "empty list": (("[8, 16]", "[]"), "is no range: give a list of values, or low and high"),
    "value twice": (("[8, 16]", "[8, 8.0]"), "names a value twice"),
    "upside down": (("low: 0.001, high: 0.1", "low: 0.1, high: 0.001"), "low (0.1) must lie below high (0.001)"),
    "log of zero": (("low: 0.001", "low: 0"), "can't be log: low must be above 0"),
    "list with a step": (("[8, 16]", "{values: [8, 16], step: 2}"), "is a list of values, which has no step"),
    "value out of range": (("[8, 16]", "[8, 0]"), "run.batch = 0 is not allowed: input should be greater"),
    "range out of range": (("[8, 16]", "{low: 0, high: 4}"), "run.batch = 0 is not allowed"),
    "range between strides": (("run.batch: [8, 16]", "model.imgsz: {low: 64, high: 96}"), "must be a multiple of 32"),
    "contradiction": (("[map50 >= 0.3]", "[map50 >= 0.9, map50 <= 0.5]"), "map50 >= 0.9 and map50 <= 0.5 can't both"),
    "contradiction at a point": (("[map50 >= 0.3]", "[map50 > 0.5, map50 <= 0.5]"), "can't both hold"),
    "impossible": (("[map50 >= 0.3]", "[map50 >= 1.2]"), "map50 >= 1.2 can't hold: it is a fraction"),
    "not measured": (("[map50 >= 0.3]", "[latency_ms_p95 <= 30]"), "a training doesn't measure what latency_ms_p95 <="),
    "resume": (("  epochs: 3", "  epochs: 3\n  resume: abc"), "run.resume is of a single training"),
    "address without a cluster": (("  trials: 12", "  trials: 12\n  address: http://h:8265"), "executor is local"),
    "grid without steps": (("sampler: random", "sampler: grid"), "a grid needs a step or a list of values for run.opt"),
    "sampler": (("sampler: random", "sampler: annealing"), "sweep.sampler = 'annealing' is not allowed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(write: Any, case: str) -> None:
    change, said = BAD[case]
    done = CliRunner().invoke(app, ["sweep", str(write(change)), "--dry-run"])
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.output


def test_contradictions_are_refused_in_scenarios_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    text = GOOD.partition("sweep:\n")[0].replace("kind: sweep", "kind: train")
    file.write_text(text.replace("[map50 >= 0.3]", "[hota <= 0.2, hota > 0.2]"), encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.yaml:4: task\.requirements = .*hota <= 0\.2 and hota > 0\.2 can't"):
        load_scenario(file)
    for rules in ("[map50 >= 0.2, map50 <= 0.2]", "[map50 >= 1]", "[latency_ms_p95 <= 9000, latency_ms_p95 > 5]"):
        file.write_text(text.replace("[map50 >= 0.3]", rules), encoding="utf-8")
        load_scenario(file)


def test_a_grid_of_a_billion_points_is_refused_by_its_size_before_memory_goes(write: Any) -> None:
    space = "".join(
        f"    run.options.{name}: {{low: 0.001, high: 1.0, step: 0.001}}\n" for name in ("lr0", "lrf", "box")
    )
    began = time.perf_counter()
    with pytest.raises(
        InputError, match=r"the grid has 1,000,000,000 points, and sweep\.trials is 12; leave values out"
    ):
        load_scenario(write((SPACE, space), ("sampler: random", "sampler: grid")))
    assert time.perf_counter() - began < 5


def test_another_kind_of_scenario_is_sent_to_its_verb(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(GOOD.partition("sweep:\n")[0].replace("kind: sweep", "kind: train"), encoding="utf-8")
    done = CliRunner().invoke(app, ["sweep", str(file)])
    assert done.exit_code == 2
    assert "is a scenario of kind train; run it:" in done.stderr
