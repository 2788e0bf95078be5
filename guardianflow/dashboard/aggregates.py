"""Questions about many measurements, answered by the database: groups, time buckets, quantiles.

Quantiles are those of ``numpy.quantile`` with linear interpolation, over every measurement asked for:
nothing is sampled, and no quantile is made of other quantiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

import sqlalchemy as sa

from guardianflow.exceptions import InputError
from guardianflow.state.tables import metric_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FIGURES",
    "Filter",
    "Labelled",
    "Moment",
    "Where",
    "bucket_width",
    "buckets",
    "by_group",
    "check_text",
    "conditions",
    "group_rows",
    "moment_of",
]

Filter = str | int | Iterable[str] | None
Moment = datetime | str | None

FIGURES = ("count", "mean", "min", "max", "p50", "p95")
"""What is told of a group of measurements."""

_TOLD = (*FIGURES, "invalid", "last", "last_time")
_QUANTILES = {"p50": 50, "p95": 95}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_WIDTHS = (
    1, 2, 5, 10, 15, 30, *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)), *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 7, 14, 28)),
)  # fmt: skip
_TRAILING = 28 * _DAY


class Labelled(TypedDict, total=False):
    """Which measurements of a metric: exact names, one or several of each; naive moments are UTC."""

    model: Filter
    version: Filter
    site: Filter
    camera: Filter
    task: Filter
    experiment: Filter
    run_id: Filter
    source: Filter
    start: Moment
    end: Moment


class Where(Labelled, total=False):
    """Which measurements, of which metrics."""

    metric: Filter


def moment_of(name: str, value: Moment) -> datetime | None:
    """A moment in UTC.

    Raises:
        InputError: It is none.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, AttributeError) as error:
        raise InputError(
            f"{name} must be a datetime or ISO 8601 text such as 2026-05-01T08:00:00+09:00, not {value!r}"
        ) from error


def check_text(name: str, text: str) -> None:
    """Refuse on SQLite too what PostgreSQL can't keep, so that a team can move from one to the other."""
    if "\x00" not in text and (text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)):
        return
    raise InputError(f"{name} of a measurement holds a NUL or half a surrogate pair: {text[:40]!r}. Remove it.")


def conditions(where: Where) -> list[sa.ColumnElement[bool]]:
    """A question's filters as SQL.

    Raises:
        InputError: A moment or text that can't be used.
    """
    start, end = moment_of("start", where.get("start")), moment_of("end", where.get("end"))
    if start is not None and end is not None and start > end:
        raise InputError(f"start must not lie after end: {start.isoformat()} > {end.isoformat()}. Exchange the two.")
    found: list[sa.ColumnElement[bool]] = []
    for name, wanted in where.items():
        if wanted is None or name in {"start", "end"}:
            continue
        values = [str(value) for value in ([wanted] if isinstance(wanted, (str, int)) else wanted)]  # type: ignore[attr-defined]
        for value in values:
            check_text(name, value)
        found.append(metric_records.c[name].in_(values))
    if start is not None:
        found.append(metric_records.c.time >= start)
    if end is not None:
        found.append(metric_records.c.time < end)
    return found


