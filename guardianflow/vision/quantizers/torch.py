"""PyTorch: weights in half precision, as a checkpoint that reloads without running what is pickled in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import InputError
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantizers._base import QuantizationOptions, QuantizedModel, Quantizer

if TYPE_CHECKING:
    from guardianflow.vision.quantizers.calibration import CalibrationSet

__all__ = ["TorchQuantizer"]

# What a training keeps to go on with; a model in service needs none of it.
_LEFT_OUT = ("optimizer", "scaler", "ema", "updates", "best_fitness")


class TorchQuantizer(Quantizer):
    """Makes a ``.pt`` file that the backend ``torch`` loads, and Ultralytics, too.

    Ultralytics keeps its weights as fp16 already, so the file hardly changes; what changes is what the
    backend computes at. On a CPU without instructions for the half types that is no gain.
    """

    name = "torch"

    def quantize(
        self,
        model: ModelFile,
        calibration: CalibrationSet | None,  # noqa: ARG002 - rounding weights takes no images
        options: QuantizationOptions,
        folder: Path,
    ) -> QuantizedModel:
        """Round the weights; see :meth:`Quantizer.quantize`."""
        if model.format != "torch":
            msg = f"{model.path.name} is no .pt file, and {options.precision} for PyTorch is made of one; pass weights"
            raise InputError(msg)
        import torch

        from guardianflow.vision.model_files import load_checkpoint

        network, checkpoint = load_checkpoint(model.path)
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[options.precision]
        for parameter in network.parameters():
            parameter.requires_grad = False
        largest = max(float(item.abs().max()) for item in network.state_dict().values() if item.is_floating_point())
        if dtype is torch.float16 and largest > torch.finfo(dtype).max:
            raise InputError(f"the weights of {model.path.name} reach {largest:.3g}, more than fp16 can hold; use bf16")
        network.to(dtype)
        kept: dict[str, Any] = {key: value for key, value in checkpoint.items() if key not in _LEFT_OUT}
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{model.path.stem}-{options.precision}.pt"
        draft = target.with_suffix(".part")
        torch.save({**kept, "model": network, "ema": None}, draft)
        draft.replace(target)
        facts = {
            "tool": f"torch {torch.__version__}",
            "format": f"{options.precision} weights",
            "weights_before": model.precision,
            "largest_weight": largest,
        }
        return QuantizedModel(read_model_file(target), facts)
