"""Values taken out of an experiments.yaml, each of the kind that its key asks for, or an error that says where."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from guardianflow.adapters.experiments.yaml_text import Node, Pair, plain
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["MERGE", "FieldReader"]

MERGE = "<<"


class FieldReader:
    """Reads values of one file.

    Args:
        path: The file, as messages call it.

    Attributes:
        remarks: Unknown keys and the like: kept, and worth a word.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []

    def fail(self, node: Node, place: str, expected: str) -> NoReturn:
        """Raise what is wrong at a place.

        Raises:
            InputError: Always.
        """
        held = {"list": "a list", "mapping": "a mapping"}.get(node.kind) or _shown(node)
        raise InputError(
            f"{printable(self.path)}, line {node.line}: `{printable(place)}` must be {expected}, it is {held}; "
            f"correct that line"
        )

    def checked(self, node: Node, check: Callable[[], str]) -> str:
        """What ``check`` returns; its error with the file and line before it."""
        try:
            return check()
        except InputError as error:
            raise type(error)(f"{printable(self.path)}, line {node.line}: {error}") from None

    def mapping(self, node: Node | None, place: str, *, known: Sequence[str] | None) -> dict[str, Node]:
        """A mapping's values by key; unknown keys are remarked on. Nothing is an empty one."""
        if node is None or _is_null(node):
            return {}
        if node.kind != "mapping":
            self.fail(node, place, "a mapping (`key: value` lines)")
        own = {pair.key.text: pair.value for pair in node.pairs if pair.key.text != MERGE}
        merged: dict[str, Node] = {}
        for pair in node.pairs:
            if pair.key.text == MERGE:
                merged.update(self._merged(pair, place))
            elif known is not None and pair.key.text not in known:
                self._remark(pair.key, place, known)
        return {**merged, **own}

    def _merged(self, pair: Pair, place: str) -> dict[str, Node]:
        sources = pair.value.items if pair.value.kind == "list" else [pair.value]
        merged: dict[str, Node] = {}
        for source in reversed(sources):  # the first one named wins
            if source.kind != "mapping":
                self.fail(source, f"{place}.<<", "a mapping, or a list of these")
            merged.update(self.mapping(source, place, known=None))
        return merged

    def _remark(self, key: Node, place: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(key.text, known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        where = f"`{printable(key.text)}` in `{printable(place)}`" if place else f"`{printable(key.text)}`"
        self.remarks.append(f"{printable(self.path)}, line {key.line}: {where} is kept and not used{hint}")

    def text(self, node: Node | None, place: str, *, default: str | None = "", owner: Node | None = None) -> str:
        """One value as it was written; ``default=None`` asks for one.

        Args:
            node: The value, or nothing.
            place: Its key, for messages.
            default: What nothing means.
            owner: The mapping that should have it, for the message's line.
        """
        if node is None or _is_null(node):
            if default is not None:
                return default
            near = node or owner
            where = f"{printable(self.path)}, line {near.line}" if near else printable(self.path)
            raise InputError(f"{where}: `{printable(place)}` is missing; write `{place.rpartition('.')[2]}: …` there")
        if node.kind != "scalar":
            self.fail(node, place, "text")
        return node.text

    def flag(self, node: Node | None, place: str) -> bool:
        """True or false; nothing is false."""
        if node is None or _is_null(node):
            return False
        if not isinstance(node.value, bool):
            self.fail(node, place, "`true` or `false`")
        return node.value

    def words(self, node: Node | None, place: str) -> tuple[str, ...]:
        """Words as they were written: ``1e-3`` stays ``1e-3``. One value is a list of one."""
        if node is None or _is_null(node):
            return ()
        items = node.items if node.kind == "list" else [node]
        for item in items:
            if item.kind != "scalar":
                self.fail(item, place, "a list of words")
        return tuple(item.text for item in items)

    def plain(self, node: Node, place: str) -> Any:
        """A value, or a list of values."""
        if node.kind == "mapping" or any(item.kind != "scalar" for item in node.items):
            self.fail(node, place, "a value, or a list of values")
        return plain(node)


def _is_null(node: Node) -> bool:
    return node.kind == "scalar" and node.value is None


def _shown(node: Node) -> str:
    return "empty" if _is_null(node) else printable(repr(node.value), longest=60)
