"""What answers elsewhere: MLflow, the state database, S3."""

from __future__ import annotations

import shlex
import urllib.request
from glob import escape
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from guardianflow._imports import is_installed
from guardianflow.core.config import Settings, mask_secrets, sqlite_path
from guardianflow.doctor.machine import installed_version
from guardianflow.doctor.report import Check
from guardianflow.runs.tracking_store import look_at_store
from guardianflow.state.soundness import Soundness, look_through_file

__all__ = ["DATABASE_ADVICE", "MLFLOW_ADVICE", "S3_ADVICE", "check_database", "check_mlflow", "check_s3"]

_SOCKET_SECONDS = 3.0
_LOOK_SECONDS = 3.0

MLFLOW_ADVICE = "Start the server, or correct MLFLOW_TRACKING_URI; without it MLflow is a file in the work folder."


def check_mlflow(settings: Settings) -> list[Check]:
    """The tracking file, server or database: what a run would meet that opens it now."""
    state = look_at_store(settings, timeout_s=_SOCKET_SECONDS)
    if state.schema == "unknown":
        if settings.mlflow_tracking_uri.lower().startswith("databricks"):
            return [Check("mlflow", "skip", "Databricks is asked when a run starts")]
        return [_mlflow_server(settings.mlflow_tracking_uri)]
    ours = f"mlflow {installed_version('mlflow')}"
    where = f"embedded; {state.where}" if settings.is_embedded else state.where
    if state.schema == "new":
        return [Check("mlflow", "ok", f"{where} is made by the first run")]
    if state.schema == "older":
        detail = f"{where} has the schema of an older MLflow than {ours}"
        return [Check("mlflow", "warn", detail, "The next run migrates it, after a copy beside it.")]
    path = sqlite_path(settings.mlflow_tracking_uri)
    found = look_through_file(path, seconds=_LOOK_SECONDS) if path else Soundness()
    return [_sound("mlflow", f"{where} holds {state.runs} runs ({ours})", found, path)]


def _sound(name: str, detail: str, found: Soundness, path: Path | None) -> Check:
    """Whether a database that can be opened is damaged all the same."""
    if not found.damage:
        return Check(name, "ok", detail + (f"; no time or right to look through {found.unseen}" * bool(found.unseen)))
    if found.indexes_only:
        advice = "Stop what works with it, copy it, then make its indexes anew: "
        advice += f"`sqlite3 {shlex.quote(str(path))} REINDEX`." if path else "REINDEX TABLE, as its owner."
    elif path is None:
        advice = "Whoever keeps the server: look at its disk, copy what can be read (pg_dump), restore a backup."
    else:
        advice = f"Stop what works with it, copy {path.name}* away, then put a copy from before in its place"
        advice += " (*.backup beside it is one)." if any(path.parent.glob(f"{escape(path.name)}.*.backup")) else "."
    return Check(name, "fail", f"{detail}; it is damaged: {found.damage}", advice)


def _mlflow_server(uri: str) -> Check:
    try:
        _get(uri, "health")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return Check("mlflow", "fail", f"{mask_secrets(uri)} doesn't answer ({reason})", MLFLOW_ADVICE)
    try:
        server = _get(uri, "version")
    except (OSError, ValueError):  # behind a login: the health check has no need of one
        server = None
    ours = installed_version("mlflow") or "?"
    detail = f"{mask_secrets(uri)} answers (server {server or 'of unknown version'}, client {ours})"
    if server and server.split(".")[0] != ours.split(".")[0]:
        return Check("mlflow", "warn", detail, "Bring server and client to the same major version.")
    return Check("mlflow", "ok", detail)


def _get(uri: str, page: str) -> str:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # urllib takes a login in the URL for a part of the host's name
    url = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/{page}", "", ""))
    with urllib.request.urlopen(url, timeout=_SOCKET_SECONDS) as answer:  # noqa: S310 - http(s) only, see above
        text: str = answer.read(200).decode(errors="replace").strip()
    if page == "health" and text.strip('"').upper() != "OK":
        raise ValueError(f"/health says {text[:40]!r}: that is no MLflow server")
    return text


DATABASE_ADVICE = "Start the server, or correct GUARDIANFLOW_DATABASE_URL; without it the state is a file."


def check_database(settings: Settings) -> list[Check]:
    """Look at the state database, without making or migrating it."""
    from guardianflow.state.database import HEAD, Database

    path = sqlite_path(settings.database_url)
    schema, found = Database.look(settings.database_url, seconds=_LOOK_SECONDS)
    where = f"embedded; {path}" if path else mask_secrets(settings.database_url)
    if schema is None:
        return [Check("database", "ok", f"{where} is made by the first run")]
    if schema != HEAD and not found.damage:
        advice = "The next command migrates it" + (
            ", after a copy beside it." if path else "; then no older one opens it."
        )
        return [Check("database", "warn", f"{where} has the schema {schema} of an older GuardianFlow", advice)]
    return [_sound("database", f"{where} (schema {schema})", found, path)]


S3_ADVICE = "Start the store, or correct MLFLOW_S3_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."


def check_s3(settings: Settings) -> list[Check]:
    """Reach the artifact store and log in, if one is set."""
    endpoint = settings.mlflow_s3_endpoint_url
    if not endpoint:
        return [Check("s3", "skip", "no MLFLOW_S3_ENDPOINT_URL; artifacts are files")]
    settings.require_agreement("mlflow_s3_endpoint_url")
    if not is_installed("boto3"):
        return [Check("s3", "fail", f"{endpoint} is set, but boto3 is missing", "pip install 'guardianflow[s3]'")]
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    def plain(name: str) -> str | None:
        secret = getattr(settings, name)
        return secret.get_secret_value() if secret else None

    limits = Config(connect_timeout=_SOCKET_SECONDS, read_timeout=_SOCKET_SECONDS, retries={"total_max_attempts": 1})
    try:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=plain("aws_access_key_id"),
            aws_secret_access_key=plain("aws_secret_access_key"),
            aws_session_token=plain("aws_session_token"),
            region_name=settings.aws_default_region or "us-east-1",
            config=limits,
        )
        buckets = [bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "?")
        if code == "AccessDenied":
            advice = "Fine where the key may only use one bucket; else allow it to list buckets."
            return [Check("s3", "warn", f"{endpoint} answers, but the key may not list buckets", advice)]
        return [Check("s3", "fail", f"{endpoint} refuses the credentials ({code})", S3_ADVICE)]
    except NoCredentialsError:
        return [
            Check("s3", "fail", f"{endpoint} is set, but no key", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        ]
    except (BotoCoreError, ValueError) as error:
        return [Check("s3", "fail", f"{endpoint} can't be used ({error})", S3_ADVICE)]
    return [Check("s3", "ok", f"{endpoint} answers; buckets: {', '.join(buckets[:5]) or 'none yet'}")]
