"""Follows a script's text from its first line to ``parse_args()`` to see which arguments its parsers get.

Nothing is run. Assignments of plain values are remembered, functions of the file that have to do with a
parser are followed where they are called, loops over literal lists are unrolled.
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from guardianflow.adapters.wrap.parameters.argument_parsers import SUPPRESS, Argument, Parser, argument_of, parser_of
from guardianflow.adapters.wrap.parameters.dataclass_arguments import dataclass_arguments
from guardianflow.adapters.wrap.parameters.literal_values import UNKNOWN, Reading, dotted, known, shown
from guardianflow.adapters.wrap.parameters.script_functions import PARSER_CALLS, Function, ScriptFunctions

__all__ = ["FoundParsers", "find_parsers"]

_PARSES = {name for name in PARSER_CALLS if name.startswith("parse_")} | {"parse_known_intermixed_args"}
_CHANGES = {"append", "extend", "update", "insert", "remove", "pop", "add", "setdefault", "sort", "reverse", "clear"}
_HARMLESS = {"print", "vars", "autocomplete", "isinstance", "hasattr", "getattr", "super", "type", "id", "repr"}
_MAX_STEPS = 50_000
_MAX_DEPTH = 12
_MAX_TURNS = 200


@dataclass(frozen=True)
class FoundParsers:
    """The parsers that a script's command line goes through, the one with most arguments first."""

    parsers: tuple[Parser, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """An object of a class of this file."""

    name: str


@dataclass
class Subcommands:
    """What ``add_subparsers()`` returns."""

    argument: Argument


@dataclass
class Scope:
    """What names stand for: plain values, and parsers and the like."""

    values: ChainMap[str, Any] = field(default_factory=ChainMap)
    objects: ChainMap[str, Any] = field(default_factory=ChainMap)
    owner: str = ""  # the class whose method this is

    def inner(self, owner: str) -> Scope:
        """The scope of a function that is called: it sees the module's names, not its caller's."""
        values, objects = self.values.maps[-1], self.objects.maps[-1]
        return Scope(ChainMap({}, values), ChainMap({}, objects), owner)


class _EnoughError(Exception):
    """The text is too large, or too entangled, to be followed further."""


def find_parsers(tree: ast.Module, source: str) -> FoundParsers:
    """The parsers whose arguments a script takes.

    Args:
        tree: The script's syntax tree.
        source: Its text: a look at it saves the walk where no parser is named.
    """
    if not any(word in source for word in ("ArgumentParser", "ArgParser", "parse_args")):
        return FoundParsers()
    search = _Search(tree)
    try:
        search.run(tree.body, search.root)
        search.run_uncalled()
    except _EnoughError:
        search.remark("the script is too large to be followed to its end; some arguments may be missing")
    except RecursionError:
        search.remark("the script is nested too deeply to be followed; some arguments may be missing")
    return search.chosen()


class _Search:
    def __init__(self, tree: ast.Module) -> None:
        self.root = Scope()
        self.parsers: list[Parser] = []
        self.remarks: dict[str, None] = {}
        self.script = ScriptFunctions(tree)
        self.followed: set[str] = set()
        self._stack: list[str] = []
        self._steps = 0
        self._changed_elsewhere = {
            name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names
        }

    def remark(self, text: str) -> None:
        if len(self.remarks) < 50:
            self.remarks[text] = None

    def _reading(self, scope: Scope) -> Reading:
        return Reading(scope.values, self.script.classes, self.remark)

    def chosen(self) -> FoundParsers:
        """Those that are parsed on the way from the first line; else the one with most arguments."""
        mine = [one for one in self.parsers if not one.inner and (one.arguments or one.parsed)]
        parsed = [one for one in mine if one.parsed]
        chosen = parsed or [one for one in mine if not one.loose]
        chosen.sort(key=lambda one: -len(one.arguments))
        if not parsed and len(chosen) > 1:
            lines = ", ".join(str(one.line) for one in chosen[1:6])
            self.remark(f"the script has {len(chosen)} parsers; those of line {lines} were left out")
            chosen = chosen[:1]
        if any(one.loose for one in chosen):
            self.remark("the parser is made in another file; only the arguments that this file adds are known")
        return FoundParsers(tuple(chosen), tuple(self.remarks))

    def run_uncalled(self) -> None:
        """Functions that nobody calls here: an entry point names them, or another file does."""
        if any(one.parsed for one in self.parsers):
            return
        for name, function in self.script.functions.items():
            if name not in self.followed and name in self.script.relevant:
                self._follow(name, function, None)

    def run(self, statements: list[ast.stmt], scope: Scope) -> Any:
        """Go through statements; the first parser that is returned is handed on."""
        for statement in statements:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise _EnoughError
            result = self._statement(statement, scope)
            if result is not None:
                return result
        return None

    # -- statements ---------------------------------------------------------------------------

    def _statement(self, node: ast.stmt, scope: Scope) -> Any:  # noqa: C901, PLR0912 - one branch a kind
        match node:
            case ast.Assign(targets=targets, value=value):
                found = self._expression(value, scope)  # once: `a = b = ArgumentParser()` is one parser
                for target in targets:
                    self._assign(target, found, value, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self._expression(value, scope), value, scope)
            case ast.AugAssign(target=target):
                self._forget(target, scope)
            case ast.Expr(value=value):
                self._expression(value, scope)
            case ast.Return(value=ast.expr() as value):
                return self._expression(value, scope)
            case ast.If(test=test, body=body, orelse=orelse):
                self._expression(test, scope)
                return self._branches([body, orelse], scope, sure="__name__" in shown(test))
            case ast.For() | ast.AsyncFor():
                self._expression(node.iter, scope)
                return self._loop(node, scope)
            case ast.While(body=body):
                return self._branches([body], scope)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    found = self._expression(item.context_expr, scope)
                    if item.optional_vars is not None and found is not None:
                        scope.objects[dotted(item.optional_vars)] = found
                return self.run(body, scope)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                return self._branches([body, *(one.body for one in handlers), orelse, finalbody], scope)
            case ast.ClassDef():
                self._class_values(node, scope)
        return None

    def _branches(self, blocks: list[list[ast.stmt]], scope: Scope, *, sure: bool = False) -> Any:
        result = None
        for block in blocks:
            found = self.run(block, scope)
            result = result if result is not None else found
        if not sure:  # which of them ran isn't known, so neither is what they assigned
            for name in {name for block in blocks for name in _assigned(block)}:
                scope.values[name] = UNKNOWN
        return result

    def _loop(self, node: ast.For | ast.AsyncFor, scope: Scope) -> Any:
        turns: list[Any] = [UNKNOWN]
        if self.script.has_parser_call(node.body):
            over = known(node.iter, scope.values)
            turns = list(over)[:_MAX_TURNS] if isinstance(over, (list, tuple, dict, str)) else turns
        result = None
        for value in turns:
            _bind(node.target, value, scope)
            found = self._branches([node.body], scope)
            result = result if result is not None else found
        _bind(node.target, UNKNOWN, scope)
        return result

    def _assign(self, target: ast.expr, found: Any, value: ast.expr, scope: Scope) -> None:
        if isinstance(target, (ast.Tuple, ast.List)) and isinstance(found, tuple) and len(found) == len(target.elts):
            for item, one in zip(target.elts, found, strict=True):
                self._keep(item, one, None, scope)
        elif isinstance(target, (ast.Tuple, ast.List)):
            _bind(target, known(value, scope.values), scope)
        else:
            self._keep(target, found, value, scope)

    def _keep(self, target: ast.expr, found: Any, value: ast.expr | None, scope: Scope) -> None:
        name = dotted(target)
        if not name:
            self._forget(target, scope)
            return
        shared = name.startswith("self.")
        objects = scope.objects.maps[-1] if shared else scope.objects
        values = scope.values.maps[-1] if shared else scope.values
        if found is not None:
            objects[name] = found
            return
        if name in objects:
            objects[name] = None
        values[name] = UNKNOWN  # also where its own value stands in what it is given
        if value is not None and name not in self._changed_elsewhere:
            values[name] = known(value, scope.values)

    def _forget(self, target: ast.expr, scope: Scope) -> None:
        while isinstance(target, (ast.Subscript, ast.Starred)):
            target = target.value
        if name := dotted(target):
            scope.values[name] = UNKNOWN

    def _class_values(self, node: ast.ClassDef, scope: Scope) -> None:
        inner = Scope(scope.values.new_child(), scope.objects.new_child())
        plain = [one for one in node.body if isinstance(one, (ast.Assign, ast.AnnAssign))]
        self.run(list(plain), inner)
        for name, value in inner.values.maps[0].items():
            scope.values[f"{node.name}.{name}"] = value

    # -- expressions --------------------------------------------------------------------------

    def _expression(self, node: ast.expr, scope: Scope) -> Any:
        """What an expression is, if it is a parser or the like; calls in it are followed."""
        match node:
            case ast.Name() | ast.Attribute():
                found = scope.objects.get(dotted(node)) if dotted(node) else None
                if found is None and isinstance(node, ast.Attribute) and not dotted(node):
                    self._expression(node.value, scope)
                return found
            case ast.Call():
                return self._call(node, scope)
            case ast.Tuple(elts=items):
                found = tuple(self._expression(item, scope) for item in items)
                return found if any(item is not None for item in found) else None
            case ast.Await(value=value) | ast.Starred(value=value) | ast.NamedExpr(value=value):
                found = self._expression(value, scope)
                if isinstance(node, ast.NamedExpr):
                    self._keep(node.target, found, value, scope)
                return found
            case ast.Lambda() | ast.Constant():
                return None
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._expression(child, scope)
        return None

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        self._steps += 1
        name = dotted(node.func)
        last = self.script.plain_name(name)
        if self.script.is_parser(name):
            return self._make(node, scope, last)
        if isinstance(node.func, ast.Attribute):
            owner = self._expression(node.func.value, scope)
            if owner is None and node.func.attr in PARSER_CALLS:
                owner = self._loose(node.func, scope)
            if isinstance(owner, (Parser, Subcommands)):
                handled, found = self._method(node, node.func.attr, owner, scope)
                if handled:
                    return found
            if node.func.attr in _CHANGES:
                self._forget(node.func.value, scope)
        elif not isinstance(node.func, ast.Name):
            self._expression(node.func, scope)
        given = [self._expression(item, scope) for item in node.args]
        named = {word.arg: self._expression(word.value, scope) for word in node.keywords}
        target = self._target(node, scope)
        if target is not None:
            return self._follow(target, self.script.functions[target], node, given=given, named=named, scope=scope)
        if name in self.script.classes:
            return Instance(name)
        if any(isinstance(one, Parser) for one in [*given, *named.values()]) and last not in _HARMLESS:
            self.remark(f"line {node.lineno}: {shown(node.func)}() may add arguments; it is in another file")
            return next((one for one in given if isinstance(one, Parser)), None) if last.startswith("add_") else None
        return None

    def _make(self, node: ast.Call, scope: Scope, kind: str) -> Parser:
        parents: list[Parser] = []
        for word in node.keywords:
            if word.arg == "parents":
                for one in word.value.elts if isinstance(word.value, (ast.List, ast.Tuple)) else [word.value]:
                    found = self._expression(one, scope)
                    if isinstance(found, Parser):
                        parents.append(found)
                    else:
                        self.remark(f"line {node.lineno}: a parent of the parser is unknown: {shown(one)}")
        parser = parser_of(node, parents, self._reading(scope))
        self.parsers.append(parser)
        if kind == "HfArgumentParser" and node.args:
            items = node.args[0].elts if isinstance(node.args[0], (ast.Tuple, ast.List)) else [node.args[0]]
            for item in items:
                parser.arguments += dataclass_arguments(dotted(item), self._reading(scope))
        elif kind in self.script.classes and f"{kind}.__init__" in self.script.functions:
            inner = self.root.inner(kind)
            inner.objects["self"] = parser
            self._run_function(f"{kind}.__init__", self.script.functions[f"{kind}.__init__"], inner)
        return parser

    def _loose(self, function: ast.Attribute, scope: Scope) -> Parser | None:
        """A parser that came from somewhere else: a parameter, or a function of another file."""
        name = dotted(function.value)
        if not name or function.attr in {"add_parser", "add_subparsers"}:
            return None
        if function.attr not in {"add_argument", "add_argument_group"}:
            return None
        parser = Parser(line=function.lineno, loose=True)
        scope.objects[name] = parser
        self.parsers.append(parser)
        return parser

    def _method(self, node: ast.Call, name: str, owner: Parser | Subcommands, scope: Scope) -> tuple[bool, Any]:
        if isinstance(owner, Subcommands):
            return (True, self._add_parser(node, owner, scope)) if name == "add_parser" else (False, None)
        if name in {"add_argument_group", "add_mutually_exclusive_group"}:
            return True, owner
        if name == "add_argument":
            self._add(owner, argument_of(node, owner, self._reading(scope)), node)
        elif name == "add_arguments" and node.args:
            self._add_dataclass(node, owner, scope)
        elif name == "add_subparsers":
            return True, self._add_subparsers(node, owner, scope)
        elif name == "set_defaults":
            for word in node.keywords:
                if word.arg:
                    owner.set_default(word.arg, known(word.value, scope.values))
                else:
                    self.remark(
                        f"line {node.lineno}: defaults are set from {shown(word.value)}, known only when it runs"
                    )
        elif name in _PARSES:
            owner.parsed = True
        else:
            return False, None
        return True, None

    def _add(self, parser: Parser, argument: Argument | None, node: ast.Call) -> None:
        if argument is None:
            return
        taken = {flag: one for one in parser.arguments for flag in one.flags}
        clash = [taken[flag] for flag in argument.flags if flag in taken]
        if clash and parser.settings.get("conflict_handler") == "resolve":
            for one in clash:
                one.flags = tuple(flag for flag in one.flags if flag not in argument.flags)
            parser.arguments[:] = [one for one in parser.arguments if one.flags or one not in clash]
        elif clash:
            self.remark(
                f"line {node.lineno}: {argument.flags[0]} is added twice; what line {clash[0].line} says is taken"
            )
            return
        parser.arguments.append(argument)

    def _add_dataclass(self, node: ast.Call, owner: Parser, scope: Scope) -> None:
        dest = next((known(one, scope.values) for one in [*node.args[1:2], *_word(node, "dest")]), "")
        name = dotted(node.args[0])
        for argument in dataclass_arguments(name, self._reading(scope)):
            argument.dest = f"{dest}.{argument.dest}" if isinstance(dest, str) and dest else argument.dest
            owner.arguments.append(argument)

    def _add_subparsers(self, node: ast.Call, owner: Parser, scope: Scope) -> Subcommands:
        words = {word.arg: known(word.value, scope.values) for word in node.keywords}
        dest = words.get("dest")
        argument = Argument(
            (), dest if isinstance(dest, str) else SUPPRESS, action="parsers", nargs="A...", line=node.lineno,
            required=words.get("required") is True,
        )  # fmt: skip
        owner.arguments.append(argument)
        return Subcommands(argument)

    def _add_parser(self, node: ast.Call, owner: Subcommands, scope: Scope) -> Parser:
        child = self._make(node, scope, "")
        child.inner = True
        name = known(node.args[0], scope.values) if node.args else UNKNOWN
        if not isinstance(name, str):
            self.remark(f"line {node.lineno}: the name of a subcommand is computed")
            return child
        aliases: Any = next((known(one, scope.values) for one in _word(node, "aliases")), [])
        for one in [name, *(aliases if isinstance(aliases, (list, tuple)) else [])]:
            owner.argument.commands[str(one)] = child
        return child

    # -- functions of the file ----------------------------------------------------------------

    def _target(self, node: ast.Call, scope: Scope) -> str | None:
        """The function of this file that a call leads to, if it has to do with a parser."""
        candidates = []
        if isinstance(node.func, ast.Name):
            candidates = [node.func.id, f"{node.func.id}.__init__"]
        elif isinstance(node.func, ast.Attribute):
            owner = self._expression(node.func.value, scope)
            named = dotted(node.func.value)
            if isinstance(owner, Instance):
                candidates = [f"{one}.{node.func.attr}" for one in self.script.line_of(owner.name)]
            elif named in {"self", "cls"} or (
                isinstance(node.func.value, ast.Call) and "super" in shown(node.func.value)
            ):
                lines = self.script.line_of(scope.owner)
                candidates = [f"{one}.{node.func.attr}" for one in (lines if named else lines[1:])]
            elif named:
                candidates = [f"{one}.{node.func.attr}" for one in self.script.line_of(named)]
        found = next((name for name in candidates if name in self.script.functions), None)
        return found if found in self.script.relevant else None

    def _follow(
        self, name: str, function: Function, node: ast.Call | None, *, given: list[Any] | None = None,
        named: Mapping[str | None, Any] | None = None, scope: Scope | None = None,
    ) -> Any:  # fmt: skip
        if name in self._stack or len(self._stack) >= _MAX_DEPTH:
            return None
        owner = name.rpartition(".")[0]
        inner = self.root.inner(owner)
        names = [one.arg for one in [*function.args.posonlyargs, *function.args.args]]
        defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
        for one in [*names, *(word.arg for word in function.args.kwonlyargs)]:
            inner.values[one] = known(defaults[one], self.root.values) if one in defaults else UNKNOWN
            inner.objects[one] = None
        if owner and names and not _is_static(function):
            inner.objects[names.pop(0)] = Instance(owner)
            if node is not None and node.args and dotted(node.func).startswith(f"{owner}.") and not _is_class(function):
                given = (given or [])[1:]  # Base.initialize(self, parser)
        if node is not None and scope is not None:
            for one, item, value in zip(names, given or [], node.args[-len(given or [None]) :], strict=False):
                inner.objects[one], inner.values[one] = item, known(value, scope.values)
            for word in node.keywords:
                if word.arg:
                    inner.objects[word.arg] = (named or {}).get(word.arg)
                    inner.values[word.arg] = known(word.value, scope.values)
        result = self._run_function(name, function, inner)
        return Instance(owner) if name.endswith(".__init__") else result

    def _run_function(self, name: str, function: Function, inner: Scope) -> Any:
        self.followed.add(name)
        self._stack.append(name)
        try:
            return self.run(function.body, inner)
        finally:
            self._stack.pop()


def _word(node: ast.Call, name: str) -> list[ast.expr]:
    return [word.value for word in node.keywords if word.arg == name]


def _bind(target: ast.expr, value: Any, scope: Scope) -> None:
    if isinstance(target, (ast.Tuple, ast.List)):
        values = list(value) if isinstance(value, (list, tuple)) and len(value) == len(target.elts) else None
        for place, item in enumerate(target.elts):
            _bind(item, UNKNOWN if values is None else values[place], scope)
    elif name := dotted(target):
        scope.values[name] = value
        scope.objects[name] = None


def _assigned(statements: list[ast.stmt]) -> Iterator[str]:
    for node in (one for statement in statements for one in ast.walk(statement)):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store) and dotted(node):
            yield dotted(node)


def _is_static(function: Function) -> bool:
    return any(dotted(one).endswith("staticmethod") for one in function.decorator_list)


def _is_class(function: Function) -> bool:
    return any(dotted(one).endswith("classmethod") for one in function.decorator_list)
