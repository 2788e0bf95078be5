"""Event files as PyTorch's and TensorFlow's writers leave them, whole, growing and damaged."""

from __future__ import annotations

import io
import math
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from guardianflow.adapters.wrap.metrics.event_files import EventReader
from guardianflow.adapters.wrap.metrics.growing_file import Points, read_points
from guardianflow.exceptions import InputError


class History(NamedTuple):
    metrics: Points
    reader: EventReader
    damaged: str


def read_event_file(path: Path) -> History:
    reader = EventReader()
    points = read_points(path, reader)
    return History(points, reader, "; ".join(filter(None, [*reader.remarks, reader.refused])))


def event_file(folder: Path, write: Callable[[SummaryWriter], None]) -> Path:
    with SummaryWriter(str(folder)) as writer:
        write(writer)
    return next(folder.glob("events.out.tfevents.*"))


def write_scalars(writer: SummaryWriter, steps: int = 5) -> None:
    for step in range(steps):
        writer.add_scalar("train/loss(a)", 1 / (step + 1), step)
        writer.add_scalar("val/acc", step / 10, step * 10, walltime=1_700_000_000 + step)


def write_events(path: Path, events: list[event_pb2.Event]) -> Path:
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
    return path


def tensor_event(step: int, tensor: tensor_pb2.TensorProto, plugin: str = "scalars") -> event_pb2.Event:
    value = summary_pb2.Summary.Value(tag="epoch_loss", tensor=tensor)
    if plugin:
        value.metadata.plugin_data.plugin_name = plugin
    return event_pb2.Event(wall_time=1_700_000_000.0 + step, step=step, summary=summary_pb2.Summary(value=[value]))


def test_torchs_scalars_come_with_steps_values_and_times(tmp_path: Path) -> None:
    history = read_event_file(event_file(tmp_path, write_scalars))
    assert [(step, round(value, 6)) for step, value, _ in history.metrics["train/loss_a"]] == [
        (step, round(1 / (step + 1), 6)) for step in range(5)
    ]
    assert [(step, time) for step, _, time in history.metrics["val/acc"]] == [
        (step * 10, (1_700_000_000 + step) * 1000) for step in range(5)
    ]
    assert history.damaged == ""
    assert history.reader.started is not None
    assert history.reader.ended == 1_700_000_004


def test_nan_infinity_and_negative_steps_stay_what_they_are(tmp_path: Path) -> None:
    def write(writer: SummaryWriter) -> None:
        for step, value in ((-1, math.nan), (0, math.inf), (2**40, 1.0)):
            writer.add_scalar("loss", value, step)

    points = read_event_file(event_file(tmp_path, write)).metrics["loss"]
    assert [step for step, *_ in points] == [-1, 0, 2**40]
    assert math.isnan(points[0][1])
    assert points[1][1] == math.inf


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        (1, {"float_val": [0.5]}),
        (1, {"tensor_content": struct.pack("<f", 0.5)}),
        (2, {"double_val": [0.5]}),
        (2, {"tensor_content": struct.pack("<d", 0.5)}),
        (19, {"half_val": [0x3800]}),
        (19, {"tensor_content": struct.pack("<e", 0.5)}),
    ],
)
def test_scalars_as_tensors_are_read_as_keras_writes_them(tmp_path: Path, dtype: int, fields: dict) -> None:
    tensor = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=tensor_shape_pb2.TensorShapeProto(), **fields)
    # Only the first event of a tag names its plugin.
    path = write_events(tmp_path / "events.out.tfevents.1.v2", [tensor_event(0, tensor), tensor_event(1, tensor, "")])
    history = read_event_file(path)
    assert history.metrics == {"epoch_loss": [(0, 0.5, 1_700_000_000_000), (1, 0.5, 1_700_000_001_000)]}


def test_tags_whose_legal_names_are_equal_stay_apart(tmp_path: Path) -> None:
    def write(writer: SummaryWriter) -> None:
        for value, tag in enumerate(("손실", "정확도", "a(b)", "a_b")):
            writer.add_scalar(tag, value, 1)

    metrics = read_event_file(event_file(tmp_path, write)).metrics
    assert [points[0][1] for points in metrics.values()] == [0, 1, 2, 3]


def test_texts_pictures_histograms_and_larger_tensors_are_no_scalars(tmp_path: Path) -> None:
    import numpy as np

    def write(writer: SummaryWriter) -> None:
        writer.add_text("note", "hello")
        writer.add_histogram("weights", np.arange(100.0), 1)
        writer.add_image("picture", np.random.default_rng(0).random((3, 600, 600)), 1)
        writer.add_scalar("loss", 0.5, 1)

    path = event_file(tmp_path / "torch", write)
    scalars = path.read_bytes()
    huge = RecordWriter(io.BytesIO())
    huge.write(event_pb2.Event(graph_def=bytes(9 << 20)).SerializeToString())  # a record over the limit
    path.write_bytes(huge._writer.getvalue() + scalars)
    history = read_event_file(path)
    assert list(history.metrics) == ["loss"]
    assert history.damaged == ""
    vector = tensor_pb2.TensorProto(dtype=1, float_val=[1.0, 2.0])
    vector.tensor_shape.dim.add(size=2)
    text = tensor_pb2.TensorProto(dtype=7, string_val=[b"x"])
    curve = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    events = [tensor_event(0, vector), tensor_event(0, text), tensor_event(0, curve, "pr_curves")]
    assert read_event_file(write_events(tmp_path / "events.out.tfevents.2", events)).metrics == {}


