"""The files of runs that nothing needs any more: found, measured and removed; what tells of the run stays."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.execution.needed_runs import NeededRuns
from guardianflow.files.removal import folder_inside, remove_inside, size_inside
from guardianflow.files.run_folder import write_json
from guardianflow.registry.evaluations import EVALUATION_FOLDER, Evaluations
from guardianflow.runs.delivery import Operation
from guardianflow.runs.mlflow_runs import TAG, MlflowRuns
from guardianflow.runs.run_artifacts import RunArtifacts
from guardianflow.runs.run_records import RunRecord, RunRecords, files_lock
from guardianflow.state.database import Database
from guardianflow.text.plain import Row
from guardianflow.text.progress_bar import progress_bar
from guardianflow.text.units import file_size

__all__ = ["PrunableRun", "PruneReport", "prune_runs"]

PRUNED_FILE = "pruned.json"
"""What went, in the run's folder; where it lies, nothing is left to do."""

RESUMABLE_DAYS = 14.0

OUTSIDE = "its folder lies outside of the runs folder, or behind a link"


@dataclass(frozen=True)
class _Part:
    """What goes of a run: a folder of its own, and one of its artifacts in MLflow."""

    what: str
    folder: str = ""
    artifact: str = ""


_CELLS = "cells of benchmarks"
_PREDICTIONS = "predictions"

# A folder within another one comes first. What isn't named here stays: notebook, page, scenario, result and the like.
PARTS: Mapping[str, Sequence[_Part]] = {
    "train": (
        _Part("weights", "training/weights", "weights"),
        _Part("training folder", "training", "curves"),
        _Part("training folder", artifact="samples"),
        _Part(_PREDICTIONS, EVALUATION_FOLDER, EVALUATION_FOLDER),
    ),
    "infer": (_Part(_CELLS, "cells"),),
    "cell": (_Part(_CELLS, artifact="latencies"), _Part(_PREDICTIONS, artifact=EVALUATION_FOLDER)),
    "quantize": (
        _Part("weights", "model", "model"),
        _Part(_CELLS, "cells"),
        _Part(_CELLS, "speeds"),
        _Part(_PREDICTIONS, artifact=EVALUATION_FOLDER),
    ),
}
"""Kind of run → what of it goes. Of a wrapped or imported run nothing does: its files are not known to be ours."""


@dataclass(frozen=True)
class PrunableRun(Row):
    """A run whose files nothing needs.

    Attributes:
        run_id: The run.
        kind: Its kind.
        experiment: Its experiment.
        folder: What → bytes in its folder.
        artifacts: What → bytes among its artifacts in MLflow.
    """

    run_id: str
    kind: str
    experiment: str
    folder: Mapping[str, int]
    artifacts: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        """All of it."""
        return sum(self.folder.values()) + sum(self.artifacts.values())


