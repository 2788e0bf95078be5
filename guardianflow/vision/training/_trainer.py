"""Ultralytics' detection trainer, kept inside its run folder, with checkpoints that are whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.cfg import DEFAULT_CFG
from ultralytics.models.yolo.detect import DetectionTrainer

from guardianflow.vision.training._isolation import isolated

__all__ = ["IsolatedTrainer"]


class IsolatedTrainer(DetectionTrainer):  # type: ignore[misc]
    """A DetectionTrainer that leaves the user's data, settings and trackers alone.

    Several GPUs train in processes of their own. These make their trainer from this class again, so
    what it changes holds there too.
    """

    best: Path
    last: Path

    def __init__(
        self,
        cfg: SimpleNamespace | str | Mapping[str, Any] = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        with isolated():
            super().__init__(cfg, overrides, _callbacks)

    def train(self) -> None:
        """Train (see Ultralytics)."""
        with isolated():
            super().train()

    def save_model(self) -> bool:
        """Write the checkpoints beside, then rename: a process killed in between leaves the last good ones."""
        last, best = self.last, self.best
        drafts = {_draft(best): best, _draft(last): last}
        self.best, self.last = drafts
        try:
            saved = bool(super().save_model())
        finally:
            self.last, self.best = last, best
        for draft, target in drafts.items():
            if draft.exists():
                draft.replace(target)
        return saved


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
