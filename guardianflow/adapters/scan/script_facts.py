"""What a script's syntax tree says, without judgement: its imports, calls, loops and ways in."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Call", "Loop", "ScriptFacts", "read_facts"]

_MOST_STEPS = 8
_MOST_PARTS = 40
_YAML = re.compile(r"[^\s*?<>|{}]{1,200}\.ya?ml", re.IGNORECASE)
_DATA_NAME = re.compile(r"(^|[_-])data(set)?(s|_?(yaml|file|path|cfg|config))?$", re.IGNORECASE)


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        dotted: What is called, names resolved as far as they can be: ``ultralytics.YOLO().train``.
        spoken: What is called, as it stands in the text: ``model.train``.
        line: Counted from 1.
        has_arguments: Whether it has any.
        top: Whether it runs as soon as the file does: in no function or class.
    """

    dotted: str
    spoken: str
    line: int
    has_arguments: bool
    top: bool


@dataclass(slots=True)
class Loop:
    """One ``for`` loop, and what of a training's steps is in it."""

    line: int
    over_epochs: bool
    top: bool
    backward: bool = False
    step: bool = False


@dataclass
class ScriptFacts:
    """All that one script says.

    Attributes:
        lines: Its text, as it is quoted.
        modules: Every imported module or name, dotted → its first line.
        calls: In the order of the text.
        loops: Those with a backward pass.
        data: Dataset files that the text names: ``data="coco8.yaml"``, ``--data``'s default, ``DATA_YAML = …``.
        main_line: Of ``if __name__ == "__main__"``; 0 without.
        mode_line: Where a method is chosen by name: ``getattr(model, mode)(…)``; 0 without.
        is_relative: Whether it imports from its own package by dots.
    """

    lines: Sequence[str]
    modules: dict[str, int] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    data: dict[str, None] = field(default_factory=dict)
    main_line: int = 0
    mode_line: int = 0
    is_relative: bool = False

    def text_of(self, line: int) -> str:
        """A line as a reason quotes it."""
        text = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
        return text if len(text) <= 90 else f"{text[:89]}…"


def read_facts(tree: ast.Module, lines: Sequence[str]) -> ScriptFacts:
    """The facts of a script.

    Raises:
        RecursionError: It is nested too deeply.
    """
    reader = _Reader(ScriptFacts(lines))
    reader.visit(tree)
    return reader.resolved()


class _Reader(ast.NodeVisitor):
    def __init__(self, facts: ScriptFacts) -> None:
        self._facts = facts
        self._stands_for: dict[str, str] = {}  # `model` → `YOLO()`, `YOLO` → `ultralytics.YOLO`
        self._top = True
        self._around: tuple[Loop, ...] = ()

    def resolved(self) -> ScriptFacts:
        for call in self._facts.calls:
            call.dotted = self._resolve(call.dotted)
        self._facts.loops = [loop for loop in self._facts.loops if loop.backward]
        return self._facts

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._facts.modules.setdefault(alias.name, node.lineno)
            if alias.asname:
                self._stands_for[alias.asname] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._facts.is_relative |= node.level > 0
        for alias in node.names if not node.level else ():
            name = f"{node.module}.{alias.name}"
            self._facts.modules.setdefault(name, node.lineno)
            self._stands_for[alias.asname or alias.name] = name

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign | ast.NamedExpr) -> None:
        self._bind(node.target, node.value)
        self.generic_visit(node)

    visit_NamedExpr = visit_AnnAssign  # noqa: N815

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            self._note_data(getattr(key, "value", None), value)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.AST) -> None:
        outside = self._top, self._around
        self._top, self._around = False, ()
        self.generic_visit(node)
        self._top, self._around = outside

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._stand_for(node.name, _dotted(node.bases[0]) if node.bases else "?")
        self.visit_FunctionDef(node)

    def visit_For(self, node: ast.For) -> None:
        named = any("epoch" in name.id.lower() for name in ast.walk(node.target) if isinstance(name, ast.Name))
        self._facts.loops.append(Loop(node.lineno, named, self._top))
        outside, self._around = self._around, (*self._around, self._facts.loops[-1])
        self.generic_visit(node)
        self._around = outside

    def visit_If(self, node: ast.If) -> None:
        names = [getattr(side, "id", getattr(side, "value", "")) for side in ast.walk(node.test)]
        if {"__name__", "__main__"} <= {name for name in names if isinstance(name, str)}:
            self._facts.main_line = self._facts.main_line or node.lineno
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        dotted = _dotted(node.func)
        name = dotted.rpartition(".")[2]
        for loop in self._around:
            loop.backward |= name == "backward"
            loop.step |= name == "step"
        words = node.func.args if isinstance(node.func, ast.Call) and dotted == "getattr()" else []
        if any("mode" in getattr(word, "id", "") for word in words):
            self._facts.mode_line = self._facts.mode_line or node.lineno
        self._facts.calls.append(Call(dotted, dotted, node.lineno, bool(node.args or node.keywords), self._top))
        options = [word.value for word in node.args if isinstance(word, ast.Constant)]
        for keyword in node.keywords:
            for word in options if keyword.arg == "default" else [keyword.arg]:
                self._note_data(word, keyword.value)
        self.generic_visit(node)

    def _bind(self, target: ast.expr, value: ast.expr | None) -> None:
        name = _dotted(target)
        self._note_data(name, value)
        made = value.value if isinstance(value, ast.Await) else value
        if isinstance(made, ast.Call):
            self._stand_for(name, f"{_dotted(made.func)}()")

    def _stand_for(self, name: str, what: str) -> None:
        told = what.partition(".")[0].removesuffix("()") != name  # `model = model.to("cuda")` tells nothing new
        if told and "?" not in name + what:
            self._stands_for[name] = what

    def _note_data(self, name: object, value: ast.expr | None) -> None:
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div):  # ROOT / "data/coco128.yaml"
            value = value.right
        text = getattr(value, "value", None)
        if isinstance(name, str) and isinstance(text, str) and _DATA_NAME.search(name) and _YAML.fullmatch(text):
            self._facts.data[text] = None

    def _resolve(self, dotted: str) -> str:
        """A dotted name with its first name replaced by what it stands for, as far as that goes."""
        seen: set[str] = set()
        for _ in range(_MOST_STEPS):
            head, dot, rest = dotted.partition(".")
            name = head.removesuffix("()")
            if name in seen or name not in self._stands_for:
                break
            seen.add(name)
            dotted = f"{self._stands_for[name]}{head[len(name) :]}{dot}{rest}"
        return dotted


def _dotted(node: ast.AST) -> str:
    """``a.b().c`` as text; ``?`` for what doesn't start with a name. An attribute of ``self`` counts as one name."""
    parts: list[str] = []
    called = ""
    for _ in range(_MOST_PARTS):
        if isinstance(node, ast.Attribute):
            parts.append(f"{node.attr}{called}")
            called, node = "", node.value
        elif isinstance(node, ast.Call):
            called, node = "()", node.func
        elif isinstance(node, ast.Subscript):
            node = node.value
        else:
            break
    parts.append(f"{node.id if isinstance(node, ast.Name) else '?'}{called}")
    text = ".".join(reversed(parts))
    return f"self:{text[5:]}" if text.startswith("self.") else text
