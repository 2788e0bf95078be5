"""What a notebook in the repository must look like: no output, one parameters cell, thin calls after it."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
TEMPLATES = [path for path in NOTEBOOKS if path.parent.name == "templates"]

LINES_PER_CELL = 40  # a runner with all that it can be asked
# What a run leaves behind; the papermill keys hold paths and parameters of the machine it ran on.
RUN_KEYS = {"papermill", "widgets", "guardianflow", "execution", "ExecuteTime"}


def source_of(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def without_magics(source: str) -> str:
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())


def cell_problems(cell: dict[str, Any], where: str) -> list[str]:
    problems = []
    if keys := RUN_KEYS & set(cell["metadata"]):
        problems.append(f"{where}: left from a run: metadata {sorted(keys)}")
    if cell["cell_type"] != "code":
        return problems
    if cell["outputs"]:
        problems.append(f"{where}: holds output")
    if cell["execution_count"] is not None:
        problems.append(f"{where}: has the execution count {cell['execution_count']}")
    source = source_of(cell)
    if len(source.splitlines()) > LINES_PER_CELL:
        problems.append(f"{where}: has over {LINES_PER_CELL} lines; the library is the place for logic")
    defined = [
        node.name
        for node in ast.walk(ast.parse(without_magics(source)))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    ]
    if defined:
        problems.append(f"{where}: defines {', '.join(defined)}; the library is the place for logic")
    return problems


def problems_in(notebook: dict[str, Any], *, template: bool) -> list[str]:
    """Every breach of the rules in one notebook, a sentence each."""
    problems = []
    if keys := RUN_KEYS & set(notebook["metadata"]):
        problems.append(f"left from a run: metadata {sorted(keys)}")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) != len(ids):
        problems.append("each cell needs an id of its own: a diff follows cells by it")
    for index, cell in enumerate(notebook["cells"]):
        problems += cell_problems(cell, f"cell {index}")
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    if template and len(tagged) != 1:
        problems.append(f"a template has one cell tagged `parameters`, not {len(tagged)}")
    if template and (not notebook["cells"] or notebook["cells"][0]["cell_type"] != "markdown"):
        problems.append("a template begins with a text that says what it does")
    return problems


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_train_template_is_there() -> None:
    assert "train.ipynb" in {path.name for path in TEMPLATES}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_notebook_is_clean(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(nbformat.from_dict(notebook))
    problems = problems_in(notebook, template=path in TEMPLATES)
    assert not problems, "\n".join(problems)


def clean_template() -> dict[str, Any]:
    cells = [
        nbformat.v4.new_markdown_cell("# Train"),
        nbformat.v4.new_code_cell("epochs = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("%matplotlib inline\nprint(epochs)"),
    ]
    return dict(nbformat.v4.new_notebook(cells=cells))


def test_a_clean_template_has_no_problems() -> None:
    assert problems_in(clean_template(), template=True) == []


@pytest.mark.parametrize(
    ("cell", "change", "sentence"),
    [
        (2, {"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]}, "cell 2: holds output"),
        (2, {"execution_count": 3}, "cell 2: has the execution count 3"),
        (2, {"metadata": {"papermill": {"duration": 1.0}}}, "cell 2: left from a run"),
        (2, {"metadata": {"tags": ["parameters"]}}, "one cell tagged `parameters`, not 2"),
        (1, {"metadata": {}}, "one cell tagged `parameters`, not 0"),
        (2, {"source": "def train():\n    pass"}, "cell 2: defines train"),
        (2, {"source": "x = 1\n" * (LINES_PER_CELL + 1)}, "cell 2: has over"),
        (2, {"id": None}, "an id of its own"),
        (0, {"cell_type": "raw"}, "begins with a text"),
    ],
)
def test_each_kind_of_dirt_is_found(cell: int, change: dict[str, Any], sentence: str) -> None:
    notebook = copy.deepcopy(clean_template())
    notebook["cells"][cell].update(change)
    problems = problems_in(notebook, template=True)
    assert any(sentence in problem for problem in problems), problems


def test_metadata_of_a_run_is_found() -> None:
    notebook = clean_template()
    notebook["metadata"]["papermill"] = {"input_path": "/somewhere"}
    assert problems_in(notebook, template=False) == ["left from a run: metadata ['papermill']"]
