"""A scan brought into an experiments.yaml: new entries, nothing else; and which of those that stand there it saw."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.adapters.experiments.entries import ExperimentEntry, ExperimentTable
from guardianflow.adapters.experiments.generation import Draft, named
from guardianflow.adapters.experiments.reading import Content
from guardianflow.adapters.scan.findings import ROLES

__all__ = ["RegistryUpdate", "updated"]


@dataclass(frozen=True)
class RegistryUpdate:
    """What a scan changed in the file, or would.

    Attributes:
        entries: The new entries.
        missing: Names whose script is not there.
        unchanged: All other names.
        ignored: Scripts that ``ignore:`` keeps out.
        left_out: Scripts that can't become an entry, with the reason.
        remarks: What else is to be known, in sentences.
    """

    entries: tuple[ExperimentEntry, ...]
    missing: tuple[str, ...]
    unchanged: tuple[str, ...]
    ignored: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the new entries."""
        return tuple(entry.name for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        lists = ("missing", "unchanged", "ignored", "remarks")
        return {
            "added": [entry.to_dict() for entry in self.entries],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            **{name: list(getattr(self, name)) for name in lists},
        }

    def _repr_html_(self) -> str:
        counts = f"{len(self.added)} added, {len(self.missing)} missing, {len(self.unchanged)} unchanged"
        return f"{ExperimentTable(self.entries)._repr_html_()}<p>{counts}.</p>"


def updated(
    content: Content, drafts: Sequence[Draft], *, folder: Path
) -> tuple[RegistryUpdate, dict[str, ExperimentEntry]]:
    """What a scan changes.

    Args:
        content: What the file says.
        drafts: What the scan found.
        folder: The folder that the file's paths start from.

    Returns:
        What changes, and what the scan found of each entry's script, by the entry's name.
    """
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(content.ignore)
    ignored = {draft.path for draft in drafts if spec.match_file(draft.path)}
    found, new = _matched([draft for draft in drafts if draft.path not in ignored], content.entries)
    added = named(new, content.entries)
    missing = [name for name, entry in content.entries.items() if not entry.is_there(folder)]
    update = RegistryUpdate(
        entries=tuple(added),
        missing=tuple(missing),
        unchanged=tuple(name for name in content.entries if name not in missing),
        ignored=tuple(sorted(ignored)),
    )
    return update, found | {entry.name: entry for entry in added}


def _matched(
    drafts: Sequence[Draft], entries: Mapping[str, ExperimentEntry]
) -> tuple[dict[str, ExperimentEntry], list[Draft]]:
    """Entry name → what the scan found of its script; and the drafts that no entry has.

    A script that the scan gave one role is one entry's, whatever role that entry has: the script may have changed.
    """
    by_path: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_path.setdefault(_key(draft.path), []).append(draft)
    matches: dict[str, ExperimentEntry] = {}
    known: set[int] = set()
    for name, entry in entries.items():
        found = next((by_path[_key(file)] for file in entry.files if _key(file) in by_path), [])
        roles = {*ROLES}.intersection(entry.tags)
        fitting = [draft for draft in found if len(found) == 1 or not roles or draft.entry.role in roles]
        if fitting:
            matches[name] = fitting[0].entry
            # An entry by hand says no role: it stands for all that its script does.
            known.update(id(draft) for draft in (fitting[:1] if roles else fitting))
    return matches, [draft for draft in drafts if id(draft) not in known]


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.normpath(path))
