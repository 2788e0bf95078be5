"""A copy of all that a stack holds, made while it works, and a stack made of it.

PostgreSQL is dumped by its own ``pg_dump``, our state first: what a row of ours names, MLflow and the object store have
had before. Dumps and objects lie under their SHA-256, so the next backup into the same folder fetches what is new and
leaves the earlier one whole until the manifest, which is written last, names what belongs to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardianflow import __version__
from guardianflow.dashboard.export import s3_client
from guardianflow.exceptions import ConfigError, GuardianFlowError, InputError, NotFoundError, RefusedError
from guardianflow.files.content import hash_file
from guardianflow.files.run_folder import write_json
from guardianflow.stack.compose import Stack
from guardianflow.stack.postgres import find_client
from guardianflow.stack.preparing import BUCKET, DATABASES, prepare, psycopg_connection

__all__ = ["Copied", "back_up", "restore"]

_MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Copied:
    """What was copied.

    Attributes:
        folder: The backup.
        objects: How many objects it holds.
        size_bytes: Of dumps and objects.
        new: How many of the objects were fetched or stored now.
    """

    folder: Path
    objects: int
    size_bytes: int
    new: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**self.__dict__, "folder": str(self.folder)}


def back_up(stack: Stack, folder: str | Path, *, on_object: Callable[[int], None] | None = None) -> Copied:
    """Copy databases and objects of a running stack. Passwords (``.env``) and the work volume are not in it.

    Args:
        stack: What to copy.
        folder: Where to: new, empty, or an earlier backup, which is brought up to date.
        on_object: Told how many objects are there.

    Raises:
        InputError: The folder holds something else, or can't be written.
        ConfigError: PostgreSQL or the object store refuses.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _MANIFEST).is_file():
            raise InputError(f"{folder} holds something else than a backup; name a new folder")
        files = folder / "files"
        files.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        dumps = {name: _dump(stack, name, files) for name in DATABASES}
        known = _manifest(folder)["objects"] if (folder / _MANIFEST).is_file() else {}
        objects, new = _fetch(stack, files, known, on_object)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(folder / _MANIFEST, {"version": __version__, "made": made, "dumps": dumps, "objects": objects})
        used = {*dumps.values(), *(row["sha256"] for row in objects.values())}
        for path in files.rglob("*"):
            if path.is_file() and path.name not in used:
                path.unlink()
    except OSError as error:
        raise InputError(f"the backup {folder} can't be written: {error}. What was there is as it was") from error
    size = sum(_place(files, sha256).stat().st_size for sha256 in dumps.values())
    return Copied(folder, len(objects), size + sum(row["size"] for row in objects.values()), new)


