"""Values in a script's text that are known without running it: literals, and the module's constants."""

from __future__ import annotations

import argparse
import ast
import operator
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

__all__ = ["UNKNOWN", "assignments", "constant_values", "dotted", "known", "shown"]


UNKNOWN = object()
"""Stands for a value that only running the script would tell."""

_LONGEST = 100_000  # characters or items of one value; a list of lists of lists is small in memory and huge written out
_LARGEST = 10**18
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
_SIGNS: dict[type[ast.unaryop], Any] = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_CALLED: dict[str, Any] = {
    "int": int, "float": float, "str": str, "list": list, "tuple": tuple, "os.path.join": posixpath.join,
    "Path": lambda *parts: str(PurePosixPath(*parts)), "pathlib.Path": lambda *parts: str(PurePosixPath(*parts)),
}  # fmt: skip
_CHANGES = {"append", "extend", "update", "insert", "remove", "pop", "add", "setdefault", "clear", "sort", "reverse"}


def known(node: ast.expr | None, names: Mapping[str, Any]) -> Any:
    """The value of an expression where these names are known, or :data:`UNKNOWN`; ``None`` where there is none."""
    try:
        value = None if node is None else _value(node, names)
        _weigh(value, _LONGEST)
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, MemoryError):
        return UNKNOWN
    return value


def dotted(node: ast.AST | None) -> str:
    """``a.b.c`` for names and attributes; empty for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def shown(node: ast.AST, longest: int = 60) -> str:
    """An expression as text for a remark."""
    try:
        text = " ".join(ast.unparse(node).split())
    except (RecursionError, ValueError):
        return "a long expression"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def assignments(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement gives a value to, and the values; ``Config.lr`` of a class."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                yield from ((item.id, value) for item, value in pairs if isinstance(item, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value
    elif isinstance(node, ast.ClassDef):
        for one in node.body:
            if not isinstance(one, ast.ClassDef):
                yield from ((f"{node.name}.{name}", value) for name, value in assignments(one))


def constant_values(tree: ast.Module) -> dict[str, Any]:
    """Names of a module (``Config.lr`` for classes) → their value where it is the same all along, or ``UNKNOWN``."""
    values: dict[str, Any] = {}
    counts = Counter(_changed(tree))
    for node in tree.body:
        for name, value in assignments(node):
            own = 0 if "." in name else 1  # what a class's body sets is counted without the class
            values[name] = known(value, values) if counts[name] <= own else UNKNOWN
    return values


def _changed(tree: ast.Module) -> Iterator[str]:
    """The names that are given a value, each time that the text does so; twice where one is changed in place."""
    for node in ast.walk(tree):
        if isinstance(getattr(node, "ctx", None), ast.Store):
            yield from [dotted(node.value)] * 2 if isinstance(node, ast.Subscript) else [dotted(node)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            yield from [dotted(node.func.value)] * 2


def _weigh(value: Any, budget: int) -> int:
    """What is left of a budget of characters and items."""
    budget -= len(value) if isinstance(value, str) else 1
    if budget < 0:
        raise ValueError
    items = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for item in items:
        budget = _weigh(item, budget)
    return budget


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.Attribute(value=ast.Name(id="argparse"), attr=name) if name.isupper():
            return getattr(argparse, name)
        case ast.Name() | ast.Attribute() if names[dotted(node)] is not UNKNOWN:
            return names[dotted(node)]
        case ast.List(elts=items) | ast.Set(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key, names): _value(one, names) for key, one in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=op, operand=operand):
            return _SIGNS[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right):
            return _computed(op, _value(left, names), _value(right, names))
        case ast.Subscript(value=container, slice=index):
            return _value(container, names)[_value(index, names)]
        case ast.Call(func=function, args=arguments, keywords=[]):
            return _CALLED[dotted(function)](*[_value(one, names) for one in arguments])
    raise ValueError


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Div) and isinstance(left, str):  # Path("a") / "b"
        return str(PurePosixPath(left, right))
    most_right = 64 if isinstance(op, ast.Pow) else _LARGEST
    if not (isinstance(left, (int, float)) and abs(left) <= _LARGEST and abs(right) <= most_right):
        raise ValueError
    return _OPERATORS[type(op)](left, right)
