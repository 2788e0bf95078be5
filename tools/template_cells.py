"""Make the cells of the templates that follow from scenario/schema.py: python tools/template_cells.py [--check]

Of each template two cells are made: the one tagged ``parameters`` (every keyword with its type, default and sentence)
and the one tagged ``runner`` (the call that hands them on). All other cells are a person's. What came of it is
recorded beside them: a template that was edited where it lies without this is not executed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import nbformat

import guardianflow
from guardianflow.execution.engine.notebook import template_digest
from guardianflow.scenario.factory import KINDS
from guardianflow.scenario.fields import FlatField, flat_fields

TEMPLATES = Path(__file__).resolve().parents[1] / "notebooks" / "templates"
DIGESTS = TEMPLATES / "digests.json"
EXAMPLES = {
    "experiment_name": "my-site", "model_arch": "yolo11n.yaml", "model_path": "models:/my-detector@champion",
    "source_run_id": "models:/my-detector@champion", "script_path": "train.py", "action": "promote",
    "model_name": "my-model", "space": {"run.options.lr0": {"low": 0.001, "high": 0.1, "log": True}},
    "subjects": ["models:/my-detector@champion", "models:/my-detector@candidate"],
}  # fmt: skip
"""What a required parameter says in a template that is run by hand."""
NEEDED_DATA = {"train": "data.yaml", "infer": "data.yaml", "sweep": "data.yaml"}
NAMES = {"train": "training", "infer": "benchmark", "quantize": "quantization", "registry": "change", "wrap": "script",
    "optimize": "optimization", "sweep": "search", "compare": "comparison",
}  # fmt: skip
"""What the runner is called in the cells that a person wrote."""
LONGEST = 120


def parameters_cell(kind: str) -> str:
    """The cell that papermill fills in."""
    head = "# What is asked. guardianflow fills these in; change them when you run the notebook by hand."
    lines = [_declared(kind, keyword, field) for keyword, field in flat_fields(KINDS.get(kind).scenario).items()]
    return "\n".join([head, *lines, 'run_id: str = ""  # filled in by the executor'])


def _declared(kind: str, keyword: str, field: FlatField) -> str:
    value = EXAMPLES.get(keyword) if field.info.is_required() else field.default
    if keyword == "data_yaml" and kind in NEEDED_DATA:
        value = NEEDED_DATA[kind]
    said = field.info.description or (field.info.annotation.__doc__ or "").splitlines()[0]
    line = f"{keyword}: {_type(field)} = {_literal(value)}"
    return line if len(line) + len(said) > LONGEST - 4 else f"{line}  # {said}"


def _type(field: FlatField) -> str:
    """A type that papermill reads: it drops lines whose annotation it can't parse."""
    kind = field.info.annotation
    if field.asked.whole:
        return "dict"
    origin = get_origin(kind)
    if origin in {list, dict}:
        return origin.__name__
    if origin is Literal:
        return type(get_args(kind)[0]).__name__
    return str(getattr(kind, "__name__", "str"))


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def runner_cell(kind: str) -> str:
    """The call that hands the parameters on."""
    module, _, name = KINDS.get(kind).runner.partition(":")
    scenario = KINDS.get(kind).scenario
    given = [keyword if keyword in scenario.positional else f"{keyword}={keyword}" for keyword in flat_fields(scenario)]
    lines = [f"    {word}," for word in [*given, "run_id=run_id"]]
    public = name in guardianflow.__all__
    import_line = f"from guardianflow import {name}" if public else f"from {module} import {name}"
    return "\n".join([import_line, "", f"{NAMES[kind]} = {name}(", *lines, ")"])


def generated(kind: str) -> dict[str, str]:
    """Tag → source of the cells that are made."""
    return {"parameters": parameters_cell(kind), "runner": runner_cell(kind)}


def main() -> int:
    """Write, or with --check compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 where a cell is out of date")
    check = parser.parse_args().check
    stale = []
    for kind in NAMES:
        path = TEMPLATES / f"{kind}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for tag, source in generated(kind).items():
            cell = next(cell for cell in notebook.cells if tag in cell.metadata.get("tags", ()))
            if cell.source != source:
                stale.append(f"{path.name}: {tag}")
                cell.source = source
        if not check:
            nbformat.write(notebook, path)
    digests = {path.stem: template_digest(path) for path in sorted(TEMPLATES.glob("*.ipynb"))}
    text = json.dumps(digests, indent=1) + "\n"
    if text != DIGESTS.read_text(encoding="utf-8"):
        stale.append(DIGESTS.name)
        if not check:
            DIGESTS.write_text(text, encoding="utf-8")
    for name in stale:
        print(name)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