def restore(stack: Stack, folder: str | Path, *, on_object: Callable[[int], None] | None = None) -> Copied:
    """Fill an empty, running stack from a backup; what the backup lacks (passwords) is the new stack's own.

    Args:
        stack: Where to; it holds no model and no run.
        folder: The backup.
        on_object: Told how many objects are stored.

    Raises:
        NotFoundError: There is no backup in the folder.
        InputError: A file of it is missing or not what it was.
        RefusedError: The stack holds something already.
        ConfigError: PostgreSQL or the object store refuses.
    """
    folder = Path(folder).expanduser().resolve()
    manifest = _manifest(folder)
    _check(folder, manifest)
    _refuse_full(stack)
    client = _client(stack)
    for count, (key, row) in enumerate(manifest["objects"].items(), 1):
        client.upload_file(str(_place(folder / "files", row["sha256"])), BUCKET, key)
        if on_object is not None:
            on_object(count)
    for name in reversed(DATABASES):  # ours last: as long as it is empty, this can be done again
        _restore_database(stack, name, _place(folder / "files", manifest["dumps"][name]))
    _keep_password(stack)
    prepare(stack.services["prepare"].environment)  # migrations, what Grafana may read, this stack's own key
    size = sum(row["size"] for row in manifest["objects"].values())
    return Copied(folder, len(manifest["objects"]), size, len(manifest["objects"]))


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def _dump(stack: Stack, name: str, target: Path) -> str:
    part = target / f"{name}.part"
    _run(stack, name, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={part}")
    return _keep(part, hash_file(part), target)


def _restore_database(stack: Stack, name: str, dump: Path) -> None:
    options = ("--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run(stack, name, "pg_restore", *options, f"--dbname={name}", str(dump))


def _run(stack: Stack, name: str, program: str, *options: str) -> None:
    """One of PostgreSQL's programs, as the database's owner; the password is in its environment alone."""
    owner = DATABASES[name]
    with psycopg_connection(stack.services["prepare"].environment["STACK_ADMIN_URL"]) as connection:
        path = find_client(program, server=connection.info.server_version // 10_000) / program
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "PGHOST": stack.host, "PGPORT": stack.need("POSTGRES_PORT"),
        "PGUSER": owner, "PGPASSWORD": stack.need(f"{owner.upper()}_DB_PASSWORD"), "PGDATABASE": name,
        "PGCONNECT_TIMEOUT": "10",
    }  # fmt: skip
    done = subprocess.run(
        [str(path), *options], env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise ConfigError(f"{program} of the database {name}: {' '.join(done.stderr.split())[-500:]}")


def _refuse_full(stack: Stack) -> None:
    url = stack.services["prepare"].environment["STACK_ADMIN_URL"]
    with psycopg_connection(url, "guardianflow") as connection:
        for table in ("gf_model_states", "gf_run_records"):
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names of ours
            if count:
                raise RefusedError(
                    f"this stack holds something already ({count} rows in {table}), and a backup replaces all of it. "
                    "Restore into a new one: guardianflow stack init in an empty folder, then stack up"
                )


def _keep_password(stack: Stack) -> None:
    """MLflow's user has the password of this stack's .env, whatever the backup's had."""
    from werkzeug.security import generate_password_hash

    url = stack.services["prepare"].environment["STACK_ADMIN_URL"]
    user = stack.environment.get("MLFLOW_TRACKING_USERNAME") or "guardianflow"
    with psycopg_connection(url, "mlflow_auth") as connection:
        connection.execute(
            "UPDATE users SET password_hash = %s WHERE username = %s",
            [generate_password_hash(stack.need("MLFLOW_TRACKING_PASSWORD")), user],
        )


# --- objects ----------------------------------------------------------------------------------------------------------


def _client(stack: Stack) -> Any:
    return s3_client({**stack.environment, "MLFLOW_S3_ENDPOINT_URL": f"http://{stack.host}:{stack.need('S3_PORT')}"})


def _fetch(
    stack: Stack, target: Path, known: Mapping[str, Mapping[str, Any]], on_object: Callable[[int], None] | None
) -> tuple[dict[str, dict[str, Any]], int]:
    client, rows, new = _client(stack), {}, 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", ()):
            key, etag, size = item["Key"], item["ETag"], int(item["Size"])
            row = dict(known.get(key, {}))
            if (row.get("etag"), row.get("size")) != (etag, size) or not _place(target, row["sha256"]).is_file():
                row = {"etag": etag, "size": size, "sha256": _get(client, key, target)}
                new += 1
            rows[key] = row
            if on_object is not None:
                on_object(len(rows))
    return rows, new


def _get(client: Any, key: str, target: Path) -> str:
    """Fetch one object under the name of its SHA-256."""
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"]
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=target, prefix="part-", delete=False) as file:
        try:
            for chunk in iter(lambda: body.read(_CHUNK), b""):
                digest.update(chunk)
                file.write(chunk)
            file.close()
            return _keep(Path(file.name), digest.hexdigest(), target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _keep(part: Path, sha256: str, target: Path) -> str:
    place = _place(target, sha256)
    place.parent.mkdir(exist_ok=True)
    part.replace(place)
    return sha256


def _place(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / sha256


# --- the manifest -----------------------------------------------------------------------------------------------------


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        hashes = [*document["dumps"].values(), *(row["sha256"] for row in document["objects"].values())]
        if set(document["dumps"]) != set(DATABASES) or not all(
            len(each) == 64 and set(each) <= _HEX for each in hashes
        ):
            raise ValueError("it names other databases, or a hash is none")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no backup in {folder}: {_MANIFEST} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / _MANIFEST} is no manifest of a backup: {error}") from error
    return dict(document)


def _check(folder: Path, manifest: Mapping[str, Any]) -> None:
    for sha256 in (*manifest["dumps"].values(), *(row["sha256"] for row in manifest["objects"].values())):
        path = _place(folder / "files", sha256)
        try:
            if hash_file(path) != sha256:
                raise InputError(f"{path} is not what was backed up; nothing was restored. Take another backup")
        except GuardianFlowError:
            raise
        except OSError as error:
            raise InputError(f"{path} can't be read ({error}); nothing was restored. Take another backup") from error
