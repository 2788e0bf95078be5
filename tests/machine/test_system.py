"""The machine's figures: GPUs through NVML, CPU and memory through psutil."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from guardianflow.core.metrics import CATALOGUE, MetricRecord, NullSink, sample_sink, system_records
from guardianflow.exceptions import InputError
from guardianflow.machine.system import GpuMetrics, SystemSample, SystemSampler, get_gpu_metrics


class NotSupportedError(Exception):
    """What NVML raises for a query that a board doesn't answer."""


def nvml(*boards, **changes):
    """An NVML binding with the given boards; each is a dict of what it answers."""

    def answer(key):
        def query(board, *_):
            if key not in board:
                raise NotSupportedError(key)
            return board[key]

        return query

    def handle(index):
        if "lost" in boards[index]:
            raise NotSupportedError("GPU is lost")
        return boards[index]

    parts = {
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(boards),
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetName": answer("name"),
        "nvmlDeviceGetUUID": answer("uuid"),
        "nvmlDeviceGetMemoryInfo": answer("memory"),
        "nvmlDeviceGetUtilizationRates": answer("load"),
        "nvmlDeviceGetPowerUsage": answer("milliwatts"),
        "nvmlDeviceGetTemperature": answer("celsius"),
        "nvmlDeviceGetTotalEnergyConsumption": answer("millijoules"),
    }
    return SimpleNamespace(**(parts | changes))


BOARD = {
    "name": b"NVIDIA H100",
    "uuid": "GPU-1",
    "memory": SimpleNamespace(used=2_000_000_000, total=80_000_000_000),
    "load": SimpleNamespace(gpu=63, memory=20),
    "milliwatts": 310_500,
    "celsius": 51,
    "millijoules": 9_000_000,
}


def test_gpu_figures_are_in_the_catalogues_units():
    (gpu,) = get_gpu_metrics(nvml=nvml(BOARD))

    assert gpu == GpuMetrics(
        index=0,
        name="NVIDIA H100",
        uuid="GPU-1",
        gpu_util=63.0,
        gpu_mem_mb=2000.0,
        gpu_mem_total_mb=80_000.0,
        gpu_power_w=310.5,
        gpu_temp_c=51.0,
        energy_j=9000.0,
    )


def test_a_query_that_the_board_lacks_is_none_and_the_others_stay():
    (gpu,) = get_gpu_metrics(nvml=nvml({"name": "Tegra", "celsius": 40}))

    assert (gpu.name, gpu.gpu_temp_c) == ("Tegra", 40.0)
    assert gpu.gpu_util is None
    assert gpu.gpu_power_w is None
    assert gpu.gpu_mem_mb is None


def test_a_lost_gpu_is_left_out_and_the_next_keeps_its_index():
    (gpu,) = get_gpu_metrics(nvml=nvml({"lost": True}, BOARD))

    assert gpu.index == 1


def fails(*_):
    raise NotSupportedError("driver")


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount"])
def test_no_driver_means_an_empty_list_and_no_error(call):
    assert get_gpu_metrics(nvml=nvml(BOARD, **{call: fails})) == []


def test_nvml_is_shut_down_as_often_as_it_is_started():
    calls = []
    binding = nvml(
        BOARD, nvmlInit=lambda: calls.append(1), nvmlShutdown=lambda: calls.append(-1), nvmlDeviceGetCount=fails
    )
    get_gpu_metrics(nvml=binding)

    assert calls == [1, -1]


