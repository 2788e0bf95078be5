"""The options that a script's text declares: calls of argparse, click, typer, fire and absl, and fields of dataclasses.

A flat reading: each declaring call is taken where it stands, in the script and in the files beside it that it imports.
What runs in between isn't followed; a script that runs tells its parameters itself.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.annotations import TYPES, annotated, last
from guardianflow.adapters.wrap.parameters.declared import Declared, DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, dotted, known, shown
from guardianflow.adapters.wrap.parameters.script_constants import module_values
from guardianflow.adapters.wrap.parameters.script_files import texts_of

__all__ = ["read_options"]

_MOST_REMARKS = 50
_NAMELESS = {"version", "help"}
_OF_CLASSES = (
    "HfArgumentParser",
    "simple_parsing",
    "tyro",
    "jsonargparse",
    "LightningCLI",
    "argparse_dataclass",
    "Tap",
)
_ELSEWHERE = {
    "docopt": "docopt", "hydra": "Hydra, from config files", "gin": "gin, from config files", "sys": "",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_options(tree: ast.Module, file: Path | None = None) -> Declared:
    """What a script declares.

    Args:
        tree: Its syntax tree.
        file: Where it lies: files beside it that it imports are read, too; ``None``: only the tree.
    """
    reader = _Reader()
    for text, main in texts_of(tree, file):
        reader.take(text, main=main)
    return reader.declared(tree)


@dataclass
class _Reader:
    options: list[DeclaredParameter] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)
    style: str = "none"
    names: Mapping[str, Any] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    main: bool = True

    def take(self, tree: ast.Module, *, main: bool) -> None:
        """One file's calls, in the order of its lines."""
        if not main:
            tree = ast.Module([one for one in tree.body if not _is_main_block(one)], [])
        self.names, self.main = module_values(tree), main
        nodes = sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0))
        self.classes.update({node.name: node for node in nodes if isinstance(node, ast.ClassDef)})
        own = {node.name: node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        self.functions.update(own)
        parsers = _subparsers(nodes, self.names)
        self.commands.update(parsers.names)
        by_classes = any(
            word in (alias.name, getattr(node, "module", ""), dotted(getattr(node, "func", node)).rpartition(".")[2])
            for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
            for word in _OF_CLASSES
        )  # fmt: skip
        for node in nodes:
            if isinstance(node, ast.Call):
                self._call(node, parsers.of, by_classes=by_classes)
        for function in own.values():
            self._decorated(function, own)
        if main and by_classes:
            for node in self.classes.values():
                if "Tap" in {dotted(base).rpartition(".")[2] for base in node.bases}:
                    self._fields(node)

    def declared(self, tree: ast.Module) -> Declared:
        """All of it."""
        remarks = list(self.remarks)[:_MOST_REMARKS]
        if not self.options:
            remarks += _elsewhere(tree)
        return Declared(tuple(self.options), self.style, tuple(remarks), tuple(self.commands.items()))

    def _call(self, node: ast.Call, parsers: Mapping[str, str], *, by_classes: bool) -> None:
        owner, _, kind = dotted(node.func).rpartition(".")
        if isinstance(node.func, ast.Attribute) and not kind:
            kind = node.func.attr
        if kind in {"add_argument", "add_option"}:
            called = node.func.value if isinstance(node.func, ast.Attribute) else None
            prefix = parsers.get(shown(called, 200) if called is not None else "", parsers.get(owner, ""))
            self._argument(node, prefix)
        elif kind == "set_defaults":
            for word in node.keywords:
                self._default(f"{parsers.get(owner, '')}{word.arg}", word)
        elif kind == "add_subparsers":
            self._mode(node)
        elif kind.startswith("DEFINE_"):
            self._flag(node, kind[7:])
        elif (self.main and kind == "Fire") or (kind == "run" and owner == "typer"):
            function = self.functions.get(dotted(node.args[0])) if node.args else None
            if function is not None:
                self._signature(function, "fire" if kind == "Fire" else "typer")
        elif by_classes and kind in {"HfArgumentParser", "cli", "CLI", "parse", "add_arguments", "add_class_arguments"}:
            for one in node.args:
                for each in one.elts if isinstance(one, (ast.Tuple, ast.List)) else [one]:
                    self._type(each)

    def _type(self, node: ast.expr) -> None:
        name = dotted(node)
        if name in self.classes:
            self._fields(self.classes[name])
        elif name in self.functions:
            self._signature(self.functions[name], "fire")
        elif name:
            self._remark(f"line {node.lineno}: the fields of {name} aren't in the script")

    def _argument(self, node: ast.Call, prefix: str) -> None:
        words = [known(one, self.names) for one in node.args]
        named = {word.arg: known(word.value, self.names) for word in node.keywords if word.arg}
        flags = [one for one in words if isinstance(one, str)]
        if not flags or len(flags) != len(words):
            if words or "dest" in named:
                self._remark(f"line {node.lineno}: the name of an argument is computed: {shown(node)}")
            return
        action = named.get("action", "store")
        action = action if isinstance(action, str) else last(_keyword(node, "action"))
        if action in _NAMELESS:
            return
        options = tuple(one for one in flags if one.startswith("-"))
        long = next((one for one in options if one.startswith("--")), options[0] if options else flags[0])
        dest = named.get("dest") or long.lstrip("-").replace("-", "_")
        off = tuple(f"--no-{one[2:]}" for one in options if one[:2] == "--" and action == "BooleanOptionalAction")
        nargs, choices = named.get("nargs"), named.get("choices")
        option = DeclaredParameter(
            f"{prefix}{dest}", flags=options, off_flags=off, action=action, line=node.lineno,
            nargs=nargs if isinstance(nargs, (int, str)) else None, const=named.get("const"),
            choices=tuple(choices) if isinstance(choices, (list, tuple, dict)) else (),
            required=named.get("required") is True or (not options and nargs not in ("?", "*")),
            help=named["help"] if isinstance(named.get("help"), str) else "",
        )  # fmt: skip
        self._put(_with_default(option, named), node)

    def _put(self, option: DeclaredParameter, node: ast.Call | None = None, style: str = "argparse") -> None:
        """An option, with the type and the remark that its call still gives."""
        if node is not None:
            kind = _keyword(node, "type")
            option = replace(option, type=_type_name(kind, option, style))
            if not option.has_default and (default := _keyword(node, "default")) is not None:
                name = option.flags[0] if option.flags else option.name
                self._remark(f"line {node.lineno}: {name}: its default is computed: {shown(default)}")
        self.style = style if self.style == "none" else self.style
        if (option.name, option.flags) not in [(one.name, one.flags) for one in self.options]:
            self.options.append(replace(option, source=style))

    def _default(self, name: str, word: ast.keyword) -> None:
        value = known(word.value, self.names)
        there = value is not UNKNOWN
        for place, one in enumerate(self.options):
            if one.name == name:
                self.options[place] = replace(one, default=value if there else None, has_default=there)

    def _mode(self, node: ast.Call) -> None:
        dest = known(_keyword(node, "dest"), self.names)
        if isinstance(dest, str):
            self._put(DeclaredParameter(dest, choices=tuple(dict.fromkeys(self.commands.values())), line=node.lineno))

    def _flag(self, node: ast.Call, kind: str) -> None:
        words = [known(one, self.names) for one in node.args]
        if len(words) < 2 or not isinstance(words[0], str):
            return
        default = UNKNOWN if words[1] is UNKNOWN else words[1]
        text = words[3] if kind == "enum" and len(words) > 3 else words[2] if len(words) > 2 else ""
        flags, off = (f"--{words[0]}",), (f"--no{words[0]}",) if kind in {"bool", "boolean"} else ()
        option = DeclaredParameter(
            words[0], TYPES.get(kind, kind), None if default is UNKNOWN else default, default is not UNKNOWN,
            flags=flags, off_flags=off, help=text if isinstance(text, str) else "", line=node.lineno,
            action="BooleanOptionalAction" if off else "store",
            choices=tuple(words[2]) if kind == "enum" and isinstance(words[2], (list, tuple)) else (),
        )  # fmt: skip
        self._put(option, style="absl")

    def _decorated(self, function: Function, own: Mapping[str, Function]) -> None:
        calls = [(one.func if isinstance(one, ast.Call) else one, one) for one in function.decorator_list]
        heads = {dotted(head).rpartition(".")[2]: (dotted(head).rpartition(".")[0], one) for head, one in calls}
        owner, made = next((heads[kind] for kind in ("command", "group", "callback") if kind in heads), ("", None))
        if made is None:
            return
        name = known(made.args[0], self.names) if isinstance(made, ast.Call) and made.args else None
        name = name if isinstance(name, str) else function.name.lower().replace("_", "-")
        nested = owner in own or (owner and _commands_of(own, owner) > 1)
        prefix = f"{name}." if nested and "command" in heads else ""
        if prefix:
            self.commands[name] = name
        before = len(self.options)
        for head, one in calls:
            kind = dotted(head).rpartition(".")[2]
            if kind in {"option", "argument"} and isinstance(one, ast.Call):
                self._click(one, prefix, argument=kind == "argument")
        if before == len(self.options) and owner not in {"click", "rich_click"} | set(own):
            self._signature(function, "typer", prefix)

    def _click(self, node: ast.Call, prefix: str, *, argument: bool) -> None:
        words = [one for one in (known(each, self.names) for each in node.args) if isinstance(one, str)]
        named = {word.arg: known(word.value, self.names) for word in node.keywords if word.arg}
        if not words:
            return
        flags = [] if argument else [one for one in words if not one.isidentifier()]
        on, off = [], []
        for flag in flags:
            first, _, second = flag.partition("/")
            on += [first.strip()] if first.strip() else []
            off += [second.strip()] if second.strip() else []
        name = next((one for one in words if one.isidentifier()), "") or max(
            on or off, key=lambda flag: len(flag) - len(flag.lstrip("-"))
        ).lstrip("-").replace("-", "_")
        is_flag = bool(off) or named.get("is_flag") is True
        value = named.get("flag_value")
        action = "count" if named.get("count") is True else "store_const" if value is not None else "store_true"
        if not is_flag and value is None and action != "count":
            action = "append" if named.get("multiple") is True else "store"
        nargs = named.get("nargs")
        option = DeclaredParameter(
            prefix + name.lower(), flags=tuple(on), off_flags=tuple(off), action=action, const=value,
            nargs="*" if nargs == -1 else nargs if isinstance(nargs, int) and nargs != 1 else None, line=node.lineno,
            required=named.get("required") is True or (argument and nargs != -1 and "default" not in named),
            help=named["help"] if isinstance(named.get("help"), str) else "", choices=self._choices(node),
        )  # fmt: skip
        if action == "store_const" and named.get("default") is True:
            named["default"] = value
        if action == "count" or nargs == -1:
            named.setdefault("default", 0 if action == "count" else [])
        if action == "store_const" and named.get("default", value) != value:
            del named["default"]
        option = _with_default(option, named)
        if action == "store_const" and "default" not in named:  # one of several flags that stand for a value
            option = replace(option, has_default=False)
        self._put(option, node, "click")

    def _choices(self, node: ast.Call) -> tuple[Any, ...]:
        kind = _keyword(node, "type")
        if isinstance(kind, ast.Call) and dotted(kind.func).rpartition(".")[2] == "Choice" and kind.args:
            found = known(kind.args[0], self.names)
            return tuple(found) if isinstance(found, (list, tuple)) else ()
        return ()

    def _signature(self, function: Function, style: str, prefix: str = "") -> None:
        arguments = [*function.args.posonlyargs, *function.args.args]
        padding: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
        pairs = [*zip(arguments, [*padding, *function.args.defaults], strict=True)]
        pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        for argument, default in pairs:
            if argument.arg not in {"self", "cls"} and "Context" not in shown(argument.annotation or argument):
                self._typed(argument.arg, argument.annotation, default, argument.lineno, style, prefix)

    def _fields(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            if dotted(base) in self.classes and dotted(base) != node.name and self.classes[dotted(base)] is not node:
                bases = self.classes.pop(dotted(base))  # each class once: bases may go in circles
                self._fields(bases)
                self.classes[dotted(base)] = bases
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and one.target.id[:1] != "_":
                self._typed(one.target.id, one.annotation, one.value, one.lineno, "argparse", "")

    def _typed(
        self, name: str, annotation: ast.expr | None, default: ast.expr | None, line: int, style: str, prefix: str
    ) -> None:
        """A parameter of a function or a field of a class, by its annotation and its default."""
        kind, several, choices, made = annotated(annotation, self.classes)
        if made is None and isinstance(default, ast.Call) and last(default.func) in {"Option", "Argument", "field"}:
            made = default
            default = default.args[0] if default.args else _keyword(default, "default")
            if default is None and (factory := _keyword(made, "default_factory")) is not None:
                default = factory.body if isinstance(factory, ast.Lambda) else ast.List([], ast.Load())
            declared = made.args[1:]
        else:
            declared = made.args if made is not None else []
        if isinstance(default, ast.Constant) and default.value is ...:
            default = None
        value = self._member(default) if default is not None else None
        if value is UNKNOWN and default is not None:
            self._remark(f"line {line}: {name}: its default is computed: {shown(default)}")
        there = default is not None and value is not UNKNOWN
        plain = name.replace("_", "-")
        if annotation is None and isinstance(value, (bool, int, float)):
            kind = type(value).__name__
        flags = tuple(one for one in (known(each, {}) for each in declared) if isinstance(one, str) and one[:1] == "-")
        flags = flags or tuple(dict.fromkeys((f"--{name}", f"--{plain}") if style != "typer" else (f"--{plain}",)))
        positional = style == "typer" and (last(made.func) == "Argument" if made is not None else default is None)
        switch = kind == "bool" and not several and style == "typer"
        option = DeclaredParameter(
            prefix + name, kind, value if there else None, there, default is None,
            flags=() if positional else flags, off_flags=(f"--no-{plain}",) if switch else (), choices=choices,
            help=_help(made), line=line, action="BooleanOptionalAction" if switch else
            "append" if several and style == "typer" and not positional else "store",
            nargs="*" if several and (positional or style != "typer") else "?" if kind == "bool" and not switch
            else None, const=True if kind == "bool" and not switch else None,
        )  # fmt: skip
        self._put(option, style=style)

    def _member(self, node: ast.expr) -> Any:
        owner, _, member = dotted(node).rpartition(".")
        for one in self.classes[owner].body if owner in self.classes else ():
            if isinstance(one, ast.Assign) and dotted(one.targets[0]) == member and isinstance(one.value, ast.Constant):
                return one.value.value
        return known(node, self.names)

    def _remark(self, text: str) -> None:
        self.remarks.setdefault(text)


@dataclass
class _Subparsers:
    of: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def _subparsers(nodes: list[ast.AST], names: Mapping[str, Any]) -> _Subparsers:
    """Variable (or call) of a subcommand's parser → its prefix; and how each subcommand may be written."""
    found = _Subparsers()
    for node in nodes:
        call = node.value if isinstance(node, ast.Assign) else node
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
            continue
        name = known(call.args[0], names)
        if call.func.attr == "add_parser" and isinstance(name, str):
            aliases = known(_keyword(call, "aliases"), names)
            found.names.update(dict.fromkeys([name, *(aliases if isinstance(aliases, list) else [])], name))
            found.of[shown(call, 200)] = f"{name}."
            if isinstance(node, ast.Assign):
                found.of[dotted(node.targets[0])] = f"{name}."
    return found


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in shown(node.test)


def _commands_of(functions: Mapping[str, Function], owner: str) -> int:
    heads = [dotted(getattr(one, "func", one)) for function in functions.values() for one in function.decorator_list]
    return heads.count(f"{owner}.command") + heads.count(f"{owner}.callback")


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in node.keywords if word.arg == name), None)


