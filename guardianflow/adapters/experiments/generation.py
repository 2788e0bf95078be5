"""Entries of an experiments.yaml made from what a scan found: their names, their paths, what they take."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from guardianflow.adapters.experiments.entries import ArgumentSpec, ExperimentEntry
from guardianflow.adapters.scan.findings import FoundScript, ScanReport
from guardianflow.core.config import mask_secrets
from guardianflow.exceptions import InputError
from guardianflow.text.names import validate_name
from guardianflow.text.printable import has_unprintable, plain_values, printable
from guardianflow.text.redaction import redact

__all__ = ["Draft", "draft_entries", "named"]

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
            drafts.append(Draft(_entry(script, path, folder, "." if inside else root.as_posix()), path))
    return drafts, left_out


def _entry(script: FoundScript, path: str, folder: Path, base: str) -> ExperimentEntry:
    module = script.module_of
    return ExperimentEntry(
        name="",
        script=module or path,
        working_dir=_module_root(path, module, base) if module else _working_dir(script, path, folder, base),
        framework=script.framework,
        module=bool(module),
        arguments=_arguments(script),
        data=_texts(script.data),
        tags=(script.role,),
        role=script.role,
        score=round(float(script.score), 2),
        reasons=_texts(map(str, script.reasons[:_MAX_REASONS])),
    )


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(printable(mask_secrets(text), longest=_MAX_TEXT) for text in texts)


def _module_root(path: str, module: str, base: str) -> str:
    """The folder from which ``-m`` finds the module: as many levels above the file as the name has dots."""
    parts = PurePosixPath(path).with_suffix("").parts
    names = tuple(module.split("."))
    for tail in (names, (*names, "__main__"), (*names, "__init__")):
        if parts[-len(tail) :] == tail:
            return PurePosixPath(*parts[: -len(tail)]).as_posix()
    return base


def _working_dir(script: FoundScript, path: str, folder: Path, base: str) -> str:
    """The script's own folder where its data files are found from there only; else the one that paths start from."""
    home = PurePosixPath(path).parent.as_posix()
    names = [name for name in script.data if name and not Path(name).is_absolute()]
    here, there = (
        any(os.path.exists(folder / place / name) for name in names)  # noqa: PTH110 - takes any name
        for place in (base, home)
    )
    return home if there and not here else base


def _arguments(script: FoundScript) -> dict[str, ArgumentSpec]:
    declared = script.declared.parameters[:_MAX_ARGUMENTS] if script.declared is not None else ()
    return {
        parameter.name: ArgumentSpec(
            parameter.type or "str",
            _default(parameter.name, parameter.default),
            required=parameter.required,
            help=printable(mask_secrets(" ".join(parameter.help.split())), longest=_MAX_TEXT),
        )
        for parameter in declared
        if parameter.name and not has_unprintable(parameter.name)
    }


def _default(name: str, value: Any) -> Any:
    """The default as the file can hold it; None where it is a secret, or long."""
    plain = plain_values(value)
    is_short = len(plain) <= 20 if isinstance(plain, list) else len(str(plain)) <= _MAX_TEXT
    is_plain = not isinstance(plain, dict) and not has_unprintable(str(plain))
    return plain if is_short and is_plain and redact({name: plain}) == {name: plain} else None


def named(drafts: Iterable[Draft], taken: Iterable[str]) -> list[ExperimentEntry]:
    """Give drafts names: the script's, with as many of its folders before it as it takes to be the only one.

    Args:
        drafts: In the order in which names are given.
        taken: Names that are in use.
    """
    waiting = list(drafts)
    wanted = Counter(_name(draft.path, 1).casefold() for draft in waiting)
    used = {*(name.casefold() for name in taken), *(name for name, times in wanted.items() if times > 1)}
    entries = []
    for draft in waiting:
        name = next(name for name in _names(draft) if name.casefold() not in used)
        used.add(name.casefold())
        entries.append(replace(draft.entry, name=name))
    return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name))


def _names(draft: Draft) -> Iterator[str]:
    """Names for a draft, the best first."""
    names = [_name(draft.path, parts) for parts in range(1, len(PurePosixPath(draft.path).parts) + 1)]
    yield from names
    yield f"{names[-1]}-{'notebook' if draft.path.endswith('.ipynb') else draft.entry.role or 'script'}"
    yield from (f"{names[-1]}-{number}" for number in count(2))


def _name(path: str, parts: int) -> str:
    """The last parts of a path as a name that the rule for names allows."""
    words = PurePosixPath(path).with_suffix("").parts[-parts:]
    text = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", "-".join(words))).strip("-. ")
    try:
        return validate_name(text[-_MAX_NAME:].strip("-. "))
    except InputError:
        return "script"
