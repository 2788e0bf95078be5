"""One inference with a weights file, to know that it works before it is put in charge."""

from __future__ import annotations

from pathlib import Path

from guardianflow.exceptions import ModelFileError
from guardianflow.vision.model_files import load_weights

__all__ = ["check_loads"]

_SIDE = 64


def check_loads(path: Path) -> None:
    """Load the weights and run them once on a grey image of 64×64 pixels.

    Raises:
        ModelFileError: They can't be loaded, fail, or give figures that are no numbers.
    """
    import torch

    model = load_weights(path)
    try:
        with torch.inference_mode():
            output = model(torch.full((1, 3, _SIDE, _SIDE), 0.5))
    except Exception as error:
        msg = f"weights {path} load, but fail on an image: {' '.join(str(error).split())[:200]}"
        raise ModelFileError(msg) from error
    first = output[0] if isinstance(output, (list, tuple)) else output
    if isinstance(first, torch.Tensor) and not bool(torch.isfinite(first).all()):
        msg = f"weights {path} give figures that are no numbers (NaN or infinite)"
        raise ModelFileError(msg)
