"""Servers that drip, flood, redirect and unpack without an end: a call ends in time, with a sentence."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guardianflow._answers import FILE, AnswerError, Limit, LimitedAnswer, counted
from guardianflow.core.config import Settings
from guardianflow.exceptions import NotFoundError, TrackingUnavailableError
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.runs.mlflow_runs import MlflowRuns, make_client, pages
from tests.services import hostile_server as hostile
from tests.services.hostile_server import HostileServer

RUN = "a" * 32


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def settings_of(server: HostileServer, tmp_path: Path) -> Settings:
    return Settings(mlflow_tracking_uri=server.url, work_dir=tmp_path)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("manner", hostile.MANNERS, ids=lambda manner: manner.__name__)
def test_a_call_ends_in_time_whatever_the_tracking_server_does(manner: Any, tmp_path: Path) -> None:
    with HostileServer(manner) as server:
        runs = MlflowRuns(settings_of(server, tmp_path))
        began = time.monotonic()
        with pytest.raises(TrackingUnavailableError, match="doctor` checks it"):
            runs.ended_as(RUN)
        assert time.monotonic() - began < 12
        assert server.sent < 500e6


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("manner", "said"),
    [
        (hostile.drips, r"its answer was not whole after 1 s: \d+ bytes came"),
        (hostile.floods, "its answer is larger than 64 MB"),
        (hostile.bomb, "its answer is larger than 64 MB"),
        (hostile.says_nothing, "no answer within 1 s"),
    ],
)
def test_the_sentence_says_what_the_server_did(manner: Any, said: str, tmp_path: Path) -> None:
    with HostileServer(manner) as server, pytest.raises(TrackingUnavailableError, match=said):
        MlflowRuns(settings_of(server, tmp_path)).ended_as(RUN)


def with_artifacts(at: str, then: Callable[[str, bytes], Iterator[bytes]]) -> Callable[[str, bytes], Iterator[bytes]]:
    """A tracking server that knows one run, and shows its manners where the run's artifacts are asked for."""

    def answer(url: str, request: bytes) -> Iterator[bytes]:
        if b"/runs/get" not in request.split(b"\r\n")[0]:
            yield from then(url, request)
            return
        info = {"run_id": RUN, "lifecycle_stage": "active", "status": "FINISHED", "artifact_uri": at}
        yield in_json(run={"info": info, "data": {}})

    return answer


@pytest.mark.timeout(60)
@pytest.mark.parametrize("manner", [hostile.drips, hostile.floods_refusal, hostile.lies, hostile.says_nothing])
@pytest.mark.parametrize("at", ["mlflow-artifacts:/1/{run}", "s3://bucket/1"])
def test_a_download_ends_in_time_and_leaves_nothing(
    at: str, manner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with HostileServer(with_artifacts(at.replace("{run}", RUN), manner)) as server:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", server.url)
        registry = MlflowRegistry(settings_of(server, tmp_path))
        began = time.monotonic()
        with pytest.raises(TrackingUnavailableError), registry.artifact(RUN, "weights/best.pt"):
            pass
        assert time.monotonic() - began < 30
        assert server.sent < 500e6
    assert list(tmp_path.glob("guardianflow-*/*")) == []


@pytest.mark.parametrize("at", [f"mlflow-artifacts:/1/{RUN}", "s3://bucket/1"])
def test_a_file_that_is_gone_is_told_from_a_store_that_does_not_answer(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(url: str, request: bytes) -> Iterator[bytes]:
        body = b"{}" if b"list-type" not in request else b"<ListBucketResult></ListBucketResult>"
        status = b"200 OK" if b"?path=" in request or b"list-type" in request else b"404 Not Found"
        yield b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body

    with HostileServer(with_artifacts(at, answers)) as server:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", server.url)
        registry = MlflowRegistry(settings_of(server, tmp_path))
        with pytest.raises(NotFoundError, match=r"has no artifact 'weights/best\.pt'"):
            registry.artifact(RUN, "weights/best.pt").__enter__()


def test_an_unpacked_answer_may_only_be_so_large() -> None:
    assert list(counted([b"12", b"34"], Limit(4))) == [b"12", b"34"]
    with pytest.raises(AnswerError, match="larger than"):
        list(counted([b"12", b"34", b"5"], Limit(4)))
    assert FILE.most_bytes < 1e11


def test_a_reader_who_takes_his_time_is_no_slow_server() -> None:
    def answers(url: str, request: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000

    with HostileServer(answers) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=0.3)
        connection.response_class = LimitedAnswer
        connection.request("GET", "/")
        answer = connection.getresponse()
        first = answer.read(1000)
        time.sleep(0.5)
        assert len(first + answer.read()) == 200_000
        connection.close()


def in_json(**fields: object) -> bytes:
    body = json.dumps(fields).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_list_whose_pages_have_no_end_ends(tmp_path: Path) -> None:
    def answers(url: str, request: bytes) -> Iterator[bytes]:
        yield in_json(experiments=[], next_page_token=str(time.monotonic()))

    with HostileServer(answers) as server, pytest.raises(TrackingUnavailableError, match="list has no end"):
        list(pages(make_client(settings_of(server, tmp_path)).search_experiments))


@pytest.mark.timeout(30)
def test_folders_within_folders_without_an_end_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def answers(url: str, request: bytes) -> Iterator[bytes]:
        yield in_json(files=[{"path": "deeper", "is_dir": True}])

    with HostileServer(with_artifacts(f"mlflow-artifacts:/1/{RUN}", answers)) as server:
        registry = MlflowRegistry(settings_of(server, tmp_path))
        with pytest.raises(TrackingUnavailableError), registry.artifact(RUN, "weights"):
            pass
    assert list(tmp_path.glob("guardianflow-*/*")) == []
