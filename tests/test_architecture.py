"""Who may import whom: the level table of docs/ARCHITECTURE.md, held against every import of the package.

Imports inside functions count as much as those at the top, and so do ``import_module("…")`` and
``require("…")`` with a literal name. Those under ``TYPE_CHECKING`` obey the levels too, but close no cycle:
they never run. For the same reason a heavy package's types may be named outside its owners.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "guardianflow"

# Longest prefix wins. A module of core/ has its own line each: that folder spans levels.
LEVELS = {
    "exceptions": 0,
    "_imports": 0,
    "_plugins": 0,
    "core": 1,  # the package file, which holds nothing
    "core.benchmark_rows": 1,
    "core.command_lines": 1,
    "core.config": 1,
    "core.environment": 1,
    "core.evidence": 1,
    "core.interrupts": 1,
    "core.memory_watch": 1,
    "core.metrics": 1,
    "core.model_records": 1,
    "core.names": 1,
    "core.parameters": 1,
    "core.process_lock": 1,
    "core.progress_bar": 1,
    "core.redaction": 1,
    "core.remarks": 1,
    "core.run_folder": 1,
    "core.serving": 1,
    "core.system": 1,
    "core.table_order": 1,
    "core.units": 1,
    "core.database": 2,
    "core.delivery": 2,
    "core.heartbeat": 2,
    "core.ledger": 2,
    "core.migrations": 2,
    "core.mlflow_adoption": 2,
    "core.mlflow_import": 2,
    "core.mlflow_runs": 2,
    "core.mlflow_writing": 2,
    "core.model_cache": 2,
    "core.run_records": 2,
    "core.state_file": 2,
    "core.tables": 2,
    "core.tracking": 2,
    "core.tracking_schema": 2,
    "core.tracking_store": 2,
    "core.undelivered": 2,
    "data": 2,
    "evaluation": 2,
    "plots": 2,
    "vision": 3,
    "core.ledger_recovery": 3,
    "core.mlflow_registry": 3,
    "core.projection": 3,
    "core.version_files": 3,
    "core.registry": 3,
    "core.evaluations": 3,
    "core.evidence_gate": 3,
    "core.evidence_search": 3,
    "core.gate": 3,
    "core.model_source": 3,
    "core.promotion": 3,
    "core.registration": 3,
    "core.rollback": 3,
    "core.benchmark_verdict": 3,
    "core.inference_results": 3,
    "core.results": 3,
    "core.verdict": 3,
    "dashboard": 3,  # the package file, which holds nothing
    "dashboard.metrics_store": 3,
    "core.registry_runner": 4,
    "core.benchmark_evidence": 4,
    "core.benchmark_matrix": 4,
    "core.inference_runner": 4,
    "core.quantization_checks": 4,
    "core.quantization_comparison": 4,
    "core.quantization_evidence": 4,
    "core.quantization_results": 4,
    "core.quantization_steps": 4,
    "core.quantization_runner": 4,
    "core.runner": 4,
    "core.runner_base": 4,
    "core.training_evidence": 4,
    "core.training_log": 4,
    "adapters": 4,
    "adapters.generic_wrapper": 5,
    "adapters.wrap_preview": 5,
    "adapters.wrapped_script": 5,
    "scenario": 4,  # the package file, which holds nothing
    "scenario.schema": 4,
    "scenario.experiment_design": 4,
    "dashboard.alerts": 4,
    "scenario.factory": 5,
    "execution": 6,
    "dashboard.automation": 7,
    "dashboard.grafana": 7,
    "dashboard.api": 8,
    "widgets": 8,
    "console": 3,
    "doctor": 7,
    "listing": 4,
    "option_values": 1,
    "verbs": 8,
    "workspace": 7,
    "demo": 7,
    "cli": 9,
    "testing": 10,
}
# In these folders each module needs its own line in LEVELS; elsewhere the folder's line is enough.
MIXED_FOLDERS = {"core", "dashboard", "scenario"}

# A heavy package → the modules (or folders) that may import it.
OWNERS = {
    "mlflow": {
        "core.mlflow_adoption",
        "core.mlflow_runs",
        "core.mlflow_writing",
        "core.registry",
        "core.tracking_schema",
    },
    "ruamel": {"adapters.experiments.yaml_text"},
    "tensorboard": {"adapters.metrics.event_files"},
    "sqlalchemy": {
        "core.database",
        "core.evaluations",
        "core.ledger",
        "core.migrations",
        "core.tables",
        "core.run_records",
        "core.registry",
        "core.tracking_schema",
        "core.tracking_store",
        "dashboard.metrics_store",
        "dashboard.alerts",
        "dashboard.automation",
    },
    "alembic": {"core.database", "core.migrations", "core.tracking_schema"},
    "psycopg": {"core.database", "dashboard.metrics_store"},
    "ultralytics": {"vision", "doctor"},
    "torch": {"vision", "doctor"},
    "torchvision": {"vision"},
    "onnx": {"vision.backends", "vision.quantization"},
    "onnxruntime": {"vision.backends", "vision.quantization"},
    "openvino": {"vision.backends", "vision.quantization"},
    "nncf": {"vision.quantization"},
    "faster_coco_eval": {"evaluation.detection_precision"},
    "motmetrics": {"evaluation.mot_motmetrics"},
    "tensorrt": {"vision.backends", "vision.quantization"},
    "pynvml": {"core.metrics", "core.system"},
    "papermill": {"execution"},
    "nbclient": {"execution"},
    "nbconvert": {"execution"},
    "nbformat": {"execution"},
    "ray": {"execution.executors"},
    "optuna": {"execution.sweep"},
    "fastapi": {"dashboard.api"},
    "uvicorn": {"dashboard.api"},
    "plotly": {"plots"},
    "ipywidgets": {"widgets"},
    "anywidget": {"widgets"},
    "boto3": {"core.tracking", "core.registry", "dashboard.metrics_store", "doctor"},
}
BANNED_FILES = {"utils.py", "helpers.py", "common.py"}
FREE = {"testing"}  # contract suites: they may import anything, and nobody imports them


@dataclass(frozen=True)
class Import:
    """One import: the modules' names are dotted, ours without the package in front."""

    source: str
    target: str
    line: int
    for_types: bool = False


