"""What the stack needs before its services can work: passwords, certificates, databases, roles, the bucket.

Everything here may be called again: what is there stays, what is missing is made.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from guardianflow._imports import require
from guardianflow.core.config import ENV_FILE
from guardianflow.dashboard.export import s3_client
from guardianflow.dashboard.keys import Keys
from guardianflow.exceptions import ConfigError, InputError, NotFoundError
from guardianflow.files.run_folder import write_text
from guardianflow.runs.tracking_schema import make_tables
from guardianflow.stack.compose import COMPOSE_FILE
from guardianflow.state import reading
from guardianflow.state.database import Database

__all__ = ["BUCKET", "DATABASES", "init_stack", "make_secrets", "prepare", "psycopg_connection"]

BUCKET = "mlflow"
DATABASES = {"guardianflow": "guardianflow", "mlflow": "mlflow", "mlflow_auth": "mlflow"}
"""Database → the role that owns it."""

_EXAMPLE = ".env.example"
_FILES = (COMPOSE_FILE, _EXAMPLE, "grafana")
_EMPTY = re.compile(r"^([A-Z][A-Z0-9_]*)=[ \t]*$", re.MULTILINE)
_PACKAGE = Path(__file__).resolve().parents[1]
_CERTIFICATE_DAYS = 3650


def init_stack(folder: str | Path) -> list[Path]:
    """Make what a stack needs in a folder: the compose file and what it names, and ``.env`` with new passwords.

    Files that are there stay, ``.env`` too: names that it lacks are added at its end.

    Args:
        folder: Made where it is missing.

    Returns:
        The files that were written.

    Raises:
        InputError: The folder can't be written.
        NotFoundError: The stack's files are missing from the installation.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        return list(_init(folder))
    except OSError as error:
        raise InputError(f"{folder} can't hold a stack: {error}. Choose another folder") from error


