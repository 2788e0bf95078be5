"""Arrays that a runtime reads from and writes into: padded inputs, and outputs that are used again."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OutputBuffers", "pad_batch", "writable"]


def pad_batch(images: NDArray[Any], batch: int) -> NDArray[Any]:
    """A batch filled up with black images, for a model that takes one batch size only."""
    if len(images) == batch:
        return images
    import numpy as np

    filled = np.zeros((batch, *images.shape[1:]), images.dtype)
    filled[: len(images)] = images
    return filled


def writable(images: NDArray[Any]) -> NDArray[Any]:
    """The images themselves, or a copy where they are read-only: runtimes share memory with writable arrays alone."""
    return images if images.flags.writeable else images.copy()


class OutputBuffers:
    """Float32 arrays for outputs, used again as soon as nobody looks at them any more.

    A fresh array of some megabytes costs page faults at each call, and a copy costs as much again. Here
    the caller keeps what it was given for as long as it likes; once it and its views are gone, the memory
    serves the next output.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[bytearray]] = {}

    def take(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """An array to write into; its content is arbitrary."""
        import numpy as np

        size = 4 * int(np.prod(shape))
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else bytearray(size)
        # Views keep the array that they were made from alive only if its base is no array: a bytearray is none.
        array: NDArray[Any] = np.frombuffer(memory, np.float32).reshape(shape)
        owner = array.base if isinstance(array.base, np.ndarray) else array
        weakref.finalize(owner, free.append, memory).atexit = False
        return array