def matching(module: str, prefixes: object) -> str | None:
    """The longest of the prefixes that the module is, or lies under."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((name for name in names if name in prefixes), None)


def level_of(module: str) -> int | None:
    found = matching(module, LEVELS)
    if found in MIXED_FOLDERS and found != module:
        return None
    return None if found is None else LEVELS[found]


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


def modules_of(folder: Path) -> dict[str, Path]:
    """Dotted name (without the package) → file; the package file itself is the empty name."""
    found = {}
    for path in sorted((folder / PACKAGE).rglob("*.py")):
        parts = path.relative_to(folder / PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(modules: dict[str, Path]) -> Iterator[Import]:
    for name, path in modules.items():
        reader = ImportReader(name)
        reader.visit(ast.parse(path.read_text(encoding="utf-8")))
        yield from reader.found


def own_module(target: str, modules: dict[str, Path]) -> str | None:
    """Our module that an import leads to; None for other packages; "" for the package root."""
    if target.partition(".")[0] != PACKAGE:
        return None
    return matching(target.removeprefix(PACKAGE).lstrip("."), modules) or ""


def folder_of(module: str) -> str:
    """The folder right below the package root; empty for the root's own files."""
    return module.partition(".")[0] if "." in module else ""


def level_problem(found: Import, target: str) -> str | None:
    """Why our module must not import that one of ours, or None."""
    where = f"{found.source or PACKAGE}:{found.line} imports {target or PACKAGE}"
    if matching(found.source, FREE) or found.source == "":  # the root only forwards names, lazily
        return None
    if target == "":
        name = found.target.rpartition(".")[2]
        fix = (
            "write `from guardianflow import __version__`" if name == PACKAGE else f"import {name} from its own module"
        )
        return None if name == "__version__" else f"{where}: {fix}"
    if matching(target, FREE):
        return f"{where}: nobody imports {target}"
    source_level, target_level = level_of(found.source), level_of(target)
    if source_level is None or target_level is None:
        return None  # reported once, by file
    # A package's own file (doctor/__init__.py is "doctor") lies in the folder that it names.
    same_package = found.source.partition(".")[0] == target.partition(".")[0]
    same_folder = same_package or folder_of(found.source) == folder_of(target)
    if target_level < source_level or (target_level == source_level and same_folder):
        return None
    return f"{where}: level {source_level} may not import level {target_level}"


