"""MLflow's model registry as we need it: a few calls, each with an error that says what to do."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from guardianflow.core.config import Settings, sqlite_path
from guardianflow.exceptions import GuardianFlowError, NotFoundError, TrackingUnavailableError
from guardianflow.files.scratch import ScratchFolder
from guardianflow.registry.mlmodel import MLmodel
from guardianflow.runs.mlflow_runs import local_folder, make_client, pages
from guardianflow.runs.tracking_store import explain_failure
from guardianflow.text.command_lines import command

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["ARTIFACT_TAG", "FINGERPRINT_TAG", "SHA256_TAG", "MlflowRegistry"]

SHA256_TAG = "guardianflow.sha256"
ARTIFACT_TAG = "guardianflow.artifact"
FINGERPRINT_TAG = "guardianflow.dataset_fingerprint"

T = TypeVar("T")

_GONE = "RESOURCE_DOES_NOT_EXIST"
# An SQL store's "database is locked" and its lost race for a first row: gone a moment later.
_TRANSIENT = ("TEMPORARILY_UNAVAILABLE", "BAD_REQUEST")
_SAID_GONE = re.compile(r"\b404 Client Error|\(404\) when calling|\(NoSuchKey\)")  # by a store over HTTP, or by S3
_PAUSES = (0.05, 0.2, 0.5)


class MlflowRegistry:
    """MLflow's registry and the artifacts of its runs.

    Args:
        settings: Names the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[int, MlflowClient] = {}

    @property
    def client(self) -> MlflowClient:
        """The client of this process; a forked child gets its own."""
        pid = os.getpid()
        if pid not in self._clients:
            os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            self._clients[pid] = make_client(self._settings)
        return self._clients[pid]

    def run(self, run_id: str) -> Any:
        """A run that isn't deleted.

        Raises:
            NotFoundError: There is none.
            TrackingUnavailableError: MLflow doesn't answer; so do all calls here.
        """
        advice = "`guardianflow list runs` shows the known ones"
        found = self._ask(lambda: self.client.get_run(run_id), gone=f"MLflow has no run {run_id!r}; {advice}")
        if found.info.lifecycle_stage != "active":
            raise NotFoundError(f"run {run_id} was deleted in MLflow; restore it there, or take another: {advice}")
        return found

    @contextlib.contextmanager
    def artifact(self, run_id: str, artifact: str, *, registered: bool = False) -> Iterator[Path]:
        """A run's artifact as a local path, for the length of the block: in place, or a copy of a remote one.

        Args:
            run_id: The run.
            artifact: Path within its artifacts.
            registered: It was there once, so a store that holds nothing at all is one that isn't mounted.

        Raises:
            NotFoundError: The run has no such file or folder.
        """
        run = self.run(run_id)
        missing = f"run {run_id} has no artifact {artifact!r}; the page of the run in MLflow lists what there is"
        root = local_folder(run.info.artifact_uri)
        if root is not None:
            if registered:
                _require_store(root)
            yield _within(root, artifact, missing)
            return
        with ScratchFolder("registry") as scratch:
            found = self._ask(lambda: self._download(run, artifact, str(scratch)), gone=missing)
            if not Path(found).exists():
                raise NotFoundError(missing)
            yield Path(found)

    def aliases(self, name: str) -> dict[str, str]:
        """Alias → version of a registered model.

        Raises:
            NotFoundError: MLflow has no such model.
        """
        model = self._ask(
            lambda: self.client.get_registered_model(name),
            gone=f"model {name!r} was deleted in MLflow, outside of GuardianFlow; register one of its runs again",
        )
        return {alias: str(version) for alias, version in model.aliases.items()}

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version.

        Raises:
            NotFoundError: MLflow has no such version.
        """
        self._ask(
            lambda: self.client.set_registered_model_alias(name, alias, version), gone=_lost_version(name, version)
        )

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias, if it is there."""
        with contextlib.suppress(NotFoundError):
            self._ask(lambda: self.client.delete_registered_model_alias(name, alias), gone="")

    def require_version(self, name: str, version: str) -> None:
        """Make sure that MLflow still has a version.

        Raises:
            NotFoundError: Somebody deleted it there.
        """
        self._ask(lambda: self.client.get_model_version(name, version), gone=_lost_version(name, version))

    def run_of_version(self, name: str, version: str) -> str | None:
        """The run that a version was made from, empty where it names none; ``None`` where there is no version."""
        try:
            found = self._ask(lambda: self.client.get_model_version(name, version), gone="")
        except NotFoundError:
            return None
        return str(found.run_id or "")

    def models_with(self, aliases: Collection[str]) -> list[str]:
        """The models that have one of some aliases, by name."""
        found = self._find(lambda: list(self.client.search_registered_models(max_results=1000)))
        return sorted(model.name for model in found if not set(aliases).isdisjoint(model.aliases))

    def versions(self, name: str) -> list[Any]:
        """The versions of a model, each with its number, run, tags and time of creation."""
        quote = '"' if "'" in name else "'"
        return self._ask(lambda: list(self.client.search_model_versions(f"name = {quote}{name}{quote}")))

    def versions_of_run(self, name: str, run_id: str) -> list[tuple[str, Mapping[str, str]]]:
        """Number and tags of each version of a model that a run made."""
        found = self._ask(lambda: list(self.client.search_model_versions(f"run_id = '{run_id}'")))
        return [(str(item.version), dict(item.tags)) for item in found if item.name == name]

    def sources(self) -> list[str]:
        """Of every version of every model, whoever entered it: the run and the place that its file came from."""
        found = self._find(lambda: list(pages(self.client.search_model_versions)))
        return [f"{item.run_id or ''} {item.source or ''}" for item in found]

    def create_version(self, name: str, run_id: str, mlmodel: MLmodel, *, tags: Mapping[str, str]) -> str:
        """Enter a version, and the model where it is the first one; returns its number."""
        self._ask(lambda: self.client.log_text(run_id, mlmodel.text, f"{mlmodel.folder}/MLmodel"))
        self._ask(lambda: self._create_model(name))
        source = f"runs:/{run_id}/{mlmodel.folder}"
        create = self.client.create_model_version  # it is there at once: no file is copied that one could wait for
        created = self._ask(partial(create, name, source, run_id=run_id, tags=dict(tags), await_creation_for=0))
        return str(created.version)

    def delete_version(self, name: str, version: str) -> None:
        """Delete a version, if it is there."""
        with contextlib.suppress(NotFoundError):
            self._ask(lambda: self.client.delete_model_version(name, version), gone="")

    def _download(self, run: Any, artifact: str, folder: str) -> str:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        store = get_artifact_repository(run.info.artifact_uri, self._settings.mlflow_tracking_uri)
        try:
            return str(store.download_artifacts(artifact, folder))
        except Exception as error:
            if not _is_gone(error):  # the call below would take a store that doesn't answer for one without the file
                raise
        return str(self.client.download_artifacts(run.info.run_id, artifact, folder))  # of a model that the run logged

    def _create_model(self, name: str) -> None:
        try:
            self.client.create_registered_model(name)
        except Exception as error:
            if _code(error) != "RESOURCE_ALREADY_EXISTS":
                raise

    def _find(self, call: Callable[[], list[Any]]) -> list[Any]:
        """What a search finds: nothing where the embedded MLflow wasn't made yet, which asking it would do."""
        place = sqlite_path(self._settings.mlflow_tracking_uri)
        return [] if place is not None and not place.exists() else self._ask(call)

    def _ask(self, call: Callable[[], T], *, gone: str | None = None) -> T:
        for pause in (*_PAUSES, None):
            try:
                return call()
            except GuardianFlowError:
                raise
            except Exception as error:
                if gone is not None and _is_gone(error):
                    raise NotFoundError(gone) from error
                if pause is None or _code(error) not in _TRANSIENT:
                    raise explain_failure(error, self._settings) from error
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))


