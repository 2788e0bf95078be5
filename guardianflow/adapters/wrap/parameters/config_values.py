"""Config files that a command line names: which they are, and their content as ``config.<stem>.<dotted.key>``."""

from __future__ import annotations

import configparser
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.parameters.script_text import read_bytes
from guardianflow.adapters.wrap.parameters.word_arguments import typed
from guardianflow.exceptions import InputError
from guardianflow.files.yaml_safety import yaml_leaves
from guardianflow.text.names import free_name
from guardianflow.text.printable import printable

__all__ = ["MAX_CONFIG_BYTES", "MAX_LEAVES", "ConfigValues", "config_files", "leaves", "read_config_files"]

MAX_CONFIG_BYTES = 1 << 20
MAX_LEAVES = 300
_MAX_FILES = 20
_ENDINGS = {".yaml", ".yml", ".toml", ".json", ".ini", ".cfg"}
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d{1,3}")  # PyYAML reads 1e-3 as text


@dataclass
class ConfigValues:
    """The leaves of the config files of one command line.

    Attributes:
        values: ``config.<stem>.<dotted.key>`` → value; lists as JSON.
        origins: The same names → ``config FILE``.
        files: Those that were read.
        remarks: What was left out, and why.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()


def config_files(words: Iterable[Any], working_dir: Path) -> list[Path]:
    """The existing config files that words of a command line name: alone, or after ``=``."""
    found: dict[Path, None] = {}
    for word in words:
        if not isinstance(word, str):
            continue
        for text in (word, word.partition("=")[2]):
            path = _config_file(text, working_dir)
            if path is not None:
                found[path] = None
                break
    return list(found)


def _config_file(text: str, working_dir: Path) -> Path | None:
    if len(text) > 4_096 or os.path.splitext(text)[1].lower() not in _ENDINGS:  # noqa: PTH122 - no path yet
        return None
    try:
        path = Path(os.path.abspath(working_dir / Path(text).expanduser()))  # noqa: PTH100 - links stay as written
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):
        return None


def read_config_files(paths: Iterable[Path]) -> ConfigValues:
    """Read config files; one that is broken or too large becomes a remark."""
    result = ConfigValues()
    files: list[Path] = []
    remarks: list[str] = []
    stems: set[str] = set()
    for number, path in enumerate(paths):
        if number >= _MAX_FILES:
            remarks.append(f"more than {_MAX_FILES} config files are named; the others were left out")
            break
        try:
            found, bad = _read(path)
        except InputError as error:
            remarks.append(f"left out: {error}")
            continue
        stem = free_name(path.stem, stems)
        stems.add(stem)
        files.append(path)
        remarks += bad
        taken = {f"config.{stem}.{name}".removesuffix("."): _leaf(value) for name, value in found[:MAX_LEAVES]}
        result.values |= taken
        result.origins |= dict.fromkeys(taken, f"config {path.name}")
        if len(found) > MAX_LEAVES:
            remarks.append(f"{printable(path)} has {len(found)} values; the first {MAX_LEAVES} were taken")
    result.files, result.remarks = tuple(files), tuple(remarks)
    return result


def _read(path: Path) -> tuple[list[tuple[str, Any]], list[str]]:
    """The leaves of a config file, and what of it was left out.

    Raises:
        InputError: It is broken, too large, or in an encoding other than UTF-8.
    """
    suffix = path.suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return yaml_leaves(path, what="the config file")
    content = read_bytes(path, MAX_CONFIG_BYTES)
    try:
        text = content.decode("utf-8-sig")
        if suffix == ".json":
            return list(leaves(json.loads(text))), []
        if suffix == ".toml":
            return list(leaves(tomllib.loads(text))), []
        parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their capitals
        parser.read_string(text)
    except (ValueError, RecursionError, configparser.Error) as error:
        reason = (
            "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error).splitlines()[0])
        )
        raise InputError(f"the config file {printable(path)} can't be read: {reason}; correct it") from None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    read = {name: {key: text and typed(text) for key, text in one.items()} for name, one in sections.items()}
    return list(leaves({**parser.defaults(), **read})), []


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
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value) else value
    if isinstance(value, (list, tuple)):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (ValueError, RecursionError, TypeError):
            return "(a list that can't be written as JSON)"
    return str(value)
