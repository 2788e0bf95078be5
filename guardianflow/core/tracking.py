"""The only door to MLflow tracking: a run's life, from its creation to its terminal status.

A run is owned by an explicit run id and written through ``MlflowClient``; MLflow's fluent API, its
environment variables and "active run" play no part. Nothing here makes a training wait for a
server (see :mod:`guardianflow.core.delivery`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.database import Database
from guardianflow.core.delivery import (
    UNDELIVERED,
    BackgroundDelivery,
    Delivery,
    Operation,
    read_undelivered,
    write_undelivered,
)
from guardianflow.core.metrics import legal_metric_name
from guardianflow.core.names import validate_name
from guardianflow.core.run_records import ProcessIdentity, RunRecord, RunRecords, RunStatus
from guardianflow.exceptions import ConfigError, GuardianFlowError, InputError, TrackingUnavailableError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TrackedRun", "flatten_params", "make_client", "reap", "send_left_over"]

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
CLOSE_TIMEOUT_S = 12.0
TAG = "guardianflow."

_SECRET_NAME = re.compile(
    r"(passw|secret|token|api_?key|access_?key|credential|authorization|private_?key|cookie)", re.IGNORECASE
)
_MAX_PARAM = 500
_MAX_FOLDER = 120
_SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https", "databricks")


def make_client(settings: Settings) -> MlflowClient:
    """An MLflow client for the settings' server that gives up after seconds, not minutes.

    Raises:
        ConfigError: The tracking URI is a plain folder, which MLflow no longer supports.
    """
    settings.export()
    scheme = settings.mlflow_tracking_uri.split(":", 1)[0].split("+", 1)[0].lower()
    if scheme not in _SCHEMES:
        raise ConfigError(
            f"MLFLOW_TRACKING_URI {mask_secrets(settings.mlflow_tracking_uri)!r} is no database or server; "
            "use sqlite:////folder/mlflow.db, postgresql://… or http://…"
        )
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1"),
    ):
        os.environ.setdefault(name, value)
    if settings.is_embedded:
        settings.work_dir.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=settings.mlflow_tracking_uri, registry_uri=settings.mlflow_tracking_uri)


class TrackedRun:
    """One MLflow run and our record of it, written by one process at a time.

    Make one with :meth:`start` (a new run), :meth:`attach` (a run that another process of ours
    owns, such as the one that executes the notebook) or :meth:`reopen` (resume). Use it as a
    context manager: whatever way the block is left, an owned run gets a terminal status.

    Attributes:
        run_id: The MLflow run id.
        folder: ``<work_dir>/runs/<experiment>/<run_id>``; what the run makes lies here.
        experiment: Experiment name.
        owned: Whether leaving the block ends the run.
    """

    def __init__(
        self,
        settings: Settings,
        record: RunRecord,
        *,
        owned: bool,
        client: MlflowClient,
        delivery: Delivery | None = None,
    ) -> None:
        self.settings = settings
        self.run_id = record.run_id
        self.folder = record.folder
        self.experiment = record.experiment
        self.owned = owned
        self._client = client
        self._records = RunRecords(Database.open(settings.database_url))
        self._delivery = delivery or BackgroundDelivery(_sender(client), is_final=_is_final)
        self._stop = threading.Event()
        self._ended = False
        self.folder.mkdir(parents=True, exist_ok=True)
        if owned:
            self._heart = threading.Thread(target=self._beat, name="guardianflow-heartbeat", daemon=True)
            self._heart.start()

    @classmethod
    def start(
        cls,
        settings: Settings,
        *,
        experiment: str,
        kind: str,
        parameters: Mapping[str, Any],
        name: str | None = None,
        template: str | None = None,
        again_of: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedRun:
        """Create the run in MLflow and our record of it.

        Args:
            settings: Where to.
            experiment: Experiment name; created if it isn't there.
            kind: ``"train"`` and so on.
            parameters: What the run is asked to do, as plain JSON types; kept so that it can be
                executed again. Values under secret-like names are not kept.
            name: MLflow's run name.
            template: Template notebook that executes it.
            again_of: The run that this one repeats.
            tags: Further MLflow tags.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer.
        """
        experiment = validate_name(experiment, "experiment name")
        client = make_client(settings)
        redacted = redact(parameters)
        try:
            experiment_id = _ensure_experiment(client, settings, experiment)
            run = client.create_run(experiment_id, run_name=name, tags=_start_tags(settings, kind, again_of, tags))
        except GuardianFlowError:
            raise
        except Exception as error:
            raise _unavailable(settings, error) from error
        now = datetime.now(UTC)
        record = RunRecord(
            run_id=run.info.run_id,
            tracking_uri=mask_secrets(settings.mlflow_tracking_uri),
            experiment=experiment,
            kind=kind,
            status=RunStatus.RUNNING,
            reason=None,
            parameters=redacted,
            template=template,
            folder=settings.runs_dir / folder_name(experiment) / run.info.run_id,
            actor=settings.actor,
            again_of=again_of,
            owner=ProcessIdentity.current(),
            heartbeat=now,
            started=now,
            ended=None,
        )
        RunRecords(Database.open(settings.database_url)).add(record)
        return cls(settings, record, owned=True, client=client)

    @classmethod
    def attach(cls, settings: Settings, run_id: str) -> TrackedRun:
        """Write into a run that another process owns; leaving the block doesn't end it."""
        record = RunRecords(Database.open(settings.database_url)).get(run_id)
        return cls(settings, record, owned=False, client=make_client(settings))

    @classmethod
    def reopen(cls, settings: Settings, run_id: str) -> TrackedRun:
        """Take a run that ended early and go on in it, under the same id.

        Raises:
            InputError: The run is still executed by a living process, or it finished.
        """
        records = RunRecords(Database.open(settings.database_url))
        record = records.get(run_id)
        if record.status == RunStatus.FINISHED:
            raise InputError(f"run {record.run_id} finished; start a new one with `guardianflow run --again {run_id}`")
        if record.status == RunStatus.RUNNING and record.owner.lives(record.heartbeat, datetime.now(UTC)):
            raise InputError(
                f"run {record.run_id} is being executed by process {record.owner.pid} on {record.owner.host}; "
                "wait for it, or stop that process first"
            )
        client = make_client(settings)
        try:
            client.update_run(record.run_id, status=RunStatus.RUNNING)
        except Exception as error:
            raise _unavailable(settings, error) from error
        records.take_over(record.run_id, ProcessIdentity.current())
        return cls(settings, replace(record, status=RunStatus.RUNNING), owned=True, client=client)

    @property
    def record(self) -> RunRecord:
        """The run's record as it stands now."""
        return self._records.get(self.run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters: nested ones flattened with dots, secrets redacted, long values cut."""
        flat = flatten_params(redact(params))
        for batch in _batches(list(flat.items()), 90):
            self._submit("params", {"params": dict(batch)})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log figures of one step under legal names; a value that is no number is left as NaN."""
        now = int(time.time() * 1000)
        rows = [[legal_metric_name(key), float(value), now, step] for key, value in metrics.items()]
        for batch in _batches(rows, 900):
            self._submit("metrics", {"metrics": batch})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one."""
        self._submit("tags", {"tags": {key: str(value)[:5000] for key, value in tags.items()}})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder (its content then lies under ``folder``)."""
        if not path.exists():
            log.warning("artifact %s does not exist and is left out", path)
            return
        self._submit("artifact", {"path": str(path), "folder": folder})

    def set_progress(self, done: int, total: int, *, unit: str, note: str = "") -> None:
        """Say where the run stands; whoever watches it reads this."""
        try:
            self._records.set_progress(self.run_id, {"done": done, "total": total, "unit": unit, "note": note})
        except Exception as error:  # noqa: BLE001 - progress is a courtesy, never a reason to fail
            log.debug("progress could not be written: %s", error)

    def flush(self, *, timeout_s: float) -> bool:
        """Wait until MLflow has taken everything so far; ``False`` if it hasn't in time."""
        return self._delivery.flush(timeout_s)

    def finish(self, status: str = RunStatus.FINISHED, reason: str | None = None) -> None:
        """End the run. Whatever MLflow has not taken by then is kept in the run's folder."""
        if self._ended:
            return
        self._ended = True
        self._stop.set()
        if reason:
            self._submit("tags", {"tags": {TAG + "reason": reason[:5000]}})
        self._submit("status", {"status": status, "end_time": int(time.time() * 1000)})
        self._records.finish(self.run_id, status, reason)
        self._close()

    def leave(self) -> None:
        """Stop writing without ending the run (its owner does that)."""
        if not self._ended:
            self._ended = True
            self._stop.set()
            self._close()

    def __enter__(self) -> TrackedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self.owned:
            self.leave()
        elif error is None:
            self.finish(RunStatus.FINISHED)
        else:
            self.finish(*outcome_of(error))

    def _submit(self, kind: str, payload: dict[str, Any]) -> None:
        self._delivery.submit(Operation(kind, self.run_id, payload))

    def _close(self) -> None:
        left = self._delivery.close(CLOSE_TIMEOUT_S)
        if write_undelivered(self.folder, left):
            log.warning(
                "MLflow did not take %d records of run %s; they are kept in %s. "
                "`guardianflow runs reap` sends them when the server answers again.",
                len(left), self.run_id, self.folder / UNDELIVERED,
            )  # fmt: skip

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._records.beat(self.run_id)
            except Exception as error:  # noqa: BLE001 - a missed beat must not end a run
                log.debug("heartbeat could not be written: %s", error)


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The terminal status and reason that an error means for a run."""
    signum = getattr(error, "signum", None)
    if isinstance(error, KeyboardInterrupt) or signum == 2:
        return RunStatus.KILLED, "interrupted by Ctrl-C"
    if signum is not None:
        return RunStatus.KILLED, f"ended by signal {signum}"
    return RunStatus.FAILED, f"{type(error).__name__}: {error}"


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"a": {"b": 1}}`` → ``{"a.b": "1"}``; values cut at 500 characters, ``None`` left out."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten_params(value, f"{name}."))
        elif value is not None:
            text = str(value)
            flat[legal_metric_name(name)] = text if len(text) <= _MAX_PARAM else text[: _MAX_PARAM - 1] + "…"
    return flat


def redact(params: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without secrets: values under secret-like names, and passwords inside URLs."""
    clean: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            clean[str(key)] = redact(value)
        elif _SECRET_NAME.search(str(key)) and value not in (None, ""):
            clean[str(key)] = "***"
        elif isinstance(value, str):
            clean[str(key)] = mask_secrets(value)
        elif isinstance(value, (list, tuple)):
            clean[str(key)] = [mask_secrets(item) if isinstance(item, str) else item for item in value]
        else:
            clean[str(key)] = value
    return clean


def folder_name(name: str) -> str:
    """A folder name that any file system takes; two different names never share one."""
    last = len(name) - 1
    encoded = "".join(
        char
        if char.isalnum() or char in "-_~+,=&()" or (char in ". " and 0 < place < last)
        else "".join(f"%{byte:02X}" for byte in char.encode())
        for place, char in enumerate(name)
    )
    if len(encoded.encode()) <= _MAX_FOLDER:
        return encoded
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return encoded.encode()[: _MAX_FOLDER - 13].decode(errors="ignore") + "-" + digest


def environment_facts() -> dict[str, Any]:
    """Python, platform and installed packages, for the run's ``environment.json``."""
    packages = {dist.metadata["Name"]: dist.version for dist in metadata.distributions() if dist.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def reap(settings: Settings, *, dry_run: bool = False) -> list[RunRecord]:
    """End every run whose process died, and send what dead servers had missed.

    Args:
        settings: Where the runs are.
        dry_run: Only say which.

    Returns:
        The runs that were (or would be) ended, with their new status.
    """
    records = RunRecords(Database.open(settings.database_url))
    now = datetime.now(UTC)
    dead = [
        record
        for record in records.list(status=RunStatus.RUNNING, limit=100_000)
        if not record.owner.lives(record.heartbeat, now)
    ]
    reason = "its process died without ending the run"
    if dry_run:
        return dead
    client = make_client(settings)
    ended = []
    for record in dead:
        if records.finish(record.run_id, RunStatus.FAILED, reason):
            ended.append(records.get(record.run_id))
            operations = [
                Operation("tags", record.run_id, {"tags": {TAG + "reason": reason}}),
                Operation("status", record.run_id, {"status": RunStatus.FAILED, "end_time": int(now.timestamp() * 1000)}),
            ]
            write_undelivered(record.folder, operations)
    send_left_over(settings, client)
    return ended


def send_left_over(settings: Settings, client: MlflowClient | None = None) -> int:
    """Send what earlier runs could not; stops at the first failure. Returns the number sent."""
    send = _sender(client or make_client(settings))
    sent = 0
    for path in sorted(settings.runs_dir.glob(f"*/*/{UNDELIVERED}")):
        left = read_undelivered(path.parent)
        while left:
            try:
                send(left[0])
            except Exception as error:
                if not _is_final(error):
                    log.warning("MLflow still can't be reached (%s); %s is kept", error, path)
                    return sent
                log.warning("MLflow refused %s of run %s for good: %s", left[0].kind, left[0].run_id, error)
            left.pop(0)
            sent += 1
        path.unlink()
    return sent


def _sender(client: MlflowClient) -> Callable[[Operation], None]:
    def send_params(run_id: str, payload: dict[str, Any]) -> None:
        from mlflow.entities import Param

        known = client.get_run(run_id).data.params
        # A parameter can't change within a run (a resumed one may ask for another device, say).
        fresh = {key: value for key, value in payload["params"].items() if key not in known}
        client.log_batch(run_id, params=[Param(key, value) for key, value in fresh.items()])
        changed = {k: v for k, v in payload["params"].items() if k in known and known[k] != v}
        for key, value in changed.items():
            client.set_tag(run_id, f"{TAG}resumed_with.{key}", value)

    def send_metrics(run_id: str, payload: dict[str, Any]) -> None:
        from mlflow.entities import Metric

        client.log_batch(run_id, metrics=[Metric(*row) for row in payload["metrics"]])

    def send_tags(run_id: str, payload: dict[str, Any]) -> None:
        from mlflow.entities import RunTag

        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in payload["tags"].items()])

    def send_artifact(run_id: str, payload: dict[str, Any]) -> None:
        path = Path(payload["path"])
        if path.is_dir():
            client.log_artifacts(run_id, str(path), payload["folder"])
        elif path.exists():
            client.log_artifact(run_id, str(path), payload["folder"])

    def send_status(run_id: str, payload: dict[str, Any]) -> None:
        client.set_terminated(run_id, status=payload["status"], end_time=payload["end_time"])

    senders = {
        "params": send_params,
        "metrics": send_metrics,
        "tags": send_tags,
        "artifact": send_artifact,
        "status": send_status,
    }

    def send(operation: Operation) -> None:
        senders[operation.kind](operation.run_id, operation.payload)

    return send


