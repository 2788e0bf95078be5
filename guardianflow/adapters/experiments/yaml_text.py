"""YAML text as a tree that knows the line of each value, read under caps and never built into objects.

ruamel.yaml splits the text into events; the tree is made here, so that every cap is checked before there is
anything to hold. Values are typed by YAML 1.2's core schema: ``1e-3`` is a number, ``yes`` and dates are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from guardianflow.text.printable import printable

__all__ = ["MAX_ALIASES", "MAX_DEPTH", "MAX_NODES", "Node", "Pair", "YamlProblem", "plain", "read_tree", "typed"]

MAX_DEPTH = 20
MAX_NODES = 200_000
"""Values in the file, those that aliases repeat counted each time."""
MAX_ALIASES = 1_000
_MAX_DIGITS = 400
_STANDARD = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)\Z")


class YamlProblem(Exception):  # noqa: N818 - the text of an error, before the file's name is put to it
    """What is wrong with a text, as ``line 3: …; what to do``."""


@dataclass(eq=False)
class Node:
    """A value and where it begins; ``column`` counts from 0."""

    kind: str  # "scalar", "list" or "mapping"
    line: int
    column: int
    flow: bool = False
    text: str = ""
    value: Any = None
    items: list[Node] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    size: int = 1


@dataclass(eq=False)
class Pair:
    """A key and what stands behind it."""

    key: Node
    value: Node


def read_tree(text: str) -> Node:
    """The tree of a YAML text; an empty text is an empty value.

    Raises:
        YamlProblem: No YAML, more than one document, a broken cap, a key given twice, or a tag.
    """
    try:
        return _Builder(text).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise YamlProblem(f"{where}this is not valid YAML ({printable(problem)}); correct that line") from None
    except (YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # ruamel's scanner lets some of its own slips through, for example for `%YAML x`.
        problem = " ".join(str(error).split())
        raise YamlProblem(f"this is not valid YAML ({printable(problem)}); correct it") from None


def plain(node: Node, made: dict[int, Any] | None = None) -> Any:
    """The tree as dicts, lists and values; what an alias repeats is one object. ``<<`` stays a key."""
    made = {} if made is None else made
    if node.kind == "scalar":
        return node.value
    if id(node) in made:
        return made[id(node)]
    if node.kind == "list":
        items: list[Any] = []
        made[id(node)] = items
        items.extend(plain(item, made) for item in node.items)
        return items
    mapping: dict[str, Any] = {}
    made[id(node)] = mapping
    mapping.update({pair.key.text: plain(pair.value, made) for pair in node.pairs})
    return mapping


def typed(text: str) -> Any:
    """A plain word as YAML 1.2's core schema types it."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if len(text) <= _MAX_DIGITS:  # turning very long numbers into values takes minutes
        if _INT.match(text):
            return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
        if _FLOAT.match(text):
            return float(text)
    if _INFINITY.match(text):
        return float("-inf") if text[0] == "-" else float("inf")
    return float("nan") if _NAN.match(text) else text


class _Builder:
    """Events to a tree, with its own stack: a deep file meets the cap, not the recursion limit."""

    def __init__(self, text: str) -> None:
        self._anchors: dict[str, Node] = {}
        self._closed: set[int] = set()
        self._aliases = 0
        self._depth = 0
        self._nodes = 0
        self._events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml_events.DocumentStartEvent):
                if root is not None:
                    raise YamlProblem(f"{_line(event)}: a second document begins (`---`); keep one in the file")
                if event.version is not None and tuple(event.version) < (1, 2):
                    raise YamlProblem(f"{_line(event)}: YAML 1.1 is asked for; take the %YAML line out")
            elif isinstance(event, yaml_events.NodeEvent):
                root = self._node(event)
        return root if root is not None else Node("scalar", 1, 0)

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml_events.AliasEvent):
            return self._aliased(event)
        self._count(1, event)
        node = Node("scalar", event.start_mark.line + 1, event.start_mark.column)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if isinstance(event, yaml_events.ScalarEvent):
            node.text, node.value = event.value, _scalar_value(event)
        else:
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise YamlProblem(f"{_line(event)}: nested deeper than {MAX_DEPTH} levels; write it flatter")
            node.flow = bool(event.flow_style)
            is_list = isinstance(event, yaml_events.SequenceStartEvent)
            _require_tag(event, "seq" if is_list else "map")
            (self._list if is_list else self._mapping)(node)
            self._depth -= 1
        self._closed.add(id(node))
        return node

    def _aliased(self, event: Any) -> Node:
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise YamlProblem(f"{_line(event)}: more than {MAX_ALIASES} aliases (`*name`); write the values out")
        node = self._anchors.get(event.anchor)
        if node is None:
            raise YamlProblem(
                f"{_line(event)}: `*{printable(event.anchor)}` has no `&{printable(event.anchor)}` before it; "
                f"write the value out"
            )
        if id(node) not in self._closed:
            raise YamlProblem(f"{_line(event)}: `*{printable(event.anchor)}` holds itself; write the value out")
        self._count(node.size, event)
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise YamlProblem(
                f"{_line(event)}: more than {MAX_NODES:,} values, those that aliases repeat counted; use fewer"
            )

    def _list(self, node: Node) -> None:
        node.kind = "list"
        for event in self._events:
            if isinstance(event, yaml_events.SequenceEndEvent):
                return
            item = self._node(event)
            node.items.append(item)
            node.size += item.size

    def _mapping(self, node: Node) -> None:
        node.kind = "mapping"
        seen: dict[str, int] = {}
        for event in self._events:
            if isinstance(event, yaml_events.MappingEndEvent):
                return
            key = self._key(event, seen)
            value = self._node(next(self._events))
            node.size += 1 + value.size
            node.pairs.append(Pair(key, value))

    def _key(self, event: Any, seen: dict[str, int]) -> Node:
        if not isinstance(event, yaml_events.ScalarEvent):
            raise YamlProblem(f"{_line(event)}: a key must be a plain word, not an alias, a list or a mapping")
        key = self._node(event)
        if key.text in seen:
            raise YamlProblem(
                f"line {key.line}: the key {printable(repr(key.text))} is given twice, "
                f"first in line {seen[key.text]}; keep one of them"
            )
        seen[key.text] = key.line
        return key


def _scalar_value(event: Any) -> Any:
    tag = str(event.tag) if event.tag is not None else None
    if tag is None:
        return typed(event.value) if event.implicit[0] else event.value
    if tag in {"!", f"{_STANDARD}str"}:
        return event.value
    value = typed(event.value)
    kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value))
    if kind == "int" and tag == f"{_STANDARD}float":
        return float(value)
    if kind is None or tag != _STANDARD + kind:
        _refuse_tag(event, tag)
    return value


def _require_tag(event: Any, kind: str) -> None:
    if event.tag is not None and str(event.tag) not in {"!", _STANDARD + kind}:
        _refuse_tag(event, str(event.tag))


def _refuse_tag(event: Any, tag: str) -> None:
    shown = tag.replace(_STANDARD, "!!")
    raise YamlProblem(
        f"{_line(event)}: the tag {printable(shown)} is not followed, for no objects are built; remove it"
    )


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"
