"""The store of measurements: written by runs and by models in service, read by pages and rules.

One store on the state database, SQLite or PostgreSQL. Writing is idempotent: every measurement has
an ``event_id``, and a batch that was cut off may be written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import sqlalchemy as sa

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.metrics import MetricRecord, SaveReport
from guardianflow.dashboard import aggregates
from guardianflow.dashboard.aggregates import Filter, Labelled, Moment, Where, check_text, conditions
from guardianflow.dashboard.export import upload, write_parquet
from guardianflow.exceptions import ConfigError, InputError, NotFoundError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.state.database import Database, metric_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MetricsStore"]

MOST_POINTS = 10_000
CHUNK_ROWS = 5000
"""Rows of one transaction: enough to be fast, few enough that other writers wait under 0.1 s."""

LABELS = ("model", "version", "site", "camera", "task", "experiment", "run_id", "device", "source")
COLUMNS = ("time", "metric", "value", *LABELS, "tags", "event_id")
"""Columns of a frame, in the order of :class:`MetricRecord`."""

_STORED = ("event_id", "time", "received", "metric", "value", "invalid", *LABELS, "tags")
_INVALID = _STORED.index("invalid")
_LENGTHS = {
    name: metric_records.c[name].type.length  # type: ignore[attr-defined]
    for name in ("event_id", "metric", *LABELS)
}

Row = tuple[object, ...]


class MetricsStore:
    """Measurements in the state database; a :class:`~guardianflow.core.metrics.MetricSink`.

    Safe to use from several threads, processes and machines at once, and after a fork.

    Args:
        url: ``sqlite:////folder/file.db`` or ``postgresql://…``; default the configured state database.
        database: An open database, instead of a URL.
        clock: Tells when a record arrived.

    Raises:
        ConfigError: The URL can't be used.
        SchemaTooNewError: A newer GuardianFlow has written this database.
        TrackingUnavailableError: The server doesn't answer.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        database: Database | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if url is not None and database is not None:
            raise ConfigError("MetricsStore takes a url or an open database, not both; leave one of them out")
        self._url = None if database else url or Settings().database_url
        self._opened = database or Database.open(str(self._url))
        self._pid = os.getpid()
        self._clock = clock or (lambda: datetime.now(UTC))

    def __repr__(self) -> str:
        return f"MetricsStore({mask_secrets(self._opened.url)!r})"

    def save_metrics(self, records: Iterable[MetricRecord]) -> SaveReport:
        """Store measurements; one that is stored already, or comes twice, is counted and left alone.

        Each 5,000 records are one transaction, so a generator of any length may be passed. On an
        error the transaction at work is undone and the ones before it stand: write everything
        again, and nothing is doubled. NaN and infinity are kept as *invalid*, without a value.

        Args:
            records: Any number of measurements. Of several with one ``event_id`` the first counts.

        Raises:
            InputError: A text is too long or holds signs that no database keeps.
            TrackingUnavailableError: The database went away, or stayed locked for 30 s.
        """
        stored = duplicates = invalid = 0
        remaining = iter(records)
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            rows = self._rows(chunk)
            if len(rows) > 0:
                report = self._save(rows)
                stored += report.stored
                invalid += report.invalid
                duplicates += len(chunk) - report.stored
        return SaveReport(stored=stored, duplicates=duplicates, invalid=invalid)

    def query_metrics(
        self,
        *,
        metric: Filter = None,
        model: Filter = None,
        version: Filter = None,
        site: Filter = None,
        camera: Filter = None,
        task: Filter = None,
        experiment: Filter = None,
        run_id: Filter = None,
        source: Filter = None,
        start: Moment = None,
        end: Moment = None,
        limit: int | None = None,
        include_invalid: bool = False,
        order: Literal["time", "newest"] = "time",
    ) -> pd.DataFrame:
        """Measurements as a frame: one row each, with the columns of :class:`MetricRecord`.

        Args:
            metric: One name or several, exactly as written; so for every filter below.
            model: Registered model.
            version: Its version.
            site: Site.
            camera: Camera.
            task: Task.
            experiment: Experiment.
            run_id: Run.
            source: Who measured it.
            start: First moment, included: a datetime (naive means UTC) or ISO 8601 text.
            end: Last moment, excluded.
            limit: At most so many rows: the newest ones, whatever the order.
            include_invalid: Also what was NaN or infinite, with NaN as the value; a column
                ``invalid`` then tells ``"nan"``, ``"inf"`` or ``"-inf"`` from ``None``.
            order: ``"time"``: oldest first; ``"newest"``: newest first.

        Returns:
            ``time`` is ``datetime64[us, UTC]``, ``value`` float64, ``tags`` a dict in each row; a
            label that was not given is ``None``. Without a match: no rows, the same columns.

        Raises:
            InputError: A moment, limit or order that can't be used.
            TrackingUnavailableError: The database went away.
        """
        where = Where(
            metric=metric, model=model, version=version, site=site, camera=camera, task=task,
            experiment=experiment, run_id=run_id, source=source, start=start, end=end,
        )  # fmt: skip
        if order not in _ORDERS:
            raise InputError(f"order must be one of {', '.join(_ORDERS)}, not {order!r}")
        query = _select(where, include_invalid=include_invalid)
        query = query.order_by(*(column.desc() for column in _TIME_ORDER))
        if limit is not None:
            query = query.limit(_checked_limit(limit))
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        if order == "time":
            rows = rows[::-1]
        return _frame(rows, include_invalid=include_invalid)

    def summary(
        self, *, by: Sequence[str] = ("model", "version", "site", "camera"), **where: Unpack[Where]
    ) -> pd.DataFrame:
        """Figures of each metric, by the labels of its measurements.

        Args:
            by: Labels that make a group of their own, of :data:`LABELS`.
            where: Filters, as :meth:`query_metrics` has them.

        Returns:
            One row a metric and group: ``metric``, the labels, ``count``, ``mean``, ``min``, ``max``, ``p50``,
            ``p95`` (``numpy.quantile``'s, over every measurement), ``invalid`` (how many were NaN or infinite and
            are in no figure), ``last`` and ``last_time``.

        Raises:
            InputError: A label or filter that can't be used.
        """
        with self.database.read() as connection:
            return aggregates.by_group(connection, where, ["metric", *_labels(by)])

    def trend(
        self,
        metric: str,
        *,
        by: Sequence[str] = (),
        points: int = 100,
        bucket_s: int | None = None,
        **where: Unpack[Labelled],
    ) -> pd.DataFrame:
        """How a metric went: figures of each time bucket.

        Args:
            metric: Its name.
            by: Labels that make a line of their own.
            points: At most so many buckets a line; the narrowest usual width (10 s, 5 min, 6 h …) that fits is taken.
            bucket_s: Width of a bucket in seconds, instead.
            where: Filters; without ``start`` and ``end`` from the first measurement to the last.

        Returns:
            One row a bucket and line: the labels, ``time`` (the bucket's start, UTC), ``count``, ``mean``, ``min``,
            ``max``, ``p50``, ``p95``. A bucket without measurements has ``count`` 0 and NaN: a gap stays a gap.
            ``frame.attrs["bucket_s"]`` is the width.

        Raises:
            InputError: A filter that can't be used, or more buckets than ``points``.
        """
        if not 1 <= points <= MOST_POINTS:
            raise InputError(f"points must lie between 1 and {MOST_POINTS:,}, not {points!r}")
        if bucket_s is not None and bucket_s < 1:
            raise InputError(f"a bucket has at least 1 s, not {bucket_s!r}")
        with self.database.read() as connection:
            frame = aggregates.buckets(
                connection, {**where, "metric": metric}, _labels(by), points=points, bucket_s=bucket_s
            )
        frame.attrs["metric"] = metric
        return frame

    def comparison(
        self, metric: str, *, by: str = "version", baseline: str | None = None, **where: Unpack[Labelled]
    ) -> pd.DataFrame:
        """Models, versions or sites side by side, against one of them.

        Args:
            metric: Its name.
            by: The label that is compared.
            baseline: The one that the others are held against; without, nothing is.
            where: Filters.

        Returns:
            One row a value of the label: it, the figures of :meth:`summary`, ``difference`` and ``ratio`` of the
            means. Whether a difference is more than chance isn't said: figures of one hour resemble each other,
            so their number proves little. The gate judges two versions on the same images.

        Raises:
            NotFoundError: Nothing of the baseline was measured.
        """
        with self.database.read() as connection:
            frame = aggregates.by_group(connection, {**where, "metric": metric}, _labels([by]))
        frame.attrs["metric"] = metric
        means = dict(zip(frame[by], frame["mean"], strict=True))
        if baseline is not None and baseline not in means:
            known = ", ".join(str(name) for name in means) or "nothing"
            raise NotFoundError(f"no {metric} was measured of {by} {baseline!r}; there is: {known}")
        base = float("nan") if baseline is None else means[baseline]
        frame["difference"] = frame["mean"] - base
        frame["ratio"] = frame["mean"] / (base or float("nan"))
        return frame

    def export_to_parquet(self, target: str | Path, **where: Unpack[Where]) -> int:
        """Write measurements to a Parquet file, those that were NaN or infinite too, in a column ``invalid``.

        They pass through in pieces, so memory stays small, and the file is there whole or not at all.

        Args:
            target: The file, whose folder exists, or ``s3://bucket/key``; what is there is replaced.
            where: Filters.

        Returns:
            How many were written; none is a file without rows.

        Raises:
            InputError: The file can't be written there.
        """
        if str(target).startswith("s3://"):
            Settings().export()
            with ScratchFolder("export") as folder:
                rows_there = self.export_to_parquet(folder / "measurements.parquet", **where)
                upload(folder / "measurements.parquet", str(target), os.environ)
            return rows_there
        query = _select(where, include_invalid=True).order_by(*_TIME_ORDER)
        with (
            self.database.read() as connection,
            connection.execution_options(yield_per=CHUNK_ROWS).execute(query) as rows,
        ):
            return write_parquet(Path(target), (_frame(part, include_invalid=True) for part in rows.partitions()))

    @property
    def database(self) -> Database:
        """The database; a forked child must not talk through its parent's connections."""
        if self._url is not None and self._pid != os.getpid():
            self._opened, self._pid = Database.open(self._url), os.getpid()
        return self._opened

    def _rows(self, records: Sequence[MetricRecord]) -> list[Row]:
        received = self._clock().astimezone(UTC)
        unique: dict[str, Row] = {}
        for record in records:
            if record.event_id not in unique:
                unique[record.event_id] = _row(record, received)
        return list(unique.values())

    def _save(self, rows: list[Row]) -> SaveReport:
        database = self.database
        with database.write() as connection:
            return (_save_sqlite if database.is_sqlite else _save_postgresql)(connection, rows)


