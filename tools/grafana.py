"""Make what Grafana is provisioned with, below grafana/: python tools/grafana.py [--check]

Data sources, dashboards and where they are. Names, units and directions are those of guardianflow/core/metrics.py, the
dashed lines those of the shipped alert rules. ``--check`` writes nothing and fails where a file isn't the one it makes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grafana_queries as sql
import yaml
from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import stat, table, timeseries, trend
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common, dashboard

from guardianflow.core.metrics import CATALOGUE, Direction, MetricSpec

ROOT = Path(__file__).resolve().parents[1] / "grafana"
PLUGIN, STATE, MLFLOW = "grafana-postgresql-datasource", "guardianflow", "guardianflow-mlflow"
TAG = "guardianflow"
UNITS = {
    "fraction": ("none", 3), "count": ("none", 0), "percent": ("percent", 1), "ms": ("ms", 1), "s": ("s", 1),
    "images/s": ("suffix: images/s", 1), "MB": ("decmbytes", 1), "W": ("watt", 1), "°C": ("celsius", 1),
    "J": ("joule", 2),
}  # fmt: skip
"""Unit of the catalogue → Grafana's, and how many decimals are shown."""
BETTER = {
    Direction.HIGHER: "Higher is better.", Direction.LOWER: "Lower is better.",
    Direction.NEITHER: "Neither way is better.",
}  # fmt: skip
COLOURS = {
    "well": "green", "unwell": "red", "unknown": "yellow", "firing": "red", "pending": "yellow", "resolved": "text",
    "RUNNING": "blue", "SILENT": "yellow", "FINISHED": "green", "FAILED": "red", "KILLED": "orange",
    "in charge": "green", "candidate": "blue", "rejected": "red",
}  # fmt: skip
"""What a state looks like; one that is not known is yellow, never green."""
PAGES = (("pages", "http://127.0.0.1:8866"), ("api", "http://127.0.0.1:8000"), ("mlflow", "http://127.0.0.1:5000"))
GAP_MS = float(sql.SILENCE_S * 1000)
Property = dashboard.DynamicConfigValue


def source(uid: str) -> dashboard.DataSourceRef:
    """One of the two data sources."""
    return dashboard.DataSourceRef(type_val=PLUGIN, uid=uid)


class Query(Dataquery, Builder[Dataquery]):
    """A query of Grafana's PostgreSQL data source, which the SDK has no type for."""

    def __init__(self, text: str, *, uid: str = STATE, series: bool = False, name: str = "A") -> None:
        self._uid, self._text, self._series, self._name = uid, text, series, name

    def build(self) -> Query:
        """Itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """As a panel's target."""
        shape = "time_series" if self._series else "table"
        return {
            "refId": self._name, "datasource": source(self._uid), "format": shape, "rawQuery": True,
            "editorMode": "code", "rawSql": self._text,
        }  # fmt: skip


# --- fields ---------------------------------------------------------------------------------------------------------


def state_mappings() -> list[dict[str, Any]]:
    """States in their colours; nothing is said as unknown."""
    named = {state: {"color": colour, "text": state.lower()} for state, colour in COLOURS.items()}
    nothing = {"match": "null+nan", "result": {"color": COLOURS["unknown"], "text": "unknown"}}
    return [{"type": "value", "options": named}, {"type": "special", "options": nothing}]


def unit_of(spec: MetricSpec) -> list[Property]:
    """Unit and decimals of a metric's column."""
    unit, decimals = UNITS[spec.unit]
    return [Property(id_val="unit", value=unit), Property(id_val="decimals", value=decimals)]


def coloured(metric: str, place: str) -> list[Property]:
    """A cell that turns red where the shipped rule is broken; without a figure it has no colour."""
    rule = sql.rule_of(metric, place)
    if rule is None:
        return []
    bad = rule.op.startswith("<")
    steps = [
        {"value": None, "color": "red" if bad else "text"},
        {"value": rule.bound, "color": "text" if bad else "red"},
    ]
    return [
        Property(id_val="thresholds", value={"mode": "absolute", "steps": steps}),
        Property(id_val="custom.cellOptions", value={"type": "color-text"}),
    ]


