"""The code of a notebook as one script: cells after each other, what only IPython understands taken out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

__all__ = ["NotebookCode", "ShellAction", "notebook_code"]

_SHELL_ACTION = re.compile(
    r"^\s*!\s*(?:yolo\s+(?:\w+\s+)?(train|val|predict|track|export)\b|python3?\s+\S*(train)\S*\.py\b)"
)
_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[^#'\"]*\?\??\s*)$")
_ASSIGNED_MAGIC = re.compile(r"^(\s*[\w.,\s]+=\s*)[%!].*$")
_LONGEST_LINE = 2_000
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%python", "%%memit", "%%px")


@dataclass(frozen=True)
class ShellAction:
    """A shell line of a notebook that does a script's work: ``!yolo train data=coco8.yaml``."""

    verb: str
    text: str
    line: int
    is_ultralytics: bool


@dataclass(frozen=True)
class NotebookCode:
    """The code of a notebook.

    Attributes:
        text: All code cells, each shell line and magic replaced by ``pass``; as many lines as the cells have.
        shell: Shell lines that train, predict or export.
    """

    text: str
    shell: tuple[ShellAction, ...] = ()


def notebook_code(content: bytes) -> NotebookCode | str:
    """The code of a notebook, or why there is none: no JSON, no notebook, another language."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError, MemoryError):
        return "notebook that is no JSON"
    if not isinstance(document, dict) or not isinstance(document.get("cells", document.get("worksheets")), list):
        return "notebook without cells"
    if (language := _language(document)) != "python":
        return f"notebook in {language[:20]}"
    cells = document.get("cells")
    if cells is None:  # version 3
        cells = [
            cell for sheet in document["worksheets"] if isinstance(sheet, dict) for cell in _listed(sheet, "cells")
        ]
    lines: list[str] = []
    shell: list[ShellAction] = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            _add_cell(_source(cell), lines, shell)
    return NotebookCode("\n".join(lines) + "\n", tuple(shell))


def _add_cell(source: str, lines: list[str], shell: list[ShellAction]) -> None:
    own = source.split("\n")
    first = next((line for line in own if line.strip()), "")
    foreign = first.startswith("%%") and not first.startswith(_PYTHON_CELLS)
    for line in own:
        if len(line) > _LONGEST_LINE:  # an image in a string: no magic, and too long to be searched for one
            lines.append("" if foreign else line)
            continue
        if found := _SHELL_ACTION.match(line):
            shell.append(ShellAction(found[1] or found[2], line.strip(), len(lines) + 1, bool(found[1])))
        lines.append("" if foreign else _plain(line))


def _plain(line: str) -> str:
    if assigned := _ASSIGNED_MAGIC.match(line):
        return f"{assigned[1]}None"
    if magic := _MAGIC.match(line):
        return f"{magic[1]}pass"
    return line


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    return source.replace("\r\n", "\n") if isinstance(source, str) else ""


def _listed(mapping: dict[str, Any], key: str) -> list[Any]:
    value = mapping.get(key)
    return value if isinstance(value, list) else []


def _language(document: dict[str, Any]) -> str:
    """The notebook's language in small letters; Python where it doesn't say."""
    about = document.get("metadata")
    about = about if isinstance(about, dict) else {}
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        inner = about.get(part)
        if isinstance(inner, dict) and isinstance(inner.get(key), str) and inner[key]:
            language: str = inner[key].lower()
            return "python" if language in {"python", "python3", "ipython"} else language
    return "python"
