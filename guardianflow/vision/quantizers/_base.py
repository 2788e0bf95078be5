"""What a quantizer does: from a model file to the same model with narrower numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from guardianflow.exceptions import InputError
from guardianflow.vision.model_artifacts import ModelFile

if TYPE_CHECKING:
    from guardianflow.vision.backends._base import Backend
    from guardianflow.vision.quantizers.calibration import CalibrationSet

__all__ = ["Accuracy", "QuantizationOptions", "QuantizedModel", "Quantizer", "exported", "needs_calibration"]

Accuracy: TypeAlias = "Callable[[Backend], float]"
"""How good a model is, by its mAP50-95: what accuracy-aware quantization asks of every trial."""


@dataclass(frozen=True)
class QuantizationOptions:
    """How a model is quantized.

    Attributes:
        precision: ``int8``, ``fp16`` or ``bf16``; see the catalogue for who can.
        imgsz: Side of the square input, in pixels.
        calibration_method: How activations are ranged: ``minmax``, ``entropy`` or ``percentile``.
        per_channel: One scale a channel of the weights instead of one a tensor.
        max_drop: Greatest loss of mAP50-95 that is allowed (absolute); 0: none is asked for.
        device: Where an engine is built, as for a backend.
        exports: Folder of cached exports; ``None``: below the folder of the artifact.
        accuracy: Judge of a trial; needed where ``max_drop`` is set.
    """

    precision: str = "int8"
    imgsz: int = 640
    calibration_method: str = "minmax"
    per_channel: bool = True
    max_drop: float = 0.0
    device: str = ""
    exports: Path | None = None
    accuracy: Accuracy | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: what the artifact depends on."""
        apart = {"accuracy", "exports"}
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in apart}


@dataclass(frozen=True)
class QuantizedModel:
    """What a quantizer made.

    Attributes:
        model: The artifact, which the backend of the quantizer's name loads.
        facts: What was done, as plain JSON types: counts of quantized layers, what was left out, versions.
    """

    model: ModelFile
    facts: Mapping[str, Any] = field(default_factory=dict)


class Quantizer(ABC):
    """Makes one kind of artifact; its name is the name of the backend that serves it."""

    name: str

    @abstractmethod
    def quantize(
        self, model: ModelFile, calibration: CalibrationSet | None, options: QuantizationOptions, folder: Path
    ) -> QuantizedModel:
        """Make the variant.

        Args:
            model: The original: weights (``torch``), or an export that the runtime reads.
            calibration: Images that show the range of the activations; needed for ``int8``.
            options: How.
            folder: Where the artifact and what leads to it are written; made if it isn't there.

        Returns:
            The artifact. Class names, side and stride are kept in it.

        Raises:
            InputError: The precision is not one of this quantizer's, or calibration images are missing.
            MissingDependencyError: A package is missing; the message names the extra.
            ModelFileError: The model can't be exported.
        """


def exported(
    model: ModelFile,
    options: QuantizationOptions,
    folder: Path,
    *,
    backend: str = "onnxruntime",
    precision: str = "fp32",
) -> ModelFile:
    """The file that a backend loads; see :func:`guardianflow.vision.export.prepare_model`."""
    from guardianflow.vision.export import prepare_model

    exports = options.exports or folder / "exports"
    return prepare_model(model, backend=backend, precision=precision, imgsz=options.imgsz, folder=exports)


def needs_calibration(options: QuantizationOptions, calibration: CalibrationSet | None) -> CalibrationSet:
    """The calibration images of an int8 quantization.

    Raises:
        InputError: There are none.
    """
    if calibration is None or not len(calibration):
        raise InputError(
            f"{options.precision} needs calibration images, which show how large the activations get, and none were "
            "given; draw some from the training split with draw_calibration_set(…)"
        )
    return calibration
