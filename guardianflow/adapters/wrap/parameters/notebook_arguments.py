"""A notebook's parameters: what its tagged cell declares, and a command line as papermill takes it."""

from __future__ import annotations

import ast
import difflib
import keyword
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, Unreadable, dotted, evaluate
from guardianflow.adapters.wrap.parameters.notebook_flow import (
    PARAMETERS_TAG,
    first_events,
    has_parameters_cell,
)
from guardianflow.adapters.wrap.parameters.script_text import Notebook, parse_script, read_notebook
from guardianflow.adapters.wrap.parameters.word_arguments import read_literal
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["notebook_defaults", "notebook_parameters", "notebook_source", "notebook_values", "notebook_words"]


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
            source="notebook",
            line=node.lineno,
        )
    return Declared(tuple(parameters.values()), "notebook", tuple(remarks))


def notebook_source(path: Path) -> str:
    """The code of a notebook's cells as one text, without lines that only IPython understands.

    Raises:
        InputError: It is no notebook that can be read.
    """
    return "\n".join(_without_magics(text) for text, _ in read_notebook(path).cells)


def _tagged_cell(notebook: Notebook) -> str | None:
    return next((text for text, tags in notebook.cells if PARAMETERS_TAG in tags), None)


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
    read = notebook_parameters(path)
    declared = {one.name: one for one in read.parameters}
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
    _require_used(path, notebook, dict(_pairs(words)), list(declared))
    return argv


def _require_used(path: Path, notebook: Notebook, given: Mapping[str, str], declared: Sequence[str]) -> None:
    """Refuse values that the notebook's cells would not work with.

    Raises:
        InputError: A cell sets the name anew before anything uses it, or none uses it.
    """
    events = first_events(notebook, given, put_in=True)
    for name, text in given.items():
        event = events.get(name)
        asked = printable(f"{name}={text}", longest=80)
        if event is None:
            near = difflib.get_close_matches(name, declared, n=1)
            known = f"did you mean {near[0]}?" if near else f"it declares {', '.join(declared) or 'none'}"
            raise InputError(f"{printable(path)}: {asked} would do nothing: no cell uses {name}; {known}")
        if event.kind == "set":
            place = f"below the cell tagged `{PARAMETERS_TAG}`"
            todo = "take that line out, or leave the parameter out"
            if not has_parameters_cell(notebook):
                place = f"at the top, for no cell is tagged `{PARAMETERS_TAG}`"
                todo = f"give that cell the tag `{PARAMETERS_TAG}` in Jupyter (property inspector, Cell Tags)"
            raise InputError(
                f"{printable(path)}: {asked} would not be used: it is put in {place}, and {event.where} sets {name} "
                f"anew; {todo}"
            )


def notebook_defaults(path: Path, declared: Declared, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values of declared parameters that nobody gives, as the cells work with them, and remarks.

    Args:
        path: The notebook.
        declared: What its parameters cell declares.
        given: What is given; a value among it that may be replaced is a remark.
    """
    values = {one.name: one.default for one in declared.parameters if one.source == "notebook" and one.has_default}
    try:
        notebook = read_notebook(path)
    except InputError:
        return values, []
    remarks = []
    tagged = sum(PARAMETERS_TAG in tags for _, tags in notebook.cells)
    if tagged > 1:
        remarks.append(f"{tagged} cells are tagged `{PARAMETERS_TAG}`; papermill puts values in below the first one")
    events = first_events(notebook, {*values, *given}, put_in=bool(given))
    for name, event in events.items():
        if event.kind == "perhaps":
            remarks.append(f"{name} may get another value than it says here: {event.where}")
        elif event.kind == "set" and name not in given:
            del values[name]
            try:
                values[name] = event.literal()
            except Unreadable:
                remarks.append(f"{name} is not known: {event.where} sets it anew")
            else:
                remarks.append(f"{name} is {values[name]!r}: {event.where} sets it anew")
    return values, remarks


def _open_questions(notebook: Notebook) -> list[str]:
    """Options for what a notebook leaves open, and papermill won't do without: its kernel and its language."""
    words = [] if notebook.names_kernel else ["-k", "python3"]
    return words if notebook.names_language else [*words, "-l", "python"]


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
    rest = iter(words)
    for word in rest:
        name, equals, text = word.partition("=")
        if word == "-p" or (word.startswith("--") and len(word) > 2 and not equals):
            # `--lr 0.01`, and as papermill has it, `-p lr 0.01`
            name = next(rest, "") if word == "-p" else word[2:]
            text = next(rest, "")
            if not text:
                raise InputError(f"{printable(word)} has no value; write {printable(name or 'NAME')}=VALUE")
        elif not equals:
            raise InputError(
                f"a notebook takes key=value, {printable(word)} is none; write it as name={printable(word)}"
            )
        pairs.append((name.removeprefix("--").replace("-", "_"), text))
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
    if text[:1] in "[{" and isinstance(value := read_literal(text), (list, dict)):
        return value
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
