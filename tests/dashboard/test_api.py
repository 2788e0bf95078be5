"""The API: each route asks for its role, says what is wrong in one form, and does what the library does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from guardianflow import MetricRecord, MetricsStore, ModelRegistry, Settings
from guardianflow.dashboard.api import _listening, create_app, serve
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.dashboard.keys import ROLES, Keys
from guardianflow.dashboard.routes.access import MOST_BYTES
from guardianflow.exceptions import InputError, RefusedError
from guardianflow.runs.tracking import TrackedRun
from guardianflow.state.database import Database

NOW = datetime.now(UTC).replace(microsecond=0)
SENT = {"records": [{"time": NOW.isoformat(), "metric": "latency_ms_p95", "value": 21.5, "model": "gate", "site": "A"}]}

ROUTES: dict[tuple[str, str], tuple[str | None, dict[str, Any] | None, int]] = {
    ("GET", "/api/health"): (None, None, 200),
    ("GET", "/api/ready"): (None, None, 200),
    ("GET", "/metrics"): ("viewer", None, 200),
    ("GET", "/api/metrics/summary"): ("viewer", None, 200),
    ("GET", "/api/metrics/trend?metric=map50"): ("viewer", None, 200),
    ("GET", "/api/metrics/comparison?metric=map50"): ("viewer", None, 200),
    ("GET", "/api/alerts"): ("viewer", None, 200),
    ("GET", "/api/metrics/alerts"): ("viewer", None, 200),
    ("GET", "/api/models"): ("viewer", None, 200),
    ("GET", "/api/models/gate/history"): ("viewer", None, 404),
    ("GET", "/api/recommendations"): ("viewer", None, 200),
    ("POST", "/api/metrics"): ("ingester", SENT, 201),
    ("POST", "/api/recommendations/7/apply"): ("operator", None, 404),
    ("POST", "/api/recommendations/7/dismiss"): ("operator", {"reason": "no"}, 404),
    ("POST", "/api/models/gate/promote"): ("promoter", {"reason": "better"}, 404),
    ("POST", "/api/models/gate/rollback"): ("promoter", {"reason": "worse"}, 404),
}
"""Every route: the role it needs, what is sent, and what who may is answered where there is nothing yet."""


def settings_in(folder: Path, **more: Any) -> Settings:
    return Settings(work_dir=folder / "작업 work", gate="off", **more)


APPS: dict[str, FastAPI] = {}


def keys_of(settings: Settings) -> Keys:
    return Keys(Database.open(settings.database_url))


def client_of(settings: Settings, token: str | None = None, *, host: str = "127.0.0.1", **headers: str) -> TestClient:
    """Somebody who asks: from an address, with a key or without."""
    app = APPS.get(settings.database_url) or APPS.setdefault(settings.database_url, create_app(settings))
    given = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(
        app, base_url="http://127.0.0.1:8000", client=(host, 50_000), headers={**given, **headers},
        raise_server_exceptions=False,
    )  # fmt: skip


def ask(client: TestClient, method: str, path: str, body: object = None) -> httpx.Response:
    return client.request(method, path, json=body) if body is not None else client.request(method, path)


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(problem)
    assert problem["status"] == status
    assert "Traceback" not in response.text
    return problem


# --- the door ---------------------------------------------------------------------------------------


def test_the_table_of_this_test_names_every_route(tmp_path: Path) -> None:
    made = create_app(settings_in(tmp_path)).openapi()["paths"]
    known = {(method.upper(), path) for path, methods in made.items() for method in methods}
    assert {(method, _shaped(path)) for method, path in ROUTES} == known


def _shaped(path: str) -> str:
    return re.sub(r"/(gate|7)/", _shape, path.partition("?")[0])


def _shape(match: re.Match[str]) -> str:
    return {"gate": "/{name}/", "7": "/{id}/", "4": "/{id}/"}[match[1]]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, str]]:
    """A place with a key of each role, a revoked one, and one that nobody made."""
    settings = settings_in(tmp_path_factory.mktemp("door"))
    keys = keys_of(settings)
    made = {role: keys.create(f"the {role}", role, by="kim")[1] for role in ROLES}
    made["revoked"] = keys.create("gone", "promoter", by="kim")[1]
    keys.revoke("gone")
    return settings, {**made, "unknown": f"gf_{'0' * 16}_{'0' * 64}", "no token": "secret"}


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))
def test_a_route_is_refused_without_its_role(tokens: tuple[Settings, dict[str, str]], method: str, path: str) -> None:
    settings, made = tokens
    role, body, status = ROUTES[method, path]
    ladder = list(ROLES)
    for holder, token in made.items():
        response = ask(client_of(settings, token), method, path, body)
        if role is None or (holder in ladder and ladder.index(holder) >= ladder.index(role)):
            assert response.status_code == status, (holder, response.text)
        elif holder in ladder:
            problem = assert_problem(response, 403)
            assert f"needs the role {role}; key 'the {holder}' is {holder}" in problem["detail"]
        else:
            assert "opens nothing" in assert_problem(response, 401)["detail"]
            assert response.headers["www-authenticate"] == "Bearer"
    without = ask(client_of(settings), method, path, body)
    if role is not None:
        assert f"--role {role}" in assert_problem(without, 401)["detail"]
    basic = ask(client_of(settings, Authorization="Basic a2ltOmtpbQ=="), method, path, body)
    assert role is None or basic.status_code == 401


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))
def test_without_any_key_this_machine_reads_and_reports_and_nobody_else_does_anything(
    tmp_path: Path, method: str, path: str
) -> None:
    settings = settings_in(tmp_path)
    role, body, status = ROUTES[method, path]
    open_here = role in {None, "viewer", "ingester"}
    here = ask(client_of(settings), method, path, body)
    if open_here:
        assert here.status_code == status, here.text
    else:
        assert "never done without a key" in assert_problem(here, 401)["detail"]
    assert ask(client_of(settings, host="::1"), method, path, body).status_code == here.status_code
    others = {
        "another machine": client_of(settings, host="192.0.2.7"),
        "through a proxy": client_of(settings, **{"X-Forwarded-For": "192.0.2.7"}),
        "a name that leads here": client_of(settings, Host="evil.example:8000"),
        "a page of another site": client_of(settings, Origin="https://evil.example"),
        "a page without a site": client_of(settings, Origin="null"),
        "a key, though there is none": client_of(settings, f"gf_{'0' * 16}_{'0' * 64}"),
    }
    for who, client in others.items():
        answer = ask(client, method, path, body)
        assert answer.status_code == (status if role is None else 401), (who, answer.text)


def test_revoking_the_last_key_opens_nothing(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    keys = keys_of(settings)
    _, token = keys.create("kim", "viewer", by="lee")
    client = client_of(settings, token)
    assert client.get("/api/models").status_code == 200
    keys.revoke("kim")
    assert client.get("/api/models").status_code == 401  # the same server, the next request
    assert client_of(settings).get("/api/models").status_code == 401


def test_an_address_that_others_reach_needs_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        with pytest.raises(RefusedError, match="guardianflow keys create NAME --role viewer"):
            serve(settings_in(tmp_path), host=host, port=0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="can't be listened on"):
        serve(settings_in(tmp_path), port=taken.getsockname()[1])


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    with _listening("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_page_about_the_api_names_every_route_its_role_and_a_call() -> None:
    page = (Path(__file__).parents[2] / "docs" / "API.md").read_text(encoding="utf-8")
    told = {
        tuple(route.split(" ")): None if row[2] == "–" else row[2]
        for row in re.finditer(r"^\| (`(?:GET|POST) .*) \| (\S+) \| .* \|$", page, re.MULTILINE)
        for route in re.findall(r"`([^`]+)`", row[1])
        if route != "GET /openapi.json"
    }
    shaped = {(method, _shaped(path)): row[0] for (method, path), row in ROUTES.items()}
    assert told == shaped
    called = {re.sub(r"/(gate|4)/", _shape, path) for path in re.findall(r"'http://127\.0\.0\.1:8000([^?']+)", page)}
    assert called == {path for _, path in shaped} - {"/api/health", "/api/metrics/alerts"}


# --- errors -----------------------------------------------------------------------------------------


def test_whatever_is_wrong_is_said_in_one_form(tmp_path: Path) -> None:
    client = client_of(settings_in(tmp_path))
    assert "/openapi.json" in assert_problem(client.get("/api/nothing"), 404)["detail"]
    assert "possible: GET" in assert_problem(client.post("/api/models"), 405)["detail"]
    assert assert_problem(client.get("/api/models/gaet/history"), 404)["error"] == "NotFoundError"
    wrong = {
        "/api/metrics/summary?modl=gate": "query.modl",
        "/api/metrics/summary?by=colour": "query.by.0",
        "/api/metrics/trend": "query.metric",
        "/api/metrics/trend?metric=map50&points=0": "query.points",
        "/api/metrics/trend?metric=map50&points=9999999": "query.points",
        "/api/alerts?limit=0": "query.limit",
        "/api/alerts?state=burning": "query.state",
    }
    for path, where in wrong.items():
        problem = assert_problem(client.get(path), 422)
        assert problem["errors"][0]["where"] == where, problem
    for path, said in {
        "/api/metrics/summary?start=yesterday": "ISO 8601",
        "/api/metrics/summary?start=2026-05-02&end=2026-05-01": "must not lie after",
        "/api/metrics/comparison?metric=map50&baseline=9": "no map50 was measured",
        "/api/metrics/summary?site=%00": "NUL",
        "/api/models/%00/history": "invisible",
    }.items():
        response = client.get(path)
        assert said in assert_problem(response, response.status_code)["detail"]
        assert response.status_code in {404, 422}


def test_a_batch_that_can_not_be_used_is_refused_whole(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    client = client_of(settings)
    good = SENT["records"][0]
    wrong = {
        "records.1.metric": {**good, "metric": 5},
        "records.1.value": {**good, "value": "fast"},
        "records.1.time": {**good, "time": "now"},
        "records.1.sight": {**good, "sight": "A"},
        "records.1": {**good, "metric": "a:b"},
        "records.1: time": {**good, "time": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
        "characters": {**good, "site": "A" * 201},
    }
    for where, record in wrong.items():
        problem = assert_problem(client.post("/api/metrics", json={"records": [good, record]}), 422)
        assert where in problem["detail"], problem
    assert_problem(client.post("/api/metrics", json={"records": []}), 422)
    assert_problem(client.post("/api/metrics", content=b"{", headers={"Content-Type": "application/json"}), 422)
    text = json.dumps(SENT).encode()
    assert_problem(client.post("/api/metrics", content=text, headers={"Content-Type": "text/plain"}), 422)
    assert MetricsStore(settings.database_url).query_metrics().empty


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read(tmp_path: Path, announced: bool) -> None:
    piece = b" " * 1_000_000
    content: Any = piece * 5 if announced else iter([piece] * 50)
    assert MOST_BYTES < 5_000_000
    answer = client_of(settings_in(tmp_path)).post(
        "/api/metrics", content=content, headers={"Content-Type": "application/json"}
    )
    assert f"{MOST_BYTES:,}" in assert_problem(answer, 413)["detail"]


def test_without_a_database_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = settings_in(tmp_path, database_url=f"postgresql://kim:geheim@127.0.0.1:{port}/none")
    client = client_of(settings)
    assert client.get("/api/health").json()["status"] == "alive"
    for path in ("/api/ready", "/api/models"):
        problem = assert_problem(client.get(path), 503)
        assert "state database" in problem["detail"]
        assert "geheim" not in json.dumps(problem)


def test_a_fault_of_ours_shows_nothing_of_the_inside(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    app = create_app(settings)

    @app.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("the secret of the house")

    client = TestClient(app, raise_server_exceptions=False)
    assert "secret" not in json.dumps(assert_problem(client.get("/api/broken"), 500))


def test_openapi_has_an_example_and_the_errors_of_every_route(tmp_path: Path) -> None:
    document = client_of(settings_in(tmp_path)).get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            success = next(answer for status, answer in route["responses"].items() if status.startswith("2"))
            if path.startswith("/api/") and "$ref" in success["content"]["application/json"]["schema"]:
                name = success["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert "example" in schemas[name], (method, path, name)
            else:
                assert path in {"/metrics", "/api/health", "/api/ready"}
            if path not in {"/metrics", "/api/health", "/api/ready"}:
                assert {"401", "403", "422", "503"} <= set(route["responses"]), path
                assert route["security"], path
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    for reference in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert reference in schemas


# --- the questions ----------------------------------------------------------------------------------


def filled(folder: Path) -> Settings:
    settings = settings_in(folder)
    MetricsStore(settings.database_url).save_metrics(
        MetricRecord(
            NOW - timedelta(minutes=10 - minute), "latency_ms_p95", value, model="gate", version=version,
            site='문 "A"\\', camera=f"cam-{minute % 2}", source="service",
        )
        for version, base in (("1", 20.0), ("2", 30.0))
        for minute, value in enumerate((base, base + 1, float("nan"), base + 3))
    )  # fmt: skip
    return settings


def test_the_store_answers_over_http_as_it_does_in_python(tmp_path: Path) -> None:
    settings = filled(tmp_path)
    store, client = MetricsStore(settings.database_url), client_of(settings)
    rows = client.get("/api/metrics/summary", params={"by": "version", "model": ["gate", "other"]}).json()["rows"]
    frame = store.summary(by=["version"])
    assert [(row["version"], row["count"], row["mean"], row["invalid"]) for row in rows] == [
        (row.version, row.count_, row.mean_, row.invalid)
        for row in frame.rename(columns={"count": "count_", "mean": "mean_"}).itertuples()
    ]
    asked = {"metric": "latency_ms_p95", "bucket_s": 60, "version": "2"}
    trend = client.get("/api/metrics/trend", params=asked).json()
    assert trend["bucket_s"] == 60
    assert [(row["count"], row["mean"]) for row in trend["rows"]] == [(1, 30.0), (1, 31.0), (0, None), (1, 33.0)]
    compared = client.get("/api/metrics/comparison", params={"metric": "latency_ms_p95", "baseline": "1"}).json()
    assert [row["difference"] for row in compared["rows"]] == [0.0, 10.0]


def test_prometheus_reads_the_last_figures(tmp_path: Path) -> None:
    text = client_of(filled(tmp_path)).get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text.text)}
    wanted = {
        "metric": "latency_ms_p95", "model": "gate", "version": "2", "site": '문 "A"\\', "camera": "cam-1",
        "source": "service",
    }  # fmt: skip
    figures = {
        name: [sample.value for sample in families[f"guardianflow_{name}"].samples if sample.labels == wanted]
        for name in ("figure", "figure_time_seconds")
    }
    assert figures == {"figure": [33.0], "figure_time_seconds": [(NOW - timedelta(minutes=7)).timestamp()]}


def test_what_is_sent_twice_is_stored_once(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    client = client_of(settings)
    sent = {"records": [{**SENT["records"][0], "event_id": "a" * 32}, {**SENT["records"][0], "value": "nan"}]}
    first = client.post("/api/metrics", json=sent).json()
    assert first == {"stored": 2, "duplicates": 0, "invalid": 1, "champions": {}}
    assert client.post("/api/metrics", json=sent).json()["duplicates"] == 2
    frame = MetricsStore(settings.database_url).query_metrics()
    assert list(frame["source"]) == ["service"]
    assert list(frame["value"]) == [21.5]


# --- the moves --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, mlflow_sqlite_template: Path) -> Settings:
    """A model with two versions of real, untrained weights: a rollback runs one inference with them."""
    from guardianflow.vision._ultralytics import import_ultralytics

    settings = settings_in(tmp_path_factory.mktemp("models"))
    settings.work_dir.mkdir()
    shutil.copyfile(mlflow_sqlite_template, settings.work_dir / "mlflow.db")
    weights = settings.work_dir / "best.pt"
    import_ultralytics().YOLO("yolo11n.yaml").save(weights)
    for _ in range(2):
        with TrackedRun.start(settings, experiment="gate", kind="train", parameters={}) as run:
            run.log_metrics({"map50": 0.5})
            run.log_artifact(weights, "weights")
        ModelRegistry(settings).register("gate", run.run_id)
    return settings


def test_a_promoter_moves_the_champion_and_the_ledger_names_the_key(models: Settings) -> None:
    _, token = keys_of(models).create("night shift", "promoter", by="lee")
    client = client_of(models, token)
    assert client.post("/api/models/gate/promote", json={"version": "1"}).json()["aliases"] == ["champion"]
    assert client.post("/api/models/gate/promote").json()["version"] == "2"  # the candidate
    shown = client.get("/api/models").json()["models"]
    assert [(model["champion"], model["rollback"]) for model in shown] == [("2", "1")]
    assert client.post("/api/metrics", json=SENT).json()["champions"] == {"gate": "2"}
    back = client.post("/api/models/gate/rollback", json={"reason": "밤에 나쁨"})
    assert (back.status_code, back.json()["version"]) == (200, "1")
    again = assert_problem(client.post("/api/models/gate/rollback"), 409)
    assert again["error"] == "RefusedError"
    ledger = client.get("/api/models/gate/history", params={"limit": 3}).json()["history"]
    assert [(event["action"], event["actor"]) for event in ledger] == [
        ("rollback", "night shift"), ("promote", "night shift"), ("promote", "night shift"),
    ]  # fmt: skip
    assert ledger[0]["reason"] == "밤에 나쁨"
    assert_problem(client.post("/api/models/gate/promote", json={"version": "1", "force": True}), 422)


@pytest.mark.slow
def test_advice_is_followed_through_the_api_and_only_a_promoters_word_moves_the_champion(models: Settings) -> None:
    registry = ModelRegistry(models, preflight="off")
    for version in ("1", "2"):
        registry.promote("gate", version)
    named = {"model": "gate", "site": "항구", "camera": "밤 1", "source": "inference"}
    now = datetime.now(UTC)
    MetricsStore(models.database_url).save_metrics(
        MetricRecord(now - timedelta(hours=hours), "map50", value, version=version, **named)
        for hours, value, version in ((3, 0.9, "1"), (2, 0.9, "1"), (1, 0.9, "1"), (0.1, 0.4, "2"))
    )
    AutoOptimizer(settings=models).evaluate()
    keys = keys_of(models)
    operator, promoter = (
        client_of(models, keys.create(f"{role} at night", role, by="lee")[1]) for role in ("operator", "promoter")
    )
    [advice] = operator.get("/api/recommendations", params={"state": "open"}).json()["recommendations"]
    assert (advice["action"], advice["model"], advice["camera"]) == ("roll_back", "gate", "밤 1")
    path = f"/api/recommendations/{advice['id']}"

    def outcome_of(client: TestClient) -> dict[str, Any]:
        taken = client.post(f"{path}/apply")
        assert (taken.status_code, taken.json()["state"]) == (202, "applying"), taken.text
        until = time.monotonic() + 200
        while time.monotonic() < until:
            [found] = client.get("/api/recommendations").json()["recommendations"]
            if found["state"] != "applying":
                return found
            time.sleep(0.2)
        raise AssertionError("it is still being applied")

    waits = outcome_of(operator)
    assert (waits["state"], waits["actor"], waits["may_promote"]) == ("waiting", "operator at night", False)
    assert registry.get("gate").version == "2"
    done = outcome_of(promoter)
    assert (done["state"], done["actor"], done["may_promote"]) == ("applied", "promoter at night", True)
    [event] = promoter.get("/api/models/gate/history", params={"limit": 1}).json()["history"]
    assert (event["action"], event["actor"], event["champion"]) == ("rollback", "promoter at night", "1")
    late = assert_problem(operator.post(f"{path}/dismiss", json={"reason": "no"}), 409)
    assert "applied already" in late["detail"]
    assert_problem(operator.post(f"{path}/dismiss", json={"reason": ""}), 422)


def test_a_faulty_rules_file_keeps_nobody_from_looking(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_in(tmp_path)
    settings.work_dir.mkdir()
    (settings.work_dir / "alerts.yaml").write_text("rules: 7", encoding="utf-8")
    with TestClient(
        create_app(settings, evaluate_every_s=0.05), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
    ) as client:
        for path in ("/api/alerts", "/api/recommendations", "/metrics"):
            assert client.get(path).status_code == 200, path
        until = time.monotonic() + 20
        while "could not be evaluated" not in caplog.text and time.monotonic() < until:
            time.sleep(0.05)
    assert "alerts.yaml" in caplog.text
    assert "Traceback" not in caplog.text


# --- the server -------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``guardianflow api``, as it is started by hand."""
    environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(tmp_path / "work"), "GUARDIANFLOW_GATE": "off"}
    command = [sys.executable, "-m", "guardianflow", "api", "--port", "0", "--evaluate-every", "1", "--json"]
    command[1:3] = ["-c", "from guardianflow.cli import main; main()"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        text += line
    yield json.loads(text)["url"], process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_the_verb_answers_and_ends_when_told(server: tuple[str, subprocess.Popen[str]], signum: int, code: int) -> None:
    url, process = server
    assert httpx.get(f"{url}/api/ready").json() == {"status": "ready"}
    assert httpx.get(f"{url}/api/models").json() == {"models": []}
    assert "server" not in httpx.get(f"{url}/api/health").headers
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err


def test_reading_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    program = f"""
import sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from guardianflow import Settings
from guardianflow.dashboard.automation import AutoOptimizer
from guardianflow.dashboard.api import create_app
app = create_app(Settings(work_dir={str(tmp_path)!r}))
client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1))
for path in {[path for (method, path), row in ROUTES.items() if method == "GET" and row[2] == 200]!r}:
    assert client.get(path).status_code == 200, path
print([name for name in ("torch", "mlflow", "ultralytics", "cv2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_rules_are_evaluated_by_the_server_itself(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    MetricsStore(settings.database_url).save_metrics(
        [MetricRecord(long_ago, "latency_ms_p95", 20.0, model="gate", site="A", camera="1", source="service")]
    )
    with TestClient(
        create_app(settings, evaluate_every_s=0.05), base_url="http://127.0.0.1", client=("127.0.0.1", 1)
    ) as client:
        until = time.monotonic() + 20
        while not (alerts := client.get("/api/alerts").json()["alerts"]) and time.monotonic() < until:
            time.sleep(0.05)
    assert [(alert["rule"], alert["site"]) for alert in alerts] == [("silent", "A")]
    assert not [thread for thread in threading.enumerate() if thread.name == "guardianflow alert rules"]
