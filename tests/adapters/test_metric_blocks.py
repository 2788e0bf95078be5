"""Lines that are alike are read at once, and give exactly what they give one by one."""

# ruff: noqa: E501 - what trainings print is wide
from __future__ import annotations

import itertools
import math
import random
import time
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap.metrics.line_runs import LineRun
from guardianflow.adapters.wrap.metrics.lines import MeasuredLines, Measurement, MetricLines
from guardianflow.adapters.wrap.metrics.series import MetricSeries

SHAPES = [
    "step {}: loss={} acc={}", "step {} loss: {}, lr: {}", "INFO train loss: {}", "iter {} x:{} y: {}", "loss={} loss={}",
    "a+{} loss={}", " +{} loss={}", "loss={}. acc={}.", "loss: {}e, acc={}", "[{}]\tloss: {} (avg {})", "손실: {} 정확도={}",
    "\N{REPLACEMENT CHARACTER} loss={}", "loss={}%", "loss={}nan acc={}", "mAP50-95: {} it/s", "Epoch {}/9 loss: {}", "{}", "no figures",
    "  {}%|██  | {}/100 [00:12<00:15, 3.6it/s, loss={}]", "{{'loss': {}, 'epoch': {}}}", "epoch  train_loss  valid_loss", "{}  {}  {}",
    "loss=tensor({}) f1=np.float64({})", "T12:{} lr={}", "loss={}\x1b[0m", "loss= {} x=-{} y=+{}", "x {}{} loss={}", "loss={}" + "-" * 9_990,
]  # fmt: skip
NAMES = [chr(97 + number // 26) + chr(97 + number % 26) for number in range(150)]
LONGEST = f"{'1' * 24}.{'1' * 24}e+{'0' * 24}"
SHORT, LONG = (" ".join(f"{name}={number}" for name in NAMES).encode() + b"\n" for number in ("1", LONGEST))
NUMBERS = st.one_of(
    st.integers(0, 30).map(str),
    st.floats(0, 2).map(lambda value: f"{value:.4f}"),
    st.floats().map(repr),
    st.sampled_from(
        ["nan", "NaN", "-inf", "+Infinity", "INF", "nAn", "1e5", "1E-05", "5.", ".5", "+5", "-.5", "..5", ".5.5", "-.5.5", "5.5.5", "12.0", "12.5",
         "0012", "9" * 18, "9" * 19, "9" * 25, "9" * 49 + ".", "1" * 400, "1e400", "1e" + "9" * 30, "1" * 10_050, "1,234", "3/10", "12:34", "3s",
         "\x00", "", "+", "-", ".", "e5"],
    ),
)  # fmt: skip


@st.composite
def outputs(draw: st.DrawFn) -> bytes:
    """Several runs of lines that are alike, other lines between them, ends of all kinds."""
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(1, 8))):
        shape = draw(st.sampled_from(SHAPES))
        holes = shape.count("{}")
        end = draw(st.sampled_from([b"\n", b"\r", b"\r\n", b" \n", b"\xff\n"]))
        for _ in range(draw(st.integers(1, 12))):
            plain = draw(st.booleans())
            numbers = [f"{draw(st.integers(0, 99))}.5" if plain else draw(NUMBERS) for _ in range(holes)]
            pieces.append(shape.format(*numbers).encode() + end)
        pieces.append(draw(st.one_of(st.just(b""), st.binary(max_size=12), st.just(b"some words\n"))))
    return b"".join(pieces)


def one_by_one(data: bytes, patterns: list[str], automatic: bool) -> list[Measurement]:
    """With no line read together with another."""
    with mock.patch.object(LineRun, "of", return_value=None):
        lines = MetricLines(patterns, automatic=automatic)
        return lines.feed(data) + lines.close()


@settings(max_examples=400, deadline=None)
@given(
    outputs(),
    st.lists(st.integers(0, 2_000), max_size=6),
    st.sampled_from([[], [], [], [r"(?P<f1>x) (\d+)"]]),
    st.booleans(),
)
@example(b"step 3 lossT12:0.5\n" * 3 + b"step .5 lossT12:0.5\n", [], [], True)
@example(b"step 1 loss=1\n" * 3 + b"step " + b"9" * 19 + b" loss=1\n", [], [], True)
@example(SHORT * 3 + LONG, [], [], True)
@example(b" +-5 loss=1\n" * 3 + b" +5 loss=1\n", [], [], True)
@example(b"loss=1\n" * 3 + b"loss=" + b"1" * 10_050 + b"\nloss=2\n", [], [], True)
@example(b"loss=5.. x\n" * 3 + b"loss=" + b"1" * 49 + b".. x\n", [], [], True)
def test_lines_read_at_once_give_what_they_give_one_by_one(data, cuts, patterns, automatic) -> None:
    expected = one_by_one(data, patterns, automatic)
    lines = MetricLines(patterns, automatic=automatic)
    places = sorted({0, len(data), *(place for place in cuts if place < len(data))})
    found = [m for start, end in itertools.pairwise(places) for m in lines.feed(data[start:end])] + lines.close()
    assert repr(found) == repr(expected)


