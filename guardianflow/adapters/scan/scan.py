"""Scan a folder for what a team already has, by reading its files: nothing is imported, run or unpickled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from guardianflow.adapters.scan.datasets import find_dataset
from guardianflow.adapters.scan.findings import FoundDataset, FoundRun, FoundScript, FoundWeights, ScanReport
from guardianflow.adapters.scan.runs import find_runs
from guardianflow.adapters.scan.scripts import entry_points, read_candidate
from guardianflow.adapters.scan.walk import SeenFolder, Skipped, walk_folders
from guardianflow.adapters.scan.weights import find_weights
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["scan_folder"]

_PAUSE = 0.1


def scan_folder(
    folder: str | Path,
    *,
    include_ignored: bool = False,
    min_score: float = 0.5,
    on_progress: Callable[[int], None] | None = None,
) -> ScanReport:
    """Find the scripts, notebooks, datasets, weights and finished runs below a folder.

    Args:
        folder: Where to look, and below.
        include_ignored: Look for scripts and datasets also where a ``.gitignore`` says not to. (Weights and runs
            are always looked for there: they are ignored as a rule.)
        min_score: Scripts below this score are left out, 0 to 1.
        on_progress: Called with the number of files seen so far, at most about ten times a second.

    Raises:
        InputError: There is no such folder, it can't be read, or ``min_score`` is no such number.
    """
    started = time.monotonic()
    root = _checked_root(folder)
    if not (0 <= min_score <= 1):
        raise InputError(f"min_score is a number from 0 to 1, not {printable(min_score)}; leave it out for 0.5")
    scan = _Scan(on_progress)
    for found in walk_folders(str(root), scan.skipped, include_ignored=include_ignored):
        scan.take_folder(found)
    scripts = [script for script in scan.read_scripts() if script.score >= min_score]
    return ScanReport(
        root=root,
        scripts=tuple(sorted(scripts, key=lambda script: (-script.score, script.path.as_posix()))),
        datasets=tuple(sorted(scan.datasets, key=lambda dataset: dataset.path.as_posix())),
        weights=tuple(sorted(scan.weights, key=lambda weights: weights.path.as_posix())),
        runs=tuple(sorted(scan.runs, key=lambda run: run.path.as_posix())),
        skipped=tuple(scan.skipped.listed),
        skipped_counts=dict(sorted(scan.skipped.counts.items())),
        files=scan.files,
        folders=scan.folders,
        seconds=time.monotonic() - started,
    )


def _checked_root(folder: str | Path) -> Path:
    try:
        root = Path(folder).expanduser().resolve(strict=True)
        if root.is_file():
            raise InputError(
                f"a scan takes a folder, and {printable(folder)} is a file; pass its folder {printable(root.parent)}"
            )
        next(root.iterdir(), None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the folder {printable(folder)} can't be scanned ({reason}); pass a folder that is there and can be read"
        ) from None
    return root


class _Scan:
    """What one scan has found so far."""

    def __init__(self, on_progress: Callable[[int], None] | None) -> None:
        self.skipped = Skipped()
        self.datasets: list[FoundDataset] = []
        self.weights: list[FoundWeights] = []
        self.runs: list[FoundRun] = []
        self.files = 0
        self.folders = 0
        self._on_progress = on_progress
        self._told = 0.0
        self._candidates: list[tuple[Path, str]] = []
        self._started_by: dict[Path, str] = {}

    def take_folder(self, folder: SeenFolder) -> None:
        """Take what lies in a folder; scripts are only noted."""
        self.folders += 1
        self.files += len(folder.files)
        self.runs += find_runs(folder)
        for name in folder.files:
            if weights := find_weights(folder, name, self.skipped):
                self.weights.append(weights)
            elif name in {"entry_points.txt", "pyproject.toml", "setup.cfg"}:
                base = Path(folder.path).parent if folder.name.endswith(".dist-info") else Path(folder.path)
                self._started_by.update(entry_points(folder.at(name), base))
            elif not folder.in_run and not folder.ignores(name):
                self._take_own(folder, name)
        self._tell()

    def _take_own(self, folder: SeenFolder, name: str) -> None:
        ending = name.lower().rpartition(".")[2]
        if ending in {"py", "ipynb"}:
            self._candidates.append((Path(folder.at(name)), folder.below(name)))
        elif ending in {"yaml", "yml"} and (dataset := find_dataset(folder, name, self.skipped)):
            self.datasets.append(dataset)

    def read_scripts(self) -> list[FoundScript]:
        """Read the noted scripts, now that all console scripts are known."""
        scripts = []
        for path, relative in self._candidates:
            try:
                script = read_candidate(path, relative, self.skipped, started_by=self._started_by.get(path, ""))
            except Exception as error:  # noqa: BLE001 - one strange file must not cost the whole scan
                self.skipped.add(relative, f"reading it failed ({type(error).__name__})")
            else:
                scripts += [script] if script else []
            self._tell()
        self._tell(last=True)
        return scripts

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress and (last or now - self._told >= _PAUSE):
            self._told = now
            self._on_progress(self.files)
