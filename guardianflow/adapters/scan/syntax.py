"""A script's facts, read from its syntax tree; nothing is imported or run, and no depth is too deep."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from guardianflow.adapters.scan.facts import CallFact, CodeFacts, LoopFact, Names

__all__ = ["parse", "tree_facts"]

_PASSES = {"backward", "step"}
_MOST_PARTS = 40
# Half of all nodes are of these kinds; they say nothing and hold nothing.
_LEAVES = (ast.Constant, ast.Name, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.arg)


def parse(text: str) -> ast.Module | str:
    """The syntax tree of a text, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "\d" and the like in other people's strings
            return ast.parse(text)
    except SyntaxError as error:
        return f"no Python 3 of today ({error.msg}, line {error.lineno or 0})"
    except (RecursionError, MemoryError):
        return "nested too deeply to be parsed"
    except ValueError as error:  # null bytes, lone surrogates
        return f"can't be parsed ({error})"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the tree: in a function or class, in the `for` loops that hold it."""

    inside: bool = False
    loops: tuple[LoopFact, ...] = ()


def tree_facts(tree: ast.Module, text: str) -> CodeFacts:
    """The facts of a script from its syntax tree."""
    reader = _TreeReader(text)
    reader.read(tree)
    return reader.facts()


class _TreeReader:
    """One pass over the tree without recursion, then the names are resolved."""

    def __init__(self, text: str) -> None:
        self._facts = CodeFacts(text.splitlines())
        self._names = Names()
        self._calls: list[tuple[ast.Call, str, bool]] = []

    def read(self, tree: ast.Module) -> None:
        waiting: list[tuple[ast.AST, _Place]] = [(tree, _Place())]
        while waiting:
            node, place = waiting.pop()
            place = self._take(node, place)
            for name in node._fields:
                child = getattr(node, name, None)
                waiting.extend(
                    (item, place)
                    for item in (child if isinstance(child, list) else (child,))
                    if isinstance(item, ast.AST) and not isinstance(item, _LEAVES)
                )

    def facts(self) -> CodeFacts:
        """What was read, its calls in the order of the text."""
        facts, names = self._facts, self._names
        for node, dotted, top in sorted(self._calls, key=lambda call: (call[0].lineno, call[0].col_offset)):
            spoken = dotted.rpartition(".")[0].rpartition(".")[2]
            keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            has_arguments = bool(node.args or node.keywords)
            facts.calls.append(CallFact(names.resolve(dotted), node.lineno, keywords, has_arguments, top, spoken))
        facts.loops = sorted((loop for loop in facts.loops if loop.backward), key=lambda loop: loop.line)
        return facts

    def _take(self, node: ast.AST, place: _Place) -> _Place:
        """Note what a node says, and where its children are."""
        if isinstance(node, ast.Call):
            self._take_call(node, place)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._take_import(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
            self._take_assignment(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return _Place(inside=True)
        elif isinstance(node, ast.ClassDef):
            if node.bases:
                self._names.bases[node.name] = _dotted(node.bases[0])
            return _Place(inside=True)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            loop = LoopFact(node.lineno, "epoch" in _target_name(node.target).lower(), not place.inside)
            self._facts.loops.append(loop)
            return _Place(place.inside, (*place.loops, loop)[-_MOST_PARTS:])
        elif isinstance(node, ast.If) and _is_main_guard(node.test):
            self._facts.main_line = self._facts.main_line or node.lineno
        return place

    def _take_call(self, node: ast.Call, place: _Place) -> None:
        dotted = _dotted(node.func)
        if not dotted and isinstance(node.func, ast.Attribute):
            dotted = f"?.{node.func.attr}"  # (loss + penalty).backward()
        name = dotted.rpartition(".")[2]
        for loop in place.loops if name in _PASSES else ():
            loop.backward |= name == "backward"
            loop.step |= name == "step"
        if isinstance(node.func, ast.Call) and dotted == "getattr()":
            chosen = node.func.args[1:2]
            if chosen and isinstance(chosen[0], ast.Name) and "mode" in chosen[0].id:
                self._facts.mode_line = self._facts.mode_line or node.lineno
        if dotted:
            self._calls.append((node, dotted, not place.inside))

    def _take_import(self, node: ast.Import | ast.ImportFrom) -> None:
        modules, imported = self._facts.modules, self._names.imported
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.setdefault(alias.name, node.lineno)
                if alias.asname:
                    imported[alias.asname] = alias.name
            return
        if node.level:
            line = self._facts.relative_import_line
            self._facts.relative_import_line = min(line, node.lineno) if line else node.lineno
            return
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            modules.setdefault(full, node.lineno)
            if full != (alias.asname or alias.name):
                imported[alias.asname or alias.name] = full

    def _take_assignment(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> None:
        made = node.value.value if isinstance(node.value, ast.Await) else node.value
        if not isinstance(made, ast.Call):
            return
        maker = _dotted(made.func)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            name = _dotted(target)
            if maker and name and name != maker:
                self._names.bound[name] = maker


def _dotted(node: ast.AST) -> str:
    """``a.b().c`` as text; empty where it doesn't start with a name."""
    parts: list[str] = []
    called = ""
    for _ in range(_MOST_PARTS):
        if isinstance(node, ast.Attribute):
            parts.append(f"{node.attr}{called}")
            called, node = "", node.value
        elif isinstance(node, ast.Call):
            called, node = "()", node.func
        elif isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Name):
            parts.append(f"{node.id}{called}")
            return ".".join(reversed(parts))
        else:
            break
    return ""


def _target_name(node: ast.AST) -> str:
    if isinstance(node, ast.Tuple) and node.elts:
        node = node.elts[0]
    return _dotted(node)


def _is_main_guard(test: ast.AST) -> bool:
    if not isinstance(test, ast.Compare):
        return False
    sides = (test.left, *test.comparators)
    named = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return named and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
