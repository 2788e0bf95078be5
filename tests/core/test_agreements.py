"""A folder's file names a server: the user's own logins go there once he has agreed, and not before."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardianflow.cli import app
from guardianflow.core.agreements import server_of
from guardianflow.core.config import Settings, env_names
from guardianflow.doctor.services import check_s3
from guardianflow.exceptions import ConfigError, GuardianFlowError
from guardianflow.execution.executors import kernel_environment
from guardianflow.runs.mlflow_runs import MlflowRuns
from guardianflow.state.database import Database
from tests.services.hostile_server import HostileServer, redirects_to

SECRET = "only-mine"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from elsewhere is the current one; the user has a home, and no setting in the environment."""
    for name in [*os.environ]:
        if name.startswith(("GUARDIANFLOW_", "MLFLOW_", "AWS_", "PG", "NETRC", "XDG_")):
            monkeypatch.delenv(name)
    for name in env_names().values():  # what a test hands to MLflow by the environment goes with it
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "cloned").mkdir()
    monkeypatch.chdir(tmp_path / "cloned")
    return tmp_path / "cloned"


def refuses(url: str, request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 Who?\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def elsewhere() -> Iterator[HostileServer]:
    """A server that keeps what it is sent, under an address that is not taken for this machine."""
    with HostileServer(refuses) as server:
        server.url = f"http://0.0.0.0:{server.port}"
        yield server


def ask(settings: Settings | None = None) -> None:
    with contextlib.suppress(GuardianFlowError):
        MlflowRuns(settings or Settings()).ended_as("a" * 32)


def sent(server: HostileServer) -> str:
    return b"\n".join(server.requests).decode()


def in_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    return "MLFLOW_TRACKING_TOKEN"


def in_mlflow_file(monkeypatch: pytest.MonkeyPatch, home: Path) -> str:
    (home / ".mlflow").mkdir()
    (home / ".mlflow/credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username=kim\nmlflow_tracking_password={SECRET}"
    )
    return "~/.mlflow/credentials"


def in_netrc(monkeypatch: pytest.MonkeyPatch, home: Path) -> str:
    (home / ".netrc").write_text(f"default login kim password {SECRET}\n")
    (home / ".netrc").chmod(0o600)
    return "~/.netrc"


@pytest.mark.parametrize("login", [in_environment, in_mlflow_file, in_netrc])
@pytest.mark.parametrize("file", [".env", "guardianflow.toml"])
def test_no_login_goes_to_a_tracking_server_that_a_folder_names_until_its_user_agrees(
    login: Callable[..., str], file: str, folder: Path, elsewhere: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = login(monkeypatch, folder.parent / "home")
    line = "MLFLOW_TRACKING_URI={}\n" if file == ".env" else 'mlflow_tracking_uri = "{}"\n'
    (folder / file).write_text(line.format(elsewhere.url))
    with pytest.raises(ConfigError) as refused:
        MlflowRuns(Settings())
    for part in (str(folder / file), elsewhere.url, named, "guardianflow doctor --trust", "nothing was sent"):
        assert part in str(refused.value)
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigError, match="doctor --trust"):  # nor by way of a process of ours
        kernel_environment(Settings())
    assert CliRunner().invoke(app, ["register", "gate", "--run", "a" * 32]).exit_code == 2
    assert elsewhere.requests == []

    said = CliRunner().invoke(app, ["doctor", "--trust"])
    assert f"agreed: {folder / file} may have MLFLOW_TRACKING_URI = {elsewhere.url}" in said.stderr.replace("\n", "")
    before = len(elsewhere.requests)
    ask()
    assert len(elsewhere.requests) > before
    assert "Authorization: B" in sent(elsewhere)

    (folder / file).write_text(line.format("http://other.invalid:5000"))  # it was agreed to that server, no other
    with pytest.raises(ConfigError, match=r"other\.invalid"):
        MlflowRuns(Settings())


def test_who_names_the_server_himself_needs_no_agreement(
    elsewhere: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    ask(Settings(mlflow_tracking_uri=elsewhere.url))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere.url)
    ask()
    assert sent(elsewhere).count(f"Bearer {SECRET}") >= 2


def test_without_a_login_it_is_a_remark_once(
    folder: Path, elsewhere: HostileServer, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / ".env").write_text(f"MLFLOW_TRACKING_URI={elsewhere.url}\n")
    with caplog.at_level(logging.WARNING):
        ask()
        ask()
    (said,) = (message for message in caplog.messages if "has what is recorded sent to" in message)
    assert said.startswith(f"{folder / '.env'} has what is recorded sent to {elsewhere.url} (MLFLOW_TRACKING_URI);")
    assert elsewhere.requests


def test_keys_of_the_environment_go_to_no_store_that_a_file_names(
    folder: Path, elsewhere: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (folder / "guardianflow.toml").write_text(f'mlflow_s3_endpoint_url = "{elsewhere.url}"\n')
    for use in (check_s3, Settings.export, kernel_environment, MlflowRuns):
        with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; nothing was sent"):
            use(Settings())
    assert elsewhere.requests == []


def test_keys_that_stand_beside_the_store_are_its_own(folder: Path, elsewhere: HostileServer) -> None:
    keys = "AWS_ACCESS_KEY_ID=theirs\nAWS_SECRET_ACCESS_KEY=theirs too\n"
    (folder / ".env").write_text(f"MLFLOW_S3_ENDPOINT_URL={elsewhere.url}\n{keys}")
    check_s3(Settings())
    assert "Credential=theirs/" in sent(elsewhere)


def test_a_login_that_stands_beside_its_server_is_its_own_and_goes_to_no_other(
    folder: Path, elsewhere: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = "MLFLOW_TRACKING_USERNAME=them\nMLFLOW_TRACKING_PASSWORD=theirs\n"
    (folder / ".env").write_text(f"MLFLOW_TRACKING_URI={elsewhere.url}\n{login}")
    for _ in range(2):  # the first hands it to MLflow, which reads the environment
        ask()
    basic = base64.b64encode(b"them:theirs").decode()
    assert sent(elsewhere).count(f"Basic {basic}") >= 2
    other = folder.parent / "another"
    other.mkdir()
    (other / ".env").write_text("MLFLOW_TRACKING_URI=http://other.invalid:5000\n")
    monkeypatch.chdir(other)
    with pytest.raises(ConfigError, match=r"your MLFLOW_TRACKING_USERNAME of \S+cloned/\.env"):
        MlflowRuns(Settings())


def test_keys_of_one_file_go_to_no_store_that_another_names(folder: Path, elsewhere: HostileServer) -> None:
    (folder / ".env").write_text(f"AWS_ACCESS_KEY_ID=mine\nAWS_SECRET_ACCESS_KEY={SECRET}\n")
    (folder / "guardianflow.toml").write_text(f'mlflow_s3_endpoint_url = "{elsewhere.url}"\n')
    with pytest.raises(ConfigError, match=r"your AWS_ACCESS_KEY_ID of \S+\.env, AWS_SECRET_ACCESS_KEY of \S+\.env"):
        check_s3(Settings())
    assert elsewhere.requests == []


def test_a_password_of_the_environment_goes_to_no_database_that_a_file_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    heard: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        """PostgreSQL's protocol as far as to the password, in the clear."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    while (piece := connection.recv(4096)) and SECRET.encode() not in piece:
                        ssl = piece[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30")
                        connection.sendall(b"N" if ssl else b"R\0\0\0\x08\0\0\0\x03")
                    heard.append(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        url = f"postgresql://kim@0.0.0.0:{listener.getsockname()[1]}/gate"
        (folder / "guardianflow.toml").write_text(f'database_url = "{url}"\n')
        with pytest.raises(ConfigError, match="PGPASSWORD; nothing was sent"):
            Database.open(Settings().database_url)
        assert heard == []
        monkeypatch.setenv("GUARDIANFLOW_DATABASE_URL", url)  # the server is one that would have got it
        with pytest.raises(GuardianFlowError):
            Database.open(Settings().database_url)
        assert SECRET.encode() in heard[0]


def test_a_redirect_takes_no_login_to_another_host(monkeypatch: pytest.MonkeyPatch, elsewhere: HostileServer) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    with HostileServer(redirects_to(f"http://localhost:{elsewhere.port}")) as front:
        ask(Settings(mlflow_tracking_uri=front.url))
        assert SECRET in sent(front)
    assert elsewhere.requests
    assert SECRET not in sent(elsewhere)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////home/kim/mlflow.db", "http://127.0.0.1:5000", "http://[::1]:5000/x", "HTTP://LocalHost",
        "postgresql:///gate", "postgresql://kim:pw@localhost/gate?sslmode=require", "databricks",
    ],
)  # fmt: skip
def test_this_machine_needs_no_agreement(url: str) -> None:
    assert server_of(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example\\@localhost/", "http://localhost@evil.example", "http://localhost.evil.example",
        "http://127.0.0.1.evil.example", "postgresql://localhost/gate?host=evil.example",
        "postgresql://localhost/gate?conninfo=host%3Devil.example", "postgresql://localhost,evil.example/gate",
        "http://localhost#@evil.example", "http://0.0.0.0:5000", "http://evil.example\t@localhost/",
    ],
)  # fmt: skip
def test_an_odd_url_is_never_taken_for_this_machine(url: str) -> None:
    assert server_of(url)


def test_two_urls_that_reach_two_servers_are_two_agreements() -> None:
    assert server_of("http://kim:pw@mlflow.example:5000/a") == server_of("http://mlflow.example:5000/b")
    assert server_of("postgresql://db.example/gate") != server_of("postgresql://db.example/gate?host=evil.example")