def _help(made: ast.Call | None) -> str:
    text = known(_keyword(made, "help"), {}) if made is not None else ""
    return text if isinstance(text, str) else ""


def _with_default(option: DeclaredParameter, named: Mapping[str, Any]) -> DeclaredParameter:
    if named.get("default", UNKNOWN) is not UNKNOWN:
        return replace(option, default=named["default"], has_default=named["default"] != "==SUPPRESS==")
    if "default" in named or (option.required and option.action == "store"):
        return option
    return replace(option, default={"store_true": False, "store_false": True}.get(option.action), has_default=True)


def _type_name(node: ast.expr | None, option: DeclaredParameter, style: str) -> str:
    if node is None:
        sample = option.default[0] if isinstance(option.default, (list, tuple)) and option.default else option.default
        if option.action in {"store_true", "store_false", "BooleanOptionalAction"}:
            return "bool"
        by_default = style == "click" and isinstance(sample, (bool, int, float))
        return "int" if option.action == "count" else type(sample).__name__ if by_default else "str"
    name = last(node.func if isinstance(node, ast.Call) else node)
    return "str" if name == "Choice" else TYPES.get(name, name or "str")


def _elsewhere(tree: ast.Module) -> list[str]:
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for name in names:
            if tool := _ELSEWHERE.get(name.partition(".")[0]):
                return [f"line {node.lineno}: the arguments are read by {tool}; they are known when it has run"]
    return []
