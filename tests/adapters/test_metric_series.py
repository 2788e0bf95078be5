"""Curves stay bounded, keep their ends, and come from one source a name."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap.metrics.measurement import Measurement, Point
from guardianflow.adapters.wrap.metrics.series import MetricSeries


def curve(name: str, values: list[float], start: int = 1) -> list[Measurement]:
    return [Measurement(name, value, step) for step, value in enumerate(values, start)]


def test_short_curves_are_handed_out_whole_and_once() -> None:
    series = MetricSeries()
    series.add(curve("loss", [3.0, 2.0]), source="stdout")
    assert series.take() == [Point("loss", 3.0, 1), Point("loss", 2.0, 2)]
    assert series.take() == []
    series.add(curve("loss", [1.0], start=3), source="stdout")
    assert series.close() == [Point("loss", 1.0, 3)]
    assert series.remarks == ()
    assert series.curves["loss"].last == 1.0


def test_values_without_a_step_are_counted_from_one() -> None:
    series = MetricSeries()
    series.add([Measurement("a", 5.0), Measurement("b", 6.0), Measurement("a", 7.0)], source="stdout")
    assert series.take() == [Point("a", 5.0, 1), Point("a", 7.0, 2), Point("b", 6.0, 1)]


def test_of_several_values_of_a_step_the_later_wins() -> None:
    series = MetricSeries()
    series.add([Measurement("a", 1.0, 1), Measurement("a", 9.0, 2), Measurement("a", 2.0, 1)], source="stdout")
    assert series.take() == [Point("a", 9.0, 2), Point("a", 2.0, 1)]


@pytest.mark.parametrize("often", [1, 100, 10**9])
def test_a_long_curve_is_thinned_and_keeps_its_ends(often: int) -> None:
    series = MetricSeries(max_points=400)
    points: list[Point] = []
    for step in range(100_000):
        series.add([Measurement("loss", -1.0 if step == 777 else float(step), step)], source="stdout")
        if step % often == 0:
            points += series.take()
    points += series.close()
    assert 50 < len(points) <= 401
    assert points[0] == Point("loss", 0.0, 0)
    assert points[-1] == Point("loss", 99_999.0, 99_999)
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))
    assert max(after - before for before, after in itertools.pairwise(steps)) < 30_000
    assert series.curves["loss"].left_out == 100_000 - len(points)
    assert "thinned" in series.remarks[0]
    known = series.curves["loss"]
    assert (known.count, known.first, known.last, known.last_step) == (100_000, 0.0, 99_999.0, 99_999)


def test_names_have_a_cap_and_those_that_were_asked_for_have_room() -> None:
    series = MetricSeries(max_names=3)
    series.add([Measurement(f"n{number}", 1.0, 1) for number in range(50)], source="stdout")
    series.add([Measurement("mine", 2.0, 1, asked=True)], source="stdout")
    assert set(series.curves) == {"n0", "n1", "n2", "mine"}
    assert "47 more metric names were left out, among them n3, n4" in series.remarks[0]


def test_the_names_of_a_flood_of_names_are_bounded() -> None:
    series = MetricSeries()
    for number in range(30_000):
        series.add([Measurement(f"n{number}", 1.0), Measurement(f"a{number}", 1.0, asked=True)], source="stdout")
    assert len(series.curves) == 1_200
    assert "10000 more metric names" in series.remarks[0]


def test_a_file_goes_before_stdout_and_stdout_before_stderr() -> None:
    series = MetricSeries()
    series.add(curve("loss", [0.31]), source="stderr")
    series.add(curve("loss", [0.32]), source="stdout")
    series.add(curve("loss", [0.33]), source="stderr")
    assert series.take() == [Point("loss", 0.32, 1)]
    series.add(curve("loss", [0.3211, 0.2111]), source="results.csv")
    series.add(curve("loss", [0.21], start=2), source="stdout")
    series.add(curve("loss", [0.9], start=3), source="other.csv")
    assert series.take() == [Point("loss", 0.2111, 2)]  # step 1 was logged before the file came
    assert series.close() == []
    assert series.curves["loss"].count == 2
    assert series.remarks == ()


def test_nan_and_infinity_pass() -> None:
    series = MetricSeries()
    series.add(curve("loss", [math.nan, math.inf, 1.0, math.nan]), source="stdout")
    series.add(curve("none", [math.nan]), source="stdout")
    points = series.take()
    assert math.isnan(points[0].value)
    assert points[1].value == math.inf
    assert series.close() == []


def test_a_take_is_bounded_and_the_rest_comes_later() -> None:
    series = MetricSeries(max_points=40_000)
    for name in "abc":
        series.add(curve(name, [1.0] * 4_000), source="stdout")
    sizes = [len(series.take()) for _ in range(4)]
    assert sizes == [5_000, 5_000, 2_000, 0]


def test_what_waits_is_bounded_over_all_names() -> None:
    series = MetricSeries(max_names=200, max_points=10_000)
    for step in range(1_500):
        series.add([Measurement(f"n{number}", 1.0, step) for number in range(200)], source="stdout")
    points = series.close()
    assert len(points) <= 100_200
    assert {point.name for point in points if point.step == 1_499} == set(series.curves)


MEASUREMENTS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.floats(allow_nan=False),
        st.none() | st.integers(-3, 40),
        st.sampled_from(["stdout", "stderr", "x.csv"]),
        st.booleans(),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(MEASUREMENTS, st.integers(1, 20), st.integers(1, 3))
def test_whatever_comes_caps_hold_and_the_last_value_is_handed_out(rows, max_points, max_names) -> None:
    series = MetricSeries(max_names=max_names, max_points=max_points)
    points: list[Point] = []
    for name, value, step, source, take in rows:
        series.add([Measurement(name, value, step)], source=source)
        points += series.take() if take else []
    points += series.close()
    assert series.take() == series.close() == []
    assert len(series.curves) <= max_names
    for name, last in series.curves.items():
        values = [point.value for point in points if point.name == name]
        assert values[-1] == last.last
        assert len(values) <= 3 * max_points + 1  # of stderr, stdout and a file
