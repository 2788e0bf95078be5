"""An experiments.yaml as values: each of the kind that its key asks for, or an error that says in which line it isn't.

Words are kept as they were written: ``args: [1e-3, yes]`` hands over these very letters. Typed are defaults alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from guardianflow.adapters.experiments.entries import ArgumentSpec, ExperimentEntry
from guardianflow.exceptions import InputError, SchemaTooNewError
from guardianflow.files.yaml_safety import yaml_nodes
from guardianflow.text.names import validate_name
from guardianflow.text.nearest_names import nearest
from guardianflow.text.printable import printable

__all__ = ["Content", "Pair", "read_content"]

Pair = tuple[yaml.Node, yaml.Node]
"""A key and what stands behind it."""

_VERSION = 1
_TOP_KEYS = ("schema_version", "experiments", "ignore")
_ARGUMENT_KEYS = ("type", "default", "required", "help")
_MERGE, _NULL = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"
_FLAGS = {"true": True, "false": False}
_MOST_KEYS = 200_000
"""Keys in the file, those that merge keys repeat counted each time."""


@dataclass(frozen=True)
class Content:
    """What a file says.

    Attributes:
        entries: By name, in the file's order.
        ignore: Patterns of scripts that stay out.
        remarks: Unknown keys and the like.
        top: The keys at the top with what stands behind them.
    """

    entries: Mapping[str, ExperimentEntry] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    top: Mapping[str, Pair] = field(default_factory=dict, compare=False)


def read_content(text: str, path: Path) -> Content:
    """Read a file's text; the path is its name for messages.

    Raises:
        InputError: It is no YAML, breaks a cap, is another kind of file, or holds a value of a wrong kind.
        SchemaTooNewError: A newer GuardianFlow wrote it.
    """
    reader = _Reader(path)
    try:
        top = reader.pairs(yaml_nodes(text, path, what="experiments.yaml"), "experiments.yaml", _TOP_KEYS)
        if top and not top.keys() & set(_TOP_KEYS):
            key, (node, _) = next(iter(top.items()))
            raise InputError(
                f"{reader.place(node)}: `{printable(key)}` stands there and no `experiments:`, so this is no "
                "experiments.yaml, and nothing is added to it; name another file"
            )
        reader.require_version(top)
        entries: dict[str, ExperimentEntry] = {}
        for key, pair in reader.pairs(top["experiments"][1], "experiments").items() if "experiments" in top else ():
            entry = reader.entry(key, pair)
            if entry.name in entries:
                raise InputError(
                    f"{reader.place(pair[0])}: the experiment {entry.name!r} is there twice, first in line "
                    f"{entries[entry.name].line}; rename one of them"
                )
            entries[entry.name] = entry
        ignore = reader.words(top["ignore"][1], "ignore") if "ignore" in top else ()
    except RecursionError:
        raise InputError(f"{printable(path)}: a merge key (`<<`) leads back to itself; write its keys out") from None
    return Content(entries, ignore, tuple(reader.remarks), top)


class _Reader:
    """Reads values of one file.

    Args:
        path: The file, as messages call it.

    Attributes:
        remarks: Unknown keys: kept, and worth a word.
    """

    def __init__(self, path: Path) -> None:
        self.remarks: list[str] = []
        self._path = path
        self._keys_left = _MOST_KEYS

    def place(self, node: yaml.Node) -> str:
        """Where something stands."""
        return f"{printable(self._path)}, line {node.start_mark.line + 1}"

    def fail(self, node: yaml.Node, place: str, expected: str) -> NoReturn:
        """Raise what is wrong at a place.

        Raises:
            InputError: Always.
        """
        kinds: dict[type[yaml.Node], str] = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
        word = node.tag if node.tag.startswith("!") else repr(node.value)
        held = kinds.get(type(node)) or printable(word, longest=60)
        raise InputError(
            f"{self.place(node)}: `{printable(place)}` must be {expected}, it is {held}; correct that line"
        )

    def pairs(self, node: yaml.Node | None, place: str, known: Collection[str] = ()) -> dict[str, Pair]:
        """A mapping's keys and values, those that merge keys hand on behind them; nothing is an empty one.

        Args:
            node: The mapping.
            place: Its key, for messages.
            known: Remark on all others, where there are any.
        """
        if node is None or node.tag == _NULL:
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, place, "a mapping (`key: value` lines)")
        self._keys_left -= len(node.value)
        if self._keys_left < 0:
            raise InputError(f"{self.place(node)}: more than {_MOST_KEYS:,} keys, with merged ones; use fewer")
        own: dict[str, Pair] = {}
        merged: dict[str, Pair] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, f"a key of {place}", "a plain word")
            if key.tag == _MERGE:
                for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                    merged.update(self.pairs(source, f"{place}.<<"))  # the first one named wins
            elif key.value in own:
                first = own[key.value][0].start_mark.line + 1
                twice = f"the key {printable(repr(key.value))} is given twice, first in line {first}; keep one of them"
                raise InputError(f"{self.place(key)}: {twice}")
            else:
                own[key.value] = (key, value)
                if known and key.value not in known:
                    said = f"`{printable(key.value)}` in `{printable(place)}` is kept and not used"
                    self.remarks.append(f"{self.place(key)}: {said}; {nearest(key.value, known)}")
        return merged | own

    def require_version(self, top: Mapping[str, Pair]) -> None:
        """Make sure that this GuardianFlow knows the file's form."""
        if "schema_version" not in top:
            return
        node = top["schema_version"][1]
        version = _typed(node) if isinstance(node, yaml.ScalarNode) else None
        if type(version) is not int or version < 1:
            self.fail(node, "schema_version", str(_VERSION))
        if version > _VERSION:
            raise SchemaTooNewError(
                f"{self.place(node)}: schema_version {version} was written by a newer GuardianFlow; this one reads up "
                f"to {_VERSION}. Upgrade GuardianFlow."
            )

    def entry(self, name: str, pair: Pair) -> ExperimentEntry:
        """One entry of ``experiments:``."""
        key, node = pair
        place = f"experiments.{name}"
        readers: dict[str, Callable[[yaml.Node, str], Any]] = {
            **dict.fromkeys(("script", "working_dir", "framework"), self.text),
            **dict.fromkeys(("args", "data", "outputs", "tags"), self.words),
            "module": self.flag,
            "arguments": self.arguments,
        }
        try:
            legal = validate_name(name, "experiment name")
        except InputError as error:
            raise type(error)(f"{self.place(key)}: {error}") from None
        values = {
            name: readers[name](value, f"{place}.{name}")
            for name, (_, value) in self.pairs(node, place, readers).items()
            if name in readers and value.tag != _NULL
        }
        if "script" not in values:
            raise InputError(f"{self.place(key)}: `{printable(place)}.script` is missing; write `script: …` there")
        return ExperimentEntry(name=legal, line=key.start_mark.line + 1, **values)

    def text(self, node: yaml.Node, place: str) -> str:
        """One value as it was written."""
        if not isinstance(node, yaml.ScalarNode) or node.tag.startswith("!"):
            self.fail(node, place, "text")
        return str(node.value)

    def flag(self, node: yaml.Node, place: str) -> bool:
        """True or false."""
        said = _FLAGS.get(str(node.value).lower())
        if said is None:
            self.fail(node, place, "`true` or `false`")
        return said

    def words(self, node: yaml.Node, place: str) -> tuple[str, ...]:
        """Words as they were written; one value is a list of one."""
        if node.tag == _NULL:
            return ()
        if isinstance(node, yaml.MappingNode):
            self.fail(node, place, "a list of words")
        return tuple(self.text(item, place) for item in _items(node))

    def arguments(self, node: yaml.Node, place: str) -> dict[str, ArgumentSpec]:
        """What a script takes; ``epochs: 30`` is short for a type and a default."""
        found = {}
        for name, (_, value) in self.pairs(node, place).items():
            here = f"{place}.{name}"
            short = not isinstance(value, yaml.MappingNode)
            said = {"default": value} if short else {key: v for key, (_, v) in self.pairs(value, here).items()}
            default = self._default(said["default"], f"{here}.default") if "default" in said else None
            found[name] = ArgumentSpec(
                self.text(said["type"], f"{here}.type") if "type" in said else _kind_of(default),
                default,
                required="required" in said and self.flag(said["required"], f"{here}.required"),
                help=self.text(said["help"], f"{here}.help") if "help" in said else "",
            )
        return found

    def _default(self, node: yaml.Node, place: str) -> Any:
        values = [_typed(item) for item in _items(node) if isinstance(item, yaml.ScalarNode)]
        if isinstance(node, yaml.MappingNode) or len(values) < len(_items(node)):
            self.fail(node, place, "a value, or a list of values")
        return values if isinstance(node, yaml.SequenceNode) else values[0]


def _items(node: yaml.Node) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _typed(node: yaml.ScalarNode) -> Any:
    """A plain word as YAML 1.2 types it: ``1e-3`` is a number, ``yes`` and dates are text."""
    text = str(node.value)
    if node.style is not None:  # in quotes
        return text
    if node.tag == _NULL:
        return None
    for kind in (int, float) if text[-1:].isdecimal() else ():
        try:
            return kind(text)
        except ValueError:
            continue
    return _FLAGS.get(text.lower(), text)


def _kind_of(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return type(first).__name__ if isinstance(first, (bool, int, float)) else "str"
