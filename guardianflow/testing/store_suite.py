"""What every metrics store must do: subclass the suite and give it a URL.

Example:
    ::

        class TestMyStore(MetricsStoreSuite):
            @pytest.fixture
            def store_url(self, tmp_path):
                return f"sqlite:///{tmp_path}/state.db"
"""

# ruff: noqa: S101, D102 - tests assert, and the name of a test is its sentence

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from guardianflow.core.metrics import MetricRecord, MetricSink, SaveReport
from guardianflow.dashboard.metrics_store import COLUMNS, MetricsStore
from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.testing.metric_writer import batch_of

__all__ = ["MetricsStoreSuite"]

GROUPS = [("b", "1", 1), ("a", "2", 2), ("a", "1", 97), ("c", "1", 40)]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WRITERS = 8


def measured(value: float = 0.5, *, after_s: float = 0, **fields: object) -> MetricRecord:
    """A measurement of map50, some seconds after noon."""
    fields = {"metric": "map50", **fields}
    return MetricRecord(time=NOON + timedelta(seconds=after_s), value=value, **fields)  # type: ignore[arg-type]


@contextlib.contextmanager
def writer_process(url: str, writer: str, **order: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has opened the store and writes as soon as it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "guardianflow.testing.metric_writer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        tell(process, json.dumps({"url": url, "writer": writer, "shared": False, "reverse": False, **order}))
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Send a line."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def answers(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines it prints, until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        yield line.strip()


class MetricsStoreSuite:
    """Behaviour that holds for every database behind :class:`MetricsStore`."""

    @pytest.fixture
    def store_url(self) -> str:
        """URL of a fresh, empty database; give your own."""
        raise NotImplementedError("define the fixture store_url in the subclass")

    @pytest.fixture
    def store(self, store_url: str) -> MetricsStore:
        """The store under test."""
        return MetricsStore(store_url)

    def test_what_was_saved_is_read_back_in_full(self, store: MetricsStore) -> None:
        record = MetricRecord(
            time=datetime(2026, 5, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9))),
            metric="latency_ms_p95",
            value=0.1 + 0.2,
            model="정문 cam",
            version="3",
            site="gate's \\N \t; DROP TABLE",
            camera="c\n1",
            task="detection",
            experiment="exp",
            run_id="r" * 32,
            device="cuda:0",
            source="inference",
            tags={"비": "안개", "quote": '"\\'},
            event_id="e-1",
        )
        assert store.save_metrics([record]) == SaveReport(stored=1)
        frame = store.query_metrics()

        assert tuple(frame.columns) == COLUMNS
        row = frame.iloc[0].to_dict()
        assert row.pop("time") == pd.Timestamp("2026-05-01T00:30:00.123456Z")
        assert row == {name: getattr(record, name) for name in COLUMNS[1:-2]} | {
            "tags": {"비": "안개", "quote": '"\\'},
            "event_id": "e-1",
        }

    def test_labels_left_out_are_none_and_tags_an_empty_dict(self, store: MetricsStore) -> None:
        store.save_metrics([measured()])
        row = store.query_metrics().iloc[0]

        assert [row[name] for name in ("model", "site", "run_id", "device")] == [None] * 4
        assert row["tags"] == {}

    def test_an_empty_answer_has_the_same_columns_and_types(self, store: MetricsStore) -> None:
        store.save_metrics([measured()])
        full, empty = store.query_metrics(), store.query_metrics(model="nobody")

        assert len(empty) == 0
        assert list(empty.dtypes) == list(full.dtypes)
        assert str(empty["time"].dtype) == "datetime64[us, UTC]"
        assert store.save_metrics([]) == SaveReport(stored=0)

    @pytest.mark.parametrize("value", [0.0, 1e308, 5e-324, -1.5, 2**53 + 1, 1 / 3])
    def test_figures_come_back_to_the_last_bit(self, store: MetricsStore, value: float) -> None:
        store.save_metrics([measured(value)])

        assert store.query_metrics()["value"][0].hex() == float(value).hex()

    def test_minus_zero_is_zero_everywhere(self, store: MetricsStore) -> None:
        store.save_metrics([measured(-0.0)])

        assert math.copysign(1, store.query_metrics()["value"][0]) == 1

    def test_nan_and_infinity_are_kept_as_invalid_and_stay_out_of_answers(self, store: MetricsStore) -> None:
        records = [measured(v, after_s=i) for i, v in enumerate([1.0, math.nan, math.inf, -math.inf, 3.0])]
        assert store.save_metrics(records) == SaveReport(stored=5, invalid=3)

        assert list(store.query_metrics()["value"]) == [1.0, 3.0]
        frame = store.query_metrics(include_invalid=True)
        assert list(frame["invalid"]) == [None, "nan", "inf", "-inf", None]
        assert list(frame["value"].isna()) == [False, True, True, True, False]
        assert store.query_metrics(limit=2)["value"].mean() == 2.0

    def test_saving_again_changes_nothing_and_says_so(self, store: MetricsStore) -> None:
        records = [measured(i / 10, after_s=i) for i in range(7)] + [measured(math.nan, after_s=9)]
        store.save_metrics(records[:3])

        assert store.save_metrics(records) == SaveReport(stored=5, duplicates=3, invalid=1)
        assert store.save_metrics(iter(records)) == SaveReport(stored=0, duplicates=8)
        assert len(store.query_metrics(include_invalid=True)) == 8

    def test_of_one_event_the_first_value_stays(self, store: MetricsStore) -> None:
        both = [measured(0.1, event_id="same"), measured(math.nan, event_id="same"), measured(0.2, event_id="same")]

        assert store.save_metrics(both) == SaveReport(stored=1, duplicates=2)
        assert store.save_metrics([measured(0.9, event_id="same")]) == SaveReport(stored=0, duplicates=1)
        assert list(store.query_metrics()["value"]) == [0.1]

    def test_a_batch_larger_than_a_transaction_is_counted_exactly(self, store: MetricsStore) -> None:
        records = [measured(i, after_s=i / 1000) for i in range(5200)]

        assert store.save_metrics(records + records[:100]) == SaveReport(stored=5200, duplicates=100)
        assert list(store.query_metrics()["value"]) == [float(i) for i in range(5200)]

    def test_each_filter_takes_one_name_or_several(self, store: MetricsStore) -> None:
        fields = ("metric", "model", "version", "site", "camera", "task", "experiment", "run_id", "source")
        store.save_metrics(
            measured(i, after_s=i, **{field: f"{field}-{letter}"})
            for i, (field, letter) in enumerate((field, letter) for field in fields for letter in "abc")
        )
        for i, field in enumerate(fields):
            one = store.query_metrics(**{field: f"{field}-b"})  # type: ignore[arg-type]
            two = store.query_metrics(**{field: [f"{field}-c", f"{field}-a"]})  # type: ignore[arg-type]
            assert list(one["value"]) == [3 * i + 1]
            assert list(two["value"]) == [3 * i, 3 * i + 2]
            assert len(store.query_metrics(**{field: []})) == 0  # type: ignore[arg-type]

    def test_filters_add_up_and_take_names_literally(self, store: MetricsStore) -> None:
        store.save_metrics([measured(1, model="a", site="x"), measured(2, model="a", site="y"), measured(3, model="%")])

        assert list(store.query_metrics(model="a", site="y")["value"]) == [2]
        assert list(store.query_metrics(model="%")["value"]) == [3]
        assert len(store.query_metrics(model="A")) == 0
        assert len(store.query_metrics(model="a' OR '1'='1")) == 0

    def test_start_is_included_and_end_is_not_in_any_time_zone(self, store: MetricsStore) -> None:
        store.save_metrics(measured(i, after_s=i) for i in range(5))
        seoul = (NOON + timedelta(seconds=1)).astimezone(timezone(timedelta(hours=9)))

        assert list(store.query_metrics(start=seoul, end=NOON + timedelta(seconds=3))["value"]) == [1, 2]
        assert list(store.query_metrics(start="2026-05-01T12:00:03Z")["value"]) == [3, 4]
        assert list(store.query_metrics(end=datetime(2026, 5, 1, 12, 0, 1))["value"]) == [0]  # noqa: DTZ001
        assert len(store.query_metrics(start=NOON, end=NOON)) == 0

    def test_limit_keeps_the_newest_in_either_order(self, store: MetricsStore) -> None:
        store.save_metrics(measured(i, after_s=i) for i in (3, 1, 4, 0, 2))

        assert list(store.query_metrics(limit=2)["value"]) == [3, 4]
        assert list(store.query_metrics(limit=2, order="newest")["value"]) == [4, 3]
        assert list(store.query_metrics()["value"]) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"limit": 0}, "limit must be a whole number of at least 1"),
            ({"limit": -1}, "limit"),
            ({"start": "yesterday"}, "ISO 8601"),
            ({"start": NOON, "end": NOON - timedelta(1)}, "start must not lie after end"),
            ({"order": "value"}, "order must be one of time, newest"),
            ({"site": "a\x00b"}, "NUL"),
        ],
    )
    def test_a_question_that_makes_no_sense_is_refused(
        self, store: MetricsStore, arguments: dict[str, object], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            store.query_metrics(**arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "fields",
        [
            {"model": "m" * 201},
            {"version": "1" * 21},
            {"event_id": "e" * 65},
            {"site": "a\x00b"},
            {"site": "\ud800"},
            {"tags": {"a": "\x00"}},
        ],
    )
    def test_what_one_database_could_not_keep_is_refused_by_all(
        self, store: MetricsStore, fields: dict[str, object]
    ) -> None:
        with pytest.raises(InputError):
            store.save_metrics([measured(), measured(0.7, **fields)])  # type: ignore[arg-type]
        assert len(store.query_metrics()) == 0

    def test_an_interrupted_write_keeps_whole_transactions_and_can_be_repeated(self, store: MetricsStore) -> None:
        records = [measured(i, after_s=i / 1000) for i in range(7000)]

        def cut_off() -> Iterator[MetricRecord]:
            yield from records[:6000]
            raise OSError("the network is gone")

        with pytest.raises(OSError, match="network"):
            store.save_metrics(cut_off())
        assert len(store.query_metrics()) == 5000
        assert store.save_metrics(records) == SaveReport(stored=2000, duplicates=5000)

    def test_a_summary_has_the_figures_of_each_group_and_numpys_quantiles(self, store: MetricsStore) -> None:
        chance = random.Random(3)  # noqa: S311 - figures, no secret
        values = {(site, version): [chance.gauss(0, 1e3) for _ in range(n)] for site, version, n in GROUPS}
        store.save_metrics(
            measured(value, after_s=i, metric="latency_ms_p95", site=site, version=version)
            for (site, version), group in values.items()
            for i, value in enumerate(group)
        )
        store.save_metrics([measured(math.nan, metric="latency_ms_p95", site="a", version="1", after_s=-1)])
        frame = store.summary(by=("site", "version"))

        assert list(zip(frame["site"], frame["version"], frame["count"], strict=True)) == sorted(GROUPS)
        assert list(frame["invalid"]) == [1, 0, 0, 0]
        for row in frame.to_dict("records"):
            group = values[row["site"], row["version"]]
            expected = (np.mean(group), min(group), max(group), np.quantile(group, 0.5), np.quantile(group, 0.95))
            assert [row[name] for name in ("mean", "min", "max", "p50", "p95")] == pytest.approx(expected, rel=1e-12)
            assert (row["last"], row["last_time"]) == (group[-1], NOON + timedelta(seconds=len(group) - 1))

    def test_a_summary_of_nothing_is_empty_and_of_invalid_alone_has_no_figures(self, store: MetricsStore) -> None:
        assert len(store.summary()) == 0
        store.save_metrics([measured(math.inf)])
        row = store.summary(by=()).iloc[0]

        assert (row["count"], row["invalid"]) == (0, 1)
        assert math.isnan(row["mean"])
        assert math.isnan(row["last"])
        assert pd.isna(row["last_time"])
        store.save_metrics([measured(0.5, after_s=-60)])
        assert store.summary(by=()).iloc[0]["last_time"] == NOON - timedelta(
            seconds=60
        )  # what is invalid is no sign of life

    def test_a_trend_keeps_its_gaps_and_never_has_more_points_than_asked_for(self, store: MetricsStore) -> None:
        store.save_metrics(measured(i, after_s=i * 60) for i in range(120) if not 30 <= i < 60)
        for points in (1, 2, 7, 50, 1000):
            frame = store.trend("map50", points=points)
            assert 1 <= len(frame) <= points
            assert frame["count"].sum() == 90
            width = timedelta(seconds=frame.attrs["bucket_s"])
            assert list(frame["time"]) == [frame["time"][0] + width * place for place in range(len(frame))]
        frame = store.trend("map50", bucket_s=600)

        assert list(frame["count"]) == [10, 10, 10, 0, 0, 0, 10, 10, 10, 10, 10, 10]
        assert list(frame["mean"].isna()) == [False] * 3 + [True] * 3 + [False] * 6
        assert frame.iloc[6][["min", "max", "p50"]].to_list() == [60, 69, 64.5]
        assert frame["time"][0] == pd.Timestamp(NOON)

    def test_a_trend_over_an_asked_time_begins_and_ends_there(self, store: MetricsStore) -> None:
        store.save_metrics([measured(1, after_s=3600, site="a"), measured(2, after_s=3601, site="b")])
        frame = store.trend("map50", by=["site"], points=24, start=NOON, end=NOON + timedelta(days=1))

        assert list(frame["site"].value_counts()) == [24, 24]
        assert list(frame[frame["count"] > 0]["mean"]) == [1, 2]
        assert frame["time"].max() == NOON + timedelta(hours=23)
        assert len(store.trend("nothing")) == 0
        with pytest.raises(InputError, match="86,400 buckets of 1 s are more than the 100 points"):
            store.trend("map50", bucket_s=1, start=NOON, end=NOON + timedelta(days=1))

    def test_a_comparison_holds_the_others_against_the_baseline(self, store: MetricsStore) -> None:
        store.save_metrics(measured(value, version=version) for version, value in (("1", 0.5), ("2", 0.75), ("3", 0.5)))
        frame = store.comparison("map50", baseline="1")
        assert list(frame["difference"]) == [0, 0.25, 0]
        assert list(frame["ratio"]) == [1, 1.5, 1]
        assert list(store.comparison("map50")["difference"].isna()) == [True] * 3
        with pytest.raises(NotFoundError, match="no map50 was measured of version '9'; there is: 1, 2, 3"):
            store.comparison("map50", baseline="9")
        with pytest.raises(InputError, match="'colour' is no label"):
            store.comparison("map50", by="colour")

    def test_an_export_holds_every_measurement_and_is_whole_or_not_there(
        self, store: MetricsStore, tmp_path: Path
    ) -> None:
        records = [measured(i, after_s=i, site="정문", tags={"a": "b"}) for i in range(6000)]
        store.save_metrics([*records, measured(math.nan, after_s=-1)])
        target = tmp_path / "내 figures.parquet"

        assert store.export_to_parquet(target) == 6001
        frame = pd.read_parquet(target)
        assert list(frame["value"][1:]) == list(range(6000))
        assert (frame["invalid"][0], math.isnan(frame["value"][0])) == ("nan", True)
        assert frame["tags"][5] == [("a", "b")]
        assert store.export_to_parquet(target, site="nobody") == 0
        assert len(pd.read_parquet(target)) == 0
        with pytest.raises(InputError, match="can't be written"):
            store.export_to_parquet(tmp_path / "not there" / "x.parquet")
        with pytest.raises(InputError, match="is a folder"):
            store.export_to_parquet(tmp_path)
        assert [path.name for path in tmp_path.glob("*.p*")] == [target.name]

    def test_years_far_away_are_kept(self, store: MetricsStore) -> None:
        times = [datetime(33, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC)]
        store.save_metrics(MetricRecord(time=time, metric="m", value=1) for time in times)

        assert [stamp.isoformat() for stamp in store.query_metrics()["time"]] == [
            "0033-01-02T00:00:00+00:00",
            "9999-12-30T23:59:59.999999+00:00",
        ]

    def test_it_is_a_sink_and_shows_no_password(self, store: MetricsStore, store_url: str) -> None:
        assert isinstance(store, MetricSink)
        password = store_url.partition("@")[0].rpartition(":")[2] if "@" in store_url else ""
        assert not password or password not in repr(store)

    def test_threads_may_share_one_store(self, store: MetricsStore) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            reports = list(pool.map(lambda n: store.save_metrics(batch_of(f"t{n % 4}", n // 4, 100)), range(40)))

        assert sum(report.stored for report in reports) == 4000
        assert len(store.query_metrics()) == 4000

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_writes_through_its_own_connection(self, store: MetricsStore) -> None:
        store.save_metrics([measured(0)])
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                status = 0 if store.save_metrics([measured(1, after_s=1)]).stored == 1 else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.save_metrics([measured(2, after_s=2)])

        assert list(store.query_metrics()["value"]) == [0, 1, 2]

    def test_eight_processes_write_at_once_and_every_row_is_counted_once(self, store_url: str) -> None:
        batches, rows = 3, 1000
        with contextlib.ExitStack() as stack:
            processes = [
                # Every other one writes the shared rows from the last to the first: made for deadlocks.
                stack.enter_context(
                    writer_process(store_url, f"w{n}", batches=batches, rows=rows, shared=True, reverse=n % 2 == 1)
                )
                for n in range(WRITERS)
            ]
            lines = [answers(process) for process in processes]
            assert [next(line) for line in lines] == ["ready"] * WRITERS
            for process in processes:
                tell(process, "go")
            reports = [SaveReport(**json.loads(text)) for line in lines for text in line]

        own, shared = WRITERS * batches * rows, batches * rows
        assert len(reports) == WRITERS * batches
        assert sum(report.stored for report in reports) == own + shared
        assert sum(report.duplicates for report in reports) == (WRITERS - 1) * shared
        frame = MetricsStore(store_url).query_metrics()
        assert len(frame) == frame["event_id"].nunique() == own + shared
        assert dict(frame["source"].value_counts()) == {f"w{n}": batches * rows for n in range(WRITERS)} | {
            "shared": shared
        }

    def test_after_kill_9_nothing_acknowledged_is_missing_and_a_retry_doubles_nothing(self, store_url: str) -> None:
        rows, chance = 200, random.Random(20260501)  # noqa: S311 - when to kill, not a secret
        for attempt in range(3):
            name = f"victim-{attempt}"
            with writer_process(store_url, name, batches=100_000, rows=rows) as process:
                lines = answers(process)
                assert next(lines) == "ready"
                tell(process, "go")
                acknowledged = [next(lines)]
                reader = threading.Thread(target=lambda lines=lines, got=acknowledged: got.extend(lines))
                reader.start()
                time.sleep(chance.uniform(0.05, 0.4))
                process.kill()
                reader.join(30)
            store = MetricsStore(store_url)
            kept = len(store.query_metrics(source=name))
            batches = len(acknowledged) + 1  # the one in flight may or may not have been committed

            assert kept in (len(acknowledged) * rows, batches * rows)
            reports = [store.save_metrics(batch_of(name, batch, rows)) for batch in range(batches)]
            assert sum(report.duplicates for report in reports) == kept
            assert len(store.query_metrics(source=name)) == batches * rows
