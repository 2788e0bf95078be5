"""The small file by which ``mlflow.pyfunc`` opens a version. It lies beside the weights, which are stored once."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from guardianflow.exceptions import InputError
from guardianflow.files.content import Measured
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.registry.model_cache import legal_artifact
from guardianflow.registry.model_records import ModelVersion
from guardianflow.vision.serving import Serving

__all__ = ["MLmodel", "asked_version"]

LOADER = "guardianflow.runners.pyfunc"
_ASKED_FOR = "registered_model_meta"  # MLflow's name of its note
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MLmodel:
    """The file.

    Attributes:
        folder: Where it lies among the artifacts of the run.
        text: What it says; JSON is YAML, too.
    """

    folder: str
    text: str

    @classmethod
    def of(cls, run_id: str, artifact: str, content: Measured, serving: Serving) -> Self:
        """The file of a version.

        Args:
            run_id: Its run.
            artifact: The model file or folder among the artifacts of the run.
            content: What that must hash to.
            serving: How it is served.
        """
        config = {
            "run_id": run_id, "artifact": artifact, "sha256": content.sha256, "size_bytes": content.size_bytes,
            "serving": {name: value for name, value in serving.to_dict().items() if value is not None},
            "confidence": 0.25,
        }  # fmt: skip
        flavor = {"loader_module": LOADER, "python_version": platform.python_version(), "config": config}
        key = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
        return cls(f"served/{key}", json.dumps({"run_id": run_id, "flavors": {"python_function": flavor}}, indent=1))


def asked_version(config: Mapping[str, Any], folder: Path) -> ModelVersion:
    """The version that an ``MLmodel`` stands for; its name and number are MLflow's, empty where it was told none.

    Raises:
        InputError: Its file says what we never write.
    """
    note = folder / _ASKED_FOR
    asked = load_yaml_mapping(note, what=_ASKED_FOR) if note.is_file() else {}
    sha256 = str(config.get("sha256"))
    if not _SHA256.fullmatch(sha256):
        raise InputError(f"{folder / 'MLmodel'} names no file of GuardianFlow's: its sha256 is {sha256[:80]!r}")
    return ModelVersion(
        name=str(asked.get("model_name", "")),
        version=str(asked.get("model_version", "")),
        run_id=str(config["run_id"]),
        artifact=legal_artifact(str(config["artifact"])),
        sha256=sha256,
        size_bytes=int(config["size_bytes"]),
        dataset_fingerprint=None,
        metrics={},
        status="ready",
        created=datetime.now(UTC),
        created_by="",
        serving=Serving(**config["serving"]),
    )
