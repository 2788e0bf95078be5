"""Scan a folder for what a team already has, by reading its files: nothing is imported, run or unpickled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from guardianflow.adapters.scan.datasets import find_dataset, is_yaml_name
from guardianflow.adapters.scan.findings import FoundDataset, FoundRun, FoundScript, FoundWeights, ScanReport
from guardianflow.adapters.scan.runs import find_runs
from guardianflow.adapters.scan.scripts import Candidate, entry_points, read_candidate
from guardianflow.adapters.scan.walk import SeenFolder, Skipped, walk_folders
from guardianflow.adapters.scan.weights import find_weights
from guardianflow.exceptions import InputError
from guardianflow.text.printable import printable

__all__ = ["scan_folder"]

_PAUSE = 0.1
_RUN_FILES = {"args.yaml", "hparams.yaml", "meta.yaml", "opt.yaml", "hyp.yaml"}


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
        min_score: Scripts and datasets below this score are left out, 0 to 1.
        on_progress: Called with the number of files seen so far, at most about ten times a second.

    Raises:
        InputError: There is no such folder, it can't be read, or ``min_score`` is no such number.
    """
    started = time.monotonic()
    root = _checked_root(folder)
    if not (0 <= min_score <= 1):
        raise InputError(f"min_score is a number from 0 to 1, not {printable(min_score)}; leave it out for 0.5")
    scan = _Scan(str(root), float(min_score), on_progress)
    for found in walk_folders(str(root), scan.skipped, include_ignored=include_ignored):
        scan.take_folder(found)
    scan.read_scripts()
    return ScanReport(
        root=root,
        scripts=tuple(sorted(scan.scripts, key=lambda script: (-script.score, script.path.as_posix()))),
        datasets=tuple(sorted(scan.datasets, key=lambda dataset: (-dataset.score, dataset.path.as_posix()))),
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
        is_folder = root.is_dir()
        if is_folder:
            next(root.iterdir(), None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the folder {printable(folder)} can't be scanned ({reason}); pass a folder that is there and can be read"
        ) from None
    if not is_folder:
        raise InputError(
            f"a scan takes a folder, and {printable(folder)} is a file; pass its folder {printable(root.parent)}"
        )
    return root


class _Scan:
    """What one scan has found so far."""

    def __init__(self, root: str, min_score: float, on_progress: Callable[[int], None] | None) -> None:
        self.skipped = Skipped()
        self.scripts: list[FoundScript] = []
        self.datasets: list[FoundDataset] = []
        self.weights: list[FoundWeights] = []
        self.runs: list[FoundRun] = []
        self.files = 0
        self.folders = 0
        self._root = root
        self._min_score = min_score
        self._on_progress = on_progress
        self._told = 0.0
        self._candidates: list[Candidate] = []
        self._started_by: dict[str, str] = {}

    def take_folder(self, folder: SeenFolder) -> None:
        """Take what lies in a folder; scripts are only noted."""
        self.folders += 1
        self.files += len(folder.files)
        self.runs.extend(find_runs(folder))
        for name in folder.files:
            self._take_file(folder, name)
        self._tell()

    def read_scripts(self) -> None:
        """Read the noted scripts, now that all console scripts are known."""
        for candidate in self._candidates:
            started_by = self._started_by.get(candidate.path, "")
            whole = Candidate(candidate.path, candidate.relative, candidate.is_notebook, started_by)
            try:
                script = read_candidate(whole, self.skipped, min_score=self._min_score)
            except Exception as error:  # noqa: BLE001 - one strange file must not cost the whole scan
                self.skipped.add(candidate.relative, f"reading it failed ({type(error).__name__})")
                continue
            if script:
                self.scripts.append(script)
            self._tell()
        self._candidates.clear()
        self._tell(last=True)

    def _take_file(self, folder: SeenFolder, name: str) -> None:
        if weights := find_weights(folder, name, self.skipped):
            self.weights.append(weights)
            return
        lowered = name.lower()
        if is_yaml_name(name):
            if lowered not in _RUN_FILES and not folder.in_run and not folder.ignores(name):
                dataset = find_dataset(folder, name, self.skipped)
                if dataset and dataset.score >= self._min_score:
                    self.datasets.append(dataset)
        elif lowered.endswith((".py", ".ipynb")):
            if not folder.in_run and not folder.ignores(name):
                is_notebook = lowered.endswith(".ipynb")
                self._candidates.append(Candidate(folder.at(name), folder.below(name), is_notebook))
        elif lowered in {"entry_points.txt", "pyproject.toml", "setup.cfg"}:
            base = folder.path.rpartition("/")[0] if folder.name.endswith(".dist-info") else folder.path
            self._started_by.update(entry_points(folder.at(name), base))

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress and (last or now - self._told >= _PAUSE):
            self._told = now
            self._on_progress(self.files)