def _is_final(error: Exception) -> bool:
    """Whether MLflow understood the request and will never accept it."""
    code = getattr(error, "error_code", None)
    return code in {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"} or isinstance(
        error, (TypeError, KeyError)
    )


def _ensure_experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    from mlflow.exceptions import MlflowException

    for _ in range(3):
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "active":
            return str(found.experiment_id)
        if found is not None:
            raise InputError(
                f"experiment {name!r} was deleted in MLflow; restore it there "
                f"(`mlflow experiments restore -x {found.experiment_id}`) or use another name"
            )
        location = None
        if settings.is_embedded:
            # MLflow's own default would be ./mlruns of whatever folder we happen to be in.
            location = (settings.work_dir / "artifacts" / folder_name(name)).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise TrackingUnavailableError(f"experiment {name!r} could neither be found nor created in MLflow; try again")


def _start_tags(
    settings: Settings, kind: str, again_of: str | None, tags: Mapping[str, str] | None
) -> dict[str, str]:
    from guardianflow import __version__

    found = {
        "mlflow.user": settings.actor,
        "mlflow.source.name": "guardianflow",
        "mlflow.source.type": "LOCAL",
        TAG + "kind": kind,
        TAG + "version": __version__,
        **git_facts(settings.experiments_base),
        **(tags or {}),
    }
    if again_of:
        found[TAG + "again_of"] = again_of
    return found


def git_facts(folder: Path) -> dict[str, str]:
    """The commit of the user's own code and whether it has uncommitted changes; empty outside git."""
    facts: dict[str, str] = {}
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        facts["mlflow.source.git.commit"] = commit
        facts[TAG + "git_dirty"] = str(bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))).lower()
    return facts


def _git(folder: Path, *args: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(folder), *args],  # noqa: S607 - the user's own git
            capture_output=True, text=True, timeout=3, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _unavailable(settings: Settings, error: Exception) -> TrackingUnavailableError:
    return TrackingUnavailableError(
        f"MLflow at {mask_secrets(settings.mlflow_tracking_uri)} can't be used: {mask_secrets(str(error)[:300])}. "
        "Start it, or correct MLFLOW_TRACKING_URI; `guardianflow doctor` checks it."
    )


def _batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2, default=str)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path
