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

from guardianflow.text.table_order import RowOrder, last_training
from guardianflow.vision.training.epochs import EpochReport, catalogue_metrics, with_prefix

__all__ = ["follow_results", "read_results"]

log = logging.getLogger(__name__)

POLL_S = 2.0


def read_results(path: Path, epochs: int) -> list[EpochReport]:
    """The epochs of the last training in a ``results.csv``, each once (the last time it was trained), in order.

    A line that is not whole yet is left for later; so is one whose cells are not those of its header. The table has
    no training speed, so ``images_per_s`` is ``None``; ``seconds`` is the difference to the epoch before.

    Args:
        path: The file; one that isn't there holds no epochs.
        epochs: How many epochs the training is to have.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    found: list[tuple[EpochReport, int]] = []
    order, before, training = RowOrder(), 0.0, 0
    for row in _rows(text[: text.rfind("\n") + 1]):
        report, clock = _report(row, before, epochs)
        if report is None:
            continue
        order.place(report.epoch, 0, repeats=False)
        if order.training > training:
            found, training = [], order.training
        found.append((report, order.stretch))
        before = clock
    kept = last_training([report.epoch for report, _ in found], [stretch for _, stretch in found], ends=True)
    return sorted((found[place][0] for place in kept), key=lambda report: report.epoch)


def _rows(text: str) -> Iterator[dict[str, str]]:
    """The rows that have as many cells as the header above them; a second training may have other columns."""
    header: list[str] = []
    for cells in csv.reader(text.splitlines()):
        names = [cell.strip() for cell in cells]
        if not header or "epoch" in names:
            header = names
        elif len(cells) == len(header) or not any(names[len(header) :]):
            yield dict(zip(header, names, strict=False))


@contextlib.contextmanager
def follow_results(
    path: Path, epochs: int, on_epoch: Callable[[EpochReport], object], *, after: int = 0
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


def _report(row: Mapping[str, str], before: float, epochs: int) -> tuple[EpochReport | None, float]:
    """One row as a report, and the clock behind it. A resumed training starts its clock at 0 again."""
    try:
        values = {key: float(value) for key, value in row.items() if value}
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