def link(title: str, url: str) -> list[Property]:
    """A cell that leads elsewhere."""
    return [Property(id_val="links", value=[{"title": title, "url": url}])]


# --- panels ---------------------------------------------------------------------------------------------------------


def table_panel(title: str, text: str, said: str, metrics: Mapping[str, str] | None = None, *, height: int = 8) -> Any:
    """A table.

    Args:
        title: Its title.
        text: SQL.
        said: What it shows.
        metrics: Columns that are metrics → source of their figures: one that breaks the shipped rule is red.
        height: In the grid's rows.
    """
    panel = table.Panel().title(title).description(said).datasource(source(STATE)).height(height).span(24)
    panel.with_target(Query(text)).no_value("unknown")
    state = [
        Property(id_val="mappings", value=state_mappings()),
        Property(id_val="custom.cellOptions", value={"type": "color-text"}),
        Property(id_val="color", value={"mode": "fixed", "fixedColor": COLOURS["unknown"]}),
    ]
    panel.override_by_name("state", state)
    for name, place in (metrics or {}).items():
        panel.override_by_name(name, [*unit_of(CATALOGUE[name]), *coloured(name, place)])
    panel.override_by_name("seconds", [Property(id_val="unit", value="s"), Property(id_val="decimals", value=0)])
    panel.override_by_name("run_id", link("The run in MLflow", "${mlflow:raw}/#/runs/${__value.raw:percentencode}"))
    panel.override_by_name(
        "site", link("This site", "/d/gf-fleet?${__url_time_range}&var-site=${__value.raw:percentencode}")
    )
    panel.override_by_name(
        "model", link("This model", "/d/gf-model?${__url_time_range}&var-model=${__value.raw:percentencode}")
    )
    return panel


def counts_panel(title: str, text: str, said: str, colours: Mapping[str, str]) -> Any:
    """Figures side by side; a count of nothing has no colour, no answer is said as unknown."""
    panel = stat.Panel().title(title).description(said).datasource(source(STATE)).height(5).span(24)
    panel.with_target(Query(text)).no_value("unknown").unit("none").decimals(0)
    panel.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.NONE)
    panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME)
    panel.reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]).fields("/.*/").values(False))
    for column, colour in colours.items():
        steps = [{"value": None, "color": "text"}, {"value": 1, "color": colour}]
        named = [Property(id_val="displayName", value=column.replace("_", " "))]
        panel.override_by_name(
            column, [*named, Property(id_val="thresholds", value={"mode": "absolute", "steps": steps})]
        )
    return panel


def trend_panel(spec: MetricSpec, text: str, *, place: str = "", span: int = 12) -> Any:
    """How a metric went; the dashed line is the shipped rule's."""
    unit, decimals = UNITS[spec.unit]
    rule = sql.rule_of(spec.name, place)
    line = f" The dashed line is the shipped rule's: {rule.when}." if rule else ""
    panel = timeseries.Panel().title(f"{spec.description} ({spec.name})").description(BETTER[spec.direction] + line)
    panel.datasource(source(STATE)).height(8).span(span).with_target(Query(text, series=True)).interval("1m")
    panel.unit(unit).decimals(decimals).no_value("unknown").line_width(2).fill_opacity(0)
    panel.show_points(common.VisibilityMode.ALWAYS if place == sql.LABELLED else common.VisibilityMode.AUTO)
    panel.tooltip(common_builder.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if spec.unit == "fraction":
        panel.min(0).max(1)
    if place == sql.LIVE:  # a stretch without figures stays a gap; measurements on labelled pictures are far apart
        panel.span_nulls(GAP_MS).insert_nulls(int(GAP_MS))
    else:
        panel.span_nulls(True)
    steps = [dashboard.Threshold(value=None, color="transparent")]
    if rule is not None:
        steps.append(dashboard.Threshold(value=rule.bound, color="red"))
        panel.thresholds_style(common_builder.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED))
    return panel.thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))


