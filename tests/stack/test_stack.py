"""The stack as a team uses it: docker-compose.yml's own services on this machine, by nothing but the command line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest

from guardianflow import Reporter
from guardianflow.dashboard.export import s3_client
from guardianflow.processes.tree import marked
from tests.browser.conftest import START, browser  # noqa: F401 - a fixture
from tests.test_whole_way import (
    BOUND,
    CAMERA,
    MODEL,
    PATIENCE_S,
    RULES,
    SAMPLE,
    SITE,
    TRAIN,
    draw,
    join,
    page_text,
    until,
)

FULL = bool(os.environ.get("GUARDIANFLOW_FIRE"))
EPOCHS = 8
SERVICES = ("postgres", "seaweedfs", "mlflow", "api", "voila", "worker")


class Team:
    """A folder with a stack, and GuardianFlow's processes in it.

    Attributes:
        values: What its ``.env`` says.
    """

    def __init__(self, folder: Path, first_port: int) -> None:
        self.folder = folder
        theirs = ("GUARDIANFLOW_", "MLFLOW_", "AWS_", "STACK_")
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        self.run("stack", "init", str(folder), inside=False)
        file = folder / ".env"
        ports = iter(range(first_port, first_port + 20))
        file.write_text(re.sub(r"(?m)^(\w+_PORT)=\d+$", lambda match: f"{match[1]}={next(ports)}", file.read_text()))
        self.values = dict(re.findall(r"(?m)^(\w+)=(.*)$", file.read_text()))
        (folder / "guardianflow-stack" / "volumes" / "work").mkdir(parents=True)
        (folder / "guardianflow-stack" / "volumes" / "work" / "alerts.yaml").write_text(RULES, encoding="utf-8")

    def run(self, *words: str, inside: bool = True) -> dict[str, Any]:
        """A verb, to its end; what it prints with --json."""
        done = subprocess.run(
            self._words(*words), cwd=self.folder if inside else None, env=self._environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"guardianflow {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return dict(json.loads(done.stdout))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A verb in the background."""
        return subprocess.Popen(
            self._words(*words), cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.values[port]}"

    def remove(self) -> None:
        """End the stack; PostgreSQL's data lie elsewhere where root's own folder is closed to its user."""
        self.run("stack", "down")
        place = (self.folder / "guardianflow-stack" / "volumes" / "postgres").resolve()
        if not place.is_relative_to(self.folder.resolve()):
            shutil.rmtree(place.parent)

    @property
    def processes(self) -> list[int]:
        """What runs of the stack."""
        return marked("GUARDIANFLOW_STACK", str(self.folder.resolve() / "guardianflow-stack"))

    def services(self) -> dict[str, dict[str, Any]]:
        rows = json.loads((self.folder / "guardianflow-stack" / "state.json").read_text())["services"]
        return {row["name"]: row for row in rows}

    def told(self) -> dict[str, Any]:
        """What the stack knows: models, their ledger and file, runs, figures, alerts, advice."""
        owner = {"Authorization": f"Bearer {self.values['STACK_OWNER_KEY']}"}
        routes = (
            "models",
            f"models/{MODEL}/history",
            "metrics/summary?by=model&by=version",
            "alerts",
            "recommendations",
        )
        with httpx.Client(base_url=self.url("API_PORT"), headers=owner, timeout=60) as api:
            answers = {route: api.get(f"/api/{route}") for route in routes}
        assert {route: answer.status_code for route, answer in answers.items()} == dict.fromkeys(routes, 200)
        login = (self.values["MLFLOW_TRACKING_USERNAME"], self.values["MLFLOW_TRACKING_PASSWORD"])
        search = {"experiment_ids": ["1", "2", "3", "4"], "max_results": 1000}
        runs = httpx.post(f"{self.url('MLFLOW_PORT')}/api/2.0/mlflow/runs/search", json=search, auth=login, timeout=60)
        assert len(runs.json()["runs"]) >= 4
        file = Path(self.run("download", MODEL, "--to", str(self.folder / "champion"))["path"])
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        return {**{route: answer.json() for route, answer in answers.items()}, "runs": runs.json(), "champion": sha256}

    @staticmethod
    def _words(*words: str) -> list[str]:
        return [sys.executable, "-P", "-c", START, *words, "--json"]


def quiet_ports() -> int:
    """The first of ports in a row that nobody has, and that no connection gets by chance."""
    return random.Random().choice([place for place in range(10_000, 22_000, 50) if free(place)])


