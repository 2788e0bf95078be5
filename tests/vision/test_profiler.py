"""Profiles: figures against distributions that are known, modes by a clock that is moved by hand."""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from guardianflow.exceptions import InputError
from guardianflow.vision.benchmark.load_generator import WallClock, poisson_arrivals, serve_arrivals
from guardianflow.vision.benchmark.profile_results import ModeResult, ProfileConfig
from guardianflow.vision.benchmark.profile_statistics import Stability, median_interval, noise_floor, summarize
from guardianflow.vision.benchmark.profiler import profile
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig
from tests.vision.simulated_detectors import EmptyBackend, HandClock, SimulatedDetector

IMAGES = [Path(f"{number}.jpg") for number in range(7)]
PLAIN = ProfileConfig(seconds=1.0, repeats=2, sustained=False, after_idle=False)


def simulate(
    delay: Callable[[int, float], float], *, mode: str = "single_stream", config: ProfileConfig = PLAIN, **detector
) -> tuple[ModeResult, SimulatedDetector]:
    clock = HandClock()
    subject = SimulatedDetector(clock, delay, **detector)
    return profile(subject, IMAGES, mode=mode, config=config, clock=clock, gpus=list), subject


# --- statistics


def test_percentiles_of_an_exponential_are_its_quantiles():
    values = np.random.default_rng(1).exponential(10.0, 400_000)
    found = summarize(values)
    for percent, figure in ((50, found.p50), (95, found.p95), (99, found.p99)):
        assert figure == pytest.approx(-10.0 * np.log(1 - percent / 100), rel=0.01)
    assert found.mean == pytest.approx(10.0, rel=0.01)
    assert found.max == values.max()
    assert found.count == 400_000


def test_no_outlier_is_cut_off():
    found = summarize([1.0] * 99 + [1000.0])
    assert found.max == 1000.0
    assert found.mean == pytest.approx(10.99)
    assert found.p99 > 1.0


def test_no_latencies_have_no_summary():
    with pytest.raises(InputError, match="no latencies"):
        summarize([])


@pytest.mark.parametrize("count", [6, 7, 20, 101, 1000, 12_345])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_interval_of_the_median_is_the_tightest_pair_of_order_statistics_that_holds_the_level(count, level):
    low, high = median_interval(np.arange(1, count + 1), level=level)
    if low is None:
        assert 1 - 2 * stats.binom.cdf(0, count, 0.5) < level
        return
    rank = round(low)
    assert high == count + 1 - rank
    assert 1 - 2 * stats.binom.cdf(rank - 1, count, 0.5) >= level
    assert 1 - 2 * stats.binom.cdf(rank, count, 0.5) < level


def test_interval_of_the_median_covers_the_true_one_as_often_as_it_says():
    random = np.random.default_rng(2)
    count, rounds = 31, 4000
    hits = 0
    for sample in random.lognormal(0.0, 1.0, (rounds, count)):
        low, high = median_interval(sample)
        hits += low <= 1.0 <= high
    exact = 1 - 2 * stats.binom.cdf(9, count, 0.5)  # ranks 10 and 22
    assert hits / rounds == pytest.approx(exact, abs=0.012)


def test_five_values_are_too_few_for_an_interval():
    assert median_interval([1, 2, 3, 4, 5]) == (None, None)
    assert median_interval([]) == (None, None)
    assert median_interval([3, 1, 2, 6, 5, 4]) == (1.0, 6.0)


def test_noise_floor_is_the_spread_over_the_median():
    figures = [{"a": 10.0, "b": 1.0}, {"a": 12.0, "b": 1.0}, {"a": 11.0, "b": 1.0}]
    assert noise_floor(figures) == {"a": pytest.approx(2 / 11), "b": 0.0}
    assert noise_floor(figures[:1]) == {}


def test_stability_needs_two_windows_that_agree():
    still = Stability(window=3, least=6)
    assert [still.add(1.0) for _ in range(6)] == [False] * 5 + [True]
    falling = Stability(window=3, least=6)
    assert not any(falling.add(0.8**step) for step in range(50))


# --- load


