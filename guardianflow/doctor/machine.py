"""What lies on this machine: packages, cores, GPUs, runtimes, disk, the notebook kernel."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from guardianflow._imports import is_installed
from guardianflow.core.config import Settings
from guardianflow.core.metrics import GpuMetrics, get_gpu_metrics
from guardianflow.doctor.report import Check
from guardianflow.vision.backends.catalog import BACKENDS, availability

__all__ = [
    "IMPORT_SECONDS",
    "check_backends",
    "check_devices",
    "check_disk",
    "check_kernel",
    "check_machine",
    "check_packages",
    "check_safe_load",
    "gpu_check",
    "installed_version",
]

IMPORT_SECONDS = 120.0  # torch from a cold disk
_LOW_DISK, _NO_DISK = 5e9, 0.5e9
_LOW_MEMORY = 2e9
_PACKAGES = ("torch", "torchvision", "ultralytics", "mlflow", "papermill", "sqlalchemy", "pandas", "numpy")


def check_packages(_: Settings) -> list[Check]:
    """Python, and the packages that every run needs."""
    found = {name: installed_version(name) for name in _PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    python = f"Python {platform.python_version()} ({platform.system()} {platform.machine()})"
    listed = f"guardianflow {installed_version('guardianflow') or 'from source'}, " + ", ".join(
        f"{name} {number}" for name, number in found.items() if number
    )
    if missing:
        advice = "Install GuardianFlow again: pip install --force-reinstall guardianflow"
        return [Check("python", "ok", python), Check("packages", "fail", f"missing: {', '.join(missing)}", advice)]
    return [Check("python", "ok", python), Check("packages", "ok", listed)]


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; ``None`` where it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_machine(_: Settings) -> list[Check]:
    """CPU cores that this process may use, and memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    detail = f"{cores} CPU cores, {memory.total / 1e9:.1f} GB memory, {memory.available / 1e9:.1f} GB of it free"
    if memory.available < _LOW_MEMORY:
        return [Check("machine", "warn", detail, "Close other programs, or train with a smaller --batch and --imgsz.")]
    return [Check("machine", "ok", detail)]


_TORCH_PROBE = """
import json, torch
print(json.dumps({"version": torch.__version__, "threads": torch.get_num_threads(), "cuda": torch.version.cuda,
                  "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}))
"""


def check_devices(_: Settings) -> list[Check]:
    """Torch in a process of its own: a broken driver may crash it, and its import holds up other threads."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TORCH_PROBE], capture_output=True, text=True, check=False, timeout=IMPORT_SECONDS
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return [Check("torch", "fail", f"torch can't be imported: {said[:300]}", "pip install --force-reinstall torch")]
    torch = json.loads(done.stdout.strip().splitlines()[-1])
    detail = f"torch {torch['version']}, {torch['threads']} threads, " + (
        f"built for CUDA {torch['cuda']}" if torch["cuda"] else "built without CUDA"
    )
    return [Check("torch", "ok", detail), gpu_check(torch["gpus"], torch["cuda"], get_gpu_metrics())]


def gpu_check(seen_by_torch: list[str], cuda: str | None, gpus: list[GpuMetrics]) -> Check:
    """Whether torch and NVML see the same GPUs.

    Args:
        seen_by_torch: Names of the GPUs that torch can use.
        cuda: The CUDA version that torch is built for.
        gpus: What NVML sees.
    """
    listed = ", ".join(f"{gpu.name} ({(gpu.gpu_mem_total_mb or 0) / 1000:.0f} GB)" for gpu in gpus)
    if seen_by_torch and not gpus:
        detail = f"torch sees {', '.join(seen_by_torch)}, but NVML can't be read: runs have no GPU figures"
        return Check("gpu", "warn", detail, "pip install 'guardianflow[gpu]'")
    if gpus and not seen_by_torch:
        advice = (
            "Check `nvidia-smi`, CUDA_VISIBLE_DEVICES and whether the driver is new enough."
            if cuda
            else "Install a torch that is built for CUDA: see pytorch.org/get-started."
        )
        return Check("gpu", "warn", f"{listed} is there, but torch can't use it", advice)
    if not gpus:
        return Check("gpu", "skip", "no NVIDIA GPU; the CPU is used")
    return Check("gpu", "ok", listed)


def check_backends(_: Settings) -> list[Check]:
    """The inference backends: what they compute at, or why they can't be used here. Torch has a check of its own."""
    return [_backend_check(name) for name in BACKENDS if name != "torch"]