def owner_problem(found: Import) -> str | None:
    package = found.target.partition(".")[0]
    owners = OWNERS.get(package)
    if owners is None or found.for_types or matching(found.source, FREE) or matching(found.source, owners):
        return None
    return f"{found.source or PACKAGE}:{found.line} imports {package}: only {', '.join(sorted(owners))} may"


def cycle_in(edges: dict[str, set[str]]) -> list[str] | None:
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


def problems_in(folder: Path) -> list[str]:
    """Every breach of the architecture in the package below ``folder``, a sentence each."""
    modules = modules_of(folder)
    problems = [
        f"{name}: has no level; give it a line in LEVELS and in docs/ARCHITECTURE.md"
        for name in modules
        if name and level_of(name) is None
    ]
    problems += [f"{path.name}: name a file by its concept" for path in modules.values() if path.name in BANNED_FILES]
    edges: dict[str, set[str]] = {}
    for found in imports_of(modules):
        target = own_module(found.target, modules)
        if target is None:
            problems.append(owner_problem(found) or "")
            continue
        problems.append(level_problem(found, target) or "")
        if not found.for_types and target not in {"", found.source} and found.source:
            edges.setdefault(found.source, set()).add(target)
    if circle := cycle_in(edges):
        problems.append(f"a cycle: {' -> '.join(circle)}")
    return [problem for problem in problems if problem]


def test_imports_only_descend_and_heavy_packages_have_one_owner() -> None:
    problems = problems_in(ROOT)
    assert not problems, "\n".join(problems)


def test_every_package_of_ours_is_seen() -> None:
    modules = modules_of(ROOT)
    assert {"exceptions", "core.config", "core.database", "core.metrics"} <= set(modules)
    targets = {own_module(found.target, modules) for found in imports_of(modules)}
    assert "exceptions" in targets


def write_tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


SOUND = {
    "exceptions.py": "",
    "core/__init__.py": "",
    "core/config.py": "from guardianflow.exceptions import X\n",
    "core/mlflow_runs.py": "def f():\n    import mlflow\n    from guardianflow.core import config\n",
    "core/registry.py": "from guardianflow.core.mlflow_runs import f\nfrom guardianflow import __version__\n",
    "data/a.py": "from guardianflow.data.b import c\n",
    "data/b.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from guardianflow.data.a import d\n"
        "    from plotly.graph_objects import Figure\n"
    ),
}


def test_a_sound_tree_has_no_problems(tmp_path: Path) -> None:
    assert problems_in(write_tree(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("exceptions.py", "from guardianflow.core.config import Y\n", "level 0 may not import level 1"),
        (
            "core/config.py",
            "def f():\n    from guardianflow.core.registry import R\n",
            "level 1 may not import level 3",
        ),
        ("core/config.py", "from guardianflow.core import registry\n", "level 1 may not import level 3"),
        (
            "core/config.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from guardianflow.data.a import d\n",
            "level 1 may not import level 2",
        ),
        ("data/b.py", "import guardianflow.core.database\n", "level 2 may not import level 2"),
        ("data/b.py", "import guardianflow\n", "write `from guardianflow import __version__`"),
        ("data/b.py", "from guardianflow import Settings\n", "import Settings from its own module"),
        ("data/b.py", "def f():\n    from guardianflow.data.a import d\n", "a cycle: data.a -> data.b -> data.a"),
        (
            "data/b.py",
            "import mlflow.entities\n",
            (
                "data.b:1 imports mlflow: only core.mlflow_adoption, core.mlflow_runs, core.mlflow_writing, "
                "core.registry, core.tracking_schema may"
            ),
        ),
        ("data/b.py", "from torch import nn\n", "data.b:1 imports torch"),
        ("data/b.py", "from importlib import import_module\nimport_module('torch.nn')\n", "data.b:2 imports torch"),
        ("data/b.py", "from guardianflow.testing import suite\n", "nobody imports testing"),
        ("core/surprise.py", "", "core.surprise: has no level"),
        ("surprise/x.py", "", "surprise.x: has no level"),
        ("data/utils.py", "", "name a file by its concept"),
    ],
)
def test_each_kind_of_breach_is_found(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    files = {**SOUND, "core/database.py": "", "testing/suite.py": "", name: text}
    problems = problems_in(write_tree(tmp_path, files))
    assert any(sentence in problem for problem in problems), problems
