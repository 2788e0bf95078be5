"""Values in a script's text that can be known without running it: constants and what is made of them."""

from __future__ import annotations

import argparse
import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["UNKNOWN", "Reading", "Unknown", "Unreadable", "dotted", "evaluate", "known", "shown"]


class Unknown:
    """Stands for a value that only running the script would tell."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()

_LONGEST = 100_000  # characters or items of one value; a script can write "x" * 10**12
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_WELL_KNOWN = {
    "math.pi": math.pi,
    "math.inf": math.inf,
    "np.inf": math.inf,
    "numpy.inf": math.inf,
    "np.pi": math.pi,
    "os.sep": "/",
    "argparse.SUPPRESS": argparse.SUPPRESS,
    "SUPPRESS": argparse.SUPPRESS,
    "argparse.REMAINDER": "...",
    "REMAINDER": "...",
    "argparse.ZERO_OR_MORE": "*",
    "argparse.ONE_OR_MORE": "+",
    "argparse.OPTIONAL": "?",
}
_PATHS = {"Path", "PurePath", "PosixPath", "pathlib.Path", "pathlib.PurePath", "os.path.join", "osp.join", "path.join"}
_READERS = {"keys", "values", "items", "lower", "upper", "strip", "split", "copy"}
_MAKERS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "sorted": sorted,
    "len": len,
    "max": max,
    "min": min,
    "set": lambda *items: sorted(set(*items), key=repr),
    "dict": dict,
}


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


def known(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression, or :data:`UNKNOWN`."""
    try:
        return evaluate(node, names)
    except Unreadable:
        return UNKNOWN


@dataclass(frozen=True)
class Reading:
    """What a reader of a script's text knows of it, and whom it tells what it couldn't know.

    Attributes:
        names: Name → value of what the module assigns.
        classes: Name → class, of the whole script.
        remark: Takes a sentence.
    """

    names: Mapping[str, Any]
    classes: Mapping[str, ast.ClassDef]
    remark: Callable[[str], None]

    def value(self, node: ast.expr | None) -> Any:
        """The value of an expression: ``None`` where there is none, :data:`UNKNOWN` where nobody can tell."""
        return None if node is None else known(node, self.names)


def _weigh(value: Any, budget: int) -> int:
    """What is left of the budget of leaves: a list of lists of lists is small in memory and huge once written out."""
    budget -= len(value) if isinstance(value, str) else 1
    if budget < 0:
        raise ValueError
    if isinstance(value, dict):
        for key, item in value.items():
            budget = _weigh(item, _weigh(key, budget))
    elif isinstance(value, (list, tuple)):
        for item in value:
            budget = _weigh(item, budget)
    return budget


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


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.Name() | ast.Attribute():
            return _named(node, names)
        case ast.List(elts=items) | ast.Set(elts=items):
            return _items(items, names)
        case ast.Tuple(elts=items):
            return tuple(_items(items, names))
        case ast.Dict(keys=keys, values=values):
            return _mapping(node, keys, values, names)
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, names))
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, _value(left, names), _value(right, names))
        case ast.JoinedStr(values=parts):
            return "".join(_part(part, names) for part in parts)
        case ast.Subscript(value=container, slice=index):
            return _value(container, names)[_value(index, names)]
        case ast.Call():
            return _called(node, names)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body, names) if _value(test, names) else _value(orelse, names)
    raise Unreadable(shown(node))


def _named(node: ast.expr, names: Mapping[str, Any]) -> Any:
    name = dotted(node)
    if name and name in names:
        if names[name] is UNKNOWN:
            raise Unreadable(shown(node))
        return names[name]
    if name in _WELL_KNOWN:
        return _WELL_KNOWN[name]
    raise Unreadable(shown(node))


def _items(items: list[ast.expr], names: Mapping[str, Any]) -> list[Any]:
    values: list[Any] = []
    for item in items:
        if isinstance(item, ast.Starred):
            values.extend(_value(item.value, names))
        else:
            values.append(_value(item, names))
    return values


def _mapping(
    node: ast.Dict, keys: list[ast.expr | None], values: list[ast.expr], names: Mapping[str, Any]
) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key, value in zip(keys, values, strict=True):
        if key is None:
            mapping.update(_value(value, names))
        else:
            try:
                mapping[_value(key, names)] = _value(value, names)
            except TypeError:
                raise Unreadable(shown(node)) from None
    return mapping


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Pow):
        if max(abs(left), abs(right)) > 1_000:
            raise ValueError
        return left**right
    if isinstance(op, ast.Mult):
        for many, times in ((left, right), (right, left)):
            if isinstance(many, (str, list, tuple)) and len(many) * times > _LONGEST:
                raise ValueError
    if isinstance(op, ast.LShift) and right > 1_000:
        raise ValueError
    if isinstance(op, ast.Div) and isinstance(left, str):  # Path("a") / "b"
        return _joined([left, right])
    if isinstance(op, ast.Add) and isinstance(left, (str, list, tuple)) and len(left) + len(right) > _LONGEST:
        raise ValueError
    if isinstance(op, ast.Mod) and isinstance(left, str):  # "%999999999d" % 1
        raise ValueError  # noqa: TRY004 - caught by evaluate, like all that can't be known
    value = _ARITHMETIC[type(op)](left, right)
    if isinstance(value, int) and value.bit_length() > 4_000:
        raise ValueError
    return value


def _part(part: ast.expr, names: Mapping[str, Any]) -> str:
    if isinstance(part, ast.FormattedValue):
        if part.format_spec is not None or part.conversion != -1:
            raise Unreadable(shown(part))
        return str(_value(part.value, names))
    return str(_value(part, names))


def _called(node: ast.Call, names: Mapping[str, Any]) -> Any:
    name = dotted(node.func)
    if node.keywords and name != "dict":
        raise Unreadable(shown(node))
    if name in _PATHS:
        return _joined([_value(item, names) for item in node.args])
    if name in _MAKERS and name not in names:
        keywords = {word.arg: _value(word.value, names) for word in node.keywords if word.arg}
        return _MAKERS[name](*_items(node.args, names), **keywords)
    if name == "range" and node.args:
        numbers = range(*_items(node.args, names))
        if len(numbers) > _LONGEST:
            raise ValueError
        return list(numbers)
    if isinstance(node.func, ast.Attribute) and not node.args and node.func.attr in _READERS:
        owner = _value(node.func.value, names)
        result = getattr(owner, node.func.attr)()
        return result if isinstance(result, (str, dict)) else list(result)
    raise Unreadable(shown(node))


def _joined(parts: list[Any]) -> str:
    if not parts:
        return "."
    if not all(isinstance(part, str) for part in parts):
        raise TypeError
    joined = parts[0]
    for part in parts[1:]:
        joined = part if part.startswith("/") else f"{joined.rstrip('/')}/{part}" if joined else part
    return str(joined)
