"""The text of a script or notebook, read with caps and without ever running anything of it."""

from __future__ import annotations

import ast
import io
import json
import stat
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["CodeCell", "Notebook", "code_cells", "imported_trees", "parse_script", "read_bytes", "read_notebook",
           "read_script"]  # fmt: skip

_MOST_SCRIPT_BYTES = 2 << 20
_MOST_NOTEBOOK_BYTES = 50_000_000
_MOST_FILES = 20
_DECLARING = ("add_argument", "import", ".option(", "DEFINE_", "dataclass")


def read_script(path: Path) -> str:
    """A Python file's text, in the encoding that its first lines declare (PEP 263).

    Raises:
        InputError: It is no regular file, larger than 2 MB, binary, or in another encoding than it says.
    """
    content = read_bytes(path, _MOST_SCRIPT_BYTES)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise InputError(
            f"{printable(path)} can't be read as text: {printable(error)}; declare its encoding in the first line"
        ) from None


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file's content.

    Raises:
        InputError: It can't be read, is no regular file, or has more than ``limit`` bytes.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device never ends
            raise InputError(f"{printable(path)} is no regular file; name the file itself")
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(path)} can't be read ({reason}); check the path and its rights") from None
    if len(content) > limit:
        raise InputError(f"{printable(path)} is larger than {limit / 1e6:.0f} MB, so it isn't read for parameters")
    return content


def parse_script(source: str) -> ast.Module:
    """The syntax tree of a Python text.

    Raises:
        InputError: It isn't the Python of this interpreter, or nested too deeply to be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `"\d"` in other people's code
            return ast.parse(source)
    except SyntaxError as error:
        why = f"is not Python 3 in line {error.lineno or 1} ({printable(error.msg)})"
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        deep = isinstance(error, (RecursionError, MemoryError))
        why = f"can't be parsed ({'nested too deeply' if deep else printable(error)})"
    raise InputError(f"the script {why}, so its parameters can't be read")


def imported_trees(tree: ast.Module, file: Path) -> Iterator[ast.Module]:
    """What a script imports from the files beside it, and what those import; each file once."""
    queue = [(tree, file)]
    seen = {file}
    while queue:
        text, place = queue.pop(0)
        for path in _imported(text, place.parent, file.parent):
            if path in seen or len(seen) >= _MOST_FILES:
                continue
            seen.add(path)
            try:
                source = read_script(path)
                if any(word in source for word in _DECLARING):
                    queue.append((parse_script(source), path))
                    yield queue[-1][0]
            except InputError:
                continue


def _imported(tree: ast.Module, own: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        places = [own, root]
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [base] if base else []
            names += [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            if node.level:
                places = [own.joinpath(*[".."] * (node.level - 1))]
        for name in names:
            for place in dict.fromkeys(places):
                path = place.joinpath(*name.split("."))
                for one in (path.with_suffix(".py"), path / "__init__.py"):
                    if one.is_file():
                        yield one.resolve()


class CodeCell(NamedTuple):
    """The text of one code cell, and its tags."""

    text: str
    tags: frozenset[str]


class Notebook(NamedTuple):
    """What is read of a notebook: its code cells, and whether it says its kernel and its language."""

    cells: list[CodeCell]
    names_kernel: bool
    names_language: bool


def read_notebook(path: Path) -> Notebook:
    """A notebook's JSON.

    Raises:
        InputError: It is larger than 50 MB, or no notebook of format 4.
    """
    content = read_bytes(path, _MOST_NOTEBOOK_BYTES)
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(path)} is no notebook: its JSON is broken ({printable(error)}); open it in Jupyter and save it"
        ) from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise InputError(f"{printable(path)} is no notebook of format 4: it has no cells; save it again in Jupyter")
    about = notebook.get("metadata")
    spec = about.get("kernelspec") if isinstance(about, dict) else None
    spec = spec if isinstance(spec, dict) else {}
    return Notebook(list(code_cells(notebook["cells"])), bool(spec.get("name")), bool(spec.get("language")))


def code_cells(cells: list[Any]) -> Iterator[CodeCell]:
    """The code cells among the cells of a notebook's JSON."""
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type", "code") != "code":
            continue
        source = cell.get("source", "")
        text = "".join(str(line) for line in source) if isinstance(source, list) else str(source)
        metadata = cell.get("metadata")
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        yield CodeCell(text, frozenset(str(tag) for tag in tags) if isinstance(tags, list) else frozenset())
