"""Which devices there are, and whether a wanted one is among them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from guardianflow.exceptions import InputError

__all__ = ["best_device", "check_device"]

# NVIDIA's cards and boards, WSL, AMD.
_GPU_NODES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
_FORM = re.compile(r"^(cpu|mps|\d+(,\d+)*|cuda(:\d+)?)?$")


def best_device() -> str:
    """What an empty device chooses: the first GPU, else the CPU."""
    # PyTorch takes seconds to import, and where the kernel knows no GPU there is nothing to ask it.
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in _GPU_NODES):
        return "cpu"
    import torch

    return "0" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """Refuse a device that isn't there, before a run exists.

    Args:
        device: ``""`` (choose), ``"cpu"``, ``"mps"``, ``"cuda"``, ``"cuda:0"``, ``"0"`` or ``"0,1"``.

    Raises:
        InputError: The form is unknown, or the machine has no such device.
    """
    text = device.strip().lower()
    if not _FORM.match(text):
        raise InputError(f"device {device!r} is not known; use cpu, mps, 0, or several GPUs as 0,1")
    if text in {"", "cpu"}:
        return
    import torch

    if text == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("device 'mps' is not available on this machine; use cpu")
        return
    count = torch.cuda.device_count()
    wanted = [int(number) for number in re.findall(r"\d+", text)] or [0]
    if max(wanted) >= count:
        have = f"it has {count}, numbered from 0" if count else "PyTorch sees none; use cpu, or check the driver"
        raise InputError(f"device {device!r} asks for GPU {max(wanted)} of this machine, but {have}")
