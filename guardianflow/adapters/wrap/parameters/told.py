"""Parameters as the script itself saw them: what the hook in its Python processes noted, made into one answer."""

from __future__ import annotations

import ast
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.config_values import leaves
from guardianflow.adapters.wrap.parameters.script_parameters import (
    ResolvedParameters,
    launcher_words,
    with_words,
)
from guardianflow.adapters.wrap.parameters.script_text import read_bytes
from guardianflow.exceptions import InputError

__all__ = ["Listening"]

_HOOK = Path(__file__).parents[1] / "hook"
_FOLDER = "GUARDIANFLOW_NOTES"
_MOST_FILES = 1_000
_MOST_BYTES = 8 << 20
_LONGEST_LINE = 1 << 19
_INSTALLED = re.compile(r"[/\\](?:site-packages|dist-packages|lib(?:64)?[/\\]python[\d.]+)[/\\]|^<|^$")
_PROGRAM = re.compile(r"[/\\](?:bin|Scripts)[/\\][^/\\]*(?<!\.py)$")
_MUTE = (
    "the script didn't tell what its parser handed back (another parser, or a Python started with -I, -E or -S), so "
    "its parameters are those of its text and its command line"
)
_SHOWN = 5
_QUIET_S = 5.0


class _Note(BaseModel):
    """One parse; see ``hook/_guardianflow_taps.py``."""

    model_config = ConfigDict(strict=True, frozen=True)

    style: str
    values: dict[str, Any]
    given: list[str]
    defaults: list[str]
    rest: list[str]
    caller: str
    main: str
    argv: list[str]
    rank: str = Field(max_length=9)
    pid: int
    started: float
    time: float
    cut: bool


class Listening:
    """Hears what the parsers of a started command hand back, of which ``resolved`` is known from its text."""

    def __init__(self, command: Command, resolved: ResolvedParameters, working_dir: Path) -> None:
        self._command = command
        self._resolved = resolved
        self._working_dir = working_dir
        self._due = 0.0
        self._before = resolved
        self._folder = Path(tempfile.mkdtemp(prefix="guardianflow-notes-"))  # nobody else reads it: it holds secrets

    def environment(self, theirs: Mapping[str, str]) -> dict[str, str]:
        """What the script's environment needs, so that each Python of it starts with the hook."""
        path = theirs.get("PYTHONPATH", "")
        return {"PYTHONPATH": f"{_HOOK}{os.pathsep}{path}" if path else str(_HOOK), _FOLDER: str(self._folder)}

    def heard(self) -> ResolvedParameters:
        """The parameters: those that the script told, else those of its text."""
        told = _told(list(_notes(self._folder)), self._command)
        if not told:
            mute = self._resolved.declared.parameters and self._command.kind in {"python", "module"}
            return replace(self._resolved, remarks=(*self._resolved.remarks, *([_MUTE] if mute else [])))
        return self._of(told)

    def settled(self) -> ResolvedParameters | None:
        """What was told, once nothing more has come for some seconds; a script may parse in several steps."""
        if time.monotonic() < self._due:
            return None
        self._due = time.monotonic() + _QUIET_S
        before, self._before = self._before, self.heard()
        return before if before == self._before and before.known_from != self._resolved.known_from else None

    def close(self) -> None:
        """Throw the notes away."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _of(self, told: Sequence[_Note]) -> ResolvedParameters:
        first = _merged(told, told[0].pid)
        notebook = self._command.kind == "notebook"  # it has its own parameters; what it starts has more
        kept = {name: one for name, one in self._resolved.origins.items() if notebook or one == "constant"}
        values = first.values | {name: self._resolved.values[name] for name in kept}
        origins = {
            name: "command line" if _is_in(name, first.given) else "default" if _is_in(name, first.defaults)
            else "the script" for name in first.values
        } | kept  # fmt: skip
        remarks = [*(self._resolved.remarks if notebook else ()), *_differing(told, first)]
        if first.cut:
            remarks.append("the script has more parameters than are kept")
        declared = replace(self._resolved.declared, style=first.style, remarks=())
        resolved = ResolvedParameters(values, origins, declared, tuple(remarks), "the script itself")
        words = [*first.rest, *(self._command.args if self._command.kind == "shell" else launcher_words(self._command))]
        given = [first.values.get(name) for name in first.given]
        return with_words(resolved, words, [*self._command.args, *first.argv, *given], self._working_dir)


def _notes(folder: Path) -> Iterator[_Note]:
    left = _MOST_BYTES
    for path in sorted(folder.glob("*.notes"))[:_MOST_FILES]:
        try:
            content = read_bytes(path, left)
        except InputError:  # whatever else a script may have put there
            continue
        left -= len(content)
        for line in content.splitlines():
            try:
                note = _Note.model_validate(ast.literal_eval(line[:_LONGEST_LINE].decode("ascii")))
                yield note.model_copy(update={"values": dict(leaves(note.values))})
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue  # half a line of a process that was killed, or none of ours


def _told(notes: Sequence[_Note], command: Command) -> list[_Note]:
    """The notes that count: of the outermost process that runs a script of the user's, and of those beside it.

    Launchers (``torchrun``, ``accelerate launch``, ``uv run``) are installed programs: they count only where the
    user named no other script, as with a training program that is installed itself.
    """
    asked = {str(command.script), command.argv[0], os.path.realpath(command.argv[0])}
    own = [one for one in notes if not _is_installed(one.main)]
    own = own or [one for one in notes if one.main in asked]
    if not own:
        return []
    first = min(own, key=lambda one: (one.started, one.time))
    beside = [one for one in own if one.main == first.main and (one.pid == first.pid or one.rank)]
    mine = [one for one in beside if not one.caller or not _is_installed(one.caller)] or (
        beside if _is_installed(first.main) else []
    )
    return sorted(mine, key=lambda one: (int(one.rank) if one.rank.isdecimal() else -1, one.started, one.pid, one.time))


def _is_installed(path: str) -> bool:
    return (_INSTALLED.search(path) or _PROGRAM.search(path)) is not None


def _merged(told: Sequence[_Note], pid: int) -> _Note:
    """All parses of one process as one: a later one counts more, unless it has but the default of what was given."""
    own = [one for one in told if one.pid == pid]
    values: dict[str, Any] = {}
    given: list[str] = []
    defaults: list[str] = []
    for one in own:
        keeps = {name for name in given if name in one.defaults or one.values.get(name) is None}
        news = {name: value for name, value in one.values.items() if name not in keeps}
        values |= news
        given = [*(name for name in given if name not in news), *one.given]
        defaults = [*(name for name in defaults if name not in news), *one.defaults]
    cut = any(one.cut for one in own)
    return own[-1].model_copy(update={"values": values, "given": given, "defaults": defaults, "cut": cut})


def _differing(told: Sequence[_Note], first: _Note) -> Iterator[str]:
    for pid in dict.fromkeys(one.pid for one in told if one.pid != first.pid):
        other = _merged(told, pid)
        names = sorted(name for name in other.values if other.values[name] != first.values.get(name))
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            listed = ", ".join(f"{name}={other.values[name]!r}" for name in names[:_SHOWN])
            yield f"rank {other.rank} worked with other values than rank {first.rank or 0}: {listed}{more}"


def _is_in(name: str, names: Sequence[str]) -> bool:
    """Whether a name, or the mapping that it is a leaf of, is among the names."""
    return any(name == one or name.startswith(f"{one}.") for one in names)
