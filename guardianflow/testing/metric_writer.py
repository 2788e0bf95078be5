"""A process that writes measurements, for tests that need several writers or kill one.

It reads one line of JSON from stdin (``url``, ``writer``, ``batches``, ``rows``, ``shared``, ``reverse``), says
``ready``, waits for a second line, writes, and prints one line of JSON for every batch that was
acknowledged. The URL comes through stdin because it may hold a password.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.metrics_store import MetricsStore

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def batch_of(writer: str, batch: int, rows: int) -> list[MetricRecord]:
    """The measurements of one batch; the same call gives the same ones, in any process."""
    return [
        MetricRecord(
            time=EPOCH + timedelta(seconds=batch, milliseconds=row),
            metric="map50",
            value=row / rows,
            model="gate-cam",
            source=writer,
            tags={"batch": str(batch)},
        )
        for row in range(rows)
    ]


def main() -> None:
    """Write what stdin asks for."""
    order = json.loads(sys.stdin.readline())
    store = MetricsStore(order["url"])
    print("ready", flush=True)  # noqa: T201 - this is how the process answers
    sys.stdin.readline()
    for batch in range(order["batches"]):
        records = batch_of(order["writer"], batch, order["rows"])
        if order["shared"]:
            records += batch_of("shared", batch, order["rows"])
        if order["reverse"]:
            records.reverse()
        report = store.save_metrics(records)
        print(json.dumps(asdict(report)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
