"""The table that Ultralytics writes while it trains: how epochs are known that no callback of ours saw.

Several GPUs train in processes of their own, where callbacks of ours can't be; and a training that was
killed may have finished an epoch without anybody being told.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from guardianflow.vision.epochs import EpochReport, catalogue_metrics, with_prefix

__all__ = ["follow_results", "read_results"]

log = logging.getLogger(__name__)

POLL_S = 2.0


def read_results(path: Path, epochs: int) -> list[EpochReport]:
    """The epochs in a ``results.csv``, each once (the last time it was trained), in order.

    A line that is not whole yet is left for later. The table has no training speed, so
    ``images_per_s`` is ``None``; ``seconds`` is the difference to the epoch before.

    Args:
        path: The file; one that isn't there holds no epochs.
        epochs: How many epochs the training is to have.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    found: dict[int, EpochReport] = {}
    before = 0.0
    for row in csv.DictReader(whole.splitlines()):
        report, before = _report(row, before, epochs)
        if report is not None:
            found[report.epoch] = report
    return [found[epoch] for epoch in sorted(found)]


@contextlib.contextmanager
def follow_results(
    path: Path, epochs: int, on_epoch: Callable[[EpochReport], None], *, after: int = 0
) -> Iterator[None]:
    """Report, while the block runs, each epoch that is added to a ``results.csv``.

    Args:
        path: The file.
        epochs: How many epochs the training is to have.
        on_epoch: Told of each epoch, from another thread. What it raises is raised at the end.
        after: Epochs up to this one are known.
    """
    stop = threading.Event()
    failures: list[BaseException] = []
    seen = after

    def report_new() -> None:
        nonlocal seen
        for report in read_results(path, epochs):
            if report.epoch > seen and not failures:
                seen = report.epoch
                try:
                    on_epoch(report)
                except BaseException as error:  # noqa: BLE001 - raised in the caller's thread below
                    failures.append(error)

    def follow() -> None:
        while not stop.wait(POLL_S):
            report_new()

    thread = threading.Thread(target=follow, name="guardianflow-results", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report_new()
    if failures:
        raise failures[0]


def _report(row: Mapping[str | None, Any], before: float, epochs: int) -> tuple[EpochReport | None, float]:
    """One row as a report, and the clock behind it. A resumed training starts its clock at 0 again."""
    try:
        values = {str(key).strip(): float(value) for key, value in row.items() if key is not None and value}
        epoch, clock = int(values["epoch"]), values.get("time", 0.0)
    except (KeyError, TypeError, ValueError) as error:
        log.debug("a row of results.csv is left out: %s", error)
        return None, before
    report = EpochReport(
        epoch=epoch,
        epochs=epochs,
        losses={**with_prefix(values, "train/"), **with_prefix(values, "val/")},
        learning_rates=with_prefix(values, "lr/"),
        metrics=catalogue_metrics(values),
        seconds=clock - before if clock >= before else clock,
        images_per_s=None,
    )
    return report, clock