def test_without_the_package_the_list_is_empty_and_torch_stays_out():
    script = (
        "import sys; sys.modules['pynvml'] = None\n"
        "from guardianflow.core.metrics import get_gpu_metrics\n"
        "assert get_gpu_metrics() == []\n"
        "assert 'torch' not in sys.modules and 'psutil' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_this_machine_can_be_asked_whatever_it_has():
    for gpu in get_gpu_metrics():
        assert gpu.name
        assert gpu.gpu_mem_total_mb is None or gpu.gpu_mem_total_mb > 100


def burn(seconds):
    """A loop in pure Python, which leaves the sampler's thread hardly a turn."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_sampler_sees_the_load_and_memory_of_this_process():
    ballast = bytearray(60_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    with SystemSampler(0.05) as sampler:
        burn(0.6)

    figures = sampler.summary()
    assert figures["rss_mb"].max > 60
    assert figures["cpu_util"].max > 25  # a busy loop; other work may share its core
    assert figures["cpu_util"].min <= figures["cpu_util"].mean <= figures["cpu_util"].max
    assert sampler.errors == 0


def test_sampler_counts_children():
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(80_000_000); print(1, flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        child.stdout.readline()
        samples = []
        with SystemSampler(0.1, callback=samples.append):
            time.sleep(0.25)
    finally:
        child.communicate(b"\n", timeout=20)

    assert samples[-1].processes >= 2
    with SystemSampler(0.1) as alone:
        pass
    assert samples[-1].rss_mb > alone.summary()["rss_mb"].max + 70


def test_work_shorter_than_the_interval_still_has_cpu_figures():
    with SystemSampler(3600) as sampler:
        burn(0.1)

    assert sampler.samples == 2
    assert sampler.summary()["cpu_util"].count == 1


def test_a_sliver_of_time_gives_no_figure_instead_of_a_wrong_one():
    with SystemSampler(3600) as sampler:
        pass

    assert "cpu_util" not in sampler.summary()
    assert sampler.summary()["rss_mb"].max > 1


def test_stop_returns_at_once_and_twice_is_harmless():
    sampler = SystemSampler(3600).start()
    assert sampler.start() is sampler
    began = time.monotonic()
    sampler.stop()
    sampler.stop()

    assert time.monotonic() - began < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "guardianflow-system"]


def test_a_failing_callback_or_gpu_never_reaches_the_measured_work(caplog):
    def broken(_sample):
        raise RuntimeError("the store is full")

    with SystemSampler(0.05, callback=broken) as sampler:
        time.sleep(0.2)
    with SystemSampler(0.05, gpu=fails) as blind:
        time.sleep(0.1)

    assert sampler.errors >= 2
    assert len([record for record in caplog.records if "can't be sampled" in record.message]) == 2
    assert blind.summary()["rss_mb"].count >= 2


def test_several_gpus_are_combined_and_their_energy_is_the_difference_of_the_counters():
    readings = iter(range(1000))

    def two_gpus():
        n = next(readings)
        return [
            GpuMetrics(0, "a", gpu_util=20, gpu_mem_mb=100, gpu_power_w=50, gpu_temp_c=40, energy_j=1000 + 10 * n),
            GpuMetrics(1, "b", gpu_util=60, gpu_mem_mb=300, gpu_power_w=70, gpu_temp_c=60, energy_j=5000 + 5 * n),
        ]

    with SystemSampler(3600, gpu=two_gpus) as sampler:
        pass

    figures = sampler.summary()
    assert {name: figures[name].mean for name in ("gpu_util", "gpu_mem_mb", "gpu_power_w", "gpu_temp_c")} == {
        "gpu_util": 40,
        "gpu_mem_mb": 400,
        "gpu_power_w": 120,
        "gpu_temp_c": 60,
    }
    assert sampler.gpu_energy_j == 15  # two samples: one step of each counter


@pytest.mark.parametrize("interval", [0, 0.01, -1, float("nan"), 1e9])
def test_an_interval_that_makes_no_sense_is_refused(interval):
    with pytest.raises(InputError, match=r"must be 0\.05 to 3600"):
        SystemSampler(interval)


def test_a_sample_becomes_records_in_the_catalogues_names():
    gpu = GpuMetrics(1, "H100", gpu_util=5.0, gpu_power_w=80.0)
    sample = SystemSample(time=1_700_000_000.5, cpu_util=None, rss_mb=12.0, processes=1, gpus=(gpu,))
    records = system_records(sample, run_id="r1", experiment="e")

    assert {(r.metric, r.value) for r in records} == {("rss_mb", 12.0), ("gpu_util", 5.0), ("gpu_power_w", 80.0)}
    assert {r.metric for r in records} <= set(CATALOGUE)
    assert {r.run_id for r in records} == {"r1"}
    assert next(r for r in records if r.metric == "gpu_util").tags == {"gpu": "1", "gpu_name": "H100"}
    assert len({r.event_id for r in records}) == 3


def test_sample_sink_writes_every_sample():
    class Memory(NullSink):
        def __init__(self):
            self.records: list[MetricRecord] = []

        def save_metrics(self, records):
            self.records += records
            return super().save_metrics(self.records)

    sink = Memory()
    with SystemSampler(0.05, callback=sample_sink(sink, run_id="r9")) as sampler:
        time.sleep(0.2)

    assert len([r for r in sink.records if r.metric == "rss_mb"]) == sampler.samples
    assert {r.run_id for r in sink.records} == {"r9"}