def _init(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    source = _shipped()
    for name in _FILES:
        for file in sorted((source / name).rglob("*")) if (source / name).is_dir() else (source / name,):
            target = folder / file.relative_to(source)
            if file.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                yield target
    template = (folder / _EXAMPLE).read_text(encoding="utf-8").replace("DATA_DIR=.\n", f"DATA_DIR={folder}\n")
    filled = _EMPTY.sub(lambda match: f"{match[1]}={_secret(match[1])}", template)
    target = folder / ENV_FILE
    if not target.exists():
        target.touch(mode=0o600)
        write_text(target, filled)
        target.chmod(0o600)
        yield target
        return
    have = target.read_text(encoding="utf-8")
    known = set(map(_name, have.splitlines()))
    missing = [line for line in filled.splitlines() if _name(line) not in {"", *known}]
    if missing:
        write_text(target, have.rstrip("\n") + "\n" + "\n".join(missing) + "\n")
        target.chmod(0o600)
        yield target


def _name(line: str) -> str:
    return line.partition("=")[0] if re.match(r"[A-Z][A-Z0-9_]*=", line) else ""


def _secret(name: str) -> str:
    if name == "STACK_OWNER_KEY":
        return f"gf_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    return secrets.token_hex(10 if name == "AWS_ACCESS_KEY_ID" else 24)


def _shipped() -> Path:
    """Where the stack's files are: inside an installed wheel, or in a source checkout."""
    places = (_PACKAGE / "_stack", _PACKAGE.parent)
    for place in places:
        if (place / COMPOSE_FILE).is_file() and (place / _EXAMPLE).is_file():
            return place
    raise NotFoundError(f"the stack's files are missing from {places[0]}. Install GuardianFlow again")


def make_secrets(folder: Path, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Certificates for SeaweedFS' gRPC, signed by an authority whose key is thrown away, and MLflow's login file.

    Args:
        folder: Where to; only the stack's services see it.
        environment: Names ``STACK_AUTH_URL``, the database of MLflow's users. Default: the process's.

    Returns:
        The files that were written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = _need("STACK_AUTH_URL", environment)
    # `%` starts an interpolation in this file's format.
    login = f"""\
[mlflow]
database_uri = {url.replace("%", "%%")}
default_permission = MANAGE
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 30
"""
    written = [write_text(folder / "mlflow-auth.ini", login)]
    names = ("ca.pem", "seaweedfs.key", "seaweedfs.pem")
    if not all((folder / name).exists() for name in names):
        written += [write_text(folder / name, text) for name, text in zip(names, _certificates(), strict=True)]
    for file in written:
        file.chmod(0o600)
    return written


def _certificates() -> tuple[str, str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("guardianflow stack", "seaweedfs")]

    def signed(place: int, *, authority: bool) -> str:
        made = (
            x509.CertificateBuilder()
            .subject_name(names[place])
            .issuer_name(names[0])
            .public_key(keys[place].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()

    secret = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed(0, authority=True), secret.decode(), signed(1, authority=False)


def prepare(environment: Mapping[str, str] | None = None) -> list[str]:
    """Databases, roles and their passwords, the bucket, our tables, the owner's key.

    Args:
        environment: As docker-compose.yml gives it to the service ``prepare``. Default: the process's.

    Returns:
        What was made, a sentence each.

    Raises:
        ConfigError: A value is missing, or the server refuses.
    """
    roles = {name: _need(f"{name.upper()}_DB_PASSWORD", environment) for name in ("mlflow", "guardianflow", "grafana")}
    admin = _need("STACK_ADMIN_URL", environment)
    said = [*_databases(admin, roles), *_bucket(environment)]
    make_tables(_need("MLFLOW_BACKEND_STORE_URI", environment))
    database = Database.open(_need("GUARDIANFLOW_DATABASE_URL", environment))
    database.make()
    addresses = dict(item.split("=", 1) for item in _need("STACK_ADDRESSES", environment).split())
    for name, tables in (("guardianflow", reading.STATE), ("mlflow", reading.MLFLOW)):
        with psycopg_connection(admin, name) as connection:
            reading.grant_reading(connection, "grafana", tables, addresses=addresses)
    keys, token = Keys(database), _need("STACK_OWNER_KEY", environment)
    number = token.split("_")[1]
    if not any(key.id == number for key in keys.list()):  # nor does a revoked one come back
        key, _ = keys.create(f"owner-{number[:6]}", "promoter", by="stack", token=token)
        said.append(f"made the key {key.name}")
    return said


@contextlib.contextmanager
def psycopg_connection(url: str, database: str | None = None) -> Iterator[Any]:
    """A connection to PostgreSQL, to another database of the same server if one is named; each statement by itself.

    Raises:
        ConfigError: It doesn't answer, or refuses what is asked.
    """
    psycopg = require("psycopg", extra="stack", purpose="the stack's databases")
    named = {"dbname": database} if database else {}
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10, **named) as connection:
            yield connection
    except psycopg.Error as error:
        raise ConfigError(f"PostgreSQL can't be prepared: {' '.join(str(error).split())}") from error


def _databases(url: str, roles: Mapping[str, str]) -> list[str]:
    from psycopg import sql

    said = []
    with psycopg_connection(url) as connection:
        for role, password in roles.items():
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
                    sql.SQL("ALTER" if there else "CREATE"), sql.Identifier(role), sql.Literal(password)
                )
            )
            said += [] if there else [f"made the role {role}"]
        for name, owner in DATABASES.items():
            names = {"name": sql.Identifier(name), "owner": sql.Identifier(owner)}
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE template0").format(**names))
                said.append(f"made the database {name}")
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {name} FROM PUBLIC").format(**names))
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {name} TO {owner}").format(**names))
    return said


def _bucket(environment: Mapping[str, str] | None) -> list[str]:
    client: Any = s3_client(os.environ if environment is None else environment)
    if BUCKET in {row["Name"] for row in client.list_buckets()["Buckets"]}:
        return []
    client.create_bucket(Bucket=BUCKET)
    return [f"made the bucket {BUCKET}"]


def _need(name: str, environment: Mapping[str, str] | None) -> str:
    value = (os.environ if environment is None else environment).get(name)
    if not value:
        raise ConfigError(f"{name} is missing; docker-compose.yml gives it to this step out of {ENV_FILE}")
    return value
