"""Scan a folder for what a team already has, by reading its files: nothing is imported, run or unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from guardianflow.adapters.findings import ScanReport

__all__ = ["scan_folder"]


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
    raise NotImplementedError
