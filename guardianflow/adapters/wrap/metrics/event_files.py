"""TensorBoard's event files: scalars and hyperparameters, without TensorFlow.

An event file is a row of records: length (8 bytes), its checksum, an ``Event`` in protobuf, its checksum. The frame is
read here, because TensorBoard's own readers keep whole pictures in memory and check every byte of them in Python.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from guardianflow._imports import require
from guardianflow.adapters.wrap.metrics.growing_file import PointReader
from guardianflow.adapters.wrap.metrics.line_names import kept_name
from guardianflow.adapters.wrap.metrics.measurement import Point
from guardianflow.text.names import free_name

__all__ = ["EventReader", "is_event_file"]

_LARGEST = 8 << 20  # bytes; a longer record is a picture or a graph, never a scalar
_CHECKED = 64 << 10  # bytes; the checksum is dear in Python, so it isn't computed for each picture passed by
_MAX_DAMAGE = 5
_PLAIN = frozenset({"number_value", "string_value", "bool_value"})


def is_event_file(name: str) -> bool:
    """Whether a file's name is one that TensorBoard's writers give: ``events.out.tfevents.…``."""
    return ".tfevents." in name and not name.endswith(".profile-empty")


def _part(module: str) -> ModuleType:
    return require(f"tensorboard.{module}", extra="tensorboard", purpose="reading TensorBoard's event files")


class EventReader(PointReader):
    """Turns the bytes of an event file into scalars, however the bytes are cut.

    A record that isn't whole yet waits. One whose checksum is wrong is left out; where the length itself is wrong,
    nothing below can be found, and reading ends.

    Raises:
        MissingDependencyError: The package ``tensorboard`` isn't installed.
    """

    def __init__(self) -> None:
        self.hparams: dict[str, Any] = {}  # where TensorBoard's plugin of that name wrote some
        self.started: float | None = None  # time of the first event, seconds since 1970
        self.ended: float | None = None  # of the last one so far
        self._damage: list[str] = []
        self._event = _part("compat.proto.event_pb2").Event
        self._checksum = _part("compat.tensorflow_stub.pywrap_tensorflow").masked_crc32c
        self._buffer = b""
        self._offset = 0  # of the buffer in the file
        self._skip = 0  # bytes left of a record that is too large to hold a scalar
        self._plugins: dict[str, str] = {}  # tag → plugin: only a tag's first event names it
        self._names: dict[str, str] = {}  # tag → legal name
        self.names = self._names.values()

    @property
    def remarks(self) -> Sequence[str]:
        """Where and how the file is damaged."""
        return self._damage

    def feed(self, data: bytes) -> list[Point]:
        """The scalars that these bytes complete."""
        passed = min(self._skip, len(data))
        self._skip, self._offset = self._skip - passed, self._offset + passed
        self._buffer += data[passed:]
        return [point for start, record in self._records() for point in self._scalars(record, start)]

    def close(self) -> list[Point]:
        """Say so where the file ends inside a record."""
        if self._buffer or self._skip:
            self._harm(f"the record at byte {self._offset} is cut off")
        return []

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Whole records in the buffer: where each starts in the file, and its bytes."""
        at = 0
        while len(self._buffer) - at >= 12 and not self.refused:
            start, header = self._offset + at, self._buffer[at : at + 8]
            length, checksum = struct.unpack_from("<QI", self._buffer, at)
            end = at + 12 + length + 4
            if self._checksum(header) != checksum:
                self.refused = f"the length at byte {start} is wrong; what follows can't be read"
            elif length > _LARGEST:
                self._skip = max(0, end - len(self._buffer))
            elif end > len(self._buffer):
                break
            else:
                record, (checksum,) = self._buffer[at + 12 : end - 4], struct.unpack_from("<I", self._buffer, end - 4)
                if length <= _CHECKED and self._checksum(record) != checksum:
                    self._harm(f"the record at byte {start} has a wrong checksum")
                else:
                    yield start, record
            at = min(end, len(self._buffer))
        self._offset += at
        self._buffer = b"" if self.refused else self._buffer[at:]

    def _harm(self, what: str) -> None:
        if len(self._damage) < _MAX_DAMAGE:
            self._damage.append(what)

    def _scalars(self, record: bytes, start: int) -> Iterator[Point]:
        try:
            event = self._event.FromString(record)
        except Exception:  # noqa: BLE001 - protobuf's DecodeError lies elsewhere in each of its builds
            self._harm(f"the record at byte {start} is no event")
            return
        time_ms = None
        if math.isfinite(event.wall_time) and event.wall_time > 0:
            self.started, self.ended = self.started or event.wall_time, event.wall_time
            time_ms = int(event.wall_time * 1000)
        for value in event.summary.value:
            number = self._number(value)
            if number is not None:
                yield Point(self._name(value.tag), number, event.step, time_ms)

    def _name(self, tag: str) -> str:
        if tag not in self._names:
            self._names[tag] = free_name(kept_name(tag), self.names)
        return self._names[tag]

    def _number(self, value: Any) -> float | None:
        """The scalar in a summary: as TensorFlow 1 and PyTorch write it, or as TensorFlow 2 and Keras do."""
        data = value.metadata.plugin_data
        plugin = data.plugin_name or self._plugins.get(value.tag, "")
        self._plugins[value.tag] = plugin
        if plugin == "hparams":
            self._take_hparams(data.content)
        elif value.HasField("simple_value"):
            return float(value.simple_value)
        elif plugin in {"", "scalars"} and all(dim.size == 1 for dim in value.tensor.tensor_shape.dim):
            try:
                return float(_part("util.tensor_util").make_ndarray(value.tensor).item())
            except (TypeError, ValueError):  # a text, or nothing at all
                return None
        return None

    def _take_hparams(self, content: bytes) -> None:
        try:
            start = _part("plugins.hparams.plugin_data_pb2").HParamsPluginData.FromString(content).session_start_info
        except Exception:  # noqa: BLE001 - see _scalars
            self._harm("the hyperparameters can't be read")
            return
        kinds = {str(name): value.WhichOneof("kind") for name, value in start.hparams.items()}
        self.hparams |= {name: getattr(start.hparams[name], kind) for name, kind in kinds.items() if kind in _PLAIN}
