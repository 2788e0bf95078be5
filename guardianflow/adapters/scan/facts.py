"""What a script's text says, without judgement: its imports, calls, loops and ways in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from guardianflow.adapters.scan.frameworks import framework_of

__all__ = ["CallFact", "CodeFacts", "LoopFact", "Names", "first_import"]

_MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class CallFact:
    """One call.

    Attributes:
        dotted: What is called, names resolved as far as they can be: ``ultralytics.YOLO().train``.
        line: Counted from 1.
        keywords: Names of its keyword arguments.
        has_arguments: Whether it has any at all.
        top: Whether it runs as soon as the file does: in no function or class.
        spoken: The name before the last dot as it stands in the text: ``trainer`` in ``trainer.fit()``.
    """

    dotted: str
    line: int
    keywords: frozenset[str] = frozenset()
    has_arguments: bool = False
    top: bool = False
    spoken: str = ""

    @property
    def name(self) -> str:
        """The last name; ``__call__`` where the result of a call is called."""
        return "__call__" if self.dotted.endswith("()") else self.dotted.rpartition(".")[2]

    @property
    def framework(self) -> str:
        """Whose it is; empty where that isn't known."""
        return framework_of(self.dotted)


@dataclass(slots=True)
class LoopFact:
    """One ``for`` loop that steps an optimizer."""

    line: int
    over_epochs: bool = False
    top: bool = False
    backward: bool = False
    step: bool = False


@dataclass
class CodeFacts:
    """All that one script says.

    Attributes:
        lines: The text.
        modules: Every imported module, dotted → its first line.
        calls: In the order of the text.
        loops: Those with a backward pass or an optimizer step.
        functions: Functions defined at the top → line.
        main_line: Of ``if __name__ == "__main__"``; 0 without.
        mode_line: Where a method is chosen by name: ``getattr(model, mode)(…)``; 0 without.
        relative_import_line: Of the first ``from . import``; 0 without.
        unread: Why the syntax couldn't be read and words had to do; empty where it was.
    """

    lines: list[str]
    modules: dict[str, int] = field(default_factory=dict)
    calls: list[CallFact] = field(default_factory=list)
    loops: list[LoopFact] = field(default_factory=list)
    main_line: int = 0
    mode_line: int = 0
    relative_import_line: int = 0
    unread: str = ""

    @property
    def frameworks(self) -> dict[str, int]:
        """The frameworks that it imports → the line of the first import."""
        found: dict[str, int] = {}
        for module, line in self.modules.items():
            if framework := framework_of(module):
                found[framework] = min(line, found.get(framework, line))
        return found

    def text_of(self, line: int) -> str:
        """A line as a reason quotes it."""
        text = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
        return text if len(text) <= 90 else f"{text[:89]}…"


@dataclass
class Names:
    """Names of one file and what they stand for.

    Attributes:
        imported: Name → dotted name that it was imported as.
        bound: Name (``model``, ``self.model``) → what was called to make it, unresolved.
        bases: Class of this file → its first base, unresolved.
    """

    imported: dict[str, str] = field(default_factory=dict)
    bound: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)

    def resolve(self, dotted: str) -> str:
        """A dotted name with its first name replaced by what it stands for, as far as that goes."""
        seen: set[str] = set()
        for _ in range(_MOST_STEPS):
            replaced = self._step(dotted, seen)
            if replaced is None:
                break
            dotted = replaced
        return dotted

    def _step(self, dotted: str, seen: set[str]) -> str | None:
        head, dot, rest = dotted.partition(".")
        called = head.endswith("()")
        bare = head.removesuffix("()")
        if bare == "self" and not called:
            attribute, more, further = rest.partition(".")
            head, bare, dot, rest = f"self.{attribute}", f"self.{attribute}", more, further
        if bare in seen:
            return None
        known = self.imported.get(bare) or self.bases.get(bare)
        if known is None and bare in self.bound and not called:
            known = f"{self.bound[bare]}()"
        elif known is not None and called:
            known = f"{known}()"
        if known is None:
            return None
        seen.add(bare)
        return f"{known}{dot}{rest}"


def first_import(modules: Mapping[str, int], words: frozenset[str]) -> int:
    """The first line on which one of these packages is imported; 0 where none is."""
    return min((line for module, line in modules.items() if module.partition(".")[0] in words), default=0)
