"""Runs whose process died: their status, and their notebooks, are put right."""

from __future__ import annotations

from guardianflow.core.config import Settings
from guardianflow.core.run_records import RunRecord
from guardianflow.core.tracking import reap

__all__ = ["reap_runs"]


def reap_runs(settings: Settings, *, dry_run: bool = False) -> list[RunRecord]:
    """End every run whose process died, and repair the notebook that it left.

    Args:
        settings: Where the runs are.
        dry_run: Only say which.

    Returns:
        The runs that were (or would be) ended.
    """
    return reap(settings, dry_run=dry_run)
