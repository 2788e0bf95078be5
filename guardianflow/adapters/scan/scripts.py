"""One script or notebook from file to finding: read, judged, and looked through for parameters and files."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from guardianflow.adapters.scan.bytes import joined, read_start
from guardianflow.adapters.scan.facts import CallFact, CodeFacts
from guardianflow.adapters.scan.findings import FoundScript
from guardianflow.adapters.scan.notebooks import NotebookCode, ShellAction, notebook_code
from guardianflow.adapters.scan.outputs import named_datasets, probable_outputs
from guardianflow.adapters.scan.script_signs import LIBRARY_CEILING, judge, may_be_a_script, may_start, read_facts
from guardianflow.adapters.scan.syntax import parse
from guardianflow.adapters.scan.text import decoded
from guardianflow.adapters.scan.walk import Skipped

if TYPE_CHECKING:
    from guardianflow.adapters.wrap.parameters.script_parameters import Declared

__all__ = ["MOST_BYTES", "MOST_NOTEBOOK_BYTES", "Candidate", "entry_points", "read_candidate"]

MOST_BYTES = 5_000_000
MOST_NOTEBOOK_BYTES = 50_000_000
_MOST_PACKAGES = 20
_ENTRY = re.compile(r"^\s*[\"']?([\w.-]+)[\"']?\s*=\s*[\"']?([\w.]+)\s*:\s*([\w.]+)")
_SECTIONS = {"[console_scripts]", "[project.scripts]", "[tool.poetry.scripts]"}


@dataclass(frozen=True)
class Candidate:
    """A file that may be a script.

    Attributes:
        path: Absolute.
        relative: Below the root, with ``/``.
        is_notebook: Whether it is an ``.ipynb``.
        started_by: The console script that starts it, where one does.
    """

    path: str
    relative: str
    is_notebook: bool = False
    started_by: str = ""


def read_candidate(candidate: Candidate, skipped: Skipped, *, min_score: float) -> FoundScript | None:
    """What a file was taken for; None where it is no script of ours, or not surely enough."""
    most = MOST_NOTEBOOK_BYTES if candidate.is_notebook else MOST_BYTES
    content = read_start(candidate.path, most + 1)
    if len(content) > most:
        skipped.add(candidate.relative, f"{'notebook' if candidate.is_notebook else 'script'} over {most // 10**6} MB")
        return None
    if not content and not os.access(candidate.path, os.R_OK):
        skipped.add(candidate.relative, "file can't be read")
        return None
    if not may_be_a_script(content, is_notebook=candidate.is_notebook) and not _names_yolo(content, candidate):
        return None
    starts = candidate.is_notebook or bool(candidate.started_by) or may_start(content)
    if not starts and min_score > LIBRARY_CEILING:
        return None
    code = _code_of(content, candidate, skipped)
    del content
    if code is None:
        return None
    facts = read_facts(code.text)
    _add_shell(facts, code.shell)
    found = judge(facts, candidate.relative, is_notebook=candidate.is_notebook, started_by=candidate.started_by)
    if not found.role or found.score < min_score:
        return None
    tree = parse(code.text)
    tree = ast.Module([], []) if isinstance(tree, str) else tree
    shell_data = [word for action in code.shell for word in re.findall(r"\bdata=(\S+\.ya?ml)", action.text)]
    return FoundScript(
        path=Path(candidate.relative),
        role=found.role,
        framework=found.framework,
        score=found.score,
        reasons=found.reasons,
        is_notebook=candidate.is_notebook,
        declared=_declared(candidate, code.text),
        data=tuple(dict.fromkeys((*named_datasets(tree), *shell_data))),
        outputs=probable_outputs(tree, found.framework, found.role),
        module_of=_module_name(candidate.path) if facts.relative_import_line else "",
    )


def _names_yolo(content: bytes, candidate: Candidate) -> bool:
    return candidate.is_notebook and b"!yolo" in content


def _code_of(content: bytes, candidate: Candidate, skipped: Skipped) -> NotebookCode | None:
    if not candidate.is_notebook:
        return NotebookCode(decoded(content))
    code = notebook_code(content)
    if isinstance(code, NotebookCode):
        return code
    skipped.add(candidate.relative, code)
    return None


def _add_shell(facts: CodeFacts, shell: tuple[ShellAction, ...]) -> None:
    """Shell lines of a notebook count as calls: ``!yolo train`` is ``YOLO().train()``."""
    for action in shell:
        dotted = f"ultralytics.YOLO().{action.verb}" if action.is_ultralytics else "train"
        facts.calls.append(CallFact(dotted, action.line, frozenset({"data"}), has_arguments=True, top=True))
        if action.is_ultralytics:
            facts.modules.setdefault("ultralytics", action.line)
        facts.lines[action.line - 1] = action.text


def _declared(candidate: Candidate, text: str) -> Declared | None:
    from guardianflow.adapters.wrap.parameters.script_parameters import declared_in, read_declared

    try:
        return (
            read_declared(Path(candidate.path))
            if candidate.is_notebook
            else declared_in(text, file=Path(candidate.path))
        )
    except (ValueError, OSError, RuntimeError, MemoryError):  # a scan goes on without them
        return None


def _module_name(path: str) -> str:
    """The dotted name of a file in a package, as ``python -m`` takes it; empty where it has none."""
    pure = Path(path)
    parts = [] if pure.stem == "__main__" else [pure.stem]
    folder = pure.parent
    for _ in range(_MOST_PACKAGES):
        if not (folder / "__init__.py").is_file():
            break
        parts.append(folder.name)
        folder = folder.parent
    in_package = len(parts) > (pure.stem != "__main__")
    if not in_package or pure.stem == "__init__" or not all(part.isidentifier() for part in parts):
        return ""
    return ".".join(reversed(parts))


def entry_points(path: str, base: str) -> Mapping[str, str]:
    """Console scripts that a file declares: the file of the module that each one starts → its name.

    Args:
        path: An ``entry_points.txt``, ``pyproject.toml`` or ``setup.cfg``, absolute.
        base: The folder that the modules lie in (or its ``src``), absolute.
    """
    found: dict[str, str] = {}
    inside = False
    for line in read_start(path, 1 << 18).decode("utf-8", "replace").splitlines():
        if line.strip().startswith("["):
            inside = line.strip() in _SECTIONS
        elif inside and (entry := _ENTRY.match(line)):
            module = entry[2].replace(".", "/")
            for start in (base, joined(base, "src")):
                for file in (f"{module}.py", f"{module}/__init__.py"):
                    found.setdefault(os.fspath(PurePosixPath(start) / file), entry[1])
    return found