@pytest.mark.parametrize("load", [0.5, 0.7, 0.85])
def test_wait_of_a_poisson_queue_is_that_of_theory(load):
    """M/D/1: mean wait is load / (2 (1 - load)) service times (Pollaczek and Khinchine)."""
    clock, service = HandClock(), 0.01
    arrivals = poisson_arrivals(load / service, 150_000, seed=5)
    served = serve_arrivals(arrivals, lambda _places: clock.pass_ms(10.0), clock=clock)
    assert served.queueing_ms.mean() == pytest.approx(10.0 * load / (2 * (1 - load)), rel=0.06)
    assert served.latency_ms.mean() == pytest.approx(served.queueing_ms.mean() + 10.0, rel=1e-6)
    assert served.utilisation == pytest.approx(load, rel=0.02)
    assert served.achieved_rate == pytest.approx(load / service, rel=0.02)
    assert served.sustained


def test_a_stall_is_charged_to_all_who_waited_meanwhile():
    """No coordinated omission: one stall of a second at 100 arrivals a second delays a hundred of them."""
    clock, calls = HandClock(), itertools.count()
    arrivals = np.arange(1, 1001) / 100.0
    served = serve_arrivals(arrivals, lambda _places: clock.pass_ms(1000.0 if next(calls) == 500 else 1.0), clock=clock)
    late = served.latency_ms > 100.0
    assert 95 <= late.sum() <= 105
    assert served.latency_ms[late].mean() == pytest.approx(550, rel=0.05)


def test_arrivals_are_a_poisson_process_and_the_seed_repeats_them():
    arrivals = poisson_arrivals(50.0, 100_000, seed=3)
    gaps = np.diff(arrivals, prepend=0.0)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    assert np.array_equal(arrivals, poisson_arrivals(50.0, 100_000, seed=3))
    assert not np.array_equal(arrivals, poisson_arrivals(50.0, 100_000, seed=4))


def test_a_queue_that_grows_is_not_sustained():
    clock = HandClock()
    served = serve_arrivals(poisson_arrivals(120.0, 400, seed=1), lambda _places: clock.pass_ms(10.0), clock=clock)
    assert not served.sustained
    assert served.utilisation == pytest.approx(1.2, rel=0.15)
    assert served.waiting_at_end > 40
    assert served.achieved_rate == pytest.approx(100.0, rel=0.02)


def test_those_who_wait_are_served_together_up_to_the_batch():
    clock, sizes = HandClock(), []

    def serve(places: range) -> None:
        sizes.append(len(places))
        clock.pass_ms(20.0)

    served = serve_arrivals(poisson_arrivals(150.0, 2000, seed=1), serve, batch=4, clock=clock)
    assert max(sizes) == 4
    assert min(sizes) == 1  # who comes alone isn't held back
    assert served.sustained  # 50 batches of up to 4 a second are 200 images
    assert served.utilisation == pytest.approx(0.75, rel=0.05)


def test_the_wall_clock_waits_to_the_moment():
    clock = WallClock()
    for pause in (0.0, 0.0002, 0.02):
        moment = clock.now() + pause
        clock.wait_until(moment)
        assert clock.now() >= moment
    clock.wait_until(clock.now() - 1.0)


# --- modes


def test_single_stream_is_the_latency_of_one_query_after_another():
    result, _ = simulate(lambda number, _: 50.0 if number % 20 == 19 else 5.0)
    assert result.latency.p50 == pytest.approx(5.0)
    assert result.latency.max == pytest.approx(50.0)
    assert result.latency.p99 == pytest.approx(50.0)
    assert result.throughput_fps == pytest.approx(1000 / 7.25, rel=0.03)
    assert result.seconds == pytest.approx(2.0, rel=0.06)
    assert result.images == result.latency.count == len(result.latencies_ms) == len(result.repetition)
    assert set(result.repetition) == {0, 1}
    stage = result.stages[0]
    assert (stage.name, stage.p50_ms, stage.share) == ("forward", pytest.approx(5.0), pytest.approx(1.0, rel=1e-3))
    assert {"latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "latency_ms_mean", "throughput_fps"} <= set(
        result.metrics()
    )


