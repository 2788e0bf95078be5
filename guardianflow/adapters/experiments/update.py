"""A scan brought into an experiments.yaml: new entries, nothing else; and what it saw of those that stand there."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.experiments.content import Content
from guardianflow.adapters.experiments.entries import ExperimentEntry, ExperimentTable
from guardianflow.adapters.experiments.generation import Draft, named, script_files
from guardianflow.adapters.experiments.seen import Seen
from guardianflow.adapters.scan.findings import ScanReport

__all__ = ["HEADER", "RegistryUpdate", "is_there", "updated"]

HEADER = (
    "# What can be run here. `guardianflow scan` adds to this file and never changes what stands in it.\n"
    "# Scripts listed under `ignore:` stay out.\n"
)
_ROLES = frozenset({"training", "inference", "evaluation", "export"})


@dataclass(frozen=True)
class RegistryUpdate:
    """What a scan changed in the file, or would.

    Attributes:
        entries: The new entries.
        missing: Names whose script is not there.
        updated: Names whose script is another one than at the last scan.
        unchanged: All other names.
        ignored: Scripts that ``ignore:`` keeps out.
        left_out: Scripts that can't become an entry, with the reason.
        changed: Whether the file's text differs now (with ``write=False``: would differ).
        remarks: What else is to be known, in sentences.
        report: The scan itself; None before it is put to it.
    """

    entries: tuple[ExperimentEntry, ...]
    missing: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    ignored: tuple[str, ...]
    changed: bool
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    report: ScanReport | None = field(default=None, repr=False)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the new entries."""
        return tuple(entry.name for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        lists = ("missing", "updated", "unchanged", "ignored", "remarks")
        return {
            "added": [entry.to_dict() for entry in self.entries],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "changed": self.changed,
            **{name: list(getattr(self, name)) for name in lists},
        }

    def _repr_html_(self) -> str:
        return ExperimentTable(self.entries)._repr_html_() + (
            f"<p>{len(self.added)} added, {len(self.missing)} missing, "
            f"{len(self.updated)} updated, {len(self.unchanged)} unchanged.</p>"
        )


def updated(
    content: Content, drafts: Sequence[Draft], seen: Mapping[str, Seen], *, folder: Path
) -> tuple[RegistryUpdate, dict[str, Seen]]:
    """What a scan changes.

    Args:
        content: What the file says.
        drafts: What the scan found.
        seen: What is known of the entries, by name.
        folder: The folder that the file's paths start from.

    Returns:
        What changes, and what is known of the entries now.
    """
    ignored = _ignored(drafts, content.ignore)
    matches, new = _matched([draft for draft in drafts if draft.path not in ignored], content.entries)
    added = named(new, content.entries)
    now = {name: seen[name] for name in content.entries if name in seen}
    for name, entry in [*((name, draft.entry) for name, draft in matches.items()), *((e.name, e) for e in added)]:
        now[name] = now.get(name, Seen()).of(entry)
    missing = [name for name, entry in content.entries.items() if not is_there(entry, folder)]
    fresh = [name for name in matches if name in seen and now[name] != seen[name]]
    update = RegistryUpdate(
        entries=tuple(added),
        missing=tuple(missing),
        updated=tuple(fresh),
        unchanged=tuple(name for name in content.entries if name not in {*missing, *fresh}),
        ignored=tuple(sorted(ignored)),
        changed=bool(added),
    )
    return update, now


def is_there(entry: ExperimentEntry, folder: Path) -> bool:
    """Whether an entry's script is there; a command is, for whether it is on PATH differs from machine to machine."""
    files = script_files(entry)
    if not files:
        return True
    if any(_is_file(folder / file) for file in files):
        return True
    # A module may be an installed package's. Only one whose package lies here can vanish.
    top = entry.script.partition(".")[0]
    return entry.module and not (folder / entry.working_dir / top).exists()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _ignored(drafts: Iterable[Draft], patterns: Sequence[str]) -> set[str]:
    if not patterns:
        return set()
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(patterns)
    return {draft.path for draft in drafts if spec.match_file(draft.path)}


def _matched(drafts: Sequence[Draft], entries: Mapping[str, ExperimentEntry]) -> tuple[dict[str, Draft], list[Draft]]:
    """Entry name → the draft of its script; and the drafts that no entry has.

    A script that the scan gave one role is one entry's, whatever role that entry has: the script may have changed.
    """
    by_path: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_path.setdefault(_key(draft.path), []).append(draft)
    matches: dict[str, Draft] = {}
    known: set[int] = set()
    for name, entry in entries.items():
        found = next((by_path[_key(file)] for file in script_files(entry) if _key(file) in by_path), [])
        roles = {entry.role} if entry.role else _ROLES.intersection(entry.tags)
        fitting = [draft for draft in found if len(found) == 1 or not roles or draft.entry.role in roles]
        if fitting:
            matches[name] = fitting[0]
            # An entry by hand says no role: it stands for all that its script does.
            known.update(id(draft) for draft in (fitting[:1] if roles else fitting))
    return matches, [draft for draft in drafts if id(draft) not in known]


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.normpath(path))
