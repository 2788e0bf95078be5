"""Figures of the house: python tools/house_figures.py [CHECKOUT] prints code lines, files, places per parameter.

Code lines are lines that hold code: no blank lines, comments or docstrings. A module imported once is one that a
single other module imports. The places of a parameter are the lines of the package and the templates that name it,
generated cells (`parameters`, `runner`) left out.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

PARAMETERS = ("patience", "allow_bad", "max_det", "calibration_images", "cell_timeout_s", "environment_allowed")
GENERATED = {"parameters", "runner"}


def code_lines(text: str) -> int:
    """Lines with code on them."""
    tree = ast.parse(text)
    held: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not _is_docstring(node):
            held.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    documented = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and _is_docstring(node)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = text.splitlines()
    return sum(bool((plain := lines[line - 1].strip()) and not plain.startswith("#")) for line in held - documented)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def imported_by(package: Path) -> Counter[str]:
    """Module → how many other modules import it."""
    names = {_module(path, package): path for path in package.rglob("*.py")}
    found: Counter[str] = Counter()
    for source, path in names.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                targets.update(name for name in wanted if name in names and names[name].name != "__init__.py")
        found.update(targets - {source})
    return found


def _module(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def places(root: Path, parameter: str) -> int:
    """Lines that name a parameter."""
    word = re.compile(rf"(?<![\w-]){parameter.replace('_', '[_-]')}(?![\w-])")
    count = sum(
        len(word.findall(line))
        for path in (root / "guardianflow").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    for path in (root / "notebooks" / "templates").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            made = "runner" in {tag for other in json.loads(path.read_text())["cells"] for tag in _tags(other)}
            if not (made and GENERATED & _tags(cell)):
                count += len(word.findall("".join(cell["source"])))
    return count


def _tags(cell: dict[str, dict[str, list[str]]]) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def main() -> None:
    """Print the figures."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    package = root / "guardianflow"
    files = sorted(package.rglob("*.py"))
    once = sum(count == 1 for count in imported_by(package).values())
    print(f"code lines             {sum(code_lines(path.read_text(encoding='utf-8')) for path in files):,}")
    print(f"files                  {len(files)}")
    print(f"modules imported once  {once}")
    for parameter in PARAMETERS:
        print(f"places of {parameter:20} {places(root, parameter)}")


if __name__ == "__main__":
    main()