def group_rows(
    connection: sa.Connection, where: Where, by: Sequence[str], *also: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    """Figures of each group of labels: :data:`FIGURES`, what was invalid, the last value and when that was."""
    keys = [metric_records.c[name] for name in by]
    query = _figures([*conditions(where), *also], keys, [*by]).order_by(*map(sa.literal_column, by))
    return [dict(zip((*by, *_TOLD), row, strict=True)) for row in connection.execute(query)]


def by_group(connection: sa.Connection, where: Where, by: Sequence[str]) -> pd.DataFrame:
    """The rows of :func:`group_rows` as a frame."""
    import pandas as pd

    frame = pd.DataFrame(group_rows(connection, where, by), columns=[*by, *_TOLD])
    for name in by:
        frame[name] = frame[name].astype("object").where(frame[name].notna(), None)
    frame["last_time"] = pd.to_datetime(frame["last_time"], utc=True)
    return _numbers(frame, (*FIGURES[1:], "last"))


def buckets(
    connection: sa.Connection, where: Where, by: Sequence[str], *, points: int, bucket_s: int | None
) -> pd.DataFrame:
    """Figures of each time bucket and group; an empty bucket is a row with ``count`` 0 and no figures."""
    import pandas as pd

    columns = [*by, "time", *FIGURES]
    wheres = conditions(where)
    time = metric_records.c.time
    span = connection.execute(
        sa.select(sa.func.min(time, type_=time.type), sa.func.max(time, type_=time.type)).where(
            *wheres, metric_records.c.value.is_not(None)
        )
    ).one()
    if span[0] is None:
        return _numbers(_bucket_times(pd.DataFrame([], columns=columns)), FIGURES[1:])
    first = moment_of("start", where.get("start")) or span[0]
    # `end` is excluded, the last measurement is not.
    last = moment_of("end", where.get("end")) or span[1] + timedelta(microseconds=1)
    width = bucket_s or bucket_width(first, last, points)
    origin = _floor(first, width)
    number = -(-(last - origin) // timedelta(seconds=width))
    if bucket_s and number > points:
        raise InputError(
            f"{number:,} buckets of {bucket_s} s are more than the {points:,} points asked for; "
            "take wider buckets, more points or a shorter time"
        )
    bucket = (_epoch(connection, time) - int(origin.timestamp())) // width
    keys = [*(metric_records.c[name] for name in by), bucket]
    rows = connection.execute(_figures(wheres, keys, [*by, "bucket"])).all()
    found: dict[tuple[Any, ...], Sequence[Any]] = {tuple(row[: len(keys)]): row[len(keys) :] for row in rows}
    groups = sorted({key[:-1] for key in found if found[key][0]}, key=lambda key: tuple(map(str, key)))
    nothing = (0, *(None,) * (len(FIGURES) - 1))
    filled = [
        (*group, origin + timedelta(seconds=width * place), *found.get((*group, place), nothing)[: len(FIGURES)])
        for group in groups
        for place in range(number)
    ]
    frame = _numbers(_bucket_times(pd.DataFrame(filled, columns=columns)), FIGURES[1:])
    frame.attrs["bucket_s"] = width
    return frame


def bucket_width(first: datetime, last: datetime, points: int) -> int:
    """The narrowest usual width, in seconds, with which a span falls into at most so many buckets."""

    def fits(width: int) -> bool:
        return -(-(last - _floor(first, width)) // timedelta(seconds=width)) <= points

    for width in _WIDTHS:
        if fits(width):
            return width
    width = _TRAILING
    while not fits(width):
        width += _TRAILING
    return width


def _floor(moment: datetime, width: int) -> datetime:
    epoch = int((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=epoch - epoch % width)


def _epoch(connection: sa.Connection, time: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if connection.dialect.name == "sqlite":
        return sa.cast(sa.func.strftime("%s", time), sa.Integer)
    return sa.cast(sa.func.floor(sa.extract("epoch", time)), sa.BigInteger)


def _figures(
    wheres: Sequence[sa.ColumnElement[bool]], keys: Sequence[sa.ColumnElement[Any]], names: Sequence[str]
) -> sa.Select[Any]:
    """One row a group. Ranks make the quantiles: the same SQL on SQLite and PostgreSQL."""
    table = metric_records
    value, time = table.c.value, table.c.time
    inner = (
        sa.select(
            *(key.label(name) for key, name in zip(keys, names, strict=True)),
            value,
            table.c.invalid,
            time,
            sa.func.row_number().over(partition_by=keys, order_by=(value.is_(None), value)).label("rank"),
            sa.func.row_number()
            .over(partition_by=keys, order_by=(value.is_(None), time.desc(), table.c.id.desc()))
            .label("newest"),
            sa.func.count(value).over(partition_by=keys).label("n"),
        )
        .where(*wheres)
        .subquery()
    )
    figure = inner.c
    groups = [figure[name] for name in names]

    def at(rank: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.func.max(sa.case((figure.rank == rank, figure.value)))

    def quantile(percent: int) -> sa.ColumnElement[Any]:
        place = (figure.n - 1) * percent
        below, above = at(place // 100 + 1), at(place // 100 + 2)
        return below + (sa.func.coalesce(above, below) - below) * (sa.func.max(place % 100) / 100.0)

    return sa.select(
        *groups,
        sa.func.count(figure.value),
        sa.func.avg(figure.value),
        sa.func.min(figure.value),
        sa.func.max(figure.value),
        *(quantile(percent) for percent in _QUANTILES.values()),
        sa.func.count(figure.invalid),
        sa.func.max(sa.case((figure.newest == 1, figure.value))),
        sa.func.max(sa.case((figure.newest == 1, sa.case((figure.value.is_not(None), figure.time)))), type_=time.type),
    ).group_by(*groups)


def _numbers(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    for name in names:
        frame[name] = frame[name].astype("float64")
    return frame.astype({"count": "int64"})


def _bucket_times(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    frame["time"] = pd.to_datetime(frame["time"], utc=True).astype("datetime64[us, UTC]")
    return frame
