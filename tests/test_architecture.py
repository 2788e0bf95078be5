"""Who may import whom: the tables of docs/ARCHITECTURE.md, held against every import of the package.

The rule is read from the tables, so there is nothing to keep equal. Imports inside functions and under
``TYPE_CHECKING`` count as much as those at the top, and so do ``import_module("…")`` and ``require("…")`` with a
literal name. Only a heavy package's types may be named outside its owners, under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "guardianflow"
PAGE = "docs/ARCHITECTURE.md"
BANNED_FILES = {"utils.py", "helpers.py", "common.py"}
BY_FILE = ("core/", "dashboard/")  # these folders span levels: each file has a row of its own

_ROW = re.compile(r"^\| (\d+) \| (.+?) \|", re.MULTILINE)
_OWNER_ROW = re.compile(r"^\| owners of `([\w, ]+)` \| (.+?) \|", re.MULTILINE)
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Import:
    """One import: the modules' names are dotted, ours without the package in front."""

    source: str
    target: str
    line: int
    for_types: bool = False


@dataclass(frozen=True)
class House:
    """The tables of docs/ARCHITECTURE.md.

    Attributes:
        rooms: Folder (``data/``) or file (``core/config.py``) → its level.
        owners: Heavy package → the rooms, or places in them, that may import it.
        free: Rooms that import what they like, and that nobody imports.
    """

    rooms: Mapping[str, int]
    owners: Mapping[str, set[str]]
    free: frozenset[str] = frozenset({"testing/"})

    def room_of(self, file: str) -> str | None:
        """The row that a file (``vision/pipeline/letterbox.py``) belongs to: its own, or its folder's."""
        if file in self.rooms:
            return file
        if file.endswith("__init__.py") and file.startswith(BY_FILE):
            return file  # it holds nothing
        parts = file.split("/")[:-1]
        folders = ["/".join(parts[:count]) + "/" for count in range(len(parts), 0, -1)]
        return next((folder for folder in folders if folder in self.rooms and folder not in BY_FILE), None)


def read_house(page: str) -> House:
    rooms = {name: int(row[1]) for row in _ROW.finditer(page) for name in _NAME.findall(row[2])}
    owners = {
        package: set(_NAME.findall(row[2])) for row in _OWNER_ROW.finditer(page) for package in row[1].split(", ")
    }
    return House(rooms, owners)


class ImportReader(ast.NodeVisitor):
    """Collects what one file imports, with whether it is for type checking only."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.found: list[Import] = []
        self._for_types = False

    def _add(self, target: str, line: int) -> None:
        self.found.append(Import(self.source, target, line, self._for_types))

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        self._for_types = True
        for child in node.body:
            self.visit(child)
        self._for_types = False
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.source}:{node.lineno}: relative imports are not used here"
        for alias in node.names:  # `from a import b`: b may be a module or a name in a
            self._add(f"{node.module}.{alias.name}", node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in {"import_module", "require", "__import__"} and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                self._add(first.value, node.lineno)
        self.generic_visit(node)


def files_of(folder: Path) -> dict[str, Path]:
    """File from the package root, with ``/`` → the file itself."""
    package = folder / PACKAGE
    return {path.relative_to(package).as_posix(): path for path in sorted(package.rglob("*.py"))}


def imports_of(files: Mapping[str, Path]) -> Iterator[Import]:
    for name, path in files.items():
        reader = ImportReader(name)
        reader.visit(ast.parse(path.read_text(encoding="utf-8")))
        yield from reader.found


def own_file(target: str, files: Mapping[str, Path]) -> str | None:
    """Our file that an import leads to; None for other packages; ``__init__.py`` for the package root."""
    package, *parts = target.split(".")
    if package != PACKAGE:
        return None
    for count in range(len(parts), 0, -1):
        stem = "/".join(parts[:count])
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if name in files:
                return name
    return "__init__.py"


def level_problem(found: Import, target: str, house: House) -> str | None:
    """Why our file must not import that one of ours, or None."""
    where = f"{found.source}:{found.line} imports {target}"
    if found.source == "__init__.py":  # the root only forwards names, lazily
        return None
    if target == "__init__.py":
        name = found.target.rpartition(".")[2]
        fix = (
            "write `from guardianflow import __version__`" if name == PACKAGE else f"import {name} from its own module"
        )
        return None if name == "__version__" else f"{where}: {fix}"
    source_room, target_room = house.room_of(found.source), house.room_of(target)
    if source_room is None or target_room is None or source_room == target_room:
        return None  # a file without a row is reported once
    if source_room in house.free:
        return None
    if target_room in house.free:
        return f"{where}: nobody imports {target_room}"
    if target_room.endswith("__init__.py"):
        return None
    ours, theirs = house.rooms[source_room], house.rooms[target_room]
    return None if theirs < ours else f"{where}: level {ours} may not import level {theirs}"


def owner_problem(found: Import, house: House) -> str | None:
    package = found.target.partition(".")[0]
    owners = house.owners.get(package)
    if owners is None or found.for_types or house.room_of(found.source) in house.free:
        return None
    if any(found.source == owner or (owner.endswith("/") and found.source.startswith(owner)) for owner in owners):
        return None
    return f"{found.source}:{found.line} imports {package}: only {', '.join(sorted(owners))} may"


def cycle_in(edges: Mapping[str, set[str]]) -> list[str] | None:
    """A path that comes back to its start, or None (depth-first, three colours)."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for target in sorted(edges.get(module, ())):
            if circle := walk(target, [*path, module]):
                return circle
        done.add(module)
        return None

    return next((circle for module in sorted(edges) if (circle := walk(module, []))), None)


