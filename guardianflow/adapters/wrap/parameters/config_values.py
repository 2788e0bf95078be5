"""Config files that a command line names: which they are, and their content as ``config.<stem>.<dotted.key>``."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.script_text import read_bytes
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import yaml_leaves
from guardianflow.text.names import free_name
from guardianflow.text.printable import printable

__all__ = ["MAX_LEAVES", "ConfigValues", "config_files", "leaves", "read_config_files"]

MAX_LEAVES = 300
_MOST_BYTES = 1 << 20
_MOST_FILES = 20
_ENDINGS = (".yaml", ".yml", ".toml", ".json")
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,3}")  # PyYAML reads 1e-3 as text


@dataclass
class ConfigValues:
    """The leaves of config files: ``config.<stem>.<dotted.key>`` → value (lists as JSON); → file; what was left out."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def config_files(words: Iterable[Any], working_dir: Path) -> list[Path]:
    """The existing config files that words of a command line name: alone, or after ``=``."""
    texts = [text for word in words if isinstance(word, str) for text in (word, word.partition("=")[2])]
    paths = [
        Path(os.path.abspath(working_dir / text))  # noqa: PTH100 - links stay as written
        for text in texts
        if text.lower().endswith(_ENDINGS) and len(text) <= 4_096 and "\0" not in text
    ]
    return list(dict.fromkeys(path for path in paths if os.path.isfile(path)))  # noqa: PTH113 - it never raises


def read_config_files(paths: Iterable[Path]) -> ConfigValues:
    """Read config files; one that is broken or too large becomes a remark."""
    result = ConfigValues()
    stems: set[str] = set()
    for number, path in enumerate(paths):
        if number >= _MOST_FILES:
            result.remarks.append(f"more than {_MOST_FILES} config files are named; the others were left out")
            break
        try:
            found, remarks = _read(path)
        except InputError as error:
            result.remarks.append(f"left out: {error}")
            continue
        stem = free_name(path.stem, stems)
        stems.add(stem)
        taken = {f"config.{stem}.{name}".removesuffix("."): _leaf(value) for name, value in found[:MAX_LEAVES]}
        result.values |= taken
        result.origins |= dict.fromkeys(taken, f"config {path.name}")
        result.remarks += remarks
        if len(found) > MAX_LEAVES:
            result.remarks.append(f"{printable(path)} has {len(found)} values; the first {MAX_LEAVES} were taken")
    return result


def _read(path: Path) -> tuple[list[tuple[str, Any]], list[str]]:
    """The leaves of a config file, and what of it was left out."""
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return yaml_leaves(path, what="the config file")
    content = read_bytes(path, _MOST_BYTES)
    try:
        text = content.decode("utf-8-sig")
        return list(leaves(json.loads(text) if suffix == ".json" else tomllib.loads(text))), []
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error).splitlines()[0])
        raise InputError(f"the config file {printable(path)} can't be read: {why}; correct it") from None


def leaves(data: Any) -> Iterator[tuple[str, Any]]:
    """Names and values in the file's order, without recursion: a file may be nested deeper than Python's stack."""
    stack: list[tuple[str, Any]] = [("", data)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping) and value:
            stack += [(f"{name}.{key}" if name else str(key), item) for key, item in reversed(list(value.items()))]
        elif not isinstance(value, Mapping):
            yield name, value


def _leaf(value: Any) -> Any:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, (list, tuple)):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, RecursionError):
            return "(a list that can't be written as JSON)"
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
