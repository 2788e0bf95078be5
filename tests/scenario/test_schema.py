"""One schema: signatures, notebooks, command lines and the flat form all follow from the scenario's blocks."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import nbformat
import pytest
from typer.testing import CliRunner

from guardianflow.adapters.generic_wrapper import GenericWrapper
from guardianflow.cli import app
from guardianflow.dashboard.optimization import OptimizationRunner
from guardianflow.exceptions import ParameterError
from guardianflow.execution.comparison import ComparisonRunner
from guardianflow.execution.engine.parameters import declared_parameters
from guardianflow.execution.sweep import SweepRunner
from guardianflow.runners._base import Runner
from guardianflow.runners.inference.runner import InferenceRunner
from guardianflow.runners.promotion.runner import RegistryRunner
from guardianflow.runners.quantization.runner import QuantizationRunner
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.scenario.experiment_design import ComparisonScenario
from guardianflow.scenario.factory import KINDS, plan_run
from guardianflow.scenario.fields import flat_fields, from_flat, leaf_fields
from guardianflow.scenario.schema import (
    InferenceScenario,
    QuantizationScenario,
    RegistryScenario,
    TrainingScenario,
    WrapScenario,
)

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"experiment_name": "x", "model_arch": "yolo11n.yaml", "data_yaml": "d.yaml"}
RUNNERS = (
    TrainingRunner, InferenceRunner, QuantizationRunner, RegistryRunner, GenericWrapper, OptimizationRunner,
    SweepRunner, ComparisonRunner,
)  # fmt: skip
VERBS = {
    "train": TrainingScenario, "infer": InferenceScenario, "quant": QuantizationScenario, "wrap": WrapScenario,
    "compare": ComparisonScenario,
}  # fmt: skip


def template_cells() -> Any:
    spec = importlib.util.spec_from_file_location("template_cells", ROOT / "tools" / "template_cells.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["train", "infer", "quantize", "registry", "wrap", "optimize", "sweep", "compare"])
def test_the_cells_of_a_template_are_those_that_the_schema_gives(kind: str) -> None:
    path = ROOT / "notebooks" / "templates" / f"{kind}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for tag, source in template_cells().generated(kind).items():
        cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
        assert [cell.source for cell in cells] == [source], "run: python tools/template_cells.py"
    declared = declared_parameters(path)  # as papermill reads it
    fields = flat_fields(KINDS.get(kind).scenario)
    assert list(declared) == [*fields, "run_id"]
    for keyword, field in fields.items():
        if not field.info.is_required() and (kind, keyword) != ("infer", "data_yaml"):
            assert declared[keyword] == field.default, keyword


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.__name__)
def test_a_runner_shows_what_it_is_asked(runner: type[Runner[Any, Any]]) -> None:
    shown = inspect.signature(runner).parameters
    fields = flat_fields(runner.asks)
    assert list(shown) == [*fields, "run_id", "settings", "sink"]
    by_position = [name for name, each in shown.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert by_position == list(runner.asks.positional)
    for keyword, field in fields.items():
        assert shown[keyword].default == field.default
        assert f"    {keyword}: {field.info.description or ''}" in str(runner.__doc__)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_option_for_each_field(verb: str) -> None:
    shown = " ".join(CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout.split())
    for field in leaf_fields(VERBS[verb]):
        if field.option is not None:
            assert field.option in shown
            assert " ".join(str(field.info.description).split()) in shown


def test_a_runner_takes_keywords_and_positions_and_hands_out_the_scenario() -> None:
    runner = TrainingRunner("x", "yolo11n.yaml", Path("d.yaml"), 3, device=0, register_as=None)
    assert runner.scenario == from_flat(TrainingScenario, {**NEEDED, "epochs": 3, "device": "0"})
    assert TrainingRunner.of(runner.scenario, run_id="r").scenario is runner.scenario
    with pytest.raises(ParameterError, match="by position, each once"):
        TrainingRunner("x", "m", "d", 1, 2, 64, "cpu", 0, "name", 9)
    with pytest.raises(ParameterError, match="by position, each once"):
        TrainingRunner("x", "m", model_arch="m", data_yaml="d")


@pytest.mark.parametrize(
    ("scenario", "values"),
    [
        (TrainingScenario, {**NEEDED, "imgsz": 320, "options": {"mosaic": 0.0}, "site": {"name": "문"}}),
        (InferenceScenario, {"experiment_name": "x", "model_path": "m.pt", "data_yaml": "d", "batch_sizes": [1, 8]}),
        (QuantizationScenario, {"experiment_name": "x", "source_run_id": "r", "max_drop": 0.01}),
        (WrapScenario, {"experiment_name": "x", "script_path": "t.py", "args": ["--lr", "0.1"], "timeout_s": 3}),
        (RegistryScenario, {"experiment_name": "x", "action": "promote", "model_name": "m"}),
        (ComparisonScenario, {"experiment_name": "x", "subjects": ["a", "models:/m/2"], "metric": "map50"}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_flat_form_comes_back(scenario: type[BaseScenario], values: dict[str, Any]) -> None:
    made = from_flat(scenario, values)
    flat = made.flat()
    assert {name: flat[name] for name in values} == values
    assert from_flat(scenario, flat) == made
    assert "task" not in flat  # as usual: an older run's parameters are no others
    assert plan_run(made.kind, **flat).scenario == made


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"imgsz": 300}, "parameter imgsz = 300 is not allowed: must be a multiple of 32, such as 288 or 320"),
        ({"imgsz": 16}, "imgsz = 16 is not allowed: must be a multiple of 32, such as 32 or 64"),
        ({"imgsz": 0}, "imgsz = 0 is not allowed: input should be greater than or equal to 32"),
        ({"epochs": 0}, "parameter epochs = 0 is not allowed: input should be greater than or equal to 1"),
        ({"batch": 0}, "batch = 0"),
        ({"epochs": "ten"}, "epochs = 'ten'"),
        ({"allow_bad": 100}, "allow_bad = 100"),
        ({"seed": 2**31}, "seed = 2147483648"),
        ({"epoch": 3}, "there is no parameter 'epoch'; did you mean 'epochs'?"),
        ({"zzz": 3}, "there is no parameter 'zzz'; known: allow_bad, batch"),
        (
            {"site": {"time_zone": "Seoul"}},
            "time_zone = 'Seoul' is not allowed: is no time zone; write it as Asia/Seoul",
        ),
        ({"site": {"nam": "x"}}, "there is no 'site.nam'; did you mean 'site.name'?"),
        ({"task": {"requirements": ["map50 0.7"]}}, "is no requirement; write it as map50 >= 0.75"),
        ({"task": {"requirements": ["qqq >= 0.7"]}}, "names no metric of ours; known: assa, "),
        ({"task": {"requirements": ["map51 >= 0.7"]}}, "names no metric of ours; did you mean map50?"),
    ],
)
def test_what_cant_be_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        from_flat(TrainingScenario, {**NEEDED, **change})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"batch_sizes": []}, {"batch_sizes": [0]}, {"modes": []}, {"model_path": ""}, {"confidence": 1}, {"imgsz": -32}],
    ids=str,
)
def test_limits_of_a_type_and_limits_of_a_field_both_hold(change: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"{next(iter(change))} = .* is not allowed"):
        from_flat(InferenceScenario, {"experiment_name": "x", "model_path": "m.pt", "data_yaml": "d", **change})


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ParameterError, match="parameter data_yaml is missing"):
        from_flat(TrainingScenario, {"experiment_name": "x", "model_arch": "m"})
    with pytest.raises(ParameterError, match="parameter model_arch is missing"):
        from_flat(TrainingScenario, {"experiment_name": "x", "data_yaml": "d"})


@pytest.mark.parametrize(("action", "missing"), [("register", "source_run_id"), ("reject", "version and reason")])
def test_registry_actions_need_what_they_act_on(action: str, missing: str) -> None:
    with pytest.raises(ParameterError, match=f"to {action}, {missing} must be given"):
        from_flat(RegistryScenario, {"experiment_name": "x", "action": action, "model_name": "m"})


def test_requirements_are_held_against_the_figures() -> None:
    task = {"requirements": ["map50>=0.75", "latency_ms_p95 <= 30", "hota > 0.5"]}
    runner = TrainingRunner("x", "m", "d", task=task)
    assert runner.unmet({"map50": 0.5, "latency_ms_p95": 30.0}) == [
        "the requirement map50 >= 0.75 is not met: map50 is 0.5",
        "whether hota > 0.5 holds isn't known: this run has no hota",
    ]


def test_classes_of_the_task_must_be_in_the_data(tiny_data: Path, training_settings: Any) -> None:
    runner = TrainingRunner(
        "x", "yolo11n.yaml", tiny_data, task={"classes": ["person", "helmet"]}, settings=training_settings
    )
    with pytest.raises(Exception, match="the task names the class helmet, the data has person, vehicle"):
        runner.check()