def test_hyperparameters_are_read_as_parameters(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_hparams({"lr": 0.1, "bs": 4, "optimizer": "SGD", "amp": True}, {"hparam/acc": 0.5}, run_name="try")
    history = read_event_file(next((tmp_path / "try").glob("events*")))
    assert history.reader.hparams == {"lr": 0.1, "bs": 4, "optimizer": "SGD", "amp": True}
    assert [point[:2] for point in history.metrics["hparam/acc"]] == [(0, 0.5)]


def test_broken_hyperparameters_are_said_and_cost_nothing_else(tmp_path: Path) -> None:
    value = summary_pb2.Summary.Value(tag="_hparams_/session_start_info")
    value.metadata.plugin_data.plugin_name = "hparams"
    value.metadata.plugin_data.content = b"\xff\xff\xff"
    broken = event_pb2.Event(wall_time=1.0, summary=summary_pb2.Summary(value=[value]))
    scalar = event_pb2.Event(
        step=3, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="a", simple_value=1)])
    )
    history = read_event_file(write_events(tmp_path / "events.out.tfevents.1", [broken, scalar]))
    assert history.metrics == {"a": [(3, 1.0, None)]}
    assert "hyperparameters" in history.damaged
    assert plugin_data_pb2.HParamsPluginData().version == 0


def test_a_record_cut_off_at_the_end_is_said_and_what_comes_before_is_kept(tmp_path: Path) -> None:
    path = event_file(tmp_path, write_scalars)
    path.write_bytes(path.read_bytes()[:-7])
    history = read_event_file(path)
    assert len(history.metrics["val/acc"]) == 4
    assert "cut off" in history.damaged


def test_a_wrong_checksum_in_the_middle_costs_only_its_record(tmp_path: Path) -> None:
    path = event_file(tmp_path, write_scalars)
    data = bytearray(path.read_bytes())
    at = data.index(b"val/acc")
    data[at] = ord("w")  # still an event, of another tag
    path.write_bytes(bytes(data))
    history = read_event_file(path)
    assert "wal/acc" not in history.metrics
    assert [step for step, *_ in history.metrics["val/acc"]] == [10, 20, 30, 40]
    assert len(history.metrics["train/loss_a"]) == 5
    assert "byte" in history.damaged


def test_a_wrong_length_in_the_middle_ends_the_reading_and_says_where(tmp_path: Path) -> None:
    path = event_file(tmp_path, write_scalars)
    data = bytearray(path.read_bytes())
    start = 0
    for _ in range(4):
        start += 16 + struct.unpack_from("<Q", data, start)[0]
    data[start] ^= 0xFF
    path.write_bytes(bytes(data))
    history = read_event_file(path)
    assert sum(len(points) for points in history.metrics.values()) == 3
    assert f"byte {start} " in history.damaged
    reader = EventReader()
    for at in range(0, len(data), 10):
        reader.feed(bytes(data[at : at + 10]))
    assert f"byte {start} " in reader.refused


@pytest.mark.parametrize("data", [b"", b"not an event file at all", b"\0" * 1000, os.urandom(4096)])
def test_what_is_no_event_file_gives_nothing_and_says_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(data)
    history = read_event_file(path)
    assert history.metrics == {}
    assert bool(history.damaged) == bool(data)


def test_what_cant_be_read_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("missing", "."):
        with pytest.raises(InputError, match="check the path"):
            read_event_file(tmp_path / name)


def test_a_file_cut_at_any_bytes_gives_the_scalars_of_the_whole(tmp_path: Path) -> None:
    data = event_file(tmp_path, write_scalars).read_bytes()
    expected = EventReader().feed(data)
    assert len(expected) == 10
    chance = random.Random(0)
    for size in (1, 3, 7, 16, 100, 1000):
        reader, found, at = EventReader(), [], 0
        while at < len(data):
            step = chance.randint(1, size)
            found += reader.feed(data[at : at + step])
            at += step
        assert found == expected
        assert (reader.remarks, reader.refused) == ([], "")


def test_reading_loads_no_tensorflow(tmp_path: Path) -> None:
    path = event_file(tmp_path, write_scalars)
    code = (
        "import sys; from pathlib import Path\n"
        "from guardianflow.adapters.wrap.metrics.event_files import EventReader\n"
        "from guardianflow.adapters.wrap.metrics.growing_file import read_points\n"
        "assert 'tensorboard' not in sys.modules and 'google.protobuf' not in sys.modules\n"
        f"assert read_points(Path({str(path)!r}), EventReader())\n"
        "bad = {'tensorflow', 'torch', 'pandas'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
