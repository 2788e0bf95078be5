"""Dataclasses that are turned into command-line options, as by ``HfArgumentParser`` and ``simple_parsing``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from guardianflow.adapters.wrap.parameters.argument_parsers import NOTHING, Argument
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, Reading, Unreadable, dotted, evaluate, shown

__all__ = ["Annotation", "annotation_of", "dataclass_arguments", "enum_values"]

_LISTS = {"list", "List", "Sequence", "Iterable", "set", "Set"}
_SIMPLE = {"int", "float", "str", "bool"}
_PATHS = {"Path", "PosixPath", "FileText", "File"}


@dataclass(frozen=True)
class Annotation:
    """What a type annotation says about the values that may be given.

    Attributes:
        type: ``int``, ``float``, ``str``, ``bool``, ``path``, or the annotation's own name.
        several: ``list[T]``.
        width: Values of a ``tuple[…]`` of fixed length; 0 for anything else.
        choices: Of a ``Literal`` or an ``Enum`` of this file.
        metadata: The calls in ``Annotated[T, …]``.
    """

    type: str = "str"
    several: bool = False
    width: int = 0
    choices: tuple[Any, ...] = ()
    metadata: tuple[ast.Call, ...] = ()


def annotation_of(node: ast.expr | None, classes: Mapping[str, ast.ClassDef]) -> Annotation:
    """Read a type annotation; an unknown one counts as text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Annotation()
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):  # int | None
        sides = [side for side in (node.left, node.right) if not _is_none(side)]
        return annotation_of(sides[0], classes) if sides else Annotation()
    if isinstance(node, ast.Subscript):
        return _generic(node, classes)
    name = dotted(node).rpartition(".")[2] if node is not None else ""
    if name in _LISTS:
        return Annotation(several=True)
    if name in classes and (values := enum_values(classes[name])):
        return Annotation(choices=values)
    return Annotation(name if name in _SIMPLE else "path" if name in _PATHS else name or "str")


def _generic(node: ast.Subscript, classes: Mapping[str, ast.ClassDef]) -> Annotation:
    name = dotted(node.value).rpartition(".")[2]
    items = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        choices = tuple(item.value for item in items if isinstance(item, ast.Constant))
        return Annotation(type(choices[0]).__name__ if choices else "str", choices=choices)
    inner = annotation_of(next((one for one in items if not _is_none(one)), None), classes)
    if name == "Annotated":
        calls = tuple(one for one in items[1:] if isinstance(one, ast.Call))
        return Annotation(inner.type, inner.several, inner.width, inner.choices, calls)
    if name in _LISTS:
        return Annotation(inner.type, several=True, choices=inner.choices)
    if name in {"tuple", "Tuple"}:
        open_end = any(isinstance(one, ast.Constant) and one.value is ... for one in items)
        return Annotation(inner.type, several=open_end, width=0 if open_end else len(items))
    return inner


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def enum_values(node: ast.ClassDef) -> tuple[Any, ...]:
    """The values of an ``Enum`` of this file, in its order."""
    if not any(dotted(base).rpartition(".")[2] in {"Enum", "StrEnum", "IntEnum"} for base in node.bases):
        return ()
    values = []
    for one in node.body:
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant):
            values.append(one.value.value)
        elif isinstance(one, ast.Assign) and isinstance(one.value, ast.Call) and isinstance(one.targets[0], ast.Name):
            values.append(one.targets[0].id.lower())  # auto()
    return tuple(values)


def dataclass_arguments(name: str, reading: Reading) -> list[Argument]:
    """The options that a dataclass of this file becomes, those of its bases first."""
    if name not in reading.classes:
        reading.remark(f"the options of {name or 'a dataclass'} are unknown: it is defined in another file")
        return []
    found: dict[str, Argument] = {}
    for owner in _line(name, reading):
        for field in owner.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                argument = _argument(field, field.target.id, reading)
                if argument is not None:
                    found[argument.dest] = argument
    return list(found.values())


def _line(name: str, reading: Reading) -> Iterator[ast.ClassDef]:
    line = [name]
    for one in line:
        for base in map(dotted, reading.classes[one].bases) if len(line) < 20 else ():
            if base in reading.classes and base not in line:
                line.append(base)
            elif base not in {"object", "ABC", "Enum", "abc.ABC"} and base not in reading.classes:
                reading.remark(
                    f"line {reading.classes[one].lineno}: the options that {one} takes over from {base} are unknown"
                )
    return (reading.classes[one] for one in reversed(line))


def _argument(field: ast.AnnAssign, name: str, reading: Reading) -> Argument | None:
    if "ClassVar" in shown(field.annotation):
        return None
    read = annotation_of(field.annotation, reading.classes)
    flags = (f"--{name}", f"--{name.replace('_', '-')}") if "_" in name else (f"--{name}",)
    argument = Argument(flags, name, type=read.type, choices=read.choices, line=field.lineno)
    if read.several or read.width:
        argument.nargs = read.width or "+"
    _fill_default(argument, field.value, reading)
    if read.type == "bool" and not read.several:  # `--flag`, `--flag false`
        argument.nargs, argument.const, argument.type = "?", True, "truth"
        argument.default = False if argument.default is NOTHING else argument.default
        argument.required = False
    return argument


def _fill_default(argument: Argument, value: ast.expr | None, reading: Reading) -> None:
    if isinstance(value, ast.Call) and dotted(value.func).rpartition(".")[2] in {
        "field",
        "Field",
        "HfArg",
        "list_field",
    }:
        words = {word.arg: word.value for word in value.keywords}
        argument.help = _help(words, reading)
        factory = words.get("default_factory")
        value = words.get("default", value.args[0] if value.args else None)
        if value is None and isinstance(factory, ast.Lambda):
            value = factory.body
        elif value is None and factory is not None:
            argument.default = {"list": [], "dict": {}}.get(dotted(factory), UNKNOWN)
            if argument.default is UNKNOWN:
                reading.remark(f"line {argument.line}: --{argument.dest}: its default is computed: {shown(factory)}")
            return
    if value is None:
        argument.required = True
        return
    try:
        argument.default = evaluate(value, reading.names)
    except Unreadable as why:
        owner, _, member = dotted(value).rpartition(".")
        argument.default = UNKNOWN
        if owner in reading.classes and (found := _enum_member(reading.classes[owner], member)) is not None:
            argument.default = found
        else:
            reading.remark(f"line {argument.line}: --{argument.dest}: its default is computed: {why}")


def _enum_member(node: ast.ClassDef, member: str) -> Any:
    for one in node.body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == member:
            return one.value.value if isinstance(one.value, ast.Constant) else member.lower()
    return None


def _help(words: Mapping[str | None, ast.expr], reading: Reading) -> str:
    for word in (words.get("help"), words.get("description"), words.get("metadata")):
        text = reading.value(word)
        if isinstance(text, dict):
            text = text.get("help", "")
        if isinstance(text, str):
            return text
    return ""
