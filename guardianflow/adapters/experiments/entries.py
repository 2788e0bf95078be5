"""What an experiments.yaml says about one script, and what a scan and its runs have shown of it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from guardianflow.text.printable import plain_values, printable
from guardianflow.views.result_page import Rows

__all__ = ["ArgumentSpec", "ExperimentEntry", "ExperimentTable", "LastRun"]


@dataclass(frozen=True)
class ArgumentSpec:
    """One argument that a script takes: its type, and what it is where nobody says otherwise."""

    type: str = "str"
    default: Any = None
    required: bool = False
    help: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form, without what says nothing."""
        said = {**asdict(self), "required": self.required or None, "help": self.help or None}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class LastRun:
    """The run of an entry that ended last."""

    run_id: str
    status: str
    ended: str


@dataclass(frozen=True)
class ExperimentEntry:
    """One script of an experiments.yaml and how it is run.

    Attributes:
        name: How people call it; ``guardianflow wrap --experiment NAME`` runs it.
        script: Path of the script from the folder of the experiments.yaml, with ``/``; a dotted module
            name with ``module``; a bare word is a command on PATH.
        working_dir: Where it runs, from the folder of the experiments.yaml.
        framework: ``ultralytics``, ``torch``, …; empty where unknown.
        module: ``python -m SCRIPT``.
        arguments: What the script takes.
        args: Words handed over on each run.
        data: Data files it reads, as the script names them.
        outputs: Patterns of the files it makes, as the script names them.
        tags: Words to find it by.
        last_run: The run that ended last.
        missing: The script is not there.
        role: ``training``, ``inference``, ``evaluation`` or ``export``, as the last scan had it; else empty.
        score: How sure the scan was, 0 to 1; None where none saw it.
        reasons: What the scan saw.
        line: Where the entry begins in the file, from 1; 0 for one that is in no file.
    """

    name: str
    script: str
    working_dir: str = "."
    framework: str = ""
    module: bool = False
    arguments: Mapping[str, ArgumentSpec] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    last_run: LastRun | None = None
    missing: bool = False
    role: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        arguments = {name: spec.to_dict() for name, spec in self.arguments.items()}
        said: dict[str, Any] = plain_values({**asdict(self), "arguments": arguments})
        del said["line"]
        return said

    def written(self) -> dict[str, Any]:
        """What a new entry says in the file, in the order in which people read it."""
        said = self.to_dict()
        names = ("script", "working_dir", "framework", "module", "arguments", "args", "data", "outputs", "tags")
        return {name: said[name] for name in names if said[name] or name == "args"}

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the script may be, from the folder of the experiments.yaml, with ``/``.

        Empty for a bare word, which is a command on PATH.
        """
        script = unicodedata.normalize("NFC", self.script.replace("\\", "/") if os.name == "nt" else self.script)
        if self.module:
            base = _normal(f"{self.working_dir}/{script.replace('.', '/')}")
            return (f"{base}.py", f"{base}/__main__.py", f"{base}/__init__.py")
        return (_normal(script),) if "/" in script or "." in script else ()

    def is_there(self, folder: Path) -> bool:
        """Whether the script is there; a command is, for whether it is on PATH differs from machine to machine."""
        # A module may be an installed package's. Only one whose package lies here can vanish.
        package = folder / self.working_dir / self.script.partition(".")[0]
        return (
            not self.files
            or any(os.path.isfile(folder / file) for file in self.files)  # noqa: PTH113 - takes any name
            or (self.module and not os.path.exists(package))  # noqa: PTH110
        )

    def shown(self) -> dict[str, str]:
        """A row of a table."""
        last = f"{self.last_run.status} {self.last_run.ended}" if self.last_run else ""
        facts = {
            "name": self.name,
            "script": self.script,
            "framework": self.framework,
            "tags": ", ".join(self.tags),
            "last run": last,
            "score": "" if self.score is None else f"{self.score:.2f}",
        }
        facts["script"] += " (missing)" if self.missing else ""
        return {name: printable(fact) for name, fact in facts.items()}

    def _repr_html_(self) -> str:
        return ExperimentTable([self])._repr_html_()


class ExperimentTable(Rows[ExperimentEntry]):
    """Entries as a list; a table where a notebook shows it."""

    def to_dict(self) -> list[dict[str, Any]]:
        """A JSON-able form."""
        return [entry.to_dict() for entry in self]


def _normal(path: str) -> str:
    return os.path.normpath(path).replace(os.sep, "/")
