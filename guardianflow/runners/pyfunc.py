"""What ``mlflow.pyfunc.load_model("models:/NAME@champion")`` opens: the same model as :func:`guardianflow.load`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.registry.version_files import VersionFiles
from guardianflow.runners.loaded_model import Box, LoadedModel
from guardianflow.runners.model_source import FoundModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PyfuncModel"]


class PyfuncModel:
    """A version as MLflow calls it.

    Args:
        model: The opened model.
        confidence: Boxes at or below it are left out; ``load_model(…, model_config={"confidence": 0.4})`` sets it.
    """

    def __init__(self, model: LoadedModel, *, confidence: float) -> None:
        self.model = model
        self.confidence = confidence

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """The objects on one or more images.

        Args:
            model_input: A file, a PIL image or pixels (BGR, uint8 (H, W, 3)); a list of these, or a DataFrame whose
                first column has them.
            params: None are known; MLflow passes them.

        Returns:
            A row an object: ``image`` (place of its image in the input, from 0), ``source`` (its file, empty for
            pixels), ``name`` of its class, ``confidence`` (0–1), the edges ``x1``, ``y1``, ``x2``, ``y2`` in pixels of
            the image, and ``label``, the class id.

        Raises:
            InputError: An image can't be read.
        """
        import pandas as pd

        frames = []
        for place, image in enumerate(_images(model_input)):
            boxes = self.model.predict(image, confidence=self.confidence)
            frame = boxes.to_frame()
            frame.insert(0, "image", place)
            frame.insert(1, "source", boxes.source)
            frames.append(frame)
        columns = ["image", "source", *Box.__dataclass_fields__]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _images(given: Any) -> Iterable[Any]:
    if hasattr(given, "iloc"):
        return list(given.iloc[:, 0] if given.ndim > 1 else given)
    return given if isinstance(given, list | tuple) else [given]


def _load_pyfunc(data_path: str, model_config: Mapping[str, Any]) -> PyfuncModel:
    """MLflow's door: the file is fetched from the run, held against its hash, and opened as it is served."""
    version, path = VersionFiles.of_mlflow(model_config, Path(data_path))
    found = FoundModel(
        str(path),
        path,
        run_id=version.run_id,
        model_name=version.name,
        version=version.version,
        backend=version.serving.backend,
        precision=version.serving.precision,
        imgsz=version.serving.imgsz,
    )
    return PyfuncModel(LoadedModel(found), confidence=float(model_config["confidence"]))
