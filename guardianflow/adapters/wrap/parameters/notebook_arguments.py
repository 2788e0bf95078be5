"""A notebook's parameters: what its tagged cell declares, a command line as papermill takes it, what cells make of it.

papermill puts values in below the first cell tagged ``parameters``, in place of a cell tagged ``injected-parameters``.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.command_words import ParsedLine, typed
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, assignments, dotted, known, shown
from guardianflow.adapters.wrap.parameters.script_options import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.script_text import CodeCell, parse_script, read_notebook
from guardianflow.exceptions import InputError
from guardianflow.text.nearest_names import nearest
from guardianflow.text.printable import printable

__all__ = ["notebook_line", "notebook_parameters", "notebook_source", "notebook_words"]

_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"


def notebook_parameters(path: Path) -> Declared:
    """What the cell tagged ``parameters`` of a notebook declares."""
    try:
        source = next((text for text, tags in read_notebook(path).cells if _TAG in tags), None)
        tree = parse_script(_without_magics(source or ""))
    except InputError as error:
        return Declared(style="notebook", remarks=(str(error),))
    parameters: dict[str, DeclaredParameter] = {}
    names: dict[str, Any] = {}
    remarks = ["the notebook has no cell tagged `parameters`"] if source is None else []
    for node in tree.body:
        kind = dotted(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        for name, value in assignments(node):
            names[name] = default = known(value, names)
            there = default is not UNKNOWN
            if not there:
                remarks.append(f"line {node.lineno} of the parameters cell: {name} is computed: {shown(value)}")
            kind = kind or (type(default).__name__ if there and default is not None else "str")
            parameters[name] = DeclaredParameter(name, kind, default if there else None, there, flags=(f"--{name}",))
    return Declared(tuple(parameters.values()), "notebook", tuple(remarks))


def notebook_source(path: Path) -> str:
    """The code of a notebook's cells as one text, without lines that only IPython understands.

    Raises:
        InputError: It is no notebook that can be read.
    """
    return "\n".join(_without_magics(text) for text, _ in read_notebook(path).cells)


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        return ""
    return "\n".join("pass" if line.startswith(("%", "!", "?")) else line for line in source.splitlines())


def notebook_words(path: Path, words: Sequence[str], *, target: Path, folder: Path) -> list[str]:
    """The arguments of ``python -m papermill`` that run a notebook with these words as its parameters.

    Raises:
        InputError: The notebook can't be read, a word is no ``key=value``, or no cell would work with the value.
    """
    import yaml

    notebook, declared = read_notebook(path), notebook_parameters(path)
    given = _given(declared, words)
    _require_used(path, notebook.cells, given, [one.name for one in declared.parameters])
    # papermill puts its parameters into paths by str.format: braces in a folder's name are doubled.
    paths = [str(one.absolute()).replace("{", "{{").replace("}", "}}") for one in (path, target)]
    argv = [*paths, "--cwd", str(folder), "--log-output", "--no-progress-bar"]
    argv += [] if notebook.names_kernel else ["-k", "python3"]  # papermill won't do without
    argv += [] if notebook.names_language else ["-l", "python"]
    for name, value in given.items():
        argv += ["-y", yaml.safe_dump({name: value}, default_flow_style=True, allow_unicode=True, width=10**9).strip()]
    return argv


def notebook_line(path: Path, declared: Declared, words: Sequence[str]) -> ParsedLine:
    """A notebook's command line, with the values that nobody gives as the cells work with them."""
    given = _given(declared, words)
    values = {one.name: one.default for one in declared.parameters if one.has_default}
    cells = read_notebook(path).cells if values else []
    remarks = []
    for name, value, where in _set_anew(cells, values.keys() - given.keys(), put_in=bool(given)):
        values[name] = value
        remarks.append(f"{name} is {'not known' if value is UNKNOWN else repr(value)}: {where} sets it anew")
    values = {name: value for name, value in {**values, **given}.items() if value is not UNKNOWN}
    return ParsedLine(values, frozenset(given), (), remarks)


def _given(declared: Declared, words: Sequence[str]) -> dict[str, Any]:
    """The parameters in a notebook's command line, of the types that its cells will see."""
    texts = {one.name for one in declared.parameters if one.type in {"str", "Path"} and one.default is not None}
    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, text = (rest.pop(0) if word == "-p" and rest else word).partition("=")
        if not equals and (word == "-p" or word.startswith("--")):  # `--lr 0.01`, and as papermill has it, `-p lr 0.01`
            if not rest:
                raise InputError(f"{printable(word)} has no value; write NAME=VALUE")
            text = rest.pop(0)
        elif not equals:
            raise InputError(
                f"a notebook takes key=value, {printable(word)} is none; write it as name={printable(word)}"
            )
        name = name.removeprefix("--").replace("-", "_")
        if not name.isidentifier() or keyword.iskeyword(name):  # papermill writes names into code as they are
            raise InputError(
                f"{printable(name)} is no parameter name for a notebook; a letter, then letters and digits"
            )
        values[name] = text if name in texts else typed(text)
    return values


def _require_used(path: Path, cells: Sequence[CodeCell], given: Mapping[str, Any], declared: Sequence[str]) -> None:
    """Refuse a value that no cell would work with: none is tagged, or has the name, or a later one sets it anew."""
    tagged = any(_TAG in tags for _, tags in cells)
    anew = {name: where for name, _, where in _set_anew(cells, given, put_in=True)}
    for name, value in given.items():
        why = ""
        if not tagged:
            where = f"{anew[name]} sets {name} anew" if name in anew else f"nothing says that it takes {name}"
            why = (
                f"no cell is tagged `{_TAG}`, so it would be put in at the top, and {where}; give the cell that sets "
                f"{name} that tag in Jupyter (property inspector, Cell Tags)"
            )
        elif declared and name not in declared:
            why = f"the cell tagged `{_TAG}` has no {name}; {nearest(name, declared)}"
        elif name in anew:
            why = f"{anew[name]} sets {name} anew; take that line out, or leave the parameter out"
        if why:
            raise InputError(f"{printable(path)}: {printable(f'{name}={value}', longest=80)} would not be used: {why}")


def _set_anew(cells: Sequence[CodeCell], names: Iterable[str], *, put_in: bool) -> Iterator[tuple[str, Any, str]]:
    """Name, value and place of each name that a later cell gives another value before anything uses it.

    Where values are put in, a cell that an earlier run put in is replaced.
    """
    left = set(names)
    start = next((place for place, (_, tags) in enumerate(cells, 1) if _TAG in tags), 0)
    for place, (text, tags) in enumerate(cells[start:], start + 1):
        if put_in and _INJECTED_TAG in tags:
            continue
        try:
            body = parse_script(_without_magics(text)).body
        except InputError:
            continue
        for node in body:
            left -= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
            for name, value in assignments(node):
                if name in left:
                    left.remove(name)
                    line = printable(text.splitlines()[node.lineno - 1].strip(), longest=80)
                    yield name, known(value, {}), f"code cell {place}, line {node.lineno} (`{line}`)"
