"""What the machine does while a model works: CPU, memory and GPUs, read from outside.

No torch here: the GPU figures come from NVML (the package ``nvidia-ml-py``), so that a dashboard
or ``guardianflow doctor`` can show them without loading a runtime.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from guardianflow.exceptions import InputError

if TYPE_CHECKING:
    import psutil

__all__ = ["GpuMetrics", "MetricSummary", "SystemSample", "SystemSampler", "get_gpu_metrics", "usable_cores"]

log = logging.getLogger(__name__)

_ENOUGH_SAMPLES = 2
_SLIVER_S = 0.03
_JOIN_SECONDS = 5.0  # a driver call that hangs must not hold up the end of a run


@dataclass(frozen=True)
class GpuMetrics:
    """One GPU at one moment. A figure that this GPU or driver doesn't report is ``None``.

    Attributes:
        index: NVML's index: all GPUs of the machine, whatever ``CUDA_VISIBLE_DEVICES`` says.
        name: Product name.
        uuid: NVIDIA's unique id; it matches what ``CUDA_VISIBLE_DEVICES`` may hold.
        gpu_util: Share of the last sampling period in which a kernel ran, percent.
        gpu_mem_mb: Memory in use by all processes, MB (10^6 bytes).
        gpu_mem_total_mb: Memory of the GPU, MB (10^6 bytes).
        gpu_power_w: Power draw of the board, W.
        gpu_temp_c: Temperature of the die, °C.
        energy_j: Energy since the driver was loaded, J; the difference of two readings counts.
    """

    index: int
    name: str
    uuid: str | None = None
    gpu_util: float | None = None
    gpu_mem_mb: float | None = None
    gpu_mem_total_mb: float | None = None
    gpu_power_w: float | None = None
    gpu_temp_c: float | None = None
    energy_j: float | None = None


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def get_gpu_metrics(*, nvml: ModuleType | None = None) -> list[GpuMetrics]:
    """Read every NVIDIA GPU of this machine.

    Never raises: without the package (extra ``gpu``), the driver or a GPU the list is empty, and
    a GPU that fails in between is left out.

    Args:
        nvml: The NVML binding to ask; default ``pynvml``.
    """
    binding = nvml or _import_nvml()
    if binding is None:
        return []
    try:
        binding.nvmlInit()  # counted by NVML: every call needs its own shutdown
    except Exception as error:  # noqa: BLE001 - measuring must never end what is measured
        log.debug("NVML does not start: %s", error)
        return []
    try:
        count = int(binding.nvmlDeviceGetCount())
        gpus = [_read_gpu(binding, index) for index in range(count)]
        return [gpu for gpu in gpus if gpu is not None]
    except Exception as error:  # noqa: BLE001 - as above
        log.debug("NVML can't be read: %s", error)
        return []
    finally:
        _ask(binding.nvmlShutdown)


def _import_nvml() -> ModuleType | None:
    try:
        import pynvml
    except Exception as error:  # noqa: BLE001 - broken installations raise OSError and others from ctypes
        log.debug("pynvml can't be imported: %s", error)
        return None
    return pynvml  # type: ignore[no-any-return,unused-ignore]


def _read_gpu(nvml: ModuleType, index: int) -> GpuMetrics | None:
    device = _ask(nvml.nvmlDeviceGetHandleByIndex, index)
    if device is None:
        return None
    name, uuid = _ask(nvml.nvmlDeviceGetName, device), _ask(nvml.nvmlDeviceGetUUID, device)
    memory = _ask(nvml.nvmlDeviceGetMemoryInfo, device)
    load = _ask(nvml.nvmlDeviceGetUtilizationRates, device)
    return GpuMetrics(
        index=index,
        name=_text(name) or f"GPU {index}",
        uuid=_text(uuid),
        gpu_util=None if load is None else float(load.gpu),
        gpu_mem_mb=None if memory is None else float(memory.used) / 1e6,
        gpu_mem_total_mb=None if memory is None else float(memory.total) / 1e6,
        gpu_power_w=_scaled(_ask(nvml.nvmlDeviceGetPowerUsage, device), 1e-3),
        gpu_temp_c=_scaled(_ask(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU), 1.0),
        energy_j=_scaled(_ask(nvml.nvmlDeviceGetTotalEnergyConsumption, device), 1e-3),
    )


def _ask(call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or ``None``: boards, MIG slices and old drivers each lack some queries."""
    try:
        return call(*arguments)
    except Exception:  # noqa: BLE001 - NVMLError has a class for each reason, and all mean "unknown"
        return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor


