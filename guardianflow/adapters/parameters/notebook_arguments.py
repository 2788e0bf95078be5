"""A notebook's parameters: what its tagged cell declares, and a command line as papermill takes it."""

from __future__ import annotations

import ast
import json
import keyword
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardianflow.adapters.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.parameters.literal_values import UNKNOWN, Unreadable, dotted, evaluate
from guardianflow.adapters.parameters.script_text import parse_script, read_notebook
from guardianflow.data.printable import printable
from guardianflow.exceptions import InputError

__all__ = ["notebook_parameters", "notebook_source", "notebook_values", "notebook_words"]

_TAG = "parameters"


def notebook_parameters(path: Path) -> Declared:
    """What the cell tagged ``parameters`` of a notebook declares."""
    try:
        source = _tagged_cell(read_notebook(path))
        if source is None:
            return Declared(style="notebook", remarks=("the notebook has no cell tagged `parameters`",))
        tree = parse_script(_without_magics(source))
    except InputError as error:
        return Declared(style="notebook", remarks=(str(error),))
    return _declared(tree)


def _declared(tree: ast.Module) -> Declared:
    parameters: dict[str, DeclaredParameter] = {}
    names: dict[str, Any] = {}
    remarks = []
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(target, ast.Name) or value is None:
            continue
        try:
            default = names[target.id] = evaluate(value, names)
        except Unreadable as why:
            default = names[target.id] = UNKNOWN
            remarks.append(f"line {node.lineno} of the parameters cell: {target.id} is computed: {why}")
        known = default is not UNKNOWN
        declared = dotted(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        parameters[target.id] = DeclaredParameter(
            target.id,
            type=declared or (type(default).__name__ if known and default is not None else "str"),
            default=default if known else None,
            has_default=known,
            flags=(f"--{target.id}",),
            multiple=isinstance(default, (list, tuple)),
            source="notebook",
            line=node.lineno,
        )
    return Declared(tuple(parameters.values()), "notebook", tuple(remarks))


def notebook_source(path: Path) -> str:
    """The code of a notebook's cells as one text, without lines that only IPython understands.

    Raises:
        InputError: It is no notebook that can be read.
    """
    cells = [
        cell for cell in read_notebook(path)["cells"] if isinstance(cell, dict) and cell.get("cell_type") == "code"
    ]
    return "\n".join(_without_magics(_text(cell)) for cell in cells)


def _tagged_cell(notebook: Mapping[str, Any]) -> str | None:
    for cell in notebook["cells"]:
        metadata = cell.get("metadata") if isinstance(cell, dict) else None
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        if isinstance(tags, list) and _TAG in tags:
            return _text(cell)
    return None


def _text(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(str(line) for line in source) if isinstance(source, list) else str(source)


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("pass" if line.startswith(("%", "!", "?")) else line for line in source.splitlines())


def notebook_words(path: Path, words: Sequence[str], *, target: Path, folder: Path) -> list[str]:
    """The arguments of ``python -m papermill`` that run a notebook with these words as its parameters.

    Raises:
        InputError: The notebook can't be read, or a word is no ``key=value``.
    """
    notebook = read_notebook(path)
    declared = {one.name: one for one in notebook_parameters(path).parameters}
    # papermill puts its parameters into paths by str.format: braces in a folder's name are doubled.
    paths = [str(one.absolute()).replace("{", "{{").replace("}", "}}") for one in (path, target)]
    argv = [*paths, "--cwd", str(folder), "--log-output", "--no-progress-bar"]
    argv += _open_questions(notebook)
    for name, text in _pairs(words):
        if not name.isidentifier() or keyword.iskeyword(name):  # papermill writes names into code as they are
            raise InputError(
                f"{printable(name)} is no parameter name for a notebook; a letter, then letters and digits"
            )
        argv += _word(name, text, _notebook_value(declared.get(name), text))
    return argv


def _open_questions(notebook: Mapping[str, Any]) -> list[str]:
    """Options for what a notebook leaves open, and papermill won't do without: its kernel and its language."""
    metadata = notebook.get("metadata")
    spec = metadata.get("kernelspec") if isinstance(metadata, dict) else None
    known = spec if isinstance(spec, dict) else {}
    words = [] if known.get("name") else ["-k", "python3"]
    return words if known.get("language") else [*words, "-l", "python"]


def _word(name: str, text: str, value: Any) -> list[str]:
    """The option that makes papermill read this very value."""
    if isinstance(value, (list, dict)):
        import yaml

        return ["-y", yaml.safe_dump({name: value}, default_flow_style=True, allow_unicode=True, width=10**9)]
    if isinstance(value, str):
        return ["-r", name, value]
    return ["-p", name, str(value) if isinstance(value, bool) or value is None else text.strip()]


def notebook_values(declared: Declared, words: Sequence[str]) -> dict[str, Any]:
    """The parameters in a notebook's command line, of the types that its cells will see."""
    known = {one.name: one for one in declared.parameters}
    return {name: _notebook_value(known.get(name), text) for name, text in _pairs(words)}


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    waiting = ""
    for word in words:
        if waiting:
            pairs.append((waiting, word))
            waiting = ""
            continue
        name, equals, text = word.partition("=")
        if equals:
            pairs.append((name.removeprefix("--").replace("-", "_"), text))
        elif word.startswith("--") and len(word) > 2:
            waiting = word[2:].replace("-", "_")
        else:
            raise InputError(
                f"a notebook takes key=value, {printable(word)} is none; write it as name={printable(word)}"
            )
    if waiting:
        raise InputError(f"--{printable(waiting)} has no value; write {printable(waiting)}=VALUE")
    return pairs


def _notebook_value(declared: DeclaredParameter | None, text: str) -> Any:
    """As papermill's ``-p`` reads it, unless the declared type says that it can't be meant so."""
    kind = declared.type.rpartition(".")[2] if declared is not None else ""
    if kind in {"str", "Path"} and declared is not None and declared.default is not None:
        return text
    if text in {"True", "False", "None"}:
        return {"True": True, "False": False, "None": None}[text]
    if kind == "bool" and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if text[:1] in "[{" and text:
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
            if isinstance(value, (list, dict)):
                return value
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
