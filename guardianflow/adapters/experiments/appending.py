"""New entries put behind those of an experiments.yaml; all that stood in it stays as it was, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from guardianflow.adapters.experiments.entries import ExperimentEntry
from guardianflow.adapters.experiments.reading import Content, read_content
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["appended", "flow"]

_HEADER = (
    "# What can be run here. `guardianflow scan` adds to this file and never changes what stands in it.\n"
    "# Scripts listed under `ignore:` stay out.\n"
)
_PLAIN = re.compile(r"\.|[^\W\d_][\w./+-]*")
_TYPED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""What YAML 1.1 or 1.2 takes for true, false or nothing."""


def appended(text: str, path: Path, entries: Iterable[ExperimentEntry]) -> str:
    """The text with new entries behind its last one.

    Args:
        text: The file; empty where there is none yet.
        path: Its name for messages.
        entries: The new ones.

    Raises:
        InputError: They can't be put into this form of the file.
    """
    text = text or _HEADER
    content, new = read_content(text, path), {entry.name: entry.written() for entry in entries}
    eol = "\r\n" if "\r\n" in text else "\n"
    places, block = _places(text, content, new)
    for place in places:
        before, after = text[:place], text[place:]
        ended = not before or before.endswith("\n")  # else the new last line has no end either
        made = before + ("" if ended else eol) + eol.join(block) + (eol if ended else "") + after
        try:
            now = read_content(made, path)
        except InputError:
            continue
        rest = {name: entry for name, entry in now.entries.items() if name not in new}
        if rest == content.entries and now.ignore == content.ignore and len(now.entries) == len(rest) + len(new):
            return made
    raise InputError(
        f"{printable(path)}: an entry can't be added to this form of the file; write `experiments:` as plain indented "
        "lines, and end the last line of the file; the file is as it was"
    )


def _places(text: str, content: Content, new: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """Before which letters the new lines may stand, the likeliest first; and these lines."""
    if "experiments" not in content.top:
        head = [] if content.top else ["schema_version: 1"]
        return [len(text)], [*head, "experiments:", *_block(new, 2, 2)]
    key, section = content.top["experiments"]
    following = [other.start_mark for other, _ in content.top.values() if other.start_mark.index > key.start_mark.index]
    end = _line_start(text, min(mark.index for mark in following)) if following else len(text)
    pairs = section.value if isinstance(section, yaml.MappingNode) else []
    if not pairs:
        return [_line_end(text, key.start_mark.index)], _block(new, key.start_mark.column + 2, 2)
    indent = pairs[0][0].start_mark.column
    inner = next((value for _, value in pairs if value.value and not value.flow_style), None)
    step = inner.value[0][0].start_mark.column - indent if inner is not None else 2
    last = _line_start(text, pairs[-1][0].start_mark.index)
    gap = len(pairs) > 1 and not text[_line_start(text, last - 1) : last].strip()
    return [_behind(text, last, end, indent), end], _block(new, indent, step if step > 0 else 2, gap=gap)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    return text.find("\n", index) + 1 or len(text)


def _behind(text: str, start: int, end: int, indent: int) -> int:
    """Behind the last line that says something, and behind comments indented like an entry or deeper."""
    while end > start:
        begin = _line_start(text, end - 1)
        line = text[begin:end]
        content = line.strip()
        if content and not (content.startswith("#") and len(line) - len(line.lstrip(" \t")) < max(indent, 1)):
            break
        end = begin
    return end


def _block(entries: Mapping[str, Mapping[str, Any]], indent: int, step: int, *, gap: bool = False) -> list[str]:
    """Entries as lines without their ends: the keys of each below it, arguments one a line, the rest in one."""
    made: list[str] = []
    for name, entry in entries.items():
        made += ([""] if gap else []) + [f"{' ' * indent}{flow(name)}:"]
        for key, value in entry.items():
            rest = value.items() if isinstance(value, Mapping) else ()
            made.append(f"{' ' * (indent + step)}{key}:" + ("" if rest else f" {flow(value)}"))
            made += [f"{' ' * (indent + 2 * step)}{flow(part)}: {flow(item)}" for part, item in rest]
    return made


def flow(value: Any) -> str:
    """A value in one line, as YAML 1.1 and 1.2 both read it.

    Args:
        value: Dicts with text keys, lists, text, numbers, booleans, None.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        odd = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
        # YAML 1.1 reads `1e-05` as text: it wants the point.
        return odd.get(text, text if "." in text else text.replace("e", ".0e"))
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.casefold() not in _TYPED:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
