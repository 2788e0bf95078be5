"""New entries put behind those of an experiments.yaml; all that stood in it stays as it was, byte for byte."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from guardianflow.adapters.experiments.yaml_text import Node, YamlProblem, plain, read_tree, typed

__all__ = ["appended", "flow"]

_PLAIN = re.compile(r"[^\W\d_][\w./+-]*\Z")
# What YAML 1.1 takes for true or false.
_OLD_BOOLEANS = {"y", "n", "yes", "no", "on", "off"}
_DOTS = {".", "./"}


def appended(text: str, tree: Node, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The text with new entries behind its last one.

    Args:
        text: The file, without its byte-order mark.
        tree: What :func:`read_tree` made of it.
        entries: Name → what an entry says.

    Raises:
        YamlProblem: They can't be put into this form of the file.
    """
    meaning: Any = plain(tree)
    meant: dict[str, Any] = dict(meaning) if isinstance(meaning, dict) else {"schema_version": 1}
    meant["experiments"] = {**(meant.get("experiments") or {}), **entries}
    eol = "\r\n" if "\r\n" in text else "\n"
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    places, block = _places(lines, tree, entries)
    for place in places:
        new = _inserted(lines, place, block, eol)
        try:
            if _same(plain(read_tree(new)), meant):
                return new
        except YamlProblem:
            continue
    raise YamlProblem(
        "an entry can't be added to this form of the file; write `experiments:` as plain indented lines, "
        "and end the last line of the file"
    )


def _places(lines: list[str], tree: Node, entries: Mapping[str, Mapping[str, Any]]) -> tuple[list[int], list[str]]:
    """Before which lines the new ones may stand, the likeliest first; and these lines."""
    at = next((number for number, pair in enumerate(tree.pairs) if pair.key.text == "experiments"), None)
    if at is None:
        head = [] if tree.kind == "mapping" else ["schema_version: 1"]
        return [len(lines)], [*head, "experiments:", *_block(entries, 2, 2)]
    key, section = tree.pairs[at].key, tree.pairs[at].value
    if not section.pairs:
        return [key.line], _block(entries, key.column + 2, 2)
    first = section.pairs[0]
    indent = first.key.column
    inner = next((pair.value for pair in section.pairs if pair.value.pairs and not pair.value.flow), None)
    step = inner.pairs[0].key.column - indent if inner else 2
    last = section.pairs[-1].key.line
    end = tree.pairs[at + 1].key.line - 1 if at + 1 < len(tree.pairs) else len(lines)
    gap = len(section.pairs) > 1 and not lines[last - 2].strip()
    return [_behind(lines, last, end, indent), end], _block(entries, indent, step if step > 0 else 2, gap=gap)


def _behind(lines: list[str], start: int, end: int, indent: int) -> int:
    """Behind the last line that says something, and behind comments indented like an entry or deeper."""
    while end > start:
        line = lines[end - 1]
        content = line.lstrip(" \t").strip()
        if content and not (content.startswith("#") and len(line) - len(line.lstrip(" \t")) < max(indent, 1)):
            break
        end -= 1
    return end


def _inserted(lines: list[str], place: int, block: list[str], eol: str) -> str:
    before, made, after = "".join(lines[:place]), eol.join(block), "".join(lines[place:])
    if before and not before.endswith("\n"):
        return before + eol + made  # a last line without an end: the new one has none either
    return f"{before}{made}{eol}{after}"


def _block(entries: Mapping[str, Mapping[str, Any]], indent: int, step: int, *, gap: bool = False) -> list[str]:
    made: list[str] = []
    for name, entry in entries.items():
        made += ([""] if gap else []) + _block_lines(name, entry, indent=indent, step=step)
    return made


def _same(one: Any, other: Any) -> bool:
    """Equal in kind, order and value: ``1`` is not ``true``, and ``.nan`` is itself."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def flow(value: Any) -> str:
    """A value in one line.

    Args:
        value: Dicts with text keys, lists, text, numbers, booleans, None.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    return str(value) if isinstance(value, int) else _text(str(value))


def _block_lines(key: str, value: Mapping[str, Any], *, indent: int, step: int) -> list[str]:
    """An entry as lines without their ends: its keys below it, mappings of mappings one key a line.

    Args:
        key: The entry's name.
        value: Its keys and values.
        indent: Blanks before the name.
        step: Blanks more for each level.
    """
    lines = [f"{' ' * indent}{flow(key)}:"]
    for name, item in value.items():
        nested = isinstance(item, Mapping) and bool(item) and all(isinstance(part, Mapping) for part in item.values())
        if nested:
            lines.append(f"{' ' * (indent + step)}{flow(name)}:")
            lines += [f"{' ' * (indent + 2 * step)}{flow(str(part))}: {flow(item[part])}" for part in item]
        else:
            lines.append(f"{' ' * (indent + step)}{flow(name)}: {flow(item)}")
    return lines


def _number(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    mantissa, mark, exponent = text.partition("e")
    # YAML 1.1 reads `1e-05` as text: it wants the point and the sign.
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}{mark}{exponent}" if mark else text


def _text(text: str) -> str:
    if text in _DOTS or (_PLAIN.match(text) and text.casefold() not in _OLD_BOOLEANS and isinstance(typed(text), str)):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
