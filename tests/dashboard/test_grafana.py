"""Grafana's files: made by the generator, whole, and every query in them gives what its panel shows, to a mere reader.

Each query runs on a real PostgreSQL as the role that the data source logs in as, on our own tables and MLflow's.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy.engine import make_url

from guardianflow.core.metrics import MetricRecord
from guardianflow.dashboard.alerts import AlertEngine, AlertRules
from guardianflow.dashboard.fleet import fleet
from guardianflow.exceptions import ConfigError
from guardianflow.runs.run_records import ProcessIdentity, RunRecord, RunRecords
from guardianflow.state.database import Database
from guardianflow.state.reading import MLFLOW, STATE, grant_reading
from guardianflow.state.tables import metadata, model_evaluations, model_events, model_states, model_versions
from tests.dashboard.site_scene import Scene
from tests.services.grafana import Grafana
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "grafana/dashboards").glob("*.json")}
SHARED = {"state", "seconds", "run_id", "site", "model"}
"""Columns that look alike in every table that has them."""
HOSTILE = """O'Hare "T1" \\' %s -- '; DROP TABLE gf_api_keys; --"""
ADDRESS = "https://pages.example/a'b?c=100%"


@dataclass(frozen=True)
class Query:
    """A query of a dashboard, and what is shown of it."""

    board: str
    what: str
    title: str
    source: str
    sql: str
    shown: Any


def panels_of(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for panel in board["panels"] for each in (panel, *panel.get("panels", ()))]


def queries() -> Iterator[Query]:
    for name, board in DASHBOARDS.items():
        for panel in panels_of(board):
            for target in panel.get("targets", ()):
                assert target["datasource"] == panel["datasource"]
                yield Query(name, "panel", panel["title"], target["datasource"]["uid"], target["rawSql"], panel)
        for each in board["templating"]["list"]:
            yield Query(name, "variable", each["name"], each["datasource"]["uid"], each["query"], each)
        for each in board["annotations"]["list"]:
            target = each["target"]
            yield Query(name, "annotation", each["name"], target["datasource"]["uid"], target["rawSql"], each)


QUERIES = list(queries())


def query(board: str, title: str) -> Query:
    (found,) = [each for each in QUERIES if (each.board, each.title, each.what) == (board, title, "panel")]
    return found


def grant(url: str, role: str, tables: Mapping[str, str] = STATE) -> None:
    with psycopg.connect(url) as connection:
        grant_reading(connection, role, tables, addresses={"pages": ADDRESS})


class Stack:
    """Two databases with real rows, and the role that Grafana logs in as."""

    def __init__(self, server: PostgresServer, folder: Path, mlflow_template: str) -> None:
        self.server, self.folder = server, folder
        self.names = {"guardianflow": server.create(), "guardianflow-mlflow": server.create(template=mlflow_template)}
        self.role, self.owner, self.password = f"grafana%{secrets.token_hex(3)}", f"o{secrets.token_hex(3)}", "secret"
        for role in (self.role, self.owner):
            server.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{self.password}'")
        server.execute(f"ALTER DATABASE {self.names['guardianflow']} OWNER TO {self.owner}")
        self.now = datetime.now(UTC)
        Database.open(self.url("guardianflow", self.owner)).make()
        self.scene = Scene(folder, self.now, url=self.url("guardianflow", self.owner))
        self.grant()

    def url(self, source: str, role: str = "") -> str:
        """Of a database, as the administrator or another role."""
        url = make_url(self.server.url(self.names[source]))
        url = url.set(username=role, password=self.password) if role else url
        return url.render_as_string(hide_password=False)

    def grant(self, role: str = "") -> None:
        for name, tables in (("guardianflow", STATE), ("guardianflow-mlflow", MLFLOW)):
            grant(self.url(name, role), self.role, tables)

    def connect(self, source: str = "guardianflow", *, administrator: bool = False) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(source, "" if administrator else self.role), autocommit=True)

    def rows(self, asked: Query, view: Grafana | None = None) -> list[dict[str, Any]]:
        """What Grafana's data source gets."""
        with self.connect(asked.source) as connection:
            found = connection.execute((view or self.view).sent(asked.sql))
            names = [column.name for column in found.description]
            assert len(set(names)) == len(names)
            return [dict(zip(names, row, strict=True)) for row in found]

    @property
    def view(self) -> Grafana:
        return Grafana(self.now - timedelta(days=2), self.now + timedelta(hours=1))

    def remove(self) -> None:
        for name in self.names.values():
            self.server.drop(name)
        self.server.execute(f'DROP ROLE "{self.role}", {self.owner}')


