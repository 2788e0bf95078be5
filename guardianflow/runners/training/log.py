"""What a training reports while it goes on, passed to MLflow, the store, the run's record and the screen."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._kernel import by_hand
from guardianflow.core.metrics import MetricSink
from guardianflow.plots.training import plot_training, sketch_training, training_curves
from guardianflow.runners._evidence import save_figures
from guardianflow.runners.training.pruning import Prune
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.schema import TrainingScenario
from guardianflow.text.progress_bar import progress_bar
from guardianflow.views.live_figure import LiveFigure
from guardianflow.views.result_page import format_metric

if TYPE_CHECKING:
    from guardianflow.vision.training.epochs import EpochReport

__all__ = ["HISTORY_FILE", "TrainingLog"]

HISTORY_FILE = "epochs.jsonl"
PROGRESS_EVERY_S = 1.0
_LAYOUT = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class TrainingLog:
    """The observer of a training (:class:`~guardianflow.vision.training.epochs.TrainingObserver`).

    Args:
        run: The run that is written into.
        sink: Where measurements go.
        asked: What the training was asked.
        prune: Asked after each epoch whether the training ends there.
        shown: Draw a bar, and for who executes a cell by hand the curve as it grows.

    Attributes:
        pruned: Whether the training was told to end.
    """

    def __init__(
        self, run: TrackedRun, sink: MetricSink, asked: TrainingScenario, *, prune: Prune, shown: bool = True
    ) -> None:
        self._run = run
        self._sink = sink
        self._asked = asked
        self._file = run.folder / HISTORY_FILE
        self._bar = progress_bar(asked.run.epochs, desc="epochs", unit="epoch", shown=shown, layout=_LAYOUT)
        self._curve = LiveFigure(
            lambda: sketch_training(training_curves(self.history())),
            lambda: plot_training(training_curves(self.history())),
            shown=shown and by_hand(),
        )
        self._said = 0.0
        self._figure = ""
        self._prune = prune
        self.pruned = False
        self._rows: dict[int, dict[str, float]] = {}
        self._speeds: list[float] = []
        self.seconds_before = 0.0
        self._say(0, "building the model")
        self._bar.refresh()

    @property
    def last_epoch(self) -> int:
        """The last epoch that is done; 0 before the first."""
        return max(self._rows, default=0)

    @property
    def images_per_s(self) -> float | None:
        """Median training speed of the epochs that this process trained, images per second."""
        ordered = sorted(self._speeds)
        return ordered[len(ordered) // 2] if ordered else None

    def on_start(self, first_epoch: int, epochs: int) -> None:
        """Keep the epochs before ``first_epoch``; later ones are trained again."""
        self._rows = {epoch: row for epoch, row in _read_rows(self._file).items() if epoch < first_epoch}
        self._file.write_text("".join(_line(row) for row in self._rows.values()), encoding="utf-8")
        self.seconds_before = sum(row.get("epoch_seconds", 0.0) for row in self._rows.values())
        self._bar.total = epochs
        self._say(first_epoch - 1, "first batches")

    def on_settings(self, used: Mapping[str, Any]) -> None:
        """Log what the training really uses, beside what was asked."""
        self._run.log_params({"used": dict(used)})

    def on_batch(self, done: int, total: int) -> None:
        """Say now and then how far the epoch is."""
        now = time.monotonic()
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            # The last figure stays in sight; an epoch may take an hour.
            self._say(self.last_epoch, f"batch {done} of {total}", part=done / total)

    def on_epoch(self, report: EpochReport) -> bool:
        """Log an epoch, unless it was logged before the run was resumed; ``True`` where the training ends with it."""
        if report.epoch in self._rows:
            return False
        # Before it is logged: killed in between, the epoch is told again after a resume.
        self.pruned = self._prune(report) and report.epoch < report.epochs
        row = report.to_dict()
        self._rows[report.epoch] = row
        if report.images_per_s is not None:
            self._speeds.append(report.images_per_s)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(_line(row))
        self._run.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=report.epoch)
        self.save(str(report.epoch), {**report.metrics, "epoch_seconds": report.seconds})
        self._figure = f"mAP50 {format_metric('map50', report.metrics.get('map50'))}"
        self._said = time.monotonic()
        self._bar.total = report.epochs
        self._say(report.epoch)
        self._curve.draw()
        return self.pruned

    def _say(self, epochs: int, now: str = "", *, part: float = 0.0) -> None:
        """Where the training stands: whole epochs, and how much of the next one."""
        note = " · ".join(said for said in (self._figure, now) if said)
        self._run.set_progress(epochs, self._bar.total, unit="epoch", note=note, part=part)
        place = f"epoch {min(epochs + (part > 0), self._bar.total)}/{self._bar.total}"
        self._bar.set_postfix_str(f"{place} · {note}" if note else place, refresh=False)
        self._bar.update(epochs + part - self._bar.n)

    def save(self, stage: str, metrics: Mapping[str, float], *, device: str | None = None) -> None:
        """Write figures to the store; the same stage written twice is stored once."""
        save_figures(
            self._sink,
            self._run,
            self._asked,
            metrics,
            key=stage,
            what=f"epoch {stage}",
            model=self._asked.run.register_as or None,
            task="detection",
            device=device or self._asked.env.device or None,
            source="training",
            tags={"epoch": stage, "split": "val"},
        )

    def history(self) -> list[dict[str, float]]:
        """All epochs of this run, those before a resume included, each once."""
        return [self._rows[epoch] for epoch in sorted(self._rows)]

    def close(self) -> None:
        """Leave bar and curve as they stand."""
        self._bar.close()
        self._curve.close()


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(row) + "\n"


def _read_rows(file: Path) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a killed process
                row = json.loads(line)
                rows[int(row["epoch"])] = row
    return rows
