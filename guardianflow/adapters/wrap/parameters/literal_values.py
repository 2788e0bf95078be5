"""Values in a script's text that can be known without running it: literals, and what is made of named ones."""

from __future__ import annotations

import argparse
import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["UNKNOWN", "Unreadable", "dotted", "evaluate", "known", "shown"]


class Unknown:
    """Stands for a value that only running the script would tell."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()

_LONGEST = 100_000  # characters or items of one value; a list of lists of lists is small in memory and huge written out
_LARGEST = 10**18
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_WELL_KNOWN = {
    "math.pi": math.pi,
    "math.inf": math.inf,
    "np.inf": math.inf,
    "numpy.inf": math.inf,
    "np.pi": math.pi,
    "argparse.SUPPRESS": argparse.SUPPRESS,
    "SUPPRESS": argparse.SUPPRESS,
    "argparse.REMAINDER": argparse.REMAINDER,
    "argparse.ZERO_OR_MORE": "*",
    "argparse.ONE_OR_MORE": "+",
    "argparse.OPTIONAL": "?",
}
_PATHS = {"Path", "pathlib.Path", "PurePath", "os.path.join", "osp.join", "path.join"}
_SAME = {"int": int, "float": float, "str": str, "list": list, "tuple": tuple}


class Unreadable(Exception):  # noqa: N818 - it says that a value can't be known, not that anything went wrong
    """The value is known only when the script runs; the text says what it is made of."""


def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value that an expression will have.

    Args:
        node: The expression.
        names: Values of names (dotted ones, too) that are known where it stands.

    Raises:
        Unreadable: It depends on something that only running the script would tell.
    """
    try:
        value = _value(node, names)
        _weigh(value, _LONGEST)
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, MemoryError):
        raise Unreadable(shown(node)) from None
    return value


def known(node: ast.expr | None, names: Mapping[str, Any]) -> Any:
    """The value of an expression, or :data:`UNKNOWN`; ``None`` where there is no expression."""
    try:
        return None if node is None else evaluate(node, names)
    except Unreadable:
        return UNKNOWN


def dotted(node: ast.AST) -> str:
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
        case ast.Name() | ast.Attribute() if (name := dotted(node)) in names and names[name] is not UNKNOWN:
            return names[name]
        case ast.Name() | ast.Attribute() if dotted(node) in _WELL_KNOWN and dotted(node) not in names:
            return _WELL_KNOWN[dotted(node)]
        case ast.List(elts=items) | ast.Set(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key, names): _value(one, names) for key, one in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, _value(left, names), _value(right, names))
        case ast.Subscript(value=container, slice=index):
            return _value(container, names)[_value(index, names)]
        case ast.Call(func=function, args=arguments, keywords=[]):
            return _called(dotted(function), [_value(one, names) for one in arguments])
    raise Unreadable(shown(node))


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Div) and isinstance(left, str):  # Path("a") / "b"
        return _joined([left, right])
    if isinstance(op, ast.Add) and type(left) is type(right) and isinstance(left, (str, list, tuple)):
        return left + right if len(left) + len(right) <= _LONGEST else _refused()
    if not all(isinstance(one, (int, float)) and abs(one) <= _LARGEST for one in (left, right)):
        raise ValueError
    if isinstance(op, ast.Pow):
        return left**right if abs(right) <= 64 and abs(left) <= 1_000 else _refused()
    return _ARITHMETIC[type(op)](left, right)


def _refused() -> Any:
    raise ValueError


def _called(name: str, values: list[Any]) -> Any:
    if name in _PATHS:
        return _joined(values)
    return _SAME[name](*values)


def _joined(parts: list[Any]) -> str:
    joined = parts[0] if parts else "."
    for part in parts[1:]:
        joined = part if part.startswith("/") else f"{joined.rstrip('/')}/{part}" if joined else part
    return str(joined)