def test_a_batch_is_one_query_in_single_stream():
    result, subject = simulate(lambda *_: 20.0, batch=4)
    assert result.query_images == 4
    assert result.latency.p50 == pytest.approx(20.0)
    assert result.throughput_fps == pytest.approx(200.0)
    assert result.stages[0].p50_ms == pytest.approx(5.0)
    assert set(subject.sizes) == {4}


def test_every_pass_sees_every_image_once():
    _, subject = simulate(lambda *_: 5.0)
    names = {path.name for path in IMAGES}
    passes = [subject.seen[start : start + 7] for start in range(0, 210, 7)]
    assert all(set(seen) == names for seen in passes)
    assert len({tuple(seen) for seen in passes}) > 10  # in another order each time


def test_slow_first_queries_are_no_part_of_the_measurement():
    result, _ = simulate(lambda number, _: max(5.0, 100.0 - 4 * number))
    assert result.warm_up.stable
    assert result.warm_up.queries > 24
    assert result.latency.max == pytest.approx(5.0)


def test_a_warm_up_that_never_settles_ends_and_is_told():
    result, _ = simulate(lambda number, _: 5.0 * 1.02**number, config=ProfileConfig(seconds=0.2, repeats=1))
    assert not result.warm_up.stable
    assert result.warm_up.seconds == pytest.approx(2.0, rel=0.2)
    assert any("not stable" in warning for warning in result.warnings)


def test_noise_floor_stands_beside_each_figure():
    # Warm-up of 20 queries takes 0.1 s; the first repetition lasts until 1.1 s, the second is slower.
    result, _ = simulate(lambda _, now: 5.0 if now < 101.1 else 6.0)
    assert result.noise["latency_ms_p50"] == pytest.approx(1 / 5.5, rel=0.01)
    assert result.noise["throughput_fps"] == pytest.approx((200 - 1000 / 6) / ((200 + 1000 / 6) / 2), rel=0.02)
    steady, _ = simulate(lambda *_: 5.0)
    assert steady.noise["latency_ms_p50"] == pytest.approx(0.0, abs=1e-9)


def test_what_comes_after_a_pause_is_measured_apart():
    last = [100.0]

    def cold(_: int, now: float) -> float:
        pause, last[0] = now - last[0], now
        return 5.0 if pause < 0.2 else 15.0

    result, _ = simulate(cold, config=ProfileConfig(seconds=1.0, repeats=1, sustained=False))
    assert result.after_idle.p50 == pytest.approx(15.0)
    assert result.after_idle.ratio == pytest.approx(3.0)
    assert result.after_idle.pause_s == pytest.approx(1 / 3)
    assert result.latency.max == pytest.approx(5.0)


def test_a_sustained_run_shows_what_becomes_slower():
    # Warm-up and one repetition end at 101.1 s, the sustained run at 103.1 s.
    result, _ = simulate(
        lambda _, now: 5.0 if now < 102.5 else 8.0, config=ProfileConfig(seconds=1.0, repeats=1, after_idle=False)
    )
    assert result.sustained.seconds == pytest.approx(2.0, rel=0.01)
    assert result.sustained.drift == pytest.approx(0.6)
    assert result.latency.max == pytest.approx(5.0)
    assert any("slower at the end" in warning for warning in result.warnings)


def test_offline_is_throughput_in_whole_batches():
    result, subject = simulate(lambda *_: 20.0, mode="offline", batch=4)
    assert result.throughput_fps == pytest.approx(200.0)
    assert result.latency is None
    assert not any(name.startswith("latency") for name in result.metrics())
    assert set(subject.sizes) == {4}
    assert result.sustained is None


def test_server_takes_a_share_of_what_it_can_do_unless_told():
    result, _ = simulate(lambda *_: 10.0, mode="server", config=ProfileConfig(seconds=20.0, repeats=2, seed=4))
    assert result.server.target_rate == pytest.approx(70.0)
    assert "70%" in result.server.target_from
    assert result.server.achieved_rate == pytest.approx(70.0, rel=0.1)
    assert result.server.sustained
    assert result.latency.mean == pytest.approx(10 + 10 * 0.7 / 0.6, rel=0.25)
    assert result.server.met is None


