"""What a script's click decorators and typer signatures declare, and the parameters of a ``fire`` function."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from guardianflow.adapters.wrap.parameters.argument_parsers import NOTHING
from guardianflow.adapters.wrap.parameters.dataclass_arguments import annotation_of
from guardianflow.adapters.wrap.parameters.declared import DeclaredParameter
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, Reading, dotted, shown

__all__ = ["CommandOptions", "Option", "declared_options", "find_commands"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
_TYPES = {
    "INT": "int", "FLOAT": "float", "STRING": "str", "BOOL": "bool", "int": "int", "float": "float", "str": "str",
    "bool": "bool", "IntRange": "int", "FloatRange": "float", "Path": "path", "File": "path", "DateTime": "str",
    "UUID": "str", "click.INT": "int",
}  # fmt: skip
_NO_VALUES = {"version_option", "help_option", "confirmation_option", "pass_context", "pass_obj"}


@dataclass
class Option:
    """One option or argument of a command. A value that only running the script would tell is ``UNKNOWN``."""

    name: str
    flags: tuple[str, ...] = ()
    off_flags: tuple[str, ...] = ()
    type: str = "str"
    default: Any = NOTHING
    required: bool = False
    choices: tuple[Any, ...] = ()
    multiple: bool = False
    nargs: int = 1
    is_flag: bool = False
    flag_value: Any = None
    count: bool = False
    help: str = ""
    line: int = 0


@dataclass
class CommandOptions:
    """One command: its options, and the subcommands of a group."""

    style: str
    name: str = ""
    options: list[Option] = field(default_factory=list)
    commands: dict[str, CommandOptions] = field(default_factory=dict)
    group: bool = False


def find_commands(tree: ast.Module, names: Mapping[str, Any], remark: Callable[[str], None]) -> CommandOptions | None:
    """The command that a script runs, or None where it uses none of click, typer and fire."""
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    reading = Reading(names, classes, remark)
    functions = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    imported = _imported(tree)
    if "click" in imported or "rich_click" in imported:
        found = _click(functions, reading)
        if found is not None:
            return found
    if "typer" in imported:
        return _typer(tree, functions, reading)
    if "fire" in imported:
        return _fire(tree, functions, reading)
    return None


def declared_options(command: CommandOptions, prefix: str = "") -> Iterator[DeclaredParameter]:
    """A command's parameters, those of its subcommands after its own."""
    for option in command.options:
        known = option.default is not UNKNOWN and option.default is not NOTHING
        yield DeclaredParameter(
            name=prefix + option.name,
            type=option.type,
            default=option.default if known else None,
            has_default=known,
            required=option.required,
            flags=option.flags + option.off_flags,
            choices=option.choices,
            help=option.help,
            multiple=option.multiple or option.nargs != 1,
            is_flag=option.is_flag or option.count,
            positional=not option.flags,
            source=command.style,
            line=option.line,
        )
    for name, child in command.commands.items():
        yield from declared_options(child, f"{prefix}{name}.")


def _imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


# -- click --------------------------------------------------------------------------------------


def _click(functions: Mapping[str, Function], reading: Reading) -> CommandOptions | None:
    """Commands by their decorators: the group that others hang on, or the only command."""
    commands: dict[str, CommandOptions] = {}
    children: set[str] = set()
    for name, function in functions.items():
        for decorator in function.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            owner, _, kind = dotted(call).rpartition(".")
            if kind not in {"command", "group"}:
                continue
            own = _given_name(decorator, reading) or _command_name(function.name)
            command = CommandOptions("click", own, _click_options(function, reading), group=kind == "group")
            commands[name] = command
            if owner in commands and owner not in {"click", ""}:
                commands[owner].commands[own] = command
                children.add(name)
    tops = [one for name, one in commands.items() if name not in children]
    tops.sort(key=lambda one: (not one.commands, not one.options))
    if len(tops) > 1:
        reading.remark(f"the script has {len(tops)} click commands; the parameters are those of {tops[0].name}")
    return tops[0] if tops else None


def _given_name(decorator: ast.expr, reading: Reading) -> str:
    first = decorator.args[0] if isinstance(decorator, ast.Call) and decorator.args else _words(decorator).get("name")
    return text if isinstance(text := reading.value(first), str) else ""


def _command_name(name: str) -> str:
    for ending in ("_command", "_cmd", "_group", "_grp"):
        name = name.removesuffix(ending) or name
    return name.lower().replace("_", "-")


def _words(node: ast.expr) -> dict[str, ast.expr]:
    return {word.arg: word.value for word in node.keywords if word.arg} if isinstance(node, ast.Call) else {}


def _click_options(function: Function, reading: Reading) -> list[Option]:
    options = []
    for decorator in function.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        kind = dotted(call).rpartition(".")[2]
        if kind in {"option", "argument"} and isinstance(decorator, ast.Call):
            option = _click_option(decorator, reading, argument=kind == "argument")
            if option is not None:
                options.append(option)
        elif kind not in _NO_VALUES | {"command", "group"}:
            reading.remark(f"line {decorator.lineno}: @{shown(call)} may add options; what it adds is unknown")
    return options