@dataclass(frozen=True)
class SystemSample:
    """CPU, memory and GPUs at one moment.

    Attributes:
        time: Seconds since the epoch.
        cpu_util: CPU time of the process and its children since the sample before, percent of one
            core; ``None`` in the first sample.
        rss_mb: Resident memory of the process and its children, MB (10^6 bytes). Pages that they
            share are counted in each of them.
        processes: How many processes that was.
        gpus: One entry a GPU.
    """

    time: float
    cpu_util: float | None
    rss_mb: float
    processes: int
    gpus: tuple[GpuMetrics, ...] = ()

    def values(self) -> dict[str, float]:
        """Catalogue name → figure.

        Over several GPUs: the mean load, the sum of memory and of power, the highest temperature.
        """
        found: dict[str, float | None] = {"cpu_util": self.cpu_util, "rss_mb": self.rss_mb}
        for name, combine in _OVER_GPUS.items():
            figures = [value for gpu in self.gpus if (value := getattr(gpu, name)) is not None]
            found[name] = combine(figures) if figures else None
        return {name: value for name, value in found.items() if value is not None}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


_OVER_GPUS: dict[str, Callable[[list[float]], float]] = {
    "gpu_util": _mean,
    "gpu_mem_mb": sum,
    "gpu_power_w": sum,
    "gpu_temp_c": max,
}


@dataclass(frozen=True)
class MetricSummary:
    """One figure over all samples."""

    mean: float
    min: float
    max: float
    last: float
    count: int


@dataclass
class _Running:
    """Mean and extremes without keeping the samples: a training may last for days."""

    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    last: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.low, self.high = min(self.low, value), max(self.high, value)
        self.last = value
        self.count += 1

    def summary(self) -> MetricSummary:
        return MetricSummary(self.total / self.count, self.low, self.high, self.last, self.count)


@dataclass
class _ProcessTree:
    """CPU time and memory of a process and all below it."""

    pid: int
    _members: list[psutil.Process] = field(default_factory=list)
    _scan_due: float = 0.0
    _seen: dict[tuple[int, float], float] = field(default_factory=dict)
    _at: float | None = None

    def read(self) -> tuple[float | None, float, int]:
        """CPU percent since the last call, MB resident, processes.

        CPU time is counted in ticks of 10 ms: over a sliver of time there is no figure (``None``), as
        the first time, and the next call measures from where this one would have.
        """
        import psutil  # compiled, and not needed where nothing is sampled

        self._scan()
        now, rss, used, seen = time.monotonic(), 0, 0.0, {}
        for process in self._members:
            try:
                key, cpu, memory = _process_figures(process)
            except psutil.Error:  # it ended while we were looking
                continue
            seen[key] = cpu
            rss += memory
            used += cpu - self._seen.get(key, 0.0)
        if self._at is not None and now - self._at < _SLIVER_S:
            return None, rss / 1e6, len(seen)
        before, self._at, self._seen = self._at, now, seen
        util = None if before is None else max(0.0, used) / (now - before) * 100.0
        return util, rss / 1e6, len(seen)

    def _scan(self) -> None:
        """Find the children, in at most a tenth of the time.

        The search reads a file of every process of the machine, and each read waits for the GIL:
        1 ms beside a training, but a second beside a busy loop in pure Python.
        """
        import psutil

        started = time.monotonic()
        if started < self._scan_due:
            return
        try:
            root = psutil.Process(self.pid)
            self._members = [root]
            self._members = [root, *root.children(recursive=True)]
        except psutil.Error:  # a short script is gone before anybody looked
            log.debug("process %d can't be searched for children", self.pid)
        ended = time.monotonic()
        self._scan_due = ended + 9 * (ended - started)


def _process_figures(process: psutil.Process) -> tuple[tuple[int, float], float, int]:
    with process.oneshot():
        times = process.cpu_times()
        return (process.pid, process.create_time()), times.user + times.system, process.memory_info().rss


