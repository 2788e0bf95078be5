"""The reporter: whatever the server does, the model goes on, and every figure is stored once or counted as lost."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from guardianflow import MetricsStore, Reporter, Settings
from guardianflow.dashboard.api import create_app
from guardianflow.dashboard.keys import Keys
from guardianflow.dashboard.reporter import ANSWER_S, BATCH, MOST_WAITING
from guardianflow.exceptions import InputError
from guardianflow.registry.ledger import Change, Ledger
from guardianflow.state.database import Database
from tests.services import hostile_server
from tests.services.hostile_server import HostileServer


class Api:
    """The real API on a loopback port, in a thread; it can stop and come back."""

    def __init__(self, settings: Settings, port: int = 0) -> None:
        self.settings, self.port = settings, port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Api:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(create_app(self.settings), log_config=None, access_log=False, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_dir=tmp_path / "작업 work", gate="off")


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    served = Api(settings).start()
    yield served
    served.stop()


@pytest.fixture
def key(settings: Settings) -> str:
    return Keys(Database.open(settings.database_url)).create("cam box", "ingester", by="kim")[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def stored(settings: Settings) -> list[float]:
    return sorted(MetricsStore(settings.database_url).query_metrics()["value"])


def made_champion(settings: Settings, version: str) -> None:
    """A move of the ledger itself; the reporter asks nothing else."""
    ledger = Ledger(settings.database_url, clock=lambda: datetime.now(UTC))
    ledger.move("gate", "promote", lambda state, _: Change(version, state.promoted(version)), actor="kim")


def test_figures_arrive_with_their_labels(api: Api, settings: Settings, key: str) -> None:
    with Reporter(api.url, key, "항구", "cam-1", model="gate", version="3") as reporter:
        reporter.report("latency_ms_p95", 21.5, datetime(2026, 5, 1, 8))  # noqa: DTZ001 - as people write it
        reporter.report("gpu_util", float("nan"))
        assert reporter.flush(30)
        reporter.version = "4"
        reporter.report("latency_ms_p95", 22)
    assert (reporter.sent, reporter.dropped, reporter.refused, reporter.last_error) == (3, 0, 0, None)
    frame = MetricsStore(settings.database_url).query_metrics(include_invalid=True)
    assert frame["time"].iloc[0] == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert sorted(frame["version"]) == ["3", "3", "4"]
    labels = {tuple(row) for row in frame[["model", "site", "camera", "source"]].values}
    assert labels == {("gate", "항구", "cam-1", "service")}
    assert list(frame["invalid"].dropna()) == ["nan"]


def test_a_dead_server_costs_nothing_and_loses_nothing(settings: Settings, key: str) -> None:
    api = Api(settings, free_port())
    reporter = Reporter(api.url, key, "A", "1")
    slowest = 0.0
    for number in range(600):
        began = time.thread_time()
        reporter.report("latency_ms_p95", number)
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.05  # of our own time: the machine may be busy
    assert not reporter.flush(0.2)
    assert "doesn't answer" in str(reporter.last_error)
    assert (reporter.sent, reporter.waiting, reporter.dropped) == (0, 600, 0)
    api.start()
    assert reporter.flush(60)
    reporter.close()
    api.stop()
    assert stored(settings) == list(range(600))


def test_a_server_that_is_killed_and_comes_back_has_each_figure_once(settings: Settings, key: str) -> None:
    port = free_port()
    environment = {**os.environ, "GUARDIANFLOW_WORK_DIR": str(settings.work_dir)}
    program = "from guardianflow.cli import main; main()"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program, "api", "--port", str(port), "--evaluate-every", "0"],
            env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    reporter = Reporter(f"http://127.0.0.1:{port}", key, "A", "1")
    number = 0
    server = start()
    while not reporter.sent:
        reporter.report("latency_ms_p95", number)
        number += 1
        reporter.flush(0.5)
    for _ in range(1_000):
        reporter.report("latency_ms_p95", number)
        number += 1
    sender = threading.Thread(target=reporter.flush)
    sender.start()
    while reporter.waiting > 700:  # two batches of 500: the first has arrived, the second is on its way
        time.sleep(0.001)
    server.kill()
    server.wait()
    sender.join()
    server = start()
    try:
        assert reporter.flush(60)
    finally:
        server.kill()
        server.wait()
    assert reporter.dropped == 0
    assert stored(settings) == list(range(number))


def test_what_was_stored_before_the_answer_was_lost_is_not_stored_again(api: Api, settings: Settings, key: str) -> None:
    lost = [2]  # so many answers never arrive

    class Torn(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = httpx.post(api.url + self.path, content=body, headers=dict(self.headers))
            assert answer.status_code == 201, answer.text
            if lost[0]:
                lost[0] -= 1
                self.connection.close()
                return
            self.send_response(201)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None: ...

    with serving(Torn) as url:
        reporter = Reporter(url, key, "A", "1")
        for number in range(10):
            reporter.report("latency_ms_p95", number)
        assert reporter.flush(30)
        reporter.close()
    assert lost == [0]
    assert (reporter.sent, stored(settings)) == (10, list(range(10)))


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_never_answers_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reporter = Reporter(f"http://127.0.0.1:{silent.getsockname()[1]}", None, "A", "1")
        began = time.monotonic()
        for number in range(MOST_WAITING + BATCH + 50):
            reporter.report("latency_ms_p95", number)
        assert reporter.waiting <= MOST_WAITING + BATCH
        assert reporter.dropped >= 50
        assert not reporter.close(0.2)
        assert time.monotonic() - began < ANSWER_S
        assert (reporter.waiting, reporter.dropped) == (0, MOST_WAITING + BATCH + 50)
        reporter.report("latency_ms_p95", 1.0)
        assert reporter.dropped == MOST_WAITING + BATCH + 51
        assert not reporter.close(0.2) or reporter.waiting == 0


def test_one_figure_that_can_not_be_used_takes_no_other_along(api: Api, settings: Settings, key: str) -> None:
    reporter = Reporter(api.url, key, "A", "1")
    ahead = datetime.now(UTC) + timedelta(hours=1)
    for number in range(21):
        reporter.report("latency_ms_p95", number, ahead if number == 7 else None)
    assert reporter.flush(30)
    assert "ahead of this server's clock" in str(reporter.last_error)
    assert (reporter.sent, reporter.refused) == (20, 1)
    assert stored(settings) == [number for number in range(21) if number != 7]
    reporter.close()


def test_without_a_valid_key_figures_wait_and_the_reason_is_told_once(
    api: Api, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter(api.url, key[:-1] + ("0" if key[-1] != "0" else "1"), "A", "1")
    reporter.report("latency_ms_p95", 1.0)
    assert not reporter.flush(2)
    assert "answers 401" in str(reporter.last_error)
    assert "opens nothing" in str(reporter.last_error)
    assert (reporter.waiting, reporter.refused) == (1, 0)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert key[20:-1] not in caplog.text + repr(reporter)
    reporter.close(0)


@pytest.mark.parametrize(
    ("metric", "value", "moment"),
    [
        ("a:b", 1.0, None),
        ("", 1.0, None),
        (None, 1.0, None),
        ("fps", "fast", None),
        ("fps", None, None),
        ("fps", 1, "now"),
    ],
)
def test_a_wrong_call_raises_nothing_and_is_counted(metric: Any, value: Any, moment: Any) -> None:
    reporter = Reporter("http://127.0.0.1:9", None, "A", "1")
    reporter.report(metric, value, moment)
    assert (reporter.refused, reporter.waiting) == (1, 0)
    assert "can't be reported" in str(reporter.last_error)
    assert reporter.close()


def test_it_tells_when_the_champion_has_changed(api: Api, settings: Settings, key: str) -> None:
    made_champion(settings, "3")
    told: list[str] = []

    def broken(version: str) -> None:
        raise RuntimeError(version)

    with Reporter(api.url, key, "A", "1", model="gate", version="3") as reporter:
        reporter.on_champion(broken)
        reporter.on_champion(told.append)
        reporter.report("latency_ms_p95", 1.0)
        assert reporter.flush(30)
        assert (reporter.champion, told) == ("3", [])
        made_champion(settings, "4")
        for number in (2.0, 3.0):
            reporter.report("latency_ms_p95", number)
            assert reporter.flush(30)
        assert (reporter.champion, told) == ("4", ["4"])
        assert reporter.version == "3"  # whoever serves it decides when to change
    with Reporter(api.url, key, "A", "1", model="gate", version="3") as late:
        late.on_champion(told.append)
        late.report("latency_ms_p95", 4.0)
    assert told == ["4", "4"]


def test_a_key_is_not_carried_to_where_a_server_points() -> None:
    seen: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with serving(Elsewhere) as url:
        reporter = Reporter(url, "gf_key", "A", "1")
        reporter.report("latency_ms_p95", 1.0)
        assert not reporter.flush(1)
        reporter.close(0)
    assert set(seen) == {"/api/metrics"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_reports_for_itself(api: Api, settings: Settings, key: str) -> None:
    with Reporter(api.url, key, "A", "1") as reporter:
        reporter.report("latency_ms_p95", 1.0)
        child = os.fork()
        if child == 0:
            reporter.report("latency_ms_p95", 2.0)
            os._exit(0 if reporter.flush(30) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stored(settings) == [1.0, 2.0]


def test_a_program_that_ends_leaves_nothing_behind_and_loads_nothing_heavy(
    api: Api, settings: Settings, key: str
) -> None:
    program = (
        "import sys, guardianflow\n"
        f"reporter = guardianflow.Reporter({api.url!r}, {key!r}, 'A', '1')\n"
        "reporter.report('latency_ms_p95', 5.0)\n"
        "heavy = {'pydantic', 'sqlalchemy', 'numpy', 'pandas', 'torch', 'mlflow', 'fastapi', 'psutil', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)
    assert stored(settings) == [5.0]


@pytest.mark.parametrize(
    "url",
    ["", "server:8000", "ftp://server", "http://", "http://a:b@server", "http://a:0", "http://a?x=1", "http://a:x", 7],
)
def test_an_url_that_is_none_is_refused_at_once(url: Any) -> None:
    with pytest.raises(InputError, match="must read like http://server:8000"):
        Reporter(url, None, "A", "1")


def test_a_key_that_was_copied_badly_is_refused_without_being_shown() -> None:
    with pytest.raises(InputError, match="copy it as it was printed") as caught:
        Reporter("http://127.0.0.1:9", "gf_1\r\nX-Evil: 1", "A", "1")
    assert "Evil" not in str(caught.value)


@pytest.mark.parametrize("manner", [hostile_server.drips, hostile_server.drips_head, hostile_server.goes_on])
def test_a_server_that_drips_or_floods_holds_up_nothing(manner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardianflow.dashboard.reporter.ANSWER_S", 0.5)
    with HostileServer(manner) as server, Reporter(server.url, "key", "A", "1") as reporter:
        reporter.report("latency_ms_p95", 21.5)
        deadline = time.monotonic() + 15
        while reporter.last_error is None and time.monotonic() < deadline:
            reporter.flush(0.2)
        assert "its answer" in str(reporter.last_error)
        assert reporter.waiting == 1
        reporter.close(0)