def _row(record: MetricRecord, received: datetime) -> Row:
    invalid = record.invalid
    labels = [_text(record, name) for name in LABELS]
    for key, value in record.tags.items():
        check_text("tags", key)
        check_text("tags", value)
    return (
        _text(record, "event_id"),
        record.time,
        received,
        _text(record, "metric"),
        None if invalid else record.value + 0.0,  # SQLite keeps no sign of zero: let none differ
        invalid,
        *labels,
        json.dumps(dict(record.tags), ensure_ascii=False),
    )


def _text(record: MetricRecord, name: str) -> str | None:
    value = getattr(record, name)
    if value is None:
        return None
    text = str(value)
    if len(text) > _LENGTHS[name]:
        raise InputError(
            f"{name} of a measurement may have {_LENGTHS[name]} characters; {text[:40]!r}… has {len(text)}. Shorten it."
        )
    check_text(name, text)
    return text


_NAMES = ", ".join(_STORED)
_TABLE = metric_records.name
_INSERT_SQLITE = (
    f"INSERT INTO {_TABLE} ({_NAMES}) VALUES ({', '.join('?' * len(_STORED))}) "  # noqa: S608 - names of our own table
    "ON CONFLICT (event_id) DO NOTHING"
)


def _save_sqlite(connection: sa.Connection, rows: list[Row]) -> SaveReport:
    """Through the driver: half the time of SQLAlchemy's executemany, with the same text for a time."""
    counts = []
    for wanted in (False, True):
        part = [
            (row[0], _sqlite_time(row[1]), _sqlite_time(row[2]), *row[3:])
            for row in rows
            if (row[_INVALID] is not None) is wanted
        ]
        counts.append(connection.exec_driver_sql(_INSERT_SQLITE, part).rowcount if part else 0)
    return SaveReport(stored=sum(counts), invalid=counts[1])


