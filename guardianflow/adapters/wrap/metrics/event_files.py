"""TensorBoard's event files: scalars and hyperparameters, without TensorFlow.

An event file is a row of records: length (8 bytes), its checksum, an ``Event`` in protobuf, its checksum. The frame is
read here, because TensorBoard's own readers load TensorFlow where it is installed and a cloud client where it isn't;
the events are read by the message classes of the package ``tensorboard``.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from guardianflow._imports import require
from guardianflow.adapters.wrap.metrics.growing_file import open_regular
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.exceptions import InputError
from guardianflow.text.names import free_name

__all__ = ["EventHistory", "EventPoint", "EventReader", "is_event_file", "read_event_file"]

_CHUNK = 1 << 20
_LARGEST = 8 << 20  # bytes; a longer record is a picture or a graph, never a scalar
_MAX_DAMAGE = 5
_MAX_POINTS = 5_000_000
_EXTRA = "tensorboard"
_PURPOSE = "reading TensorBoard's event files"


@dataclass(frozen=True)
class EventHistory:
    """What one event file says.

    Attributes:
        metrics: Legal metric name → its points in the file's order: step, value, time in ms since 1970 (or ``None``).
        hparams: Hyperparameters, where TensorBoard's plugin of that name wrote some.
        started: Time of the first event, seconds since 1970; ``None`` where there is none.
        ended: Time of the last event.
        damaged: Where and how the file is damaged; ``""`` where it is sound.
    """

    metrics: Mapping[str, list[tuple[int, float, int | None]]]
    hparams: Mapping[str, Any]
    started: float | None
    ended: float | None
    damaged: str = ""


class EventPoint(NamedTuple):
    """One scalar: its legal name, step, value, and when it was written (ms since 1970)."""

    name: str
    step: int
    value: float
    time_ms: int | None


def is_event_file(name: str) -> bool:
    """Whether a file's name is one that TensorBoard's writers give: ``events.out.tfevents.…``."""
    return ".tfevents." in name and not name.endswith(".profile-empty")


def read_event_file(path: str | Path) -> EventHistory:
    """The scalars and hyperparameters in a finished event file.

    Raises:
        InputError: There is no such file, or it can't be read.
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """
    file = Path(path)
    reader = EventReader()
    metrics: dict[str, list[tuple[int, float, int | None]]] = {}
    try:
        with os.fdopen(open_regular(file.resolve()), "rb") as stream:
            while data := stream.read(_CHUNK):
                for point in reader.feed(data):
                    metrics.setdefault(point.name, []).append((point.step, point.value, point.time_ms))
    except OSError as error:
        raise InputError(f"an event file must be a file that can be read: {file} ({error}); check the path") from error
    reader.close()
    return EventHistory(metrics, reader.hparams, reader.started, reader.ended, reader.damaged)


@dataclass
class EventReader:
    """Turns the bytes of an event file into scalars, however the bytes are cut.

    A record that isn't whole yet waits. One whose checksum is wrong is left out; where the length itself is wrong,
    nothing below can be found, and reading ends.

    Attributes:
        hparams: Hyperparameters so far.
        started: Time of the first event, seconds since 1970.
        ended: Time of the last event so far.

    Raises:
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """

    hparams: dict[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    _event: Any = None
    _buffer: bytes = b""
    _offset: int = 0  # of the buffer in the file
    _skip: int = 0
    _ended_early: bool = False
    _damage: list[str] = field(default_factory=list)
    _plugins: dict[str, str] = field(default_factory=dict)  # tag → plugin: only a tag's first event names it
    _names: dict[str, str] = field(default_factory=dict)
    _points: int = 0

    def __post_init__(self) -> None:
        self._event = require("tensorboard.compat.proto.event_pb2", extra=_EXTRA, purpose=_PURPOSE).Event

    @property
    def damaged(self) -> str:
        """Where and how the file is damaged; ``""`` as long as it is sound."""
        return "; ".join(self._damage)

    @property
    def names(self) -> tuple[str, ...]:
        """Legal names of the scalars so far."""
        return tuple(self._names.values())

    def feed(self, data: bytes) -> list[EventPoint]:
        """The scalars that these bytes complete."""
        if self._ended_early:
            return []
        if self._skip:  # inside a record that is too large to hold a scalar
            passed = min(self._skip, len(data))
            self._skip, self._offset, data = self._skip - passed, self._offset + passed, data[passed:]
        self._buffer += data
        found: list[EventPoint] = []
        for start, record, checksum in self._records():
            found += self._scalars(record, checksum, start)
        return found

    def close(self) -> None:
        """Say so where the file ends inside a record."""
        if (self._buffer or self._skip) and not self._ended_early:
            self._harm(f"the record at byte {self._offset} is cut off")

    def _records(self) -> Iterator[tuple[int, bytes, int]]:
        """Whole records in the buffer: where each starts in the file, its bytes, and their checksum."""
        at = 0
        while len(self._buffer) - at >= 12:
            length, checksum = struct.unpack_from("<QI", self._buffer, at)
            if _checksum(self._buffer[at : at + 8]) != checksum:
                self._harm(f"the length at byte {self._offset + at} is wrong; what follows can't be read")
                self._ended_early, self._buffer = True, b""
                return
            end = at + 12 + length + 4
            if length > _LARGEST:
                self._skip = max(0, end - len(self._buffer))
                at = min(end, len(self._buffer))
                continue
            if end > len(self._buffer):
                break
            yield self._offset + at, self._buffer[at + 12 : end - 4], struct.unpack_from("<I", self._buffer, end - 4)[0]
            at = end
        self._buffer = self._buffer[at:]
        self._offset += at

    def _harm(self, what: str) -> None:
        if len(self._damage) < _MAX_DAMAGE:
            self._damage.append(what)

    def _scalars(self, record: bytes, checksum: int, start: int) -> list[EventPoint]:
        try:
            event = self._event.FromString(record)
        except Exception:  # noqa: BLE001 - protobuf's DecodeError lies elsewhere in each of its builds
            self._harm(f"the record at byte {start} is no event")
            return []
        values = event.summary.value
        # The checksum is dear in Python: it is computed where something is taken, not for each picture passed by.
        if len(record) <= 4096 or any(self._is_wanted(value) for value in values):
            if _checksum(record) != checksum:
                self._harm(f"the record at byte {start} has a wrong checksum")
                return []
        elif not values:
            return []
        self._note_time(event.wall_time)
        time_ms = int(event.wall_time * 1000) if math.isfinite(event.wall_time) and event.wall_time > 0 else None
        points = [
            EventPoint(self._name(value.tag), event.step, number, time_ms)
            for value in values
            if (number := self._number(value)) is not None
        ]
        self._points += len(points)
        if self._points > _MAX_POINTS:
            self._harm(f"more than {_MAX_POINTS:,} scalars; those below byte {start} are left out")
            self._ended_early = True
        return points

    def _note_time(self, wall_time: float) -> None:
        if math.isfinite(wall_time) and wall_time > 0:
            self.started = wall_time if self.started is None else self.started
            self.ended = wall_time

    def _name(self, tag: str) -> str:
        if tag not in self._names:
            self._names[tag] = free_name(kept_name(tag), set(self._names.values()))
        return self._names[tag]

    def _is_wanted(self, value: Any) -> bool:
        return bool(value.HasField("simple_value") or value.HasField("tensor") or value.tag.startswith("_hparams_/"))

    def _number(self, value: Any) -> float | None:
        """The scalar in a summary: as TensorFlow 1 and PyTorch write it, or as TensorFlow 2 and Keras do."""
        plugin = value.metadata.plugin_data.plugin_name if value.HasField("metadata") else ""
        if plugin:
            self._plugins[value.tag] = plugin
        if plugin == "hparams":
            self._take_hparams(value.metadata.plugin_data.content)
            return None
        if value.HasField("simple_value"):
            return float(value.simple_value)
        if value.HasField("tensor") and self._plugins.get(value.tag, "") in {"", "scalars"}:
            return _scalar(value.tensor)
        return None

    def _take_hparams(self, content: bytes) -> None:
        messages = require("tensorboard.plugins.hparams.plugin_data_pb2", extra=_EXTRA, purpose=_PURPOSE)
        try:
            start = messages.HParamsPluginData.FromString(content).session_start_info
        except Exception:  # noqa: BLE001 - see _scalars
            self._harm("the hyperparameters can't be read")
            return
        for name, value in start.hparams.items():
            kind = value.WhichOneof("kind")
            if kind in {"number_value", "string_value", "bool_value"}:
                self.hparams[str(name)] = getattr(value, kind)


# TensorFlow's numbers for types (types.proto) → struct's sign, the field that holds the value when it isn't packed.
_DTYPES = {
    1: ("<f", "float_val"),
    2: ("<d", "double_val"),
    3: ("<i", "int_val"),
    9: ("<q", "int64_val"),
    19: ("<e", "half_val"),
    14: ("<f", "half_val"),  # bfloat16: the upper half of a float
}


def _scalar(tensor: Any) -> float | None:
    """The number in a tensor of one number; ``None`` for any other."""
    sign, field_name = _DTYPES.get(tensor.dtype, ("", ""))
    if not sign or any(dim.size != 1 for dim in tensor.tensor_shape.dim):
        return None
    packed: bytes = tensor.tensor_content
    unpacked = getattr(tensor, field_name)
    if tensor.dtype == 14:
        packed = packed or (struct.pack("<H", unpacked[0] & 0xFFFF) if unpacked else b"\0\0")
        packed = b"\0\0" + packed
    elif tensor.dtype == 19 and unpacked:
        packed = struct.pack("<H", unpacked[0] & 0xFFFF)
    if packed:
        return float(struct.unpack(sign, packed)[0]) if len(packed) == struct.calcsize(sign) else None
    return float(unpacked[0]) if unpacked else 0.0  # protobuf leaves zeros out


def _table() -> tuple[int, ...]:
    """The table of CRC-32C (Castagnoli), as RFC 3720 has it."""
    rows = []
    for index in range(256):
        crc = index
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        rows.append(crc)
    return tuple(rows)


_CRC = _table()


def _checksum(data: bytes) -> int:
    """The masked CRC-32C of TensorFlow's record format."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