@pytest.fixture(scope="module")
def stack(
    postgres_server: PostgresServer, mlflow_postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    made = Stack(postgres_server, tmp_path_factory.mktemp("grafana"), mlflow_postgres_template)
    fill_sites(made.scene)
    fill_ledger(made.scene)
    fill_runs(made)
    yield made
    made.remove()


def fill_sites(scene: Scene) -> None:
    """A site of each kind; ``hint`` has only power to spare, ``whole`` a sample of the site for all its cameras."""
    scene.charge("1")
    for site, value in (("harbour", 0.86), ("low", 0.58), ("quiet", 0.9), ("hint", 0.9), (HOSTILE, 0.8)):
        scene.labelled(site, value, camera="gate", ago=5)
        scene.live(site, ago=7 if site == "quiet" else 0.05, gpu_util=20.0 if site == "hint" else 64.0)
    scene.labelled("old", 0.9, camera="gate", ago=40 * 24)
    scene.labelled("newer", 0.9, camera="gate", version="0")
    scene.live("newer")
    scene.live("slow", latency_ms_p95=80.0)
    scene.live("nameless", model=None, version=None)
    scene.labelled("nameless", 0.88, camera="gate")
    scene.labelled("whole", 0.9)
    scene.live("whole", camera="gate")
    scene.live("whole", camera=HOSTILE)
    scene.report("energy_j_per_image", float("nan"), ago=1)
    for step in range(20):
        scene.report("latency_ms_p95", 10 + step * step / 20, ago=9.9 + step / 8)
    for value, ago in ((0.5, 49), (0.9, 40)):
        scene.labelled("mended", value, ago=ago)
    for ago in (48, 39, 14, 1, 0.5, 0):
        scene.evaluate(ago=ago)
    scene.recommend(why="it sees less than it did")


def fill_ledger(scene: Scene) -> None:
    version = {
        "run_id": "r1", "artifact": "weights/best.pt", "sha256": "5" * 64, "size_bytes": 6_000_000, "status": "ready",
        "created": scene.now, "created_by": "Kim",
    }  # fmt: skip
    evaluation = {
        "sha256": "5" * 64, "dataset_fingerprint": "d" * 64, "split": "val", "images": 60, "images_sha256": "e" * 64,
        "backend": "torch", "precision": "fp32", "imgsz": 320, "device": "cpu", "machine": {}, "protocol": {},
        "run_id": "r1", "folder": "x", "artifact": "y", "record_sha256": "f" * 64, "per_class": [],
        "metrics": {"map50": 0.86}, "time": scene.now,
    }  # fmt: skip
    move = {"action": "promote", "actor": "Kim", "evidence": {}, "time": scene.now - timedelta(hours=3)}
    with scene.database.write() as connection:
        for name in ("guard", HOSTILE[:40]):
            metrics = {"map50": 0.86, "map50_95": 0.51}
            connection.execute(model_versions.insert().values(name=name, version="1", metrics=metrics, **version))
            move |= {"name": name, "gen": 1, "version": "1", "champion": "1", "reason": HOSTILE}
            connection.execute(model_events.insert().values(**move))
        connection.execute(model_states.insert().values(name=HOSTILE[:40], gen=1, champion="1", updated=scene.now))
        connection.execute(model_evaluations.insert().values(**evaluation))


def fill_runs(stack: Stack) -> None:
    now, records = stack.now, RunRecords(stack.scene.database)
    for run_id, status, silent_s in (("a1", "RUNNING", 5), ("b2", "RUNNING", 900), ("c3", "FAILED", 0)):
        records.add(
            RunRecord(
                run_id=run_id, tracking_uri="", experiment=HOSTILE, kind="train", status=status, reason=None,
                parameters={"secret": "x"}, template=None, folder=Path("/nowhere"), actor="Kim", again_of=None,
                owner=ProcessIdentity.current(), heartbeat=now - timedelta(seconds=silent_s),
                started=now - timedelta(hours=1), ended=now if status == "FAILED" else None,
                progress={"done": 4, "total": 8, "unit": "epoch", "note": "mAP50 0.5", "part": 0.5},
            )
        )  # fmt: skip
    final = {"map50": 0.7, "map50_95": 0.4, "train_seconds": 61.0}
    stack.scene.store.save_metrics(
        MetricRecord(now, name, value, experiment=HOSTILE, run_id="c3", source="training", tags={"epoch": "final"})
        for name, value in final.items()
    )
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(stack.server.url(stack.names["guardianflow-mlflow"]))
    experiment = client.create_experiment(HOSTILE)
    moment = int(now.timestamp() * 1000)
    for name in ("first", "second"):
        run = client.create_run(experiment, run_name=name)
        curve = [Metric("map50", 0.1 * step, moment + step, step) for step in range(1, 6)]
        client.log_batch(
            run.info.run_id, [*curve, Metric("map50", 0.9, moment + 9, 5), Metric("val/x", 1.0, moment, 1)]
        )


# --- the files ------------------------------------------------------------------------------------------------------


def test_the_files_are_those_that_the_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, "tools/grafana.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(DASHBOARDS) == ["alerts", "fleet", "model", "training"]


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_a_dashboard_is_one_that_grafana_takes(name: str) -> None:
    board = DASHBOARDS[name]
    assert (board["uid"], board["schemaVersion"], board["editable"]) == (f"gf-{name}", 36, False)
    assert board["refresh"] == "1m"
    assert "id" not in board
    panels = panels_of(board)
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    for one, other in combinations([panel["gridPos"] for panel in board["panels"]], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    dashboards, *links = board["links"]
    assert (dashboards["type"], dashboards["tags"], board["tags"]) == ("dashboards", ["guardianflow"], ["guardianflow"])
    variables = {each["name"]: each for each in board["templating"]["list"]}
    for each in links:
        assert variables[re.match(r"\$\{(\w+):raw}/", each["url"])[1]]["skipUrlSync"]  # no link may turn it elsewhere
    used = set(re.findall(r"\$\{(\w+):sqlstring}", json.dumps(board)))
    assert used <= set(variables)
    assert all(variables[each]["multi"] for each in used)


def test_nothing_known_is_said_so_and_is_never_green() -> None:
    for panel in (panel for board in DASHBOARDS.values() for panel in panels_of(board) if panel["type"] != "row"):
        fields = panel["fieldConfig"]
        assert fields["defaults"]["noValue"] in {"unknown", "no alert is known"}
        properties = [
            fields["defaults"],
            *({p["id"]: p["value"] for p in o["properties"]} for o in fields["overrides"]),
        ]
        for each in properties:
            for step in each.get("thresholds", {}).get("steps", [])[:1]:
                assert step["color"] in {"text", "transparent", "red"}
            for mapping in each.get("mappings", []):
                if mapping["type"] == "special":
                    assert (mapping["options"]["result"]["text"], mapping["options"]["result"]["color"]) == (
                        "unknown",
                        "yellow",
                    )


def test_the_data_sources_hold_no_secret_and_are_those_that_the_dashboards_name() -> None:
    folder = ROOT / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources/guardianflow.yaml").read_text("utf-8"))["datasources"]
    assert {each["uid"] for each in sources} == {each.source for each in QUERIES}
    for each in sources:
        assert (each["user"], each["editable"]) == ("grafana", False)
        assert each["secureJsonData"] == {"password": "$GRAFANA_DB_PASSWORD"}
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]
    assert set(re.findall(r"\$(\w+)", json.dumps(sources))) <= set(service["environment"])
    (provider,) = yaml.safe_load((folder / "dashboards/guardianflow.yaml").read_text("utf-8"))["providers"]
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounted["./grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"


# --- the queries ----------------------------------------------------------------------------------------------------


def check_columns(asked: Query, rows: list[dict[str, Any]]) -> None:
    columns = set(rows[0])
    if asked.what == "variable":
        assert len(columns) == 1
        values = [next(iter(row.values())) for row in rows]
        assert all(isinstance(value, str) and value for value in values)
        assert values == list(dict.fromkeys(values))
    elif asked.what == "annotation":
        assert columns == {"time", "tags", "text"}
        assert all(row["time"].tzinfo and isinstance(row["text"], str) for row in rows)
    elif asked.shown["targets"][0]["format"] == "time_series":
        assert list(rows[0]) == ["time", "metric", "value"]
        assert all(isinstance(row["metric"], str) and row["metric"] and row["value"] is not None for row in rows)
        assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
        assert len({(row["time"], row["metric"]) for row in rows}) == len(rows)
    else:
        named = {each["matcher"]["options"] for each in asked.shown["fieldConfig"]["overrides"]}
        assert named - (SHARED if asked.shown["type"] == "table" else set()) <= columns
        if asked.shown["type"] == "stat":
            assert len(rows) == 1
            assert named == columns
            assert all(type(value) is int for value in rows[0].values())


@pytest.mark.parametrize("board", sorted(DASHBOARDS))
def test_each_query_gives_what_is_shown_of_it(stack: Stack, board: str) -> None:
    without = []
    for asked in (each for each in QUERIES if each.board == board):
        rows = stack.rows(asked, replace(stack.view, chosen={"curve": ["map50"]}))
        if rows:
            check_columns(asked, rows)
        elif "metric = '" not in asked.sql:  # of most metrics nothing was measured
            without.append(asked.title)
    assert without == []


@pytest.mark.parametrize("newer", [True, False])
def test_a_hostile_name_is_text_in_every_query(stack: Stack, newer: bool) -> None:
    names = ("site", "camera", "model", "version", "source", "experiment", "curve")
    view = replace(stack.view, newer=newer, chosen={name: [HOSTILE, "x') OR true --", '"', "*/ $1"] for name in names})
    for asked in QUERIES:
        stack.rows(asked, view)
    only = replace(view, chosen={"site": [HOSTILE], "experiment": [HOSTILE], "camera": ["gate"], "curve": ["map50"]})
    assert {row["site"] for row in stack.rows(query("fleet", "Cameras now, the worst first"), only)} == {HOSTILE}
    assert len(stack.rows(query("training", "Runs, those that go on first"), only)) == 3
    assert {row["run"].split()[0] for row in stack.rows(query("training", "$curve"), only)} == {"first", "second"}
    nobody = replace(view, chosen={"site": [], "experiment": []})
    assert stack.rows(query("fleet", "Cameras now, the worst first"), nobody) == []
    with stack.connect(administrator=True) as connection:
        assert connection.execute("SELECT count(*) FROM gf_api_keys").fetchone() == (0,)


def test_a_curve_has_one_value_a_run_and_epoch_and_what_its_transformations_need(stack: Stack) -> None:
    asked = query("training", "$curve")
    rows = stack.rows(asked, replace(stack.view, chosen={"curve": ["map50"]}))
    assert [row["step"] for row in rows] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {row["value"] for row in rows if row["step"] == 5} == {0.9}  # what was logged last
    split, join = asked.shown["transformations"]
    assert (split["options"]["fields"], join["options"]["byField"]) == (["run"], "step")
    assert asked.shown["options"]["xField"] == "step"
    assert asked.shown["repeat"] == "curve"


def test_the_states_are_those_of_the_page_of_the_sites(stack: Stack) -> None:
    def judged() -> dict[str, str]:
        return {row["site"]: row["state"] for row in stack.rows(query("fleet", "Sites now, the worst first"))}

    stack.scene.labelled("unjudged", 0.6)
    assert judged()["unjudged"] == "unknown"  # nobody held the rules against it yet: that isn't well
    page = fleet(stack.scene.settings, datetime.now(UTC))  # this does
    cameras = {
        (site.site, camera.camera or "", camera.model or ""): str(camera.state)
        for site in page.sites for camera in site.cameras
    }  # fmt: skip
    rows = stack.rows(query("fleet", "Cameras now, the worst first"))
    assert {(row["site"], row["camera"], row["model"]): row["state"] for row in rows} == cameras
    assert judged() == {site.site: str(site.state) for site in page.sites}
    assert judged() == {
        "low": "unwell", "slow": "unwell", "unjudged": "unwell",
        "quiet": "unknown", "old": "unknown", "newer": "unknown",
        "harbour": "well", "hint": "well", "nameless": "well", "whole": "well", "mended": "well",
        HOSTILE: "well",
    }  # fmt: skip
    (counts,) = stack.rows(query("fleet", "Sites"))
    assert counts == {"unwell": 3, "unknown": 3, "well": 6}
    figures = {
        (site.site, camera.camera or "", figure.metric): figure.value
        for site in page.sites for camera in site.cameras for figure in camera.figures
    }  # fmt: skip
    shown = {
        (row["site"], row["camera"], name): row[name]
        for row in rows for name in ("map50", "latency_ms_p95", "throughput_fps", "gpu_util") if row[name] is not None
    }  # fmt: skip
    assert shown == pytest.approx(figures)
    why = {row["site"]: row["why"] for row in stack.rows(query("fleet", "Sites now, the worst first"))}
    assert why["low"] == "gate: map50 < 0.75 (0.580)"


def test_the_figures_are_those_of_the_store(stack: Stack) -> None:
    labels = ("version", "site", "camera", "source")
    told = stack.scene.store.summary(by=labels, start=stack.view.start, end=stack.view.end)
    figures = ("count", "mean", "min", "max", "p50", "p95", "invalid", "last")

    def keyed(rows: list[dict[str, Any]]) -> dict[Any, Any]:
        return {
            tuple(row[name] for name in ("metric", *labels)): [
                float("nan") if row[name] is None else float(row[name]) for name in figures
            ]
            for row in rows
        }

    rows = stack.rows(query("model", "Figures of the time range"))
    ours, theirs = keyed(rows), keyed(told.to_dict("records"))
    assert set(ours) == set(theirs)
    for key, values in theirs.items():
        assert ours[key] == pytest.approx(values, nan_ok=True), key
    assert any(row["invalid"] for row in rows)
    assert {(row["unit"], row["better"]) for row in rows if row["metric"] == "latency_ms_p95"} == {("ms", "lower")}


def test_the_lines_are_those_of_the_store(stack: Stack) -> None:
    title, labels = "95th percentile of latency (latency_ms_p95)", ("site", "camera", "model")
    told = stack.scene.store.trend(
        "latency_ms_p95", by=labels, source="service", bucket_s=3600, points=1000,
        start=stack.view.start, end=stack.view.end,
    )  # fmt: skip
    theirs = {
        (row["time"].timestamp(), " · ".join(row[name] for name in labels if isinstance(row[name], str))): row["mean"]
        for row in told.to_dict("records") if row["count"]
    }  # fmt: skip
    ours = {(float(row["time"]), row["metric"]): row["value"] for row in stack.rows(query("fleet", title))}
    assert ours == pytest.approx(theirs)
    assert len(ours) > 10
    line = query("fleet", title).shown["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]
    assert line == {"color": "red", "value": 30.0}


def test_alerts_and_advice_are_those_that_stand(stack: Stack) -> None:
    scene = stack.scene
    opened = AlertEngine(scene.store, AlertRules.load(settings=scene.settings)).open()
    (counts,) = stack.rows(query("alerts", "Now"))
    firing = sum(alert.state == "firing" for alert in opened)
    assert firing > 2
    pending = len(opened) - firing
    assert counts == {"firing": firing, "pending": pending, "known_to_nobody": firing, "advice_to_decide": 1}
    assert {row["id"] for row in stack.rows(query("alerts", "Open alerts"))} == {alert.id for alert in opened}
    bars = stack.rows(query("alerts", "Alerts that fired at a time"), replace(stack.view, interval="1m"))
    moment = max(row["time"] for row in bars)
    then = Counter(alert.rule for alert in opened if alert.fired and alert.fired <= moment)
    assert {row["metric"]: row["value"] for row in bars if row["time"] == moment} == then
    assert scene.now - moment < timedelta(minutes=1)
    (advice,) = stack.rows(query("alerts", "Advice"))
    assert (advice["action"], advice["why"], advice["state"]) == ("retrain", "it sees less than it did", "open")


def test_runs_say_which_ones_are_silent(stack: Stack) -> None:
    runs = {row["run_id"]: row for row in stack.rows(query("training", "Runs, those that go on first"))}
    assert {name: row["state"] for name, row in runs.items()} == {"a1": "RUNNING", "b2": "SILENT", "c3": "FAILED"}
    assert runs["a1"]["progress"] == pytest.approx(4.5 / 8)
    (counts,) = stack.rows(query("training", "Runs"))
    assert counts == {"running": 1, "silent": 1, "finished": 0, "failed": 1, "killed": 0}
    (result,) = stack.rows(query("training", "Results of trainings"))
    assert (result["map50"], result["train_seconds"], result["recall"]) == (0.7, 61.0, None)


# --- the role -------------------------------------------------------------------------------------------------------


def columns_used(stack: Stack, source: str) -> dict[str, set[str]]:
    """What the queries of a data source read, as PostgreSQL itself resolves them."""
    used: dict[str, set[str]] = defaultdict(set)
    with stack.connect(source, administrator=True) as connection:
        for asked in (each for each in QUERIES if each.source == source):
            connection.execute(f"CREATE TEMP VIEW asked AS {stack.view.sent(asked.sql)}")
            told = "SELECT table_name, column_name FROM information_schema.view_column_usage WHERE view_name = 'asked'"
            for table, column in connection.execute(told).fetchall():
                used[table].add(column)
            connection.execute("DROP VIEW asked")
    return used


@pytest.mark.parametrize(("source", "tables"), [("guardianflow", STATE), ("guardianflow-mlflow", MLFLOW)])
def test_the_role_reads_what_the_dashboards_show_and_nothing_else(
    stack: Stack, source: str, tables: Mapping[str, str]
) -> None:
    listed = {table: set(columns.split()) for table, columns in tables.items()}
    assert listed == columns_used(stack, source)
    with stack.connect(source, administrator=True) as connection:
        granted: dict[str, set[str]] = defaultdict(set)
        for table, column in connection.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c WHERE c.table_schema = 'public'"
            " AND has_column_privilege(%s, format('public.%%I', c.table_name), c.column_name, 'SELECT')",
            [stack.role],
        ).fetchall():
            granted[table].add(column)
        assert granted == listed
        others = connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v')"
            " AND has_table_privilege(%s, oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')",
            [stack.role],
        ).fetchone()
        assert others == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT secret_sha256 FROM gf_api_keys",
        "SELECT count(*) FROM gf_api_keys",
        "SELECT parameters FROM gf_run_records",
        "SELECT evidence FROM gf_model_events",
        "SELECT * FROM guardianflow_version",
        "INSERT INTO gf_metric_records (event_id) VALUES ('x')",
        "UPDATE gf_model_states SET champion = '9'",
        "DELETE FROM gf_alerts",
        "CREATE TABLE mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "SELECT rolpassword FROM pg_authid",
    ],
)
def test_the_role_is_refused_whatever_else_it_asks(stack: Stack, statement: str) -> None:
    with stack.connect() as connection:
        connection.execute("SET default_transaction_read_only = off")  # a reader may; it must not help
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


