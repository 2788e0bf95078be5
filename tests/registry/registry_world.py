"""A real MLflow and a real state database for tests of the registry, with models of a few bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow import MlflowClient

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.registry.gate import Gate
from guardianflow.registry.model_records import ALIASES
from guardianflow.registry.registration import Admission
from guardianflow.vision.serving import Serving


def loads(path: Path) -> None:
    """A preflight without torch: a weights file of ours begins with ``weights``."""
    if not path.read_bytes().startswith(b"weights"):
        raise ValueError("no weights")


def admits(path: Path, asked: Serving | None) -> Serving:
    """An admission of files of a few bytes, which no benchmark would take: the name says how they are served."""
    named = Serving("onnxruntime", format="onnx") if path.suffix == ".onnx" else Serving()
    return asked or named


class World:
    """Settings, MLflow client and registry over one MLflow and one state database."""

    def __init__(self, folder: Path, *, mlflow_uri: str, database_url: str) -> None:
        self.folder = folder
        self.settings = Settings(
            work_dir=folder / "작업 work", mlflow_tracking_uri=mlflow_uri, database_url=database_url, actor="kim"
        )
        self.client = MlflowClient(mlflow_uri, mlflow_uri)
        self._contents = itertools.count(1)
        self._experiment = self.client.create_experiment(
            f"tests {folder.name}", artifact_location=(folder / "artifacts").as_uri()
        )
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def clock(self) -> datetime:
        """A second passes at each look."""
        self.now += timedelta(seconds=1)
        return self.now

    def registry(
        self,
        *,
        actor: str | None = None,
        preflight: Callable[[Path], None] | str = loads,
        gate: Gate | str | None = "off",
        admission: Admission | str = admits,
        **settings: object,
    ) -> ModelRegistry:
        """A registry whose gate is off, for there is no evidence of files of a few bytes."""
        changed = self.settings.model_copy(update=settings)
        return ModelRegistry(
            changed, actor=actor, clock=self.clock, preflight=preflight, gate=gate, admission=admission
        )

    def run(self, content: bytes | None = None, *, artifact: str = "weights/best.pt", **tags: str) -> str:
        """A run with a model file; returns its id."""
        run = self.client.create_run(
            self._experiment, tags={f"guardianflow.{key}": value for key, value in tags.items()}
        )
        path = self.folder / "made here" / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or b"weights %d" % next(self._contents))
        parent = str(Path(artifact).parent)
        self.client.log_artifact(run.info.run_id, str(path), None if parent == "." else parent)
        return str(run.info.run_id)

    def artifact_path(self, run_id: str, artifact: str = "weights/best.pt") -> Path:
        """The file in the artifact store itself."""
        root = url2pathname(urlsplit(self.client.get_run(run_id).info.artifact_uri).path)
        return Path(root) / artifact

    def mlflow_aliases(self, name: str) -> dict[str, str]:
        """Our aliases as MLflow shows them."""
        found = self.client.get_registered_model(name).aliases
        return {alias: str(version) for alias, version in found.items() if alias in ALIASES}
