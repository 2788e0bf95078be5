"""What we ask MLflow to do for runs: make them, take their records, say how they ended.

Calls go through ``MlflowClient`` with an explicit run id; MLflow's fluent API and its "active run"
play no part. MLflow's own time-outs are minutes long; here they are seconds.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, TrackingUnavailableError
from guardianflow.files.run_folder import folder_name
from guardianflow.runs.delivery import Operation, Refusal, batches, brief, upload_seconds
from guardianflow.runs.mlflow_answers import limit_answers
from guardianflow.runs.run_records import ProcessIdentity, RunStatus
from guardianflow.runs.tracking_store import explain_failure, no_mlflow, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["OWNER_TAG", "REASON_TAG", "TAG", "LeftRunning", "MlflowRuns", "local_folder", "make_client", "pages"]

log = logging.getLogger(__name__)

TAG = "guardianflow."
OWNER_TAG = TAG + "owner"
REASON_TAG = TAG + "reason"
TIMEOUT_S = 6
MOST_PAGES = 2000  # of a thousand runs each
PAGES_S = 300.0

_REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")


def make_client(settings: Settings) -> MlflowClient:
    """An MLflow client for the settings' server that gives up after seconds, not minutes.

    Raises:
        ConfigError: The store can't be opened (see :func:`~guardianflow.runs.tracking_store.open_store`).
        TrackingUnavailableError: The database behind it doesn't answer.
    """
    settings.export()
    open_store(settings)
    for name, value in (
        # Each request is sent twice at most: 13 s with a server that takes connections and says nothing.
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT_S)),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1"),
        ("PGCONNECT_TIMEOUT", "10"),
        # stdout is for data: with --json, for one document.
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        # Which models somebody trains is nobody else's business.
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ):
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    limit_answers()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Its errors are tracebacks; what they come to is said by us.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Each retry would be a warning of four lines; what it comes to is said by us.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    uri = settings.mlflow_tracking_uri
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except Exception as error:
        raise explain_failure(error, settings) from error


@dataclass(frozen=True)
class LeftRunning:
    """A run of ours that MLflow shows as RUNNING.

    Attributes:
        run_id: The run.
        owner: The process that made it; ``None`` where the tag can't be read.
    """

    run_id: str
    owner: ProcessIdentity | None


class MlflowRuns:
    """The runs of one MLflow.

    Args:
        settings: Which MLflow.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = make_client(settings)

    def create(self, experiment: str, name: str | None, tags: Mapping[str, str]) -> str:
        """Make a run and return its id; the experiment is made if it isn't there.

        Raises:
            InputError: The experiment was deleted in MLflow.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        with self._explained():
            run = self._client.create_run(self.ensure_experiment(experiment), run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def ensure_experiment(self, name: str) -> str:
        """The id of an experiment, made if it isn't there; two processes at once get the same one.

        Raises:
            InputError: It was deleted in MLflow.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        from mlflow.exceptions import MlflowException

        for _ in range(3):
            with self._explained():
                found = self._client.get_experiment_by_name(name)
            if found is not None and not found.experiment_id:  # what MLflow makes of an empty answer
                raise no_mlflow(self._settings, "its answers are empty")
            if found is not None and found.lifecycle_stage == "active":
                return str(found.experiment_id)
            if found is not None:
                raise InputError(
                    f"experiment {name!r} was deleted in MLflow; restore it there "
                    f"(`mlflow experiments restore -x {found.experiment_id}`) or use another name"
                )
            try:
                with self._explained(but=("RESOURCE_ALREADY_EXISTS",)):
                    return str(self._client.create_experiment(name, artifact_location=self._artifacts_of(name)))
            except MlflowException:
                continue  # another process was faster
        raise TrackingUnavailableError(f"experiment {name!r} could neither be found nor created in MLflow; try again")

    def reopen(self, run_id: str) -> None:
        """Show a run that had ended as RUNNING again.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer.
        """
        owner = json.dumps(vars(ProcessIdentity.current()))
        with self._explained():
            self._client.update_run(run_id, status=RunStatus.RUNNING)
            self._client.set_tag(run_id, OWNER_TAG, owner)
            if REASON_TAG in self._client.get_run(run_id).data.tags:
                self._client.delete_tag(run_id, REASON_TAG)

    def answers(self) -> bool:
        """Whether MLflow answers at all."""
        try:
            self._client.search_experiments(max_results=1)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            log.debug("MLflow does not answer: %s", error)
            return False
        return True

    def ended_as(self, run_id: str) -> tuple[str, str | None] | None:
        """The terminal status of a run and the reason; ``None`` while MLflow shows it as RUNNING.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer.
        """
        with self._explained():
            run = self._client.get_run(run_id)
        if run.info.status not in (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED):
            return None
        return str(run.info.status), run.data.tags.get(REASON_TAG)

    def left_running(self) -> Iterator[LeftRunning]:
        """The runs made by GuardianFlow that MLflow shows as RUNNING.

        Raises:
            TrackingUnavailableError: MLflow doesn't answer.
        """
        with self._explained():
            for run in self._search(f"attributes.status = 'RUNNING' and tags.`{OWNER_TAG}` LIKE '%'"):
                yield LeftRunning(run.info.run_id, _parsed_owner(run.data.tags.get(OWNER_TAG, "")))

    def send(self, operation: Operation) -> Sequence[Refusal]:
        """Send one operation; sending it again has no further effect.

        Returns:
            What of it MLflow refused for good; the rest of it has arrived.

        Raises:
            Exception: MLflow didn't answer, or not now; trying again may help.
        """
        try:
            send: Callable[[Operation], Sequence[Refusal]] = getattr(self, f"_send_{operation.kind}")
            return send(operation)
        except Exception as error:
            if not _is_refusal(error):
                raise
            return [Refusal(operation, brief(error))]

    def _send_params(self, operation: Operation) -> Sequence[Refusal]:
        from mlflow.entities import Param

        run_id, asked = operation.run_id, operation.payload["params"]
        known = self._client.get_run(run_id).data.params
        # A parameter can't change within a run, and a conflict would reject the whole batch.
        fresh = [(Param(key, value), {key: value}) for key, value in asked.items() if key not in known]
        refused = self._log(operation, fresh)
        for key, value in asked.items():
            if key in known and known[key] != value:  # a resumed run may ask for another device, say
                self._client.set_tag(run_id, f"{TAG}resumed_with.{key}"[:250], value)
        return refused

    def _send_metrics(self, operation: Operation) -> Sequence[Refusal]:
        from mlflow.entities import Metric

        return self._log(operation, [(Metric(*row), [row]) for row in operation.payload["metrics"]])

    def _send_tags(self, operation: Operation) -> Sequence[Refusal]:
        from mlflow.entities import RunTag

        tags = operation.payload["tags"]
        return self._log(operation, [(RunTag(key, value), {key: value}) for key, value in tags.items()])

    def _send_artifact(self, operation: Operation) -> Sequence[Refusal]:
        path, folder = Path(operation.payload["path"]), operation.payload["folder"]
        if not path.exists():
            return [Refusal(operation, f"{path} is no longer there")]
        with _time_for(upload_seconds(operation)):
            if path.is_dir():
                self._client.log_artifacts(operation.run_id, str(path), folder)
            else:
                self._client.log_artifact(operation.run_id, str(path), folder)
        return ()

    def _send_status(self, operation: Operation) -> Sequence[Refusal]:
        asked = operation.payload
        self._client.set_terminated(operation.run_id, status=asked["status"], end_time=asked["end_time"])
        return ()

    def _log(self, operation: Operation, items: Sequence[tuple[Any, Any]]) -> list[Refusal]:
        """Log a batch; where MLflow refuses it, one by one, so that only what is wrong is lost.

        Args:
            operation: What the items are of.
            items: Each as MLflow takes it, and the part of the operation that it is.
        """
        if not items:
            return []
        try:
            self._client.log_batch(operation.run_id, **{operation.kind: [item for item, _ in items]})
        except Exception as error:
            if not _is_refusal(error) or _code(error) == "RESOURCE_DOES_NOT_EXIST":
                raise
            if len(items) == 1:
                return [Refusal(replace(operation, payload={operation.kind: items[0][1]}), brief(error))]
            return [refusal for item in items for refusal in self._log(operation, [item])]
        return []

    def _artifacts_of(self, experiment: str) -> str | None:
        if not self._settings.is_embedded:
            return None  # the server decides
        # MLflow's own default would be ./mlruns of whatever folder we happen to be in.
        return (self._settings.work_dir / "artifacts" / folder_name(experiment)).as_uri()

    def _experiments(self) -> dict[str, str]:
        """Id → name."""
        return {found.experiment_id: str(found.name) for found in pages(self._client.search_experiments)}

    def _search(self, wanted: str, experiments: Iterable[str] | None = None) -> Iterator[Any]:
        """The runs that a filter of MLflow's finds, in some experiments or all."""
        for some in batches(self._experiments() if experiments is None else experiments, 100):
            yield from pages(self._client.search_runs, experiment_ids=some, filter_string=wanted)

    @contextlib.contextmanager
    def _explained(self, but: Sequence[str] = ()) -> Iterator[None]:
        try:
            yield
        except GuardianFlowError:
            raise
        except Exception as error:
            if _code(error) in but:
                raise
            raise explain_failure(error, self._settings) from error


