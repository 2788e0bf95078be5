"""Changes to an experiments.yaml, made in its text: what isn't changed stays as it was, byte for byte.

A YAML library that writes a file back moves comments, folds lines and changes quotes. Here single lines are
put in, replaced or taken out, at the places that the tree gives. Each change is made to plain values too, and
:meth:`TextEdits.result` reads the new text again: it must mean exactly that, or nothing is changed.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from guardianflow.adapters.experiments.yaml_text import Node, Pair, YamlProblem, plain, read_tree, typed

__all__ = ["TextEdits", "flow"]

_COMMENT = re.compile(r"(?:(?<=\s)|(?<=^))#[^\r\n]*")
_EXPERIMENTS = "experiments"
_PLAIN = re.compile(r"[^\W\d_][\w./+-]*\Z")
# What YAML 1.1 takes for true or false.
_OLD_BOOLEANS = {"y", "n", "yes", "no", "on", "off"}
_DOTS = {".", "./"}


class TextEdits:
    """Changes to one text, gathered and then made at once.

    Args:
        text: The file, without its byte-order mark.
        tree: What :func:`read_tree` made of it.
    """

    def __init__(self, text: str, tree: Node) -> None:
        self._text = text
        self._tree = tree
        self._meaning: Any = plain(tree)
        self._splices: list[tuple[int, int, str]] = []
        first_end = re.search(r"\r\n|\n", text)
        self._eol = first_end[0] if first_end else "\n"
        top = None if tree.kind != "mapping" else _pair(tree, _EXPERIMENTS)
        self._entries = top.value if top else None

    def put(self, entry: Pair, key: str, value: Any) -> None:
        """Give a key of an entry a value: the key's own lines change, or a new line follows the entry's last."""
        mapping = entry.value
        self._meaning_of(entry)[key] = copy.deepcopy(value)
        pair = _pair(mapping, key)
        if pair is None:
            self._insert(mapping, key, value)
        else:
            self._replace(pair, value, flow_only=mapping.flow)

    def drop(self, entry: Pair, key: str) -> None:
        """Take a key and its line out of an entry; where it shares its line with others, it becomes false."""
        pair = _pair(entry.value, key)
        if pair is None:
            return
        begin, end = self._line_start(pair.start), self._line_end(pair.end)
        comment = _COMMENT.search(self._text[pair.end : end])
        shared = self._text[begin : pair.start].strip() or (not comment and self._text[pair.end : end].strip())
        if entry.value.flow or shared or len(entry.value.pairs) == 1:
            self.put(entry, key, False)
            return
        del self._meaning_of(entry)[key]
        if comment:
            self._splices.append((pair.start, pair.end + comment.start(), ""))
        else:
            self._splices.append((begin, self._next_line(end), ""))

    def append(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Put entries behind the last one; ``experiments:`` is made where it is missing."""
        if not entries:
            return
        values = {name: dict(entry) for name, entry in entries.items()}
        if not isinstance(self._meaning, dict):
            self._meaning = {}
        if not isinstance(self._meaning.get(_EXPERIMENTS), dict):
            self._meaning[_EXPERIMENTS] = {}
        self._meaning[_EXPERIMENTS].update(copy.deepcopy(values))
        if self._tree.kind != "mapping":
            self._at_end(f"schema_version: 1{self._eol}experiments:{self._eol}" + self._block(values, 2, 2))
            self._meaning = {"schema_version": 1, **self._meaning}
        elif self._entries is None:
            self._append_section(values)
        elif self._entries.pairs:
            self._append_entries(self._entries, values)
        else:
            self._fill_section(values)

    def result(self) -> str:
        """The new text.

        Raises:
            YamlProblem: It would not mean what it should; the old text stands.
        """
        text = self._text
        # From the end on, so that places stay right; two insertions at one place keep their order.
        in_order = [(start, end, turn, new) for turn, (start, end, new) in enumerate(self._splices)]
        for start, end, _, new in sorted(in_order, reverse=True):
            text = text[:start] + new + text[end:]
        try:
            meaning = plain(read_tree(text))
        except YamlProblem as problem:
            raise YamlProblem(f"a change can't be put into this form of the file ({problem})") from None
        if not _same(meaning, self._meaning):
            raise YamlProblem(
                "a change can't be put into this form of the file; write `experiments:` as plain indented lines, "
                "and end the last line of the file"
            )
        return text

    def _meaning_of(self, entry: Pair) -> dict[str, Any]:
        found: dict[str, Any] = self._meaning[_EXPERIMENTS][entry.key.text]
        return found

    # Lines and places.

    def _line_start(self, place: int) -> int:
        return self._text.rfind("\n", 0, place) + 1

    def _line_end(self, place: int) -> int:
        """Where the line's text ends, before its line end."""
        end = self._text.find("\n", place)
        end = len(self._text) if end < 0 else end
        return end - 1 if end > place and self._text[end - 1] == "\r" else end

    def _next_line(self, place: int) -> int:
        end = self._text.find("\n", place)
        return len(self._text) if end < 0 else end + 1

    def _after(self, end: int, *, open_ended: bool) -> int:
        """The start of the line behind a value."""
        if open_ended and (end == 0 or self._text[end - 1] == "\n"):
            return end  # a block scalar's end is behind its last line already
        return self._next_line(end)

    def _splice_lines(self, place: int, lines: str) -> None:
        """Put whole lines in at the start of a line, or behind a last line that has no end."""
        if place > 0 and self._text[place - 1] != "\n":
            lines = self._eol + lines.removesuffix(self._eol)
        self._splices.append((place, place, lines))

    def _at_end(self, lines: str) -> None:
        self._splice_lines(len(self._text), lines)

    def _block(self, entries: Mapping[str, Mapping[str, Any]], indent: int, step: int, *, gap: bool = False) -> str:
        made = []
        for name, entry in entries.items():
            made += ([""] if gap else []) + _block_lines(name, entry, indent=indent, step=step)
        return "".join(line + self._eol for line in made)

    # One key of an entry.

    def _insert(self, mapping: Node, key: str, value: Any) -> None:
        last = mapping.pairs[-1]
        said = f"{flow(key)}: {flow(value)}"
        if mapping.flow:
            self._splices.append((last.end, last.end, f", {said}"))
            return
        indent = " " * mapping.pairs[0].key.column
        self._splice_lines(self._after(last.end, open_ended=last.open_ended), f"{indent}{said}{self._eol}")

    def _replace(self, pair: Pair, value: Any, *, flow_only: bool) -> None:
        node = pair.value
        start = node.start
        old = self._text[start : pair.end]
        blank = "" if start and self._text[start - 1] in " \t" else " "
        if pair.is_alias:
            start, blank, kept = self._behind_colon(pair), " ", []
        elif node.kind == "scalar" or node.flow or flow_only:
            kept = self._comments_in(node) if node.flow else []
        else:
            # In lines of its own: the new value moves up behind the colon, comments between go below it.
            start = self._behind_colon(pair)
            blank, kept = " ", self._comments_in(node, start)
        if not pair.open_ended:
            indent = self._eol + " " * pair.key.column
            line_end = self._line_end(pair.end)
            self._splices.append((start, pair.end, blank + flow(value)))
            if kept:
                self._splices.append((line_end, line_end, "".join(indent + comment for comment in kept)))
            return
        ending = self._eol if old.endswith("\n") else ""
        below = "".join(" " * pair.key.column + comment + self._eol for comment in kept)
        self._splices.append((start, pair.end, blank + flow(value) + ending + below))

    def _behind_colon(self, pair: Pair) -> int:
        return self._text.index(":", pair.key.end) + 1

    def _comments_in(self, node: Node, start: int | None = None) -> list[str]:
        """Comments between the words of a value."""
        at = node.start if start is None else start
        found: list[str] = []
        for leaf_start, leaf_end in [*_leaves(node), (node.end, node.end)]:
            found += _COMMENT.findall(self._text[at:leaf_start])
            at = max(at, leaf_end)
        return found

    # Entries.

    def _append_section(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        tree = self._tree
        if tree.flow:
            place = tree.pairs[-1].end if tree.pairs else tree.end - 1
            comma = ", " if tree.pairs else ""
            self._splices.append((place, place, f"{comma}{_EXPERIMENTS}: {flow(entries)}"))
            return
        column = tree.pairs[0].key.column
        lines = f"{' ' * column}{_EXPERIMENTS}:{self._eol}" + self._block(entries, column + 2, 2)
        self._splice_lines(self._after(tree.end, open_ended=tree.open_ended), lines)

    def _fill_section(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """``experiments:`` with nothing, ``null`` or ``{}`` behind it."""
        top = _pair(self._tree, _EXPERIMENTS)
        if top is None:  # pragma: no cover - the caller has looked
            return
        inside = self._text[top.value.start + 1 : top.end - 1].strip() if top.value.flow else ""
        if self._tree.flow or inside:
            held = flow(entries)
            place = top.end - 1 if top.value.flow else top.value.start
            blank = "" if top.value.flow or self._text[place - 1] in " \t" else " "
            said = held[1:-1] if top.value.flow else blank + held
            self._splices.append((place, place if top.value.flow else top.end, said))
            return
        self._splices.append((top.value.start, top.end, ""))
        column = top.key.column
        self._splice_lines(self._next_line(top.end), self._block(entries, column + 2, 2))

    def _append_entries(self, section: Node, entries: Mapping[str, Mapping[str, Any]]) -> None:
        last = section.pairs[-1]
        if section.flow:
            self._splices.append((last.end, last.end, ", " + flow(entries)[1:-1]))
            return
        indent = section.pairs[0].key.column
        inner = next((pair.value for pair in section.pairs if pair.value.pairs and not pair.value.flow), None)
        step = inner.pairs[0].key.column - indent if inner else 2
        place = self._behind_comments(self._after(last.end, open_ended=last.open_ended), indent)
        gap = len(section.pairs) > 1 and not self._line_before(last.start).strip()
        self._splice_lines(place, self._block(entries, indent, step if step > 0 else 2, gap=gap))

    def _line_before(self, place: int) -> str:
        start = self._line_start(place)
        return self._text[self._line_start(start - 1) : start] if start else " "

    def _behind_comments(self, place: int, indent: int) -> int:
        """Behind the comment lines that follow, as far as they are indented like an entry or deeper."""
        at = place
        while at < len(self._text):
            line = self._text[at : self._line_end(at)]
            content = line.lstrip(" \t")
            if content and not (content.startswith("#") and len(line) - len(content) >= max(indent, 1)):
                break
            at = self._next_line(at)
            if content:
                place = at
        return place


def _pair(mapping: Node, key: str) -> Pair | None:
    return next((pair for pair in mapping.pairs if pair.key.text == key), None)


def _leaves(node: Node) -> list[tuple[int, int]]:
    if node.kind == "scalar":
        return [(node.start, node.end)]
    found = [span for item in node.items for span in _leaves(item)]
    for pair in node.pairs:
        found.append((pair.key.start, pair.key.end))
        found += _leaves(pair.value) if not pair.is_alias else [(pair.end, pair.end)]
    return found


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
