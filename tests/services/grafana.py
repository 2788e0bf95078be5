"""What Grafana does to a query before PostgreSQL sees it: variables, then macros. No Grafana is needed to know that.

Variables are quoted in the browser (``formatRegistry`` of its scenes), macros are written out by the data source
(``macros.go`` and ``sql_engine.go`` of grafana-postgresql-datasource).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_VARIABLE = re.compile(r"\$\{(\w+):(\w+)\}")
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Grafana:
    """A dashboard as somebody looks at it.

    Attributes:
        start: Start of the time range.
        end: Its end, which is a part of it.
        interval: Width of a time bucket that Grafana chose.
        chosen: Variable → the values that are chosen; one that isn't here stands at *All*, whose text is ``all_value``.
        all_value: What the dashboard says that *All* stands for.
        newer: Whether a double quote is written as ``\\"``, as newer versions do.
    """

    start: datetime
    end: datetime
    interval: str = "1h"
    chosen: Mapping[str, Sequence[str]] | None = None
    all_value: str = "'*'"
    newer: bool = True

    def sent(self, query: str) -> str:
        """The SQL that the database gets."""
        text = _VARIABLE.sub(self._variable, query)
        milliseconds = int(self.interval[:-1]) * _SECONDS[self.interval[-1]] * 1000
        text = text.replace("$__interval_ms", str(milliseconds)).replace("$__interval", self.interval)
        for name, moment in (("From", self.start), ("To", self.end)):
            text = text.replace(f"$__unixEpoch{name}()", str(int(moment.timestamp())))
        return _MACRO.sub(self._macro, text)

    def _variable(self, found: re.Match[str]) -> str:
        name, form = found.groups()
        assert form == "sqlstring", f"{found[0]}: only this form quotes what it stands for"
        values = (self.chosen or {}).get(name)
        return self.all_value if values is None else ",".join(map(self._quoted, values))

    def _quoted(self, value: str) -> str:
        text = value.replace("'", "''")
        return "'" + (text.replace('"', '\\"') if self.newer else text) + "'"

    def _macro(self, found: re.Match[str]) -> str:
        name, arguments = found[1], [part.strip() for part in found[2].split(",")]
        start, end = (f"'{moment.astimezone(UTC).isoformat()}'" for moment in (self.start, self.end))
        if name == "__timeFrom":
            return start
        if name == "__timeTo":
            return end
        if name == "__timeFilter":
            return f"{arguments[0]} BETWEEN {start} AND {end}"
        assert name == "__timeGroupAlias", f"Grafana knows no macro ${name}"
        column, interval = arguments
        width = int(interval[:-1]) * _SECONDS[interval[-1]]
        return f'floor(extract(epoch from {column})/{width})*{width} AS "time"'