def mutual_folders(edges: Mapping[str, set[str]]) -> Iterator[str]:
    """Pairs of folders, neither inside the other, of which each imports the other."""
    between = {
        (source.rpartition("/")[0], target.rpartition("/")[0])
        for source, targets in edges.items()
        for target in targets
        if not source.startswith(BY_FILE) and not target.startswith(BY_FILE)
    }
    for one, other in sorted(between):
        inside = f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
        if one and other and one < other and not inside and (other, one) in between:
            yield f"{one}/ and {other}/ import each other"


def problems_in(folder: Path, house: House) -> list[str]:
    """Every breach of the architecture in the package below ``folder``, a sentence each."""
    files = files_of(folder)
    problems = [
        f"{name}: has no row in {PAGE}" for name in files if name != "__init__.py" and house.room_of(name) is None
    ]
    problems += [f"{name}: name a file by its concept" for name, path in files.items() if path.name in BANNED_FILES]
    edges: dict[str, set[str]] = {}
    running: dict[str, set[str]] = {}
    for found in imports_of(files):
        target = own_file(found.target, files)
        if target is None:
            problems.append(owner_problem(found, house) or "")
            continue
        problems.append(level_problem(found, target, house) or "")
        if target not in {"__init__.py", found.source} and found.source != "__init__.py":
            edges.setdefault(found.source, set()).add(target)
            if not found.for_types:  # two files of one folder may name each other's types: that never runs
                running.setdefault(found.source, set()).add(target)
    problems += mutual_folders(edges)
    if circle := cycle_in(running):
        problems.append(f"a cycle: {' -> '.join(circle)}")
    return [problem for problem in problems if problem]


@pytest.fixture(scope="module")
def house() -> House:
    return read_house((ROOT / PAGE).read_text(encoding="utf-8"))


def test_imports_only_descend_and_heavy_packages_have_one_owner(house: House) -> None:
    problems = problems_in(ROOT, house)
    assert not problems, "\n".join(problems)


def test_every_row_is_a_room_that_is_there(house: House) -> None:
    package = ROOT / PACKAGE
    assert len(house.rooms) > 25
    assert [room for room in house.rooms if not (package / room).exists()] == []
    owners = {place for places in house.owners.values() for place in places}
    assert [place for place in owners if not (package / place).exists()] == []


def test_every_import_of_ours_is_seen() -> None:
    files = files_of(ROOT)
    targets = {own_file(found.target, files) for found in imports_of(files)}
    assert {"exceptions.py", "core/config.py", "core/metrics.py"} <= targets


