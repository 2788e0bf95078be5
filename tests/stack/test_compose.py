"""docker-compose.yml: valid, closed to others, and read by `guardianflow stack` as Docker reads it."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from guardianflow.exceptions import ConfigError, GuardianFlowError, NotFoundError
from guardianflow.stack.compose import Stack, read_stack
from guardianflow.stack.preparing import init_stack, make_secrets

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    for name in os.environ.keys() & {"MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_PASSWORD"}:
        monkeypatch.delenv(name)
    init_stack(tmp_path / "팀 stack")
    return read_stack(tmp_path / "팀 stack")


def write(folder: Path, text: str, env: str = "") -> Path:
    (folder / "docker-compose.yml").write_text(text, encoding="utf-8")
    (folder / ".env").write_text(env, encoding="utf-8")
    return folder


def test_the_file_is_one_that_compose_takes_and_the_image_is_built_as_one_should() -> None:
    for command in (
        [PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        [PROGRAMS / "hadolint", ROOT / "docker" / "Dockerfile"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_listens_beyond_this_machine_unless_told(stack: Stack) -> None:
    assert stack.bind == "127.0.0.1"
    for name, service in FILE["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("${STACK_BIND:-127.0.0.1}:"), f"{name} publishes {port} to everybody"
    published = {port for service in stack.services.values() for port in service.ports}
    assert published == {5432, 8333, 5000, 8000, 8866, 3000}, "neither filer nor master nor volume server"
    assert not [word for service in stack.services.values() for word in service.command if "0.0.0.0" in word]


def test_containers_have_few_rights_and_what_they_run_is_pinned() -> None:
    for name, service in FILE["services"].items():
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"]), f"{name} runs {service['image']}: no version"
        one_shot = service["restart"] == "no"
        assert one_shot or service["restart"] == "unless-stopped", name
        assert one_shot or name == "worker" or "healthcheck" in service, name
    assert set(FILE["services"]["seaweedfs"]["networks"]) == {"storage"}
    near = {name for name, each in FILE["services"].items() if "storage" in each.get("networks", ())}
    assert near == {"seaweedfs", "mlflow", "prepare"}, "only these reach the filer"


def test_no_password_stands_in_a_file_that_is_committed(stack: Stack) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    secret = re.findall(r"^(\w*(?:PASSWORD|SECRET|TOKEN|_KEY|KEY_ID)\w*)=(.*)$", example, re.MULTILINE)
    assert len(secret) >= 15
    assert [name for name, value in secret if value] == []
    values = [stack.environment[name] for name, _ in secret]
    assert len(set(values)) == len(values), "each has one of its own"
    assert all(len(value) >= 20 for value in values)
    assert stat.S_IMODE((stack.folder / ".env").stat().st_mode) == 0o600
    listed = subprocess.run(
        ["git", "check-ignore", ".env", "guardianflow-stack/x"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.stdout.split() == [".env", "guardianflow-stack/x"]


def test_init_twice_changes_no_password_and_adds_what_a_newer_version_needs(stack: Stack) -> None:
    file = stack.folder / ".env"
    before = file.read_text(encoding="utf-8")
    assert init_stack(stack.folder) == []
    file.write_text(before.replace("GRAFANA_DB_PASSWORD=", "# GONE="), encoding="utf-8")
    assert init_stack(stack.folder) == [file]
    after = read_stack(stack.folder)
    assert after.need("GRAFANA_DB_PASSWORD") != stack.need("GRAFANA_DB_PASSWORD")
    assert after.need("POSTGRES_PASSWORD") == stack.need("POSTGRES_PASSWORD")


def test_services_come_in_this_machines_terms(stack: Stack) -> None:
    names = list(stack.services)
    assert names.index("prepare") > max(names.index("postgres"), names.index("seaweedfs"))
    assert names.index("api") > names.index("mlflow") > names.index("prepare")
    weed = stack.services["seaweedfs"]
    volumes = stack.home / "volumes"
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={volumes / 'seaweedfs'}"} <= set(weed.command)
    assert weed.environment["WEED_GRPC_CA"] == str(volumes / "secrets" / "ca.pem")
    mlflow = stack.services["mlflow"]
    password = stack.need("MLFLOW_DB_PASSWORD")
    assert (
        mlflow.environment["MLFLOW_BACKEND_STORE_URI"]
        == f"postgresql+psycopg://mlflow:{password}@127.0.0.1:5432/mlflow"
    )
    assert mlflow.environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://mlflow", "a name that is also a bucket's stays"
    assert mlflow.health is not None
    assert mlflow.health.start_period_s == 120
    assert stack.services["grafana"].environment["GRAFANA_DB_HOST"] == "127.0.0.1:5432"
    assert stack.services["voila"].volumes["/work"] == volumes / "work"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("$A", "a"), ("${A}", "a"), ("${EMPTY}", ""), ("${NONE:-b c}", "b c"), ("${EMPTY:-b}", "b"), ("${EMPTY-b}", ""),
        ("${NONE-b}", "b"), ("${A:+b}", "b"), ("${NONE:+b}", ""), ("$$A ${A}$$", "$A a$"), ("${NONE}", ""),
        ("x${A}y${A:-z}", "xaya"), ("api:80", "127.0.0.1:80"), ("http://api:80/api", "http://127.0.0.1:80/api"),
        ("x://api:12345@db:6/api", "x://api:12345@127.0.0.1:6/api"), ("--ip=db", "--ip=127.0.0.1"), ("db", "db"),
        ("my-api:80", "my-api:80"), ("0.0.0.0", "10.1.2.3"),
    ],
)  # fmt: skip
def test_interpolation_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, read: str) -> None:
    monkeypatch.delenv("NONE", raising=False)
    text = f"services:\n  api: {{image: guardianflow, environment: {{X: '{written}'}}}}\n  db: {{image: postgres:1}}\n"
    stack = read_stack(write(tmp_path, text, "A=a\nEMPTY=\nSTACK_BIND=10.1.2.3\n"))
    assert stack.services["api"].environment["X"] == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: [", "can't be read as a compose file"),
        ("services: {a: {depends_on: [b]}, b: {depends_on: [a]}}", "a, b wait for each other"),
        ("services: {a: {depends_on: [c]}}", "isn't there"),
        ("services: {a: {command: '${SECRET_X:?is missing; run init}'}}", "SECRET_X is missing; run init"),
        ("services: {a: {healthcheck: {test: [CMD, x], interval: soon}}}", "'soon' is no duration"),
        ("services: 3", "can't be read as a compose file"),
        ("", "can't be read as a compose file"),
    ],
)
def test_what_cant_be_read_says_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_stack(write(tmp_path, text))


def test_a_folder_without_a_stack_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="guardianflow stack init"):
        read_stack(tmp_path)
    taken = tmp_path / "file"
    taken.touch()
    with pytest.raises(GuardianFlowError, match="can't hold a stack"):
        init_stack(taken / "below")


def test_certificates_are_made_once_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    environment = {"STACK_AUTH_URL": "postgresql+psycopg://mlflow:a%40b@127.0.0.1:5432/mlflow_auth"}
    made = {path.name for path in make_secrets(tmp_path, environment)}
    assert made == {"mlflow-auth.ini", "ca.pem", "seaweedfs.key", "seaweedfs.pem"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    before = (tmp_path / "seaweedfs.pem").read_bytes()
    assert [path.name for path in make_secrets(tmp_path, environment)] == ["mlflow-auth.ini"]
    assert (tmp_path / "seaweedfs.pem").read_bytes() == before
    code = (
        "import json; from mlflow.server.auth.config import read_auth_config as r; print(json.dumps(r().database_uri))"
    )
    env = {**os.environ, "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "mlflow-auth.ini")}
    # mlflow.server.auth itself opens the database, which isn't there: its configuration alone is read.
    code = code.replace("from mlflow.server.auth.config", "import sys, types; sys.modules['mlflow.server.auth'] = p = "
                        "types.ModuleType('p'); import mlflow.server as s; p.__path__ = [s.__path__[0] + '/auth']; "
                        "from mlflow.server.auth.config")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == environment["STACK_AUTH_URL"]
