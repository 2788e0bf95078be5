"""What can be run here: the entries of an experiments.yaml, found by scanning and corrected by people."""

from __future__ import annotations

import difflib
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from guardianflow.adapters.experiments.appending import appended
from guardianflow.adapters.experiments.entries import ExperimentEntry, ExperimentTable, LastRun
from guardianflow.adapters.experiments.file import ExperimentFile, Seen
from guardianflow.adapters.experiments.generation import Draft, draft_entries
from guardianflow.adapters.experiments.reading import Content, read_content
from guardianflow.adapters.experiments.update import RegistryUpdate, updated
from guardianflow.adapters.scan.findings import ScanReport
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.text.names import validate_name
from guardianflow.text.printable import printable

__all__ = ["EntryPaths", "ExperimentRegistry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EntryPaths:
    """Where an entry runs.

    Attributes:
        working_dir: Absolute.
        script: As it is started from there: a path relative to ``working_dir`` (absolute where it lies outside
            of it), a module's dotted name, or a command.
    """

    working_dir: Path
    script: str


class ExperimentRegistry:
    """The experiments of a folder, kept in a file that people edit.

    Paths in the file start from the folder that the file is named in, or are absolute. Each call reads the file
    anew; whatever adds to it holds a lock. What was seen last, and the last runs, are kept in a file of ours beside it.

    Args:
        path: The file; ``scan_and_generate`` and ``add`` make it.

    Attributes:
        path: The file, absolute.
        folder: The folder that paths in the file start from.
        remarks: Unknown keys and the like, of the last reading.
    """

    def __init__(self, path: str | Path = "experiments.yaml") -> None:
        self.path = Path(path).expanduser().absolute()
        self.folder = self.path.parent
        self.remarks: tuple[str, ...] = ()
        self._file = ExperimentFile(self.path)

    def get(self, name: str) -> ExperimentEntry:
        """The entry of a name, to be run.

        Raises:
            NotFoundError: No such entry; the message lists near ones.
            InputError: The file is broken, or the entry's paths lead out of the file's folder.
        """
        entry = self._entry(self._read(self._file.read()), name)
        self.paths(entry)
        return entry

    def paths(self, entry: ExperimentEntry) -> EntryPaths:
        """Where an entry runs, and its script as it is started from there.

        Raises:
            InputError: One of its paths leads out of the file's folder, with ``..`` or through a link.
        """
        working_dir = self._inside(entry, entry.working_dir, "working_dir")
        if entry.module or not entry.files:
            return EntryPaths(working_dir, entry.script)
        script = self._inside(entry, entry.script, "script")
        relative = os.path.relpath(script, working_dir)
        return EntryPaths(working_dir, str(script) if relative.startswith(os.pardir) else relative)

    def __repr__(self) -> str:
        return f"ExperimentRegistry({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()

    def list(self) -> ExperimentTable:
        """All entries, in the file's order.

        Raises:
            InputError: The file is broken.
        """
        return ExperimentTable(self._read(self._file.read()).entries.values())

    def find(self, text: str = "", *, tag: str = "") -> ExperimentTable:
        """Entries that fit, the best first: those with the words in their name, then tags, script, framework, reasons.

        Args:
            text: Words that must all occur; capitals don't matter.
            tag: A tag that they must have.

        Raises:
            InputError: The file is broken.
        """
        words = _fold(text).split()
        kept = [entry for entry in self.list() if not tag or _fold(tag) in map(_fold, entry.tags)]
        ranks = [(sorted(_rank(entry, word) for word in words), entry) for entry in kept]
        fitting = [(rank, entry) for rank, entry in ranks if _NOWHERE not in rank]
        return ExperimentTable(entry for _, entry in sorted(fitting, key=lambda pair: sum(pair[0])))

    def scan_and_generate(self, folder: str | Path | None = None, *, write: bool = True) -> RegistryUpdate:
        """Scan a folder and bring the file up to date (see :meth:`enter`).

        Args:
            folder: What to scan; the file's own folder where nothing is given.
            write: False only says what would change.

        Raises:
            InputError: The folder can't be scanned; the file is broken or can't be written.
        """
        from guardianflow.adapters.scan.scan import scan_folder

        return self.enter(scan_folder(self.folder if folder is None else folder), write=write)

    def enter(self, report: ScanReport, *, write: bool = True) -> RegistryUpdate:
        """Add what a scan found behind the last entry, and keep beside the file what was seen of the others.

        An entry is known by its script's path (and by the role among its tags, where a script has two), not by its
        name. What stands in the file is never changed. An entry that was taken out comes back, unless ``ignore:`` in
        the file lists its script (patterns as in a ``.gitignore``).

        Args:
            report: What was found.
            write: False only says what would change.

        Raises:
            InputError: The file is broken or can't be written.
            ConflictError: Another process holds the file's lock.
        """
        drafts, left_out = draft_entries(report, self.folder)
        made: dict[str, ExperimentEntry] = {}
        updates: list[RegistryUpdate] = []

        def edit(text: str | None) -> str | None:
            content = self._read(text)
            update, seen = updated(content, drafts, folder=self.folder)
            made.update(seen)
            remarks = (*_outside(drafts, report, self.folder), *self.remarks)
            updates.append(replace(update, left_out=tuple(left_out), remarks=remarks))
            return appended(text or "", self.path, update.entries) if update.entries else None

        def note(known: dict[str, Seen]) -> None:
            for name, entry in made.items():
                last = known.get(name, Seen()).last_run
                known[name] = Seen(entry.role, entry.score, entry.reasons, last)

        if write:
            self._file.change(edit)
            self._file.note(note)
        else:
            edit(self._file.read())
        return updates[-1]

    def add(self, entry: ExperimentEntry) -> None:
        """Put a new entry at the end of the file.

        Raises:
            InputError: There is one of that name, a value can't be written, or the file can't be.
        """
        name = validate_name(entry.name, "experiment name")

        def edit(text: str | None) -> str:
            content = self._read(text)
            if name in content.entries:
                raise InputError(
                    f"{printable(self.path)} has an experiment {name!r} already, in line "
                    f"{content.entries[name].line}; choose another name, or edit that one"
                )
            return appended(text or "", self.path, [replace(entry, name=name)])

        self._file.change(edit)

    def record_run(self, name: str, *, run_id: str, status: str, ended: datetime | None = None) -> None:
        """Keep an entry's last run.

        Args:
            name: The entry.
            run_id: The run.
            status: ``FINISHED``, ``FAILED``, …
            ended: When it ended; a time without a zone is UTC. Default: now.

        Raises:
            NotFoundError: No such entry.
            InputError: The file is broken, or it can't be written beside it.
        """
        entry = self._entry(self._read(self._file.read()), name)
        ended = ended or datetime.now(UTC)
        time = (ended if ended.tzinfo else ended.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
        last = LastRun(run_id, status, time.replace("+00:00", "Z"))

        def note(known: dict[str, Seen]) -> None:
            known[entry.name] = replace(known.get(entry.name, Seen()), last_run=last)

        self._file.note(note)

    def _read(self, text: str | None) -> Content:
        """What a text says, with what is known beside the file."""
        content = read_content(text or "", self.path)
        for remark in content.remarks:
            if remark not in self.remarks:
                log.warning("%s", remark)
        self.remarks = content.remarks
        seen = self._file.seen()
        entries = {
            name: replace(entry, missing=not entry.is_there(self.folder), **vars(seen.get(name, Seen())))
            for name, entry in content.entries.items()
        }
        return replace(content, entries=entries)

    def _inside(self, entry: ExperimentEntry, path: str, key: str) -> Path:
        if Path(path).is_absolute() and "\0" not in path:
            return Path(os.path.normpath(path))
        root = Path(os.path.realpath(self.folder))
        found = Path(os.path.realpath(root / path)) if "\0" not in path else None
        if found is None or not found.is_relative_to(root):
            raise InputError(
                f"{printable(self.path)}, line {entry.line}: `{key}: {printable(path)}` of the experiment "
                f"{entry.name!r} leads out of {printable(self.folder)}; name a path inside, or an "
                f"absolute one"
            )
        return found

    def _entry(self, content: Content, name: str) -> ExperimentEntry:
        entry = content.entries.get(unicodedata.normalize("NFC", name))
        if entry is not None:
            return entry
        near = difflib.get_close_matches(name, content.entries, n=5, cutoff=0.5) or [*content.entries][:5]
        advice = f"there is {', '.join(near)}" + (", …" if len(content.entries) > len(near) else "")
        if not near:
            advice = "it has none; fill it with `guardianflow scan FOLDER --write experiments.yaml`"
        raise NotFoundError(f"no experiment {printable(repr(name))} in {printable(self.path)}; {advice}")


_NOWHERE = 9


def _rank(entry: ExperimentEntry, word: str) -> int:
    """In which of an entry's texts a word stands: the earlier, the better it fits."""
    name = _fold(entry.name)
    places = (entry.name, " ".join(entry.tags), entry.script, entry.framework, " ".join(entry.reasons))
    found = [place for place, text in enumerate(places, start=1) if word in _fold(text)]
    return 0 if word == name else min(found, default=_NOWHERE)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()


def _outside(drafts: Iterable[Draft], report: ScanReport, folder: Path) -> Iterator[str]:
    if absolute := sum(Path(draft.path).is_absolute() for draft in drafts):
        yield (
            f"{absolute} of the scripts lie outside {printable(folder)}, where the file is, and have absolute paths in "
            f"it: it is of use on this machine only. A file in {printable(report.root)} has paths that move with it."
        )