def _is_gone(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)  # an artifact asked for over HTTP
    return _code(error) == _GONE or status == 404 or bool(_SAID_GONE.search(str(error)))


def _lost_version(name: str, version: str) -> str:
    return (
        f"version {version} of model {name!r} was deleted in MLflow, outside of GuardianFlow; "
        f"promote another version, or register its run again (`{command('list', 'versions', name)}`)"
    )


def _require_store(root: Path) -> None:
    """Tell a store that can't be reached from a file that is gone from it."""
    store = root.parents[1]  # <store>/<run id>/artifacts
    with _readable(store):
        there = root.exists() or (store.is_dir() and any(store.iterdir()))
    if not there:
        raise TrackingUnavailableError(
            f"the artifact store can't be reached: {store} isn't there or is empty, so nothing says that the file is "
            "gone. Mount its disk, or bring the folder back."
        )


def _within(root: Path, artifact: str, missing: str) -> Path:
    with _readable(root / artifact):
        try:
            path = (root / artifact).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"{missing} (looked for {root / artifact})") from error
        if not path.is_relative_to(root.resolve()):
            raise NotFoundError(f"{missing} ({root / artifact} is a link that leads out of the run's artifacts)")
    return path


@contextlib.contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except GuardianFlowError:
        raise
    except (OSError, RuntimeError) as error:  # no right to look, a dead mount, links in a circle
        reason = getattr(error, "strerror", None) or error
        raise TrackingUnavailableError(
            f"the artifact store can't be read at {place} ({reason}). Check its mount and its rights, and try again."
        ) from error
