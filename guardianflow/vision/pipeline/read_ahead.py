"""Decoding and letterboxing ahead of the device: bounded, in order, in buffers that are used again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from guardianflow.vision.pipeline.decoding import ImageError, as_bgr, decode_image
from guardianflow.vision.pipeline.letterbox import Letterboxer, Placement

__all__ = ["BatchBuffer", "Image", "PreparedBatch", "PreparedImage", "ReadAhead", "prepare_in_turn"]

Image = str | Path | npt.NDArray[np.uint8]
"""A file, or BGR pixels: uint8, (H, W, 3)."""

_LONGEST_WAIT_S = 5.0  # for a source that doesn't return; its thread is left behind then, it ends with the process


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What became of one image before the device.

    Attributes:
        index: Position among the images given.
        source: Its file; ``None`` for pixels.
        placement: Where it lies in its square; ``None`` if it couldn't be decoded.
        error: Why not.
        decode: Milliseconds, the source's ``next()`` included.
        preprocess: Milliseconds.
    """

    index: int
    source: Path | None
    placement: Placement | None
    error: str | None
    decode: float
    preprocess: float


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """Images ready for the device.

    Attributes:
        entries: All images of the batch, in order.
        squares: float32 (m, 3, S, S): those without an error, in the same order.
        buffer: Whom the squares belong to; to be released when the device is through.
    """

    entries: tuple[PreparedImage, ...]
    squares: npt.NDArray[np.float32]
    buffer: BatchBuffer


@dataclass(frozen=True, slots=True)
class _Pulled:
    """An image as the source gave it, and how long that took, in milliseconds."""

    index: int
    image: Image
    took: float


class BatchBuffer:
    """Memory of one batch, and of making it.

    Args:
        batch: Images.
        imgsz: Side of the squares, in pixels.
    """

    def __init__(self, batch: int, imgsz: int) -> None:
        self._squares = np.empty((batch, 3, imgsz, imgsz), np.float32)
        self._before: list[Placement | None] = [None] * batch
        self._letterboxer = Letterboxer(imgsz)

    def fill(self, pulled: Iterable[_Pulled], *, stopped: Callable[[], bool] = lambda: False) -> PreparedBatch:
        """Decode and letterbox; an image that can't be decoded takes no place. Ends early once stopped."""
        entries: list[PreparedImage] = []
        used = 0
        for one in pulled:
            if stopped():
                break
            entries.append(self._prepare(one, used))
            used += entries[-1].error is None
        return PreparedBatch(tuple(entries), self._squares[:used], self)

    def _prepare(self, one: _Pulled, slot: int) -> PreparedImage:
        image = one.image
        source = None if isinstance(image, np.ndarray) else Path(image)
        began = time.perf_counter_ns()
        try:
            pixels = as_bgr(image, name=f"image {one.index}") if isinstance(image, np.ndarray) else decode_image(image)
        except ImageError as error:
            spent = one.took + (time.perf_counter_ns() - began) / 1e6
            return PreparedImage(one.index, source, None, str(error), spent, 0.0)
        decoded = time.perf_counter_ns()
        placement = self._letterboxer.write(pixels, self._squares[slot], before=self._before[slot])
        self._before[slot] = placement
        ended = time.perf_counter_ns()
        return PreparedImage(
            one.index, source, placement, None, one.took + (decoded - began) / 1e6, (ended - decoded) / 1e6
        )


class _Source:
    """Numbers the images of an iterable and takes them in batches."""

    def __init__(self, images: Iterable[Image], batch: int) -> None:
        self._images = iter(images)
        self._batch = batch
        self._index = 0
        self.ended = False
        self.failure: BaseException | None = None

    def pull(self) -> list[_Pulled]:
        """The next images, at most a batch; fewer only at the end, which may be a failure of the iterable."""
        pulled: list[_Pulled] = []
        while len(pulled) < self._batch and not self.ended:
            began = time.perf_counter_ns()
            try:
                image = next(self._images)
            except StopIteration:
                self.ended = True
            except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread, after what came before it
                self.ended, self.failure = True, error
            else:
                pulled.append(_Pulled(self._index, image, (time.perf_counter_ns() - began) / 1e6))
                self._index += 1
        return pulled


def prepare_in_turn(images: Iterable[Image], buffer: BatchBuffer, batch: int) -> Iterator[PreparedBatch]:
    """Batches one after the other in the caller's thread and one buffer: each is used up before the next is made."""
    source = _Source(images, batch)
    while pulled := source.pull():
        yield buffer.fill(pulled)
    if source.failure is not None:
        raise source.failure


class ReadAhead:
    """Threads that prepare batches ahead of who takes them, in order, as far as there are free buffers.

    A context manager: leaving it ends the threads, whatever they were at; at most the image at hand is
    finished. What the iterable or a reader raises is raised by :meth:`take`, after the batches before it.

    Args:
        images: Drawn from in the threads, by one of them at a time.
        buffers: As many batches are ready or with the consumer at once.
        batch: Images in a batch.
        readers: Threads; each prepares a batch of its own.
    """

    def __init__(self, images: Iterable[Image], buffers: Iterable[BatchBuffer], *, batch: int, readers: int) -> None:
        self._source = _Source(images, batch)
        self._free = list(buffers)
        self._ready: dict[int, PreparedBatch | BaseException] = {}
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # who draws from the source; taken before a buffer, so that batches stay in order
        self._drawn = 0
        self._taken = 0
        self._end: int | None = None
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._read, name=f"read-ahead-{number}", daemon=True) for number in range(readers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        until = time.monotonic() + _LONGEST_WAIT_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    @property
    def all_ended(self) -> bool:
        """Whether no thread uses a buffer any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def take(self, *, wait: bool = True) -> PreparedBatch | None:
        """The next batch; ``None`` at the end.

        Args:
            wait: Where it isn't ready, or an error is what comes next; otherwise ``None`` is the answer.

        Raises:
            BaseException: What the iterable or a reader raised.
        """
        with self._changed:
            while self._taken not in self._ready:
                if not wait or (self._end is not None and self._taken >= self._end):
                    return None
                self._changed.wait()
            if not wait and isinstance(self._ready[self._taken], BaseException):
                return None
            found = self._ready.pop(self._taken)
            self._taken += 1
        if isinstance(found, BaseException):
            raise found
        return found

    def release(self, buffer: BatchBuffer) -> None:
        """Give a batch's buffer back; its squares are written over from now on."""
        with self._changed:
            self._free.append(buffer)
            self._changed.notify_all()

    def _read(self) -> None:
        while True:
            with self._turn:
                buffer = self._wait_for_buffer()
                if buffer is None or self._source.ended:
                    return
                number = self._drawn
                pulled = self._source.pull()
                self._drawn += bool(pulled)
                self._announce_end()
            if not pulled:
                return
            try:
                outcome: PreparedBatch | BaseException = buffer.fill(pulled, stopped=lambda: self._stopped)
            except BaseException as error:  # noqa: BLE001 - raised where the batch is taken
                outcome = error
            with self._changed:
                self._ready[number] = outcome
                self._changed.notify_all()

    def _announce_end(self) -> None:
        if not self._source.ended:
            return
        with self._changed:
            if self._source.failure is not None:
                self._ready[self._drawn] = self._source.failure
            self._end = self._drawn + (self._source.failure is not None)
            self._changed.notify_all()

    def _wait_for_buffer(self) -> BatchBuffer | None:
        with self._changed:
            while not self._free and not self._stopped:
                self._changed.wait()
            return None if self._stopped else self._free.pop()
