"""Entries of an experiments.yaml made from what a scan found: their names, their paths, what they take."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from guardianflow.adapters.experiments.entries import ArgumentSpec, ExperimentEntry, fits
from guardianflow.adapters.scan.findings import FoundScript, ScanReport
from guardianflow.core.config import mask_secrets
from guardianflow.exceptions import InputError
from guardianflow.files.content import hash_file
from guardianflow.text.names import validate_name
from guardianflow.text.printable import has_unprintable, printable
from guardianflow.text.redaction import redact

__all__ = ["Draft", "draft_entries", "named", "script_files"]

_MAX_ARGUMENTS = 200
_MAX_REASONS = 5
_MAX_TEXT = 120
_MAX_NAME = 80
_NOT_IN_NAMES = re.compile(r"[\s/\\:@?#%-]+")


@dataclass(frozen=True)
class Draft:
    """A script that a scan found, as an entry that has no name yet.

    Attributes:
        entry: All but the name.
        path: The script's file from the folder of the experiments.yaml, with ``/``; absolute where it lies outside.
    """

    entry: ExperimentEntry
    path: str


def draft_entries(report: ScanReport, folder: Path) -> tuple[list[Draft], list[tuple[str, str]]]:
    """Drafts of all scripts that were found, sorted by path and role; and what can't become one, with the reason.

    Args:
        report: What was found.
        folder: The folder of the experiments.yaml.
    """
    root, home = Path(os.path.realpath(report.root)), Path(os.path.realpath(folder))
    drafts, left_out = [], []
    for script in sorted(report.scripts, key=lambda script: (script.path.as_posix(), script.role)):
        full = root / script.path
        inside = full.is_relative_to(home)
        path = (full.relative_to(home) if inside else full).as_posix()
        if has_unprintable(path):
            left_out.append((printable(path), "a name with invisible or undecodable characters"))
        else:
            drafts.append(_draft(script, path, folder, "." if inside else root.as_posix()))
    return drafts, left_out


def _draft(script: FoundScript, path: str, folder: Path, base: str) -> Draft:
    module = script.module_of
    working_dir = _module_root(path, module, base) if module else _working_dir(script, path, folder, base)
    entry = ExperimentEntry(
        name="",
        script=script.module_of or path,
        working_dir=working_dir,
        framework=script.framework,
        module=bool(script.module_of),
        arguments=_arguments(script),
        data=_texts(script.data),
        tags=(script.role,),
        role=script.role,
        score=round(float(script.score), 2),
        reasons=_texts(str(reason) for reason in script.reasons[:_MAX_REASONS]),
        content=_digest(folder / path),
    )
    return Draft(entry, path)


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(printable(mask_secrets(text), longest=_MAX_TEXT) for text in texts)


def _module_root(path: str, module: str, base: str) -> str:
    """The folder from which ``-m`` finds the module: as many levels above the file as the name has dots."""
    parts = PurePosixPath(path).with_suffix("").parts
    names = module.split(".")
    for tail in (names, [*names, "__main__"], [*names, "__init__"]):
        if list(parts[-len(tail) :]) == tail:
            return PurePosixPath(*parts[: -len(tail)]).as_posix()
    return base


def _working_dir(script: FoundScript, path: str, folder: Path, base: str) -> str:
    """The script's own folder where its data files are found from there only; else the one that paths start from."""
    home = PurePosixPath(path).parent.as_posix()
    names = [name for name in script.data if name and not Path(name).is_absolute()]
    here = any(_exists(folder / base / name) for name in names)
    there = any(_exists(folder / home / name) for name in names)
    return home if there and not here else base


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _arguments(script: FoundScript) -> dict[str, ArgumentSpec]:
    if script.declared is None:
        return {}
    arguments = {}
    for parameter in script.declared.parameters[:_MAX_ARGUMENTS]:
        if not parameter.name or has_unprintable(parameter.name):
            continue
        default = _default(parameter.name, parameter.default, parameter.type) if parameter.has_default else None
        arguments[parameter.name] = ArgumentSpec(
            parameter.type or "str",
            default,
            required=parameter.required,
            help=printable(mask_secrets(" ".join(parameter.help.split())), longest=_MAX_TEXT),
        )
    return arguments


def _default(name: str, value: Any, kind: str) -> Any:
    """The default as the file can hold it; None where it is a secret, or not of its own type."""
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_default(name, item, kind) for item in (sorted(value, key=repr) if isinstance(value, set) else value)]
        return None if None in items or len(items) > 20 else items
    if value is None or redact({name: value}).get(name) != _json(value) or not fits(kind, value):
        return None
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= _MAX_TEXT and not has_unprintable(text) else None


def _json(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float)) else str(value)


def _digest(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError:
        return ""


def named(drafts: Iterable[Draft], taken: Iterable[str]) -> list[ExperimentEntry]:
    """Give drafts names: the script's, with as many of its folders before it as it takes to be the only one.

    Args:
        drafts: In the order in which names are given.
        taken: Names that are in use.
    """
    waiting = list(drafts)
    used = {name.casefold() for name in taken}
    wanted: dict[str, int] = {}
    for draft in waiting:
        first = _name(draft.path, 1).casefold()
        wanted[first] = wanted.get(first, 0) + 1
    entries = []
    for draft in waiting:
        name = _free_name(draft, lambda name: name.casefold() in used or wanted.get(name.casefold(), 0) > 1)
        used.add(name.casefold())
        entries.append(replace(draft.entry, name=name))
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name))


def _free_name(draft: Draft, is_taken: Callable[[str], bool]) -> str:
    depth = len(PurePosixPath(draft.path).parts)
    names = [_name(draft.path, parts) for parts in range(1, depth + 1)]
    longest = names[-1]
    kind = "notebook" if draft.path.endswith(".ipynb") else draft.entry.role or "script"
    candidates = [*names, f"{longest}-{kind}", f"{longest}-{kind}-{draft.entry.role or kind}"]
    name = next((name for name in candidates if not is_taken(name)), None)
    number = 2
    while name is None:
        name = None if is_taken(f"{longest}-{number}") else f"{longest}-{number}"
        number += 1
    return name


def _name(path: str, parts: int) -> str:
    """The last parts of a path as a name that the rule for names allows."""
    words = PurePosixPath(path).with_suffix("").parts[-parts:]
    text = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", "-".join(words))).strip("-. ")
    text = text[-_MAX_NAME:].strip("-. ")
    try:
        return validate_name(text)
    except InputError:
        return "script"


def script_files(entry: ExperimentEntry) -> tuple[str, ...]:
    """The files that an entry's script may be, from the folder of the experiments.yaml, with ``/``.

    Empty for a bare word, which is a command on PATH.
    """
    script = unicodedata.normalize("NFC", entry.script.replace("\\", "/") if os.name == "nt" else entry.script)
    if entry.module:
        base = os.path.normpath(f"{entry.working_dir}/{script.replace('.', '/')}").replace(os.sep, "/")
        return (f"{base}.py", f"{base}/__main__.py", f"{base}/__init__.py")
    if "/" not in script and "." not in script:
        return ()
    return (os.path.normpath(script).replace(os.sep, "/"),)