def test_the_role_only_reads_and_not_for_ever_and_knows_where_the_pages_are(stack: Stack) -> None:
    stack.grant()  # again: nothing changes
    with stack.connect() as connection:
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
    shown = {each.title: each for each in QUERIES if each.board == "fleet" and each.what == "variable"}
    assert [list(row.values()) for row in stack.rows(shown["pages"])] == [[ADDRESS]]
    assert [list(row.values()) for row in stack.rows(shown["api"])] == [["http://127.0.0.1:8000"]]


def test_what_is_no_longer_shown_is_taken_back(stack: Stack) -> None:
    with stack.connect(administrator=True) as connection:
        connection.execute(f'GRANT SELECT, INSERT ON gf_api_keys TO "{stack.role}"')
        connection.execute(f'GRANT SELECT (folder) ON gf_run_records TO "{stack.role}"')
    stack.grant()
    with stack.connect() as connection:
        for statement in ("SELECT 1 FROM gf_api_keys", "SELECT folder FROM gf_run_records"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_role_that_is_not_there_and_one_who_may_not_grant_are_said(stack: Stack) -> None:
    with pytest.raises(ConfigError, match=r"permission denied.*\. Migrate .* connect as an administrator\."):
        stack.grant(stack.owner)
    with pytest.raises(ConfigError, match="could not be made a reader") as told:
        grant(stack.server.url("postgres"), "nobody's role")
    assert 'role "nobody\'s role" does not exist. Migrate the database and make the role first' in str(told.value)


def test_every_listed_column_is_one_of_ours() -> None:
    assert {f"{table}.{column}" for table, columns in STATE.items() for column in columns.split()} <= {
        f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns
    }