def curve_panel() -> Any:
    """Curves of trainings, run against run, epoch by epoch; repeated for each curve that is chosen."""
    panel = trend.Panel().title("$curve").description("Of the 12 newest runs in the time range, as MLflow has them.")
    panel.datasource(source(MLFLOW)).height(9).span(12).repeat("curve").repeat_direction("h")
    panel.with_target(Query(sql.CURVES, uid=MLFLOW)).no_value("unknown").x_field("step").line_width(2)
    panel.show_points(common.VisibilityMode.AUTO).span_nulls(True)
    for name, options in (
        ("partitionByValues", {"fields": ["run"], "keepFields": False, "naming": {"asLabels": True}}),
        ("joinByField", {"byField": "step", "mode": "outer"}),
    ):
        panel.with_transformation(dashboard.DataTransformerConfig(id_val=name, options=options))
    panel.override_by_name("value", [Property(id_val="displayName", value="${__field.labels.run}")])
    return panel


# --- dashboards -----------------------------------------------------------------------------------------------------


def variable(name: str, text: str, *, uid: str = STATE, chosen: Sequence[str] = ()) -> Any:
    """A choice of several values; without ``chosen`` all of them."""
    made = build.QueryVariable(name).label(name).datasource(source(uid)).query(text).multi(True)
    made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.DISABLED)
    if chosen:
        return made.current(dashboard.VariableOption(selected=True, text=list(chosen), value=list(chosen)))
    every = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    return made.include_all(True).all_value(sql.ALL).current(every)


def address(name: str, usual: str) -> Any:
    """Where links lead; a link to the dashboard can't change it."""
    made = build.QueryVariable(name).datasource(source(STATE)).query(sql.address(name, usual))
    made.refresh(dashboard.VariableRefresh.ON_DASHBOARD_LOAD).hide(dashboard.VariableHide.HIDE_VARIABLE)
    made.build().skip_url_sync = True
    return made.current(dashboard.VariableOption(selected=True, text=usual, value=usual))


def promotions() -> Any:
    """Who was put in charge when, from the ledger."""
    made = build.AnnotationQuery().name("In charge").datasource(source(STATE)).enable(True).hide(False)
    made.icon_color("blue").build().target = Query(sql.PROMOTIONS, name="Anno")
    return made


def new(name: str, title: str, said: str, start: str, variables: Sequence[Any]) -> Any:
    """A dashboard without panels."""
    made = build.Dashboard(title).uid(f"gf-{name}").description(said).tags([TAG]).readonly().refresh("1m")
    made.time(start, "now").timezone("browser").annotations([]).tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for each in (*variables, *(address(*page) for page in PAGES)):
        made.with_variable(each)
    dashboards = build.DashboardLink("Dashboards").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    made.link(dashboards.include_vars(True).keep_time(True))
    for name_, url in (("Pages", "${pages:raw}/"), ("API", "${api:raw}/docs"), ("MLflow", "${mlflow:raw}/")):
        made.link(build.DashboardLink(name_).type(dashboard.DashboardLinkType.LINK).url(url).target_blank(True))
    return made


def places() -> list[Any]:
    """Which sites, cameras and models."""
    return [
        variable("site", sql.choices("site")),
        variable("camera", sql.choices("camera", where=sql.among("site", "site"))),
        variable("model", sql.choices("model")),
    ]