class SystemSampler:
    """Measures the machine beside a piece of work, in a thread of its own.

    The first sample is taken at the start and one more at the stop, so even work that is shorter
    than the interval has figures. Nothing in here raises into the measured work: what fails is
    logged once and counted in :attr:`errors`; :attr:`samples` counts what was taken.

    Example:
        >>> with SystemSampler(interval_s=0.5) as sampler:
        ...     _ = sum(range(1_000_000))
        >>> sampler.summary()["rss_mb"].max > 1
        True

    Args:
        interval_s: Seconds between samples, at least 0.05.
        callback: Gets every sample, in the sampler's thread
            (:func:`guardianflow.core.metrics.sample_sink` makes one that writes to a store).
        pid: Root of the process tree to measure; default this process.
        gpu: Reads the GPUs; default :func:`get_gpu_metrics`.

    Raises:
        InputError: The interval is too short.
    """

    def __init__(
        self,
        interval_s: float = 1.0,
        *,
        callback: Callable[[SystemSample], None] | None = None,
        pid: int | None = None,
        gpu: Callable[[], list[GpuMetrics]] = get_gpu_metrics,
    ) -> None:
        if not 0.05 <= interval_s <= 3600:
            raise InputError(
                f"the sampling interval must be 0.05 to 3600 seconds, not {interval_s!r}; 1.0 fits most runs"
            )
        self.interval_s = interval_s
        self.errors = 0
        self._callback = callback
        self._tree = _ProcessTree(os.getpid() if pid is None else pid)
        self._read_gpus = gpu
        self._has_gpu: bool | None = None
        self._figures: dict[str, _Running] = {}
        self._energy: dict[int, tuple[float, float]] = {}
        self.samples = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def gpu_energy_j(self) -> float | None:
        """Energy that all GPUs drew between the first and the last sample, J, where they count it."""
        with self._lock:
            if not self._energy:
                return None
            return sum(last - first for first, last in self._energy.values())

    def start(self) -> Self:
        """Begin; a sampler that runs already goes on."""
        if self._thread is None:
            self._stop.clear()
            self._warm_up()
            self._thread = threading.Thread(target=self._run, name="guardianflow-system", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Take the last sample and end the thread; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        thread.join(_JOIN_SECONDS)
        if thread.is_alive():
            log.warning("the system sampler did not end within %.0f s; a driver call hangs", _JOIN_SECONDS)

    def summary(self) -> dict[str, MetricSummary]:
        """Catalogue name → mean, extremes and last figure of what was measured so far."""
        with self._lock:
            return {name: figure.summary() for name, figure in self._figures.items()}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _warm_up(self) -> None:
        """Import and begin to count here, not in the thread: beside busy Python code it gets its turn late."""
        try:
            self._tree.read()
            if self._has_gpu is None:
                self._has_gpu = bool(self._read_gpus())  # where there is none, don't ask again
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(error)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            self._sample_safely()
            sampled = time.monotonic()
            # Fixed rate; a sample that took too long skips beats and doesn't pile them up.
            due = max(due + self.interval_s, sampled)
            if self._stop.wait(due - sampled):
                break
        # CPU load over a sliver of time says nothing: the last sample needs some, unless it is the second.
        if self.samples < _ENOUGH_SAMPLES or time.monotonic() - sampled > self.interval_s / 2:
            self._sample_safely()

    def _sample_safely(self) -> None:
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        if self.errors == 1:
            log.warning("system metrics can't be sampled; the run goes on without", exc_info=error)

    def _sample(self) -> None:
        cpu, rss, processes = self._tree.read()
        gpus = tuple(self._read_gpus()) if self._has_gpu else ()
        sample = SystemSample(time.time(), cpu, rss, processes, gpus)
        with self._lock:
            self.samples += 1
            for name, value in sample.values().items():
                self._figures.setdefault(name, _Running()).add(value)
            for gpu in gpus:
                if gpu.energy_j is not None:
                    first = self._energy.get(gpu.index, (gpu.energy_j, 0.0))[0]
                    self._energy[gpu.index] = (first, gpu.energy_j)
        if self._callback is not None:
            self._callback(sample)
