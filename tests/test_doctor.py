"""``guardianflow doctor`` against real files, closed ports, silent servers and a real PostgreSQL."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from guardianflow import doctor
from guardianflow.core.config import Settings, env_names, sqlite_url
from guardianflow.doctor import Check, DoctorReport, examine, render
from guardianflow.doctor.machine import check_disk, check_kernel, check_safe_load, gpu_check, installed_version
from guardianflow.doctor.services import check_database, check_s3
from guardianflow.machine.system import GpuMetrics
from guardianflow.state.database import HEAD


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for name in (*env_names().values(), "ULTRALYTICS_SAFE_LOAD", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def closed_port():
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


@pytest.fixture
def serve():
    """Start a web server that answers by path; gives its URL."""
    servers = []

    def start(answers):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = answers.get(self.path.partition("?")[0], (404, "not found"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def by_name(report):
    return {check.name: check for check in report.checks}


def test_a_fresh_installation_is_ready_and_nothing_is_made(place):
    report = examine(Settings())
    found = by_name(report)

    assert report.ok, [check for check in report.checks if check.status == "fail"]
    assert set(found) == {
        "python", "packages", "machine", "torch", "gpu", "onnxruntime", "onnxruntime-tensorrt", "openvino", "tensorrt",
        "ultralytics", "disk", "mlflow", "database", "s3", "kernel", "safe load",
    }  # fmt: skip
    assert f"{installed_version('openvino')}: fp32, bf16, fp16, int8" in found["openvino"].detail
    assert installed_version("torch") in found["torch"].detail
    assert f"{len(os.sched_getaffinity(0))} CPU cores" in found["machine"].detail
    assert found["s3"].status == "skip"
    assert list(place.iterdir()) == []
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_each_dead_server_says_what_to_do_and_no_secret_is_shown(silent_port):
    address = f"127.0.0.1:{silent_port}"
    settings = Settings(
        mlflow_tracking_uri=f"http://ann:pw-s3cret@{address}",
        database_url=f"postgresql://ann:db-s3cret@{address}/gf",
        mlflow_s3_endpoint_url=f"http://{address}",
        aws_access_key_id="key",
        aws_secret_access_key="aws-s3cret",
    )
    report = examine(settings)

    dead = [by_name(report)[name] for name in ("mlflow", "database", "s3")]
    assert [check.status for check in dead] == ["fail"] * 3
    assert "MLFLOW_TRACKING_URI" in dead[0].advice
    assert "GUARDIANFLOW_DATABASE_URL" in dead[1].advice
    assert "MLFLOW_S3_ENDPOINT_URL" in dead[2].advice
    assert not report.ok
    assert "s3cret" not in json.dumps(report.to_dict())


def test_waiting_for_servers_ends_after_five_seconds(silent_port, monkeypatch):
    servers = [probe for probe in doctor._PROBES if probe.name in {"mlflow", "database", "s3"}]
    monkeypatch.setattr(doctor, "_PROBES", tuple(servers))
    address = f"127.0.0.1:{silent_port}"
    report = examine(Settings(mlflow_tracking_uri=f"http://{address}", database_url=f"postgresql://a:b@{address}/gf",
                              mlflow_s3_endpoint_url=f"http://{address}"))  # fmt: skip

    assert report.seconds < 6.5
    assert [check.status for check in report.checks] == ["fail"] * 3
    assert "no answer within 5 s" in by_name(report)["database"].detail


def test_a_probe_that_breaks_is_one_failed_line(monkeypatch):
    def breaks(_settings):
        raise ZeroDivisionError("postgresql://ann:s3cret@host/x")

    monkeypatch.setattr(doctor, "_PROBES", (doctor._Probe("odd", breaks, "Do this."), *doctor._PROBES[-1:]))
    report = examine(Settings())

    assert [check.name for check in report.checks] == ["odd", "safe load"]
    assert report.checks[0].status == "fail"
    assert report.checks[0].advice == "Do this."
    assert "s3cret" not in report.checks[0].detail


# --- MLflow


def mlflow(uri):
    """The check as `doctor` shows it: an error of ours is a finding."""
    probe = next(probe for probe in doctor._PROBES if probe.name == "mlflow")
    task = doctor._Task(probe, Settings(mlflow_tracking_uri=uri))
    task.start()
    (check,) = task.wait(time.monotonic())
    return check


def test_an_mlflow_server_is_asked_for_its_health_and_version(serve):
    ours = installed_version("mlflow")
    check = mlflow(serve({"/health": (200, "OK"), "/version": (200, ours)}))

    assert check.status == "ok"
    assert f"server {ours}, client {ours}" in check.detail


def test_an_mlflow_server_of_another_major_version_is_a_warning(serve):
    check = mlflow(serve({"/health": (200, "OK"), "/version": (200, "1.30.0")}))

    assert check.status == "warn"
    assert "same major version" in check.advice


def test_an_mlflow_server_behind_a_login_and_a_path_is_healthy(serve):
    url = serve({"/team/health": (200, "OK"), "/team/version": (401, "login")}).replace("//", "//ann:s3cret@")
    check = mlflow(f"{url}/team/")

    assert check.status == "ok"
    assert "s3cret" not in check.detail


@pytest.mark.parametrize("answers", [{}, {"/health": (500, "OK")}, {"/health": (200, "<html>welcome")}])
def test_a_web_server_that_is_no_mlflow_fails(serve, answers):
    check = mlflow(serve(answers))

    assert check.status == "fail"
    assert "MLFLOW_TRACKING_URI" in check.advice


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql"])
def test_a_closed_port_fails_for_every_kind_of_server(closed_port, scheme):
    check = mlflow(f"{scheme}://ann:s3cret@127.0.0.1:{closed_port}/x")

    assert check.status == "fail"
    assert "refused" in check.detail
    assert "s3cret" not in check.detail


def test_the_embedded_mlflow_file_is_counted_and_not_changed(place, mlflow_sqlite_template):
    file = place / "한글 100% mlflow.db"
    shutil.copyfile(mlflow_sqlite_template, file)
    with sqlite3.connect(file) as connection:
        connection.executemany("INSERT INTO runs (run_uuid, experiment_id) VALUES (?, 0)", [("a",), ("b",)])
    before = file.read_bytes()
    check = mlflow(sqlite_url(file))

    assert check.status == "ok"
    assert "2 runs" in check.detail
    assert file.read_bytes() == before


def test_a_file_that_is_no_mlflow_database_fails(place):
    (place / "mlflow.db").write_text("these are my notes " * 100, encoding="utf-8")
    check = mlflow(sqlite_url(place / "mlflow.db"))

    assert check.status == "fail"
    assert "move it away" in check.detail


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "ftp://x/y", "sqlite://"])
def test_a_tracking_uri_that_no_run_can_use_fails(uri):
    check = mlflow(uri)

    assert check.status == "fail"
    assert check.advice


# --- the state database


def test_the_state_database_reports_its_schema(database_url):
    settings = Settings(database_url=database_url)
    check_database(settings)  # a file: nothing there yet
    from guardianflow.state.database import Database

    Database.open(settings.database_url).make()
    (check,) = check_database(settings)

    assert check.status == "ok"
    assert f"schema {HEAD}" in check.detail


def test_a_state_database_that_is_no_database_fails_with_advice(place):
    (place / "state.db").write_text("these are my notes " * 100, encoding="utf-8")
    found = by_name(examine(Settings(database_url="sqlite:///state.db")))

    assert found["database"].status == "fail"
    assert "state.db" in found["database"].detail
    assert found["database"].advice


# --- S3

LISTING = (
    '<?xml version="1.0"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Owner><ID>1</ID></Owner><Buckets><Bucket><Name>mlflow</Name></Bucket></Buckets></ListAllMyBucketsResult>"
)


def s3(endpoint, **changes):
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "aws-s3cret"} | changes
    (check,) = check_s3(Settings(mlflow_s3_endpoint_url=endpoint, **keys))
    assert "s3cret" not in check.detail + check.advice
    return check


def refusal(code):
    return (403, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>")


def test_s3_lists_its_buckets(serve):
    check = s3(serve({"/": (200, LISTING)}))

    assert (check.status, "mlflow" in check.detail) == ("ok", True)


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", "warn"), ("InvalidAccessKeyId", "fail"), ("SignatureDoesNotMatch", "fail")]
)
def test_s3_tells_a_wrong_key_from_a_narrow_one(serve, code, status):
    check = s3(serve({"/": refusal(code)}))

    assert check.status == status
    assert check.advice


def test_s3_without_a_key_or_a_server_fails(serve, closed_port):
    without_key = s3(serve({}), aws_access_key_id=None, aws_secret_access_key=None)
    assert without_key.status == "fail"
    assert "AWS_ACCESS_KEY_ID" in without_key.advice
    assert s3(f"http://127.0.0.1:{closed_port}").status == "fail"
    assert s3("not a url").status == "fail"


# --- this machine


@pytest.mark.parametrize(("free", "status"), [(0.4e9, "fail"), (0.6e9, "warn"), (4.9e9, "warn"), (5.1e9, "ok")])
def test_a_full_disk_is_seen_before_the_training(free, status):
    (check,) = check_disk(Settings(), free_bytes=lambda _: free)

    assert check.status == status
    assert bool(check.advice) is (status != "ok")


def test_a_work_dir_that_is_a_file_or_read_only_fails(place):
    (place / "taken").write_text("mine", encoding="utf-8")
    (below_file,) = check_disk(Settings(work_dir=place / "taken/work"))
    assert (below_file.status, "is a file" in below_file.detail) == ("fail", True)
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc: no folder is surely read-only here")
    (locked,) = check_disk(Settings(work_dir="/proc/self/work"))
    assert (locked.status, "nothing can be written" in locked.detail) == ("fail", True)


def test_gpus_that_only_one_side_sees_are_a_warning():
    gpu = GpuMetrics(0, "NVIDIA H100", gpu_mem_total_mb=80_000)

    assert gpu_check([], "13.0", []).status == "skip"
    assert gpu_check(["NVIDIA H100"], "13.0", [gpu]) == Check("gpu", "ok", "NVIDIA H100 (80 GB)")
    assert "guardianflow[gpu]" in gpu_check(["NVIDIA H100"], "13.0", []).advice
    assert "nvidia-smi" in gpu_check([], "13.0", [gpu]).advice
    assert "built for CUDA" in gpu_check([], None, [gpu]).advice


def test_a_kernel_that_starts_a_missing_program_is_a_warning(place, monkeypatch):
    kernel = place / "jupyter/kernels/python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps(
            {"argv": ["/gone/bin/python", "-m", "ipykernel_launcher"], "display_name": "old", "language": "python"}
        )
    )
    monkeypatch.setenv("PATH", str(place))  # Debian has no `python`, and no environment has to be activated
    assert check_kernel(Settings())[0].status == "ok"
    monkeypatch.setenv("JUPYTER_PATH", str(place / "jupyter"))
    (check,) = check_kernel(Settings())

    assert check.status == "warn"
    assert "/gone/bin/python" in check.detail


@pytest.mark.parametrize(("value", "status"), [(None, "ok"), ("1", "ok"), ("0", "warn"), ("false", "warn")])
def test_loading_of_foreign_pickles_is_noticed(monkeypatch, value, status):
    if value is not None:
        monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", value)

    assert check_safe_load(Settings())[0].status == status


# --- what is shown


def shown(report):
    text = io.StringIO()
    render(report, console=Console(file=text, width=100))
    return text.getvalue()


def test_the_page_shows_settings_with_origin_and_advice_below_what_failed(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-s3cret")
    settings = Settings(mlflow_tracking_uri="http://ann:s3cret@host:5000")
    checks = (Check("disk", "ok", "[bold]75 GB[/bold]"), Check("mlflow", "fail", "doesn't answer", "Start it."))
    page = shown(DoctorReport(tuple(settings.describe()), checks, 1.25))

    assert "http://ann:***@host:5000" in page
    assert "argument" in page
    assert "s3cret" not in page
    assert "[bold]75 GB[/bold]" in page  # what was found is text, never markup
    assert page.index("doesn't answer") < page.index("→ Start it.") < page.index("not ready: mlflow (1.2 s)")


def test_warnings_alone_leave_it_ready():
    report = DoctorReport((), (Check("disk", "warn", "low", "Make room."), Check("s3", "skip", "")), 0.1)

    assert report.ok
    assert "ready (0.1 s)" in shown(report)
