"""YAML from outside, read under caps on bytes, nodes, depth and aliases.

The caps are applied while PyYAML turns its event stream into nodes, before any object is built.
The pure-Python reader is used on purpose: libyaml's composer recurses in C and takes the process
down on a deep file, where this one is stopped at the cap.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from guardianflow.exceptions import DatasetError
from guardianflow.text.printable import printable

__all__ = ["MAX_ALIASES", "MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "load_yaml_mapping", "yaml_leaves", "yaml_nodes"]

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 32
MAX_ALIASES = 8
_MAX_ALIASES_OF_NODES = 1_000  # they are followed one by one, up to MAX_NODES values, and never multiplied
_MAX_NODES_UNBUILT = 200_000
_MAX_TYPED_SCALAR = 100
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


def load_yaml_mapping(
    path: Path, *, what: str = "data.yaml", lines: dict[tuple[str, ...], int] | None = None
) -> dict[Any, Any]:
    """Read a YAML file whose top level is a mapping.

    Args:
        path: A regular file of at most :data:`MAX_BYTES` bytes, UTF-8 with or without a byte-order mark.
        what: What the file is called in error messages.
        lines: Filled with the line of each key, such as ``{("model", "imgsz"): 7}``.

    Raises:
        DatasetError: It is no such file, breaks a cap, repeats a key, or is no YAML mapping.
    """
    text = _read_text(path, what)
    with _loading(path, what, text) as loader:
        try:
            node = loader.get_single_node()
            data = None if node is None else loader.construct_document(node)
            if lines is not None:
                lines.update(_lines_of(node))
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # PyYAML's own constructors let these through, for example for the date 2024-99-99 or an empty `!!int`.
            raise DatasetError(
                f"{what} {printable(path)} holds a value that YAML can't build: {printable(error)}; put it in quotes"
            ) from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        example = " such as `train: images/train`" if what == "data.yaml" else ""
        raise DatasetError(f"{what} {printable(path)} must hold `key: value` lines{example}, it holds {found}")
    return data


def yaml_leaves(path: Path, *, what: str) -> tuple[list[tuple[str, Any]], list[str]]:
    """The leaves of a YAML mapping under dotted names, read with tolerance for what people write.

    Anchors and merge keys (``<<``) are followed, a value under a tag of somebody's own is its text, the later of two
    equal keys counts, and a value that YAML can't build costs itself alone.

    Args:
        path: A regular file of at most :data:`MAX_BYTES` bytes.
        what: What the file is called in error messages.

    Returns:
        Name and value of each, lists as lists; and a sentence for each value that was left out.

    Raises:
        DatasetError: It is no such file, breaks a cap, or is no YAML mapping.
    """
    node = yaml_nodes(_read_text(path, what), path, what=what)
    if not isinstance(node, yaml.MappingNode):
        raise DatasetError(f"{what} {printable(path)} must hold `key: value` lines")
    reading = _Leaves()
    try:
        found: dict[str, Any] = dict(reading.of(node, ""))
    except _CapError as error:
        raise DatasetError(f"{what} {printable(path)} {error}") from None
    except RecursionError:
        raise DatasetError(f"{what} {printable(path)} holds an alias that holds itself; write it out") from None
    return list(found.items()), [f"{what} {printable(path)}: {text}" for text in reading.remarks]


def yaml_nodes(text: str, path: Path, *, what: str) -> yaml.Node | None:
    """A YAML text as nodes, which know their lines; nothing is built of them, and anchors are followed.

    Args:
        text: The whole of it.
        path: Where it stands, for messages.
        what: What the file is called in them.

    Returns:
        The top of it; ``None`` for a text that says nothing.

    Raises:
        DatasetError: It breaks a cap, or is no YAML.
    """
    with _loading(path, what, text, aliases=_MAX_ALIASES_OF_NODES, nodes=_MAX_NODES_UNBUILT) as loader:
        return loader.get_single_node()


@contextlib.contextmanager
def _loading(path: Path, what: str, text: str, **caps: int) -> Iterator[_CappedLoader]:
    """A loader of a text; what it finds wrong is told as a fault of the file."""
    loader = None
    try:
        loader = _CappedLoader(text, **caps)
        yield loader
    except _CapError as error:
        raise DatasetError(f"{what} {printable(path)} {error}") from None
    except yaml.YAMLError as error:
        raise DatasetError(
            f"{what} {printable(path)} is not valid YAML: {_one_line(error)}; correct that line"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


class _Leaves:
    """Values of nodes, one by one."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._loader = _CappedLoader("")
        self._left = MAX_NODES

    def of(self, node: yaml.MappingNode, prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
        for name, value in self._pairs(node, depth):
            place = f"{prefix}{name}"
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from self.of(value, f"{place}.", depth + 1)
            elif not isinstance(value, yaml.MappingNode):
                try:
                    yield place, self._value(value, depth)
                except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, yaml.YAMLError):
                    line = value.start_mark.line + 1
                    self.remarks.append(
                        f"the value of {printable(place)} in line {line} can't be built and is left out"
                    )

    def _pairs(self, node: yaml.MappingNode, depth: int) -> Iterator[tuple[str, yaml.Node]]:
        """Keys and values; those that a merge key brings come first, so that own ones replace them."""
        self._count(depth)
        own: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag != _MERGE:
                own[str(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"] = value
                continue
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for one in reversed([each for each in merged if isinstance(each, yaml.MappingNode)]):
                yield from ((name, item) for name, item in self._pairs(one, depth + 1) if name not in own)
        yield from own.items()

    def _value(self, node: yaml.Node, depth: int) -> Any:
        self._count(depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return {name: self._value(item, depth + 1) for name, item in self._pairs(node, depth)}
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            return node.value
        return self._loader.construct_object(node)

    def _count(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise _CapError(f"unfolds into more than {MAX_NODES} values, or deeper than {MAX_DEPTH} levels")


def _lines_of(node: yaml.Node | None, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    pairs: list[tuple[str, yaml.Node, int]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(key.value), value, key.start_mark.line) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(str(place), value, value.start_mark.line) for place, value in enumerate(node.value)]
    for name, value, line in pairs:
        yield (*above, name), line + 1
        yield from _lines_of(value, (*above, name))


def _read_text(path: Path, what: str) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would block, a device never ends
            raise DatasetError(f"{what} {printable(path)} is no regular file; pass the path of the {what} itself")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DatasetError(
            f"{what} {printable(path)} can't be read ({error.strerror or error}); check the path and its rights"
        ) from error
    if len(content) > MAX_BYTES:
        raise DatasetError(
            f"{what} {printable(path)} is larger than {MAX_BYTES // 1024} KiB; keep image lists in .txt files beside it"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{what} {printable(path)} is not UTF-8 (byte {error.start}); save it again as UTF-8"
        ) from None


class _CapError(Exception):
    """A cap was broken; the text follows the file's name."""

    def __init__(self, broken: str, advice: str = "write it out plainly, in as few values as it needs") -> None:
        super().__init__(f"{broken}; {advice}")


class _CappedLoader(yaml.SafeLoader):
    """PyYAML's safe, pure-Python loader with caps, unique keys and no merge keys."""

    def __init__(self, stream: str, *, aliases: int = MAX_ALIASES, nodes: int = MAX_NODES) -> None:
        super().__init__(stream)
        self._most_aliases = aliases
        self._most_nodes = nodes
        self._depth = 0
        self._nodes = 0
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node of the tree; the only place that recurses, so the place that counts."""
        self._nodes += 1
        if self._nodes > self._most_nodes:
            raise _CapError(f"has more than {self._most_nodes} values")
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > self._most_aliases:
                raise _CapError(f"uses more than {self._most_aliases} aliases (`*name`)")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _CapError(f"is nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """A single value; numbers and dates have few digits, and huge ones take minutes to build."""
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        if node.tag != _TEXT and len(node.value) > _MAX_TYPED_SCALAR:
            raise _CapError(f"holds a number of {len(node.value)} characters", "put it in quotes, or shorten it")
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are plain values, each given once."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                raise _CapError(f"uses a merge key (`<<`) in line {line}", "write its keys out")
            if not isinstance(key_node, yaml.ScalarNode):
                raise _CapError(f"uses a list or mapping as a key in line {line}", "use plain words as keys")
            key = self.construct_object(key_node)
            if key in seen:
                raise _CapError(
                    f"gives the key {printable(repr(key))} twice, the second time in line {line}", "keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = f" in line {mark.line + 1}" if mark is not None else ""
    return printable(" ".join(str(problem).split())) + where
