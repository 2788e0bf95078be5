"""What is known of the entries of an experiments.yaml and isn't a person's to write: kept beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from guardianflow.adapters.experiments.entries import ExperimentEntry, LastRun
from guardianflow.files.run_folder import write_json

__all__ = ["Seen", "read_seen", "write_seen"]


@dataclass(frozen=True)
class Seen:
    """What the last scan saw of an entry's script, and its last run.

    Attributes:
        role: See :class:`~guardianflow.adapters.experiments.entries.ExperimentEntry`, also for the others.
        score: How sure the scan was.
        reasons: What it saw.
        content: sha256 of the script.
        last_run: The run that ended last.
    """

    role: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    content: str = ""
    last_run: LastRun | None = None

    def of(self, entry: ExperimentEntry) -> Seen:
        """The same with what a scan made of the script."""
        return replace(self, role=entry.role, score=entry.score, reasons=entry.reasons, content=entry.content)

    def on(self, entry: ExperimentEntry) -> ExperimentEntry:
        """An entry with it."""
        return replace(
            entry,
            role=self.role,
            score=self.score,
            reasons=self.reasons,
            content=self.content,
            last_run=self.last_run,
        )


def read_seen(path: Path) -> dict[str, Seen]:
    """What is known, by an entry's name; nothing where it is gone or damaged: the next scan makes it anew."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _seen(values) for name, values in told.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}


def _seen(values: Mapping[str, Any]) -> Seen:
    last = values.get("last_run")
    return Seen(
        role=str(values["role"]),
        score=None if values["score"] is None else float(values["score"]),
        reasons=tuple(map(str, values["reasons"])),
        content=str(values["content"]),
        last_run=LastRun(**{key: str(last[key]) for key in ("run_id", "status", "ended")}) if last else None,
    )


def write_seen(path: Path, seen: Mapping[str, Seen]) -> None:
    """Keep it, whole or not at all."""
    write_json(path, {name: asdict(each) for name, each in seen.items()})
