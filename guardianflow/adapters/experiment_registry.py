"""What can be run here: the entries of an experiments.yaml, found by scanning and corrected by people."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from guardianflow.adapters.experiments.append import appended
from guardianflow.adapters.experiments.content import TOP_KEYS, Content, normal_name, read_content
from guardianflow.adapters.experiments.entries import ExperimentEntry, ExperimentTable, LastRun, entry_values
from guardianflow.adapters.experiments.file import ExperimentFile
from guardianflow.adapters.experiments.generation import Draft, draft_entries, script_files
from guardianflow.adapters.experiments.search import near_names, rank
from guardianflow.adapters.experiments.seen import Seen
from guardianflow.adapters.experiments.update import HEADER, RegistryUpdate, is_there, updated
from guardianflow.adapters.experiments.yaml_text import YamlProblem
from guardianflow.adapters.scan.findings import ScanReport
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.text.names import validate_name
from guardianflow.text.printable import printable

__all__ = ["EntryPaths", "ExperimentRegistry"]


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
        content = self._read()
        entry = content.entries.get(normal_name(name))
        if entry is None:
            raise self._unknown(name, content)
        self.paths(entry)
        return entry

    def paths(self, entry: ExperimentEntry) -> EntryPaths:
        """Where an entry runs, and its script as it is started from there.

        Raises:
            InputError: One of its paths leads out of the file's folder, with ``..`` or through a link.
        """
        working_dir = self._inside(entry, entry.working_dir, "working_dir")
        if entry.module or not script_files(entry):
            return EntryPaths(working_dir, entry.script)
        script = self._inside(entry, entry.script, "script")
        relative = os.path.relpath(script, working_dir)
        return EntryPaths(working_dir, str(script) if relative.startswith(os.pardir) else relative)

    def __repr__(self) -> str:
        return f"ExperimentRegistry({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return self.list()._repr_html_()

    def list(self, *, tag: str = "", framework: str = "", missing: bool | None = None) -> ExperimentTable:
        """All entries, in the file's order.

        Args:
            tag: Only those with this tag.
            framework: Only those of this framework.
            missing: Only those whose script is (not) there.

        Raises:
            InputError: The file is broken.
        """
        entries = rank(self._read().entries.values(), tag=tag, framework=framework)
        return ExperimentTable(entry for entry in entries if missing is None or entry.missing == missing)

    def find(self, text: str = "", *, name: str = "", tag: str = "", framework: str = "") -> ExperimentTable:
        """Entries that fit, the best first.

        Args:
            text: Words that must all occur in name, script, framework, tags or reasons; capitals don't matter.
            name: Part of the name, or a pattern with ``*`` and ``?``.
            tag: A tag.
            framework: A framework.

        Raises:
            InputError: The file is broken.
        """
        return ExperimentTable(rank(self._read().entries.values(), text, name=name, tag=tag, framework=framework))

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

        An entry is known by its script's path (and its role, where a script has two), not by its name. What stands
        in the file is never changed. An entry that was taken out comes back, unless ``ignore:`` in the file lists its
        script (patterns as in a ``.gitignore``).

        Args:
            report: What was found.
            write: False only says what would change.

        Raises:
            InputError: The file is broken or can't be written.
            ConflictError: Another process holds the file's lock.
        """
        drafts, left_out = draft_entries(report, self.folder)
        remarks = _remarks(drafts, report, self.folder)
        made: list[RegistryUpdate] = []

        seen: dict[str, Seen] = {}

        def edit(text: str | None) -> str | None:
            content = self._parsed(text)
            update, now = updated(content, drafts, self._file.seen(), folder=self.folder)
            seen.clear()
            seen.update(now)
            made.append(replace(update, left_out=tuple(left_out), remarks=(*remarks, *self.remarks), report=report))
            if not update.entries:
                return None
            new = {entry.name: entry_values(entry) for entry in update.entries}
            return appended(text or HEADER, content.tree, new)

        if write:
            self._file.change(edit)
            self._file.note(lambda known: _scanned(known, seen))
        else:
            with self._named_problems():
                edit(self._file.read())
        return made[-1]

    def add(self, entry: ExperimentEntry) -> None:
        """Put a new entry at the end of the file.

        Raises:
            InputError: There is one of that name, a value can't be written, or the file can't be.
        """
        name = validate_name(entry.name, "experiment name")

        def edit(text: str | None) -> str:
            content = self._parsed(text)
            if name in content.entries:
                raise InputError(
                    f"{printable(self.path)} has an experiment {name!r} already, in line "
                    f"{content.entries[name].line}; choose another name, or edit that one"
                )
            return appended(text or HEADER, content.tree, {name: entry_values(entry)})

        self._file.change(edit)

    def record_run(self, name: str, *, run_id: str, status: str, ended: str | datetime | None = None) -> None:
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
        last = LastRun(str(run_id), str(status), _time(ended))
        content, own = self._read(), normal_name(name)
        if own not in content.entries:
            raise self._unknown(name, content)

        def change(seen: dict[str, Seen]) -> None:
            seen[own] = replace(seen.get(own, Seen()), last_run=last)

        self._file.note(change)

    def _read(self) -> Content:
        with self._named_problems():
            return self._parsed(self._file.read())

    def _parsed(self, text: str | None) -> Content:
        content = read_content(text or "", self.path, known_remarks=self.remarks)
        keys = [pair.key for pair in content.tree.pairs]
        if keys and not {key.text for key in keys} & set(TOP_KEYS):
            raise InputError(
                f"{printable(self.path)}, line {keys[0].line}: `{printable(keys[0].text)}` stands there and no "
                "`experiments:`, so this is no experiments.yaml, and nothing is added to it; name another file"
            )
        self.remarks = content.remarks
        seen = self._file.seen()
        entries = {name: seen.get(name, Seen()).on(entry) for name, entry in content.entries.items()}
        return replace(
            content,
            entries={name: replace(e, missing=not is_there(e, self.folder)) for name, e in entries.items()},
        )

    @contextlib.contextmanager
    def _named_problems(self) -> Iterator[None]:
        try:
            yield
        except YamlProblem as problem:
            raise InputError(f"{printable(self.path)}: {problem}") from None

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

    def _unknown(self, name: str, content: Content) -> NotFoundError:
        near = near_names(str(name), list(content.entries))
        if near:
            advice = f"there is {', '.join(near)}" + (", …" if len(content.entries) > len(near) else "")
        else:
            advice = "it has none; fill it with `guardianflow scan FOLDER --write experiments.yaml`"
        return NotFoundError(f"no experiment {printable(repr(name))} in {printable(self.path)}; {advice}")


def _scanned(known: dict[str, Seen], now: dict[str, Seen]) -> None:
    """Put what a scan saw to what is known; a run may have ended meanwhile."""
    runs = {name: each.last_run for name, each in known.items()}
    known.clear()
    known.update({name: replace(each, last_run=runs.get(name)) for name, each in now.items()})


def _remarks(drafts: Iterable[Draft], report: ScanReport, folder: Path) -> list[str]:
    absolute = sum(Path(draft.path).is_absolute() for draft in drafts)
    if not absolute:
        return []
    sentence = (
        f"{absolute} of the scripts lie outside {printable(folder)}, where the file is, and have absolute paths in it: "
        f"it is of use on this machine only. A file kept in {printable(report.root)} has paths that move with it."
    )
    return [sentence]


def _time(ended: str | datetime | None) -> str:
    if isinstance(ended, str):
        return ended
    ended = datetime.now(UTC) if ended is None else ended
    moment = ended.replace(tzinfo=UTC) if ended.tzinfo is None else ended.astimezone(UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
