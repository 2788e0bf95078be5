"""What a type annotation in a script's text says of a parameter."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from guardianflow.adapters.wrap.parameters.literal_values import dotted, known, shown

__all__ = ["TYPES", "annotated", "last"]

TYPES = {
    "INT": "int", "FLOAT": "float", "STRING": "str", "BOOL": "bool", "IntRange": "int", "FloatRange": "float",
    "Path": "path", "File": "path", "FileType": "path", "integer": "int", "boolean": "bool", "string": "str",
    "enum": "str", "list": "str", "multi_string": "str",
}  # fmt: skip


def last(node: ast.expr | None) -> str:
    """The last part of a dotted name."""
    return dotted(node).rpartition(".")[2] if node is not None else ""


def annotated(
    node: ast.expr | None, classes: Mapping[str, ast.ClassDef]
) -> tuple[str, bool, tuple[Any, ...], ast.Call | None]:
    """An annotation: the type, whether there are several, the only values, and typer's call in ``Annotated``."""
    made: ast.Call | None = None
    for _ in range(5):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                break
        elif isinstance(node, ast.BinOp):
            node = node.left if shown(node.left) != "None" else node.right
        elif isinstance(node, ast.Subscript) and last(node.value) in {"Optional", "Annotated", "Union", "Required"}:
            parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            calls = [one for one in parts[1:] if isinstance(one, ast.Call)]
            made = next((one for one in calls if last(one.func) in {"Option", "Argument"}), made)
            node = parts[0]
        else:
            break
    several = False
    if isinstance(node, ast.Subscript):
        name, inner = last(node.value), node.slice
        if name == "Literal":
            values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return "str", False, tuple(known(one, {}) for one in values), made
        several = name.lower() in {"list", "tuple", "sequence", "set"}
        node = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
    name = last(node)
    choices = ()
    if name in classes and any("Enum" in dotted(base) for base in classes[name].bases):
        values = [one.value for one in classes[name].body if isinstance(one, ast.Assign)]
        choices, name = tuple(known(one, {}) for one in values), "str"
    return TYPES.get(name, name or "str"), several, choices, made
