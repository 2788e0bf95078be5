"""One script or notebook from file to finding: read, judged, and looked through for parameters and files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from guardianflow.adapters.scan.findings import FoundScript
from guardianflow.adapters.scan.script_facts import read_facts
from guardianflow.adapters.scan.script_signs import judge, may_be_a_script, score_of
from guardianflow.adapters.scan.walk import Skipped, read_start
from guardianflow.adapters.wrap.parameters.script_parameters import read_declared
from guardianflow.adapters.wrap.parameters.script_text import parse_script, read_notebook, read_script
from guardianflow.exceptions import InputError

__all__ = ["entry_points", "read_candidate"]

_MOST_CODE = 2_000_000
_MOST_NOTEBOOK = 50_000_000  # with its pictures
_MOST_DATA = 10
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%python")
_MAGIC = re.compile(r"%%?[a-zA-Z]|[!?]")
_STRING_OR_COMMENT = re.compile(r"[\"'#]")
_YOLO = re.compile(r"!\s*yolo\s+(?:\w+\s+)?(train|val|predict|track|export)\b(?:.*\bdata=([\w./-]+))?")
_ENTRY = re.compile(r"^\s*[\"']?([\w.-]+)[\"']?\s*=\s*[\"']?([\w.]+)\s*:\s*([\w.]+)")
_SECTIONS = {"[console_scripts]", "[project.scripts]", "[tool.poetry.scripts]"}


def read_candidate(path: Path, relative: str, skipped: Skipped, *, started_by: str = "") -> FoundScript | None:
    """What a file was taken for; None where it is no script of ours.

    Args:
        path: The file.
        relative: Below the root, with ``/``.
        skipped: Takes a file that can't be read.
        started_by: The console script that starts it, where one does.
    """
    is_notebook = path.suffix.lower() == ".ipynb"
    what, most = ("notebook", _MOST_NOTEBOOK) if is_notebook else ("script", _MOST_CODE)
    content = read_start(str(path), most + 1)
    if len(content) > most:
        skipped.add(relative, f"{what} over {most // 10**6} MB")
    elif not content and not os.access(path, os.R_OK):
        skipped.add(relative, "file can't be read")
    elif may_be_a_script(content, starts=is_notebook or bool(started_by)):
        try:
            lines, text = _notebook_lines(path) if is_notebook else _script_lines(path)
            facts = read_facts(parse_script(text), lines)
        except (InputError, RecursionError):
            skipped.add(relative, f"{what} that can't be read as Python 3")
            return None
        if found := judge(facts, relative, is_notebook=is_notebook, started_by=started_by):
            role, framework, reasons = found
            return FoundScript(
                path=Path(relative),
                role=role,
                framework=framework,
                score=score_of(reasons),
                reasons=reasons,
                is_notebook=is_notebook,
                declared=read_declared(path),
                data=tuple(facts.data)[:_MOST_DATA],
                module_of=_module_name(path) if facts.is_relative else "",
            )
    return None


def _script_lines(path: Path) -> tuple[list[str], str]:
    text = read_script(path)
    return text.splitlines(), text


def _notebook_lines(path: Path) -> tuple[list[str], str]:
    """The lines of a notebook's code cells as they are, and the same as a script.

    Raises:
        InputError: It is no notebook of format 4, or holds too much code.
    """
    lines, code = [], []
    for text, _ in read_notebook(path).cells:
        own = text.splitlines()
        foreign = text.lstrip().startswith("%%") and not text.lstrip().startswith(_PYTHON_CELLS)
        lines += own
        code += ["" if foreign else _as_python(line) for line in own]
    if sum(map(len, code)) > _MOST_CODE:
        raise InputError("the notebook's code is larger than 2 MB")
    return lines, "\n".join(code)


def _as_python(line: str) -> str:
    """A line without what only IPython understands; ``!yolo train`` as the call that it stands for."""
    bare = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if yolo := _YOLO.match(bare):
        return f"{indent}import ultralytics; ultralytics.YOLO().{yolo[1]}(data={yolo[2]!r})"
    if _MAGIC.match(bare) or (bare.endswith("?") and not _STRING_OR_COMMENT.search(bare)):
        return f"{indent}pass"
    name, _, value = line.partition("=")
    return f"{name}= None" if _MAGIC.match(value.lstrip()) else line


def _module_name(path: Path) -> str:
    """The dotted name of a file in a package, as ``python -m`` takes it; empty where it has none."""
    parts = [] if path.stem == "__main__" else [path.stem]
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.append(folder.name)
    in_package = (path.parent / "__init__.py").is_file() and path.stem != "__init__"
    return ".".join(reversed(parts)) if in_package and all(map(str.isidentifier, parts)) else ""


def entry_points(path: str, base: Path) -> Mapping[Path, str]:
    """Console scripts that a file declares: the file of the module that each one starts → its name.

    Args:
        path: An ``entry_points.txt``, ``pyproject.toml`` or ``setup.cfg``, absolute.
        base: The folder that the modules lie in (or its ``src``), absolute.
    """
    found: dict[Path, str] = {}
    inside = False
    for line in read_start(path, 1 << 18).decode("utf-8", "replace").splitlines():
        if line.strip().startswith("["):
            inside = line.strip() in _SECTIONS
        elif inside and (entry := _ENTRY.match(line)):
            for start in (base, base / "src"):
                module = start.joinpath(*entry[2].split("."))
                found |= {module.with_suffix(".py"): entry[1], module / "__init__.py": entry[1]}
    return found
