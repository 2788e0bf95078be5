"""A notebook's parameters: what its tagged cell declares, a command line as papermill takes it, what cells make of it.

papermill puts values in below the first cell tagged ``parameters``, in place of a cell tagged ``injected-parameters``,
or at the top where neither is there. From there on, lines are read for what comes first of a name: a use, a new value.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from guardianflow.adapters.wrap.parameters.command_words import ParsedLine, typed
from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, assignments, dotted, known, shown
from guardianflow.adapters.wrap.parameters.script_text import CodeCell, parse_script, read_notebook
from guardianflow.exceptions import InputError
from guardianflow.text.nearest_names import nearest
from guardianflow.text.printable import printable

__all__ = ["notebook_line", "notebook_parameters", "notebook_source", "notebook_words"]

_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
_DEFINITION = re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)")


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
            parameters[name] = DeclaredParameter(
                name, kind, default if there else None, there, flags=(f"--{name}",), source="notebook"
            )
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
    """A notebook's command line, with the values that nobody gives as the cells work with them.

    Args:
        path: The notebook.
        declared: What its parameters cell declares.
        words: Its command line.
    """
    given = _given(declared, words)
    values = {one.name: one.default for one in declared.parameters if one.source == "notebook" and one.has_default}
    values |= given
    try:
        cells = read_notebook(path).cells
    except InputError:
        return ParsedLine(values, frozenset(given))
    remarks = []
    for event in _first_events(cells, [*values], put_in=bool(given)):
        if event.kind == "perhaps":
            remarks.append(f"{event.name} may get another value than it says here: {event.where}")
        elif event.kind == "set":
            values[event.name] = event.value
            said = "is not known" if event.value is UNKNOWN else f"is {event.value!r}"
            remarks.append(f"{event.name} {said}: {event.where} sets it anew")
    return ParsedLine({name: one for name, one in values.items() if one is not UNKNOWN}, frozenset(given), (), remarks)


def _given(declared: Declared, words: Sequence[str]) -> dict[str, Any]:
    """The parameters in a notebook's command line, of the types that its cells will see.

    Raises:
        InputError: A word is no ``key=value``, or a name is none that code can have.
    """
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
    """Refuse values that the notebook's cells would not work with.

    Raises:
        InputError: A cell sets the name anew before anything uses it, or none uses it.
    """
    events = {event.name: event for event in _first_events(cells, [*given], put_in=True)}
    for name, value in given.items():
        asked = f"{printable(path)}: {printable(f'{name}={value}', longest=80)}"
        if name not in events:
            near = nearest(name, declared) if declared else "it declares none"
            raise InputError(f"{asked} would do nothing: no cell uses {name}; {near}")
        if events[name].kind == "set":
            place, todo = f"below the cell tagged `{_TAG}`", "take that line out, or leave the parameter out"
            if not any(tags & {_TAG, _INJECTED_TAG} for _, tags in cells):
                place = f"at the top, for no cell is tagged `{_TAG}`"
                todo = f"give that cell the tag `{_TAG}` in Jupyter (property inspector, Cell Tags)"
            raise InputError(
                f"{asked} would not be used: it is put in {place}, and {events[name].where} sets {name} anew; {todo}"
            )


@dataclass(frozen=True)
class _Event:
    """What comes first of a name: ``"used"``, ``"set"`` (a new value) or ``"perhaps"`` (one under a condition)."""

    name: str
    kind: str
    where: str
    value: Any = UNKNOWN


class _Line(NamedTuple):
    where: str
    text: str
    counts: bool


def _first_events(cells: Sequence[CodeCell], names: Sequence[str], *, put_in: bool) -> Iterator[_Event]:
    """What comes first of each name below the place where values are put in; names that never come are left out."""
    tagged = [place for place, (_, tags) in enumerate(cells) if _TAG in tags]
    injected = [place for place, (_, tags) in enumerate(cells) if _INJECTED_TAG in tags] if put_in else []
    start = injected[0] + 1 if injected else tagged[0] + 1 if tagged else 0
    lines = [
        _Line(f"code cell {place + 1}, line {number} (`{printable(line.strip(), longest=80)}`)", line, place >= start)
        for place, (text, _) in enumerate(cells)
        for number, line in enumerate(text.splitlines(), 1)
    ]
    for name in names:
        event = _first_event(name, lines)
        if event is not None:
            yield event


def _first_event(name: str, lines: Sequence[_Line]) -> _Event | None:
    sets = re.compile(
        rf"(?P<indent>\s*)(?:(?:[\w ]+,)*\s*{name}\s*(?:,[\w ,]+)?(?::[^=]+)?(?:=(?!=)|<-)(?P<value>.*)"
        rf"|from\s.*\simport\s.*\b{name}\b|for\s[^:]*\b{name}\b[^:]*\sin\s)"
    )
    readers, defined, late = name, "", None
    for where, line, counts in lines:
        if line[:1].strip():
            definition = _DEFINITION.match(line)
            defined = definition[1] if definition else ""
        code = line.partition("#")[0]
        if not re.search(rf"\b(?:{readers})\b", code):
            continue
        found = sets.match(code)
        if defined:  # what a function reads is used where somebody names the function
            readers = f"{readers}|{defined}"
            late = late or _Event(name, "used", where)
        elif counts and (found is None or re.search(rf"\b{name}\b", found["value"] or "")):
            return _Event(name, "used", where)
        elif counts and found is not None and not (found["indent"] and f"{name}=" in code):  # a keyword of a call
            return _Event(name, "perhaps" if found["indent"] else "set", where, _literal(found["value"]))
    return late


def _literal(text: str | None) -> Any:
    try:
        return ast.literal_eval((text or "").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return UNKNOWN