@settings(max_examples=100, deadline=None)
@given(outputs())
@example(b"loss=1 loss=2\n" * 20)
def test_a_series_keeps_the_same_points_of_what_is_read_at_once(data) -> None:
    one, other = MetricSeries(max_names=3, max_points=8), MetricSeries(max_names=3, max_points=8)
    one.add(MetricLines().feed_fast(data), source="stdout")
    other.add(MetricLines().feed(data), source="stdout")
    assert repr([one.close(), one.summary(), one.thinned]) == repr([other.close(), other.summary(), other.thinned])


def test_many_lines_that_are_alike_are_read_at_once() -> None:
    text = "".join(f"step {step}: loss={1 / step:.6f} acc={step}\n" for step in range(1, 101))
    found = MetricLines().feed_fast(text.encode())
    assert [type(each) for each in found] == [Measurement] * 4 + [MeasuredLines]
    assert isinstance(found[-1], MeasuredLines)
    assert found[-1].names == ("loss", "acc")
    assert list(found[-1].steps) == list(range(3, 101))


def test_lines_that_only_end_like_those_of_the_chunk_before_are_others() -> None:
    lines = MetricLines()
    lines.feed(b"loss=1\n" * 5)
    assert lines.feed(b"loss=2\n" * 5) == [Measurement("loss", 2.0)] * 5
    assert lines.feed(b"val_loss=3\n" * 2) == [Measurement("val_loss", 3.0)] * 2


def test_steps_that_begin_anew_are_carried_on_in_lines_read_at_once() -> None:
    epoch = "Epoch {}\n" + "".join(f"step {step} loss={step}.5\n" for step in range(50))
    found = MetricLines().feed((epoch.format(1) + epoch.format(2)).encode())
    assert [measurement.step for measurement in found] == list(range(100))


@pytest.mark.parametrize("text", ["loss=..5\n", "loss=.5.5\n", "loss=-.5.5\n", "loss=-..5 acc: +.5.\n"])
def test_what_only_looks_like_a_number_does_no_harm(text) -> None:
    assert [m for m in MetricLines().feed(text.encode()) if m.name == "loss"] == []


def handed_out(series: MetricSeries, steps: list[list[Measurement | MeasuredLines]], take: set[int]) -> list[object]:
    seen: list[object] = []
    for number, found in enumerate(steps):
        series.add(found, source=("stderr", "stdout")[number % 3 > 0])
        if number in take:
            seen += series.take()
    return [*seen, *series.close(), series.summary(), series.thinned, series.remarks]


@pytest.mark.parametrize("seed", range(30))
def test_a_series_keeps_the_same_points_of_lines_and_of_single_figures(seed) -> None:
    rng = random.Random(seed)
    sizes = {"max_names": rng.choice([2, 5, 200]), "max_points": rng.choice([1, 7, 100, 5_000])}
    together: list[list[Measurement | MeasuredLines]] = []
    step = 0
    for _ in range(rng.randint(1, 25)):
        names = tuple(rng.sample("abcdef", rng.randint(1, 4)))
        size = rng.choice([1, 2, 30, 3_000])
        step = rng.choice([0, step])
        steps = rng.choice(
            [range(step, step + size), [None] * size, [7] * size, [rng.randint(0, 50) for _ in range(size)]]
        )
        step += size
        values = [[rng.choice([rng.random(), math.nan, math.inf, -0.0, 0.0]) for _ in range(size)] for _ in names]
        together.append([Measurement("z", 1.0, step), MeasuredLines(names, tuple(values), list(steps))])
    singly = [
        [m for each in found for m in (each.each() if isinstance(each, MeasuredLines) else [each])]
        for found in together
    ]
    take = {number for number in range(25) if rng.random() < 0.4}
    expected = handed_out(MetricSeries(**sizes), [list(found) for found in singly], take)
    assert repr(handed_out(MetricSeries(**sizes), together, take)) == repr(expected)


def test_a_series_with_little_room_left_thins_lines_like_single_figures() -> None:
    names = tuple(f"m{number}" for number in range(150))
    lines = MeasuredLines(names, tuple([float(value) for value in range(1_000)] for _ in names), list(range(1_000)))
    one, other = MetricSeries(), MetricSeries()
    one.add([lines], source="stdout")
    other.add(lines.each(), source="stdout")
    assert one.thinned == other.thinned
    assert one.thinned  # 150,000 points wait: more than may
    assert one.close() == other.close()


def test_a_million_lines_that_are_alike_are_read_in_a_second_or_two() -> None:
    chunk = b"".join(b"step %d: loss=0.345 acc=0.8\n" % step for step in range(2_000))
    lines, series = MetricLines(), MetricSeries()
    begin = time.process_time()
    for _ in range(100):
        series.add(lines.feed_fast(chunk), source="stdout")
    assert time.process_time() - begin < 1.5  # a fifth of a million needs 0.15 s
