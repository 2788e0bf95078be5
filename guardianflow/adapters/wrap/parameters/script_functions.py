"""The functions and classes of a script's text, and which of them have to do with a command-line parser."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from guardianflow.adapters.wrap.parameters.literal_values import dotted

__all__ = ["PARSER_CALLS", "Function", "ScriptFunctions"]

_PARSER_CLASS = re.compile(r"(?:Argument|Arg)_?Parser$")
PARSER_CALLS = {
    "add_argument", "add_arguments", "add_argument_group", "add_mutually_exclusive_group", "add_subparsers",
    "add_parser", "parse_args", "parse_known_args", "parse_intermixed_args", "parse_args_into_dataclasses",
    "set_defaults",
}  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


class ScriptFunctions:
    """What a script defines, by name; methods as ``Class.method``.

    Attributes:
        functions: Functions and methods.
        classes: Classes.
        relevant: Functions that touch a parser, or call one that does.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self._aliases = _aliases(tree)
        self._collect(tree)
        self.relevant = self._relevant_names()

    def plain_name(self, name: str) -> str:
        """The last part of a name, an alias taken back."""
        return self._aliases.get(name, name).rpartition(".")[2]

    def is_parser(self, name: str) -> bool:
        """Whether a call of that name makes a parser."""
        last = self.plain_name(name)
        return bool(_PARSER_CLASS.search(last)) and not self._is_plain_class(last)

    def line_of(self, name: str) -> list[str]:
        """A class and those of its bases that are in this file."""
        line = [name]
        for one in line:
            if one in self.classes and len(line) < 20:
                line += [base for base in map(dotted, self.classes[one].bases) if base and base not in line]
        return line

    def _collect(self, tree: ast.Module) -> None:
        for node in _definitions(tree.body):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
                for one in _definitions(node.body):
                    if not isinstance(one, ast.ClassDef):
                        self.functions[f"{node.name}.{one.name}"] = one
            else:
                self.functions[node.name] = node

    def _relevant_names(self) -> set[str]:
        """Functions that touch a parser, or call one that does."""
        calls = {name: set(_called_names(function.body)) for name, function in self.functions.items()}
        relevant = {
            name for name, called in calls.items()
            if called & PARSER_CALLS or any(_PARSER_CLASS.search(self._aliases.get(one, one)) for one in called)
        }  # fmt: skip
        while True:
            words = {name.rpartition(".")[2] for name in relevant}
            words |= {name.rpartition(".")[0] for name in relevant if name.endswith(".__init__")}
            more = {name for name, called in calls.items() if called & words} - relevant
            if not more:
                return relevant
            relevant |= more

    def has_parser_call(self, statements: list[ast.stmt]) -> bool:
        """Whether statements touch a parser, directly or through a function of the file."""
        words = PARSER_CALLS | {name.rpartition(".")[2] for name in self.relevant}
        return bool(set(_called_names(statements)) & words)

    def _is_plain_class(self, name: str) -> bool:
        """A class of this file that is called like a parser, and is none."""
        bases = [base.rpartition(".")[2] for base in self.line_of(name)[1:]] if name in self.classes else [name]
        return name in self.classes and not any(_PARSER_CLASS.search(base) for base in bases)


def _called_names(statements: list[ast.stmt]) -> Iterator[str]:
    for node in (one for statement in statements for one in ast.walk(statement)):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)


def _definitions(statements: list[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    """Classes and functions of a block, also those below ``if`` and ``try``."""
    for node in statements:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _definitions(node.body)
            yield from _definitions(getattr(node, "orelse", []))


def _aliases(tree: ast.Module) -> dict[str, str]:
    """``AP`` → ``ArgumentParser``, of ``import … as AP`` and of ``AP = argparse.ArgumentParser``."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.Assign) and _PARSER_CLASS.search(dotted(node.value)):
            found.update({dotted(target): dotted(node.value) for target in node.targets if dotted(target)})
    return found
