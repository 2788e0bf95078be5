"""The files of versions: whether the artifact store still has what was registered, and copies to work with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, RefusedError, TrackingUnavailableError
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.registry.mlmodel import asked_version
from guardianflow.registry.model_cache import ModelCache
from guardianflow.registry.model_records import ModelVersion

__all__ = ["VersionFiles"]


class VersionFiles:
    """Gets the files of versions out of the artifact store; what is handed on is the copy that was hashed.

    Args:
        mlflow: Where they are.
        cache: Where copies are kept.
    """

    def __init__(self, mlflow: MlflowRegistry, cache: ModelCache) -> None:
        self._mlflow = mlflow
        self._cache = cache

    def require(self, version: ModelVersion) -> Path:
        """Make sure that MLflow and its store have a version as it was registered; returns a copy of it.

        Raises:
            NotFoundError: MLflow no longer has the version, or the store its file.
            HashMismatchError: The file was changed after it was registered.
            TrackingUnavailableError: MLflow or the store doesn't answer, or the file can't be read.
        """
        self._mlflow.require_version(version.name, version.version)
        return self._fetch(version)

    def local(self, version: ModelVersion) -> Path:
        """A copy of a version's file on this machine; the store is asked only where there is none yet.

        Raises:
            NotFoundError: The file is gone; otherwise as :meth:`require`.
        """
        return self._cache.find(version) or self._fetch(version)

    def refuse_foreign(self, name: str, number: str) -> None:
        """Say what can't be known of a version that is in MLflow alone; silent where there is none.

        Raises:
            RefusedError: Another program entered it, so there is no hash of its file.
        """
        run_id = self._mlflow.run_of_version(name, number)
        if run_id is not None:
            run = run_id or "RUN_ID"
            raise RefusedError(
                f"version {number} of {name!r} was entered in MLflow by another program, so there is no hash of its "
                "file, and whether it is still the one that was entered can't be checked. Register its run: "
                f"`guardianflow register {name!r} --run {run}`; that makes a version whose file is checked."
            )

    @classmethod
    def of_mlflow(cls, config: Mapping[str, Any], folder: Path) -> tuple[ModelVersion, Path]:
        """A version and a copy of its file, by what its ``MLmodel`` says and MLflow alone, wherever that points now.

        Args:
            config: What :class:`~guardianflow.registry.mlmodel.MLmodel` wrote down.
            folder: Where MLflow has put that file, and beside it which version it was asked for.

        Raises:
            InputError: That was not written by us.
            NotFoundError: The file is gone; otherwise as :meth:`require`.
        """
        import mlflow

        settings = Settings(mlflow_tracking_uri=mlflow.get_tracking_uri())  # named by whoever asks, not by a file
        version = asked_version(config, folder)
        files = cls(MlflowRegistry(settings), ModelCache(settings.work_dir / "models"))
        return version, files.local(version)

    def _fetch(self, version: ModelVersion) -> Path:
        try:
            with self._mlflow.artifact(version.run_id, version.artifact, registered=True) as path:
                return self._cache.keep(path, version)
        except GuardianFlowError:
            raise
        except OSError as error:
            raise TrackingUnavailableError(
                f"the file of {version.name!r} version {version.version} can't be copied from the artifact store "
                f"({error}). Nothing says that it is gone: check the disk and its rights, and try again."
            ) from error
