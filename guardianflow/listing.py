"""What `list`, `history` and `metrics` show: tables made from the library's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from guardianflow.text.units import file_size
from guardianflow.views.result_page import format_metric

if TYPE_CHECKING:
    import pandas as pd

    from guardianflow.core.config import Settings
    from guardianflow.core.registry import ModelEvent
    from guardianflow.dashboard.alerts import Alert
    from guardianflow.dashboard.keys import Key

__all__ = [
    "TABLES",
    "Filters",
    "Listed",
    "alerts_table",
    "figures_table",
    "history_table",
    "keys_table",
    "metrics_table",
]

_SHORT = 12
NO_MEASUREMENT = "no measurement fits; `guardianflow train` and `guardianflow infer` make some"


@dataclass(frozen=True)
class Filters:
    """What narrows a list."""

    name: str | None = None
    experiment: str | None = None
    status: str | None = None
    limit: int = 50
    cells: bool = False


@dataclass(frozen=True)
class Listed:
    """A list twice over: rows for people, items for programs; what to say when it is empty, and what to remark."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    items: Sequence[Mapping[str, Any]]
    empty: str
    remarks: Sequence[str] = ()


Columns = Mapping[str, Callable[[Any], object]]
"""Title of a column → its cell for a thing that is listed."""


def _listed(
    things: Sequence[Any], columns: Columns, items: Sequence[Mapping[str, Any]], empty: str, remarks: Sequence[str] = ()
) -> Listed:
    rows = [[cell(thing) for cell in columns.values()] for thing in things]
    return Listed(tuple(columns), rows, items, empty, remarks)


def experiments(settings: Settings, filters: Filters) -> Listed:
    """Experiments with the number of their runs."""
    from guardianflow.runs.run_records import RunRecords
    from guardianflow.state.database import Database

    found = RunRecords(Database.open(settings.database_url)).experiments()[: filters.limit]
    rows = [(item["experiment"], item["runs"], _local(item["last"])) for item in found]
    return Listed(("experiment", "runs", "last run"), rows, found, "no run yet; `guardianflow demo` makes some")


def runs(settings: Settings, filters: Filters) -> Listed:
    """Runs, the newest first."""
    from guardianflow.console import ago
    from guardianflow.runs.run_records import RunRecords, RunStatus
    from guardianflow.state.database import Database

    now = datetime.now(UTC)
    found = RunRecords(Database.open(settings.database_url)).list(
        experiment=filters.experiment or filters.name,
        status=filters.status.upper() if filters.status else None,
        but=() if filters.cells else ("cell",),
        limit=filters.limit,
    )
    rows = []
    for record in found:
        lost = record.status == RunStatus.RUNNING and not record.owner.lives(record.heartbeat, now)
        state = "RUNNING (process lost: guardianflow runs reap)" if lost else record.status
        done, total = record.progress.get("done"), record.progress.get("total")
        progress = f"{done}/{total} {record.progress.get('unit', '')}" if total else ""
        rows.append(
            (
                record.run_id[:_SHORT],
                record.experiment,
                record.kind,
                state,
                progress,
                ago(record.started, now),
                record.reason or ("files pruned" if record.pruned else record.progress.get("note", "")),
            )
        )
    columns = ("run", "experiment", "kind", "status", "progress", "started", "note")
    return Listed(columns, rows, [record.to_dict() for record in found], "no run yet; `guardianflow demo` makes some")


def models(settings: Settings, filters: Filters) -> Listed:
    """Registered models and who is in charge of each."""
    from guardianflow.core.registry import ModelRegistry

    registry = ModelRegistry(settings)
    items = []
    for state in registry.list_models()[: filters.limit]:
        champion = registry.get(state.name, "champion") if state.champion else None
        items.append(
            {
                **state.to_dict(),
                "versions": len(registry.list_versions(state.name)),
                "champion_map50": champion.metrics.get("map50") if champion else None,
            }
        )
    columns: Columns = {
        "model": itemgetter("name"),
        "versions": itemgetter("versions"),
        "champion": itemgetter("champion"),
        "its mAP50": lambda item: format_metric("map50", item["champion_map50"]),
        "candidate": itemgetter("candidate"),
        "rollback": itemgetter("rollback"),
    }
    empty = "no model yet; `guardianflow register NAME --run RUN_ID` makes one"
    return _listed(items, columns, items, empty, () if items else registry.signs_of_loss())


