"""A scan brought into an experiments.yaml: new entries, marks of vanished scripts, nothing else."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.adapters.experiments.content import Content
from guardianflow.adapters.experiments.edits import TextEdits
from guardianflow.adapters.experiments.entries import ExperimentEntry, ExperimentTable, entry_values, found_values
from guardianflow.adapters.experiments.generation import Draft, named, script_files
from guardianflow.adapters.experiments.yaml_text import plain
from guardianflow.adapters.scan.findings import ScanReport

__all__ = ["HEADER", "RegistryUpdate", "updated"]

HEADER = (
    "# What can be run here. `guardianflow scan` adds to this file and never changes what you wrote.\n"
    "# `found:`, `missing:` and `last_run:` are its own. Scripts listed under `ignore:` stay out.\n"
)


@dataclass(frozen=True)
class RegistryUpdate:
    """What a scan changed in the file, or would.

    Attributes:
        entries: The new entries.
        found_again: Names whose script is back.
        missing: Names whose script is not there.
        updated: Names whose ``found:`` was brought up to date, for the script changed.
        unchanged: All other names.
        ignored: Scripts that ``ignore:`` keeps out.
        left_out: Scripts that can't become an entry, with the reason.
        changed: Whether the file's text differs now (with ``write=False``: would differ).
        remarks: What else is to be known, in sentences.
        report: The scan itself; None before it is put to it.
    """

    entries: tuple[ExperimentEntry, ...]
    found_again: tuple[str, ...]
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
        lists = ("found_again", "missing", "updated", "unchanged", "ignored", "remarks")
        return {
            "added": [entry.to_dict() for entry in self.entries],
            "left_out": [{"path": path, "reason": reason} for path, reason in self.left_out],
            "changed": self.changed,
            **{name: list(getattr(self, name)) for name in lists},
        }

    def _repr_html_(self) -> str:
        return ExperimentTable(self.entries)._repr_html_() + (
            f"<p>{len(self.added)} added, {len(self.found_again)} found again, {len(self.missing)} missing, "
            f"{len(self.updated)} updated, {len(self.unchanged)} unchanged.</p>"
        )


def updated(text: str, content: Content, drafts: Sequence[Draft], *, folder: Path) -> tuple[RegistryUpdate, str]:
    """Bring a file's text up to date.

    Args:
        text: The file as it is; empty where there is none.
        content: What was read from it.
        drafts: What the scan found.
        folder: The folder that the file's paths start from.

    Returns:
        What changed, and the new text.

    Raises:
        YamlProblem: The change can't be put into the file's form.
    """
    text = text or HEADER
    edits = TextEdits(text, content.tree)
    ignored = _ignored(drafts, content.ignore)
    matches, new = _matched([draft for draft in drafts if draft.path not in ignored], content.entries)
    changes = _Changes(content, edits, folder)
    for name, entry in content.entries.items():
        changes.mark(name, entry, matches.get(name))
    added = named(new, content.entries)
    edits.append({entry.name: entry_values(entry) for entry in added})
    result = edits.result() if added or changes.changed else text
    touched = {*changes.found_again, *changes.missing, *changes.updated}
    update = RegistryUpdate(
        entries=tuple(added),
        found_again=tuple(changes.found_again),
        missing=tuple(changes.missing),
        updated=tuple(changes.updated),
        unchanged=tuple(name for name in content.entries if name not in touched),
        ignored=tuple(sorted(ignored)),
        changed=bool(added or changes.changed),
    )
    return update, result


class _Changes:
    """Marks set and taken away, entry by entry."""

    def __init__(self, content: Content, edits: TextEdits, folder: Path) -> None:
        self._content = content
        self._edits = edits
        self._folder = folder
        self.found_again: list[str] = []
        self.missing: list[str] = []
        self.updated: list[str] = []
        self.changed = False

    def mark(self, name: str, entry: ExperimentEntry, draft: Draft | None) -> None:
        place = self._content.places[name]
        gone = not _is_there(entry, self._folder)
        if gone:
            self.missing.append(name)
        if place.is_alias:  # its lines are another entry's, which says it for both
            return
        if gone and not entry.missing:
            self._edits.put(place, "missing", True)
            self.changed = True
        elif entry.missing and not gone:
            self._edits.drop(place, "missing")
            self.found_again.append(name)
            self.changed = True
        if draft is not None and not gone:
            self._refresh(name, draft)

    def _refresh(self, name: str, draft: Draft) -> None:
        """Bring the entry's ``found:`` up to date, where it has one."""
        place = self._content.places[name]
        own = next((pair for pair in place.value.pairs if pair.key.text == "found"), None)
        if own is None or own.value.kind != "mapping":
            return
        before = plain(own.value)
        after = {**before, **found_values(draft.entry)}
        if after != before:
            self._edits.put(place, "found", after)
            self.updated.append(name)
            self.changed = True


def _is_there(entry: ExperimentEntry, folder: Path) -> bool:
    files = script_files(entry)
    if not files:
        return True  # a command: whether it is on PATH differs from machine to machine
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
        fitting = [draft for draft in found if len(found) == 1 or entry.role in {"", draft.entry.role}]
        if fitting:
            matches[name] = fitting[0]
            # An entry by hand says no role: it stands for all that its script does.
            known.update(id(draft) for draft in (fitting if not entry.role else fitting[:1]))
    return matches, [draft for draft in drafts if id(draft) not in known]


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", os.path.normpath(path))
