"""What runners may be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardianflow.exceptions import ParameterError
from guardianflow.execution.engine.parameters import declared_parameters
from guardianflow.runners.training.runner import TrainingRunner
from guardianflow.scenario.parameters import RegistryParameters, TrainingParameters, parse_parameters

NEEDED = {"experiment_name": "x", "model_arch": "yolo11n.yaml", "data_yaml": "d.yaml"}
TEMPLATE = Path(__file__).resolve().parents[2] / "notebooks" / "templates" / "train.ipynb"


def test_template_declares_the_schemas_parameters_with_the_same_defaults() -> None:
    declared = declared_parameters(TEMPLATE)
    assert sorted(declared) == sorted(TrainingParameters.model_fields)
    for name, field in TrainingParameters.model_fields.items():
        if not field.is_required():
            assert declared[name] == field.get_default(call_default_factory=True), name


def test_runner_takes_the_schemas_parameters_with_the_same_defaults() -> None:
    runner = TrainingRunner("x", "yolo11n.yaml", "d.yaml")
    assert runner.parameters == parse_parameters(TrainingParameters, NEEDED)
    again = TrainingRunner.from_parameters(runner.parameters)
    assert again.parameters == runner.parameters


def test_identity_leaves_out_the_run_it_was_asked_in() -> None:
    asked = parse_parameters(TrainingParameters, {**NEEDED, "run_id": "abc", "epochs": 3})
    assert "run_id" not in asked.identity()
    assert parse_parameters(TrainingParameters, asked.identity()).epochs == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"imgsz": 300}, "parameter imgsz = 300 is not allowed: must be a multiple of 32, such as 288 or 320"),
        ({"imgsz": 16}, "imgsz = 16"),
        ({"epochs": 0}, "parameter epochs = 0 is not allowed: input should be greater than or equal to 1"),
        ({"batch": 0}, "batch = 0"),
        ({"epochs": "ten"}, "epochs = 'ten'"),
        ({"allow_bad": 100}, "allow_bad = 100"),
        ({"seed": 2**31}, "seed = 2147483648"),
        ({"epoch": 3}, "there is no parameter 'epoch'; did you mean 'epochs'?"),
        ({"zzz": 3}, "there is no parameter 'zzz'; known: allow_bad, batch"),
    ],
)
def test_what_cant_be_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_parameters(TrainingParameters, {**NEEDED, **change})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_parameter_is_named() -> None:
    with pytest.raises(ParameterError, match="'data_yaml' is missing"):
        parse_parameters(TrainingParameters, {"experiment_name": "x", "model_arch": "m"})


@pytest.mark.parametrize(("action", "missing"), [("register", "source_run_id"), ("reject", "version and reason")])
def test_registry_actions_need_what_they_act_on(action: str, missing: str) -> None:
    with pytest.raises(ParameterError, match=f"to {action}, {missing} must be given"):
        parse_parameters(RegistryParameters, {"experiment_name": "x", "action": action, "model_name": "m"})