def pages(search: Any, **query: Any) -> Iterator[Any]:
    """What a search of MLflow's finds, on however many pages.

    Raises:
        TrackingUnavailableError: They have no end.
    """
    token, waited = None, 0.0
    for _ in range(MOST_PAGES):
        began = time.monotonic()
        page = search(**query, page_token=token)
        waited += time.monotonic() - began
        yield from page
        token = page.token
        if not token:
            return
        if waited > PAGES_S:
            break
    raise TrackingUnavailableError(
        f"MLflow's list has no end: another page was promised after {MOST_PAGES:,} pages or {PAGES_S:.0f} s. Look at "
        "what answers at MLFLOW_TRACKING_URI: `guardianflow doctor` checks it"
    )


def local_folder(uri: str) -> Path | None:
    """Where artifacts lie, if on this machine."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if not parts.scheme or (len(parts.scheme) == 1 and os.name == "nt"):  # C:\\… is no URL
        return Path(uri)
    return None


def _code(error: Exception) -> str | None:
    return getattr(error, "error_code", None)


def _is_refusal(error: Exception) -> bool:
    """Whether MLflow understood the request and will never accept it."""
    return _code(error) in _REFUSED


def _parsed_owner(text: str) -> ProcessIdentity | None:
    try:
        return ProcessIdentity(**json.loads(text))
    except (ValueError, TypeError):
        return None


@contextlib.contextmanager
def _time_for(seconds: float) -> Iterator[None]:
    """A server that stores a large upload elsewhere answers late; MLflow reads its limit from the environment."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ.get(name, "")
    needed = TIMEOUT_S + int(seconds)
    if seconds < 1 or not before.isdigit() or int(before) >= needed:
        yield
        return
    os.environ[name] = str(needed)
    try:
        yield
    finally:
        os.environ[name] = before
