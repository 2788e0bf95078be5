"""The options that a script's text declares: calls of argparse, click, typer and fire, fields of dataclasses.

A flat reading: each declaring call is taken where it stands, in the script and in the files beside it that it imports.
What runs in between isn't followed; a script that runs tells its parameters itself.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, constant_values, dotted, known, shown
from guardianflow.adapters.wrap.parameters.script_text import imported_trees

__all__ = ["Declared", "DeclaredParameter", "read_options"]

_MOST_REMARKS = 50
_TYPES = {
    "INT": "int", "FLOAT": "float", "STRING": "str", "BOOL": "bool", "IntRange": "int", "FloatRange": "float",
    "Path": "path", "File": "path", "FileType": "path", "Choice": "str", "Literal": "str",
}  # fmt: skip
_SWITCHES = {"store_true": False, "store_false": True, "BooleanOptionalAction": None}
_OF_CLASSES = {"HfArgumentParser", "cli", "CLI", "parse", "add_arguments", "add_class_arguments"}
_WRAPPERS = {"Optional", "Annotated", "Union", "Required", "Option", "Argument", "dict", "Dict"}
_SEVERAL = {"list", "tuple", "sequence", "set"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class DeclaredParameter:
    """One parameter, as its script's text declares it.

    Attributes:
        name: Under which the script sees it; parameters of a subcommand are named ``train.lr``.
        type: ``str``, ``int``, ``float``, ``bool``, ``path``, or the name of the script's own converter.
        default: What the script takes where nothing is given; only where ``has_default``.
        has_default: False where there is none, and where the script computes it (a remark says so).
        required: The script ends with an error where it is missing.
        flags: How it is written on the command line, such as ``("--lr", "-l")``; none for a positional.
        off_flags: How it is switched off.
        help: The script's own words about it.
        action, nargs, const: As argparse has them.
    """

    name: str
    type: str = "str"
    default: Any = None
    has_default: bool = False
    required: bool = False
    flags: tuple[str, ...] = ()
    off_flags: tuple[str, ...] = ()
    help: str = ""
    action: str = "store"
    nargs: int | str | None = None
    const: Any = None


@dataclass(frozen=True)
class Declared:
    """All that a script declares, and what of it could not be read.

    Attributes:
        parameters: In the order of the script.
        style: ``argparse``, ``click``, ``typer``, ``fire``, ``notebook`` or ``none``.
        remarks: What could not be read without running the script, a sentence each.
        commands: Its subcommands.
    """

    parameters: tuple[DeclaredParameter, ...] = ()
    style: str = "none"
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def read_options(tree: ast.Module, file: Path | None = None) -> Declared:
    """What a script declares, with the files beside it that it imports where it is known where it lies."""
    reader = _Reader()
    reader.take(tree, main=True)
    for text in imported_trees(tree, file) if file is not None else ():
        outside = [one for one in text.body if not (isinstance(one, ast.If) and "__name__" in shown(one.test))]
        reader.take(ast.Module(outside, []), main=False)
    commands = tuple(dict.fromkeys(reader.prefixes.values()))
    return Declared(tuple(reader.options), reader.style, tuple(reader.remarks)[:_MOST_REMARKS], commands)


@dataclass
class _Reader:
    options: list[DeclaredParameter] = field(default_factory=list)
    prefixes: dict[str, str] = field(default_factory=dict)  # variable or call of a subcommand's parser → its name
    remarks: dict[str, None] = field(default_factory=dict)
    style: str = "none"
    names: Mapping[str, Any] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)

    def take(self, tree: ast.Module, *, main: bool) -> None:
        """One file's calls, in the order of its lines."""
        self.names = constant_values(tree)
        nodes = sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0))
        self.classes.update({node.name: node for node in nodes if isinstance(node, ast.ClassDef)})
        own = {node.name: node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        self.functions.update(own)
        for node in nodes:
            call = node.value if isinstance(node, ast.Assign) else node
            if isinstance(call, ast.Call) and _last(call.func) == "add_parser" and call.args:
                place = dotted(node.targets[0]) if isinstance(node, ast.Assign) else shown(call, 200)
                if isinstance(name := known(call.args[0], self.names), str):
                    self.prefixes[place] = name
        for node in nodes:
            if isinstance(node, ast.Call):
                self._call(node, main=main)
        for function in own.values():
            self._decorated(function, own)
        for node in self.classes.values() if main else ():
            if "Tap" in map(_last, node.bases):
                self._fields(node)

    def _call(self, node: ast.Call, *, main: bool) -> None:
        kind = _last(node.func)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        command = self.prefixes.get(dotted(owner) or shown(owner, 200) if owner is not None else "", "")
        if kind in {"add_argument", "add_option"}:
            self._argument(node, command)
        elif kind == "set_defaults":
            for word in node.keywords:
                self._set_default(_joined(command, str(word.arg)), known(word.value, self.names))
        elif kind == "Fire" or (kind == "run" and dotted(owner) == "typer"):
            if main and node.args and dotted(node.args[0]) in self.functions:
                self._signature(self.functions[dotted(node.args[0])], "fire" if kind == "Fire" else "typer")
        elif kind in _OF_CLASSES:
            for one in node.args:
                for each in one.elts if isinstance(one, (ast.Tuple, ast.List)) else [one]:
                    self._class(each)

    def _class(self, node: ast.expr) -> None:
        name = dotted(node)
        if name in self.classes:
            self._fields(self.classes[name])
        elif name in self.functions:
            self._signature(self.functions[name], "argparse")
        elif name[:1].isupper():
            self.remarks.setdefault(f"line {node.lineno}: the fields of {name} aren't in the script")

    def _named(self, node: ast.Call | None) -> dict[str, Any]:
        """The keywords of a call that are known; a default always."""
        named = {word.arg: known(word.value, self.names) for word in node.keywords if word.arg} if node else {}
        return {name: value for name, value in named.items() if value is not UNKNOWN or name == "default"}

    def _argument(self, node: ast.Call, command: str) -> None:
        words = [known(one, self.names) for one in node.args]
        named = self._named(node)
        flags = [one for one in words if isinstance(one, str)]
        if not flags or len(flags) != len(words):
            if words or "dest" in named:
                self.remarks.setdefault(f"line {node.lineno}: the name of an argument is computed: {shown(node)}")
            return
        if not isinstance(named.get("action"), str):
            named["action"] = _last(_keyword(node, "action")) or "store"
        if named["action"] not in {"version", "help"}:
            options = [one for one in flags if one.startswith("-")]
            name = str(named.get("dest") or _long(flags))
            off = [f"--no-{one[2:]}" for one in options if named["action"] == "BooleanOptionalAction"]
            self._declare(_joined(command, name), options, off, named, node, style="argparse")

    def _click(self, node: ast.Call, command: str) -> None:
        words = [one for one in (known(each, self.names) for each in node.args) if isinstance(one, str)]
        named = self._named(node)
        pairs = [one.partition("/") for one in words if _last(node.func) == "option" and not one.isidentifier()]
        on, off = ([pair[side].strip() for pair in pairs if pair[side].strip()] for side in (0, 2))
        if off or named.get("is_flag") is True:
            named["action"] = "store_true"
        elif "flag_value" in named:  # one of several that stand for a value of one name
            named |= {"action": "store_const", "const": named["flag_value"], "default": argparse.SUPPRESS}
        elif named.get("count") is True:
            named = {"default": 0, **named, "action": "count"}
        elif named.get("multiple") is True:
            named["action"] = "append"
        if named.get("nargs") == -1:
            named = {"default": [], **named, "nargs": "*"}
        name = next((one for one in words if one.isidentifier()), "") or _long(on or off)
        self._declare(_joined(command, name.lower()), on, off, named, node, style="click")

    def _decorated(self, function: Function, own: Mapping[str, Function]) -> None:
        heads = {_last(getattr(one, "func", one)): one for one in function.decorator_list}
        made = next((heads[kind] for kind in ("command", "group", "callback") if kind in heads), None)
        if made is None:
            return
        owner = dotted(getattr(made, "func", made)).rpartition(".")[0]
        command = ""
        if "command" in heads and (owner in own or _commands_of(own, owner) > 1):
            name = known(made.args[0], self.names) if isinstance(made, ast.Call) and made.args else None
            command = name if isinstance(name, str) else function.name.lower().replace("_", "-")
            self.prefixes[function.name] = command
        options = [one for one in function.decorator_list if isinstance(one, ast.Call)]
        options = [one for one in options if _last(one.func) in {"option", "argument"}]
        for one in options:
            self._click(one, command)
        if not options and owner not in {"click", "rich_click", *own}:
            self._signature(function, "typer", command)

    def _signature(self, function: Function, style: str, command: str = "") -> None:
        arguments = [*function.args.posonlyargs, *function.args.args]
        padding: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
        pairs = [*zip(arguments, [*padding, *function.args.defaults], strict=True)]
        pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        for argument, default in pairs:
            if argument.arg not in {"self", "cls"} and "Context" not in shown(argument.annotation or argument):
                self._typed(argument.arg, argument.annotation, default, argument, style, command)

    def _fields(self, node: ast.ClassDef, below: tuple[ast.ClassDef, ...] = ()) -> None:
        for base in map(dotted, node.bases):
            if base in self.classes and self.classes[base] not in (node, *below):  # bases may go in circles
                self._fields(self.classes[base], (node, *below))
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id[:1] != "_":
                self._typed(one.target.id, one.annotation, one.value, one, "argparse")

    def _typed(
        self, name: str, annotation: ast.expr | None, default: ast.expr | None, node: ast.AST, style: str,
        command: str = "",
    ) -> None:  # fmt: skip
        """A parameter of a function or a field of a class, by its annotation and its default."""
        calls = [one for each in (annotation, default) if each for one in ast.walk(each) if isinstance(one, ast.Call)]
        made = next((one for one in calls if _last(one.func) in {"Option", "Argument", "field"}), None)
        words = made.args if made is not None else []
        if made is not None and made is default:
            default = words[0] if words else _keyword(made, "default")
            words = words[1:]
            if (factory := _keyword(made, "default_factory")) is not None:
                default = factory.body if isinstance(factory, ast.Lambda) else ast.List([], ast.Load())
        if isinstance(default, ast.Constant) and default.value is ...:
            default = None
        value = known(default, self.names)
        kind, several = self._annotated(annotation)
        if annotation is None and isinstance(value, (bool, int, float)):
            kind = type(value).__name__
        named = {"required": default is None, "help": self._named(made).get("help", "")}
        named |= {"default": value} if default is not None else {}
        plain = name.replace("_", "-")
        flags = [one for one in (known(each, {}) for each in words) if isinstance(one, str) and one.startswith("-")]
        flags = flags or list(dict.fromkeys([f"--{plain}"] if style == "typer" else [f"--{name}", f"--{plain}"]))
        off = []
        if style == "typer" and (_last(made.func) == "Argument" if made is not None else default is None):
            flags = []
            named |= {"nargs": "*"} if several else {}
        elif several:
            named |= {"action": "append"} if style == "typer" else {"nargs": "*"}
        elif kind == "bool" and style == "typer":
            named["action"], off = "BooleanOptionalAction", [f"--no-{plain}"]
        elif kind == "bool":
            named |= {"nargs": "?", "const": True}
        self._declare(_joined(command, name), flags, off, named, node, style=style, kind=kind)

    def _annotated(self, node: ast.expr | None) -> tuple[str, bool]:
        """An annotation: the type, and whether there are several of it."""
        parts = list(ast.walk(node)) if node is not None else []
        names = [name for name in map(_last, parts) if name and name not in _WRAPPERS]
        kind = next((name for name in names if name.lower() not in _SEVERAL), "str")
        if kind in self.classes and any("Enum" in dotted(base) for base in self.classes[kind].bases):
            kind = "str"
        return _TYPES.get(kind, kind), any(name.lower() in _SEVERAL for name in names)

    def _declare(
        self, name: str, flags: Sequence[str], off: Sequence[str], named: Mapping[str, Any], node: ast.AST, *,
        style: str, kind: str = "",
    ) -> None:  # fmt: skip
        """One parameter, its call's keywords as argparse has them."""
        nargs, action = named.get("nargs"), named.get("action", "store")
        required = named.get("required") is True or (not flags and nargs not in ("?", "*") and "default" not in named)
        default = named.get("default", UNKNOWN if required else _SWITCHES.get(action))
        there = default is not UNKNOWN and default != argparse.SUPPRESS
        if "default" in named and default is UNKNOWN:
            where = f"line {getattr(node, 'lineno', 0)}: {flags[0] if flags else name}"
            self.remarks.setdefault(f"{where}: its default is computed: {shown(_keyword(node, 'default') or node)}")
        option = DeclaredParameter(
            name, kind or _type_name(_keyword(node, "type"), action, default, style), default if there else None, there,
            required, tuple(flags), tuple(off), named["help"] if isinstance(named.get("help"), str) else "", action,
            nargs if isinstance(nargs, (int, str)) else None, named.get("const"),
        )  # fmt: skip
        self.style = style if self.style == "none" else self.style
        if name and (name, option.flags) not in [(one.name, one.flags) for one in self.options]:
            self.options.append(option)

    def _set_default(self, name: str, value: Any) -> None:
        for place, one in enumerate(self.options):
            if one.name == name:
                self.options[place] = replace(one, default=value, has_default=value is not UNKNOWN)


def _last(node: ast.AST | None) -> str:
    """The last part of a name."""
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _long(flags: Sequence[str]) -> str:
    """The name that comes of an option's spellings."""
    return next((one for one in flags if one.startswith("--")), flags[0] if flags else "").lstrip("-").replace("-", "_")


def _joined(command: str, name: str) -> str:
    return f"{command}.{name}" if command else name


def _keyword(node: ast.AST, name: str) -> ast.expr | None:
    return next((word.value for word in getattr(node, "keywords", ()) if word.arg == name), None)


def _commands_of(functions: Mapping[str, Function], owner: str) -> int:
    heads = [dotted(getattr(one, "func", one)) for function in functions.values() for one in function.decorator_list]
    return heads.count(f"{owner}.command") + heads.count(f"{owner}.callback")


def _type_name(node: ast.expr | None, action: str, default: Any, style: str) -> str:
    if node is not None:
        name = _last(node.func if isinstance(node, ast.Call) else node)
        return _TYPES.get(name, name or "str")
    if action in _SWITCHES:
        return "bool"
    sample = default[0] if isinstance(default, (list, tuple)) and default else default
    by_default = style == "click" and isinstance(sample, (bool, int, float))
    return "int" if action == "count" else type(sample).__name__ if by_default else "str"
