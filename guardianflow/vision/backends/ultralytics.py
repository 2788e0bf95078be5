"""Every other format that Ultralytics loads, through its AutoBackend."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.exceptions import InputError, ModelFileError
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import Backend, BackendInfo, BackendOptions, check_images, check_open, one_line
from guardianflow.vision.backends.buffers import writable
from guardianflow.vision.backends.torch import device_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["UltralyticsBackend", "muted", "read_metadata"]


def read_metadata(path: Path) -> Mapping[str, Any]:
    """What an export says of itself; empty where it says nothing.

    The values come from JSON, YAML or Python literals; nothing in the file is run.
    """
    import_ultralytics()
    from ultralytics.nn.backends.base import BaseBackend

    found = BaseBackend.read_metadata(path)
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keep Ultralytics' messages off the screen."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


class UltralyticsBackend(Backend):
    """A model in whatever runtime AutoBackend chooses for its format.

    Args:
        model: TorchScript, NCNN, MNN, LiteRT …
        options: How to open it.

    Raises:
        InputError: It can't be opened on this machine; the reason is AutoBackend's.
    """

    def __init__(self, model: ModelFile, options: BackendOptions) -> None:
        super().__init__()
        ultralytics = import_ultralytics()
        import torch

        self._options = options
        self._device = torch.device(device_name(options.device))
        self._model = _load(model, self._device, fp16=options.precision == "fp16")
        self._threads = torch.get_num_threads()
        if options.threads:
            torch.set_num_threads(options.threads)
        self._info = BackendInfo(
            backend="ultralytics",
            version=str(ultralytics.__version__),
            device=str(self._device),
            precision_asked=options.precision,
            precision_executed=self._executed(model),
            input_shape=(0 if model.dynamic else model.batch, 3, options.imgsz, options.imgsz),
            threads=torch.get_num_threads(),
            requests=1,
            details={"format": str(self._model.format), "precision read from": "the file, not the runtime"},
        )

    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output; see :class:`Backend`."""
        import numpy as np
        import torch

        check_open(self._model is not None)
        check_images(images, batch=self._options.batch, imgsz=self._options.imgsz)
        with torch.inference_mode():
            output = self._model(torch.from_numpy(writable(images)).to(self._device))
        first = output[0] if isinstance(output, (list, tuple)) else output
        array = first.float().cpu().numpy() if isinstance(first, torch.Tensor) else np.asarray(first, np.float32)
        return np.ascontiguousarray(array)

    def close(self) -> None:
        """Let go of the model."""
        if self._model is None:
            return
        import torch

        self._model = None
        torch.set_num_threads(self._threads)

    def _executed(self, model: ModelFile) -> str:
        if model.precision == "int8":
            return "int8"
        return "fp16" if self._model.fp16 or model.precision == "fp16" else "fp32"


def _load(model: ModelFile, device: Any, *, fp16: bool) -> Any:
    from ultralytics.nn.autobackend import AutoBackend

    try:
        with muted():
            return AutoBackend(str(model.path), device=device, fp16=fp16, verbose=False)
    except (Exception, SystemExit) as error:
        msg = f"Ultralytics can't open {model.path} ({model.format}) here: {one_line(error)}"
        kind = ModelFileError if isinstance(error, (ValueError, RuntimeError, OSError)) else InputError
        raise kind(msg) from error