def _sqlite_time(moment: object) -> str:
    if not isinstance(moment, datetime):
        raise TypeError(f"not a datetime: {moment!r}")
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


_INCOMING = "gf_incoming_metrics"
_CREATE_INCOMING = (
    f"CREATE TEMP TABLE IF NOT EXISTS {_INCOMING} ON COMMIT DELETE ROWS "  # noqa: S608 - names of our own table
    f"AS SELECT {_NAMES} FROM {_TABLE} WITH NO DATA"
)
_COPY_INCOMING = f"COPY {_INCOMING} ({_NAMES}) FROM STDIN"
# In the order of the key: two writers of the same events then wait for each other and never deadlock.
_MOVE_INCOMING = (
    f"WITH moved AS (INSERT INTO {_TABLE} ({_NAMES}) SELECT {_NAMES} FROM {_INCOMING} "  # noqa: S608 - as above
    "ORDER BY event_id ON CONFLICT (event_id) DO NOTHING RETURNING invalid) "
    "SELECT count(*), count(invalid) FROM moved"
)


def _save_postgresql(connection: sa.Connection, rows: list[Row]) -> SaveReport:
    """COPY into a temporary table, then INSERT … ON CONFLICT: twice as fast as arrays or executemany."""
    connection.exec_driver_sql(_CREATE_INCOMING)
    _copy(connection, rows)
    stored, invalid = connection.exec_driver_sql(_MOVE_INCOMING).one()
    return SaveReport(stored=int(stored), invalid=int(invalid))


