"""Which value a notebook's cells really work with: papermill puts one in, and later cells may set the name anew.

Values are put in below the first cell tagged ``parameters``, in place of a cell tagged ``injected-parameters``, or at
the top where neither is there. From there on the cells are followed as Python compiles them: what comes first of a
name, a use or a new value, decides. Nothing is run.
"""

from __future__ import annotations

import ast
import dis
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from guardianflow.adapters.wrap.parameters.literal_values import Unreadable, evaluate
from guardianflow.adapters.wrap.parameters.script_text import Notebook, parse_script
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["PARAMETERS_TAG", "CellEvent", "first_events", "has_parameters_cell"]

PARAMETERS_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
_PYTHON_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
_OPAQUE_MAGICS = ("%run", "%load", "%store")
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
_LOADS = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")


@dataclass(frozen=True)
class CellEvent:
    """What comes first of a name, from where values are put in.

    Attributes:
        kind: ``"used"``; ``"set"`` (it gets a new value); ``"perhaps"`` (it may get one: under a condition, or by code
            that isn't in the notebook).
        cell: Number of the code cell, from 1.
        line: Line in that cell.
        text: That line.
        value: The new value's expression; ``None`` where there is none that could be read.
    """

    kind: str
    cell: int
    line: int
    text: str
    value: ast.expr | None = None

    @property
    def where(self) -> str:
        """``code cell 2, line 1 (`lr = 0.1`)``."""
        return f"code cell {self.cell}, line {self.line} (`{printable(self.text.strip(), longest=80)}`)"

    def literal(self) -> Any:
        """The new value.

        Raises:
            Unreadable: It is computed.
        """
        if self.value is None:
            raise Unreadable("it is computed")
        return evaluate(self.value, {})


def has_parameters_cell(notebook: Notebook) -> bool:
    """Whether values are put in at a place that the notebook names."""
    return any(tags & {PARAMETERS_TAG, _INJECTED_TAG} for _, tags in notebook.cells)


def first_events(notebook: Notebook, names: Iterable[str], *, put_in: bool) -> dict[str, CellEvent]:
    """Name → what comes first of it below the place where values are put in; names that never come are left out.

    Args:
        notebook: Its JSON.
        names: The names that are asked for.
        put_in: Whether values are put in: a cell that an earlier run put in is replaced then.
    """
    cells = notebook.cells
    tagged = [place for place, (_, tags) in enumerate(cells) if PARAMETERS_TAG in tags]
    injected = [place for place, (_, tags) in enumerate(cells) if _INJECTED_TAG in tags]
    start = injected[0] + 1 if injected and put_in else tagged[0] + 1 if tagged else 0
    followed = _Followed(frozenset(names))
    for place, (text, _) in enumerate(cells):
        followed.take(place + 1, text, counts=place >= start)
    return followed.settle()