def fleet() -> Any:
    """The sites."""
    made = new("fleet", "GuardianFlow: fleet", "How the sites are, and their figures.", "now-30d", places())
    made.annotation(promotions())
    rules = "Judged by the shipped rules and the alerts that stand; the page Sites knows your own rules."
    made.with_panel(
        counts_panel("Sites", sql.SITE_COUNTS, rules, {"unwell": "red", "unknown": "yellow", "well": "green"})
    )
    accuracy, live = {"map50": sql.LABELLED}, dict.fromkeys(sql.SHOWN_LIVE, sql.LIVE)
    made.with_panel(table_panel("Sites now, the worst first", sql.SITE_TABLE, rules, accuracy))
    made.with_panel(table_panel("Cameras now, the worst first", sql.CAMERA_TABLE, rules, {**accuracy, **live}))
    made.with_row(build.Row("On labelled pictures"))
    for name in ("map50", "map50_95", "precision", "recall"):
        text = sql.trend(name, f"= '{sql.LABELLED}'", "site, nullif(camera, ''), model")
        made.with_panel(trend_panel(CATALOGUE[name], text, place=sql.LABELLED))
    made.with_row(build.Row("Live, as the served models report"))
    for name in sql.SHOWN_LIVE:
        text = sql.trend(name, f"= '{sql.LIVE}'", "site, nullif(camera, ''), model")
        made.with_panel(trend_panel(CATALOGUE[name], text, place=sql.LIVE, span=8))
    return made


def model() -> Any:
    """A model: its versions, and every metric of the catalogue."""
    sources = variable("source", sql.choices("source"))
    versions = variable("version", sql.choices("version", where=sql.among("model", "model")))
    chosen = [*reversed(places()), versions, sources]
    made = new("model", "GuardianFlow: model", "Versions, who moved them, what was measured.", "now-30d", chosen)
    made.annotation(promotions())
    made.with_panel(
        table_panel("In charge", sql.ALIASES, "Which version stands where, as the ledger has it.", height=4)
    )
    accuracy = {"map50": sql.LABELLED, "map50_95": sql.LABELLED}
    said = "The newest first; the figures are those of its registration."
    made.with_panel(table_panel("Versions", sql.VERSIONS, said, {**accuracy, "model_size_mb": ""}))
    made.with_panel(table_panel("Moves", sql.LEDGER, "The ledger: who moved what, and why."))
    said = "What each version was measured at on labelled images."
    made.with_panel(table_panel("Evaluations", sql.EVALUATIONS, said, accuracy))
    figures = table_panel(
        "Figures of the time range", sql.SUMMARY, "Each metric of each place; invalid: NaN or infinite."
    )
    for column in ("mean", "min", "max", "p50", "p95", "last"):
        figures.override_by_name(column, [Property(id_val="decimals", value=3)])
    made.with_panel(figures)
    titles = {"detection": "Accuracy", "mot": "Tracking", "system": "Speed and power", "training": "Training"}
    for group, title in titles.items():
        row = build.Row(title).collapsed(group != "detection")
        for spec in (spec for spec in CATALOGUE.values() if spec.group == group):
            text = sql.trend(spec.name, "<> ''", "version, site, nullif(camera, ''), source", where=sql.MEASURED)
            row.with_panel(trend_panel(spec, text))
        made.with_row(row)
    return made


def training() -> Any:
    """Trainings."""
    experiment = variable("experiment", sql.choices("experiment", "gf_run_records"))
    usual = ("map50", "map50_95", "train/box_loss", "val/box_loss")
    curve = variable("curve", sql.CURVE_NAMES, uid=MLFLOW, chosen=usual)
    said = "What runs, what came of it, and the curves."
    made = new("training", "GuardianFlow: training", said, "now-7d", [experiment, curve])
    colours = {"running": "blue", "silent": "yellow", "finished": "green", "failed": "red", "killed": "orange"}
    counted = "Runs of the time range. Silent: says it runs, and nothing was heard of it for two minutes."
    made.with_panel(counts_panel("Runs", sql.RUN_COUNTS, counted, colours))
    runs = table_panel("Runs, those that go on first", sql.RUNS, counted)
    gauge = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    progress = {"unit": "percentunit", "min": 0, "max": 1, "decimals": 0, "custom.cellOptions": gauge}
    runs.override_by_name("progress", [Property(id_val=name, value=value) for name, value in progress.items()])
    made.with_panel(runs)
    said = "Of the weights that a training kept."
    made.with_panel(table_panel("Results of trainings", sql.RESULTS, said, dict.fromkeys(sql.RESULT_METRICS, "")))
    made.with_row(build.Row("Curves, epoch by epoch"))
    return made.with_panel(curve_panel())


