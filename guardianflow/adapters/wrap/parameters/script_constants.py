"""Constants in a script's text: those of the module, and those of classes such as ``Config``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from guardianflow.adapters.wrap.parameters.declared import DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, dotted, known

__all__ = ["constants_in", "module_values"]

_MAX_CONSTANTS = 300
_CHANGES = {"append", "extend", "update", "insert", "remove", "pop", "add", "setdefault", "clear", "sort", "reverse"}


def module_values(tree: ast.Module) -> dict[str, Any]:
    """Names of a module (``Config.lr`` for classes) whose value is the same all along; others are ``UNKNOWN``."""
    values: dict[str, Any] = {}
    counts = _stores(tree)
    for node in tree.body:
        for name, value in _assignments(node):
            values[name] = known(value, values) if counts.get(name, 0) <= 1 else UNKNOWN
    return values


def constants_in(tree: ast.Module) -> list[DeclaredParameter]:
    """The constants of a module that can be read: numbers, texts, truth values, and lists and mappings of them."""
    values = module_values(tree)
    found: list[DeclaredParameter] = []
    for node in tree.body:
        for name, _ in _assignments(node):
            value = values[name]
            if value is UNKNOWN or name.startswith("_") or len(found) >= _MAX_CONSTANTS:
                continue
            kind = "str" if value is None else type(value).__name__
            found.append(DeclaredParameter(name, kind, value, has_default=True, source="constant", line=node.lineno))
    return found


def _assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((item.id, value) for item, value in pairs if isinstance(item, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value
    elif isinstance(node, ast.ClassDef) and not any("Enum" in dotted(base) for base in node.bases):
        for one in node.body:
            if not isinstance(one, ast.ClassDef):
                yield from ((f"{node.name}.{name}", value) for name, value in _assignments(one))


def _stores(tree: ast.Module) -> dict[str, int]:
    """How often each name gets a value, or is changed in place, anywhere that can reach the module's names."""
    counts: dict[str, int] = {}
    stack: list[tuple[ast.AST, bool, int]] = [(tree, True, 1)]
    while stack:
        node, outer, weight = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            outer = False  # names assigned in there are its own
        elif isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.AugAssign)):
            weight = 2  # whether, or how often, it happens isn't known
        for name, times in _changed(node, outer=outer, weight=weight):
            counts[name] = counts.get(name, 0) + times
        stack += [(child, outer, weight) for child in ast.iter_child_nodes(node)]
    return counts


def _changed(node: ast.AST, *, outer: bool, weight: int) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Global):
        yield from ((name, 2) for name in node.names)
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
        name = dotted(node)
        if outer or "." in name:
            yield name, weight if outer else 2
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        yield dotted(node.value), 2
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
        yield dotted(node.func.value), 2
