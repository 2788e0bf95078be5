"""The artifacts that runs of ours have in MLflow: how large they are, and the removal of some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.files.removal import remove_inside, size_inside
from guardianflow.runs.mlflow_runs import OWNER_TAG, local_folder, make_client
from guardianflow.runs.tracking_store import explain_failure

__all__ = ["RunArtifacts"]


class RunArtifacts:
    """The artifacts of one MLflow's runs.

    Ours are those of runs that GuardianFlow made. On this machine they lie in the work folder, and nothing else is
    touched; those that lie behind a server, or in S3, MLflow removes.

    Args:
        settings: Which MLflow.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = settings.work_dir / "artifacts"
        self._client = make_client(settings)

    def sizes(self, run_id: str) -> Mapping[str, int] | None:
        """Folder among a run's artifacts → bytes; ``None`` where they are not ours.

        Raises:
            OSError: They can't be read here.
            TrackingUnavailableError: MLflow or its store doesn't answer.
        """
        uri = self._uri(run_id)
        root = self._local(uri)
        if root is not None:
            sizes = {item.name: size_inside(self._store, item) for item in root.iterdir()} if root.is_dir() else {}
            return {name: size for name, size in sizes.items() if size is not None}
        if not uri:
            return None
        try:
            return {item.path: self._size(run_id, item.path) for item in self._list(run_id) if item.is_dir}
        except Exception as error:
            raise explain_failure(error, self._settings) from error

    def remove(self, run_id: str, folder: str) -> None:
        """Remove a folder of a run's artifacts; one that isn't there, or isn't ours, is no error.

        Raises:
            OSError: It can't be removed here.
            TrackingUnavailableError: MLflow or its store doesn't do it.
        """
        uri = self._uri(run_id)
        root = self._local(uri)
        if root is not None:
            remove_inside(self._store, root / folder)
        elif uri:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            try:
                get_artifact_repository(uri, self._settings.mlflow_tracking_uri).delete_artifacts(folder)
            except Exception as error:
                raise explain_failure(error, self._settings) from error

    def _uri(self, run_id: str) -> str:
        """Where the artifacts of a run lie; empty for a run that MLflow doesn't have, and where they aren't ours."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""
            raise explain_failure(error, self._settings) from error
        uri = str(run.info.artifact_uri or "") if OWNER_TAG in run.data.tags else ""
        root = self._local(uri)
        return uri if root is None or root.absolute().is_relative_to(self._store.absolute()) else ""

    @staticmethod
    def _local(uri: str) -> Path | None:
        return local_folder(uri) if uri else None

    def _list(self, run_id: str, folder: str | None = None) -> list[Any]:
        return list(self._client.list_artifacts(run_id, folder))

    def _size(self, run_id: str, folder: str) -> int:
        found = self._list(run_id, folder)
        return sum(self._size(run_id, item.path) if item.is_dir else int(item.file_size or 0) for item in found)
