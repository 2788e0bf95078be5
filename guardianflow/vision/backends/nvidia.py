"""Whether an NVIDIA driver is there, found without loading CUDA."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from guardianflow.exceptions import InputError

__all__ = ["driver_problem", "gpu_index"]

_SIGNS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libcuda.so.1")


def driver_problem() -> str:
    """Why no NVIDIA GPU can be used here; empty where one can."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    if sys.platform == "win32":
        found = (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    else:
        found = any(Path(sign).exists() for sign in _SIGNS)
    return "" if found else "no NVIDIA driver on this machine"


def gpu_index(device: str) -> int | None:
    """The number of the GPU that a device means; ``None`` for the CPU.

    Args:
        device: ``""`` (the first GPU), ``"cpu"``, ``"0"``, ``"cuda"`` or ``"cuda:0"``.

    Raises:
        InputError: Another form.
    """
    text = device.strip().lower()
    if text == "cpu":
        return None
    match = re.fullmatch(r"(?:cuda:?)?(\d*)", text)
    if match is None:
        raise InputError(f"device {device!r} is not known to this backend; use cpu, or the number of one GPU such as 0")
    return int(match[1] or 0)
