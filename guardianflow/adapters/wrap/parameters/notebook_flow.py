"""Which value a notebook's cells really work with: papermill puts one in, and later cells may set the name anew.

Values are put in below the first cell tagged ``parameters``, in place of a cell tagged ``injected-parameters``, or at
the top where neither is there. From there on the cells' text is followed: what comes first of a name, a use or a new
value, decides. Nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from guardianflow.adapters.wrap.parameters.literal_values import Unreadable, evaluate
from guardianflow.adapters.wrap.parameters.script_text import Notebook, parse_script
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["PARAMETERS_TAG", "CellEvent", "first_events", "has_parameters_cell"]

PARAMETERS_TAG = "parameters"
_INJECTED_TAG = "injected-parameters"
_PYTHON_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
_OPAQUE_CALLS = {"exec", "globals"}
_OPAQUE_MAGICS = ("%run", "%load", "%store")


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
    wanted = frozenset(names)
    tagged = [place for place, (_, tags) in enumerate(cells) if PARAMETERS_TAG in tags]
    injected = [place for place, (_, tags) in enumerate(cells) if _INJECTED_TAG in tags]
    start = injected[0] + 1 if injected and put_in else tagged[0] + 1 if tagged else 0
    followed = _Followed(wanted)
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
        for kind, name, line, value in self._of_cell(lines):
            shown = lines[line - 1] if 0 < line <= len(lines) else ""
            if kind == "reader":
                if name in self.wanted:
                    self._later.setdefault(name, CellEvent("used", cell, line, shown))
            elif counts:
                self._note(name, CellEvent(kind, cell, line, shown, value))

    def settle(self) -> dict[str, CellEvent]:
        """What came first; a use below a line that may have set the name is as uncertain as that line."""
        found = {**self._later, **self.events}
        unsure = {
            name: event for name, event in self._perhaps.items() if name not in found or found[name].kind == "used"
        }
        return {**found, **unsure}

    def _note(self, name: str, event: CellEvent) -> None:
        for each in self.wanted if name == "*" else {name} & self.wanted:
            if each not in self.events:
                (self._perhaps if event.kind == "perhaps" else self.events).setdefault(each, event)
        for each in self._readers.get(name, set()) & self.wanted:
            self.events.setdefault(each, replace(event, kind="used"))

    def _of_cell(self, lines: Sequence[str]) -> Iterator[tuple[str, str, int, ast.expr | None]]:
        if lines and lines[0].lstrip().startswith("%%") and not lines[0].lstrip().startswith(_PYTHON_MAGICS):
            yield from self._mentioned(lines)
            return
        try:
            tree = parse_script("\n".join(self._python(line) for line in lines))
        except InputError:  # another language, or `files = !ls`
            yield from self._mentioned(lines)
            return
        walk = _Walk(self._readers)
        for node in tree.body:
            walk.visit(node)
        yield from walk.found

    def _python(self, line: str) -> str:
        bare = line.lstrip()
        if not bare.startswith(("%", "!", "?")):
            return line
        used = [name for name in sorted(self.wanted) if re.search(rf"\b{re.escape(name)}\b", bare)]
        call = "exec('')" if bare.startswith(_OPAQUE_MAGICS) else ""
        return line[: len(line) - len(bare)] + (f"({', '.join([*used, call])})" if used or call else "pass")

    def _mentioned(self, lines: Sequence[str]) -> Iterator[tuple[str, str, int, ast.expr | None]]:
        for number, line in enumerate(lines, start=1):
            for name in self.wanted:
                if re.match(rf"\s*{re.escape(name)}\s*(=(?!=)|<-)", line):
                    yield "set", name, number, None
                elif re.search(rf"\b{re.escape(name)}\b", line):
                    yield "used", name, number, None


class _Walk(ast.NodeVisitor):
    """What is used and set, in the order in which Python does it."""

    def __init__(self, readers: dict[str, set[str]]) -> None:
        self.found: list[tuple[str, str, int, ast.expr | None]] = []
        self._readers = readers
        self._conditions = 0
        self._hidden: list[set[str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and not any(node.id in names for names in self._hidden):
            self.found.append(("used", node.id, node.lineno, None))
        elif isinstance(node.ctx, ast.Store) and not self._hidden:
            self._set(node.id, node.lineno, None)

    def visit_Compare(self, node: ast.Compare) -> None:
        named = node.left.value if isinstance(node.left, ast.Constant) else None
        if isinstance(named, str) and isinstance(node.ops[0], (ast.In, ast.NotIn)):  # "lr" in globals()
            self.found.append(("used", named, node.lineno, None))
            return
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and not self._hidden:
                self._set(target.id, node.lineno, node.value)
            else:
                self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is None:
            return
        self.visit(node.value)
        if isinstance(node.target, ast.Name) and not self._hidden:
            self._set(node.target.id, node.lineno, node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            self.found.append(("used", node.target.id, node.lineno, None))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in _OPAQUE_CALLS:
            self.found.append(("perhaps", "*", node.lineno, None))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._set((alias.asname or alias.name).partition(".")[0], node.lineno, None)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.found.append(("perhaps", "*", node.lineno, None))
            else:
                self._set(alias.asname or alias.name, node.lineno, None)

    def visit_If(self, node: ast.If | ast.While) -> None:
        self.visit(node.test)
        self._maybe([*node.body, *node.orelse])

    visit_While = visit_If  # noqa: N815 - the name that ast asks for

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        self._maybe([*node.body, *node.orelse])

    def visit_Try(self, node: ast.Try) -> None:
        self._maybe([*node.body, *node.handlers, *node.orelse, *node.finalbody])

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for each in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)):
            self.visit(each)
        self._define(node.name, node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name that ast asks for

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._define("", node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        own = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each)
        for each in own:
            self._define(node.name, each.args, each.body)
        self._hidden.append(set())  # what is set in a class is its own
        for each in node.body:
            if each not in own:
                self.visit(each)
        self._hidden.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        stored = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        self._hidden.append(stored)
        self.generic_visit(node)
        self._hidden.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _maybe(self, nodes: Iterable[ast.AST]) -> None:
        self._conditions += 1
        for node in nodes:
            self.visit(node)
        self._conditions -= 1

    def _set(self, name: str, line: int, value: ast.expr | None) -> None:
        self.found.append(("perhaps" if self._conditions else "set", name, line, value))

    def _define(self, name: str, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        """What a function reads is read when somebody names it."""
        inner = [node for each in body for node in ast.walk(each)]
        local = {node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        local |= {one.arg for node in inner if isinstance(node, ast.arguments) for one in ast.walk(node)
                  if isinstance(one, ast.arg)}  # fmt: skip
        local |= {one.arg for one in ast.walk(arguments) if isinstance(one, ast.arg)}
        local -= {one for node in inner if isinstance(node, ast.Global) for one in node.names}
        read = {node.id: node.lineno for node in inner if isinstance(node, ast.Name) and node.id not in local}
        known = set(read)
        for each in read:
            known |= self._readers.get(each, set())
        self._readers[name] = known
        self.found += [("reader", each, line, None) for each, line in read.items()]
        if not name:
            self.found += [("used", each, line, None) for each, line in read.items()]
