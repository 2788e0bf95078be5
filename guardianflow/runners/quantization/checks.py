"""What must hold before a quantization begins, and what its check found."""

from __future__ import annotations

from dataclasses import dataclass

from guardianflow.data.dataset import Dataset
from guardianflow.exceptions import InputError, MissingDependencyError
from guardianflow.runners.model_source import FoundModel
from guardianflow.scenario.schema import QuantizationScenario
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.quantizers.calibration import CalibrationSet
from guardianflow.vision.quantizers.catalog import QuantizerSpec

__all__ = ["PreparedQuantization", "require_backend", "require_full_precision"]

_SERVED_BY = {"torch": "torch", "onnx": "onnxruntime"}
"""What can be quantized, by the format of the model file, and what serves it."""


@dataclass(frozen=True)
class PreparedQuantization:
    """What the check of a quantization found.

    Attributes:
        found: Where the model comes from.
        model: Its file.
        quantizer: What makes the variant.
        dataset: The labelled images.
        fingerprint: Of the dataset.
        imgsz: Side of the square input, in pixels.
        calibration: Training images; ``None`` where none are needed.
    """

    found: FoundModel
    model: ModelFile
    quantizer: QuantizerSpec
    dataset: Dataset
    fingerprint: str
    imgsz: int
    calibration: CalibrationSet | None

    @property
    def served_by(self) -> str:
        """The backend that serves the original."""
        return _SERVED_BY[self.model.format]


def require_backend(name: str) -> None:
    """What is made must be served here, or it can't be compared.

    Raises:
        MissingDependencyError: Its backend can't run here.
    """
    from guardianflow.vision.backends.catalog import availability

    state = availability(name)
    if not state.ok:
        msg = f"the backend {name!r} can't run here ({state.reason}), so what it would serve can't be compared"
        raise MissingDependencyError(msg)


def require_full_precision(model: ModelFile, asked: QuantizationScenario) -> None:
    """Only an original can be quantized.

    Raises:
        InputError: It is a quantized model or an export.
    """
    if model.precision == "int8":
        raise InputError(f"the model {model.path.name} is int8 already; quantize the original that it was made from")
    if asked.run.backend == "torch" and model.format != "torch":
        raise InputError(
            f"{asked.env.precision} for torch is made of a .pt file, and {model.path.name} is {model.format}; "
            "pass weights"
        )
    if model.format not in _SERVED_BY:
        raise InputError(
            f"{model.path.name} ({model.format}) is an export itself; pass the .pt or .onnx file that it was made from"
        )