def _backend_check(name: str) -> Check:
    spec, state = BACKENDS.get(name), availability(name)
    number = f"{name} {state.version}" if state.version else name
    if state.ok:
        return Check(name, "ok", f"{number}: {', '.join(spec.precisions)} on {', '.join(spec.devices)}")
    runtime = spec.packages[0]
    if state.version and not is_installed(runtime):
        advice = f"pip install --force-reinstall 'guardianflow[{spec.extra}]'" if spec.extra else "Install it again."
        return Check(name, "fail", f"{number} is listed as installed, but the module is not there", advice)
    return Check(name, "skip", state.reason)


def check_disk(
    settings: Settings, *, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> list[Check]:
    """Whether the work folder can be written, and for how long."""
    work = settings.work_dir
    place = next(folder for folder in (work, *work.parents) if folder.exists())
    move = "or set GUARDIANFLOW_WORK_DIR to another disk."
    if not place.is_dir():
        return [Check("disk", "fail", f"{place} is a file, not a folder", f"Move it away, {move}")]
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"guardianflow")
            probe.flush()
    except OSError as error:
        detail = f"nothing can be written into {place} ({error.strerror})"
        return [Check("disk", "fail", detail, f"Correct its permissions, {move}")]
    free = free_bytes(place)
    detail = f"{free / 1e9:.1f} GB free in {work}" + ("" if place == work else " (made by the first run)")
    if free < _NO_DISK:
        return [Check("disk", "fail", detail, f"A training can't be stored. Make room, {move}")]
    if free < _LOW_DISK:
        return [Check("disk", "warn", detail, f"A few trainings fill it. Make room, {move}")]
    return [Check("disk", "ok", detail)]


def check_kernel(_: Settings) -> list[Check]:
    """Whether Jupyter can start Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    advice = "pip install --force-reinstall ipykernel"
    if not is_installed("ipykernel"):
        return [Check("kernel", "fail", "ipykernel is missing, so no notebook can run", advice)]
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return [Check("kernel", "fail", "Jupyter has no kernel named python3", advice)]
    program = spec.argv[0] if spec.argv else ""
    major, minor = sys.version_info[:2]
    # For these names Jupyter starts the Python it runs in, also where PATH has none of them.
    if program not in {"python", f"python{major}", f"python{major}.{minor}"} and shutil.which(program) is None:
        detail = f"the kernel python3 starts {program!r}, which is not there; our own runs use this Python"
        return [Check("kernel", "warn", detail, f"{advice}; python -m ipykernel install --sys-prefix")]
    return [Check("kernel", "ok", f"python3 ({spec.display_name}), ipykernel {installed_version('ipykernel')}")]


def check_safe_load(_: Settings) -> list[Check]:
    """Whether weights are read without running the pickles inside them."""
    found = find_spec("ultralytics")
    source = Path(found.origin).parent / "utils/__init__.py" if found and found.origin else None
    if source is None or "ULTRALYTICS_SAFE_LOAD" not in source.read_text(encoding="utf-8"):
        detail = f"ultralytics {installed_version('ultralytics') or '(missing)'} has no safe loading of weights"
        return [Check("safe load", "fail", detail, "pip install --upgrade ultralytics")]
    if os.environ.get("ULTRALYTICS_SAFE_LOAD", "1") in ("0", "false", "False", ""):
        detail = "ULTRALYTICS_SAFE_LOAD is off: a foreign weights file can run code when it is loaded"
        return [Check("safe load", "warn", detail, "Unset ULTRALYTICS_SAFE_LOAD; then it is on.")]
    return [Check("safe load", "ok", "weights are read without running code from them")]