def alerts() -> Any:
    """Alerts, and what is advised."""
    made = new("alerts", "GuardianFlow: alerts", "What fires, what fired, what is advised.", "now-7d", places())
    made.annotation(promotions())
    evaluated = "As the rules were evaluated last; the page Alerts and advice evaluates them anew."
    colours = {"firing": "red", "pending": "yellow", "known_to_nobody": "red", "advice_to_decide": "blue"}
    made.with_panel(counts_panel("Now", sql.ALERT_COUNTS, evaluated, colours))
    made.with_panel(table_panel("Open alerts", sql.OPEN_ALERTS, evaluated))
    panel = timeseries.Panel().title("Alerts that fired at a time").description("By rule.").datasource(source(STATE))
    panel.height(7).span(24).with_target(Query(sql.FIRING, series=True)).unit("none").decimals(0).min(0)
    panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(60).no_value("no alert is known")
    panel.stacking(common_builder.StackingConfig().mode(common.StackingMode.NORMAL))
    made.with_panel(panel)
    made.with_panel(table_panel("Alerts that ended", sql.PAST_ALERTS, "Those that fired within the time range."))
    return made.with_panel(
        table_panel("Advice", sql.ADVICE, "What is advised because of an alert, and what came of it.")
    )


# --- files ----------------------------------------------------------------------------------------------------------


def numbered(made: Any) -> str:
    """A dashboard as JSON, its panels numbered in their order."""
    whole: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    every = [each for panel in whole["panels"] for each in (panel, *panel.get("panels", ()))]
    for number, panel in enumerate(every, 1):
        panel["id"] = number
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def data_source(name: str, uid: str, database: str, *, default: bool) -> dict[str, Any]:
    """How Grafana reaches a database; ``$NAME`` is of Grafana's own environment."""
    return {
        "name": name, "uid": uid, "type": PLUGIN, "access": "proxy", "isDefault": default, "editable": False,
        "url": "$GRAFANA_DB_HOST", "user": "grafana", "secureJsonData": {"password": "$GRAFANA_DB_PASSWORD"},
        "jsonData": {
            "database": database, "sslmode": "$GRAFANA_DB_SSLMODE", "maxOpenConns": 10, "connMaxLifetime": 14400,
        },
    }  # fmt: skip


def files() -> Iterator[tuple[str, str]]:
    """Name below grafana/ → text."""
    head = "# Made by tools/grafana.py; docs/DEPLOY.md says how Grafana reads it.\n"
    sources = [
        data_source("GuardianFlow", STATE, "guardianflow", default=True),
        data_source("MLflow's runs", MLFLOW, "mlflow", default=False),
    ]
    provider = {
        "name": TAG, "folder": "GuardianFlow", "type": "file", "disableDeletion": True, "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }  # fmt: skip
    for kind, entries in (("datasources", sources), ("dashboards", [provider])):
        key = "providers" if kind == "dashboards" else kind
        text = yaml.safe_dump({"apiVersion": 1, key: entries}, sort_keys=False, allow_unicode=True)
        yield f"provisioning/{kind}/guardianflow.yaml", head + text
    for make in (fleet, model, training, alerts):
        yield f"dashboards/{make.__name__}.json", numbered(make())


def main() -> int:
    """Write the files, or say which ones are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file isn't what it should be")
    check = parser.parse_args().check
    stale = [name for name, text in files() if not (ROOT / name).is_file() or (ROOT / name).read_text("utf-8") != text]
    for name, text in files():
        if name in stale and not check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
    for name in stale:
        print(f"grafana/{name}: {'stale; run python tools/grafana.py' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