def _click_option(call: ast.Call, reading: Reading, *, argument: bool) -> Option | None:
    declarations = [reading.value(one) for one in call.args if not isinstance(one, ast.Starred)]
    declarations = [one for one in declarations if isinstance(one, str) and one]
    if not declarations or (argument and len(declarations) != 1):
        reading.remark(f"line {call.lineno}: the name of an option is computed: {shown(call)}")
        return None
    name, flags, off = _click_names(declarations, argument=argument)
    option = Option(name, flags, off, line=call.lineno)
    words = _words(call)
    if any(word.arg is None for word in call.keywords):
        reading.remark(f"line {call.lineno}: keywords of {declarations[0]} are computed")
    option.help = str(reading.value(words.get("help")) or "") if "help" in words else ""
    option.multiple = reading.value(words.get("multiple")) is True
    option.count = reading.value(words.get("count")) is True
    nargs = reading.value(words.get("nargs"))
    option.nargs = nargs if isinstance(nargs, int) else 1
    option.flag_value = reading.value(words.get("flag_value"))
    option.is_flag = bool(off) or reading.value(words.get("is_flag")) is True or option.flag_value is not None
    _click_default(option, words, reading)
    _click_type(option, words.get("type"), reading)
    required = reading.value(words.get("required"))
    option.required = required is True or (argument and required is None and option.default is NOTHING)
    option.required = option.required and option.nargs != -1
    return option


def _click_names(declarations: list[str], *, argument: bool) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Click's own rule: an identifier is the name; else the first of the flags with most dashes."""
    if argument:
        return declarations[0].replace("-", "_").lower(), (), ()
    name, on, off = "", [], []
    for text in declarations:
        if text.isidentifier():
            name = text
            continue
        first, slash, second = text.partition(";" if text[:1] == "/" else "/")
        if first.strip():
            on.append(first.strip())
        if slash and second.strip():
            off.append(second.strip())
    if not name and (on or off):
        longest = max(on or off, key=lambda flag: len(flag) - len(flag.lstrip("-")))
        name = longest.lstrip("-").replace("-", "_").lower()
    return name, tuple(on), tuple(off)


def _click_default(option: Option, words: Mapping[str, ast.expr], reading: Reading) -> None:
    if "default" not in words:
        if option.is_flag and option.flag_value is None:
            option.default = False
        if option.count:
            option.default = 0
        return
    option.default = reading.value(words["default"])
    if option.default is True and option.flag_value is not None:  # the default is what this flag stands for
        option.default = option.flag_value
    if option.default is UNKNOWN:
        reading.remark(f"line {option.line}: {option.name}: its default is computed: {shown(words['default'])}")


def _click_type(option: Option, node: ast.expr | None, reading: Reading) -> None:
    if node is None:
        sample = option.default[0] if isinstance(option.default, (list, tuple)) and option.default else option.default
        if option.is_flag and option.flag_value is None:
            option.type = "bool"
        elif option.count:
            option.type = "int"
        elif isinstance(sample, (bool, int, float)):
            option.type = type(sample).__name__
        return
    name = dotted(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]
    if isinstance(node, ast.Tuple):
        option.nargs = len(node.elts)
        return
    if name == "Choice" and isinstance(node, ast.Call) and node.args:
        choices = reading.value(node.args[0])
        if isinstance(choices, (list, tuple)):
            option.choices = tuple(choices)
        else:
            reading.remark(f"line {option.line}: {option.name}: its choices are computed: {shown(node.args[0])}")
        return
    option.type = _TYPES.get(name, name or "str")


# -- typer --------------------------------------------------------------------------------------