def test_server_says_whether_the_bound_is_met():
    config = ProfileConfig(seconds=10.0, repeats=1, rate=30.0, bound_ms=60.0)
    good, _ = simulate(lambda *_: 10.0, mode="server", config=config)
    assert good.server.target_rate == 30.0
    assert good.server.met
    assert good.server.within_bound > 0.99
    bad, _ = simulate(lambda *_: 30.0, mode="server", config=config)
    assert bad.server.met is False
    assert 0 < bad.server.within_bound < 0.9


def test_server_says_when_it_cannot_keep_up():
    config = ProfileConfig(seconds=5.0, repeats=1, rate=150.0, bound_ms=1e9)
    result, _ = simulate(lambda *_: 10.0, mode="server", config=config)
    assert not result.server.sustained
    assert result.server.met is False
    assert any("not sustained" in warning for warning in result.warnings)
    assert result.server.achieved_rate == pytest.approx(100.0, rel=0.02)


@pytest.mark.parametrize("mode", ["single_stream", "offline", "server"])
def test_images_that_cannot_be_read_are_counted_and_left_out(mode):
    result, _ = simulate(lambda *_: 5.0, mode=mode, broken={"3.jpg"})
    assert result.failed_images == pytest.approx((result.images + result.failed_images) / 7, abs=2)
    assert any("could not be read" in warning for warning in result.warnings)
    if result.latency:
        assert result.latency.count == result.images


@pytest.mark.parametrize("mode", ["single_stream", "offline", "server"])
def test_images_of_which_none_can_be_read_are_refused(mode):
    with pytest.raises(InputError, match="could be read"):
        simulate(lambda *_: 50.0, mode=mode, broken={path.name for path in IMAGES})


def test_few_latencies_are_told_where_the_tail_rests_on_them():
    few, _ = simulate(lambda *_: 40.0)
    assert any("99th percentile rests on" in warning for warning in few.warnings)
    many, _ = simulate(lambda *_: 5.0)
    assert not many.warnings


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="known: single_stream, offline, server"):
        simulate(lambda *_: 5.0, mode="multi")
    with pytest.raises(InputError, match="no images"):
        profile(SimulatedDetector(HandClock(), lambda *_: 5.0), [], mode="offline")
    with pytest.raises(InputError, match="repeats"):
        ProfileConfig(repeats=0)


def test_a_result_survives_json_and_its_latencies_a_file(tmp_path):
    for mode in ("single_stream", "offline", "server"):
        result, _ = simulate(lambda *_: 5.0, mode=mode, config=ProfileConfig(seconds=0.5, repeats=2))
        result.save_latencies(tmp_path)
        again = ModeResult.from_dict(json.loads(json.dumps(result.to_dict()))).with_latencies(tmp_path)
        assert again.to_dict() == result.to_dict()
        assert again.latency == result.latency
        assert again.server == result.server
        assert np.array_equal(again.latencies_ms, result.latencies_ms)
        assert np.array_equal(again.repetition, result.repetition)


def test_garbage_collection_is_as_it_was():
    frozen = gc.get_freeze_count()
    result, _ = simulate(lambda *_: 5.0)
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    assert "gc_collections" in result.facts


def test_the_time_of_a_real_pipeline_is_the_time_of_its_backend():
    """By the real clock: a backend that sleeps 20 ms has a latency of 20 ms and a little."""
    pixels = [np.zeros((48, 64, 3), np.uint8)]
    pipeline = Pipeline(EmptyBackend(lambda: time.sleep(0.02)), PipelineConfig(imgsz=64, read_ahead=2))
    config = ProfileConfig(seconds=0.4, repeats=1, sustained=False, after_idle=False)
    result = profile(pipeline, pixels, mode="single_stream", config=config, gpus=list)
    assert 20.0 <= result.latency.p50 < 30.0
    stages = {stage.name: stage for stage in result.stages}
    assert stages["forward"].p50_ms == pytest.approx(result.latency.p50, abs=5.0)
    assert result.system["rss_mb"] > 10
    assert result.throughput_fps == pytest.approx(1000 / result.latency.mean, rel=0.05)
    offline = profile(pipeline, pixels, mode="offline", config=config, gpus=list)
    assert offline.throughput_fps <= 50.0