@dataclass(frozen=True)
class PruneReport:
    """What went, or would go.

    Attributes:
        runs: The runs.
        kept: Why → how many runs are kept for it; a run counts once.
        removed: Whether it was done.
        remarks: What could not be done, or must be said of it.
    """

    runs: Sequence[PrunableRun]
    kept: Mapping[str, int]
    removed: bool
    remarks: Sequence[str] = ()

    @property
    def size_bytes(self) -> int:
        """All that went, or would go."""
        return sum(run.size_bytes for run in self.runs)

    def by_kind(self) -> list[dict[str, Any]]:
        """A row for each kind of run and each kind of file: how many runs, bytes in their folders and in MLflow."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for run in self.runs:
            for what in {**run.folder, **run.artifacts}:
                row = rows.setdefault(
                    (run.kind, what), {"kind": run.kind, "what": what, "runs": 0, "folder": 0, "artifacts": 0}
                )
                row["runs"] += 1
                row["folder"] += run.folder.get(what, 0)
                row["artifacts"] += run.artifacts.get(what, 0)
        return [rows[key] for key in sorted(rows)]

    def sentences(self) -> list[str]:
        """What it comes to, for people."""
        said = [f"kept     {count:>5}  {why}" for why, count in sorted(self.kept.items(), key=lambda item: -item[1])]
        said += [f"note      {remark}" for remark in self.remarks]
        total = f"{file_size(self.size_bytes)} of {len(self.runs):,} runs"
        if not self.runs:
            return [*said, "there is nothing to remove"]
        if self.removed:
            return [*said, f"removed {total}; their records, notebooks, pages, figures and scenarios stay"]
        return [*said, f"nothing was removed yet: `guardianflow runs prune --yes` removes {total}"]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "removed": self.removed,
            "size_bytes": self.size_bytes,
            "by_kind": self.by_kind(),
            "runs": [{**run.to_dict(), "size_bytes": run.size_bytes} for run in self.runs],
            "kept": dict(self.kept),
            "remarks": list(self.remarks),
        }


def prune_runs(
    settings: Settings,
    *,
    dry_run: bool = True,
    resumable_days: float = RESUMABLE_DAYS,
    shows_progress: bool = False,
) -> PruneReport:
    """Remove the files of runs that no version, evidence, advice, study or interrupted work needs.

    Each run's record, notebook, page, figures and scenario stay, and the record says that it was pruned. Killed in the
    middle and started again it goes on; several processes at once do each run once.

    Args:
        settings: Where the runs are.
        dry_run: Only say what would go.
        resumable_days: For so many days an interrupted run that can go on is kept.
        shows_progress: Draw a bar.

    Raises:
        TrackingUnavailableError: MLflow doesn't answer, so nothing says which versions there are; what was removed
            until then is recorded.
    """
    pruning = _Pruning(settings, NeededRuns(settings, resumable_days=resumable_days))
    records = pruning.records.list(limit=1_000_000)
    reasons = pruning.needed.reasons(records)
    asked = [record for record in records if record.kind in PARTS]
    pruning.kept.update(reasons[record.run_id] for record in asked if record.run_id in reasons)
    free = [record for record in asked if record.run_id not in reasons]
    found = []
    with progress_bar(len(free), desc="runs", unit="run", shown=shows_progress) as bar:
        for record in free:
            run = pruning.measure(record)
            if run is not None and (dry_run or pruning.remove(record, run)):
                found.append(run)
            bar.update()
    return PruneReport(found, pruning.kept, not dry_run, tuple(pruning.remarks()))


@dataclass
class _Pruning:
    settings: Settings
    needed: NeededRuns
    kept: Counter[str] = field(default_factory=Counter)
    not_ours: int = 0
    far: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database.open(self.settings.database_url)
        self.records = RunRecords(self.database)
        self._root = self.settings.runs_dir

    @cached_property
    def _artifacts(self) -> RunArtifacts:
        return RunArtifacts(self.settings)

    def measure(self, record: RunRecord) -> PrunableRun | None:
        """What of a run is there to go; ``None`` where nothing is."""
        if not self._is_ours(record):
            self.kept[OUTSIDE] += 1
            return None
        if record.pruned and (record.folder / PRUNED_FILE).exists():
            return None
        folder, artifacts, sizes = Counter[str](), Counter[str](), dict[str, int]()
        theirs = self._artifacts.sizes(record.run_id)
        for part in PARTS[record.kind]:
            size = size_inside(self._root, record.folder / part.folder) if part.folder else None
            if size is not None:
                folder[part.what] += size - sum(sizes[name] for name in sizes if name.startswith(f"{part.folder}/"))
                sizes[part.folder] = size
            if theirs and part.artifact in theirs:
                artifacts[part.what] += theirs[part.artifact]
        if not folder and not artifacts:
            return None
        self.not_ours += theirs is None
        if record.owner.host != socket.gethostname()[:255] and not record.folder.is_dir():
            self.far.add(record.owner.host)
        return PrunableRun(record.run_id, record.kind, record.experiment, dict(folder), dict(artifacts))

    def _is_ours(self, record: RunRecord) -> bool:
        """Whether its folder is one of the runs folder, as it is written and as it really lies."""
        place = record.folder.absolute()
        if place.name != record.run_id or place.parent.parent != self._root.absolute():
            return False
        return not place.exists() or folder_inside(self._root, place) is not None

    def remove(self, seen: RunRecord, run: PrunableRun) -> bool:
        """Remove a run's files; ``False`` where somebody needs it by now, or something could not be removed."""
        with self.database.lock(files_lock(run.run_id)):
            if self.needed.came_up(run.run_id) or (seen.folder / PRUNED_FILE).exists():
                return False
            if seen.pruned is None and not self.records.set_pruned(seen):
                return False  # it was resumed, or another process has pruned it
            try:
                self._remove(seen, run)
            except OSError as error:
                self.failed.append(f"the files of run {run.run_id} can't all be removed ({error}); prune again")
                return False
        return True

    def _remove(self, record: RunRecord, run: PrunableRun) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        MlflowRuns(self.settings).send(Operation("tags", run.run_id, {"tags": {f"{TAG}pruned": now}}))
        Evaluations(self.settings).forget(run.run_id, record.folder)
        for part in PARTS[record.kind]:
            if part.folder:
                remove_inside(self._root, record.folder / part.folder)
            if part.artifact and part.what in run.artifacts:
                self._artifacts.remove(run.run_id, part.artifact)
        if folder_inside(self._root, record.folder) is not None:
            write_json(record.folder / PRUNED_FILE, {"pruned": now, **run.to_dict()})

    def remarks(self) -> Iterator[str]:
        """What could not be done here."""
        yield from self.failed
        if self.not_ours:
            yield (
                f"{self.not_ours:,} of these runs have no artifacts in MLflow that are GuardianFlow's to remove; only "
                "their folders go"
            )
        if self.far:
            yield f"folders of runs of {', '.join(sorted(self.far))} don't lie here; prune there, too"