def _typer(tree: ast.Module, functions: Mapping[str, Function], reading: Reading) -> CommandOptions | None:
    apps: dict[str, CommandOptions] = {}
    nested: dict[str, list[tuple[str, str]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            if dotted(node.value.func).rpartition(".")[2] == "Typer":
                apps[node.targets[0].id] = CommandOptions("typer")
        elif isinstance(node, ast.Call):
            owner, _, kind = dotted(node.func).rpartition(".")
            if kind == "run" and owner in {"typer", ""} and node.args and dotted(node.args[0]) in functions:
                function = functions[dotted(node.args[0])]
                return CommandOptions("typer", function.name, _signature(function, reading, "typer"))
            if kind == "add_typer" and node.args:
                name = reading.value(_words(node).get("name"))
                nested.setdefault(owner, []).append((dotted(node.args[0]), name if isinstance(name, str) else ""))
    for function in functions.values():
        _typer_command(function, apps, reading)
    return _typer_top(apps, nested)


def _typer_top(
    apps: Mapping[str, CommandOptions], nested: Mapping[str, list[tuple[str, str]]]
) -> CommandOptions | None:
    """The app that the others hang on."""
    for owner, children in nested.items():
        for child, name in children:
            if owner in apps and child in apps and owner != child:
                apps[owner].group = True
                apps[owner].commands[name or child] = apps[child]
    inner = {child for children in nested.values() for child, _ in children}
    tops = [app for name, app in apps.items() if name not in inner and (app.commands or app.options)]
    if not tops:
        return None
    top = tops[0]
    if len(top.commands) == 1 and not top.group:  # typer gives a lone command no name
        return next(iter(top.commands.values()))
    top.group = True
    return top


def _typer_command(function: Function, apps: Mapping[str, CommandOptions], reading: Reading) -> None:
    for decorator in function.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        owner, _, kind = dotted(call).rpartition(".")
        if owner not in apps or kind not in {"command", "callback"}:
            continue
        options = _signature(function, reading, "typer")
        if kind == "callback":
            apps[owner].group, apps[owner].options = True, options
            continue
        name = _given_name(decorator, reading) or function.name.lower().replace("_", "-")
        apps[owner].commands[name] = CommandOptions("typer", name, options)


def _signature(function: Function, reading: Reading, style: str) -> list[Option]:
    """A function's parameters as options: those with a default, and positionals."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    padding: list[ast.expr | None] = [None] * (len(arguments) - len(function.args.defaults))
    pairs = list(zip(arguments, [*padding, *function.args.defaults], strict=True))
    pairs += list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    options = []
    for argument, default in pairs:
        if argument.arg in {"self", "cls"} or "Context" in (shown(argument.annotation) if argument.annotation else ""):
            continue
        options.append(_parameter(argument, default, reading, style))
    return options


def _parameter(argument: ast.arg, default: ast.expr | None, reading: Reading, style: str) -> Option:
    read = annotation_of(argument.annotation, reading.classes)
    option = Option(argument.arg, type=read.type, choices=read.choices, line=argument.lineno)
    option.multiple, option.nargs = read.several, read.width or 1
    made = next((call for call in read.metadata if _maker(call)), None)
    if made is None and isinstance(default, ast.Call) and _maker(default):
        made = default
        default = made.args[0] if made.args else _words(made).get("default")
        names = made.args[1:]
    else:
        names = made.args if made is not None else []
    positional = _maker(made) == "Argument" if made is not None else default is None
    if isinstance(default, ast.Constant) and default.value is ...:
        default = None
    option.required = default is None
    if default is not None:
        option.default = _default(default, option, reading)
    if made is not None:
        text = reading.value(_words(made).get("help"))
        option.help = text if isinstance(text, str) else ""
        option.count = reading.value(_words(made).get("count")) is True
    if argument.annotation is None and isinstance(option.default, (bool, int, float)):
        option.type = type(option.default).__name__
    if style == "fire":
        option.flags = (f"--{argument.arg}", f"--{argument.arg.replace('_', '-')}")
        return option
    _typer_flags(option, [reading.value(one) for one in names], positional=positional)
    return option


def _maker(call: ast.Call | None) -> str:
    name = dotted(call.func).rpartition(".")[2] if call is not None else ""
    return name if name in {"Option", "Argument"} else ""


def _default(node: ast.expr, option: Option, reading: Reading) -> Any:
    value = reading.value(node)
    if value is UNKNOWN:
        owner, _, member = dotted(node).rpartition(".")
        for one in reading.classes[owner].body if owner in reading.classes else ():
            if isinstance(one, ast.Assign) and dotted(one.targets[0]) == member and isinstance(one.value, ast.Constant):
                return one.value.value
        reading.remark(f"line {option.line}: {option.name}: its default is computed: {shown(node)}")
    return value


def _typer_flags(option: Option, names: list[Any], *, positional: bool) -> None:
    declared = [name for name in names if isinstance(name, str) and name.startswith("-")]
    if positional:
        option.nargs = -1 if option.multiple else option.nargs
        option.multiple = False
        return
    plain = option.name.replace("_", "-").lower()
    if declared:
        _, option.flags, option.off_flags = _click_names(declared, argument=False)
    else:
        option.flags = (f"--{plain}",)
        option.off_flags = (f"--no-{plain}",) if option.type == "bool" and not option.multiple else ()
    option.is_flag = option.type == "bool" and not option.multiple


# -- fire ---------------------------------------------------------------------------------------


def _fire(tree: ast.Module, functions: Mapping[str, Function], reading: Reading) -> CommandOptions | None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or dotted(node.func) not in {"fire.Fire", "Fire"}:
            continue
        target = node.args[0] if node.args else _words(node).get("component")
        if isinstance(target, ast.Name) and target.id in functions:
            options = _signature(functions[target.id], reading, "fire")
            return CommandOptions("fire", target.id, options)
        reading.remark(f"line {node.lineno}: the parameters of {shown(node)} are known only when it runs")
    return None
