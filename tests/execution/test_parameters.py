from __future__ import annotations

import ast
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardianflow.exceptions import InputError, NotFoundError, ParameterError
from guardianflow.execution.engine.parameters import Expression, check_parameters, declared_parameters


def test_all_forms_of_declaration_are_understood(notebooks):
    assert declared_parameters(notebooks / "many_parameters.ipynb") == {
        "data": "",
        "epochs": 10,
        "lr": -0.001,
        "names": ["a=b", "c"],
        "limits": {"low": -0.5, "high": 2},
        "device": None,
        "weights": None,
        "a": 1,
        "b": (2, 3),
        "negative": -7,
        "note": False,
        "flag": False,
        "nested": {"deep": [1, {"x": None}]},
        "computed": Expression("2 ** 10"),
        "shown": ["data", "epochs", "lr", "names", "device", "nested"],
        "required": Expression(""),
    }


def test_reading_the_declaration_executes_nothing(tmp_path):
    trap = tmp_path / "trap"
    path = notebook_with_parameters(tmp_path, f"x = open({str(trap)!r}, 'w')\n%run evil.py\n!touch evil")
    assert list(declared_parameters(path)) == ["x"]
    assert not trap.exists()


def test_a_notebook_without_parameters_cell_declares_none(notebooks):
    assert declared_parameters(notebooks / "cell_raises.ipynb") == {}
    with pytest.raises(ParameterError, match="declares none"):
        check_parameters(notebooks / "cell_raises.ipynb", {"x": 1})


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("two_parameter_cells", ParameterError, "2 cells tagged 'parameters'"),
        ("parameters_with_syntax_error", ParameterError, "not valid Python.*line 1"),
        ("absent", NotFoundError, "no notebook at"),
    ],
)
def test_a_broken_template_is_refused(notebooks, name, error, message):
    with pytest.raises(error, match=message):
        declared_parameters(notebooks / f"{name}.ipynb")


@pytest.mark.parametrize("text", ["", "not json", "[1, 2]", "{}", '{"cells": 3}', "[" * 100_000, "\ud800"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, text):
    path = tmp_path / "공 백.ipynb"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match="is no notebook"):
        declared_parameters(path)


@pytest.mark.parametrize("name", ["x\nimport os", "x = 1; y", "count ", "class", "", "1x", "greeting.x", 3])
def test_a_name_that_is_no_identifier_never_reaches_the_code(notebooks, name):
    with pytest.raises(ParameterError, match="is not allowed"):
        check_parameters(notebooks / "completes.ipynb", {name: 1})


def test_an_unknown_name_is_refused_with_the_nearest_one(notebooks):
    with pytest.raises(ParameterError, match=r"no parameter 'cout'\. Did you mean 'count'\? Known: greeting, count"):
        check_parameters(notebooks / "completes.ipynb", {"cout": 2})


def test_a_parameter_without_default_must_be_given(notebooks):
    path = notebooks / "many_parameters.ipynb"
    with pytest.raises(ParameterError, match="no default for 'required'"):
        check_parameters(path, {})
    assert check_parameters(path, {"required": 1}) == {"required": 1}


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Path("폴더/a b"), "폴더/a b"),
        ((1, (2, "x")), [1, [2, "x"]]),
        (Colour.RED, "red"),
        (np.float64(0.5), 0.5),
        ({"a": (1,)}, {"a": [1]}),
        (True, True),
        (10**30, 10**30),
    ],
)
def test_values_come_back_as_json_holds_them(notebooks, value, plain):
    got = check_parameters(notebooks / "completes.ipynb", {"greeting": value})["greeting"]
    assert got == plain
    assert type(got) is type(plain)
    assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize(
    "value", [{1, 2}, b"x", object(), np.int64(3), np.zeros(2), float("nan"), float("inf"), {1: 2}, "\ud800", 1j]
)
def test_values_that_json_cannot_hold_are_refused(notebooks, value):
    with pytest.raises(ParameterError, match="'greeting'"):
        check_parameters(notebooks / "completes.ipynb", {"greeting": [value]})


def test_a_value_that_contains_itself_is_refused(notebooks):
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ParameterError, match="nested deeper"):
        check_parameters(notebooks / "completes.ipynb", {"greeting": loop})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=json_values)
def test_what_papermill_injects_means_the_same_value(notebooks, value):
    from papermill.translators import PythonTranslator

    checked = check_parameters(notebooks / "completes.ipynb", {"greeting": value})
    tree = ast.parse(PythonTranslator.codify(checked))
    assert len(tree.body) == 1
    assignment = tree.body[0]
    assert isinstance(assignment, ast.Assign)
    assert ast.literal_eval(assignment.value) == value


def notebook_with_parameters(folder: Path, source: str) -> Path:
    path = folder / "made.ipynb"
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source.splitlines(keepends=True)}
    path.write_text(json.dumps({"cells": [cell], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    return path


def test_injected_parameters_read_as_they_were_written(tmp_path: Path) -> None:
    import nbformat

    from guardianflow.execution.engine import notebook as module
    from guardianflow.execution.engine.papermill_engine import register_engine

    register_engine()

    values = {"name": "정문 'gate' \"1\" \\ 끝", "hidden": "a\u202eb\n", "n": -1.5e-07, "d": {"k": [True, None, "값"]}}
    cell = nbformat.v4.new_code_cell("name = ''", metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    source = tmp_path / "template.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), source)

    text = module._parameterized(source, values).cells[1].source

    found: dict[str, object] = {}
    exec(text, found)
    assert {key: found[key] for key in values} == values
    assert "정문" in text
    assert "\u202e" not in text
    assert module._readable("x <- 1") == "x <- 1"