def versions(settings: Settings, filters: Filters) -> Listed:
    """The versions of one model, the newest first."""
    from guardianflow.core.registry import ModelRegistry

    found = ModelRegistry(settings).list_versions(filters.name or "")[: filters.limit]
    columns: Columns = {
        "version": lambda version: version.version,
        "aliases": lambda version: ", ".join(version.aliases),
        "status": lambda version: version.status,
        "run": lambda version: version.run_id[:_SHORT],
        "mAP50": lambda version: format_metric("map50", version.metrics.get("map50")),
        "mAP50-95": lambda version: format_metric("map50_95", version.metrics.get("map50_95")),
        "served by": lambda version: f"{version.serving.backend} {version.serving.precision}",
        "size": lambda version: file_size(version.size_bytes),
        "sha256": lambda version: version.sha256[:_SHORT],
        "created": lambda version: _local(version.created),
        "by": lambda version: version.created_by,
    }
    return _listed(found, columns, [version.to_dict() for version in found], f"{filters.name!r} has no version")


TABLES: Mapping[str, Callable[[Settings, Filters], Listed]] = {
    "experiments": experiments,
    "runs": runs,
    "models": models,
    "versions": versions,
}


def history_table(events: Sequence[ModelEvent]) -> Listed:
    """A model's ledger."""
    columns: Columns = {
        "when": lambda event: _local(event.time),
        "what": attrgetter("action"),
        "version": attrgetter("version"),
        "champion": attrgetter("champion"),
        "candidate": attrgetter("candidate"),
        "rollback": attrgetter("rollback"),
        "who": attrgetter("actor"),
        "why": attrgetter("reason"),
    }
    return _listed(events, columns, [event.to_dict() for event in events], "no event yet")


def keys_table(keys: Sequence[Key]) -> Listed:
    """Who holds a key, and since when it opens nothing any more."""
    columns: Columns = {
        "key": attrgetter("name"),
        "role": attrgetter("role"),
        "created": lambda key: _local(key.created),
        "by": attrgetter("created_by"),
        "revoked": lambda key: _local(key.revoked) if key.revoked else "",
    }
    empty = "no key yet; `guardianflow keys create NAME --role viewer` makes one"
    return _listed(keys, columns, [key.to_dict() for key in keys], empty)


def metrics_table(frame: pd.DataFrame) -> Listed:
    """Measurements."""
    import json

    items = json.loads(frame.to_json(orient="records", date_format="iso"))
    columns: Columns = {
        "time": lambda item: _local(item["time"]),
        "metric": itemgetter("metric"),
        "value": lambda item: _figure(item["metric"], item["value"]),
        **{name: itemgetter(name) for name in ("model", "version", "site", "experiment")},
        "run": lambda item: (item["run_id"] or "")[:_SHORT],
        "source": itemgetter("source"),
        "tags": lambda item: " ".join(f"{key}={value}" for key, value in (item["tags"] or {}).items()),
    }
    return _listed(items, columns, items, NO_MEASUREMENT)


def figures_table(frame: pd.DataFrame, *, empty: str = NO_MEASUREMENT) -> Listed:
    """Figures of groups, trends or comparisons: labels that tell nothing apart are left out for people."""
    import json

    items = json.loads(frame.to_json(orient="records", date_format="iso"))
    shown = [name for name in frame.columns if any(item[name] is not None for item in items)]
    usual = frame.attrs.get("metric", "")
    rows = [tuple(_shown(name, item[name], item.get("metric", usual)) for name in shown) for item in items]
    return Listed(tuple(name.replace("_", " ") for name in shown), rows, items, empty)


def alerts_table(found: Sequence[Alert], *, empty: str) -> Listed:
    """Alerts."""
    rows = [
        (
            alert.id,
            alert.state if alert.ended_by is None else f"{alert.state}: {alert.ended_by.replace('_', ' ')}",
            alert.rule,
            alert.facts["when"],
            _alert_value(alert),
            alert.model,
            alert.site,
            alert.camera,
            _local(alert.since),
            alert.acked_by,
        )
        for alert in found
    ]
    columns = ("alert", "state", "rule", "when", "found", "model", "site", "camera", "since", "known to")
    return Listed(columns, rows, [alert.to_dict() for alert in found], empty)


def _alert_value(alert: Alert) -> str:
    if alert.metric == "silent":
        return f"last seen {_local(alert.facts['last_seen'])}"
    return format_metric(alert.metric, alert.value)


def _shown(name: str, value: Any, metric: str) -> object:
    if value is None:
        return ""
    if name in {"time", "last_time"}:
        return _local(value)
    if name == "ratio":
        return f"{value:.3g}×"
    return format_metric(metric, value) if isinstance(value, float) and name != "count" else value


def _figure(metric: str, value: float | None) -> str:
    return "invalid" if value is None else format_metric(metric, value)


def _local(moment: datetime | str) -> str:
    value = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
