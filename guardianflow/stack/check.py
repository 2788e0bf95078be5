"""Walk a running stack, with Docker or without: what a training, an application and a visitor do, once each.

A step that fails says so and the next is taken, unless it rests on the one that failed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.export import s3_client
from guardianflow.exceptions import GuardianFlowError, RunFailedError
from guardianflow.files.run_folder import write_text
from guardianflow.runs.tracking import TrackedRun
from guardianflow.stack.compose import Stack
from guardianflow.stack.preparing import BUCKET
from guardianflow.state.database import Database
from guardianflow.vision.serving import Serving

__all__ = ["MODEL", "Step", "check_stack"]

MODEL = "stack-check"
_ARTIFACT = "weights/check.bin"
_WAIT_S = 30.0
_MOST = 2_000_000


@dataclass(frozen=True)
class Step:
    """One step of the walk.

    Attributes:
        name: What was tried.
        ok: Whether it went well.
        said: What was seen, or what went wrong.
        seconds: How long it took.
    """

    name: str
    ok: bool
    said: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dict(self.__dict__)


def check_stack(stack: Stack, *, on_step: Callable[[Step], None] | None = None) -> list[Step]:
    """Try each door of a running stack: with its key, and without.

    It leaves a run in the experiment ``stack-check``, a version of the model ``stack-check`` (older ones are
    deleted), and one measurement.

    Args:
        stack: Where it is, and its passwords.
        on_step: Told each step.

    Raises:
        ConfigError: A value of ``.env`` is missing.
    """
    walk = _Walk(stack)
    steps = []
    for name, step in (
        ("PostgreSQL", walk.database),
        ("a run with an artifact, in MLflow", walk.run),
        ("the artifact, in SeaweedFS by its hash", walk.stored),
        ("registered and promoted", walk.promoted),
        ("a figure through the API", walk.figure),
        ("the fleet page", walk.page),
        ("refused without their keys", walk.refused),
    ):
        begun = time.monotonic()
        try:
            ok, said = True, step()
        except (GuardianFlowError, OSError, http.client.HTTPException, ValueError) as error:
            ok, said = False, " ".join(str(error).split()) or type(error).__name__
        except Exception as error:
            if type(error).__module__.split(".")[0] not in {"botocore", "boto3"}:
                raise
            ok, said = False, str(error)
        steps.append(Step(name, ok, said, round(time.monotonic() - begun, 2)))
        if on_step is not None:
            on_step(steps[-1])
    return steps


class _Walk:
    """What a step leaves for the next."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        port = stack.need
        self._urls = {
            "mlflow": f"http://{stack.host}:{port('MLFLOW_PORT')}",
            "api": f"http://{stack.host}:{port('API_PORT')}",
            "pages": f"http://{stack.host}:{port('PAGES_PORT')}",
            "s3": f"http://{stack.host}:{port('S3_PORT')}",
            "filer": f"http://{stack.host}:{port('SEAWEEDFS_FILER_PORT')}",
        }
        password = port("GUARDIANFLOW_DB_PASSWORD")
        self._settings = Settings(
            mlflow_tracking_uri=self._urls["mlflow"],
            mlflow_tracking_username=stack.environment.get("MLFLOW_TRACKING_USERNAME") or "guardianflow",
            mlflow_tracking_password=port("MLFLOW_TRACKING_PASSWORD"),
            database_url=f"postgresql://guardianflow:{password}@{stack.host}:{port('POSTGRES_PORT')}/guardianflow",
            work_dir=stack.home / "check",
            actor="stack check",
        )
        self._content = secrets.token_bytes(100_000)
        self._run_id = ""
        self._version = ""

    def database(self) -> str:
        database = Database.open(self._settings.database_url)
        with database.read() as connection:
            version = connection.exec_driver_sql("SHOW server_version").scalar()
        return f"version {version} answers, schema up to date"

    def run(self) -> str:
        with TrackedRun.start(self._settings, experiment=MODEL, kind="check", parameters={}) as run:
            file = run.folder / "check.bin"
            file.write_bytes(self._content)
            write_text(run.folder / "README.txt", "Made by `guardianflow stack check`; it may be deleted.\n")
            run.log_metrics({"map50": 0.5})
            run.log_artifact(file, "weights")
            if not run.flush(timeout_s=_WAIT_S):
                raise RunFailedError(f"MLflow did not take the run's artifact in {_WAIT_S:.0f} s")
        self._run_id = run.run_id
        return f"run {run.run_id} is finished"

    def stored(self) -> str:
        self._after(self._run_id)
        client = s3_client({**self._stack.environment, "MLFLOW_S3_ENDPOINT_URL": self._urls["s3"]})
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        ending = f"{self._run_id}/artifacts/{_ARTIFACT}"
        keys = [row["Key"] for page in pages for row in page.get("Contents", ()) if row["Key"].endswith(ending)]
        if not keys:
            raise RunFailedError(f"the bucket {BUCKET} holds no object that ends in {ending}")
        found = hashlib.sha256(client.get_object(Bucket=BUCKET, Key=keys[0])["Body"].read()).hexdigest()
        if found != hashlib.sha256(self._content).hexdigest():
            raise RunFailedError(f"s3://{BUCKET}/{keys[0]} is not what was stored: its SHA-256 is {found}")
        return f"s3://{BUCKET}/{keys[0]} · sha256 {found[:12]}…"

    def promoted(self) -> str:
        self._after(self._run_id)
        registry = ModelRegistry(
            self._settings, preflight=lambda *_: None, gate="off", admission=lambda _, serving: serving or Serving()
        )
        version = registry.register(MODEL, self._run_id, artifact=_ARTIFACT)
        registry.promote(MODEL, version.version, reason="stack check")
        for old in registry.list_versions(MODEL):
            if not old.aliases:
                registry.delete(MODEL, old.version)
        self._version = version.version
        file = registry.download(MODEL)  # checked by its hash
        return f"{registry.get_champion_uri(MODEL)} is version {version.version}, {file.stat().st_size:,} bytes"

    def figure(self) -> str:
        record = {
            "time": datetime.now(UTC).isoformat(), "metric": "model_size_mb", "value": 0.1, "model": MODEL,
            "version": self._version or "0",
        }  # fmt: skip
        saved = self._ask("api", "/api/metrics", {"records": [record]})
        rows = self._ask("api", f"/api/metrics/summary?metric=model_size_mb&model={MODEL}")["rows"]
        if saved["stored"] != 1 or not rows:
            raise RunFailedError(f"the API took {saved['stored']} of 1 measurement, and gives {len(rows)} rows back")
        return f"stored, and {rows[0]['count']} of them given back"

    def page(self) -> str:
        token = self._stack.need("GUARDIANFLOW_PAGES_TOKEN")
        status, body = self._get("pages", f"/voila/render/fleet.ipynb?token={token}", wait_s=90)
        if status != http.client.OK or b"</html>" not in body[-200:]:
            raise RunFailedError(f"{self._urls['pages']} answers {status} with {len(body):,} bytes: no page")
        return f"{len(body):,} bytes of HTML"

    def refused(self) -> str:
        wrong = "Basic " + base64.b64encode(b"guardianflow:wrong").decode()
        doors = [
            ("mlflow", "/api/2.0/mlflow/experiments/search?max_results=1", None),
            ("mlflow", "/api/2.0/mlflow/experiments/search?max_results=1", wrong),
            ("api", "/api/models", None),
            ("api", "/api/models", "Bearer gf_0000000000000000_" + "0" * 64),
            ("pages", "/voila/render/fleet.ipynb", None),
            ("pages", "/voila/render/fleet.ipynb?token=wrong", None),
            ("s3", f"/{BUCKET}/", None),
        ]
        try:
            self._get("filer", f"/buckets/{BUCKET}/")
        except OSError:
            pass  # with Docker nothing outside reaches it
        else:
            doors.append(("filer", f"/buckets/{BUCKET}/", None))
        for name, path, key in doors:
            status, _ = self._get(name, path, key=key)
            if status not in {401, 403} and not (name == "pages" and status == http.client.FOUND):
                said = "a wrong key" if key or "wrong" in path else "no key"
                raise RunFailedError(f"{self._urls[name]}{path} answers {status} to {said}: it must refuse")
        self._refuses_another_key()
        return f"{len(doors) + 1} of {len(doors) + 1}: {', '.join(dict.fromkeys(name for name, *_ in doors))}"

    def _refuses_another_key(self) -> None:
        from botocore.exceptions import ClientError

        ours = {**self._stack.environment, "MLFLOW_S3_ENDPOINT_URL": self._urls["s3"]}
        with contextlib.suppress(ClientError):
            s3_client({**ours, "AWS_SECRET_ACCESS_KEY": "wrong"}).list_objects_v2(Bucket=BUCKET, MaxKeys=1)
            raise RunFailedError(f"{self._urls['s3']} answers to a wrong key: it must refuse")

    def _after(self, what: str) -> None:
        if not what:
            raise RunFailedError("not tried: the run that it needs is missing")

    def _ask(self, name: str, path: str, body: object = None) -> Any:
        key = f"Bearer {self._stack.need('STACK_OWNER_KEY')}"
        status, answer = self._get(name, path, key=key, body=body)
        if status >= http.client.BAD_REQUEST:
            raise RunFailedError(f"{self._urls[name]}{path} answers {status}: {answer[:300].decode(errors='replace')}")
        return json.loads(answer)

    def _get(
        self, name: str, path: str, *, key: str | None = None, body: object = None, wait_s: float = 20.0
    ) -> tuple[int, bytes]:
        parts = urlsplit(self._urls[name])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=wait_s)
        headers = {"Authorization": key} if key else {}
        try:
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                connection.request("POST", path, json.dumps(body), {**headers, "Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(_MOST)
        finally:
            connection.close()