def _copy(connection: sa.Connection, rows: list[Row]) -> None:
    driver = connection.connection.driver_connection
    errors: type[Exception] = connection.dialect.loaded_dbapi.Error
    if driver is None:
        raise ConfigError("the PostgreSQL connection has no driver connection; install guardianflow[postgres]")
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY_INCOMING) as copy:
            for row in rows:
                copy.write_row(row)
    except errors as error:  # past SQLAlchemy: give it the shape that Database explains
        raise sa.exc.DBAPIError.instance(_COPY_INCOMING, None, error, errors) from error


_ORDERS = ("time", "newest")
_TIME_ORDER = (metric_records.c.time, metric_records.c.metric, metric_records.c.id)


def _select(where: Where, *, include_invalid: bool) -> sa.Select[tuple[object, ...]]:
    names = (*COLUMNS, "invalid") if include_invalid else COLUMNS
    query = sa.select(*(metric_records.c[name] for name in names)).where(*conditions(where))
    return query if include_invalid else query.where(metric_records.c.invalid.is_(None))


def _labels(by: Sequence[str]) -> list[str]:
    for name in by:
        if name not in LABELS:
            raise InputError(f"{name!r} is no label of a measurement; known: {', '.join(LABELS)}")
    return list(by)


def _checked_limit(limit: int) -> int:
    if not 1 <= limit < 2**63:
        raise InputError(f"limit must be a whole number of at least 1, not {limit!r}; leave it out for all rows")
    return limit


def _frame(rows: Sequence[sa.Row[tuple[object, ...]]], *, include_invalid: bool) -> pd.DataFrame:
    import pandas as pd

    names = (*COLUMNS, "invalid") if include_invalid else COLUMNS
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else ((),) * len(names)
    data: dict[str, pd.Series[Any]] = {
        name: pd.Series(values, dtype="object") for name, values in zip(names, columns, strict=True)
    }
    data["time"] = pd.to_datetime(data["time"], utc=True).astype("datetime64[us, UTC]")
    data["value"] = data["value"].astype("float64")
    return pd.DataFrame(data, columns=list(names))