@dataclass
class _Followed:
    """Follows names through cells."""

    wanted: frozenset[str]
    events: dict[str, CellEvent] = field(default_factory=dict)
    _perhaps: dict[str, CellEvent] = field(default_factory=dict)  # before the name is used
    _later: dict[str, CellEvent] = field(default_factory=dict)  # read in functions that nothing has named yet
    _readers: dict[str, set[str]] = field(default_factory=dict)  # function → names that it reads

    def take(self, cell: int, text: str, *, counts: bool) -> None:
        """The next cell; one above the place where values are put in only defines functions."""
        lines = text.splitlines()
        code, values = self._compiled(lines)
        found = self._mentioned(lines) if code is None else self._of_code(code)
        for kind, name, line in found:
            event = CellEvent(kind, cell, line, lines[line - 1] if 0 < line <= len(lines) else "", values.get(line))
            for each in self.wanted if name == "*" else {name} & self.wanted:
                if kind == "reader":
                    self._later.setdefault(each, CellEvent("used", cell, line, event.text))
                elif counts and each not in self.events:
                    (self._perhaps if kind == "perhaps" else self.events).setdefault(each, event)

    def settle(self) -> dict[str, CellEvent]:
        """What came first; a use below a line that may have set the name is as uncertain as that line."""
        found = {**self._later, **self.events}
        unsure = {
            name: event for name, event in self._perhaps.items() if name not in found or found[name].kind == "used"
        }
        return {**found, **unsure}

    def _compiled(self, lines: Sequence[str]) -> tuple[CodeType | None, dict[int, ast.expr]]:
        """A cell as Python compiles it, and the values assigned by line; ``None``: it isn't Python alone."""
        if lines and lines[0].lstrip().startswith("%%") and not lines[0].lstrip().startswith(_PYTHON_MAGICS):
            return None, {}
        try:
            tree = parse_script("\n".join(self._python(line) for line in lines))
            code = compile(tree, "cell", "exec", dont_inherit=True)
        except (InputError, SyntaxError, ValueError, RecursionError, MemoryError):  # another language, or `files = !ls`
            return None, {}
        assigned = [node for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value]
        return code, {node.lineno: node.value for node in assigned if node.value}

    def _python(self, line: str) -> str:
        bare = line.lstrip()
        if not bare.startswith(("%", "!", "?")):
            return line
        used = [name for name in sorted(self.wanted) if re.search(rf"\b{re.escape(name)}\b", bare)]
        call = "exec('')" if bare.startswith(_OPAQUE_MAGICS) else ""
        return line[: len(line) - len(bare)] + (f"({', '.join([*used, call])})" if used or call else "pass")

    def _mentioned(self, lines: Sequence[str]) -> Iterator[tuple[str, str, int]]:
        for number, line in enumerate(lines, start=1):
            for name in self.wanted:
                if re.match(rf"\s*{re.escape(name)}\s*(=(?!=)|<-)", line):
                    yield "set", name, number
                elif re.search(rf"\b{re.escape(name)}\b", line):
                    yield "used", name, number

    def _of_code(self, code: CodeType) -> Iterator[tuple[str, str, int]]:
        """What a cell's own code does with names, in the order of its instructions."""
        bytecode = dis.Bytecode(code)
        steps = list(bytecode)
        jumps = [place for place, step in enumerate(steps) if step.opcode in _JUMPS]
        # What a loop itself sets, right behind FOR_ITER, is set.
        firsts = {place: steps[place + (steps[place].opname == "FOR_ITER")].offset for place in jumps}
        unsure = [(first, steps[place].argval) for place, first in firsts.items()]
        unsure += [(one.start, one.end) for one in getattr(bytecode, "exception_entries", ())]
        line = 1
        for step in steps:
            line = (step.positions.lineno if step.positions else None) or line
            sure = not any(first < step.offset < end for first, end in unsure)
            yield from ((kind, name, line) for kind, name in self._of_step(step, sure=sure))

    def _of_step(self, step: dis.Instruction, *, sure: bool) -> Iterator[tuple[str, str]]:
        name = step.argval
        if step.opname == "STORE_NAME":
            yield ("set" if sure else "perhaps"), name
        elif step.opname in _LOADS:
            yield from (("used", each) for each in (name, *self._readers.get(name, ())))
        elif step.opname == "LOAD_CONST" and isinstance(name, str):  # "lr" in globals()
            yield "used", name
        elif step.opname == "LOAD_CONST" and isinstance(name, CodeType):
            yield from self._define(name)
        if (step.opname in _LOADS and name in {"exec", "globals"}) or "STAR" in f"{step.opname} {step.argrepr}":
            yield "perhaps", "*"

    def _define(self, code: CodeType) -> Iterator[tuple[str, str]]:
        """What a function reads is read when somebody names it; a class, a lambda, a comprehension at once."""
        read = set(_read_in(code))
        read |= {each for name in read for each in self._readers.get(name, ())}
        at_once = code.co_name.startswith("<")
        self._readers[code.co_name] = read
        yield from (("used" if at_once else "reader", each) for each in read)


def _read_in(code: CodeType) -> Iterator[str]:
    stored = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}  # a class's own
    for step in dis.get_instructions(code):
        if step.opname in _LOADS and step.argval not in stored:
            yield step.argval
        elif step.opname == "LOAD_CONST" and isinstance(step.argval, CodeType):
            yield from _read_in(step.argval)