SMALL = read_house(
    """
| level | room | holds |
|---|---|---|
| 0 | `exceptions.py` | errors |
| 1 | `core/config.py` | settings |
| 2 | `data/` | datasets |
| 2 | `plots/` | figures |
| 3 | `runs/` | runs |
| 4 | `core/registry.py` | the door |
| 9 | `testing/` | suites |

| package | where |
|---|---|
| owners of `mlflow` | `runs/` |
| owners of `torch, torchvision` | `vision/` |
| owners of `plotly` | `plots/` |
"""
)
SOUND = {
    "exceptions.py": "",
    "core/__init__.py": "",
    "core/config.py": "from guardianflow.exceptions import X\n",
    "runs/mlflow_runs.py": "def f():\n    import mlflow\n    from guardianflow.core import config\n",
    "core/registry.py": "from guardianflow.runs.mlflow_runs import f\nfrom guardianflow import __version__\n",
    "data/a.py": "from guardianflow.data.b import c\n",
    "data/b.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from guardianflow.data.a import d\n"
        "    from plotly.graph_objects import Figure\n"
    ),
}


def write_tree(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_a_sound_tree_has_no_problems(tmp_path: Path) -> None:
    assert problems_in(write_tree(tmp_path, SOUND), SMALL) == []


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"exceptions.py": "from guardianflow.core.config import Y\n"}, "level 0 may not import level 1"),
        (
            {"core/config.py": "def f():\n    from guardianflow.core.registry import R\n"},
            "level 1 may not import level 4",
        ),
        ({"core/config.py": "from guardianflow.core import registry\n"}, "level 1 may not import level 4"),
        (
            {"core/config.py": "import typing\nif typing.TYPE_CHECKING:\n    from guardianflow.data.a import d\n"},
            "level 1 may not import level 2",
        ),
        (
            {"data/b.py": "import guardianflow.plots.p\n", "plots/p.py": ""},
            "data/b.py:1 imports plots/p.py: level 2 may not import level 2",
        ),
        (
            {
                "data/one/a.py": "from guardianflow.data.two.b import x\n",
                "data/two/b.py": "def f():\n    from guardianflow.data.one import c\n",
                "data/one/c.py": "",
            },
            "data/one/ and data/two/ import each other",
        ),
        (
            {
                "data/one/a.py": "from guardianflow.data.two.b import x\n",
                "data/two/b.py": (
                    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from guardianflow.data.one.a import y\n"
                ),
            },
            "data/one/ and data/two/ import each other",
        ),
        ({"data/b.py": "import guardianflow\n"}, "write `from guardianflow import __version__`"),
        ({"data/b.py": "from guardianflow import Settings\n"}, "import Settings from its own module"),
        (
            {"data/b.py": "def f():\n    from guardianflow.data.a import d\n"},
            "a cycle: data/a.py -> data/b.py -> data/a.py",
        ),
        ({"data/b.py": "import mlflow.entities\n"}, "data/b.py:1 imports mlflow: only runs/ may"),
        ({"data/b.py": "from torch import nn\n"}, "data/b.py:1 imports torch"),
        (
            {"data/b.py": "from importlib import import_module\nimport_module('torch.nn')\n"},
            "data/b.py:2 imports torch",
        ),
        ({"data/b.py": "from guardianflow.testing import suite\n", "testing/suite.py": ""}, "nobody imports testing/"),
        ({"core/new.py": ""}, "core/new.py: has no row in docs/ARCHITECTURE.md"),
        ({"attic/old.py": ""}, "attic/old.py: has no row in docs/ARCHITECTURE.md"),
        ({"stray.py": ""}, "stray.py: has no row in docs/ARCHITECTURE.md"),
        ({"data/utils.py": ""}, "data/utils.py: name a file by its concept"),
    ],
)
def test_a_breach_is_named(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    problems = problems_in(write_tree(tmp_path, {**SOUND, **files}), SMALL)
    assert any(sentence in problem for problem in problems), problems
