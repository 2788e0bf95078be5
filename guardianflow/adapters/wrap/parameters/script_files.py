"""The texts that make up a script: its own, and those of the files beside it that it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from guardianflow.adapters.wrap.parameters.script_text import parse_script, read_script
from guardianflow.exceptions import InputError

__all__ = ["texts_of"]

_MOST_FILES = 20


def texts_of(tree: ast.Module, file: Path | None) -> Iterator[tuple[ast.Module, bool]]:
    """The script, and what it imports from beside it."""
    queue: list[tuple[ast.Module, Path | None]] = [(tree, file)]
    seen: set[Path] = {file} if file is not None else set()
    yield tree, True
    while queue:
        text, place = queue.pop(0)
        if place is None:
            return
        for path in _imported(text, place.parent, file.parent if file else place.parent):
            if path in seen or len(seen) >= _MOST_FILES:
                continue
            seen.add(path)
            try:
                source = read_script(path)
                if not any(word in source for word in ("add_argument", "import", ".option(", "DEFINE_", "dataclass")):
                    continue
                found = parse_script(source)
            except InputError:
                continue
            yield found, False
            queue.append((found, path))


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
