"""Values as YAML text: short, in one line, and read alike by YAML 1.1 and 1.2."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from guardianflow.adapters.experiments.yaml_text import typed

__all__ = ["block_lines", "flow"]

# Letters first: nothing that starts like a number, a date or an indicator.
_PLAIN = re.compile(r"[^\W\d_][\w./+-]*\Z")
# What YAML 1.1 takes for true or false.
_OLD_BOOLEANS = {"y", "n", "yes", "no", "on", "off"}
_DOTS = {".", "./"}


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


def block_lines(key: str, value: Mapping[str, Any], *, indent: int, step: int) -> list[str]:
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