def free(first: int) -> bool:
    for port in (*range(first, first + 12), *range(first + 10_000, first + 10_012)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(1500)
def test_a_team_works_on_a_stack_whose_services_are_killed_and_takes_it_elsewhere(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first_port = quiet_ports()
    team = Team(tmp_path / "팀 team", first_port)
    pictures = draw(team.folder / "pictures", 1, train=8, val=8)
    draw(team.folder / "sample", 2, train=4, val=32)
    (team.folder / "train.yaml").write_text(TRAIN.replace("epochs: 5", f"epochs: {EPOCHS}"), encoding="utf-8")
    (team.folder / "site.yaml").write_text(SAMPLE, encoding="utf-8")
    try:
        up = {row["name"]: row["state"] for row in team.run("stack", "up")["services"]}
        assert {name: up[name] for name in SERVICES} == dict.fromkeys(SERVICES, "healthy") | {"worker": "running"}
        assert (up["secrets"], up["prepare"], up["grafana"]) == ("done", "done", "absent")
        _each_door_refuses(team)
        _a_training_goes_on_while_each_service_is_killed(team)
        _from_the_figures_to_a_better_champion(team, pictures, request)
        copied = team.run("stack", "backup", str(tmp_path / "copy"))
        assert copied["new"] == copied["objects"] > 10
        if FULL:
            before = team.told()
            assert team.run("stack", "backup", str(tmp_path / "copy"))["new"] == 0
        down = team.run("stack", "down")
        assert down["killed"] == 0
    finally:
        team.remove()
    assert team.processes == []
    assert free(first_port)

    if not FULL:
        return  # the way back is of the long form: a second stack takes a minute and a half
    other = Team(tmp_path / "elsewhere", quiet_ports())
    try:
        other.run("stack", "up")
        other.run("stack", "restore", str(tmp_path / "copy"))
        after = other.told()
        assert {key: after[key] == before[key] for key in before} == dict.fromkeys(before, True)
        assert other.run("stack", "check")["ok"], "MLflow's password and the owner's key are the new stack's"
    finally:
        other.remove()
    assert other.processes == []


def _each_door_refuses(team: Team) -> None:
    nobody, wrong = {}, {"Authorization": "Basic Z3VhcmRpYW5mbG93Ondyb25n"}
    asked = [
        ("MLFLOW_PORT", "/api/2.0/mlflow/experiments/search?max_results=1", nobody, 401),
        ("MLFLOW_PORT", "/api/2.0/mlflow/experiments/search?max_results=1", wrong, 401),
        ("MLFLOW_PORT", "/api/2.0/mlflow-artifacts/artifacts?path=1", nobody, 401),
        ("API_PORT", "/api/models", nobody, 401),
        ("API_PORT", "/api/metrics/summary", {"Authorization": "Bearer gf_0_0"}, 401),
        ("PAGES_PORT", "/voila/render/fleet.ipynb", nobody, 302),
        ("PAGES_PORT", "/voila/render/fleet.ipynb?token=wrong", nobody, 302),
        ("S3_PORT", "/mlflow/", nobody, 403),
        ("SEAWEEDFS_FILER_PORT", "/buckets/mlflow/?pretty=y", nobody, 401),
        ("SEAWEEDFS_VOLUME_PORT", "/ui/index.html", nobody, 401),
    ]
    said = [httpx.get(f"{team.url(port)}{path}", headers=key).status_code for port, path, key, _ in asked]
    assert said == [status for *_, status in asked]
    assert httpx.put(f"{team.url('SEAWEEDFS_FILER_PORT')}/buckets/mlflow/x", content=b"x").status_code == 401
    # gRPC, behind which everything lies too, speaks TLS alone, to who shows a certificate of the stack's own authority.
    with socket.create_connection(("127.0.0.1", int(team.values["SEAWEEDFS_FILER_PORT"]) + 10_000), 5) as grpc:
        grpc.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 4 + b"\x04" + b"\0" * 4)
        grpc.settimeout(5)
        assert b"\x00\x00\x00\x04" not in grpc.recv(100), "it speaks without TLS"


def _a_training_goes_on_while_each_service_is_killed(team: Team) -> None:
    training = team.start("run", "train.yaml")
    assert training.stderr is not None
    said = []
    for line in training.stderr:
        said.append(line)
        if "epoch 1/" in line:
            break
    pids = {name: team.services()[name]["pid"] for name in SERVICES}
    for pid in pids.values():
        assert training.poll() is None, "it ended before all were killed"
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    out, rest = training.communicate(timeout=400)
    assert training.returncode == 0, "".join(said) + rest + out
    run_id = json.loads(out)["run_id"]

    team.run("stack", "up")  # waits until each is well again
    now = team.services()
    assert all(now[name]["restarts"] >= 1 for name in SERVICES)
    assert not {now[name]["pid"] for name in SERVICES} & set(pids.values())
    team.run("runs", "reap")  # what MLflow missed, if it was away at the end
    team.run("register", MODEL, "--run", run_id)  # as the training itself did, if it was there
    check = team.run("stack", "check")
    assert check["ok"], check

    login = (team.values["MLFLOW_TRACKING_USERNAME"], team.values["MLFLOW_TRACKING_PASSWORD"])
    with httpx.Client(base_url=team.url("MLFLOW_PORT"), auth=login, timeout=60) as mlflow:
        asked = {"run_id": run_id}
        run = mlflow.get("/api/2.0/mlflow/runs/get", params=asked).json()["run"]
        assert run["info"]["status"] == "FINISHED"
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        curve = mlflow.get("/api/2.0/mlflow/metrics/get-history", params={**asked, "metric_key": "map50"}).json()
        assert {int(point["step"]) for point in curve["metrics"]} >= set(range(1, EPOCHS)), curve
        weights = mlflow.get("/api/2.0/mlflow/artifacts/list", params={**asked, "path": "weights"}).json()
        assert "weights/best.pt" in {file["path"] for file in weights["files"]}


def _from_the_figures_to_a_better_champion(team: Team, pictures: Path, request: pytest.FixtureRequest) -> None:
    promotion = team.start("promote", MODEL)
    said, _ = promotion.communicate()
    if promotion.returncode == 3:  # MLflow was away when the training ended: what it would have noted is gathered
        assert "was never evaluated as it is served" in said
        evidence = SAMPLE.replace("@champion", "/1").replace("sample/", "pictures/")  # the same series
        (team.folder / "evidence.yaml").write_text(evidence, encoding="utf-8")
        team.run("run", "evidence.yaml", "--direct")
        said = json.dumps(team.run("promote", MODEL))
    assert json.loads(said)["version"] == "1"
    first = team.run("run", "site.yaml", "--direct")["metrics"]  # models:/…@champion, out of S3
    assert first["map50"] < BOUND
    join(draw(team.folder / "labelled since", 3, train=160, val=32), pictures)
    ingester = team.run("keys", "create", "North box", "--role", "ingester")["token"]
    owner = {"Authorization": f"Bearer {team.values['STACK_OWNER_KEY']}"}
    with (
        httpx.Client(base_url=team.url("API_PORT"), headers=owner, timeout=60) as api,
        Reporter(team.url("API_PORT"), ingester, SITE, CAMERA, model=MODEL, version="1") as reporter,
    ):

        def asked(path: str, what: str, **query: str) -> list[dict[str, Any]]:
            answer = api.get(f"/api/{path}", params=query)
            assert answer.status_code == 200, answer.text
            return list(answer.json()[what])

        reporter.report("latency_ms_p95", first["latency_ms_p95"])
        assert reporter.flush(60), reporter.last_error
        seen = {"rule": "map50-low", "site": SITE, "value": first["map50"]}
        until(
            lambda: [{key: row[key] for key in seen} for row in asked("alerts", "alerts", state="firing")] == [seen],
            "the worker finds it",
        )
        (advice,) = until(lambda: asked("recommendations", "recommendations", state="open"), "something is advised")
        apply = f"/api/recommendations/{advice['id']}/apply"
        assert api.post(apply, headers={"Authorization": f"Bearer {ingester}"}).status_code == 403
        assert api.post(apply).status_code == 202
        done = until(
            lambda: next(
                (row for row in asked("recommendations", "recommendations") if row["state"] != "applying"), None
            ),
            "the recommendation is carried out",
        )
        assert (done["state"], done["version"]) == ("applied", "2"), done
        assert done["actor"].startswith("owner-")
    second = team.run("run", "site.yaml", "--direct")["metrics"]
    assert second["map50"] > BOUND

    stored = team.run("metrics", "export", "s3://mlflow/figures.parquet")
    store = s3_client({**team.values, "MLFLOW_S3_ENDPOINT_URL": team.url("S3_PORT")})
    kept = store.get_object(Bucket="mlflow", Key="figures.parquet")["Body"].read()
    assert len(pd.read_parquet(io.BytesIO(kept))) == stored["rows"] >= 2

    chromium: Any = request.getfixturevalue("browser")  # without one the rest is skipped, and says so
    page, token = f"{team.url('PAGES_PORT')}/voila/render/fleet.ipynb", team.values["GUARDIANFLOW_PAGES_TOKEN"]
    door = chromium.new_page()
    door.goto(page)
    for typed, shown in (("wrong", "[role=alert]"), (token, ".gf nav")):
        door.fill("#token", typed)
        door.keyboard.press("Enter")
        door.wait_for_selector(shown, timeout=PATIENCE_S * 1000)
    door.close()
    fleet = page_text(chromium, f"{page}?token={token}")
    assert "The one site is well." in fleet
    assert f"model {MODEL}, version 2 in charge" in fleet


def test_a_stack_that_cant_come_up_says_which_service_and_why(tmp_path: Path) -> None:
    team = Team(tmp_path, quiet_ports())
    with (
        socket.create_server(("127.0.0.1", int(team.values["S3_PORT"]))),
        pytest.raises(AssertionError, match="seaweedfs needs port"),
    ):
        team.run("stack", "up")
    assert team.processes == []
    compose = team.folder / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("stack, prepare]", "stack, no-such-step]"), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"prepare ended with exit code 2.*No such command"):
        team.run("stack", "up")
    keeper = next(pid for pid in team.processes if "guardianflow.stack.keeper" in psutil.Process(pid).cmdline())
    os.kill(keeper, signal.SIGKILL)  # what it started is told to end, and found by its mark
    team.remove()
    assert team.processes == []
